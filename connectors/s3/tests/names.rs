//! What objects are called, and which records are in them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::path::Path;
use std::sync::Arc;

use aqueduct_api::conformance::sink::{Script, SinkWorld as _, deliver};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::S3Settings;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use world::{World, plain};

fn world(settings: Value, scratch: &Path) -> World {
    let mut whole = json!({"url": "s3://lake"});
    whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let settings: S3Settings = serde_json::from_value(whole).unwrap();
    World::over(settings, scratch, Arc::new(InMemory::new()))
}

/// Writes records of `(timestamp, key, value)` from offset 1200 on, and compares objects and rejected offsets.
async fn check(
    settings: Value,
    records: &[(i64, Option<&str>, &str)],
    objects: &[(&str, &str)],
    rejected: &[(usize, i64)],
) {
    let scratch = tempfile::tempdir().unwrap();
    let world = world(settings, scratch.path());
    let mut batch = BatchBuilder::new();
    for (timestamp, key, value) in records {
        batch.push(*timestamp, key.map(str::as_bytes), Some(value.as_bytes()), &[]);
    }
    let script = Script::new("orders", 7).raw(1200, batch);
    let sink = world.open().await.unwrap();
    assert_eq!(deliver(&*sink, &mut [script.chunk()]).await, rejected);
    let found = world.objects().await;
    let found: Vec<_> = found.iter().map(|(name, bytes)| (name.as_str(), plain(name, bytes))).collect();
    let expected: Vec<_> = objects.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    assert_eq!(found, expected);
}

/// 2026-05-12 10:30 UTC.
const MORNING: i64 = 1_778_581_800_000;
const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn confluents_default_layout_keeps_its_exact_names() {
    let records = [(MORNING, None, "one"), (MORNING, None, "two")];
    let name = |extension: &str| format!("topics/orders/partition=7/orders+7+0000001200{extension}");
    check(json!({}), &records, &[(&name(".bin"), "one\ntwo\n")], &[]).await;
    check(json!({"compression": "gzip"}), &records, &[(&name(".bin.gz"), "one\ntwo\n")], &[]).await;
    check(json!({"format": "json-lines"}), &[(0, None, "{}")], &[(&name(".json"), "{}\n")], &[]).await;
    let name = "orders/partition=7/orders+7+0000001200.bin";
    check(json!({"topics-dir": ""}), &records, &[(name, "one\ntwo\n")], &[]).await;
}

#[tokio::test]
async fn confluents_time_layouts_are_in_utc_and_begin_at_each_paths_first_offset() {
    let records = [
        (MORNING, None, "a"),
        (MORNING + HOUR, None, "b"),
        (MORNING + 1, None, "c"),
        (-1, None, "no time"),
        (MORNING + 24 * HOUR, None, "d"),
    ];
    let objects = [
        ("topics/orders/year=2026/month=05/day=12/hour=10/orders+7+0000001200.bin", "a\nc\n"),
        ("topics/orders/year=2026/month=05/day=12/hour=11/orders+7+0000001201.bin", "b\n"),
        ("topics/orders/year=2026/month=05/day=13/hour=10/orders+7+0000001204.bin", "d\n"),
    ];
    check(json!({"layout": "hourly"}), &records, &objects, &[(0, 1203)]).await;
    let objects = [
        ("topics/orders/year=2026/month=05/day=12/orders+7+0000001200.bin", "a\nb\nc\n"),
        ("topics/orders/year=2026/month=05/day=13/orders+7+0000001204.bin", "d\n"),
    ];
    check(json!({"layout": "daily"}), &records, &objects, &[(0, 1203)]).await;
}

#[tokio::test]
async fn confluents_field_layout_names_fields_and_values() {
    let values = [r#"{"c":"x/y"}"#, r#"{"c":null}"#, r#"{"d":1}"#, "text", r#"{"c":"x/y","n":2}"#];
    let records = values.map(|value| (MORNING, None, value));
    let objects = [
        ("topics/orders/c=null/orders+7+0000001201.bin", "{\"c\":null}\n"),
        ("topics/orders/c=x%2Fy/orders+7+0000001200.bin", "{\"c\":\"x/y\"}\n{\"c\":\"x/y\",\"n\":2}\n"),
    ];
    check(json!({"layout": {"fields": ["c"]}}), &records, &objects, &[(0, 1202), (0, 1203)]).await;
}

#[tokio::test]
async fn names_of_templates_carry_topic_partition_start_and_end() {
    let records = [(MORNING, Some("eu"), "a"), (MORNING, Some("../us"), "b"), (MORNING, None, "c")];
    let name = "orders+7+00000000000000001200+00000000000000001203.txt";
    let objects =
        [(&*format!("orders/%2E.%2Fus/2026-05-12/{name}"), "b\n"), (&*format!("orders/eu/2026-05-12/{name}"), "a\n")];
    check(json!({"path": "{topic}/{key}/{timestamp:%Y-%m-%d}"}), &records, &objects, &[(0, 1202)]).await;
}

#[tokio::test]
async fn a_rewound_sink_writes_anew_beside_what_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let world = world(json!({"path": "{topic}"}), scratch.path());
    let script = Script::new("orders", 0).batch(0, 3);
    let sink = world.open().await.unwrap();
    let mut again = script.chunk();
    again.run = 2;
    deliver(&*sink, &mut [script.chunk(), again]).await;
    let names: Vec<_> = world.objects().await.into_iter().map(|(name, _)| name).collect();
    let name = "orders/orders+0+00000000000000000000+00000000000000000003.txt";
    assert_eq!(names, [name.to_owned(), format!("run=2/{name}")]);
}

#[tokio::test]
async fn more_paths_than_are_kept_at_once_each_get_their_object() {
    let scratch = tempfile::tempdir().unwrap();
    let world = world(json!({"path": "{topic}/{field:offset}", "format": "json-lines"}), scratch.path());
    let script = Script::new("orders", 0).batch(0, 5000).batch(5000, 5000);
    deliver(&*world.open().await.unwrap(), &mut [script.chunk()]).await;
    assert_eq!(world.objects().await.len(), 10_000);
    script.expect(&world, 0..10_000).await;
}

#[tokio::test]
async fn interleaved_paths_come_out_in_order_though_they_do_not_fit_into_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let world = world(json!({"path": "{key}", "compression": "zstd"}), scratch.path());
    let padding = "x".repeat(20_000);
    let mut script = Script::new("orders", 0);
    for batch in 0..20 {
        let mut builder = BatchBuilder::new();
        for n in 0..100 {
            let offset = batch * 100 + n;
            let value = json!({"topic": "orders", "partition": 0, "offset": offset, "padding": padding}).to_string();
            builder.push(0, Some(format!("k{}", offset * 7 % 13).as_bytes()), Some(value.as_bytes()), &[]);
        }
        script = script.raw(batch * 100, builder);
    }
    deliver(&*world.open().await.unwrap(), &mut [script.chunk()]).await;
    assert_eq!(world.objects().await.len(), 13);
    let written = world.written().await;
    assert_eq!(written.len(), 2000);
    for (offset, written) in written.iter().enumerate() {
        let value: Value = serde_json::from_slice(&written.value).unwrap();
        assert_eq!(value["offset"], offset);
    }
}
