//! Lines of an object, however its bytes come in.

use aqueduct_record::Crc32c;

/// Bytes that are cut into lines.
pub(crate) struct Split {
    /// What is not a line yet; from `taken` on.
    bytes: Vec<u8>,
    taken: usize,
    /// Where `bytes[taken]` stands in the object.
    offset: u64,
    /// How far `bytes` holds no end of a line, and whether that is within quotes.
    looked: usize,
    is_quoted: bool,
    /// Whether a line break within double quotes belongs to the line, as in CSV (RFC 4180).
    quotes: bool,
    longest: usize,
    /// A line that is too long, as far as it has come.
    long: Option<Long>,
}

struct Long {
    start: u64,
    crc: Crc32c,
}

/// What was cut off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A line: where its bytes are in [`Split::bytes`], and where the next one begins in the object.
    Line(std::ops::Range<usize>, u64),
    /// A line that was longer than the longest: where it begins and ends, its checksum, and where the next one begins.
    TooLong(std::ops::Range<u64>, u32, u64),
}

impl Split {
    /// Nothing yet of an object that is read from `offset` on.
    pub(crate) fn new(offset: u64, longest: usize, quotes: bool) -> Split {
        let bytes = Vec::new();
        Split { bytes, taken: 0, offset, looked: 0, is_quoted: false, quotes, longest, long: None }
    }

    /// Takes what comes next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.looked -= self.taken;
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that a cut speaks of.
    pub(crate) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Cuts off the next line; at the end of the object what is left is one, if there is something left.
    pub(crate) fn next(&mut self, is_end: bool) -> Option<Cut> {
        let end = self.end();
        let (end, next) = match end {
            Some(end) => (end, end + 1),
            None if is_end && (self.taken < self.bytes.len() || self.long.is_some()) => {
                (self.bytes.len(), self.bytes.len())
            }
            None => {
                if self.long.is_some() || self.bytes.len() - self.taken > self.longest {
                    self.drop_bytes();
                }
                return None;
            }
        };
        let line = self.taken..end;
        let start = self.offset;
        self.offset += (next - self.taken) as u64;
        self.taken = next;
        self.looked = next;
        self.is_quoted = false;
        if self.long.is_none() && line.len() <= self.longest {
            return Some(Cut::Line(line, self.offset));
        }
        let mut long = self.long.take().unwrap_or(Long { start, crc: Crc32c::new() });
        long.crc.update(&self.bytes[line.clone()]);
        Some(Cut::TooLong(long.start..start + line.len() as u64, long.crc.value(), self.offset))
    }

    /// Where the line ends that begins at `taken`.
    fn end(&mut self) -> Option<usize> {
        loop {
            let rest = &self.bytes[self.looked..];
            let found = if self.quotes { memchr::memchr2(b'\n', b'"', rest) } else { memchr::memchr(b'\n', rest) };
            let Some(found) = found.map(|found| self.looked + found) else {
                self.looked = self.bytes.len();
                return None;
            };
            if self.bytes[found] == b'\n' && !self.is_quoted {
                return Some(found);
            }
            self.is_quoted ^= self.bytes[found] == b'"';
            self.looked = found + 1;
        }
    }

    /// Of a line that is too long, only the checksum is kept.
    fn drop_bytes(&mut self) {
        let long = self.long.get_or_insert(Long { start: self.offset, crc: Crc32c::new() });
        long.crc.update(&self.bytes[self.taken..]);
        self.offset += (self.bytes.len() - self.taken) as u64;
        self.taken = self.bytes.len();
        self.looked = self.bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_record::crc32c;
    use proptest::prelude::*;

    use super::*;

    /// A line, or of one that is too long its length and checksum; and where the next one begins.
    type Line = (Result<Vec<u8>, (u64, u32)>, u64);

    fn cut(text: &[u8], step: usize, longest: usize, quotes: bool) -> Vec<Line> {
        let mut split = Split::new(0, longest, quotes);
        let mut lines = Vec::new();
        let mut take = |split: &mut Split, is_end| {
            while let Some(cut) = split.next(is_end) {
                lines.push(match cut {
                    Cut::Line(range, next) => (Ok(split.bytes(range).to_vec()), next),
                    Cut::TooLong(range, crc, next) => (Err((range.end - range.start, crc)), next),
                });
            }
        };
        for bytes in text.chunks(step.max(1)) {
            split.push(bytes);
            take(&mut split, false);
        }
        take(&mut split, true);
        lines
    }

    proptest! {
        #[test]
        fn lines_are_the_same_in_any_steps(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'"')], 0..60),
            step in 1..20usize,
            longest in 1..9usize,
        ) {
            let mut expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            let lines = cut(&text, step, longest, false);
            prop_assert_eq!(lines.len(), expected.len());
            for ((line, _), expected) in lines.iter().zip(&expected) {
                match line {
                    Ok(line) => prop_assert!(line == expected && line.len() <= longest),
                    Err((length, crc)) => {
                        prop_assert!(*length > longest as u64 && *length == expected.len() as u64);
                        prop_assert_eq!(*crc, crc32c(expected));
                    }
                }
            }
            prop_assert_eq!(lines.last().map_or(0, |(_, next)| *next), text.len() as u64);
            prop_assert_eq!(cut(&text, step, longest, true), cut(&text, text.len(), longest, true));
        }
    }

    #[test]
    fn a_line_break_in_quotes_is_part_of_the_line() {
        let lines = cut(b"a,\"b\nc\"\n\"\"\"\n\",d\n", 3, 100, true);
        let lines: Vec<_> = lines.into_iter().map(|(line, next)| (line.unwrap(), next)).collect();
        assert_eq!(lines, [(b"a,\"b\nc\"".to_vec(), 8), (b"\"\"\"\n\",d".to_vec(), 16)]);
    }
}
