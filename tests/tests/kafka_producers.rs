//! Kafka's own Java producers, idempotent as they are by default, against the real daemon that is killed under them: each
//! record is there once and in order, and where its producer was told that it is.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 20); `AQUEDUCT_SEED` repeats a run's choices. Needs a JDK of at least 17 and
//! Maven, see `golden/java.sh`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aqueduct_api::{Edge, Log as _, TopicPartition};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options};
use aqueduct_record::Batch;
use aqueduct_tests::daemon::{Daemon, PATIENCE};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");
const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 4;
/// Records a second of each producer.
const RATE: usize = 1500;

/// The producers, killed when dropped.
struct Producers(Child);

impl Producers {
    fn start(address: &str, folder: &Path) -> Producers {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let log = fs::File::create(folder.join("java.log")).unwrap();
        let mut command = Command::new(here.join("golden/java.sh"));
        command.env("AQUEDUCT_JAVA", here.join("java/Producers.java"));
        command.args([address, "numbers", &PARTITIONS.to_string(), &PRODUCERS.to_string(), &RATE.to_string()]);
        command.arg(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Producers(command.spawn().unwrap_or_else(|cause| panic!("start {command:?}: {cause}")))
    }

    async fn ended(&mut self, folder: &Path) {
        let begun = std::time::Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                let log = fs::read_to_string(folder.join("java.log")).unwrap();
                assert!(status.success(), "{status}: {log}");
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the producers do not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A daemon with an endpoint for Kafka clients; segments are small, so that they roll.
fn daemon(kafka: &str) -> Daemon {
    let topics = format!("topics:\n  numbers: {{ partitions: {PARTITIONS}, segment.bytes: 256 KiB }}\n");
    let daemon = Daemon::new(PROGRAM, &topics);
    let file = daemon.path("aqueduct.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("listen: {", &format!("listen: {{ kafka: \"{kafka}\","), 1)).unwrap();
    daemon
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_of_an_idempotent_producer_is_there_once_however_often_the_daemon_is_killed() {
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(rand::random);
    println!("AQUEDUCT_SEED={seed}");
    let mut dice = SmallRng::seed_from_u64(seed);
    let address = free_address();
    let mut daemon = daemon(&address);
    daemon.started().await;
    let folder = daemon.path("told");
    fs::create_dir(&folder).unwrap();
    let mut producers = Producers::start(&address, &folder);
    daemon.until("a producer is told of its records", async |_| told_bytes(&folder) > 0).await;
    for _ in 0..number("AQUEDUCT_KILLS").unwrap_or(20) {
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..900))).await;
        daemon.kill();
        daemon.started().await;
    }
    // And where a roll writes what it knows of producers.
    for hit in [1, 2, 5] {
        daemon.kill();
        daemon.ended_at("producers.write", hit).await;
        daemon.started().await;
    }
    let before = told_bytes(&folder);
    daemon.until("producers go on after the last kill", async |_| told_bytes(&folder) > before).await;
    fs::write(folder.join("stop"), "").unwrap();
    producers.ended(&folder).await;
    assert!(daemon.stop().success(), "{}", daemon.log());
    check(&daemon.path("data"), &folder).await;
}

fn told_bytes(folder: &Path) -> u64 {
    (0..PRODUCERS).map(|n| fs::metadata(folder.join(format!("told-{n}"))).map_or(0, |found| found.len())).sum()
}

/// What a producer was told: partition and offset of each of its records, in their order.
fn told(folder: &Path, producer: usize) -> Vec<(i32, i64)> {
    let text = fs::read_to_string(folder.join(format!("told-{producer}"))).unwrap();
    let mut told = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let number: usize = words.next().unwrap().parse().unwrap();
        let place =
            words.next().and_then(|word| word.parse().ok()).zip(words.next().and_then(|word| word.parse().ok()));
        let place = place.unwrap_or_else(|| panic!("producer {producer} was told of a failure: {line}"));
        assert_eq!(told.insert(number, place), None, "told twice: {line}");
    }
    assert!(told.keys().copied().eq(0..told.len()), "producer {producer} was not told of all its records");
    told.into_values().collect()
}

async fn check(data: &Path, folder: &Path) {
    let options = Options { limit: DiskLimit::Percent(100), ..Options::default() };
    let log = CommitLog::open(Edge::real(), data, options).await.unwrap();
    // By producer and number: where the record is.
    let mut found: BTreeMap<(usize, usize), (i32, i64)> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let mut last = [None; PRODUCERS];
        for (offset, value) in read(&log, &TopicPartition::new("numbers", partition)).await {
            let mut words = value.split(':');
            let mut next = || words.next().unwrap().parse::<usize>().unwrap();
            let (producer, number) = (next(), next());
            let before = last[producer].replace(number);
            assert!(
                before < Some(number),
                "partition {partition}: {producer}:{number} comes at {offset} after {before:?}"
            );
            assert_eq!(
                found.insert((producer, number), (partition, offset)),
                None,
                "{producer}:{number} is there twice"
            );
        }
    }
    let mut records = 0;
    for producer in 0..PRODUCERS {
        for (number, place) in told(folder, producer).into_iter().enumerate() {
            assert_eq!(found.remove(&(producer, number)), Some(place), "{producer}:{number}");
            records += 1;
        }
    }
    assert!(
        found.is_empty(),
        "{} records are there that nobody was told of: {:?}",
        found.len(),
        found.first_key_value()
    );
    println!("{records} records of {PRODUCERS} producers are there once and in order");
    log.close().await.unwrap();
}

async fn read(log: &CommitLog, of: &TopicPartition) -> Vec<(i64, String)> {
    let (mut offset, mut found) = (0, Vec::new());
    loop {
        let read = log.read(of, offset, 1 << 20, aqueduct_api::Isolation::Uncommitted).await.unwrap();
        assert_eq!(read.lost, None);
        if read.batches.is_empty() {
            return found;
        }
        let mut rest = read.batches;
        while let Some((batch, behind)) = Batch::split_first(&rest).unwrap() {
            for record in batch.records().unwrap().iter() {
                let record = record.unwrap();
                found.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
            }
            offset = batch.next_offset();
            rest = behind;
        }
    }
}
