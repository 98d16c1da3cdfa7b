//! Apache Kafka's own tools for those who look after topics: records are deleted, folders and settings described.
//!
//! Needs Java 17 and Maven, see `services/kafka.sh`.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs;

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::services::{kafka_tool, try_kafka_tool};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// The first offset of each partition of a topic.
fn starts(address: &str, topic: &str) -> BTreeMap<i32, i64> {
    let told = kafka_tool("get-offsets", address, &["--topic", topic, "--time", "earliest"], "");
    let line = |line: &str| {
        let mut words = line.strip_prefix(&format!("{topic}:"))?.split(':');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    told.lines().filter_map(line).collect()
}

/// What `kafka-delete-records` says when it is asked to delete what lies before an offset of each partition.
fn delete(daemon: &Daemon, address: &str, before: &[(&str, i32, i64)]) -> (bool, String) {
    let partition = |(topic, partition, offset): &(&str, i32, i64)| {
        format!(r#"{{"topic":"{topic}","partition":{partition},"offset":{offset}}}"#)
    };
    let partitions: Vec<_> = before.iter().map(partition).collect();
    let file = daemon.path("delete.json");
    fs::write(&file, format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.join(","))).unwrap();
    try_kafka_tool("delete-records", address, &["--offset-json-file", file.to_str().unwrap()], "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_deleted_stay_deleted_and_those_that_are_needed_stay() {
    let (mut daemon, address) = Daemon::for_kafka_clients(
        PROGRAM,
        "topics:\n  t: { partitions: 2 }\n  kept: { cleanup.policy: compact }\n  needed: {}\nsinks:\n  out:\n    connector: \
         s3\n    topics: [needed]\n    chunk: { age: 1h }\n    settings: { url: \"file://./out\" }\n",
    )
    .await;
    let lines: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let lines = lines.join("\n") + "\n";
    for topic in ["t", "needed"] {
        kafka_tool("console-producer", &address, &["--topic", topic], &lines);
    }
    let ends = kafka_tool("get-offsets", &address, &["--topic", "t", "--time", "latest"], "");
    let (succeeded, told) = delete(&daemon, &address, &[("t", 0, -1), ("t", 1, -1)]);
    assert!(succeeded && told.contains("low_watermark"), "{told}");
    let begun = starts(&address, "t");
    let all_gone = begun.iter().all(|(partition, start)| ends.contains(&format!("t:{partition}:{start}")));
    assert!(all_gone && begun.values().sum::<i64>() == 300, "{begun:?} of {ends}");
    let refused = [
        (("t", 1, 1_000_000), "OffsetOutOfRangeException"),
        (("kept", 0, 0), "PolicyViolationException"),
        (("needed", 0, 100), "PolicyViolationException"),
    ];
    for (before, why) in refused {
        let (_, told) = delete(&daemon, &address, &[before]);
        assert!(told.contains(why), "{before:?}: {told}");
    }
    daemon.kill();
    daemon.started().await;
    assert_eq!(starts(&address, "t"), begun, "after a kill");
    assert!(daemon.stop().success(), "{}", daemon.log());
    daemon.started().await;
    assert_eq!(starts(&address, "t"), begun, "after a stop");
    assert_eq!(starts(&address, "needed"), BTreeMap::from([(0, 0)]));
    kafka_tool("console-producer", &address, &["--topic", "t"], "on\n");
    let from = ["--topic", "t", "--from-beginning", "--timeout-ms", "15000"];
    let read = kafka_tool("console-consumer", &address, &from, "");
    assert!(read.lines().any(|line| line == "on"), "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_ends_while_records_are_deleted_has_deleted_them_or_not() {
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: {}\n").await;
    let lines = |numbers: std::ops::Range<i64>| numbers.map(|number| format!("{number}\n")).collect::<String>();
    kafka_tool("console-producer", &address, &["--topic", "t"], &lines(0..100));
    for to in [30, 60] {
        daemon.kill();
        let file = daemon.path("delete.json");
        fs::write(&file, format!(r#"{{"version":1,"partitions":[{{"topic":"t","partition":0,"offset":{to}}}]}}"#))
            .unwrap();
        let (asked, file) = (address.clone(), file.to_str().unwrap().to_owned());
        // It keeps one of the two workers busy.
        let deleting =
            tokio::spawn(async move { try_kafka_tool("delete-records", &asked, &["--offset-json-file", &file], "") });
        daemon.ended_at("deletion.noted", 1).await;
        daemon.started().await;
        let (succeeded, told) = deleting.await.unwrap();
        assert!(succeeded, "{told}");
        assert_eq!(starts(&address, "t"), BTreeMap::from([(0, to)]));
        let from = ["--topic", "t", "--from-beginning", "--timeout-ms", "15000", "--max-messages", "40"];
        let read = kafka_tool("console-consumer", &address, &from, "");
        let read: Vec<i64> = read.lines().filter_map(|line| line.parse().ok()).collect();
        assert_eq!(read, (to..to + 40).collect::<Vec<_>>(), "from {to} on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_settings_and_many_partitions_are_described() {
    let (daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: { partitions: 2 }\n").await;
    kafka_tool("console-producer", &address, &["--topic", "t"], "a line\n");
    let folders = kafka_tool("log-dirs", &address, &["--describe", "--topic-list", "t"], "");
    let folder = daemon.path("data").canonicalize().unwrap();
    assert!(folders.contains(&format!(r#""logDir":"{}""#, folder.display())), "{folders}");
    assert!(folders.contains(r#""partition":"t-1""#) && folders.contains(r#""error":null"#), "{folders}");
    let size = |part: &str| part.split(',').next().and_then(|size| size.parse::<u64>().ok());
    let sizes: u64 = folders.split(r#""size":"#).skip(1).filter_map(size).sum();
    assert!(sizes > 60, "{folders}");
    let broker = ["--describe", "--all", "--entity-type", "brokers", "--entity-name", "0"];
    let broker = kafka_tool("configs", &address, &broker, "");
    for line in [format!("advertised.listeners={address}"), "auto.create.topics.enable=true".to_owned()] {
        assert!(broker.contains(&line), "{line}: {broker}");
    }
    let alter = ["--alter", "--entity-type", "brokers", "--entity-name", "0", "--add-config", "log.retention.ms=1"];
    let (succeeded, told) = try_kafka_tool("configs", &address, &alter, "");
    assert!(!succeeded && told.contains("InvalidRequestException"), "{told}");
    // More than one answer holds.
    kafka_tool("topics", &address, &["--create", "--topic", "wide", "--partitions", "2100"], "");
    let described = kafka_tool("topics", &address, &["--describe"], "");
    assert!(described.contains("Topic: wide\tPartition: 2099\tLeader: 0"), "{described}");
    assert!(described.contains("Topic: t\tPartition: 1\tLeader: 0"), "{described}");
    drop(daemon);
}
