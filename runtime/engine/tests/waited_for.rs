//! A source whose clients wait for an answer: they hear what the log did not take, and the source goes on.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::time::Duration;

use aqueduct_api::{Durability, Error, TopicPartition};
use aqueduct_engine::{TopicPlan, TransformPlan};
use serde_json::json;
use world::{Process, World, ask, ask_for};

fn world() -> World {
    let mut world = World::new();
    world.source().connector = "clients".into();
    world
}

/// Where lines got their place, or why they were not taken.
async fn asked(process: &Process, lines: &[&str]) -> Result<i64, Error> {
    let answer = tokio::time::timeout(Duration::from_secs(60), ask(&process.outside, lines)).await;
    answer.expect("they are answered").expect("they hear why").map(|(_, offset)| offset)
}

async fn never_restarted(process: &Process) {
    let told = process.connector("in").await;
    assert_eq!((told.restarts, told.state), (0, aqueduct_engine::State::Running), "{told:#?}");
}

#[test]
fn what_the_log_does_not_take_is_said_and_the_next_is_taken() {
    world().run(|process| async move {
        assert_eq!(asked(&process, &["a"]).await.unwrap(), 0);
        process.store.faults.sync_fails.on();
        let refused = asked(&process, &["b"]).await.unwrap_err();
        assert!(refused.is_retry() && refused.to_string().contains("sync failed"), "{refused}");
        assert!(process.connector("in").await.last_error.unwrap().message.contains("sync failed"));
        assert_eq!(asked(&process, &["c"]).await.unwrap(), 1);
        never_restarted(&process).await;
    });
}

#[test]
fn many_at_once_are_each_answered_as_it_is() {
    world().run(|process| async move {
        asked(&process, &["first"]).await.unwrap();
        process.store.faults.stuck.on();
        let answers: Vec<_> = (0..20).map(|n| ask(&process.outside, &[&format!("line {n}")])).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        process.store.faults.sync_fails.on();
        process.store.faults.stuck.off();
        let mut taken = vec!["first".to_owned()];
        for (n, answer) in answers.into_iter().enumerate() {
            if answer.await.unwrap().is_ok() {
                taken.push(format!("line {n}"));
            }
        }
        assert!(taken.len() < 21, "some were refused");
        taken.push("last".into());
        asked(&process, &["last"]).await.unwrap();
        let kept = process.store.records(&TopicPartition::new("t", 0));
        assert_eq!(kept.into_iter().filter_map(|record| record.value).collect::<Vec<_>>(), taken);
        never_restarted(&process).await;
    });
}

#[test]
fn nothing_of_a_request_is_answered_as_durable_where_a_part_is_lost() {
    for (lines, lost) in [
        // All are unfit, so that only the dead letters are appended.
        (&["x 2", "x 9"][..], "in.dead-letters"),
        // A dead letter, then a record.
        (&["x 2", "x 4"], "in.dead-letters"),
        // One is sent elsewhere, one stays.
        (&["x 3", "x 4"], "other"),
    ] {
        let mut world = world();
        let settings = json!({"suffix": "!", "route": "other"});
        world.source().transforms = vec![TransformPlan { transform: "sevenths".into(), settings }];
        world.run(|process| async move {
            process.store.faults.sync_fails.on();
            let refused = asked(&process, lines).await.unwrap_err();
            assert!(refused.is_retry(), "{refused}");
            assert_eq!(process.store.records(&TopicPartition::new(lost, 0)), [], "{lines:?}");
            asked(&process, lines).await.unwrap();
            never_restarted(&process).await;
        });
    }
}

#[test]
fn what_a_log_gives_back_later_ends_no_source_without_positions() {
    let mut world = world();
    let mut topic = TopicPlan::default();
    topic.settings.durability = Durability::Interval;
    world.plan.topics.insert("t".into(), topic);
    let settings = json!({"suffix": "!", "route": "other"});
    world.source().transforms = vec![TransformPlan { transform: "sevenths".into(), settings }];
    world.run(|process| async move {
        for round in 0..3 {
            asked(&process, &["x 2", "x 3", "x 4"]).await.unwrap();
            process.store.give_back(&TopicPartition::new("t", 0));
            tokio::time::sleep(Duration::from_secs(3 + round)).await;
        }
        asked(&process, &["x 2", "x 3", "x 4"]).await.unwrap();
        never_restarted(&process).await;
    });
}

#[test]
fn a_topic_that_has_grown_takes_records_at_its_new_partitions_at_once() {
    world().run(|process| async move {
        asked(&process, &["a"]).await.unwrap();
        let settings = TopicPlan::default().settings;
        process.engine.alter_topic("t", 2, &settings).await.unwrap();
        let (of, offset) = ask_for(&process.outside, &["b"], Some(1)).await.unwrap().unwrap();
        assert_eq!((of, offset), (TopicPartition::new("t", 1), 0));
        let restarts = process.connector("in").await.restarts;
        let settings = aqueduct_api::TopicSettings { retention: aqueduct_api::Span::seconds(9), ..settings };
        process.engine.alter_topic("t", 2, &settings).await.unwrap();
        assert_eq!(process.connector("in").await.restarts, restarts, "what it does not go by changes nothing");
    });
}

#[test]
fn a_place_that_there_is_not_is_said() {
    world().run(|process| async move {
        let refused = ask_for(&process.outside, &["a"], Some(7)).await.unwrap().unwrap_err();
        assert!(matches!(&refused, Error::Refused { .. }), "{refused}");
        assert_eq!(refused.to_string(), "topic t has no partition 7");
        assert_eq!(asked(&process, &["b"]).await.unwrap(), 0);
        never_restarted(&process).await;
    });
}
