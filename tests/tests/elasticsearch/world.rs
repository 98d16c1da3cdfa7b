//! Indices of a test's own on a real server, and what is written to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::conformance::sink::{Script, SinkWorld, Written};
use aqueduct_api::{Chunk, Edge, Registry, Result, Sink, SinkConnector, SinkOpening, TopicPartition};
use aqueduct_elasticsearch::ElasticsearchSettings;
use aqueduct_record::BatchBuilder;
use aqueduct_tests::services::{self, Search};
use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Indices of a test's own, whose names begin alike.
pub(crate) struct World {
    pub(crate) search: Search,
    /// What the names begin with.
    pub(crate) prefix: String,
    pub(crate) settings: Value,
    scratch: TempDir,
}

impl World {
    pub(crate) fn new(search: &Search, more: Value) -> World {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let chance = SmallRng::from_os_rng().random::<u32>();
        let prefix = format!("test-{}-{unique}-{chance:08x}", std::process::id());
        let mut settings = json!({ "url": search.endpoint, "index": format!("{prefix}-{{topic}}") });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        World { search: search.clone(), prefix, settings, scratch: tempfile::tempdir().unwrap() }
    }

    /// The index of a topic.
    pub(crate) fn index(&self, topic: &str) -> String {
        format!("{}-{topic}", self.prefix)
    }

    pub(crate) fn opening(&self) -> SinkOpening {
        SinkOpening {
            name: "search".to_owned(),
            folder: self.scratch.path().to_owned(),
            scratch: self.scratch.path().to_owned(),
            edge: Edge::real(),
        }
    }

    /// Opens a sink as the engine does: from a registry, by untyped settings.
    pub(crate) async fn sink(&self) -> Box<dyn Sink> {
        connector().open(self.settings.clone(), self.opening()).await.unwrap()
    }

    pub(crate) async fn probe(&self) -> Result<Vec<String>> {
        connector().probe(self.settings.clone(), self.opening()).await
    }

    /// Makes the index of topic `t`.
    pub(crate) async fn make(&self, body: Value) {
        let (status, answer) = self.search.ask(Method::PUT, &self.index("t"), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) async fn set(&self, settings: Value) {
        let path = format!("{}/_settings", self.index("t"));
        let (status, answer) = self.search.ask(Method::PUT, &path, Some(settings)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Ids and sources of the documents of topic `t`.
    pub(crate) async fn documents(&self) -> BTreeMap<String, Value> {
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

pub(crate) fn connector() -> Box<dyn SinkConnector> {
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
pub(crate) fn script(records: &[(Option<&str>, Option<&str>)]) -> Script {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(1_700_000_000_000, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
    }
    Script::new("t", 0).raw(0, builder)
}

pub(crate) fn values(values: &[&str]) -> Script {
    script(&values.iter().map(|value| (None, Some(*value))).collect::<Vec<_>>())
}

/// Delivers once, without the patience of an engine, and answers with the reason of each rejected offset.
pub(crate) async fn rejected(sink: &dyn Sink, chunk: Chunk) -> BTreeMap<i64, String> {
    let outcome = sink.write(&mut [chunk]).await.unwrap();
    assert_eq!(outcome.unfinished, []);
    outcome.rejected.into_iter().map(|rejected| (rejected.offset, rejected.reason)).collect()
}

pub(crate) async fn both() -> [(&'static str, Search); 2] {
    [("opensearch", services::opensearch().await), ("elasticsearch", services::elasticsearch().await)]
}

pub(crate) fn ways() -> [Value; 5] {
    [
        json!({}),
        json!({ "gzip": true, "request-records": 7 }),
        json!({ "operation": "create", "request-bytes": "1 KiB" }),
        json!({ "id": "{topic}+{partition}+{offset}", "request-records": 3 }),
        json!({ "id": "{topic}+{partition}+{offset}", "operation": "upsert", "request-records": 20 }),
    ]
}
