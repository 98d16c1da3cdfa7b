//! What members of a simulated group commit in transactions: a log of offsets and markers, and what counts of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::groups::request::Millis;

/// How long a transaction may take.
const TIMEOUT: Millis = 20_000;
/// After which nobody asks for anything of it any more.
const DONE: Millis = 200_000;

/// What is in the log.
#[derive(Clone, Debug)]
enum Record {
    /// A transaction's offsets: which partitions they are of.
    Offsets(u64, Vec<u8>),
    /// How a transaction ends.
    Marker(u64, bool),
}

/// What counts: of each partition the transaction whose offset it is, and what is undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    committed: BTreeMap<u8, u64>,
    undecided: BTreeMap<u64, Vec<u8>>,
}

impl Counts {
    fn apply(&mut self, record: &Record) {
        match record {
            Record::Offsets(number, partitions) => self.undecided.entry(*number).or_default().extend(partitions),
            Record::Marker(number, commits) => {
                let partitions = self.undecided.remove(number).unwrap_or_default();
                if *commits {
                    self.committed.extend(partitions.into_iter().map(|partition| (partition, *number)));
                }
            }
        }
    }
}

/// How far a transaction is.
#[derive(Clone, Debug)]
struct Transaction {
    begun: Millis,
    /// Writes that have been let through and are not done: no marker comes before them.
    writes: usize,
    /// What has been acknowledged.
    acknowledged: BTreeSet<u8>,
    /// What it comes to, and when that was decided.
    outcome: Option<bool>,
    is_marked: bool,
}

/// The log, and what the coordinators of the group and of transactions know of it.
#[derive(Default)]
pub(super) struct Transacted {
    records: Vec<Record>,
    counts: Counts,
    transactions: BTreeMap<u64, Transaction>,
    /// Transactions whose offsets count.
    pub(super) commits: usize,
    /// Transactions with offsets that do not.
    pub(super) aborts: usize,
}

impl Transacted {
    /// Lets offsets of a transaction be written, unless its outcome is decided.
    pub(super) fn begin(&mut self, now: Millis, number: u64) -> bool {
        let new =
            || Transaction { begun: now, writes: 0, acknowledged: BTreeSet::new(), outcome: None, is_marked: false };
        let transaction = self.transactions.entry(number).or_insert_with(new);
        let may = transaction.outcome.is_none();
        transaction.writes += usize::from(may);
        may
    }

    /// A write that was let through is done: whether its records are there, and whether its member is told so.
    pub(super) fn written(&mut self, number: u64, partitions: Vec<u8>, is_there: bool, is_told: bool) {
        if let Some(transaction) = self.transactions.get_mut(&number) {
            transaction.writes -= 1;
            if is_told {
                transaction.acknowledged.extend(&partitions);
            }
        }
        if is_there {
            self.append(Record::Offsets(number, partitions));
        }
    }

    /// It is decided how a transaction ends, if nobody has decided otherwise: what it comes to.
    pub(super) fn decide(&mut self, number: u64, commits: bool) -> Option<bool> {
        let transaction = self.transactions.get_mut(&number)?;
        Some(*transaction.outcome.get_or_insert(commits))
    }

    /// Aborts what takes too long, and writes markers that nothing is before; what is wrong then.
    pub(super) fn step(&mut self, now: Millis) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut markers = Vec::new();
        for (number, transaction) in &mut self.transactions {
            if transaction.begun + TIMEOUT <= now {
                transaction.outcome.get_or_insert(false);
            }
            if let Some(commits) = transaction.outcome.filter(|_| !transaction.is_marked && transaction.writes == 0) {
                transaction.is_marked = true;
                markers.push((*number, commits));
            }
        }
        for (number, commits) in markers {
            let had = self.counts.undecided.contains_key(&number);
            self.commits += usize::from(had && commits);
            self.aborts += usize::from(had && !commits);
            self.append(Record::Marker(number, commits));
            wrong.extend(self.check(number, commits));
        }
        // What has its marker is done with.
        self.transactions.retain(|_, transaction| !transaction.is_marked || transaction.begun + DONE > now);
        wrong
    }

    fn append(&mut self, record: Record) {
        self.counts.apply(&record);
        self.records.push(record);
    }

    /// The coordinators die: what they had let through is not acknowledged any more. Others read the log.
    pub(super) fn recover(&mut self) -> Vec<String> {
        self.transactions.values_mut().for_each(|transaction| transaction.writes = 0);
        let mut found = Counts::default();
        self.records.iter().for_each(|record| found.apply(record));
        let mut wrong = Vec::new();
        if found != self.counts {
            wrong.push(format!("{found:?} counts after a start, and {:?} before it", self.counts));
        }
        self.counts = found;
        wrong
    }

    /// What is wrong with what counts after a transaction's marker.
    fn check(&self, number: u64, commits: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.counts.undecided.contains_key(&number) {
            wrong.push(format!("{number} has its marker, and something undecided"));
        }
        let counts = |partition: &u8| self.counts.committed.get(partition) == Some(&number);
        let mut acknowledged = self.transactions.get(&number).into_iter().flat_map(|it| &it.acknowledged);
        if commits && !acknowledged.all(counts) {
            wrong.push(format!("what was committed in {number} does not all count"));
        }
        if !commits && self.counts.committed.values().any(|of| *of == number) {
            wrong.push(format!("what was aborted in {number} counts"));
        }
        wrong
    }

    /// What is undecided still.
    pub(super) fn undecided(&self) -> Vec<u64> {
        self.counts.undecided.keys().copied().collect()
    }
}
