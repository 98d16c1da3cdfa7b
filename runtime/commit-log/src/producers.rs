//! What a partition remembers of idempotent producers (KIP-98, KIP-360): by producer its epoch and its last five batches.
//!
//! It is asked and told while an append gets its place, so it is ahead of what is written, and what it was told of appends
//! that may still fail can be taken back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aqueduct_api::{Producer, ProducerError};
use aqueduct_record::{Header, Offset};

/// Batches of a producer that are known again: as many as a client has in flight.
const KNOWN_BATCHES: usize = 5;
/// Producers that a partition remembers; of more, those are forgotten that have not written for longest.
const MOST: usize = 10_000;

/// The producers of a partition.
#[derive(Clone, Default)]
pub(crate) struct Producers {
    known: BTreeMap<i64, Known>,
    /// How it was before appends that may still fail, by the offsets that they got.
    undo: VecDeque<Undo>,
    /// What producers that are not known have to come again with, since it has failed: else what they sent after it would be
    /// taken for their beginning.
    wanted: BTreeMap<i64, Wanted>,
}

/// A batch of a producer that has failed.
#[derive(Clone, Copy)]
struct Wanted {
    epoch: i16,
    sequence: i32,
    /// When, in ms since 1970.
    seen: i64,
}

/// What is known of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: i16,
    /// Its last batches in this epoch, the last one last.
    pub(crate) sent: Vec<Sent>,
    /// When it was last heard of, in ms since 1970.
    pub(crate) seen: i64,
}

/// A batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The sequence number of its first record.
    pub(crate) sequence: i32,
    /// That of its last record, and its last offset, less those of its first.
    pub(crate) delta: i32,
    pub(crate) base: Offset,
    /// Its latest timestamp.
    pub(crate) timestamp: i64,
}

/// What one append changed.
#[derive(Clone)]
struct Undo {
    base: Offset,
    id: i64,
    before: Before,
}

#[derive(Clone)]
enum Before {
    Unknown,
    Known(Box<Known>),
    /// The same without its last batch, and with this one before the others.
    Without {
        dropped: Option<Sent>,
        seen: i64,
    },
}

impl Sent {
    fn of(header: &Header, base: Offset) -> Self {
        let (sequence, delta, timestamp) = (header.base_sequence, header.last_offset_delta, header.max_timestamp);
        Sent { sequence, delta, base, timestamp }
    }

    /// The offset after it.
    pub(crate) fn next(&self) -> Offset {
        self.base + i64::from(self.delta) + 1
    }

    /// The sequence number of its last record: after the largest comes 0.
    fn last_sequence(&self) -> i32 {
        let left = i32::MAX - self.sequence;
        if self.delta <= left { self.sequence + self.delta } else { self.delta - left - 1 }
    }
}

impl Known {
    fn last_sequence(&self) -> i32 {
        self.sent.last().map_or(-1, Sent::last_sequence)
    }

    /// The sequence number that the next batch has to have.
    fn expected(&self) -> i32 {
        self.last_sequence().checked_add(1).unwrap_or(0)
    }
}

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a batch may be written; or which earlier one it is, sent again. A producer that is not known may go on with
    /// any sequence number, since it may have been forgotten; but not past one that has failed.
    pub(crate) fn check(&self, header: &Header) -> Result<Option<Sent>, ProducerError> {
        let Header { producer_id: id, producer_epoch: epoch, base_sequence: sequence, .. } = *header;
        let is_control = header.attributes.is_control();
        if epoch < 0 || sequence < 0 && !is_control {
            return Err(ProducerError::Malformed { id, epoch, sequence });
        }
        let Some(known) = self.known.get(&id) else {
            return match self.wanted.get(&id).filter(|wanted| wanted.epoch == epoch && wanted.sequence != sequence) {
                Some(wanted) if !is_control => {
                    Err(ProducerError::OutOfOrder { id, sequence, expected: wanted.sequence })
                }
                _ => Ok(None),
            };
        };
        if epoch < known.epoch {
            return Err(ProducerError::Fenced { id, epoch, current: known.epoch });
        }
        if is_control {
            return Ok(None);
        }
        let expected = if epoch > known.epoch { 0 } else { known.expected() };
        let again = |sent: &&Sent| (sent.sequence, sent.delta) == (sequence, header.last_offset_delta);
        match known.sent.iter().find(again).filter(|_| epoch == known.epoch) {
            Some(sent) => Ok(Some(*sent)),
            None if sequence == expected => Ok(None),
            None => Err(ProducerError::OutOfOrder { id, sequence, expected }),
        }
    }

    /// Notes a batch that gets its place, until it is taken back.
    pub(crate) fn add(&mut self, header: &Header, base: Offset, now: i64) {
        let before = self.apply(header, base, now);
        self.undo.push_back(Undo { base, id: header.producer_id, before });
    }

    /// Notes that a batch has failed before it got a place.
    pub(crate) fn want(&mut self, header: &Header, now: i64) {
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let is_wanted = self.wanted.get(&id).is_some_and(|wanted| wanted.epoch == epoch);
        if !is_wanted && !self.known.contains_key(&id) && self.wanted.len() < MOST {
            self.wanted.insert(id, Wanted { epoch, sequence, seen: now });
        }
    }

    /// Notes a batch that is in the log, whatever came before it.
    pub(crate) fn replay(&mut self, header: &Header, now: i64) {
        if header.producer_id >= 0 {
            self.apply(header, header.base_offset, now);
        }
    }

    fn apply(&mut self, header: &Header, base: Offset, now: i64) -> Before {
        let fresh = || Known { epoch: header.producer_epoch, sent: Vec::new(), seen: now };
        let batch = (!header.attributes.is_control()).then(|| Sent::of(header, base));
        let Some(known) = self.known.get_mut(&header.producer_id) else {
            if self.known.len() >= MOST {
                self.forget_oldest(MOST / 10);
            }
            self.wanted.remove(&header.producer_id);
            let mut known = fresh();
            known.sent.extend(batch);
            self.known.insert(header.producer_id, known);
            return Before::Unknown;
        };
        let Some(batch) = batch.filter(|_| known.epoch == header.producer_epoch) else {
            let before = known.clone();
            if known.epoch != header.producer_epoch {
                *known = fresh();
            }
            known.sent.extend(batch);
            known.seen = now;
            return Before::Known(Box::new(before));
        };
        let dropped = (known.sent.len() == KNOWN_BATCHES).then(|| known.sent.remove(0));
        known.sent.push(batch);
        Before::Without { dropped, seen: std::mem::replace(&mut known.seen, now) }
    }

    /// How many appends may still be taken back.
    pub(crate) fn open(&self) -> usize {
        self.undo.len()
    }

    /// Appends before `safe` can not fail any more.
    pub(crate) fn settle(&mut self, safe: Offset) {
        while self.undo.front().is_some_and(|undo| undo.base < safe) {
            self.undo.pop_front();
        }
        if self.undo.is_empty() && self.undo.capacity() > 1024 {
            self.undo = VecDeque::new();
        }
    }

    /// Forgets appends from `from` on: they have failed.
    pub(crate) fn take_back(&mut self, from: Offset) {
        while let Some(Undo { id, before, .. }) = self.undo.pop_back_if(|undo| undo.base >= from) {
            match (before, self.known.get_mut(&id)) {
                (Before::Unknown, _) => {
                    let first =
                        self.known.remove(&id).and_then(|known| Some((known.epoch, *known.sent.first()?, known.seen)));
                    if let Some((epoch, Sent { sequence, .. }, seen)) = first {
                        self.wanted.insert(id, Wanted { epoch, sequence, seen });
                    }
                }
                (Before::Known(known), _) => drop(self.known.insert(id, *known)),
                (Before::Without { dropped, seen }, Some(known)) => {
                    known.sent.pop();
                    if let Some(dropped) = dropped {
                        known.sent.insert(0, dropped);
                    }
                    known.seen = seen;
                }
                (Before::Without { .. }, None) => {}
            }
        }
    }

    /// What is known of all before `offset`, where nothing before it can fail any more.
    pub(crate) fn as_of(&self, offset: Offset) -> Producers {
        let mut then = self.clone();
        then.take_back(offset);
        then.undo.clear();
        then.wanted.clear();
        then
    }

    /// Forgets producers that were not heard of since a time.
    pub(crate) fn forget(&mut self, since: i64) {
        self.wanted.retain(|_, wanted| wanted.seen >= since);
        if !self.known.values().any(|known| known.seen < since) {
            return;
        }
        let open = self.open_ids();
        self.known.retain(|id, known| known.seen >= since || open.contains(id));
    }

    fn forget_oldest(&mut self, count: usize) {
        let open = self.open_ids();
        let mut seen: Vec<(i64, i64)> = self.known.iter().map(|(id, known)| (known.seen, *id)).collect();
        seen.retain(|(_, id)| !open.contains(id));
        seen.sort_unstable();
        for (_, id) in seen.into_iter().take(count) {
            self.known.remove(&id);
        }
    }

    fn open_ids(&self) -> BTreeSet<i64> {
        self.undo.iter().map(|undo| undo.id).collect()
    }

    /// Whether a batch is the last one that is known of its producer.
    pub(crate) fn is_last(&self, header: &Header) -> bool {
        let last = self.known.get(&header.producer_id).and_then(|known| known.sent.last());
        last.is_some_and(|last| last.base == header.base_offset)
    }

    /// The largest id that is known.
    pub(crate) fn largest(&self) -> Option<i64> {
        self.known.last_key_value().map(|(id, _)| *id)
    }

    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = (i64, &Known)> {
        self.known.iter().map(|(id, known)| (*id, known))
    }

    /// For whoever asks who writes.
    pub(crate) fn described(&self) -> Vec<Producer> {
        let described = |(id, known): (i64, &Known)| Producer {
            id,
            epoch: known.epoch,
            last_sequence: known.last_sequence(),
            last_timestamp: known.sent.last().map_or(-1, |last| last.timestamp),
            coordinator_epoch: -1,
            open_since: None,
        };
        self.all().map(described).collect()
    }
}

impl FromIterator<(i64, Known)> for Producers {
    fn from_iter<T: IntoIterator<Item = (i64, Known)>>(known: T) -> Self {
        Producers { known: known.into_iter().collect(), ..Producers::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aqueduct_record::BatchBuilder;

    fn header((id, epoch, sequence, count): (i64, i16, i32, usize)) -> Header {
        let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
        (0..count).for_each(|_| builder.push(0, None, None, &[]));
        builder.finish().header()
    }

    /// Numbers that are the same in each run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    /// Whatever is added and taken back: what is known is what was added and not taken back, now and as of any offset.
    #[test]
    fn what_is_taken_back_was_never_there() {
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let (mut producers, mut kept, mut next, mut safe) = (Producers::default(), Vec::new(), 0, 0);
            let known_of = |kept: &[(Offset, Header)], before: Offset| {
                let mut all = Producers::default();
                for (base, header) in kept.iter().filter(|(base, _)| *base < before) {
                    all.apply(header, *base, *base);
                }
                all.known
            };
            for _ in 0..100 {
                match dice.below(8) {
                    0 => {
                        let from = safe + dice.below((next - safe + 1) as u64) as Offset;
                        // Only where a batch begins.
                        let from = kept.iter().map(|(base, _)| *base).find(|base| *base >= from).unwrap_or(next);
                        producers.take_back(from);
                        kept.retain(|(base, _)| *base < from);
                        next = from;
                    }
                    1 => {
                        safe =
                            kept.iter().map(|(base, _)| *base).nth(dice.below(200) as usize).unwrap_or(next).max(safe);
                        producers.settle(safe);
                    }
                    _ => {
                        let count = dice.below(3) as usize + 1;
                        let batch = (dice.below(3) as i64, dice.below(2) as i16, dice.below(50) as i32, count);
                        producers.add(&header(batch), next, next);
                        kept.push((next, header(batch)));
                        next += count as Offset;
                    }
                }
                assert_eq!(producers.known, known_of(&kept, next), "seed {seed}");
                let then = safe + dice.below((next - safe + 1) as u64) as Offset;
                assert_eq!(producers.as_of(then).known, known_of(&kept, then), "seed {seed}, as of {then}");
                assert!(producers.open() <= kept.iter().filter(|(base, _)| *base >= safe).count());
            }
        }
    }

    #[test]
    fn there_is_room_for_so_many_producers_and_the_oldest_makes_it() {
        let mut producers = Producers::default();
        let most = MOST as i64;
        for id in 0..most + 1 {
            producers.add(&header((id, 0, 0, 1)), id, id);
            // The first one stays, because it may still be taken back.
            if id > 0 {
                producers.undo.retain(|undo| undo.id == 0);
            }
        }
        let left: Vec<i64> = producers.all().map(|(id, _)| id).collect();
        assert_eq!((left.len(), left[0], left[1]), (MOST - MOST / 10 + 1, 0, most / 10 + 1));
    }

    #[test]
    fn the_largest_sequence_number_is_followed_by_0() {
        for (sequence, count, last) in [
            (0, 1, 0),
            (5, 3, 7),
            (i32::MAX, 1, i32::MAX),
            (i32::MAX, 2, 0),
            (i32::MAX - 1, 2, i32::MAX),
            (i32::MAX - 1, 5, 2),
        ] {
            let sent = Sent::of(&header((1, 0, sequence, count)), 0);
            assert_eq!(sent.last_sequence(), last, "{count} from {sequence} on");
        }
    }
}
