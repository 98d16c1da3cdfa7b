//! Offsets that a group commits in a transaction: they wait for its outcome, and what is committed later makes them void.

use std::collections::BTreeSet;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Committed, TopicPartition};
use aqueduct_record::Offset;

/// An offset that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// Whose transaction it is in.
    pub(crate) producer_id: i64,
    /// Where its record is.
    pub(crate) at: Offset,
    pub(crate) of: TopicPartition,
    pub(crate) committed: Committed,
    /// When it was committed.
    pub(crate) time: i64,
}

/// What waits in one group, in the order of its records.
#[derive(Debug, Default)]
pub(crate) struct Undecided(Vec<Waiting>);

impl Undecided {
    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.0.push(waiting);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something waits for a producer's transaction.
    pub(crate) fn waits_for(&self, producer_id: i64) -> bool {
        self.0.iter().any(|waiting| waiting.producer_id == producer_id)
    }

    /// The partitions in which something waits.
    pub(crate) fn partitions(&self) -> BTreeSet<TopicPartition> {
        self.0.iter().map(|waiting| waiting.of.clone()).collect()
    }

    /// Takes out what its producer has decided with a marker at that offset, in order.
    pub(crate) fn decide(&mut self, producer_id: i64, marker: Offset) -> Vec<Waiting> {
        let is_decided = |waiting: &mut Waiting| waiting.producer_id == producer_id && waiting.at < marker;
        self.0.extract_if(.., is_decided).collect()
    }

    /// Something else was committed for a partition, with a record at that offset: what was before it never counts.
    pub(crate) fn supersede(&mut self, of: &TopicPartition, at: Offset) {
        self.0.retain(|waiting| waiting.of != *of || waiting.at >= at);
    }

    /// The records from one offset to another never came to be.
    pub(crate) fn retract(&mut self, records: std::ops::Range<Offset>) {
        self.0.retain(|waiting| !records.contains(&waiting.at));
    }

    /// Whether something counts before it is decided: a deliberate mistake.
    pub(crate) fn counts_at_once() -> bool {
        fault::mutated(Mutant::OffsetsBeforeMarker)
    }
}
