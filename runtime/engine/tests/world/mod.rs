//! What the engine's tests run it in: a store in memory that forgets what is not synced when it crashes, a source and a
//! sink that do as they are told, and time that passes when nobody has anything to do.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod clients;
mod connectors;
mod log;
mod outside;
mod seed;
mod sevenths;
mod store;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aqueduct_api::disk::RealDisk;
use aqueduct_api::edge::{Abort, Chance, Clock, Threads};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{ByteSize, Edge, Span};
use aqueduct_engine::{ChunkPlan, Engine, Parts, Plan, RetryPlan, SinkPlan, SourcePlan, Start, State};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

pub use clients::{ask, ask_for};
pub use connectors::registry;
pub use outside::{Do, Document, Given, Id, Name, Outside};
pub use seed::{Seed, number};
pub use sevenths::{Fate, fate};
pub use store::{Kept, Memory};

/// A store, what is outside of it, and a plan: run as one process after the other.
pub struct World {
    pub store: Memory,
    pub outside: Arc<Outside>,
    pub plan: Plan,
    pub budget: ByteSize,
    /// Whether aborted connectors live on.
    pub zombies: bool,
}

impl World {
    /// One source `in` into the topic `t`, one sink `out` from it.
    pub fn new() -> World {
        let outside = Outside::new();
        let mut plan = Plan::default();
        plan.sources.insert("in".into(), source(&outside, "t"));
        plan.sinks.insert("out".into(), sink(&outside, &["t"]));
        World { store: Memory::default(), outside, plan, budget: ByteSize::mib(64), zombies: false }
    }

    /// Runs a process until `body` is done; whatever is still running is gone then, as when it is killed.
    pub fn run<F: Future<Output = ()>>(&mut self, body: impl FnOnce(Process) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let parts = self.parts();
            let engine = Engine::start(parts.clone(), self.plan.clone()).await.unwrap();
            let process = Process {
                engine,
                parts,
                store: self.store.clone(),
                outside: self.outside.clone(),
                plan: self.plan.clone(),
            };
            body(process).await;
        });
        drop(runtime);
        self.store = self.store.crash();
    }

    pub fn parts(&self) -> Parts {
        Parts {
            store: Arc::new(self.store.clone()),
            edge: edge(self.zombies),
            registry: Arc::new(registry()),
            resolve: Arc::new(|settings| Ok(settings.clone())),
            scratch: "/nowhere".into(),
            budget: self.budget,
        }
    }

    pub fn sink(&mut self) -> &mut SinkPlan {
        self.plan.sinks.get_mut("out").unwrap()
    }

    pub fn source(&mut self) -> &mut SourcePlan {
        self.plan.sources.get_mut("in").unwrap()
    }
}

impl World {
    /// Declares a topic with as many partitions as it has by now.
    pub fn declare_what_is_there(&mut self, topic: &str) {
        if let (Some(count), Some(plan)) = (self.store.partitions(topic), self.plan.topics.get_mut(topic)) {
            plan.partitions = count;
        }
    }

    /// Has the sink name what it writes by record.
    pub fn by_record(mut self) -> World {
        self.sink().connector = "documents".into();
        self
    }
}

/// A running engine and its surroundings.
#[derive(Clone)]
pub struct Process {
    pub engine: Engine,
    pub parts: Parts,
    pub store: Memory,
    pub outside: Arc<Outside>,
    pub plan: Plan,
}

impl Process {
    /// Waits until it is so; ten simulated minutes are too long.
    pub async fn until(&self, what: &str, so: impl Fn(&Process) -> bool) {
        for _ in 0..60_000 {
            if so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let status = self.engine.status().await;
        let missing = self.outside.missing();
        panic!("never: {what}\nmissing {missing:?}\n{status:#?}\n{:#?}\n{:#?}", self.store, self.outside.objects());
    }

    /// Waits until everything that went in has come out, and checks that it did so once.
    pub async fn delivered(&self) {
        self.until("all is delivered", |process| process.outside.is_all_out()).await;
        self.outside.check();
    }

    pub async fn state(&self, name: &str) -> (State, Option<String>) {
        let status = self.engine.status().await;
        let found = status.connectors.into_iter().find(|connector| connector.name == name).unwrap();
        (found.state, found.reason)
    }

    pub async fn in_state(&self, name: &str, state: State) -> Option<String> {
        for _ in 0..60_000 {
            let (now, reason) = self.state(name).await;
            if now == state {
                return reason;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is never {state:?}: {:#?}", self.engine.status().await);
    }

    pub async fn connector(&self, name: &str) -> aqueduct_engine::ConnectorStatus {
        let status = self.engine.status().await;
        status.connectors.into_iter().find(|connector| connector.name == name).unwrap()
    }
}

pub fn source(outside: &Outside, topic: &str) -> SourcePlan {
    SourcePlan {
        connector: "script".into(),
        topic: topic.into(),
        settings: json!({ "outside": outside.id }),
        retry: retry(),
        dead_letters: Default::default(),
        transforms: Vec::new(),
    }
}

pub fn sink(outside: &Outside, topics: &[&str]) -> SinkPlan {
    SinkPlan {
        connector: "objects".into(),
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        settings: json!({ "outside": outside.id, "place": "a" }),
        chunk: ChunkPlan { bytes: ByteSize::mib(8), records: None, age: Span::seconds(1) },
        retry: retry(),
        dead_letters: Default::default(),
        transforms: Vec::new(),
        start: Start::Beginning,
    }
}

fn retry() -> RetryPlan {
    RetryPlan { first: Span::millis(100), longest: Span::seconds(5), give_up: Span::FOREVER }
}

pub fn edge(zombies: bool) -> Edge {
    Edge {
        disk: Arc::new(RealDisk),
        clock: Arc::new(PausedClock),
        threads: Arc::new(Tasks { zombies }),
        chance: Arc::new(Counted(AtomicU64::new(7))),
    }
}

struct PausedClock;

impl Clock for PausedClock {
    fn now(&self) -> i64 {
        static START: Mutex<Option<tokio::time::Instant>> = Mutex::new(None);
        let start = *START.lock().get_or_insert_with(tokio::time::Instant::now);
        1_700_000_000_000 + start.elapsed().as_millis() as i64
    }
}

struct Tasks {
    zombies: bool,
}

impl Threads for Tasks {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn connector(&self, _: &str, connector: BoxFuture<'static, ()>) -> Abort {
        let task = tokio::spawn(connector);
        let zombies = self.zombies;
        Abort::new(move || {
            if !zombies {
                task.abort();
            }
        })
    }
}

struct Counted(AtomicU64);

impl Chance for Counted {
    fn bits(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

/// The run passes, and does not with the mistake.
pub fn check(mutant: Mutant, run: fn()) {
    mutate(None);
    run();
    mutate(Some(mutant));
    let noticed = catch_unwind(AssertUnwindSafe(run)).is_err();
    mutate(None);
    assert!(noticed, "{mutant:?} was not noticed");
}

/// What goes wrong under a number, or no more: with the store, or with a connector that is started again.
pub async fn disturb(process: &Process, number: u64) {
    let faults = &process.store.faults;
    match number {
        0 => faults.full.on(),
        1 => faults.stuck.on(),
        2 => faults.sync_fails.on(),
        3 => faults.no_commits.on(),
        4 => process.engine.restart("out").await.unwrap_or_default(),
        5 => process.engine.restart("in").await.unwrap_or_default(),
        _ => {
            faults.full.off();
            faults.stuck.off();
            faults.no_commits.off();
        }
    }
}

pub async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A switch that tests turn.
#[derive(Default)]
pub struct Switch(AtomicBool);

impl Switch {
    pub fn on(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn off(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub type Streams = BTreeMap<String, Vec<String>>;
