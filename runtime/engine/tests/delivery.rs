//! Nothing lost, nothing doubled: whole runs of the engine over a store in memory, killed where it hurts.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::time::Duration;

use aqueduct_api::{Log as _, TopicPartition, Topics as _};
use aqueduct_engine::State;
use world::{Do, World};

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

#[test]
fn what_goes_in_comes_out_once_and_in_order() {
    let mut world = World::new();
    world.outside.put_many("a", 10);
    world.run(|process| async move {
        process.delivered().await;
        process.outside.put_many("a", 5);
        process.outside.put_many("b", 7);
        process.delivered().await;
        process.engine.shutdown(Duration::from_secs(5)).await;
    });
    world.outside.put_many("b", 3);
    world.run(|process| async move { process.delivered().await });
}

#[test]
fn a_kill_between_append_and_save_costs_nothing() {
    let mut world = World::new();
    world.outside.put_many("a", 10);
    for round in 0..5 {
        world.run(|process| async move {
            let so_many = 10 + round;
            process.until("appended", |process| process.store.records(&t(0)).len() >= so_many).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        });
        world.outside.put_many("a", 1);
    }
    world.run(|process| async move { process.delivered().await });
}

#[test]
fn a_kill_before_the_sync_reads_again() {
    let mut world = World::new();
    world.run(|process| async move {
        process.store.faults.stuck.on();
        process.outside.put_many("a", 10);
        process.until("appended", |process| process.store.records(&t(0)).len() == 10).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    assert_eq!(world.store.records(&t(0)), []);
    world.run(|process| async move { process.delivered().await });
}

#[test]
fn a_kill_after_the_write_delivers_the_same_chunk_again() {
    let mut world = World::new();
    world.outside.put_many("a", 10);
    world.outside.script(&[Do::WriteAndHang]);
    world.run(|process| async move {
        process.until("written", |process| process.outside.is_all_out()).await;
    });
    world.outside.put_many("a", 10);
    world.run(|process| async move { process.delivered().await });
    let writes = world.outside.writes.lock().clone();
    assert_eq!(writes[0].0, writes[1].0);
    assert_eq!([writes[0].1, writes[1].1, writes[2].1], [false, true, false]);
}

#[test]
fn killed_at_any_time_everything_still_comes_out_once() {
    for step in 1..40 {
        let mut world = World::new();
        world.sink().chunk.records = Some(4);
        world.outside.put("a", &["bad 1", "reject 1", "reject 2"]);
        for round in 0..6 {
            world.outside.put_many("a", 5);
            world.outside.put_many("b", 3);
            world.outside.put("a", &["bad x", "reject y"]);
            world.run(|_| async move { tokio::time::sleep(Duration::from_millis(step * (1 + round % 3))).await });
        }
        world.run(|process| async move {
            process.delivered().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            let letters = process.store.records(&TopicPartition::new("out.dead-letters", 0));
            let mut rejected: Vec<_> = letters.iter().map(|letter| letter.header("__connect.errors.offset")).collect();
            rejected.sort();
            rejected.dedup();
            assert_eq!((letters.len(), rejected.len()), (8, 8), "step {step}: {letters:#?}");
            let letters = process.store.records(&TopicPartition::new("in.dead-letters", 0));
            assert_eq!(letters.len(), 7, "step {step}: {letters:#?}");
        });
    }
}

#[test]
fn a_failed_sync_reads_again_what_is_not_there() {
    let mut world = World::new();
    world.run(|process| async move {
        process.outside.put_many("a", 5);
        process.delivered().await;
        process.store.faults.sync_fails.on();
        process.outside.put_many("a", 20);
        process.delivered().await;
        assert_eq!(*process.outside.opened.lock(), 2);
        assert_eq!(process.store.records(&t(0)).len(), 25);
    });
}

#[test]
fn a_kill_costs_nothing_on_a_topic_made_anew() {
    let mut world = World::new();
    world.plan.sinks.clear();
    world.outside.put_many("a", 6);
    world.run(|process| async move {
        process.until("appended", |process| process.store.records(&t(0)).len() == 6).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        process.store.delete("t", true).await.unwrap();
        process.store.create("t", 1, &Default::default()).await.unwrap();
        process.outside.put_many("a", 3);
        process.until("appended", |process| process.store.records(&t(0)).len() == 3).await;
        process.store.sync(&t(0)).await.unwrap();
    });
    world.run(|process| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(process.store.records(&t(0)).len(), 3);
    });
}

#[test]
fn records_for_a_topic_that_is_gone_wait_until_it_is_back() {
    let mut world = World::new();
    world.plan.sinks.clear();
    world.run(|process| async move {
        process.outside.put_many("a", 3);
        process.until("appended", |process| process.store.records(&t(0)).len() == 3).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        process.store.delete("t", true).await.unwrap();
        process.outside.put_many("a", 3);
        process.in_state("in", State::Failed).await;
        process.store.create("t", 1, &Default::default()).await.unwrap();
        process.until("appended", |process| process.store.records(&t(0)).len() == 3).await;
        assert!(process.store.topics().await.unwrap().iter().all(|topic| *topic.name != *"in.dead-letters"));
    });
}

#[test]
fn a_source_may_have_the_name_that_a_sink_had() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.run(|process| async move { process.delivered().await });
    world.plan.sinks.clear();
    let source = world.plan.sources.remove("in").unwrap();
    world.plan.sources.insert("out".into(), source);
    world.run(|process| async move {
        process.until("read again", |process| process.store.records(&t(0)).len() == 6).await;
    });
}

#[test]
fn a_full_disk_holds_a_source_back_without_keeping_shared_memory() {
    let mut world = World::new();
    world.run(|process| async move {
        process.store.faults.full.on();
        process.outside.put_many("a", 20);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let status = process.engine.status().await;
        assert_eq!(status.budget.taken, 0);
        let source = process.connector("in").await;
        assert_eq!(source.state, State::Running);
        assert!(source.last_error.unwrap().message.contains("disk is full"));
        process.store.faults.full.off();
        process.delivered().await;
    });
}

#[test]
fn no_shared_memory_at_all_is_slower_and_no_more() {
    let mut world = World::new();
    world.budget = aqueduct_api::ByteSize(0);
    world.outside.put_many("a", 50);
    world.run(|process| async move { process.delivered().await });
}

#[test]
fn streams_keep_their_partition_when_partitions_are_added() {
    let mut world = World::new();
    let topic = |partitions| aqueduct_engine::TopicPlan { partitions, ..Default::default() };
    world.plan.topics.insert("t".into(), topic(1));
    for stream in ["a", "b", "c"] {
        world.outside.put_many(stream, 4);
    }
    world.run(|process| async move { process.delivered().await });
    world.plan.topics.insert("t".into(), topic(8));
    for stream in ["a", "b", "c", "d", "e", "f"] {
        world.outside.put_many(stream, 4);
    }
    world.run(|process| async move { process.delivered().await });
    let first: Vec<String> = world.store.records(&t(0)).into_iter().filter_map(|record| record.key).collect();
    assert_eq!(first.iter().filter(|key| ["a", "b", "c"].contains(&key.as_str())).count(), 24);
    assert!((1..8).any(|partition| !world.store.records(&t(partition)).is_empty()));
}

#[test]
fn a_stream_that_has_ended_is_forgotten() {
    let mut world = World::new();
    world.outside.put_many("a", 4);
    world.outside.put("a", &["end"]);
    world.run(|process| async move {
        process.delivered().await;
        process.engine.shutdown(Duration::from_secs(5)).await;
    });
    let saved = world.store.records(&TopicPartition::new("__aqueduct_positions", 0));
    let last = saved.iter().rfind(|record| record.key.as_deref() == Some(r#"["in",{"stream":"a"}]"#)).unwrap();
    assert_eq!(last.value, None);
}

#[test]
fn an_owner_that_was_cut_off_neither_appends_nor_commits() {
    let mut world = World::new();
    world.zombies = true;
    world.outside.put_many("a", 5);
    world.outside.script(&[Do::WriteAndWait(Duration::from_secs(100))]);
    world.run(|process| async move {
        process.until("written", |process| process.outside.is_all_out()).await;
        // The run does not end in time: it is cut off, and wakes up when its successor is at work.
        process.engine.restart("out").await.unwrap();
        process.store.faults.full.on();
        process.outside.put_many("a", 5);
        tokio::time::sleep(Duration::from_secs(1)).await;
        process.engine.restart("in").await.unwrap();
        process.store.faults.full.off();
        process.delivered().await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        process.outside.put_many("a", 5);
        process.delivered().await;
        assert_eq!(process.store.records(&t(0)).len(), 15);
    });
}

#[test]
fn half_a_chunk_left_unfinished_is_offered_again() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.outside.script(&[Do::Half]);
    world.run(|process| async move {
        process.until("the second half is written", |process| process.outside.out().len() == 3).await;
        let source = process.connector("out").await;
        assert_eq!(source.retries, 1);
    });
}

#[test]
fn a_note_comes_back_with_its_chunk() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.outside.script(&[Do::Note("upload 7".into()), Do::WriteAndHang]);
    world.run(|process| async move {
        process.until("written", |process| process.outside.is_all_out()).await;
    });
    world.run(|process| async move {
        process.until("written again", |process| process.outside.notes.lock().len() == 3).await;
    });
    let notes = world.outside.notes.lock().clone();
    assert_eq!(notes, [None, Some("upload 7".into()), Some("upload 7".into())]);
}

#[test]
fn commits_that_fail_are_tried_again() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.run(|process| async move {
        process.store.faults.no_commits.on();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(process.outside.out(), Vec::<String>::new());
        process.store.faults.no_commits.off();
        process.delivered().await;
    });
}
