//! The bytes of an object, compressed.

use std::io::{self, Write as _};

use aqueduct_api::{Error, Result};
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder as Lz4Encoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use snap::write::FrameEncoder as SnappyEncoder;
use zstd::stream::raw::{CParameter, Encoder as ZstdContext, Operation as _};
use zstd::stream::zio::Writer as ZstdWriter;

use crate::rows::Rows;
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

/// What is to be compressed, or made a table of.
#[derive(Default)]
pub(crate) struct Input {
    /// As a format made them of records.
    pub(crate) bytes: Vec<u8>,
    /// Where a table is made: rows that were made already.
    pub(crate) rows: Option<Rows>,
}

/// What the encoder of one object leaves to that of the next: to touch as much memory anew for each costs more than to
/// compress a small object.
#[derive(Default)]
pub(crate) struct Spare {
    context: Option<ZstdContext<'static>>,
    /// Room for what is collected.
    pub(crate) bytes: Vec<u8>,
}

/// Makes the bytes of an object.
pub(crate) enum Compressor {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdWriter<Vec<u8>, ZstdContext<'static>>),
    Snappy(Box<SnappyEncoder<Vec<u8>>>),
    Lz4(Lz4Encoder<Vec<u8>>),
    /// Makes a table of rows, and compresses that where it is text.
    Table(Box<Table>, Option<Box<Compressor>>),
}

impl Compressor {
    /// `None`: there is nothing to do.
    pub(crate) fn new(compression: Compression, level: Option<i32>, spare: Spare) -> Result<Option<Self>> {
        Ok(Some(match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => {
                let level = flate2::Compression::new(level.unwrap_or(6).unsigned_abs());
                Compressor::Gzip(GzBuilder::new().write(Vec::new(), level))
            }
            Compression::Zstd => {
                let context = match spare.context {
                    Some(context) => context,
                    None => {
                        let mut context = ZstdContext::new(level.unwrap_or(1)).map_err(failed)?;
                        context.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
                        context
                    }
                };
                Compressor::Zstd(ZstdWriter::new(Vec::new(), context))
            }
            Compression::Snappy => Compressor::Snappy(Box::new(SnappyEncoder::new(Vec::new()))),
            Compression::Lz4 => Compressor::Lz4(Lz4Encoder::new(Vec::new())),
        }))
    }

    /// Takes in some more.
    pub(crate) fn push(&mut self, input: &Input) -> io::Result<()> {
        let Compressor::Table(table, inner) = self else { return self.write(&input.bytes) };
        table.push(&input.bytes).map_err(unfit)?;
        if let Some(rows) = &input.rows {
            table.extend(rows).map_err(unfit)?;
        }
        if let Some(inner) = inner {
            inner.write(table.output())?;
            table.output().clear();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Compressor::Gzip(encoder) => encoder.write_all(bytes),
            Compressor::Zstd(encoder) => encoder.write_all(bytes),
            Compressor::Snappy(encoder) => encoder.write_all(bytes),
            Compressor::Lz4(encoder) => encoder.write_all(bytes),
            Compressor::Table(table, _) => table.push(bytes).map_err(unfit),
        }
    }

    /// What is made so far and not taken yet: the caller takes it.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Compressor::Gzip(encoder) => encoder.get_mut(),
            Compressor::Zstd(encoder) => encoder.writer_mut(),
            Compressor::Snappy(encoder) => encoder.get_mut(),
            Compressor::Lz4(encoder) => encoder.get_mut(),
            Compressor::Table(_, Some(inner)) => inner.output(),
            Compressor::Table(table, None) => table.output(),
        }
    }

    /// The end of the object, and what the next one's compressor is made with.
    pub(crate) fn finish(self) -> io::Result<(Vec<u8>, Spare)> {
        let rest = match self {
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(mut encoder) => {
                encoder.finish()?;
                let (rest, mut context) = encoder.into_inner();
                context.reinit()?;
                return Ok((rest, Spare { context: Some(context), bytes: Vec::new() }));
            }
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
                        inner.write(table.output())?;
                        return inner.finish();
                    }
                }
            }
        };
        rest.map(|rest| (rest, Spare::default()))
    }
}

impl Input {
    /// Empties it, and keeps its room.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        if let Some(rows) = &mut self.rows {
            rows.clear();
        }
    }

    /// How much it is, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.rows.as_ref().map_or(0, Rows::weight)
    }
}

/// What was looked at before it came here does not become another thing by being tried again.
fn unfit(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What the engine does about it.
pub(crate) fn failed(cause: io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::InvalidData => Error::fatal(format!("make a table: {cause}")),
        _ => Error::retry(format!("compress: {cause}")),
    }
}
