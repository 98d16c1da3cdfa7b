//! What a partition remembers of idempotent producers (KIP-98, KIP-360): by producer its epoch and its last five batches.
//!
//! It is asked and told while an append gets its place, so it is ahead of what is written, and what it was told of appends
//! that may still fail can be taken back.

mod known;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Aborted, Marker, Producer, ProducerError};
use aqueduct_record::{Header, Offset};

use crate::aborted::Entry;
use crate::transactions::Unstable;

pub(crate) use known::{Known, Sent};

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
    unstable: Unstable,
}

/// A batch of a producer that has failed.
#[derive(Clone, Copy)]
struct Wanted {
    epoch: i16,
    sequence: i32,
    /// When, in ms since 1970.
    seen: i64,
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

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a batch may be written; or which earlier one it is, sent again. A producer that is not known may go on with
    /// any sequence number, since it may have been forgotten; but not past one that has failed.
    pub(crate) fn check(&self, header: &Header) -> Result<Option<Sent>, ProducerError> {
        let Header { producer_id: id, producer_epoch: epoch, base_sequence: sequence, .. } = *header;
        if epoch < 0 || sequence < 0 && !is_unnumbered(header) {
            return Err(ProducerError::Malformed { id, epoch, sequence });
        }
        let Some(known) = self.known.get(&id) else {
            return match self.wanted.get(&id).filter(|wanted| wanted.epoch == epoch && wanted.sequence != sequence) {
                Some(wanted) if !is_unnumbered(header) => {
                    Err(ProducerError::OutOfOrder { id, sequence, expected: wanted.sequence })
                }
                _ => Ok(None),
            };
        };
        if epoch < known.epoch {
            return Err(ProducerError::Fenced { id, epoch, current: known.epoch });
        }
        if is_unnumbered(header) {
            return Ok(None);
        }
        let expected = if epoch > known.epoch { 0 } else { known.expected() };
        let again = |sent: &&Sent| (sent.sequence, sent.delta) == (sequence, header.last_offset_delta);
        match (known.sent.iter().find(again).filter(|_| epoch == known.epoch), known.open) {
            (Some(sent), _) => Ok(Some(*sent)),
            (None, _) if sequence != expected => Err(ProducerError::OutOfOrder { id, sequence, expected }),
            (None, Some(since)) if !header.attributes.is_transactional() => {
                Err(ProducerError::OutsideTransaction { id, since })
            }
            (None, _) => Ok(None),
        }
    }

    /// Whether a marker may be written: one of the epoch that holds, or of a later one.
    pub(crate) fn check_marker(&self, marker: &Marker) -> Result<(), ProducerError> {
        let Marker { producer_id: id, epoch, coordinator_epoch, .. } = *marker;
        if epoch < 0 || coordinator_epoch < 0 {
            return Err(ProducerError::Malformed { id, epoch, sequence: -1 });
        }
        match self.known.get(&id) {
            Some(known) if epoch < known.epoch => Err(ProducerError::Fenced { id, epoch, current: known.epoch }),
            Some(known) if coordinator_epoch < known.coordinator_epoch => {
                Err(ProducerError::CoordinatorFenced { id, epoch: coordinator_epoch, current: known.coordinator_epoch })
            }
            _ => Ok(()),
        }
    }

    /// Notes a batch, or the marker that it is, that gets its place, until it is taken back; returns what the marker aborts.
    pub(crate) fn add(
        &mut self,
        header: &Header,
        marker: Option<&Marker>,
        base: Offset,
        now: i64,
    ) -> Option<Box<Entry>> {
        let id = header.producer_id;
        match marker {
            None => {
                let before = self.apply(header, base, now);
                self.undo.push_back(Undo { base, id, before });
                None
            }
            Some(marker) => {
                let (before, aborted) = self.apply_marker(marker, base, now);
                self.undo.push_back(Undo { base, id, before });
                aborted.map(Box::new)
            }
        }
    }

    /// Notes that a batch has failed before it got a place.
    pub(crate) fn want(&mut self, header: &Header, now: i64) {
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let is_wanted = self.wanted.get(&id).is_some_and(|wanted| wanted.epoch == epoch);
        if !is_wanted && !self.known.contains_key(&id) && self.wanted.len() < MOST {
            self.wanted.insert(id, Wanted { epoch, sequence, seen: now });
        }
    }

    /// Notes a batch, or the marker that it is, that is in the log, whatever came before it; returns what the marker aborts.
    pub(crate) fn replay(&mut self, header: &Header, marker: Option<&Marker>, now: i64) -> Option<Entry> {
        match marker {
            _ if header.producer_id < 0 => None,
            Some(marker) => {
                let (_, aborted) = self.apply_marker(marker, header.base_offset, now);
                self.unstable.settle(header.next_offset());
                aborted
            }
            None => {
                self.apply(header, header.base_offset, now);
                None
            }
        }
    }

    fn apply(&mut self, header: &Header, base: Offset, now: i64) -> Before {
        let batch = (!is_unnumbered(header)).then(|| Sent::of(header, base));
        let is_transactional = header.attributes.is_transactional() && !header.attributes.is_control();
        let Some(known) = self.known.get_mut(&header.producer_id) else {
            self.make_room(header.producer_id);
            let mut known = Known::new(header.producer_epoch, now);
            known.sent.extend(batch);
            if is_transactional {
                known.open = Some(base);
                self.unstable.open(base);
            }
            self.known.insert(header.producer_id, known);
            return Before::Unknown;
        };
        let begins = is_transactional && known.open.is_none();
        let Some(batch) = batch.filter(|_| known.epoch == header.producer_epoch && !begins) else {
            let before = known.clone();
            if known.epoch != header.producer_epoch {
                known.begin_epoch(header.producer_epoch);
            }
            known.push(batch);
            known.seen = now;
            if begins {
                known.open = Some(base);
                self.unstable.open(base);
            }
            return Before::Known(Box::new(before));
        };
        let dropped = known.push(Some(batch));
        Before::Without { dropped, seen: std::mem::replace(&mut known.seen, now) }
    }

    fn apply_marker(&mut self, marker: &Marker, base: Offset, now: i64) -> (Before, Option<Entry>) {
        let Marker { producer_id, epoch, coordinator_epoch, committed } = *marker;
        let before = match self.known.get(&producer_id) {
            Some(known) => Before::Known(Box::new(known.clone())),
            None => {
                self.make_room(producer_id);
                Before::Unknown
            }
        };
        let known = self.known.entry(producer_id).or_insert_with(|| Known::new(epoch, now));
        if epoch > known.epoch && !fault::mutated(Mutant::MarkerWithoutFence) {
            known.begin_epoch(epoch);
        }
        known.coordinator_epoch = coordinator_epoch;
        known.seen = now;
        let Some(first) = known.open.take() else { return (before, None) };
        // A marker is a batch of one record.
        self.unstable.end(first, base + 1);
        let stable = self.unstable.first_open().unwrap_or(base + 1);
        let aborted = Aborted { producer_id, first, last: base };
        (before, (!committed).then_some(Entry { aborted, stable }))
    }

    /// Makes room for a producer that is not known.
    fn make_room(&mut self, id: i64) {
        if self.known.len() >= MOST {
            self.forget_oldest(MOST / 10);
        }
        self.wanted.remove(&id);
    }

    /// The last stable offset where nothing from `high_watermark` on is read yet.
    pub(crate) fn stable(&self, high_watermark: Offset) -> Offset {
        self.unstable.stable(high_watermark)
    }

    /// Whether any transaction holds up readers.
    pub(crate) fn is_unstable(&self) -> bool {
        !self.unstable.is_empty()
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
        if !self.unstable.is_empty() {
            self.unstable.settle(safe);
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
                    let Some(known) = self.known.remove(&id) else { continue };
                    known.open.iter().for_each(|first| self.unstable.forget(*first));
                    if let Some(Sent { sequence, .. }) = known.sent.first().copied() {
                        self.wanted.insert(id, Wanted { epoch: known.epoch, sequence, seen: known.seen });
                    }
                }
                (Before::Known(before), now) => {
                    match (before.open, now.and_then(|known| known.open)) {
                        (Some(first), None) => self.unstable.open(first),
                        (None, Some(first)) => self.unstable.forget(first),
                        _ => {}
                    }
                    self.known.insert(id, *before);
                }
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
        then.unstable.settle(offset);
        then
    }

    /// Forgets producers that were not heard of since a time.
    pub(crate) fn forget(&mut self, since: i64) {
        self.wanted.retain(|_, wanted| wanted.seen >= since);
        if !self.known.values().any(|known| known.seen < since) {
            return;
        }
        let open = self.open_ids();
        self.known.retain(|id, known| known.seen >= since || known.open.is_some() || open.contains(id));
    }

    fn forget_oldest(&mut self, count: usize) {
        let open = self.open_ids();
        let idle = self.known.iter().filter(|(id, known)| known.open.is_none() && !open.contains(id));
        let mut seen: Vec<(i64, i64)> = idle.map(|(id, known)| (known.seen, *id)).collect();
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
            coordinator_epoch: known.coordinator_epoch,
            open_since: known.open,
        };
        self.all().map(described).collect()
    }
}

impl FromIterator<(i64, Known)> for Producers {
    fn from_iter<T: IntoIterator<Item = (i64, Known)>>(known: T) -> Self {
        let known: BTreeMap<i64, Known> = known.into_iter().collect();
        let mut unstable = Unstable::default();
        known.values().filter_map(|known| known.open).for_each(|first| unstable.open(first));
        Producers { known, unstable, ..Producers::default() }
    }
}

/// Whether a batch has no sequence numbers: one of the log's own marks, or what a coordinator writes for its producer.
fn is_unnumbered(header: &Header) -> bool {
    header.attributes.is_control() || header.attributes.is_transactional() && header.base_sequence == -1
}

#[cfg(test)]
mod tests;
