//! Sinks that name what they write by record: several partitions in a call, the search for a record that is refused, what
//! is left unfinished, and which of two documents of one key is newer.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::time::Duration;

use aqueduct_api::fault::Mutant;
use aqueduct_api::{At, Log, Span, TopicPartition, Topics};
use aqueduct_engine::{DeadLetterPlan, RewindTo, Start, State, TopicPlan};
use aqueduct_record::BatchBuilder;
use serde_json::json;
use world::{Do, Process, World, check, seconds};

/// Topic `t` of so many partitions, no source, and a sink that names by record.
fn world(partitions: i32) -> World {
    let mut world = World::new().by_record();
    world.plan.sources.clear();
    world.plan.topics.insert("t".into(), TopicPlan { partitions, ..TopicPlan::default() });
    world
}

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn letters() -> TopicPartition {
    TopicPartition::new("out.dead-letters", 0)
}

/// Appends records of key `k`, each a batch of its own.
async fn append(process: &Process, of: &TopicPartition, values: &[&str]) {
    for value in values {
        let mut builder = BatchBuilder::new();
        builder.push(1, Some(b"k"), Some(value.as_bytes()), &[]);
        process.store.append(of, builder.finish(), At::End).await.unwrap().durable().await.unwrap();
    }
}

async fn is_out(process: &Process, count: usize) {
    process.until("all is out", |process| process.outside.documents().len() == count).await;
}

async fn grow(process: &Process, partitions: i32) {
    let topics = process.store.topics().await.unwrap();
    let topic = topics.into_iter().find(|topic| &*topic.name == "t").unwrap();
    process.store.alter("t", partitions, &topic.settings).await.unwrap();
}

/// Values of key `k`, the oldest first, by the version of their documents.
fn by_version(process: &Process) -> Vec<String> {
    let mut documents: Vec<_> = process.outside.documents().into_values().collect();
    documents.sort_by_key(|document| document.version);
    documents.into_iter().map(|document| document.value).collect()
}

#[test]
fn chunks_of_several_partitions_go_in_one_call() {
    let mut world = world(20);
    world.run(|process| async move {
        process.engine.pause("out").await.unwrap();
        for partition in 0..20 {
            append(&process, &t(partition), &["a", "b"]).await;
        }
        process.engine.resume("out").await.unwrap();
        is_out(&process, 40).await;
        let calls = process.outside.calls.lock().clone();
        assert!(calls.iter().any(|call| call.len() > 4), "{calls:#?}");
        assert_eq!(calls.iter().flatten().filter(|chunk| chunk.whole == (0..2)).count(), 20);
        assert!(process.outside.documents().values().all(|document| document.times == 1));
    });
}

#[test]
fn a_chunk_does_not_wait_for_company_nor_for_a_slow_call() {
    let mut world = world(3);
    world.run(|process| async move {
        process.outside.script(&[Do::WriteAndWait(Duration::from_secs(100))]);
        append(&process, &t(0), &["slow"]).await;
        process.until("it is under way", |process| !process.outside.calls.lock().is_empty()).await;
        append(&process, &t(1), &["quick"]).await;
        let begun = tokio::time::Instant::now();
        is_out(&process, 2).await;
        assert!(begun.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn exactly_the_refused_records_become_dead_letters() {
    for bad in [vec![0], vec![39], vec![17, 18], vec![3, 30]] {
        let mut world = world(3);
        let bad = bad.clone();
        world.run(|process| async move {
            process.engine.pause("out").await.unwrap();
            let line = |n| if bad.contains(&n) { format!("refuse {n}") } else { format!("take {n}") };
            let lines: Vec<String> = (0..40).map(line).collect();
            append(&process, &t(0), &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
            append(&process, &t(1), &["other"]).await;
            append(&process, &t(2), &["another"]).await;
            process.engine.resume("out").await.unwrap();
            is_out(&process, 42 - bad.len()).await;
            process.until("buried", |process| process.store.records(&letters()).len() == bad.len()).await;
            seconds(5).await;
            let buried = process.store.records(&letters());
            let offsets: Vec<_> = buried
                .iter()
                .map(|letter| letter.header("__connect.errors.offset").unwrap().parse::<i32>().unwrap())
                .collect();
            assert_eq!(offsets, bad);
            assert_eq!(buried[0].value.as_deref(), Some(&*format!("refuse {}", bad[0])));
            let told = buried[0].header("__connect.errors.exception.message");
            assert_eq!(told, Some("does not like some of it"));
            assert_eq!(process.connector("out").await.restarts, 1, "resumed once");
        });
    }
}

#[test]
fn the_search_begins_again_after_a_restart() {
    let mut world = world(1);
    world.run(|process| async move {
        process.engine.pause("out").await.unwrap();
        append(&process, &t(0), &["a", "b", "refuse c", "d"]).await;
        process.outside.script(&[Do::Write, Do::WriteAndHang]);
        process.engine.resume("out").await.unwrap();
        process.until("it is searched", |process| process.outside.calls.lock().len() == 2).await;
    });
    world.run(|process| async move {
        is_out(&process, 3).await;
        process.until("buried", |process| !process.store.records(&letters()).is_empty()).await;
        seconds(5).await;
        assert_eq!(process.store.records(&letters()).len(), 1);
    });
}

#[test]
fn a_refused_record_stops_the_sink_where_dead_letters_are_off() {
    let mut world = world(1);
    world.sink().dead_letters = DeadLetterPlan::Off;
    world.run(|process| async move {
        append(&process, &t(0), &["a", "refuse b", "c"]).await;
        let reason = process.in_state("out", State::Failed).await.unwrap();
        assert!(reason.contains("offset 1 was rejected: does not like some of it"), "{reason}");
    });
}

#[test]
fn a_sink_that_names_by_chunk_gets_one_whole_chunk_a_call_and_stops_where_it_is_refused() {
    let mut world = world(8);
    world.sink().connector = "objects".into();
    world.run(|process| async move {
        process.engine.pause("out").await.unwrap();
        for partition in 0..8 {
            append(&process, &t(partition), &["a", "b"]).await;
        }
        process.outside.script(&[Do::Refuse]);
        process.engine.resume("out").await.unwrap();
        let reason = process.in_state("out", State::Failed).await.unwrap();
        assert!(reason.contains("not this"), "{reason}");
        process.until("all is out", |process| process.outside.objects().len() == 8).await;
        assert_eq!(process.store.records(&letters()), []);
    });
}

fn only_what_is_unfinished_is_written_again() {
    let mut world = world(2);
    world.run(|process| async move {
        process.outside.script(&[Do::Half]);
        append(&process, &t(0), &["a", "b", "c", "d"]).await;
        let begun = tokio::time::Instant::now();
        is_out(&process, 4).await;
        assert!(begun.elapsed() >= Duration::from_secs(3), "it asked to be left alone");
        seconds(5).await;
        assert!(process.outside.documents().values().all(|document| document.times == 1));
        let calls = process.outside.calls.lock().clone();
        let last = &calls[1][0];
        assert_eq!((last.whole.clone(), last.redelivered), (0..4, true));
        assert_eq!(last.ranges, std::slice::from_ref(&(2..4)));
        assert_eq!(calls.len(), 2);
    });
}

fn the_newest_document_of_a_key_has_the_highest_version_wherever_it_comes_to() {
    let mut world = world(1);
    world.run(|process| async move {
        append(&process, &t(0), &["1", "2", "3", "4"]).await;
        is_out(&process, 4).await;
        grow(&process, 2).await;
        seconds(3).await;
        append(&process, &t(1), &["5", "6"]).await;
        is_out(&process, 6).await;
        grow(&process, 3).await;
        seconds(3).await;
        append(&process, &t(0), &["7"]).await;
        is_out(&process, 7).await;
        assert_eq!(by_version(&process), ["1", "2", "3", "4", "5", "6", "7"]);
    });
    world.declare_what_is_there("t");
    world.run(|process| async move {
        append(&process, &t(0), &["8"]).await;
        is_out(&process, 8).await;
        process.engine.pause("out").await.unwrap();
        grow(&process, 4).await;
        seconds(3).await;
        append(&process, &t(2), &["9"]).await;
        process.engine.resume("out").await.unwrap();
        is_out(&process, 9).await;
        process.store.delete("t", true).await.unwrap();
        seconds(3).await;
        process.store.create("t", 1, &TopicPlan::default().settings).await.unwrap();
        append(&process, &t(0), &["10"]).await;
        seconds(3).await;
        assert_eq!(process.outside.documents().len(), 9, "nothing goes on by itself");
        process.engine.rewind("out", None, RewindTo::Place(Start::Beginning), false).await.unwrap();
        is_out(&process, 10).await;
        assert_eq!(by_version(&process), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    });
}

#[test]
fn growth_is_noted_before_a_change_is_answered() {
    for reloads in [true, false] {
        let mut world = world(1);
        world.sink().chunk.age = Span::millis(100);
        world.run(|process| async move {
            append(&process, &t(0), &["1"]).await;
            is_out(&process, 1).await;
            let mut plan = process.plan.clone();
            let topic = plan.topics.get_mut("t").unwrap();
            topic.partitions = 2;
            match reloads {
                true => drop(process.engine.reload(plan).await.unwrap()),
                false => drop(process.engine.alter_topic("t", 2, &topic.settings).await.unwrap()),
            }
            // At once: what moves to the new partition may be there before anybody looks again.
            append(&process, &t(1), &["2"]).await;
            append(&process, &t(0), &["3"]).await;
            is_out(&process, 3).await;
            let mut versions: Vec<_> = process.outside.documents().into_values().collect();
            versions.sort_by(|a, b| a.value.cmp(&b.value));
            let versions: Vec<_> = versions.into_iter().map(|document| document.version).collect();
            assert_eq!(versions, [(1, 0), (2, 0), (2, 1)], "reloads: {reloads}");
        });
    }
}

#[test]
fn unfinished_records_alone_are_written_again() {
    check(Mutant::WholeAgain, only_what_is_unfinished_is_written_again);
}

#[test]
fn versions_rise_when_a_topic_grows_or_is_made_anew() {
    check(Mutant::SameIncarnation, the_newest_document_of_a_key_has_the_highest_version_wherever_it_comes_to);
}

#[test]
fn a_chunk_is_of_one_incarnation() {
    let mut world = world(1);
    world.sink().chunk.age = Span::seconds(3600);
    world.run(|process| async move {
        seconds(2).await;
        append(&process, &t(0), &["1", "2", "3"]).await;
        seconds(5).await;
        assert_eq!(process.outside.documents().len(), 0);
        grow(&process, 2).await;
        seconds(3).await;
        append(&process, &t(0), &["4", "5"]).await;
        seconds(4000).await;
        is_out(&process, 5).await;
        let calls = process.outside.calls.lock().clone();
        let chunks: Vec<_> = calls.iter().flatten().map(|chunk| (chunk.whole.clone(), chunk.incarnation)).collect();
        assert_eq!(chunks, [(0..3, 1), (3..5, 2)]);
    });
}

#[test]
fn a_topic_that_is_deleted_does_not_break_what_is_in_a_call_with_it() {
    let mut world = world(2);
    world.sink().topics = vec!["t".into(), "u".into()];
    world.plan.topics.insert("u".into(), TopicPlan::default());
    world.sink().settings["outside"] = json!(world.outside.id);
    world.run(|process| async move {
        process.engine.pause("out").await.unwrap();
        let u = TopicPartition::new("u", 0);
        append(&process, &t(0), &["a"]).await;
        append(&process, &t(1), &["b"]).await;
        append(&process, &u, &["gone"]).await;
        process.outside.script(&[Do::Wait(Duration::from_secs(20))]);
        process.engine.resume("out").await.unwrap();
        process.until("they are in one call", |process| !process.outside.calls.lock().is_empty()).await;
        assert_eq!(process.outside.calls.lock()[0].len(), 3);
        process.store.delete("u", true).await.unwrap();
        seconds(60).await;
        is_out(&process, 2).await;
        assert_eq!(process.state("out").await.0, State::Running);
        assert_eq!(process.connector("out").await.restarts, 1, "resumed once");
    });
}
