//! Worlds in which the sinks' conformance suite looks at what this sink wrote, for this crate's tests and for those
//! against real services.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::conformance::sink::{SinkWorld, Written};
use aqueduct_api::disk::{Kind, RealDisk};
use aqueduct_api::{Disk as _, Edge, Error, Result, Sink, SinkOpening, SinkSettings as _, TopicPartition};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use serde_json::Value;

use crate::address::{Address, absolute};
use crate::{Format, PartStore, S3Settings, open_over, store};

/// A bucket or a folder, as the settings say.
pub struct World {
    settings: S3Settings,
    opening: SinkOpening,
    /// In place of the store that the settings name.
    store: Option<Arc<dyn PartStore>>,
}

impl World {
    /// What `settings` name, with scratch files in `scratch`.
    pub fn new(settings: S3Settings, scratch: &Path) -> Self {
        let folder = PathBuf::from("/");
        let opening = SinkOpening { name: "suite".to_owned(), folder, scratch: scratch.to_owned(), edge: Edge::real() };
        World { settings, opening, store: None }
    }

    /// A bucket in `store`.
    pub fn over(settings: S3Settings, scratch: &Path, store: Arc<dyn PartStore>) -> Self {
        World { store: Some(store), ..World::new(settings, scratch) }
    }

    /// All objects under the url, by name.
    ///
    /// # Errors
    /// What the store or the disk says.
    pub async fn objects(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut objects = match self.settings.address()? {
            Address::Folder(path) => folder_objects(&absolute(&self.opening.folder, &path))?,
            Address::Bucket { bucket, prefix } => {
                let store = match &self.store {
                    Some(store) => store.clone(),
                    None => store::client(&self.settings, &bucket)?,
                };
                bucket_objects(&*store, &prefix).await.map_err(Error::retry)?
            }
        };
        objects.sort();
        Ok(objects)
    }
}

async fn bucket_objects(store: &dyn PartStore, prefix: &str) -> object_store::Result<Vec<(String, Vec<u8>)>> {
    let mut objects = Vec::new();
    let prefix = object_store::path::Path::from(prefix);
    let found: Vec<_> = store.list(Some(&prefix)).try_collect().await?;
    for found in found {
        let bytes = store.get(&found.location).await?.bytes().await?;
        let name = found.location.as_ref();
        let name = name.strip_prefix(prefix.as_ref()).unwrap_or(name).trim_start_matches('/');
        objects.push((name.to_owned(), bytes.to_vec()));
    }
    Ok(objects)
}

fn folder_objects(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut objects, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in RealDisk.list(&folder).or_else(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(cause),
        })? {
            let path = folder.join(&entry.name);
            if folder == root && entry.name == ".aqueduct" {
                continue;
            }
            if entry.kind == Kind::Folder {
                folders.push(path);
                continue;
            }
            let file = RealDisk.open(&path, aqueduct_api::disk::Open::Read)?;
            let mut bytes = Vec::new();
            file.read_at(&mut bytes, file.metadata()?.length as usize, 0)?;
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            objects.push((name, bytes));
        }
    }
    Ok(objects)
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
        for (name, bytes) in self.objects().await.expect("the objects can be read") {
            let records: Vec<_> = plain(&name, &bytes).lines().map(|line| record(self.settings.format, line)).collect();
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
        }
    }
}

/// The text of an object, whatever it was compressed with.
///
/// # Panics
/// When it is not compressed as its name says, or is not UTF-8.
pub fn plain(name: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    match name.rsplit('.').next() {
        Some("gz") => drop(flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip")),
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
        Format::Records => {
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
    let place: Value = serde_json::from_slice(&value).expect("a value of the suite");
    let number = |name: &str| place[name].as_i64().expect("a number");
    let partition = TopicPartition::new(place["topic"].as_str().expect("a topic"), number("partition") as i32);
    (number("offset"), Written { partition, value, headers })
}
