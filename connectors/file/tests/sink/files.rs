//! What is in which file: names, rolls, compression, and what is not written to.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{Chunk, Error, SinkSettings as _};
use aqueduct_record::BatchBuilder;
use serde_json::{Value, json};

use crate::disk::CrashDisk;
use crate::world::World;

fn records(start: i64, keys: &[&str]) -> Script {
    let mut builder = BatchBuilder::new();
    for key in keys {
        builder.push(1_700_000_000_000, Some(key.as_bytes()), Some(key.as_bytes()), &[]);
    }
    Script::new("t", 0).raw(start, builder)
}

fn in_memory(settings: Value) -> (World, Arc<CrashDisk>) {
    let disk = Arc::new(CrashDisk::default());
    (World::on(settings, Path::new("/out"), disk.clone()), disk)
}

fn texts(world: &World) -> Vec<(String, String)> {
    world.texts().into_iter().collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn no_record_names_a_file_outside_the_folder() {
    let (world, _) = in_memory(json!({"path": "in/{key}.log"}));
    let keys = ["../x", "/etc/passwd", "..", ".aqueduct/files.journal", "a/b", "", "ok"];
    let rejected = deliver(&*world.sink().await, &mut [records(0, &keys).chunk()]).await;
    assert_eq!(rejected, [(0, 5)], "an empty key names nothing");
    let expected = [
        ("in/%2E.%2Fx.log", "../x\n"),
        ("in/%2E..log", "..\n"),
        ("in/%2Eaqueduct%2Ffiles.journal.log", ".aqueduct/files.journal\n"),
        ("in/%2Fetc%2Fpasswd.log", "/etc/passwd\n"),
        ("in/a%2Fb.log", "a/b\n"),
        ("in/ok.log", "ok\n"),
    ];
    let mut expected = pairs(&expected);
    expected.sort();
    assert_eq!(texts(&world), expected);
}

#[tokio::test]
async fn files_end_between_chunks() {
    let (world, _) = in_memory(json!({"path": "{topic}.log", "roll": {"records": 3}}));
    for (start, keys) in [(0, &["a", "b"][..]), (2, &["c", "d"]), (4, &["e"]), (5, &["f", "g"]), (7, &["h"])] {
        deliver(&*world.sink().await, &mut [records(start, keys).chunk()]).await;
    }
    let expected = [("t-000001.log", "a\nb\nc\nd\n"), ("t-000002.log", "e\nf\ng\n"), ("t-000003.log", "h\n")];
    assert_eq!(texts(&world), pairs(&expected));
    let (world, _) = in_memory(json!({"path": "x", "roll": {"bytes": "4 B", "records": 100}}));
    let sink = world.sink().await;
    for (start, keys) in [(0, &["a"][..]), (1, &["b"]), (2, &["c", "d", "e"]), (5, &["f"])] {
        deliver(&*sink, &mut [records(start, keys).chunk()]).await;
    }
    assert_eq!(texts(&world), pairs(&[("x-000001", "a\nb\n"), ("x-000002", "c\nd\ne\n"), ("x-000003", "f\n")]));
}

#[tokio::test]
async fn compressed_files_are_read_by_the_tools_that_people_have() {
    for (compression, extension, tool) in [("gzip", "gz", "gzip"), ("zstd", "zst", "zstd")] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::real(json!({"path": "x.log", "compression": compression}), folder.path());
        for (start, key) in [(0, "one"), (1, "two"), (2, "three")] {
            deliver(&*world.sink().await, &mut [records(start, &[key]).chunk()]).await;
        }
        let name = format!("x.log.{extension}");
        assert_eq!(texts(&world), pairs(&[(&name, "one\ntwo\nthree\n")]));
        let read = Command::new(tool).arg("-dc").arg(folder.path().join(name)).output().unwrap();
        assert_eq!((read.status.success(), &*read.stdout), (true, &b"one\ntwo\nthree\n"[..]), "{tool}");
    }
}

#[tokio::test]
async fn partitions_that_are_written_at_once_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::real(json!({"path": "all.log"}), folder.path());
    let sink = world.sink().await;
    let scripts = [0, 1, 2, 3].map(|partition| Script::new("t", partition).batch(0, 50).batch(50, 50));
    let mut chunks = scripts.each_ref().map(|script| [script.chunk()]);
    futures::future::join_all(chunks.iter_mut().map(|chunk| deliver(&*sink, chunk))).await;
    for script in &scripts {
        script.expect(&world, 0..100).await;
    }
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn what_others_wrote_before_and_moved_away_meanwhile_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::real(json!({"path": "x.log"}), folder.path());
    std::fs::write(folder.path().join("x.log"), "theirs\n").unwrap();
    let sink = world.sink().await;
    deliver(&*sink, &mut [records(0, &["a"]).chunk()]).await;
    std::fs::rename(folder.path().join("x.log"), folder.path().join("x.log.1")).unwrap();
    deliver(&*sink, &mut [records(1, &["b"]).chunk()]).await;
    assert_eq!(texts(&world), pairs(&[("x.log", "b\n"), ("x.log.1", "theirs\na\n")]));
}

#[tokio::test]
async fn files_may_be_rotated_and_removed_at_any_time() {
    for what in ["rename", "remove", "truncate"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("x.log"), folder.path().join("x.log.1"));
        let world = World::real(json!({"path": "x.log"}), folder.path());
        let sink = world.sink().await;
        deliver(&*sink, &mut [records(0, &["a"]).chunk()]).await;
        match what {
            "rename" => std::fs::rename(&path, &moved).unwrap(),
            "remove" => std::fs::remove_file(&path).unwrap(),
            // What programs do that copy a file and empty it.
            _ => std::fs::write(&path, "").unwrap(),
        }
        deliver(&*sink, &mut [records(1, &["b"]).chunk()]).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b\n", "{what}");
    }
}

#[tokio::test]
async fn a_sink_that_is_made_anew_writes_nothing_again() {
    let (world, _) = in_memory(json!({"path": "x.log"}));
    deliver(&*world.sink().await, &mut [records(0, &["a", "b"]).chunk()]).await;
    // Its group is gone, so it gets all of the topic again.
    deliver(&*world.sink().await, &mut [records(0, &["a", "b"]).chunk()]).await;
    deliver(&*world.sink().await, &mut [records(2, &["c"]).chunk()]).await;
    assert_eq!(texts(&world), pairs(&[("x.log", "a\nb\nc\n")]));
    let mut rewound = records(0, &["a", "b"]).chunk();
    rewound.run = 1;
    deliver(&*world.sink().await, &mut [rewound]).await;
    assert_eq!(texts(&world), pairs(&[("x.log", "a\nb\nc\na\nb\n")]));
}

#[tokio::test]
async fn what_was_under_way_when_it_was_given_up_is_cut_and_what_was_done_is_not_missed_in_what_is_cut_anew() {
    let mut seen = BTreeSet::new();
    for end in 1..60 {
        let (old, disk) = in_memory(json!({"path": "x.log", "format": "json-lines"}));
        let new = World::on(json!({"path": "x.log"}), Path::new("/out"), disk.clone());
        let anew = |start, keys: &[&str], given_up| Chunk { given_up, ..records(start, keys).chunk() };
        deliver(&*old.sink().await, &mut [anew(0, &["1"], 0)]).await;
        disk.end_after(end);
        let written = old.sink().await.write(&mut [anew(1, &["2", "x", "4"], 0)]).await;
        disk.restart(true, end);
        for _ in 0..2 {
            deliver(&*new.sink().await, &mut [anew(1, &["2", "x"], 1)]).await;
            // Each comes again, and the last begins where no chunk that was given up reached to.
            deliver(&*new.sink().await, &mut [anew(3, &["4", "5"], 1)]).await;
            deliver(&*new.sink().await, &mut [anew(5, &["6"], 0)]).await;
        }
        let text = new.texts().remove("x.log").unwrap();
        let is_done = text.starts_with("1\n2\n4\n");
        assert!(is_done || written.is_err(), "{end}: {text:?}");
        assert_eq!(text, if is_done { "1\n2\n4\n2\nx\n4\n5\n6\n" } else { "1\n2\nx\n4\n5\n6\n" }, "{end}");
        seen.insert(is_done);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn links_are_not_followed_and_what_is_in_the_way_is_named() {
    for link in ["/out/k", "/out/k/x.log"] {
        let (world, disk) = in_memory(json!({"path": "{key}/x.log"}));
        deliver(&*world.sink().await, &mut [records(0, &["k"]).chunk()]).await;
        disk.link(link);
        let failed = world.sink().await.write(&mut [records(1, &["k"]).chunk()]).await.unwrap_err();
        assert!(matches!(failed, Error::Fatal { .. }) && failed.to_string().starts_with(link), "{failed}");
    }
}

#[tokio::test]
async fn a_folder_that_can_not_be_written_stops_the_sink_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("taken"), "").unwrap();
    let world = World::real(json!({"path": "taken/x.log"}), folder.path());
    let failed = world.sink().await.write(&mut [records(0, &["a"]).chunk()]).await.unwrap_err();
    assert!(failed.to_string().contains("taken"), "{failed}");
    let probe = world.settings.probe(world.opening()).await.unwrap_err();
    assert!(probe.to_string().contains("taken is not a folder"), "{probe}");
    // Whoever runs the tests as root may write everywhere.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let is_root = std::fs::write(folder.path().join("trial"), "").is_ok();
    let world = World::real(json!({"path": "new/x.log"}), folder.path());
    let written = world.sink().await.write(&mut [records(0, &["a"]).chunk()]).await;
    assert!(is_root == written.is_ok() && written.err().is_none_or(|error| !error.is_retry()));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
}
