//! Where reading begins, and which files are read.

use std::time::Duration;

use serde_json::json;

use crate::world::{QUIET, World};

#[tokio::test(start_paused = true)]
async fn files_that_are_there_at_the_first_start_begin_at_their_end() {
    let mut world = World::new(json!({"paths": ["/l/*"], "start": "end"}));
    world.disk.append("/l/a.log", "old\npart");
    world.disk.append("/l/b.log", "old");
    world.disk.append("/o/c", "old\npart");
    world.disk.gzip("/o/c", "/l/c.gz");
    world.disk.append("/l/empty.log", "");
    world.settle().await;
    assert_eq!(world.lines(), [""; 0]);
    world.stop();
    world.disk.append("/l/a.log", " of a\n1\n");
    world.disk.append("/l/b.log", " b\n2\n");
    world.disk.append("/l/empty.log", "3\n");
    world.disk.append("/l/new.log", "4\n");
    world.settle().await;
    let mut lines = world.lines();
    lines.sort();
    assert_eq!(lines, ["1", "2", "3", "4", "old b", "part of a"]);
}

#[tokio::test(start_paused = true)]
async fn files_behind_their_end_are_recognised_where_they_are_moved_or_copied() {
    for copied in [false, true] {
        let mut world = World::new(json!({"paths": ["/l/*"], "start": "end"}));
        world.disk.append("/l/a.log", "old\n");
        world.settle().await;
        world.stop();
        world.disk.append("/l/a.log", "1\n");
        if copied {
            world.disk.copy("/l/a.log", "/l/a.log.1");
            world.disk.truncate("/l/a.log");
        } else {
            world.disk.rename("/l/a.log", "/l/a.log.1");
        }
        world.disk.append("/l/a.log", "2\n");
        world.settle().await;
        assert_eq!(world.lines(), ["1", "2"], "copied: {copied}");
    }
}

/// Any of the ends that were found may be saved when the process is killed, and what was read since may be too. That the
/// first start is over is saved last.
#[tokio::test(start_paused = true)]
async fn a_first_start_may_be_killed_at_any_moment() {
    for (saved, rides) in (0..=8).flat_map(|saved| [(saved, false), (saved, true)]) {
        let mut world = World::new(json!({"paths": ["/l/*.log"], "start": "end"}));
        for name in ["busy", "idle", "moved"] {
            world.disk.append(&format!("/l/{name}.log"), format!("old {name}\n"));
        }
        let mut handed = Vec::new();
        while let Some(incoming) = world.next(Duration::from_millis(100)).await {
            handed.push(incoming);
        }
        let keys: Vec<&str> = handed.iter().map(|incoming| &incoming.stream.key[..]).collect();
        assert_eq!(keys, ["/l/busy.log", "/l/idle.log", "/l/moved.log", ""]);
        for (index, incoming) in handed.into_iter().enumerate() {
            if saved == 8 || saved & (1 << index) != 0 {
                world.save(incoming);
            }
        }
        let mut expected = vec!["came", "new busy"];
        if rides {
            world.disk.append("/l/busy.log", "read before\n");
            assert!(world.step(Duration::from_secs(1)).await);
            expected.push("read before");
        }
        world.stop();
        tokio::time::advance(Duration::from_secs(3600)).await;
        world.disk.append("/l/busy.log", "new busy\n");
        world.disk.append("/l/came.log", "came\n");
        world.disk.rename("/l/moved.log", "/l/moved-1.log");
        world.settle().await;
        // From here on it is like any other start.
        world.stop();
        world.disk.append("/l/late.log", "late\n");
        world.settle().await;
        let mut lines = world.lines();
        assert_eq!(lines.pop().as_deref(), Some("late"));
        lines.sort();
        match (saved, rides) {
            // Nothing was saved: it was never started.
            (0, false) => expected.clear(),
            // What was in the file at first was not saved.
            (2 | 4 | 6, false) => expected.push("old busy"),
            _ => {}
        }
        assert_eq!(lines, expected, "saved {saved:b}, rides {rides}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_began_at_the_beginning_does_not_skip_under_other_settings() {
    let mut world = World::new(json!({"paths": ["/l/*.log"]}));
    world.disk.append("/l/a.log", "1\n");
    world.settle().await;
    world.stop();
    world.settings["start"] = json!("end");
    world.disk.append("/l/a.log", "2\n");
    world.disk.append("/l/b.log", "3\n");
    world.settle().await;
    assert_eq!(world.lines(), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn files_that_have_not_changed_for_long_are_not_read_until_they_do() {
    for start in ["beginning", "end"] {
        let mut world = World::new(json!({"paths": ["/l/*.log"], "ignore-older": "1h", "start": start}));
        world.disk.append("/l/old.log", "old\n");
        world.disk.set_now(crate::world::BEGIN);
        world.disk.append("/l/young.log", "young\n");
        world.settle().await;
        let young: &[&str] = if start == "end" { &[] } else { &["young"] };
        assert_eq!(world.lines(), young, "{start}");
        world.disk.append("/l/old.log", "new\n");
        world.settle().await;
        let then: &[&str] = if start == "end" { &["new"] } else { &["young", "old", "new"] };
        assert_eq!(world.lines(), then, "{start}");
        // Reading began: it goes on however old the file gets.
        world.disk.append("/l/young.log", "later\n");
        tokio::time::advance(Duration::from_secs(7200)).await;
        world.stop();
        world.settle().await;
        assert_eq!(world.lines().last().map(String::as_str), Some("later"), "{start}");
    }
}

#[tokio::test(start_paused = true)]
async fn excluded_files_are_not_read() {
    let exclude = ["/l/*.gz", "/l/{b,c}.log", "/l/**/tmp/*"];
    let mut world = World::new(json!({"paths": ["/l/**/*"], "exclude": exclude}));
    for name in ["a.log", "b.log", "c.log", "d/b.log", "d/tmp/e.log", "d/tmp/f/g.log", "h.gz"] {
        world.disk.append(&format!("/l/{name}"), format!("{name}\n"));
    }
    world.settle().await;
    let mut lines = world.lines();
    lines.sort();
    assert_eq!(lines, ["a.log", "d/b.log", "d/tmp/f/g.log"]);
}

#[tokio::test(start_paused = true)]
async fn positions_of_files_that_are_gone_are_forgotten_after_a_while() {
    let mut world = World::new(json!({"paths": ["/l/*.log"], "forget-after": "1h"}));
    world.disk.append("/l/a.log", "1\n");
    world.disk.append("/l/b.log", "1\n");
    world.settle().await;
    world.disk.remove("/l/a.log");
    world.settle().await;
    assert_eq!((world.saved.len(), world.ended), (2, 0));
    while world.step(Duration::from_secs(3601)).await {}
    assert_eq!((world.saved.len(), world.ended), (1, 1));
    world.disk.append("/l/a.log", "2\n");
    world.settle().await;
    assert_eq!((world.lines(), world.saved.len()), (["1", "1", "2"].map(str::to_owned).to_vec(), 2));
}

/// A kill after the first dead letters of a file, whose records' position nobody saved.
#[tokio::test(start_paused = true)]
async fn a_file_of_which_nothing_was_saved_is_the_same_stream_again() {
    for moved in [false, true] {
        let mut world = World::new(json!({"paths": ["/l/*"]}));
        world.disk.append("/l/a.log", "1\n");
        let before = world.next(QUIET).await.expect("a line").stream.id.clone();
        world.stop();
        if moved {
            world.disk.rename("/l/a.log", "/l/a.log.1");
        }
        world.settle().await;
        assert_eq!(world.records, [(before, b"1".to_vec())], "moved: {moved}");
    }
}

/// What a start must not take for the file of which nothing was saved.
#[tokio::test(start_paused = true)]
async fn another_file_is_another_stream() {
    for what in ["a copy", "the same inode", "written anew", "of an unknown age"] {
        let mut world = World::new(json!({"paths": ["/l/*"]}));
        if what == "of an unknown age" {
            world.disk.tell_no_birth();
        }
        world.disk.append("/l/a.log", "1\n");
        let before = world.next(QUIET).await.expect("a line");
        let id = before.stream.id.clone();
        match what {
            "a copy" => {
                world.stop();
                world.disk.copy("/l/a.log", "/l/b.log");
                world.disk.remove("/l/a.log");
            }
            // What was read of the file before is saved.
            "written anew" => {
                world.save(before);
                world.stop();
                world.records.clear();
                world.disk.truncate("/l/a.log");
                world.disk.append("/l/a.log", "2\n");
            }
            _ => {
                world.stop();
                world.disk.remove("/l/a.log");
                world.disk.append("/l/a.log", "2\n");
            }
        }
        world.settle().await;
        assert_eq!(world.records.len(), 1, "{what}");
        assert_ne!(world.records[0].0, id, "{what}");
    }
}
