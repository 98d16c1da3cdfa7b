//! Buffers that are used again, so that fresh memory is not touched for each read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Buffers in which nobody reads. Clones are the same.
#[derive(Clone)]
pub struct Buffers(Arc<Shelf>);

struct Shelf {
    /// How large a buffer is that is kept, in bytes.
    size: usize,
    /// How many are kept while nobody needs them.
    most: usize,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// None yet; at most `most` are kept, of `size` bytes each.
    pub fn new(size: usize, most: usize) -> Self {
        Buffers(Arc::new(Shelf { size, most, kept: Mutex::default() }))
    }

    /// An empty buffer for `length` bytes; of those that are kept, where there is one and it is not much too large, since
    /// `length` is what counts as taken, else with room for the first `given` of them.
    pub fn take(&self, length: usize, given: usize) -> Buffer {
        let fits = (self.0.size / 2..=self.0.size).contains(&length);
        let home = if fits { Arc::downgrade(&self.0) } else { Weak::new() };
        let kept = if fits { self.0.kept().pop() } else { None };
        let mut buffer = Buffer { bytes: kept.unwrap_or_default(), home };
        buffer.grow(length, given);
        buffer
    }
}

impl Shelf {
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that finds its way back when the last slice of it is dropped.
pub struct Buffer {
    /// What is in it.
    pub bytes: Vec<u8>,
    home: Weak<Shelf>,
}

impl Buffer {
    /// Makes room for the first `given` of `length` bytes.
    pub fn grow(&mut self, length: usize, given: usize) {
        // The last step is to the size that is kept.
        let home = self.home.upgrade().filter(|_| given == length);
        let capacity = home.map_or(given, |home| home.size);
        self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
    }

    /// What is in it.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade().filter(|home| self.bytes.capacity() == home.size) else { return };
        let mut kept = home.kept();
        if kept.len() < home.most {
            self.bytes.clear();
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: usize = 64 << 10;
    const SIZE: usize = (1 << 20) + FIRST;
    const MOST: usize = 4;

    fn kept(buffers: &Buffers) -> usize {
        buffers.0.kept().len()
    }

    /// Takes a buffer, grows and fills it, and gives it back; returns where it lay at the end.
    fn used(buffers: &Buffers, length: usize, given: usize) -> *const u8 {
        let mut buffer = buffers.take(length, given);
        assert!(buffer.bytes.is_empty() && buffer.bytes.capacity() >= given);
        buffer.grow(length, length);
        buffer.bytes.resize(length, 7);
        let at = buffer.bytes.as_ptr();
        let bytes = buffer.freeze();
        let part = bytes.slice(length / 2..);
        drop(bytes);
        assert_eq!(kept(buffers), 0, "a slice keeps it");
        drop(part);
        at
    }

    #[test]
    fn a_large_buffer_is_used_again_once_nobody_has_a_slice_of_it() {
        let buffers = Buffers::new(SIZE, MOST);
        let first = used(&buffers, 1 << 20, FIRST);
        for (length, given) in [(SIZE, FIRST), (SIZE, SIZE), (SIZE / 2, FIRST), (1 << 20, 1 << 20)] {
            assert_eq!(used(&buffers, length, given), first, "{length}, {given}");
        }
        assert_eq!(kept(&buffers), 1);
    }

    #[test]
    fn only_a_few_are_kept_and_none_that_is_small_or_larger() {
        let buffers = Buffers::new(SIZE, MOST);
        for length in [16, FIRST, SIZE / 2 - 1, SIZE + 1] {
            used(&buffers, length, FIRST.min(length));
        }
        drop(buffers.take(SIZE, FIRST));
        assert_eq!(kept(&buffers), 0, "one that did not grow is not kept");
        drop([(); MOST + 3].map(|()| buffers.take(1 << 20, 1 << 20)));
        assert_eq!(kept(&buffers), MOST);
    }
}
