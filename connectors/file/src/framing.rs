//! Making records of a file's bytes.

use std::io;
use std::path::PathBuf;

use aqueduct_api::{DeadLetter, Error, Result};
use aqueduct_record::{BatchBuilder, Crc32c};
use bytes::Bytes;
use regex::bytes::Regex;

use crate::content::Content;
use crate::progress::Progress;
use crate::{FileSettings, Framing, HeaderName};

/// How bytes become records.
pub(crate) struct Framer {
    delimiter: u8,
    group: Option<Group>,
    max_record: usize,
    headers: Vec<HeaderName>,
}

/// How lines become one record.
struct Group {
    pattern: Regex,
    /// Whether a line that matches begins a record, or belongs to the one before.
    begins: bool,
    max_lines: usize,
}

/// One look at a file.
pub(crate) struct Look {
    pub(crate) content: Content,
    pub(crate) path: PathBuf,
    pub(crate) progress: Progress,
    /// How far a line that is too long was scanned before.
    pub(crate) skip: Option<Skip>,
    /// Whether a last line without its end is a record all the same.
    pub(crate) flush_line: bool,
    /// Whether a last group of lines is complete.
    pub(crate) flush_group: bool,
    /// About how many bytes to read at once.
    pub(crate) batch: usize,
    /// The records' timestamp, in milliseconds since 1970.
    pub(crate) now: i64,
}

/// A line that is too long, as far as it was scanned.
#[derive(Clone)]
pub(crate) struct Skip {
    scanned: u64,
    crc: Crc32c,
}

/// What a look found.
pub(crate) enum Taken {
    /// Records, the progress after them, and what is left.
    Records(BatchBuilder, Progress, Rest),
    /// A line that is too long, and the progress after it.
    TooLong(DeadLetter, Progress),
    /// Nothing that is complete, and whether something incomplete is there.
    Nothing(Option<Skip>, bool),
    /// The file does not hold what was read before: it was truncated or replaced.
    Replaced,
}

/// What is left of a file after a look.
pub(crate) struct Rest {
    /// Whether there may be complete records.
    pub(crate) more: bool,
    /// Whether there are bytes.
    pub(crate) partial: bool,
}

impl Framer {
    /// Reads the settings; a topic that takes batches of `largest` bytes bounds the longest record.
    pub(crate) fn new(settings: &FileSettings, largest: usize) -> Result<Self> {
        let group = settings.multiline.as_ref().map(|multiline| {
            let (pattern, begins) = match (&multiline.start, &multiline.continuation) {
                (Some(pattern), _) => (pattern.as_str(), true),
                (None, pattern) => (pattern.as_deref().unwrap_or_default(), false),
            };
            let pattern = Regex::new(pattern).map_err(|cause| Error::fatal(format!("setting multiline: {cause}")))?;
            Ok::<_, Error>(Group { pattern, begins, max_lines: multiline.max_lines })
        });
        // What a record costs beyond its value: the batch's header, lengths, and a path of at most 4 KiB as header.
        let room = largest.saturating_sub(8 << 10).max(1);
        Ok(Framer {
            delimiter: if settings.framing == Framing::Lines { b'\n' } else { 0 },
            group: group.transpose()?,
            max_record: room.min(settings.max_record.0 as usize),
            headers: settings.headers.clone(),
        })
    }

    /// The byte that ends a line.
    pub(crate) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Reads what comes next in a file. Blocks.
    pub(crate) fn take(&self, look: &Look) -> io::Result<Taken> {
        let context = look.progress.context() as usize;
        let from = look.progress.offset - context as u64;
        let mut want = look.batch.max(4096);
        loop {
            let mut bytes = Vec::with_capacity(context + want);
            let read = look.content.read(&mut bytes, context + want, from)?;
            if read < context || !look.progress.continues(&bytes[..context]) {
                return Ok(Taken::Replaced);
            }
            // A compressed file is not written anew in place, and going back to its head would inflate it again.
            if !look.content.is_compressed() && !look.progress.begins(&look.content) {
                return Ok(Taken::Replaced);
            }
            let (before, data) = bytes.split_at(context);
            let at_end = read < context + want;
            let (builder, consumed) = self.frame(look, data, at_end);
            if consumed > 0 {
                let progress = look.progress.after(before, &data[..consumed]);
                let partial = consumed < data.len() && look.content.is_whole();
                // What ended the batch may have been a line that is too long: it waits for nothing but the next call.
                let more = !at_end || builder.size() > look.batch || data.len() - consumed > self.max_record;
                return Ok(Taken::Records(builder, progress, Rest { more, partial }));
            }
            if data.len() > self.max_record {
                return self.skip(look);
            }
            if at_end {
                return Ok(Taken::Nothing(None, !data.is_empty() && look.content.is_whole()));
            }
            want = (want * 4).min(self.max_record + 1);
        }
    }

    /// Records of the whole lines in `data`, and how many bytes they are.
    fn frame(&self, look: &Look, data: &[u8], at_end: bool) -> (BatchBuilder, usize) {
        let mut records =
            Records { framer: self, look, builder: BatchBuilder::with_capacity(data.len() + data.len() / 8 + 512) };
        let consumed = match &self.group {
            None => records.lines(data),
            Some(group) => records.groups(group, data, at_end && look.flush_group),
        };
        let rest = &data[consumed..];
        let whole =
            at_end && look.flush_line && look.content.is_whole() && !rest.is_empty() && rest.len() <= self.max_record;
        if whole && !records.is_full() && memchr::memchr(self.delimiter, rest).is_none() {
            records.push(rest, consumed);
            return (records.builder, data.len());
        }
        (records.builder, consumed)
    }

    /// Scans a line that is too long up to its end.
    fn skip(&self, look: &Look) -> io::Result<Taken> {
        let start = look.progress.offset;
        let mut skip = look.skip.clone().unwrap_or(Skip { scanned: 0, crc: Crc32c::new() });
        let mut block = Vec::with_capacity(1 << 20);
        loop {
            block.clear();
            let read = look.content.read(&mut block, 1 << 20, start + skip.scanned)?;
            let end = memchr::memchr(self.delimiter, &block);
            let line = &block[..end.unwrap_or(read)];
            skip.crc.update(line);
            skip.scanned += line.len() as u64;
            if end.is_none() && read > 0 {
                continue;
            }
            if end.is_none() && !look.flush_line {
                return Ok(Taken::Nothing(Some(skip), true));
            }
            let next = start + skip.scanned + u64::from(end.is_some());
            let progress = look.progress.at(&look.content, next)?;
            return Ok(Taken::TooLong(self.too_long(look, start..start + skip.scanned, skip.crc.value()), progress));
        }
    }

    fn too_long(&self, look: &Look, range: std::ops::Range<u64>, crc: u32) -> DeadLetter {
        let length = range.end - range.start;
        let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
        DeadLetter {
            value: None,
            headers: vec![
                header("path", look.path.to_string_lossy().into_owned()),
                header("inode", look.progress.inode.to_string()),
                header("bytes", format!("{}-{}", range.start, range.end)),
                header("crc32c", format!("{crc:08x}")),
            ],
            reason: format!(
                "a line of {length} bytes at {}:{} is longer than max-record, {} bytes",
                look.path.display(),
                range.start,
                self.max_record
            ),
        }
    }
}

/// Records being made of one block.
struct Records<'a> {
    framer: &'a Framer,
    look: &'a Look,
    builder: BatchBuilder,
}

impl Records<'_> {
    /// Each line a record; returns how many bytes were taken.
    fn lines(&mut self, data: &[u8]) -> usize {
        let mut start = 0;
        for end in memchr::memchr_iter(self.framer.delimiter, data) {
            if end - start > self.framer.max_record || self.is_full() {
                break;
            }
            self.push(&data[start..end], start);
            start = end + 1;
        }
        start
    }

    /// Lines gathered into records; the last group counts only when it is known to be complete.
    fn groups(&mut self, group: &Group, data: &[u8], flush: bool) -> usize {
        let (mut start, mut lines, mut line_start) = (0, 0, 0);
        for end in memchr::memchr_iter(self.framer.delimiter, data) {
            let begins = group.pattern.is_match(&data[line_start..end]) == group.begins;
            let too_much = lines >= group.max_lines || end - start > self.framer.max_record;
            if lines > 0 && (begins || too_much) {
                if self.is_full() {
                    return start;
                }
                self.push(&data[start..line_start - 1], start);
                (start, lines) = (line_start, 0);
            }
            if end - start > self.framer.max_record {
                return start;
            }
            lines += 1;
            line_start = end + 1;
        }
        if flush && lines > 0 && !self.is_full() {
            self.push(&data[start..line_start - 1], start);
            start = line_start;
        }
        start
    }

    /// Short lines with long headers make more of a block than was read: the rest waits for the next batch.
    fn is_full(&self) -> bool {
        self.builder.size() > 2 * self.look.batch + (64 << 10) && !self.builder.is_empty()
    }

    #[inline]
    fn push(&mut self, value: &[u8], at: usize) {
        if self.framer.headers.is_empty() {
            return self.builder.push(self.look.now, None, Some(value), &[]);
        }
        let path = self.look.path.to_string_lossy();
        let (inode, offset) =
            (self.look.progress.inode.to_string(), (self.look.progress.offset + at as u64).to_string());
        let mut headers: [(&str, Option<&[u8]>); 3] = [("", None); 3];
        let wanted = self.framer.headers.iter().take(3);
        let count = wanted.clone().count();
        for (header, wanted) in headers.iter_mut().zip(wanted) {
            *header = match wanted {
                HeaderName::Path => ("path", Some(path.as_bytes())),
                HeaderName::Inode => ("inode", Some(inode.as_bytes())),
                HeaderName::Offset => ("offset", Some(offset.as_bytes())),
            };
        }
        self.builder.push(self.look.now, None, Some(value), &headers[..count]);
    }
}
