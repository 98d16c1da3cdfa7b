//! The room of large batches, used again, so that fresh memory is not touched for each of them: that costs more than
//! filling it.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// How much room is worth keeping, in bytes.
const WORTH: Range<usize> = (512 << 10)..(4 << 20);

/// How much is kept while no batch needs it, in bytes: what one loop has in flight, so that its batches find the room of
/// earlier ones also when many of them end at once.
const MOST: usize = 24 << 20;

/// Rooms that no batch needs at the moment.
struct Shelf(Mutex<Vec<Vec<u8>>>);

static SHELF: Shelf = Shelf::new();

/// Empty room for `capacity` bytes.
pub(crate) fn take(capacity: usize) -> Vec<u8> {
    SHELF.take(capacity)
}

/// Gives back room that nobody needs any more.
pub(crate) fn give_back(room: Vec<u8>) {
    SHELF.give_back(room);
}

/// Bytes whose room is given back with the last slice of them.
pub(crate) fn freeze(bytes: Vec<u8>) -> Bytes {
    SHELF.freeze(bytes)
}

impl Shelf {
    const fn new() -> Self {
        Shelf(Mutex::new(Vec::new()))
    }

    fn take(&self, capacity: usize) -> Vec<u8> {
        if WORTH.contains(&capacity) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = kept.iter().position(|room| room.capacity() >= capacity) {
                return kept.swap_remove(at);
            }
        }
        Vec::with_capacity(capacity)
    }

    fn give_back(&self, mut room: Vec<u8>) {
        if WORTH.contains(&room.capacity()) {
            room.clear();
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.iter().map(Vec::capacity).sum::<usize>() + room.capacity() <= MOST {
                kept.push(room);
            }
        }
    }

    fn freeze(&'static self, bytes: Vec<u8>) -> Bytes {
        match WORTH.contains(&bytes.capacity()) {
            true => Bytes::from_owner(Frozen(bytes, self)),
            false => Bytes::from(bytes),
        }
    }
}

struct Frozen(Vec<u8>, &'static Shelf);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.1.give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_once_nobody_has_a_slice_of_it() {
        static SHELF: Shelf = Shelf::new();
        let mut room = SHELF.take(WORTH.start);
        room.extend_from_slice(b"records");
        let at = room.as_ptr();
        let bytes = SHELF.freeze(room);
        let part = bytes.slice(3..);
        drop(bytes);
        assert_eq!(&part[..], b"ords");
        assert!(SHELF.0.lock().unwrap().is_empty(), "a slice keeps it");
        drop(part);
        let again = SHELF.take(WORTH.start);
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), at);
    }

    #[test]
    fn batches_of_many_threads_keep_their_bytes() {
        let build = |thread: u64| {
            let mut alive = std::collections::VecDeque::new();
            for round in 0..60 {
                let mut builder = crate::BatchBuilder::with_capacity(WORTH.start + (thread as usize * 50_000));
                let value = (thread * 1000 + round).to_be_bytes().repeat(1000);
                (0..50).for_each(|_| builder.push(0, None, Some(&value), &[]));
                alive.push_back((builder.finish(), value));
                if alive.len() > 3 {
                    let (batch, value) = alive.pop_front().unwrap();
                    let checked = crate::Batch::parse(batch.into_bytes()).expect("its checksum holds");
                    let records = checked.records().unwrap();
                    assert!(records.iter().all(|record| record.unwrap().value == Some(&value[..])));
                }
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|thread| drop(scope.spawn(move || build(thread)))));
    }

    #[test]
    fn little_room_and_more_than_is_needed_are_not_kept() {
        let shelf = Shelf::new();
        shelf.give_back(Vec::with_capacity(1000));
        assert!(shelf.0.lock().unwrap().is_empty());
        (0..=MOST / WORTH.start).for_each(|_| shelf.give_back(Vec::with_capacity(WORTH.start)));
        assert_eq!(shelf.0.lock().unwrap().len(), MOST / WORTH.start);
    }
}
