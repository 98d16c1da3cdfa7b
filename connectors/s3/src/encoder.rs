//! Records in, the bytes of an object out.

use std::io;
use std::sync::Arc;

use aqueduct_api::edge::Threads;
use aqueduct_api::{Error, Result};
use tokio::sync::oneshot;

use crate::compressor::{Compression, Compressor, Input, Spare, failed};
use crate::rows::Rows;
use crate::table::Table;

/// How much is collected before it goes through a compressor, in bytes: large enough that the way to another thread and
/// back costs nothing beside its work, small enough to stay in the processor's cache.
const STEP: usize = 1 << 20;

/// Takes what format made of records and compresses it: one step runs off the connector's thread while the next one is
/// collected there. There is one encoder at a time for each chunk under way.
pub(crate) struct Encoder {
    threads: Arc<dyn Threads>,
    input: Input,
    encoded: Vec<u8>,
    codec: Codec,
}

enum Codec {
    Plain,
    Idle(Box<Compressor>),
    /// At work on the last step; answers with the step's buffers, to be used again.
    Busy(oneshot::Receiver<io::Result<(Box<Compressor>, Input)>>),
    /// Gone with a step that failed: the object is given up.
    Lost,
}

impl Encoder {
    /// An encoder for one object.
    pub(crate) fn new(
        threads: &Arc<dyn Threads>,
        compression: Compression,
        level: Option<i32>,
        mut spare: Spare,
    ) -> Result<Self> {
        let input = Input { bytes: std::mem::take(&mut spare.bytes), rows: None };
        let compressor = Compressor::new(compression, level, spare)?;
        let codec = compressor.map_or(Codec::Plain, |compressor| Codec::Idle(Box::new(compressor)));
        Ok(Encoder { threads: threads.clone(), input, encoded: Vec::new(), codec })
    }

    /// An encoder for one object with columns, into which rows go.
    pub(crate) fn table(
        threads: &Arc<dyn Threads>,
        table: Table,
        compression: Compression,
        level: Option<i32>,
    ) -> Result<Self> {
        let inner = Compressor::new(compression, level, Spare::default())?.map(Box::new);
        let input = Input { bytes: Vec::new(), rows: Some(table.empty_rows()) };
        let codec = Codec::Idle(Box::new(Compressor::Table(Box::new(table), inner)));
        Ok(Encoder { threads: threads.clone(), input, encoded: Vec::new(), codec })
    }

    /// Where records are appended.
    pub(crate) fn input(&mut self) -> &mut Vec<u8> {
        &mut self.input.bytes
    }

    /// Where rows are added, if a table is made: of one object either all are, or all are appended as bytes.
    pub(crate) fn rows(&mut self) -> Option<&mut Rows> {
        self.input.rows.as_mut()
    }

    /// Whether enough was appended to be worth a step.
    pub(crate) fn is_ripe(&self, part_size: usize) -> bool {
        match self.codec {
            Codec::Plain => self.input.bytes.len() >= part_size,
            _ => self.input.weight() >= STEP,
        }
    }

    /// Begins to compress what was appended, and hands out what is encoded so far: the caller takes from it what it can
    /// use.
    pub(crate) async fn step(&mut self) -> Result<&mut Vec<u8>> {
        if matches!(self.codec, Codec::Plain) {
            return Ok(&mut self.input.bytes);
        }
        let (compressor, mut spare) = self.compressor().await?;
        // One huge record must not keep its room for ever.
        spare.bytes.shrink_to(2 * STEP);
        self.begin(compressor, spare);
        Ok(&mut self.encoded)
    }

    /// The rest of the object, and what the encoder of the next one is made with.
    pub(crate) async fn finish(mut self) -> Result<(Vec<u8>, Spare)> {
        if matches!(self.codec, Codec::Plain) {
            return Ok((self.input.bytes, Spare::default()));
        }
        let (mut compressor, spare) = self.compressor().await?;
        if matches!(*compressor, Compressor::Table(..)) {
            // Its end can be most of its work.
            let input = std::mem::replace(&mut self.input, spare);
            let (sender, answer) = oneshot::channel();
            self.threads.blocking(Box::new(move || {
                let _ = sender.send(compressor.push(&input).and_then(|()| compressor.finish()));
            }));
            let (rest, spare) =
                answer.await.map_err(|_| Error::fatal("make a table: the job panicked"))?.map_err(failed)?;
            self.encoded.extend_from_slice(&rest);
            return Ok((self.encoded, spare));
        }
        let (rest, mut spare) = compressor.push(&self.input).and_then(|()| compressor.finish()).map_err(failed)?;
        self.input.clear();
        self.input.bytes.shrink_to(2 * STEP);
        spare.bytes = self.input.bytes;
        match self.encoded.is_empty() {
            true => Ok((rest, spare)),
            false => {
                self.encoded.extend_from_slice(&rest);
                Ok((self.encoded, spare))
            }
        }
    }

    /// The compressor when it has nothing to do, with what it made moved to what is encoded; and a buffer.
    async fn compressor(&mut self) -> Result<(Box<Compressor>, Input)> {
        let (mut compressor, spare) = match std::mem::replace(&mut self.codec, Codec::Lost) {
            Codec::Plain | Codec::Lost => return Err(Error::retry("compress: an earlier step failed")),
            Codec::Idle(compressor) => {
                let rows = self.input.rows.as_ref().map(Rows::another);
                (compressor, Input { bytes: Vec::new(), rows })
            }
            Codec::Busy(answer) => {
                let answer = answer.await.map_err(|_| Error::fatal("compress: the job panicked"))?;
                answer.map_err(failed)?
            }
        };
        self.encoded.append(compressor.output());
        Ok((compressor, spare))
    }

    fn begin(&mut self, mut compressor: Box<Compressor>, spare: Input) {
        let (sender, answer) = oneshot::channel();
        let mut input = std::mem::replace(&mut self.input, spare);
        self.threads.blocking(Box::new(move || {
            let pushed = compressor.push(&input);
            input.clear();
            // Whoever gave the object up does not wait any more.
            let _ = sender.send(pushed.map(|()| (compressor, input)));
        }));
        self.codec = Codec::Busy(answer);
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
        let mut spare = Spare::default();
        let mut object = async || {
            let mut encoder =
                Encoder::new(&Edge::real().threads, compression, level, std::mem::take(&mut spare)).unwrap();
            let mut object = Vec::new();
            for line in &lines {
                encoder.input().extend_from_slice(line.as_bytes());
                if encoder.is_ripe(1 << 20) {
                    object.append(encoder.step().await.unwrap());
                }
            }
            let (mut rest, left) = encoder.finish().await.unwrap();
            spare = left;
            object.append(&mut rest);
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
            let encoder = Encoder::new(&Edge::real().threads, compression, None, Spare::default()).unwrap();
            let object = encoder.finish().await.unwrap().0;
            assert_eq!(decompressed(compression, &object), b"");
        }
    }
}
