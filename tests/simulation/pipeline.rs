//! The plan that the engine runs, made of a scenario; and the real connectors over the simulated store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aqueduct_api::{
    ByteSize, Described, NamedBy, Problem, Registry, Result, Sink, SinkConnector, SinkOpening, Span, TopicSettings,
};
use aqueduct_engine::{ChunkPlan, Plan, RetryPlan, SinkPlan, SourcePlan, TopicPlan};
use aqueduct_file::FileSettings;
use aqueduct_s3::{PartStore, S3Settings};
use async_trait::async_trait;
use schemars::Schema;
use serde_json::{Value, json};

use crate::oracle::{DIRECT, LINES, SOURCE};
use crate::scenario::{Layout, Place, Scenario, SinkShape};
use crate::world::{LOGS, LONGEST_LINE};

/// Where folder sinks write.
pub(crate) const OBJECTS: &str = "/objects";
/// The daemon's data folder.
pub(crate) const DATA: &str = "/data";

/// What the engine runs.
pub(crate) fn plan(scenario: &Scenario, partitions: i32, sinks: &[SinkShape]) -> Plan {
    let shape = scenario.topic;
    let settings = TopicSettings {
        segment_bytes: ByteSize(shape.segment_bytes),
        retention_bytes: shape.retention_bytes.map(ByteSize),
        durability: shape.durability,
        max_batch: ByteSize(64 << 10),
        ..TopicSettings::default()
    };
    // What is produced directly can not be read again, so it has to be safe when it is acknowledged.
    let direct = TopicSettings { durability: Default::default(), ..settings.clone() };
    let topics = [(LINES, TopicPlan { partitions, settings }), (DIRECT, TopicPlan { partitions: 2, settings: direct })];
    let source = SourcePlan {
        connector: "file".into(),
        topic: LINES.into(),
        settings: json!({"paths": [format!("{LOGS}/*")], "start": "beginning", "max-record": LONGEST_LINE}),
        retry: retry(),
        dead_letters: Default::default(),
        transforms: Vec::new(),
    };
    Plan {
        folder: PathBuf::from("/"),
        topics: topics.into_iter().map(|(name, topic)| (name.to_owned(), topic)).collect(),
        sources: BTreeMap::from([(SOURCE.to_owned(), source)]),
        sinks: sinks.iter().map(|sink| (sink.name.clone(), sink_plan(sink))).collect(),
    }
}

fn retry() -> RetryPlan {
    RetryPlan { first: Span::millis(50), longest: Span::seconds(2), give_up: Span::FOREVER }
}

fn sink_plan(sink: &SinkShape) -> SinkPlan {
    let url = match sink.place {
        Place::Store => format!("s3://bucket/{}", sink.name),
        Place::Folder => format!("file://{OBJECTS}/{}", sink.name),
    };
    let mut settings = json!({"url": url, "format": sink.format});
    match sink.layout {
        Layout::Template => settings["path"] = json!("{topic}/{partition}"),
        Layout::Dated => settings["path"] = json!("{topic}/time={timestamp:%H-%M-%S}"),
        Layout::Confluent => {}
    }
    SinkPlan {
        connector: "s3".into(),
        topics: vec![LINES.into(), DIRECT.into()],
        settings,
        chunk: ChunkPlan {
            bytes: ByteSize(sink.chunk_bytes),
            records: sink.chunk_records,
            age: Span::millis(sink.chunk_age),
        },
        retry: retry(),
        dead_letters: Default::default(),
        transforms: Vec::new(),
        start: Default::default(),
    }
}

/// The connectors of the binary, those for S3 over the simulated store.
pub(crate) fn registry(store: Arc<dyn PartStore>, part_size: u64) -> Registry {
    let mut registry = Registry::default().source::<FileSettings>().sink::<S3Settings>();
    let real = registry.sinks.remove("s3").expect("it was just added");
    registry.sinks.insert("s3", Box::new(OverStore { real, store, part_size: ByteSize(part_size) }));
    registry
}

/// The object sink, which reaches the simulated store under `s3://` and uploads in parts that no real store would take.
struct OverStore {
    real: Box<dyn SinkConnector>,
    store: Arc<dyn PartStore>,
    part_size: ByteSize,
}

impl Described for OverStore {
    fn name(&self) -> &'static str {
        self.real.name()
    }

    fn summary(&self) -> &'static str {
        self.real.summary()
    }

    fn schema(&self) -> Schema {
        self.real.schema()
    }

    fn problems(&self, settings: &Value) -> Vec<Problem> {
        self.real.problems(settings)
    }
}

#[async_trait]
impl SinkConnector for OverStore {
    async fn open(&self, settings: Value, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        let is_store = settings["url"].as_str().is_some_and(|url| url.starts_with("s3:"));
        if !is_store {
            return self.real.open(settings, opening).await;
        }
        let mut settings: S3Settings = serde_json::from_value(settings).expect("the scenario's settings are right");
        settings.part_size = self.part_size;
        aqueduct_s3::open_over(&settings, &opening, self.store.clone())
    }

    async fn probe(&self, settings: Value, opening: SinkOpening) -> Result<Vec<String>> {
        self.real.probe(settings, opening).await
    }

    fn named_by(&self) -> NamedBy {
        self.real.named_by()
    }

    fn destination(&self, settings: Value, opening: &SinkOpening) -> Result<Option<String>> {
        self.real.destination(settings, opening)
    }
}
