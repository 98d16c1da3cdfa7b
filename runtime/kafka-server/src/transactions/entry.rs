//! What is kept of a transactional id.

use std::collections::BTreeSet;

use aqueduct_api::TopicPartition;

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A producer has the id, and has done nothing yet.
    Empty,
    /// Partitions belong to it.
    Ongoing,
    /// It is decided that it counts; not all partitions know.
    PrepareCommit,
    /// It is decided that it does not count; not all partitions know.
    PrepareAbort,
    /// It counts, everywhere.
    CompleteCommit,
    /// It does not count, anywhere.
    CompleteAbort,
}

/// The names of all states, in the order of Kafka's numbers. The last two are never kept: what is dead is gone, and a producer
/// is fenced by the same write that decides to abort.
pub(crate) const NAMES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

impl State {
    /// Kafka's number.
    pub(crate) fn id(self) -> i8 {
        self as i8
    }

    /// What Kafka's number says.
    pub(crate) fn of(id: i8) -> Option<State> {
        Some(match id {
            0 => State::Empty,
            1 => State::Ongoing,
            2 => State::PrepareCommit,
            3 => State::PrepareAbort,
            4 => State::CompleteCommit,
            5 => State::CompleteAbort,
            _ => return None,
        })
    }

    /// The name that Kafka's tools know.
    pub(crate) fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Whether the outcome is decided and not yet everywhere: which one.
    pub(crate) fn decided(self) -> Option<bool> {
        match self {
            State::PrepareCommit => Some(true),
            State::PrepareAbort => Some(false),
            _ => None,
        }
    }
}

/// What is kept of a transactional id: each change of it is one record in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who has the id.
    pub(crate) producer_id: i64,
    /// Who had it before the epochs of that one ran out, or -1.
    pub(crate) previous_producer_id: i64,
    /// Who gets it once the transaction is complete, or -1.
    pub(crate) next_producer_id: i64,
    /// The producer's epoch; -1: nobody was told of it yet.
    pub(crate) epoch: i16,
    /// How long a transaction may take, in milliseconds.
    pub(crate) timeout: i32,
    /// Where it is.
    pub(crate) state: State,
    /// What belongs to it.
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// When it was last changed, in milliseconds since 1970.
    pub(crate) updated: i64,
    /// When its first partition was added; -1: there is none.
    pub(crate) started: i64,
    /// Which rules its client goes by: 2 where each transaction has an epoch of its own (KIP-890).
    pub(crate) client_version: i16,
}

/// Epochs from this one on are for fencing alone.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// Whether no further epoch can be given out.
pub(crate) fn is_exhausted(epoch: i16) -> bool {
    epoch >= LAST_EPOCH
}
