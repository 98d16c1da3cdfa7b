//! The log of a simulated world: records of transactional ids, which compaction thins out, and partitions with what is open in
//! them.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_api::TopicPartition;
use aqueduct_record::{Batch, BatchBuilder};
use kafka_protocol::ResponseError;

use crate::transactions::entry::Entry;
use crate::transactions::kept::load_batch;
use crate::transactions::records;
use crate::transactions::request::{Answer, Outcome, Who};
use crate::worlds::Dice;

/// Partitions that are written to.
pub(super) const PARTITIONS: u8 = 4;

/// A partition of the log.
#[derive(Default)]
struct Partition {
    epochs: BTreeMap<i64, i16>,
    /// What is open of each producer: numbers of transactions.
    open: BTreeMap<i64, Vec<u64>>,
}

/// A record of a transactional id.
struct Kept {
    id: usize,
    forgets: bool,
    batch: Batch,
}

/// All of it.
pub(super) struct Log {
    records: Vec<Kept>,
    /// What counts of the records.
    entries: BTreeMap<usize, Entry>,
    partitions: Vec<Partition>,
    /// How each transaction ended.
    pub(super) fates: BTreeMap<u64, bool>,
    /// Transactions that were aborted.
    pub(super) aborts: usize,
    /// Records that compaction took away.
    pub(super) compacted: usize,
}

pub(super) fn name(partition: u8) -> TopicPartition {
    TopicPartition::new("t", i32::from(partition))
}

impl Log {
    pub(super) fn new() -> Self {
        Log {
            records: Vec::new(),
            entries: BTreeMap::new(),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            fates: BTreeMap::new(),
            aborts: 0,
            compacted: 0,
        }
    }

    /// A record of a transactional id, as it is written; `None` forgets it.
    pub(super) fn keep(&mut self, id: usize, entry: Option<Entry>) {
        let value = entry.as_ref().map(records::value);
        let mut builder = BatchBuilder::new();
        builder.push(0, Some(&records::key(&id.to_string()).unwrap()), value.as_deref(), &[]);
        self.records.push(Kept { id, forgets: entry.is_none(), batch: builder.finish() });
        match entry {
            Some(entry) => drop(self.entries.insert(id, entry)),
            None => drop(self.entries.remove(&id)),
        }
    }

    /// Up to some record only the last one of each id stays; sometimes nothing of ids that are forgotten.
    pub(super) fn compact(&mut self, dice: &mut Dice) {
        let before = self.records.len();
        let rest = self.records.split_off(dice.below(before as u64 + 1) as usize);
        let forgets = dice.once_in(2);
        let mut known = BTreeSet::new();
        let mut last: Vec<_> = std::mem::take(&mut self.records).into_iter().rev().collect();
        last.retain(|kept| known.insert(kept.id) && !(kept.forgets && forgets));
        self.records.extend(last.into_iter().rev().chain(rest));
        self.compacted += before - self.records.len();
    }

    /// What a coordinator finds that starts, and what is wrong with that.
    pub(super) fn load(&self) -> (BTreeMap<usize, Entry>, Option<String>) {
        let mut found = BTreeMap::new();
        self.records.iter().for_each(|kept| load_batch(&kept.batch, &mut found).unwrap());
        let found: BTreeMap<usize, Entry> = found.into_iter().map(|(id, entry)| (id.parse().unwrap(), entry)).collect();
        let wrong = (found != self.entries).then(|| format!("{found:?} is loaded, and {:?} was kept", self.entries));
        (found, wrong)
    }

    /// Whether some producer has something open.
    pub(super) fn is_open(&self, producers: [i64; 2]) -> bool {
        let is_open = |partition: &Partition, id| partition.open.get(id).is_some_and(|open| !open.is_empty());
        self.partitions.iter().any(|partition| producers.iter().any(|id| is_open(partition, id)))
    }

    /// A marker reaches a partition: what is wrong then.
    pub(super) fn mark(&mut self, outcome: Outcome, of: &TopicPartition) -> Vec<String> {
        let partition = &mut self.partitions[of.partition as usize];
        let Who { producer_id, epoch } = outcome.who;
        let known = partition.epochs.entry(producer_id).or_insert(epoch);
        if *known > epoch {
            return Vec::new();
        }
        *known = epoch;
        let mut wrong = Vec::new();
        for number in partition.open.remove(&producer_id).unwrap_or_default() {
            let fate = *self.fates.entry(number).or_insert(outcome.commits);
            self.aborts += usize::from(!fate);
            if fate != outcome.commits {
                wrong.push(format!("transaction {number} has commits: {fate} elsewhere, not in {of}"));
            }
        }
        wrong
    }

    /// A batch of a transaction is to be written: what is answered.
    pub(super) fn append(&mut self, who: Who, to: u8, number: u64) -> Answer {
        let partition = &mut self.partitions[usize::from(to)];
        let known = partition.epochs.entry(who.producer_id).or_insert(who.epoch);
        if *known > who.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        *known = who.epoch;
        partition.open.entry(who.producer_id).or_default().push(number);
        Ok(who)
    }

    /// Transactions that are open, for people.
    pub(super) fn open(&self) -> Vec<String> {
        let open = |partition: &Partition| partition.open.values().flatten().copied().collect::<Vec<u64>>();
        let open = self.partitions.iter().map(open).enumerate().filter(|(_, open)| !open.is_empty());
        open.map(|(n, open)| format!("{open:?} are open in partition {n} in the end")).collect()
    }
}
