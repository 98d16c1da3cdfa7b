//! The transactions of a simulated group's members, as far as the group meets with them: which of its commits are let through,
//! and how each transaction ends.
//!
//! What becomes of the records is the log's: its own tests load them with its own code, after kills and compaction.

use std::collections::BTreeMap;

use crate::groups::request::Millis;

/// How long a transaction may take.
const TIMEOUT: Millis = 20_000;
/// After which nobody asks for anything of it any more.
const DONE: Millis = 200_000;

/// How far a transaction is.
#[derive(Clone, Debug)]
struct Transaction {
    begun: Millis,
    /// Writes that have been let through and are not done: no marker comes before them.
    writes: usize,
    has_offsets: bool,
    /// What it comes to, once that is decided.
    outcome: Option<bool>,
    is_marked: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Transacted {
    transactions: BTreeMap<u64, Transaction>,
    /// Transactions whose offsets count.
    pub(super) commits: usize,
    /// Transactions with offsets that do not.
    pub(super) aborts: usize,
}

impl Transacted {
    /// Lets offsets of a transaction be written, unless its outcome is decided.
    pub(super) fn begin(&mut self, now: Millis, number: u64) -> bool {
        let new = || Transaction { begun: now, writes: 0, has_offsets: false, outcome: None, is_marked: false };
        let transaction = self.transactions.entry(number).or_insert_with(new);
        let may = transaction.outcome.is_none();
        transaction.writes += usize::from(may);
        may
    }

    /// A write that was let through is done: whether its records are there.
    pub(super) fn written(&mut self, number: u64, is_there: bool) {
        if let Some(transaction) = self.transactions.get_mut(&number) {
            transaction.writes -= 1;
            transaction.has_offsets |= is_there;
        }
    }

    /// It is decided how a transaction ends, if nobody has decided otherwise.
    pub(super) fn decide(&mut self, number: u64, commits: bool) {
        if let Some(transaction) = self.transactions.get_mut(&number) {
            transaction.outcome.get_or_insert(commits);
        }
    }

    /// Aborts what takes too long, and ends what is decided and has no write under way.
    pub(super) fn step(&mut self, now: Millis) {
        for transaction in self.transactions.values_mut() {
            if transaction.begun + TIMEOUT <= now {
                transaction.outcome.get_or_insert(false);
            }
            if let Some(commits) = transaction.outcome.filter(|_| !transaction.is_marked && transaction.writes == 0) {
                transaction.is_marked = true;
                self.commits += usize::from(transaction.has_offsets && commits);
                self.aborts += usize::from(transaction.has_offsets && !commits);
            }
        }
        // What has its marker is done with.
        self.transactions.retain(|_, transaction| !transaction.is_marked || transaction.begun + DONE > now);
    }
}
