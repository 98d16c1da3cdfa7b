//! Records that somebody asks to be rid of: the partition begins after them from then on, whatever happens, and segments that
//! lie before it whole go at once. Where it begins is the name of an empty file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_api::disk::{Disk, Open};
use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{CleanupPolicy, Error, Result};
use aqueduct_record::Offset;

use crate::folder::{at, remove_if_there};
use crate::names::{self, START};
use crate::partition::Partition;
use crate::segment::Segment;

impl Partition {
    /// Deletes the records before `to`, which is not past what is synced. Returns where the partition begins. Blocks.
    pub(crate) fn delete_before(&self, to: Offset) -> Result<Offset> {
        let _turn = self.cleaning.lock();
        self.check_there()?;
        if self.settings().cleanup != CleanupPolicy::Delete {
            return Err(Error::refused(format!("{} is compacted: its records go by their keys alone", self.of)));
        }
        if let Some(held) = self.holds.first().filter(|held| *held < to) {
            let holders = self.holds.holders().join(", ");
            return Err(Error::refused(format!("{}: {holders} needs its records from {held} on", self.of)));
        }
        let old = self.floor.load(Ordering::Acquire);
        // Where retention has come further that need not be durable, and a crash may undo it.
        if to > old {
            self.begin_at(to, old)?;
        }
        let bound = |segment: &Arc<Segment>| segment.extent().bound;
        let doomed: Vec<_> = self.closed_segments().into_iter().take_while(|segment| bound(segment) <= to).collect();
        // They are nobody's any more: what can not be removed now goes another time.
        if let Err(cause) = self.drop_segments(&doomed) {
            tracing::warn!(partition = %self.of, %cause, "segments of deleted records stay for now");
        }
        Ok(self.start())
    }

    fn begin_at(&self, to: Offset, old: Offset) -> Result<()> {
        let path = names::path(&self.folder, to, START);
        let disk = self.shared.disk();
        let sync = || match fault::mutated(Mutant::StartBeforeSync) {
            true => Ok(()),
            false => disk.sync_folder(&self.folder),
        };
        let noted = || disk.open(&path, Open::Write).and_then(|_| sync());
        if let Err(cause) = self.shared.room.or_on_ballast(noted) {
            // Who asked was refused, and others rely on the records from now on: no later start may begin there.
            let _ = remove_if_there(disk, &path);
            return Err(at(&path)(cause));
        }
        fault::point("deletion.noted");
        self.floor.store(to, Ordering::Release);
        self.watchers.tell();
        // The highest one counts.
        let _ = remove_if_there(disk, &names::path(&self.folder, old, START));
        tracing::info!(partition = %self.of, from = old, to, "records deleted, as was asked");
        Ok(())
    }
}

/// Where a partition in `folder` that ends at `end` begins, by the `starts` noted in it. An end before them is one that
/// damage has cut back: what is appended there was never deleted, so the start moves back for good before it can be.
pub(crate) fn start_of(disk: &dyn Disk, folder: &Path, starts: &[Offset], end: Offset) -> Result<Offset> {
    let asked = starts.iter().copied().max().unwrap_or(0);
    if asked <= end {
        return Ok(asked);
    }
    let path = |start| names::path(folder, start, START);
    disk.open(&path(end), Open::Write).and_then(|_| disk.sync_folder(folder)).map_err(at(&path(end)))?;
    for start in starts.iter().copied().filter(|start| *start > end) {
        remove_if_there(disk, &path(start)).map_err(at(&path(start)))?;
    }
    disk.sync_folder(folder).map_err(at(folder))?;
    tracing::warn!(folder = %folder.display(), asked, end, "records after the deleted ones are damaged: it begins at its end");
    Ok(end)
}
