//! Buffers of large reads, used again, so that fresh memory is not touched for each of them.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// How large a buffer is that is kept, in bytes: what readers of whole chunks ask for, and room for a large batch's headers.
const SIZE: usize = (1 << 20) + (4 << 10);
/// How many are kept while nobody reads.
const KEPT: usize = 4;

/// Buffers that nobody reads in.
#[derive(Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer with room for `length` bytes.
    pub(crate) fn take(&self, length: usize) -> Buffer {
        let is_kept = (SIZE / 2..=SIZE).contains(&length);
        let kept = if is_kept { self.0.lock().pop() } else { None };
        let home = if is_kept { Arc::downgrade(&self.0) } else { Weak::new() };
        let capacity = if is_kept { SIZE } else { length };
        Buffer { bytes: kept.unwrap_or_else(|| Vec::with_capacity(capacity)), home }
    }
}

/// A buffer that finds its way back when the last slice of it is dropped.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    home: Weak<Mutex<Vec<Vec<u8>>>>,
}

impl Buffer {
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
        let Some(home) = self.home.upgrade() else { return };
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

    /// Takes a buffer, fills it and gives it back; returns where it lay.
    fn used(buffers: &Buffers, length: usize) -> *const u8 {
        let mut buffer = buffers.take(length);
        assert!(buffer.bytes.is_empty() && buffer.bytes.capacity() >= length);
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
        assert_eq!(buffers.0.lock().len(), 1);
    }

    #[test]
    fn only_a_few_large_ones_are_kept() {
        let buffers = Buffers::default();
        drop([16, SIZE / 2 - 1, SIZE + 1].map(|length| buffers.take(length)));
        assert_eq!(buffers.0.lock().len(), 0);
        drop([1 << 20; KEPT + 3].map(|length| buffers.take(length)));
        assert_eq!(buffers.0.lock().len(), KEPT);
    }
}
