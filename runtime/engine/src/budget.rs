//! The memory that connectors share. Each has room for one largest batch of its own beside it, so nobody ever waits for
//! shared bytes, and nobody keeps them while it waits for something to be tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::ByteSize;

/// The shared bytes. Clones are the same bytes.
#[derive(Clone)]
pub(crate) struct Budget {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

/// Shared bytes that somebody has; given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

impl Budget {
    pub(crate) fn new(bytes: ByteSize) -> Self {
        Budget { bytes: bytes.0, taken: Arc::default() }
    }

    /// Takes bytes if that many are left.
    pub(crate) fn try_take(&self, bytes: u64) -> Option<Taken> {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.bytes);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Taken { bytes, taken: self.taken.clone() })
    }

    /// All bytes, and those that are taken.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.bytes, self.taken.load(Ordering::Acquire))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_what_is_dropped_comes_back() {
        let budget = Budget::new(ByteSize(10));
        let six = budget.try_take(6).unwrap();
        assert!(budget.try_take(5).is_none());
        assert!(budget.try_take(u64::MAX).is_none());
        let four = budget.try_take(4).unwrap();
        assert_eq!(budget.usage(), (10, 10));
        drop(six);
        assert!(budget.try_take(6).is_some());
        drop(four);
        assert_eq!(budget.usage(), (10, 0));
    }
}
