//! Where one segment ends and the next one begins.

use std::sync::Arc;

use aqueduct_api::disk::Open;
use aqueduct_api::fault;
use aqueduct_api::{Result, TopicSettings};
use aqueduct_record::Offset;

use crate::folder::{at, remove_if_there, sync_parent};
use crate::index::Index;
use crate::names::{self, LOG};
use crate::partition::Partition;
use crate::queue::Pending;
use crate::segment::{Extent, Segment};
use crate::writer::{Active, Writer};

/// The positions in an index have 32 bits.
const LARGEST_SEGMENT: u64 = u32::MAX as u64;

/// How large a segment may get.
pub(crate) fn most_bytes(settings: &TopicSettings) -> u64 {
    settings.segment_bytes.0.min(LARGEST_SEGMENT)
}

impl Partition {
    pub(crate) fn is_roll_due(&self, writer: &Writer, settings: &TopicSettings, next: &Pending) -> bool {
        let Some(active) = &writer.active else { return false };
        let is_old = settings
            .segment_age
            .duration()
            .is_some_and(|age| self.shared.edge.now().saturating_sub(active.born) >= age.as_millis() as i64);
        let is_full = active.size + next.batch.size() as u64 > most_bytes(settings);
        active.size > 0 && (is_old || is_full) || next.base - active.segment.base > i64::from(i32::MAX)
    }

    /// Where the segment begins that takes `next`: where the one before it ends, so that nothing behind that one's end can
    /// ever count, and no offset that was left out looks lost. A partition begins with its first batch, and an index does not
    /// reach across any gap.
    pub(crate) fn next_base(&self, writer: &Writer, next: &Pending) -> Offset {
        let is_near = next.base - writer.written <= i64::from(i32::MAX);
        match (is_near || writer.is_void) && !self.segments.read().is_empty() {
            true => writer.written,
            false => next.base,
        }
    }

    /// Closes the active segment, synced, unless it is empty.
    pub(crate) fn roll_active(&self, writer: &mut Writer) -> Result<()> {
        self.sync_file(writer)?;
        if let Some(active) = writer.active.take() {
            active.segment.set_extent(Extent { size: active.size, bound: writer.written });
            active.segment.close(&self.shared);
            fault::point("roll");
        }
        Ok(())
    }

    /// Begins a segment at `base`. Its name is durable before anything in it is acknowledged, and its base is the end from
    /// then on: what is left out before it can not be used any more.
    pub(crate) fn begin_segment(&self, writer: &mut Writer, base: Offset) -> Result<()> {
        if writer.epoch_due {
            self.shared.raise_epoch()?;
            writer.epoch_due = false;
        }
        self.remove_begun(writer, base)?;
        self.note_producers(writer, base)?;
        let fresh = names::path(&self.folder, base, "fresh");
        let path = names::path(&self.folder, base, LOG);
        let make = || {
            let disk = self.shared.disk();
            remove_if_there(disk, &fresh)?;
            let file = disk.open(&fresh, Open::New)?;
            // A segment of the same name holds nothing that is kept: a failed sync voided it.
            disk.rename(&fresh, &path)?;
            sync_parent(disk, &path)?;
            Ok(file)
        };
        let made = if self.is_internal() { self.shared.room.or_on_ballast(make) } else { make() };
        let file = made.map_err(at(&path))?;
        fault::point("roll");
        (writer.begun, writer.is_void) = (None, false);
        (writer.written, writer.synced) = (base, base);
        self.drop_old_producers(writer);
        let extent = Extent { size: 0, bound: base };
        let segment = Arc::new(Segment::live(&self.shared, &self.folder, base, extent, Index::new()));
        self.shared.files.put(segment.id, file);
        let mut segments = self.segments.write();
        if let Some((_, last)) = segments.last_key_value() {
            last.set_bound(base);
        }
        if let Some(replaced) = segments.insert(base, segment.clone()) {
            replaced.retire(&self.shared);
        }
        let is_first = segments.len() == 1;
        drop(segments);
        writer.active = Some(Active { segment, size: 0, synced_size: 0, born: self.shared.edge.now() });
        if is_first && self.high_watermark() < base {
            self.set_high_watermark(base);
        }
        Ok(())
    }

    /// Removes what is left of a segment that could not be begun, unless it is begun again: after a crash its name would end
    /// what is written before it.
    fn remove_begun(&self, writer: &mut Writer, base: Offset) -> Result<()> {
        if let Some(begun) = writer.begun.filter(|begun| *begun != base) {
            let path = names::path(&self.folder, begun, LOG);
            let disk = self.shared.disk();
            remove_if_there(disk, &path).and_then(|()| disk.sync_folder(&self.folder)).map_err(at(&path))?;
        }
        writer.begun = (base > writer.written).then_some(base);
        Ok(())
    }
}
