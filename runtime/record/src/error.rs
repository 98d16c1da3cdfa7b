//! What can be wrong with the bytes of a batch.

use crate::{Compression, Offset};

/// Why bytes are not a batch, or a batch's records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the batch needs.
    #[error("batch is cut off: {need} bytes needed, {have} there")]
    Truncated {
        /// Bytes that the batch needs, as far as can be told.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// More bytes than one batch.
    #[error("{have} bytes where one batch of {size} was expected")]
    Trailing {
        /// Bytes of the batch, as its length says.
        size: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The length field is too small for the fixed fields that it covers.
    #[error("batch length {length} is less than the 49 bytes of the fixed fields that it covers")]
    Length {
        /// The length field.
        length: i32,
    },
    /// Not a version 2 batch.
    #[error("magic {magic} instead of 2: only record batches of version 2 (Kafka 0.11 and later) are understood")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// A negative base offset, or a last offset that does not fit.
    #[error("impossible offsets: base offset {base_offset}, last offset delta {last_offset_delta}")]
    Offsets {
        /// The base offset field.
        base_offset: Offset,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// A codec or a flag that nobody knows.
    #[error("batch at offset {base_offset}: unknown attributes {attributes:#06x}")]
    Attributes {
        /// Where the batch says that it is.
        base_offset: Offset,
        /// The attributes field.
        attributes: i16,
    },
    /// A record count that contradicts the other fields.
    #[error(
        "batch at offset {base_offset}: count {count} does not fit its last offset delta {last_offset_delta} and \
         {bytes} bytes of records"
    )]
    Count {
        /// Where the batch says that it is.
        base_offset: Offset,
        /// The count field.
        count: i32,
        /// The last offset delta field.
        last_offset_delta: i32,
        /// Bytes of the record section as stored.
        bytes: usize,
    },
    /// The bytes are not those that were written.
    #[error("batch at offset {base_offset}: CRC-32C is {computed:#010x}, {stored:#010x} is stored")]
    Crc {
        /// Where the batch says that it is.
        base_offset: Offset,
        /// The CRC field.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// A record that cannot be read; the batch ends there.
    #[error("batch at offset {base_offset}, record {index}: {what}")]
    Record {
        /// Where the batch says that it is.
        base_offset: Offset,
        /// Which record, counted from 0.
        index: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Compressed records that would grow past the limit.
    #[error("batch at offset {base_offset}: {compressed} bytes of {codec} inflate to more than the {limit} allowed")]
    Inflation {
        /// Where the batch says that it is.
        base_offset: Offset,
        /// The codec.
        codec: Compression,
        /// Bytes of the record section as stored.
        compressed: usize,
        /// Bytes that were allowed.
        limit: usize,
    },
    /// Compressed records that their codec does not understand.
    #[error("batch at offset {base_offset}: bad {codec} data: {cause}")]
    Compression {
        /// Where the batch says that it is.
        base_offset: Offset,
        /// The codec.
        codec: Compression,
        /// What the codec says.
        cause: String,
    },
}
