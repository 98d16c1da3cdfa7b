//! Records that go in one request, and how it is divided where that is too large.

use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::TopicId;
use aqueduct_record::Offset;
use bytes::Bytes;

use crate::sink::target::Target;

/// A dead letter: its topic and its offset there.
pub(crate) type Letter = (TopicId, Offset);

/// Records that go in one request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: Arc<Target>,
    /// The records' bytes, one after the other.
    pub(crate) bytes: Bytes,
    /// Each record's offset, and where it ends in `bytes`. Those made of one record have its offset, and are together.
    pub(crate) records: Vec<(Offset, usize)>,
    /// Where the first one begins in `bytes`.
    pub(crate) begin: usize,
    /// The first record's time.
    pub(crate) timestamp: i64,
    /// The dead letter that is replayed by it.
    pub(crate) letter: Option<Letter>,
    /// Which of those that were made of one record it holds, where it does not hold all of them.
    pub(crate) part: Option<Range<usize>>,
}

/// How much of a request is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    All,
    Some,
    Nothing,
}

impl Request {
    /// From the first record's offset to the one after the last.
    pub(crate) fn range(&self) -> Range<Offset> {
        let first = self.records.first().map_or(0, |(offset, _)| *offset);
        first..self.records.last().map_or(first, |(offset, _)| offset + 1)
    }

    /// Each record's bytes.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = self.begin;
        self.records.iter().map(move |(_, end)| {
            let from = std::mem::replace(&mut begin, *end);
            &self.bytes[from..*end]
        })
    }

    /// How much of it lies in the ranges of offsets that are to be written.
    pub(crate) fn left(&self, ranges: &[Range<Offset>]) -> Left {
        let is_left = |offset: Offset| ranges.iter().any(|range| range.contains(&offset));
        match self.records.iter().filter(|(offset, _)| is_left(*offset)).count() {
            0 => Left::Nothing,
            all if all == self.records.len() => Left::All,
            _ => Left::Some,
        }
    }

    /// The same records in two requests, divided in the middle or as near to it as keeps together what was made of one
    /// record, always in the same place; `None` for a single one.
    pub(crate) fn halves(&self) -> Option<(Request, Request)> {
        if self.records.len() < 2 {
            return None;
        }
        let middle = self.records.len().div_ceil(2);
        let between = (1..self.records.len()).filter(|at| self.records[at - 1].0 != self.records[*at].0);
        let (at, is_one) = match between.min_by_key(|at| (at.abs_diff(middle), *at)) {
            Some(at) => (at, false),
            None => (middle, true),
        };
        let first = self.part.as_ref().map_or(0, |part| part.start);
        let half = |places: Range<usize>| Request {
            begin: if places.start == 0 { self.begin } else { self.records[places.start - 1].1 },
            part: is_one.then(|| first + places.start..first + places.end),
            records: self.records[places].to_vec(),
            ..self.clone()
        };
        Some((half(0..at), half(at..self.records.len())))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;
    use reqwest::header::HeaderMap;

    use super::*;

    /// A request of records at these offsets.
    fn request(offsets: &[Offset]) -> Request {
        let target = Target { url: Url::parse("http://h/").unwrap(), headers: HeaderMap::new() };
        Request {
            target: Arc::new(target),
            bytes: Bytes::from(vec![b'x'; offsets.len()]),
            records: offsets.iter().enumerate().map(|(place, offset)| (*offset, place + 1)).collect(),
            begin: 0,
            timestamp: 0,
            letter: None,
            part: None,
        }
    }

    #[test]
    fn halves_keep_together_what_was_made_of_one_record() {
        for (offsets, expected) in [
            (&[1, 2, 3, 4, 5][..], "1..4 4..6"),
            (&[1, 2], "1..2 2..3"),
            (&[1, 1, 1, 2], "1..2 2..3"),
            (&[1, 2, 2, 2, 2, 2], "1..2 2..3"),
            (&[3, 3, 3], "3..4 0..2, 3..4 2..3"),
        ] {
            let (first, second) = request(offsets).halves().unwrap();
            let told = |half: &Request| match &half.part {
                Some(part) => format!("{:?} {part:?}", half.range()),
                None => format!("{:?}", half.range()),
            };
            let between = if first.part.is_some() { ", " } else { " " };
            assert_eq!(format!("{}{between}{}", told(&first), told(&second)), expected, "{offsets:?}");
            assert_eq!(first.each().count() + second.each().count(), offsets.len());
        }
        assert!(request(&[1]).halves().is_none());
    }

    #[test]
    fn halves_of_halves_are_single_records() {
        let (mut parts, mut single) = (vec![request(&[7, 8, 9, 9, 10])], Vec::new());
        while let Some(part) = parts.pop() {
            match part.halves() {
                Some((first, second)) => parts.extend([second, first]),
                None => single.push((part.range().start, part.part.clone(), part.begin)),
            }
        }
        assert_eq!(single, [(7, None, 0), (8, None, 1), (9, Some(0..1), 2), (9, Some(1..2), 3), (10, None, 4)]);
    }

    #[test]
    fn how_much_is_left_is_told_by_offsets() {
        let request = request(&[5, 6, 6, 9]);
        for (ranges, expected) in [
            (&[0..6, 6..10][..], Left::All),
            (&[5..7, 9..10], Left::All),
            (&[6..7, 7..8], Left::Some),
            (&[7..9, 10..20], Left::Nothing),
            (&[], Left::Nothing),
        ] {
            assert_eq!(request.left(ranges), expected, "{ranges:?}");
        }
    }
}
