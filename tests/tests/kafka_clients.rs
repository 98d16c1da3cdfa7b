//! Apache Kafka's own tools against the endpoint of the real daemon: what they write is there, and what is there they read.
//!
//! Needs Java 17 and Maven, see `services/kafka.sh`.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::services::{kafka_tool, try_kafka_tool};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// A daemon with an endpoint for Kafka clients, and its address.
async fn daemon(topics: &str) -> (Daemon, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut daemon = Daemon::new(PROGRAM, topics);
    let file = daemon.path("aqueduct.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("listen: {", &format!("listen: {{ kafka: \"{address}\","), 1)).unwrap();
    daemon.started().await;
    (daemon, address)
}

/// The offsets that `kafka-get-offsets` tells, by partition.
fn offsets(address: &str, topic: &str, time: &str) -> BTreeMap<i32, i64> {
    let told = kafka_tool("get-offsets", address, &["--topic", topic, "--time", time], "");
    let line = |line: &str| {
        let mut words = line.strip_prefix(&format!("{topic}:"))?.split(':');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    told.lines().filter_map(line).collect()
}

/// What a console consumer reads of a partition from its beginning.
fn consumed(address: &str, topic: &str, partition: i32, count: i64) -> Vec<String> {
    let (partition, count) = (partition.to_string(), count.to_string());
    let from = ["--topic", topic, "--partition", &partition, "--offset", "earliest"];
    let until = ["--max-messages", &count, "--timeout-ms", "60000"];
    let told = kafka_tool("console-consumer", address, &[&from[..], &until].concat(), "");
    let mut lines: Vec<_> = told.lines().map(str::to_owned).collect();
    assert_eq!(lines.pop(), Some(format!("Processed a total of {count} messages")));
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_described_grown_configured_and_deleted() {
    let (daemon, address) = daemon("topics:\n  declared: { partitions: 4 }\n").await;
    let topics = |arguments: &[&str]| kafka_tool("topics", &address, arguments, "");
    topics(&["--create", "--topic", "one", "--partitions", "3", "--config", "retention.ms=3600000"]);
    let listed = || {
        let listed = topics(&["--list"]);
        // The runtime has some of its own.
        listed.lines().filter(|name| !name.starts_with("__")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["declared", "one"]);
    let described = topics(&["--describe", "--topic", "one"]);
    assert!(
        described.contains("PartitionCount: 3\tReplicationFactor: 1\tConfigs: retention.ms=3600000"),
        "{described}"
    );
    assert!(described.contains("Partition: 2\tLeader: 0\tReplicas: 0\tIsr: 0"), "{described}");
    assert!(topics(&["--describe", "--topic", "declared"]).contains("PartitionCount: 4"));
    topics(&["--alter", "--topic", "one", "--partitions", "5"]);
    assert!(topics(&["--describe", "--topic", "one"]).contains("PartitionCount: 5"));
    let configs = |arguments: &[&str]| {
        let one = ["--entity-type", "topics", "--entity-name", "one"];
        kafka_tool("configs", &address, &[&one[..], arguments].concat(), "")
    };
    configs(&["--alter", "--add-config", "max.message.bytes=2097152,cleanup.policy=compact"]);
    configs(&["--alter", "--delete-config", "retention.ms"]);
    let described = configs(&["--describe"]);
    assert!(
        described.contains("max.message.bytes=2097152") && described.contains("cleanup.policy=compact"),
        "{described}"
    );
    assert!(!described.contains("retention.ms"), "{described}");
    topics(&["--delete", "--topic", "one"]);
    assert_eq!(listed(), ["declared"]);
    let refused: &[(&str, &[&str], &str)] = &[
        ("topics", &["--create", "--topic", "../x"], "InvalidTopicException"),
        ("topics", &["--create", "--topic", "declared"], "TopicExistsException"),
        ("topics", &["--create", "--topic", "two", "--replication-factor", "3"], "InvalidReplicationFactorException"),
        ("topics", &["--create", "--topic", "two", "--partitions", "100000"], "InvalidPartitionsException"),
        ("topics", &["--alter", "--topic", "declared", "--partitions", "2"], "InvalidPartitionsException"),
        ("topics", &["--delete", "--topic", "__consumer_offsets"], "InvalidRequestException"),
        (
            "configs",
            &["--alter", "--entity-type", "topics", "--entity-name", "declared", "--add-config", "retention.ms=soon"],
            "InvalidConfigurationException",
        ),
    ];
    for (tool, arguments, why) in refused {
        let (succeeded, told) = try_kafka_tool(tool, &address, arguments, "");
        assert!(!succeeded && told.contains(why), "{tool} {arguments:?}: {told}");
    }
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_a_console_producer_writes_are_read_by_a_console_consumer() {
    let (mut daemon, address) = daemon("").await;
    let lines: Vec<String> = (0..500).map(|number| format!("line {number} ü")).collect();
    for (codec, topic) in ["none", "gzip", "snappy", "lz4", "zstd"].map(|codec| (codec, format!("with-{codec}"))) {
        // Nobody made the topic: it is made when it is asked for.
        let compressed = ["--topic", &topic, "--compression-codec", codec];
        kafka_tool("console-producer", &address, &compressed, &(lines.join("\n") + "\n"));
        assert_eq!(consumed(&address, &topic, 0, 500), lines, "{codec}");
    }
    let producers = ["describe-producers", "--topic", "with-none", "--partition", "0"];
    let producers = kafka_tool("transactions", &address, &producers, "");
    let [_, producer] = producers.lines().collect::<Vec<_>>()[..] else { panic!("one producer: {producers}") };
    let words: Vec<_> = producer.split_whitespace().collect();
    assert_eq!((words[1], words[3]), ("0", "499"), "its epoch and the last number it gave: {producers}");
    assert_eq!(offsets(&address, "with-none", "latest"), BTreeMap::from([(0, 500)]));
    assert_eq!(offsets(&address, "with-none", "earliest"), BTreeMap::from([(0, 0)]));
    assert_eq!(offsets(&address, "with-none", "1000"), BTreeMap::from([(0, 0)]));
    let latest = offsets(&address, "with-none", "max-timestamp")[&0];
    assert!((0..500).contains(&latest), "{latest}");
    assert!(daemon.stop().success(), "{}", daemon.log());
    daemon.started().await;
    assert_eq!(consumed(&address, "with-zstd", 0, 500), lines, "after a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_records_of_a_producer_in_a_hurry_are_there_once_and_in_order() {
    let (daemon, address) = daemon("topics:\n  perf: { partitions: 6 }\n").await;
    let count = "100000";
    let how = ["--topic", "perf", "--num-records", count, "--record-size", "100", "--throughput", "-1"];
    let told = kafka_tool("producer-perf", &address, &how, "");
    assert!(told.contains(&format!("{count} records sent")), "{told}");
    let ends = offsets(&address, "perf", "latest");
    assert_eq!((ends.len(), ends.values().sum::<i64>()), (6, 100_000));
    let mut read = 0;
    for (partition, end) in ends {
        read += consumed(&address, "perf", partition, end).len();
    }
    assert_eq!(read, 100_000);
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_about_lengths_loses_its_connection_alone() {
    let (daemon, address) = daemon("").await;
    kafka_tool("console-producer", &address, &["--topic", "t"], "before\n");
    let header = [0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0];
    let body = [0xff, 0xff, 0xff, 0xff, 0x07];
    let frame = [&(header.len() as u32 + 5).to_be_bytes()[..], &header, &body].concat();
    let frames: [&[u8]; 4] = [&frame, b"GET / HTTP/1.1\r\n\r\n", &[0x7f, 0xff, 0xff, 0xff], &[0, 0, 0, 1, 0]];
    for frame in frames {
        let mut peer = TcpStream::connect(&address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(frame).unwrap();
        let mut answer = Vec::new();
        // The connection ends without an answer, by an end of file or by a reset.
        let _ = peer.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{frame:?}: {answer:?}");
    }
    // One that stays silent is in nobody's way.
    let _silent = TcpStream::connect(&address).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    kafka_tool("console-producer", &address, &["--topic", "t"], "after\n");
    assert_eq!(consumed(&address, "t", 0, 2), ["before", "after"]);
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_together_are_answered_in_their_order() {
    let (daemon, address) = daemon("").await;
    let mut peer = TcpStream::connect(&address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // ApiVersions in a version that nobody knows, then in one that all know, each by its number.
    let versions = |version: i16, number: i32| {
        let header = [&18i16.to_be_bytes()[..], &version.to_be_bytes(), &number.to_be_bytes(), &(-1i16).to_be_bytes()];
        let header = header.concat();
        [&(header.len() as u32).to_be_bytes()[..], &header].concat()
    };
    peer.write_all(&[versions(77, 1), versions(0, 2), versions(1, 3)].concat()).unwrap();
    for (number, error) in [(1i32, 35i16), (2, 0), (3, 0)] {
        let mut length = [0; 4];
        peer.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..6], [&number.to_be_bytes()[..], &error.to_be_bytes()].concat(), "{number}");
    }
    drop(daemon);
}
