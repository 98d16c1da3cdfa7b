//! Old segments go: by age, by size, and where the configuration says so, to make room. Never past what somebody holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{CleanupPolicy, Result};
use aqueduct_record::Offset;

use crate::folder::at;
use crate::partition::Partition;
use crate::segment::Segment;
use crate::topic::Registry;

/// Records that were deleted though nobody had read them, to make room.
#[derive(Default)]
pub(crate) struct Dropped {
    pub(crate) offsets: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Partition {
    /// The offset that retention and compaction do not pass.
    pub(crate) fn limit_of_cleaning(&self) -> Offset {
        match self.holds.first() {
            _ if self.is_spared() => 0,
            Some(held) if !fault::mutated(Mutant::RetentionPastPin) => held,
            _ => Offset::MAX,
        }
    }

    /// Whether all that the last segment holds may go, or it is older than segments get: a new one is due then.
    pub(crate) fn wants_new_segment(&self) -> Result<bool> {
        let settings = self.settings();
        let now = self.shared.edge.now();
        let found = self.writer.lock().active.as_ref().map(|active| (active.segment.clone(), active.size, active.born));
        let Some((segment, size, born)) = found.filter(|(_, size, _)| *size > 0) else { return Ok(false) };
        debug_assert!(size > 0, "an empty segment is as good as new");
        if settings.segment_age.duration().is_some_and(|age| is_past(born, age, now)) {
            return Ok(true);
        }
        let is_held = self.limit_of_cleaning() < self.bounds().end;
        let is_delete = settings.cleanup == CleanupPolicy::Delete;
        let Some(age) = settings.retention.duration().filter(|_| is_delete && !is_held) else { return Ok(false) };
        Ok(self.latest_in(&segment)?.is_some_and(|latest| is_past(latest, age, now)))
    }

    /// Deletes closed segments that are past `retention.ms` or `retention.bytes`. Blocks.
    pub(crate) fn retain(&self) -> Result<()> {
        let settings = self.settings();
        if settings.cleanup != CleanupPolicy::Delete {
            return Ok(());
        }
        let now = self.shared.edge.now();
        // Of an open transaction nothing goes either.
        let limit = self.limit_of_cleaning().min(self.stable());
        let mut bytes: u64 = self.segments.read().values().map(|segment| segment.extent().size).sum();
        let mut expired = Vec::new();
        for segment in self.closed_segments() {
            let extent = segment.extent();
            if extent.bound > limit {
                break;
            }
            let is_surplus = settings.retention_bytes.is_some_and(|most| bytes.saturating_sub(extent.size) >= most.0);
            let is_old = match settings.retention.duration() {
                Some(age) if !is_surplus => self.latest_in(&segment)?.is_none_or(|latest| is_past(latest, age, now)),
                _ => false,
            };
            if !is_surplus && !is_old {
                break;
            }
            bytes -= extent.size;
            expired.push(segment);
        }
        self.drop_segments(&expired)
    }

    /// The latest timestamp in a segment; where its records have none, when it was last written.
    fn latest_in(&self, segment: &Segment) -> Result<Option<i64>> {
        match segment.with_index(&self.shared, |index| index.max_timestamp())?.flatten() {
            Some(-1) => Ok(self.shared.disk().metadata(segment.path(), true).ok().map(|found| found.modified)),
            latest => Ok(latest),
        }
    }

    /// Takes the first segments out of the partition, and removes their files. None goes while an older one stays: a
    /// segment's end is known by where the next begins, and what a failed sync left behind it must not count again.
    pub(crate) fn drop_segments(&self, doomed: &[Arc<Segment>]) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        for segment in doomed {
            segment.retire(&self.shared);
            self.segments.write().remove(&segment.base);
            // Removing a large file takes its time, and who appends or reads does not wait for it.
            if let Err(cause) = segment.remove(&self.shared) {
                segment.revive();
                self.segments.write().insert(segment.base, segment.clone());
                return Err(at(segment.path())(cause));
            }
            tracing::info!(segment = %segment.path().display(), "segment deleted: its retention is over");
        }
        self.watchers.tell();
        self.shared.disk().sync_folder(&self.folder).map_err(at(&self.folder))?;
        self.shared.room.ask_again();
        Ok(())
    }
}

impl Registry {
    /// Makes room by deleting the oldest closed segments of topics that delete, held or not, until `is_enough`: dead letters
    /// last, which nobody has anywhere else, and internal topics never.
    pub(crate) fn drop_oldest(&self, mut is_enough: impl FnMut() -> bool) -> Result<()> {
        while !is_enough() {
            let Some((partition, segment)) = self.oldest_segment()? else { return Ok(()) };
            // Whoever cleans or deletes there makes room already.
            let Some(_turn) = partition.cleaning.try_lock() else { return Ok(()) };
            if partition.stopped().is_some() || segment.is_retired() {
                return Ok(());
            }
            let extent = segment.extent();
            partition.drop_segments(std::slice::from_ref(&segment))?;
            let unread = partition.limit_of_cleaning() < extent.bound;
            tracing::error!(
                topic = %partition.of.topic,
                partition = partition.of.partition,
                from = segment.base,
                to = extent.bound,
                bytes = extent.size,
                unread,
                dead_letters = partition.settings().dead_letters,
                "disk full: these offsets were deleted to make room, as `when-full: drop-oldest` asks"
            );
            let dropped = &partition.shared.dropped;
            dropped.offsets.fetch_add((extent.bound - segment.base) as u64, Ordering::Relaxed);
            dropped.bytes.fetch_add(extent.size, Ordering::Relaxed);
        }
        Ok(())
    }

    fn oldest_segment(&self) -> Result<Option<(Arc<Partition>, Arc<Segment>)>> {
        let mut oldest = None;
        for partition in self.partitions() {
            if partition.is_internal() || partition.settings().cleanup != CleanupPolicy::Delete {
                continue;
            }
            let Some(first) = partition.closed_segments().into_iter().next() else { continue };
            let latest = partition.latest_in(&first)?.unwrap_or(i64::MIN);
            let turn = (partition.settings().dead_letters, latest);
            if oldest.as_ref().is_none_or(|(than, _, _)| turn < *than) {
                oldest = Some((turn, partition, first));
            }
        }
        Ok(oldest.map(|(_, partition, segment)| (partition, segment)))
    }
}

fn is_past(since: i64, age: Duration, now: i64) -> bool {
    now.saturating_sub(since) as i128 > age.as_millis() as i128
}
