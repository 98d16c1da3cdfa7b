//! Objects whose schema is inferred: what a sink guesses from earlier ones changes its speed and not a byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faulty;
mod world;

use std::sync::Arc;

use aqueduct_api::ByteSize;
use aqueduct_api::conformance::sink::{Script, SinkWorld as _, deliver};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::S3Settings;
use object_store::memory::InMemory;
use proptest::prelude::*;
use serde_json::{Value, json};

use faulty::FaultyStore;
use world::World;

fn settings(format: &str) -> S3Settings {
    let settings = json!({"url": "s3://lake", "path": "{topic}", "format": format, "row-group": "1 MiB"});
    S3Settings { part_size: ByteSize(300), ..serde_json::from_value(settings).unwrap() }
}

fn script(number: usize, values: &[String]) -> Script {
    let start = number * 10_000;
    // A sink that knows nothing guesses from the first batch.
    values.chunks(2).enumerate().fold(Script::new("t", 0), |script, (nth, values)| {
        let mut batch = BatchBuilder::new();
        values.iter().for_each(|value| batch.push(0, None, Some(value.as_bytes()), &[]));
        script.raw((start + 2 * nth) as i64, batch)
    })
}

/// Delivers chunks with one sink, or with one each that knows nothing; how many records of each were rejected, and the objects.
async fn delivered(format: &str, chunks: &[Vec<String>], is_one: bool) -> (Vec<usize>, Vec<(String, Vec<u8>)>) {
    let scratch = tempfile::tempdir().unwrap();
    let world = World::over(settings(format), scratch.path(), Arc::new(InMemory::new()));
    let (one, mut rejected) = (world.open().await.unwrap(), Vec::new());
    for (number, values) in chunks.iter().enumerate() {
        let chunk = script(number, values).chunk();
        let found = match is_one {
            true => deliver(&*one, &mut [chunk]).await,
            false => deliver(&*world.open().await.unwrap(), &mut [chunk]).await,
        };
        rejected.push(found.len());
    }
    (rejected, world.objects().await)
}

fn json_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(7)),
        Just(json!(u64::MAX)),
        Just(json!(1.5)),
        Just(json!("x")),
    ];
    scalar.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[xy]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

fn record() -> impl Strategy<Value = String> {
    let good = proptest::collection::btree_map("[ab]", json_value(), 1..3).prop_map(|map| json!(map).to_string());
    // What makes no row, what makes one only as long as its field is text, and a name that comes twice.
    let odd = [r#"{"a":1,"c""#, "7", r#"{"a":"\ud800"}"#, r#"{"b":1e999}"#, r#"{"a":1,"a":"x"}"#];
    prop_oneof![10 => good, 3 => proptest::sample::select(odd.to_vec()).prop_map(str::to_owned)]
}

/// Chunks that are often made of the records of the one before.
fn chunks() -> impl Strategy<Value = Vec<Vec<String>>> {
    let chunk = (proptest::collection::vec(record(), 1..4), 1..4_usize);
    proptest::collection::vec(chunk, 1..5)
        .prop_map(|kinds| kinds.into_iter().flat_map(|(records, times)| vec![records; times]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_guess_changes_nothing(format in prop_oneof![Just("parquet"), Just("avro"), Just("csv")], chunks in chunks()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (fresh, guessing) = runtime
            .block_on(async { (delivered(format, &chunks, false).await, delivered(format, &chunks, true).await) });
        prop_assert_eq!(fresh.0, guessing.0);
        prop_assert!(fresh.1 == guessing.1, "other objects: {chunks:?}");
    }
}

#[tokio::test]
async fn an_upload_that_was_begun_on_a_wrong_guess_is_given_up() {
    let pad = "x".repeat(1000);
    let plain: Vec<String> = (0..4000).map(|n| format!("{{\"n\":{n},\"pad\":\"{pad}\"}}")).collect();
    let mut odd = plain.clone();
    odd[3990] = "{\"n\":\"many\"}".to_owned();
    let fewer = vec![format!("{{\"n\":null,\"pad\":\"{pad}\"}}"); 4000];
    for (last, aborted) in [(&odd, 1), (&fewer, 1), (&plain, 0)] {
        let scratch = tempfile::tempdir().unwrap();
        let store = FaultyStore::default();
        let settings = S3Settings { part_size: ByteSize(64 << 10), ..settings("avro") };
        let world = World::over(settings, scratch.path(), Arc::new(store.clone()));
        let sink = world.open().await.unwrap();
        deliver(&*sink, &mut [script(0, &plain).chunk()]).await;
        store.operations();
        deliver(&*sink, &mut [script(1, last).chunk()]).await;
        let operations = store.operations();
        let count = |wanted: &str| operations.iter().filter(|operation| **operation == wanted).count();
        assert_eq!((count("abort"), count("create"), count("complete")), (aborted, 1 + aborted, 1));
    }
    let chunks = [plain.clone(), plain, odd.clone(), odd, fewer];
    assert!(delivered("parquet", &chunks, true).await == delivered("parquet", &chunks, false).await);
}
