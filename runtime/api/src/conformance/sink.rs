//! What every sink must do: called by each sink's tests over a world of its own.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_record::{Batch, BatchBuilder, Compression, Offset};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{Chunk, Content, Error, Made, Outcome, POSITION_HEADER, Result, Sink, TopicId, TopicPartition};

/// A destination that a suite writes to and looks at.
#[async_trait]
pub trait SinkWorld: Send + Sync {
    /// Opens a sink, as a daemon would after a start: always with the same settings.
    async fn open(&self) -> Result<Box<dyn Sink>>;

    /// Everything that a reader sees at the destination, each partition's records in the order in which they lie there.
    async fn written(&self) -> Vec<Written>;

    /// A value that the destination never takes (`Some(None)`: null); `None` where it takes everything.
    fn rejects(&self) -> Option<Option<&'static [u8]>>;
}

/// A record as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The topic and partition that it is filed under.
    pub partition: TopicPartition,
    /// Its value.
    pub value: Vec<u8>,
    /// The names of its headers, where the destination keeps them.
    pub headers: Vec<String>,
}

/// All of the suite. The world keeps what each test wrote: they use topics of their own.
pub async fn all(world: &dyn SinkWorld) {
    a_chunk_is_written_whole_and_in_order(world).await;
    a_chunk_that_is_written_again_changes_nothing(world).await;
    two_owners_at_once_write_a_chunk_once(world).await;
    a_write_that_is_dropped_is_finished_by_the_next(world).await;
    a_write_that_fails_is_finished_by_the_next(world).await;
    what_belongs_to_the_runtime_is_not_seen(world).await;
    only_the_ranges_asked_for_are_written(world).await;
    rejected_records_are_told_with_their_offsets(world).await;
    compressed_batches_are_written_too(world).await;
    a_chunk_without_records_writes_nothing(world).await;
    chunks_of_several_partitions_fit_into_one_call(world).await;
}

/// Every record of a chunk is there, once and in order.
pub async fn a_chunk_is_written_whole_and_in_order(world: &dyn SinkWorld) {
    let script = Script::new("sink-whole", 0).batch(0, 100).batch(100, 1).batch(101, 57);
    let sink = world.open().await.expect("open");
    assert_eq!(deliver(&*sink, &mut [script.chunk()]).await, [], "nothing is rejected");
    script.expect(world, 0..158).await;
}

/// A replay, in this process or after a start, writes the same again.
pub async fn a_chunk_that_is_written_again_changes_nothing(world: &dyn SinkWorld) {
    let script = Script::new("sink-again", 0).batch(20, 30).batch(50, 30);
    let sink = world.open().await.expect("open");
    deliver(&*sink, &mut [script.chunk()]).await;
    let before = world.written().await;
    deliver(&*sink, &mut [script.again()]).await;
    let sink = world.open().await.expect("open again");
    deliver(&*sink, &mut [script.again()]).await;
    deliver(&*sink, &mut [script.chunk()]).await;
    assert_eq!(world.written().await, before);
    script.expect(world, 20..80).await;
}

/// An owner that does not know yet that it is none any more does no harm.
pub async fn two_owners_at_once_write_a_chunk_once(world: &dyn SinkWorld) {
    let (one, two) = (world.open().await.expect("open"), world.open().await.expect("open"));
    for start in [0, 20, 40, 60, 80] {
        let script = Script::new("sink-two-owners", start as i32).batch(start, 10).batch(start + 10, 10);
        let (mut first, mut second) = ([script.chunk()], [script.again()]);
        futures::join!(deliver(&*one, &mut first), deliver(&*two, &mut second));
        script.expect(world, start..start + 20).await;
    }
}

/// The engine drops a write that takes too long, and offers its chunk again.
pub async fn a_write_that_is_dropped_is_finished_by_the_next(world: &dyn SinkWorld) {
    let sink = world.open().await.expect("open");
    for round in 0..14 {
        let script = Script::new("sink-dropped", round).batch(0, 10).batch(10, 10).batch(20, 10);
        poll_for(1 << round, sink.write(&mut [script.chunk()])).await;
        deliver(&*sink, &mut [script.again()]).await;
        script.expect(world, 0..30).await;
    }
}

/// A log that cannot be read for a moment, a store that is away: the engine offers the chunk again.
pub async fn a_write_that_fails_is_finished_by_the_next(world: &dyn SinkWorld) {
    let sink = world.open().await.expect("open");
    for failing in [0, 5, 10] {
        let script = Script::new("sink-failed", failing as i32).batch(0, 5).batch(5, 5).batch(10, 5);
        script.content.fail_at(failing);
        let failed = sink.write(&mut [script.chunk()]).await;
        assert!(failed.is_err_and(|error| error.is_retry()), "the chunk cannot be read at {failing}");
        deliver(&*sink, &mut [script.again()]).await;
        script.expect(world, 0..15).await;
    }
}

/// Control batches, positions and what lies outside the chunk are not for destinations.
pub async fn what_belongs_to_the_runtime_is_not_seen(world: &dyn SinkWorld) {
    let mut control = BatchBuilder::new().control();
    control.push(0, Some(&[0, 0, 0, 1]), Some(b"{}"), &[]);
    let mut last = BatchBuilder::new();
    for offset in 15..20 {
        let value = value("sink-runtime", 0, offset);
        last.push(
            1_700_000_000_000,
            Some(b"key"),
            Some(&value),
            &[("kept", Some(b"1")), (POSITION_HEADER, Some(b"[]"))],
        );
    }
    let script = Script::new("sink-runtime", 0).batch(0, 10).raw(10, control).batch(11, 4).raw(15, last);
    let mut chunk = script.chunk();
    (chunk.start, chunk.end, chunk.ranges) = (3, 18, vec![3..18; 1]);
    let sink = world.open().await.expect("open");
    assert_eq!(deliver(&*sink, &mut [chunk]).await, []);
    script.expect(world, (3..10).chain(11..18)).await;
    let written = world.written().await;
    let position = written.iter().find(|record| record.headers.iter().any(|name| name == POSITION_HEADER));
    assert_eq!(position, None, "a sink never sees positions");
}

/// After a part of a chunk was written, only the rest is asked for.
pub async fn only_the_ranges_asked_for_are_written(world: &dyn SinkWorld) {
    let script = Script::new("sink-ranges", 0).batch(0, 10).batch(10, 10).batch(20, 10);
    let mut chunk = script.chunk();
    chunk.ranges = vec![2..5, 8..12, 29..30];
    let sink = world.open().await.expect("open");
    deliver(&*sink, &mut [chunk]).await;
    script.expect(world, (2..5).chain(8..12).chain(29..30)).await;
}

/// What the destination never takes is told, also when the rest is there already: the one who was told may have ended
/// before it wrote a dead letter.
pub async fn rejected_records_are_told_with_their_offsets(world: &dyn SinkWorld) {
    let Some(bad) = world.rejects() else { return };
    let mut mixed = BatchBuilder::new();
    for offset in 7..14 {
        let good = value("sink-rejected", 0, offset);
        mixed.push(1_700_000_000_000, Some(b"key"), if offset % 3 == 0 { bad } else { Some(&good) }, &[]);
    }
    let script = Script::new("sink-rejected", 0).batch(0, 7).raw(7, mixed);
    let sink = world.open().await.expect("open");
    assert_eq!(deliver(&*sink, &mut [script.chunk()]).await, [(0, 9), (0, 12)]);
    script.expect(world, (0..9).chain(10..12).chain(13..14)).await;
    assert_eq!(deliver(&*sink, &mut [script.again()]).await, [(0, 9), (0, 12)]);
    script.expect(world, (0..9).chain(10..12).chain(13..14)).await;
}

/// How a producer compressed its batches makes no difference.
pub async fn compressed_batches_are_written_too(world: &dyn SinkWorld) {
    let mut script = Script::new("sink-compressed", 0);
    for (index, codec) in
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd].into_iter().enumerate()
    {
        let mut builder = BatchBuilder::new().compressed(codec);
        let start = index as Offset * 10;
        script.fill(&mut builder, start..start + 10);
        script = script.raw(start, builder);
    }
    let sink = world.open().await.expect("open");
    deliver(&*sink, &mut [script.chunk()]).await;
    script.expect(world, 0..40).await;
}

/// A chunk of control records alone, as aborted transactions leave them.
pub async fn a_chunk_without_records_writes_nothing(world: &dyn SinkWorld) {
    let before = world.written().await;
    let mut control = BatchBuilder::new().control();
    control.push(0, Some(&[0, 0, 0, 0]), Some(b"{}"), &[]);
    let script = Script::new("sink-empty", 0).raw(0, control);
    let sink = world.open().await.expect("open");
    assert_eq!(deliver(&*sink, &mut [script.chunk()]).await, []);
    assert_eq!(world.written().await, before);
}

/// Chunks of several partitions may come in one call; rejected records are told by the chunk's place in it.
pub async fn chunks_of_several_partitions_fit_into_one_call(world: &dyn SinkWorld) {
    let scripts = [0, 1, 2].map(|partition| Script::new("sink-several", partition).batch(10, 20));
    let sink = world.open().await.expect("open");
    let mut chunks = scripts.each_ref().map(Script::chunk);
    deliver(&*sink, &mut chunks).await;
    for script in &scripts {
        script.expect(world, 10..30).await;
    }
}

/// What an engine does with chunks until they are delivered: offers what is unfinished again and answers with the rejected
/// records, by chunk and offset. Panics when the sink gives up.
pub async fn deliver(sink: &dyn Sink, chunks: &mut [Chunk]) -> Vec<(usize, Offset)> {
    let mut rejected = BTreeSet::new();
    for _ in 0..1000 {
        match sink.write(chunks).await {
            Ok(Outcome { rejected: some, unfinished, .. }) => {
                rejected.extend(some.iter().map(|rejected| (rejected.chunk, rejected.offset)));
                if unfinished.is_empty() {
                    return rejected.into_iter().collect();
                }
                for (index, chunk) in chunks.iter_mut().enumerate() {
                    let of_chunk = unfinished.iter().filter(|(place, _)| *place == index);
                    chunk.ranges = of_chunk.map(|(_, range)| range.clone()).collect();
                }
            }
            Err(Error::Retry { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("the sink gives up: {error}"),
        }
        chunks.iter_mut().for_each(|chunk| chunk.redelivered = true);
    }
    panic!("the sink never finishes");
}

/// Polls a write for a while, then drops it.
async fn poll_for(turns: u32, write: impl Future<Output = Result<Outcome>>) {
    let pause = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = write => {}
        () = pause => {}
    }
}

/// A partition's batches, made up.
pub struct Script {
    partition: TopicPartition,
    content: Arc<Scripted>,
}

/// Batches in memory, and what was noted about their chunk.
struct Scripted {
    batches: Vec<Batch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fail_at: Option<Offset>,
    note: Option<String>,
}

impl Script {
    /// A partition without batches.
    pub fn new(topic: &str, partition: i32) -> Self {
        let content = Scripted { batches: Vec::new(), state: Mutex::default() };
        Script { partition: TopicPartition::new(topic, partition), content: Arc::new(content) }
    }

    /// Adds a batch of `count` records from offset `start` on: JSON values that say where they belong.
    pub fn batch(self, start: Offset, count: u32) -> Self {
        let mut builder = BatchBuilder::new();
        self.fill(&mut builder, start..start + Offset::from(count));
        self.raw(start, builder)
    }

    /// Adds a batch of any content at offset `start`.
    pub fn raw(self, start: Offset, builder: BatchBuilder) -> Self {
        let mut batches = self.content.batches.clone();
        batches.push(builder.finish().at(start, 0));
        Script { content: Arc::new(Scripted { batches, state: Mutex::default() }), ..self }
    }

    fn fill(&self, builder: &mut BatchBuilder, offsets: Range<Offset>) {
        for offset in offsets {
            let value = value(&self.partition.topic, self.partition.partition, offset);
            builder.push(1_700_000_000_000 + offset, Some(b"key"), Some(&value), &[("kept", Some(b"1"))]);
        }
    }

    /// All batches as a chunk that was never delivered.
    pub fn chunk(&self) -> Chunk {
        let start = self.content.batches.first().map_or(0, Batch::base_offset);
        let end = self.content.batches.last().map_or(0, Batch::next_offset);
        Chunk {
            partition: self.partition.clone(),
            topic_id: TopicId(u128::from(aqueduct_record::crc32c(self.partition.topic.as_bytes()))),
            start,
            end,
            run: 0,
            given_up: 0,
            incarnation: 1,
            redelivered: false,
            ranges: vec![start..end; 1],
            note: None,
            content: self.content.clone(),
        }
    }

    /// The same chunk as somebody gets it who takes over: with what was noted about it.
    pub fn again(&self) -> Chunk {
        Chunk { redelivered: true, note: self.content.state().note.clone(), ..self.chunk() }
    }

    /// Checks that exactly the records of these offsets are at the destination, in order.
    pub async fn expect(&self, world: &dyn SinkWorld, offsets: impl IntoIterator<Item = Offset>) {
        let TopicPartition { topic, partition } = &self.partition;
        let written = world.written().await.into_iter().filter(|written| written.partition == self.partition);
        let place = |value: &[u8]| -> Value { serde_json::from_slice(value).expect("a value of the suite") };
        let written: Vec<Value> = written.map(|written| place(&written.value)).collect();
        let expected: Vec<Value> = offsets.into_iter().map(|offset| place(&value(topic, *partition, offset))).collect();
        assert_eq!(written, expected, "{} as written, on the left", self.partition);
    }
}

fn value(topic: &str, partition: i32, offset: Offset) -> Vec<u8> {
    json!({"topic": topic, "partition": partition, "offset": offset}).to_string().into_bytes()
}

impl Scripted {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next read from `offset` on fail.
    fn fail_at(&self, offset: Offset) {
        self.state().fail_at = Some(offset);
    }
}

#[async_trait]
impl Content for Scripted {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        tokio::task::yield_now().await;
        {
            let mut state = self.state();
            if state.fail_at.is_some_and(|at| from >= at) {
                state.fail_at = None;
                return Err(Error::retry("the suite lets this read fail"));
            }
        }
        // One batch at a time, so that a write is made of many steps.
        Ok(self.batches.iter().find(|batch| batch.next_offset() > from).cloned().into_iter().collect())
    }

    async fn save_note(&self, note: &str) -> Result<()> {
        if note.len() > 1024 {
            return Err(Error::fatal(format!("a note of {} bytes is longer than 1 KiB", note.len())));
        }
        tokio::task::yield_now().await;
        self.state().note = Some(note.to_owned());
        Ok(())
    }
}

/// Content of which a transform makes so many records of each, by its offset: their values end in a number.
pub struct Multiplied(pub Arc<dyn Content>, pub fn(Offset) -> usize);

#[async_trait]
impl Content for Multiplied {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        self.0.read(from).await
    }

    async fn save_note(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn transformed(&self, batch: &Batch, _: Range<Offset>, _: &[Range<Offset>]) -> Result<Option<Made>> {
        let (mut builder, mut offsets) = (BatchBuilder::new(), Vec::new());
        for record in batch.records().map_err(Error::fatal)?.iter() {
            let record = record.map_err(Error::fatal)?;
            let headers: Vec<_> = record.headers.iter().collect();
            for part in 0..(self.1)(record.offset) {
                let value = format!("{} {part}", String::from_utf8_lossy(record.value.unwrap_or_default()));
                builder.push(record.timestamp, record.key, Some(value.as_bytes()), &headers);
                offsets.push(record.offset);
            }
        }
        Ok(Some(Made { batch: builder.finish(), offsets }))
    }
}
