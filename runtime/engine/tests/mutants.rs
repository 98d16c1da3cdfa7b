//! Deliberate mistakes in the rules of delivery: each is noticed by a run that passes without it.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::time::Duration;

use aqueduct_api::TopicPartition;
use aqueduct_api::fault::Mutant;
use serde_json::json;
use world::{Do, World, check, seconds};

fn letters() -> TopicPartition {
    TopicPartition::new("out.dead-letters", 0)
}

#[test]
fn a_position_ahead_of_its_data_loses_records() {
    check(Mutant::PositionAheadOfData, || {
        let mut world = World::new();
        world.run(|process| async move {
            process.store.faults.stuck.on();
            process.outside.put_many("a", 10);
            seconds(10).await;
        });
        world.run(|process| async move { process.delivered().await });
    });
}

#[test]
fn a_write_before_its_pin_doubles_records() {
    check(Mutant::WriteBeforePin, || {
        let mut world = World::new();
        world.outside.put_many("a", 3);
        world.outside.script(&[Do::WriteAndHang]);
        world.run(|process| async move {
            process.until("written", |process| process.outside.is_all_out()).await;
            process.outside.put_many("a", 3);
            seconds(5).await;
        });
        world.run(|process| async move {
            seconds(5).await;
            process.delivered().await;
        });
    });
}

#[test]
fn an_append_after_revocation_doubles_dead_letters() {
    check(Mutant::CommitAfterRevocation, || {
        let mut world = World::new();
        world.zombies = true;
        world.outside.put("a", &["reject it"]);
        world.outside.script(&[Do::WriteAndWait(Duration::from_secs(100))]);
        world.run(|process| async move {
            process.until("written", |process| process.outside.writes.lock().len() == 1).await;
            process.engine.restart("out").await.unwrap();
            seconds(300).await;
            assert_eq!(process.outside.writes.lock().len(), 2);
            assert_eq!(process.store.records(&letters()).len(), 1);
        });
    });
}

#[test]
fn dead_letters_are_not_written_again() {
    check(Mutant::DeadLetterTwice, || {
        let mut world = World::new();
        world.outside.script(&[Do::Wait(Duration::from_secs(2))]);
        world.outside.put("a", &["reject it"]);
        world.run(|process| async move {
            process.until("pinned", |process| !process.outside.notes.lock().is_empty()).await;
            process.store.faults.no_commits.on();
            process.until("buried", |process| process.store.records(&letters()).len() == 1).await;
            seconds(1).await;
        });
        world.run(|process| async move {
            seconds(10).await;
            assert_eq!(process.store.records(&letters()).len(), 1);
        });
    });
}

#[test]
fn a_chunk_is_not_finished_under_other_settings() {
    check(Mutant::SettingsUnderPin, || {
        let mut world = World::new();
        world.outside.put_many("a", 3);
        world.outside.script(&[Do::WriteAndHang]);
        world.run(|process| async move {
            process.until("written", |process| process.outside.is_all_out()).await;
        });
        world.sink().settings["place"] = json!("b");
        world.run(|process| async move {
            seconds(10).await;
            process.outside.put_many("a", 3);
            process.delivered().await;
        });
        let places: Vec<_> = world.outside.objects().into_keys().map(|name| (name.place, name.end)).collect();
        assert_eq!(places, [("a".into(), 3), ("b".into(), 6)]);
    });
}

#[test]
fn shared_memory_is_not_held_while_waiting() {
    check(Mutant::BudgetHeldWaiting, || {
        let mut world = World::new();
        world.run(|process| async move {
            process.store.faults.full.on();
            process.outside.put_many("a", 30);
            seconds(60).await;
            assert_eq!(process.engine.status().await.budget.taken, 0);
        });
    });
}
