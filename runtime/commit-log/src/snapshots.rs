//! What is known of producers, on disk: a file beside each of the last two segments says what was known where the segment
//! begins, so that a recovery need not read what lies before; and the note of a clean stop has it all.
//!
//! ```text
//! version u16 = 2 | producers u32
//! (id i64 | epoch i16 | seen i64 | coordinator epoch i32 | first offset of the open transaction i64, -1: none
//!  | batches u8 | (sequence i32 | delta i32 | base offset i64 | timestamp i64)*)*
//! CRC-32C of all before u32
//! ```
//!
//! Everything before a segment is durable when the segment is begun, so a file either is torn or tells the truth. One that is
//! torn or gone is made anew from the headers of the batches behind the one before it. Version 1 knew no transactions.

use std::io::{self, IoSlice};
use std::path::Path;

use aqueduct_api::Result;
use aqueduct_api::disk::{Disk, Open};
use aqueduct_api::fault::{self, Mutant};
use aqueduct_record::{Offset, crc32c};

use crate::folder::{at, read_whole, remove_if_there, sync_parent};
use crate::names::{self, PRODUCERS};
use crate::partition::Partition;
use crate::producers::{Known, Producers, Sent};
use crate::writer::Writer;

const VERSION: u16 = 2;
/// The version that knew no transactions.
const WITHOUT_TRANSACTIONS: u16 = 1;
/// How many files are kept: where the last is torn, the one before it is read.
const KEPT: usize = 2;

/// Which files there are.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// The segments that have one, in order.
    pub(crate) bases: Vec<Offset>,
    /// Whether producers were known where the last segment begins. There is a file then, unless somebody removed it.
    pub(crate) are_due: bool,
}

impl Producers {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(10 + self.all().len() * 151);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(self.all().len() as u32).to_be_bytes());
        for (id, known) in self.all() {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&known.epoch.to_be_bytes());
            bytes.extend_from_slice(&known.seen.to_be_bytes());
            bytes.extend_from_slice(&known.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&known.open.unwrap_or(-1).to_be_bytes());
            bytes.push(known.sent.len() as u8);
            for sent in &known.sent {
                bytes.extend_from_slice(&sent.sequence.to_be_bytes());
                bytes.extend_from_slice(&sent.delta.to_be_bytes());
                bytes.extend_from_slice(&sent.base.to_be_bytes());
                bytes.extend_from_slice(&sent.timestamp.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// What [`Producers::to_bytes`] made; `None` where it is torn or of another version.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c(content) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut fields = Fields(content);
        let version = u16::from_be_bytes(fields.take()?);
        if ![VERSION, WITHOUT_TRANSACTIONS].contains(&version) {
            return None;
        }
        let count = u32::from_be_bytes(fields.take()?);
        let known = (0..count).map(|_| fields.producer(version)).collect::<Option<Producers>>()?;
        fields.0.is_empty().then_some(known)
    }
}

/// Takes fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn producer(&mut self, version: u16) -> Option<(i64, Known)> {
        let id = i64::from_be_bytes(self.take()?);
        let epoch = i16::from_be_bytes(self.take()?);
        let seen = i64::from_be_bytes(self.take()?);
        let (coordinator_epoch, open) = match version {
            WITHOUT_TRANSACTIONS => (-1, -1),
            _ => (i32::from_be_bytes(self.take()?), i64::from_be_bytes(self.take()?)),
        };
        let open = (open >= 0 && !fault::mutated(Mutant::OpenForgotten)).then_some(open);
        let [count] = self.take()?;
        let sent = (0..count).map(|_| {
            Some(Sent {
                sequence: i32::from_be_bytes(self.take()?),
                delta: i32::from_be_bytes(self.take()?),
                base: i64::from_be_bytes(self.take()?),
                timestamp: i64::from_be_bytes(self.take()?),
            })
        });
        let sent = sent.collect::<Option<Vec<_>>>()?;
        Some((id, Known { epoch, sent, seen, coordinator_epoch, open }))
    }
}

/// What was known where a segment begins; `None` where its file is gone or torn.
pub(crate) fn load(disk: &dyn Disk, folder: &Path, base: Offset) -> Result<Option<Producers>> {
    let path = names::path(folder, base, PRODUCERS);
    let Some(found) = read_whole(disk, &path).map_err(at(&path))? else { return Ok(None) };
    let known = Producers::from_bytes(&found);
    if known.is_none() {
        tracing::warn!(path = %path.display(), "what is known of producers can not be read: it is made anew");
    }
    Ok(known)
}

/// Writes what is known where a segment begins, durably.
pub(crate) fn store(disk: &dyn Disk, folder: &Path, base: Offset, known: &Producers) -> io::Result<()> {
    let path = names::path(folder, base, PRODUCERS);
    let file = disk.open(&path, Open::Write)?;
    file.truncate(0)?;
    fault::point("producers.write");
    file.write_at(&[IoSlice::new(&known.to_bytes())], 0)?;
    file.sync()?;
    sync_parent(disk, &path)
}

impl Partition {
    /// Writes what is known of producers where a segment is about to begin. Where that fails, the next recovery begins with
    /// the file before, as long as there is one.
    pub(crate) fn note_producers(&self, writer: &mut Writer, base: Offset) -> Result<()> {
        self.forget_snapshots_past(writer, base)?;
        let known = self.producers_before(base);
        writer.snapshots.are_due = !known.is_empty();
        if known.is_empty() || writer.snapshots.bases.contains(&base) {
            return Ok(());
        }
        match self.store_producers(base, &known) {
            Ok(()) => writer.snapshots.bases.push(base),
            Err(cause) if writer.snapshots.bases.is_empty() => return Err(cause),
            Err(cause) => tracing::warn!(partition = %self.of, %cause, "what is known of producers is not written"),
        }
        Ok(())
    }

    /// Removes what was written for segments behind a gap that came to nothing: others have written into the gap.
    fn forget_snapshots_past(&self, writer: &mut Writer, base: Offset) -> Result<()> {
        while let Some(past) = writer.snapshots.bases.last().copied().filter(|past| *past > base) {
            let path = names::path(&self.folder, past, PRODUCERS);
            remove_if_there(self.shared.disk(), &path).map_err(at(&path))?;
            writer.snapshots.bases.pop();
        }
        Ok(())
    }

    /// Says on disk that no producer was known where the segment begins that the first one writes to: else a recovery would
    /// have to look for older ones.
    pub(crate) fn note_first_producer(&self, writer: &mut Writer, base: Offset) -> Result<()> {
        let snapshots = &writer.snapshots;
        if snapshots.are_due || snapshots.bases.contains(&base) || self.segments.read().len() < 2 {
            return Ok(());
        }
        self.store_producers(base, &Producers::default())?;
        writer.snapshots.bases.push(base);
        Ok(())
    }

    fn store_producers(&self, base: Offset, known: &Producers) -> Result<()> {
        let make = || store(self.shared.disk(), &self.folder, base, known);
        let made = if self.is_internal() { self.shared.room.or_on_ballast(make) } else { make() };
        made.map_err(at(&names::path(&self.folder, base, PRODUCERS)))
    }

    /// Removes the files that are not needed once a segment has begun.
    pub(crate) fn drop_old_producers(&self, writer: &mut Writer) {
        let kept = if writer.snapshots.are_due { KEPT } else { 0 };
        let surplus = writer.snapshots.bases.len().saturating_sub(kept);
        for base in writer.snapshots.bases.drain(..surplus) {
            // What stays is removed at the next start.
            let _ = remove_if_there(self.shared.disk(), &names::path(&self.folder, base, PRODUCERS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(count: usize) -> Producers {
        let sent = |n: i64| Sent { sequence: n as i32, delta: 2, base: n * 7, timestamp: n - 1 };
        let known = |n: i64| {
            let (sent, open) = ((0..n % 6).map(sent).collect(), (n % 2 == 1).then_some(n * 3));
            (n << 40, Known { epoch: n as i16, sent, seen: -n, coordinator_epoch: n as i32 - 1, open })
        };
        (0..count as i64).map(known).collect()
    }

    #[test]
    fn what_is_known_is_read_back_unless_a_byte_of_it_changed() {
        for count in [0, 1, 7] {
            let (before, bytes) = (known(count), known(count).to_bytes());
            let after = Producers::from_bytes(&bytes).unwrap();
            assert!(before.all().eq(after.all()), "{count}");
            for at in 0..bytes.len() {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1;
                assert!(Producers::from_bytes(&wrong).is_none(), "{count}: byte {at}");
                assert!(Producers::from_bytes(&bytes[..at]).is_none(), "{count}: cut at {at}");
            }
        }
    }

    #[test]
    fn a_file_with_a_right_sum_and_wrong_content_is_no_snapshot() {
        let sealed = |content: &[u8]| [content, &crc32c(content).to_be_bytes()].concat();
        let good = known(2).to_bytes();
        let good = &good[..good.len() - 4];
        assert!(Producers::from_bytes(&sealed(good)).is_some());
        for wrong in [&good[..good.len() - 1], &[good, &[0]].concat(), &[&[0, 9], &good[2..]].concat(), &[0, 1][..]] {
            assert!(Producers::from_bytes(&sealed(wrong)).is_none());
        }
        let old = [&1u16.to_be_bytes()[..], &1u32.to_be_bytes(), &7i64.to_be_bytes(), &[0, 3], &[0; 8], &[0]].concat();
        let old =
            Producers::from_bytes(&sealed(&old)).expect("what was written before there were transactions is read");
        let (id, known) = old.all().next().unwrap();
        assert_eq!((id, known.epoch, known.coordinator_epoch, known.open), (7, 3, -1, None));
        let claims = [&1u16.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat();
        assert!(Producers::from_bytes(&sealed(&claims)).is_none(), "a count is not trusted");
    }
}
