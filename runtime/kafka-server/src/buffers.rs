//! Memory of large frames, used again, so that fresh memory is not touched for each of them.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// How large a buffer is that is kept, in bytes: a Java producer's largest request, whose batches have a mebibyte.
const SIZE: usize = (1 << 20) + (64 << 10);
/// How many are kept while nobody needs them: more than a producer has in flight.
const KEPT: usize = 8;

/// Buffers in which there is no frame.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer for a frame of `length` bytes; of those that are kept, where there is one and it is not much too large,
    /// since the frame's length is what counts as taken, else with room for the first `given` of them.
    pub(crate) fn take(&self, length: usize, given: usize) -> Buffer {
        let fits = given < length && (SIZE / 2..=SIZE).contains(&length);
        let kept = if fits { self.0.lock().pop() } else { None };
        let home = if fits { Arc::downgrade(&self.0) } else { Weak::new() };
        Buffer { bytes: kept.unwrap_or_else(|| Vec::with_capacity(given)), home }
    }
}

/// A buffer that finds its way back when the last slice of it is dropped.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    home: Weak<Mutex<Vec<Vec<u8>>>>,
}

impl Buffer {
    /// Makes room for the first `given` bytes of a frame of `length`.
    pub(crate) fn grow(&mut self, length: usize, given: usize) {
        // The last step is to the size that is kept.
        let is_kept = given == length && self.home.strong_count() > 0;
        let capacity = if is_kept { SIZE } else { given };
        self.bytes.reserve_exact(capacity - self.bytes.len());
    }

    /// What is in it.
    pub(crate) fn freeze(self) -> Bytes {
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
        let Some(home) = self.home.upgrade().filter(|_| self.bytes.capacity() == SIZE) else { return };
        let mut kept = home.lock();
        if kept.len() < KEPT {
            self.bytes.clear();
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: usize = 64 << 10;

    /// Takes a buffer, grows and fills it, and gives it back; returns where it lay at the end.
    fn used(buffers: &Buffers, length: usize) -> *const u8 {
        let mut buffer = buffers.take(length, FIRST.min(length));
        assert!(buffer.bytes.is_empty() && buffer.bytes.capacity() >= FIRST.min(length));
        buffer.grow(length, length);
        buffer.bytes.resize(length, 7);
        let at = buffer.bytes.as_ptr();
        let bytes = buffer.freeze();
        let part = bytes.slice(length / 2..);
        drop(bytes);
        assert_eq!(buffers.0.lock().len(), 0, "a slice keeps it");
        drop(part);
        at
    }

    #[test]
    fn a_large_buffer_is_used_again_once_nobody_has_a_slice_of_it() {
        let buffers = Buffers::default();
        let first = used(&buffers, 1 << 20);
        assert_eq!(used(&buffers, SIZE), first);
        assert_eq!(used(&buffers, SIZE / 2), first);
        assert_eq!(buffers.0.lock().len(), 1);
    }

    #[test]
    fn only_a_few_are_kept_and_none_that_is_small_or_larger() {
        let buffers = Buffers::default();
        for length in [16, FIRST, SIZE / 2 - 1, SIZE + 1] {
            used(&buffers, length);
        }
        drop(buffers.take(SIZE, FIRST));
        assert_eq!(buffers.0.lock().len(), 0, "one that did not grow is not kept");
        let grown = || {
            let mut buffer = buffers.take(SIZE, FIRST);
            buffer.grow(SIZE, SIZE);
            buffer
        };
        drop([(); KEPT + 3].map(|()| grown()));
        assert_eq!(buffers.0.lock().len(), KEPT);
    }
}
