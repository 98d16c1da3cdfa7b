//! What changes when the configuration does.

use std::time::Duration;

use aqueduct_api::{ByteSize, Durability, Span, Topics};
use aqueduct_engine::{Engine, TopicPlan};
use serde_json::json;

use crate::world::{Do, World, sink, source};
use crate::{seconds, t};

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
        plan.sources.insert("again".into(), source(&process.outside, "u"));
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
