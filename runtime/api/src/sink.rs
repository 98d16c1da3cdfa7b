//! The way out: what a sink is given and what it answers.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_record::{Batch, BatchError, Offset, Record, Records};
use async_trait::async_trait;

use crate::{Error, POSITION_HEADER, Result, TopicId, TopicPartition};

/// Writes to one system. Opened by [`SinkSettings::open`](crate::SinkSettings::open).
#[async_trait]
pub trait Sink: Send + Sync {
    /// Writes chunks; what the outcome does not call unfinished is durable at the destination on return. What is written is
    /// named by topic, partition, first and end offset, never by a clock or by chance, so that the same chunk
    /// written again writes the same again. The future may be dropped at any await, and the same chunks come again.
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome>;
}

/// What became of the chunks of one write.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Records that the destination will never take: the engine moves them to the dead letters.
    pub rejected: Vec<Rejected>,
    /// Ranges of offsets that are not written yet, by the chunk's place in the call: the engine offers them again.
    pub unfinished: Vec<(usize, Range<Offset>)>,
    /// How long the destination asked to be left alone before that.
    pub after: Option<Duration>,
}

/// A record that the destination will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The chunk's place in the call.
    pub chunk: usize,
    /// The record's offset.
    pub offset: Offset,
    /// Why, for people.
    pub reason: String,
}

/// A contiguous run of one partition's records, delivered as one unit. Its records stream from the log, again where a
/// sink asks, so a chunk costs no memory.
pub struct Chunk {
    /// The partition.
    pub partition: TopicPartition,
    /// The identity of the topic: the same name may have stood for another topic before.
    pub topic_id: TopicId,
    /// The offset of its first record, and part of its name.
    pub start: Offset,
    /// The offset after its last record, and part of its name.
    pub end: Offset,
    /// 0, or how often the sink was rewound: part of the name when not 0, so that a replay on purpose writes anew.
    pub run: u32,
    /// 0, or how often chunks that reached behind `start` were given up (`aqueduct sinks unpin`) and cut anew: what is there
    /// under a name of this chunk, but of a lower number, is of another chunk or of other settings, and is to be replaced.
    pub given_up: u32,
    /// Whether it may have been written before, wholly or in part.
    pub redelivered: bool,
    /// How often the topic had been made anew or given more partitions when the chunk's records were written, from 1:
    /// of two records of one key, the one of the higher incarnation is newer, then the one of the higher offset.
    pub incarnation: u16,
    /// What is still to be written of it, ascending; the whole of it at first.
    pub ranges: Vec<Range<Offset>>,
    /// What the sink noted about an earlier delivery of the chunk, see [`Chunk::save_note`].
    pub note: Option<String>,
    /// Where its batches come from.
    pub content: Arc<dyn Content>,
}

/// Where a chunk's batches come from and its notes go to: the engine.
#[async_trait]
pub trait Content: Send + Sync {
    /// The batches from the one that holds `from` on; empty only at the end of what there is.
    async fn read(&self, from: Offset) -> Result<Vec<Batch>>;

    /// Saves a note with the chunk's pin.
    async fn save_note(&self, note: &str) -> Result<()>;

    /// What transforms make of the records of a batch that lie within `ranges`; `None`: they are what a sink gets. The
    /// batch and what was skipped before it are the `span` of offsets.
    async fn transformed(
        &self,
        _batch: &Batch,
        _span: Range<Offset>,
        _ranges: &[Range<Offset>],
    ) -> Result<Option<Made>> {
        Ok(None)
    }
}

/// What was made of a batch's records.
#[derive(Clone, Debug)]
pub struct Made {
    /// The records, at offsets that mean nothing.
    pub batch: Batch,
    /// Which offset each of them goes by: ascending, the same for those made of one record.
    pub offsets: Vec<Offset>,
}

impl Chunk {
    /// Its batches from the first on; may be called as often as needed.
    pub fn batches(&self) -> Batches {
        self.batches_of(self.ranges.clone())
    }

    /// Its batches with records in `ranges`, ascending, which lie within the chunk.
    pub fn batches_of(&self, ranges: Vec<Range<Offset>>) -> Batches {
        Batches { content: self.content.clone(), ranges, next: self.start, end: self.end, read: VecDeque::new() }
    }

    /// Keeps `note` (at most 1 KiB) durably with the chunk until it is delivered: whoever delivers it again finds it in
    /// [`Chunk::note`]. An upload's id goes here before its first part is sent.
    pub async fn save_note(&mut self, note: &str) -> Result<()> {
        self.content.save_note(note).await?;
        self.note = Some(note.to_owned());
        Ok(())
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}..{})", self.partition, self.start, self.end)
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The batches of a chunk, read as they are asked for.
pub struct Batches {
    content: Arc<dyn Content>,
    ranges: Vec<Range<Offset>>,
    next: Offset,
    end: Offset,
    read: VecDeque<Batch>,
}

impl Batches {
    /// The next batch with records to write; `None` at the end of the chunk. After a failure, or when the future was
    /// dropped, the next call goes on with the same batch.
    pub async fn next(&mut self) -> Result<Option<ChunkBatch>> {
        while self.next < self.end {
            let Some(batch) = self.read.front() else {
                self.read = self.content.read(self.next).await?.into();
                if self.read.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            let (first, last, next) = (batch.base_offset(), batch.last_offset(), batch.next_offset());
            let wanted = self.ranges.iter().any(|range| range.start <= last && first < range.end);
            let mut made = None;
            // Who reads a log is not told of markers, but content comes from elsewhere too.
            let is_for_sinks = batch.count() > 0 && !batch.header().attributes.is_control();
            let is_new = next > self.next && wanted && is_for_sinks;
            if is_new {
                made = self.content.transformed(batch, self.next..next, &self.ranges).await?;
            }
            self.next = next.max(self.next);
            let Some(batch) = self.read.pop_front().filter(|_| is_new) else { continue };
            match made {
                None => return Ok(Some(ChunkBatch { batch, ranges: self.ranges.clone(), offsets: None })),
                Some(made) if made.offsets.is_empty() => {}
                Some(made) => {
                    let (batch, offsets) = (made.batch, Some(made.offsets));
                    return Ok(Some(ChunkBatch { batch, ranges: self.ranges.clone(), offsets }));
                }
            }
        }
        Ok(None)
    }
}

/// A batch of a chunk, of which only the chunk's records are seen.
pub struct ChunkBatch {
    batch: Batch,
    ranges: Vec<Range<Offset>>,
    /// What its records go by, where transforms made them.
    offsets: Option<Vec<Offset>>,
}

impl ChunkBatch {
    /// Its records; compressed ones are inflated here, within bounds.
    pub fn records(&self) -> Result<ChunkRecords<'_>> {
        let records = self.batch.records().map_err(unreadable)?;
        Ok(ChunkRecords { records, ranges: &self.ranges, offsets: self.offsets.as_deref() })
    }

    /// Its size as stored, or as transforms made it.
    pub fn size(&self) -> usize {
        self.batch.size()
    }
}

/// The records of a chunk's batch, without what belongs to the runtime.
pub struct ChunkRecords<'a> {
    records: Records,
    ranges: &'a [Range<Offset>],
    offsets: Option<&'a [Offset]>,
}

impl ChunkRecords<'_> {
    /// The records that are to be written, ascending by offset; several that a transform made of one repeat its offset.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>>> {
        self.records.iter().enumerate().filter_map(|(nth, record)| match record {
            Ok(record) => {
                let offset = self.offsets.and_then(|offsets| offsets.get(nth)).copied().unwrap_or(record.offset);
                let is_wanted = self.ranges.iter().any(|range| range.contains(&offset));
                is_wanted.then(|| Ok(Record { offset, headers: record.headers.without(POSITION_HEADER), ..record }))
            }
            Err(cause) => Some(Err(unreadable(cause))),
        })
    }
}

/// The log checked the batch when it was appended, so this is damage: what a retry might read right.
fn unreadable(cause: BatchError) -> Error {
    Error::retry(format!("read batch: {cause}"))
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    /// Batches in memory; each read gives one.
    struct Fixed(Vec<Batch>);

    /// The same, each record twice but those at offset 3; the first time each batch fails.
    struct Doubled(Fixed, std::sync::Mutex<Vec<Offset>>);

    #[async_trait]
    impl Content for Doubled {
        async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
            self.0.read(from).await
        }

        async fn save_note(&self, _: &str) -> Result<()> {
            Ok(())
        }

        async fn transformed(&self, batch: &Batch, _: Range<Offset>, _: &[Range<Offset>]) -> Result<Option<Made>> {
            let mut failed = self.1.lock().unwrap();
            if !failed.contains(&batch.base_offset()) {
                failed.push(batch.base_offset());
                return Err(Error::retry("not now"));
            }
            let (mut builder, mut offsets) = (BatchBuilder::new(), Vec::new());
            for record in batch.records().unwrap().iter().map(Result::unwrap).filter(|record| record.offset != 3) {
                for _ in 0..2 {
                    builder.push(record.timestamp, record.key, record.value, &[]);
                    offsets.push(record.offset);
                }
            }
            Ok(Some(Made { batch: builder.finish(), offsets }))
        }
    }

    #[async_trait]
    impl Content for Fixed {
        async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
            Ok(self.0.iter().find(|batch| batch.next_offset() > from).cloned().into_iter().collect())
        }

        async fn save_note(&self, _: &str) -> Result<()> {
            Ok(())
        }
    }

    fn batch(base: Offset, values: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.push(1, None, Some(value.as_bytes()), &[("kept", Some(b"1"))]);
        }
        builder.add_header_to_last(POSITION_HEADER, b"[]");
        builder.finish().at(base, 0)
    }

    fn fixed() -> Fixed {
        Fixed(vec![batch(0, &["a", "b", "c"]), batch(3, &["d"]), batch(10, &["e", "f"])])
    }

    fn chunk(ranges: &[Range<Offset>], content: Arc<dyn Content>) -> Chunk {
        Chunk {
            partition: TopicPartition::new("t", 0),
            topic_id: TopicId(1),
            start: 1,
            end: 11,
            run: 0,
            given_up: 0,
            redelivered: false,
            incarnation: 1,
            ranges: ranges.to_vec(),
            note: None,
            content,
        }
    }

    async fn seen(ranges: &[Range<Offset>]) -> Vec<(Offset, usize)> {
        let chunk = chunk(ranges, Arc::new(fixed()));
        let mut seen = Vec::new();
        let mut batches = chunk.batches();
        while let Some(batch) = batches.next().await.unwrap() {
            let records = batch.records().unwrap();
            for record in records.iter() {
                let record = record.unwrap();
                assert!(record.headers.get(POSITION_HEADER).is_none());
                seen.push((record.offset, record.headers.len()));
            }
        }
        seen
    }

    #[tokio::test]
    async fn a_chunk_shows_its_own_records_without_what_belongs_to_the_runtime() {
        assert_eq!(seen(std::slice::from_ref(&(1..11))).await, [(1, 1), (2, 1), (3, 1), (10, 1)]);
        assert_eq!(seen(&[2..3, 10..11]).await, [(2, 1), (10, 1)]);
        assert_eq!(seen(&[]).await, []);
    }

    #[tokio::test]
    async fn transformed_records_go_by_the_offsets_of_what_they_were_made_of() {
        let chunk = chunk(&[0..2, 3..11], Arc::new(Doubled(fixed(), Default::default())));
        let (mut seen, mut failures, mut batches) = (Vec::new(), 0, chunk.batches());
        loop {
            match batches.next().await {
                Ok(Some(batch)) => {
                    let records = batch.records().unwrap();
                    seen.extend(records.iter().map(|record| record.unwrap().offset));
                }
                Ok(None) => break,
                Err(_) => failures += 1,
            }
        }
        assert_eq!((seen, failures), (vec![0, 0, 1, 1, 10, 10], 3));
    }
}
