//! Runs under many seeds: processes that are killed at any time, stores that are full, stuck or fail to sync, sinks that
//! fail in every way. In the end every line is out once, in order, and every dead letter is there once.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use aqueduct_api::{Durability, Span, TopicPartition, Topics};
use aqueduct_engine::{State, TopicPlan};
use serde_json::json;
use world::{Do, Process, Seed, World, disturb, number};

fn world(seed: &mut Seed) -> World {
    let mut world = match seed.once_in(2) {
        true => World::new(),
        false => World::new().by_record(),
    };
    let mut topic = TopicPlan { partitions: 1 + seed.below(3) as i32, ..TopicPlan::default() };
    topic.settings.durability = [Durability::Fsync, Durability::Interval, Durability::Os][seed.below(3) as usize];
    world.plan.topics.insert("t".into(), topic);
    world.sink().chunk.records = Some(1 + seed.below(20));
    world.sink().chunk.age = Span::millis(1 + seed.below(2000));
    world.source().settings["lines"] = json!(1 + seed.below(5));
    world.zombies = seed.once_in(2);
    world.budget.0 = seed.below(2000);
    world
}

fn put(seed: &mut Seed, process: &Process) {
    let stream = ["a", "b", "c", "d"][seed.below(4) as usize];
    match seed.below(10) {
        0 => process.outside.put(stream, &["bad line"]),
        1 => process.outside.put(stream, &["reject it"]),
        2 if process.plan.sinks["out"].connector == "documents" => process.outside.put(stream, &["refuse it"]),
        _ => process.outside.put_many(stream, 1 + seed.below(9) as usize),
    }
}

async fn life(seed: &mut Seed, process: &Process) {
    for _ in 0..seed.below(12) {
        put(seed, process);
        match seed.below(18) {
            6 => process.outside.script(&[Do::Retry]),
            7 => process.outside.script(&[Do::WriteAndHang]),
            8 => process.outside.script(&[Do::Panic]),
            9 => process.outside.script(&[Do::WriteAndWait(Duration::from_millis(seed.below(50_000)))]),
            10 => process.outside.script(&[Do::Note("n".into())]),
            11 => process.outside.script(&[Do::Fatal]),
            12 if process.plan.sinks["out"].connector == "documents" => process.outside.script(&[Do::Half]),
            13 => grow(process).await,
            number => disturb(process, number).await,
        }
        let longest = 1 << seed.below(22);
        tokio::time::sleep(Duration::from_micros(seed.below(longest))).await;
    }
    if seed.once_in(4) {
        process.engine.shutdown(Duration::from_millis(seed.below(10_000))).await;
    }
}

/// One more partition, without a word to the engine.
async fn grow(process: &Process) {
    let topics = process.store.topics().await.unwrap();
    let topic = topics.into_iter().find(|topic| &*topic.name == "t").unwrap();
    process.store.alter("t", topic.partitions + 1, &topic.settings).await.unwrap();
}

/// Later records of a partition are of no earlier incarnation.
fn check_incarnations(process: &Process) {
    let documents = process.outside.documents();
    for ((before, one), (after, two)) in documents.iter().zip(documents.iter().skip(1)) {
        assert!(before.partition != after.partition || one.version < two.version, "{one:?} comes before {two:?}");
    }
}

/// How many letters a topic has, and how many different records they are of.
fn letters(process: &Process, topic: &str) -> (usize, usize) {
    let letters = process.store.records(&TopicPartition::new(topic, 0));
    let name = |letter: &world::Kept| {
        let header = |name| letter.header(name).map(str::to_owned);
        let of = ["__connect.errors.partition", "__connect.errors.offset", "aqueduct.position"].map(header);
        (letter.value.clone(), of)
    };
    (letters.len(), letters.iter().map(name).collect::<BTreeSet<_>>().len())
}

fn check(number: u64) {
    let mut seed = Seed(number);
    let mut world = world(&mut seed);
    for _ in 0..1 + seed.below(6) {
        let seed = &mut seed;
        world.declare_what_is_there("t");
        world.run(|process| async move { life(seed, &process).await });
    }
    world.declare_what_is_there("t");
    world.outside.script.lock().clear();
    let outside = world.outside.clone();
    let count = |word: &str| outside.lines().iter().filter(|line| line.starts_with(word)).count();
    let (bad, rejected) = (count("bad"), count("reject") + count("refuse"));
    world.run(|process| async move {
        process.in_state("out", State::Running).await;
        process.delivered().await;
        let all = |process: &Process| {
            letters(process, "in.dead-letters").0 >= bad && letters(process, "out.dead-letters").0 >= rejected
        };
        process.until("dead letters are there", all).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        process.outside.check();
        check_incarnations(&process);
        assert_eq!(letters(&process, "in.dead-letters"), (bad, bad));
        assert_eq!(letters(&process, "out.dead-letters"), (rejected, rejected));
    });
}

#[test]
fn every_line_comes_out_once_under_every_seed() {
    let (from, count) = (number("SEED", 0), number("SEEDS", 2000));
    for seed in from..from + count {
        let passed = std::panic::catch_unwind(|| check(seed));
        assert!(passed.is_ok(), "seed {seed}");
    }
}
