//! Which of the partitions that a fetch follows have moved since it looked: told by the log, not asked of it.

use aqueduct_api::Watcher;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Partitions that have moved.
#[derive(Default)]
pub(crate) struct Growth {
    moved: Mutex<Moved>,
    told: Notify,
}

#[derive(Default)]
struct Moved {
    marks: Vec<u32>,
    /// By mark, so that each is noted once however often it moves.
    is_noted: Vec<bool>,
}

impl Growth {
    /// Takes those that have moved.
    pub(crate) fn take(&self) -> Vec<u32> {
        let mut moved = self.moved.lock();
        let marks = std::mem::take(&mut moved.marks);
        for mark in &marks {
            moved.is_noted[*mark as usize] = false;
        }
        marks
    }

    /// Returns once one has moved.
    pub(crate) async fn wait(&self) {
        self.told.notified().await;
    }
}

impl Watcher for Growth {
    fn moved(&self, mark: u32) {
        let mut moved = self.moved.lock();
        let at = mark as usize;
        if moved.is_noted.len() <= at {
            moved.is_noted.resize(at + 1, false);
        }
        if !std::mem::replace(&mut moved.is_noted[at], true) {
            moved.marks.push(mark);
            drop(moved);
            // Kept for who comes later.
            self.told.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn each_is_told_once_and_nobody_misses_it() {
        let growth = Growth::default();
        assert!(growth.wait().now_or_never().is_none());
        [3, 1, 3].iter().for_each(|mark| growth.moved(*mark));
        assert!(growth.wait().now_or_never().is_some());
        assert_eq!(growth.take(), [3, 1]);
        assert!(growth.take().is_empty() && growth.wait().now_or_never().is_none());
        growth.moved(3);
        assert_eq!(growth.take(), [3]);
    }
}
