//! Over the real disk, clock and threads.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{ByteSize, Edge, Position, Source, SourceOpening, SourceSettings, Stream};
use aqueduct_file::FileSettings;
use serde_json::json;

type Saved = std::collections::BTreeMap<String, (Arc<Stream>, Position)>;

async fn open(folder: &Path, saved: &Saved) -> Box<dyn Source> {
    let settings = json!({"paths": ["*.log*"], "poll": "5ms", "discover": "5ms", "rotate-wait": "50ms"});
    let settings: FileSettings = serde_json::from_value(settings).unwrap();
    let opening = SourceOpening {
        name: "files".into(),
        folder: folder.to_owned(),
        edge: Edge::real(),
        positions: saved.values().cloned().collect(),
        batch: ByteSize::kib(64),
        largest: ByteSize::mib(1),
    };
    settings.open(opening).await.unwrap()
}

/// Reads until so many lines came.
async fn read(source: &mut Box<dyn Source>, count: usize, saved: &mut Saved) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let incoming = tokio::time::timeout(Duration::from_secs(60), source.read()).await.expect("in time");
        let incoming = incoming.unwrap().unwrap();
        let position = incoming.position.unwrap();
        saved.insert(incoming.stream.id.clone(), (incoming.stream, position));
        if incoming.records.is_empty() {
            continue;
        }
        for record in incoming.records.finish().records().unwrap().iter() {
            lines.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    lines
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn lines_are_read_through_rotation_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (log, one) = (folder.path().join("app.log"), folder.path().join("app.log.1"));
    let mut saved = Saved::new();
    append(&log, "a1\na2\n");
    let mut source = open(folder.path(), &saved).await;
    assert_eq!(read(&mut source, 2, &mut saved).await, ["a1", "a2"]);
    append(&log, "a3\n");
    fs::rename(&log, &one).unwrap();
    append(&log, "b1\n");
    append(&one, "a4");
    assert_eq!(read(&mut source, 3, &mut saved).await, ["a3", "a4", "b1"]);
    drop(source);
    append(&log, "b2\n");
    fs::rename(&one, folder.path().join("app.log.2")).unwrap();
    fs::rename(&log, &one).unwrap();
    append(&log, "c1\n");
    let mut source = open(folder.path(), &saved).await;
    assert_eq!(read(&mut source, 2, &mut saved).await, ["b2", "c1"]);
    fs::copy(&log, folder.path().join("app.log.0")).unwrap();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    append(&log, "d1\n");
    assert_eq!(read(&mut source, 1, &mut saved).await, ["d1"]);
}
