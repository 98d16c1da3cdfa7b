//! The source over a store that fails, stops in the middle and is away, under many seeds: every line comes once and in
//! order. `AQUEDUCT_SEEDS` says how many (default 300), `AQUEDUCT_SEED` repeats one.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{ByteSize, Edge, Position, Source, SourceOpening, Stream};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::{S3Settings, S3SourceSettings, open_source_over};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use world::World;

/// A store in memory whose answers fail, come in pieces, break off with an error, or just end.
struct Restless {
    inner: InMemory,
    chance: Mutex<SmallRng>,
    /// How many of a thousand answers go wrong.
    wrong: Mutex<u32>,
}

impl Restless {
    fn goes_wrong(&self) -> bool {
        let wrong = *self.wrong.lock().unwrap();
        self.chance.lock().unwrap().random_range(0..1000) < wrong
    }

    /// Where `length` things break off, if they do.
    fn end(&self, length: usize) -> Option<usize> {
        self.goes_wrong().then(|| self.chance.lock().unwrap().random_range(0..length.max(1)))
    }

    fn error() -> Error {
        Error::Generic { store: "S3", source: "Server returned non-2xx status code: 503 Service Unavailable".into() }
    }

    /// An answer's body, in pieces; one that breaks off says so, or just ends.
    fn pieces(&self, bytes: Bytes) -> BoxStream<'static, Result<Bytes>> {
        let end = self.end(bytes.len());
        let mut chance = self.chance.lock().unwrap();
        let is_told = chance.random_bool(0.5);
        let mut rest = bytes.slice(..end.unwrap_or(bytes.len()));
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let size = chance.random_range(1..=rest.len().min(2000));
            pieces.push(Ok(rest.split_to(size)));
        }
        if end.is_some() && is_told {
            pieces.push(Err(Self::error()));
        }
        stream::iter(pieces).boxed()
    }
}

impl fmt::Debug for Restless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Restless")
    }
}

impl fmt::Display for Restless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Restless")
    }
}

#[async_trait]
impl ObjectStore for Restless {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("a source uploads nothing")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        tokio::task::yield_now().await;
        if self.goes_wrong() {
            return Err(Self::error());
        }
        let got = self.inner.get_opts(path, options).await?;
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let payload = GetResultPayload::Stream(self.pieces(got.bytes().await?));
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        match self.end(20) {
            Some(end) => listed.take(end).chain(stream::iter([Err(Self::error())])).boxed(),
            None => listed,
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Restless {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId> {
        unreachable!("a source uploads nothing")
    }

    async fn put_part(&self, _: &Path, _: &MultipartId, _: usize, _: PutPayload) -> Result<PartId> {
        unreachable!("a source uploads nothing")
    }

    async fn complete_multipart(&self, _: &Path, _: &MultipartId, _: Vec<PartId>) -> Result<PutResult> {
        unreachable!("a source uploads nothing")
    }

    async fn abort_multipart(&self, _: &Path, _: &MultipartId) -> Result<()> {
        unreachable!("a source uploads nothing")
    }
}

/// A table of which each row says the object's number and its own.
async fn table(format: &str, number: usize, lines: usize) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let settings = json!({"url": "s3://bucket/made", "format": format, "schema": [
        {"name": "object", "type": "int32"}, {"name": "line", "type": "int64"}]});
    let settings: S3Settings = serde_json::from_value(settings).unwrap();
    let world = World::over(settings, scratch.path(), Arc::new(InMemory::new()));
    let mut builder = BatchBuilder::new();
    for line in 0..lines {
        builder.push(0, None, Some(json!({"object": number, "line": line}).to_string().as_bytes()), &[]);
    }
    deliver(&*world.open_sink().await, &mut [Script::new("t", 0).raw(0, builder).chunk()]).await;
    world.objects().await.remove(0).1
}

/// What one run has written and read.
struct Run {
    format: &'static str,
    store: Arc<Restless>,
    chance: SmallRng,
    /// How many lines each object has.
    written: BTreeMap<usize, usize>,
    read: BTreeMap<usize, Vec<usize>>,
    positions: BTreeMap<String, (Arc<Stream>, Position)>,
    batch: u64,
    read_ahead: &'static str,
}

impl Run {
    fn source(&self) -> Box<dyn Source> {
        let settings = json!({
            "url": "s3://bucket/in", "poll": "100ms", "format": self.format, "read-ahead": self.read_ahead,
        });
        let settings: S3SourceSettings = serde_json::from_value(settings).unwrap();
        let opening = SourceOpening {
            name: "in".into(),
            folder: "/".into(),
            edge: Edge::real(),
            positions: self.positions.values().cloned().collect(),
            batch: ByteSize(self.batch),
            largest: ByteSize::mib(1),
        };
        open_source_over(settings, opening, self.store.clone()).unwrap()
    }

    async fn put(&mut self) {
        let (number, lines) = (self.written.len(), self.chance.random_range(0..120));
        let text: String = (0..lines).map(|line| format!("{number} {line}\n")).collect();
        let lines = if self.format == "lines" { lines } else { lines + 1 };
        let stored = match self.chance.random_range(0..3) {
            _ if self.format != "lines" => table(self.format, number, lines).await,
            0 => text.into_bytes(),
            1 => zstd::encode_all(text.as_bytes(), 1).unwrap(),
            _ => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(text.as_bytes()).unwrap();
                gzip.finish().unwrap()
            }
        };
        // In no order of names, and of what a position has to spell longest.
        let key = format!("in/{:04x}/{}{number}", self.chance.random::<u16>(), "\\\"".repeat(150));
        self.store.put(&Path::parse(key).unwrap(), stored.into()).await.unwrap();
        self.written.insert(number, lines);
    }

    /// Reads until nothing comes, or a few times. Answers whether nothing came.
    async fn read(&mut self, source: &mut dyn Source, times: usize) -> bool {
        for _ in 0..times {
            let Ok(read) = tokio::time::timeout(Duration::from_secs(30), source.read()).await else { return true };
            let incoming = match read {
                Ok(incoming) => incoming.unwrap(),
                Err(error) => {
                    assert!(error.is_retry(), "{error}");
                    continue;
                }
            };
            assert!(incoming.dead_letter.is_none(), "{:?}", incoming.dead_letter);
            let position = incoming.position.unwrap();
            self.positions.insert(incoming.stream.id.clone(), (incoming.stream, position));
            if incoming.records.is_empty() {
                continue;
            }
            for record in incoming.records.finish().records().unwrap().iter() {
                let value = String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap();
                let value = value.replace("{\"object\":", "").replace(",\"line\":", " ").replace('}', "");
                let (object, line) = value.split_once(' ').unwrap();
                self.read.entry(object.parse().unwrap()).or_default().push(line.parse().unwrap());
            }
        }
        false
    }
}

async fn check(seed: u64) {
    let mut chance = SmallRng::seed_from_u64(seed);
    let store = Restless {
        inner: InMemory::new(),
        chance: Mutex::new(SmallRng::seed_from_u64(seed + 1)),
        wrong: Mutex::new([0, 50, 300][seed as usize % 3]),
    };
    let batch = chance.random_range(100..5000);
    let read_ahead = if chance.random_bool(0.5) { "0 B" } else { "8 KiB" };
    let (written, read, positions) = Default::default();
    let format = ["lines", "parquet", "avro", "lines"][seed as usize % 4];
    let mut run = Run { format, store: Arc::new(store), chance, written, read, positions, batch, read_ahead };
    for _ in 0..6 {
        let mut source = run.source();
        for _ in 0..run.chance.random_range(1..5) {
            for _ in 0..run.chance.random_range(0..6) {
                run.put().await;
            }
            let times = run.chance.random_range(0..8);
            run.read(&mut *source, times).await;
        }
    }
    *run.store.wrong.lock().unwrap() = 0;
    let mut source = run.source();
    while !run.read(&mut *source, 1000).await {}
    let expected: BTreeMap<usize, Vec<usize>> = run
        .written
        .iter()
        .filter(|(_, lines)| **lines > 0)
        .map(|(object, lines)| (*object, (0..*lines).collect()))
        .collect();
    assert_eq!(run.read, expected, "seed {seed}: what was read is on the left");
}

#[test]
fn every_line_comes_once_and_in_order_whatever_the_store_does() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = number("AQUEDUCT_SEED").map_or(0..number("AQUEDUCT_SEEDS").unwrap_or(300), |only| only..only + 1);
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(seed));
    }
}
