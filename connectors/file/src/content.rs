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
    kept: Vec<u8>,
    /// Where `kept` begins.
    from: u64,
}

/// A file read from its beginning on.
struct InOrder {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
}

/// What stays of the inflated bytes before an offset that was asked for: enough to check a position.
const BEHIND: u64 = 2048;

impl Content {
    /// Opens a file.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, inflate: bool) -> io::Result<Content> {
        let file = disk.open(path, Open::Read)?;
        let gzip = inflate && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        Ok(if gzip { Content::Gzip(file, Arc::default()) } else { Content::Plain(file) })
    }

    /// Whether the file is compressed: its length says nothing of how much is left to read.
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self, Content::Gzip(..))
    }

    /// What the file is now.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Content::Plain(file) | Content::Gzip(file, _) => file.metadata(),
        }
    }

    /// Appends up to `length` bytes from `offset` on, and says how many: fewer only at the end of what is there. A
    /// compressed file that is still being written ends where it can not be inflated further.
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

impl Inflated {
    fn read(&mut self, file: &Arc<dyn File>, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        if self.decoder.is_none() || offset < self.from {
            let in_order = InOrder { file: file.clone(), at: 0, buffer: Vec::new() };
            *self = Inflated { decoder: Some(MultiGzDecoder::new(in_order)), kept: Vec::new(), from: 0 };
        }
        let end = offset + length as u64;
        let mut block = vec![0; 128 << 10];
        while self.from + (self.kept.len() as u64) < end {
            let Some(decoder) = &mut self.decoder else { break };
            match decoder.read(&mut block) {
                Ok(0) => break,
                Ok(count) => self.keep(&block[..count], offset),
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                    // The rest is not written yet: the next read begins anew.
                    self.decoder = None;
                    break;
                }
                Err(cause) => {
                    self.decoder = None;
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

    fn keep(&mut self, bytes: &[u8], offset: u64) {
        self.kept.extend_from_slice(bytes);
        let gone = offset.saturating_sub(BEHIND).saturating_sub(self.from).min(self.kept.len() as u64);
        if gone > 1 << 20 || gone == self.kept.len() as u64 {
            self.kept.drain(..gone as usize);
            self.from += gone;
        }
    }
}

impl Read for InOrder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.buffer.clear();
        let count = self.file.read_at(&mut self.buffer, into.len(), self.at)?;
        into[..count].copy_from_slice(&self.buffer);
        self.at += count as u64;
        Ok(count)
    }
}
