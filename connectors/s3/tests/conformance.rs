//! The sinks' suite over folders and over an in-memory store, in every format, compression and kind of layout.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::sync::Arc;

use aqueduct_api::ByteSize;
use aqueduct_api::conformance::sink;
use aqueduct_s3::S3Settings;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use world::World;

/// One of each thing that shapes objects; `{field:offset}` makes an object of each record.
fn shapes() -> [Value; 7] {
    [
        json!({}),
        json!({"format": "records"}),
        json!({"format": "json-lines", "compression": "zstd", "path": "{topic}"}),
        json!({"format": "records", "compression": "gzip", "layout": "hourly"}),
        json!({"format": "lines", "layout": {"fields": ["offset"]}}),
        json!({"format": "json-lines", "path": "{topic}/{field:offset}/{timestamp:%S}", "compression": "gzip"}),
        json!({"format": "records", "path": "{key}/{timestamp:%Y/%m}"}),
    ]
}

fn settings(url: &str, shape: Value) -> S3Settings {
    let mut settings = json!({ "url": url });
    settings.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

#[tokio::test]
async fn a_folder_is_written_as_every_sink_must() {
    // A real disk takes its time over an object for each record: one such shape will do.
    for shape in shapes().into_iter().filter(|shape| shape["layout"]["fields"].is_null()) {
        println!("{shape}");
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/lake", folder.path().display());
        sink::all(&World::new(settings(&url, shape), &folder.path().join("scratch"))).await;
        let mut left: Vec<_> = std::fs::read_dir(folder.path().join("lake")).unwrap().map(Result::unwrap).collect();
        left.retain(|entry| entry.file_name().to_str().unwrap().starts_with('.'));
        assert_eq!(left.len(), 1, "one hidden folder");
    }
}

#[tokio::test]
async fn a_bucket_is_written_as_every_sink_must() {
    for (shape, prefix) in shapes().into_iter().zip(["", "/a", "/a/b", "", "", "/c", ""]) {
        println!("{shape}");
        let scratch = tempfile::tempdir().unwrap();
        let settings = settings(&format!("s3://lake{prefix}"), shape);
        sink::all(&World::over(settings, scratch.path(), Arc::new(InMemory::new()))).await;
    }
}

#[tokio::test]
async fn a_bucket_is_written_in_parts_as_every_sink_must() {
    for shape in shapes() {
        println!("{shape}");
        let scratch = tempfile::tempdir().unwrap();
        // Small enough that most objects of the suite have several parts.
        let settings = S3Settings { part_size: ByteSize(300), ..settings("s3://lake/x", shape) };
        sink::all(&World::over(settings, scratch.path(), Arc::new(InMemory::new()))).await;
    }
}
