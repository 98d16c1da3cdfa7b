//! The log without an engine: appends, reads, deletes, commits and crashes, many more a second than whole pipelines make.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{
    At, ByteSize, Committed, Durability, Error, Groups as _, Log as _, Span, Store, TopicPartition, TopicSettings,
    Topics as _,
};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::BatchBuilder;
use tokio::time::sleep;

use crate::deletions::{Deletions, Left};
use crate::dice::Dice;
use crate::disk::DiskFaults;
use crate::life::{Life, Trace};
use crate::machine::{self, Machine, Use};
use crate::observer::{Memory, Observer};
use crate::run::{Outcome, listen_for_panics};

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
    machine: Machine,
    memory: Arc<Mutex<Memory>>,
    acknowledged: Acknowledged,
    failed: Arc<Mutex<Failed>>,
    committed: Arc<Mutex<i64>>,
    deletions: Deletions,
    topics: Vec<(String, i32, TopicSettings)>,
}

/// Runs a seed.
pub(crate) fn run_log(seed: u64, mutant: Option<Mutant>, aloud: bool) -> Outcome {
    listen_for_panics();
    fault::mutate(mutant);
    let run = LogRun::new(seed, aloud);
    let mut dice = run.dice.clone();
    machine::run(seed, mutant, &run, &mut dice)
}

impl Use for LogRun {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    async fn start(&self, seed: u64, life: &Arc<Life>) -> Result<CommitLog, Error> {
        self.failed.lock().unwrap().open.clear();
        let log = self.machine.open(seed, life).await?;
        for (name, partitions, settings) in &self.topics {
            if !log.topics().await?.iter().any(|topic| *topic.name == **name) {
                log.create(name, *partitions, settings).await?;
            }
        }
        let observer = Observer {
            memory: self.memory.clone(),
            time: self.machine.time.clone(),
            trace: self.machine.trace.clone(),
        };
        let store: Arc<dyn Store> = Arc::new(log.clone());
        let followed = observer.recovered(&*store).await?;
        self.check_acknowledged();
        self.check_failed();
        self.check_committed(&log).await?;
        self.check_left(&log).await?;
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
        let partitions = self.partitions().map(|(of, _)| of).collect();
        let deletions = self.deletions.clone();
        let dice_of_deletions = Dice::new(dice.bits(), "deletions");
        let deleting =
            tokio::spawn(deletions.go_on(log.clone(), partitions, dice_of_deletions, self.machine.trace.clone()));
        let committing = tokio::spawn(commit_all(log.clone(), self.committed.clone(), self.machine.trace.clone()));
        for _ in 0..if is_last { 3 } else { dice.between(1, 10) } {
            sleep(Duration::from_millis(dice.between(1, 600))).await;
            if dice.one_in(2)
                && let Err(cause) = log.clean().await
            {
                self.machine.event(format!("clean: {cause}"));
            }
        }
        writers.iter().for_each(|writer| writer.abort());
        committing.abort();
        deleting.abort();
        if let Err(cause) = self.check_left(&log).await {
            self.machine.event(format!("what is left can not be read: {cause}"));
        }
        if is_last {
            self.delete_at_last(&log, dice).await;
        }
        if dice.one_in(3) {
            self.machine.disk.set_faults(DiskFaults::default());
            self.machine.disk.leave_room(None);
            sleep(Duration::from_secs(3)).await;
            // Nothing was appended since, and still: whoever was told that an append failed has had time to go elsewhere.
            let mut failed = self.failed.lock().unwrap();
            std::mem::take(&mut failed.open).into_values().for_each(|values| failed.settled.extend(values));
        }
        if clean {
            self.machine.close(log).await;
        }
    }
}

impl LogRun {
    fn new(seed: u64, aloud: bool) -> Self {
        let mut dice = Dice::new(seed, "log");
        let topics = [Durability::Fsync, Durability::Interval, Durability::Os].map(|durability| {
            let settings = TopicSettings {
                durability,
                segment_bytes: ByteSize(*dice.pick(&[300, 2 << 10, 64 << 10])),
                retention_bytes: *dice.pick(&[None, Some(ByteSize(4 << 10))]),
                // What is written is as old as it gets.
                retention: *dice.pick(&[Span::FOREVER, TopicSettings::default().retention]),
                ..TopicSettings::default()
            };
            (format!("{durability:?}").to_lowercase(), dice.between(1, 2) as i32, settings)
        });
        LogRun {
            dice,
            machine: Machine::new(seed, aloud),
            memory: Arc::default(),
            acknowledged: Arc::default(),
            failed: Arc::default(),
            committed: Arc::default(),
            deletions: Deletions::default(),
            topics: topics.into(),
        }
    }

    fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &TopicSettings)> {
        self.topics.iter().flat_map(|(name, partitions, settings)| {
            (0..*partitions).map(move |partition| (TopicPartition::new(name.as_str(), partition), settings))
        })
    }

    /// What was acknowledged on a synced topic is there as it was first seen, from where its partition begins.
    async fn check_left(&self, log: &CommitLog) -> Result<(), Error> {
        for (of, settings) in self.partitions() {
            let key = (of.topic.to_string(), of.partition);
            let acknowledged = self.acknowledged.lock().unwrap().get(&key).cloned().unwrap_or_default();
            let is_cut_here = settings.retention_bytes.is_none() && settings.retention == Span::FOREVER;
            let Left { start, values } = self.deletions.check(log, &of, is_cut_here, &self.machine.trace).await?;
            let memory = self.memory.lock().unwrap();
            let seen = memory.partitions.get(&key);
            for offset in acknowledged.into_iter().filter(|offset| *offset >= start) {
                let known = seen.and_then(|seen| seen.get(&offset)?.value.as_deref());
                let found = values.get(&offset).map(Vec::as_slice);
                if found.is_none() || known.is_some_and(|known| Some(known) != found) {
                    self.machine.trace.violated(format!(
                        "{of}: begins at {start}, but offset {offset} was acknowledged as {known:?} and is {found:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Nothing is wrong any more: whatever failed before, records can be deleted.
    async fn delete_at_last(&self, log: &CommitLog, dice: &mut Dice) {
        for (of, _) in self.partitions() {
            if let Err(cause) = self.deletions.ask(log, &of, dice, &self.machine.trace).await {
                self.machine.trace.violated(format!("{of}: nothing can be deleted although nothing is wrong: {cause}"));
            }
        }
        if let Err(cause) = self.check_left(log).await {
            self.machine.trace.violated(format!("the log can not be read although nothing is wrong: {cause}"));
        }
    }

    /// What was acknowledged on a synced topic was seen by whoever reads.
    fn check_acknowledged(&self) {
        let memory = self.memory.lock().unwrap();
        for (partition, offsets) in &*self.acknowledged.lock().unwrap() {
            let seen = memory.partitions.get(partition);
            if let Some(lost) = offsets.iter().find(|offset| !seen.is_some_and(|seen| seen.contains_key(offset))) {
                self.machine.trace.violated(format!("{partition:?}: offset {lost} was acknowledged and is lost"));
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
                    self.machine
                        .trace
                        .violated(format!("{partition:?}: offset {offset} holds what had failed: {value}"));
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
            self.machine.trace.violated(format!("offset {expected} was committed, {found} is what is left of it"));
        }
        Ok(())
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
