//! What who serves clients asks of a log besides [`crate::Log`]: records where they lie, and a word when there are more.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aqueduct_record::Offset;
use async_trait::async_trait;
use bytes::Bytes;

use crate::disk::File;
use crate::{Aborted, Isolation, Result, TopicPartition};

/// Records that are passed on as they lie, and partitions that many are waited for at once.
#[async_trait]
pub trait Stretches: Send + Sync {
    /// As [`crate::Log::read`], but for records that are known to be whole it says where they are, and does not read them.
    async fn stretch(
        &self,
        of: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Stretch>;

    /// Tells `watcher` of `mark` whenever the partition's bounds have moved or its topic is gone, until the watch is dropped.
    fn watch(&self, of: &TopicPartition, watcher: &Arc<dyn Watcher>, mark: u32) -> Result<Watch>;
}

/// Whole batches, one after the other; the first may begin before the offset asked for.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// The batches.
    pub records: Records,
    /// The offset after the last of them; where there are none, that from which on there may be some: it lies after the offset
    /// asked for where nothing is left between that and a transaction under way.
    pub next: Offset,
    /// Offsets that can not be read any more, see [`crate::Read::lost`].
    pub lost: Option<Range<Offset>>,
    /// Transactions that were aborted, see [`crate::Read::aborted`].
    pub aborted: Vec<Aborted>,
}

/// Records, or where they are.
#[derive(Clone, Debug)]
pub enum Records {
    /// In memory: their CRCs are right.
    Bytes(Bytes),
    /// In a file that is there as long as this is.
    File(Part),
}

/// A part of a file.
#[derive(Clone)]
pub struct Part {
    /// The file, whatever becomes of its name.
    pub file: Arc<dyn File>,
    /// Where the part begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: usize,
}

impl Records {
    /// How many bytes they are.
    pub fn len(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(part) => part.length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Records {
    fn default() -> Self {
        Records::Bytes(Bytes::new())
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from {} on", self.length, self.offset)
    }
}

/// Who is told of partitions that move.
pub trait Watcher: Send + Sync {
    /// The partition of this mark has moved. Called by who moved it: it must not wait, and not ask the log.
    fn moved(&self, mark: u32);
}

/// Ends a watch when dropped.
pub struct Watch(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Watch {
    /// A watch that `end` ends.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Watch(Some(Box::new(end)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
