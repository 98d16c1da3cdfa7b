//! Whether transactions were aborted with a marker in a segment, without its index where that is not needed.

use std::io;
use std::sync::Arc;

use aqueduct_api::Result;
use aqueduct_api::disk::Open;
use aqueduct_record::Offset;

use super::Segment;
use crate::aborted::Entry;
use crate::index::Index;
use crate::shared::Shared;

impl Segment {
    /// Whether a transaction that begins before `offset` may have been aborted with a marker in the segment.
    pub(crate) fn may_abort(&self, shared: &Shared, offset: Offset) -> Result<bool> {
        let (is_live, first) = {
            let state = self.state.read();
            (state.live.is_some(), state.first_aborted)
        };
        if let (false, Some(first)) = (is_live, first) {
            return Ok(first < offset);
        }
        if is_live {
            return Ok(true);
        }
        // The footer is enough where there are none, and the index need not be loaded.
        let first = match self.says_none_aborted(shared) {
            true => Some(Offset::MAX),
            false => self.with_index(shared, Index::first_aborted)?.flatten(),
        };
        self.state.write().first_aborted = first;
        Ok(first.is_none_or(|first| first < offset))
    }

    fn says_none_aborted(&self, shared: &Shared) -> bool {
        let [offsets, ..] = self.index_paths();
        let footer = || -> io::Result<Vec<u8>> {
            let file = shared.disk().open(&offsets, Open::Read)?;
            let mut footer = Vec::new();
            let from = file.metadata()?.length.saturating_sub(Index::FOOTER as u64);
            file.read_at(&mut footer, Index::FOOTER, from)?;
            Ok(footer)
        };
        footer().is_ok_and(|footer| Index::has_none_aborted(&footer, self.extent().size))
    }

    /// Says which transactions were aborted with a marker in it, where its index did not know.
    pub(crate) fn set_aborted(&self, shared: &Shared, aborted: &[Entry]) {
        if self.state.read().live.is_some() {
            // More may come meanwhile.
            return;
        }
        let Some(mut index) = shared.indexes.get(self.id).map(|index| (*index).clone()) else { return };
        index.set_aborted(Some(aborted.to_vec()));
        self.state.write().first_aborted = index.first_aborted();
        self.store_index(shared, &index);
        shared.indexes.put(self.id, Arc::new(index));
    }
}
