//! What a failed write or sync leaves in a file is void: it is cut, and the name of the next segment says that it does not
//! count, durably, before anybody hears of the failure.

use std::io;

use aqueduct_api::Error;
use aqueduct_api::disk::File;

use crate::partition::Partition;
use crate::segment::Extent;
use crate::writer::{Writer, fail};

impl Partition {
    /// Cuts what a failed write left, durably, before anybody hears that it failed; where that can not be done, a new
    /// segment's name says that it does not count.
    pub(crate) fn cut_half_written(&self, writer: &mut Writer, file: &dyn File) {
        let Some(active) = &writer.active else { return };
        match file.truncate(active.size) {
            Ok(()) if self.sync_active(writer).is_ok() => writer.is_void = false,
            // The failed sync has begun a segment.
            Ok(()) => {}
            Err(_) => {
                if self.roll_active(writer).is_ok() {
                    self.settle(writer);
                }
            }
        }
    }

    /// After a failed sync nobody knows what of the unsynced bytes is on disk, and reading them again proves nothing: they
    /// are void, and the partition goes on in a new segment from the last synced offset, under a new epoch.
    pub(crate) fn void_unsynced(&self, writer: &mut Writer, file: &dyn File, cause: &io::Error) -> Error {
        let active = writer.active.take().expect("what was to be synced is active");
        let (from, to) = (writer.synced.max(active.segment.base), writer.written);
        tracing::error!(
            topic = %self.of.topic,
            partition = self.of.partition,
            from,
            to,
            %cause,
            "sync failed: these offsets are void, and the partition goes on before them under a new leader epoch"
        );
        (writer.epoch_due, writer.is_void) = (true, true);
        (writer.written, writer.synced) = (from, from);
        // Not more than tidy: what counts for nothing may come back after a crash, until the next segment's name says so.
        let _ = file.truncate(active.synced_size);
        let segment = &active.segment;
        let cut = segment.change_index(&self.shared, |index| index.cut(active.synced_size, from));
        debug_assert!(cut.is_ok(), "the index of a segment that is written to is in memory");
        segment.set_extent(Extent { size: active.synced_size, bound: from });
        // Before what is void is taken back: until then its markers count as unread.
        self.set_high_watermark(self.high_watermark().min(from));
        segment.close(&self.shared);
        segment.unpin(&self.shared);
        let cause = Error::retry(format!("{}: offsets {from} to {to} could not be synced: {cause}", self.of));
        fail(self.give_back(from), &cause);
        self.settle(writer);
        cause
    }

    /// Begins the segment whose name says what of the one before it counts.
    fn settle(&self, writer: &mut Writer) {
        if let Err(cause) = self.begin_segment(writer, writer.written) {
            tracing::error!(
                topic = %self.of.topic,
                partition = self.of.partition,
                %cause,
                "nor could a segment be begun that says so: until that is done nothing is taken, and a crash may bring void \
                 records back"
            );
        }
    }

    /// Whether a crash could bring back what failed: a segment is due that says what counts, whoever appends or not.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.writer.try_lock().is_some_and(|writer| writer.is_unsettled())
    }
}
