//! Transforms on the way in and on the way out: what they make is there once, and what is unfit is a dead letter once,
//! whenever the process is killed.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod learning;
#[path = "../world/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use aqueduct_api::{ByteSize, Durability, Span, TopicPartition};
use aqueduct_engine::{State, TopicPlan, TransformPlan};
use serde_json::json;
use world::{Do, Fate, Outside, Process, Seed, World, disturb, fate};

fn sevenths(settings: serde_json::Value) -> Vec<TransformPlan> {
    vec![TransformPlan { transform: "sevenths".into(), settings }]
}

/// The values in order that a stream comes out as.
fn made(lines: &[String], stream: &str, routes: bool) -> Vec<String> {
    let own = lines.iter().filter(|line| line.starts_with(stream) && !line.starts_with("bad"));
    own.flat_map(|line| match fate(line, "!", routes) {
        Fate::Made(made) => made,
        _ => Vec::new(),
    })
    .collect()
}

fn unfit(lines: &[String]) -> Vec<String> {
    let mut unfit: Vec<String> = lines.iter().filter(|line| fate(line, "!", true) == Fate::Unfit).cloned().collect();
    unfit.sort();
    unfit
}

/// Values of a topic of one partition that begin as lines of streams do, in their alphabetical order.
fn values(process: &Process, topic: &str) -> Vec<String> {
    let records = process.store.records(&TopicPartition::new(topic, 0));
    let mut values: Vec<String> = records.into_iter().filter_map(|record| record.value).collect();
    values.retain(|value| !value.starts_with("bad") && !value.starts_with("reject"));
    values.sort();
    values
}

fn out(process: &Process, stream: &str) -> Vec<String> {
    let mut out = process.outside.out();
    out.retain(|line| line.starts_with(stream));
    out
}

const STREAMS: [&str; 3] = ["x ", "y ", "z "];

/// Waits until everything is out, and checks that it is there once.
async fn settled(process: &Process, routes: bool, letters: &str) {
    let lines = process.outside.lines();
    let all_out = |process: &Process| {
        let is_out = |stream: &&str| out(process, stream).len() >= made(&lines, stream, routes).len();
        STREAMS.iter().all(is_out) && values(process, letters).len() >= unfit(&lines).len()
    };
    process.until("everything is out", all_out).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for stream in STREAMS {
        assert_eq!(out(process, stream), made(&lines, stream, routes), "{:#?}", process.outside.objects());
    }
    assert_eq!(values(process, letters), unfit(&lines));
    if routes {
        let sent: BTreeSet<String> =
            lines.iter().filter(|line| matches!(fate(line, "", true), Fate::Sent(_))).cloned().collect();
        assert_eq!(values(process, "other").into_iter().collect::<BTreeSet<_>>(), sent);
    }
}

#[test]
fn what_transforms_make_comes_out_and_the_unfit_is_a_dead_letter() {
    let mut world = World::new();
    world.sink().transforms = sevenths(json!({"suffix": "!"}));
    world.outside.put_many("x", 20);
    world.run(|process| async move {
        settled(&process, false, "out.dead-letters").await;
        let letters = process.store.records(&TopicPartition::new("out.dead-letters", 0));
        let letter = &letters[1];
        let header = |name| letter.header(&format!("__connect.errors.{name}")).unwrap();
        assert_eq!((letter.value.as_deref(), letter.key.as_deref()), (Some("x 9"), Some("x")));
        assert_eq!((letter.header("h"), letter.header("aqueduct.position")), (Some("1"), None));
        assert_eq!((header("topic"), header("offset"), header("stage")), ("t", "9", "TRANSFORMATION"));
        assert_eq!(header("exception.message"), "sevenths: nothing to be made of x 9");
    });
}

#[test]
fn a_source_buries_what_is_unfit_and_sends_on_what_is_routed() {
    let mut world = World::new();
    world.source().transforms = sevenths(json!({"suffix": "!", "route": "other"}));
    world.outside.put_many("x", 20);
    world.outside.put_many("y", 20);
    world.run(|process| async move {
        settled(&process, true, "in.dead-letters").await;
        let letters = process.store.records(&TopicPartition::new("in.dead-letters", 0));
        assert_eq!(letters[0].header("__connect.errors.stage"), Some("TRANSFORMATION"));
        assert_eq!(letters[0].header("__connect.errors.topic"), Some("t"));
        assert_eq!(process.connector("in").await.dead_letters, 6);
    });
}

#[test]
fn records_sent_where_none_may_go_are_unfit() {
    for (route, reason) in [("in.dead-letters", "is one of dead letters"), ("__settings", "for internal topics")] {
        let mut world = World::new();
        world.source().transforms = sevenths(json!({"suffix": "!", "route": route}));
        world.outside.put("x", &["bad x", "x 2", "x 3", "x 4"]);
        world.run(|process| async move {
            let letters = TopicPartition::new("in.dead-letters", 0);
            process.until("buried", |process| process.store.records(&letters).len() == 3).await;
            process.until("out", |process| process.outside.out() == ["x 4!"]).await;
            let last = process.store.records(&letters).pop().unwrap();
            assert_eq!(last.value.as_deref(), Some("x 3"));
            let message = last.header("__connect.errors.exception.message").unwrap();
            assert!(message.contains(reason), "{message}");
        });
    }
}

#[test]
fn a_batch_that_is_enlarged_too_much_is_read_in_smaller_ones_and_only_what_is_too_large_alone_is_a_dead_letter() {
    let suffix = "!".repeat(600);
    let mut world = World::new();
    let mut topic = TopicPlan::default();
    topic.settings.max_batch = ByteSize(4096);
    for name in ["t", "other"] {
        world.plan.topics.insert(name.into(), topic.clone());
    }
    world.source().transforms = sevenths(json!({"suffix": suffix, "route": "other"}));
    *world.outside.at_once.lock() = Some(40);
    world.outside.put_many("x", 30);
    // It fits as it is, and not with the suffix.
    let long = format!("{} 4", "x".repeat(2800));
    world.outside.put("x", &[&long]);
    world.outside.put_many("x", 60);
    world.run(|process| async move {
        let lines = process.outside.lines();
        let fits: Vec<String> = lines.iter().filter(|line| line.len() < 2000).cloned().collect();
        let expected: Vec<String> = fits
            .iter()
            .filter_map(|line| match fate(line, &suffix, true) {
                Fate::Made(made) => Some(made),
                _ => None,
            })
            .flatten()
            .collect();
        process.until("everything is out", |process| out(process, "x").len() >= expected.len()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(out(&process, "x"), expected);
        let mut buried = unfit(&fits);
        buried.push(long.clone());
        buried.sort();
        assert_eq!(values(&process, "in.dead-letters"), buried);
        let letters = process.store.records(&TopicPartition::new("in.dead-letters", 0));
        let letter = letters.iter().find(|letter| letter.value.as_ref() == Some(&long)).unwrap();
        let message = letter.header("__connect.errors.exception.message").unwrap();
        assert!(message.contains("bytes, and a batch of topic t has 4 KiB at most"), "{message}");
        let sent = values(&process, "other").into_iter().collect::<BTreeSet<_>>();
        assert_eq!(sent.len(), fits.iter().filter(|line| matches!(fate(line, "", true), Fate::Sent(_))).count());
    });
}

#[test]
fn a_sink_can_not_send_records_to_another_topic() {
    let mut world = World::new();
    world.sink().transforms = sevenths(json!({"suffix": "!", "route": "other"}));
    world.outside.put("x", &["x 3"]);
    world.run(|process| async move {
        let reason = process.in_state("out", State::Failed).await.unwrap();
        assert!(reason.contains("sends records to topic other"), "{reason}");
    });
}

#[test]
fn a_chunk_that_was_pinned_under_earlier_transforms_is_finished_under_them() {
    let mut world = World::new();
    world.sink().transforms = sevenths(json!({"suffix": "!"}));
    world.outside.put("x", &["x 4", "x 5"]);
    world.outside.script(&[Do::WriteAndHang]);
    world.run(|process| async move {
        process.until("written", |process| process.outside.out() == ["x 4!", "x 5!"]).await;
    });
    world.sink().transforms = sevenths(json!({"suffix": "?"}));
    world.outside.put("x", &["x 6"]);
    world.run(|process| async move {
        process.until("out", |process| process.outside.out() == ["x 4!", "x 5!", "x 6?"]).await;
        // Without a restart, too.
        let mut plan = process.plan.clone();
        plan.sinks.get_mut("out").unwrap().transforms = Vec::new();
        process.engine.reload(plan).await.unwrap();
        process.outside.put("x", &["x 11"]);
        process.until("out", |process| process.outside.out().contains(&"x 11".to_owned())).await;
    });
}

/// Has a source read what `put` brings, and the disk fill up between the dead letters and the rest, which waits until they are
/// durable: how many letters there are.
async fn only_buried(process: &Process, put: impl FnOnce(&Outside)) -> usize {
    let letters = TopicPartition::new("in.dead-letters", 0);
    process.in_state("in", State::Running).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    put(&process.outside);
    for _ in 0..100_000 {
        if !process.store.records(&letters).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.store.faults.full.on();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(process.store.records(&TopicPartition::new("t", 0)), []);
    process.store.records(&letters).len()
}

#[test]
fn letters_that_came_before_their_position_are_not_written_again_however_the_stream_is_cut() {
    let mut world = World::new();
    world.source().transforms = sevenths(json!({"suffix": "!"}));
    *world.outside.at_once.lock() = Some(30);
    world.run(|process| async move {
        assert_eq!(only_buried(&process, |outside| outside.put_many("x", 30)).await, 4);
    });
    for at_once in [4, 1, 5] {
        *world.outside.at_once.lock() = Some(at_once);
        world.run(|process| async move {
            process.in_state("in", State::Running).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
        });
    }
    world.run(|process| async move { settled(&process, false, "in.dead-letters").await });
}

fn world(seed: &mut Seed) -> (World, bool, &'static str) {
    let mut world = World::new();
    let mut topic = TopicPlan { partitions: 1 + seed.below(3) as i32, ..TopicPlan::default() };
    topic.settings.durability = [Durability::Fsync, Durability::Interval, Durability::Os][seed.below(3) as usize];
    world.plan.topics.insert("t".into(), topic.clone());
    world.plan.topics.insert("other".into(), TopicPlan { partitions: 1, ..topic });
    world.sink().chunk.records = Some(1 + seed.below(20));
    world.sink().chunk.age = Span::millis(1 + seed.below(2000));
    world.zombies = seed.below(2) == 0;
    world.budget.0 = seed.below(2000);
    let fails = seed.below(2) == 0;
    match seed.below(3) {
        0 => {
            world.sink().transforms = sevenths(json!({"suffix": "!", "fails": fails}));
            (world, false, "out.dead-letters")
        }
        1 => {
            world.source().transforms = sevenths(json!({"suffix": "!", "fails": fails}));
            (world, false, "in.dead-letters")
        }
        _ => {
            world.source().transforms = sevenths(json!({"suffix": "!", "fails": fails, "route": "other"}));
            (world, true, "in.dead-letters")
        }
    }
}

async fn life(seed: &mut Seed, process: &Process) {
    *process.outside.at_once.lock() = Some(1 + seed.below(12) as usize);
    for _ in 0..seed.below(12) {
        let stream = ["x", "y", "z"][seed.below(3) as usize];
        match seed.below(12) {
            0 => process.outside.put(stream, &["bad line"]),
            _ => process.outside.put_many(stream, 1 + seed.below(9) as usize),
        }
        match seed.below(16) {
            6 => process.outside.script(&[Do::Retry]),
            7 => process.outside.script(&[Do::WriteAndHang]),
            9 => process.outside.script(&[Do::WriteAndWait(Duration::from_millis(seed.below(50_000)))]),
            number => disturb(process, number).await,
        }
        let longest = 1 << seed.below(22);
        tokio::time::sleep(Duration::from_micros(seed.below(longest))).await;
    }
}

fn check(number: u64) {
    let mut seed = Seed(number);
    let (mut world, routes, letters) = world(&mut seed);
    lives(&mut seed, &mut world, async |process| settled(process, routes, letters).await);
}

/// Some lives in which much goes wrong, and a last one in which nothing does.
fn lives(seed: &mut Seed, world: &mut World, settled: impl AsyncFn(&Process)) {
    for _ in 0..1 + seed.below(6) {
        let seed = &mut *seed;
        world.run(|process| async move { life(seed, &process).await });
    }
    world.outside.script.lock().clear();
    world.run(|process| async move {
        process.in_state("out", State::Running).await;
        settled(&process).await;
    });
}

fn under_every_seed(check: fn(u64)) {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, count): (u64, u64) = (number("SEED", 0), number("SEEDS", 2000));
    for seed in from..from + count {
        let passed = std::panic::catch_unwind(|| check(seed));
        assert!(passed.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_transforms_make_is_there_once_under_every_seed() {
    under_every_seed(check);
}
