//! A file that is being read, or was.

use std::path::PathBuf;
use std::sync::Arc;

use aqueduct_api::Stream;
use aqueduct_api::disk::Metadata;
use tokio::time::Instant;

use crate::content::Content;
use crate::framing::Skip;
use crate::progress::{Progress, shortened};

/// Names a tail for as long as the process runs; a later one is a later file.
pub(crate) type TailId = u64;

/// A file that is being read, or was.
pub(crate) struct Tail {
    /// Its identity; the key is the path that it was first seen at.
    pub(crate) stream: Arc<Stream>,
    /// How far it was read.
    pub(crate) progress: Progress,
    /// Where it is now, if anywhere.
    pub(crate) path: Option<PathBuf>,
    /// Open while it is read.
    pub(crate) content: Option<Content>,
    /// Whether it is compressed: its length says nothing of how much is left to read.
    pub(crate) compressed: bool,
    /// Its length (as stored) when it was last seen.
    pub(crate) length: u64,
    /// When it was last written to, as its file system says.
    pub(crate) modified: i64,
    /// The length at which nothing complete was left to read.
    pub(crate) exhausted: Option<u64>,
    /// Whether something incomplete was left then.
    pub(crate) partial: bool,
    /// Whether it must be compared with what was read from it, even where nothing seems to be new.
    pub(crate) doubtful: bool,
    /// Whether it could not be read: it is tried again after the next walk.
    pub(crate) failed: bool,
    /// When its length, its place, or what a compressed one holds last changed.
    pub(crate) changed: Instant,
    /// Whether it was read whole after it was rotated away.
    pub(crate) finished: bool,
    /// The file that it replaces, which is read to its end first.
    pub(crate) after: Option<TailId>,
    /// Whether its name is that of another file with something added, as rotation leaves it.
    pub(crate) displaced: bool,
    /// How far a line that is too long was scanned.
    pub(crate) skip: Option<Skip>,
    /// Since when it is in none of the places that were looked at.
    pub(crate) gone: Option<Instant>,
}

impl Tail {
    /// A file that nothing is known of but what was read from it.
    pub(crate) fn new(stream: Arc<Stream>, progress: Progress, now: Instant) -> Self {
        Tail {
            stream,
            failed: false,
            doubtful: progress.offset > 0,
            progress,
            path: None,
            content: None,
            compressed: false,
            length: 0,
            modified: 0,
            exhausted: None,
            partial: false,
            changed: now,
            finished: false,
            after: None,
            displaced: false,
            skip: None,
            gone: None,
        }
    }

    /// Whether the file is no longer where it was first seen, or was first seen where rotation leaves files: nobody is
    /// expected to write to it any more.
    pub(crate) fn is_rotated(&self) -> bool {
        self.compressed || self.displaced || self.path.as_deref().map(shortened).as_deref() != Some(&self.stream.key)
    }

    /// Whether all bytes that are there were consumed.
    pub(crate) fn is_at_end(&self) -> bool {
        if self.compressed { self.is_exhausted() && !self.partial } else { self.length <= self.progress.offset }
    }

    /// Whether there was nothing complete left to read, and the file has not changed since.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted == Some(self.length)
    }

    /// Takes note of what the file is now.
    pub(crate) fn look(&mut self, metadata: Metadata, now: Instant) {
        let (length, modified) = (metadata.length, metadata.modified);
        // One that was written to and did not grow may have been written anew.
        if length <= self.length && (length, modified) != (self.length, self.modified) {
            self.doubtful |= self.progress.offset > 0;
            (self.exhausted, self.skip, self.progress.whole) = (None, None, 0);
        }
        // A compressed one may be filled in place, at the length that it shall have.
        if length != self.length || (self.compressed && modified != self.modified) {
            self.changed = now;
        }
        (self.length, self.modified) = (length, modified);
    }

    /// Whether the file is shorter than what was read from it.
    pub(crate) fn was_truncated(&self, length: u64) -> bool {
        !self.compressed && length < self.progress.offset
    }
}
