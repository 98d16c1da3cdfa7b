//! What people declare.

use std::path::Path;

use aqueduct_api::{ByteSize, Problem, Result, Settings, Source, SourceOpening, SourceSettings, Span, disk::Open};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::FileSource;
use crate::walk::Walk;

/// Settings of the file source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileSettings {
    /// Files to read: paths and globs (`*`, `?`, `[…]`, `{a,b}`, and `**` for any folders), relative to the
    /// configuration's folder. Symbolic links are followed; a file that is found twice is read once.
    pub paths: Vec<String>,
    /// Files not to read, as globs. Default: none.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Where to begin in files that are there when the source starts for the very first time: `beginning` or `end`.
    /// Later files are read from the beginning. Default: beginning.
    #[serde(default)]
    pub start: Start,
    /// What ends a record: `lines` (a newline) or `nul` (a zero byte). A carriage return before a newline stays, like all
    /// other bytes; they need not be UTF-8. Default: lines.
    #[serde(default)]
    pub framing: Framing,
    /// Makes one record of several lines. Default: each line is a record.
    #[serde(default)]
    pub multiline: Option<Multiline>,
    /// The longest record. A longer one becomes a dead letter with its path, byte range and CRC-32C. Default: 16 MiB.
    #[serde(default = "max_record")]
    pub max_record: ByteSize,
    /// Headers that each record gets: `path`, `inode`, `offset` (of the record's first byte). Default: none.
    #[serde(default)]
    pub headers: Vec<HeaderName>,
    /// Whether files whose name ends in `.gz` are inflated: `auto` or `never`. A damaged one is read as far as it inflates;
    /// the rest of it is one dead letter with its path and the offset. Lines before that offset may be damaged too: what a bit
    /// that flipped inflates to, only a checksum behind it can tell. Default: auto.
    #[serde(default)]
    pub compressed: Compressed,
    /// How often files that grew lately are looked at. Default: 250ms.
    #[serde(default = "poll")]
    pub poll: Span,
    /// How often new files are looked for; thousands of files are looked for less often. Default: 1s.
    #[serde(default = "discover")]
    pub discover: Span,
    /// How long a file that was rotated away must stay unchanged before it counts as finished: its last line is a record
    /// then even without a newline, and the file that took its place is read. Default: 2s.
    #[serde(default = "rotate_wait")]
    pub rotate_wait: Span,
    /// How long a last line without a newline waits for one before it becomes a record as it is, in files that were not
    /// rotated away; -1: for ever. A `.gz` that ends in the middle waits as long for its rest before it counts as damaged.
    /// Default: -1.
    #[serde(default = "never")]
    pub unfinished_after: Span,
    /// Files that have not changed for so long are not read, unless reading began before; -1: all are. Default: -1.
    #[serde(default = "never")]
    pub ignore_older: Span,
    /// How long the position of a file that is gone is kept. Default: 1d.
    #[serde(default = "forget_after")]
    pub forget_after: Span,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At the first byte.
    #[default]
    Beginning,
    /// After the last whole line.
    End,
}

/// What ends a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// A newline.
    #[default]
    Lines,
    /// A zero byte.
    Nul,
}

/// How several lines become one record: give either `start` or `continue`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Multiline {
    /// A line that matches this regular expression begins a record; all others belong to the one before.
    #[serde(default)]
    pub start: Option<String>,
    /// A line that matches this regular expression belongs to the record before; all others begin one.
    #[serde(default, rename = "continue")]
    pub continuation: Option<String>,
    /// How long a record waits for its next line. Default: 1s.
    #[serde(default = "discover")]
    pub timeout: Span,
    /// The most lines of a record. Default: 1000.
    #[serde(default = "max_lines")]
    pub max_lines: usize,
}

/// A header that each record gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderName {
    /// The file's path when it was read.
    Path,
    /// The file's inode.
    Inode,
    /// Where the record begins in the file, in bytes (inflated ones where it is compressed).
    Offset,
}

impl HeaderName {
    /// The header's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            HeaderName::Path => "path",
            HeaderName::Inode => "inode",
            HeaderName::Offset => "offset",
        }
    }
}

/// Whether compressed files are inflated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compressed {
    /// Those whose name ends in `.gz`.
    #[default]
    Auto,
    /// None.
    Never,
}

fn max_record() -> ByteSize {
    ByteSize::mib(16)
}

fn poll() -> Span {
    Span::millis(250)
}

fn discover() -> Span {
    Span::seconds(1)
}

fn rotate_wait() -> Span {
    Span::seconds(2)
}

fn never() -> Span {
    Span::FOREVER
}

fn forget_after() -> Span {
    Span::days(1)
}

fn max_lines() -> usize {
    1000
}

impl Settings for FileSettings {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "reads lines of files that grow, are rotated and compressed";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.paths.is_empty() {
            problems.push(Problem::new("paths", "is empty: name at least one path or glob"));
        }
        for (setting, globs) in [("paths", &self.paths), ("exclude", &self.exclude)] {
            for (index, glob) in globs.iter().enumerate() {
                if let Err(cause) = crate::walk::glob(Path::new("/"), glob) {
                    problems
                        .push(Problem::new(format!("{setting}[{index}]"), format!("`{glob}` is not a glob: {cause}")));
                }
            }
        }
        if self.max_record.0 == 0 || self.max_record.0 > 1 << 30 {
            problems.push(Problem::new("max-record", "must lie between 1 B and 1 GiB"));
        }
        for (setting, span) in [("poll", self.poll), ("discover", self.discover)] {
            if span.duration().is_none_or(|span| span.is_zero()) {
                problems.push(Problem::new(setting, "must be longer than nothing, for example `250ms`"));
            }
        }
        if self.rotate_wait == Span::FOREVER {
            let message = "must have an end, for example `2s`: files that take the place of rotated ones wait so long";
            problems.push(Problem::new("rotate-wait", message));
        }
        for (index, header) in self.headers.iter().enumerate() {
            if self.headers[..index].contains(header) {
                problems
                    .push(Problem::new(format!("headers[{index}]"), format!("`{}` is there twice", header.as_str())));
            }
        }
        problems.extend(self.multiline.iter().flat_map(Multiline::problems));
        problems
    }
}

impl Multiline {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.start.is_some() == self.continuation.is_some() {
            problems.push(Problem::new("multiline", "needs either `start` or `continue`"));
        }
        for (setting, pattern) in [("multiline.start", &self.start), ("multiline.continue", &self.continuation)] {
            let Some(pattern) = pattern else { continue };
            if let Err(cause) = regex::bytes::Regex::new(pattern) {
                // What is wrong comes last, after a drawing of where.
                let cause = cause.to_string();
                let cause = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
                problems.push(Problem::new(setting, format!("`{pattern}` is not a regular expression: {cause}")));
            }
        }
        if self.max_lines == 0 {
            problems.push(Problem::new("multiline.max-lines", "must be at least 1"));
        }
        problems
    }
}

#[async_trait]
impl SourceSettings for FileSettings {
    async fn open(self, opening: SourceOpening) -> Result<Box<dyn Source>> {
        Ok(Box::new(FileSource::open(self, opening)?))
    }

    async fn probe(&self, opening: SourceOpening) -> Result<Vec<String>> {
        let walk = Walk::new(self, &opening.folder)?;
        let disk = opening.edge.disk.clone();
        opening
            .edge
            .blocking(move || {
                let found = walk.find(&*disk);
                let mut told = vec![match found.files.len() {
                    1 => "1 file matches".to_owned(),
                    count => format!("{count} files match"),
                }];
                told.extend(found.problems.into_iter().map(|(path, what)| format!("{}: {what}", path.display())));
                for file in &found.files {
                    if let Err(cause) = disk.open(&file.path, Open::Read) {
                        told.push(format!("{} can not be read: {cause}", file.path.display()));
                    }
                }
                told
            })
            .await
    }
}
