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
    #[allow(clippy::should_implement_trait, reason = "what is returned borrows from self, as no Iterator's item can")]
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
