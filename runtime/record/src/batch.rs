//! One record batch: bytes that have been checked.

use bytes::{Bytes, BytesMut};

use crate::{BatchError, Compression, Header, Inflation, Offset, Records, crc32c};

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

    pub(crate) fn built(bytes: Bytes, header: Header) -> Batch {
        Batch { bytes, header }
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
