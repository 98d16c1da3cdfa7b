//! The real document sink over the simulated cluster, watched: what it is asked for, and how it cuts that into requests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use aqueduct_api::{
    Chunk, Described, NamedBy, Outcome, Problem, Registry, Result, Sink, SinkConnector, SinkOpening, TopicPartition,
};
use aqueduct_elasticsearch::{Call, ElasticsearchSettings, Reply, Wire};
use aqueduct_record::Offset;
use async_trait::async_trait;
use schemars::Schema;
use serde_json::Value;

use crate::cluster::{Action, SimWire};
use crate::life::Trace;

/// A chunk, and what of it is to be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    topic: String,
    partition: i32,
    start: Offset,
    ranges: Vec<(Offset, Offset)>,
}

impl Asked {
    fn of(chunk: &Chunk) -> Asked {
        let TopicPartition { topic, partition } = &chunk.partition;
        let ranges = chunk.ranges.iter().map(|range| (range.start, range.end)).collect();
        Asked { topic: topic.to_string(), partition: *partition, start: chunk.start, ranges }
    }

    fn holds(&self, topic: &str, partition: i32, offset: Offset) -> bool {
        let within = self.ranges.iter().any(|(start, end)| (*start..*end).contains(&offset));
        self.topic == topic && self.partition == partition && within
    }
}

/// Where requests were cut in all of a run: by what was asked for and the first offset, the last.
pub(crate) type Cuts = Mutex<BTreeMap<(String, Asked, Offset), Offset>>;

/// The connectors of a life.
pub(crate) fn registry(wire: SimWire, cuts: Arc<Cuts>, trace: Arc<Trace>) -> Registry {
    let mut registry = Registry::default().sink::<ElasticsearchSettings>();
    let real = registry.sinks.remove("elasticsearch").expect("it was just added");
    registry.sinks.insert("elasticsearch", Box::new(OverCluster { real, wire, cuts, trace }));
    registry
}

struct OverCluster {
    real: Box<dyn SinkConnector>,
    wire: SimWire,
    cuts: Arc<Cuts>,
    trace: Arc<Trace>,
}

impl Described for OverCluster {
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
impl SinkConnector for OverCluster {
    async fn open(&self, settings: Value, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        let settings: ElasticsearchSettings = serde_json::from_value(settings).expect("the scenario's settings");
        let watch = Arc::new(Watch {
            name: opening.name.clone(),
            wire: self.wire.clone(),
            cuts: self.cuts.clone(),
            trace: self.trace.clone(),
            calls: Mutex::default(),
            unfinished: Mutex::default(),
        });
        let sink = aqueduct_elasticsearch::open_over(&settings, &opening, watch.clone())?;
        Ok(Box::new(Watched { sink, watch }))
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

/// Ranges of offsets, by the topic, partition and start of their chunk.
type Unfinished = BTreeMap<(String, i32, Offset), Vec<Range<Offset>>>;

/// What one opened sink is asked for and sends.
struct Watch {
    name: String,
    wire: SimWire,
    cuts: Arc<Cuts>,
    trace: Arc<Trace>,
    /// The calls that run.
    calls: Mutex<BTreeMap<u64, Vec<Asked>>>,
    /// What was left unfinished, by the chunk.
    unfinished: Mutex<Unfinished>,
}

struct Watched {
    sink: Box<dyn Sink>,
    watch: Arc<Watch>,
}

/// A call that runs; it is over when this is dropped.
struct Running<'a>(&'a Watch, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.lock().unwrap().remove(&self.1);
    }
}

#[async_trait]
impl Sink for Watched {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        let _running = self.watch.begin(chunks);
        let outcome = self.sink.write(chunks).await?;
        let mut unfinished = self.watch.unfinished.lock().unwrap();
        for (place, range) in &outcome.unfinished {
            let Asked { topic, partition, start, .. } = Asked::of(&chunks[*place]);
            unfinished.entry((topic, partition, start)).or_default().push(range.clone());
        }
        drop(unfinished);
        Ok(outcome)
    }
}

impl Watch {
    fn begin(&self, chunks: &[Chunk]) -> Running<'_> {
        let asked: Vec<Asked> = chunks.iter().map(Asked::of).collect();
        for Asked { topic, partition, start, ranges } in &asked {
            let Some(left) = self.unfinished.lock().unwrap().remove(&(topic.clone(), *partition, *start)) else {
                continue;
            };
            let is_left =
                |range: &(Offset, Offset)| left.iter().any(|left| left.start <= range.0 && range.1 <= left.end);
            if !ranges.iter().all(is_left) {
                let name = &self.name;
                self.trace.violated(format!(
                    "{name}: of {topic}-{partition}:{start} {left:?} was left, and {ranges:?} is written again"
                ));
            }
        }
        let mut calls = self.calls.lock().unwrap();
        let number = calls.last_key_value().map_or(0, |(last, _)| last + 1);
        calls.insert(number, asked);
        Running(self, number)
    }

    /// The same chunk, asked for in the same way, is cut at the same places every time.
    fn check_cuts(&self, body: &[u8]) {
        let mut pieces: BTreeMap<(String, i32), (Offset, Offset)> = BTreeMap::new();
        for action in Action::all(body) {
            let [topic, partition, offset] = action.id.split('+').collect::<Vec<_>>()[..] else { return };
            let (partition, offset): (i32, Offset) = (partition.parse().unwrap(), offset.parse().unwrap());
            let piece = pieces.entry((topic.to_owned(), partition)).or_insert((offset, offset));
            piece.1 = offset;
        }
        let calls = self.calls.lock().unwrap();
        for ((topic, partition), (first, last)) in pieces {
            let asked = calls.values().flatten().find(|asked| asked.holds(&topic, partition, first));
            let Some(asked) = asked.cloned() else {
                self.trace.violated(format!("{}: {topic}-{partition}:{first} was not asked for", self.name));
                continue;
            };
            let mut cuts = self.cuts.lock().unwrap();
            let before = *cuts.entry((self.name.clone(), asked.clone(), first)).or_insert(last);
            if before != last {
                self.trace.violated(format!(
                    "{}: a request for {asked:?} from {first} was cut at {before} and now at {last}",
                    self.name
                ));
            }
        }
    }
}

#[async_trait]
impl Wire for Watch {
    async fn exchange(&self, call: Call) -> Result<Reply, String> {
        self.check_cuts(&call.body);
        self.wire.exchange(call).await
    }
}
