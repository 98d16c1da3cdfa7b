//! The fixed fields at the head of a batch.

use crate::{BatchError, Compression, Offset};

/// The fixed fields of a batch, checked against each other (not against the records).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record that the batch was written with.
    pub base_offset: Offset,
    /// Bytes after this field: the batch's size less 12.
    pub batch_length: i32,
    /// Epoch of the partition leader that wrote the batch; -1: none.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Last offset less the base offset; compaction leaves it when it takes records away.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from, in ms since 1970; with a delete horizon that horizon.
    pub base_timestamp: i64,
    /// The latest timestamp, in ms since 1970; the time of the append where the log stamps; -1: none.
    pub max_timestamp: i64,
    /// The idempotent producer that wrote the batch; -1: none.
    pub producer_id: i64,
    /// That producer's epoch; -1: none.
    pub producer_epoch: i16,
    /// Sequence number of the first record; -1: none.
    pub base_sequence: i32,
    /// Records that are there.
    pub count: u32,
}

impl Header {
    /// Bytes of the fixed fields.
    pub const LEN: usize = 61;

    /// Bytes before those that the length field counts.
    pub(crate) const BEFORE_LENGTH_ENDS: usize = 12;

    /// The first byte under the CRC.
    pub(crate) const CRC_FROM: usize = 21;

    /// The smallest record: length, attributes, two deltas, null key, null value and no headers in a byte each.
    const SMALLEST_RECORD: usize = 7;

    /// Reads the fixed fields of the batch at the start of `bytes`, of which nothing behind them is looked at: this is
    /// how a log walks from batch to batch. The CRC is not checked.
    pub fn peek(bytes: &[u8]) -> Result<Header, BatchError> {
        Header::check_start(bytes)?;
        let Some(fixed) = bytes.first_chunk::<{ Header::LEN }>() else {
            return Err(BatchError::Truncated { need: Header::LEN, have: bytes.len() });
        };
        let base_offset = i64::from_be_bytes(at(fixed, 0));
        let count = i32::from_be_bytes(at(fixed, 57));
        let header = Header {
            base_offset,
            batch_length: i32::from_be_bytes(at(fixed, 8)),
            leader_epoch: i32::from_be_bytes(at(fixed, 12)),
            crc: u32::from_be_bytes(at(fixed, 17)),
            attributes: Attributes::new(i16::from_be_bytes(at(fixed, 21)), base_offset)?,
            last_offset_delta: i32::from_be_bytes(at(fixed, 23)),
            base_timestamp: i64::from_be_bytes(at(fixed, 27)),
            max_timestamp: i64::from_be_bytes(at(fixed, 35)),
            producer_id: i64::from_be_bytes(at(fixed, 43)),
            producer_epoch: i16::from_be_bytes(at(fixed, 51)),
            base_sequence: i32::from_be_bytes(at(fixed, 53)),
            count: count.max(0) as u32,
        };
        header.check_offsets()?;
        header.check_count(count)?;
        Ok(header)
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        Header::BEFORE_LENGTH_ENDS + self.batch_length as usize
    }

    /// Offset of the last record that the batch was written with.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// Until when compaction keeps the tombstones and markers in the batch, in ms since 1970, where it has decided.
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Writes the fields over the first [`Header::LEN`] bytes.
    pub(crate) fn put(&self, fixed: &mut [u8; Header::LEN]) {
        fixed[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        fixed[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        fixed[16] = 2;
        fixed[17..21].copy_from_slice(&self.crc.to_be_bytes());
        fixed[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        fixed[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        fixed[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        fixed[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        fixed[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        fixed[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        fixed[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        fixed[57..61].copy_from_slice(&self.count.to_be_bytes());
    }

    /// Checks length and magic as far as `bytes` reach, so that what can never become a batch is not taken for one
    /// that is still incomplete. Returns the batch's size where it can be told.
    pub(crate) fn check_start(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
        let Some(start) = bytes.first_chunk::<{ Header::BEFORE_LENGTH_ENDS }>() else { return Ok(None) };
        let length = i32::from_be_bytes(at(start, 8));
        // The magic byte has been at this place in all versions: an old, short message is told as what it is.
        match bytes.get(16) {
            Some(2) | None => {}
            Some(magic) => return Err(BatchError::Magic { magic: *magic as i8 }),
        }
        if length < (Header::LEN - Header::BEFORE_LENGTH_ENDS) as i32 {
            return Err(BatchError::Length { length });
        }
        Ok(Some(Header::BEFORE_LENGTH_ENDS + length as usize))
    }

    fn check_offsets(&self) -> Result<(), BatchError> {
        let next = self.base_offset.checked_add(i64::from(self.last_offset_delta) + 1);
        if self.base_offset < 0 || self.last_offset_delta < 0 || next.is_none() {
            return Err(BatchError::Offsets {
                base_offset: self.base_offset,
                last_offset_delta: self.last_offset_delta,
            });
        }
        Ok(())
    }

    fn check_count(&self, count: i32) -> Result<(), BatchError> {
        let bytes = self.size() - Header::LEN;
        // How many records a compressed section holds shows only when it is inflated, under its own bound.
        let most = match self.attributes.compression() {
            Compression::None => bytes / Header::SMALLEST_RECORD,
            _ => usize::MAX,
        };
        if count < 0 || count as usize > most || count - 1 > self.last_offset_delta {
            return Err(BatchError::Count {
                base_offset: self.base_offset,
                count,
                last_offset_delta: self.last_offset_delta,
                bytes,
            });
        }
        Ok(())
    }
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    *bytes[from..].first_chunk().expect("every field lies within the fixed bytes")
}

/// A batch's codec and flags.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(i16);

impl Attributes {
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;
    const KNOWN: i16 = 0x7f;

    fn new(bits: i16, base_offset: Offset) -> Result<Self, BatchError> {
        if bits & !Attributes::KNOWN != 0 || Compression::from_bits(bits & 7).is_none() {
            return Err(BatchError::Attributes { base_offset, attributes: bits });
        }
        Ok(Attributes(bits))
    }

    /// The bits as stored.
    pub fn bits(self) -> i16 {
        self.0
    }

    /// The codec of the record section.
    pub fn compression(self) -> Compression {
        Compression::from_bits(self.0 & 7).expect("only known codecs become attributes")
    }

    /// Who gives the records their timestamps.
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Attributes::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the records are the log's own marks, not data.
    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon: see [`Header::delete_horizon`].
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }

    pub(crate) fn with_compression(self, compression: Compression) -> Self {
        Attributes(self.0 & !7 | compression.bits())
    }

    pub(crate) fn with_log_append_time(self) -> Self {
        Attributes(self.0 | Attributes::LOG_APPEND_TIME)
    }

    pub(crate) fn with_transactional(self) -> Self {
        Attributes(self.0 | Attributes::TRANSACTIONAL)
    }

    pub(crate) fn with_control(self) -> Self {
        Attributes(self.0 | Attributes::CONTROL)
    }

    pub(crate) fn with_delete_horizon(self) -> Self {
        Attributes(self.0 | Attributes::DELETE_HORIZON)
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {:?}", self.compression(), self.timestamp_type())?;
        for (set, name) in [
            (self.is_transactional(), ", transactional"),
            (self.is_control(), ", control"),
            (self.has_delete_horizon(), ", delete horizon"),
        ] {
            f.write_str(if set { name } else { "" })?;
        }
        Ok(())
    }
}

/// Who gives the records their timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Whoever made the record.
    CreateTime,
    /// The log, when it appends: all records of a batch have the batch's maximum.
    LogAppendTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    /// The error that comes when `bytes` are written over an otherwise good header of one record.
    fn check(at: usize, bytes: &[u8], expected: &str) {
        let mut builder = BatchBuilder::new();
        builder.push(1, None, Some(b"value"), &[]);
        let mut batch = builder.finish().into_bytes().to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Header::peek(&batch).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_wrong_with_fixed_fields_is_told_with_its_numbers() {
        check(0, &(-1i64).to_be_bytes(), "impossible offsets: base offset -1, last offset delta 0");
        check(0, &i64::MAX.to_be_bytes(), "impossible offsets: base offset 9223372036854775807, last offset delta 0");
        let short = "batch length 48 is less than the 49 bytes of the fixed fields that it covers";
        check(8, &48i32.to_be_bytes(), short);
        check(8, &(-1i32).to_be_bytes(), &short.replace("48", "-1"));
        let old = "magic 1 instead of 2: only record batches of version 2 (Kafka 0.11 and later) are understood";
        check(16, &[1], old);
        check(16, &[0xff], &old.replace("magic 1", "magic -1"));
        check(21, &[0, 5], "batch at offset 0: unknown attributes 0x0005");
        check(21, &[0, 0x80], "batch at offset 0: unknown attributes 0x0080");
        check(21, &[0x80, 0], "batch at offset 0: unknown attributes 0x8000");
        check(23, &(-1i32).to_be_bytes(), "impossible offsets: base offset 0, last offset delta -1");
        let count = "batch at offset 0: count -1 does not fit its last offset delta 0 and 12 bytes of records";
        check(57, &(-1i32).to_be_bytes(), count);
        check(57, &i32::MIN.to_be_bytes(), &count.replace("-1", "-2147483648"));
        check(57, &2i32.to_be_bytes(), &count.replace("-1", "2"));
    }

    #[test]
    fn more_records_than_bytes_are_refused_before_anything_is_read() {
        let mut builder = BatchBuilder::new();
        builder.push(1, None, Some(b"value"), &[]);
        builder.last_offset_delta(1000);
        let mut batch = builder.finish().into_bytes().to_vec();
        batch[57..61].copy_from_slice(&1000i32.to_be_bytes());
        assert!(matches!(Header::peek(&batch), Err(BatchError::Count { count: 1000, bytes: 12, .. })));
        // Compressed, the same bytes may well hold that many.
        batch[22] = 4;
        assert_eq!(Header::peek(&batch).unwrap().count, 1000);
    }

    #[test]
    fn all_fields_come_back_as_they_were_put() {
        let header = Header {
            base_offset: 0x0102_0304_0506_0708,
            batch_length: 0x1112_1314,
            leader_epoch: -0x2122_2324,
            crc: 0xf1f2_f3f4,
            attributes: Attributes(0x7c),
            last_offset_delta: 0x3132_3334,
            base_timestamp: -0x4142_4344_4546_4748,
            max_timestamp: 0x5152_5354_5556_5758,
            producer_id: 0x6162_6364_6566_6768,
            producer_epoch: 0x7172,
            base_sequence: -0x0122_3344,
            count: 0x0012_3456,
        };
        let mut bytes = [0; Header::LEN];
        header.put(&mut bytes);
        assert_eq!(Header::peek(&bytes), Ok(header));
        assert_eq!(header.size(), 0x1112_1314 + 12);
        assert_eq!(header.delete_horizon(), Some(header.base_timestamp));
        assert_eq!(format!("{:?}", header.attributes), "zstd, LogAppendTime, transactional, control, delete horizon");
    }

    #[test]
    fn an_old_message_too_short_for_a_header_is_told_by_its_version() {
        let mut message = vec![0; 26];
        message[8..12].copy_from_slice(&14i32.to_be_bytes());
        message[16] = 1;
        assert_eq!(Header::peek(&message), Err(BatchError::Magic { magic: 1 }));
        assert_eq!(Header::peek(&message[..16]), Err(BatchError::Length { length: 14 }));
        assert_eq!(Header::peek(&message[..11]), Err(BatchError::Truncated { need: 61, have: 11 }));
    }
}
