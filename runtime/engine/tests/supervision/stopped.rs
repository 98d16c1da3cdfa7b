//! Where sinks begin, and when they stop a partition rather than guess.

use std::time::Duration;

use aqueduct_api::{Committed, TopicPartition, Topics};
use aqueduct_engine::{RewindTo, Start, State, TopicPlan};

use crate::world::{Do, Process, World, source};
use crate::{GROUP, seconds, t};

#[test]
fn a_sink_starts_where_it_is_told_and_later_partitions_from_their_beginning() {
    for (start, expected) in [
        (Start::Beginning, vec!["a 0", "a 1", "a 2", "a 3", "a 4", "a 5"]),
        (Start::End, vec![]),
        (Start::Time(1004), vec!["a 3", "a 4", "a 5"]),
    ] {
        let mut world = World::new();
        let sink = world.plan.sinks.remove("out").unwrap();
        world.outside.put_many("a", 6);
        world.run(|process| async move {
            process.until("appended", |process| process.store.records(&t(0)).len() == 6).await;
            seconds(1).await;
        });
        world.plan.sinks.insert("out".into(), sink);
        world.sink().start = start;
        world.plan.sources.remove("in");
        world.run(|process| async move {
            seconds(10).await;
            assert_eq!(process.outside.out(), expected, "{start}");
        });
        world.sink().topics.push("u".into());
        world.plan.sources.insert("in".into(), source(&world.outside, "u"));
        let before = world.outside.out().len();
        world.outside.put_many("b", 2);
        world.run(|process| async move {
            process.until("a new topic is delivered whole", |process| process.outside.out().len() == before + 2).await;
        });
    }
}

#[test]
fn rewinding_delivers_again_under_another_name() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.run(|process| async move {
        process.delivered().await;
        let to = RewindTo::Offset(3);
        let told = process.engine.rewind("out", None, to, true).await.unwrap();
        assert_eq!((told[0].from, told[0].to, told[0].run), (Some(6), 3, 1));
        seconds(10).await;
        assert_eq!(process.outside.objects().len(), 1);
        assert_eq!(process.engine.rewind("out", Some("t"), to, false).await.unwrap(), told);
        seconds(10).await;
        let names: Vec<_> = process.outside.objects().keys().map(|name| (name.start, name.end, name.run)).collect();
        assert_eq!(names, [(0, 6, 0), (3, 6, 1)]);
        let beginning = RewindTo::Place(Start::Beginning);
        assert_eq!(process.engine.rewind("out", None, beginning, true).await.unwrap()[0].run, 2);
        let refused = process.engine.rewind("out", Some("u"), to, true).await.unwrap_err();
        assert_eq!(refused.to_string(), "sink `out` delivers no topic `u`");
        assert!(process.engine.rewind("in", None, to, true).await.is_err());
    });
}

async fn stopped(process: &Process, because: &str) {
    seconds(5).await;
    let status = process.connector("out").await;
    assert_eq!(status.state, State::Running);
    let stopped = status.partitions[0].stopped.clone().unwrap_or_default();
    assert!(stopped.contains(because), "{stopped:?} does not say {because:?}");
    assert!(status.last_error.unwrap().message.contains(because));
}

#[test]
fn a_commit_that_vanished_stops_its_partition_until_it_is_rewound() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.run(|process| async move { process.delivered().await });
    world.store.set_committed(GROUP, &t(0), None);
    world.run(|process| async move {
        stopped(&process, "has vanished").await;
        process.engine.rewind("out", None, RewindTo::Place(Start::End), false).await.unwrap();
        process.outside.put_many("a", 3);
        process.delivered().await;
    });
}

#[test]
fn a_first_start_that_fails_half_way_is_made_again() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.store.faults.not_started.on();
    world.run(|process| async move {
        process.until("tried", |process| process.store.committed_now(GROUP, &t(0)).is_some()).await;
        seconds(5).await;
        assert!(process.outside.out().is_empty());
        process.store.faults.not_started.off();
        process.delivered().await;
    });
}

#[test]
fn a_commit_of_somebody_else_stops_its_partition() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.run(|process| async move { process.delivered().await });
    let foreign = Committed { offset: 2, leader_epoch: -1, metadata: String::new() };
    world.store.set_committed(GROUP, &t(0), Some(foreign));
    world.run(|process| async move { stopped(&process, "foreign metadata").await });
}

#[test]
fn a_topic_made_anew_stops_its_partition() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.run(|process| async move {
        process.delivered().await;
        process.store.delete("t", true).await.unwrap();
        seconds(5).await;
        process.store.create("t", 1, &Default::default()).await.unwrap();
        stopped(&process, "has the name now").await;
    });
}

#[test]
fn a_topic_that_is_deleted_leaves_the_sink_s_other_topics_alone() {
    let mut world = World::new();
    world.plan.topics.insert("idle".into(), TopicPlan::default());
    world.plan.topics.insert("u".into(), TopicPlan::default());
    world.sink().topics = vec!["t".into(), "u".into(), "idle".into()];
    world.run(|process| async move {
        process.outside.put_many("a", 3);
        process.delivered().await;
        process.store.delete("idle", true).await.unwrap();
        process.outside.script(&[Do::WriteAndWait(Duration::from_secs(5))]);
        process.outside.put_many("a", 3);
        process.delivered().await;
        // The commit of what was just written comes to a topic that is gone.
        process.store.delete("t", true).await.unwrap();
        seconds(20).await;
        let status = process.connector("out").await;
        assert_eq!((status.state, status.restarts), (State::Running, 0), "{status:#?}");
        assert_eq!(status.topics, ["u"]);
    });
}

#[test]
fn a_log_that_has_lost_what_was_delivered_stops_its_partition() {
    let mut world = World::new();
    world.outside.put_many("a", 6);
    world.run(|process| async move {
        process.delivered().await;
        seconds(1).await;
    });
    world.plan.sources.remove("in");
    world.store.cut(&t(0), 3);
    world.run(|process| async move {
        stopped(&process, "offsets 3 to 6 were delivered and are not there any more").await;
        let append = process.store.records(&t(0));
        assert_eq!(append.len(), 3);
    });
    world.plan.sources.insert("in".into(), source(&world.outside, "t"));
    world.outside.put_many("b", 6);
    world.run(
        |process| async move { process.until("appended", |process| process.store.records(&t(0)).len() == 9).await },
    );
    world.run(|process| async move { stopped(&process, "written under leader epoch").await });
}

#[test]
fn unpinning_cuts_anew() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.outside.script(&vec![Do::Retry; 8]);
    world.run(|process| async move {
        seconds(5).await;
        process.outside.put_many("a", 3);
        let unpinned = process.engine.unpin("out").await.unwrap();
        assert_eq!((unpinned[0].committed, &unpinned[0].ends), (0, &vec![3]));
        process.delivered().await;
        assert_eq!(process.outside.objects().keys().map(|name| name.end).collect::<Vec<_>>(), [6]);
    });
}

#[test]
fn a_chunk_that_is_cut_anew_is_told_from_what_was_given_up_also_after_a_kill() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.outside.script(&[Do::Note("upload".into()), Do::WriteAndHang]);
    world.run(|process| async move {
        seconds(5).await;
        process.engine.stop("out").await.unwrap();
        process.engine.unpin("out").await.unwrap();
        process.outside.given_up.lock().clear();
        process.outside.notes.lock().clear();
    });
    let was_noted = Some("upload".to_owned());
    for given_up in [1, 2] {
        world.outside.script(&vec![Do::WriteAndHang; 2]);
        world.run(|process| async move {
            process.engine.resume("out").await.unwrap();
            seconds(5).await;
        });
        assert_eq!(*world.outside.given_up.lock(), [given_up]);
        world.run(|process| async move {
            seconds(5).await;
            if given_up == 1 {
                process.engine.stop("out").await.unwrap();
                process.engine.unpin("out").await.unwrap();
            }
        });
        assert_eq!(*world.outside.given_up.lock(), [given_up, given_up], "the same chunk has the same number");
        assert_eq!(world.outside.notes.lock()[..], [was_noted.clone(), was_noted.clone()]);
        world.outside.script(&[]);
        world.outside.given_up.lock().clear();
        world.outside.notes.lock().clear();
    }
    world.run(|process| async move {
        process.delivered().await;
        process.outside.put_many("a", 3);
        process.delivered().await;
        // What comes behind all that was given up is new.
        assert_eq!(process.outside.given_up.lock().last(), Some(&0));
        assert_eq!(process.outside.notes.lock().last(), Some(&None));
    });
}

#[test]
fn what_can_not_be_read_any_more_is_skipped_loudly() {
    let mut world = World::new();
    let sink = world.plan.sinks.remove("out").unwrap();
    world.outside.put_many("a", 15);
    world.run(|process| async move {
        process.until("appended", |process| process.store.records(&t(0)).len() == 15).await;
        seconds(2).await;
    });
    world.plan.sinks.insert("out".into(), sink);
    world.store.damage(&t(0), 3..6);
    world.store.damage(&t(0), 9..12);
    world.run(|process| async move {
        process.until("the rest is delivered", |process| process.outside.out().len() == 9).await;
        seconds(1).await;
        assert_eq!(process.connector("out").await.lost, 6);
        let letters = process.store.records(&TopicPartition::new("out.dead-letters", 0));
        let message = letters[0].header("__connect.errors.exception.message");
        assert_eq!(message, Some("offsets 3 to 6 of t-0 can not be read any more"));
        assert_eq!(letters.len(), 2);
    });
}

#[test]
fn a_topic_that_gets_the_name_of_a_deleted_one_is_held_from_its_beginning() {
    for paused in [false, true] {
        for pause in [0, 5] {
            let mut world = World::new();
            world.outside.put_many("a", 3);
            world.run(|process| async move {
                process.delivered().await;
                seconds(2).await;
            });
            world.plan.sources.remove("in");
            world.run(|process| async move {
                seconds(2).await;
                assert_eq!(process.store.held(&t(0)), [("sink out".into(), 3)]);
                if paused {
                    process.engine.pause("out").await.unwrap();
                }
                process.store.delete("t", true).await.unwrap();
                seconds(pause).await;
                process.store.create("t", 1, &Default::default()).await.unwrap();
                seconds(3).await;
                assert_eq!(process.store.held(&t(0)), [("sink out".into(), 0)], "{paused} {pause}");
            });
        }
    }
}
