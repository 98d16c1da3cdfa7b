//! What producers are known by, whatever is taken back.

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

/// A batch of a producer, or a marker.
#[derive(Clone, Copy)]
struct Told {
    base: Offset,
    header: Header,
    marker: Option<Marker>,
}

impl Told {
    fn random(dice: &mut Dice, base: Offset) -> Told {
        let (id, epoch) = (dice.below(3) as i64, dice.below(2) as i16);
        if dice.below(4) == 0 {
            let committed = dice.below(2) == 0;
            let marker = Marker { producer_id: id, epoch, coordinator_epoch: dice.below(3) as i32, committed };
            return Told { base, header: marker.to_batch(0).header(), marker: Some(marker) };
        }
        let mut builder = BatchBuilder::new().producer(id, epoch, dice.below(50) as i32 - 1);
        if dice.below(2) == 0 {
            builder = builder.transactional();
        }
        (0..dice.below(3) + 1).for_each(|_| builder.push(0, None, None, &[]));
        Told { base, header: builder.finish().header(), marker: None }
    }

    fn add(&self, producers: &mut Producers) -> Option<Entry> {
        producers.add(&self.header, self.marker.as_ref(), self.base, self.base).map(|entry| *entry)
    }

    fn next(&self) -> Offset {
        self.base + i64::from(self.header.last_offset_delta) + 1
    }
}

/// The last stable offset as its definition says, and what was aborted.
fn stable_of(kept: &[Told], high_watermark: Offset) -> (Offset, Vec<Aborted>) {
    let (mut open, mut stable, mut aborted) = (BTreeMap::new(), high_watermark, Vec::new());
    for told in kept {
        let (id, attributes) = (told.header.producer_id, told.header.attributes);
        match told.marker {
            None if attributes.is_transactional() => drop(open.entry(id).or_insert(told.base)),
            None => {}
            Some(marker) => {
                let Some(first) = open.remove(&id) else { continue };
                if told.next() > high_watermark {
                    stable = stable.min(first);
                }
                let ended = Aborted { producer_id: id, first, last: told.base };
                aborted.extend((!marker.committed).then_some(ended));
            }
        }
    }
    (open.into_values().fold(stable, Offset::min), aborted)
}

/// Whatever is added and taken back: what is known is what was added and not taken back, now and as of any offset.
#[test]
fn what_is_taken_back_was_never_there() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (mut producers, mut kept, mut next, mut safe) = (Producers::default(), Vec::<Told>::new(), 0, 0);
        let mut aborted: Vec<Entry> = Vec::new();
        let known_of = |kept: &[Told], before: Offset| {
            let mut all = Producers::default();
            kept.iter().filter(|told| told.base < before).for_each(|told| {
                told.add(&mut all);
            });
            all.known
        };
        for _ in 0..100 {
            match dice.below(8) {
                0 => {
                    let from = safe + dice.below((next - safe + 1) as u64) as Offset;
                    // Only where a batch begins.
                    let from = kept.iter().map(|told| told.base).find(|base| *base >= from).unwrap_or(next);
                    producers.take_back(from);
                    kept.retain(|told| told.base < from);
                    aborted.retain(|entry| entry.aborted.last < from);
                    next = from;
                }
                1 => {
                    safe = kept.iter().map(|told| told.base).nth(dice.below(200) as usize).unwrap_or(next).max(safe);
                    producers.settle(safe);
                }
                _ => {
                    let told = Told::random(&mut dice, next);
                    aborted.extend(told.add(&mut producers));
                    kept.push(told);
                    next = told.next();
                }
            }
            assert_eq!(producers.known, known_of(&kept, next), "seed {seed}");
            let then = safe + dice.below((next - safe + 1) as u64) as Offset;
            let as_of = producers.as_of(then);
            assert_eq!(as_of.known, known_of(&kept, then), "seed {seed}, as of {then}");
            assert!(producers.open() <= kept.iter().filter(|told| told.base >= safe).count());
            let (stable, all) = stable_of(&kept, then);
            assert_eq!(producers.stable(then), stable, "seed {seed}, stable at {then}");
            let found: Vec<_> = aborted.iter().map(|entry| entry.aborted).collect();
            assert_eq!(found, all, "seed {seed}, aborted");
            let before: Vec<_> = kept.iter().copied().filter(|told| told.base < then).collect();
            assert_eq!(as_of.stable(next), stable_of(&before, next).0, "seed {seed}, stable as of {then}");
            let read: Producers = as_of.all().map(|(id, known)| (id, known.clone())).collect();
            assert_eq!(read.unstable, as_of.unstable, "seed {seed}: what is open is known from the producers alone");
        }
    }
}

#[test]
fn what_does_not_fit_its_transaction_is_refused() {
    use ProducerError::{CoordinatorFenced, Fenced, Malformed, OutOfOrder, OutsideTransaction};
    let batch = |epoch: i16, sequence: i32, is_transactional: bool| {
        let builder = BatchBuilder::new().producer(7, epoch, sequence);
        let mut builder = if is_transactional { builder.transactional() } else { builder };
        builder.push(0, None, None, &[]);
        builder.finish().header()
    };
    let marker =
        |epoch: i16, coordinator_epoch: i32| Marker { producer_id: 7, epoch, coordinator_epoch, committed: true };
    let mut producers = Producers::default();
    producers.add(&batch(3, 0, true), None, 10, 0);
    assert_eq!(producers.check(&batch(3, 0, true)).unwrap().unwrap().base, 10, "it is sent again");
    assert_eq!(producers.check(&batch(3, 1, false)), Err(OutsideTransaction { id: 7, since: 10 }));
    assert_eq!(producers.check(&batch(3, 2, true)), Err(OutOfOrder { id: 7, sequence: 2, expected: 1 }));
    assert_eq!(producers.check(&batch(3, -1, true)), Ok(None), "a coordinator's has no sequence number");
    assert_eq!(producers.check(&batch(3, -1, false)), Err(Malformed { id: 7, epoch: 3, sequence: -1 }));
    assert_eq!(producers.check_marker(&marker(2, 5)), Err(Fenced { id: 7, epoch: 2, current: 3 }));
    producers.add(&marker(3, 5).to_batch(0).header(), Some(&marker(3, 5)), 11, 0);
    assert_eq!(producers.check(&batch(3, 1, false)), Ok(None), "sequence numbers go on after a transaction");
    assert_eq!(producers.check_marker(&marker(4, 4)), Err(CoordinatorFenced { id: 7, epoch: 4, current: 5 }));
    assert_eq!(producers.check_marker(&marker(3, 5)), Ok(()), "a marker may come again");
    producers.add(&marker(4, 6).to_batch(0).header(), Some(&marker(4, 6)), 12, 0);
    assert_eq!(producers.check(&batch(3, 1, true)), Err(Fenced { id: 7, epoch: 3, current: 4 }));
    assert_eq!(producers.check(&batch(4, 0, true)), Ok(None), "a new epoch begins with 0");
    let described = producers.described()[0];
    assert_eq!((described.epoch, described.coordinator_epoch, described.open_since), (4, 6, None));
}

#[test]
fn a_producer_with_an_open_transaction_is_not_forgotten() {
    let mut producers = Producers::default();
    let mut open = BatchBuilder::new().producer(0, 0, 0).transactional();
    open.push(0, None, None, &[]);
    producers.add(&open.finish().header(), None, 0, 0);
    for id in 1..=MOST as i64 {
        producers.add(&header((id, 0, 0, 1)), None, id, id);
        producers.undo.clear();
    }
    producers.forget(MOST as i64 + 1);
    assert_eq!(producers.all().map(|(id, _)| id).collect::<Vec<_>>(), [0]);
    assert_eq!(producers.stable(99), 0);
}

#[test]
fn there_is_room_for_so_many_producers_and_the_oldest_makes_it() {
    let mut producers = Producers::default();
    let most = MOST as i64;
    for id in 0..most + 1 {
        producers.add(&header((id, 0, 0, 1)), None, id, id);
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
