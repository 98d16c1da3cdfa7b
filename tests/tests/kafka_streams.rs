//! Kafka Streams' word count, `exactly_once_v2`, on the log of the real daemon that is killed under it: every word of every line
//! is counted once.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 3); `AQUEDUCT_SEED` repeats a run's choices. Needs a JDK of at least 17 and
//! Maven, see `golden/java.sh`.

#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests are the outside")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// The word count, killed when dropped.
struct WordCount(Child);

impl WordCount {
    fn start(address: &str, folder: &Path) -> WordCount {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let log = File::create(folder.join("java.log")).unwrap();
        let mut command = Command::new(here.join("golden/java.sh"));
        command.env("AQUEDUCT_POM", here.join("java/streams.xml"));
        command.env("AQUEDUCT_JAVA", here.join("java/WordCount.java")).arg(address).arg(folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        WordCount(command.spawn().unwrap_or_else(|cause| panic!("start {command:?}: {cause}")))
    }

    /// Waits for its end, which must be a good one.
    async fn ended(&mut self, folder: &Path) -> String {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(folder.join("java.log")).unwrap();
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}: {log}");
                return log;
            }
            assert!(begun.elapsed() < PATIENCE, "not all words are counted: {}\n{log}", counted(folder));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The test fails where it has ended.
    fn is_there(&mut self, folder: &Path) {
        if let Some(status) = self.0.try_wait().unwrap() {
            panic!("{status}: {}", fs::read_to_string(folder.join("java.log")).unwrap());
        }
    }
}

impl Drop for WordCount {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Words that a reader of what is committed has seen counted.
fn counted(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("counted")).unwrap_or_default();
    text.parse().unwrap_or(0)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_word_is_counted_once_however_often_the_daemon_is_killed() {
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(rand::random);
    println!("AQUEDUCT_SEED={seed}");
    let mut dice = SmallRng::seed_from_u64(seed);
    let topics = "topics:\n  lines: { partitions: 4 }\n  counts: { partitions: 2 }\n";
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, topics).await;
    let folder = daemon.path("streams");
    fs::create_dir(&folder).unwrap();
    let mut streams = WordCount::start(&address, &folder);
    let goes_on = async |daemon: &Daemon, streams: &mut WordCount| {
        let before = counted(&folder);
        daemon.until("words are counted", async |_| counted(&folder) > before + 100).await;
        streams.is_there(&folder);
    };
    goes_on(&daemon, &mut streams).await;
    for _ in 0..number("AQUEDUCT_KILLS").unwrap_or(3) {
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..1500))).await;
        daemon.kill();
        daemon.started().await;
        goes_on(&daemon, &mut streams).await;
    }
    fs::write(folder.join("stop"), "").unwrap();
    print!("{}", streams.ended(&folder).await.lines().last().unwrap());
}
