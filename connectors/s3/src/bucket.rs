//! Where objects are put: a narrow view that an S3 bucket and a folder share.

use std::fmt;
use std::ops::Range;

use aqueduct_api::{Chunk, Error, Result, TopicId};
use aqueduct_record::Offset;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A place for objects, each of which becomes visible whole or not at all.
#[async_trait]
pub(crate) trait Bucket: Send + Sync {
    /// How large the parts of an object are that is uploaded in parts, in bytes; smaller objects are put whole.
    fn part_size(&self) -> usize;

    /// Whether the object is there, whole and durable. `Fatal` when one of another topic has its name. What a chunk that was
    /// given up left under its name does not count: it is to be replaced.
    async fn find(&self, object: &Object) -> Result<bool>;

    /// Whether it is sure that a put of an object that is there leaves it alone, and fails where it is of another topic.
    fn is_refusing(&self) -> bool;

    /// Puts a whole object; durable on return.
    async fn put(&self, object: &Object, bytes: Vec<u8>) -> Result<()>;

    /// Begins an object of many parts, which is not visible before it is complete.
    async fn begin(&self, object: &Object) -> Result<Box<dyn Upload>>;

    /// Gives up an upload that somebody else began; one that is gone already is no error.
    async fn abort(&self, note: &Note) -> Result<()>;
}

/// An object on its way. Dropping it leaves nothing visible.
#[async_trait]
pub(crate) trait Upload: Send {
    /// What has to be known to abort the upload later, where it outlives the process.
    fn note(&self) -> Option<Note>;

    /// Takes the next part (all but the last are of the part size) and answers with an empty buffer for the one after it.
    async fn part(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>>;

    /// Makes the object visible; durable on return.
    async fn complete(self: Box<Self>) -> Result<()>;

    /// Gives it up, as far as that can be done now.
    async fn abort(self: Box<Self>);
}

/// An object of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its name under the url: parts that are neither empty nor begin with a dot, joined by `/`.
    pub(crate) name: String,
    /// The topic's name.
    pub(crate) topic: String,
    /// The topic's identity: an object that is there under the name must be of the same.
    pub(crate) topic_id: TopicId,
    /// How often the sink was rewound.
    pub(crate) run: u32,
    /// How often chunks that reached behind the first offset of its chunk were given up (`sinks unpin`): what is there under its
    /// name with a lower number is theirs.
    pub(crate) given_up: u32,
    /// The partition of its chunk.
    pub(crate) partition: i32,
    /// The offsets of its chunk.
    pub(crate) offsets: Range<Offset>,
    /// Whether its name says where its chunk ends.
    pub(crate) tells_end: bool,
}

impl Object {
    /// The object `name` of `chunk`, whose end is part of the name or not.
    pub(crate) fn of(chunk: &Chunk, name: String, tells_end: bool) -> Self {
        let (topic, partition) = (chunk.partition.topic.to_string(), chunk.partition.partition);
        let Chunk { topic_id, run, given_up, start, end, .. } = *chunk;
        Object { name, topic, topic_id, run, given_up, partition, offsets: start..end, tells_end }
    }

    /// Why it is not written: chunks were given up more often when what `place` stands for was written.
    pub(crate) fn outdated(&self, place: impl fmt::Display, given_up: u32) -> Error {
        let (name, ours) = (&self.name, self.given_up);
        Error::fatal(format!(
            "{name}: {place} is of a time when chunks had been given up {given_up} times here, and this one is of one when \
             they had {ours} times: what was committed is older than what was written: rewind the sink (`aqueduct sinks rewind`)"
        ))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is saved with a chunk about an upload before its first part is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The object's name under the url.
    pub(crate) object: String,
    /// The store's id of the upload.
    pub(crate) upload: String,
}
