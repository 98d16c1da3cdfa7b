//! The codecs of record sections, framed as Kafka's Java client frames them, inflating within bounds.

use std::io::{self, Read, Write};

/// A codec of record sections; `Display` and `FromStr` use Kafka's names: none, gzip, snappy, lz4, zstd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None,
    /// RFC 1952, level 6.
    Gzip,
    /// Blocks of 32 KiB in the framing of snappy-java; a bare block is read too.
    Snappy,
    /// LZ4 frames with independent blocks of 64 KiB.
    Lz4,
    /// Zstandard frames, level 3.
    Zstd,
}

impl Compression {
    const ALL: [(Compression, &'static str); 5] = [
        (Compression::None, "none"),
        (Compression::Gzip, "gzip"),
        (Compression::Snappy, "snappy"),
        (Compression::Lz4, "lz4"),
        (Compression::Zstd, "zstd"),
    ];

    /// The codec's name, as Kafka's settings spell it.
    pub fn name(self) -> &'static str {
        Compression::ALL[self.bits() as usize].1
    }

    pub(crate) fn from_bits(bits: i16) -> Option<Self> {
        Some(Compression::ALL.get(usize::try_from(bits).ok()?)?.0)
    }

    pub(crate) fn bits(self) -> i16 {
        self as i16
    }

    /// Appends `records`, compressed, to `out`.
    pub(crate) fn compress(self, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Compression::None => out.extend_from_slice(records),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Compression::Snappy => snappy::compress(records, out)?,
            Compression::Lz4 => {
                // Java reads independent blocks only.
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.set_pledged_src_size(Some(records.len() as u64))?;
                encoder.write_all(records)?;
                encoder.finish()?;
            }
        }
        Ok(())
    }

    /// The records in `compressed`, or `None` where they would take more than `limit` bytes.
    pub(crate) fn inflate(self, compressed: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
        match self {
            Compression::None => Ok((compressed.len() <= limit).then(|| compressed.to_vec())),
            Compression::Gzip => read_within(flate2::bufread::MultiGzDecoder::new(compressed), compressed.len(), limit),
            Compression::Snappy => snappy::inflate(compressed, limit),
            Compression::Lz4 => read_within(lz4_flex::frame::FrameDecoder::new(compressed), compressed.len(), limit),
            Compression::Zstd => {
                read_within(zstd::stream::read::Decoder::with_buffer(compressed)?, compressed.len(), limit)
            }
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        let found = Compression::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(compression, _)| *compression).ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}

/// A name that is no codec's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression `{0}`: expected none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

/// How far a compressed record section may grow.
///
/// Small batches of very alike records compress a thousandfold and more, so a ratio alone would refuse honest data:
/// it counts only above `small_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflation {
    /// The most bytes in any case; default 256 MiB.
    pub max_bytes: usize,
    /// The most inflated bytes for a compressed byte; default 256.
    pub max_ratio: usize,
    /// Inflated bytes below which any ratio is taken; default 16 MiB.
    pub small_bytes: usize,
}

impl Inflation {
    /// The most bytes that `compressed` bytes may become.
    pub fn limit(&self, compressed: usize) -> usize {
        compressed.saturating_mul(self.max_ratio).max(self.small_bytes).min(self.max_bytes)
    }
}

impl Default for Inflation {
    fn default() -> Self {
        Inflation { max_bytes: 256 << 20, max_ratio: 256, small_bytes: 16 << 20 }
    }
}

fn read_within(reader: impl Read, compressed: usize, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut records = Vec::with_capacity(compressed.saturating_mul(4).min(limit));
    // One byte more than allowed is enough to know.
    reader.take((limit as u64).saturating_add(1)).read_to_end(&mut records)?;
    Ok((records.len() <= limit).then_some(records))
}

/// Snappy as snappy-java's streams frame it: a header of 16 bytes, then blocks, each behind its compressed length.
mod snappy {
    use super::io;

    const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
    /// Version 1, readable from version 1 on.
    const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
    const BLOCK: usize = 32 << 10;
    /// A copy of 64 bytes takes at least 3, so nothing honest says that it grows more than this.
    const MAX_RATIO: usize = 22;

    pub(super) fn compress(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSIONS);
        let mut encoder = snap::raw::Encoder::new();
        for block in records.chunks(BLOCK) {
            let at = out.len();
            out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
            let size = encoder.compress(block, &mut out[at + 4..])?;
            out[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
            out.truncate(at + 4 + size);
        }
        Ok(())
    }

    pub(super) fn inflate(compressed: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut records = Vec::new();
        if !compressed.starts_with(MAGIC) {
            // Clients not made in Java write a bare block.
            return Ok(append(compressed, &mut records, limit)?.then_some(records));
        }
        let mut rest = compressed;
        while !rest.is_empty() {
            // Streams written one after the other repeat the header.
            if let Some(framed) = rest.strip_prefix(MAGIC) {
                rest = framed.get(VERSIONS.len()..).ok_or_else(cut_off)?;
                continue;
            }
            let (size, framed) = rest.split_first_chunk().ok_or_else(cut_off)?;
            let (block, after) = framed.split_at_checked(u32::from_be_bytes(*size) as usize).ok_or_else(cut_off)?;
            if !append(block, &mut records, limit)? {
                return Ok(None);
            }
            rest = after;
        }
        Ok(Some(records))
    }

    /// Whether the block's bytes were within the limit, and appended.
    fn append(block: &[u8], records: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
        let size = snap::raw::decompress_len(block)?;
        if size > limit.saturating_sub(records.len()) {
            return Ok(false);
        }
        if size > block.len().saturating_mul(MAX_RATIO) {
            return Err(io::Error::other("a block claims more bytes than its length can hold"));
        }
        let at = records.len();
        records.resize(at + size, 0);
        snap::raw::Decoder::new().decompress(block, &mut records[at..])?;
        Ok(true)
    }

    fn cut_off() -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, "a snappy stream is cut off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn text(bytes: usize) -> Vec<u8> {
        (0..).flat_map(|n: u32| format!("line {} of a log\n", n % 777).into_bytes()).take(bytes).collect()
    }

    fn compressed(codec: Compression, records: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        codec.compress(records, &mut out).unwrap();
        out.split_off(6)
    }

    #[test]
    fn names_are_kafka_s_and_come_back() {
        for codec in CODECS {
            assert_eq!(codec.to_string().parse(), Ok(codec));
        }
        assert_eq!(Compression::Lz4.to_string(), "lz4");
        assert_eq!(
            "zstandard".parse::<Compression>().unwrap_err().to_string(),
            "unknown compression `zstandard`: expected none, gzip, snappy, lz4 or zstd"
        );
    }

    #[test]
    fn every_codec_gives_back_what_it_took_and_stops_at_the_limit() {
        for codec in CODECS {
            for size in [0, 1, 100, 32 << 10, (64 << 10) + 1, 300_000] {
                let records = text(size);
                let bytes = compressed(codec, &records);
                assert_eq!(codec.inflate(&bytes, size).unwrap().as_deref(), Some(&records[..]), "{codec} {size}");
                if size > 0 {
                    assert_eq!(codec.inflate(&bytes, size - 1).unwrap(), None, "{codec} {size}");
                }
            }
        }
    }

    #[test]
    fn blocks_of_lz4_stand_alone_as_java_demands() {
        let frame = compressed(Compression::Lz4, &text(200_000));
        assert_eq!(frame[..4], 0x184d_2204u32.to_le_bytes());
        // Version 01 and the bit of independent blocks; block size 4 is 64 KiB.
        assert_eq!((frame[4] & 0xe0, frame[5]), (0x60, 0x40));
    }

    #[test]
    fn snappy_is_read_bare_and_as_streams_one_after_the_other() {
        let records = text(50_000);
        let bare = snap::raw::Encoder::new().compress_vec(&records).unwrap();
        assert_eq!(Compression::Snappy.inflate(&bare, 50_000).unwrap(), Some(records.clone()));
        let twice = [compressed(Compression::Snappy, &records), compressed(Compression::Snappy, &records)].concat();
        assert_eq!(Compression::Snappy.inflate(&twice, 100_000).unwrap(), Some([&records[..], &records].concat()));
        assert_eq!(Compression::Snappy.inflate(&twice, 99_999).unwrap(), None);
    }

    #[test]
    fn a_snappy_block_that_claims_more_than_it_can_hold_takes_no_memory() {
        // A length of 200 MiB as snappy's own varint, then nothing of it.
        let claims = [0x80, 0x80, 0x80, 0x64, 0, 0];
        let error = Compression::Snappy.inflate(&claims, 256 << 20).unwrap_err();
        assert_eq!(error.to_string(), "a block claims more bytes than its length can hold");
        let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06"[..], &claims].concat();
        assert!(Compression::Snappy.inflate(&framed, 256 << 20).is_err());
        for cut in 8..framed.len() - 6 {
            assert!(cut == 16 || Compression::Snappy.inflate(&framed[..cut], 1000).is_err(), "{cut}");
        }
    }

    #[test]
    fn other_bytes_are_an_error_in_every_codec() {
        for codec in &CODECS[1..] {
            assert!(codec.inflate(b"neither compressed nor anything", 1000).is_err(), "{codec}");
        }
    }

    #[test]
    fn the_limit_is_the_ratio_above_small_sizes_and_below_the_maximum() {
        let limits = Inflation { max_bytes: 1000, max_ratio: 10, small_bytes: 100 };
        assert_eq!(
            [0, 1, 10, 50, 100, 101, usize::MAX].map(|n| limits.limit(n)),
            [100, 100, 100, 500, 1000, 1000, 1000]
        );
    }
}
