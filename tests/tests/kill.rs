//! The real daemon, killed: every line that was written arrives once and in order, whenever it dies.
//!
//! `AQUEDUCT_KILLS` says how often the random tests kill (default 30 into a folder, 50 into MinIO); `AQUEDUCT_SEED` repeats
//! a run's choices.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::lines::{self, Writer, Written};
use aqueduct_tests::services::{self, Bucket};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// Where a run's objects go.
enum Destination {
    Folder,
    Bucket(Bucket),
}

impl Destination {
    async fn minio() -> Destination {
        Destination::Bucket(services::s3().await.bucket("kill").await)
    }

    /// A daemon that brings files of its folder `in` here. Segments are small, so that they roll and are indexed; `chunk`
    /// is what makes a chunk ripe.
    fn daemon(&self, chunk: &str) -> Daemon {
        let to = match self {
            Destination::Folder => "url: \"file://./out\"".to_owned(),
            Destination::Bucket(bucket) => format!("url: \"s3://{}/raw\", {}", bucket.name, bucket.s3.settings()),
        };
        let configuration = format!(
            r#"
topics:
  lines: {{ partitions: 4, segment.bytes: 64 KiB }}
sources:
  logs:
    connector: file
    topic: lines
    settings: {{ paths: ["in/*.log", "in/*.log.*"], poll: 20ms, discover: 50ms, rotate-wait: 200ms }}
sinks:
  lake:
    connector: s3
    topics: [lines]
    chunk: {{ {chunk} }}
    retry: {{ first: 20ms, longest: 500ms }}
    settings: {{ path: "{{topic}}", format: lines, part-size: 5 MiB, {to} }}
"#
        );
        Daemon::new(PROGRAM, &configuration)
    }

    async fn list(&self, daemon: &Daemon) -> Vec<String> {
        match self {
            Destination::Folder => daemon.files("out").into_iter().map(|(name, _)| name).collect(),
            Destination::Bucket(bucket) => bucket.list().await.into_iter().map(|(key, _)| key).collect(),
        }
    }

    async fn read(&self, daemon: &Daemon, name: &str) -> Vec<u8> {
        match self {
            Destination::Folder => fs::read(daemon.path("out").join(name)).unwrap(),
            Destination::Bucket(bucket) => bucket.read(name).await,
        }
    }

    /// Adds what is new to `seen`: an object that was seen once must never change, so it is not read again until the end.
    async fn look(&self, daemon: &Daemon, seen: &mut BTreeMap<String, Vec<u8>>) {
        for name in self.list(daemon).await {
            if let Entry::Vacant(new) = seen.entry(name.clone()) {
                new.insert(self.read(daemon, &name).await);
            }
        }
    }

    /// Runs the daemon until all that was written has arrived, stops it, and checks all of it.
    async fn drain(&self, daemon: &mut Daemon, written: &Written, mut seen: BTreeMap<String, Vec<u8>>) {
        daemon.started().await;
        let begun = std::time::Instant::now();
        let lines = |seen: &BTreeMap<String, Vec<u8>>| {
            seen.values().map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count() as u64).sum::<u64>()
        };
        while lines(&seen) < lines::total(written) {
            let late = format!("{} of {} lines after {PATIENCE:?}", lines(&seen), lines::total(written));
            assert!(begun.elapsed() < PATIENCE, "{late}\n{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.look(daemon, &mut seen).await;
        }
        assert!(daemon.stop().success(), "{}", daemon.log());
        let mut objects = Vec::new();
        for name in self.list(daemon).await {
            let bytes = self.read(daemon, &name).await;
            assert!(seen.get(&name).is_none_or(|before| *before == bytes), "{name} has changed");
            objects.push((name, bytes));
        }
        let gone: Vec<_> = seen.keys().filter(|name| !objects.iter().any(|(kept, _)| kept == *name)).collect();
        assert!(gone.is_empty(), "objects have vanished: {gone:?}");
        lines::check(written, &objects).unwrap_or_else(|wrong| panic!("{wrong}\n{}", daemon.log()));
    }
}

fn say(text: &str) {
    // Straight to the file descriptor: a test's own output is shown only when it fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn seed() -> u64 {
    number("AQUEDUCT_SEED").unwrap_or_else(|| SmallRng::from_os_rng().random())
}

async fn killed_at_random(what: &str, destination: Destination, kills: u64) {
    let seed = seed();
    say(&format!("kill: {what}: AQUEDUCT_SEED={seed}, {kills} kills"));
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut daemon = destination.daemon("bytes: 1 MiB, age: 200ms");
    let writer = Writer::start(&daemon.path("in"), 5, seed);
    let (mut seen, mut useful) = (BTreeMap::new(), 0);
    for kill in 0..kills {
        // Every other life is ended while it starts and recovers, the others while they work.
        let starting = kill % 2 == 0;
        let millis = if starting { 0..300 } else { 0..900 };
        daemon.live((starting, chance.random_range(millis))).await;
        let before = seen.len();
        destination.look(&daemon, &mut seen).await;
        useful += u64::from(seen.len() > before);
    }
    let written = writer.stop();
    let objects = seen.len();
    destination.drain(&mut daemon, &written, seen).await;
    let lines = lines::total(&written);
    say(&format!(
        "kill: {what}: {kills} kills, {useful} of them after new objects; {lines} lines of {} files once and in order, \
         {objects} objects before the last life",
        written.len()
    ));
    assert!(useful * 5 >= kills, "most kills came before anything happened: {useful} of {kills}");
}

#[tokio::test]
async fn no_line_is_lost_or_doubled_when_killed_at_random_into_a_folder() {
    killed_at_random("folder", Destination::Folder, number("AQUEDUCT_KILLS").unwrap_or(30)).await;
}

#[tokio::test]
async fn no_line_is_lost_or_doubled_when_killed_at_random_into_minio() {
    let kills = number("AQUEDUCT_KILLS").unwrap_or(50);
    killed_at_random("minio", Destination::minio().await, kills).await;
}

/// The places where the daemon ends itself, each at these hits.
const POINTS: [(&str, &[u64]); 9] = [
    ("append.written", &[1, 2, 30]),
    ("append.synced", &[1, 2, 30]),
    ("roll", &[1, 2]),
    ("index.write", &[1, 2]),
    ("journal.write", &[1, 3]),
    ("pin", &[1, 2, 9]),
    ("commit", &[1, 2, 9]),
    ("position.save", &[1, 2, 5]),
    ("object.put", &[1, 2, 9]),
];

/// What only a store with multipart uploads has.
const UPLOAD_POINTS: [(&str, &[u64]); 2] = [("object.put", &[1, 2, 3]), ("multipart.complete", &[1, 2])];

#[tokio::test]
async fn no_line_is_lost_or_doubled_at_any_point_of_the_way_into_a_folder() {
    for (point, hits) in POINTS {
        for hit in hits {
            let mut daemon = Destination::Folder.daemon("bytes: 1 MiB, age: 200ms");
            let writer = Writer::start(&daemon.path("in"), 3, *hit);
            daemon.ended_at(point, *hit).await;
            Destination::Folder.drain(&mut daemon, &writer.stop(), BTreeMap::new()).await;
        }
    }
}

#[tokio::test]
async fn no_line_is_lost_or_doubled_at_any_point_of_the_way_into_minio() {
    for (point, hits) in UPLOAD_POINTS {
        for hit in hits {
            let destination = Destination::minio().await;
            // Chunks past a part's size are uploaded in parts.
            let big = point.starts_with("multipart");
            let mut daemon = destination.daemon(if big { "bytes: 12 MiB, age: 3s" } else { "age: 200ms" });
            let mut written = if big {
                lines::write_file(&daemon.path("in/a.log"), "a.0", 3000, 10_000)
            } else {
                lines::write_file(&daemon.path("in/a.log"), "a.0", 30_000, 100)
            };
            // More and more chunks, so that a point that comes once a chunk is hit as often as asked.
            let writer = (!big).then(|| Writer::start_as(&daemon.path("in"), 'b', 2, *hit));
            daemon.ended_at(point, *hit).await;
            written.extend(writer.map(Writer::stop).unwrap_or_default());
            destination.drain(&mut daemon, &written, BTreeMap::new()).await;
            if let Destination::Bucket(bucket) = &destination {
                assert_eq!(bucket.uploads().await, [], "an upload that nobody will complete was left behind");
            }
        }
    }
}

/// Where input goes that can not be a record, and records that a sink will never take.
const DEAD_LETTER_POINTS: [(&str, &[u64]); 1] = [("deadletter.append", &[1, 2, 3, 4, 5])];

#[tokio::test]
async fn no_dead_letter_is_lost_or_doubled() {
    let configuration = r#"
sources:
  logs:
    connector: file
    topic: lines
    settings: { paths: ["in/*.log"], poll: 20ms, discover: 50ms, max-record: 1 KiB }
sinks:
  json:
    connector: s3
    topics: [lines]
    chunk: { bytes: 16 KiB, age: 100ms }
    settings: { url: "file://./out", path: "{topic}", format: json-lines }
"#;
    for (point, hits) in DEAD_LETTER_POINTS {
        for hit in hits {
            let mut daemon = Daemon::new(PROGRAM, configuration);
            // Of each 100 lines, one is too long for the source; none of the others is JSON.
            let line = |number: u64| lines::line("a.0", number, if number % 100 == 50 { 5000 } else { 100 });
            fs::write(daemon.path("in/a.log"), (0..1000).map(line).collect::<String>()).unwrap();
            daemon.ended_at(point, *hit).await;
            daemon.started().await;
            let all = async |daemon: &Daemon| {
                end(daemon, "logs.dead-letters") >= 10 && end(daemon, "json.dead-letters") >= 990
            };
            daemon.until("all dead letters are there", all).await;
            assert!(daemon.stop().success());
            assert_eq!(
                (end(&daemon, "logs.dead-letters"), end(&daemon, "json.dead-letters")),
                (10, 990),
                "{point}:{hit}"
            );
        }
    }
}

/// The end of a topic's only partition, as the command says it.
fn end(daemon: &Daemon, topic: &str) -> u64 {
    let output = daemon.command(&["topics", "show", topic, "--json"]);
    let topic: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    topic["partitions"][0]["end"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn letters_that_came_before_the_first_position_of_their_file_are_not_doubled() {
    let configuration = r#"
sources:
  logs:
    connector: file
    topic: lines
    settings: { paths: ["in/*.log*"], poll: 20ms, discover: 50ms }
    transforms: [ { vrl: ". = parse_json!(string!(.message))" } ]
"#;
    // Of the first appends, one is that of the letters, and the next that of the other records.
    for (point, hits) in [("append.written", 2..=5), ("append.synced", 2..=5)] {
        for (hit, moved) in hits.flat_map(|hit| [(hit, false), (hit, true)]) {
            let mut daemon = Daemon::new(PROGRAM, configuration);
            let line = |number: u64| if number % 100 == 50 { "none\n".into() } else { format!("{{\"n\":{number}}}\n") };
            fs::write(daemon.path("in/a.log"), (0..1000).map(line).collect::<String>()).unwrap();
            daemon.ended_at(point, hit).await;
            if moved {
                fs::rename(daemon.path("in/a.log"), daemon.path("in/a.log.1")).unwrap();
            }
            daemon.started().await;
            daemon.until("all records are there", async |daemon| end(daemon, "lines") >= 990).await;
            assert!(daemon.stop().success());
            let found = (end(&daemon, "lines"), end(&daemon, "logs.dead-letters"));
            assert_eq!(found, (990, 10), "{point}:{hit}, moved: {moved}");
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_told_of_once_and_the_others_go_on() {
    let configuration = r#"
sources:
  logs:
    connector: file
    topic: lines
    settings: { paths: ["in/*"], poll: 20ms, discover: 50ms, rotate-wait: 100ms }
"#;
    let lines = (0..1000).map(|number| lines::line("a.0", number, 20)).collect::<String>();
    // A member of one block as it is, and behind that one of a kind that there is not.
    let length = lines.len() as u16;
    let (header, block) = ([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0], [length.to_le_bytes(), (!length).to_le_bytes()]);
    let damaged = [&header[..], block.as_flattened(), lines.as_bytes(), &[0xff; 50]].concat();
    for (point, hits) in [("append.written", 1..=4), ("append.synced", 1..=4), ("deadletter.append", 1..=2)] {
        for hit in hits {
            let mut daemon = Daemon::new(PROGRAM, configuration);
            fs::write(daemon.path("in/a.gz"), &damaged).unwrap();
            fs::write(daemon.path("in/b.log"), "other\n").unwrap();
            daemon.ended_at(point, hit).await;
            daemon.started().await;
            let told = async |daemon: &Daemon| end(daemon, "lines") >= 1001 && end(daemon, "logs.dead-letters") >= 1;
            daemon.until("all lines and the damage are told", told).await;
            assert!(daemon.stop().success());
            let found = (end(&daemon, "lines"), end(&daemon, "logs.dead-letters"));
            assert_eq!(found, (1001, 1), "{point}:{hit}");
            let told = format!("in/a.gz is damaged: corrupt deflate stream: {length} bytes");
            assert!(daemon.log().contains(&told), "{}", daemon.log());
        }
    }
}

#[test]
fn every_point_in_the_source_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = BTreeSet::new();
    let mut folders = vec![root.join("runtime"), root.join("connectors")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let points = text.split("point(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
                named.extend(points);
            }
        }
    }
    let tried = POINTS.iter().chain(&UPLOAD_POINTS).chain(&DEAD_LETTER_POINTS).map(|(point, _)| *point);
    // What a command does to dead letters is ended in tests/dead_letters.rs, what Kafka clients ask for in their tests.
    let transactions = ["transactions.save", "transactions.saved", "transactions.marker", "commit.transaction"];
    let tried = tried.chain(["deadletter.replay", "producers.write", "deletion.noted"]).chain(transactions);
    let tried = tried.map(str::to_owned);
    assert_eq!(named, tried.collect::<BTreeSet<_>>());
}
