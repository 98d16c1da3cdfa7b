//! One object on its way in.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::{Error as StoreError, GetOptions, GetRange};

use crate::answers::says;
use crate::decode::{self, Columns, Decoded};
use crate::inflate::Inflate;
use crate::listing::Listed;
use crate::source_settings::{Csv, ObjectFormat};
use crate::split::{Cut, Split};
use crate::store::PartStore;

/// How far an object has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many of its bytes are done with, as they are when nothing is compressed any more.
    pub(crate) at: u64,
    /// Whether these are its bytes as they are stored, so that reading can begin there.
    pub(crate) is_plain: bool,
}

/// An object that is being read.
pub(crate) struct Reading {
    pub(crate) object: Listed,
    pub(crate) progress: Progress,
    body: BoxStream<'static, object_store::Result<Bytes>>,
    /// The first bytes, as long as they are too few to say what the object is.
    head: Vec<u8>,
    inflate: Inflate,
    split: Split,
    lines: Lines,
    /// How many bytes are passed over: they were read before.
    passed: u64,
    /// How many of the bytes that are stored have yet to come. A body may just end early.
    missing: u64,
    is_ended: bool,
}

/// What lines become.
enum Lines {
    Values,
    Json,
    Records,
    Csv(Columns),
}

/// What comes next of an object.
pub(crate) enum Next<'a> {
    /// A record, or a line that is none.
    Record(Decoded<'a>),
    /// A line that no record can be made of: where it is, its bytes unless it is too long, and why.
    Unfit { bytes: std::ops::Range<u64>, line: Option<&'a [u8]>, crc: u32, reason: String },
    /// Nothing, before more of the object has come.
    More,
    /// The end.
    End,
}

/// Why an object can not be read on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it will come: it is gone, it was changed, it is damaged.
    Lost(String),
    /// The store failed.
    Store(StoreError),
}

impl Reading {
    /// Begins to read an object, or goes on. The version that was listed is read, no other.
    pub(crate) async fn open(
        store: &Arc<dyn PartStore>,
        object: &Listed,
        progress: Progress,
        format: ObjectFormat,
        csv: &Csv,
        longest: usize,
    ) -> Result<Reading, Failure> {
        let is_csv = format == ObjectFormat::Csv;
        // Without its head a CSV object does not say its columns.
        let from = if progress.is_plain && !is_csv { progress.at } else { 0 };
        let body = match from {
            // Read to its end, but nobody noted that: there is no range of nothing to ask for.
            _ if from > 0 && from >= object.size => futures::stream::empty().boxed(),
            _ => {
                let range = (from > 0).then_some(GetRange::Offset(from));
                let options = GetOptions { if_match: object.e_tag.clone(), range, ..GetOptions::default() };
                let body = store.get_opts(&object.key, options).await.map_err(|cause| failure(cause, progress.at))?;
                // A store without ETags tells another version by its size, if it can be told at all.
                if body.meta.size != object.size {
                    return Err(anew(progress.at));
                }
                body.into_stream()
            }
        };
        let lines = match format {
            ObjectFormat::Lines => Lines::Values,
            ObjectFormat::JsonLines => Lines::Json,
            ObjectFormat::Records => Lines::Records,
            ObjectFormat::Csv => Lines::Csv(Columns::new(csv.columns.clone(), csv.delimiter as u8)),
        };
        Ok(Reading {
            object: object.clone(),
            progress,
            body,
            head: Vec::new(),
            inflate: if from > 0 { Inflate::Plain } else { Inflate::Unknown },
            split: Split::new(if is_csv { 0 } else { progress.at }, longest, is_csv),
            lines,
            passed: if is_csv { 0 } else { progress.at - from },
            missing: object.size.saturating_sub(from),
            is_ended: false,
        })
    }

    /// Waits for more of the object. May be dropped.
    pub(crate) async fn fill(&mut self) -> Result<(), Failure> {
        match self.body.next().await {
            Some(Ok(bytes)) => {
                let left = self.missing.checked_sub(bytes.len() as u64);
                self.missing = left.ok_or_else(|| self.unlike("more than", self.object.size))?;
                self.take(&bytes).map_err(|cause| self.damaged(cause))
            }
            Some(Err(cause)) => Err(failure(cause, self.progress.at)),
            None if self.missing > 0 => Err(self.unlike("only", self.object.size - self.missing)),
            None => {
                self.is_ended = true;
                self.end().map_err(|cause| self.damaged(cause))
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if matches!(self.inflate, Inflate::Unknown) {
            self.head.extend_from_slice(bytes);
            return match self.head.len() {
                0..4 => Ok(()),
                _ => self.begin(),
            };
        }
        let (split, passed) = (&mut self.split, &mut self.passed);
        self.inflate.push(bytes, &mut |bytes| pass(split, passed, bytes))
    }

    fn begin(&mut self) -> io::Result<()> {
        let head = std::mem::take(&mut self.head);
        let (split, passed) = (&mut self.split, &mut self.passed);
        self.inflate.push(&head, &mut |bytes| pass(split, passed, bytes))?;
        self.progress.is_plain = self.inflate.is_plain();
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if !self.head.is_empty() {
            self.begin()?;
        }
        let (split, passed) = (&mut self.split, &mut self.passed);
        self.inflate.finish(&mut |bytes| pass(split, passed, bytes))
    }

    /// The next record of what has come. Progress is where the next one begins.
    pub(crate) fn next(&mut self) -> Next<'_> {
        // The borrow of a line that is passed over would last as long as that of the one that is returned.
        let cut = loop {
            match self.split.next(self.is_ended) {
                None if self.is_ended => return Next::End,
                None => return Next::More,
                Some(Cut::Line(range, next)) if self.is_seen(&range, next) => {}
                Some(cut) => break cut,
            }
        };
        let start = self.progress.at;
        match cut {
            Cut::TooLong(bytes, crc, next) => {
                self.progress.at = next;
                let reason = format!("a line of {} bytes is longer than max-record", bytes.end - bytes.start);
                Next::Unfit { bytes, line: None, crc, reason }
            }
            Cut::Line(range, next) => {
                self.progress.at = next;
                let line = self.split.bytes(range);
                match self.lines.decode(line) {
                    Ok(decoded) => Next::Record(decoded),
                    Err(reason) => {
                        let crc = aqueduct_record::crc32c(line);
                        Next::Unfit { bytes: start..start + line.len() as u64, line: Some(line), crc, reason }
                    }
                }
            }
        }
    }

    /// Whether a line is none of which a record is to be made: an empty one, the columns of a CSV object, or one that was
    /// read before.
    fn is_seen(&mut self, range: &std::ops::Range<usize>, next: u64) -> bool {
        let line = self.split.bytes(range.clone());
        let is_passed = next <= self.progress.at;
        let is_none = match &mut self.lines {
            Lines::Values | Lines::Records => false,
            Lines::Json => line.iter().all(u8::is_ascii_whitespace),
            Lines::Csv(columns) => matches!(columns.look(line), Ok(true)),
        };
        if is_none && !is_passed {
            self.progress.at = next;
        }
        is_none || is_passed
    }

    /// The body is not as long as the object: no damage, another try may bring all of it.
    fn unlike(&self, how: &str, bytes: u64) -> Failure {
        let source = format!("the store sent {how} {bytes} bytes of an object of {}", self.object.size);
        Failure::Store(StoreError::Generic { store: "S3", source: source.into() })
    }

    fn damaged(&self, cause: io::Error) -> Failure {
        Failure::Lost(format!("is damaged behind byte {}: {cause}", self.progress.at))
    }
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

fn anew(at: u64) -> Failure {
    Failure::Lost(format!("was written anew while it was read: the old one was read up to byte {at}"))
}

fn failure(cause: StoreError, at: u64) -> Failure {
    match &cause {
        StoreError::NotFound { .. } if !says(&cause, &["NoSuchBucket"]) => {
            Failure::Lost(format!("is gone: it was read up to byte {at}"))
        }
        StoreError::Precondition { .. } => anew(at),
        _ if says(&cause, &["InvalidObjectState"]) => Failure::Lost(format!("is archived, restore it first: {cause}")),
        _ if says(&cause, &["InvalidRange", "status code: 416"]) => {
            Failure::Lost(format!("is shorter than it was: it was read up to byte {at}"))
        }
        _ => Failure::Store(cause),
    }
}
