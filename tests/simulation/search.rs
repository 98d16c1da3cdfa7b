//! Documents under a seed: the real engine, log and document sink over the simulated cluster, while topics grow, machines
//! die and owners wake up late. One sink writes each record as a document of its own, the other keeps the newest of a key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{At, ByteSize, Edge, Groups as _, Log as _, Span, Store, TopicPartition, TopicSettings};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_engine::{ChunkPlan, Engine, Parts, Plan, RetryPlan, SinkPlan, TopicPlan};
use aqueduct_record::BatchBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, ClusterFaults};
use crate::dice::{Dice, SimChance};
use crate::disk::SimDisk;
use crate::documents::{Judge, Kind};
use crate::life::{Life, Time, Trace};
use crate::observer::{Memory, Observer};
use crate::pipeline::DATA;
use crate::run::{Outcome, listen_for_panics, panics};
use crate::scenario::{End, Scenario};
use crate::threads::{SimThreads, Unrest};
use crate::watched::{self, Cuts};

/// The topic.
pub(crate) const TOPIC: &str = "keyed";
/// The sink that writes a document of each record.
pub(crate) const EACH: &str = "each";
/// The sink that keeps the newest of each key.
pub(crate) const LATEST: &str = "latest";
/// How many keys there are.
const KEYS: u64 = 9;
/// The most partitions that the topic grows to.
const MOST_PARTITIONS: i32 = 5;
/// How long the last life may take to drain, in simulated time.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// One life of the machine.
#[derive(Clone, Copy)]
struct Days {
    /// Milliseconds, unless something ends it earlier.
    lasts: u64,
    end: End,
    faults: ClusterFaults,
    unrest: Unrest,
}

impl Days {
    const LAST: Days = Days { lasts: 0, end: End::Clean, faults: NO_FAULTS, unrest: Unrest::NONE };

    fn new(dice: &mut Dice) -> Days {
        let end = match dice.below(5) {
            0 => End::Clean,
            1 => End::Power,
            2 => End::Kill,
            _ => End::Operation(dice.between(50, 2500)),
        };
        let faults = ClusterFaults {
            refused: *dice.pick(&[0, 50, 200]),
            partial: *dice.pick(&[0, 100, 300]),
            unanswered: *dice.pick(&[0, 50]),
            late: *dice.pick(&[0, 30]),
            garbled: *dice.pick(&[0, 30]),
            slow: *dice.pick(&[0, 100]),
            silent: false,
        };
        let unrest = Unrest::pick(dice);
        Days { lasts: dice.between(1_000, 15_000), end, faults, unrest }
    }
}

const NO_FAULTS: ClusterFaults =
    ClusterFaults { refused: 0, partial: 0, unanswered: 0, late: 0, garbled: 0, slow: 0, silent: false };

struct Run {
    seed: u64,
    time: Arc<Time>,
    trace: Arc<Trace>,
    disk: Arc<SimDisk>,
    cluster: Arc<Cluster>,
    memory: Arc<Mutex<Memory>>,
    cuts: Arc<Cuts>,
    dice: Dice,
    /// What the topic has, or is to have.
    partitions: i32,
    /// The partitions that keys are spread over: all those of the last time that the engine itself made them more, and
    /// said so. Whoever spreads keys earlier, or over partitions that a crash made, has no promise about their order.
    spread: i32,
    /// What was produced, by its number: whether it was acknowledged.
    acknowledged: Vec<bool>,
    chunk: ChunkPlan,
    request_records: u64,
    lives: u64,
}

/// Runs a seed, with a mistake switched on or none.
pub(crate) fn run_search(seed: u64, mutant: Option<Mutant>, aloud: bool) -> Outcome {
    run_lives(seed, mutant, aloud, |dice| (0..dice.between(1, 4)).map(|_| Days::new(dice)).collect())
}

fn run_lives(seed: u64, mutant: Option<Mutant>, aloud: bool, lives: impl FnOnce(&mut Dice) -> Vec<Days>) -> Outcome {
    listen_for_panics();
    fault::mutate(mutant);
    let mut run = Run::new(seed, aloud);
    let lives = lives(&mut run.dice);
    for days in lives.iter().chain([&Days::LAST]) {
        if run.trace.violations().is_empty() {
            run.live(days, days.lasts == 0);
        }
    }
    if run.trace.violations().is_empty() {
        run.judge();
    }
    fault::mutate(None);
    for panic in panics() {
        run.trace.violated(format!("a panic: {panic}"));
    }
    let (violations, digest, last) = (run.trace.violations(), run.trace.digest(), run.trace.last());
    Outcome { seed, violations, digest, last, scenario: Scenario::new(seed, None) }
}

impl Run {
    fn new(seed: u64, aloud: bool) -> Self {
        let (time, trace) = (Time::new(), Trace::new(aloud));
        let mut dice = Dice::new(seed, "search");
        let partitions = dice.between(1, 2) as i32;
        Run {
            seed,
            disk: Arc::new(SimDisk::new(Dice::new(seed, "disk"), time.clone(), trace.clone())),
            cluster: Cluster::new(Dice::new(seed, "cluster"), time.clone(), trace.clone()),
            time,
            trace,
            memory: Arc::default(),
            cuts: Arc::default(),
            partitions,
            spread: 0,
            acknowledged: Vec::new(),
            chunk: ChunkPlan {
                bytes: ByteSize(dice.between(300, 6000)),
                records: *dice.pick(&[None, Some(7), Some(40)]),
                age: Span::millis(*dice.pick(&[100, 1000])),
            },
            request_records: *dice.pick(&[1, 3, 8, 50]),
            dice,
            lives: 0,
        }
    }

    fn plan(&self) -> Plan {
        let settings = TopicSettings { segment_bytes: ByteSize(16 << 10), ..TopicSettings::default() };
        let topic = TopicPlan { partitions: self.partitions, settings };
        let sink = |settings: Value| SinkPlan {
            connector: "elasticsearch".into(),
            topics: vec![TOPIC.into()],
            settings,
            chunk: self.chunk.clone(),
            retry: RetryPlan { first: Span::millis(50), longest: Span::seconds(2), give_up: Span::FOREVER },
            dead_letters: Default::default(),
            transforms: Vec::new(),
            start: Default::default(),
        };
        let url = ["http://one:9200", "http://two:9200"];
        let (records, timeout) = (self.request_records, "3s");
        let each = json!({ "url": url, "index": EACH, "request-records": records, "timeout": timeout });
        let latest = json!({
            "url": url, "index": LATEST, "request-records": records, "timeout": timeout, "id": "key", "on-null": "delete",
        });
        Plan {
            folder: PathBuf::from("/"),
            topics: BTreeMap::from([(TOPIC.to_owned(), topic)]),
            sources: BTreeMap::new(),
            sinks: BTreeMap::from([(EACH.to_owned(), sink(each)), (LATEST.to_owned(), sink(latest))]),
        }
    }

    /// One life of the machine, from power on to its end.
    fn live(&mut self, days: &Days, is_last: bool) {
        self.lives += 1;
        self.event(format!("life {} begins", self.lives));
        let life = Life::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.time.begin_life();
            tokio::select! {
                biased;
                () = life.over() => {}
                () = self.days(days, &life, is_last) => {}
            }
            self.time.end_life(10);
        });
        let died = life.is_over();
        life.end();
        match days.end {
            _ if died => {}
            End::Power => self.disk.crash(),
            _ => self.disk.end_of_process(),
        }
        drop(runtime);
        self.disk.crash_after(None);
        self.event(format!("life {} is over", self.lives));
    }

    async fn days(&mut self, days: &Days, life: &Arc<Life>, is_last: bool) {
        self.cluster.set_faults(days.faults);
        if let End::Operation(operation) = days.end {
            self.disk.crash_after(Some(operation));
        }
        let (engine, log) = match self.start(days, life).await {
            Ok(started) => started,
            Err(cause) if is_last => return self.trace.violated(format!("the daemon does not start: {cause}")),
            Err(cause) => return self.event(format!("the daemon does not start: {cause}")),
        };
        match is_last {
            true => self.drain(&engine, &log).await,
            false => self.bustle(&engine, &log, days).await,
        }
        if days.end == End::Clean {
            engine.shutdown(Duration::from_secs(30)).await;
            drop(engine);
            if let Err(cause) = log.close().await {
                self.event(format!("the log does not close: {cause}"));
            }
        }
    }

    async fn start(&mut self, days: &Days, life: &Arc<Life>) -> Result<(Engine, CommitLog), aqueduct_api::Error> {
        let seed = self.seed ^ (self.lives << 32);
        let chance = Mutex::new((Dice::new(seed, "threads"), days.unrest));
        let (time, trace) = (self.time.clone(), self.trace.clone());
        let edge = Edge {
            disk: self.disk.mount(life.clone()),
            clock: self.time.clone(),
            threads: Arc::new(SimThreads { life: life.clone(), time: time.clone(), trace: trace.clone(), chance }),
            chance: Arc::new(SimChance::new(Dice::new(seed, "chance"))),
        };
        let options =
            Options { owner: format!("life {}", self.lives), spare_new: Duration::from_secs(10), ..Options::default() };
        let log = CommitLog::open(edge.clone(), Path::new(DATA), options).await?;
        let store: Arc<dyn Store> = Arc::new(log.clone());
        let wire = self.cluster.connect(life.clone());
        let parts = Parts {
            store: store.clone(),
            edge,
            registry: Arc::new(watched::registry(wire, self.cuts.clone(), trace.clone())),
            resolve: Arc::new(|value| Ok(value.clone())),
            scratch: PathBuf::from("/scratch"),
            budget: ByteSize::mib(64),
        };
        let observer = Observer { memory: self.memory.clone(), time, trace };
        let followed = observer.recovered(&*store).await?;
        let engine = Engine::start(parts, self.plan()).await?;
        if self.spread == 0 {
            self.spread = self.partitions;
        }
        tokio::spawn(observer.watch(store, followed));
        Ok((engine, log))
    }

    /// Records are produced, and people do things, until the time is up.
    async fn bustle(&mut self, engine: &Engine, log: &CommitLog, days: &Days) {
        let end = Instant::now() + Duration::from_millis(days.lasts);
        let mut storm: Option<Instant> = None;
        while Instant::now() < end {
            let pause = self.dice.between(1, 150);
            sleep(Duration::from_millis(pause)).await;
            if storm.is_some_and(|over| over <= Instant::now()) {
                storm = None;
                self.cluster.set_faults(days.faults);
            }
            match self.dice.below(100) {
                0..70 => self.produce(log).await,
                70..75 => self.grow(engine).await,
                75..83 => self.restart(engine).await,
                83..88 => {
                    let faults = match self.dice.below(3) {
                        0 => ClusterFaults { silent: true, ..days.faults },
                        1 => ClusterFaults { refused: 1000, ..days.faults },
                        _ => ClusterFaults { partial: 1000, ..days.faults },
                    };
                    self.cluster.set_faults(faults);
                    let lasts = self.dice.between(100, 8_000);
                    storm = Some(Instant::now() + Duration::from_millis(lasts));
                }
                _ => {}
            }
        }
    }

    async fn restart(&mut self, engine: &Engine) {
        let name = *self.dice.pick(&[EACH, LATEST]);
        // Whoever asks for something does not wait for ever.
        let done = timeout(Duration::from_secs(10), engine.restart(name)).await;
        self.event(format!("restart {name}: {}", matches!(done, Ok(Ok(())))));
    }

    /// The topic gets one more partition; from when the engine knows it, keys may come to others than before.
    async fn grow(&mut self, engine: &Engine) {
        if self.partitions == MOST_PARTITIONS {
            return;
        }
        self.partitions += 1;
        let done = timeout(Duration::from_secs(20), engine.reload(self.plan())).await;
        let grown = matches!(done, Ok(Ok(_)));
        self.event(format!("grow to {}: {grown}", self.partitions));
        if grown {
            self.spread = self.partitions;
        }
    }

    /// Appends some records, one after the other, so that of one key the higher number is the newer.
    async fn produce(&mut self, log: &CommitLog) {
        for _ in 0..self.dice.between(1, 12) {
            let number = self.acknowledged.len();
            self.acknowledged.push(false);
            let key = self.dice.below(KEYS);
            let kind = match self.dice.below(20) {
                0 => Kind::NotJson,
                1 => Kind::Bad,
                2..5 => Kind::Null,
                _ => Kind::Good,
            };
            let value = kind.value(number);
            let (key_text, said) = (format!("k{key}"), format!("{number} {key} {}", kind.name()));
            let mut batch = BatchBuilder::new();
            let headers = [("said", Some(said.as_bytes()))];
            batch.push(number as i64, Some(key_text.as_bytes()), value.as_deref().map(str::as_bytes), &headers);
            let partition = (key * 7 + 3) % self.spread as u64;
            let to = TopicPartition::new(TOPIC, partition as i32);
            if let Ok(appended) = log.append(&to, batch.finish(), At::End).await
                && appended.durable.await.is_ok()
            {
                self.acknowledged[number] = true;
            }
        }
    }

    /// Waits until everything is at its destination.
    async fn drain(&self, engine: &Engine, log: &CommitLog) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            sleep(Duration::from_millis(500)).await;
            if !self.trace.violations().is_empty() {
                return;
            }
            if self.is_drained(log).await.unwrap_or(false) {
                // What the sinks write last has to be seen by the observer.
                return sleep(Duration::from_secs(5)).await;
            }
        }
        let status = serde_json::to_string(&engine.status().await).unwrap();
        self.trace.violated(format!("no end after {PATIENCE:?}: {status}"));
    }

    async fn is_drained(&self, log: &CommitLog) -> Result<bool, aqueduct_api::Error> {
        for sink in [EACH, LATEST] {
            let committed = log.committed(&format!("connect-{sink}")).await?;
            for partition in 0..self.partitions {
                let partition = TopicPartition::new(TOPIC, partition);
                let end = log.bounds(&partition).await?.end;
                if committed.get(&partition).map_or(0, |committed| committed.offset) < end {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Everything is at rest: is every record accounted for?
    fn judge(&self) {
        self.cluster.deliver_all();
        let memory = self.memory.lock().unwrap();
        let judge = Judge::new(&memory, &self.trace);
        judge.check_produced(&self.acknowledged);
        judge.check_each(&self.cluster.documents(EACH));
        judge.check_latest(&self.cluster.documents(LATEST));
    }

    fn event(&self, event: String) {
        self.trace.event(&self.time, event);
    }
}

/// Five minutes in which every request, or every item of it, is answered with 429 and the like cost nothing: what was
/// produced meanwhile is there afterwards, once, and nothing of it is a dead letter that the cluster would have taken.
#[test]
fn five_minutes_of_429_cost_nothing() {
    for (seed, busy) in [
        (1, ClusterFaults { refused: 1000, ..NO_FAULTS }),
        (2, ClusterFaults { partial: 1000, ..NO_FAULTS }),
        (3, ClusterFaults { refused: 500, partial: 1000, ..NO_FAULTS }),
    ] {
        let minutes = |_: &mut Dice| vec![Days { lasts: 300_000, end: End::Clean, faults: busy, unrest: Unrest::NONE }];
        let outcome = run_lives(seed, None, false, minutes);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
    }
}
