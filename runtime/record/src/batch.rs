//! One record batch: bytes that have been checked.

use bytes::{Bytes, BytesMut};

use crate::{BatchError, Compression, Header, Inflation, Offset, Records, crc32c, room};

/// The bytes of exactly one batch whose lengths, header and CRC have been checked. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: Header,
}

impl Batch {
    /// Checks that `bytes` are one batch: lengths first, then the fixed fields against each other, then the CRC. What
    /// is in the record section is left to [`Batch::records`] and [`Batch::validate`].
    pub fn parse(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = Header::peek(&bytes)?;
        let (size, have) = (header.size(), bytes.len());
        if have < size {
            return Err(BatchError::Truncated { need: size, have });
        }
        if have > size {
            return Err(BatchError::Trailing { size, have });
        }
        let computed = crc32c(&bytes[Header::CRC_FROM..]);
        if computed != header.crc {
            return Err(BatchError::Crc { base_offset: header.base_offset, stored: header.crc, computed });
        }
        Ok(Batch { bytes, header })
    }

    /// The first batch of a run of batches, and what follows it; `None` when nothing or only a part of a batch is left,
    /// as at the end of what a fetch returns.
    pub fn split_first(bytes: &Bytes) -> Result<Option<(Batch, Bytes)>, BatchError> {
        match Header::check_start(bytes)? {
            Some(size) if size <= bytes.len() => Ok(Some((Batch::parse(bytes.slice(..size))?, bytes.slice(size..)))),
            _ => Ok(None),
        }
    }

    /// [`Batch::split_first`] for bytes whose CRCs were just checked, as a log does for what it hands out: looking at every
    /// byte again would cost as much as reading it.
    pub fn split_checked(bytes: &Bytes) -> Result<Option<(Batch, Bytes)>, BatchError> {
        match Header::check_start(bytes)? {
            Some(size) if size <= bytes.len() => {
                let batch = bytes.slice(..size);
                let header = Header::peek(&batch)?;
                Ok(Some((Batch { bytes: batch, header }, bytes.slice(size..))))
            }
            _ => Ok(None),
        }
    }

    /// A batch of records that are already in their place behind room for the fixed fields, which are written there with
    /// the length and the CRC. More bytes than a length can say make a batch that every log refuses for its size.
    pub(crate) fn seal(mut bytes: Vec<u8>, mut header: Header) -> Batch {
        header.batch_length = i32::try_from(bytes.len() - Header::BEFORE_LENGTH_ENDS).unwrap_or(i32::MAX);
        header.put(fixed(&mut bytes));
        header.crc = crc32c(&bytes[Header::CRC_FROM..]);
        header.put(fixed(&mut bytes));
        // Whoever holds batches counts their bytes, so a small batch does not keep the room of a large one.
        if bytes.capacity() > 2 * bytes.len() {
            let small = bytes.as_slice().to_vec();
            room::give_back(std::mem::replace(&mut bytes, small));
        }
        Batch { bytes: room::freeze(bytes), header }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The fixed fields.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Offset of the first record that the batch was written with.
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// Offset of the last record that the batch was written with.
    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    /// Epoch of the partition leader that wrote the batch; -1: none.
    pub fn leader_epoch(&self) -> i32 {
        self.header.leader_epoch
    }

    /// Records that are there.
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The first 16 bytes as they are when the batch is placed there. They lie outside the CRC, so a log writes these
    /// and then `bytes()[16..]`, and copies nothing.
    pub fn placed(&self, base_offset: Offset, leader_epoch: i32) -> [u8; 16] {
        let mut start = [0; 16];
        start[..8].copy_from_slice(&base_offset.to_be_bytes());
        start[8..12].copy_from_slice(&self.header.batch_length.to_be_bytes());
        start[12..].copy_from_slice(&leader_epoch.to_be_bytes());
        start
    }

    /// The same batch placed there: written in place where nobody shares the bytes, else into a copy.
    pub fn at(self, base_offset: Offset, leader_epoch: i32) -> Batch {
        if (base_offset, leader_epoch) == (self.header.base_offset, self.header.leader_epoch) {
            return self;
        }
        let start = self.placed(base_offset, leader_epoch);
        let mut bytes = self.bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        bytes[..16].copy_from_slice(&start);
        Batch { bytes: bytes.freeze(), header: Header { base_offset, leader_epoch, ..self.header } }
    }

    /// Reads all records, as for batches that come from outside: as many as the header says, lengths that fit, offsets
    /// that ascend and lie within the batch, nothing left over, and no more bytes than `limits` allow.
    pub fn validate(&self, limits: Inflation) -> Result<(), BatchError> {
        let mut records = self.inflate(limits)?;
        while let Some(record) = records.next() {
            record?;
        }
        Ok(())
    }

    /// The records, inflated within [`Inflation::default`]; those of an uncompressed batch share its bytes.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.inflate(Inflation::default())
    }

    fn inflate(&self, limits: Inflation) -> Result<Records, BatchError> {
        let codec = self.header.attributes.compression();
        let section = self.bytes.slice(Header::LEN..);
        // Compaction leaves empty batches with their codec but nothing to inflate.
        if codec == Compression::None || section.is_empty() {
            return Ok(Records::new(self.header, section));
        }
        let base_offset = self.header.base_offset;
        let (compressed, limit) = (section.len(), limits.limit(section.len()));
        match codec.inflate(&section, limit) {
            Ok(Some(records)) => Ok(Records::new(self.header, Bytes::from(records))),
            Ok(None) => Err(BatchError::Inflation { base_offset, codec, compressed, limit }),
            Err(cause) => Err(BatchError::Compression { base_offset, codec, cause: cause.to_string() }),
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.header.fmt(f)
    }
}

fn fixed(bytes: &mut [u8]) -> &mut [u8; Header::LEN] {
    bytes.first_chunk_mut().expect("sealed bytes begin with room for the fixed fields")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    fn batch() -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(1, Some(b"key"), Some(b"value"), &[]);
        builder.push(2, Some(b"key"), None, &[]);
        builder.finish()
    }

    #[test]
    fn a_batch_placed_elsewhere_is_the_same_but_for_its_first_bytes() {
        let batch = batch();
        let placed = batch.clone().at(1_000_000_000_000, 17);
        assert_eq!(placed.bytes()[..16], batch.placed(1_000_000_000_000, 17));
        assert_eq!(placed.bytes()[16..], batch.bytes()[16..]);
        assert_eq!(Batch::parse(placed.bytes().clone()), Ok(placed.clone()));
        assert_eq!((placed.base_offset(), placed.last_offset()), (1_000_000_000_000, 1_000_000_000_001));
        assert_eq!((placed.leader_epoch(), placed.count()), (17, 2));
        assert_eq!(batch.base_offset(), 0, "a clone is not touched");
    }

    #[test]
    fn bytes_that_nobody_shares_are_placed_where_they_are() {
        let batch = batch();
        let before = batch.bytes().as_ptr();
        assert_eq!(batch.at(5, 5).bytes().as_ptr(), before);
    }

    #[test]
    fn records_without_compression_lie_in_the_batch_s_own_bytes() {
        let batch = batch();
        let records = batch.records().unwrap();
        let key = records.iter().next().unwrap().unwrap().key.unwrap().as_ptr() as usize;
        let bytes = batch.bytes().as_ptr() as usize;
        assert!((bytes..bytes + batch.size()).contains(&key));
    }

    #[test]
    fn exactly_one_batch_is_parsed() {
        let bytes = batch().into_bytes();
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Batch::parse(longer.into()), Err(BatchError::Trailing { size: bytes.len(), have: bytes.len() + 1 }));
        assert_eq!(Batch::parse(Bytes::new()), Err(BatchError::Truncated { need: 61, have: 0 }));
    }

    #[test]
    fn a_damaged_batch_in_a_run_is_told_with_its_offset() {
        let mut run = [&batch().at(40, 1).bytes()[..], &batch().at(42, 1).bytes()[..]].concat();
        let last = run.len() - 1;
        run[last] ^= 1;
        let (first, rest) = Batch::split_first(&run.into()).unwrap().unwrap();
        assert_eq!(first.next_offset(), 42);
        assert!(matches!(Batch::split_first(&rest), Err(BatchError::Crc { base_offset: 42, .. })));
    }

    #[test]
    fn checked_bytes_are_split_alike_and_their_crc_is_not_looked_at() {
        let mut run = [&batch().at(40, 1).bytes()[..], &batch().at(42, 1).bytes()[..]].concat();
        let whole: Bytes = run.clone().into();
        let (first, rest) = Batch::split_checked(&whole).unwrap().unwrap();
        assert_eq!(Batch::split_first(&whole), Ok(Some((first, rest.clone()))));
        let (second, end) = Batch::split_checked(&rest).unwrap().unwrap();
        assert_eq!((second.base_offset(), Batch::split_checked(&end)), (42, Ok(None)));
        assert_eq!(Batch::split_checked(&rest.slice(..rest.len() - 1)), Ok(None));
        run[60 + 1] ^= 1;
        assert!(Batch::split_checked(&run.into()).unwrap().is_some());
    }

    #[test]
    fn what_can_never_become_a_batch_is_not_taken_for_one_cut_off() {
        let mut bytes = batch().into_bytes().to_vec();
        bytes[16] = 3;
        assert_eq!(Batch::split_first(&bytes[..20].to_vec().into()), Err(BatchError::Magic { magic: 3 }));
        bytes[8..12].fill(0);
        assert_eq!(Batch::split_first(&bytes[..13].to_vec().into()), Err(BatchError::Length { length: 0 }));
    }
}
