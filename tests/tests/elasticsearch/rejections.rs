//! Records that become no document, alone and with the reason.

use aqueduct_api::conformance::sink::Script;
use aqueduct_record::BatchBuilder;
use aqueduct_tests::services;
use serde_json::json;

use crate::world::{World, both, rejected, values};

#[tokio::test]
async fn a_document_that_does_not_fit_is_rejected_alone_with_the_servers_reason() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({}));
        world.make(json!({ "mappings": { "dynamic": "strict", "properties": { "n": { "type": "long" } } } })).await;
        let script = values(&[r#"{"n":1}"#, r#"{"n":"many"}"#, r#"{"m":1}"#, r#"{"n":2}"#, r#"{"n":1,"n":2}"#]);
        let rejected = rejected(&*world.sink().await, script.chunk()).await;
        for (offset, part) in [(1, "of type [long]"), (2, "strict"), (4, "uplicate")] {
            assert!(rejected[&offset].contains(part), "{name}: {rejected:?}");
        }
        assert_eq!(rejected.len(), 3, "{name}: {rejected:?}");
        let documents = world.documents().await;
        assert_eq!(documents.keys().collect::<Vec<_>>(), ["t+0+0", "t+0+3"], "{name}");
    }
}

#[tokio::test]
async fn values_that_are_no_document_are_rejected_and_large_ones_are_not() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({}));
        world.make(json!({ "mappings": { "properties": { "text": { "type": "text", "index": false } } } })).await;
        let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        let large = json!({ "text": "x".repeat(10 << 20) }).to_string();
        let mut builder = BatchBuilder::new();
        let pretty = b"\n{\n  \"a\": \"x\\ny\",\r\n \"b\": 1}\n";
        let bad: [&[u8]; 6] = [b"{\"a\":\"\xff\"}", b"[1]", b"1", b"", b"{} {}", b"{\"index\":{}}\n{\"a\":1}"];
        for value in bad.iter().copied().chain([deep.as_bytes(), large.as_bytes(), pretty]) {
            builder.push(0, None, Some(value), &[]);
        }
        let script = Script::new("t", 0).raw(0, builder);
        let rejected = rejected(&*world.sink().await, script.chunk()).await;
        assert_eq!(rejected.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6], "{name}: {rejected:?}");
        let documents = world.documents().await;
        assert_eq!(documents.keys().collect::<Vec<_>>(), ["t+0+7", "t+0+8"], "{name}");
        assert_eq!(documents["t+0+8"], json!({ "a": "x\ny", "b": 1 }), "{name}");
    }
}

#[tokio::test]
async fn a_record_whose_index_name_is_not_allowed_is_rejected() {
    let search = services::opensearch().await;
    let mut world = World::new(&search, json!({}));
    world.settings["index"] = json!(format!("{}-{{field:to}}", world.prefix));
    let script = values(&[r#"{"to":"T"}"#, r#"{"to":"a,b"}"#, r#"{"to":"*"}"#, r#"{"other":1}"#]);
    let told = rejected(&*world.sink().await, script.chunk()).await;
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), [1, 2, 3], "{told:?}");
    assert_eq!(world.documents().await.len(), 1);
}
