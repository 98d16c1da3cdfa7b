//! What people ask of connectors, and what becomes of those that fail: each alone.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;

use std::time::Duration;

use aqueduct_api::{ByteSize, Committed, Durability, Span, Store, TopicPartition, Topics};
use aqueduct_engine::{DeadLetterPlan, Engine, RewindTo, Start, State, TopicPlan};
use serde_json::json;
use world::{Do, Process, World, sink};

const GROUP: &str = "connect-out";

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
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
        world.plan.sources.insert("in".into(), world::source(&world.outside, "u"));
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
    world.plan.sources.insert("in".into(), world::source(&world.outside, "t"));
    world.outside.put_many("b", 6);
    world.run(
        |process| async move { process.until("appended", |process| process.store.records(&t(0)).len() == 9).await },
    );
    world.run(|process| async move { stopped(&process, "written under leader epoch").await });
}

#[test]
fn a_chunk_is_finished_under_the_settings_that_it_was_pinned_under() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.outside.script(&[Do::WriteAndHang]);
    world.run(|process| async move {
        process.until("written", |process| process.outside.is_all_out()).await;
    });
    world.sink().settings["place"] = json!("b");
    world.run(|process| async move {
        seconds(5).await;
        process.outside.put_many("a", 3);
        process.delivered().await;
    });
    let places: Vec<_> = world.outside.objects().into_keys().map(|name| (name.place, name.end)).collect();
    assert_eq!(places, [("a".into(), 3), ("b".into(), 6)]);
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
fn reload_applies_the_difference_alone() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.run(|process| async move {
        process.delivered().await;
        let mut plan = process.plan.clone();
        assert_eq!(process.engine.reload(plan.clone()).await.unwrap(), [""; 0]);
        let mut wrong = plan.clone();
        wrong.sinks.get_mut("out").unwrap().connector = "object".into();
        let refused = process.engine.reload(wrong).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "sinks.out.connector: unknown connector `object`, expected one of `documents`, `objects`"
        );

        plan.sinks.get_mut("out").unwrap().chunk.age = Span::seconds(2);
        plan.topics.insert("t".into(), TopicPlan { partitions: 2, ..Default::default() });
        plan.sinks.insert("more".into(), sink(&process.outside, &["nothing"]));
        plan.sinks.get_mut("more").unwrap().settings["place"] = json!("b");
        let told = process.engine.reload(plan.clone()).await.unwrap();
        let expected = [
            "gave more partitions to topic t",
            "restarted `in`, which has changed",
            "started `more`",
            "restarted `out`, which has changed",
        ];
        assert_eq!(told, expected);
        for stream in ["a", "b", "c", "d"] {
            process.outside.put_many(stream, 3);
        }
        process.delivered().await;
        plan.sinks.remove("out");
        let told = process.engine.reload(plan).await.unwrap();
        assert_eq!(told, ["stopped `out`, which is no longer declared"]);
        assert!(process.store.held(&t(0)).iter().any(|(holder, _)| holder == "sink out"));
    });
}

#[test]
fn a_source_goes_by_what_its_topic_has_become() {
    let mut world = World::new();
    world.plan.topics.insert("t".into(), TopicPlan::default());
    world.run(|process| async move {
        let mut plan = process.plan.clone();
        plan.topics.get_mut("t").unwrap().settings.durability = Durability::Interval;
        let told = process.engine.reload(plan).await.unwrap();
        assert_eq!(told, ["changed topic t", "restarted `in`, which has changed"]);
    });
}

#[test]
fn a_reload_is_seen_through_where_nobody_waits_for_it() {
    let mut world = World::new();
    world.outside.put_many("a", 3);
    world.outside.script(&[Do::WriteAndWait(Duration::from_secs(20))]);
    world.run(|process| async move {
        process.until("written", |process| process.outside.is_all_out()).await;
        let mut plan = process.plan.clone();
        plan.sinks.get_mut("out").unwrap().chunk.age = Span::seconds(2);
        let reload = process.engine.reload(plan.clone());
        assert!(tokio::time::timeout(Duration::from_secs(1), reload).await.is_err());
        process.outside.put_many("a", 3);
        process.delivered().await;
        assert_eq!(process.engine.reload(plan).await.unwrap(), [""; 0]);
    });
}

#[test]
fn globs_take_in_new_topics_and_no_dead_letters() {
    let mut world = World::new();
    world.sink().topics = vec!["*".into()];
    world.outside.put("a", &["reject 0", "a 1"]);
    world.run(|process| async move {
        process.delivered().await;
        let mut plan = process.plan.clone();
        plan.sources.insert("again".into(), world::source(&process.outside, "u"));
        process.engine.reload(plan).await.unwrap();
        process
            .until("the new topic too", |process| process.outside.objects().keys().any(|name| name.topic == "u"))
            .await;
        seconds(5).await;
        assert!(process.outside.objects().keys().all(|name| ["t", "u"].contains(&name.topic.as_str())));
        assert_eq!(process.connector("out").await.topics, ["t", "u"]);
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

#[test]
fn problems_of_a_plan_are_told_by_their_path() {
    let mut world = World::new();
    world.plan.topics.insert("bad topic".into(), TopicPlan { partitions: 0, ..Default::default() });
    world.source().settings["lines"] = json!(0);
    world.source().topic = "__in".into();
    world.sink().topics = vec!["a[".into(), "out.dead-letters".into()];
    world.sink().chunk.bytes = ByteSize(0);
    world.sink().retry.first = Span::seconds(60);
    let mut same = sink(&world.outside, &["t"]);
    same.settings["plaze"] = json!(1);
    world.plan.sinks.insert("typo".into(), same);
    world.plan.sinks.insert("z".into(), sink(&world.outside, &["t"]));
    world.plan.sinks.insert("in".into(), sink(&world.outside, &[]));
    let parts = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { world.parts() });
    let problems = Engine::check(&parts.registry, &parts.resolve, &parts.edge, &world.plan);
    let settings: Vec<&str> = problems.iter().map(|problem| problem.setting.as_str()).collect();
    let expected = [
        "topics.bad topic",
        "topics.bad topic.partitions",
        "sources.in.topic",
        "sources.in.settings.lines",
        "sinks.in",
        "sinks.in.topics",
        "sinks.out.topics[0]",
        "sinks.out.topics[1]",
        "sinks.out.chunk.bytes",
        "sinks.out.retry.first",
        "sinks.typo.settings.plaze",
        "sinks.out.settings",
        "sinks.z.settings",
    ];
    assert_eq!(settings, expected, "{problems:#?}");
    assert_eq!(problems[11].message, "sink `in` writes the same names: give one of them another place");
}

/// Every contract that the engine asks of a store is there to be asked.
#[test]
fn the_store_of_these_tests_is_a_store() {
    fn is_store<T: Store>(_: &T) {}
    is_store(&world::Memory::default());
}

#[test]
fn positions_wait_for_their_data_when_a_topic_stops_being_synced_at_once() {
    let mut world = World::new();
    let sink = world.plan.sinks.remove("out").unwrap();
    world.outside.put_many("a", 3);
    world.run(|process| async move {
        process.until("appended", |process| process.store.records(&t(0)).len() == 3).await;
        seconds(3).await;
        let topics = process.store.topics().await.unwrap();
        let mut settings = topics.into_iter().find(|topic| &*topic.name == "t").unwrap().settings;
        settings.durability = Durability::Os;
        process.store.alter("t", 1, &settings).await.unwrap();
        process.outside.put_many("a", 3);
        seconds(3).await;
        process.outside.put_many("a", 3);
        seconds(30).await;
    });
    world.plan.sinks.insert("out".into(), sink);
    world.run(|process| async move { process.delivered().await });
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
