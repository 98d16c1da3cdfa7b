//! What people declare of files that are written, and what they are told about it.

use aqueduct_api::{Settings as _, SinkSettings as _};
use aqueduct_file::FileSinkSettings;
use serde_json::{Value, json};

use crate::world::World;

fn problems(settings: &Value) -> Vec<String> {
    let settings: FileSinkSettings = serde_json::from_value(settings.clone()).unwrap();
    settings.problems().into_iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect()
}

#[test]
fn problems_name_the_setting_and_what_would_be_right() {
    for (settings, expected) in [
        (json!({"path": "out/{topic}.log", "format": "json-lines", "compression": "zstd"}), ""),
        (json!({"path": "x", "roll": {"bytes": "1 GiB", "records": 1}}), ""),
        (json!({"path": "out/"}), "path: names a folder"),
        (json!({"path": "{topik}"}), "path: unknown placeholder `{topik}`"),
        (json!({"path": "x", "roll": {}}), "roll: needs `bytes`, `records` or both"),
        (json!({"path": "x", "roll": {"bytes": 0}}), "roll.bytes: must be at least 1"),
        (json!({"path": "x", "roll": {"records": 0}}), "roll.records: must be at least 1"),
    ] {
        let told = problems(&settings);
        assert_eq!(told.is_empty(), expected.is_empty(), "{settings}: {told:?}");
        assert!(told.iter().all(|told| told.starts_with(expected)), "{settings}: {told:?}");
    }
}

#[tokio::test]
async fn a_probe_leaves_nothing_and_tells_what_will_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::real(json!({"path": "x.log"}), folder.path());
    assert_eq!(world.settings.probe(world.opening()).await.unwrap(), [""; 0]);
    let world = World::real(json!({"path": "a/b/x.log"}), folder.path());
    let told = world.settings.probe(world.opening()).await.unwrap();
    assert_eq!(told, [format!("folder {} will be made", folder.path().join("a/b").display())]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn two_sinks_of_the_same_files_are_told_apart_from_others() {
    let destination = |settings: Value| {
        let world = World::real(settings, std::path::Path::new("/c"));
        world.settings.destination(&world.opening()).unwrap()
    };
    let one = destination(json!({"path": "out/{topic}.log"}));
    assert_eq!(one, destination(json!({"path": "./out/{topic}.log", "format": "records"})));
    assert_eq!(one, destination(json!({"path": "/c/out/{topic}.log"})));
    assert_ne!(one, destination(json!({"path": "out/{topic}.log", "compression": "gzip"})));
    assert_ne!(one, destination(json!({"path": "out/{topic}.txt"})));
}
