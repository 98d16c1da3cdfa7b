//! Objects as they were before they were compressed, piece by piece.

use std::io::{self, Write as _};

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

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
}

impl Inflate {
    /// Takes the next bytes of the object, the first ones at least four where it has as many, and hands on what they
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
            _ => Inflate::Plain,
        })
    }
}

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

    #[test]
    fn what_was_compressed_comes_back_in_any_steps() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let zeros = vec![0; 3 << 20];
        for text in [&text, &zeros] {
            for step in [4, 1000, 1 << 20] {
                assert!(inflated(&text[..40_000], step).unwrap() == text[..40_000]);
                let twice = [gzip(text), gzip(b"more")].concat();
                assert!(inflated(&twice, step).unwrap() == [text, &b"more"[..]].concat());
                let twice =
                    [zstd::encode_all(&text[..], 1).unwrap(), zstd::encode_all(&b"more"[..], 1).unwrap()].concat();
                assert!(inflated(&twice, step).unwrap() == [text, &b"more"[..]].concat());
            }
        }
        assert_eq!(inflated(b"", 4).unwrap(), b"");
        assert_eq!(inflated(b"ab", 4).unwrap(), b"ab");
    }

    #[test]
    fn what_was_cut_short_or_damaged_is_an_error() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|number| number.to_le_bytes()).collect();
        for whole in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            assert!(inflated(&whole[..whole.len() - 1], 1000).is_err());
            assert!(inflated(&whole[..whole.len() / 2], 1000).is_err());
            let mut damaged = whole.clone();
            damaged[whole.len() / 2..].fill(0xff);
            assert!(inflated(&damaged, 1000).is_err());
        }
    }
}
