//! Fields as Kafka writes them in its messages and in what it keeps in its internal topics, taken off the front of bytes.

use crate::varint::Reader;

/// What is left to read of some bytes; every method returns `None` where they end early or make no sense.
///
/// Numbers are big endian. Texts and bytes stand behind their length: 16 and 32 bits wide, of which -1 says that there are none,
/// or, where they are compact, one more as an unsigned varint, of which 0 does.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Fields(Reader(bytes))
    }

    /// What has not been taken.
    pub fn rest(&self) -> &'a [u8] {
        self.0.0
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        self.0.take(count)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A number of 8 bits.
    pub fn i8(&mut self) -> Option<i8> {
        self.chunk().map(i8::from_be_bytes)
    }

    /// A number of 16 bits.
    pub fn i16(&mut self) -> Option<i16> {
        self.chunk().map(i16::from_be_bytes)
    }

    /// A number of 32 bits.
    pub fn i32(&mut self) -> Option<i32> {
        self.chunk().map(i32::from_be_bytes)
    }

    /// A number of 64 bits.
    pub fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_be_bytes)
    }

    /// An id of 128 bits.
    pub fn id(&mut self) -> Option<u128> {
        self.chunk().map(u128::from_be_bytes)
    }

    /// A number of up to 32 bits, seven a byte, without a sign.
    pub fn varint(&mut self) -> Option<u32> {
        u32::try_from(self.0.unsigned(5)?).ok()
    }

    /// A text that is there.
    pub fn text(&mut self) -> Option<&'a str> {
        self.optional_text()?
    }

    /// A text, if it is there.
    pub fn optional_text(&mut self) -> Option<Option<&'a str>> {
        let length = usize::try_from(self.i16()?).ok();
        self.text_of(length)
    }

    /// A compact text that is there.
    pub fn compact_text(&mut self) -> Option<&'a str> {
        self.optional_compact_text()?
    }

    /// A compact text, if it is there.
    pub fn optional_compact_text(&mut self) -> Option<Option<&'a str>> {
        let length = self.compact_length()?;
        self.text_of(length)
    }

    fn text_of(&mut self, length: Option<usize>) -> Option<Option<&'a str>> {
        match length {
            Some(length) => std::str::from_utf8(self.take(length)?).ok().map(Some),
            None => Some(None),
        }
    }

    /// Bytes that are there.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.i32()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// The length of what is compact, or the count of a compact array, if it is there.
    pub fn compact_length(&mut self) -> Option<Option<usize>> {
        self.varint().map(|length| (length as usize).checked_sub(1))
    }

    /// The tagged fields behind a structure, of which nothing is wanted.
    pub fn skip_tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            let (_, length) = (self.varint()?, self.varint()?);
            self.take(length as usize)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_takes_its_bytes() {
        let bytes = b"\xff\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x04\xac\x02\0\x01a\xff\xff\x02b\0\x01\0\0\0\x02cd\x04\
                      \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x02\x01\x01x\x07\0rest";
        let mut fields = Fields::new(bytes);
        assert_eq!((fields.i8(), fields.i16(), fields.i32(), fields.i64()), (Some(-1), Some(2), Some(3), Some(4)));
        assert_eq!(fields.varint(), Some(300));
        assert_eq!((fields.text(), fields.optional_text()), (Some("a"), Some(None)));
        assert_eq!((fields.compact_text(), fields.optional_compact_text()), (Some("b"), Some(None)));
        assert_eq!(fields.compact_text(), Some(""));
        assert_eq!((fields.bytes(), fields.compact_length()), (Some(&b"cd"[..]), Some(Some(3))));
        assert_eq!((fields.id(), fields.skip_tags()), (Some(5), Some(())));
        assert_eq!(fields.rest(), b"rest");
    }

    #[test]
    fn what_ends_early_or_lies_is_none() {
        let lies: &[(&str, &[u8])] = &[
            ("nothing", b""),
            ("text beyond the end", b"\0\x02a"),
            ("text that is none of UTF-8", b"\0\x01\xff"),
            ("no text where there has to be one", b"\xff\xff"),
        ];
        for (what, bytes) in lies {
            assert_eq!(Fields::new(bytes).text(), None, "{what}");
        }
        assert_eq!(Fields::new(b"\x03a").compact_text(), None);
        assert_eq!(Fields::new(b"\0").compact_text(), None);
        assert_eq!(Fields::new(b"\xff\xff\xff\xff").bytes(), None);
        assert_eq!(Fields::new(b"\x7f\xff\xff\xffa").bytes(), None);
        assert_eq!(Fields::new(b"\xff\xff\xff\xff\x1f").varint(), None, "more than 32 bits");
        assert_eq!(Fields::new(&[0x80; 6]).varint(), None, "one that does not end");
        assert_eq!(Fields::new(b"\x01\0\x05ab").skip_tags(), None);
    }
}
