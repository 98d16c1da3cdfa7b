//! Transforms that come to know what they did not know before: what is a dead letter by then stays one, whenever the process is
//! killed, and the rest is delivered.

use std::time::Duration;

use aqueduct_api::TopicPartition;
use aqueduct_api::fault::Mutant;
use aqueduct_engine::State;
use serde_json::json;

use crate::world::{Do, Fate, Process, Seed, World, check, fate};
use crate::{STREAMS, lives, only_buried, out, sevenths, under_every_seed, unfit, values, world};

/// Waits until every line that is unfit at first is out or a dead letter, and checks that it is one of the two, once.
async fn settled_once(process: &Process, letters: &str) {
    let mut lines: Vec<String> = unfit(&process.outside.lines());
    let places = |process: &Process| {
        let made = STREAMS.iter().flat_map(|stream| out(process, stream));
        let mut places: Vec<String> = made.filter_map(|made| made.strip_suffix('!').map(str::to_owned)).collect();
        places.retain(|line| fate(line, "", false) == Fate::Unfit);
        places.extend(values(process, letters));
        places.sort();
        places
    };
    lines.sort();
    process.until("every line is somewhere", |process| places(process).len() >= lines.len()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(places(process), lines, "{:#?}", process.outside.objects());
}

fn check_learning(number: u64, of: &str) {
    let mut seed = Seed(number);
    let (mut world, ..) = world(&mut seed);
    let name = format!("{}-{number}", world.outside.id);
    let learning = sevenths(json!({"suffix": "!", "fails": number.is_multiple_of(2), "learns": name}));
    let is_source = of == "in";
    world.source().transforms = if is_source { learning.clone() } else { Vec::new() };
    world.sink().transforms = if is_source { Vec::new() } else { learning };
    if number.is_multiple_of(3) {
        world = world.by_record();
    }
    lives(&mut seed, &mut world, async |process| settled_once(process, &format!("{of}.dead-letters")).await);
}

#[test]
fn a_record_that_was_unfit_for_now_is_delivered_or_a_dead_letter_under_every_seed() {
    under_every_seed(|number| check_learning(number, "out"));
}

#[test]
fn a_record_that_was_unfit_for_now_at_a_source_is_delivered_or_a_dead_letter_under_every_seed() {
    under_every_seed(|number| check_learning(number, "in"));
}

/// A source whose process ends between a dead letter and the position after it, and reads the record again when it is fit.
fn known_late() {
    let mut world = World::new();
    let name = format!("late-{}", world.outside.id);
    world.source().transforms = sevenths(json!({"suffix": "!", "learns": name}));
    world.run(|process| async move {
        assert_eq!(only_buried(&process, |outside| outside.put("x", &["x 4", "x 9", "x 5"])).await, 1);
    });
    world.run(|process| async move {
        process.until("out", |process| out(process, "x").len() >= 2).await;
        process.outside.put("x", &["x 9", "x 11"]);
        process.until("the next is out", |process| out(process, "x").contains(&"x 11!".to_owned())).await;
        // The second of the two is known by now, and has no letter.
        assert_eq!(out(&process, "x"), ["x 4!", "x 5!", "x 9!", "x 11!"]);
        assert_eq!(values(&process, "in.dead-letters"), ["x 9"]);
    });
}

#[test]
fn what_a_source_reads_again_stays_dead_where_it_would_be_fit_by_now() {
    check(Mutant::LetterForgotten, known_late);
}

/// A source whose process ends between a dead letter and the position after it, and that finds other lines there when it comes
/// again: what is like the dead one, and comes later than it did, is another record.
fn stale() {
    // What is read then, in batches of so many, and what becomes of it.
    let cases: [(usize, &[&str], &[&str]); 3] = [
        (3, &["x 4", "x 5", "x 6", "x 9"], &["x 4!", "x 5!", "x 6!", "x 9!"]),
        (5, &["x 4", "x 5", "x 6", "x 9", "x 11"], &["x 4!", "x 5!", "x 6!", "x 9!", "x 11!"]),
        // One like it among as many as were read at once is taken for it.
        (2, &["x 4", "x 5", "x 9", "x 9"], &["x 4!", "x 5!", "x 9!"]),
    ];
    for (at_once, lines, expected) in cases {
        let mut world = World::new();
        let name = format!("stale-{}", world.outside.id);
        world.source().transforms = sevenths(json!({"suffix": "!", "learns": name}));
        world.run(|process| async move {
            assert_eq!(only_buried(&process, |outside| outside.put("x", &["x 4", "x 9", "x 5"])).await, 1);
        });
        world.outside.streams.lock().clear();
        world.outside.put("x", lines);
        *world.outside.at_once.lock() = Some(at_once);
        for _ in 0..2 {
            world.run(|process| async move {
                process.until("out", |process| out(process, "x").len() >= expected.len()).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(out(&process, "x"), expected, "{at_once}");
                assert_eq!(values(&process, "in.dead-letters"), ["x 9"]);
            });
        }
    }
}

#[test]
fn a_letter_whose_record_is_not_read_again_leaves_later_ones_like_it_alone() {
    check(Mutant::LetterForEver, stale);
}

#[test]
fn how_long_a_letter_counts_is_known_after_each_restart() {
    let mut world = World::new();
    let name = format!("left-{}", world.outside.id);
    world.source().transforms = sevenths(json!({"suffix": "!", "learns": name}));
    world.run(|process| async move {
        assert_eq!(only_buried(&process, |outside| outside.put("x", &["x 4", "x 9", "x 5"])).await, 1);
    });
    world.outside.streams.lock().clear();
    let mut expected = Vec::new();
    for line in ["x 4", "x 5", "x 6", "x 9"] {
        world.outside.put("x", &[line]);
        expected.push(format!("{line}!"));
        let expected = expected.clone();
        world.run(|process| async move {
            process.until("out", |process| out(process, "x").len() >= expected.len()).await;
            assert_eq!(out(&process, "x"), expected);
        });
    }
}

#[test]
fn a_letter_counts_though_positions_before_it_were_not_saved() {
    for at_once in [1, 2, 6, 7] {
        let mut world = World::new();
        let name = format!("unsaved-{}", world.outside.id);
        world.source().transforms = sevenths(json!({"suffix": "!", "learns": name}));
        world.run(|process| async move {
            process.in_state("in", State::Running).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Nothing is made of the first six: the log does not say that they were read.
            process.outside.put("x", &["x 0", "x 7", "x 14", "x 21", "x 28", "x 35", "x 4", "x 9", "x 5"]);
            let letters = TopicPartition::new("in.dead-letters", 0);
            while process.store.records(&letters).is_empty() {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            process.store.faults.full.on();
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(process.store.records(&TopicPartition::new("t", 0)), []);
        });
        *world.outside.at_once.lock() = Some(at_once);
        world.run(|process| async move {
            process.until("out", |process| out(process, "x").len() >= 2).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(out(&process, "x"), ["x 4!", "x 5!"], "{at_once}");
            assert_eq!(values(&process, "in.dead-letters"), ["x 9"], "{at_once}");
        });
    }
}

#[test]
fn a_dead_letter_stays_one_where_its_record_would_be_fit_by_now() {
    for connector in ["objects", "documents"] {
        let mut world = World::new();
        world.sink().connector = connector.into();
        world.sink().transforms = sevenths(json!({"suffix": "!", "learns": format!("stays-{connector}")}));
        world.outside.put("x", &["x 4", "x 9", "x 5"]);
        let letters = || TopicPartition::new("out.dead-letters", 0);
        world.run(|process| async move {
            process.store.faults.no_commits.off();
            process.until("pinned", |process| process.store.records(&TopicPartition::new("t", 0)).len() == 3).await;
            process.outside.script(&[Do::WriteAndHang]);
            process.until("buried", |process| process.store.records(&letters()).len() == 1).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        world.outside.script.lock().clear();
        world.run(|process| async move {
            process.until("out", |process| out(process, "x").len() >= 2).await;
            process.outside.put("x", &["x 11"]);
            process.until("the next is out", |process| out(process, "x").contains(&"x 11!".to_owned())).await;
            assert_eq!(out(&process, "x"), ["x 4!", "x 5!", "x 11!"], "{connector}");
            assert_eq!(values(&process, "out.dead-letters"), ["x 9"], "{connector}");
        });
    }
}
