//! The sinks' suite over folders and over an in-memory store, in every format, compression and kind of layout.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::sync::Arc;

use aqueduct_api::ByteSize;
use aqueduct_api::conformance::sink::{self, Script, SinkWorld as _, deliver};
use aqueduct_s3::S3Settings;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use world::World;

/// One of each thing that shapes objects; `{field:offset}` makes an object of each record.
fn shapes() -> Vec<Value> {
    let given = json!([
        {"name": "topic", "type": "string", "required": true},
        {"name": "offset", "type": "int64"},
        {"name": "partition", "type": "int32"},
    ]);
    vec![
        json!({}),
        json!({"format": "records"}),
        json!({"format": "json-lines", "compression": "zstd", "path": "{topic}"}),
        json!({"format": "records", "compression": "gzip", "layout": "hourly"}),
        json!({"format": "lines", "layout": {"fields": ["offset"]}}),
        json!({"format": "json-lines", "path": "{topic}/{field:offset}/{timestamp:%S}", "compression": "gzip"}),
        json!({"format": "records", "path": "{key}/{timestamp:%Y/%m}"}),
        json!({"format": "lines", "compression": "lz4"}),
        json!({"format": "parquet", "columns": {"headers": "_headers"}}),
        json!({"format": "parquet", "compression": "zstd", "schema": given}),
        json!({"format": "parquet", "path": "{topic}/{field:offset}", "compression": "none"}),
        json!({"format": "avro", "compression": "gzip"}),
        json!({"format": "avro", "path": "{key}", "compression": "snappy", "schema": given}),
        json!({"format": "csv", "compression": "snappy", "path": "{topic}"}),
        json!({"format": "csv", "layout": {"fields": ["offset"]}, "schema": given}),
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
    let is_small = |shape: &Value| {
        let path = shape["path"].as_str().unwrap_or_default();
        shape["layout"]["fields"].is_null() && !path.ends_with("{field:offset}")
    };
    for shape in shapes().into_iter().filter(is_small) {
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
    for (shape, prefix) in shapes().into_iter().zip(["", "/a", "/a/b", "", "", "/c", ""].into_iter().cycle()) {
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

/// What a chunk makes in a bucket of its own, however its records came in batches and often it was begun.
async fn objects(shape: &Value, batches: &[u32], begun: usize) -> Vec<(String, Vec<u8>)> {
    let scratch = tempfile::tempdir().unwrap();
    let world = World::over(settings("s3://lake", shape.clone()), scratch.path(), Arc::new(InMemory::new()));
    let (mut script, mut start) = (Script::new("same", 0), 0);
    for count in batches {
        script = script.batch(start, *count);
        start += i64::from(*count);
    }
    for turns in 0..begun {
        let sink = world.open().await.unwrap();
        let mut chunk = [script.chunk()];
        let mut write = Box::pin(sink.write(&mut chunk));
        for _ in 0..turns {
            let _ = futures::poll!(&mut write);
        }
    }
    deliver(&*world.open().await.unwrap(), &mut [script.again()]).await;
    world.objects().await
}

#[tokio::test]
async fn a_chunk_makes_the_same_bytes_wherever_and_however_often() {
    for shape in shapes() {
        let first = objects(&shape, &[2000, 1, 999], 0).await;
        assert!(!first.is_empty() && first == objects(&shape, &[3000], 5).await, "{shape}");
    }
}
