//! Who wants to be told when a partition moves: one word for each move, however many partitions one watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::{Watch, Watcher};
use parking_lot::Mutex;

/// Who watches a partition.
#[derive(Default)]
pub(crate) struct Watchers {
    all: Mutex<Vec<Entry>>,
    next: AtomicU64,
}

struct Entry {
    id: u64,
    mark: u32,
    watcher: Arc<dyn Watcher>,
}

impl Watchers {
    /// Tells `watcher` of `mark` from now on.
    pub(crate) fn take(self: &Arc<Self>, watcher: Arc<dyn Watcher>, mark: u32) -> Watch {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.all.lock().push(Entry { id, mark, watcher });
        let watchers = Arc::downgrade(self);
        Watch::new(move || {
            let Some(watchers) = watchers.upgrade() else { return };
            let mut all = watchers.all.lock();
            if let Some(at) = all.iter().position(|entry| entry.id == id) {
                all.swap_remove(at);
            }
        })
    }

    /// Says that the partition has moved.
    pub(crate) fn tell(&self) {
        for Entry { mark, watcher, .. } in &*self.all.lock() {
            watcher.moved(*mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<u32>>);

    impl Watcher for Told {
        fn moved(&self, mark: u32) {
            self.0.lock().push(mark);
        }
    }

    #[test]
    fn whoever_watches_is_told_until_the_watch_ends() {
        let (watchers, told) = (Arc::new(Watchers::default()), Arc::new(Told::default()));
        let watches = [7, 8].map(|mark| watchers.take(told.clone(), mark));
        watchers.tell();
        let [seven, eight] = watches;
        drop(seven);
        watchers.tell();
        drop(eight);
        watchers.tell();
        assert_eq!(*told.0.lock(), [7, 8, 8]);
    }
}
