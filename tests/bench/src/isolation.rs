//! What a sink that fails, hangs, panics or spins costs the sink beside it: in one engine, over one log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aqueduct_api::conformance::log::batch;
use aqueduct_api::{
    At, ByteSize, Chunk, Durability, Edge, Error, Log as _, Outcome, Registry, Result, Settings, Sink, SinkOpening,
    SinkSettings, Span, TopicPartition, TopicSettings, Topics as _,
};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_engine::{ChunkPlan, Engine, Parts, Plan, SinkPlan, Start};
use aqueduct_s3::S3Settings;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::floor;
use crate::table::Table;

/// What a sink does instead of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Does {
    /// Answers at once that it failed.
    Fails,
    /// Never answers.
    Hangs,
    /// Panics.
    Panics,
    /// Uses a core and never answers.
    Spins,
}

/// Uses a core until it is over.
fn spin() {
    while !IS_OVER.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// The settings of a sink that does not work.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Bad {
    does: Does,
}

/// Ends those that spin.
static IS_OVER: AtomicBool = AtomicBool::new(false);

impl Settings for Bad {
    const NAME: &'static str = "bad";
    const SUMMARY: &'static str = "Does not work.";
}

#[async_trait]
impl SinkSettings for Bad {
    async fn open(self, _: SinkOpening) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self))
    }

    async fn probe(&self, _: SinkOpening) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn destination(&self, _: &SinkOpening) -> Option<String> {
        None
    }
}

#[async_trait]
impl Sink for Bad {
    #[expect(clippy::panic, reason = "that is what it is there for")]
    async fn write(&self, _: &mut [Chunk]) -> Result<Outcome> {
        match self.does {
            Does::Fails => Err(Error::retry("told to fail")),
            Does::Hangs => std::future::pending().await,
            Does::Panics => panic!("told to panic"),
            Does::Spins => {
                spin();
                Err(Error::retry("told to stop"))
            }
        }
    }
}

/// What is there beside the sink that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// A thread that uses a core and has nothing to do with the engine: what a sink that spins costs at least.
    Thread,
    Sink(Does),
}

/// How often each is measured: the best counts.
const ROUNDS: usize = 3;

/// How many batches of 1,024 records of 1 KiB wait for the sink.
const BATCHES: u64 = 1024;

/// Measures one sink alone, and beside each that does not work.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure_all(&folder.join("isolation"), table));
    floor::remove(&folder.join("isolation"));
}

async fn measure_all(place: &Path, table: &mut Table) {
    std::fs::create_dir_all(place).expect("a folder");
    let log = CommitLog::open(Edge::real(), &place.join("log"), Options::default()).await.expect("a new log");
    let settings = TopicSettings { durability: Durability::Os, ..TopicSettings::default() };
    log.create("good", 1, &settings).await.expect("a new topic");
    log.create("bad", 1, &settings).await.expect("a new topic");
    let value = "x".repeat(1000);
    let full = batch(&[value.as_str(); 1024], 0);
    for _ in 0..BATCHES {
        let appended = log.append(&TopicPartition::new("good", 0), full.clone(), At::End).await.expect("an append");
        appended.durable().await.expect("a durable append");
    }
    let one = log.append(&TopicPartition::new("bad", 0), batch(&["x"], 0), At::End).await.expect("an append");
    one.durable().await.expect("a durable append");
    let besides = [
        Beside::Nothing,
        Beside::Thread,
        Beside::Sink(Does::Fails),
        Beside::Sink(Does::Hangs),
        Beside::Sink(Does::Panics),
        Beside::Sink(Does::Spins),
    ];
    let mut best = [Duration::MAX; 6];
    for round in 0..=ROUNDS {
        for (beside, best) in besides.iter().zip(&mut best) {
            let elapsed = deliver(place, &log, *beside, round).await;
            // The first round warms memory.
            if round > 0 {
                *best = (*best).min(elapsed);
            }
        }
    }
    let rate = |elapsed: Duration| (BATCHES * 1024) as f64 / elapsed.as_secs_f64();
    for (beside, elapsed) in besides.iter().zip(best) {
        let Beside::Sink(does) = beside else { continue };
        let (peer, peers) = match does {
            Does::Spins => ("beside a bare thread that spins", best[1]),
            Does::Fails | Does::Hangs | Does::Panics => ("alone", best[0]),
        };
        table.row(
            &format!("a sink beside one that {}", format!("{does:?}").to_lowercase()),
            format!("{:.0} records/s", rate(elapsed)),
            format!("{peer}: {:.0} records/s", rate(peers)),
            Some(rate(elapsed) / rate(peers)),
            "≥ 0.95",
        );
    }
}

/// Delivers everything into a folder of its own, and says how long that took from the engine's start on.
#[expect(clippy::disallowed_methods, reason = "a thread that has nothing to do with the engine")]
async fn deliver(place: &Path, log: &CommitLog, beside: Beside, round: usize) -> Duration {
    let name = match beside {
        Beside::Nothing | Beside::Thread => format!("{beside:?}-{round}"),
        Beside::Sink(does) => format!("{does:?}-{round}"),
    };
    let out = place.join("out");
    let mut plan = Plan { folder: place.to_owned(), ..Plan::default() };
    let settings = json!({"url": format!("file://{}", out.display()), "format": "lines", "compression": "none"});
    plan.sinks.insert(name.clone(), sink("s3", "good", settings));
    if let Beside::Sink(does) = beside {
        plan.sinks.insert(format!("bad-{name}"), sink("bad", "bad", json!({"does": does})));
    }
    let parts = Parts {
        store: Arc::new(log.clone()),
        edge: Edge::real(),
        registry: Arc::new(Registry::default().sink::<S3Settings>().sink::<Bad>()),
        resolve: Arc::new(|settings| Ok(settings.clone())),
        scratch: place.join("scratch"),
        budget: ByteSize::mib(64),
    };
    IS_OVER.store(false, Ordering::Relaxed);
    if beside == Beside::Thread {
        std::thread::spawn(spin);
    }
    let start = Instant::now();
    let engine = Engine::start(parts, plan).await.expect("an engine");
    loop {
        let status = engine.status().await;
        let done = status.connectors.iter().find(|connector| connector.name == name).map_or(0, |it| it.records);
        if done >= BATCHES * 1024 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(300), "no end in five minutes: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let elapsed = start.elapsed();
    IS_OVER.store(true, Ordering::Relaxed);
    engine.shutdown(Duration::from_secs(1)).await;
    floor::remove(&out);
    elapsed
}

fn sink(connector: &str, topic: &str, settings: serde_json::Value) -> SinkPlan {
    SinkPlan {
        connector: connector.into(),
        topics: vec![topic.into()],
        settings,
        transforms: Vec::new(),
        chunk: ChunkPlan { bytes: ByteSize::mib(64), records: None, age: Span::seconds(1) },
        retry: Default::default(),
        dead_letters: Default::default(),
        start: Start::Beginning,
    }
}
