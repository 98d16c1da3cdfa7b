//! What people declare of files that are written.

use std::path::Path;

use aqueduct_api::disk::{Kind, Open};
use aqueduct_api::{ByteSize, Disk, Error, Problem, Result, Settings, Sink, SinkOpening, SinkSettings};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::sink::FileSink;
use crate::sink_format::{FileCompression, FileFormat};
use crate::sink_journal::told;
use crate::sink_name::Naming;
use crate::sink_writing::Shape;

/// Settings of the file sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileSinkSettings {
    /// The file to append to, or a template of many, relative to the configuration's folder: `out/{topic}.log`. Records
    /// fill in `{topic}`, `{partition}`, `{offset}`, `{key}`, `{timestamp:%Y-%m-%d}` (UTC), `{field:a.b}` of a JSON value,
    /// `{header:name}`; `{{` and `}}` are braces. What is before the last `/` in front of the first placeholder is the
    /// folder, which no name leaves: what records say is escaped with `%`, and links below it are not followed. A record
    /// without what its name needs is a dead letter.
    ///
    /// Each record is appended exactly once, in the order of its partition, and is durable before it counts: before a chunk
    /// is written the folder's `.aqueduct/files.journal` says how long its files were, and after a crash they are cut to
    /// that and the chunk is written again; meanwhile a reader can see lines that are cut off and come again. One chunk
    /// is written in a folder at a time, also by several daemons that share it; daemons that do not share it must not
    /// take over from each other. Nobody else may append to the files, and no two sinks to the same one.
    ///
    /// Other programs may rotate, move or remove whole files at any time: no file is held open, so no signal is needed, and
    /// the next chunk begins the file anew (with `roll`, under the same number). What is moved away or removed while a chunk
    /// is written to it takes along what of the chunk it holds, and the chunk is written again to the new file. What was
    /// moved away is never cut.
    ///
    /// The journal outlives the sink: it says, for each sink by name, topic and partition, up to which offset all is
    /// written. So a sink that is removed from the configuration and made anew under its name writes nothing again,
    /// whatever has become of the files; `aqueduct sinks rewind` does so on purpose, and a sink of another name writes all
    /// of the topic behind what is there. Where a chunk was given up (`aqueduct sinks unpin`), what of it was under way is cut
    /// off, in the folder of the settings of now; what was written whole but not committed yet stays, and what is cut anew
    /// is written behind it, once, as the settings and transforms of now have it. Where `.aqueduct` itself is removed, the chunk that was last under way may be
    /// written twice.
    #[schemars(extend("x-shaping" = true))]
    pub path: String,
    /// What a record becomes. Default: lines.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub format: FileFormat,
    /// How files are compressed; `.gz` or `.zst` is added to names that do not end so. Each chunk begins a member or
    /// frame of its own, which `gzip -dc` and `zstd -dc` read one after the other. Default: none.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub compression: FileCompression,
    /// Ends files, between chunks, and begins the next: `out/orders.log` becomes `out/orders-000001.log` and so on.
    /// Default: files grow without end.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub roll: Option<Roll>,
}

/// When a file is long enough: give `bytes`, `records` or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Roll {
    /// The next chunk begins another file when this one has so many bytes, as they are on disk. Default: any number.
    #[serde(default)]
    pub bytes: Option<ByteSize>,
    /// The next chunk begins another file when this one has so many records. Default: any number.
    #[serde(default)]
    pub records: Option<u64>,
}

impl Roll {
    /// Whether a file is long enough.
    pub(crate) fn is_reached(self, bytes: u64, records: u64) -> bool {
        self.bytes.is_some_and(|most| bytes >= most.0) || self.records.is_some_and(|most| records >= most)
    }
}

impl FileSinkSettings {
    /// How files are written, or what is wrong with the path.
    pub(crate) fn shape(&self) -> Result<Shape, String> {
        let naming = Naming::parse(&self.path, self.compression.extension())?;
        Ok(Shape { naming, compression: self.compression, roll: self.roll })
    }
}

impl Settings for FileSinkSettings {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "appends records to files that grow, one or many by template, each exactly once";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(told) = self.shape() {
            problems.push(Problem::new("path", told));
        }
        if let Some(roll) = self.roll {
            if roll.bytes.is_none() && roll.records.is_none() {
                problems.push(Problem::new("roll", "needs `bytes`, `records` or both"));
            }
            if roll.bytes == Some(ByteSize(0)) {
                problems.push(Problem::new("roll.bytes", "must be at least 1"));
            }
            if roll.records == Some(0) {
                problems.push(Problem::new("roll.records", "must be at least 1"));
            }
        }
        problems
    }
}

#[async_trait]
impl SinkSettings for FileSinkSettings {
    async fn open(self, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        Ok(Box::new(FileSink::new(&self, &opening)?))
    }

    async fn probe(&self, opening: SinkOpening) -> Result<Vec<String>> {
        let shape = self.shape().map_err(Error::fatal)?;
        let root = shape.naming.root(&opening.folder);
        let (disk, random) = (opening.edge.disk.clone(), opening.edge.random());
        opening.edge.blocking(move || probe(&*disk, &root, random)).await?
    }

    fn destination(&self, opening: &SinkOpening) -> Option<String> {
        Some(format!("file {}", self.shape().ok()?.naming.all(&opening.folder)))
    }
}

fn probe(disk: &dyn Disk, root: &Path, random: u64) -> Result<Vec<String>> {
    let there = root.ancestors().find_map(|folder| disk.metadata(folder, true).ok().map(|found| (folder, found.kind)));
    let (folder, kind) = there.ok_or_else(|| Error::fatal(format!("{}: no such folder", root.display())))?;
    if kind != Kind::Folder {
        return Err(Error::fatal(format!("{} is not a folder", folder.display())));
    }
    let trial = folder.join(format!(".aqueduct-probe-{random:016x}"));
    let file = disk.open(&trial, Open::New).map_err(|cause| told(&cause, "write to folder", folder))?;
    drop(file);
    disk.remove(&trial).map_err(|cause| told(&cause, "remove", &trial))?;
    Ok(match folder == root {
        true => Vec::new(),
        false => vec![format!("folder {} will be made", root.display())],
    })
}
