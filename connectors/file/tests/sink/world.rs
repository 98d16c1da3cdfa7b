//! A folder that the sinks' suite writes to and looks at.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::conformance::sink::{SinkWorld, Written};
use aqueduct_api::disk::{Kind, Open, RealDisk};
use aqueduct_api::{Disk, Edge, Result, Sink, SinkOpening, SinkSettings as _, TopicPartition};
use aqueduct_file::{FileFormat, FileSinkSettings};
use async_trait::async_trait;
use serde_json::Value;

/// A folder on some disk.
pub(crate) struct World {
    pub(crate) settings: FileSinkSettings,
    pub(crate) folder: PathBuf,
    disk: Arc<dyn Disk>,
}

impl World {
    /// A folder on the real disk.
    pub(crate) fn real(settings: Value, folder: &Path) -> Self {
        World::on(settings, folder, Arc::new(RealDisk))
    }

    pub(crate) fn on(settings: Value, folder: &Path, disk: Arc<dyn Disk>) -> Self {
        World { settings: serde_json::from_value(settings).unwrap(), folder: folder.to_owned(), disk }
    }

    pub(crate) fn opening(&self) -> SinkOpening {
        let edge = Edge { disk: self.disk.clone(), ..Edge::real() };
        SinkOpening { name: "out".to_owned(), folder: self.folder.clone(), scratch: "/scratch".into(), edge }
    }

    pub(crate) async fn sink(&self) -> Box<dyn Sink> {
        self.settings.clone().open(self.opening()).await.unwrap()
    }

    /// All files below the folder but the hidden ones, by path.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.folder.clone()]);
        while let Some(folder) = folders.pop() {
            // Before the first write there is no folder.
            for entry in self.disk.list(&folder).unwrap_or_default() {
                let path = folder.join(&entry.name);
                match entry.kind {
                    _ if entry.name == ".aqueduct" => {}
                    Kind::Folder => folders.push(path),
                    Kind::File => {
                        let file = self.disk.open(&path, Open::Read).unwrap();
                        let mut bytes = Vec::new();
                        file.read_at(&mut bytes, file.metadata().unwrap().length as usize, 0).unwrap();
                        let name = path.strip_prefix(&self.folder).unwrap().display().to_string();
                        files.insert(name, bytes);
                    }
                    other => panic!("{} is {other:?}", path.display()),
                }
            }
        }
        files
    }

    /// The same as text, inflated.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        self.files().into_iter().map(|(name, bytes)| (name.clone(), plain(&name, &bytes))).collect()
    }
}

/// The text of a file, whatever it was compressed with.
pub(crate) fn plain(name: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    match name.rsplit('.').next() {
        Some("gz") => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text).expect("gzip")),
        Some("zst") => text = String::from_utf8(zstd::decode_all(bytes).expect("zstd")).expect("UTF-8"),
        _ => text = String::from_utf8(bytes.to_vec()).expect("UTF-8"),
    }
    text
}

#[async_trait]
impl SinkWorld for World {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        self.settings.clone().open(self.opening()).await
    }

    async fn written(&self) -> Vec<Written> {
        let mut written: Vec<(i64, Written)> = Vec::new();
        for (name, text) in self.texts() {
            let mut last = BTreeMap::new();
            for (offset, record) in text.lines().map(|line| place(self.settings.format, line)) {
                let before = last.insert(record.partition.to_string(), offset);
                assert!(before.is_none_or(|before| before < offset), "{name}: {offset} behind {before:?}");
                written.push((offset, record));
            }
        }
        // Files lie side by side; the order among them is that of their records.
        written.sort_by_key(|(offset, _)| *offset);
        written.into_iter().map(|(_, written)| written).collect()
    }

    fn rejects(&self) -> Option<Option<&'static [u8]>> {
        match self.settings.format {
            FileFormat::Lines => Some(None),
            FileFormat::JsonLines => Some(Some(b"{\"a\":")),
            FileFormat::Records => None,
        }
    }
}

/// Where a line of the suite's records belongs.
fn place(format: FileFormat, line: &str) -> (i64, Written) {
    let (mut value, mut headers) = (line.as_bytes().to_vec(), Vec::new());
    if format == FileFormat::Records {
        let line: Value = serde_json::from_str(line).expect("a line of format records");
        let names = line["headers"].as_array().expect("headers").iter();
        headers = names.map(|header| header[0].as_str().expect("a name").to_owned()).collect();
        value = line["value"].as_str().expect("a value").as_bytes().to_vec();
    }
    let place: Value = serde_json::from_slice(&value).expect("a value of the suite");
    let number = |name: &str| place[name].as_i64().expect("a number");
    let partition = TopicPartition::new(place["topic"].as_str().expect("a topic"), number("partition") as i32);
    (number("offset"), Written { partition, value, headers })
}
