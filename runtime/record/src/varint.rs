//! Zigzag variable-length integers, as records are made of them, and a reader that never runs past its bytes.

/// The most bytes that a 64-bit varint takes.
pub(crate) const MAX: usize = 10;

/// Bytes that `value` takes.
#[inline]
pub(crate) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// A short run of varints on its way to a buffer.
///
/// Appending a whole run of fixed size and cutting it to length is a few moves; appending each varint would be a call each.
pub(crate) struct Run {
    bytes: [u8; Run::ROOM],
    end: usize,
}

impl Run {
    /// Six varints of the longest kind fit.
    const ROOM: usize = 64;

    #[inline]
    pub(crate) fn new() -> Self {
        Run { bytes: [0; Run::ROOM], end: 0 }
    }

    #[inline]
    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes[self.end] = byte;
        self.end += 1;
    }

    #[inline]
    pub(crate) fn varint(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    #[inline]
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        out.truncate(at + self.end);
    }
}

/// Appends a number of 64 bits in zigzag, seven bits a byte, the lowest first: Kafka's `varlong`, Avro's `long`.
#[inline]
pub fn push(out: &mut Vec<u8>, value: i64) {
    match zigzag(value) {
        small @ 0..0x80 => out.push(small as u8),
        _ => {
            let mut run = Run::new();
            run.varint(value);
            out.extend_from_slice(&run.bytes[..run.end]);
        }
    }
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What is left to read of some bytes; every method returns `None` where they end early or make no sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A varint of up to 64 bits.
    #[inline]
    pub(crate) fn varlong(&mut self) -> Option<i64> {
        match self.0 {
            [first @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Some(unzigzag(u64::from(*first)))
            }
            _ => self.unsigned(MAX).map(unzigzag),
        }
    }

    /// A varint of up to 32 bits.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<i32> {
        match self.0 {
            [first @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Some(unzigzag(u64::from(*first)) as i32)
            }
            _ => i32::try_from(unzigzag(self.unsigned(5)?)).ok(),
        }
    }

    /// Bytes behind their length; a length of -1 is null.
    #[inline]
    pub(crate) fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?)),
        }
    }

    /// A number of up to so many bytes that is not in zigzag.
    pub(crate) fn unsigned(&mut self, most: usize) -> Option<u64> {
        let mut value = 0u64;
        for (n, &byte) in self.0.iter().take(most).enumerate() {
            // Of the tenth byte only one bit fits into 64.
            if n == MAX - 1 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                self.0 = &self.0[n + 1..];
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: i64, bytes: &[u8]) {
        let mut written = vec![];
        push(&mut written, value);
        assert_eq!(written, bytes, "{value}");
        assert_eq!(size(value), bytes.len(), "{value}");
        let mut reader = Reader(bytes);
        assert_eq!(reader.varlong(), Some(value));
        assert!(reader.0.is_empty());
        assert_eq!(Reader(bytes).varint(), i32::try_from(value).ok(), "{value}");
    }

    #[test]
    fn varints_are_as_protocol_buffers_write_them() {
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(63, &[126]);
        check(-64, &[127]);
        check(64, &[0x80, 1]);
        check(300, &[0xd8, 4]);
        check(i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0xf]);
        check(i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0xf]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn varints_that_end_early_or_never_are_none() {
        for bytes in [&[][..], &[0x80], &[0xff; 4], &[0xff; 11], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
            assert_eq!(Reader(bytes).varint(), None, "{bytes:?}");
        }
        assert_eq!(Reader(&[0xff; 10]).varlong(), None);
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varlong(), None);
    }

    #[test]
    fn lengths_below_minus_one_or_past_the_end_are_none() {
        assert_eq!(Reader(&[1]).nullable(), Some(None));
        assert_eq!(Reader(&[0]).nullable(), Some(Some(&[][..])));
        assert_eq!(Reader(&[4, 7, 8]).nullable(), Some(Some(&[7, 8][..])));
        assert_eq!(Reader(&[4, 7]).nullable(), None);
        assert_eq!(Reader(&[3, 7, 8]).nullable(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64) {
            let mut written = vec![];
            push(&mut written, value);
            prop_assert_eq!(written.len(), size(value));
            prop_assert_eq!(Reader(&written).varlong(), Some(value));
            prop_assert_eq!(Reader(&written[..written.len() - 1]).varlong(), None);
        }
    }
}
