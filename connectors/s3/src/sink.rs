//! The sink: chunks in, objects out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aqueduct_api::{Chunk, Edge, Error, Outcome, Rejected, Result, Sink, SinkOpening};
use aqueduct_record::{Offset, Record};
use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::S3Settings;
use crate::body::{Body, Finished, put_small};
use crate::bucket::{Bucket, Note, Object};
use crate::compressor::{Compression, Spare};
use crate::encoder::Encoder;
use crate::expect::Expectations;
use crate::format::Format;
use crate::layout::{Layout, Paths, Place, Share, Style};
use crate::schema::Field;
use crate::spill::Spill;
use crate::tabular::{Shapes, Tabular};

/// How many small objects of a chunk are put at once.
const PUTS: usize = 8;

/// How large the row groups of all chunks under way may be together, before they are encoded.
const ROW_GROUPS: u64 = 256 << 20;

/// How many records of a topic's first object are looked at before it is begun, where its schema is inferred.
const GLANCE: usize = 500;

/// Writes chunks as objects.
pub(crate) struct ObjectSink {
    bucket: Arc<dyn Bucket>,
    layout: Layout,
    format: Format,
    compression: Compression,
    level: Option<i32>,
    /// How rows are made of records, where the format has columns.
    tabular: Option<Tabular>,
    /// Which columns objects will have whose schema is inferred.
    expectations: Expectations,
    /// Room for the row groups of chunks under way.
    row_groups: Semaphore,
    edge: Edge,
    scratch: PathBuf,
}

/// The records of a chunk that can not be written, and why.
type Rejections = BTreeMap<Offset, String>;

impl ObjectSink {
    /// A sink into `bucket`.
    pub(crate) fn new(settings: &S3Settings, opening: &SinkOpening, bucket: Arc<dyn Bucket>) -> Result<Self> {
        Ok(ObjectSink {
            bucket,
            layout: settings.names()?,
            format: settings.format,
            compression: settings.compression(),
            level: settings.compression_level,
            tabular: Tabular::new(settings),
            expectations: Expectations::default(),
            row_groups: Semaphore::new((ROW_GROUPS / settings.row_group.0.max(1)).max(1) as usize),
            edge: opening.edge.clone(),
            scratch: opening.scratch.clone(),
        })
    }

    async fn write_chunk(&self, chunk: &mut Chunk) -> Result<Rejections> {
        self.abort_earlier(chunk).await?;
        let mut rejections = Rejections::new();
        let mut shares = vec![Share::ALL];
        while let Some(share) = shares.pop() {
            if !self.write_share(chunk, share, &mut rejections).await? {
                shares.extend(share.halves());
            }
        }
        Ok(rejections)
    }

    /// An upload that an earlier delivery left open would cost its owner money for ever.
    async fn abort_earlier(&self, chunk: &Chunk) -> Result<()> {
        let Some(note) = &chunk.note else { return Ok(()) };
        match serde_json::from_str::<Note>(note) {
            Ok(note) => self.bucket.abort(&note).await,
            Err(cause) => {
                tracing::warn!(%chunk, note, %cause, "a note about an earlier upload makes no sense");
                Ok(())
            }
        }
    }

    /// Writes the objects of a share; false when there are too many of them.
    async fn write_share(&self, chunk: &mut Chunk, share: Share, rejections: &mut Rejections) -> Result<bool> {
        // It makes one row group at a time.
        let _room = match self.tabular {
            Some(_) => Some(self.row_groups.acquire().await.map_err(|cause| Error::fatal(cause.to_string()))?),
            None => None,
        };
        let topic = chunk.partition.topic.clone();
        let guess = match self.expectations.is_new(&topic) {
            true => self.glance(chunk, share).await?,
            false => self.expectations.guess(&topic),
        };
        let mut sorted = self.try_share(chunk, share, guess, rejections).await?;
        if sorted == Sorted::Unexpected {
            self.expectations.missed(&topic);
            sorted = self.try_share(chunk, share, None, rejections).await?;
        }
        Ok(sorted == Sorted::All)
    }

    /// What the first records of a share's first object let expect of it.
    async fn glance(&self, chunk: &Chunk, share: Share) -> Result<Option<Vec<Field>>> {
        let Some(tabular) = self.tabular.as_ref().filter(|tabular| !tabular.is_given()) else { return Ok(None) };
        let mut shapes = tabular.shapes(None);
        let (topic, partition) = (&chunk.partition.topic, chunk.partition.partition);
        let mut paths = Paths::new(&self.layout.folder, topic, partition, share);
        if let Some(batch) = chunk.batches().next().await? {
            for record in batch.records()?.iter().take(GLANCE) {
                let record = record?;
                if let Ok(Place::Path(0)) = paths.place(&record) {
                    // What makes no row is told when it is to be written.
                    let _ = tabular.see(&mut shapes, 0, &record);
                }
            }
        }
        // Of several objects the first is not worth a guess that may be wrong.
        Ok(shapes.inferred().filter(|_| paths.found().len() == 1))
    }

    /// Writes the objects of a share if all is as expected.
    async fn try_share(
        &self,
        chunk: &mut Chunk,
        share: Share,
        guess: Option<Vec<Field>>,
        rejections: &mut Rejections,
    ) -> Result<Sorted> {
        let spill = Spill::new(&self.edge, self.scratch.clone());
        let was_guessed = guess.is_some();
        let shapes = self.tabular.as_ref().map(|tabular| tabular.shapes(guess));
        let mut writer = Writer { sink: self, first: None, shapes, spill };
        let topic = chunk.partition.topic.clone();
        let mut paths = Paths::new(&self.layout.folder, &topic, chunk.partition.partition, share);
        let sorted = writer.sort(chunk, &mut paths, rejections).await;
        match sorted {
            Ok(Sorted::All) => {
                if let Some(fields) = writer.shapes.as_ref().and_then(Shapes::inferred) {
                    self.expectations.learn(&topic, fields, was_guessed);
                }
                writer.finish(chunk, &paths).await.map(|()| Sorted::All)
            }
            // What is tried again begins by aborting the upload that was noted.
            Err(error) if error.is_retry() => Err(error),
            stopped => {
                writer.abort().await;
                stopped
            }
        }
    }

    fn object(&self, chunk: &Chunk, (folder, first): &(String, Offset)) -> Result<Object> {
        let tells_end = self.layout.style == Style::Chunk;
        Ok(Object::of(chunk, self.layout.name(chunk, folder, *first)?, tells_end))
    }

    /// What makes the object of number `path`.
    fn encoder(
        &self,
        chunk: &Chunk,
        object: &Object,
        shapes: Option<&mut Shapes>,
        path: usize,
        spare: Spare,
    ) -> Result<Encoder> {
        match (&self.tabular, shapes) {
            (Some(tabular), Some(shapes)) => {
                tabular.encoder(&self.edge.threads, &chunk.partition, &object.name, shapes, path)
            }
            _ => Encoder::new(&self.edge.threads, self.compression, self.level, spare),
        }
    }
}

#[async_trait]
impl Sink for ObjectSink {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (index, chunk) in chunks.iter_mut().enumerate() {
            let rejections = self.write_chunk(chunk).await?;
            let rejected = rejections.into_iter().map(|(offset, reason)| Rejected { chunk: index, offset, reason });
            outcome.rejected.extend(rejected);
        }
        Ok(outcome)
    }
}

/// How far the records of a share were given to their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sorted {
    /// To the last.
    All,
    /// There are more objects than are made at once.
    TooMany,
    /// The first object has other columns than were guessed.
    Unexpected,
}

/// Writes the objects of one share of a chunk. The first object that comes up goes straight to the bucket, so a chunk
/// of a single object costs neither memory nor disk; the records of others wait until the first is complete. Where an
/// object's columns are those of its records and nobody can guess them, they all wait until the last is seen.
struct Writer<'a> {
    sink: &'a ObjectSink,
    first: Option<Body>,
    shapes: Option<Shapes>,
    spill: Spill,
}

impl Writer<'_> {
    /// Goes through the chunk and gives each record to its object.
    async fn sort(&mut self, chunk: &mut Chunk, paths: &mut Paths<'_>, rejections: &mut Rejections) -> Result<Sorted> {
        let mut batches = chunk.batches();
        while let Some(batch) = batches.next().await? {
            for record in batch.records()?.iter() {
                let record = record?;
                match paths.place(&record) {
                    Ok(Place::Elsewhere) => {}
                    Ok(Place::TooMany) => return Ok(Sorted::TooMany),
                    Err(reason) => drop(rejections.insert(record.offset, reason)),
                    Ok(Place::Path(path)) => {
                        if let Err(reason) = self.push(chunk, paths, path, &record)? {
                            rejections.insert(record.offset, reason);
                        }
                    }
                }
                if self.shapes.as_ref().is_some_and(|shapes| shapes.is_wrong(false)) {
                    return Ok(Sorted::Unexpected);
                }
                if self.is_ripe() {
                    self.step(chunk).await?;
                }
                if self.shapes.as_ref().is_some_and(|shapes| shapes.is_too_much(paths.found().len())) {
                    return Ok(Sorted::TooMany);
                }
            }
            // Other chunks of this sink share the thread.
            tokio::task::yield_now().await;
        }
        let is_wrong = self.shapes.as_ref().is_some_and(|shapes| shapes.is_wrong(true));
        Ok(if is_wrong { Sorted::Unexpected } else { Sorted::All })
    }

    fn push(&mut self, chunk: &Chunk, paths: &Paths<'_>, path: u32, record: &Record<'_>) -> Result<Result<(), String>> {
        let (format, partition) = (self.sink.format, &chunk.partition);
        if path > 0 || self.shapes.as_ref().is_some_and(|shapes| !shapes.is_told(path)) {
            let out = self.spill.input();
            let encoded = match (&self.sink.tabular, &mut self.shapes) {
                (Some(tabular), Some(shapes)) => tabular.encode(shapes, path, record, out),
                _ => format.encode(partition, record, out),
            };
            if encoded.is_ok() {
                self.spill.pushed(path);
            }
            return Ok(encoded);
        }
        let body = match &mut self.first {
            Some(body) => body,
            None => {
                let object = self.sink.object(chunk, &paths.found()[0])?;
                let encoder = self.sink.encoder(chunk, &object, self.shapes.as_mut(), 0, Spare::default())?;
                self.first.insert(Body::new(object, encoder))
            }
        };
        let encoded = match (&self.sink.tabular, &mut self.shapes, body.rows()) {
            (Some(tabular), Some(shapes), Some(rows)) => tabular.add(shapes, record, rows),
            _ => format.encode(partition, record, body.input()),
        };
        if encoded.is_ok() {
            body.pushed();
        }
        Ok(encoded)
    }

    /// Whether [`Writer::step`] has something to do: asked for each record.
    fn is_ripe(&self) -> bool {
        self.first.as_ref().is_some_and(|body| body.is_ripe(&*self.sink.bucket)) || self.spill.is_ripe()
    }

    /// Passes on what has piled up.
    async fn step(&mut self, chunk: &mut Chunk) -> Result<()> {
        let bucket = &*self.sink.bucket;
        if let Some(body) = self.first.as_mut().filter(|body| body.is_ripe(bucket)) {
            body.step(bucket, chunk).await?;
        }
        if self.spill.is_ripe() {
            self.spill.flush().await?;
        }
        Ok(())
    }

    /// Completes the first object, then makes the others, one encoder at a time.
    async fn finish(mut self, chunk: &mut Chunk, paths: &Paths<'_>) -> Result<()> {
        let bucket = &*self.sink.bucket;
        let is_again = chunk.redelivered;
        let mut puts = Puts { bucket: self.sink.bucket.clone(), is_again, running: JoinSet::new(), bytes: 0 };
        let mut spare = Spare::default();
        let waiting = usize::from(self.first.is_some());
        if let Some(first) = self.first.take() {
            let (finished, left) = first.finish(bucket, chunk).await?;
            spare = left;
            puts.add(finished).await?;
        }
        let mut sorted = self.spill.sorted();
        for (path, found) in paths.found().iter().enumerate().skip(waiting) {
            let object = self.sink.object(chunk, found)?;
            let encoder = self.sink.encoder(chunk, &object, self.shapes.as_mut(), path, spare)?;
            let mut body = Body::new(object, encoder);
            while sorted.read(path as u32, body.input()).await? {
                body.pushed();
                if body.is_ripe(bucket) {
                    body.step(bucket, chunk).await?;
                }
            }
            let (finished, left) = body.finish(bucket, chunk).await?;
            spare = left;
            puts.add(finished).await?;
        }
        puts.finish().await
    }

    async fn abort(self) {
        if let Some(body) = self.first {
            body.abort().await;
        }
    }
}

/// Small objects on their way.
struct Puts {
    bucket: Arc<dyn Bucket>,
    /// Whether they may be there already.
    is_again: bool,
    running: JoinSet<Result<usize>>,
    bytes: usize,
}

impl Puts {
    /// Puts an object as soon as there is room for it.
    async fn add(&mut self, finished: Finished) -> Result<()> {
        let Finished::Small(object, bytes) = finished else { return Ok(()) };
        let most = 2 * self.bucket.part_size();
        while self.running.len() >= PUTS || (self.bytes > 0 && self.bytes + bytes.len() > most) {
            self.one().await?;
        }
        self.bytes += bytes.len();
        let (bucket, is_again) = (self.bucket.clone(), self.is_again);
        self.running.spawn(async move {
            let length = bytes.len();
            put_small(&*bucket, &object, bytes, is_again).await.map(|()| length)
        });
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        while !self.running.is_empty() {
            self.one().await?;
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<()> {
        if let Some(put) = self.running.join_next().await {
            self.bytes -= put.map_err(|cause| Error::fatal(format!("put an object: {cause}")))??;
        }
        Ok(())
    }
}
