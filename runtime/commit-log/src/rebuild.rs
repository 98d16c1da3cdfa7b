//! Who wrote to a partition before a segment, after a crash: as a file beside the segment says, or read again from the headers
//! of the batches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aqueduct_api::Result;
use aqueduct_record::Offset;

use crate::producers::Producers;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::snapshots::{load, store};
use crate::walk::{Step, Walk};

/// What there is to learn it from.
pub(crate) struct Rebuild<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) folder: &'a Path,
    /// The segments before the last one.
    pub(crate) closed: &'a BTreeMap<Offset, Arc<Segment>>,
    /// Where the last segment begins.
    pub(crate) base: Offset,
}

impl Rebuild<'_> {
    /// What is known where the last segment begins; `snapshots` are the segments beside which a file says so.
    pub(crate) fn known_before(&self, snapshots: &mut Vec<Offset>) -> Result<Producers> {
        for from in snapshots.iter().rev().copied() {
            match load(self.shared.disk(), self.folder, from)? {
                Some(known) if from == self.base => return Ok(known),
                Some(known) => return self.go_on(known, from, snapshots),
                None => {}
            }
        }
        match snapshots.is_empty() {
            true => Ok(Producers::default()),
            false => self.known_anew(snapshots),
        }
    }

    /// The same from the batches alone.
    pub(crate) fn known_anew(&self, snapshots: &mut Vec<Offset>) -> Result<Producers> {
        self.go_on(Producers::default(), Offset::MIN, snapshots)
    }

    /// Reads the batches from an offset on, and writes the file that is missing.
    fn go_on(&self, mut known: Producers, from: Offset, snapshots: &mut Vec<Offset>) -> Result<Producers> {
        tracing::warn!(
            folder = %self.folder.display(),
            from,
            to = self.base,
            "what is known of producers is read again from the batches"
        );
        for segment in self.closed.values().filter(|segment| segment.extent().bound > from) {
            self.replay(segment, from, &mut known)?;
        }
        snapshots.retain(|base| *base < self.base);
        match store(self.shared.disk(), self.folder, self.base, &known) {
            Ok(()) => snapshots.push(self.base),
            // A full disk is no reason not to start.
            Err(cause) => tracing::warn!(folder = %self.folder.display(), %cause, "it is not written down"),
        }
        Ok(known)
    }

    /// Learns from a segment's batches.
    pub(crate) fn replay(&self, segment: &Segment, from: Offset, known: &mut Producers) -> Result<()> {
        // The index is loaded first, since it knows where the batches of a recovered segment end.
        segment.with_index(self.shared, |_| ())?;
        let Some(file) = segment.file(self.shared)? else { return Ok(()) };
        let now = self.shared.edge.now();
        let mut walk = Walk::new(segment, file, 0, segment.base);
        loop {
            match walk.next()? {
                Step::Batch(batch) if batch.header.base_offset >= from => known.replay(&batch.header, now),
                Step::Batch(_) | Step::Damaged(_) => {}
                Step::End => return Ok(()),
            }
        }
    }
}
