//! Groups of Apache Kafka's own consumers at the endpoint of the real daemon: they share partitions, resume where they committed,
//! and the tools for groups show and change them. A sink's group is not theirs.
//!
//! Needs Java 17 and Maven, see `services/kafka.sh`.

#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::services::{kafka_tool, try_kafka_tool};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// A daemon with an endpoint for Kafka clients, and its address.
async fn daemon(configuration: &str) -> (Daemon, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut daemon = Daemon::new(PROGRAM, configuration);
    let file = daemon.path("aqueduct.yaml");
    let text = fs::read_to_string(&file).unwrap();
    // Members that come one by one need not be waited for.
    let kafka = format!("kafka: {{ address: \"{address}\", groups: {{ initial-delay: 500ms }} }}");
    fs::write(&file, text.replacen("listen: {", &format!("listen: {{ {kafka},"), 1)).unwrap();
    daemon.started().await;
    (daemon, address)
}

fn produce(address: &str, topic: &str, numbers: std::ops::Range<u32>) {
    // Without keys the producer would keep to one partition for as long as it fills a batch.
    let lines: String = numbers.map(|number| format!("{number}\tline {number}\n")).collect();
    kafka_tool("console-producer", address, &["--topic", topic, "--reader-property", "parse.key=true"], &lines);
}

/// What a console consumer that is alone in its group reads, in order of its lines.
fn consume(address: &str, topic: &str, group: &str, count: u32) -> Vec<String> {
    let (count, from) = (count.to_string(), ["--topic", topic, "--group", group, "--from-beginning"]);
    let until = ["--max-messages", &count, "--timeout-ms", "60000"];
    let told = kafka_tool("console-consumer", address, &[&from[..], &until].concat(), "");
    let mut lines: Vec<_> = told.lines().filter(|line| line.starts_with("line ")).map(str::to_owned).collect();
    lines.sort_unstable_by_key(|line| line[5..].parse::<u32>().unwrap());
    lines
}

fn lines(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("line {number}")).collect()
}

/// The committed offset and the lag of each partition, as `kafka-consumer-groups --describe` tells them.
fn described(address: &str, group: &str) -> BTreeMap<i32, (String, String)> {
    let told = kafka_tool("consumer-groups", address, &["--describe", "--group", group], "");
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words.first() == Some(&group))
            .then(|| Some((words.get(2)?.parse().ok()?, ((*words.get(3)?).to_owned(), (*words.get(5)?).to_owned()))))?
    };
    told.lines().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_resumes_where_it_committed_and_is_shown_reset_and_deleted() {
    let (mut daemon, address) = daemon("topics:\n  orders: { partitions: 4 }\n").await;
    let groups = |arguments: &[&str]| kafka_tool("consumer-groups", &address, arguments, "");
    produce(&address, "orders", 0..100);
    assert_eq!(consume(&address, "orders", "readers", 100), lines(0..100));
    let before = described(&address, "readers");
    let sum: i64 = before.values().map(|(committed, _)| committed.parse::<i64>().unwrap()).sum();
    assert_eq!((before.len(), sum), (4, 100), "{before:?}");
    assert!(before.values().all(|(_, lag)| lag == "0"), "{before:?}");
    daemon.kill();
    daemon.started().await;
    assert_eq!(described(&address, "readers"), before, "after a kill");
    produce(&address, "orders", 100..150);
    assert_eq!(consume(&address, "orders", "readers", 50), lines(100..150), "it resumes");
    assert_eq!(groups(&["--list"]).lines().collect::<Vec<_>>(), ["readers"]);
    let state = groups(&["--describe", "--group", "readers", "--state"]);
    assert!(state.contains("Empty"), "{state}");
    let listed = groups(&["--list", "--state", "stable"]);
    assert!(!listed.contains("readers"), "{listed}");
    groups(&["--group", "readers", "--reset-offsets", "--to-earliest", "--topic", "orders", "--execute"]);
    assert!(described(&address, "readers").values().all(|(committed, _)| committed == "0"));
    assert_eq!(consume(&address, "orders", "readers", 150), lines(0..150), "it begins again");
    let told = groups(&["--delete-offsets", "--group", "readers", "--topic", "orders:0"]);
    assert!(told.contains("Successful"), "{told}");
    assert_eq!(described(&address, "readers").len(), 3);
    let told = groups(&["--delete", "--group", "readers"]);
    assert!(told.contains("successful"), "{told}");
    assert_eq!(groups(&["--list"]).trim(), "");
    let (_, told) = try_kafka_tool("consumer-groups", &address, &["--describe", "--group", "readers"], "");
    assert!(told.contains("not found") || told.contains("does not exist"), "{told}");
}

/// A consumer in a process of its own, which says in JSON what happens to it.
struct Member {
    child: Child,
    told: PathBuf,
}

impl Member {
    fn start(address: &str, group: &str, name: &str, folder: &Path) -> Member {
        let told = folder.join(format!("{name}.json"));
        let errors = File::create(folder.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new("bash");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/kafka.sh")).arg("verifiable-consumer");
        command.args(["--bootstrap-server", address, "--topic", "orders", "--group-id", group]);
        command.args(["--reset-policy", "earliest", "--session-timeout", "6000"]);
        command.args(["--assignment-strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"]);
        let child = command.stdin(Stdio::null()).stdout(File::create(&told).unwrap()).stderr(errors).spawn().unwrap();
        Member { child, told }
    }

    /// What it said, by name.
    fn events(&self, name: &str) -> Vec<Value> {
        let told = fs::read_to_string(&self.told).unwrap();
        // The last line may be there in part.
        let events = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["name"] == name).collect()
    }

    /// How many records it read of each partition: from and to which offset, in its words.
    fn read(&self) -> Vec<(i64, i64, i64)> {
        let all = self.events("records_consumed");
        let partitions = all.iter().flat_map(|event| event["partitions"].as_array().cloned().unwrap_or_default());
        let number = |of: &Value, key: &str| of[key].as_i64().unwrap();
        partitions.map(|of| (number(&of, "partition"), number(&of, "minOffset"), number(&of, "maxOffset"))).collect()
    }

    fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many partitions each member has, by member, as the tool tells it.
fn shared(address: &str, group: &str) -> Vec<i64> {
    let (_, told) = try_kafka_tool("consumer-groups", address, &["--describe", "--group", group, "--members"], "");
    let counts = told.lines().filter(|line| line.starts_with(group)).map(|line| line.split_whitespace().last());
    let mut counts: Vec<i64> = counts.map(|count| count.and_then(|count| count.parse().ok()).unwrap_or(-1)).collect();
    counts.sort_unstable();
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_members_that_come_and_go_read_every_record() {
    let (mut daemon, address) = daemon("topics:\n  orders: { partitions: 8 }\n").await;
    let folder = daemon.path("members");
    fs::create_dir(&folder).unwrap();
    let start = |name: &str| Member::start(&address, "workers", name, &folder);
    produce(&address, "orders", 0..1000);
    let mut members: Vec<Member> = ["a", "b", "c", "d"].map(start).into();
    let share = async |counts: &[i64]| {
        let what = format!("members have {counts:?} partitions");
        daemon.until(&what, async |_| shared(&address, "workers") == counts).await;
    };
    share(&[2, 2, 2, 2]).await;
    let shown = daemon.command(&["groups", "show", "workers"]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    let (_, shown) = shown.split_once("MEMBER").unwrap_or_else(|| panic!("no members: {shown}"));
    assert_eq!(shown.lines().filter(|line| line.ends_with("/127.0.0.1")).count(), 4, "{shown}");
    produce(&address, "orders", 1000..2000);
    // One leaves, one dies without a word, one comes.
    members[0].signal(Signal::TERM);
    members[1].signal(Signal::KILL);
    members.push(start("e"));
    produce(&address, "orders", 2000..3000);
    share(&[2, 3, 3]).await;
    let (succeeded, told) = try_kafka_tool("consumer-groups", &address, &["--delete", "--group", "workers"], "");
    assert!(told.contains("GroupNotEmptyException"), "{succeeded}: {told}");
    daemon.kill();
    daemon.started().await;
    produce(&address, "orders", 3000..4000);
    let address = &address;
    daemon.until("all is read", async |_| described(address, "workers").values().all(|(_, lag)| lag == "0")).await;
    assert_eq!(shared(address, "workers"), [2, 3, 3], "the members survive the daemon");
    let mut ends = BTreeMap::<i64, Vec<(i64, i64)>>::new();
    for (partition, min, max) in members.iter().flat_map(Member::read) {
        ends.entry(partition).or_default().push((min, max));
    }
    let mut total = 0;
    for (partition, ranges) in &mut ends {
        ranges.sort_unstable();
        let mut next = 0;
        for (min, max) in ranges {
            assert!(*min <= next, "offsets {next} to {min} of partition {partition} are read by nobody");
            next = next.max(*max + 1);
        }
        total += next;
    }
    assert_eq!(total, 4000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_of_a_sink_that_runs_is_not_disturbed() {
    let sink = r#"
topics:
  orders: { partitions: 2 }
sinks:
  lake:
    connector: file
    topics: [orders]
    chunk: { age: 50ms }
    settings: { path: lake/all.log }
"#;
    let (daemon, address) = daemon(sink).await;
    produce(&address, "orders", 0..100);
    let written = async |daemon: &Daemon, count: usize| {
        let texts = daemon.files("lake").into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap());
        texts.map(|text| text.lines().count()).sum::<usize>() == count
    };
    daemon.until("100 lines are written", async |daemon| written(daemon, 100).await).await;
    let group = "connect-lake";
    daemon
        .until("the sink has committed", async |_| {
            described(&address, group).values().filter(|(_, lag)| lag == "0").count() == 2
        })
        .await;
    let members = kafka_tool("consumer-groups", &address, &["--describe", "--group", group, "--members"], "");
    assert!(members.contains("aqueduct-connect-lake"), "{members}");
    let reset = ["--group", group, "--reset-offsets", "--to-earliest", "--topic", "orders", "--execute"];
    let refused: &[(&str, &[&str], &str)] = &[
        ("console-consumer", &["--topic", "orders", "--group", group], "InconsistentGroupProtocolException"),
        ("consumer-groups", &reset, "current state is Stable"),
        ("consumer-groups", &["--group", group, "--delete"], "GroupNotEmptyException"),
        ("consumer-groups", &["--group", group, "--delete-offsets", "--topic", "orders"], "GroupNotEmptyException"),
    ];
    for (tool, arguments, why) in refused {
        let (_, told) = try_kafka_tool(tool, &address, arguments, "");
        assert!(told.contains(why), "{tool} {arguments:?}: {told}");
    }
    produce(&address, "orders", 100..150);
    daemon.until("150 lines are written", async |daemon| written(daemon, 150).await).await;
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}
