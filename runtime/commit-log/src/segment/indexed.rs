//! A segment's index: in memory while it is written to, else read from its files, or made anew where they do not fit.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::disk::Open;
use aqueduct_api::fault;
use aqueduct_api::{Error, Result};
use aqueduct_record::Offset;

use super::Segment;
use crate::folder::{at, read_whole};
use crate::index::Index;
use crate::names::{ABORTED, INDEX, TIME_INDEX};
use crate::shared::Shared;
use crate::walk::{Step, Walk, Window};

impl Segment {
    /// Changes the index of a segment that is written to; `None` when the segment was removed.
    pub(crate) fn change_index(&self, shared: &Shared, change: impl FnOnce(&mut Index)) -> Result<()> {
        if self.state.read().live.is_none() {
            let index = self.with_index(shared, Index::clone)?;
            let index = index.ok_or_else(|| Error::retry(format!("{} was removed", self.path.display())))?;
            let mut state = self.state.write();
            // What is there already is somebody else's.
            state.own_from = state.own_from.min(state.extent.size);
            state.live.get_or_insert(index);
        }
        if let Some(index) = &mut self.state.write().live {
            change(index);
        }
        Ok(())
    }

    /// Looks into the index, reading or rebuilding it first; `None` when the segment was removed.
    pub(crate) fn with_index<T>(&self, shared: &Shared, look: impl FnOnce(&Index) -> T) -> Result<Option<T>> {
        if let Some(index) = &self.state.read().live {
            return Ok(Some(look(index)));
        }
        if let Some(index) = shared.indexes.get(self.id) {
            return Ok(Some(look(&index)));
        }
        let index = match self.read_index(shared)? {
            Some(index) => index,
            None => match self.rebuild_index(shared)? {
                Some(index) => index,
                None => return Ok(None),
            },
        };
        let index = Arc::new(index);
        shared.indexes.put(self.id, index.clone());
        Ok(Some(look(&index)))
    }

    /// The index as the files have it, when they fit the segment.
    fn read_index(&self, shared: &Shared) -> Result<Option<Index>> {
        let [offsets, times, aborted] = self.index_paths();
        let offsets = read_whole(shared.disk(), &offsets).map_err(at(&offsets))?;
        let times = read_whole(shared.disk(), &times).map_err(at(&times))?;
        // One that can not be read is made anew, as one that is gone.
        let aborted = || read_whole(shared.disk(), &aborted).ok().flatten();
        let found = offsets.zip(times).and_then(|(offsets, times)| Index::from_files(&offsets, &times, aborted));
        let Some((index, size)) = found else { return Ok(None) };
        if self.goes_on_at(size, shared)? {
            return Ok(None);
        }
        let mut state = self.state.write();
        if size == state.extent.size || size < state.extent.size && !state.is_exact {
            state.extent.size = size;
            state.is_exact = true;
            return Ok(Some(index));
        }
        Ok(None)
    }

    /// Whether a batch of the segment begins at `size`: an index that ends there is older than the segment, as one of an
    /// earlier clean stop is when a crash undid the later one.
    fn goes_on_at(&self, size: u64, shared: &Shared) -> Result<bool> {
        let extent = self.extent();
        if size >= extent.size {
            return Ok(false);
        }
        let Some(file) = self.file(shared)? else { return Ok(false) };
        let next = Window::over_all(file, extent.size).checked_header(size).map_err(at(&self.path))?;
        Ok(next.is_some_and(|next| (self.base..extent.bound).contains(&next.base_offset)))
    }

    /// Walks all batches of a segment whose index is missing or does not fit.
    fn rebuild_index(&self, shared: &Shared) -> Result<Option<Index>> {
        let Some(file) = self.file(shared)? else { return Ok(None) };
        tracing::info!(segment = %self.path.display(), "rebuilding an index that is missing or does not fit its segment");
        let bound = self.extent().bound;
        let is_exact = self.state.read().is_exact;
        let mut walk = Walk::new(self, file, 0, self.base);
        if !is_exact {
            // What a failed sync left behind lies past the bound: it is told from damage by being whole.
            walk.bound = Offset::MAX;
        }
        let mut index = Index::new();
        let mut size = 0;
        loop {
            let (position, expected) = (walk.position, walk.expected);
            match walk.next()? {
                Step::Batch(batch) if batch.header.base_offset >= bound => {
                    if walk.is_whole(&batch)? {
                        break;
                    }
                    (walk.position, walk.expected) = (position, expected);
                    walk.find_end_of_damage()?;
                }
                Step::Batch(batch) => {
                    index.add(self.base, &batch.header, batch.header.base_offset, batch.position);
                    if batch.header.attributes.is_control() {
                        // Where the transaction began that it may have ended, only the segments before can say.
                        index.set_aborted(None);
                    }
                    size = batch.end();
                }
                Step::Damaged(damage) => size = damage.resume,
                Step::End => break,
            }
        }
        let mut state = self.state.write();
        if !is_exact {
            state.extent.size = size;
            state.is_exact = true;
            for damage in &mut state.damage {
                damage.to = damage.to.min(bound);
            }
        }
        drop(state);
        self.store_index(shared, &index);
        Ok(Some(index))
    }

    /// Ends the writing: the index goes to disk, and is read from there when somebody asks.
    pub(crate) fn close(&self, shared: &Shared) {
        let Some(index) = self.take_index() else { return };
        self.store_index(shared, &index);
        shared.indexes.put(self.id, Arc::new(index));
    }

    fn take_index(&self) -> Option<Index> {
        let mut state = self.state.write();
        let index = state.live.take()?;
        state.first_aborted = index.first_aborted();
        Some(index)
    }

    /// Writes the index files: not synced, since a torn one is noticed and made anew.
    pub(crate) fn store_index(&self, shared: &Shared, index: &Index) {
        let files = index.to_files(self.extent().size);
        let [offsets, times, aborted] = self.index_paths();
        let write = |path: &Path, content: &[u8]| {
            let file = shared.disk().open(path, Open::Write)?;
            file.truncate(0)?;
            fault::point("index.write");
            file.write_at(&[IoSlice::new(content)], 0).map(|()| file)
        };
        // Aborted transactions come first, and durably: making that file anew takes all segments before.
        let written = match &files.aborted {
            Some(content) => write(&aborted, content).and_then(|file| file.sync()),
            None => Ok(()),
        };
        let written = written.and_then(|()| write(&offsets, &files.offsets)).and_then(|_| write(&times, &files.times));
        if let Err(cause) = written {
            tracing::warn!(segment = %self.path.display(), %cause, "index not written: it is built anew when needed");
        }
    }

    pub(super) fn index_paths(&self) -> [PathBuf; 3] {
        [INDEX, TIME_INDEX, ABORTED].map(|extension| self.path.with_extension(extension))
    }
}
