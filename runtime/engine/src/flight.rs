//! One batch from its place in the log to being durable.

use std::sync::Arc;

use aqueduct_api::{Done, Result, TopicPartition};
use aqueduct_record::Offset;
use futures::future::BoxFuture;

use crate::budget::Taken;
use crate::counters::{Counters, InFlight};
use crate::placing::{Kind, Unplaced};
use crate::positions::Known;

pub(crate) type Landing = BoxFuture<'static, (Flight, Result<()>)>;

/// One `Incoming` from its place in the log to being durable.
pub(crate) struct Flight {
    pub(crate) known: Option<Known>,
    pub(crate) done: Option<Done>,
    pub(crate) at: Option<(TopicPartition, Offset, Offset)>,
    /// The partition that the stream keeps.
    pub(crate) partition: TopicPartition,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    _counted: InFlight,
    pub(crate) kind: Kind,
    pub(crate) once: Option<u64>,
    charge: Option<Taken>,
}

impl Flight {
    /// It has its place, if it needs one.
    pub(crate) fn begin(
        unplaced: Unplaced,
        at: Option<(TopicPartition, Offset, Offset)>,
        counters: &Arc<Counters>,
    ) -> Flight {
        let bytes = unplaced.batch.as_ref().map_or(0, |batch| batch.size() as u64);
        Flight {
            known: unplaced.known,
            done: unplaced.done,
            at,
            partition: unplaced.partition,
            records: unplaced.batch.as_ref().map_or(0, |batch| u64::from(batch.count())),
            bytes,
            _counted: InFlight::new(counters, bytes),
            kind: unplaced.kind,
            once: unplaced.once,
            charge: unplaced.charge,
        }
    }

    pub(crate) fn is_in_own_room(&self) -> bool {
        self.bytes > 0 && self.charge.is_none()
    }
}
