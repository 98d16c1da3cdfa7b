//! The sink for documents on real servers: what it must do, and what it does when documents, the network or the server
//! misbehave.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::conformance::sink::{self, Script, SinkWorld, Written, deliver};
use aqueduct_api::{
    Chunk, Content, Edge, Error, Made, Registry, Result, Sink, SinkConnector, SinkOpening, TopicPartition,
};
use aqueduct_elasticsearch::ElasticsearchSettings;
use aqueduct_record::{Batch, BatchBuilder, Offset};
use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services::{self, Search};
use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Indices of a test's own, whose names begin alike.
struct World {
    search: Search,
    /// What the names begin with.
    prefix: String,
    settings: Value,
    scratch: TempDir,
}

impl World {
    fn new(search: &Search, more: Value) -> World {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let chance = SmallRng::from_os_rng().random::<u32>();
        let prefix = format!("test-{}-{unique}-{chance:08x}", std::process::id());
        let mut settings = json!({ "url": search.endpoint, "index": format!("{prefix}-{{topic}}") });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        World { search: search.clone(), prefix, settings, scratch: tempfile::tempdir().unwrap() }
    }

    /// The index of a topic.
    fn index(&self, topic: &str) -> String {
        format!("{}-{topic}", self.prefix)
    }

    fn opening(&self) -> SinkOpening {
        SinkOpening {
            name: "search".to_owned(),
            folder: self.scratch.path().to_owned(),
            scratch: self.scratch.path().to_owned(),
            edge: Edge::real(),
        }
    }

    /// Opens a sink as the engine does: from a registry, by untyped settings.
    async fn sink(&self) -> Box<dyn Sink> {
        connector().open(self.settings.clone(), self.opening()).await.unwrap()
    }

    async fn probe(&self) -> Result<Vec<String>> {
        connector().probe(self.settings.clone(), self.opening()).await
    }

    /// Makes the index of topic `t`.
    async fn make(&self, body: Value) {
        let (status, answer) = self.search.ask(Method::PUT, &self.index("t"), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn set(&self, settings: Value) {
        let path = format!("{}/_settings", self.index("t"));
        let (status, answer) = self.search.ask(Method::PUT, &path, Some(settings)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Ids and sources of the documents of topic `t`.
    async fn documents(&self) -> BTreeMap<String, Value> {
        let documents = self.search.documents(&self.index("t")).await;
        let count = documents.len();
        let by_id: BTreeMap<String, Value> = documents
            .into_iter()
            .map(|document| (document["_id"].as_str().unwrap().to_owned(), document["_source"].clone()))
            .collect();
        assert_eq!(by_id.len(), count, "an id is there twice");
        by_id
    }
}

fn connector() -> Box<dyn SinkConnector> {
    Registry::default().sink::<ElasticsearchSettings>().sinks.remove("elasticsearch").unwrap()
}

#[async_trait]
impl SinkWorld for World {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(self.sink().await)
    }

    async fn written(&self) -> Vec<Written> {
        let mut written = BTreeMap::new();
        for document in self.search.documents(&format!("{}-*", self.prefix)).await {
            let id = document["_id"].as_str().unwrap();
            let [topic, partition, offset] = id.split('+').collect::<Vec<_>>()[..] else { panic!("{id}") };
            let partition = TopicPartition::new(topic, partition.parse().unwrap());
            let mut source = document["_source"].clone();
            source.as_object_mut().unwrap().remove("@timestamp");
            let value = source.to_string().into_bytes();
            let place = (partition.topic.clone(), partition.partition, offset.parse::<i64>().unwrap());
            let twice = written.insert(place, Written { partition, value, headers: Vec::new() });
            assert!(twice.is_none(), "{id} is there twice");
        }
        written.into_values().collect()
    }

    fn rejects(&self) -> Option<Option<&'static [u8]>> {
        match self.settings["gzip"].as_bool() {
            Some(true) => Some(None),
            _ => Some(Some(b"{not json")),
        }
    }
}

/// A chunk of topic `t` with records of key and value, from offset 0 on.
fn script(records: &[(Option<&str>, Option<&str>)]) -> Script {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(1_700_000_000_000, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
    }
    Script::new("t", 0).raw(0, builder)
}

fn values(values: &[&str]) -> Script {
    script(&values.iter().map(|value| (None, Some(*value))).collect::<Vec<_>>())
}

/// Delivers once, without the patience of an engine, and answers with the reason of each rejected offset.
async fn rejected(sink: &dyn Sink, chunk: Chunk) -> BTreeMap<i64, String> {
    let outcome = sink.write(&mut [chunk]).await.unwrap();
    assert_eq!(outcome.unfinished, []);
    outcome.rejected.into_iter().map(|rejected| (rejected.offset, rejected.reason)).collect()
}

async fn both() -> [(&'static str, Search); 2] {
    [("opensearch", services::opensearch().await), ("elasticsearch", services::elasticsearch().await)]
}

fn ways() -> [Value; 5] {
    [
        json!({}),
        json!({ "gzip": true, "request-records": 7 }),
        json!({ "operation": "create", "request-bytes": "1 KiB" }),
        json!({ "id": "{topic}+{partition}+{offset}", "request-records": 3 }),
        json!({ "id": "{topic}+{partition}+{offset}", "operation": "upsert", "request-records": 20 }),
    ]
}

#[tokio::test]
async fn opensearch_gets_what_every_sink_must_write() {
    for way in ways() {
        sink::all(&World::new(&services::opensearch().await, way)).await;
    }
}

#[tokio::test]
async fn elasticsearch_gets_what_every_sink_must_write() {
    for way in ways() {
        sink::all(&World::new(&services::elasticsearch().await, way)).await;
    }
}

/// A world whose indices are data streams; the pipeline gives documents the time that these must have.
async fn streams() -> World {
    let search = services::opensearch().await;
    let world = World::new(&search, json!({ "operation": "create" }));
    let template = json!({ "index_patterns": [format!("{}-*", world.prefix)], "data_stream": {}, "priority": 500 });
    let path = format!("_index_template/{}", world.prefix);
    assert_eq!(search.ask(Method::PUT, &path, Some(template)).await.0, 200);
    let set = json!({ "processors": [{ "set": { "field": "@timestamp", "value": "2026-01-01T00:00:00Z" } }] });
    let path = format!("_ingest/pipeline/{}", world.prefix);
    assert_eq!(search.ask(Method::PUT, &path, Some(set)).await.0, 200);
    let settings = json!({ "pipeline": world.prefix });
    let mut world = world;
    world.settings.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    world
}

#[tokio::test]
async fn data_streams_get_what_every_sink_must_write() {
    sink::all(&streams().await).await;
}

#[tokio::test]
async fn a_data_stream_that_rolled_over_gets_no_document_twice() {
    let world = streams().await;
    let (first, sink) = (Script::new("t", 0).batch(0, 50), world.sink().await);
    let mut part = first.chunk();
    part.ranges = vec![0..20; 1];
    deliver(&*sink, &mut [part]).await;
    let (status, answer) = world.search.ask(Method::POST, &format!("{}/_rollover", world.index("t")), None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(deliver(&*sink, &mut [first.again()]).await, []);
    first.expect(&world, 0..50).await;
    assert_eq!(deliver(&*sink, &mut [first.again()]).await, []);
    first.expect(&world, 0..50).await;
}

#[tokio::test]
async fn a_data_stream_takes_created_documents_alone() {
    let mut world = streams().await;
    deliver(&*world.sink().await, &mut [values(&["{}"]).chunk()]).await;
    world.settings["operation"] = json!("index");
    let written = world.sink().await.write(&mut [values(&["{}"]).chunk()]).await;
    assert!(matches!(&written, Err(Error::Fatal { cause }) if cause.to_string().contains("create")), "{written:?}");
    world.settings["index"] = json!(world.index("t"));
    let probed = world.probe().await;
    assert!(matches!(&probed, Err(Error::Fatal { cause }) if cause.to_string().contains("data stream")), "{probed:?}");
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_document_and_no_dead_letter() {
    for (name, search) in both().await {
        for way in ways() {
            let network = Network::before(&search.endpoint).await;
            let mut world = World::new(&search, way);
            world.settings["url"] = json!(network.endpoint);
            let script = Script::new("t", 0).batch(0, 100);
            network.harm("POST", "_bulk", Fault::LoseAnswer, 2);
            assert_eq!(deliver(&*world.sink().await, &mut [script.chunk()]).await, [], "{name}");
            assert_eq!(network.suffered(), 2, "{name}");
            script.expect(&world, 0..100).await;
        }
    }
}

#[tokio::test]
async fn a_busy_server_is_tried_again_later() {
    let search = services::opensearch().await;
    for (status, reason) in [(503, "503"), (429, "429"), (500, "500"), (502, "502")] {
        let network = Network::before(&search.endpoint).await;
        let mut world = World::new(&search, json!({}));
        world.settings["url"] = json!(network.endpoint);
        network.harm("POST", "_bulk", Fault::Answer(status, "Busy"), 1);
        let (script, sink) = (Script::new("t", 0).batch(0, 10), world.sink().await);
        let written = sink.write(&mut [script.chunk()]).await;
        assert!(
            matches!(&written, Err(Error::Retry { cause, .. }) if cause.to_string().contains(reason)),
            "{written:?}"
        );
        deliver(&*sink, &mut [script.again()]).await;
        script.expect(&world, 0..10).await;
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_halves() {
    let search = services::opensearch().await;
    let network = Network::before(&search.endpoint).await;
    let mut world = World::new(&search, json!({}));
    world.settings["url"] = json!(network.endpoint);
    network.harm("POST", "_bulk", Fault::Answer(413, "TooLarge"), 3);
    let script = Script::new("t", 0).batch(0, 100);
    assert_eq!(deliver(&*world.sink().await, &mut [script.chunk()]).await, []);
    script.expect(&world, 0..100).await;
    let bulks = network.requests().iter().filter(|request| request.contains("_bulk")).count();
    // The whole, its first half, and a quarter are too large.
    assert_eq!(bulks, 7, "{:?}", network.requests());
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let search = services::opensearch().await;
    let world = World::new(&search, json!({ "url": ["http://127.0.0.1:9", search.endpoint, "http://127.0.0.1:19"] }));
    let sink = world.sink().await;
    for start in [0, 20, 40, 60] {
        let outcome = sink.write(&mut [Script::new("t", start).batch(0, 10).chunk()]).await.unwrap();
        assert!(outcome.unfinished.is_empty() && outcome.rejected.is_empty(), "{outcome:?}");
    }
    assert_eq!(world.documents().await.len(), 40);
    let world = World::new(&search, json!({ "url": "http://127.0.0.1:9" }));
    let written = world.sink().await.write(&mut [values(&["{}"]).chunk()]).await;
    assert!(
        matches!(&written, Err(Error::Retry { cause, .. }) if cause.to_string().contains("127.0.0.1:9")),
        "{written:?}"
    );
}

#[tokio::test]
async fn what_a_full_queue_turns_away_is_sent_again_alone() {
    let search = services::narrow_opensearch().await;
    let more = json!({ "request-records": 20, "concurrency": 32, "gzip": false });
    let world = World::new(&search, more);
    world.make(json!({ "settings": { "number_of_shards": 5, "number_of_replicas": 0 } })).await;
    let sink = world.sink().await;
    let scripts: Vec<Script> = (0..8).map(|partition| Script::new("t", partition).batch(0, 2000)).collect();
    let mut turned_away = 0;
    let deliveries = scripts.iter().map(|script| {
        let sink = &sink;
        async move {
            let (mut chunks, mut turned_away) = ([script.chunk()], 0);
            loop {
                match sink.write(&mut chunks).await {
                    Ok(outcome) => {
                        assert_eq!(outcome.rejected, []);
                        chunks[0].ranges = outcome.unfinished.into_iter().map(|(_, range)| range).collect();
                    }
                    Err(Error::Retry { cause, .. }) => assert!(cause.to_string().contains("reject"), "{cause}"),
                    Err(error) => panic!("{error}"),
                }
                if chunks[0].ranges.is_empty() {
                    return turned_away;
                }
                turned_away += 1;
                chunks[0].redelivered = true;
            }
        }
    });
    turned_away += futures::future::join_all(deliveries).await.into_iter().sum::<usize>();
    assert!(turned_away > 0, "the queue was never full");
    assert_eq!(world.documents().await.len(), 16_000);
}

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
async fn a_read_only_index_is_waited_for() {
    for (name, search) in both().await {
        for block in ["index.blocks.write", "index.blocks.read_only_allow_delete"] {
            let world = World::new(&search, json!({}));
            world.make(json!({})).await;
            world.set(json!({ block: true })).await;
            let (script, sink) = (values(&["{}", "{}"]), world.sink().await);
            let written = sink.write(&mut [script.chunk()]).await;
            let told = matches!(&written, Err(Error::Retry { cause, .. }) if cause.to_string().contains("blocked by"));
            assert!(told, "{name}: {written:?}");
            world.set(json!({ block: null })).await;
            assert_eq!(deliver(&*sink, &mut [script.again()]).await, []);
            assert_eq!(world.documents().await.len(), 2, "{name}");
        }
    }
}

#[tokio::test]
async fn what_a_person_must_mend_stops_the_sink() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({}));
        world.make(json!({})).await;
        assert_eq!(search.ask(Method::POST, &format!("{}/_close", world.index("t")), None).await.0, 200);
        let missing = World::new(&search, json!({ "pipeline": "no-such-pipeline" }));
        for (world, part) in [(world, "closed"), (missing, "no-such-pipeline")] {
            let written = world.sink().await.write(&mut [values(&["{}"]).chunk()]).await;
            let told = matches!(&written, Err(Error::Fatal { cause }) if cause.to_string().contains(part));
            assert!(told, "{name} {part}: {written:?}");
        }
    }
}

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

#[tokio::test]
async fn a_probe_names_product_and_version_and_changes_nothing() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({ "index": "{topic}" }));
        let told = world.probe().await.unwrap();
        let version = if name == "opensearch" { "OpenSearch 2." } else { "8." };
        assert!(told[0].contains(version), "{name}: {told:?}");
        let mut world = World::new(&search, json!({}));
        world.settings["index"] = json!(world.index("t"));
        let told = world.probe().await.unwrap();
        assert!(told[1].contains("is not there"), "{name}: {told:?}");
        assert_eq!(world.search.documents(&world.index("t")).await, [] as [Value; 0]);
        assert_eq!(search.ask(Method::HEAD, &world.index("t"), None).await.0, 404, "{name}");
    }
    let world = World::new(&services::opensearch().await, json!({ "url": "http://127.0.0.1:9" }));
    assert!(world.probe().await.is_err_and(|error| error.is_retry()));
}
