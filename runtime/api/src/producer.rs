//! Idempotent producers: what a log remembers of them, and what it does not take from them.

use aqueduct_record::Offset;
use async_trait::async_trait;

use crate::{Error, Result, TopicPartition};

/// The producers of a log. What it remembers of one lets it tell a batch that was sent again, one that was lost and one of an
/// owner that was replaced: see [`crate::Log::append`].
#[async_trait]
pub trait Producers: Send + Sync {
    /// A producer id that nobody ever had, whatever happened in between.
    async fn new_producer(&self) -> Result<i64>;

    /// What is remembered of the producers that wrote to a partition, by id.
    async fn producers(&self, of: &TopicPartition) -> Result<Vec<Producer>>;
}

/// What a partition remembers of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch: an older one is fenced.
    pub epoch: i16,
    /// The sequence number of its last record; -1: none in this epoch.
    pub last_sequence: i32,
    /// The latest timestamp of its last batch, in ms since 1970; -1: none.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that ended its last transaction; -1: none did.
    pub coordinator_epoch: i32,
    /// The first offset of the transaction that it has open.
    pub open_since: Option<Offset>,
}

/// Why a batch of a producer is not taken: the cause of an [`Error::Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// Records before it are missing, or it is older than what is remembered.
    #[error(
        "producer {id} goes on with sequence number {sequence} where {expected} is next: what lies between is missing"
    )]
    OutOfOrder {
        /// The producer.
        id: i64,
        /// The sequence number of the batch's first record.
        sequence: i32,
        /// The sequence number that is next.
        expected: i32,
    },
    /// Somebody else writes under that id by now.
    #[error("producer {id} writes under epoch {epoch} but was replaced by one of epoch {current}")]
    Fenced {
        /// The producer.
        id: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The epoch that holds.
        current: i16,
    },
    /// The producer has a transaction open, of which the batch is not.
    #[error(
        "a batch of producer {id} is in no transaction, but the one that it has open since offset {since} is not ended"
    )]
    OutsideTransaction {
        /// The producer.
        id: i64,
        /// The first offset of its transaction.
        since: Offset,
    },
    /// Another coordinator decides over the producer's transactions by now.
    #[error("a marker for producer {id} is of coordinator epoch {epoch}, which was replaced by {current}")]
    CoordinatorFenced {
        /// The producer.
        id: i64,
        /// The marker's coordinator epoch.
        epoch: i32,
        /// The coordinator epoch that holds.
        current: i32,
    },
    /// The batch names a producer but not which of its records it begins with.
    #[error(
        "a batch of producer {id} has the sequence number {sequence} and the epoch {epoch}: neither may be negative"
    )]
    Malformed {
        /// The producer.
        id: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The sequence number of the batch's first record.
        sequence: i32,
    },
}

impl ProducerError {
    /// What is wrong with a producer, when that is why an append was not taken.
    pub fn of(error: &Error) -> Option<ProducerError> {
        match error {
            Error::Refused { cause } => cause.downcast_ref().copied(),
            _ => None,
        }
    }
}

impl From<ProducerError> for Error {
    fn from(cause: ProducerError) -> Self {
        Error::refused(cause)
    }
}
