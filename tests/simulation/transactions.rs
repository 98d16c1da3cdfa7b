//! Producers with transactions against the log alone, and a coordinator that forgets nothing: clients that send again, give up,
//! are replaced and go on writing. Whoever reads what is committed sees whole transactions that were committed, and nothing of
//! others, at any time; nothing that was acknowledged is lost, but for what somebody had deleted, or a later record of its key replaced.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{
    At, ByteSize, CleanupPolicy, Log as _, Marker, ProducerError, Producers as _, Result, Span, TopicPartition,
    TopicSettings, Topics as _, Transactions as _,
};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::{Batch, BatchBuilder, Offset};
use tokio::time::sleep;

use crate::deletions::Deletions;
use crate::dice::Dice;
use crate::disk::DiskFaults;
use crate::life::{Life, Trace};
use crate::machine::{self, Machine, Use};
use crate::run::{Outcome, listen_for_panics};

const TOPIC: &str = "transactions";
const PARTITIONS: i32 = 2;

/// A producer with its coordinator: neither knows anything of the log's processes.
#[derive(Default)]
struct Client {
    /// Given by the log.
    id: Option<i64>,
    epoch: i16,
    /// The sequence number that is next, by partition.
    sequences: BTreeMap<i32, i32>,
    /// The last one is under way.
    transactions: Vec<Transaction>,
}

#[derive(Clone, Default)]
struct Transaction {
    parts: Vec<Part>,
    /// What the coordinator has decided, before any marker is sent.
    outcome: Option<bool>,
    /// Partitions whose marker is not acknowledged.
    unmarked: BTreeSet<i32>,
}

/// A batch of a transaction.
#[derive(Clone)]
struct Part {
    partition: i32,
    epoch: i16,
    sequence: i32,
    /// Its records, counted within the transaction.
    records: Range<usize>,
    at: Option<Offset>,
}

/// A record of a client, as its value says: producer, transaction, number within that.
type Name = (i64, usize, usize);

struct TransactionRun {
    machine: Machine,
    settings: TopicSettings,
    deletions: Deletions,
    clients: Vec<Arc<Mutex<Client>>>,
}

/// What a record is of: each key has several records of some transactions.
fn key((id, number, record): Name) -> String {
    format!("{id}:{}:{}", number % 3, record % 3)
}

fn of(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Runs a seed.
pub(crate) fn run_transactions(seed: u64, mutant: Option<Mutant>, aloud: bool) -> Outcome {
    listen_for_panics();
    fault::mutate(mutant);
    let mut dice = Dice::new(seed, "transactions");
    let settings = TopicSettings {
        segment_bytes: ByteSize(*dice.pick(&[250, 2 << 10, 64 << 10])),
        cleanup: *dice.pick(&[CleanupPolicy::Delete, CleanupPolicy::Delete, CleanupPolicy::Compact]),
        tombstone_retention: *dice.pick(&[Span::millis(100), Span::FOREVER]),
        retention: Span::FOREVER,
        ..TopicSettings::default()
    };
    let run = TransactionRun {
        machine: Machine::new(seed, aloud),
        settings,
        deletions: Deletions::default(),
        clients: (0..dice.between(2, 4)).map(|_| Arc::default()).collect(),
    };
    machine::run(seed, mutant, &run, &mut dice)
}

impl Use for TransactionRun {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    async fn start(&self, seed: u64, life: &Arc<Life>) -> Result<CommitLog> {
        let log = self.machine.open(seed, life).await?;
        if !log.topics().await?.iter().any(|topic| &*topic.name == TOPIC) {
            log.create(TOPIC, PARTITIONS, &self.settings).await?;
        }
        self.check(&log).await?;
        log.start_cleaning();
        Ok(log)
    }

    async fn bustle(&self, log: CommitLog, dice: &mut Dice, clean: bool, is_last: bool) {
        let mut working = Vec::new();
        for client in &self.clients {
            let dice = Dice::new(dice.bits(), "client");
            working.push(tokio::spawn(work(log.clone(), client.clone(), dice, self.machine.trace.clone())));
        }
        for _ in 0..if is_last { 3 } else { dice.between(1, 10) } {
            sleep(Duration::from_millis(dice.between(1, 600))).await;
            self.clean(&log, dice).await;
            if let Err(cause) = self.check(&log).await
                && is_last
            {
                self.machine.trace.violated(format!("the log can not be read although nothing is wrong: {cause}"));
            }
        }
        working.iter().for_each(|working| working.abort());
        if is_last {
            self.end_all(&log).await;
        }
        if clean {
            self.machine.disk.set_faults(DiskFaults::default());
            self.machine.close(log).await;
        }
    }
}

impl TransactionRun {
    /// Makes room now and then: of what is compacted as it sees fit, else as somebody asks.
    async fn clean(&self, log: &CommitLog, dice: &mut Dice) {
        let cleaned = match self.settings.cleanup {
            _ if dice.one_in(2) => return,
            CleanupPolicy::Compact => log.clean().await,
            CleanupPolicy::Delete => {
                let of = of(dice.below(PARTITIONS as u64) as i32);
                self.deletions.ask(log, &of, dice, &self.machine.trace).await.map(drop)
            }
        };
        if let Err(cause) = cleaned {
            self.machine.event(format!("clean: {cause}"));
        }
    }

    /// Ends all that is open: then everything is stable.
    async fn end_all(&self, log: &CommitLog) {
        for client in &self.clients {
            if client.lock().unwrap().transactions.last().is_some_and(|last| last.outcome.is_none()) {
                client.lock().unwrap().abandon();
            }
            while end(log, client).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        if let Err(cause) = self.check(log).await {
            self.machine.trace.violated(format!("the log can not be read although nothing is wrong: {cause}"));
        }
        for partition in 0..PARTITIONS {
            match log.bounds(&of(partition)).await {
                Ok(bounds) if bounds.stable == bounds.end => {}
                bounds => self.machine.trace.violated(format!("{partition}: all is ended, but: {bounds:?}")),
            }
        }
    }
}

/// Some transactions, one after the other, unless the life ends before.
async fn work(log: CommitLog, client: Arc<Mutex<Client>>, mut dice: Dice, trace: Arc<Trace>) {
    while client.lock().unwrap().id.is_none() {
        match log.new_producer().await {
            Ok(id) => client.lock().unwrap().id = Some(id),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    for _ in 0..dice.between(5, 30) {
        sleep(Duration::from_millis(dice.between(1, 40))).await;
        let decided = client.lock().unwrap().transactions.last().is_none_or(|last| last.outcome.is_some());
        if decided {
            if end(&log, &client).await.is_err() {
                continue;
            }
            client.lock().unwrap().transactions.push(Transaction::default());
        }
        let old = client.lock().unwrap().epoch;
        if !write(&log, &client, &mut dice, &trace).await {
            continue;
        }
        let is_fenced = client.lock().unwrap().epoch > old && dice.one_in(2);
        if is_fenced && end(&log, &client).await.is_ok() {
            write_late(&log, &client, old, &trace).await;
        }
    }
}

/// Writes parts of the transaction under way, and decides how it ends; `false`: not yet.
async fn write(log: &CommitLog, client: &Mutex<Client>, dice: &mut Dice, trace: &Trace) -> bool {
    for _ in 0..dice.between(1, 4) {
        let (partition, batch) = client.lock().unwrap().next_part(dice);
        let answer = match log.append(&of(partition), batch, At::End).await {
            Ok(appended) => {
                let base = appended.base_offset;
                appended.durable.await.map(|()| base)
            }
            Err(error) => Err(error),
        };
        // An answer may be lost.
        let is_lost = dice.one_in(6);
        match answer {
            Ok(at) if !is_lost => client.lock().unwrap().acknowledge(at),
            Err(error) if ProducerError::of(&error).is_some() || !error.is_retry() => {
                trace.violated(format!("{partition}: a producer is told: {error}"));
            }
            _ if dice.one_in(4) => {
                client.lock().unwrap().abandon();
                return true;
            }
            _ => return false,
        }
    }
    let mut client = client.lock().unwrap();
    match dice.below(6) {
        0 => return false,
        1 => client.abandon(),
        2 => client.decide(false),
        _ => client.decide(true),
    }
    true
}

/// Sends the markers of the last transaction, all of them, again where that was not acknowledged.
async fn end(log: &CommitLog, client: &Mutex<Client>) -> Result<()> {
    loop {
        let (marker, partition) = {
            let client = client.lock().unwrap();
            let Some(last) = client.transactions.last() else { return Ok(()) };
            let (Some(committed), Some(partition)) = (last.outcome, last.unmarked.first()) else { return Ok(()) };
            let Some(producer_id) = client.id else { return Ok(()) };
            (Marker { producer_id, epoch: client.epoch, coordinator_epoch: 0, committed }, *partition)
        };
        log.end(&of(partition), marker).await?.durable().await?;
        if let Some(last) = client.lock().unwrap().transactions.last_mut() {
            last.unmarked.remove(&partition);
        }
    }
}

/// Who was replaced goes on writing where its transaction was.
async fn write_late(log: &CommitLog, client: &Mutex<Client>, epoch: i16, trace: &Trace) {
    let late = {
        let client = client.lock().unwrap();
        let number = client.transactions.len().saturating_sub(1);
        let Some(part) = client.transactions.last().and_then(|last| last.parts.iter().rfind(|part| part.at.is_some()))
        else {
            return;
        };
        let (id, records) = (client.id.unwrap_or_default(), part.records.end..part.records.end + 1);
        let sequence = part.sequence + part.records.len() as i32;
        (part.partition, batch((id, epoch, sequence), number, 1000 + records.start..1000 + records.end))
    };
    if let Ok(appended) = log.append(&of(late.0), late.1, At::End).await {
        let at = appended.base_offset;
        trace.violated(format!("{}: a producer of epoch {epoch} that was replaced writes at {at}", late.0));
    }
}

fn batch((id, epoch, sequence): (i64, i16, i32), number: usize, records: Range<usize>) -> Batch {
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence).transactional();
    for record in records {
        let name: Name = (id, number, record);
        builder.push(1, Some(key(name).as_bytes()), Some(serde_json::to_string(&name).unwrap().as_bytes()), &[]);
    }
    builder.finish()
}

impl Client {
    /// The batch whose answer is missing, or a new one.
    fn next_part(&mut self, dice: &mut Dice) -> (i32, Batch) {
        let number = self.transactions.len() - 1;
        let (epoch, id) = (self.epoch, self.id.unwrap_or_default());
        let transaction = self.transactions.last_mut().unwrap();
        if transaction.parts.last().is_none_or(|part| part.at.is_some()) {
            let partition = dice.below(PARTITIONS as u64) as i32;
            let from = transaction.parts.last().map_or(0, |part| part.records.end);
            let records = from..from + dice.between(1, 3) as usize;
            let next = self.sequences.entry(partition).or_insert(0);
            let sequence = *next;
            *next += records.len() as i32;
            transaction.unmarked.insert(partition);
            transaction.parts.push(Part { partition, epoch, sequence, records, at: None });
        }
        let part = transaction.parts.last().unwrap();
        (part.partition, batch((id, part.epoch, part.sequence), number, part.records.clone()))
    }

    fn acknowledge(&mut self, at: Offset) {
        if let Some(part) = self.transactions.last_mut().and_then(|last| last.parts.last_mut()) {
            part.at = Some(at);
        }
    }

    /// Ends the transaction, of which everything is acknowledged.
    fn decide(&mut self, committed: bool) {
        self.transactions.last_mut().unwrap().outcome = Some(committed);
    }

    /// Aborts the transaction under a new epoch: nobody knows what of it is there, or who still writes.
    fn abandon(&mut self) {
        self.decide(false);
        self.epoch += 1;
        self.sequences.clear();
    }
}
