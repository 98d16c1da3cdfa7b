//! Where in a segment an offset or a time is: an entry for every 64 KiB of batches.
//!
//! In memory one list; on disk two files that are never needed, only quicker than reading the segment again:
//!
//! ```text
//! .index      (offset less the segment's base u32, position u32)*                        footer
//! .timeindex  (latest timestamp before that position i64, the same offset u32)*          footer
//!             and one entry more for the whole segment
//! footer      bytes of the segment u64, CRC-32C of all before u32
//! ```
//!
//! The highest bit of the segment's bytes says whether there is a third file, [`crate::aborted`]. A footer that does not fit
//! its segment makes all void, and they are built anew from the batches' headers.

use aqueduct_record::{Header, Offset, crc32c};

use crate::aborted::{self, Entry as Aborted};

/// Bytes of batches between two entries.
const INTERVAL: u32 = 64 << 10;

/// The bit of a segment's size that says that there is a file of aborted transactions.
const HAS_ABORTED: u64 = 1 << 63;

/// The sparse index of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// The latest timestamp in the segment; the smallest number when it is empty.
    max_timestamp: i64,
    /// Transactions that were aborted with a marker in the segment, in that order; `None` where that has to be learnt from
    /// the segments before.
    aborted: Option<Vec<Aborted>>,
}

/// The index files of a segment.
pub(crate) struct Files {
    pub(crate) offsets: Vec<u8>,
    pub(crate) times: Vec<u8>,
    /// Only where transactions were aborted.
    pub(crate) aborted: Option<Vec<u8>>,
}

/// The start of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its base offset less the segment's.
    pub(crate) delta: u32,
    /// Where it begins in the file.
    pub(crate) position: u32,
    /// The latest timestamp of the batches before it.
    before: i64,
}

impl Index {
    /// Bytes at the end of each file.
    pub(crate) const FOOTER: usize = 12;

    pub(crate) fn new() -> Self {
        Index { entries: Vec::new(), max_timestamp: i64::MIN, aborted: Some(Vec::new()) }
    }

    /// The latest timestamp in the segment; `None` when it is empty.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        (self.max_timestamp > i64::MIN).then_some(self.max_timestamp)
    }

    /// Takes in the batch that begins at `position` of the segment that begins at `base`.
    pub(crate) fn add(&mut self, base: Offset, header: &Header, base_offset: Offset, position: u64) {
        let position = position as u32;
        let due = self.entries.last().is_none_or(|last| position - last.position >= INTERVAL);
        if due {
            let delta = (base_offset - base) as u32;
            self.entries.push(Entry { delta, position, before: self.max_timestamp });
        }
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// The last entry at or before an offset.
    pub(crate) fn floor(&self, delta: u32) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.delta <= delta);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    /// The last entry of which it is known that nothing before it is as late as `timestamp`.
    pub(crate) fn before(&self, timestamp: i64) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.before < timestamp);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    /// The last entry that lies before both a position and an offset.
    pub(crate) fn within(&self, position: u64, delta: u64) -> Option<Entry> {
        let after = self
            .entries
            .partition_point(|entry| u64::from(entry.position) < position && u64::from(entry.delta) < delta);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    /// Transactions that were aborted with a marker in the segment; `None` where nobody knows.
    pub(crate) fn aborted(&self) -> Option<&[Aborted]> {
        self.aborted.as_deref()
    }

    /// The smallest first offset of those; the largest number: there are none.
    pub(crate) fn first_aborted(&self) -> Option<Offset> {
        let first = |all: &Vec<Aborted>| all.iter().map(|entry| entry.aborted.first).min().unwrap_or(Offset::MAX);
        self.aborted.as_ref().map(first)
    }

    /// Whether the end of an index file says that nothing was aborted in its segment, which has `size` bytes.
    pub(crate) fn has_none_aborted(footer: &[u8], size: u64) -> bool {
        footer.len() == Index::FOOTER
            && footer.first_chunk::<8>().is_some_and(|found| u64::from_be_bytes(*found) == size)
    }

    /// Says which transactions were aborted with a marker in the segment.
    pub(crate) fn set_aborted(&mut self, aborted: Option<Vec<Aborted>>) {
        self.aborted = aborted;
    }

    /// Notes one that was aborted with a marker at the end.
    pub(crate) fn add_aborted(&mut self, aborted: Aborted) {
        if let Some(all) = &mut self.aborted {
            all.push(aborted);
        }
    }

    /// Forgets what lies at or after `position`, where `offset` is next; the latest timestamp stays as an upper bound.
    pub(crate) fn cut(&mut self, position: u64, offset: Offset) {
        self.aborted.iter_mut().for_each(|aborted| aborted.retain(|entry| entry.aborted.last < offset));
        self.entries.retain(|entry| u64::from(entry.position) < position);
        if self.entries.is_empty() {
            self.max_timestamp = i64::MIN;
        }
    }

    /// The contents of the files, for a segment of `size` bytes.
    pub(crate) fn to_files(&self, size: u64) -> Files {
        let mut offsets = Vec::with_capacity(self.entries.len() * 8 + Index::FOOTER);
        let mut times = Vec::with_capacity((self.entries.len() + 1) * 12 + Index::FOOTER);
        for entry in &self.entries {
            offsets.extend_from_slice(&entry.delta.to_be_bytes());
            offsets.extend_from_slice(&entry.position.to_be_bytes());
            times.extend_from_slice(&entry.before.to_be_bytes());
            times.extend_from_slice(&entry.delta.to_be_bytes());
        }
        times.extend_from_slice(&self.max_timestamp.to_be_bytes());
        times.extend_from_slice(&self.entries.last().map_or(0, |last| last.delta).to_be_bytes());
        // What is not known is said to be there and is not, so that whoever reads it learns it.
        let has_aborted = self.aborted.as_ref().is_none_or(|aborted| !aborted.is_empty());
        let mut aborted = self.aborted.as_ref().filter(|_| has_aborted).map(|all| aborted::to_bytes(all));
        let size = if has_aborted { size | HAS_ABORTED } else { size };
        for file in [Some(&mut offsets), Some(&mut times), aborted.as_mut()].into_iter().flatten() {
            file.extend_from_slice(&size.to_be_bytes());
            file.extend_from_slice(&crc32c(file).to_be_bytes());
        }
        Files { offsets, times, aborted }
    }

    /// Reads the files back, with the size of the segment that they were made for; `None` when the first two are torn or
    /// belong to different segments. `aborted` is asked for where there is more.
    pub(crate) fn from_files(
        offsets: &[u8],
        times: &[u8],
        aborted: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<(Index, u64)> {
        let (offsets, size) = checked(offsets)?;
        let (times, times_size) = checked(times)?;
        let (times, total) = times.split_at_checked(times.len().checked_sub(12)?)?;
        let fits = offsets.len() % 8 == 0 && times.len() / 12 == offsets.len() / 8 && size == times_size;
        if !fits {
            return None;
        }
        let pairs = offsets.chunks_exact(8).zip(times.chunks_exact(12));
        let entries = pairs.map(|(offset, time)| {
            Some(Entry {
                delta: u32::from_be_bytes(*offset.first_chunk()?),
                position: u32::from_be_bytes(*offset.last_chunk()?),
                before: i64::from_be_bytes(*time.first_chunk()?),
            })
        });
        let entries = entries.collect::<Option<Vec<_>>>()?;
        let read = |file: Vec<u8>| aborted::from_bytes(checked(&file).filter(|(_, other)| *other == size)?.0);
        let aborted = if size & HAS_ABORTED == 0 { Some(Vec::new()) } else { aborted().and_then(read) };
        let max_timestamp = i64::from_be_bytes(*total.first_chunk()?);
        Some((Index { entries, max_timestamp, aborted }, size & !HAS_ABORTED))
    }
}

/// What comes before a footer that fits, and the segment's size.
fn checked(file: &[u8]) -> Option<(&[u8], u64)> {
    let (content, crc) = file.split_last_chunk::<4>()?;
    if crc32c(content) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (content, size) = content.split_last_chunk::<8>()?;
    Some((content, u64::from_be_bytes(*size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aqueduct_record::BatchBuilder;

    fn header(timestamp: i64) -> Header {
        let mut builder = BatchBuilder::new();
        builder.push(timestamp, None, Some(b"x"), &[]);
        builder.finish().header()
    }

    /// Batches of 40 KiB at offsets 100, 110, …: every second one gets an entry.
    fn index(timestamps: &[i64]) -> Index {
        let mut index = Index::new();
        for (n, timestamp) in timestamps.iter().enumerate() {
            index.add(100, &header(*timestamp), 100 + n as i64 * 10, n as u64 * (40 << 10));
        }
        index
    }

    #[test]
    fn an_offset_is_found_at_or_after_its_entry() {
        let index = index(&[5, 6, 7, 8, 9]);
        for (delta, position) in [(0, 0), (19, 0), (20, 80 << 10), (39, 80 << 10), (40, 160 << 10), (900, 160 << 10)] {
            assert_eq!(index.floor(delta).unwrap().position, position, "{delta}");
        }
        assert_eq!(Index::new().floor(7), None);
    }

    #[test]
    fn nothing_before_a_time_s_entry_is_as_late() {
        let index = index(&[50, 10, 20, 70, 30, 90]);
        for (timestamp, position) in
            [(1, 0), (50, 0), (51, 80 << 10), (70, 80 << 10), (71, 160 << 10), (999, 160 << 10)]
        {
            assert_eq!(index.before(timestamp).unwrap().position, position, "{timestamp}");
        }
        assert_eq!((index.max_timestamp(), Index::new().max_timestamp()), (Some(90), None));
    }

    #[test]
    fn a_stretch_ends_after_the_last_entry_within_it() {
        let index = index(&[0; 6]);
        for (position, delta, found) in [(1, 1, 0), (81 << 10, 21, 20), (81 << 10, 20, 0), (1 << 30, 1 << 30, 40)] {
            assert_eq!(index.within(position, delta).unwrap().delta, found, "{position} {delta}");
        }
        assert_eq!(index.within(0, 0), None);
    }

    #[test]
    fn files_are_read_back_unless_a_byte_of_them_changed() {
        for index in [Index::new(), index(&[5]), index(&[5, 4, 3, 2, 8, 9, 1])] {
            let Files { offsets, times, aborted } = index.to_files(4711);
            assert_eq!(aborted, None);
            let from_files = |offsets: &[u8], times: &[u8]| Index::from_files(offsets, times, || None);
            assert_eq!(from_files(&offsets, &times), Some((index.clone(), 4711)));
            for at in 0..offsets.len() {
                let mut wrong = offsets.clone();
                wrong[at] ^= 1;
                assert_eq!(from_files(&wrong, &times), None);
            }
            for length in 0..times.len() {
                assert_eq!(from_files(&offsets, &times[..length]), None);
            }
            assert_eq!(from_files(&index.to_files(4712).offsets, &times), None);
        }
    }

    #[test]
    fn aborted_transactions_are_read_back_or_not_known() {
        let entry = |first: Offset, last: Offset| Aborted {
            aborted: aqueduct_api::Aborted { producer_id: 7, first, last },
            stable: last + 1,
        };
        let mut index = index(&[5, 6]);
        index.add_aborted(entry(90, 103));
        index.add_aborted(entry(104, 110));
        let files = index.to_files(4711);
        let aborted = files.aborted.unwrap();
        let read = |aborted: Option<Vec<u8>>| Index::from_files(&files.offsets, &files.times, || aborted).unwrap();
        assert_eq!(read(Some(aborted.clone())), (index.clone(), 4711));
        let other = index.to_files(4712).aborted;
        for wrong in [None, Some(Vec::new()), Some(aborted[1..].to_vec()), other] {
            let (read, size) = read(wrong);
            assert_eq!((read.aborted(), read.max_timestamp(), size), (None, Some(6), 4711));
            let again = read.to_files(4711);
            assert_eq!((again.offsets == files.offsets, again.aborted), (true, None), "it stays unknown");
        }
        index.cut(1 << 20, 110);
        assert_eq!(index.aborted(), Some(&[entry(90, 103)][..]));
    }

    #[test]
    fn what_is_cut_is_forgotten() {
        let mut cut = index(&[5, 6, 7, 8, 9]);
        cut.cut(100 << 10, 120);
        assert_eq!(cut.floor(900).unwrap().delta, 20);
        cut.cut(0, 100);
        assert_eq!(cut, Index::new());
    }
}
