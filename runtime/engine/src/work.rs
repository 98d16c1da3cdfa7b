//! A pinned chunk while it is written: what is left of it, and the search for the record that a sink refuses.

use std::collections::BTreeMap;
use std::ops::Range;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_record::Offset;

use crate::dead_letters::Stage;

/// The pinned chunk that is being written.
pub(crate) struct Work {
    pub(crate) range: Range<Offset>,
    /// 0 where it was pinned by an earlier run.
    pub(crate) bytes: u64,
    /// What is still to be written, in parts that are offered one by one, the last first: one, unless it was refused.
    parts: Vec<Vec<Range<Offset>>>,
    /// Whether it is offered without others: a call that it was part of was refused.
    pub(crate) alone: bool,
    /// Whether it may have been written before.
    pub(crate) redelivered: bool,
    /// Records of it that are dead letters already, and where they failed; `None`: to be looked up.
    pub(crate) dead: Option<BTreeMap<Offset, Stage>>,
    /// Dead letters and lost records, for the counters.
    pub(crate) not_delivered: u64,
    pub(crate) last_epoch: Option<i32>,
}

/// What came of offering a part.
pub(crate) struct Taken {
    /// Offsets that were offered.
    pub(crate) offered: u64,
    /// Those of them that are to be offered again.
    pub(crate) left: u64,
}

impl Work {
    /// A chunk that may have been written before.
    pub(crate) fn new(range: Range<Offset>) -> Work {
        Work {
            parts: vec![vec![range.clone()]],
            range,
            bytes: 0,
            alone: false,
            redelivered: true,
            dead: None,
            not_delivered: 0,
            last_epoch: None,
        }
    }

    /// A chunk that nobody has written yet.
    pub(crate) fn first(range: Range<Offset>, bytes: u64) -> Work {
        Work { bytes, redelivered: false, dead: Some(BTreeMap::new()), ..Work::new(range) }
    }

    /// What is to be offered next; `None`: all is written.
    pub(crate) fn offer(&self) -> Option<&[Range<Offset>]> {
        self.parts.last().map(Vec::as_slice)
    }

    /// What was offered is written but for `unfinished`.
    pub(crate) fn taken(&mut self, unfinished: &[Range<Offset>]) -> Taken {
        let offer = self.parts.pop().unwrap_or_default();
        let left = common(&offer, unfinished);
        let taken = Taken { offered: count(&offer), left: count(&left) };
        match left.is_empty() {
            true => {}
            false if mutated(Mutant::WholeAgain) => self.parts.push(offer),
            false => self.parts.push(left),
        }
        taken
    }

    /// What was offered was refused as a whole, alone or with other chunks. Answers with the record, once it is found.
    pub(crate) fn refused(&mut self, was_alone: bool) -> Option<Offset> {
        if !was_alone {
            self.alone = true;
            return None;
        }
        let offer = self.parts.pop().unwrap_or_default();
        let offsets = count(&offer);
        if offsets <= 1 {
            let found = offer.first().map(|range| range.start);
            self.parts.push(offer);
            return found;
        }
        let (first, second) = split(&offer, offsets / 2);
        self.parts.extend([second, first]);
        None
    }
}

/// How many offsets there are in ranges.
pub(crate) fn count(ranges: &[Range<Offset>]) -> u64 {
    ranges.iter().map(|range| (range.end - range.start).max(0) as u64).sum()
}

/// What two lists of ranges have in common, ascending and without overlaps; those of the first have none.
fn common(first: &[Range<Offset>], second: &[Range<Offset>]) -> Vec<Range<Offset>> {
    let mut second = second.to_vec();
    second.sort_by_key(|range| range.start);
    let mut found: Vec<Range<Offset>> = Vec::new();
    for one in first {
        for other in &second {
            let from = found.last().map_or(one.start, |last| last.end.max(one.start));
            let both = other.start.max(from)..other.end.min(one.end);
            if !both.is_empty() {
                found.push(both);
            }
        }
    }
    found
}

/// The first `offsets` offsets of ranges, and the others.
fn split(ranges: &[Range<Offset>], offsets: u64) -> (Vec<Range<Offset>>, Vec<Range<Offset>>) {
    let (mut first, mut second, mut missing) = (Vec::new(), Vec::new(), offsets as Offset);
    for range in ranges {
        let middle = range.end.min(range.start + missing);
        missing -= middle - range.start;
        first.extend(Some(range.start..middle).filter(|part| !part.is_empty()));
        second.extend(Some(middle..range.end).filter(|part| !part.is_empty()));
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn only_what_is_unfinished_is_offered_again() {
        let mut work = Work::new(10..20);
        let taken = work.taken(&[17..30, 12..14, 13..15, 0..5]);
        assert_eq!((taken.offered, taken.left), (10, 6));
        assert_eq!(work.offer().unwrap(), [12..14, 14..15, 17..20]);
        // What was written is not to be written again, whatever the sink says.
        work.taken(std::slice::from_ref(&(10..13)));
        assert_eq!(work.offer().unwrap(), std::slice::from_ref(&(12..13)));
        work.taken(&[]);
        assert_eq!(work.offer(), None);
    }

    /// Offers parts to a sink that takes all but `bad`, until all is written.
    fn search(range: Range<Offset>, bad: &[Offset]) -> (Vec<Offset>, usize, BTreeSet<Offset>) {
        let (mut work, mut found, mut offers, mut written) = (Work::new(range), Vec::new(), 0, BTreeSet::new());
        while let Some(offer) = work.offer() {
            offers += 1;
            let offer: Vec<Offset> = offer.iter().cloned().flatten().collect();
            if !offer.iter().any(|offset| bad.contains(offset)) {
                written.extend(offer);
                work.taken(&[]);
            } else if let Some(offset) = work.refused(true) {
                found.push(offset);
                work.taken(&[]);
            }
        }
        (found, offers, written)
    }

    #[test]
    fn halving_finds_exactly_the_refused_records() {
        for bad in [vec![], vec![0], vec![63], vec![31, 32], vec![5, 6, 7, 40], (0..64).collect()] {
            let (found, offers, written) = search(0..64, &bad);
            assert_eq!(found, bad);
            assert_eq!(written, (0..64).filter(|offset| !bad.contains(offset)).collect());
            assert!(offers <= 1 + 2 * 6 * bad.len(), "{offers} offers for {bad:?}");
        }
    }

    #[test]
    fn a_chunk_that_was_refused_in_company_is_offered_alone_before_it_is_halved() {
        let mut work = Work::first(0..4, 100);
        assert_eq!(work.refused(false), None);
        assert_eq!((work.alone, work.offer().unwrap()), (true, std::slice::from_ref(&(0..4))));
        assert_eq!(work.refused(true), None);
        assert_eq!(work.offer().unwrap(), std::slice::from_ref(&(0..2)));
        // What is unfinished of a half is offered again before the other half.
        work.taken(std::slice::from_ref(&(1..2)));
        assert_eq!(work.offer().unwrap(), std::slice::from_ref(&(1..2)));
        work.taken(&[]);
        assert_eq!(work.offer().unwrap(), std::slice::from_ref(&(2..4)));
    }
}
