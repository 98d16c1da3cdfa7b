//! Which transactions hold up readers of what is committed: the open ones, and those that have ended with a marker that
//! nobody reads yet.

use std::collections::BTreeMap;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_record::Offset;

/// Transactions by their first offsets, with the offset after the marker that ended them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unstable(BTreeMap<Offset, Option<Offset>>);

impl Unstable {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that one begins, or goes on because its end has failed.
    pub(crate) fn open(&mut self, first: Offset) {
        self.0.insert(first, None);
    }

    /// Notes that one has ended with the marker before `next`.
    pub(crate) fn end(&mut self, first: Offset, next: Offset) {
        self.0.insert(first, Some(next));
    }

    /// Forgets one whose beginning has failed.
    pub(crate) fn forget(&mut self, first: Offset) {
        self.0.remove(&first);
    }

    /// Markers before `safe` can not fail any more.
    pub(crate) fn settle(&mut self, safe: Offset) {
        self.0.retain(|_, ended| ended.is_none_or(|next| next > safe));
    }

    /// The last stable offset where nothing from `high_watermark` on is read yet.
    pub(crate) fn stable(&self, high_watermark: Offset) -> Offset {
        if fault::mutated(Mutant::StablePastOpen) {
            return high_watermark;
        }
        let holds = |(_, ended): &(&Offset, &Option<Offset>)| ended.is_none_or(|next| next > high_watermark);
        self.0.iter().find(holds).map_or(high_watermark, |(first, _)| high_watermark.min(*first))
    }

    /// The first offset of those that have no marker at all.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.0.iter().find(|(_, ended)| ended.is_none()).map(|(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_stable_from_the_first_that_is_open_or_ends_unread() {
        let mut unstable = Unstable::default();
        assert_eq!(unstable.stable(9), 9);
        unstable.open(3);
        unstable.open(5);
        assert_eq!((unstable.stable(2), unstable.stable(9), unstable.first_open()), (2, 3, Some(3)));
        unstable.end(3, 10);
        assert_eq!((unstable.stable(9), unstable.stable(10), unstable.first_open()), (3, 5, Some(5)));
        unstable.open(3);
        assert_eq!((unstable.stable(10), unstable.first_open()), (3, Some(3)));
        unstable.end(3, 11);
        unstable.settle(10);
        assert_eq!(unstable.stable(10), 3, "the marker may still fail");
        unstable.settle(11);
        unstable.forget(5);
        assert!(unstable.is_empty());
    }
}
