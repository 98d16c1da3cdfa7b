//! Which fetch sessions there are (KIP-227): as many as Kafka keeps, and given up as Kafka gives them up.

use std::collections::HashMap;

use kafka_protocol::error::ResponseError;

/// Sessions at once: Kafka's `max.incremental.fetch.session.cache.slots`.
pub(crate) const SLOTS: usize = 1000;
/// Partitions of all sessions together: what they hold in memory is bounded, however long clients' lists are.
const PARTITIONS: usize = 1 << 18;
/// A session that was not used for so many milliseconds goes for any other, and one that is as old for a larger one.
const SPARED: i64 = 120_000;

/// The session of a client that has none.
pub(crate) const NONE: i32 = 0;
/// The epoch of a fetch that names all its partitions and wants a session.
pub(crate) const FIRST: i32 = 0;
/// The epoch of a fetch that names all its partitions and wants none.
pub(crate) const LAST: i32 = -1;

/// All sessions. What a session follows is taken out of it while a fetch looks at it.
pub(crate) struct Sessions<T> {
    open: HashMap<i32, Session<T>>,
    slots: usize,
    partitions: usize,
}

struct Session<T> {
    /// What the next fetch must say.
    epoch: i32,
    by_id: bool,
    opened: i64,
    used: i64,
    size: usize,
    /// Absent while a fetch has it.
    follows: Option<T>,
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Sessions { open: HashMap::new(), slots: SLOTS, partitions: 0 }
    }
}

impl<T> Sessions<T> {
    /// Opens a session with `size` partitions, where there is room for it or an older one gives way; its id is `wanted`, or
    /// one of those that follow.
    pub(crate) fn open(&mut self, wanted: i32, by_id: bool, size: usize, now: i64, follows: T) -> Option<i32> {
        if size == 0 || !self.make_room(size, now) {
            return None;
        }
        let mut id = wanted.saturating_abs().max(1);
        while self.open.contains_key(&id) {
            id = id % i32::MAX + 1;
        }
        self.partitions += size;
        let session = Session { epoch: 1, by_id, opened: now, used: now, size, follows: Some(follows) };
        self.open.insert(id, session);
        Some(id)
    }

    /// Takes what a session follows, for a fetch that says its epoch.
    pub(crate) fn take(&mut self, id: i32, epoch: i32, by_id: bool, now: i64) -> Result<T, ResponseError> {
        let session = self.open.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        // Another fetch of the session is still under way: this one does not follow it.
        let follows = session.follows.take().ok_or(ResponseError::InvalidFetchSessionEpoch)?;
        (session.epoch, session.used) = (if epoch == i32::MAX { 1 } else { epoch + 1 }, now);
        Ok(follows)
    }

    /// Gives back what was taken; a session that was given up meanwhile, or follows too many or none, is no more.
    pub(crate) fn give_back(&mut self, id: i32, size: usize, follows: T) -> bool {
        let Some(session) = self.open.get_mut(&id) else { return false };
        self.partitions = self.partitions - session.size + size;
        (session.size, session.follows) = (size, Some(follows));
        let fits = size > 0 && self.partitions <= PARTITIONS;
        if !fits {
            self.close(id);
        }
        fits
    }

    /// Gives a session up.
    pub(crate) fn close(&mut self, id: i32) {
        if let Some(closed) = self.open.remove(&id) {
            self.partitions -= closed.size;
        }
    }

    /// Makes room for a session of so many partitions, if it may have any.
    fn make_room(&mut self, size: usize, now: i64) -> bool {
        if size > PARTITIONS {
            return false;
        }
        while self.open.len() >= self.slots || self.partitions + size > PARTITIONS {
            let unused = self.open.iter().min_by_key(|(_, session)| session.used);
            let unused = unused.filter(|(_, session)| now - session.used > SPARED);
            let small = || {
                let old = self.open.iter().filter(|(_, session)| now - session.opened > SPARED);
                old.min_by_key(|(_, session)| session.size).filter(|(_, session)| session.size < size)
            };
            let Some(id) = unused.or_else(small).map(|(id, _)| *id) else { return false };
            self.close(id);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done, to a cache of two slots.
    enum Step {
        /// Opens: id, partitions.
        Open(i32, usize, Option<i32>),
        /// Takes and gives back: id, epoch, by id.
        Fetch(i32, i32, bool, Result<(), ResponseError>),
        Close(i32),
        /// So many seconds go by.
        Wait(i64),
    }

    #[test]
    fn sessions_are_opened_continued_and_given_up_as_kafka_does() {
        use ResponseError::{FetchSessionIdNotFound, FetchSessionTopicIdError, InvalidFetchSessionEpoch};
        use Step::{Close, Fetch, Open, Wait};
        let cases: &[(&str, &[Step])] = &[
            (
                "epochs count from one",
                &[
                    Open(7, 3, Some(7)),
                    Fetch(7, 2, true, Err(InvalidFetchSessionEpoch)),
                    Fetch(7, 1, true, Ok(())),
                    Fetch(7, 1, true, Err(InvalidFetchSessionEpoch)),
                    Fetch(7, 2, true, Ok(())),
                ],
            ),
            (
                "a session keeps to ids or names",
                &[Open(7, 3, Some(7)), Fetch(7, 1, false, Err(FetchSessionTopicIdError)), Fetch(7, 1, true, Ok(()))],
            ),
            ("an id that is taken is not given twice", &[Open(7, 3, Some(7)), Open(7, 3, Some(8))]),
            ("ids are positive", &[Open(0, 1, Some(1)), Open(-5, 1, Some(5))]),
            ("the last id is followed by the first", &[Open(i32::MIN, 1, Some(i32::MAX)), Open(i32::MAX, 1, Some(1))]),
            (
                "a closed one is gone",
                &[Open(7, 3, Some(7)), Close(7), Close(7), Fetch(7, 1, true, Err(FetchSessionIdNotFound))],
            ),
            ("nobody gives way at once", &[Open(1, 3, Some(1)), Open(2, 3, Some(2)), Open(3, 9, None)]),
            (
                "the one that was not used for two minutes gives way",
                &[
                    Open(1, 3, Some(1)),
                    Open(2, 3, Some(2)),
                    Wait(121),
                    Fetch(1, 1, true, Ok(())),
                    Open(3, 1, Some(3)),
                    Fetch(2, 1, true, Err(FetchSessionIdNotFound)),
                    Fetch(1, 2, true, Ok(())),
                ],
            ),
            (
                "one that is used gives way to a larger one once it is old",
                &[
                    Open(1, 3, Some(1)),
                    Open(2, 5, Some(2)),
                    Wait(100),
                    Fetch(1, 1, true, Ok(())),
                    Fetch(2, 1, true, Ok(())),
                    Wait(21),
                    Open(3, 3, None),
                    Open(4, 4, Some(4)),
                    Fetch(1, 2, true, Err(FetchSessionIdNotFound)),
                    Fetch(2, 2, true, Ok(())),
                ],
            ),
            ("one that follows nothing is none", &[Open(7, 0, None)]),
            (
                "one that follows too much is none",
                &[Open(7, PARTITIONS + 1, None), Open(7, PARTITIONS, Some(7)), Open(8, 1, None)],
            ),
        ];
        for (what, steps) in cases {
            let mut sessions = Sessions { slots: 2, ..Sessions::default() };
            let mut now = 0;
            for (number, step) in steps.iter().enumerate() {
                let place = format!("{what}: step {number}");
                match step {
                    Open(id, size, expected) => {
                        assert_eq!(sessions.open(*id, true, *size, now, *size), *expected, "{place}");
                    }
                    Fetch(id, epoch, by_id, expected) => {
                        let taken = sessions.take(*id, *epoch, *by_id, now);
                        assert_eq!(taken.map(drop), *expected, "{place}");
                        if let Ok(size) = taken {
                            let again = sessions.take(*id, epoch + 1, *by_id, now);
                            assert_eq!(again, Err(InvalidFetchSessionEpoch), "{place}: one fetch at a time");
                            assert!(sessions.give_back(*id, size, size), "{place}");
                        }
                    }
                    Close(id) => sessions.close(*id),
                    Wait(seconds) => now += seconds * 1000,
                }
            }
            let sizes: usize = sessions.open.values().map(|session| session.size).sum();
            assert_eq!(sessions.partitions, sizes, "{what}");
        }
    }

    #[test]
    fn a_session_that_grows_past_all_bounds_or_to_nothing_is_given_up() {
        for size in [0, PARTITIONS + 1] {
            let mut sessions = Sessions::default();
            sessions.open(7, true, 1, 0, ());
            sessions.take(7, 1, true, 0).unwrap();
            assert!(!sessions.give_back(7, size, ()));
            assert_eq!(sessions.take(7, 2, true, 0), Err(ResponseError::FetchSessionIdNotFound));
            assert_eq!(sessions.partitions, 0);
        }
    }
}
