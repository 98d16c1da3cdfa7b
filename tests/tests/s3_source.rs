//! The S3 source against real servers: every line of every object comes once, also when the daemon is killed.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 15).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::services::{self, Bucket};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

fn daemon(bucket: &Bucket, settings: &str) -> Daemon {
    let configuration = format!(
        r#"
sources:
  bucket:
    connector: s3
    topic: lines
    settings: {{ url: "s3://{}/in", poll: 200ms, {settings} {} }}
sinks:
  out:
    connector: s3
    topics: [lines]
    chunk: {{ age: 200ms }}
    settings: {{ url: "file://./out", path: "{{topic}}", format: lines }}
"#,
        bucket.name,
        bucket.s3.settings()
    );
    Daemon::new(PROGRAM, &configuration)
}

/// All lines that have arrived, each with how often it did.
fn arrived(daemon: &Daemon) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for (name, _) in daemon.files("out") {
        for line in fs::read_to_string(daemon.path("out").join(name)).unwrap().lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
    }
    lines
}

async fn until_all_arrived(daemon: &Daemon, count: usize) {
    let begun = Instant::now();
    while arrived(daemon).len() < count {
        let found = arrived(daemon).len();
        assert!(begun.elapsed() < PATIENCE, "{found} of {count} lines after {PATIENCE:?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Lines of object `number`, some of which take several batches, and what is stored of them.
fn object(number: usize, chance: &mut SmallRng) -> (usize, Vec<u8>) {
    let lines = if number.is_multiple_of(9) { 40_000 } else { chance.random_range(0..300) };
    let text: String = (0..lines).map(|line| format!("{number:05} {line:06} {}\n", "x".repeat(60))).collect();
    let stored = match number % 2 {
        0 => text.into_bytes(),
        _ => zstd::encode_all(text.as_bytes(), 1).unwrap(),
    };
    (lines, stored)
}

#[tokio::test]
async fn every_line_of_every_object_comes_once_whenever_the_daemon_is_killed() {
    let bucket = services::s3().await.bucket("source").await;
    let mut daemon = daemon(&bucket, "");
    let mut chance = SmallRng::seed_from_u64(number("AQUEDUCT_SEED").unwrap_or(1));
    let (mut objects, mut lines) = (0, 0);
    for _ in 0..number("AQUEDUCT_KILLS").unwrap_or(15) {
        daemon.start(&[]);
        let until = Instant::now() + Duration::from_millis(chance.random_range(100..1500));
        while Instant::now() < until {
            let (count, stored) = object(objects, &mut chance);
            // Names in no order: what comes later may sort before what was read.
            bucket.put(&format!("in/{:04x}/{objects}", chance.random::<u16>()), &stored).await;
            objects += 1;
            lines += count;
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..80))).await;
        }
        daemon.kill();
    }
    daemon.started().await;
    until_all_arrived(&daemon, lines).await;
    assert!(daemon.stop().success(), "{}", daemon.log());
    let arrived = arrived(&daemon);
    let twice: Vec<_> = arrived.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(twice.is_empty(), "{twice:?}\n{}", daemon.log());
    assert_eq!(arrived.len(), lines, "of {objects} objects");
}

#[tokio::test]
async fn a_bucket_that_is_read_once_ends_the_source_and_another_server_will_do() {
    let bucket = services::versity().await.bucket("source").await;
    bucket.put("in/a.json", b"{\"a\":1}\nnonsense\n{\"a\":2}\n").await;
    bucket.put("elsewhere/b.json", b"{\"b\":1}\n").await;
    let mut daemon = daemon(&bucket, "once: true, format: json-lines,");
    daemon.started().await;
    until_all_arrived(&daemon, 2).await;
    let letters = daemon.command(&["dead-letters", "show", "bucket.dead-letters"]);
    let letters = String::from_utf8_lossy(&letters.stdout).into_owned();
    assert!(letters.contains("nonsense") && letters.contains("not JSON"), "{letters}\n{}", daemon.log());
    assert!(daemon.stop().success(), "{}", daemon.log());
    assert_eq!(arrived(&daemon).into_keys().collect::<Vec<_>>(), ["{\"a\":1}", "{\"a\":2}"]);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_stops_the_source_alone_and_says_so() {
    let mut bucket = services::s3().await.bucket("source").await;
    bucket.name = "no-such-bucket-anywhere".to_owned();
    let mut daemon = daemon(&bucket, "");
    daemon.started().await;
    let begun = Instant::now();
    loop {
        let status = daemon.status().await.to_string();
        if status.contains("bucket `no-such-bucket-anywhere`") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
