//! What is asked of a transaction, and what has to be done outside for it.

use std::collections::BTreeSet;

use aqueduct_api::TopicPartition;
use kafka_protocol::ResponseError;

use super::entry::Entry;

/// Milliseconds since 1970: what is kept goes by them, and outlives a clock that begins anew.
pub(crate) type Millis = i64;

/// By what an answer is known: chosen by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Who somebody says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// As it was given.
    pub(crate) producer_id: i64,
    /// As it was given.
    pub(crate) epoch: i16,
}

/// An InitProducerId request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Init {
    /// How long a transaction may take, in milliseconds.
    pub(crate) timeout: i32,
    /// Who it was before, where it goes on after an error (KIP-360).
    pub(crate) expected: Option<Who>,
}

/// An EndTxn request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Who asks.
    pub(crate) who: Who,
    /// Whether the transaction counts.
    pub(crate) commits: bool,
    /// Which rules the client goes by: see [`Entry::client_version`].
    pub(crate) client_version: i16,
}

/// What a client is told: who it is from now on, or what is wrong.
pub(crate) type Answer = Result<Who, ResponseError>;

/// What has to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// A request is answered.
    Answer(Ticket, Answer),
    /// This is to be saved, `None`: forgotten; and the transaction told how it went. Nothing else is saved meanwhile.
    Save(Option<Entry>),
    /// Partitions are to be told of the outcome until they know, and the transaction told of each that does. What its
    /// producer was allowed to write before is there first.
    Mark(Outcome, BTreeSet<TopicPartition>),
}

/// What partitions are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Whose transaction, under an epoch below which nobody may write any more.
    pub(crate) who: Who,
    /// Whether it counts.
    pub(crate) commits: bool,
}
