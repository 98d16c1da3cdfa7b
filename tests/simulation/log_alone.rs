//! The log without an engine: appends, reads, commits and crashes, many more a second than whole pipelines make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{
    At, ByteSize, Committed, Durability, Edge, Error, Groups as _, Log as _, Store, TopicPartition, TopicSettings,
    Topics as _,
};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::BatchBuilder;
use tokio::time::sleep;

use crate::dice::{Dice, SimChance};
use crate::disk::{DiskFaults, SimDisk};
use crate::life::{Life, Time, Trace};
use crate::observer::{Memory, Observer};
use crate::run::{Outcome, listen_for_panics, panics};
use crate::scenario::Scenario;
use crate::threads::{SimThreads, Unrest};

const GROUP: &str = "readers";

/// Offsets that were acknowledged, by partition.
type Acknowledged = Arc<Mutex<BTreeMap<(String, i32), Vec<i64>>>>;

/// Values of appends that failed.
#[derive(Default)]
struct Failed {
    /// In this life, by partition: as long as nothing else can be written, a crash may bring them back.
    open: BTreeMap<(String, i32), Vec<String>>,
    /// They must not be seen any more.
    settled: BTreeSet<String>,
}

impl Failed {
    fn settle(&mut self, partition: &(String, i32)) {
        self.settled.extend(self.open.remove(partition).unwrap_or_default());
    }
}

struct LogRun {
    dice: Dice,
    time: Arc<Time>,
    trace: Arc<Trace>,
    disk: SimDisk,
    memory: Arc<Mutex<Memory>>,
    acknowledged: Acknowledged,
    failed: Arc<Mutex<Failed>>,
    committed: Arc<Mutex<i64>>,
    topics: Vec<(String, i32, TopicSettings)>,
}

/// Runs a seed.
pub(crate) fn run_log(seed: u64, mutant: Option<Mutant>, aloud: bool) -> Outcome {
    listen_for_panics();
    fault::mutate(mutant);
    let run = LogRun::new(seed, aloud);
    let mut dice = run.dice.clone();
    for number in 0..dice.between(2, 6) {
        if run.trace.violations().is_empty() {
            run.live(seed ^ (number << 40), &mut dice, false);
        }
    }
    if run.trace.violations().is_empty() {
        run.live(seed ^ (9 << 40), &mut dice, true);
    }
    fault::mutate(None);
    for panic in panics() {
        run.trace.violated(format!("a panic: {panic}"));
    }
    let (violations, digest, last) = (run.trace.violations(), run.trace.digest(), run.trace.last());
    Outcome { seed, violations, digest, last, scenario: Scenario::new(seed, mutant) }
}

impl LogRun {
    fn new(seed: u64, aloud: bool) -> Self {
        let mut dice = Dice::new(seed, "log");
        let (time, trace) = (Time::new(), Trace::new(aloud));
        let disk = SimDisk::new(Dice::new(seed, "disk"), time.clone(), trace.clone());
        let topics = [Durability::Fsync, Durability::Interval, Durability::Os].map(|durability| {
            let settings = TopicSettings {
                durability,
                segment_bytes: ByteSize(*dice.pick(&[300, 2 << 10, 64 << 10])),
                retention_bytes: *dice.pick(&[None, Some(ByteSize(4 << 10))]),
                ..TopicSettings::default()
            };
            (format!("{durability:?}").to_lowercase(), dice.between(1, 2) as i32, settings)
        });
        LogRun {
            dice,
            time,
            trace,
            disk,
            memory: Arc::default(),
            acknowledged: Arc::default(),
            failed: Arc::default(),
            committed: Arc::default(),
            topics: topics.into(),
        }
    }

    fn live(&self, seed: u64, dice: &mut Dice, is_last: bool) {
        let life = Life::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (clean, power) = (is_last || dice.one_in(4), dice.one_in(2));
        runtime.block_on(async {
            self.time.begin_life();
            self.failed.lock().unwrap().open.clear();
            if !is_last {
                self.faults(dice);
            }
            tokio::select! {
                biased;
                () = life.over() => {}
                () = self.days(seed, dice, &life, clean, is_last) => {}
            }
            self.time.end_life(10);
        });
        let died = life.is_over();
        life.end();
        match died || clean || !power {
            true => self.disk.end_of_process(),
            false => self.disk.crash(),
        }
        drop(runtime);
        self.disk.crash_after(None);
        self.disk.set_faults(DiskFaults::default());
        self.disk.leave_room(None);
    }

    fn faults(&self, dice: &mut Dice) {
        if dice.one_in(2) {
            self.disk.crash_after(Some(dice.between(1, 1500)));
        }
        if dice.one_in(2) {
            self.disk.set_faults(DiskFaults {
                sync: *dice.pick(&[0, 10, 60]),
                freeze: *dice.pick(&[0, 300]),
                sync_folder: *dice.pick(&[0, 20]),
                write: *dice.pick(&[0, 20]),
                names: *dice.pick(&[0, 10]),
                read: *dice.pick(&[0, 0, 2]),
                read_only: false,
            });
        }
        if dice.one_in(4) {
            self.disk.leave_room(Some(dice.between(5_000, 100_000)));
        }
    }

    async fn days(&self, seed: u64, dice: &mut Dice, life: &Arc<Life>, clean: bool, is_last: bool) {
        for _ in 0..5 {
            match self.start(seed, life).await {
                Ok(log) => return self.bustle(log, dice, clean, is_last).await,
                Err(cause) => self.event(format!("the log does not open: {cause}")),
            }
            sleep(Duration::from_secs(1)).await;
        }
        if is_last {
            self.trace.violated("the log does not open although nothing is wrong any more");
        }
    }

    async fn start(&self, seed: u64, life: &Arc<Life>) -> Result<CommitLog, Error> {
        let unrest = Unrest { slow: 100, stuck: 2, zombies: 0, zombie_life: 0 };
        let chance = Mutex::new((Dice::new(seed, "threads"), unrest));
        let (time, trace) = (self.time.clone(), self.trace.clone());
        let edge = Edge {
            disk: self.disk.mount(life.clone()),
            clock: self.time.clone(),
            threads: Arc::new(SimThreads { life: life.clone(), time, trace, chance }),
            chance: Arc::new(SimChance::new(Dice::new(seed, "chance"))),
        };
        let log = CommitLog::open(edge, Path::new("/data"), Options::default()).await?;
        self.event(format!("the log is open: {}", serde_json::to_string(log.recovery()).unwrap()));
        for (name, partitions, settings) in &self.topics {
            if !log.topics().await?.iter().any(|topic| *topic.name == **name) {
                log.create(name, *partitions, settings).await?;
            }
        }
        let observer = Observer { memory: self.memory.clone(), time: self.time.clone(), trace: self.trace.clone() };
        let store: Arc<dyn Store> = Arc::new(log.clone());
        let mut followed = BTreeMap::new();
        observer.round(&*store, &mut followed).await?;
        self.check_acknowledged();
        self.check_failed();
        self.check_committed(&log).await?;
        log.start_cleaning();
        tokio::spawn(observer.watch(store, followed));
        Ok(log)
    }

    async fn bustle(&self, log: CommitLog, dice: &mut Dice, clean: bool, is_last: bool) {
        let mut writers = Vec::new();
        for (name, partitions, settings) in &self.topics {
            for partition in 0..*partitions {
                let to = TopicPartition::new(name.as_str(), partition);
                let known = (settings.durability == Durability::Fsync)
                    .then(|| Known { acknowledged: self.acknowledged.clone(), failed: self.failed.clone() });
                let dice = Dice::new(dice.bits(), "writer");
                writers.push(tokio::spawn(append_all(log.clone(), to, known, dice)));
            }
        }
        let committing = tokio::spawn(commit_all(log.clone(), self.committed.clone(), self.trace.clone()));
        for _ in 0..if is_last { 3 } else { dice.between(1, 10) } {
            sleep(Duration::from_millis(dice.between(1, 600))).await;
            if dice.one_in(2)
                && let Err(cause) = log.clean().await
            {
                self.event(format!("clean: {cause}"));
            }
        }
        writers.iter().for_each(|writer| writer.abort());
        committing.abort();
        if dice.one_in(3) {
            self.disk.set_faults(DiskFaults::default());
            self.disk.leave_room(None);
            sleep(Duration::from_secs(3)).await;
            // Nothing was appended since, and still: whoever was told that an append failed has had time to go elsewhere.
            let mut failed = self.failed.lock().unwrap();
            std::mem::take(&mut failed.open).into_values().for_each(|values| failed.settled.extend(values));
        }
        if clean {
            sleep(Duration::from_secs(5)).await;
            match log.close().await {
                Ok(()) => self.event("closed".into()),
                Err(cause) => self.event(format!("the log does not close: {cause}")),
            }
        }
    }

    /// What was acknowledged on a synced topic was seen by whoever reads.
    fn check_acknowledged(&self) {
        let memory = self.memory.lock().unwrap();
        for (partition, offsets) in &*self.acknowledged.lock().unwrap() {
            let seen = memory.partitions.get(partition);
            if let Some(lost) = offsets.iter().find(|offset| !seen.is_some_and(|seen| seen.contains_key(offset))) {
                self.trace.violated(format!("{partition:?}: offset {lost} was acknowledged and is lost"));
            }
        }
    }

    /// What failed on a synced topic stays away, once the log could see to it.
    fn check_failed(&self) {
        let (memory, failed) = (self.memory.lock().unwrap(), self.failed.lock().unwrap());
        for (partition, seen) in &memory.partitions {
            for (offset, seen) in seen {
                let value = seen.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                if failed.settled.contains(&*value) {
                    self.trace.violated(format!("{partition:?}: offset {offset} holds what had failed: {value}"));
                }
            }
        }
    }

    /// A commit that was acknowledged is there.
    async fn check_committed(&self, log: &CommitLog) -> Result<(), Error> {
        let expected = *self.committed.lock().unwrap();
        let committed = log.committed(GROUP).await?;
        let found = committed.get(&TopicPartition::new("fsync", 0)).map_or(0, |committed| committed.offset);
        if found < expected {
            self.trace.violated(format!("offset {expected} was committed, {found} is what is left of it"));
        }
        Ok(())
    }

    fn event(&self, event: String) {
        self.trace.event(&self.time, event);
    }
}

/// What is known of appends to a synced topic.
struct Known {
    acknowledged: Acknowledged,
    failed: Arc<Mutex<Failed>>,
}

/// Appends, a few at a time, until the life ends.
async fn append_all(log: CommitLog, to: TopicPartition, known: Option<Known>, mut dice: Dice) {
    let key = (to.topic.to_string(), to.partition);
    loop {
        let mut waiting = Vec::new();
        for _ in 0..dice.between(1, 4) {
            let (mut batch, mut values) = (BatchBuilder::new(), Vec::new());
            for _ in 0..dice.between(1, 3) {
                let value = format!("{:x}", dice.bits()).repeat(dice.between(1, 9) as usize);
                batch.push(1, None, Some(value.as_bytes()), &[]);
                values.push(value);
            }
            if let Ok(appended) = log.append(&to, batch.finish(), At::End).await {
                waiting.push((appended.base_offset..appended.next_offset, values, appended.durable));
            }
        }
        for (offsets, values, durable) in waiting {
            let answer = durable.await;
            let Some(known) = &known else { continue };
            let mut failed = known.failed.lock().unwrap();
            match answer {
                Ok(()) => {
                    failed.settle(&key);
                    known.acknowledged.lock().unwrap().entry(key.clone()).or_default().extend(offsets);
                }
                Err(_) => failed.open.entry(key.clone()).or_default().extend(values),
            }
        }
        sleep(Duration::from_millis(dice.between(1, 60))).await;
    }
}

/// Commits ever larger offsets; now and then somebody else joins, and the old owner must not commit any more.
async fn commit_all(log: CommitLog, committed: Arc<Mutex<i64>>, trace: Arc<Trace>) {
    let partition = TopicPartition::new("fsync", 0);
    let Ok(mut token) = log.join(GROUP).await else { return };
    for round in 0.. {
        let offset = *committed.lock().unwrap() + 1;
        let value = |offset| Committed { offset, leader_epoch: -1, metadata: String::new() };
        if log.commit(&token, vec![(partition.clone(), Some(value(offset)))]).await.is_ok() {
            let mut committed = committed.lock().unwrap();
            *committed = offset.max(*committed);
        }
        if round % 7 == 6
            && let Ok(next) = log.join(GROUP).await
        {
            let old = std::mem::replace(&mut token, next);
            if log.commit(&old, vec![(partition.clone(), Some(value(0)))]).await.is_ok() {
                trace.violated("a commit was taken from an owner whose token is void");
            }
        }
        sleep(Duration::from_millis(40)).await;
    }
}
