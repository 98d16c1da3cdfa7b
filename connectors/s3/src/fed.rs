//! Decoders that read, fed piece by piece: of Snappy's and LZ4's frames with whole chunks and blocks, so that none is begun
//! before all of it has come.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _};

use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use snap::read::FrameDecoder as SnappyDecoder;

/// The largest chunk or block, in bytes: LZ4's have 4 MiB, or 8 MiB in old files.
const LARGEST: usize = 9 << 20;

/// What begins a frame of LZ4.
pub(crate) const LZ4: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// A decoder and what it waits for.
pub(crate) struct Fed {
    decoder: Decoder,
    /// The chunk or block that has not come whole.
    waiting: Vec<u8>,
}

enum Decoder {
    Snappy(Box<SnappyDecoder<VecDeque<u8>>>),
    /// With the flags of the frame that has begun and not ended.
    Lz4(Box<Lz4Decoder<VecDeque<u8>>>, Option<u8>),
}

impl Fed {
    /// Of Snappy's frames.
    pub(crate) fn snappy() -> Fed {
        Fed { decoder: Decoder::Snappy(Box::new(SnappyDecoder::new(VecDeque::new()))), waiting: Vec::new() }
    }

    /// Of LZ4's frames.
    pub(crate) fn lz4() -> Fed {
        Fed { decoder: Decoder::Lz4(Box::new(Lz4Decoder::new(VecDeque::new())), None), waiting: Vec::new() }
    }

    /// Takes what comes next, and hands on what it becomes.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(length) = self.decoder.length(&self.waiting[taken..])? {
            let whole = &self.waiting[taken..taken + length];
            self.decoder.feed(whole);
            self.decoder.drain(out)?;
            taken += length;
        }
        self.waiting.drain(..taken);
        Ok(())
    }

    /// An error where something is missing.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self.waiting.is_empty() && !matches!(self.decoder, Decoder::Lz4(_, Some(_))) {
            true => Ok(()),
            false => Err(io::Error::new(ErrorKind::UnexpectedEof, "a frame is cut short")),
        }
    }
}

impl Decoder {
    /// How long the chunk or block is that `bytes` begin with, if it is there whole.
    fn length(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let length = match self {
            Decoder::Snappy(_) => match bytes {
                [_, a, b, c, ..] => 4 + u32::from_le_bytes([*a, *b, *c, 0]) as usize,
                _ => return Ok(None),
            },
            Decoder::Lz4(_, None) => match bytes.split_first_chunk() {
                Some((&LZ4, [flags, ..])) => 7 + 8 * usize::from(flags & 8 > 0) + 4 * usize::from(flags & 1 > 0),
                Some((&LZ4, [])) | None => return Ok(None),
                Some(_) => return Err(wrong("what follows a frame is none".to_owned())),
            },
            Decoder::Lz4(_, Some(flags)) => match bytes.first_chunk().map(|size| u32::from_le_bytes(*size)) {
                Some(0) => 4 + 4 * usize::from(flags & 4 > 0),
                // The highest bit says that it is not compressed.
                Some(size) => 4 + (size & (u32::MAX >> 1)) as usize + 4 * usize::from(flags & 16 > 0),
                None => return Ok(None),
            },
        };
        match length {
            0..=LARGEST => Ok(Some(length).filter(|length| *length <= bytes.len())),
            _ => Err(wrong(format!("a block claims {length} bytes"))),
        }
    }

    fn feed(&mut self, whole: &[u8]) {
        match self {
            Decoder::Snappy(decoder) => decoder.get_mut().extend(whole),
            Decoder::Lz4(decoder, flags) => {
                *flags = match (*flags, whole) {
                    (None, [_, _, _, _, flags, ..]) => {
                        // One that had a frame of another kind before it has rooms of the wrong size.
                        **decoder = Lz4Decoder::new(VecDeque::new());
                        Some(*flags)
                    }
                    (Some(_), [0, 0, 0, 0, ..]) => None,
                    (flags, _) => flags,
                };
                decoder.get_mut().extend(whole);
            }
        }
    }

    /// Hands on all that becomes of what it was fed with.
    fn drain(&mut self, out: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut room = [0u8; 64 << 10];
        loop {
            let before = self.left();
            let read = match self {
                Decoder::Snappy(decoder) => decoder.read(&mut room)?,
                Decoder::Lz4(decoder, _) => decoder.read(&mut room)?,
            };
            match (read, self.left()) {
                (0, 0) => return Ok(()),
                (0, left) if left == before => return Err(wrong("a block makes no sense".to_owned())),
                _ => out(&room[..read]),
            }
        }
    }

    fn left(&self) -> usize {
        match self {
            Decoder::Snappy(decoder) => decoder.get_ref().len(),
            Decoder::Lz4(decoder, _) => decoder.get_ref().len(),
        }
    }
}

fn wrong(why: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
