//! Dead letters that were written before the position of their records: what a source's transforms can make nothing of is
//! buried first, and found again by its bytes when the records are read once more. It stays dead then, whatever the transforms
//! would make of it by now. A letter counts until the stream has come to as many records as it had when the letter was written:
//! what comes later is another record, whatever its bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_record::Offset;
use sha2::{Digest, Sha256};

/// Dead letters of records that are behind a stream's position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlyLetters {
    /// How much of the stream was read.
    read: u64,
    /// How much of it is read when a letter counts no more, by its offset among the dead letters.
    until: BTreeMap<Offset, u64>,
    /// The same by what tells their records, those first that are the first to count no more; none of them is empty.
    by_record: HashMap<Fingerprint, BTreeSet<(u64, Offset)>>,
}

impl EarlyLetters {
    /// Those of a stream of which so much was read that count then. The second answer is how many do not.
    pub(crate) fn among(letters: impl Iterator<Item = Letter>, read: u64) -> (EarlyLetters, usize) {
        let mut early = EarlyLetters { read, ..EarlyLetters::default() };
        for Letter { offset, read, of, .. } in letters {
            let until = if mutated(Mutant::LetterForEver) { u64::MAX } else { read };
            early.until.insert(offset, until);
            early.by_record.entry(of).or_default().insert((until, offset));
        }
        let past = early.pass(0);
        (early, past)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.until.keys().next().copied()
    }

    /// Takes the letter of a record out, if there is one that counts at this place of what is read next: the record is read
    /// again and needs no other.
    pub(crate) fn take(&mut self, of: &Fingerprint, place: usize) -> bool {
        let Some(letters) = self.by_record.get_mut(of) else { return false };
        let read = self.read + place as u64;
        let Some(letter) = letters.range((read + 1, Offset::MIN)..).next().copied() else { return false };
        letters.remove(&letter);
        if letters.is_empty() {
            self.by_record.remove(of);
        }
        self.until.remove(&letter.1).is_some()
    }

    /// So much more was read. Forgets the letters that count no more, and answers how many they are.
    pub(crate) fn pass(&mut self, more: u64) -> usize {
        self.read = self.read.saturating_add(more);
        let (before, read) = (self.until.len(), self.read);
        self.until.retain(|_, until| *until > read);
        if self.until.len() < before {
            self.by_record.retain(|_, letters| {
                letters.retain(|(until, _)| *until > read);
                !letters.is_empty()
            });
        }
        before - self.until.len()
    }

    /// Their offsets as ranges: first, and after the last.
    pub(crate) fn ranges(&self) -> Vec<(Offset, Offset)> {
        let mut ranges: Vec<(Offset, Offset)> = Vec::new();
        for offset in self.until.keys() {
            match ranges.last_mut() {
                Some((_, end)) if *end == *offset => *end += 1,
                _ => ranges.push((*offset, offset + 1)),
            }
        }
        ranges
    }
}

/// A dead letter of an unfit record.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) offset: Offset,
    /// That of the position which comes after it.
    pub(crate) sequence: u64,
    /// How much of the stream is read at that position.
    pub(crate) read: u64,
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

    /// Letters by offset, until how much is read they count, and their records, of a stream of which so much was read.
    fn letters(read: u64, all: &[(Offset, u64, &str)]) -> (EarlyLetters, usize) {
        let letter = |(offset, read, value): &(Offset, u64, &str)| Letter {
            offset: *offset,
            sequence: 1,
            read: *read,
            of: of(value),
        };
        EarlyLetters::among(all.iter().map(letter), read)
    }

    #[test]
    fn each_letter_is_taken_once_whatever_the_order() {
        let (mut early, past) = letters(0, &[(4, 9, "a"), (5, 9, "b"), (6, 9, "a"), (9, 9, "c")]);
        assert_eq!((early.ranges(), early.first(), past), (vec![(4, 7), (9, 10)], Some(4), 0));
        let taken = ["a", "c", "x", "a", "a"].map(|value| early.take(&of(value), 0));
        assert_eq!(taken, [true, true, false, true, false]);
        assert_eq!((early.ranges(), early.is_empty()), (vec![(5, 6)], false));
    }

    #[test]
    fn a_letter_counts_until_as_much_is_read_as_when_it_was_written() {
        let (mut early, past) =
            letters(10, &[(3, 10, "a"), (4, 15, "a"), (5, 13, "a"), (6, 13, "b"), (7, 15, "c"), (8, 15, "d")]);
        assert_eq!((past, early.ranges()), (1, vec![(4, 9)]));
        assert_eq!(early.pass(2), 0);
        // Of two letters that one is taken which counts less long, and none past its end.
        let taken = [(0, "a"), (1, "b"), (2, "a"), (3, "c")].map(|(place, value)| early.take(&of(value), place));
        assert_eq!(taken, [true, false, true, false]);
        assert_eq!((early.pass(1), early.ranges()), (1, vec![(7, 9)]));
        assert!(early.take(&of("c"), 1));
        assert_eq!((early.pass(2), early.is_empty(), early.take(&of("d"), 0)), (1, true, false));
    }

    #[test]
    fn null_and_empty_are_different() {
        let fingerprint = |key, value| Fingerprint::of(key, value, std::iter::empty());
        assert_ne!(fingerprint(None, Some(&b""[..])), fingerprint(Some(&b""[..]), None));
        assert_ne!(fingerprint(Some(&b"ab"[..]), Some(&b"c"[..])), fingerprint(Some(&b"a"[..]), Some(&b"bc"[..])));
    }
}
