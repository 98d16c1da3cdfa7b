//! The headers of a record.

use crate::varint::Reader;

/// A record's headers in their order, names possibly repeated; they were checked when the record was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
    hidden: Option<&'static str>,
}

impl<'a> Headers<'a> {
    /// Checks that `reader` holds a count and that many headers, and nothing else.
    pub(crate) fn parse(mut reader: Reader<'a>) -> Result<Self, &'static str> {
        let count = reader.varint().ok_or("no header count")?;
        let bytes = reader.0;
        // Each header takes two bytes at least, so a count that lies cannot make the loop long.
        let count = u32::try_from(count).map_err(|_| "a negative header count")?;
        if count as usize > bytes.len() / 2 {
            return Err("more headers than bytes");
        }
        for _ in 0..count {
            let name = reader.nullable().ok_or("a header name past the end")?.ok_or("a header without a name")?;
            std::str::from_utf8(name).map_err(|_| "a header name that is not UTF-8")?;
            reader.nullable().ok_or("a header value past the end")?;
        }
        if !reader.0.is_empty() {
            return Err("bytes after the last header");
        }
        Ok(Headers { count, bytes, hidden: None })
    }

    /// How many there are.
    pub fn len(self) -> usize {
        match self.hidden {
            None => self.count as usize,
            Some(_) => self.iter().count(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Names and values in their order; a value can be null.
    pub fn iter(self) -> HeaderIter<'a> {
        HeaderIter { left: self.count, reader: Reader(self.bytes), hidden: self.hidden }
    }

    /// The value of the last header of that name: `Some(None)` where it is null.
    pub fn get(self, name: &str) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|(known, _)| *known == name).last().map(|(_, value)| value)
    }

    /// The same headers but those of one name; hiding another name shows the first one again.
    pub fn without(self, name: &'static str) -> Headers<'a> {
        Headers { hidden: Some(name), ..self }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Walks a record's headers.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    left: u32,
    reader: Reader<'a>,
    hidden: Option<&'static str>,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            self.left -= 1;
            let name = self.reader.nullable().flatten().expect("headers are checked when the record is read");
            let name = std::str::from_utf8(name).expect("headers are checked when the record is read");
            let value = self.reader.nullable().expect("headers are checked when the record is read");
            if self.hidden != Some(name) {
                return Some((name, value));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::{Batch, BatchBuilder};

    fn batch(headers: &[(&str, Option<&[u8]>)]) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, None, headers);
        builder.finish()
    }

    #[test]
    fn the_last_header_of_a_name_is_the_one_that_counts() {
        let batch = batch(&[("a", Some(b"1")), ("b", None), ("a", Some(b"2")), ("", Some(b""))]);
        let records = batch.records().unwrap();
        let headers = records.iter().next().unwrap().unwrap().headers;
        assert_eq!(headers.get("a"), Some(Some(&b"2"[..])));
        assert_eq!(headers.get("b"), Some(None));
        assert_eq!(headers.get(""), Some(Some(&b""[..])));
        assert_eq!(headers.get("c"), None);
        assert_eq!((headers.len(), headers.is_empty()), (4, false));
    }

    #[test]
    fn a_hidden_name_is_neither_counted_nor_seen() {
        let batch = batch(&[("p", Some(b"1")), ("a", Some(b"2")), ("p", None)]);
        let records = batch.records().unwrap();
        let headers = records.iter().next().unwrap().unwrap().headers;
        let without = headers.without("p");
        assert!(without.iter().eq([("a", Some(&b"2"[..]))]));
        assert_eq!((without.len(), without.get("p")), (1, None));
        assert_eq!(headers.without("x").len(), 3);
        let nothing = headers.without("a").iter().filter(|(name, _)| *name == "a").count();
        assert_eq!(nothing, 0);
    }

    #[test]
    fn only_hidden_headers_are_as_good_as_none() {
        let batch = batch(&[("p", Some(b"1"))]);
        let records = batch.records().unwrap();
        let headers = records.iter().next().unwrap().unwrap().headers.without("p");
        assert!(headers.is_empty() && headers.into_iter().next().is_none());
    }
}
