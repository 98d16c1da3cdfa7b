//! The last record of each key stays (`cleanup.policy: compact`).
//!
//! Closed segments that nobody holds are read twice: once to learn each key's last offset, as far as a bounded map holds
//! them; then each is written anew with what is left of its batches, which keep their offsets. Small neighbours become one
//! segment. The result takes its name only when it is durable and whole:
//!
//! ```text
//! <base>.cleaned       being written; removed by the next start
//! <base>-<bound>.swap  durable: from here on the segments from base to bound are replaced, whatever happens
//! <base>.log           in their place
//! ```

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, IoSlice};
use std::sync::Arc;

use aqueduct_api::disk::{File, Open};
use aqueduct_api::{Aborted, CleanupPolicy, Error, Marker, Result};
use aqueduct_record::{Batch, BatchBuilder, Header, Offset, Record};
use bytes::Bytes;

use crate::folder::{at, remove_if_there};
use crate::index::Index;
use crate::markers::{Transactions, is_aborted};
use crate::names;
use crate::partition::Partition;
use crate::recovery::{swap_in, swap_path};
use crate::segment::{Extent, Segment};
use crate::walk::{Placed, Step, Walk};

/// Keys that one round knows: 40 bytes each.
const KEYS: usize = 500_000;

/// How far compaction has come.
#[derive(Default)]
pub(crate) struct Progress {
    /// No key has two records before this offset.
    clean_to: Offset,
    /// Replaced in memory but not yet on disk, since the disk failed.
    unfinished: Vec<Swap>,
}

/// Segments that are being replaced by one.
struct Swap {
    replaced: Vec<Offset>,
    bound: Offset,
    by: Arc<Segment>,
}

/// The last offset of each key, by hash, up to an offset.
struct LastOffsets {
    keys: HashMap<u128, Offset>,
    to: Offset,
}

impl Partition {
    /// One round of retention and compaction. Blocks.
    pub(crate) fn clean(&self) -> Result<()> {
        self.forget_producers();
        let mut progress = self.cleaning.lock();
        match self.stopped() {
            None => self.retain().and_then(|()| self.compact(&mut progress)),
            Some(_) => Ok(()),
        }
    }

    /// Compacts what is worth it.
    fn compact(&self, progress: &mut Progress) -> Result<()> {
        self.finish_swaps(progress)?;
        if self.settings().cleanup != CleanupPolicy::Compact {
            return Ok(());
        }
        // What is left of a transaction depends on how it ended.
        let limit = self.limit_of_cleaning().min(self.stable());
        let segments: Vec<_> =
            self.closed_segments().into_iter().take_while(|segment| segment.extent().bound <= limit).collect();
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.extent().size).sum::<u64>();
        let clean = segments.iter().take_while(|segment| segment.extent().bound <= progress.clean_to).count();
        let (all, dirty) = (bytes(&segments), bytes(&segments[clean..]));
        if dirty == 0 || dirty * 2 < all {
            return Ok(());
        }
        let last = self.last_offsets(&segments[clean..], progress.clean_to)?;
        let mut transactions = Transactions::default();
        let whole = segments.iter().take_while(|segment| segment.base < last.to).count();
        for group in groups(&segments[..whole], self.settings().segment_bytes.0) {
            self.replace(progress, group, &last, &mut transactions)?;
        }
        progress.clean_to = last.to;
        self.finish_swaps(progress)?;
        let left: u64 = self.closed_segments().iter().map(|segment| segment.extent().size).sum();
        tracing::info!(topic = %self.of.topic, partition = self.of.partition, before = all, after = left, "compacted");
        Ok(())
    }

    /// Learns the last offset of each key in `segments`, from an offset on and until there are too many keys.
    fn last_offsets(&self, segments: &[Arc<Segment>], from: Offset) -> Result<LastOffsets> {
        let mut last = LastOffsets { keys: HashMap::new(), to: from };
        for segment in segments {
            let aborted = self.aborted_within(segment)?;
            let mut walk = self.walk(segment)?;
            let file = walk.file();
            loop {
                match walk.next()? {
                    Step::Batch(placed) if placed.header.next_offset() <= from => {}
                    Step::Batch(placed) => {
                        if last.keys.len() >= KEYS {
                            last.to = placed.header.base_offset;
                            return Ok(last);
                        }
                        last.learn(&placed, &*file, &aborted);
                    }
                    Step::Damaged(_) => {}
                    Step::End => break,
                }
            }
            last.to = segment.extent().bound;
        }
        Ok(last)
    }

    fn walk<'a>(&self, segment: &'a Segment) -> Result<Walk<'a>> {
        // The index is loaded first, since it knows where the batches of a recovered segment end.
        segment.with_index(&self.shared, |_| ())?;
        let file = segment.file(&self.shared)?;
        let file = file.ok_or_else(|| Error::retry(format!("{} was removed", segment.path().display())))?;
        Ok(Walk::new(segment, file, 0, segment.base))
    }

    /// Writes what is left of some neighbouring segments, and puts it in their place.
    fn replace(
        &self,
        progress: &mut Progress,
        group: &[Arc<Segment>],
        last: &LastOffsets,
        transactions: &mut Transactions,
    ) -> Result<()> {
        let (Some(first), Some(end)) = (group.first(), group.last()) else { return Ok(()) };
        let (base, bound) = (first.base, end.extent().bound);
        let cleaned = names::path(&self.folder, base, "cleaned");
        let disk = self.shared.disk();
        remove_if_there(disk, &cleaned).map_err(at(&cleaned))?;
        let file = disk.open(&cleaned, Open::New).map_err(at(&cleaned))?;
        let mut output = Output { file: file.clone(), base, size: 0, index: Index::new() };
        for segment in group {
            if !self.rewrite(segment, last, transactions, &mut output)? {
                // What is damaged stays as it is: nobody knows what would be left of it.
                transactions.are_known = false;
                return remove_if_there(disk, &cleaned).map_err(at(&cleaned));
            }
        }
        file.sync().map_err(at(&cleaned))?;
        let swap = swap_path(&self.folder, base, bound);
        disk.rename(&cleaned, &swap).map_err(at(&swap))?;
        disk.sync_folder(&self.folder).map_err(|cause| {
            let _ = disk.remove(&swap);
            at(&self.folder)(cause)
        })?;

        let extent = Extent { size: output.size, bound };
        let by = Arc::new(Segment::closed(&self.shared, &self.folder, base, extent, true));
        by.pin(file);
        self.shared.indexes.put(by.id, Arc::new(output.index));
        let mut segments = self.segments.write();
        for segment in group {
            segments.remove(&segment.base);
            segment.retire(&self.shared);
        }
        segments.insert(base, by.clone());
        drop(segments);
        let replaced = group.iter().map(|segment| segment.base).collect();
        progress.unfinished.push(Swap { replaced, bound, by });
        self.finish_swaps(progress)
    }

    /// Gives what compaction made its final names.
    fn finish_swaps(&self, progress: &mut Progress) -> Result<()> {
        while let Some(Swap { replaced, bound, by }) = progress.unfinished.first() {
            let renamed = match self.shared.disk().metadata(&swap_path(&self.folder, by.base, *bound), false) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => self.shared.disk().sync_folder(&self.folder),
                _ => swap_in(&self.shared, &self.folder, by.base, *bound, replaced),
            };
            renamed.map_err(at(&self.folder))?;
            by.unpin(&self.shared);
            by.with_index(&self.shared, |index| by.store_index(&self.shared, index))?;
            progress.unfinished.remove(0);
        }
        Ok(())
    }

    /// Writes what is left of a segment's batches; `false` when it is damaged.
    fn rewrite(
        &self,
        segment: &Arc<Segment>,
        last: &LastOffsets,
        transactions: &mut Transactions,
        output: &mut Output,
    ) -> Result<bool> {
        let aborted = self.aborted_within(segment)?;
        let ended = self.aborted_in(segment)?;
        let mut walk = self.walk(segment)?;
        let file = walk.file();
        let bound = segment.extent().bound;
        loop {
            match walk.next()? {
                Step::Batch(placed) => {
                    let Some(batch) = read_batch(&placed, &*file) else { return Ok(false) };
                    // The last batch stays, empty or not, so that the segment tells how far it reached.
                    // So does a producer's, since its header says what the producer goes on with.
                    let must_stay = placed.header.next_offset() == bound || self.is_last_of_producer(&placed.header);
                    let left = match Marker::of(&batch) {
                        Some(marker) => Ok(self.marker_left(
                            &batch,
                            &marker,
                            must_stay || batch.base_offset() >= last.to,
                            transactions,
                        )),
                        None => {
                            transactions.saw(&batch);
                            self.remainder(&batch, last, must_stay, is_aborted(&batch, &aborted))
                        }
                    };
                    match left {
                        Ok(Some(left)) => {
                            output.push(&left).map_err(at(segment.path()))?;
                            let entry = ended.iter().find(|entry| entry.aborted.last == left.base_offset());
                            entry.into_iter().for_each(|entry| output.index.add_aborted(*entry));
                        }
                        Ok(None) => {}
                        Err(cause) => {
                            tracing::warn!(topic = %self.of.topic, %cause, "a batch can not be read: its segment stays");
                            return Ok(false);
                        }
                    }
                }
                Step::Damaged(_) => return Ok(false),
                Step::End => return Ok(true),
            }
        }
    }

    /// What is left of a batch; `None` when nothing is.
    fn remainder(&self, batch: &Batch, last: &LastOffsets, must_stay: bool, is_aborted: bool) -> Result<Option<Batch>> {
        let header = batch.header();
        if header.base_offset >= last.to {
            return Ok(Some(batch.clone()));
        }
        let is_hidden = is_aborted || header.attributes.is_control();
        let now = self.shared.edge.now();
        let is_over = header.delete_horizon().is_some_and(|horizon| horizon < now);
        let stays = |record: &Record<'_>| match record.key {
            Some(key) => last.is_last(key, record.offset) && !(is_over && record.value.is_none()),
            None => false,
        };
        let records = batch.records().map_err(Error::retry)?;
        let (mut kept, mut has_tombstone) = (0, false);
        for record in records.iter() {
            let record = record.map_err(Error::retry)?;
            if !is_hidden && stays(&record) {
                kept += 1;
                has_tombstone |= record.value.is_none();
            }
        }
        let needs_horizon = has_tombstone && header.delete_horizon().is_none();
        if kept == batch.count() && !needs_horizon {
            return Ok(Some(batch.clone()));
        }
        if kept == 0 && !must_stay {
            return Ok(None);
        }
        let mut builder = BatchBuilder::remainder_of(&header, needs_horizon.then(|| self.horizon()));
        for record in records.iter().flatten().filter(|record| kept > 0 && stays(record)) {
            builder.push_record((record.offset - header.base_offset) as i32, &record);
        }
        Ok(Some(builder.finish().at(header.base_offset, header.leader_epoch)))
    }
}

impl LastOffsets {
    fn learn(&mut self, placed: &Placed, file: &dyn File, aborted: &[Aborted]) {
        // A batch that can not be read hides no key: older records stay. Nor does one that does not count.
        let Some(batch) = read_batch(placed, file) else { return };
        if batch.header().attributes.is_control() || is_aborted(&batch, aborted) {
            return;
        }
        let Ok(mut records) = batch.records() else { return };
        while let Some(Ok(record)) = records.next() {
            if let Some(key) = record.key {
                self.keys.insert(hash(key), record.offset);
            }
        }
    }

    fn is_last(&self, key: &[u8], offset: Offset) -> bool {
        self.keys.get(&hash(key)).is_none_or(|last| *last <= offset)
    }
}

/// The segment that compaction writes.
struct Output {
    file: Arc<dyn File>,
    base: Offset,
    size: u64,
    index: Index,
}

impl Output {
    fn push(&mut self, batch: &Batch) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(batch.bytes())], self.size)?;
        self.index.add(self.base, &batch.header(), batch.base_offset(), self.size);
        self.size += batch.size() as u64;
        Ok(())
    }
}

/// Neighbours that together are no larger than a segment gets.
fn groups(segments: &[Arc<Segment>], most: u64) -> Vec<&[Arc<Segment>]> {
    let (mut groups, mut from, mut size) = (Vec::new(), 0, 0);
    for (at, segment) in segments.iter().enumerate() {
        let extent = segment.extent();
        let is_too_far = extent.bound - segments[from].base > i64::from(i32::MAX);
        if at > from && (size + extent.size > most || is_too_far) {
            groups.push(&segments[from..at]);
            (from, size) = (at, 0);
        }
        size += extent.size;
    }
    if from < segments.len() {
        groups.push(&segments[from..]);
    }
    groups
}

/// A whole batch; `None` when it is not one.
fn read_batch(placed: &Placed, file: &dyn File) -> Option<Batch> {
    let Header { base_offset, .. } = placed.header;
    let mut bytes = Vec::new();
    file.read_at(&mut bytes, placed.header.size(), placed.position).ok()?;
    Batch::parse(Bytes::from(bytes)).ok().filter(|batch| batch.base_offset() == base_offset)
}

/// 128 bits of a key, so that no two keys of a topic are ever taken for one.
fn hash(key: &[u8]) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        hasher.write(key);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
