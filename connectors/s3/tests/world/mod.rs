//! Buckets and folders in which the sinks' suite looks at what this sink wrote.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod tables;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::conformance::sink::{SinkWorld, Written};
use aqueduct_api::{Edge, Result, Sink, SinkOpening, SinkSettings as _, TopicPartition};
use aqueduct_s3::{Format, PartStore, S3Settings, open_over};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use serde_json::Value;

/// A folder, or a bucket in a store that the test made.
pub(crate) struct World {
    settings: S3Settings,
    opening: SinkOpening,
    store: Option<Arc<dyn PartStore>>,
}

impl World {
    /// The folder that `settings` name, with scratch files in `scratch`.
    pub(crate) fn new(settings: S3Settings, scratch: &Path) -> Self {
        let folder = PathBuf::from("/");
        let opening = SinkOpening { name: "suite".to_owned(), folder, scratch: scratch.to_owned(), edge: Edge::real() };
        World { settings, opening, store: None }
    }

    /// A bucket in `store`.
    pub(crate) fn over(settings: S3Settings, scratch: &Path, store: Arc<dyn PartStore>) -> Self {
        World { store: Some(store), ..World::new(settings, scratch) }
    }

    /// Its sink.
    pub(crate) async fn open_sink(&self) -> Box<dyn Sink> {
        self.open().await.unwrap()
    }

    /// All objects under the url, by name.
    pub(crate) async fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let url = &self.settings.url;
        let mut objects = match (&self.store, url.strip_prefix("file://"), url.strip_prefix("s3://")) {
            (None, Some(folder), _) => folder_objects(Path::new(folder)),
            (Some(store), _, Some(rest)) => {
                let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
                bucket_objects(&**store, prefix).await
            }
            _ => panic!("{url} is no place of a test"),
        };
        objects.sort();
        objects
    }
}

async fn bucket_objects(store: &dyn PartStore, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut objects = Vec::new();
    let prefix = object_store::path::Path::from(prefix);
    let found: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
    for found in found {
        let bytes = store.get(&found.location).await.unwrap().bytes().await.unwrap();
        let name = found.location.as_ref();
        let name = name.strip_prefix(prefix.as_ref()).unwrap_or(name).trim_start_matches('/');
        objects.push((name.to_owned(), bytes.to_vec()));
    }
    objects
}

fn folder_objects(root: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut objects, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        // Before the first write there is no folder.
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path == root.join(".aqueduct") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().display().to_string();
            objects.push((name, std::fs::read(&path).unwrap()));
        }
    }
    objects
}

#[async_trait]
impl SinkWorld for World {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        match &self.store {
            Some(store) => open_over(&self.settings, &self.opening, store.clone()),
            None => self.settings.clone().open(self.opening.clone()).await,
        }
    }

    async fn written(&self) -> Vec<Written> {
        let mut written: Vec<(i64, Written)> = Vec::new();
        for (name, bytes) in self.objects().await {
            let format = self.settings.format;
            let records: Vec<_> = match format {
                Format::Parquet => tables::parquet(&bytes).into_iter().map(row).collect(),
                Format::Avro => tables::avro(&bytes).into_iter().map(row).collect(),
                Format::Csv => tables::csv(&plain(&name, &bytes)).into_iter().map(row).collect(),
                _ => plain(&name, &bytes).lines().map(|line| record(format, line)).collect(),
            };
            let ascending = records.windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(ascending, "{name}: an object's records are in the order of their offsets");
            written.extend(records);
        }
        // Objects lie side by side; the order among them is that of their records.
        written.sort_by_key(|(offset, _)| *offset);
        written.into_iter().map(|(_, written)| written).collect()
    }

    fn rejects(&self) -> Option<Option<&'static [u8]>> {
        match self.settings.format {
            Format::Lines => Some(None),
            Format::JsonLines => Some(Some(b"{\"a\":")),
            Format::Records => None,
            Format::Parquet | Format::Avro | Format::Csv => Some(Some(b"[{}]")),
        }
    }
}

/// The text of an object, whatever it was compressed with.
pub(crate) fn plain(name: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    match name.rsplit('.').next() {
        Some("gz") => drop(flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip")),
        Some("sz") => drop(snap::read::FrameDecoder::new(bytes).read_to_string(&mut text).expect("snappy")),
        Some("lz4") => drop(lz4_flex::frame::FrameDecoder::new(bytes).read_to_string(&mut text).expect("lz4")),
        Some("zst") => text = String::from_utf8(zstd::decode_all(bytes).expect("zstd")).expect("UTF-8"),
        _ => text = String::from_utf8(bytes.to_vec()).expect("UTF-8"),
    }
    text
}

/// Reads a line of the suite's records, whose values say where they belong.
fn record(format: Format, line: &str) -> (i64, Written) {
    let line = line.as_bytes();
    let (value, headers) = match format {
        Format::Lines | Format::JsonLines => (line.to_vec(), Vec::new()),
        _ => {
            let line: Value = serde_json::from_slice(line).expect("a line of format records");
            let headers = line["headers"].as_array().expect("headers");
            let headers = headers.iter().map(|header| header[0].as_str().expect("a header's name").to_owned());
            let value = match line.get("value") {
                Some(value) => value.as_str().expect("a value").as_bytes().to_vec(),
                None => STANDARD.decode(line["value-base64"].as_str().expect("a value")).expect("base64"),
            };
            (value, headers.collect())
        }
    };
    place(value, headers)
}

/// Reads a row of the suite's records; column `_headers` holds the headers, where it is there.
fn row(mut fields: tables::Fields) -> (i64, Written) {
    let headers = fields.remove("_headers").unwrap_or_default();
    let headers = headers.as_array().into_iter().flatten();
    let headers = headers.map(|header| header["name"].as_str().expect("a header's name").to_owned()).collect();
    place(Value::Object(fields).to_string().into_bytes(), headers)
}

/// Where a value of the suite belongs.
fn place(value: Vec<u8>, headers: Vec<String>) -> (i64, Written) {
    let place: Value = serde_json::from_slice(&value).expect("a value of the suite");
    let number = |name: &str| place[name].as_i64().expect("a number");
    let partition = TopicPartition::new(place["topic"].as_str().expect("a topic"), number("partition") as i32);
    (number("offset"), Written { partition, value, headers })
}
