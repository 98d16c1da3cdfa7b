//! Idempotent producers against the log alone: clients that outlive its processes, send several batches ahead, send any of
//! them again, and lose answers. Nothing comes twice or out of order, and nothing acknowledged is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{
    Appended, At, ByteSize, Durability, Error, Isolation, Log as _, ProducerError, Producers as _, Span,
    TopicPartition, TopicSettings, Topics as _,
};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::{Batch, BatchBuilder};
use tokio::time::sleep;

use crate::dice::Dice;
use crate::disk::DiskFaults;
use crate::life::{Life, Trace};
use crate::machine::{self, Machine, Use};
use crate::run::{Outcome, listen_for_panics};

/// Batches that a client has in flight at most.
const WINDOW: usize = 5;

/// A producer, as its client is: it knows nothing of the log's processes.
struct Client {
    to: TopicPartition,
    is_synced: bool,
    /// Given by the log.
    id: Option<i64>,
    epoch: i16,
    /// The sequence number of the next batch that is made.
    sequence: i32,
    /// The number of the next record that is made.
    number: u64,
    flight: VecDeque<Flying>,
    /// Where the log said that records are.
    acknowledged: BTreeMap<u64, i64>,
    /// Records before this one were sent under an earlier epoch, and may be there twice: what a disk lost that is not synced
    /// may come back with a kill, as long as the log could not say that it is void.
    excused: u64,
}

/// A batch on its way.
struct Flying {
    sequence: i32,
    numbers: std::ops::Range<u64>,
    at: Option<i64>,
}

struct ProducerRun {
    machine: Machine,
    topics: Vec<(String, TopicSettings)>,
    clients: Vec<Arc<Mutex<Client>>>,
}

/// Runs a seed.
pub(crate) fn run_producers(seed: u64, mutant: Option<Mutant>, aloud: bool) -> Outcome {
    listen_for_panics();
    fault::mutate(mutant);
    let mut dice = Dice::new(seed, "producers");
    let run = ProducerRun::new(seed, &mut dice, aloud);
    machine::run(seed, mutant, &run, &mut dice)
}

impl Use for ProducerRun {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    async fn start(&self, seed: u64, life: &Arc<Life>) -> Result<CommitLog, Error> {
        let log = self.machine.open(seed, life).await?;
        for (name, settings) in &self.topics {
            if !log.topics().await?.iter().any(|topic| *topic.name == **name) {
                log.create(name, 1, settings).await?;
            }
        }
        self.check(&log).await?;
        log.start_cleaning();
        Ok(log)
    }

    async fn bustle(&self, log: CommitLog, dice: &mut Dice, clean: bool, is_last: bool) {
        let mut sending = Vec::new();
        for client in &self.clients {
            let dice = Dice::new(dice.bits(), "client");
            sending.push(tokio::spawn(send_all(log.clone(), client.clone(), dice, self.machine.trace.clone())));
        }
        for _ in 0..if is_last { 3 } else { dice.between(1, 10) } {
            sleep(Duration::from_millis(dice.between(1, 600))).await;
            if dice.one_in(3) {
                let _ = log.clean().await;
            }
        }
        sending.iter().for_each(|sending| sending.abort());
        if is_last && let Err(cause) = self.check(&log).await {
            self.machine.trace.violated(format!("the log can not be read although nothing is wrong any more: {cause}"));
        }
        if clean {
            self.machine.disk.set_faults(DiskFaults::default());
            self.machine.close(log).await;
        }
    }
}

impl ProducerRun {
    fn new(seed: u64, dice: &mut Dice, aloud: bool) -> Self {
        let mut clients = Vec::new();
        let topics = [Durability::Fsync, Durability::Interval, Durability::Os].map(|durability| {
            let segment_bytes = ByteSize(*dice.pick(&[200, 2 << 10, 64 << 10]));
            let name = format!("{durability:?}").to_lowercase();
            for _ in 0..dice.between(1, 3) {
                clients.push(Arc::new(Mutex::new(Client {
                    to: TopicPartition::new(name.as_str(), 0),
                    is_synced: durability == Durability::Fsync,
                    id: None,
                    epoch: 0,
                    // Close to the largest, so that it wraps.
                    sequence: if dice.one_in(3) { i32::MAX - dice.below(40) as i32 } else { 0 },
                    number: 0,
                    flight: VecDeque::new(),
                    acknowledged: BTreeMap::new(),
                    excused: 0,
                })));
            }
            let retention = Span::FOREVER;
            (name, TopicSettings { durability, segment_bytes, retention, ..TopicSettings::default() })
        });
        ProducerRun { machine: Machine::new(seed, aloud), topics: topics.into(), clients }
    }

    /// Reads it all: the records of each client are there once and in order, and on the synced topic all that the client
    /// was told of, where it was told that they are.
    async fn check(&self, log: &CommitLog) -> Result<(), Error> {
        for (name, _) in &self.topics {
            let mut numbers: BTreeMap<i64, BTreeMap<u64, i64>> = BTreeMap::new();
            for (offset, value) in read(log, &TopicPartition::new(name.as_str(), 0)).await? {
                let Some((id, number)) = value.split_once(':') else { continue };
                let (id, number) = (id.parse().unwrap(), number.parse().unwrap());
                let of_one = numbers.entry(id).or_default();
                let is_excused = self
                    .clients
                    .iter()
                    .map(|client| client.lock().unwrap())
                    .any(|client| client.id == Some(id) && number < client.excused);
                if let Some((last, _)) = of_one.last_key_value().filter(|(last, _)| **last >= number && !is_excused) {
                    self.machine
                        .trace
                        .violated(format!("{name}: record {number} of producer {id} comes at {offset} after {last}"));
                }
                of_one.insert(number, offset);
            }
            for client in &self.clients {
                let client = client.lock().unwrap();
                let Some(id) = client.id.filter(|_| *client.to.topic == **name && client.is_synced) else { continue };
                let empty = BTreeMap::new();
                let found = numbers.get(&id).unwrap_or(&empty);
                if found.last_key_value().is_some_and(|(last, _)| *last + 1 != found.len() as u64) {
                    self.machine
                        .trace
                        .violated(format!("{name}: records of producer {id} are missing between others: {found:?}"));
                }
                for (number, told) in &client.acknowledged {
                    if found.get(number) != Some(told) {
                        let at = found.get(number);
                        self.machine.trace.violated(format!(
                            "{name}: record {number} of producer {id} was acknowledged at {told} and is at {at:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

async fn read(log: &CommitLog, of: &TopicPartition) -> Result<Vec<(i64, String)>, Error> {
    let (mut offset, mut found) = (0, Vec::new());
    loop {
        let read = log.read(of, offset, 64 << 10, Isolation::Uncommitted).await?;
        if let Some(lost) = read.lost {
            offset = lost.end;
            continue;
        }
        if read.batches.is_empty() {
            return Ok(found);
        }
        let mut rest = read.batches;
        while let Some((batch, behind)) = Batch::split_first(&rest).map_err(Error::retry)? {
            for record in batch.records().map_err(Error::retry)?.iter() {
                let record = record.map_err(Error::retry)?;
                found.push((record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()));
            }
            offset = batch.next_offset();
            rest = behind;
        }
    }
}

/// Sends until the life ends.
async fn send_all(log: CommitLog, client: Arc<Mutex<Client>>, mut dice: Dice, trace: Arc<Trace>) {
    let to = client.lock().unwrap().to.clone();
    while client.lock().unwrap().id.is_none() {
        match log.new_producer().await {
            Ok(id) => client.lock().unwrap().id = Some(id),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    loop {
        client.lock().unwrap().make(&mut dice);
        let mut order: Vec<usize> = (0..client.lock().unwrap().flight.len()).collect();
        for _ in 0..dice.below(3) {
            // Any of them again, after it was sent or not.
            let again = dice.below(order.len() as u64) as usize;
            order.insert(dice.between(again as u64, order.len() as u64) as usize, order[again]);
        }
        let mut waiting = Vec::new();
        for index in order {
            let Some(batch) = client.lock().unwrap().batch(index) else { continue };
            waiting.push((index, log.append(&to, batch, At::End).await));
            if dice.one_in(8) {
                let mut other = BatchBuilder::new();
                other.push(1, None, Some(b"somebody else's"), &[]);
                let _ = log.append(&to, other.finish(), At::End).await;
            }
        }
        for (index, appended) in waiting {
            let answer = match appended {
                Ok(Appended { base_offset, durable, .. }) => durable.await.map(|()| base_offset),
                Err(error) => Err(error),
            };
            // An answer may be lost.
            if !dice.one_in(5) && client.lock().unwrap().hear(index, answer, &trace) {
                break;
            }
        }
        client.lock().unwrap().forget_what_is_done();
        sleep(Duration::from_millis(dice.between(1, 60))).await;
    }
}

impl Client {
    /// Makes batches until enough are in flight.
    fn make(&mut self, dice: &mut Dice) {
        let most = dice.between(1, WINDOW as u64) as usize;
        while self.flight.len() < most {
            let count = dice.between(1, 3);
            let numbers = self.number..self.number + count;
            self.flight.push_back(Flying { sequence: self.sequence, numbers, at: None });
            self.number += count;
            self.sequence = after(self.sequence, count);
        }
    }

    /// A batch, unless it is done with.
    fn batch(&self, index: usize) -> Option<Batch> {
        let Flying { sequence, numbers, .. } = self.flight.get(index).filter(|flying| flying.at.is_none())?;
        let id = self.id?;
        let mut batch = BatchBuilder::new().producer(id, self.epoch, *sequence);
        for number in numbers.clone() {
            batch.push(1, None, Some(format!("{id}:{number}").as_bytes()), &[]);
        }
        Some(batch.finish())
    }

    /// Hears what became of a batch; true: all that is in flight has to be sent anew.
    fn hear(&mut self, index: usize, answer: Result<i64, Error>, trace: &Trace) -> bool {
        let is_next = self.flight.iter().take(index).all(|flying| flying.at.is_some());
        let who = format!("{}: producer {:?}", self.to, self.id);
        let flying = &mut self.flight[index];
        match answer {
            Ok(offset) => {
                if flying.at.is_some_and(|at| at != offset) && self.is_synced {
                    trace.violated(format!("{who}: {:?} is at {:?} and at {offset}", flying.numbers, flying.at));
                }
                flying.at = Some(offset);
                for (place, number) in flying.numbers.clone().enumerate() {
                    self.acknowledged.insert(number, offset + place as i64);
                }
            }
            Err(error) => match ProducerError::of(&error) {
                None if error.is_retry() => {}
                Some(ProducerError::OutOfOrder { .. }) if !is_next || flying.at.is_some() => {}
                // What was acknowledged without a sync is lost: the client goes on under a new epoch.
                Some(ProducerError::OutOfOrder { .. }) if !self.is_synced => {
                    self.begin_again();
                    return true;
                }
                _ => trace.violated(format!("{who} sends {:?} and is told: {error}", flying.numbers)),
            },
        }
        false
    }

    fn begin_again(&mut self) {
        self.epoch += 1;
        self.excused = self.number;
        self.flight.retain(|flying| flying.at.is_none());
        self.sequence = 0;
        for flying in &mut self.flight {
            flying.sequence = self.sequence;
            self.sequence = after(self.sequence, flying.numbers.end - flying.numbers.start);
        }
    }

    fn forget_what_is_done(&mut self) {
        while self.flight.front().is_some_and(|flying| flying.at.is_some()) {
            self.flight.pop_front();
        }
    }
}

fn after(sequence: i32, count: u64) -> i32 {
    ((i64::from(sequence) + count as i64) % (1 << 31)) as i32
}
