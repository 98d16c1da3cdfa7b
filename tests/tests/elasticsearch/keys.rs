//! Documents by key: the newest wins, whatever the order of arrival and however often records come.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::conformance::sink::deliver;
use aqueduct_api::{Chunk, Content, Made, Result};
use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::world::{World, both, rejected, script, values};

fn keyed() -> Value {
    json!({ "id": "key", "on-null": "delete", "request-records": 1, "concurrency": 16 })
}

#[tokio::test]
async fn the_last_record_of_a_key_wins_whatever_the_order_of_arrival() {
    for (name, search) in both().await {
        let world = World::new(&search, keyed());
        let records: Vec<(String, String)> =
            (0..60).map(|n| (format!("k{}", n % 3), json!({ "n": n }).to_string())).collect();
        let mut records: Vec<_> = records.iter().map(|(key, value)| (Some(&**key), Some(&**value))).collect();
        records.push((Some("k1"), None));
        let script = script(&records);
        let sink = world.sink().await;
        for chunk in [script.chunk(), script.again(), script.again()] {
            assert_eq!(rejected(&*sink, chunk).await, BTreeMap::new(), "{name}");
            let documents = world.documents().await;
            assert_eq!(
                documents,
                BTreeMap::from([("k0".into(), json!({ "n": 57 })), ("k2".into(), json!({ "n": 59 }))]),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_deleted_before_there_is_an_index_is_gone() {
    for (name, search) in both().await {
        for operation in ["index", "upsert"] {
            let world = World::new(&search, json!({ "operation": operation, "id": "key", "on-null": "delete" }));
            let sink = world.sink().await;
            let early = script(&[(Some("k"), None), (Some("gone"), None)]);
            assert_eq!(rejected(&*sink, early.chunk()).await, BTreeMap::new(), "{name} {operation}");
            let all = script(&[(Some("k"), None), (Some("gone"), None), (Some("k"), Some(r#"{"n":1}"#))]);
            assert_eq!(rejected(&*sink, all.again()).await, BTreeMap::new(), "{name} {operation}");
            let expected = BTreeMap::from([("k".into(), json!({ "n": 1 }))]);
            assert_eq!(world.documents().await, expected, "{name} {operation}");
        }
    }
}

#[tokio::test]
async fn an_older_record_than_the_one_that_is_there_is_a_dead_letter_once_and_nothing_again() {
    for (name, search) in both().await {
        let world = World::new(&search, keyed());
        let sink = world.sink().await;
        let mut newer = script(&[(Some("k"), Some(r#"{"by":"newer"}"#))]).chunk();
        newer.incarnation = 2;
        assert_eq!(rejected(&*sink, newer).await, BTreeMap::new());
        let older = script(&[(Some("x"), Some("{}")), (Some("k"), Some(r#"{"by":"older"}"#))]);
        let told = rejected(&*sink, older.chunk()).await;
        assert!(told.len() == 1 && told[&1].contains("version conflict"), "{name}: {told:?}");
        assert_eq!(rejected(&*sink, older.again()).await, BTreeMap::new(), "{name}");
        assert_eq!(world.documents().await["k"], json!({ "by": "newer" }), "{name}");
    }
}

#[tokio::test]
async fn a_replay_on_purpose_replaces_what_is_there() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({}));
        let sink = world.sink().await;
        deliver(&*sink, &mut [values(&[r#"{"v":1}"#, r#"{"v":2}"#]).chunk()]).await;
        let mut again = values(&[r#"{"v":3}"#, r#"{"v":4}"#]).chunk();
        again.run = 1;
        assert_eq!(rejected(&*sink, again).await, BTreeMap::new(), "{name}");
        let documents = world.documents().await;
        assert_eq!(
            documents,
            BTreeMap::from([("t+0+0".into(), json!({ "v": 3 })), ("t+0+1".into(), json!({ "v": 4 }))]),
            "{name}"
        );
    }
}

/// All records go by one offset, as where a transform made them of one.
struct MadeOfOne(Arc<dyn Content>);

#[async_trait]
impl Content for MadeOfOne {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        self.0.read(from).await
    }

    async fn save_note(&self, note: &str) -> Result<()> {
        self.0.save_note(note).await
    }

    async fn transformed(&self, batch: &Batch, _: Range<Offset>, _: &[Range<Offset>]) -> Result<Option<Made>> {
        Ok(Some(Made { batch: batch.clone(), offsets: vec![0; batch.count() as usize] }))
    }
}

fn made_of_one(count: i64, redelivered: bool) -> Chunk {
    let records: Vec<_> = (0..count).map(|n| (format!("k{}", n % 2), json!({ "n": n }).to_string())).collect();
    let records: Vec<_> = records.iter().map(|(key, value)| (Some(&**key), Some(&**value))).collect();
    let chunk = script(&records).chunk();
    Chunk { redelivered, content: Arc::new(MadeOfOne(chunk.content.clone())), ..chunk }
}

#[tokio::test]
async fn several_records_of_one_offset_are_several_documents() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({ "request-records": 2 }));
        let sink = world.sink().await;
        for chunk in [made_of_one(3, false), made_of_one(3, true)] {
            assert_eq!(rejected(&*sink, chunk).await, BTreeMap::new(), "{name}");
            let documents = world.documents().await;
            assert_eq!(documents.keys().collect::<Vec<_>>(), ["t+0+0", "t+0+0+1", "t+0+0+2"], "{name}");
        }
        let world = World::new(&search, keyed());
        let sink = world.sink().await;
        for chunk in [made_of_one(4, false), made_of_one(4, true)] {
            assert_eq!(rejected(&*sink, chunk).await, BTreeMap::new(), "{name}");
            let documents = world.documents().await;
            assert_eq!(
                documents,
                BTreeMap::from([("k0".into(), json!({ "n": 2 })), ("k1".into(), json!({ "n": 3 }))]),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn upserts_merge_fields_in_order() {
    for (name, search) in both().await {
        let world = World::new(
            &search,
            json!({ "id": "key", "operation": "upsert", "on-null": "delete", "request-records": 1 }),
        );
        let script = script(&[
            (Some("k"), Some(r#"{"a":1,"b":1}"#)),
            (Some("gone"), Some("{}")),
            (Some("k"), Some(r#"{"a":2}"#)),
            (Some("gone"), None),
            (Some("k"), Some(r#"{"c":3}"#)),
        ]);
        let sink = world.sink().await;
        for chunk in [script.chunk(), script.again()] {
            assert_eq!(rejected(&*sink, chunk).await, BTreeMap::new(), "{name}");
            assert_eq!(
                world.documents().await,
                BTreeMap::from([("k".into(), json!({ "a": 2, "b": 1, "c": 3 }))]),
                "{name}"
            );
        }
    }
}
