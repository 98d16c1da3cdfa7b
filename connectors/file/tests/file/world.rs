//! A source over a disk in memory, on time that stands still until everybody waits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::edge::{Abort, Chance, Clock, Threads};
use aqueduct_api::{ByteSize, DeadLetter, Edge, Incoming, Position, Source, SourceOpening, SourceSettings, Stream};
use aqueduct_file::FileSettings;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use crate::disk::MemoryDisk;

/// Milliseconds since 1970 at which every world begins.
pub(crate) const BEGIN: i64 = 1_800_000_000_000;

/// Long enough for whatever the source waits for by its default settings.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// A disk, a source, and what it has handed over.
pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) settings: Value,
    pub(crate) batch: u64,
    pub(crate) largest: u64,
    outside: Arc<Outside>,
    /// Behind a lock only so that a world can be shared.
    source: Mutex<Option<Box<dyn Source>>>,
    /// What is saved, by stream.
    pub(crate) saved: BTreeMap<String, (Arc<Stream>, Position)>,
    /// All records, with the stream they came from.
    pub(crate) records: Vec<(String, Vec<u8>)>,
    /// The headers of each record.
    pub(crate) headers: Vec<Vec<(String, String)>>,
    pub(crate) dead: Vec<DeadLetter>,
    /// Streams that have ended for good.
    pub(crate) ended: usize,
}

/// Clock, threads and chance of a world.
struct Outside {
    begin: Instant,
    drawn: AtomicU64,
}

impl Clock for Outside {
    fn now(&self) -> i64 {
        BEGIN + self.begin.elapsed().as_millis() as i64
    }
}

impl Threads for Outside {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        drop(tokio::spawn(async move { job() }));
    }

    fn connector(&self, _: &str, _: BoxFuture<'static, ()>) -> Abort {
        panic!("a source starts no connectors")
    }
}

impl Chance for Outside {
    fn bits(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed)
    }
}

impl World {
    /// A world whose source has these settings. To be made where time stands still.
    pub(crate) fn new(settings: Value) -> Self {
        World {
            disk: MemoryDisk::default(),
            settings,
            batch: 64 << 10,
            largest: 1 << 20,
            outside: Arc::new(Outside { begin: Instant::now(), drawn: AtomicU64::new(0) }),
            source: Mutex::default(),
            saved: BTreeMap::new(),
            records: Vec::new(),
            headers: Vec::new(),
            dead: Vec::new(),
            ended: 0,
        }
    }

    pub(crate) fn opening(&self, positions: Vec<(Arc<Stream>, Position)>) -> SourceOpening {
        SourceOpening {
            name: "files".into(),
            folder: PathBuf::from("/"),
            edge: Edge {
                disk: Arc::new(self.disk.clone()),
                clock: self.outside.clone(),
                threads: self.outside.clone(),
                chance: self.outside.clone(),
            },
            positions,
            batch: ByteSize(self.batch),
            largest: ByteSize(self.largest),
        }
    }

    /// Opens a source at positions.
    pub(crate) async fn open(&self, positions: Vec<(Arc<Stream>, Position)>) -> Box<dyn Source> {
        let settings: FileSettings = serde_json::from_value(self.settings.clone()).expect("settings");
        settings.open(self.opening(positions)).await.expect("a source")
    }

    /// Ends the source: the next read begins at what is saved.
    pub(crate) fn stop(&mut self) {
        self.source = Mutex::default();
    }

    /// What comes next within a while.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Incoming> {
        self.disk.set_now(self.outside.now());
        if self.source.get_mut().unwrap().is_none() {
            self.source = Mutex::new(Some(self.open(self.saved.values().cloned().collect()).await));
        }
        let source = self.source.get_mut().unwrap().as_mut().expect("just opened");
        let incoming = tokio::time::timeout(within, source.read()).await.ok()?;
        self.disk.set_now(self.outside.now());
        Some(incoming.expect("a read that works").expect("files never end"))
    }

    /// Reads once, and saves what came; whether anything did.
    pub(crate) async fn step(&mut self, within: Duration) -> bool {
        let Some(incoming) = self.next(within).await else { return false };
        self.save(incoming);
        true
    }

    /// Takes over what a source handed out.
    pub(crate) fn save(&mut self, incoming: Incoming) {
        let Incoming { stream, position, last, records, dead_letter, .. } = incoming;
        if last {
            self.ended += 1;
            self.saved.remove(&stream.id);
        } else {
            self.saved.insert(stream.id.clone(), (stream.clone(), position.expect("a position")));
        }
        assert!(dead_letter.is_none() || records.is_empty(), "either records or a dead letter");
        self.dead.extend(dead_letter);
        if records.is_empty() {
            return;
        }
        assert!(records.size() as u64 <= self.largest, "a batch of {} bytes is too large", records.size());
        for record in records.finish().records().expect("records").iter() {
            let record = record.expect("a record");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), text(value.unwrap_or_default())));
            self.headers.push(headers.collect());
            self.records.push((stream.id.clone(), record.value.expect("a value").to_vec()));
        }
    }

    /// Reads until nothing comes for a while.
    pub(crate) async fn settle(&mut self) {
        while self.step(QUIET).await {}
    }

    /// All records so far, as text.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.records.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}
