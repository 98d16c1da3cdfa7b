//! Where batches lie that are passed on as they are: no byte of them is read but headers, and what is not known to be whole
//! is read and looked at once.

use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::{Isolation, Part, Records, Result, Stretch};
use aqueduct_record::Offset;
use bytes::Bytes;

use crate::folder::at;
use crate::partition::Partition;
use crate::reader::{Looked, Within};
use crate::segment::Segment;
use crate::walk::{Step, Walk};

/// Fewer bytes are read: to copy them costs less than to pass them on.
const SMALL: usize = 16 << 10;

/// Whole batches of one segment, and their offsets.
type Found = (Records, Range<Offset>);

impl Partition {
    /// As [`Partition::read`], but what is known to be whole is not read.
    pub(crate) fn stretch(&self, from: Offset, max_bytes: usize, isolation: Isolation) -> Result<Stretch> {
        let within = |segment: &Arc<Segment>, offset, end| self.stretch_in(segment, offset, max_bytes, end);
        Ok(match self.look(from, isolation, within)? {
            Looked::Found(records, next, aborted) => Stretch { records, next, lost: None, aborted },
            Looked::Lost(to) => Stretch { next: from, lost: Some(from..to), ..Stretch::default() },
            Looked::End(next) => Stretch { next, ..Stretch::default() },
        })
    }

    fn stretch_in(
        &self,
        segment: &Arc<Segment>,
        offset: Offset,
        max_bytes: usize,
        end: Offset,
    ) -> Result<Within<Found>> {
        let first = match self.seek(segment, offset)? {
            Within::Found(first) => first,
            Within::Lost(to) => return Ok(Within::Lost(to)),
            Within::Past => return Ok(Within::Past),
            Within::Gone => return Ok(Within::Gone),
        };
        let base = first.header.base_offset;
        if base >= end {
            return Ok(Within::Found((Records::default(), end..end)));
        }
        let whole = segment.whole_until(first.position);
        if first.end() > whole {
            return Ok(match self.read_in(segment, offset, max_bytes, end)? {
                Within::Found((batches, span)) => Within::Found((Records::Bytes(batches), span)),
                Within::Lost(to) => Within::Lost(to),
                Within::Past => Within::Past,
                Within::Gone => Within::Gone,
            });
        }
        let most = whole.min(first.position.saturating_add(max_bytes as u64));
        let delta = (end - segment.base).max(0) as u64;
        let entry = segment.with_index(&self.shared, |index| index.within(most, delta))?;
        let (Some(entry), Some(file)) = (entry, segment.file(&self.shared)?) else { return Ok(Within::Gone) };
        let jump = entry.filter(|entry| u64::from(entry.position) >= first.end());
        let (position, expected) = jump.map_or((first.end(), first.header.next_offset()), |entry| {
            (u64::from(entry.position), segment.base + i64::from(entry.delta))
        });
        let (mut last, mut next) = (position, expected);
        let mut walk = Walk::new(segment, file.clone(), position, expected);
        while let Step::Batch(batch) = walk.next()? {
            if batch.end() > most || batch.header.next_offset() > end {
                break;
            }
            (last, next) = (batch.end(), batch.header.next_offset());
        }
        self.cursors.note(next, segment.id, last);
        let length = (last - first.position) as usize;
        if length < SMALL {
            let mut bytes = Vec::with_capacity(length);
            file.read_at(&mut bytes, length, first.position).map_err(at(segment.path()))?;
            return Ok(match bytes.len() == length {
                true => Within::Found((Records::Bytes(Bytes::from(bytes)), base..next)),
                false => Within::Gone,
            });
        }
        Ok(Within::Found((Records::File(Part { file, offset: first.position, length }), base..next)))
    }
}
