//! Making records of a file's bytes.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aqueduct_api::{DeadLetter, Error, Result};
use aqueduct_record::{BatchBuilder, Crc32c};
use bytes::Bytes;
use regex::bytes::Regex;

use crate::content::{Content, Damage};
use crate::progress::Progress;
use crate::{FileSettings, Framing, HeaderName};

/// How bytes become records.
pub(crate) struct Framer {
    delimiter: u8,
    group: Option<Group>,
    max_record: usize,
    /// The most bytes of a batch.
    largest: usize,
    headers: Vec<HeaderName>,
    /// What files are read through, used again: to touch fresh memory costs more than to read into it.
    block: Mutex<Vec<u8>>,
}

/// The largest block that is kept for the next read, in bytes.
const LARGEST_KEPT: usize = 2 << 20;

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
    /// Whether a compressed file that ends in the middle is damaged; `None`: it never is.
    pub(crate) flush_cut: Option<bool>,
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
    /// What can not be a record, and the progress after it.
    Unfit(DeadLetter, Progress),
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
            largest,
            headers: settings.headers.clone(),
            block: Mutex::default(),
        })
    }

    /// The byte that ends a line.
    pub(crate) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Reads what comes next in a file. Blocks.
    pub(crate) fn take(&self, look: &Look) -> io::Result<Taken> {
        let mut block = std::mem::take(&mut *self.block());
        let taken = self.take_through(&mut block, look);
        if block.capacity() <= LARGEST_KEPT {
            *self.block() = block;
        }
        taken
    }

    fn block(&self) -> MutexGuard<'_, Vec<u8>> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_through(&self, bytes: &mut Vec<u8>, look: &Look) -> io::Result<Taken> {
        let context = look.progress.context() as usize;
        let from = look.progress.offset - context as u64;
        let mut want = look.batch.max(4096);
        loop {
            bytes.clear();
            bytes.reserve(context + want);
            let read = look.content.read(bytes, context + want, from)?;
            if read < context || !look.progress.continues(&bytes[..context]) {
                return Ok(Taken::Replaced);
            }
            // A compressed file is not written anew in place, and going back to its head would inflate it again.
            if !look.content.is_compressed() && !look.progress.begins(&look.content) {
                return Ok(Taken::Replaced);
            }
            let (before, data) = bytes.split_at(context);
            let at_end = read < context + want;
            let (records, consumed) = self.frame(look, (before, data), at_end);
            if consumed > 0 {
                let progress = look.progress.after(before, &data[..consumed]);
                let partial = consumed < data.len() && look.content.is_whole();
                // What ended the batch may have been a line that is too long: it waits for nothing but the next call.
                let more = !at_end
                    || records.is_full
                    || data.len() - consumed > self.max_record
                    || look.content.damage().is_some();
                return Ok(Taken::Records(records.builder, progress, Rest { more, partial }));
            }
            if data.len() > self.max_record {
                return self.skip(look);
            }
            if at_end && !look.content.is_whole() {
                let value = (!data.is_empty()).then(|| Bytes::copy_from_slice(data));
                return Ok(damaged(look, look.progress.offset + data.len() as u64, value));
            }
            if at_end {
                return Ok(Taken::Nothing(None, !data.is_empty()));
            }
            want = (want * 4).min(self.max_record + 1);
        }
    }

    /// Records of the whole lines in `data`, and how many of its bytes are done with; `before` is what comes before them.
    fn frame<'a>(&'a self, look: &'a Look, (before, data): (&[u8], &[u8]), at_end: bool) -> (Records<'a>, usize) {
        let mut records = Records::new(self, look, data.len());
        let is_unended = data.last().is_some_and(|last| *last != self.delimiter);
        let counts = is_unended && at_end && look.flush_line && look.content.is_whole();
        // A line that counted without its end may get it later: that is no empty line.
        let is_late =
            data.first() == Some(&self.delimiter) && before.last().is_some_and(|last| *last != self.delimiter);
        let from = usize::from(is_late);
        let ends = memchr::memchr_iter(self.delimiter, data).skip(from).chain(counts.then_some(data.len()));
        let next = match &self.group {
            None => records.lines((data, from), ends),
            Some(group) => records.groups(group, (data, from), ends, at_end && look.flush_group),
        };
        // Behind a last line without its end there is nothing, not even its end.
        (records, next.min(data.len()))
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
            let shrank = |scanned: u64| match scanned {
                0 => Ok(true),
                _ => look.content.read(&mut Vec::new(), 1, start + scanned - 1).map(|read| read == 0),
            };
            if read == 0 && shrank(skip.scanned)? {
                return Ok(Taken::Replaced);
            }
            if end.is_none() && !look.content.is_whole() {
                return Ok(damaged(look, start + skip.scanned, None));
            }
            if end.is_none() && !look.flush_line {
                return Ok(Taken::Nothing(Some(skip), true));
            }
            let next = start + skip.scanned + u64::from(end.is_some());
            let progress = look.progress.at(&look.content, next)?;
            return Ok(Taken::Unfit(self.too_long(look, start..start + skip.scanned, skip.crc.value()), progress));
        }
    }

    fn too_long(&self, look: &Look, range: std::ops::Range<u64>, crc: u32) -> DeadLetter {
        let length = range.end - range.start;
        let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
        DeadLetter {
            value: None,
            headers: vec![
                ("path".to_owned(), Bytes::copy_from_slice(look.path.as_os_str().as_encoded_bytes())),
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

/// What becomes of a compressed file that can not be inflated further than to `at`, where `value` is what comes before that
/// behind the last whole line. That is told once; where the file is mended or written on, reading goes on.
fn damaged(look: &Look, at: u64, value: Option<Bytes>) -> Taken {
    let (counts, waits, why) = match look.content.damage() {
        Some(Damage::Wrong(why)) => (look.flush_line && look.flush_group, true, why),
        _ => (look.flush_cut == Some(true), look.flush_cut.is_some(), "it ends in the middle".to_owned()),
    };
    if look.progress.damaged == Some(at) {
        return Taken::Nothing(None, false);
    }
    if !counts {
        return Taken::Nothing(None, waits);
    }
    let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
    let letter = DeadLetter {
        value,
        headers: vec![
            ("path".to_owned(), Bytes::copy_from_slice(look.path.as_os_str().as_encoded_bytes())),
            header("inode", look.progress.inode.to_string()),
            header("offset", look.progress.offset.to_string()),
        ],
        reason: format!(
            "{} is damaged: {why}: {at} bytes of what it was before it was compressed can be read",
            look.path.display()
        ),
    };
    Taken::Unfit(letter, look.progress.damaged_at(at))
}

/// Records being made of one block.
struct Records<'a> {
    framer: &'a Framer,
    look: &'a Look,
    builder: BatchBuilder,
    /// The headers of the record that was added last: of the next one, only the offset differs.
    headers: Vec<(HeaderName, Vec<u8>)>,
    /// About what a record costs beyond its value, and more.
    cost: usize,
    /// Whether the next record did not fit into the batch.
    is_full: bool,
}

impl<'a> Records<'a> {
    fn new(framer: &'a Framer, look: &'a Look, bytes: usize) -> Self {
        let value = |name: &HeaderName| match name {
            HeaderName::Path => look.path.as_os_str().as_encoded_bytes().to_vec(),
            HeaderName::Inode => look.progress.inode.to_string().into_bytes(),
            HeaderName::Offset => Vec::with_capacity(20),
        };
        let headers: Vec<_> = framer.headers.iter().take(3).map(|name| (*name, value(name))).collect();
        Records {
            framer,
            look,
            builder: BatchBuilder::with_capacity(bytes + bytes / 8 + 512),
            cost: 128 + headers.iter().map(|(_, value)| value.capacity()).sum::<usize>(),
            headers,
            is_full: false,
        }
    }

    /// Each line from `start` on a record; `ends` are where they end. Returns where the first one begins that was not taken.
    fn lines(&mut self, (data, mut start): (&[u8], usize), ends: impl Iterator<Item = usize>) -> usize {
        for end in ends {
            if end - start > self.framer.max_record || !self.push(&data[start..end], start) {
                break;
            }
            start = end + 1;
        }
        start
    }

    /// Lines gathered into records; the last group counts only when it is known to be complete.
    fn groups(
        &mut self,
        group: &Group,
        (data, mut start): (&[u8], usize),
        ends: impl Iterator<Item = usize>,
        flush: bool,
    ) -> usize {
        let (mut lines, mut line_start) = (0, start);
        for end in ends {
            let begins = group.pattern.is_match(&data[line_start..end]) == group.begins;
            let too_much = lines >= group.max_lines || end - start > self.framer.max_record;
            if lines > 0 && (begins || too_much) {
                if !self.push(&data[start..line_start - 1], start) {
                    return start;
                }
                (start, lines) = (line_start, 0);
            }
            if end - start > self.framer.max_record {
                return start;
            }
            lines += 1;
            line_start = end + 1;
        }
        // With its next line, as far as that is there, a group may be too long already.
        let is_complete = flush || data.len() - start > self.framer.max_record;
        if lines > 0 && is_complete && self.push(&data[start..line_start - 1], start) {
            start = line_start;
        }
        start
    }

    /// Adds a record that begins `at` bytes into the block; whether it fits. Short lines with long headers make more of a
    /// block than was read: the rest waits for the next batch.
    #[inline]
    fn push(&mut self, value: &[u8], at: usize) -> bool {
        let limit = self.framer.largest.min(2 * self.look.batch + (64 << 10));
        if self.builder.size() + value.len() + self.cost > limit && !self.builder.is_empty() {
            self.is_full = true;
            return false;
        }
        let (mut headers, count) = ([("", None); 3], self.headers.len());
        for (header, (name, value)) in headers.iter_mut().zip(&mut self.headers) {
            if *name == HeaderName::Offset {
                value.clear();
                write!(value, "{}", self.look.progress.offset + at as u64).expect("a vector takes everything");
            }
            *header = (name.as_str(), Some(&value[..]));
        }
        self.builder.push(self.look.now, None, Some(value), &headers[..count]);
        true
    }
}
