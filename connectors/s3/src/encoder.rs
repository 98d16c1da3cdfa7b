//! Records in, the bytes of an object out.

use std::io::{self, Write as _};
use std::sync::Arc;

use aqueduct_api::edge::Threads;
use aqueduct_api::{Error, Result};
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder as Lz4Encoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use snap::write::FrameEncoder as SnappyEncoder;
use tokio::sync::oneshot;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::table::Table;

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
    /// In Snappy's frame format.
    Snappy,
    /// As one LZ4 frame.
    Lz4,
}

/// How much is collected before it goes through a compressor, in bytes: large enough that a call costs nothing beside
/// its work, small enough to stay in the processor's cache.
const STEP: usize = 256 << 10;

/// Takes what format made of records and compresses it: one step runs off the connector's thread while the next one is
/// collected there. There is one encoder at a time for each chunk under way.
pub(crate) struct Encoder {
    threads: Arc<dyn Threads>,
    raw: Vec<u8>,
    encoded: Vec<u8>,
    codec: Codec,
}

enum Codec {
    Plain,
    Idle(Box<Compressor>),
    /// At work on the last step; answers with the step's buffer, to be used again.
    Busy(oneshot::Receiver<io::Result<(Box<Compressor>, Vec<u8>)>>),
    /// Gone with a step that failed: the object is given up.
    Lost,
}

enum Compressor {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Snappy(Box<SnappyEncoder<Vec<u8>>>),
    Lz4(Lz4Encoder<Vec<u8>>),
    /// Makes a table of rows, and compresses that where it is text.
    Table(Table, Option<Box<Compressor>>),
}

impl Encoder {
    /// An encoder for one object.
    pub(crate) fn new(threads: &Arc<dyn Threads>, compression: Compression, level: Option<i32>) -> Result<Self> {
        let compressor = Compressor::new(compression, level)?;
        let codec = compressor.map_or(Codec::Plain, |compressor| Codec::Idle(Box::new(compressor)));
        Ok(Encoder { threads: threads.clone(), raw: Vec::new(), encoded: Vec::new(), codec })
    }

    /// An encoder for one object with columns, into which rows go.
    pub(crate) fn table(
        threads: &Arc<dyn Threads>,
        table: Table,
        compression: Compression,
        level: Option<i32>,
    ) -> Result<Self> {
        let inner = Compressor::new(compression, level)?.map(Box::new);
        let codec = Codec::Idle(Box::new(Compressor::Table(table, inner)));
        Ok(Encoder { threads: threads.clone(), raw: Vec::new(), encoded: Vec::new(), codec })
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

    /// Begins to compress what was appended, and hands out what is encoded so far: the caller takes from it what it can
    /// use.
    pub(crate) async fn step(&mut self) -> Result<&mut Vec<u8>> {
        if matches!(self.codec, Codec::Plain) {
            return Ok(&mut self.raw);
        }
        let (compressor, mut spare) = self.compressor().await?;
        // One huge record must not keep its room for ever.
        spare.shrink_to(2 * STEP);
        self.begin(compressor, spare);
        Ok(&mut self.encoded)
    }

    /// The rest of the object.
    pub(crate) async fn finish(mut self) -> Result<Vec<u8>> {
        if matches!(self.codec, Codec::Plain) {
            return Ok(self.raw);
        }
        let (mut compressor, spare) = self.compressor().await?;
        if matches!(*compressor, Compressor::Table(..)) {
            // Its end can be most of its work.
            let raw = std::mem::replace(&mut self.raw, spare);
            let (sender, answer) = oneshot::channel();
            self.threads.blocking(Box::new(move || {
                let _ = sender.send(compressor.push(&raw).and_then(|()| compressor.finish()));
            }));
            let rest = answer.await.map_err(|_| Error::fatal("make a table: the job panicked"))?.map_err(failed)?;
            self.encoded.extend_from_slice(&rest);
            return Ok(self.encoded);
        }
        let rest = compressor.push(&self.raw).and_then(|()| compressor.finish()).map_err(failed)?;
        match self.encoded.is_empty() {
            true => Ok(rest),
            false => {
                self.encoded.extend_from_slice(&rest);
                Ok(self.encoded)
            }
        }
    }

    /// The compressor when it has nothing to do, with what it made moved to what is encoded; and a buffer.
    async fn compressor(&mut self) -> Result<(Box<Compressor>, Vec<u8>)> {
        let (mut compressor, spare) = match std::mem::replace(&mut self.codec, Codec::Lost) {
            Codec::Plain | Codec::Lost => return Err(Error::retry("compress: an earlier step failed")),
            Codec::Idle(compressor) => (compressor, Vec::new()),
            Codec::Busy(answer) => {
                let answer = answer.await.map_err(|_| Error::fatal("compress: the job panicked"))?;
                answer.map_err(failed)?
            }
        };
        self.encoded.append(compressor.output());
        Ok((compressor, spare))
    }

    fn begin(&mut self, mut compressor: Box<Compressor>, spare: Vec<u8>) {
        let (sender, answer) = oneshot::channel();
        let mut raw = std::mem::replace(&mut self.raw, spare);
        self.threads.blocking(Box::new(move || {
            let pushed = compressor.push(&raw);
            raw.clear();
            // Whoever gave the object up does not wait any more.
            let _ = sender.send(pushed.map(|()| (compressor, raw)));
        }));
        self.codec = Codec::Busy(answer);
    }
}

impl Compressor {
    /// `None`: there is nothing to do.
    fn new(compression: Compression, level: Option<i32>) -> Result<Option<Self>> {
        Ok(Some(match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => {
                let level = flate2::Compression::new(level.unwrap_or(6).unsigned_abs());
                Compressor::Gzip(GzBuilder::new().write(Vec::new(), level))
            }
            Compression::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), level.unwrap_or(1)).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Compressor::Zstd(encoder)
            }
            Compression::Snappy => Compressor::Snappy(Box::new(SnappyEncoder::new(Vec::new()))),
            Compression::Lz4 => Compressor::Lz4(Lz4Encoder::new(Vec::new())),
        }))
    }

    fn push(&mut self, raw: &[u8]) -> io::Result<()> {
        match self {
            Compressor::Gzip(encoder) => encoder.write_all(raw),
            Compressor::Zstd(encoder) => encoder.write_all(raw),
            Compressor::Snappy(encoder) => encoder.write_all(raw),
            Compressor::Lz4(encoder) => encoder.write_all(raw),
            Compressor::Table(table, inner) => {
                table.push(raw).map_err(unfit)?;
                if let Some(inner) = inner {
                    inner.push(table.output())?;
                    table.output().clear();
                }
                Ok(())
            }
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Compressor::Gzip(encoder) => encoder.get_mut(),
            Compressor::Zstd(encoder) => encoder.get_mut(),
            Compressor::Snappy(encoder) => encoder.get_mut(),
            Compressor::Lz4(encoder) => encoder.get_mut(),
            Compressor::Table(_, Some(inner)) => inner.output(),
            Compressor::Table(table, None) => table.output(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
            Compressor::Snappy(mut encoder) => {
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Compressor::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Compressor::Table(mut table, inner) => {
                table.finish().map_err(unfit)?;
                match inner {
                    None => Ok(std::mem::take(table.output())),
                    Some(mut inner) => {
                        inner.push(table.output())?;
                        inner.finish()
                    }
                }
            }
        }
    }
}

/// What was looked at before it came here does not become another thing by being tried again.
fn unfit(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn failed(cause: io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::InvalidData => Error::fatal(format!("make a table: {cause}")),
        _ => Error::retry(format!("compress: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use aqueduct_api::Edge;

    use super::*;

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Snappy, Compression::Lz4];

    fn decompressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match compression {
            Compression::None => plain.extend_from_slice(bytes),
            Compression::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
            Compression::Zstd => plain = zstd::decode_all(bytes).unwrap(),
            Compression::Snappy => drop(snap::read::FrameDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
            Compression::Lz4 => drop(lz4_flex::frame::FrameDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
        }
        plain
    }

    async fn check(compression: Compression, level: Option<i32>) {
        let lines: Vec<String> = (0..100_000).map(|n| format!("line {n} of a log that goes on and on\n")).collect();
        let object = async || {
            let mut encoder = Encoder::new(&Edge::real().threads, compression, level).unwrap();
            let mut object = Vec::new();
            for line in &lines {
                encoder.input().extend_from_slice(line.as_bytes());
                if encoder.is_ripe(1 << 20) {
                    object.append(encoder.step().await.unwrap());
                }
            }
            object.append(&mut encoder.finish().await.unwrap());
            object
        };
        let first = object().await;
        assert_eq!(decompressed(compression, &first), lines.concat().into_bytes());
        assert_eq!(first, object().await, "the same records make the same bytes");
    }

    #[tokio::test]
    async fn every_compression_gives_back_what_went_in_and_always_the_same_bytes() {
        for compression in ALL {
            check(compression, None).await;
        }
        check(Compression::Gzip, Some(1)).await;
        check(Compression::Zstd, Some(3)).await;
    }

    #[tokio::test]
    async fn an_object_without_records_is_still_well_formed() {
        for compression in ALL {
            let object = Encoder::new(&Edge::real().threads, compression, None).unwrap().finish().await.unwrap();
            assert_eq!(decompressed(compression, &object), b"");
        }
    }
}
