//! The way in: what a source hands over.

use std::fmt;
use std::sync::Arc;

use aqueduct_record::{BatchBuilder, Offset};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::{Error, Result, TopicPartition};

/// Reads one system. Opened at saved positions by [`SourceSettings::open`](crate::SourceSettings::open).
#[async_trait]
pub trait Source: Send {
    /// Waits for something new; `None` when there will never be more. The future may be dropped at any await: what was
    /// not returned must be read again by the next call (or the next process, from the saved positions).
    async fn read(&mut self) -> Result<Option<Incoming>>;
}

/// What a source read: it becomes one batch of one partition.
pub struct Incoming {
    /// What it was read from.
    pub stream: Arc<Stream>,
    /// How far the source has come in the stream after these records. `None`: the source can not read again.
    pub position: Option<Position>,
    /// Whether the stream has ended for good: its position is forgotten.
    pub last: bool,
    /// The topic that they go to, where the source is asked for one of its own; `None`: the source's topic. Must exist, or
    /// may be made.
    pub topic: Option<Arc<str>>,
    /// The partition that they go to, where whoever sent them chose; `None`: the one that the stream keeps.
    pub partition: Option<i32>,
    /// The records, already in batch form. Empty: only the position is saved, once the stream's earlier records are durable.
    pub records: BatchBuilder,
    /// Input that can not be a record (a line that is too long): goes to the dead letters, under the same position. An
    /// `Incoming` carries either records or a dead letter, so that each position stands for one append.
    pub dead_letter: Option<DeadLetter>,
    /// Whoever waits for the records to be durable.
    pub done: Option<Done>,
}

impl Incoming {
    /// Records read from `stream` up to `position`.
    pub fn records(stream: Arc<Stream>, position: Position, records: BatchBuilder) -> Self {
        Incoming {
            stream,
            position: Some(position),
            last: false,
            topic: None,
            partition: None,
            records,
            dead_letter: None,
            done: None,
        }
    }
}

/// What a source reads: a file, a shard, a bucket. Its identity is stable across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// A JSON object that identifies it, in a fixed spelling, at most 4 KiB.
    pub id: String,
    /// What decides the partition that the stream gets first: streams of one key share one (for a file, its first path).
    pub key: String,
}

/// How far a source has come in a stream: a JSON object in the source's own words, at most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(String);

impl Position {
    /// Writes a position.
    ///
    /// # Errors
    /// `Fatal` when it is not an object or longer than 4 KiB as JSON.
    pub fn of(position: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string(position).map_err(|cause| Error::fatal(format!("write position: {cause}")))?;
        Self::from_json(text)
    }

    /// Takes a position that was written before.
    ///
    /// # Errors
    /// `Fatal` as in [`Position::of`].
    pub fn from_json(text: String) -> Result<Self> {
        match text.len() {
            0..=4096 if text.starts_with('{') => Ok(Position(text)),
            0..=4096 => Err(Error::fatal(format!("position {text} is not a JSON object"))),
            length => Err(Error::fatal(format!("position of {length} bytes is longer than 4096"))),
        }
    }

    /// Reads a position back.
    ///
    /// # Errors
    /// `Fatal` when it was written by something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|cause| Error::fatal(format!("read position {}: {cause}", self.0)))
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// Input that no record can be made of.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What is kept of it: the original bytes, or a description where they are too large.
    pub value: Option<Bytes>,
    /// What identifies it: path, byte range, checksum.
    pub headers: Vec<(String, Bytes)>,
    /// Why it can not be a record.
    pub reason: String,
}

/// The answer to whoever waits for records to be durable. Dropped without an answer means: not taken.
pub struct Done(oneshot::Sender<Result<(TopicPartition, Offset)>>);

impl Done {
    /// An answer and the place to wait for it.
    pub fn channel() -> (Done, oneshot::Receiver<Result<(TopicPartition, Offset)>>) {
        let (sender, receiver) = oneshot::channel();
        (Done(sender), receiver)
    }

    /// The records are durable from `offset` of `partition` on.
    pub fn durable(self, partition: TopicPartition, offset: Offset) {
        // Whoever waited may have gone away: nothing is owed to them then.
        let _ = self.0.send(Ok((partition, offset)));
    }

    /// The records were not taken: `Retry` where the log may take them later.
    pub fn not_taken(self, why: Error) {
        let _ = self.0.send(Err(why));
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_small_json_objects() {
        let position = Position::of(&serde_json::json!({"offset": 7})).unwrap();
        assert_eq!(position.as_json(), r#"{"offset":7}"#);
        assert_eq!(position.read::<serde_json::Value>().unwrap()["offset"], 7);
        assert!(Position::of(&7).unwrap_err().to_string().contains("not a JSON object"));
        let long = Position::of(&serde_json::json!({ "x": "y".repeat(5000) }));
        assert!(long.unwrap_err().to_string().contains("longer than 4096"));
    }

    #[tokio::test]
    async fn a_dropped_done_means_not_taken() {
        let (done, answer) = Done::channel();
        drop(done);
        assert!(answer.await.is_err());
        let (done, answer) = Done::channel();
        done.durable(TopicPartition::new("t", 1), 42);
        assert_eq!(answer.await.unwrap().unwrap(), (TopicPartition::new("t", 1), 42));
        let (done, answer) = Done::channel();
        done.not_taken(Error::retry("full"));
        assert!(answer.await.unwrap().unwrap_err().is_retry());
    }
}
