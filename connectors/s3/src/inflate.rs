//! Objects as they were before they were compressed, piece by piece.

use std::io::{self, Write as _};

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

use crate::fed::{Fed, LZ4};

/// How many of the first bytes say how an object is compressed.
pub(crate) const HEAD: usize = 10;

/// How much of what is compressed is inflated at once: some megabytes at most come out of it.
const AT_ONCE: usize = 4 << 10;

/// What undoes the compression of one object.
pub(crate) enum Inflate {
    /// Nothing has come yet.
    Unknown,
    /// There is nothing to undo.
    Plain,
    /// One gzip member after the other.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// One zstd frame after the other.
    Zstd {
        /// The decoder.
        decoder: Box<Decoder<'static>>,
        /// Whether a frame has begun and not ended.
        is_within: bool,
    },
    /// One frame of Snappy or LZ4 after the other.
    Framed(Box<Fed>),
}

impl Inflate {
    /// Takes the next bytes of the object, the first ones at least [`HEAD`] where it has as many, and hands on what they
    /// become. What a compressed object is, its first bytes say.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if matches!(self, Inflate::Unknown) {
            *self = Inflate::of(bytes)?;
        }
        match self {
            Inflate::Unknown => {}
            Inflate::Plain => out(bytes),
            Inflate::Gzip(decoder) => {
                for bytes in bytes.chunks(AT_ONCE) {
                    decoder.write_all(bytes)?;
                    out(decoder.get_ref());
                    decoder.get_mut().clear();
                }
            }
            Inflate::Zstd { decoder, is_within } => {
                for bytes in bytes.chunks(AT_ONCE) {
                    *is_within = inflate_zstd(decoder, bytes, out)?;
                }
            }
            Inflate::Framed(fed) => {
                for bytes in bytes.chunks(AT_ONCE) {
                    fed.push(bytes, out)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the object; an error where it was cut short.
    pub(crate) fn finish(&mut self, out: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self {
            Inflate::Unknown | Inflate::Plain => Ok(()),
            Inflate::Gzip(decoder) => {
                decoder.try_finish()?;
                out(decoder.get_ref());
                Ok(())
            }
            Inflate::Zstd { is_within: false, .. } => Ok(()),
            Inflate::Framed(fed) => fed.finish(),
            Inflate::Zstd { .. } => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a zstd frame is cut short")),
        }
    }

    /// Whether what comes out is what goes in.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Inflate::Plain)
    }

    fn of(bytes: &[u8]) -> io::Result<Inflate> {
        Ok(match bytes {
            [0x1f, 0x8b, ..] => Inflate::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            // The frame's magic number, RFC 8878, section 3.1.1.
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Inflate::Zstd { decoder: Box::new(Decoder::new()?), is_within: true },
            // The chunk that every stream of Snappy's begins with, of six bytes.
            [0xff, 6, 0, 0, rest @ ..] if b"sNaPpY".starts_with(rest) || rest.starts_with(b"sNaPpY") => {
                Inflate::Framed(Box::new(Fed::snappy()))
            }
            _ if bytes.starts_with(&LZ4) => Inflate::Framed(Box::new(Fed::lz4())),
            _ => match UNKNOWN.iter().find(|(begin, _)| begins(bytes, begin)) {
                Some((_, name)) => {
                    let why = format!("it is compressed by {name}, not by gzip, zstd, snappy or lz4");
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                None => Inflate::Plain,
            },
        })
    }
}

/// Whether an object begins like that, where a `?` stands for a digit but 0: bzip2's level.
fn begins(bytes: &[u8], begin: &[u8]) -> bool {
    let is_alike = |(byte, begin): (&u8, &u8)| byte == begin || *begin == b'?' && matches!(byte, b'1'..=b'9');
    bytes.len() >= begin.len() && bytes.iter().zip(begin).all(is_alike)
}

/// How objects begin of which no lines could be made.
const UNKNOWN: [(&[u8], &str); 5] = [
    (b"BZh?1AY&SY", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"\x82SNAPPY\0", "snappy as Java has it"),
];

/// Answers whether the frame goes on.
fn inflate_zstd(decoder: &mut Decoder<'_>, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    let mut room = [0u8; 64 << 10];
    let mut input = InBuffer::around(bytes);
    loop {
        let mut output = OutBuffer::around(&mut room[..]);
        let more = decoder.run(&mut input, &mut output)?;
        let written = output.as_slice();
        let is_full = written.len() == 64 << 10;
        out(written);
        if input.pos() == bytes.len() && !is_full {
            return Ok(more > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn inflated(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let (mut inflate, mut out) = (Inflate::Unknown, Vec::new());
        for bytes in bytes.chunks(step) {
            inflate.push(bytes, &mut |bytes| out.extend_from_slice(bytes))?;
        }
        inflate.finish(&mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn snappy(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.into_inner().unwrap()
    }

    /// With blocks that need those before them or do not, and all checksums or none.
    fn lz4(bytes: &[u8], is_linked: bool) -> Vec<u8> {
        let mode = if is_linked { BlockMode::Linked } else { BlockMode::Independent };
        let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(mode);
        let frame = frame.block_checksums(is_linked).content_checksum(is_linked);
        let frame = frame.content_size(is_linked.then_some(bytes.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_compressed_comes_back_in_any_steps() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let zeros = vec![0; 3 << 20];
        for text in [&text, &zeros] {
            for step in [HEAD, 1000, 1 << 20] {
                assert!(inflated(&text[..40_000], step).unwrap() == text[..40_000]);
                let twice = [gzip(text), gzip(b"more")].concat();
                assert!(inflated(&twice, step).unwrap() == [text, &b"more"[..]].concat());
                let twice =
                    [zstd::encode_all(&text[..], 1).unwrap(), zstd::encode_all(&b"more"[..], 1).unwrap()].concat();
                assert!(inflated(&twice, step).unwrap() == [text, &b"more"[..]].concat());
                for twice in [
                    [snappy(text), snappy(b"more")].concat(),
                    [lz4(text, true), lz4(b"more", false)].concat(),
                    [lz4(text, false), lz4(b"more", true)].concat(),
                ] {
                    assert!(inflated(&twice, step).unwrap() == [text, &b"more"[..]].concat());
                }
            }
        }
        assert_eq!(inflated(b"", 4).unwrap(), b"");
        assert_eq!(inflated(b"ab", 4).unwrap(), b"ab");
        assert_eq!(inflated(&snappy(b""), 20).unwrap(), b"");
    }

    #[test]
    fn what_was_cut_short_or_damaged_is_an_error() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for whole in [gzip(&text), zstd, snappy(&text), lz4(&text, true), lz4(&text, false)] {
            assert!(inflated(&whole[..whole.len() - 1], 1000).is_err());
            assert!(inflated(&whole[..whole.len() / 2], 1000).is_err());
            let mut damaged = whole.clone();
            damaged[whole.len() / 2..].fill(0xff);
            assert!(inflated(&damaged, 1000).is_err());
        }
        for (begin, name) in UNKNOWN {
            let told = inflated(&[begin, &text[..]].concat(), 1000).unwrap_err().to_string();
            assert!(told.contains(name), "{told}");
        }
        for text in ["BZh9", "PK", "\u{4}\"", "BZh91AY&SX is a line"] {
            assert_eq!(inflated(text.as_bytes(), 1000).unwrap(), text.as_bytes());
        }
    }
}
