//! Dead letters that were written before the position of their records: what a source's transforms can make nothing of is
//! buried first, and found again by its bytes when the records are read once more. It stays dead then, whatever the transforms
//! would make of it by now.

use std::collections::{BTreeSet, HashMap};

use aqueduct_record::Offset;
use sha2::{Digest, Sha256};

/// Dead letters of records that are behind a stream's position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlyLetters {
    /// Their offsets among the dead letters.
    offsets: BTreeSet<Offset>,
    /// The same by what tells their records; none of them is empty.
    by_record: HashMap<Fingerprint, BTreeSet<Offset>>,
}

impl EarlyLetters {
    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.offsets.first().copied()
    }

    /// Takes the letter of a record out, if there is one: the record is read again and needs no other.
    pub(crate) fn take(&mut self, of: &Fingerprint) -> bool {
        let Some(letters) = self.by_record.get_mut(of) else { return false };
        let first = letters.pop_first();
        if letters.is_empty() {
            self.by_record.remove(of);
        }
        first.is_some_and(|offset| self.offsets.remove(&offset))
    }

    /// Their offsets as ranges: first, and after the last.
    pub(crate) fn ranges(&self) -> Vec<(Offset, Offset)> {
        let mut ranges: Vec<(Offset, Offset)> = Vec::new();
        for offset in &self.offsets {
            match ranges.last_mut() {
                Some((_, end)) if *end == *offset => *end += 1,
                _ => ranges.push((*offset, offset + 1)),
            }
        }
        ranges
    }
}

impl FromIterator<(Offset, Fingerprint)> for EarlyLetters {
    fn from_iter<I: IntoIterator<Item = (Offset, Fingerprint)>>(letters: I) -> Self {
        let mut early = EarlyLetters::default();
        for (offset, of) in letters {
            early.offsets.insert(offset);
            early.by_record.entry(of).or_default().insert(offset);
        }
        early
    }
}

/// A dead letter of an unfit record.
pub(crate) struct Letter {
    pub(crate) offset: Offset,
    /// That of the position which comes after it.
    pub(crate) sequence: u64,
    pub(crate) of: Fingerprint,
}

/// What tells a record from others: its key, value and headers; its time may be when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(crate) fn of<'a>(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut add = |bytes: Option<&[u8]>| {
            hash.update(bytes.map_or(-1, |bytes| bytes.len() as i64).to_be_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        add(key);
        add(value);
        for (name, value) in headers {
            add(Some(name.as_bytes()));
            add(value);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        Fingerprint(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Fingerprint {
        Fingerprint::of(None, Some(value.as_bytes()), [("h", None)].into_iter())
    }

    #[test]
    fn each_letter_is_taken_once_whatever_the_order() {
        let mut early: EarlyLetters = [(4, of("a")), (5, of("b")), (6, of("a")), (9, of("c"))].into_iter().collect();
        assert_eq!((early.ranges(), early.first()), (vec![(4, 7), (9, 10)], Some(4)));
        let taken = ["a", "c", "x", "a", "a"].map(|value| early.take(&of(value)));
        assert_eq!(taken, [true, true, false, true, false]);
        assert_eq!((early.ranges(), early.is_empty()), (vec![(5, 6)], false));
    }

    #[test]
    fn null_and_empty_are_different() {
        let fingerprint = |key, value| Fingerprint::of(key, value, std::iter::empty());
        assert_ne!(fingerprint(None, Some(&b""[..])), fingerprint(Some(&b""[..]), None));
        assert_ne!(fingerprint(Some(&b"ab"[..]), Some(&b"c"[..])), fingerprint(Some(&b"a"[..]), Some(&b"bc"[..])));
    }
}
