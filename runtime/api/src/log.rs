//! Where records are kept, and how far each reader has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Aborted, Isolation, Result, TopicPartition, Topics};

/// A log with its topics and groups: what the engine runs on.
pub trait Store: Log + Topics + Groups {}

impl<T: Log + Topics + Groups> Store for T {}

/// Partitions of record batches.
#[async_trait]
pub trait Log: Send + Sync {
    /// Gives `batch` its place. Returns once it has one, in the order of the calls' first polls; whether it is safe there
    /// says [`Appended::durable`]. `Retry` when the disk is full, `Refused` when the batch is too large or malformed.
    ///
    /// A batch with a producer id is checked against what that producer wrote before, unless it comes at its own offsets: one
    /// of its last five that comes again is not written again but answered as [`Appended::duplicate`], and one that does not
    /// follow the last is `Refused` with a [`crate::ProducerError`]. One that says that it is transactional belongs to its
    /// producer's transaction, which [`crate::Transactions::end`] ends; without a sequence number (-1) it is not told from one
    /// that was sent before.
    async fn append(&self, to: &TopicPartition, batch: Batch, at: At) -> Result<Appended>;

    /// Where the partition begins and ends.
    async fn bounds(&self, of: &TopicPartition) -> Result<Bounds>;

    /// The offset of the first record whose timestamp is `timestamp` (milliseconds since 1970) or later, else the end.
    async fn find(&self, of: &TopicPartition, timestamp: i64) -> Result<Offset>;

    /// Where a chunk that begins at `from` ends, without reading its records: after the batch that reaches `limit`,
    /// or at the stable end.
    async fn measure(&self, of: &TopicPartition, from: Offset, limit: Limit) -> Result<Measured>;

    /// Batches from the one that holds `from` on, at most `max_bytes` of them but at least one; empty at the end of what
    /// `isolation` lets a reader see.
    async fn read(&self, of: &TopicPartition, from: Offset, max_bytes: usize, isolation: Isolation) -> Result<Read>;

    /// Returns once the end of what `isolation` lets a reader see is past `offset`. Whoever found nothing waits for more than
    /// [`Bounds::readable`] said before it looked: offsets that hold no records may lie between that and where it stands.
    async fn grown(&self, of: &TopicPartition, offset: Offset, isolation: Isolation) -> Result<()>;

    /// Syncs the partition whatever its durability, and returns the offset before which everything is now safe: called
    /// before a position or a pin that depends on the partition is saved.
    async fn sync(&self, of: &TopicPartition) -> Result<Offset>;
}

/// Where an append goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At the end, with the offsets that are next.
    End,
    /// At the end, unless the partition has given offsets back more often than [`Appended::given_back`] said of an earlier
    /// append: whoever has several appends in flight must not get a later one in where an earlier one failed. `Retry`
    /// then.
    EndSince(u64),
    /// At the batch's own offsets, which must not lie before the end; a gap before them stays one.
    OwnOffset,
}

/// A batch that has its place.
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// How often the partition had given back offsets of appends that failed, see [`At::EndSince`].
    pub given_back: u64,
    /// Where the partition has the batch already, since its producer sent it before: the latest timestamp that it has there.
    /// The offsets are those of the first time, and nothing was written.
    pub duplicate: Option<i64>,
    /// Answers when the batch is as safe as its topic's durability asks, or will never be.
    pub durable: Durable,
}

/// The answer whether an append is safe.
pub type Durable = BoxFuture<'static, Result<()>>;

impl Appended {
    /// Waits until the batch is safe.
    pub async fn durable(self) -> Result<Offset> {
        self.durable.await?;
        Ok(self.base_offset)
    }
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is kept.
    pub start: Offset,
    /// The last stable offset, before which readers of what is committed may read: nothing of open transactions, and no further
    /// than the high watermark.
    pub stable: Offset,
    /// The offset before which anybody may read: on `fsync` topics only what is synced.
    pub high_watermark: Offset,
    /// The offset that the next append gets.
    pub end: Offset,
    /// The leader epoch under which appends are written now.
    pub leader_epoch: i32,
    /// How often the partition has given back offsets of appends that failed, or that were not safe when a sync failed.
    pub given_back: u64,
}

impl Bounds {
    /// The end of what a reader sees.
    pub fn readable(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::Uncommitted => self.high_watermark,
            Isolation::Committed => self.stable,
        }
    }
}

/// What makes a chunk ripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes as stored.
    pub bytes: u64,
    /// Records, counted as offsets.
    pub records: u64,
}

/// A stretch of a partition, on batch boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The offset after its last batch; `from` where there is nothing to read.
    pub end: Offset,
    /// Bytes as stored.
    pub bytes: u64,
    /// Whether the limit was reached.
    pub full: bool,
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Whole batches whose CRCs are right, one after the other; the first may begin before the offset asked for.
    pub batches: Bytes,
    /// Offsets that can not be read any more (damaged, or gone before the reader came), when the read began in them: the
    /// reader says so loudly and goes on after them.
    pub lost: Option<std::ops::Range<Offset>>,
    /// Transactions that were aborted and have records among these, where only what is committed was asked for:
    /// [`Read::into_batches`] leaves those out.
    pub aborted: Vec<Aborted>,
}

/// How far each group of readers has come, as Kafka's group coordinator keeps it.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Assigns the group to the caller: every token given before is void from now on, in this process too.
    async fn join(&self, group: &str) -> Result<Token>;

    /// What the group has committed.
    async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>>;

    /// Commits, durably, all or nothing; `None` forgets a partition. `Fatal` when `token` is void.
    async fn commit(&self, token: &Token, offsets: Vec<(TopicPartition, Option<Committed>)>) -> Result<()>;

    /// All groups that have committed something, or that members are remembered of.
    async fn groups(&self) -> Result<Vec<String>>;
}

/// The right to commit for a group, void as soon as somebody else joins. As long as it or a clone of it lives, the group
/// is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The group.
    pub group: String,
    /// Rises with every assignment.
    pub generation: i32,
    claim: Arc<()>,
}

impl Token {
    /// The right to commit for `group`, given by who keeps its offsets.
    pub fn new(group: impl Into<String>, generation: i32) -> Self {
        Token { group: group.into(), generation, claim: Arc::new(()) }
    }

    /// What lives as long as the token and its clones do.
    pub fn claim(&self) -> Weak<()> {
        Arc::downgrade(&self.claim)
    }
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to deliver.
    pub offset: Offset,
    /// The leader epoch of the record before it, -1 where unknown.
    pub leader_epoch: i32,
    /// At most 4 KiB, for whoever commits.
    pub metadata: String,
}
