//! A client that names what changes, against one that names all it wants each time.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;

use super::*;
use crate::names::text;

type Place = (u8, i32);

/// What a client was told of a partition last: an error, or how far it has come.
type View = BTreeMap<Place, Option<Told>>;

/// A server's partitions, and what a client knows of those that it wants.
#[derive(Default)]
struct World {
    /// Those that are missing can not be read. Each with the mark under which it is watched.
    partitions: BTreeMap<Place, Told>,
    watched: BTreeMap<Place, u32>,
    wanted: BTreeMap<Place, i64>,
    view: View,
}

fn id(topic: u8) -> Uuid {
    Uuid::from_u128(u128::from(topic) + 1)
}

fn topic(topic: u8, partition: i32, offset: i64) -> FetchTopic {
    let partition = FetchPartition::default().with_partition(partition).with_fetch_offset(offset);
    FetchTopic::default().with_topic_id(id(topic)).with_partitions(vec![partition])
}

impl World {
    /// One fetch that is told at most `most` records: what is looked at is looked at in its turn.
    fn fetch(&mut self, followed: &mut Following<()>, most: i64) -> (usize, Vec<Place>) {
        let (mut left, mut looked, mut found, mut served) = (most, 0, Vec::new(), Vec::new());
        for mark in followed.take_due() {
            looked += 1;
            let partition = followed.get(mark).unwrap();
            let place = ((0..4).find(|topic| partition.topic == Named::Id(id(*topic))).unwrap(), partition.partition);
            let Some(told) = self.partitions.get(&place).copied() else {
                found.push((mark, place, Outcome::Failed));
                continue;
            };
            self.watched.insert(place, mark);
            let has = told.high_watermark - partition.wanted.offset;
            let outcome = match has.min(left) {
                _ if has <= 0 => Outcome::Nothing(told),
                0 => Outcome::Waits(told),
                some => {
                    left -= some;
                    served.push(place);
                    Outcome::Records(told)
                }
            };
            found.push((mark, place, outcome));
        }
        found.sort_by_key(|(_, _, outcome)| matches!(outcome, Outcome::Records(_)));
        for (mark, place, outcome) in found {
            if !followed.found(mark, outcome) {
                continue;
            }
            let (Outcome::Records(told) | Outcome::Waits(told) | Outcome::Nothing(told)) = outcome else {
                self.view.insert(place, None);
                continue;
            };
            self.view.insert(place, Some(told));
        }
        (looked, served)
    }

    /// What who names all partitions is told.
    fn whole(&self) -> View {
        self.wanted.keys().map(|place| (*place, self.partitions.get(place).copied())).collect()
    }

    /// Something happens to a partition; whoever watches it is told.
    fn change(&mut self, place: Place, told: Option<Told>, followed: &mut Following<()>) {
        match told {
            Some(told) => drop(self.partitions.insert(place, told)),
            None => drop(self.partitions.remove(&place)),
        }
        if let Some(mark) = self.watched.get(&place) {
            followed.moved(*mark);
        }
        if told.is_none() {
            self.watched.remove(&place);
        }
    }
}

/// Small random numbers, the same for a seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn who_names_what_changes_knows_what_who_names_all_is_told() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let (mut world, mut followed) = (World::default(), Following::default());
        for step in 0..120 {
            for _ in 0..dice.throw(3) {
                let place = (dice.throw(4) as u8, dice.throw(3) as i32);
                let old = world.partitions.get(&place).copied();
                let old = old.unwrap_or(Told { high_watermark: 0, stable: 0, start: 0 });
                let grown = old.high_watermark + dice.throw(4) as i64;
                let told = Told { high_watermark: grown, stable: grown, start: old.start.max(dice.throw(3) as i64) };
                world.change(place, (dice.throw(6) > 0).then_some(told), &mut followed);
            }
            let (mut named, mut forgotten) = (Vec::new(), Vec::new());
            for _ in 0..dice.throw(3) {
                let place = (dice.throw(4) as u8, dice.throw(3) as i32);
                if dice.throw(4) == 0 {
                    world.wanted.remove(&place);
                    world.view.remove(&place);
                    // A mark may be given to another partition: who is told too much looks once too often.
                    forgotten.push(ForgottenTopic::default().with_topic_id(id(place.0)).with_partitions(vec![place.1]));
                } else if !forgotten.iter().any(|gone| gone.topic_id == id(place.0)) {
                    let end = world.partitions.get(&place).map_or(0, |told| told.high_watermark);
                    let offset = end - dice.throw(2) as i64;
                    world.wanted.insert(place, offset);
                    named.push(topic(place.0, place.1, offset));
                }
            }
            followed.update(named, forgotten, true);
            world.fetch(&mut followed, i64::MAX);
            assert_eq!(world.view, world.whole(), "seed {seed}, step {step}");
            assert_eq!(followed.len(), world.wanted.len(), "seed {seed}, step {step}");
        }
    }
}

#[test]
fn what_does_not_move_is_not_looked_at() {
    let (mut world, mut followed) = (World::default(), Following::default());
    for partition in 0..1000 {
        let told = Told { high_watermark: 5, stable: 5, start: 0 };
        world.change((0, partition), Some(told), &mut followed);
        followed.update(vec![topic(0, partition, 5)], Vec::new(), true);
    }
    assert_eq!(world.fetch(&mut followed, 100).0, 1000);
    assert_eq!(world.fetch(&mut followed, 100).0, 0);
    let grown = Told { high_watermark: 6, stable: 6, start: 0 };
    world.change((0, 70), Some(grown), &mut followed);
    world.change((0, 70), Some(grown), &mut followed);
    assert_eq!(world.fetch(&mut followed, 100), (1, vec![(0, 70)]));
    // The client has not said that it has them: they are sent again.
    assert_eq!(world.fetch(&mut followed, 100), (1, vec![(0, 70)]));
    followed.update(vec![topic(0, 70, 6)], Vec::new(), true);
    assert_eq!(world.fetch(&mut followed, 100), (1, vec![]));
    assert_eq!(world.fetch(&mut followed, 100).0, 0);
}

#[test]
fn whoever_had_no_room_comes_first_next_time() {
    let (mut world, mut followed) = (World::default(), Following::default());
    for partition in 0..4 {
        let told = Told { high_watermark: 10, stable: 10, start: 0 };
        world.change((0, partition), Some(told), &mut followed);
        followed.update(vec![topic(0, partition, 0)], Vec::new(), true);
    }
    let rounds: Vec<Vec<i32>> = (0..4)
        .map(|_| world.fetch(&mut followed, 20).1.into_iter().map(|(_, partition)| partition).collect())
        .collect();
    assert_eq!(rounds, [[0, 1], [2, 3], [0, 1], [2, 3]]);
}

#[test]
fn names_and_ids_are_told_apart_and_partitions_follow_their_last_wish() {
    let mut followed = Following::<()>::default();
    let by_name = FetchTopic::default().with_topic(TopicName(text("t")));
    let wish = |offset, most| {
        FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(most).with_current_leader_epoch(3)
    };
    followed.update(vec![by_name.with_partitions(vec![wish(1, 10), wish(2, -1)])], Vec::new(), false);
    assert_eq!(followed.len(), 1);
    let mark = followed.take_due()[0];
    let partition = followed.get(mark).unwrap();
    assert_eq!(partition.topic, Named::Name("t".into()));
    assert_eq!(partition.wanted, Wanted { offset: 2, most: 0, epoch: 3 });
    let other = ForgottenTopic::default().with_topic(TopicName(text("u"))).with_partitions(vec![0]);
    let this = ForgottenTopic::default().with_topic(TopicName(text("t"))).with_partitions(vec![0, 1]);
    followed.update(Vec::new(), vec![other, this], false);
    assert_eq!((followed.len(), followed.get(mark).is_none(), followed.has_due()), (0, true, false));
}
