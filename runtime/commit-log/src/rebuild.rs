//! Who wrote to a partition before a segment, after a crash: as a file beside the segment says, or read again from the headers
//! of the batches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aqueduct_api::Result;
use aqueduct_record::Offset;

use crate::aborted::Entry;
use crate::partition::Partition;
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
            replay(self.shared, segment, from, &mut known)?;
        }
        snapshots.retain(|base| *base < self.base);
        match store(self.shared.disk(), self.folder, self.base, &known) {
            Ok(()) => snapshots.push(self.base),
            // A full disk is no reason not to start.
            Err(cause) => tracing::warn!(folder = %self.folder.display(), %cause, "it is not written down"),
        }
        Ok(known)
    }
}

/// Learns from a segment's batches; returns the transactions that were aborted with a marker among them.
pub(crate) fn replay(shared: &Shared, segment: &Segment, from: Offset, known: &mut Producers) -> Result<Vec<Entry>> {
    let mut aborted = Vec::new();
    // The index is loaded first, since it knows where the batches of a recovered segment end.
    segment.with_index(shared, |_| ())?;
    let Some(file) = segment.file(shared)? else { return Ok(aborted) };
    let now = shared.edge.now();
    let mut walk = Walk::new(segment, file, 0, segment.base);
    loop {
        match walk.next()? {
            Step::Batch(batch) if batch.header.base_offset >= from => {
                let marker = walk.marker(&batch)?;
                aborted.extend(known.replay(&batch.header, marker.as_ref(), now));
            }
            Step::Batch(_) | Step::Damaged(_) => {}
            Step::End => return Ok(aborted),
        }
    }
}

impl Partition {
    /// The transactions that were aborted with a marker in a segment, where that was lost or never written: the segments
    /// before say where they began.
    pub(crate) fn learn_aborted(&self, segment: &Segment) -> Result<Vec<Entry>> {
        tracing::warn!(
            segment = %segment.path().display(),
            "which transactions were aborted in it is learnt from all batches before"
        );
        let before: Vec<_> = self.segments.read().range(..segment.base).map(|(_, before)| before.clone()).collect();
        let mut known = Producers::default();
        for before in before {
            replay(&self.shared, &before, Offset::MIN, &mut known)?;
        }
        let aborted = replay(&self.shared, segment, Offset::MIN, &mut known)?;
        segment.set_aborted(&self.shared, &aborted);
        Ok(aborted)
    }
}
