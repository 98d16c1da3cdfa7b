//! What was used last and can be had again: open files and loaded indexes, at most so many of them.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Values by id, of which the least recently used are dropped first.
pub(crate) struct Recent<V> {
    capacity: usize,
    kept: Mutex<Kept<V>>,
}

struct Kept<V> {
    values: BTreeMap<u64, (u64, V)>,
    /// Ids by when they were used.
    uses: BTreeMap<u64, u64>,
    clock: u64,
}

impl<V: Clone> Recent<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let kept = Kept { values: BTreeMap::new(), uses: BTreeMap::new(), clock: 0 };
        Recent { capacity, kept: Mutex::new(kept) }
    }

    pub(crate) fn get(&self, id: u64) -> Option<V> {
        let mut kept = self.kept.lock();
        let Kept { values, uses, clock } = &mut *kept;
        let (used, value) = values.get_mut(&id)?;
        uses.remove(used);
        *clock += 1;
        *used = *clock;
        uses.insert(*clock, id);
        Some(value.clone())
    }

    pub(crate) fn put(&self, id: u64, value: V) {
        let mut kept = self.kept.lock();
        kept.clock += 1;
        let now = kept.clock;
        if let Some((used, _)) = kept.values.insert(id, (now, value)) {
            kept.uses.remove(&used);
        }
        kept.uses.insert(now, id);
        if kept.values.len() > self.capacity {
            kept.drop_oldest();
        }
    }

    pub(crate) fn remove(&self, id: u64) {
        let mut kept = self.kept.lock();
        if let Some((used, _)) = kept.values.remove(&id) {
            kept.uses.remove(&used);
        }
    }

    /// Drops half of what is kept, for whoever found that there is not that much room.
    pub(crate) fn halve(&self) {
        let mut kept = self.kept.lock();
        for _ in 0..kept.values.len().div_ceil(2) {
            kept.drop_oldest();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.lock().values.len()
    }
}

impl<V> Kept<V> {
    fn drop_oldest(&mut self) {
        if let Some((_, id)) = self.uses.pop_first() {
            self.values.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let recent = Recent::new(2);
        recent.put(1, 'a');
        recent.put(2, 'b');
        assert_eq!(recent.get(1), Some('a'));
        recent.put(3, 'c');
        assert_eq!((recent.get(1), recent.get(2), recent.get(3)), (Some('a'), None, Some('c')));
        recent.put(3, 'd');
        assert_eq!((recent.len(), recent.get(3)), (2, Some('d')));
        recent.halve();
        assert_eq!((recent.get(1), recent.get(3)), (None, Some('d')));
        recent.remove(3);
        assert_eq!(recent.len(), 0);
    }
}
