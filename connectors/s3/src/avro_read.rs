//! Avro container files on their way in: <https://avro.apache.org/docs/1.12.0/specification/#object-container-files>.

use std::io::Read as _;

use async_trait::async_trait;
use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::arriving::{Arriving, Stored};
use crate::avro_schema::AvroSchema;
use crate::avro_values::{self, Wrong};
use crate::cells::TakenColumns;
use crate::reading::{Content, Failure, Next, Progress};

/// The most bytes of a block, stored and inflated, and of the head of an object.
const LARGEST: usize = 64 << 20;

/// How many rows without any bytes a block may have.
const EMPTY_ROWS: u64 = 1 << 20;

/// An object that is an Avro container file.
pub(crate) struct AvroContent {
    arriving: Arriving,
    is_ended: bool,
    /// What has come and is not taken yet.
    buffer: Vec<u8>,
    /// Where `buffer` begins in the object.
    offset: u64,
    head: Option<Head>,
    block: Option<Block>,
    columns: TakenColumns,
    longest: usize,
    /// What is told as soon as somebody can be told.
    damage: Option<String>,
}

struct Head {
    schema: AvroSchema,
    codec: Codec,
    /// Stands between blocks.
    mark: [u8; 16],
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstd,
}

/// A block, inflated.
struct Block {
    bytes: Vec<u8>,
    taken: usize,
    rows: u64,
    row: u64,
    /// Where the next one begins in the object.
    next: u64,
}

impl AvroContent {
    /// Begins to read an object, or goes on at a block.
    pub(crate) async fn open(
        stored: &Stored,
        progress: Progress,
        columns: &TakenColumns,
        longest: usize,
    ) -> Result<AvroContent, Failure> {
        let mut content = AvroContent {
            arriving: Arriving::open(stored, 0).await?,
            is_ended: false,
            buffer: Vec::new(),
            offset: 0,
            head: None,
            block: None,
            columns: columns.clone(),
            longest,
            damage: None,
        };
        if progress.at > 0 {
            while content.head.is_none() {
                content.more().await?;
                content.read_head()?;
            }
            content.arriving = Arriving::open(stored, progress.at).await?;
            content.buffer.clear();
            (content.offset, content.is_ended) = (progress.at, false);
        }
        Ok(content)
    }

    async fn more(&mut self) -> Result<(), Failure> {
        match self.arriving.next().await? {
            Some(bytes) => self.buffer.extend_from_slice(&bytes),
            None => self.is_ended = true,
        }
        Ok(())
    }

    fn take(&mut self, length: usize) {
        self.buffer.drain(..length);
        self.offset += length as u64;
    }

    /// Reads the head, if it has come.
    fn read_head(&mut self) -> Result<(), Failure> {
        match head(&self.buffer) {
            Ok(head) => {
                self.take(head.length);
                self.head = Some(head);
                Ok(())
            }
            Err(Wrong::Ends) if self.is_ended => Err(damaged("it ends within its head")),
            Err(Wrong::Ends) if self.buffer.len() > LARGEST => Err(damaged("its head is too long")),
            Err(Wrong::Ends) => Ok(()),
            Err(Wrong::Damaged(why)) => Err(damaged(&why)),
        }
    }

    /// Reads the next block, if it has come.
    fn read_block(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let Some(Head { codec, mark, .. }) = &self.head else { return Ok(()) };
        if self.buffer.is_empty() && self.is_ended {
            return Ok(());
        }
        let (rows, bytes, length) = match block(&self.buffer, mark) {
            Ok(found) => found,
            Err(Wrong::Ends) if self.is_ended => return Err(damaged("it ends within a block")),
            Err(Wrong::Ends) => return Ok(()),
            Err(Wrong::Damaged(why)) => return Err(damaged(&why)),
        };
        let bytes = inflated(*codec, bytes).map_err(|why| damaged(&why))?;
        if rows > (bytes.len() as u64).max(EMPTY_ROWS) {
            return Err(damaged(&format!("a block of {} bytes claims {rows} rows", bytes.len())));
        }
        self.take(length);
        let mut block = Block { bytes, taken: 0, rows, row: 0, next: self.offset };
        // What was read before.
        let before = progress.row;
        progress.row = 0;
        while block.row < before.min(rows) {
            self.next_row(&mut block)?;
        }
        progress.row = block.row;
        self.block = Some(block);
        Ok(())
    }

    fn next_row(&self, block: &mut Block) -> Result<Option<crate::cells::Cell>, Failure> {
        let Some(head) = &self.head else { return Ok(None) };
        let mut input = &block.bytes[block.taken..];
        let cell = avro_values::row(&head.schema, &mut input, self.longest).map_err(|wrong| match wrong {
            Wrong::Ends => damaged("a block ends within a row"),
            Wrong::Damaged(why) => damaged(&why),
        })?;
        block.taken = block.bytes.len() - input.len();
        block.row += 1;
        if block.row == block.rows && block.taken < block.bytes.len() {
            return Err(damaged("a block has more bytes than its rows"));
        }
        Ok(cell)
    }
}

fn damaged(why: &str) -> Failure {
    Failure::Lost(format!("is damaged: {why}"))
}

#[async_trait]
impl Content for AvroContent {
    async fn fill(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        if let Some(damage) = self.damage.take() {
            return Err(Failure::Lost(damage));
        }
        self.more().await?;
        if self.head.is_none() {
            self.read_head()?;
            progress.at = if self.head.is_some() { self.offset } else { 0 };
        }
        self.read_block(progress)
    }

    fn next<'a>(&'a mut self, progress: &mut Progress) -> Next<'a> {
        let mut block = loop {
            if let Some(block) = self.block.take_if(|block| block.row < block.rows) {
                break block;
            }
            if let Some(block) = self.block.take() {
                *progress = Progress { at: block.next, ..Progress::default() };
            }
            if self.damage.is_some() || self.head.is_none() {
                return Next::More;
            }
            if let Err(failure) = self.read_block(progress) {
                return self.lost(failure);
            }
            match &self.block {
                Some(_) => {}
                None if self.is_ended => return Next::End,
                None => return Next::More,
            }
        };
        let row = block.row;
        let cell = match self.next_row(&mut block) {
            Ok(cell) => cell,
            Err(failure) => return self.lost(failure),
        };
        let place = format!("{row} of the block at byte {}", progress.at);
        progress.row = block.row;
        self.block = Some(block);
        let record = match cell {
            Some(cell) => self.columns.record(cell, self.longest),
            None => Err("a row is longer than max-record".to_owned()),
        };
        match record {
            Ok(decoded) => Next::Record(decoded),
            Err(reason) => Next::Unfit { told: vec![("row", place)], value: None, reason },
        }
    }
}

impl AvroContent {
    fn lost(&mut self, failure: Failure) -> Next<'static> {
        self.damage = Some(match failure {
            Failure::Lost(why) => why,
            Failure::Store(cause) => cause.to_string(),
        });
        Next::More
    }
}

fn head(bytes: &[u8]) -> Result<Head, Wrong> {
    let mut input = bytes;
    let magic = &bytes[..bytes.len().min(4)];
    if !b"Obj\x01".starts_with(magic) {
        return Err(Wrong::Damaged("it is no Avro container file".to_owned()));
    }
    avro_values::take(&mut input, 4)?;
    let (mut schema, mut codec) = (None, None);
    loop {
        let mut count = avro_values::long(&mut input)?;
        if count == 0 {
            break;
        }
        if count < 0 {
            avro_values::long(&mut input)?;
            count = count.saturating_neg();
        }
        for _ in 0..count {
            let name = avro_values::bytes(&mut input)?;
            let value = avro_values::bytes(&mut input)?;
            match name {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = Some(value),
                _ => {}
            }
        }
    }
    let mark = avro_values::take(&mut input, 16)?.first_chunk().copied().ok_or(Wrong::Ends)?;
    let codec = match codec {
        None | Some(b"null") => Codec::Null,
        Some(b"deflate") => Codec::Deflate,
        Some(b"snappy") => Codec::Snappy,
        Some(b"zstandard") => Codec::Zstd,
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            return Err(Wrong::Damaged(format!("its codec `{other}` is none of null, deflate, snappy and zstandard")));
        }
    };
    let schema = schema.ok_or_else(|| Wrong::Damaged("it has no schema".to_owned()))?;
    let schema = AvroSchema::parse(schema).map_err(Wrong::Damaged)?;
    Ok(Head { schema, codec, mark, length: bytes.len() - input.len() })
}

/// How many rows the next block has, its bytes, and its whole length.
fn block<'a>(bytes: &'a [u8], mark: &[u8; 16]) -> Result<(u64, &'a [u8], usize), Wrong> {
    let mut input = bytes;
    let rows = avro_values::long(&mut input)?;
    let size = avro_values::long(&mut input)?;
    let wrong = || Wrong::Damaged(format!("a block claims {rows} rows of {size} bytes"));
    let rows = u64::try_from(rows).map_err(|_| wrong())?;
    let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST).ok_or_else(wrong)?;
    let block = avro_values::take(&mut input, size)?;
    if avro_values::take(&mut input, 16)? != mark {
        return Err(Wrong::Damaged("a block does not end where it says".to_owned()));
    }
    Ok((rows, block, bytes.len() - input.len()))
}

fn inflated(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let told = |cause: &dyn std::fmt::Display| format!("a block can not be inflated: {cause}");
    let mut out = Vec::new();
    match codec {
        Codec::Null => return Ok(bytes.to_vec()),
        Codec::Deflate => {
            let inflating = DeflateDecoder::new(bytes).take(LARGEST as u64 + 1).read_to_end(&mut out);
            inflating.map_err(|cause| told(&cause))?;
        }
        Codec::Zstd => {
            let decoder = zstd::Decoder::new(bytes).map_err(|cause| told(&cause))?;
            decoder.take(LARGEST as u64 + 1).read_to_end(&mut out).map_err(|cause| told(&cause))?;
        }
        Codec::Snappy => {
            let (bytes, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| told(&"it is too short"))?;
            let length = snap::raw::decompress_len(bytes).map_err(|cause| told(&cause))?;
            if length <= LARGEST {
                out = snap::raw::Decoder::new().decompress_vec(bytes).map_err(|cause| told(&cause))?;
                let mut sum = Crc::new();
                sum.update(&out);
                if sum.sum() != u32::from_be_bytes(*crc) {
                    return Err(told(&"its checksum is wrong"));
                }
            } else {
                return Err(told(&format!("{length} bytes are more than {LARGEST}")));
            }
        }
    }
    if out.len() > LARGEST { Err(told(&format!("it has more than {LARGEST} bytes"))) } else { Ok(out) }
}
