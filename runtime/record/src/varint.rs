//! Zigzag variable-length integers, as records are made of them, and a reader that never runs past its bytes.

/// The most bytes that a 64-bit varint takes.
pub(crate) const MAX: usize = 10;

/// Bytes that `value` takes.
#[inline]
pub(crate) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` at `at` and returns the place after it; `out` has [`MAX`] bytes there.
#[inline]
pub(crate) fn put(out: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// Appends `value`.
#[inline]
pub(crate) fn push(out: &mut Vec<u8>, value: i64) {
    let mut bytes = [0; MAX];
    let end = put(&mut bytes, 0, value);
    out.extend_from_slice(&bytes[..end]);
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
            _ => self.long(MAX),
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
            _ => i32::try_from(self.long(5)?).ok(),
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

    fn long(&mut self, most: usize) -> Option<i64> {
        let mut value = 0u64;
        for (n, &byte) in self.0.iter().take(most).enumerate() {
            // Of the tenth byte only one bit fits into 64.
            if n == MAX - 1 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                self.0 = &self.0[n + 1..];
                return Some(unzigzag(value));
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
