//! What compaction leaves of transactions: nothing of aborted records, and a marker until it has been without records of its
//! transaction for a while.

use std::collections::BTreeSet;
use std::sync::Arc;

use aqueduct_api::{Aborted, Error, Marker, Result};
use aqueduct_record::{Batch, BatchBuilder};

use crate::aborted::Entry;
use crate::partition::Partition;
use crate::segment::Segment;

impl Partition {
    /// Until when what is marked for deletion now is kept for readers that are under way.
    pub(crate) fn horizon(&self) -> i64 {
        let retention = self.settings().tombstone_retention.duration();
        let now = self.shared.edge.now();
        retention.map_or(i64::MAX, |retention| now.saturating_add(retention.as_millis() as i64))
    }

    /// What is left of a marker: all of it as long as there are records of its transaction, and for a while after.
    pub(crate) fn marker_left(
        &self,
        batch: &Batch,
        marker: &Marker,
        must_stay: bool,
        transactions: &mut Transactions,
    ) -> Option<Batch> {
        let header = batch.header();
        match header.delete_horizon() {
            _ if transactions.ended(marker) || must_stay => Some(batch.clone()),
            Some(horizon) if horizon < self.shared.edge.now() => None,
            Some(_) => Some(batch.clone()),
            None => {
                let mut builder = BatchBuilder::remainder_of(&header, Some(self.horizon()));
                for record in batch.records().ok()?.iter().flatten() {
                    builder.push_record((record.offset - header.base_offset) as i32, &record);
                }
                Some(builder.finish().at(header.base_offset, header.leader_epoch))
            }
        }
    }

    /// The transactions that were aborted with records in a segment.
    pub(crate) fn aborted_within(&self, segment: &Arc<Segment>) -> Result<Vec<Aborted>> {
        let found = self.aborted(segment, segment.base..segment.extent().bound)?;
        found.ok_or_else(|| Error::retry(format!("{} was removed", segment.path().display())))
    }

    /// The transactions that were aborted with a marker in a segment.
    pub(crate) fn aborted_in(&self, segment: &Arc<Segment>) -> Result<Vec<Entry>> {
        match segment.with_index(&self.shared, |index| index.aborted().map(<[Entry]>::to_vec))?.flatten() {
            Some(aborted) => Ok(aborted),
            None => self.learn_aborted(segment),
        }
    }
}

/// Of which transactions there were records before, from the partition's start on.
pub(crate) struct Transactions {
    /// By producer.
    seen: BTreeSet<i64>,
    /// False once something could not be read.
    pub(crate) are_known: bool,
}

impl Default for Transactions {
    fn default() -> Self {
        Transactions { seen: BTreeSet::new(), are_known: true }
    }
}

impl Transactions {
    pub(crate) fn saw(&mut self, batch: &Batch) {
        if batch.header().attributes.is_transactional() && batch.count() > 0 {
            self.seen.insert(batch.header().producer_id);
        }
    }

    /// Whether there may have been records of the transaction that a marker ended.
    fn ended(&mut self, marker: &Marker) -> bool {
        self.seen.remove(&marker.producer_id) || !self.are_known
    }
}

pub(crate) fn is_aborted(batch: &Batch, aborted: &[Aborted]) -> bool {
    aborted.iter().any(|aborted| aborted.holds(batch))
}
