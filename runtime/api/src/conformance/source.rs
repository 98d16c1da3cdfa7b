//! What every source must do: called by each source's tests over worlds of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Incoming, Position, Result, Source, Stream};

/// A system that a suite fills and reads: empty when it is made.
#[async_trait]
pub trait SourceWorld: Send + Sync {
    /// Opens the source at saved positions, as a daemon would after a start: always with the same settings.
    async fn open(&self, positions: Vec<(Arc<Stream>, Position)>) -> Result<Box<dyn Source>>;

    /// Puts records into one of the system's streams (a file, a shard), which is made where it is missing.
    async fn put(&self, stream: usize, values: &[Vec<u8>]);

    /// How long nothing must come before the suite takes it that nothing will.
    fn quiet(&self) -> Duration;
}

/// Makes worlds.
pub type Worlds<'a> = &'a (dyn Fn() -> Box<dyn SourceWorld> + Sync);

/// All of the suite.
pub async fn all(worlds: Worlds<'_>) {
    every_record_comes_once_and_in_order(&*worlds()).await;
    reading_goes_on_after_every_position(&*worlds()).await;
    a_read_that_is_dropped_loses_nothing(&*worlds()).await;
    a_source_without_anything_new_waits(&*worlds()).await;
    a_stream_of_which_nothing_is_saved_is_the_same_again(&*worlds()).await;
}

/// Records of each stream come once and in order, also those that are put while the source runs.
pub async fn every_record_comes_once_and_in_order(world: &dyn SourceWorld) {
    let mut reading = Reading::default();
    let mut source = world.open(Vec::new()).await.expect("open");
    for round in 0..5 {
        for stream in 0..3 {
            put(world, stream, round * 40..round * 40 + 40).await;
        }
        while let Some(incoming) = read_within(&mut *source, world.quiet()).await {
            reading.take(incoming);
        }
        reading.expect(3, (round + 1) * 40);
    }
}

/// A source that is opened at the positions of any moment hands over what comes after them, and nothing else.
pub async fn reading_goes_on_after_every_position(world: &dyn SourceWorld) {
    let mut reading = Reading::default();
    for round in 0..5 {
        for stream in 0..3 {
            put(world, stream, round * 40..round * 40 + 40).await;
        }
        loop {
            let mut source = world.open(reading.saved()).await.expect("open again");
            let Some(incoming) = read_within(&mut *source, world.quiet()).await else { break };
            reading.take(incoming);
        }
        reading.expect(3, (round + 1) * 40);
    }
}

/// The engine drops a read whenever it has something else to do; what was not returned comes again.
pub async fn a_read_that_is_dropped_loses_nothing(world: &dyn SourceWorld) {
    let mut reading = Reading::default();
    let mut source = world.open(Vec::new()).await.expect("open");
    for round in 0..40 {
        put(world, round % 3, round / 3 * 10..round / 3 * 10 + 10).await;
        for turns in 0..20 {
            let pause = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                incoming = source.read() => reading.take(incoming.expect("read").expect("more")),
                () = pause => {}
            }
        }
    }
    for stream in 1..3 {
        put(world, stream, 130..140).await;
    }
    while let Some(incoming) = read_within(&mut *source, world.quiet()).await {
        reading.take(incoming);
    }
    reading.expect(3, 140);
}

/// A read that has nothing to return waits for what comes.
pub async fn a_source_without_anything_new_waits(world: &dyn SourceWorld) {
    let mut reading = Reading::default();
    let mut source = world.open(Vec::new()).await.expect("open");
    while let Some(incoming) = read_within(&mut *source, world.quiet()).await {
        reading.take(incoming);
    }
    put(world, 0, 0..1).await;
    while let Some(incoming) = read_within(&mut *source, world.quiet()).await {
        reading.take(incoming);
    }
    reading.expect(1, 1);
}

/// Dead letters are written before the position of their records: after a kill in between, the stream is known by its id.
pub async fn a_stream_of_which_nothing_is_saved_is_the_same_again(world: &dyn SourceWorld) {
    put(world, 0, 0..10).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut source = world.open(Vec::new()).await.expect("open");
        let incoming = read_within(&mut *source, world.quiet()).await.expect("records");
        ids.push(incoming.stream.id.clone());
    }
    assert_eq!(ids[0], ids[1]);
}

async fn put(world: &dyn SourceWorld, stream: usize, numbers: std::ops::Range<usize>) {
    let values: Vec<Vec<u8>> = numbers.map(|number| format!("{stream} {number}").into_bytes()).collect();
    world.put(stream, &values).await;
}

async fn read_within(source: &mut dyn Source, quiet: Duration) -> Option<Incoming> {
    let incoming = tokio::time::timeout(quiet, source.read()).await.ok()?;
    incoming.expect("a read that works")
}

/// What was read, and the positions after it.
#[derive(Default)]
struct Reading {
    positions: BTreeMap<String, (Arc<Stream>, Position)>,
    values: BTreeMap<usize, Vec<usize>>,
}

impl Reading {
    fn take(&mut self, incoming: Incoming) {
        let Incoming { stream, position, last, records, .. } = incoming;
        assert!(stream.id.starts_with('{') && stream.id.len() <= 4096, "the id of a stream is a small JSON object");
        if let Some((known, _)) = self.positions.get(&stream.id) {
            assert_eq!(known.key, stream.key, "the key of a stream stays the same");
        }
        match position {
            Some(_) if last => drop(self.positions.remove(&stream.id)),
            Some(position) => drop(self.positions.insert(stream.id.clone(), (stream, position))),
            None => panic!("a source of this suite can read again"),
        }
        if records.is_empty() {
            return;
        }
        for record in records.finish().records().expect("records").iter() {
            let value = record.expect("a record").value.map(|value| String::from_utf8_lossy(value).into_owned());
            let value = value.expect("a value");
            let (stream, number) = value.split_once(' ').expect("a value of the suite");
            let (stream, number) = (stream.parse().expect("a stream"), number.parse().expect("a number"));
            self.values.entry(stream).or_default().push(number);
        }
    }

    fn saved(&self) -> Vec<(Arc<Stream>, Position)> {
        self.positions.values().cloned().collect()
    }

    fn expect(&self, streams: usize, count: usize) {
        let expected = (0..streams).map(|stream| (stream, (0..count).collect::<Vec<_>>())).collect();
        assert_eq!(self.values, expected, "what was read, by stream, on the left");
    }
}
