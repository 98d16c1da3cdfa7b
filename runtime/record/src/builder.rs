//! A batch under construction.

use crate::varint::{self, Reader};
use crate::{Attributes, Batch, Compression, Header, Record, TimestampType, room};

/// Takes records as slices straight into the bytes of a batch; nothing is allocated for a record.
///
/// A batch cannot be larger than [`BatchBuilder::MAX_SIZE`], and a log takes less (`max.message.bytes`): callers look at
/// [`BatchBuilder::size`] and finish in time. One that grew past it all the same is refused by every log for its size.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the fixed fields, then the records, uncompressed.
    bytes: Vec<u8>,
    count: u32,
    /// Where the last record begins.
    last: usize,
    /// The first timestamp, or the delete horizon: what timestamps are written relative to.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    last_offset_delta: i32,
    compression: Compression,
    attributes: Attributes,
    producer: Producer,
}

/// The producer's fields.
#[derive(Clone, Copy, Debug)]
struct Producer {
    id: i64,
    epoch: i16,
    base_sequence: i32,
}

impl BatchBuilder {
    /// The most bytes of a batch: what its length field can say.
    pub const MAX_SIZE: usize = i32::MAX as usize;

    /// Room beyond a record for its length and for what is appended in one piece and then cut.
    const SLACK: usize = 128;

    /// An empty batch: no compression, no producer.
    pub fn new() -> Self {
        Self::with_capacity(512)
    }

    /// An empty batch with room for that many bytes, header included.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut room = room::take(bytes.max(Header::LEN) + BatchBuilder::SLACK);
        room.resize(Header::LEN, 0);
        BatchBuilder {
            bytes: room,
            count: 0,
            last: Header::LEN,
            base_timestamp: None,
            max_timestamp: -1,
            last_offset_delta: 0,
            compression: Compression::None,
            attributes: Attributes::default(),
            producer: Producer { id: -1, epoch: -1, base_sequence: -1 },
        }
    }

    /// A batch that takes what compaction keeps of another one ([`BatchBuilder::push_record`]): same codec, flags,
    /// producer, extent and time of append. `delete_horizon` is until when its tombstones stay, in ms since 1970.
    pub fn remainder_of(header: &Header, delete_horizon: Option<i64>) -> Self {
        // The header may come from a damaged file, so it does not decide alone how much memory is taken.
        let mut builder = Self::with_capacity(header.size().min(1 << 20));
        let horizon = delete_horizon.or(header.delete_horizon());
        builder.compression = header.attributes.compression();
        builder.attributes = header.attributes;
        builder.base_timestamp = horizon;
        if horizon.is_some() {
            builder.attributes = header.attributes.with_delete_horizon();
        }
        // Stays where the log stamps, and where no record is kept; else the records that are kept replace it.
        builder.max_timestamp = header.max_timestamp;
        builder.last_offset_delta = header.last_offset_delta;
        builder.producer(header.producer_id, header.producer_epoch, header.base_sequence)
    }

    /// The codec that [`BatchBuilder::finish`] uses.
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The idempotent producer that the batch is from, and the sequence number of its first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = Producer { id, epoch, base_sequence };
        self
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(mut self) -> Self {
        self.attributes = self.attributes.with_transactional();
        self
    }

    /// Makes the records the log's own marks: see [`crate::Control`].
    pub fn control(mut self) -> Self {
        self.attributes = self.attributes.with_control();
        self
    }

    /// Gives all records the time of the append, in ms since 1970, in place of their own.
    pub fn append_time(mut self, timestamp: i64) -> Self {
        self.attributes = self.attributes.with_log_append_time();
        self.max_timestamp = timestamp;
        self
    }

    /// Adds a record; its offset is one more than that of the record before it.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        self.encode(self.count as i32, timestamp, (key, value), headers.iter().copied());
    }

    /// Adds a record at an offset of its own, which is greater than those before it, less the base offset.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        self.encode(offset_delta, timestamp, (key, value), headers.iter().copied());
    }

    /// Adds a record of another batch, headers and all, at an offset less the base offset.
    pub fn push_record(&mut self, offset_delta: i32, record: &Record<'_>) {
        self.encode(offset_delta, record.timestamp, (record.key, record.value), record.headers.iter());
    }

    /// Writes one more header behind those of the last record, the only one that is written anew. There has to be a
    /// record: an empty builder has no place for a header and stays as it is.
    pub fn add_header_to_last(&mut self, name: &str, value: &[u8]) {
        debug_assert!(self.count > 0, "a header needs a record");
        let record = self.bytes[self.last..].to_vec();
        let Some((before, count, headers)) = split_at_headers(&record) else { return };
        self.bytes.truncate(self.last);
        let added = header_size(name, Some(value));
        let count = i64::from(count) + 1;
        let length = before.len() + varint::size(count) + headers.len() + added;
        self.bytes.reserve(varint::MAX + length);
        varint::push(&mut self.bytes, length as i64);
        self.bytes.extend_from_slice(before);
        varint::push(&mut self.bytes, count);
        self.bytes.extend_from_slice(headers);
        self.push_header(name, Some(value));
    }

    /// Makes the batch reach that far, in offsets after the first, though its last record lies before it.
    pub fn last_offset_delta(&mut self, delta: i32) {
        self.last_offset_delta = self.last_offset_delta.max(delta);
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there are no records yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, uncompressed, header included.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What was written so far: room for the fixed fields, then the records, uncompressed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The batch, at base offset 0 and without a leader epoch. An empty one takes up one offset, or as many as
    /// [`BatchBuilder::last_offset_delta`] said.
    pub fn finish(mut self) -> Batch {
        self.compress();
        let header = Header {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: self.attributes.with_compression(self.compression),
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            count: self.count,
        };
        Batch::seal(self.bytes, header)
    }

    #[inline]
    fn encode<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)> + Clone,
    ) {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let header_count = headers.clone().count() as i64;
        let headers_size: usize = headers.clone().map(|(name, value)| header_size(name, value)).sum();
        let length = 1
            + varint::size(timestamp_delta)
            + varint::size(i64::from(offset_delta))
            + nullable_size(key)
            + nullable_size(value)
            + varint::size(header_count)
            + headers_size;

        self.last = self.bytes.len();
        self.bytes.reserve(length + BatchBuilder::SLACK);
        let mut run = varint::Run::new();
        run.varint(length as i64);
        run.byte(0); // attributes: none exist
        run.varint(timestamp_delta);
        run.varint(i64::from(offset_delta));
        run.varint(length_of(key));
        if let Some(key) = key {
            run.append_to(&mut self.bytes);
            self.bytes.extend_from_slice(key);
            run = varint::Run::new();
        }
        run.varint(length_of(value));
        run.append_to(&mut self.bytes);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        varint::push(&mut self.bytes, header_count);
        for (name, value) in headers {
            self.push_header(name, value);
        }

        self.count += 1;
        self.last_offset_delta = self.last_offset_delta.max(offset_delta);
        if self.attributes.timestamp_type() == TimestampType::CreateTime {
            self.max_timestamp = if self.count == 1 { timestamp } else { self.max_timestamp.max(timestamp) };
        }
    }

    fn push_header(&mut self, name: &str, value: Option<&[u8]>) {
        varint::push(&mut self.bytes, name.len() as i64);
        self.bytes.extend_from_slice(name.as_bytes());
        varint::push(&mut self.bytes, length_of(value));
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// Replaces the records by their compressed form. A codec that fails (out of memory) leaves them as they are: a
    /// batch that is larger than wished is better than none.
    fn compress(&mut self) {
        if self.compression == Compression::None || self.count == 0 {
            self.compression = Compression::None;
            return;
        }
        let mut compressed = Vec::with_capacity(Header::LEN + self.bytes.len() / 2);
        compressed.resize(Header::LEN, 0);
        match self.compression.compress(&self.bytes[Header::LEN..], &mut compressed) {
            Ok(()) => room::give_back(std::mem::replace(&mut self.bytes, compressed)),
            Err(_) => self.compression = Compression::None,
        }
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A record's bytes between its length and its header count, that count, and the headers.
fn split_at_headers(record: &[u8]) -> Option<(&[u8], i32, &[u8])> {
    let mut reader = Reader(record);
    reader.varint()?;
    let body = reader.0;
    reader.byte()?;
    reader.varlong()?;
    reader.varint()?;
    reader.nullable()?;
    reader.nullable()?;
    let before = &body[..body.len() - reader.0.len()];
    let count = reader.varint()?;
    Some((before, count, reader.0))
}

fn header_size(name: &str, value: Option<&[u8]>) -> usize {
    varint::size(name.len() as i64) + name.len() + nullable_size(value)
}

#[inline]
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    varint::size(length_of(bytes)) + bytes.map_or(0, <[u8]>::len)
}

#[inline]
fn length_of(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchError;

    fn is_send<T: Send>(_: &T) {}

    #[test]
    fn size_is_that_of_the_finished_batch_at_every_moment() {
        let mut builder = BatchBuilder::new();
        is_send(&builder);
        assert_eq!((builder.size(), builder.is_empty()), (Header::LEN, true));
        for n in 0..300 {
            builder.push(n * 1000, Some(b"key"), Some(&vec![7; n as usize]), &[("n", None)]);
            let batch = builder.clone().finish();
            assert_eq!((batch.size(), batch.count()), (builder.size(), builder.count()));
            assert_eq!(Batch::parse(batch.bytes().clone()), Ok(batch));
        }
    }

    #[test]
    fn a_header_added_to_the_last_record_is_as_if_it_had_been_there() {
        // Lengths around those where a varint grows by a byte.
        for size in (0..140).chain(8170..8200) {
            let (value, position) = (vec![1; size], vec![2; size]);
            let mut added = BatchBuilder::new();
            let mut given = BatchBuilder::new();
            for builder in [&mut added, &mut given] {
                builder.push(5, Some(b"before"), Some(b"untouched"), &[("a", Some(b"1"))]);
            }
            added.push(6, None, Some(&value), &[("a", None)]);
            added.add_header_to_last("position", &position);
            added.push(7, None, None, &[]);
            given.push(6, None, Some(&value), &[("a", None), ("position", Some(&position))]);
            given.push(7, None, None, &[]);
            assert_eq!(added.finish(), given.finish(), "{size}");
        }
    }

    #[test]
    fn a_small_batch_does_not_keep_the_room_of_a_large_one() {
        let mut builder = BatchBuilder::with_capacity(1 << 20);
        builder.push(1, None, Some(b"value"), &[]);
        let batch = builder.finish();
        let size = batch.size();
        assert!(batch.into_bytes().try_into_mut().unwrap().capacity() <= 2 * size);
    }

    #[test]
    fn an_empty_batch_takes_up_an_offset_and_is_valid() {
        for codec in [Compression::None, Compression::Zstd] {
            let batch = BatchBuilder::new().compressed(codec).finish();
            assert_eq!((batch.count(), batch.base_offset(), batch.next_offset()), (0, 0, 1));
            assert_eq!(batch.header().max_timestamp, -1);
            assert_eq!(batch.validate(crate::Inflation::default()), Ok(()));
            assert_eq!(Batch::parse(batch.bytes().clone()), Ok(batch));
        }
    }

    #[test]
    fn the_extent_never_falls_short_of_the_last_record() {
        let mut builder = BatchBuilder::new();
        builder.last_offset_delta(3);
        builder.push_at(7, 0, None, None, &[]);
        builder.last_offset_delta(5);
        assert_eq!(builder.clone().finish().last_offset(), 7);
        builder.last_offset_delta(9);
        assert_eq!(builder.finish().last_offset(), 9);
    }

    #[test]
    fn offsets_given_out_of_order_are_noticed_when_the_batch_is_read() {
        let mut builder = BatchBuilder::new();
        builder.push_at(7, 0, None, None, &[]);
        builder.push_at(7, 0, None, None, &[]);
        let batch = builder.finish();
        assert!(matches!(batch.validate(crate::Inflation::default()), Err(BatchError::Record { index: 1, .. })));
    }

    #[test]
    fn the_maximum_timestamp_is_that_of_the_records_also_before_1970() {
        let mut builder = BatchBuilder::new();
        for timestamp in [-500, -7, -90] {
            builder.push(timestamp, None, None, &[]);
        }
        let header = builder.finish().header();
        assert_eq!((header.base_timestamp, header.max_timestamp), (-500, -7));
    }
}
