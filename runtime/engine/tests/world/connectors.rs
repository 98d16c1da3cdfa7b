//! A source and a sink that do as they are told, and remember.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{
    ByteSize, Chunk, DeadLetter, Error, Incoming, NamedBy, Outcome, Position, Problem, Registry, Rejected, Result,
    Settings, Sink, SinkOpening, SinkSettings, Source, SourceOpening, SourceSettings, Stream, TopicPartition,
};
use aqueduct_record::{BatchBuilder, Offset};
use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::outside::{Do, Document, Given, Id, Name, Outside};

pub fn registry() -> Registry {
    Registry::default()
        .source::<Script>()
        .source::<super::clients::Clients>()
        .sink::<Objects>()
        .sink::<Documents>()
        .transform::<super::sevenths::Sevenths>()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    outside: u64,
    /// Lines in one batch.
    #[serde(default = "three")]
    lines: usize,
}

fn three() -> usize {
    3
}

impl Settings for Script {
    const NAME: &'static str = "script";
    const SUMMARY: &'static str = "reads what a test says";

    fn problems(&self) -> Vec<Problem> {
        match self.lines {
            0 => vec![Problem::new("lines", "is 0")],
            _ => Vec::new(),
        }
    }
}

#[async_trait]
impl SourceSettings for Script {
    async fn open(self, opening: SourceOpening) -> Result<Box<dyn Source>> {
        let outside = Outside::of(self.outside);
        *outside.opened.lock() += 1;
        let mut at = BTreeMap::new();
        for (stream, position) in &opening.positions {
            let id: serde_json::Value = serde_json::from_str(&stream.id).unwrap();
            let position: serde_json::Value = position.read()?;
            at.insert(id["stream"].as_str().unwrap().to_owned(), position["at"].as_u64().unwrap() as usize);
        }
        Ok(Box::new(ScriptSource { outside, at, lines: self.lines, batch: opening.batch }))
    }

    async fn probe(&self, _: SourceOpening) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

struct ScriptSource {
    outside: Arc<Outside>,
    at: BTreeMap<String, usize>,
    lines: usize,
    batch: ByteSize,
}

impl ScriptSource {
    fn next(&mut self) -> Option<Incoming> {
        let streams = self.outside.streams.lock();
        let (name, lines) = streams.iter().find(|(name, lines)| self.at.get(*name).unwrap_or(&0) < &lines.len())?;
        let from = *self.at.get(name).unwrap_or(&0);
        let mut records = BatchBuilder::new();
        let (mut at, mut last, mut dead_letter) = (from, false, None);
        let most = self.outside.at_once.lock().unwrap_or(self.lines);
        for line in lines[from..].iter().take(most) {
            let is_special = ["bad", "end", "panic", "big"].iter().any(|word| line.starts_with(word));
            let is_full = records.size() + line.len() > self.batch.0 as usize;
            if (is_special || is_full) && at > from {
                break;
            }
            at += 1;
            match line.split_once(' ') {
                _ if line == "panic" => panic!("told to"),
                _ if line == "end" => last = true,
                Some(("bad", _)) => {
                    dead_letter = Some(DeadLetter {
                        value: Some(Bytes::from(line.clone())),
                        headers: vec![("path".into(), Bytes::from(name.clone()))],
                        reason: "a bad line".into(),
                    });
                }
                Some(("big", size)) => {
                    let value = vec![b'x'; size.parse().unwrap()];
                    records.push(1000, None, Some(&value), &[]);
                }
                _ => records.push(1000 + at as i64, Some(name.as_bytes()), Some(line.as_bytes()), &[("h", Some(b"1"))]),
            }
            if is_special {
                break;
            }
        }
        self.at.insert(name.clone(), at);
        let stream = Stream { id: json!({ "stream": name }).to_string(), key: name.clone() };
        let position = Position::of(&json!({ "at": at })).unwrap();
        Some(Incoming { last, dead_letter, ..Incoming::records(Arc::new(stream), position, records) })
    }
}

#[async_trait]
impl Source for ScriptSource {
    async fn read(&mut self) -> Result<Option<Incoming>> {
        let mut changed = self.outside.changed.subscribe();
        loop {
            if let Some(incoming) = self.next() {
                return Ok(Some(incoming));
            }
            changed.changed().await.map_err(Error::retry)?;
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    outside: u64,
    /// Part of every name.
    #[schemars(extend("x-shaping" = true))]
    place: String,
}

impl Settings for Objects {
    const NAME: &'static str = "objects";
    const SUMMARY: &'static str = "writes where a test looks";
}

#[async_trait]
impl SinkSettings for Objects {
    async fn open(self, _: SinkOpening) -> Result<Box<dyn Sink>> {
        let outside = Outside::of(self.outside);
        match self.place.as_str() {
            "nowhere" => Err(Error::fatal("there is no such place")),
            _ => Ok(Box::new(ObjectsSink { outside, place: self.place })),
        }
    }

    async fn probe(&self, _: SinkOpening) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn destination(&self, _: &SinkOpening) -> Option<String> {
        Some(format!("{}/{}", self.outside, self.place))
    }
}

struct ObjectsSink {
    outside: Arc<Outside>,
    place: String,
}

#[async_trait]
impl Sink for ObjectsSink {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        assert_eq!(chunks.len(), 1, "what is named by chunk comes alone");
        let todo = self.outside.script.lock().pop_front().unwrap_or(Do::Write);
        let mut outcome = Outcome::default();
        for (index, chunk) in chunks.iter_mut().enumerate() {
            self.outside.notes.lock().push(chunk.note.clone());
            self.outside.given_up.lock().push(chunk.given_up);
            match &todo {
                Do::Retry => return Err(Error::retry("not now")),
                Do::Fatal => return Err(Error::fatal("never")),
                Do::Refuse => return Err(Error::refused("not this")),
                Do::Panic => panic!("told to"),
                Do::Wait(duration) => tokio::time::sleep(*duration).await,
                Do::Note(note) => {
                    chunk.save_note(note).await?;
                    return Err(Error::retry("after the note"));
                }
                _ => {}
            }
            if matches!(todo, Do::Half) {
                let middle = (chunk.start + chunk.end) / 2;
                outcome.unfinished.push((index, middle..chunk.end));
                continue;
            }
            self.write_one(index, chunk, &mut outcome).await?;
            match &todo {
                Do::WriteAndHang => std::future::pending().await,
                Do::WriteAndWait(duration) => tokio::time::sleep(*duration).await,
                _ => {}
            }
        }
        Ok(outcome)
    }
}

impl ObjectsSink {
    async fn write_one(&self, index: usize, chunk: &Chunk, outcome: &mut Outcome) -> Result<()> {
        let name = Name {
            place: self.place.clone(),
            topic: chunk.partition.topic.to_string(),
            partition: chunk.partition.partition,
            start: chunk.start,
            end: chunk.end,
            run: chunk.run,
        };
        let mut values = Vec::new();
        let mut batches = chunk.batches();
        while let Some(batch) = batches.next().await? {
            for record in batch.records()?.iter() {
                let record = record?;
                assert!(record.headers.get(aqueduct_api::POSITION_HEADER).is_none());
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                match value.starts_with("reject") {
                    true => outcome.rejected.push(Rejected {
                        chunk: index,
                        offset: record.offset,
                        reason: format!("does not like {value}"),
                    }),
                    false => values.push(value),
                }
            }
        }
        let mut objects = self.outside.objects.lock();
        if let Some(before) = objects.get(&name) {
            let is_part = chunk.ranges != std::slice::from_ref(&(chunk.start..chunk.end));
            assert!(is_part || *before == values, "{name:?} was written with other records");
        }
        self.outside.writes.lock().push((name.clone(), chunk.redelivered));
        objects.insert(name, values);
        Ok(())
    }
}

/// Writes every record under its own name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Documents {
    outside: u64,
    /// Is not read.
    #[serde(default, rename = "place")]
    _place: String,
}

impl Settings for Documents {
    const NAME: &'static str = "documents";
    const SUMMARY: &'static str = "writes records where a test looks";
}

#[async_trait]
impl SinkSettings for Documents {
    const NAMED_BY: NamedBy = NamedBy::Record;

    async fn open(self, _: SinkOpening) -> Result<Box<dyn Sink>> {
        let outside = Outside::of(self.outside);
        Ok(Box::new(DocumentsSink { outside }))
    }

    async fn probe(&self, _: SinkOpening) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn destination(&self, _: &SinkOpening) -> Option<String> {
        None
    }
}

struct DocumentsSink {
    outside: Arc<Outside>,
}

#[async_trait]
impl Sink for DocumentsSink {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        let given = chunks.iter().map(|chunk| Given {
            partition: chunk.partition.clone(),
            ranges: chunk.ranges.clone(),
            whole: chunk.start..chunk.end,
            redelivered: chunk.redelivered,
            incarnation: chunk.incarnation,
        });
        self.outside.calls.lock().push(given.collect());
        let todo = self.outside.script.lock().pop_front().unwrap_or(Do::Write);
        let mut outcome = Outcome::default();
        match &todo {
            Do::Retry => return Err(Error::retry("not now")),
            Do::Fatal => return Err(Error::fatal("never")),
            Do::Panic => panic!("told to"),
            Do::Wait(duration) => tokio::time::sleep(*duration).await,
            Do::Note(note) => {
                for chunk in chunks.iter_mut() {
                    chunk.save_note(note).await?;
                }
                return Err(Error::retry("after the note"));
            }
            _ => {}
        }
        for (index, chunk) in chunks.iter().enumerate() {
            let mut until = chunk.end;
            if matches!(todo, Do::Half) {
                until = (chunk.start + chunk.end) / 2;
                outcome.unfinished.push((index, until..chunk.end));
                outcome.after = Some(Duration::from_secs(3));
            }
            self.write_one(index, chunk, until, &mut outcome).await?;
        }
        match &todo {
            Do::WriteAndHang => std::future::pending().await,
            Do::WriteAndWait(duration) => tokio::time::sleep(*duration).await,
            _ => {}
        }
        Ok(outcome)
    }
}

impl DocumentsSink {
    async fn write_one(&self, index: usize, chunk: &Chunk, until: Offset, outcome: &mut Outcome) -> Result<()> {
        let mut batches = chunk.batches();
        while let Some(batch) = batches.next().await? {
            for record in batch.records()?.iter() {
                let record = record?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (value, offset) = (text(record.value.unwrap_or_default()), record.offset);
                match value.split(' ').next() {
                    _ if offset >= until => {}
                    Some("refuse") => return Err(Error::refused("does not like some of it")),
                    Some("reject") => {
                        let reason = format!("does not like {value}");
                        outcome.rejected.push(Rejected { chunk: index, offset, reason });
                    }
                    _ => {
                        let version = (chunk.incarnation, offset);
                        self.put(chunk, Document { key: record.key.map(text), value, version, times: 1 });
                    }
                }
            }
        }
        Ok(())
    }

    /// What is written again under a name is the same.
    fn put(&self, chunk: &Chunk, document: Document) {
        let (topic, partition) = (chunk.topic_id.0, chunk.partition.partition);
        let id = Id { topic, partition, offset: document.version.1 };
        let mut documents = self.outside.documents.lock();
        let times = documents.get(&id).map_or(0, |before| before.times);
        if let Some(before) = documents.insert(id.clone(), Document { times: times + 1, ..document.clone() }) {
            assert_eq!(before, Document { times, ..document }, "{id:?} was written with something else");
        }
    }
}
