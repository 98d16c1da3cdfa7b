//! The room of large batches, used again, so that fresh memory is not touched for each of them: that costs more than
//! filling it.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// How much room is worth keeping, in bytes.
const WORTH: Range<usize> = (512 << 10)..(4 << 20);

/// How many are kept while no batch needs them.
const MOST: usize = 4;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Empty room for `capacity` bytes.
pub(crate) fn take(capacity: usize) -> Vec<u8> {
    if WORTH.contains(&capacity) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|room| room.capacity() >= capacity) {
            return kept.swap_remove(at);
        }
    }
    Vec::with_capacity(capacity)
}

/// Gives back room that nobody needs any more.
pub(crate) fn give_back(mut room: Vec<u8>) {
    if WORTH.contains(&room.capacity()) {
        room.clear();
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST {
            kept.push(room);
        }
    }
}

/// Bytes whose room is given back with the last slice of them.
pub(crate) fn freeze(bytes: Vec<u8>) -> Bytes {
    match WORTH.contains(&bytes.capacity()) {
        true => Bytes::from_owner(Frozen(bytes)),
        false => Bytes::from(bytes),
    }
}

struct Frozen(Vec<u8>);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_once_nobody_has_a_slice_of_it() {
        // Larger than other tests ask for, so that only this one finds it.
        let capacity = (4 << 20) - 1;
        let mut room = take(capacity);
        room.extend_from_slice(b"records");
        let at = room.as_ptr();
        let bytes = freeze(room);
        let part = bytes.slice(3..);
        drop(bytes);
        assert_eq!(&part[..], b"ords");
        assert!(KEPT.lock().unwrap().iter().all(|kept| kept.as_ptr() != at), "a slice keeps it");
        drop(part);
        let again = take(capacity);
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), at);
    }

    #[test]
    fn little_room_is_not_kept() {
        let room = Vec::with_capacity(1000);
        let at = room.as_ptr();
        give_back(room);
        assert!(KEPT.lock().unwrap().iter().all(|kept| kept.as_ptr() != at));
    }
}
