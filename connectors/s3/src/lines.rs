//! An object of lines on its way in.

use std::io;

use async_trait::async_trait;

use crate::arriving::{Arriving, Stored};
use crate::decode::{self, Columns, Decoded};
use crate::inflate::{HEAD, Inflate};
use crate::reading::{Content, Failure, Next, Progress};
use crate::source_settings::{ObjectFormat, S3SourceSettings};
use crate::split::{Cut, Split};

/// An object whose lines are records.
pub(crate) struct LineContent {
    arriving: Arriving,
    /// The first bytes, as long as they are too few to say what the object is.
    head: Vec<u8>,
    inflate: Inflate,
    split: Split,
    lines: Lines,
    /// How many bytes are passed over: they were read before.
    passed: u64,
    is_ended: bool,
    /// Why no line of it is a record, to be told as soon as somebody can be told.
    nameless: Option<String>,
}

/// What lines become.
enum Lines {
    Values,
    Json,
    Records,
    Csv(Columns),
}

impl LineContent {
    /// Begins to read an object, or goes on.
    pub(crate) async fn open(
        stored: &Stored,
        progress: Progress,
        settings: &S3SourceSettings,
        longest: usize,
    ) -> Result<LineContent, Failure> {
        let csv = &settings.csv;
        let lines = match settings.format {
            ObjectFormat::JsonLines => Lines::Json,
            ObjectFormat::Records => Lines::Records,
            ObjectFormat::Csv => Lines::Csv(Columns::new(csv.columns.clone(), csv.delimiter as u8)),
            _ => Lines::Values,
        };
        let is_csv = matches!(lines, Lines::Csv(_));
        // Without its head a CSV object does not say its columns.
        let from = if progress.is_plain && !is_csv { progress.at } else { 0 };
        Ok(LineContent {
            arriving: Arriving::open(stored, from).await?,
            head: Vec::new(),
            inflate: if from > 0 { Inflate::Plain } else { Inflate::Unknown },
            split: Split::new(if is_csv { 0 } else { progress.at }, longest, is_csv),
            lines,
            passed: if is_csv { 0 } else { progress.at - from },
            is_ended: false,
            nameless: None,
        })
    }

    fn take(&mut self, bytes: &[u8], progress: &mut Progress) -> io::Result<()> {
        if matches!(self.inflate, Inflate::Unknown) {
            self.head.extend_from_slice(bytes);
            return match self.head.len() {
                0..HEAD => Ok(()),
                _ => self.begin(progress),
            };
        }
        let (split, passed) = (&mut self.split, &mut self.passed);
        self.inflate.push(bytes, &mut |bytes| pass(split, passed, bytes))
    }

    fn begin(&mut self, progress: &mut Progress) -> io::Result<()> {
        let head = std::mem::take(&mut self.head);
        let (split, passed) = (&mut self.split, &mut self.passed);
        self.inflate.push(&head, &mut |bytes| pass(split, passed, bytes))?;
        progress.is_plain = self.inflate.is_plain();
        Ok(())
    }

    fn end(&mut self, progress: &mut Progress) -> io::Result<()> {
        if !self.head.is_empty() {
            self.begin(progress)?;
        }
        let (split, passed) = (&mut self.split, &mut self.passed);
        self.inflate.finish(&mut |bytes| pass(split, passed, bytes))
    }

    /// Whether a line is none of which a record is to be made: an empty one, the columns of a CSV object, or one that was
    /// read before.
    fn is_seen(&mut self, progress: &mut Progress, cut: &Cut) -> bool {
        let (line, next) = match cut {
            Cut::Line(range, next) => (Some(self.split.bytes(range.clone())), *next),
            Cut::TooLong(_, _, next) => (None, *next),
        };
        let is_passed = next <= progress.at;
        let looked = match (&mut self.lines, line) {
            (Lines::Json, Some(line)) => Ok(line.iter().all(u8::is_ascii_whitespace)),
            (Lines::Csv(columns), Some(line)) => columns.look(line),
            (Lines::Csv(columns), None) if !columns.are_named() => Err("the line is longer than max-record".to_owned()),
            _ => Ok(false),
        };
        let is_none = looked.unwrap_or_else(|why| {
            // What would be the columns then are values.
            self.nameless = Some(why);
            true
        });
        if is_none && !is_passed {
            progress.at = next;
        }
        is_none || is_passed
    }
}

#[async_trait]
impl Content for LineContent {
    async fn fill(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        if let Some(why) = self.nameless.take() {
            return Err(Failure::Lost(format!("names no columns: {why}")));
        }
        let taken = match self.arriving.next().await? {
            Some(bytes) => self.take(&bytes, progress),
            None => {
                self.is_ended = true;
                self.end(progress)
            }
        };
        taken.map_err(|cause| match cause.kind() {
            io::ErrorKind::Unsupported => Failure::Lost(format!("can not be read: {cause}")),
            _ => Failure::Lost(format!("is damaged: {cause}")),
        })
    }

    fn next<'a>(&'a mut self, progress: &mut Progress) -> Next<'a> {
        // The borrow of a line that is passed over would last as long as that of the one that is returned.
        let cut = loop {
            if self.nameless.is_some() {
                return Next::More;
            }
            match self.split.next(self.is_ended) {
                None if self.is_ended => return Next::End,
                None => return Next::More,
                Some(cut) if self.is_seen(progress, &cut) => {}
                Some(cut) => break cut,
            }
        };
        let start = progress.at;
        match cut {
            Cut::TooLong(bytes, crc, next) => {
                progress.at = next;
                let reason = format!("a line of {} bytes is longer than max-record", bytes.end - bytes.start);
                Next::Unfit { told: told(bytes, crc), value: None, reason }
            }
            Cut::Line(range, next) => {
                progress.at = next;
                let line = self.split.bytes(range);
                match self.lines.decode(line) {
                    Ok(decoded) => Next::Record(decoded),
                    Err(reason) => {
                        let crc = aqueduct_record::crc32c(line);
                        Next::Unfit { told: told(start..start + line.len() as u64, crc), value: Some(line), reason }
                    }
                }
            }
        }
    }
}

/// Where a line is, and its checksum.
fn told(bytes: std::ops::Range<u64>, crc: u32) -> Vec<(&'static str, String)> {
    vec![("bytes", format!("{}-{}", bytes.start, bytes.end)), ("crc32c", format!("{crc:08x}"))]
}

/// Hands on what was not read before.
fn pass(split: &mut Split, passed: &mut u64, bytes: &[u8]) {
    let over = (*passed).min(bytes.len() as u64);
    *passed -= over;
    split.push(&bytes[over as usize..]);
}

impl Lines {
    fn decode<'a>(&mut self, line: &'a [u8]) -> Result<Decoded<'a>, String> {
        match self {
            Lines::Values => Ok(Decoded::value(line)),
            Lines::Json => decode::json(line),
            Lines::Records => decode::record(line),
            Lines::Csv(columns) => columns.decode(line),
        }
    }
}
