//! What records go through between a source and the log, or the log and a sink: pure, a batch at a time.

use std::borrow::Cow;

use aqueduct_record::{Offset, Record};
use async_trait::async_trait;

use crate::Result;

/// Makes records of records. Pure: what is made of a record depends on that record alone, not on which others come with
/// it, and is the same at any time, on any machine, so that a delivery that is repeated writes the same again. No clock, no chance, no environment. A remote is asked only for what
/// never changes (a schema by its id); when it does not answer, that is an [`Error::Retry`](crate::Error::Retry), and when it
/// does not know it yet, the record is unfit [for now](Unfit::for_now).
#[async_trait]
pub trait Transform: Send + Sync {
    /// Makes none, one or more records of each draft, in order; those made of one draft keep its offset. The future may
    /// be dropped at any await, and the same drafts come again.
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>>;
}

/// A record on its way through transforms; what none of them changes stays borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft<'a> {
    /// On the way to a sink the topic that it comes from; on the way from a source the one that it goes to, which a
    /// transform may change.
    pub topic: Cow<'a, str>,
    /// The partition that it comes from; `None` on the way from a source.
    pub partition: Option<i32>,
    /// Which record it was made of: its offset; on the way from a source its place in what was read at once. Stays.
    pub offset: Offset,
    /// In ms since 1970.
    pub timestamp: i64,
    /// The key; `None`: null.
    pub key: Option<Cow<'a, [u8]>>,
    /// The value; `None`: null.
    pub value: Option<Cow<'a, [u8]>>,
    /// The headers, in order; keys may repeat.
    pub headers: Vec<DraftHeader<'a>>,
}

/// A draft's header: its name, and its value, which may be null.
pub type DraftHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

impl<'a> Draft<'a> {
    /// The draft of a record that is or goes where `topic` and `partition` say.
    pub fn of(record: &Record<'a>, topic: &'a str, partition: Option<i32>) -> Draft<'a> {
        Draft {
            topic: Cow::Borrowed(topic),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(Cow::Borrowed),
            value: record.value.map(Cow::Borrowed),
            headers: record.headers.iter().map(|(key, value)| (Cow::Borrowed(key), value.map(Cow::Borrowed))).collect(),
        }
    }
}

/// What became of drafts.
#[derive(Debug, Default)]
pub struct Transformed<'a> {
    /// What was made of them, in order.
    pub drafts: Vec<Draft<'a>>,
    /// Those that no record can be made of: the record goes to the dead letters, and nothing that was made of it goes on.
    pub unfit: Vec<Unfit>,
}

/// A record that a transform can make nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The draft's offset.
    pub offset: Offset,
    /// Why, for people.
    pub reason: String,
    /// Whether another answer may come later, as where a schema is not known yet: on the way to a sink this record's dead letter
    /// is durable before anything is written of those that come with it, so that it stays dead when they come again. On the way
    /// from a source that is so for every record.
    pub for_now: bool,
}
