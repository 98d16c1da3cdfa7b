//! The sink: chunks in, longer files out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Chunk, ChunkBatch, Edge, Error, Outcome, Rejected, Result, Sink, SinkOpening};
use aqueduct_record::{Offset, Record};
use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::sink_format::FileFormat;
use crate::sink_journal::{Journal, Lane, Place};
use crate::sink_settings::FileSinkSettings;
use crate::sink_writing::{Buffer, Shape, Writing};

/// How much is collected until it is written and synced, in bytes: what a chunk costs in memory, and the most that goes
/// into one compressed member.
const STEP: usize = 8 << 20;

/// How often, and how long apart, the folder's lock is asked for until the engine is told to try again later.
const LOOKS: u32 = 250;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Appends chunks to files.
pub(crate) struct FileSink {
    edge: Edge,
    name: String,
    place: Place,
    shape: Shape,
    format: FileFormat,
    /// As the last finished write left it; nothing while one is under way, and after one that failed.
    journal: Arc<Mutex<Option<Journal>>>,
}

/// A chunk's records on their way to their files.
struct Collected<'a> {
    sink: &'a FileSink,
    chunk: (usize, &'a Chunk),
    done: Offset,
    /// The name that all records of the chunk have, once it is known.
    fixed: Option<String>,
    buffers: BTreeMap<String, Buffer>,
    /// What is written already is encoded for its rejections alone.
    spare: Vec<u8>,
    size: usize,
    rejected: &'a mut Vec<Rejected>,
}

impl FileSink {
    /// A sink for a folder.
    pub(crate) fn new(settings: &FileSinkSettings, opening: &SinkOpening) -> Result<Self> {
        let shape = settings.shape().map_err(|told| Error::fatal(format!("path: {told}")))?;
        let root = shape.naming.root(&opening.folder);
        let edge = opening.edge.clone();
        let place = Place { disk: edge.disk.clone(), root };
        let journal = Arc::new(Mutex::new(None));
        Ok(FileSink { edge, name: opening.name.clone(), place, shape, format: settings.format, journal })
    }

    async fn write_chunk(&self, index: usize, chunk: &Chunk, rejected: &mut Vec<Rejected>) -> Result<()> {
        let mut writing = self.begin().await?;
        let lane = Lane {
            sink: self.name.clone(),
            topic: chunk.partition.topic.to_string(),
            partition: chunk.partition.partition,
            run: chunk.run,
            given_up: chunk.given_up,
        };
        let done = writing.done(&lane, chunk.topic_id);
        let mut collected = Collected {
            sink: self,
            chunk: (index, chunk),
            done,
            fixed: None,
            buffers: BTreeMap::new(),
            spare: Vec::new(),
            size: 0,
            rejected,
        };
        let mut batches = chunk.batches();
        while let Some(batch) = batches.next().await? {
            collected.take(&batch)?;
            if collected.size >= STEP {
                writing = self.append(writing, collected.buffers()).await?;
            }
        }
        writing = self.append(writing, collected.buffers()).await?;
        let (topic_id, end) = (chunk.topic_id, chunk.end);
        self.edge.blocking(move || writing.finish(lane, topic_id, end)).await?
    }

    /// Waits for its turn. What is dropped here or later is let go when its blocking job is done, not earlier.
    async fn begin(&self) -> Result<Writing> {
        let kept = self.journal.clone().lock_owned().await;
        let mut owner = String::new();
        for _ in 0..LOOKS {
            let (place, name) = (self.place.clone(), self.name.clone());
            match self.edge.blocking(move || place.lock(&format!("sink {name}"))).await?? {
                Ok(lock) => {
                    let (place, shape) = (self.place.clone(), self.shape.clone());
                    return self.edge.blocking(move || Writing::begin(place, shape, kept, lock)).await?;
                }
                Err(held) => owner = held,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Error::retry(format!("{} is being written by {owner}", self.place.root.display())))
    }

    async fn append(&self, mut writing: Writing, buffers: BTreeMap<String, Buffer>) -> Result<Writing> {
        if buffers.is_empty() {
            return Ok(writing);
        }
        self.edge.blocking(move || writing.append(buffers).map(|()| writing)).await?
    }
}

impl Collected<'_> {
    fn take(&mut self, batch: &ChunkBatch) -> Result<()> {
        for record in batch.records()?.iter() {
            let record = record?;
            if let Err(reason) = self.push(&record) {
                self.rejected.push(Rejected { chunk: self.chunk.0, offset: record.offset, reason });
            }
        }
        Ok(())
    }

    fn push(&mut self, record: &Record<'_>) -> Result<(), String> {
        let (shape, of) = (&self.sink.shape, &self.chunk.1.partition);
        let name = match self.fixed.take() {
            Some(name) => name,
            None => shape.naming.name(of, record)?,
        };
        let is_done = record.offset < self.done;
        let encoded = if is_done {
            self.spare.clear();
            self.sink.format.encode(of, record, &mut self.spare)
        } else {
            self.encode(&name, record)
        };
        if shape.naming.is_fixed() {
            self.fixed = Some(name);
        }
        encoded
    }

    fn encode(&mut self, name: &str, record: &Record<'_>) -> Result<(), String> {
        let of = &self.chunk.1.partition;
        if let Some(buffer) = self.buffers.get_mut(name) {
            let before = buffer.bytes.len();
            self.sink.format.encode(of, record, &mut buffer.bytes)?;
            buffer.records += 1;
            self.size += buffer.bytes.len() - before;
            return Ok(());
        }
        let mut buffer = Buffer { records: 1, ..Buffer::default() };
        self.sink.format.encode(of, record, &mut buffer.bytes)?;
        // A name costs memory, too.
        self.size += buffer.bytes.len() + name.len();
        self.buffers.insert(name.to_owned(), buffer);
        Ok(())
    }

    fn buffers(&mut self) -> BTreeMap<String, Buffer> {
        self.size = 0;
        std::mem::take(&mut self.buffers)
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (index, chunk) in chunks.iter().enumerate() {
            self.write_chunk(index, chunk, &mut outcome.rejected).await?;
        }
        Ok(outcome)
    }
}
