//! Transactions as a log keeps them: which records a reader sees of them, and the marker that ends one.

use aqueduct_record::{Batch, BatchBuilder, BatchError, Control, Offset, control_kind};
use async_trait::async_trait;
use bytes::Bytes;

use crate::log::{Appended, Read};
use crate::{Result, TopicPartition};

/// A log whose producers write in transactions, as Kafka's do (KIP-98): a batch that says that it is transactional belongs to
/// the transaction that its producer has open in the partition, or begins it, and a marker ends it.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Writes the marker that ends what a producer has open in a partition. It is written even where nothing is open, and may
    /// be sent again by a coordinator that does not know whether it was written. Batches and markers of older epochs of the
    /// producer are `Refused` from then on, as is a marker of a coordinator that was replaced, each with a
    /// [`crate::ProducerError`]; everything else is as with [`crate::Log::append`].
    async fn end(&self, of: &TopicPartition, marker: Marker) -> Result<Appended>;
}

/// What ends a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer whose transaction it is.
    pub producer_id: i64,
    /// The producer's epoch; older ones are fenced from then on.
    pub epoch: i16,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// Whether the transaction's records count.
    pub committed: bool,
}

impl Marker {
    /// The version of the marker's value, which is followed by the coordinator's epoch.
    const VERSION: [u8; 2] = [0, 0];

    /// The control batch that says so, written at `now`, in ms since 1970.
    pub fn to_batch(self, now: i64) -> Batch {
        let key = if self.committed { Control::Commit } else { Control::Abort }.key();
        let mut value = [0; 6];
        value[..2].copy_from_slice(&Marker::VERSION);
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::with_capacity(128).producer(self.producer_id, self.epoch, -1);
        builder = builder.transactional().control();
        builder.push(now, Some(&key), Some(&value), &[]);
        builder.finish()
    }

    /// What a batch says, if it is the marker of a transaction's end. Later versions of the value may append to it.
    pub fn of(batch: &Batch) -> Option<Marker> {
        let header = batch.header();
        if !header.attributes.is_control() {
            return None;
        }
        let records = batch.records().ok()?;
        let record = records.iter().next()?.ok()?;
        let committed = match control_kind(&record)? {
            Control::Commit => true,
            Control::Abort => false,
            Control::Other(_) => return None,
        };
        let coordinator_epoch = i32::from_be_bytes(*record.value?.get(2..)?.first_chunk()?);
        Some(Marker { producer_id: header.producer_id, epoch: header.producer_epoch, coordinator_epoch, committed })
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All up to the high watermark: those of open and of aborted transactions too.
    Uncommitted,
    /// All up to the last stable offset, and it is told which of them were aborted.
    Committed,
}

/// A transaction whose records do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aborted {
    /// The producer.
    pub producer_id: i64,
    /// Its first record in the partition.
    pub first: Offset,
    /// The marker that ended it.
    pub last: Offset,
}

impl Aborted {
    /// Whether a batch is part of it.
    pub fn holds(&self, batch: &Batch) -> bool {
        let header = batch.header();
        header.attributes.is_transactional()
            && header.producer_id == self.producer_id
            && (self.first..=self.last).contains(&header.base_offset)
    }
}

impl Read {
    /// What a reader of records sees: the batches in order, and in the place of each that was aborted, or holds the log's own
    /// marks, one of the same offsets without records.
    pub fn into_batches(self) -> ReadBatches {
        ReadBatches { rest: self.batches, aborted: self.aborted, hides_transactions: false }
    }

    /// The same for who looks for what the runtime itself has written, up to the high watermark: that is in no transaction,
    /// and may lie behind somebody else's open one.
    pub fn into_own_batches(self) -> ReadBatches {
        ReadBatches { hides_transactions: true, ..self.into_batches() }
    }
}

/// The batches of a [`Read`], see [`Read::into_batches`].
pub struct ReadBatches {
    rest: Bytes,
    aborted: Vec<Aborted>,
    hides_transactions: bool,
}

impl Iterator for ReadBatches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        // The log has checked the sums of what it hands out.
        let (batch, rest) = match Batch::split_checked(&self.rest) {
            Ok(split) => split?,
            Err(cause) => {
                self.rest = Bytes::new();
                return Some(Err(cause));
            }
        };
        self.rest = rest;
        let attributes = batch.header().attributes;
        let is_hidden = attributes.is_control()
            || attributes.is_transactional()
                && (self.hides_transactions || self.aborted.iter().any(|aborted| aborted.holds(&batch)));
        Some(Ok(if is_hidden { without_records(&batch) } else { batch }))
    }
}

fn without_records(batch: &Batch) -> Batch {
    let header = batch.header();
    BatchBuilder::remainder_of(&header, None).finish().at(header.base_offset, header.leader_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch((id, is_transactional): (i64, bool), base: Offset, values: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new().producer(id, 0, 0);
        if is_transactional {
            builder = builder.transactional();
        }
        values.iter().for_each(|value| builder.push(1, None, Some(value.as_bytes()), &[]));
        builder.finish().at(base, 3)
    }

    #[test]
    fn a_marker_is_read_back_from_its_batch() {
        for committed in [false, true] {
            let marker = Marker { producer_id: 1 << 40, epoch: 7, coordinator_epoch: 70_000, committed };
            let batch = marker.to_batch(5);
            let header = batch.header();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!((header.base_sequence, header.count, header.max_timestamp), (-1, 1, 5));
            assert_eq!(Marker::of(&batch), Some(marker));
        }
        assert_eq!(Marker::of(&batch((1, true), 0, &["a"])), None);
        let mut other = BatchBuilder::new().producer(1, 0, -1).control();
        other.push(1, Some(&Control::Other(2).key()), Some(&[0; 6]), &[]);
        assert_eq!(Marker::of(&other.finish()), None);
    }

    #[test]
    fn what_was_aborted_and_the_log_s_own_marks_are_read_without_records() {
        let abort = Marker { producer_id: 1, epoch: 0, coordinator_epoch: 0, committed: false };
        let all = [
            batch((1, true), 0, &["before"]),
            batch((1, true), 1, &["aborted", "aborted"]),
            batch((2, true), 3, &["another's"]),
            batch((1, false), 4, &["not in a transaction"]),
            abort.to_batch(9).at(5, 3),
            batch((1, true), 6, &["after"]),
        ];
        let batches: Vec<u8> = all.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
        let aborted = vec![Aborted { producer_id: 1, first: 1, last: 5 }];
        let read = Read { batches: batches.into(), lost: None, aborted };
        let seen = |batches: ReadBatches| -> Vec<_> {
            let seen = |batch: Batch| (batch.base_offset(), batch.next_offset(), batch.count());
            batches.map(|batch| seen(batch.unwrap())).collect()
        };
        assert_eq!(
            seen(read.clone().into_batches()),
            [(0, 1, 1), (1, 3, 0), (3, 4, 1), (4, 5, 1), (5, 6, 0), (6, 7, 1)]
        );
        let own: Vec<_> = seen(read.into_own_batches()).into_iter().filter(|(.., count)| *count > 0).collect();
        assert_eq!(own, [(4, 5, 1)]);
    }

    #[test]
    fn bytes_that_are_no_batch_are_told_once() {
        let mut seen = Read { batches: vec![0; 70].into(), ..Read::default() }.into_batches();
        assert!(seen.next().unwrap().is_err());
        assert!(seen.next().is_none());
    }
}
