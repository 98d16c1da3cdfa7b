//! Changes of what is declared, or of what is there, that go wrong on their way.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::time::Duration;

use aqueduct_api::{Log, Span, TopicPartition, Topics};
use aqueduct_engine::{RewindTo, Start, State, TopicPlan};
use world::{Process, World};

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// Topics `t`, which the source feeds, and `u`.
fn world() -> World {
    let mut world = World::new();
    world.plan.topics.insert("t".into(), TopicPlan::default());
    world.plan.topics.insert("u".into(), TopicPlan::default());
    world.outside.put_many("a", 3);
    world
}

async fn partitions(process: &Process, topic: &str) -> i32 {
    let topics = process.store.topics().await.unwrap();
    topics.into_iter().find(|found| &*found.name == topic).unwrap().partitions
}

#[test]
fn a_reload_that_can_not_be_done_changes_no_topic() {
    let mut world = world();
    world.plan.topics.get_mut("u").unwrap().partitions = 2;
    world.run(|process| async move {
        let mut plan = process.plan.clone();
        plan.topics.get_mut("t").unwrap().partitions = 2;
        plan.topics.get_mut("u").unwrap().partitions = 1;
        let refused = process.engine.reload(plan).await.unwrap_err().to_string();
        assert_eq!(refused, "topics.u: it has 2 partitions and never shrinks to 1");
        assert_eq!(partitions(&process, "t").await, 1);
        process.delivered().await;
    });
}

#[test]
fn a_reload_that_fails_midway_says_what_it_did_and_the_next_goes_on_from_there() {
    let mut world = world();
    world.run(|process| async move {
        process.delivered().await;
        let mut plan = process.plan.clone();
        plan.topics.get_mut("t").unwrap().partitions = 2;
        plan.topics.get_mut("u").unwrap().settings.retention = Span::days(1);
        plan.sinks.remove("out");
        *process.store.faults.unalterable.lock() = Some("u".to_owned());
        let failed = process.engine.reload(plan.clone()).await.unwrap_err().to_string();
        assert_eq!(failed, "done before that: gave more partitions to topic t: topics.u: no changes today");
        assert_eq!(partitions(&process, "t").await, 2);
        process.outside.put_many("b", 3);
        process.delivered().await;
        *process.store.faults.unalterable.lock() = None;
        let told = process.engine.reload(plan).await.unwrap();
        let expected =
            ["changed topic u", "stopped `out`, which is no longer declared", "restarted `in`, which has changed"];
        assert_eq!(told, expected);
    });
}

#[test]
fn a_rewind_holds_what_it_goes_back_to_before_it_is_committed() {
    let mut world = world();
    world.run(|process| async move {
        process.delivered().await;
        let held = |process: &Process| {
            let held = process.store.held(&t(0)).into_iter().filter(|(holder, _)| holder == "sink out");
            held.map(|(_, offset)| offset).collect::<Vec<_>>()
        };
        process.until("the hold is advanced", |process| held(process) == [3]).await;
        process.engine.pause("out").await.unwrap();
        process.store.faults.no_commits.on();
        let to = RewindTo::Place(Start::Beginning);
        process.engine.rewind("out", None, to, false).await.unwrap_err();
        assert_eq!(held(&process), [0]);
        process.store.faults.no_commits.off();
        process.engine.rewind("out", None, RewindTo::Place(Start::End), false).await.unwrap();
        assert_eq!(held(&process), [3]);
    });
}

#[test]
fn positions_are_saved_after_the_dead_letter_topic_was_made_anew() {
    let mut world = world();
    world.outside.put("z", &["bad 1", "bad 2", "bad 3"]);
    world.run(|process| async move {
        let letters = TopicPartition::new("in.dead-letters", 0);
        process.until("buried", |process| process.store.records(&letters).len() == 3).await;
        process.delivered().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        process.store.delete("in.dead-letters", true).await.unwrap();
        process.outside.put("z", &["bad 4"]);
        process.until("buried anew", |process| process.store.records(&letters).len() == 1).await;
        process.outside.put_many("a", 5);
        process.delivered().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let end = process.store.bounds(&t(0)).await.unwrap().end;
        let held = process.store.held(&t(0)).into_iter().find(|(holder, _)| holder == "source in");
        assert_eq!(held.map(|(_, offset)| offset), Some(end), "{:#?}", process.connector("in").await);
        assert_eq!(process.store.records(&letters).len(), 1);
        assert_eq!(process.state("in").await.0, State::Running);
    });
}
