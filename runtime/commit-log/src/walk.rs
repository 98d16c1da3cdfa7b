//! From batch to batch through a segment, by their headers; and past what is damaged, to where the batches go on.

use std::io;
use std::sync::Arc;

use aqueduct_api::disk::File;
use aqueduct_api::{Marker, Result};
use aqueduct_record::{Batch, Crc32c, Header, Offset};
use bytes::Bytes;

use crate::folder::at;
use crate::segment::{Damage, Segment};

/// Bytes read at once where headers are looked for.
const HEADERS: usize = 8 << 10;
/// Bytes read at once where all bytes are looked at.
const ALL: usize = 1 << 20;
/// The first byte under a batch's CRC.
pub(crate) const CRC_FROM: usize = 21;
/// Where a batch's version is.
const MAGIC_AT: usize = 16;

/// A batch's header and where it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    pub(crate) header: Header,
}

impl Placed {
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// What comes next on a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A batch whose header makes sense; its CRC was not looked at.
    Batch(Placed),
    /// A stretch that can not be read.
    Damaged(Damage),
    /// The end of what readers may see of the segment.
    End,
}

/// A walk over the headers of a segment's batches.
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    window: Window,
    pub(crate) position: u64,
    /// The smallest offset that the next batch may begin with.
    pub(crate) expected: Offset,
    size: u64,
    /// The offset before which all batches have to lie.
    pub(crate) bound: Offset,
}

impl<'a> Walk<'a> {
    /// A walk from `position` on, where a batch begins that has no offsets before `expected`.
    pub(crate) fn new(segment: &'a Segment, file: Arc<dyn File>, position: u64, expected: Offset) -> Self {
        let extent = segment.extent();
        let window = Window::new(file, extent.size, HEADERS);
        Walk { segment, window, position, expected, size: extent.size, bound: extent.bound }
    }

    /// The segment's file, as the walk reads it.
    pub(crate) fn file(&self) -> Arc<dyn File> {
        self.window.file.clone()
    }

    pub(crate) fn next(&mut self) -> Result<Step> {
        if let Some(damage) = self.segment.damage_at(self.position).filter(|damage| self.expected < damage.to) {
            return Ok(self.pass(damage));
        }
        if self.position >= self.size {
            return Ok(Step::End);
        }
        let header = self.window.header(self.position).map_err(at(self.segment.path()))?;
        match header.filter(|header| self.fits(header)) {
            Some(header) => {
                let placed = Placed { position: self.position, header };
                self.position = placed.end();
                self.expected = header.next_offset();
                Ok(Step::Batch(placed))
            }
            None => {
                let damage = self.find_end_of_damage()?;
                Ok(self.pass(damage))
            }
        }
    }

    /// Whether the CRC of a batch is right.
    pub(crate) fn is_whole(&self, batch: &Placed) -> Result<bool> {
        let mut window = Window::new(self.window.file.clone(), self.size, ALL);
        let header = window.checked_header(batch.position).map_err(at(self.segment.path()))?;
        Ok(header == Some(batch.header))
    }

    /// What a batch says of a transaction, when it is a marker.
    pub(crate) fn marker(&mut self, batch: &Placed) -> Result<Option<Marker>> {
        self.window.marker(batch.position, &batch.header).map_err(at(self.segment.path()))
    }

    fn fits(&self, header: &Header) -> bool {
        header.base_offset >= self.expected
            && header.next_offset() <= self.bound
            && self.position + header.size() as u64 <= self.size
    }

    fn pass(&mut self, damage: Damage) -> Step {
        self.position = damage.resume;
        self.expected = damage.to;
        Step::Damaged(damage)
    }

    /// Says that the batch which begins here is damaged, and where the batches go on; the segment remembers it.
    pub(crate) fn find_end_of_damage(&self) -> Result<Damage> {
        let (from, position) = (self.expected, self.position);
        let mut window = Window::new(self.window.file.clone(), self.size, ALL);
        let found = resync(&mut window, position + 1, from..self.bound).map_err(at(self.segment.path()))?;
        let (to, resume) = match found {
            Some(batch) => (batch.header.base_offset, batch.position),
            None => (self.bound, self.size),
        };
        let damage = Damage { from, to, position, resume };
        self.segment.quarantine(damage);
        Ok(damage)
    }
}

/// The next place at which a whole batch with offsets in `range` begins.
fn resync(window: &mut Window, from: u64, range: std::ops::Range<Offset>) -> io::Result<Option<Placed>> {
    let mut position = from;
    while position + Header::LEN as u64 <= window.limit {
        let bytes = window.bytes(position, Header::LEN)?;
        let last = bytes.len() - Header::LEN;
        let looks_right = |at: &usize| {
            bytes[at + MAGIC_AT] == 2
                && Header::peek(&bytes[*at..])
                    .is_ok_and(|header| header.base_offset >= range.start && header.next_offset() <= range.end)
        };
        let Some(at) = (0..=last).find(looks_right) else {
            position += last as u64 + 1;
            continue;
        };
        position += at as u64;
        if let Some(header) = window.checked_header(position)? {
            return Ok(Some(Placed { position, header }));
        }
        position += 1;
    }
    Ok(None)
}

/// A file read in blocks, up to a limit.
pub(crate) struct Window {
    file: Arc<dyn File>,
    limit: u64,
    block: usize,
    start: u64,
    buffer: Vec<u8>,
}

impl Window {
    fn new(file: Arc<dyn File>, limit: u64, block: usize) -> Self {
        Window { file, limit, block, start: 0, buffer: Vec::new() }
    }

    /// A window over all bytes of a file.
    pub(crate) fn over_all(file: Arc<dyn File>, limit: u64) -> Self {
        Window::new(file, limit, ALL)
    }

    /// The bytes from `position` on: at least `least`, unless the limit comes first.
    fn bytes(&mut self, position: u64, least: usize) -> io::Result<&[u8]> {
        let least = (least as u64).min(self.limit.saturating_sub(position)) as usize;
        let end = self.start + self.buffer.len() as u64;
        if position < self.start || position + least as u64 > end {
            self.buffer.clear();
            self.start = position;
            let length = (self.block.max(least) as u64).min(self.limit.saturating_sub(position)) as usize;
            self.file.read_at(&mut self.buffer, length, position)?;
            if self.buffer.len() < least {
                // The file is shorter than it was: what is missing reads as no batch.
                self.buffer.resize(least, 0);
            }
        }
        Ok(&self.buffer[(position - self.start) as usize..])
    }

    /// The header at a position, when there is one and its batch ends within the limit.
    pub(crate) fn header(&mut self, position: u64) -> io::Result<Option<Header>> {
        let limit = self.limit;
        let bytes = self.bytes(position, Header::LEN)?;
        Ok(Header::peek(bytes).ok().filter(|header| position + header.size() as u64 <= limit))
    }

    /// What the batch at a position says of a transaction, when it is a marker.
    pub(crate) fn marker(&mut self, position: u64, header: &Header) -> io::Result<Option<Marker>> {
        if !header.attributes.is_control() {
            return Ok(None);
        }
        let bytes = self.bytes(position, header.size())?;
        let batch = bytes.get(..header.size()).and_then(|bytes| Batch::parse(Bytes::copy_from_slice(bytes)).ok());
        Ok(batch.and_then(|batch| Marker::of(&batch)))
    }

    /// The header at a position whose batch is whole.
    pub(crate) fn checked_header(&mut self, position: u64) -> io::Result<Option<Header>> {
        let Some(header) = self.header(position)? else { return Ok(None) };
        let end = position + header.size() as u64;
        let mut crc = Crc32c::new();
        let mut from = position + CRC_FROM as u64;
        while from < end {
            let bytes = self.bytes(from, 1)?;
            let length = bytes.len().min((end - from) as usize);
            crc.update(&bytes[..length]);
            from += length as u64;
        }
        Ok((crc.value() == header.crc).then_some(header))
    }
}
