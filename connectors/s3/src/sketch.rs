//! A summary of a set of numbers, of fixed size, from which the difference to another set can be read as long as it is
//! small: an invertible Bloom lookup table (Eppstein et al., "What's the Difference?", SIGCOMM 2011).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How many cells each number is counted in; each has a region of its own.
const REGIONS: usize = 4;
const REGION: usize = 16;
/// What a cell takes up when it is written.
const WRITTEN: usize = 14;

/// The summary: some 20 differences can be read from it, whatever the size of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sketch {
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// How many numbers are counted here, as far as it fits: differences are small.
    count: i16,
    /// Their exclusive or.
    numbers: u64,
    /// The exclusive or of their checks, which tells a cell of one number from one of several.
    checks: u32,
}

/// What one set has and the other has not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Only in the set that was asked.
    pub(crate) more: Vec<u64>,
    /// Only in the other one.
    pub(crate) less: Vec<u64>,
}

impl Sketch {
    /// The summary of no numbers.
    pub(crate) fn new() -> Sketch {
        Sketch { cells: vec![Cell::default(); REGIONS * REGION] }
    }

    /// Takes a number in that is not in the set.
    pub(crate) fn insert(&mut self, number: u64) {
        self.count(number, 1);
    }

    /// Takes a number out that is in the set.
    pub(crate) fn remove(&mut self, number: u64) {
        self.count(number, -1);
    }

    fn count(&mut self, number: u64, by: i16) {
        let check = check(number);
        for index in places(number) {
            let cell = &mut self.cells[index];
            cell.count = cell.count.wrapping_add(by);
            cell.numbers ^= number;
            cell.checks ^= check;
        }
    }

    /// How this set, of which all numbers are `known`, differs from `other`; `None` when it differs in too much.
    pub(crate) fn difference(mut self, other: &Sketch, known: &BTreeSet<u64>) -> Option<Difference> {
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            cell.count = cell.count.wrapping_sub(other.count);
            cell.numbers ^= other.numbers;
            cell.checks ^= other.checks;
        }
        let mut difference = Difference::default();
        loop {
            // More than fits can only be read from what was damaged.
            if difference.more.len() + difference.less.len() > self.cells.len() {
                return None;
            }
            if let Some(alone) = self.cells.iter().find(|cell| cell.is_alone()).copied() {
                let side = if alone.count == 1 { &mut difference.more } else { &mut difference.less };
                side.push(alone.numbers);
                self.count(alone.numbers, -alone.count);
            } else if !self.take_pair(known, &mut difference) {
                break;
            }
        }
        self.cells.iter().all(|cell| *cell == Cell::default()).then_some(difference)
    }

    /// Finds two numbers that are counted in the same cells, as one pair of 65,536 is, so that no cell holds one of them
    /// alone. Of two that only the other set has nobody asks which they are.
    fn take_pair(&mut self, known: &BTreeSet<u64>, difference: &mut Difference) -> bool {
        let pairs = self.cells[..REGION].iter().filter(|cell| cell.numbers != 0).copied().collect::<Vec<_>>();
        for cell in pairs {
            let fits = |one: u64| {
                let other = one ^ cell.numbers;
                check(one) ^ check(other) == cell.checks && places(one) == places(other)
            };
            let one = known.iter().copied().find(|one| fits(*one));
            match (cell.count, one) {
                (2, Some(one)) => difference.more.extend([one, one ^ cell.numbers]),
                (0, Some(one)) => {
                    difference.more.push(one);
                    difference.less.push(one ^ cell.numbers);
                }
                (-2, _) => {
                    let places = self.cells.chunks(REGION).map(|region| region.iter().position(|other| *other == cell));
                    let Some(places) = places.collect::<Option<Vec<_>>>() else { continue };
                    let cells = places.iter().enumerate().map(|(region, place)| region * REGION + place);
                    cells.for_each(|index| self.cells[index] = Cell::default());
                    return true;
                }
                _ => continue,
            }
            let Some(one) = one else { continue };
            self.count(one, -1);
            self.count(one ^ cell.numbers, if cell.count == 2 { -1 } else { 1 });
            return true;
        }
        false
    }

    /// The summary as text.
    pub(crate) fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(self.cells.len() * WRITTEN);
        for cell in &self.cells {
            bytes.extend(cell.count.to_be_bytes());
            bytes.extend(cell.numbers.to_be_bytes());
            bytes.extend(cell.checks.to_be_bytes());
        }
        STANDARD_NO_PAD.encode(bytes)
    }

    /// Reads a summary; `None` when it is none.
    pub(crate) fn from_text(text: &str) -> Option<Sketch> {
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (written, rest) = bytes.as_chunks::<WRITTEN>();
        let cells: Vec<Cell> = written.iter().map(Cell::read).collect();
        (rest.is_empty() && cells.len() == REGIONS * REGION).then_some(Sketch { cells })
    }
}

impl Cell {
    fn is_alone(&self) -> bool {
        self.count.abs() == 1 && self.checks == check(self.numbers)
    }

    fn read([a, b, rest @ ..]: &[u8; WRITTEN]) -> Cell {
        let [n0, n1, n2, n3, n4, n5, n6, n7, c0, c1, c2, c3] = *rest;
        Cell {
            count: i16::from_be_bytes([*a, *b]),
            numbers: u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            checks: u32::from_be_bytes([c0, c1, c2, c3]),
        }
    }
}

fn check(number: u64) -> u32 {
    (mixed(number ^ 0x5bd1_e995_9d1b_54a3) >> 32) as u32
}

fn places(number: u64) -> [usize; REGIONS] {
    std::array::from_fn(|region| {
        let mixed = mixed(number.wrapping_add((region as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        region * REGION + (mixed % REGION as u64) as usize
    })
}

/// The finalizer of SplitMix64 (Steele et al., 2014).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(numbers: &BTreeSet<u64>) -> Sketch {
        let mut sketch = Sketch::new();
        numbers.iter().for_each(|number| sketch.insert(*number));
        sketch
    }

    fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
        numbers.sort_unstable();
        numbers
    }

    proptest! {
        #[test]
        fn small_differences_of_large_sets_are_read(
            common in proptest::collection::btree_set(any::<u64>(), 0..3000),
            more in proptest::collection::btree_set(any::<u64>(), 0..12),
            less in proptest::collection::btree_set(any::<u64>(), 0..12),
        ) {
            let one: BTreeSet<u64> = common.union(&more).copied().collect();
            let other: BTreeSet<u64> = common.union(&less).copied().collect();
            let written = Sketch::from_text(&sketch(&other).to_text()).unwrap();
            // Three numbers of the same cells can not be told apart: rare, and never told wrong.
            if let Some(difference) = sketch(&one).difference(&written, &one) {
                prop_assert_eq!(sorted(difference.more), one.difference(&other).copied().collect::<Vec<_>>());
                let less: BTreeSet<_> = other.difference(&one).copied().collect();
                prop_assert!(difference.less.iter().all(|number| less.contains(number)));
            }
        }
    }

    #[test]
    fn most_small_differences_are_read_and_large_ones_are_refused() {
        let numbers = |count: u64, seed: u64| (0..count).map(|number| mixed(number + seed)).collect::<BTreeSet<u64>>();
        let read = (0..500).filter(|seed| {
            let (more, less) = (numbers(12, seed * 1000), numbers(8, seed * 1000 + 500));
            sketch(&more).difference(&sketch(&less), &more).is_some()
        });
        assert!(read.count() >= 498);
        let many = numbers(1000, 1);
        assert_eq!(sketch(&many).difference(&Sketch::new(), &many), None);
    }

    #[test]
    fn two_numbers_of_the_same_cells_are_told_apart() {
        let one = 7;
        let other = (8..).find(|number| places(*number) == places(one)).unwrap();
        let set = |numbers: &[u64]| numbers.iter().copied().chain(1000..1500).collect::<BTreeSet<_>>();
        for (here, there, more) in [
            (&[one, other][..], &[][..], &[one, other][..]),
            (&[other], &[one], &[other]),
            (&[one, 100], &[other], &[one, 100]),
            (&[], &[one, other], &[]),
            (&[100], &[one, other, 101], &[100]),
        ] {
            let (here, there) = (set(here), set(there));
            let difference = sketch(&here).difference(&sketch(&there), &here).unwrap();
            assert_eq!(sorted(difference.more), more, "{here:?} {there:?}");
        }
    }

    #[test]
    fn what_was_taken_out_is_not_seen() {
        let mut one = Sketch::new();
        one.insert(7);
        one.insert(8);
        one.remove(7);
        let difference = one.difference(&Sketch::new(), &BTreeSet::from([8])).unwrap();
        assert_eq!(difference, Difference { more: vec![8], less: vec![] });
    }

    #[test]
    fn the_written_form_stays() {
        let mut sketch = Sketch::new();
        sketch.insert(1);
        let text = sketch.to_text();
        assert_eq!(text.len(), 1195);
        assert_eq!(Sketch::from_text(&text), Some(sketch));
        assert_eq!(Sketch::from_text("AAAA"), None);
        assert_eq!(Sketch::from_text("?"), None);
    }
}
