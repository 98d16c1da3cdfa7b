//! Records in, the bytes of an object out.

use std::io::{self, Write as _};

use aqueduct_api::{Error, Result};
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zstd::stream::write::Encoder as ZstdEncoder;

/// How objects are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As one gzip member; levels 1 to 9, default 6.
    Gzip,
    /// As one Zstandard frame with a checksum; levels 1 to 19, default 1.
    Zstd,
}

/// How much is collected before it goes through a compressor, in bytes: large enough that a call costs nothing beside
/// its work, small enough to stay in the processor's cache.
const STEP: usize = 256 << 10;

/// Takes what format made of records and compresses it. There is one at a time for each chunk under way.
pub(crate) struct Encoder {
    raw: Vec<u8>,
    codec: Codec,
}

enum Codec {
    Plain,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An encoder for one object.
    pub(crate) fn new(compression: Compression, level: Option<i32>) -> Result<Self> {
        let codec = match compression {
            Compression::None => Codec::Plain,
            Compression::Gzip => {
                let level = flate2::Compression::new(level.unwrap_or(6).unsigned_abs());
                Codec::Gzip(GzBuilder::new().write(Vec::new(), level))
            }
            Compression::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), level.unwrap_or(1)).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Codec::Zstd(encoder)
            }
        };
        Ok(Encoder { raw: Vec::new(), codec })
    }

    /// Where records are appended.
    pub(crate) fn input(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    /// Whether enough was appended to be worth a step.
    pub(crate) fn is_ripe(&self, part_size: usize) -> bool {
        match self.codec {
            Codec::Plain => self.raw.len() >= part_size,
            _ => self.raw.len() >= STEP,
        }
    }

    /// Compresses what was appended, and hands out what is encoded so far: the caller takes from it what it can use.
    pub(crate) fn step(&mut self) -> Result<&mut Vec<u8>> {
        let encoded = match &mut self.codec {
            Codec::Plain => return Ok(&mut self.raw),
            Codec::Gzip(encoder) => encoder.write_all(&self.raw).map(|()| encoder.get_mut()),
            Codec::Zstd(encoder) => encoder.write_all(&self.raw).map(|()| encoder.get_mut()),
        };
        self.raw.clear();
        // One huge record must not keep its room for ever.
        self.raw.shrink_to(2 * STEP);
        encoded.map_err(failed)
    }

    /// The rest of the object.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        match self.codec {
            Codec::Plain => Ok(self.raw),
            Codec::Gzip(mut encoder) => encoder.write_all(&self.raw).and_then(|()| encoder.finish()),
            Codec::Zstd(mut encoder) => encoder.write_all(&self.raw).and_then(|()| encoder.finish()),
        }
        .map_err(failed)
    }
}

fn failed(cause: io::Error) -> Error {
    Error::retry(format!("compress: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decompressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match compression {
            Compression::None => plain.extend_from_slice(bytes),
            Compression::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
            Compression::Zstd => plain = zstd::decode_all(bytes).unwrap(),
        }
        plain
    }

    fn check(compression: Compression, level: Option<i32>) {
        let lines: Vec<String> = (0..100_000).map(|n| format!("line {n} of a log that goes on and on\n")).collect();
        let object = || {
            let mut encoder = Encoder::new(compression, level).unwrap();
            let mut object = Vec::new();
            for line in &lines {
                encoder.input().extend_from_slice(line.as_bytes());
                if encoder.is_ripe(1 << 20) {
                    object.append(encoder.step().unwrap());
                }
            }
            object.append(&mut encoder.finish().unwrap());
            object
        };
        let first = object();
        assert_eq!(decompressed(compression, &first), lines.concat().into_bytes());
        assert_eq!(first, object(), "the same records make the same bytes");
    }

    #[test]
    fn every_compression_gives_back_what_went_in_and_always_the_same_bytes() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            check(compression, None);
        }
        check(Compression::Gzip, Some(1));
        check(Compression::Zstd, Some(3));
    }

    #[test]
    fn an_object_without_records_is_still_well_formed() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let object = Encoder::new(compression, None).unwrap().finish().unwrap();
            assert_eq!(decompressed(compression, &object), b"");
        }
    }
}
