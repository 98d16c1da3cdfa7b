//! Transactions that were aborted, by the segment that holds their marker, as Kafka's `.txnindex` has them:
//!
//! ```text
//! (version i16 = 0 | producer id i64 | first offset i64 | offset of the marker i64 | last stable offset then i64)*
//! footer as of the other index files
//! ```
//!
//! Nothing else says which records of a segment do not count, so the file is synced before the next segment begins. One that
//! is torn or gone is made anew from the batches before its segment.

use std::ops::Range;

use aqueduct_api::Aborted;
use aqueduct_record::Offset;

const VERSION: [u8; 2] = [0, 0];
/// Bytes of an entry.
const ENTRY: usize = 34;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) aborted: Aborted,
    /// The last stable offset once it was: all others that end later begin there or behind it.
    pub(crate) stable: Offset,
}

/// The entries' bytes.
pub(crate) fn to_bytes(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY);
    for Entry { aborted: Aborted { producer_id, first, last }, stable } in entries {
        bytes.extend_from_slice(&VERSION);
        [producer_id, first, last, stable].iter().for_each(|field| bytes.extend_from_slice(&field.to_be_bytes()));
    }
    bytes
}

/// What [`to_bytes`] made; `None` where it is of another version.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY>();
    let entry = |bytes: &[u8; ENTRY]| {
        let (version, fields) = bytes.split_first_chunk::<2>()?;
        let (fields, _) = fields.as_chunks::<8>();
        let [producer_id, first, last, stable] = *fields else { return None };
        let [producer_id, first, last, stable] = [producer_id, first, last, stable].map(i64::from_be_bytes);
        (*version == VERSION).then_some(Entry { aborted: Aborted { producer_id, first, last }, stable })
    };
    if rest.is_empty() { entries.iter().map(entry).collect() } else { None }
}

/// Adds those of a segment's entries that may have records in `span` to `found`; true: none of a later segment has.
pub(crate) fn collect(entries: &[Entry], span: &Range<Offset>, found: &mut Vec<Aborted>) -> bool {
    let from = entries.partition_point(|entry| entry.aborted.last < span.start);
    for Entry { aborted, stable } in &entries[from..] {
        if aborted.first < span.end {
            found.push(*aborted);
        }
        if *stable >= span.end {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_records_in_a_span_are_found_and_it_is_told_when_they_are_all() {
        let entry = |first, last, stable| Entry { aborted: Aborted { producer_id: first, first, last }, stable };
        let entries = [entry(2, 4, 1), entry(6, 7, 1), entry(1, 9, 10), entry(11, 12, 13)];
        for (span, expected, is_all) in [
            (0..1, vec![], true),
            (0..2, vec![1], true),
            (3..5, vec![2, 1], true),
            (5..8, vec![6, 1], true),
            (8..12, vec![1, 11], true),
            (10..14, vec![11], false),
            (13..14, vec![], false),
        ] {
            let mut found = Vec::new();
            assert_eq!(collect(&entries, &span, &mut found), is_all, "{span:?}");
            let first: Vec<_> = found.iter().map(|aborted| aborted.first).collect();
            assert_eq!(first, expected, "{span:?}");
        }
    }

    #[test]
    fn entries_are_kafka_s() {
        let entry = |n: i64| Entry { aborted: Aborted { producer_id: n << 40, first: n, last: n * 3 }, stable: n * 2 };
        let entries = [entry(1), entry(0), entry(7)];
        let bytes = to_bytes(&entries);
        assert_eq!(from_bytes(&bytes).unwrap(), entries);
        let mut first = vec![0, 0];
        [1i64 << 40, 1, 3, 2].iter().for_each(|field| first.extend_from_slice(&field.to_be_bytes()));
        assert_eq!(bytes[..34], first);
        assert_eq!(from_bytes(&bytes[..40]), None);
        assert_eq!(from_bytes(&[&[0, 1], &bytes[2..]].concat()), None);
        assert_eq!(from_bytes(&[]), Some(vec![]));
    }
}
