//! What people ask of connectors, and what becomes of those that fail: each alone.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod holding;
mod letters;
mod reload;
mod stopped;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use aqueduct_api::{ByteSize, Span, Store, TopicPartition};
use aqueduct_engine::State;
use serde_json::json;
use world::{Do, Process, World, seconds, sink};

const GROUP: &str = "connect-out";

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

#[test]
fn a_panic_fails_its_connector_alone_which_is_started_again() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.outside.script(&[Do::Panic]);
    world.plan.sinks.insert("other".into(), {
        let mut other = sink(&world.outside, &["t"]);
        other.settings["place"] = json!("b");
        other.chunk.age = Span::seconds(30);
        other
    });
    world.run(|process| async move {
        let reason = process.in_state("out", State::Failed).await;
        assert_eq!(reason.unwrap(), "panicked: told to");
        assert_eq!(process.state("in").await.0, State::Running);
        assert_eq!(process.state("other").await.0, State::Running);
        process.in_state("out", State::Running).await;
        process.until("written by both", |process| process.outside.objects().len() == 2).await;
        assert_eq!(process.connector("out").await.restarts, 1);
    });
}

#[test]
fn a_source_that_panics_goes_on_where_it_was() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.run(|process| async move {
        process.delivered().await;
        process.outside.put("a", &["panic"]);
        assert_eq!(process.in_state("in", State::Failed).await.unwrap(), "panicked: told to");
        seconds(5).await;
        assert_eq!(process.state("in").await.0, State::Failed);
    });
}

#[test]
fn what_fails_for_good_waits_longer_each_time_unless_it_is_restarted_by_hand() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.outside.script(&[Do::Fatal, Do::Fatal, Do::Fatal]);
    world.run(|process| async move {
        let reason = process.in_state("out", State::Failed).await.unwrap();
        assert_eq!(reason, "t-0: write t-0[0..3): never");
        seconds(9).await;
        assert_eq!(process.outside.script.lock().len(), 2);
        seconds(3).await;
        assert_eq!(process.outside.script.lock().len(), 1);
        seconds(15).await;
        assert_eq!(process.outside.script.lock().len(), 1);
        process.engine.restart("out").await.unwrap();
        seconds(2).await;
        assert_eq!(process.outside.script.lock().len(), 0);
        process.delivered().await;
        assert_eq!(process.connector("out").await.last_error.unwrap().message, "t-0: write t-0[0..3): never");
    });
}

#[test]
fn giving_up_fails_the_connector() {
    let mut world = World::new();
    world.sink().retry.give_up = Span::seconds(3);
    world.outside.put_many("a", 3);
    world.outside.script(&vec![Do::Retry; 9]);
    world.run(|process| async move {
        let reason = process.in_state("out", State::Failed).await.unwrap();
        assert_eq!(reason, "gave up after 3s: t-0: write t-0[0..3): not now");
        process.delivered().await;
    });
}

#[test]
fn a_sink_that_can_not_be_opened_fails_alone() {
    let mut world = World::new();
    world.sink().settings["place"] = json!("nowhere");
    world.outside.put_many("a", 3);
    world.run(|process| async move {
        assert_eq!(process.in_state("out", State::Failed).await.unwrap(), "there is no such place");
        process.until("appended", |process| process.store.records(&t(0)).len() == 3).await;
    });
}

#[test]
fn pausing_survives_a_restart_and_keeps_the_log() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.run(|process| async move {
        process.delivered().await;
        process.engine.pause("out").await.unwrap();
        process.engine.stop("in").await.unwrap();
        process.in_state("out", State::Paused).await;
        process.in_state("in", State::Stopped).await;
        let refused = process.engine.restart("out").await.unwrap_err();
        assert_eq!(refused.to_string(), "`out` is PAUSED: resume it");
    });
    world.outside.put_many("a", 3);
    world.run(|process| async move {
        seconds(60).await;
        assert_eq!(process.state("out").await.0, State::Paused);
        assert_eq!(process.store.held(&t(0)), [("source in".into(), 3), ("sink out".into(), 3)]);
        assert_eq!(process.store.records(&t(0)).len(), 3);
        process.engine.resume("in").await.unwrap();
        seconds(5).await;
        let status = process.connector("out").await;
        assert_eq!((status.partitions[0].committed, status.partitions[0].lag), (Some(3), 3));
        process.engine.resume("out").await.unwrap();
        process.delivered().await;
        let unknown = process.engine.pause("nobody").await.unwrap_err();
        assert_eq!(unknown.to_string(), "there is no source or sink `nobody`, there is `in`, `out`");
    });
}

#[test]
fn chunks_are_cut_by_age_by_records_and_by_bytes_and_what_waits_at_start_is_ripe() {
    let mut world = World::new();
    world.sink().chunk.age = Span::seconds(60);
    world.sink().chunk.records = Some(6);
    let ends = |process: &Process| -> Vec<_> { process.outside.objects().keys().map(|name| name.end).collect() };
    world.run(|process| async move {
        process.outside.put_many("a", 3);
        seconds(55).await;
        assert_eq!(ends(&process), [0i64; 0]);
        seconds(10).await;
        assert_eq!(ends(&process), [3]);
        process.outside.put_many("a", 14);
        seconds(5).await;
        assert_eq!(ends(&process), [3, 9, 15]);
    });
    world.run(|process| async move {
        seconds(2).await;
        assert_eq!(ends(&process), [3, 9, 15, 17]);
        process.delivered().await;
    });
    world.sink().chunk.bytes = ByteSize(1);
    world.run(|process| async move {
        process.outside.put_many("a", 6);
        seconds(5).await;
        assert_eq!(ends(&process), [3, 9, 15, 17, 20, 23]);
    });
}

#[test]
fn a_graceful_stop_finishes_what_is_being_written_and_cuts_nothing() {
    let mut world = World::new();
    world.sink().chunk.age = Span::seconds(60);
    world.run(|process| async move {
        process.outside.script(&[Do::WriteAndWait(Duration::from_secs(3))]);
        process.outside.put_many("a", 3);
        process.until("written", |process| process.outside.is_all_out()).await;
        process.outside.put_many("a", 3);
        seconds(1).await;
        process.engine.shutdown(Duration::from_secs(30)).await;
        let committed = process.store.committed_now(GROUP, &t(0)).unwrap();
        assert_eq!(committed.offset, 3, "{:?}", process.outside.writes.lock());
        assert!(committed.metadata.contains(r#""ends":[]"#), "{}", committed.metadata);
        assert!(process.store.held(&t(0)).contains(&("sink out".into(), 3)));
    });
}

/// Every contract that the engine asks of a store is there to be asked.
#[test]
fn the_store_of_these_tests_is_a_store() {
    fn is_store<T: Store>(_: &T) {}
    is_store(&world::Memory::default());
}
