//! A batch's records, walked one by one over shared bytes.

use bytes::Bytes;

use crate::varint::Reader;
use crate::{BatchError, Header, Headers, Offset, TimestampType};

/// One record; its key, value and headers lie in the bytes of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it is in its partition.
    pub offset: Offset,
    /// In ms since 1970; the batch's time of append where the log stamps.
    pub timestamp: i64,
    /// The key; `None`: null.
    pub key: Option<&'a [u8]>,
    /// The value; `None`: null, in a compacted topic the key's end.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The records of one batch, inflated; reading them allocates nothing.
///
/// A record that makes no sense is the last thing that comes, as an error.
#[derive(Clone, Debug)]
pub struct Records {
    header: Header,
    bytes: Bytes,
    walk: Walk,
}

impl Records {
    pub(crate) fn new(header: Header, bytes: Bytes) -> Self {
        Records { header, bytes, walk: Walk::default() }
    }

    /// The next record; `None` after the last or an error.
    #[expect(clippy::should_implement_trait, reason = "what is returned borrows from self, as no Iterator's item can")]
    pub fn next(&mut self) -> Option<Result<Record<'_>, BatchError>> {
        self.walk.next(&self.header, &self.bytes)
    }

    /// All records from the first on, whatever [`Records::next`] has returned.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, BatchError>> {
        let mut walk = Walk::default();
        std::iter::from_fn(move || walk.next(&self.header, &self.bytes))
    }
}

/// How far one walk over the records has come.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    at: usize,
    index: u32,
    /// The smallest offset delta that the next record may have.
    least_delta: i64,
    ended: bool,
}

impl Walk {
    fn next<'a>(&mut self, header: &Header, bytes: &'a [u8]) -> Option<Result<Record<'a>, BatchError>> {
        if self.ended {
            return None;
        }
        let rest = &bytes[self.at..];
        if self.index == header.count {
            self.ended = true;
            return (!rest.is_empty()).then(|| Err(self.error(header, "bytes after the last record")));
        }
        let mut reader = Reader(rest);
        match self.record(header, &mut reader) {
            Ok(record) => {
                self.at = bytes.len() - reader.0.len();
                self.index += 1;
                Some(Ok(record))
            }
            Err(what) => {
                self.ended = true;
                Some(Err(self.error(header, what)))
            }
        }
    }

    fn record<'a>(&mut self, header: &Header, reader: &mut Reader<'a>) -> Result<Record<'a>, &'static str> {
        let length = reader.varint().ok_or("no length")?;
        let length = usize::try_from(length).map_err(|_| "a negative length")?;
        let mut body = Reader(reader.take(length).ok_or("longer than its batch")?);
        // The record's attributes have no meaning yet; Kafka ignores them too.
        body.byte().ok_or("no attributes")?;
        let timestamp_delta = body.varlong().ok_or("no timestamp")?;
        let offset_delta = body.varint().ok_or("no offset")?;
        let key = body.nullable().ok_or("a key past the end")?;
        let value = body.nullable().ok_or("a value past the end")?;
        let headers = Headers::parse(body)?;
        if i64::from(offset_delta) < self.least_delta || offset_delta > header.last_offset_delta {
            return Err("an offset that does not follow, or lies outside the batch");
        }
        self.least_delta = i64::from(offset_delta) + 1;
        Ok(Record {
            offset: header.base_offset.saturating_add(i64::from(offset_delta)),
            timestamp: match header.attributes.timestamp_type() {
                // Java's arithmetic wraps as well.
                TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            key,
            value,
            headers,
        })
    }

    fn error(&self, header: &Header, what: &'static str) -> BatchError {
        BatchError::Record { base_offset: header.base_offset, index: self.index, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    /// What reading a section of `count` records says, which reach up to an offset delta of 9.
    fn read(count: i32, section: &[u8]) -> Result<u32, String> {
        let mut bytes = vec![0; Header::LEN];
        bytes[12..16].fill(0xff);
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&9i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend(section);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crate::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = Batch::parse(bytes.into()).map_err(|error| error.to_string())?;
        let records = batch.records().map_err(|error| error.to_string())?;
        let mut good = 0;
        for record in records.iter() {
            record.map_err(|error| error.to_string())?;
            good += 1;
        }
        Ok(good)
    }

    fn check(count: i32, section: &[u8], expected: &str) {
        assert_eq!(read(count, section).unwrap_err(), expected);
    }

    #[test]
    fn the_smallest_record_is_seven_bytes() {
        assert_eq!(read(1, &[12, 0, 0, 0, 1, 1, 0]), Ok(1));
        assert_eq!(read(2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 18, 1, 1, 0]), Ok(2));
        assert_eq!(read(0, &[]), Ok(0));
    }

    #[test]
    fn a_record_that_makes_no_sense_is_told_with_its_place() {
        let first = "batch at offset 0, record 0";
        check(1, &[13, 0, 0, 0, 1, 1, 0], &format!("{first}: a negative length"));
        check(1, &[14, 0, 0, 0, 1, 1, 0], &format!("{first}: longer than its batch"));
        check(1, &[0x80; 7], &format!("{first}: no length"));
        check(1, &[0, 0, 0, 0, 1, 1, 0], &format!("{first}: no attributes"));
        check(1, &[2, 0, 0, 0, 1, 1, 0], &format!("{first}: no timestamp"));
        check(1, &[4, 0, 0, 0, 1, 1, 0], &format!("{first}: no offset"));
        check(1, &[6, 0, 0, 0, 1, 1, 0], &format!("{first}: a key past the end"));
        check(1, &[12, 0, 0, 0, 3, 1, 0], &format!("{first}: a key past the end"));
        check(1, &[12, 0, 0, 0, 1, 6, 0], &format!("{first}: a value past the end"));
        check(1, &[10, 0, 0, 0, 1, 1, 0], &format!("{first}: no header count"));
        check(1, &[12, 0, 0, 0, 1, 1, 1], &format!("{first}: a negative header count"));
        check(1, &[12, 0, 0, 0, 1, 1, 2], &format!("{first}: more headers than bytes"));
        check(1, &[16, 0, 0, 0, 1, 1, 2, 1, 1], &format!("{first}: a header without a name"));
        check(1, &[16, 0, 0, 0, 1, 1, 2, 4, 1], &format!("{first}: a header name past the end"));
        check(1, &[16, 0, 0, 0, 1, 1, 2, 0, 2], &format!("{first}: a header value past the end"));
        check(1, &[18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1], &format!("{first}: a header name that is not UTF-8"));
        check(1, &[14, 0, 0, 0, 1, 1, 0, 0], &format!("{first}: bytes after the last header"));
    }

    #[test]
    fn offsets_ascend_and_stay_within_the_batch() {
        let outside = "an offset that does not follow, or lies outside the batch";
        check(1, &[12, 0, 0, 20, 1, 1, 0], &format!("batch at offset 0, record 0: {outside}"));
        check(1, &[12, 0, 0, 1, 1, 1, 0], &format!("batch at offset 0, record 0: {outside}"));
        let twice = [12, 0, 0, 4, 1, 1, 0, 12, 0, 0, 4, 1, 1, 0];
        check(2, &twice, &format!("batch at offset 0, record 1: {outside}"));
    }

    #[test]
    fn there_are_as_many_records_as_the_header_says() {
        let two = [12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 1, 0];
        check(1, &two, "batch at offset 0, record 1: bytes after the last record");
        check(0, &two, "batch at offset 0, record 0: bytes after the last record");
        check(2, &[26, 0, 0, 0, 1, 15, 1, 1, 1, 1, 1, 1, 1, 0], "batch at offset 0, record 0: a value past the end");
        let long = [26, 0, 0, 0, 1, 14, 1, 1, 1, 1, 1, 1, 1, 0];
        check(2, &long, "batch at offset 0, record 1: no length");
    }

    #[test]
    fn after_an_error_nothing_comes_any_more() {
        let mut records = Records::new(
            Header::peek(&crate::BatchBuilder::new().finish().into_bytes()).unwrap(),
            Bytes::from_static(b"rubbish"),
        );
        assert!(records.next().is_some_and(|record| record.is_err()));
        assert!(records.next().is_none());
        assert_eq!(records.iter().count(), 1);
    }
}
