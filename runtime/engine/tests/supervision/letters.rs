//! What becomes of records that a destination will never take.

use aqueduct_api::{ByteSize, TopicPartition};
use aqueduct_engine::{DeadLetterPlan, State, TopicPlan};
use serde_json::json;

use crate::seconds;
use crate::world::{Process, World};

#[test]
fn dead_letters_have_the_original_bytes_and_say_what_happened() {
    let mut world = World::new();
    world.plan.topics.insert("t".into(), {
        let mut topic = TopicPlan::default();
        topic.settings.max_batch = ByteSize(5000);
        topic
    });
    world.outside.put("a", &["reject me", "a 1", "bad line", "big 6000", "a 4"]);
    world.run(|process| async move {
        process.until("delivered", |process| process.outside.out().len() == 2).await;
        process
            .until("counted", |process| process.store.records(&TopicPartition::new("out.dead-letters", 0)).len() == 1)
            .await;
        seconds(1).await;
        let letter = &process.store.records(&TopicPartition::new("out.dead-letters", 0))[0];
        assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some("a"), Some("reject me")));
        for (name, value) in [
            ("h", "1"),
            ("__connect.errors.topic", "t"),
            ("__connect.errors.partition", "0"),
            ("__connect.errors.offset", "0"),
            ("__connect.errors.connector.name", "out"),
            ("__connect.errors.task.id", "0"),
            ("__connect.errors.stage", "TASK_PUT"),
            ("__connect.errors.class.name", "objects"),
            ("__connect.errors.exception.class.name", "aqueduct.Rejected"),
            ("__connect.errors.exception.message", "does not like reject me"),
        ] {
            assert_eq!(letter.header(name), Some(value), "{name}");
        }
        assert_eq!(letter.header("aqueduct.position"), None);
        let letters = process.store.records(&TopicPartition::new("in.dead-letters", 0));
        assert_eq!(letters[0].value.as_deref(), Some("bad line"));
        assert_eq!(letters[0].header("path"), Some("a"));
        assert_eq!(letters[0].header("aqueduct.position"), Some(r#"["in","{\"stream\":\"a\"}",{"at":3},2]"#));
        assert_eq!(letters[1].value.as_ref().unwrap().len(), 6000);
        assert_eq!(letters[1].header("__connect.errors.stage"), Some("KAFKA_PRODUCE"));
        assert_eq!(process.connector("in").await.dead_letters, 2);
        assert_eq!(process.connector("out").await.dead_letters, 1);
    });
    world.run(|process| async move {
        process.outside.put_many("a", 1);
        seconds(5).await;
        assert_eq!(process.store.records(&TopicPartition::new("in.dead-letters", 0)).len(), 2);
    });
}

#[test]
fn a_dead_letter_that_fits_a_batch_only_alone_gets_one() {
    let mut world = World::new();
    world.source().settings["lines"] = json!(1);
    // The reason holds the value once more.
    let (large, largest) = ("x".repeat(450 << 10), "x".repeat(33 << 18));
    world.outside.put("a", &[&format!("reject {large}"), &format!("reject {largest}"), "a 1"]);
    world.run(|process| async move {
        process.delivered().await;
        process
            .until("counted", |process| process.store.records(&TopicPartition::new("out.dead-letters", 0)).len() == 2)
            .await;
    });
}

#[test]
fn without_dead_letters_a_rejection_stops_the_sink_and_a_bad_line_the_source() {
    let mut world = World::new();
    world.sink().dead_letters = DeadLetterPlan::Off;
    world.source().dead_letters = DeadLetterPlan::Off;
    world.outside.put("a", &["reject me", "bad line"]);
    world.run(|process| async move {
        let reason = process.in_state("out", State::Failed).await.unwrap();
        assert_eq!(reason, "t-0: offset 0 was rejected: does not like reject me (dead letters are off)");
        let reason = process.in_state("in", State::Failed).await.unwrap();
        assert_eq!(reason, r#"{"stream":"a"}: a bad line (dead letters are off)"#);
    });
}

#[test]
fn whatever_the_log_took_fits_the_dead_letters_and_long_reasons_are_cut() {
    let mut world = World::new();
    world.plan.topics.insert("t".into(), {
        let mut topic = TopicPlan::default();
        topic.settings.max_batch = ByteSize::mib(40);
        topic
    });
    let large = format!("reject {}", "ä".repeat(9 << 20));
    world.outside.put("a", &[&large, "a 1"]);
    world.run(|process| async move {
        let letters = |process: &Process| process.store.records(&TopicPartition::new("out.dead-letters", 0));
        process.until("buried", |process| letters(process).len() == 1).await;
        let letter = &letters(&process)[0];
        assert!(letter.value.as_ref() == Some(&large));
        let message = letter.header("__connect.errors.exception.message").unwrap();
        assert!(message.starts_with("does not like reject ") && message.len() <= 8192 && message.len() > 8190);
        process.until("the rest is delivered", |process| process.outside.out() == ["a 1"]).await;
    });
}
