//! The way out: what a sink is given and what it answers.

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
}

impl Chunk {
    /// Its batches from the first on; may be called as often as needed.
    pub fn batches(&self) -> Batches {
        Batches {
            content: self.content.clone(),
            ranges: self.ranges.clone(),
            next: self.start,
            end: self.end,
            read: Vec::new().into_iter(),
        }
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
    read: std::vec::IntoIter<Batch>,
}

impl Batches {
    /// The next batch with records to write; `None` at the end of the chunk.
    pub async fn next(&mut self) -> Result<Option<ChunkBatch>> {
        while self.next < self.end {
            let Some(batch) = self.read.next() else {
                self.read = self.content.read(self.next).await?.into_iter();
                if self.read.len() == 0 {
                    return Ok(None);
                }
                continue;
            };
            if batch.next_offset() <= self.next {
                continue;
            }
            self.next = batch.next_offset();
            let (first, last) = (batch.base_offset(), batch.last_offset());
            let wanted = self.ranges.iter().any(|range| range.start <= last && first < range.end);
            if wanted && !batch.header().attributes.is_control() {
                return Ok(Some(ChunkBatch { batch, ranges: self.ranges.clone() }));
            }
        }
        Ok(None)
    }
}

/// A batch of a chunk, of which only the chunk's records are seen.
pub struct ChunkBatch {
    batch: Batch,
    ranges: Vec<Range<Offset>>,
}

impl ChunkBatch {
    /// Its records; compressed ones are inflated here, within bounds.
    pub fn records(&self) -> Result<ChunkRecords<'_>> {
        Ok(ChunkRecords { records: self.batch.records().map_err(unreadable)?, ranges: &self.ranges })
    }

    /// Its size as stored.
    pub fn size(&self) -> usize {
        self.batch.size()
    }
}

/// The records of a chunk's batch, without what belongs to the runtime.
pub struct ChunkRecords<'a> {
    records: Records,
    ranges: &'a [Range<Offset>],
}

impl ChunkRecords<'_> {
    /// The records that are to be written.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>>> {
        self.records.iter().filter_map(|record| match record {
            Ok(record) if self.ranges.iter().any(|range| range.contains(&record.offset)) => {
                Some(Ok(Record { headers: record.headers.without(POSITION_HEADER), ..record }))
            }
            Ok(_) => None,
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

    async fn seen(ranges: &[Range<Offset>]) -> Vec<(Offset, usize)> {
        let content = Arc::new(Fixed(vec![batch(0, &["a", "b", "c"]), batch(3, &["d"]), batch(10, &["e", "f"])]));
        let chunk = Chunk {
            partition: TopicPartition::new("t", 0),
            topic_id: TopicId(1),
            start: 1,
            end: 11,
            run: 0,
            redelivered: false,
            incarnation: 1,
            ranges: ranges.to_vec(),
            note: None,
            content,
        };
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
}
