//! Reading a partition: bytes of whole batches, how far a chunk reaches, and where a time is. Everything here blocks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::{Aborted, Isolation, Limit, Measured, Read, Result};
use aqueduct_record::{Batch, Header, Offset, crc32c};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::aborted;
use crate::folder::at;
use crate::index::Index;
use crate::partition::Partition;
use crate::segment::Segment;
use crate::walk::{CRC_FROM, Placed, Step, Walk};

/// Where recent reads ended, so that the next ones begin there without a look into the index.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Cursor>>);

#[derive(Clone, Copy)]
struct Cursor {
    offset: Offset,
    segment: u64,
    position: u64,
}

impl Cursors {
    const KEPT: usize = 16;

    fn find(&self, offset: Offset, segment: u64) -> Option<u64> {
        let cursors = self.0.lock();
        cursors.iter().find(|cursor| (cursor.offset, cursor.segment) == (offset, segment)).map(|cursor| cursor.position)
    }

    pub(crate) fn note(&self, offset: Offset, segment: u64, position: u64) {
        let mut cursors = self.0.lock();
        if cursors.iter().any(|cursor| (cursor.offset, cursor.segment) == (offset, segment)) {
            return;
        }
        if cursors.len() == Cursors::KEPT {
            cursors.pop_front();
        }
        cursors.push_back(Cursor { offset, segment, position });
    }
}

/// What was found in a partition.
pub(crate) enum Looked<T> {
    /// It is there, with the offset after it and the transactions that were aborted with records among it.
    Found(T, Offset, Vec<Aborted>),
    /// The offsets before this one are lost.
    Lost(Offset),
    /// Nothing, yet: whoever waits for more looks from this offset on.
    End(Offset),
}

/// What was found in one segment.
pub(crate) enum Within<T> {
    /// It is here.
    Found(T),
    /// These offsets are damaged.
    Lost(Offset),
    /// Not in this segment.
    Past,
    /// The segment was removed or replaced meanwhile: look again.
    Gone,
}

impl Partition {
    /// Batches from the one that holds `from` on.
    pub(crate) fn read(&self, from: Offset, max_bytes: usize, isolation: Isolation) -> Result<Read> {
        let within = |segment: &Arc<Segment>, offset, end| self.read_in(segment, offset, max_bytes, end);
        Ok(match self.look(from, isolation, within)? {
            Looked::Found(batches, _, aborted) => Read { batches, lost: None, aborted },
            Looked::Lost(to) => Read { lost: Some(from..to), ..Read::default() },
            Looked::End(_) => Read::default(),
        })
    }

    /// Looks for the batch that holds `from`, from segment to segment.
    pub(crate) fn look<T>(
        &self,
        from: Offset,
        isolation: Isolation,
        within: impl Fn(&Arc<Segment>, Offset, Offset) -> Result<Within<(T, Range<Offset>)>>,
    ) -> Result<Looked<T>> {
        let mut offset = from;
        loop {
            let stable = self.readable(isolation);
            if offset >= stable {
                // Nothing is left before the end though there should be.
                return Ok(if from < stable { Looked::Lost(stable) } else { Looked::End(from) });
            }
            let Some(segment) = self.segment_at(offset) else { return Ok(Looked::Lost(stable)) };
            let start = self.start();
            if offset < start {
                return Ok(Looked::Lost(start.min(stable)));
            }
            match within(&segment, offset, stable)? {
                // Nothing is left between here and the end, which a transaction holds up.
                Within::Found((_, span)) if span.is_empty() => return Ok(Looked::End(stable)),
                Within::Found((found, span)) if isolation == Isolation::Uncommitted => {
                    return Ok(Looked::Found(found, span.end, Vec::new()));
                }
                Within::Found((found, span)) => match self.aborted(&segment, span.clone())? {
                    Some(aborted) => return Ok(Looked::Found(found, span.end, aborted)),
                    None => self.check_there()?,
                },
                Within::Lost(to) => return Ok(Looked::Lost(to.min(stable))),
                Within::Past => match self.segment_after(segment.base) {
                    // The same, where it begins a segment.
                    Some(next) if next.base >= stable && stable < self.high_watermark() => {
                        return Ok(Looked::End(stable));
                    }
                    next => offset = next.map_or(stable, |next| next.base),
                },
                Within::Gone => self.check_there()?,
            }
        }
    }

    /// Whole batches of one segment that lie before `end`, and their offsets.
    pub(crate) fn read_in(
        &self,
        segment: &Arc<Segment>,
        offset: Offset,
        max_bytes: usize,
        end: Offset,
    ) -> Result<Within<(Bytes, Range<Offset>)>> {
        let first = match self.seek(segment, offset)? {
            Within::Found(first) => first,
            Within::Lost(to) => return Ok(Within::Lost(to)),
            Within::Past => return Ok(Within::Past),
            Within::Gone => return Ok(Within::Gone),
        };
        let Some(file) = segment.file(&self.shared)? else { return Ok(Within::Gone) };
        let extent = segment.extent();
        let want = (max_bytes.max(first.header.size()) as u64).min(extent.size.saturating_sub(first.position)) as usize;
        let mut buffer = self.shared.buffers.take(want, want);
        file.read_at(&mut buffer.bytes, want, first.position).map_err(at(segment.path()))?;
        let base = first.header.base_offset;
        if base >= end {
            return Ok(Within::Found((Bytes::new(), end..end)));
        }
        let (length, next) = whole_batches(&buffer.bytes, base, extent.bound.min(end));
        if length == 0 {
            if segment.extent() != extent {
                return Ok(Within::Gone);
            }
            let mut walk = Walk::new(segment, file, first.position, first.header.base_offset);
            let damage = walk.find_end_of_damage()?;
            walk.position = damage.resume;
            return Ok(if damage.to > offset { Within::Lost(damage.to) } else { Within::Gone });
        }
        buffer.bytes.truncate(length);
        segment.note_whole(first.position..first.position + length as u64);
        self.cursors.note(next, segment.id, first.position + length as u64);
        Ok(Within::Found((buffer.freeze(), base..next)))
    }

    /// The transactions that were aborted with records in `span`, which lies in a segment; `None` where that or one after it
    /// was removed or replaced meanwhile, and with it what was known.
    pub(crate) fn aborted(&self, within: &Arc<Segment>, span: Range<Offset>) -> Result<Option<Vec<Aborted>>> {
        let mut found = Vec::new();
        let mut next = Some(within.clone());
        while let Some(segment) = next {
            if segment.may_abort(&self.shared, span.end)? {
                let look = |index: &Index| index.aborted().map(|all| aborted::collect(all, &span, &mut found));
                let is_last = match segment.with_index(&self.shared, look)? {
                    None => return Ok(None),
                    Some(Some(is_last)) => is_last,
                    Some(None) => aborted::collect(&self.learn_aborted(&segment)?, &span, &mut found),
                };
                if is_last {
                    break;
                }
            }
            next = self.segment_after(segment.base);
        }
        Ok((!within.is_retired()).then_some(found))
    }

    /// The first batch of a segment that has an offset at or after `offset`.
    pub(crate) fn seek(&self, segment: &Arc<Segment>, offset: Offset) -> Result<Within<Placed>> {
        let (position, expected) = match self.cursors.find(offset, segment.id) {
            Some(position) => (position, offset),
            None => {
                let delta = (offset - segment.base).clamp(0, i64::from(u32::MAX)) as u32;
                match segment.with_index(&self.shared, |index| index.floor(delta))? {
                    Some(Some(entry)) => (u64::from(entry.position), segment.base + i64::from(entry.delta)),
                    Some(None) => (0, segment.base),
                    None => return Ok(Within::Gone),
                }
            }
        };
        let Some(file) = segment.file(&self.shared)? else { return Ok(Within::Gone) };
        let mut walk = Walk::new(segment, file, position, expected);
        loop {
            match walk.next()? {
                Step::Batch(batch) if batch.header.next_offset() > offset => return Ok(Within::Found(batch)),
                Step::Batch(_) => {}
                Step::Damaged(damage) if damage.to > offset => return Ok(Within::Lost(damage.to)),
                Step::Damaged(_) => {}
                Step::End => return Ok(Within::Past),
            }
        }
    }

    /// Where a chunk ends that begins at `from`: no more is read than the headers behind the last index entry within it.
    pub(crate) fn measure(&self, from: Offset, limit: Limit) -> Result<Measured> {
        let stable = self.stable();
        let mut bytes = 0;
        let mut offset = from.max(self.start());
        while offset < stable {
            let Some(segment) = self.segment_at(offset) else { break };
            let rest = Rest { from, stable, bytes: limit.bytes.saturating_sub(bytes), records: limit.records };
            match self.measure_in(&segment, offset.max(segment.base), rest)? {
                Stretch::Ends { end, bytes: more } => return Ok(Measured { end, bytes: bytes + more, full: true }),
                Stretch::GoesOn { bytes: more } => {
                    bytes += more;
                    offset = self.segment_after(segment.base).map_or(stable, |next| next.base);
                }
                Stretch::Gone => self.check_there()?,
            }
        }
        Ok(Measured { end: stable.max(from), bytes, full: false })
    }

    fn measure_in(&self, segment: &Arc<Segment>, offset: Offset, rest: Rest) -> Result<Stretch> {
        let mut offset = offset;
        let first = loop {
            match self.seek(segment, offset)? {
                Within::Found(first) => break first,
                Within::Lost(to) if to < segment.extent().bound => offset = to,
                Within::Lost(_) | Within::Past => return Ok(Stretch::GoesOn { bytes: 0 }),
                Within::Gone => return Ok(Stretch::Gone),
            }
        };
        let begin = first.position;
        let delta = rest.from.saturating_add_unsigned(rest.records).saturating_sub(segment.base).max(0) as u64;
        let entry = segment.with_index(&self.shared, |index| index.within(begin.saturating_add(rest.bytes), delta))?;
        let (Some(entry), Some(file)) = (entry, segment.file(&self.shared)?) else { return Ok(Stretch::Gone) };
        let jump = entry.filter(|entry| u64::from(entry.position) > begin);
        let (position, expected) = jump.map_or((begin, first.header.base_offset), |entry| {
            (u64::from(entry.position), segment.base + i64::from(entry.delta))
        });
        let mut walk = Walk::new(segment, file, position, expected);
        let mut end = position;
        loop {
            match walk.next()? {
                Step::Batch(batch) if batch.header.base_offset >= rest.stable => break,
                Step::Batch(batch) => {
                    end = batch.end();
                    let next = batch.header.next_offset();
                    if end - begin >= rest.bytes || (next - rest.from) as u64 >= rest.records {
                        self.cursors.note(next, segment.id, end);
                        return Ok(Stretch::Ends { end: next, bytes: end - begin });
                    }
                }
                Step::Damaged(_) => {}
                Step::End => break,
            }
        }
        Ok(Stretch::GoesOn { bytes: end - begin })
    }

    /// The offset of the first record that is as late as `timestamp`, else the end.
    pub(crate) fn find(&self, timestamp: i64) -> Result<Offset> {
        let stable = self.high_watermark();
        let mut offset = self.start();
        while offset < stable {
            let Some(segment) = self.segment_at(offset) else { break };
            match self.find_in(&segment, timestamp, stable)? {
                Within::Found(found) => return Ok(found),
                Within::Gone => self.check_there()?,
                Within::Past | Within::Lost(_) => {
                    offset = self.segment_after(segment.base).map_or(stable, |next| next.base);
                }
            }
        }
        Ok(stable)
    }

    fn find_in(&self, segment: &Arc<Segment>, timestamp: i64, stable: Offset) -> Result<Within<Offset>> {
        let entry = segment.with_index(&self.shared, |index| match index.max_timestamp() {
            Some(latest) if latest >= timestamp => index.before(timestamp),
            _ => None,
        })?;
        let Some(entry) = entry else { return Ok(Within::Gone) };
        let Some(entry) = entry else { return Ok(Within::Past) };
        let start = self.start();
        let Some(file) = segment.file(&self.shared)? else { return Ok(Within::Gone) };
        let expected = segment.base + i64::from(entry.delta);
        let mut walk = Walk::new(segment, file.clone(), u64::from(entry.position), expected);
        loop {
            match walk.next()? {
                Step::Batch(batch) if batch.header.base_offset >= stable => return Ok(Within::Past),
                Step::Batch(batch) if batch.header.next_offset() <= start => {}
                Step::Batch(batch)
                    if batch.header.max_timestamp >= timestamp && !batch.header.attributes.is_control() =>
                {
                    let mut bytes = Vec::new();
                    file.read_at(&mut bytes, batch.header.size(), batch.position).map_err(at(segment.path()))?;
                    if let Some(found) = first_as_late(Bytes::from(bytes), &batch.header, timestamp) {
                        return Ok(Within::Found(found.max(start)));
                    }
                }
                Step::Batch(_) | Step::Damaged(_) => {}
                Step::End => return Ok(Within::Past),
            }
        }
    }
}

/// What a chunk takes of one segment.
enum Stretch {
    /// It ends here.
    Ends { end: Offset, bytes: u64 },
    /// All there is, and more.
    GoesOn { bytes: u64 },
    /// The segment was removed or replaced meanwhile: look again.
    Gone,
}

/// What is left of a limit.
#[derive(Clone, Copy)]
struct Rest {
    from: Offset,
    stable: Offset,
    bytes: u64,
    records: u64,
}

/// How many of the bytes are whole batches, and the offset after them.
fn whole_batches(bytes: &[u8], first: Offset, bound: Offset) -> (usize, Offset) {
    let (mut length, mut next) = (0, first);
    while let Ok(header) = Header::peek(&bytes[length..]) {
        let end = length.saturating_add(header.size());
        let fits = header.base_offset >= next && header.next_offset() <= bound && end <= bytes.len();
        if !fits || crc32c(&bytes[length + CRC_FROM..end]) != header.crc {
            break;
        }
        (length, next) = (end, header.next_offset());
    }
    (length, next)
}

/// The first record of a batch that is as late as `timestamp`; its first offset where the records can not be read.
fn first_as_late(bytes: Bytes, header: &Header, timestamp: i64) -> Option<Offset> {
    let Ok(mut records) = Batch::parse(bytes).and_then(|batch| batch.records()) else {
        return Some(header.base_offset);
    };
    while let Some(record) = records.next() {
        match record {
            Ok(record) if record.timestamp >= timestamp => return Some(record.offset),
            Ok(_) => {}
            Err(_) => return Some(header.base_offset),
        }
    }
    None
}
