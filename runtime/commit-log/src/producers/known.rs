//! What is known of one producer: its epoch, its last batches and its transaction.

use aqueduct_record::{Header, Offset};

/// Batches of a producer that are known again: as many as a client has in flight.
const KNOWN_BATCHES: usize = 5;

/// What is known of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: i16,
    /// Its last batches in this epoch, the last one last.
    pub(crate) sent: Vec<Sent>,
    /// When it was last heard of, in ms since 1970.
    pub(crate) seen: i64,
    /// The epoch of the coordinator that ended its last transaction; -1: none did.
    pub(crate) coordinator_epoch: i32,
    /// Where the transaction begins that it has open.
    pub(crate) open: Option<Offset>,
}

/// A batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The sequence number of its first record.
    pub(crate) sequence: i32,
    /// That of its last record, and its last offset, less those of its first.
    pub(crate) delta: i32,
    pub(crate) base: Offset,
    /// Its latest timestamp.
    pub(crate) timestamp: i64,
}

impl Sent {
    pub(super) fn of(header: &Header, base: Offset) -> Self {
        let (sequence, delta, timestamp) = (header.base_sequence, header.last_offset_delta, header.max_timestamp);
        Sent { sequence, delta, base, timestamp }
    }

    /// The offset after it.
    pub(crate) fn next(&self) -> Offset {
        self.base + i64::from(self.delta) + 1
    }

    /// The sequence number of its last record: after the largest comes 0.
    pub(super) fn last_sequence(&self) -> i32 {
        let left = i32::MAX - self.sequence;
        if self.delta <= left { self.sequence + self.delta } else { self.delta - left - 1 }
    }
}

impl Known {
    pub(super) fn new(epoch: i16, now: i64) -> Self {
        Known { epoch, sent: Vec::new(), seen: now, coordinator_epoch: -1, open: None }
    }

    /// Goes on under another epoch; a transaction that is open stays so until its marker comes.
    pub(super) fn begin_epoch(&mut self, epoch: i16) {
        self.epoch = epoch;
        self.sent.clear();
    }

    pub(super) fn last_sequence(&self) -> i32 {
        self.sent.last().map_or(-1, Sent::last_sequence)
    }

    /// Notes a batch, and returns the one that is not known any more for it.
    pub(super) fn push(&mut self, batch: Option<Sent>) -> Option<Sent> {
        let batch = batch?;
        let dropped = (self.sent.len() == KNOWN_BATCHES).then(|| self.sent.remove(0));
        self.sent.push(batch);
        dropped
    }

    /// The sequence number that the next batch has to have.
    pub(super) fn expected(&self) -> i32 {
        self.last_sequence().checked_add(1).unwrap_or(0)
    }
}
