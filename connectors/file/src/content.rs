//! The bytes of a file, inflated where it is compressed.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_api::disk::{Metadata, Open};
use aqueduct_api::{Disk, File};
use flate2::read::MultiGzDecoder;

/// An open file.
#[derive(Clone)]
pub(crate) enum Content {
    /// As it is.
    Plain(Arc<dyn File>),
    /// Gzip, of one member or several (RFC 1952).
    Gzip(Arc<dyn File>, Arc<Mutex<Inflated>>),
}

/// How far a compressed file was inflated; what was read last is kept, since a line may end in the next stretch.
#[derive(Default)]
pub(crate) struct Inflated {
    decoder: Option<MultiGzDecoder<InOrder>>,
    /// The stored length at which nothing more could be inflated.
    ended: Option<u64>,
    /// When the file had been written to last, as inflating began.
    modified: i64,
    /// Why it ended where no member ends.
    damage: Option<Damage>,
    kept: Vec<u8>,
    /// Where `kept` begins.
    from: u64,
}

/// Why a compressed file can not be inflated further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// It ends in the middle of a member: the rest is being written, or was lost.
    Cut,
    /// What comes next is not what was written: this is wrong with it.
    Wrong(String),
}

/// A file read from its beginning on.
struct InOrder {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
    /// From where on each byte is handed out alone.
    slow_from: u64,
    /// Where it is taken to end.
    to: u64,
}

/// What stays of the inflated bytes before an offset that was asked for: enough to check a position.
const BEHIND: u64 = 2048;

/// How far a decoder may read ahead of what it hands out, in compressed bytes, and more.
const AROUND: u64 = 64 << 10;

/// How much may be inflated behind what was handed out, and more.
const LOST: u64 = 256 << 10;

impl Content {
    /// Opens a file.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, inflate: bool) -> io::Result<Content> {
        let file = disk.open(path, Open::Read)?;
        Ok(if inflate && is_gzip(path) { Content::Gzip(file, Arc::default()) } else { Content::Plain(file) })
    }

    /// Whether the file is compressed: its length says nothing of how much is left to read.
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self, Content::Gzip(..))
    }

    /// What kept the last read from inflating more: a compressed file says where it ends.
    pub(crate) fn damage(&self) -> Option<Damage> {
        match self {
            Content::Plain(_) => None,
            Content::Gzip(_, inflated) => inflated.lock().unwrap_or_else(PoisonError::into_inner).damage.clone(),
        }
    }

    /// Whether what was read to its end may be all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.damage().is_none()
    }

    /// What the file is now.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Content::Plain(file) | Content::Gzip(file, _) => file.metadata(),
        }
    }

    /// How many bytes there are, inflated ones where the file is compressed.
    pub(crate) fn length(&self) -> io::Result<u64> {
        if let Content::Plain(file) = self {
            return Ok(file.metadata()?.length);
        }
        let (mut length, mut block) = (0, Vec::new());
        loop {
            block.clear();
            match self.read(&mut block, 1 << 20, length)? {
                0 => return Ok(length),
                read => length += read as u64,
            }
        }
    }

    /// Where the last line that has an end ends: 0 where there is none.
    pub(crate) fn last_end(&self, delimiter: u8) -> io::Result<u64> {
        let (mut to, mut block) = (self.length()?, Vec::new());
        while to > 0 {
            let from = to.saturating_sub(64 << 10);
            block.clear();
            self.read(&mut block, (to - from) as usize, from)?;
            if let Some(at) = memchr::memrchr(delimiter, &block) {
                return Ok(from + at as u64 + 1);
            }
            to = from;
        }
        Ok(0)
    }

    /// Whether another file begins with all that is in this one, as far as a stretch of `compared` bytes at its head and
    /// one before its end tell (at the head alone where it is compressed).
    pub(crate) fn is_beginning_of(&self, other: &Content, compared: u64) -> io::Result<bool> {
        let mut stretches = vec![0];
        if !self.is_compressed() {
            stretches.push(self.length()?.saturating_sub(compared));
        }
        for from in stretches {
            let (mut mine, mut theirs) = (Vec::new(), Vec::new());
            let length = self.read(&mut mine, compared as usize, from)?;
            other.read(&mut theirs, length, from)?;
            if mine != theirs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends up to `length` bytes from `offset` on, and says how many: fewer only at the end of what is there. A
    /// compressed file that is still being written, or is damaged, ends where it can not be inflated further.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => file.read_at(buffer, length, offset),
            Content::Gzip(file, inflated) => {
                let mut inflated = inflated.lock().unwrap_or_else(PoisonError::into_inner);
                inflated.read(file, buffer, length, offset)
            }
        }
    }
}

/// Whether a name says that the file is compressed.
pub(crate) fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

impl Inflated {
    fn read(&mut self, file: &Arc<dyn File>, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        let end = offset + length as u64;
        let now = if self.decoder.is_none() || offset < self.from { Some(file.metadata()?) } else { None };
        let changed = |now: Metadata| (self.ended, self.modified) != (Some(now.length), now.modified);
        if let Some(now) = now.filter(|now| offset < self.from || changed(*now)) {
            let decoder = Some(InOrder::inflated(file, u64::MAX, u64::MAX));
            *self = Inflated { decoder, modified: now.modified, ..Inflated::default() };
        }
        let mut block = Vec::new();
        while self.from + (self.kept.len() as u64) < end {
            let Some(decoder) = &mut self.decoder else { break };
            block.resize(128 << 10, 0);
            match decoder.read(&mut block) {
                Ok(count) if count > 0 => self.keep(&block[..count], offset),
                // The rest may not be written yet: a read after that begins anew.
                Ok(_) => self.end(None),
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => self.end(Some(Damage::Cut)),
                Err(cause) if matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                    let read = decoder.get_ref().at;
                    self.salvage(file, read, offset)?;
                    (self.ended, self.decoder) = (Some(file.metadata()?.length), None);
                    self.damage = Some(Damage::Wrong(cause.to_string()));
                }
                Err(cause) => {
                    *self = Inflated::default();
                    return Err(cause);
                }
            }
        }
        let there = self.kept.len() as u64;
        let skip = offset.saturating_sub(self.from).min(there) as usize;
        let take = (self.kept.len() - skip).min(length);
        buffer.extend_from_slice(&self.kept[skip..skip + take]);
        Ok(take)
    }

    fn end(&mut self, damage: Option<Damage>) {
        self.damage = damage;
        self.ended = self.decoder.take().map(|decoder| decoder.get_ref().at);
    }

    /// Keeps what comes before the damage, which is not far before `read` in the file: of a stretch that can not be inflated
    /// whole, a decoder hands out nothing, so it is given one byte after the other.
    fn salvage(&mut self, file: &Arc<dyn File>, read: u64, offset: u64) -> io::Result<()> {
        // What is damaged lies before `read`. Where the file was written to meanwhile, much more might be inflated now.
        let mut decoder = InOrder::inflated(file, read.saturating_sub(AROUND), read);
        let good = self.from + self.kept.len() as u64;
        io::copy(&mut Read::take(&mut decoder, good), &mut io::sink())?;
        let (mut decoder, mut block) = (decoder.take(LOST), vec![0; 64 << 10]);
        while let Ok(count @ 1..) = decoder.read(&mut block) {
            self.keep(&block[..count], offset);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8], offset: u64) {
        self.kept.extend_from_slice(bytes);
        let gone = offset.saturating_sub(BEHIND).saturating_sub(self.from).min(self.kept.len() as u64);
        if gone > 1 << 20 || gone == self.kept.len() as u64 {
            self.kept.drain(..gone as usize);
            self.from += gone;
        }
    }
}

impl InOrder {
    fn inflated(file: &Arc<dyn File>, slow_from: u64, to: u64) -> MultiGzDecoder<InOrder> {
        MultiGzDecoder::new(InOrder { file: file.clone(), at: 0, buffer: Vec::new(), slow_from, to })
    }
}

impl Read for InOrder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.buffer.clear();
        let before = usize::try_from(self.slow_from.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let left = usize::try_from(self.to.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = self.file.read_at(&mut self.buffer, into.len().min(before.max(1)).min(left), self.at)?;
        into[..count].copy_from_slice(&self.buffer);
        self.at += count as u64;
        Ok(count)
    }
}
