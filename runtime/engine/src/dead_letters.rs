//! Where a connector's dead letters go: original bytes, with Kafka Connect's headers on what happened.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_api::fault::{Mutant, mutated, point};
use aqueduct_api::{
    Appended, At, ByteSize, Durability, Error, Isolation, POSITION_HEADER, Result, Span, TopicPartition, TopicSettings,
};
use aqueduct_record::{Batch, BatchBuilder, Headers, Offset};

use crate::host::Host;
use crate::lease::Lease;

/// Kafka Connect's header that names the connector.
pub(crate) const CONNECTOR_HEADER: &str = "__connect.errors.connector.name";

const TOPIC_HEADER: &str = "__connect.errors.topic";
const PARTITION_HEADER: &str = "__connect.errors.partition";
const OFFSET_HEADER: &str = "__connect.errors.offset";
const STAGE_HEADER: &str = "__connect.errors.stage";
const MESSAGE_HEADER: &str = "__connect.errors.exception.message";
/// The largest batch that there is: whatever was taken once fits again, with what its headers say.
const LARGEST: ByteSize = ByteSize(i32::MAX as u64);
/// How much of a reason is kept, in bytes: destinations answer with whole pages.
const LONGEST_REASON: usize = 8 << 10;

/// The dead letters of one run of a connector.
pub(crate) struct DeadLetters {
    host: Arc<Host>,
    lease: Lease,
    connector: String,
    class: String,
    topic: TopicPartition,
    /// Whether the topic was seen to be there.
    there: AtomicBool,
}

/// What a dead letter says beside its bytes.
pub(crate) struct Reason<'a> {
    /// Where the record was, or was going.
    pub(crate) partition: &'a TopicPartition,
    /// Its offset, where it had one.
    pub(crate) offset: Option<Offset>,
    /// At what stage it failed, in Kafka Connect's words.
    pub(crate) stage: Stage,
    /// Why, for people.
    pub(crate) message: &'a str,
}

/// Kafka Connect's stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The source could not make a record of it.
    Poll,
    /// A transform could make nothing of it.
    Transformation,
    /// The log did not take it.
    Produce,
    /// The log could not give it any more.
    Consume,
    /// The destination did not take it.
    Put,
}

/// The bytes of a dead letter.
#[derive(Default)]
pub(crate) struct Original<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl DeadLetters {
    /// The dead letters of a connector, in a topic that is made when first needed.
    pub(crate) fn new(host: &Arc<Host>, lease: &Lease, names: (&str, &str), topic: String) -> Self {
        let (connector, class) = names;
        DeadLetters {
            host: host.clone(),
            lease: lease.clone(),
            connector: connector.to_owned(),
            class: class.to_owned(),
            topic: TopicPartition::new(topic, 0),
            there: AtomicBool::new(false),
        }
    }

    /// Its one partition.
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.topic
    }

    /// Whether the topic is there already.
    pub(crate) async fn exists(&self) -> Result<bool> {
        if !self.there.load(Ordering::Relaxed) {
            let topics = self.host.store.topics().await?;
            self.there.store(topics.iter().any(|topic| topic.name == self.topic.topic), Ordering::Relaxed);
        }
        Ok(self.there.load(Ordering::Relaxed))
    }

    /// Makes the topic where it is missing, and marks one that was made by hand.
    pub(crate) async fn make(&self) -> Result<()> {
        let store = &self.host.store;
        let name = &*self.topic.topic;
        let Some(topic) = store.topics().await?.into_iter().find(|topic| *topic.name == *name) else {
            let settings = TopicSettings {
                dead_letters: true,
                max_batch: LARGEST,
                retention: Span::FOREVER,
                durability: Durability::Fsync,
                ..TopicSettings::default()
            };
            return store.create(name, 1, &settings).await.map(drop);
        };
        let settings = TopicSettings {
            dead_letters: true,
            max_batch: LARGEST,
            durability: Durability::Fsync,
            ..topic.settings.clone()
        };
        match topic.partitions {
            1 if settings == topic.settings => Ok(()),
            1 => store.alter(name, 1, &settings).await.map(drop),
            partitions => {
                Err(Error::fatal(format!("topic {name} has {partitions} partitions: dead letters need exactly one")))
            }
        }
    }

    /// An offset before which no later dead letter will be; 0 where the topic is not there yet.
    pub(crate) async fn end(&self) -> Result<Offset> {
        match self.exists().await? {
            true => Ok(self.host.store.bounds(&self.topic).await?.stable),
            false => Ok(0),
        }
    }

    /// The offsets within `range` of a partition that this connector has dead letters of, from `from` on, each with the stage
    /// at which it failed. No earlier run of the connector appends any more.
    pub(crate) async fn written(
        &self,
        from: Offset,
        of: &TopicPartition,
        range: Range<Offset>,
    ) -> Result<BTreeMap<Offset, Stage>> {
        let mut found = BTreeMap::new();
        if mutated(Mutant::DeadLetterTwice) || !self.exists().await? {
            return Ok(found);
        }
        let store = &self.host.store;
        let end = store.sync(&self.topic).await?;
        let start = store.bounds(&self.topic).await?.start;
        let mut next = if from > end { start } else { from.max(start) };
        while next < end {
            let read = store.read(&self.topic, next, 1 << 20, Isolation::Uncommitted).await?;
            let before = next;
            next = read.lost.as_ref().map_or(next, |lost| lost.end.max(next));
            for batch in read.into_own_batches() {
                let batch = batch.map_err(Error::retry)?;
                next = batch.next_offset().max(next);
                self.learn(&batch, of, &range, &mut found)?;
            }
            if next == before {
                break;
            }
        }
        Ok(found)
    }

    fn learn(
        &self,
        batch: &Batch,
        of: &TopicPartition,
        range: &Range<Offset>,
        found: &mut BTreeMap<Offset, Stage>,
    ) -> Result<()> {
        for record in batch.records().map_err(Error::retry)?.iter() {
            let headers = record.map_err(Error::retry)?.headers;
            let ours = text(headers, CONNECTOR_HEADER) == Some(&self.connector);
            let same = text(headers, TOPIC_HEADER) == Some(&*of.topic)
                && number(headers, PARTITION_HEADER) == Some(i64::from(of.partition));
            match number(headers, OFFSET_HEADER) {
                Some(offset) if ours && same && range.contains(&offset) => {
                    found.insert(offset, Stage::named(text(headers, STAGE_HEADER)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a dead letter to a batch.
    pub(crate) fn push(&self, builder: &mut BatchBuilder, original: Original<'_>, reason: &Reason<'_>) {
        let (stage, exception) = reason.stage.names();
        let partition = reason.partition.partition.to_string();
        let offset = reason.offset.map(|offset| offset.to_string());
        let mut headers = original.headers;
        let mut add = |name, value| headers.push((name, Some(value)));
        add(TOPIC_HEADER, reason.partition.topic.as_bytes());
        add(PARTITION_HEADER, partition.as_bytes());
        if let Some(offset) = &offset {
            add(OFFSET_HEADER, offset.as_bytes());
        }
        add(CONNECTOR_HEADER, self.connector.as_bytes());
        add("__connect.errors.task.id", b"0");
        add(STAGE_HEADER, stage.as_bytes());
        add("__connect.errors.class.name", self.class.as_bytes());
        add("__connect.errors.exception.class.name", exception.as_bytes());
        add(MESSAGE_HEADER, cut(reason.message).as_bytes());
        builder.push(original.timestamp, original.key, original.value, &headers);
    }

    /// Gives dead letters their place.
    pub(crate) async fn append(&self, batch: Batch, at: At) -> Result<Appended> {
        self.make().await?;
        point("deadletter.append");
        let appended = self.lease.append(&self.topic, batch, at).await?;
        point("deadletter.append");
        Ok(appended)
    }
}

/// What a dead letter says of itself.
pub(crate) struct Said<'a> {
    pub(crate) connector: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    /// `None` where it was on its way to the topic.
    pub(crate) offset: Option<Offset>,
    pub(crate) stage: &'a str,
    pub(crate) message: &'a str,
}

impl<'a> Said<'a> {
    /// What its headers say: ours stand behind those that the record had itself, which may have been a letter's too.
    pub(crate) fn of(headers: Headers<'a>) -> Self {
        let own = original_headers(headers).count();
        let ours = headers.without(POSITION_HEADER).iter().skip(own);
        let mut said = Said { connector: "", topic: "", partition: None, offset: None, stage: "", message: "" };
        for (name, value) in ours {
            let value = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
            match name {
                CONNECTOR_HEADER => said.connector = value,
                TOPIC_HEADER => said.topic = value,
                PARTITION_HEADER => said.partition = value.parse().ok(),
                OFFSET_HEADER => said.offset = value.parse().ok(),
                STAGE_HEADER => said.stage = value,
                MESSAGE_HEADER => said.message = value,
                _ => {}
            }
        }
        said
    }

    /// Whether it stands for records that can not be read any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.stage == Stage::Consume.names().0
    }
}

impl Stage {
    fn named(name: Option<&str>) -> Self {
        let mut all = [Stage::Poll, Stage::Transformation, Stage::Produce, Stage::Consume].into_iter();
        all.find(|stage| Some(stage.names().0) == name).unwrap_or(Stage::Put)
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Stage::Poll => ("TASK_POLL", "aqueduct.Unreadable"),
            Stage::Transformation => ("TRANSFORMATION", "aqueduct.Unfit"),
            Stage::Produce => ("KAFKA_PRODUCE", "aqueduct.Refused"),
            Stage::Consume => ("KAFKA_CONSUME", "aqueduct.Lost"),
            Stage::Put => ("TASK_PUT", "aqueduct.Rejected"),
        }
    }
}

/// The beginning of a reason, where it is too long.
fn cut(reason: &str) -> &str {
    let end = (0..=LONGEST_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or(0)]
}

/// The headers that a dead letter's record had itself.
pub(crate) fn original_headers(headers: Headers<'_>) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    // Ours come behind them, the topic first; a letter of a letter has two of those.
    let headers = headers.without(POSITION_HEADER);
    let own = headers.iter().enumerate().filter(|(_, (name, _))| *name == TOPIC_HEADER).last();
    headers.iter().take(own.map_or(usize::MAX, |(at, _)| at))
}

fn text<'a>(headers: Headers<'a>, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)??).ok()
}

fn number(headers: Headers<'_>, name: &str) -> Option<i64> {
    text(headers, name)?.parse().ok()
}
