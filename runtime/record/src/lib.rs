//! Kafka's record batch, version 2, as bytes: checked, built, and decoded only where somebody needs the records.
//!
//! The same bytes are kept in memory, on disk, on the wire and in the archive. A [`Batch`] is bytes whose lengths and
//! CRC have been checked; [`Batch::records`] inflates and walks them lazily; [`BatchBuilder`] writes keys, values and
//! headers straight into a batch under construction. All integers are big endian (from
//! <https://kafka.apache.org/documentation/#recordbatch>):
//!
//! ```text
//!  0 baseOffset i64 | 8 batchLength i32 | 12 partitionLeaderEpoch i32 | 16 magic i8 = 2 | 17 crc u32 (over 21..)
//! 21 attributes i16 | 23 lastOffsetDelta i32 | 27 baseTimestamp i64 | 35 maxTimestamp i64
//! 43 producerId i64 | 51 producerEpoch i16 | 53 baseSequence i32 | 57 count i32 | 61 records, compressed as one
//! ```

mod batch;
mod builder;
mod checksum;
mod compression;
mod control;
mod error;
mod fields;
mod header;
mod headers;
mod partitioner;
mod records;
mod room;
mod varint;

pub use batch::Batch;
pub use builder::BatchBuilder;
pub use checksum::{Crc32c, crc32c};
pub use compression::{Compression, Inflation, UnknownCompression};
pub use control::{Control, control_kind};
pub use error::BatchError;
pub use fields::Fields;
pub use header::{Attributes, Header, TimestampType};
pub use headers::{HeaderIter, Headers};
pub use partitioner::partition_for_key;
pub use records::{Record, Records};
pub use varint::push as push_varint;

/// A record's place in its partition, counted from 0.
pub type Offset = i64;
