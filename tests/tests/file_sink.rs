//! The file sink in the real daemon, killed: every line is in its files once and in order, whenever it dies.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 50); `AQUEDUCT_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::lines::{self, Writer, Written};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// One growing file, one for each log that is read, and rolled ones; plain and compressed. The last two share a folder.
const CONFIGURATION: &str = r#"
topics:
  lines: { partitions: 4, segment.bytes: 256 KiB }
sources:
  logs:
    connector: file
    topic: lines
    settings: { paths: ["in/*.log", "in/*.log.*"], poll: 20ms, discover: 50ms, rotate-wait: 200ms }
sinks:
  one:
    connector: file
    topics: [lines]
    chunk: { age: 50ms }
    retry: { first: 20ms, longest: 200ms }
    settings: { path: one/all.log }
  many:
    connector: file
    topics: [lines]
    chunk: { age: 100ms }
    retry: { first: 20ms, longest: 200ms }
    settings: { path: "shared/many/{topic}-{partition}.log", compression: zstd, roll: { bytes: 8 KiB } }
  rolled:
    connector: file
    topics: [lines]
    chunk: { age: 100ms }
    retry: { first: 20ms, longest: 200ms }
    settings: { path: "shared/{partition}/lines.log", roll: { bytes: 32 KiB, records: 3000 } }
"#;

/// The lines in the files below `folder`: of each file, or of those that one name was rolled into, one after the other.
fn texts(daemon: &Daemon, folder: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, bytes) in daemon.files(folder) {
        let (text, plain) = match name.strip_suffix(".zst") {
            // While it is written its last frame may be there in part: the frames before it count.
            Some(plain) => (zstd_frames(&bytes), plain),
            None => (bytes, name.as_str()),
        };
        // What is behind the last dash of a file that is rolled is its number.
        let name = if folder == "one" { plain } else { plain.rsplit_once('-').unwrap().0 };
        texts.entry(name.to_owned()).or_default().push_str(&String::from_utf8_lossy(&text));
    }
    texts
}

fn zstd_frames(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // What comes before an error was appended.
    let _ = zstd::stream::copy_decode(bytes, &mut text);
    text
}

fn count(daemon: &Daemon, folder: &str) -> u64 {
    texts(daemon, folder).values().map(|text| text.matches('\n').count() as u64).sum()
}

/// Says what is wrong where the texts do not hold each written line once, and those of one file in order.
fn check(written: &Written, texts: &BTreeMap<String, String>) -> Result<(), String> {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, text) in texts {
        if !text.ends_with('\n') {
            return Err(format!("{name} ends within a line"));
        }
        for line in text.lines() {
            let mut words = line.split(' ');
            let (file, number) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
            let expected = next.entry(file).or_default();
            if number != Some(*expected) {
                return Err(format!("{name}: found {number:?} of {file} where {expected} should be: {line:?}"));
            }
            *expected += 1;
        }
    }
    for (file, lines) in written {
        let found = next.remove(file.as_str()).unwrap_or(0);
        if found != *lines {
            return Err(format!("{lines} lines were written to {file}, {found} arrived"));
        }
    }
    if next.is_empty() { Ok(()) } else { Err(format!("lines that nobody wrote: {next:?}")) }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test]
async fn every_line_is_in_its_files_once_and_in_order_whenever_the_daemon_is_killed() {
    let kills = number("AQUEDUCT_KILLS").unwrap_or(50);
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(|| SmallRng::from_os_rng().random());
    eprintln!("file sink: AQUEDUCT_SEED={seed}, {kills} kills");
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut daemon = Daemon::new(PROGRAM, CONFIGURATION);
    let writer = Writer::start(&daemon.path("in"), 4, seed);
    let (mut before, mut useful) = (0, 0);
    for kill in 0..kills {
        // Every third life is ended while it starts and recovers, the others while they work.
        let starting = kill % 3 == 0;
        let millis = if starting { 0..150 } else { 0..600 };
        daemon.live((starting, chance.random_range(millis))).await;
        let now = ["one", "shared"].iter().map(|folder| size(&daemon, folder)).sum();
        useful += u64::from(now != before);
        before = now;
    }
    let written = writer.stop();
    let total = lines::total(&written);
    daemon.started().await;
    let begun = Instant::now();
    let folders = ["one", "shared/many", "shared/0", "shared/1", "shared/2", "shared/3"];
    loop {
        let counts: Vec<u64> = folders.iter().map(|folder| count(&daemon, folder)).collect();
        if counts[0] >= total && counts[1] >= total && counts[2..].iter().sum::<u64>() >= total {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{counts:?} of {total} lines after {PATIENCE:?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(daemon.stop().success(), "{}", daemon.log());
    let mut rolled = BTreeMap::new();
    for folder in &folders[2..] {
        rolled.extend(texts(&daemon, folder).into_iter().map(|(name, text)| (format!("{folder}/{name}"), text)));
    }
    for texts in [texts(&daemon, "one"), texts(&daemon, "shared/many"), rolled] {
        check(&written, &texts).unwrap_or_else(|wrong| panic!("{wrong}\n{}", daemon.log()));
    }
    let files = daemon.files("shared/many").len();
    eprintln!("file sink: {useful} kills after something new, {total} lines, {files} compressed files");
    assert!(useful * 2 >= kills, "most kills came before anything happened: {useful} of {kills}");
    assert!(files > 4, "no file was rolled");
}

fn size(daemon: &Daemon, folder: &str) -> usize {
    daemon.files(folder).iter().map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn what_is_lost_doubled_or_swapped_is_noticed() {
    let written = Written::from([("a.0".to_owned(), 3)]);
    for (text, expected) in [
        ("a.0 0 \na.0 1 \na.0 2 \n", ""),
        ("a.0 0 \na.0 1 \n", "3 lines were written to a.0, 2 arrived"),
        ("a.0 0 \na.0 0 \n", "found Some(0) of a.0 where 1"),
        ("a.0 0 \na.0 2 \na.0 1 \n", "found Some(2) of a.0 where 1"),
        ("a.0 0 \na.0 1 \na.0 2", "ends within a line"),
        ("a.0 0 \na.0 1 \na.0 2 \nb.0 0 \n", "lines that nobody wrote"),
    ] {
        let texts = BTreeMap::from([("x".to_owned(), text.to_owned())]);
        let found = check(&written, &texts).err().unwrap_or_default();
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{expected}: {found}");
    }
}
