//! Walks a request by its shape before anything is decoded from it: no length and no count is believed that the bytes which
//! came do not bear out.

use crate::call::Broken;
use crate::shapes::{Field, Kind, Shape};

/// Elements of arrays in one request: each costs more memory decoded than on the wire.
const MOST_ELEMENTS: usize = 1 << 17;

/// Checks that a body is one that its shape describes, and returns what follows it: nothing, from most clients.
pub(crate) fn check<'a>(shape: &Shape, version: i16, body: &'a [u8]) -> Result<&'a [u8], Broken> {
    let mut walk = Walk { rest: body, version, is_flexible: version >= shape.flexible, elements: 0 };
    walk.structure(shape.fields)?;
    Ok(walk.rest)
}

/// Takes from the front of `rest` what is there, and refuses what is not.
pub(crate) struct Walk<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) version: i16,
    pub(crate) is_flexible: bool,
    pub(crate) elements: usize,
}

impl<'a> Walk<'a> {
    /// A structure with its tagged fields.
    pub(crate) fn structure(&mut self, fields: &[Field]) -> Result<(), Broken> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(field.kind)?;
        }
        if self.is_flexible { self.tagged(fields) } else { Ok(()) }
    }

    /// So many bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Broken> {
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(Broken(format!("{bytes} bytes are said to follow, there are {}", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// A number of 16 bits.
    pub(crate) fn short(&mut self) -> Result<i16, Broken> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A number of 32 bits.
    pub(crate) fn int(&mut self) -> Result<i32, Broken> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A text whose length is 16 bits in every version; `None` where there is none.
    pub(crate) fn short_text(&mut self) -> Result<Option<&'a [u8]>, Broken> {
        let length = self.short()?;
        length_of(i64::from(length))?.map(|length| self.take(length)).transpose()
    }

    fn value(&mut self, kind: Kind) -> Result<(), Broken> {
        match kind {
            Kind::Fixed(bytes) => self.take(bytes).map(drop),
            Kind::Text => self.text(),
            Kind::Blob => {
                let length = self.length()?;
                self.take(length.unwrap_or(0)).map(drop)
            }
            Kind::Numbers(bytes) => {
                let count = self.count()?;
                self.take(count.saturating_mul(bytes)).map(drop)
            }
            Kind::Texts => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.text())
            }
            Kind::Many(fields) => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.structure(fields))
            }
            Kind::One(fields) => self.structure(fields),
            Kind::Maybe(fields) => match self.take(1)? {
                [0xff] => Ok(()),
                _ => self.structure(fields),
            },
        }
    }

    fn text(&mut self) -> Result<(), Broken> {
        if !self.is_flexible {
            return self.short_text().map(drop);
        }
        let length = self.length()?;
        self.take(length.unwrap_or(0)).map(drop)
    }

    /// Of bytes and arrays, and of texts where lengths are variable; `None` where there is nothing to have a length.
    fn length(&mut self) -> Result<Option<usize>, Broken> {
        let length = if self.is_flexible { i64::from(self.varint()?) - 1 } else { i64::from(self.int()?) };
        length_of(length)
    }

    /// Of an array: no element takes less than a byte.
    fn count(&mut self) -> Result<usize, Broken> {
        let count = self.length()?.unwrap_or(0);
        self.elements += count;
        if count > self.rest.len() || self.elements > MOST_ELEMENTS {
            return Err(Broken(format!("{count} elements are said to follow in {} bytes", self.rest.len())));
        }
        Ok(count)
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), Broken> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()?;
            let content = self.take(size as usize)?;
            let version = self.version;
            let Some(field) = fields.iter().find(|field| field.tag == Some(tag) && field.is_in(version)) else {
                self.elements += 1;
                continue;
            };
            let mut inside = Walk { rest: content, ..*self };
            inside.value(field.kind)?;
            if !inside.rest.is_empty() {
                return Err(Broken(format!("tagged field {tag} has {} bytes too many", inside.rest.len())));
            }
            self.elements = inside.elements;
        }
        if self.elements > MOST_ELEMENTS {
            return Err(Broken("too many tagged fields".to_owned()));
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, Broken> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Broken("a length of more than 32 bits".to_owned()));
            }
        }
        Err(Broken("a length that does not end".to_owned()))
    }
}

fn length_of(length: i64) -> Result<Option<usize>, Broken> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Broken(format!("a length of {length}"))),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;
    use crate::shapes::shape_of;

    fn checked(key: ApiKey, version: i16, body: &[u8]) -> Result<(), Broken> {
        check(shape_of(key).unwrap(), version, body).map(drop)
    }

    #[test]
    fn a_count_beyond_what_came_is_refused() {
        let cases: &[(&str, ApiKey, i16, &[u8])] = &[
            ("4 294 967 294 topics in a body of 5 bytes", ApiKey::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x07]),
            ("a length of more than 32 bits", ApiKey::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]),
            ("a length that does not end", ApiKey::Metadata, 9, &[0xff; 32]),
            ("2^31 - 1 topics", ApiKey::Metadata, 1, &[0x7f, 0xff, 0xff, 0xff]),
            ("-2 topics", ApiKey::Metadata, 1, &[0xff, 0xff, 0xff, 0xfe]),
            ("a name longer than the rest", ApiKey::Metadata, 1, &[0, 0, 0, 1, 0x7f, 0xff, b'a']),
            ("a name of -2 bytes", ApiKey::Metadata, 1, &[0, 0, 0, 1, 0xff, 0xfe]),
            ("tags beyond the rest", ApiKey::Metadata, 9, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            ("a tag longer than the rest", ApiKey::Metadata, 9, &[1, 0, 0, 0, 1, 9, 0x7f]),
            ("nothing", ApiKey::Metadata, 9, &[]),
        ];
        for (what, key, version, body) in cases {
            assert!(checked(*key, *version, body).is_err(), "{what}");
        }
    }

    #[test]
    fn absent_texts_and_arrays_and_unknown_tags_are_let_through() {
        let cases: &[(&str, ApiKey, i16, &[u8])] = &[
            ("all topics", ApiKey::Metadata, 1, &[0xff, 0xff, 0xff, 0xff]),
            ("all topics, flexible", ApiKey::Metadata, 9, &[0, 1, 1, 1, 0]),
            ("an unknown tag", ApiKey::Metadata, 9, &[0, 1, 1, 1, 1, 77, 3, 1, 2, 3]),
            ("no transaction", ApiKey::Produce, 3, &[0xff, 0xff, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]),
        ];
        for (what, key, version, body) in cases {
            assert_eq!(checked(*key, *version, body), Ok(()), "{what}");
        }
    }
}
