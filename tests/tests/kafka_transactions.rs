//! Kafka's own Java client in transactions, and Kafka's tool for them, against the real daemon that is killed under them: each
//! transaction is whole or not there.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 20); `AQUEDUCT_SEED` repeats a run's choices. Needs a JDK of at least 17 and
//! Maven, see `golden/java.sh`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests are the outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::services::kafka_tool;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");
const PARTITIONS: &str = "3";
const WRITERS: &str = "3";
const COPIERS: &str = "2";

/// A program of `Transactions.java`, killed when dropped.
struct Java {
    child: Child,
    log: std::path::PathBuf,
}

impl Java {
    fn start(folder: &Path, address: &str, arguments: &[&str]) -> Java {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = folder.join(format!("java-{}.log", arguments.join("-").replace('/', "_")));
        let log = fs::File::create(&path).unwrap();
        let mut command = Command::new(here.join("golden/java.sh"));
        command.env("AQUEDUCT_JAVA", here.join("java/Transactions.java")).arg(address).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|cause| panic!("start {command:?}: {cause}"));
        Java { child, log: path }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has ended well, and returns what it has told.
    async fn ended(mut self) -> String {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {}", self.told());
                return self.told();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.told());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn run(folder: &Path, address: &str, arguments: &[&str]) -> String {
    Java::start(folder, address, arguments).ended().await
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_committed_aborted_fenced_and_timed_out() {
    let topics = "topics:\n  ends: { partitions: 2 }\n  fences: { partitions: 1 }\n  times-out: { partitions: 1 }\n";
    let (daemon, address) = Daemon::for_kafka_clients(PROGRAM, topics).await;
    for what in ["ends", "fences", "times-out"] {
        println!("{}", run(daemon.folder(), &address, &[what, what]).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_transactions_and_end_one_that_nobody_knows() {
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: { partitions: 1 }\n").await;
    let java = Java::start(daemon.folder(), &address, &["hangs", "t", "left-open", "600"]);
    daemon.until("a transaction is open", async |_| java.told().contains("open")).await;
    let tool = |arguments: &[&str]| kafka_tool("transactions", &address, arguments, "");
    let words = |told: &str| -> Vec<Vec<String>> {
        told.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let listed = words(&tool(&["list"]));
    assert_eq!((&listed[1][0], &listed[1][3]), (&"left-open".to_owned(), &"Ongoing".to_owned()), "{listed:?}");
    assert_eq!(words(&tool(&["list", "--duration-filter", "600000"])).len(), 1);
    let described = tool(&["describe", "--transactional-id", "left-open"]);
    assert!(described.contains("Ongoing") && described.contains("t-0"), "{described}");
    let producers = tool(&["describe-producers", "--topic", "t", "--partition", "0"]);
    assert!(words(&producers)[1].last().is_some_and(|start| start == "0"), "{producers}");
    let hanging = tool(&["find-hanging", "--broker-id", "0", "--max-transaction-timeout", "1"]);
    assert_eq!(words(&hanging).len(), 1, "it is known: {hanging}");

    // What knows of it is lost.
    drop(java);
    daemon.kill();
    fs::remove_dir_all(daemon.path("data/__transaction_state")).unwrap();
    daemon.started().await;
    let hanging = tool(&["find-hanging", "--broker-id", "0", "--max-transaction-timeout", "1"]);
    assert!(words(&hanging).get(1).is_some_and(|line| line[..2] == ["t", "0"]), "{hanging}");
    assert_eq!(run(daemon.folder(), &address, &["reads", "t", "1"]).await, "");
    tool(&["abort", "--topic", "t", "--partition", "0", "--start-offset", "0"]);
    let hanging = tool(&["find-hanging", "--broker-id", "0", "--max-transaction-timeout", "1"]);
    assert_eq!(words(&hanging).len(), 1, "{hanging}");
    let producers = tool(&["describe-producers", "--topic", "t", "--partition", "0"]);
    assert!(words(&producers)[1].last().is_some_and(|start| start == "None"), "{producers}");
}

/// What a reader of what is committed finds, in the order of partitions and offsets.
async fn committed(folder: &Path, address: &str, topic: &str) -> Vec<String> {
    let told = run(folder, address, &["reads", topic, PARTITIONS]).await;
    let value = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    told.lines().filter_map(value).collect()
}

/// What each writer was told of each of its transactions.
fn told(folder: &Path) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for writer in 0..WRITERS.parse::<usize>().unwrap() {
        let text = fs::read_to_string(folder.join(format!("told-{writer}"))).unwrap();
        for line in text.lines() {
            let (number, outcome) = line.split_once(' ').unwrap();
            assert!(told.insert(format!("{writer}:{number}"), outcome.to_owned()).is_none(), "told twice: {line}");
        }
    }
    told
}

fn told_bytes(folder: &Path) -> u64 {
    let writers = 0..WRITERS.parse::<usize>().unwrap();
    writers.map(|n| fs::metadata(folder.join(format!("told-{n}"))).map_or(0, |found| found.len())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transaction_is_whole_or_not_there_however_often_the_daemon_is_killed() {
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(rand::random);
    println!("AQUEDUCT_SEED={seed}");
    let mut dice = SmallRng::seed_from_u64(seed);
    let topics =
        "topics:\n  in: { partitions: 3, segment.bytes: 256 KiB }\n  out: { partitions: 3, segment.bytes: 256 KiB }\n";
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, topics).await;
    let (writes, copies) = (daemon.path("writes"), daemon.path("copies"));
    fs::create_dir(&writes).unwrap();
    fs::create_dir(&copies).unwrap();
    let folder = daemon.folder().to_owned();
    let arguments = ["writes", "in", PARTITIONS, WRITERS, writes.to_str().unwrap()];
    let writers = Java::start(&folder, &address, &arguments);
    let copiers =
        Java::start(&folder, &address, &["copies", "in", "out", PARTITIONS, COPIERS, copies.to_str().unwrap()]);
    daemon.until("a writer is told of a transaction", async |_| told_bytes(&writes) > 0).await;
    for _ in 0..number("AQUEDUCT_KILLS").unwrap_or(20) {
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..1500))).await;
        daemon.kill();
        daemon.started().await;
    }
    // And where transactions are saved, and partitions told how they end.
    for (point, hit) in
        [("transactions.save", 3), ("transactions.saved", 4), ("transactions.marker", 3), ("commit.transaction", 2)]
    {
        daemon.kill();
        daemon.ended_at(point, hit).await;
        daemon.started().await;
    }
    let before = told_bytes(&writes);
    daemon.until("writers go on after the last kill", async |_| told_bytes(&writes) > before).await;
    fs::write(writes.join("stop"), "").unwrap();
    writers.ended().await;
    let written = committed(&folder, &address, "in").await;
    check(&told(&writes), &written);
    let begun = Instant::now();
    let mut copied = committed(&folder, &address, "out").await;
    while copied.len() < written.len() {
        assert!(begun.elapsed() < PATIENCE, "{} of {} are copied: {}", copied.len(), written.len(), copiers.told());
        tokio::time::sleep(Duration::from_millis(500)).await;
        copied = committed(&folder, &address, "out").await;
    }
    fs::write(copies.join("stop"), "").unwrap();
    copiers.ended().await;
    let copied = committed(&folder, &address, "out").await;
    assert!(copied == written, "{} records are copied of {}, in another order or others", copied.len(), written.len());
    assert!(daemon.stop().success(), "{}", daemon.log());
}

/// Each transaction has all its four records or none, as its writer was told.
fn check(told: &BTreeMap<String, String>, written: &[String]) {
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for value in written {
        let (transaction, part) = value.rsplit_once(':').unwrap();
        assert!(found.entry(transaction).or_default().insert(part), "{value} is there twice");
    }
    let (mut committed, mut unknown) = (0, 0);
    for (transaction, outcome) in told {
        let parts = found.remove(&**transaction).map_or(0, |parts| parts.len());
        match &**outcome {
            "committed" => assert_eq!(parts, 4, "{transaction} is committed"),
            "aborted" => assert_eq!(parts, 0, "{transaction} is aborted"),
            _ => assert!(parts == 0 || parts == 4, "{transaction} has {parts} of its records"),
        }
        committed += usize::from(outcome == "committed");
        unknown += usize::from(outcome == "unknown");
    }
    assert!(found.is_empty(), "nobody was told of {found:?}");
    println!("{committed} transactions of {} are committed; of {unknown} nobody knows", told.len());
}
