//! Topics: their names, identities and settings, under Kafka's configuration names.

use std::fmt;
use std::sync::Arc;

use aqueduct_record::{Compression, Offset};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, Error, Result, Span};

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Counted from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What makes two topics of one name different: 128 random bits, written as Kafka writes them (22 characters of
/// URL-safe base64, KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u128);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.to_be_bytes()))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for TopicId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        bytes.map(|bytes| TopicId(u128::from_be_bytes(bytes))).ok_or_else(|| {
            Error::refused(format!("{text:?} is not a topic id: expected 22 characters of URL-safe base64"))
        })
    }
}

impl Serialize for TopicId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Unique among the topics that exist.
    pub name: Arc<str>,
    /// Unique among the topics that ever existed.
    pub id: TopicId,
    /// How many partitions it has; may grow, never shrinks.
    pub partitions: i32,
    /// How it is kept.
    pub settings: TopicSettings,
}

impl Topic {
    /// Whether the runtime keeps its own state in it: globs never match it, and it is always synced.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with("__")
    }

    /// All its partitions.
    pub fn all_partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        (0..self.partitions).map(|partition| TopicPartition::new(self.name.clone(), partition))
    }
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CleanupPolicy {
    /// Whole segments go when they are past `retention.ms` or the partition is past `retention.bytes`.
    #[default]
    Delete,
    /// The last record of each key stays.
    Compact,
}

/// When an append counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After `fdatasync`, shared by all that wait for the same file.
    #[default]
    Fsync,
    /// Once written; the file is synced every second.
    Interval,
    /// Once written; the operating system syncs when it likes.
    Os,
}

/// How a topic is kept, under Kafka's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// How old a record may get before its segment goes; -1: for ever. Default: 7d.
    #[serde(rename = "retention.ms")]
    pub retention: Span,
    /// How many bytes a partition may keep; absent: no limit. Default: absent.
    #[serde(rename = "retention.bytes", skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<ByteSize>,
    /// How large a segment file gets before the next begins. Default: 256 MiB.
    #[serde(rename = "segment.bytes")]
    pub segment_bytes: ByteSize,
    /// How old a segment gets before the next begins. Default: 7d.
    #[serde(rename = "segment.ms")]
    pub segment_age: Span,
    /// Delete old segments, or keep the last record of each key. Default: delete.
    #[serde(rename = "cleanup.policy")]
    pub cleanup: CleanupPolicy,
    /// The largest batch that is taken, as stored. Default: 17 MiB, so that a file line of 16 MiB fits.
    #[serde(rename = "max.message.bytes")]
    pub max_batch: ByteSize,
    /// What sources compress batches with before they are appended: none, gzip, snappy, lz4, zstd. `none` also
    /// stands for Kafka's `producer`: a batch is stored as it came. Default: none.
    #[serde(rename = "compression.type", with = "compression_name")]
    #[schemars(with = "String")]
    pub compression: Compression,
    /// How long a tombstone outlives compaction. Default: 1d.
    #[serde(rename = "delete.retention.ms")]
    pub tombstone_retention: Span,
    /// When an append counts as safe. Default: fsync.
    pub durability: Durability,
    /// Set by the runtime on topics that hold dead letters: globs never match them. Default: false.
    #[serde(rename = "aqueduct.dead-letters", skip_serializing_if = "std::ops::Not::not")]
    pub dead_letters: bool,
}

impl TopicSettings {
    /// How a topic is kept whose last record of each key is what somebody remembers: for good, and on the disk at once.
    pub fn table() -> Self {
        TopicSettings {
            cleanup: CleanupPolicy::Compact,
            retention: Span::FOREVER,
            durability: Durability::Fsync,
            ..TopicSettings::default()
        }
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            retention: Span::days(7),
            retention_bytes: None,
            segment_bytes: ByteSize::mib(256),
            segment_age: Span::days(7),
            cleanup: CleanupPolicy::Delete,
            max_batch: ByteSize::mib(17),
            compression: Compression::None,
            tombstone_retention: Span::days(1),
            durability: Durability::Fsync,
            dead_letters: false,
        }
    }
}

mod compression_name {
    use super::Compression;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Compression, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "producer" => Ok(Compression::None),
            name => name.parse().map_err(|_| {
                serde::de::Error::custom(format!(
                    "unknown compression `{name}`, expected one of `none`, `producer`, `gzip`, `snappy`, `lz4`, `zstd`"
                ))
            }),
        }
    }
}

/// The topics of a cluster.
#[async_trait]
pub trait Topics: Send + Sync {
    /// All topics, internal ones too, by name.
    async fn topics(&self) -> Result<Vec<Topic>>;

    /// The topic of a name, if there is one.
    async fn topic(&self, name: &str) -> Result<Option<Topic>> {
        Ok(self.topics().await?.into_iter().find(|topic| *topic.name == *name))
    }

    /// The topic of an id, if there is one.
    async fn topic_of(&self, id: TopicId) -> Result<Option<Topic>> {
        Ok(self.topics().await?.into_iter().find(|topic| topic.id == id))
    }

    /// Makes a topic; `Refused` where one of that name exists or the name is not one that Kafka takes.
    async fn create(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic>;

    /// Changes a topic's settings, or makes it grow to `partitions`; `Refused` where it would shrink.
    async fn alter(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic>;

    /// Deletes a topic and its records; `Refused` while somebody holds records of it, unless `force`.
    async fn delete(&self, name: &str, force: bool) -> Result<()>;

    /// Keeps the records of a partition from `offset` on, until the hold is moved or dropped: retention, compaction
    /// and deletion do not pass it. `holder` says who wants them, for people.
    async fn hold(&self, of: &TopicPartition, offset: Offset, holder: &str) -> Result<Hold>;
}

/// Keeps a partition's records from an offset on while it lives.
pub struct Hold {
    advance: Box<dyn Fn(Option<Offset>) + Send + Sync>,
}

impl Hold {
    /// A hold that tells the log of its moves: a new offset, or `None` when it is dropped.
    pub fn new(advance: impl Fn(Option<Offset>) + Send + Sync + 'static) -> Self {
        Hold { advance: Box::new(advance) }
    }

    /// Moves the hold: records before `offset` may go.
    pub fn advance(&self, offset: Offset) {
        (self.advance)(Some(offset));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        (self.advance)(None);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
