//! The real daemon, killed while it writes documents to a real OpenSearch: every line is one document, whenever it dies.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 50); `AQUEDUCT_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::lines::{self, Writer, Written};
use aqueduct_tests::services::{self, Search};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// How many documents a file's lines overwrite each other in, where they go by key.
const SLOTS: u64 = 50;
/// Every so manieth line deletes its slot's document.
const DELETES: u64 = 7;

/// Two indices of a test's own: `lines` has a document of every line, `slots` what was said last of each slot.
struct Indices {
    search: Search,
    lines: String,
    slots: String,
}

impl Indices {
    async fn new(seed: u64) -> Indices {
        let search = services::opensearch().await;
        let name = |which: &str| format!("kill-{which}-{}-{seed:x}", std::process::id());
        let indices = Indices { search, lines: name("lines"), slots: name("slots") };
        for index in [&indices.lines, &indices.slots] {
            // A deleted document's version is remembered for longer than any life here takes.
            let settings = json!({ "number_of_replicas": 0, "gc_deletes": "1h" });
            let made = indices.search.ask(Method::PUT, index, Some(json!({ "settings": { "index": settings } }))).await;
            assert_eq!(made.0, 200, "{made:?}");
        }
        indices
    }

    /// A daemon that brings the files of its folder `in` here.
    fn daemon(&self) -> Daemon {
        let (url, lines, slots) = (&self.search.endpoint, &self.lines, &self.slots);
        Daemon::new(
            PROGRAM,
            &format!(
                r#"
topics:
  lines: {{ partitions: 4, segment.bytes: 256 KiB }}
sources:
  logs:
    connector: file
    topic: lines
    settings: {{ paths: ["in/*.log", "in/*.log.*"], poll: 20ms, discover: 50ms, rotate-wait: 200ms }}
sinks:
  lines:
    connector: elasticsearch
    topics: [lines]
    transforms:
      - vrl: |
          words = split(string!(.message), " ")
          . = {{ "file": string!(words[0]), "number": to_int!(words[1]) }}
    chunk: {{ bytes: 256 KiB, age: 100ms }}
    retry: {{ first: 20ms, longest: 500ms }}
    settings: {{ url: "{url}", index: "{lines}", request-records: 200 }}
  slots:
    connector: elasticsearch
    topics: [lines]
    transforms:
      - vrl: |
          words = split(string!(.message), " ")
          file = string!(words[0])
          number = to_int!(words[1])
          %key = file + "-" + to_string(mod(number, {SLOTS}))
          if mod(number, {DELETES}) == 0 {{
            . = null
          }} else {{
            . = {{ "file": file, "number": number }}
          }}
    chunk: {{ bytes: 256 KiB, age: 100ms }}
    retry: {{ first: 20ms, longest: 500ms }}
    settings: {{ url: "{url}", index: "{slots}", id: key, on-null: delete, request-records: 300 }}
"#
            ),
        )
    }

    /// How many documents there are, by the server's own count.
    async fn count(&self, index: &str) -> u64 {
        self.search.ask(Method::POST, &format!("{index}/_refresh"), None).await;
        let (status, answer) = self.search.ask(Method::GET, &format!("{index}/_count"), None).await;
        assert_eq!(status, 200, "{answer}");
        answer["count"].as_u64().unwrap()
    }

    /// Runs the daemon until all that was written has arrived, stops it, and looks at every document.
    async fn drain(&self, daemon: &mut Daemon, written: &Written) {
        daemon.started().await;
        let begun = Instant::now();
        let (total, slots) = (lines::total(written), slots(written));
        loop {
            let found = self.count(&self.lines).await;
            if found >= total && self.slots().await == slots {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{found} of {total} lines after {PATIENCE:?}\n{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(daemon.stop().success(), "{}", daemon.log());
        assert_eq!(self.count(&self.lines).await, total, "documents\n{}", daemon.log());
        self.check_lines(written).await;
        assert_eq!(self.slots().await, slots);
        for sink in ["lines", "slots"] {
            let letters = daemon.command(&["topics", "show", &format!("{sink}.dead-letters"), "--json"]);
            let letters: Value = serde_json::from_slice(&letters.stdout).unwrap_or_default();
            assert_eq!(letters["partitions"][0]["end"].as_u64().unwrap_or(0), 0, "dead letters: {letters}");
        }
    }

    /// Each line is there once, under an id of its own, and in the order of its file.
    async fn check_lines(&self, written: &Written) {
        let mut found: BTreeMap<String, BTreeMap<u64, (u64, u64)>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for document in self.search.documents(&self.lines).await {
            let id = document["_id"].as_str().unwrap();
            let [topic, partition, offset] = id.split('+').collect::<Vec<_>>()[..] else { panic!("{id}") };
            assert_eq!(topic, "lines");
            assert!(ids.insert(id.to_owned()), "id {id} twice");
            let source = &document["_source"];
            let file = found.entry(source["file"].as_str().unwrap().to_owned()).or_default();
            let place = (partition.parse().unwrap(), offset.parse().unwrap());
            let twice = file.insert(source["number"].as_u64().unwrap(), place);
            assert_eq!(twice, None, "{source} is {id}, too");
        }
        let counts: Written = found.iter().map(|(file, lines)| (file.clone(), lines.len() as u64)).collect();
        let expected: Written = written.clone().into_iter().filter(|(_, lines)| *lines > 0).collect();
        assert_eq!(counts, expected);
        for (file, lines) in found {
            let places: Vec<_> = lines.into_values().collect();
            assert!(places.is_sorted(), "{file} is out of order");
        }
    }

    /// What stands in each slot.
    async fn slots(&self) -> BTreeMap<String, u64> {
        let documents = self.search.documents(&self.slots).await.into_iter();
        documents
            .map(|document| {
                let id = document["_id"].as_str().unwrap().to_owned();
                (id, document["_source"]["number"].as_u64().unwrap())
            })
            .collect()
    }
}

/// What must stand in each slot when all lines have arrived.
fn slots(written: &Written) -> BTreeMap<String, u64> {
    let mut slots = BTreeMap::new();
    for (file, lines) in written {
        for number in lines.saturating_sub(SLOTS)..*lines {
            if number % DELETES != 0 {
                slots.insert(format!("{file}-{}", number % SLOTS), number);
            }
        }
    }
    slots
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn say(text: &str) {
    // Straight to the file descriptor: a test's own output is shown only when it fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[tokio::test]
async fn every_line_is_one_document_whenever_the_daemon_is_killed() {
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(|| SmallRng::from_os_rng().random());
    let kills = number("AQUEDUCT_KILLS").unwrap_or(50);
    say(&format!("search kill: AQUEDUCT_SEED={seed}, {kills} kills"));
    let mut chance = SmallRng::seed_from_u64(seed);
    let indices = Indices::new(seed).await;
    let mut daemon = indices.daemon();
    let writer = Writer::start(&daemon.path("in"), 3, seed);
    let (mut before, mut useful) = (0, 0);
    for kill in 0..kills {
        // Every fifth life is ended while it starts and recovers, the others while they work.
        let starting = kill % 5 == 0;
        let millis = if starting { 0..150 } else { 100..600 };
        daemon.live((starting, chance.random_range(millis))).await;
        let now = indices.count(&indices.lines).await;
        useful += u64::from(now > before);
        before = now;
    }
    let written = writer.stop();
    indices.drain(&mut daemon, &written).await;
    let (lines, files) = (lines::total(&written), written.len());
    say(&format!(
        "search kill: {kills} kills, {useful} of them after new documents; {lines} lines of {files} files once"
    ));
    assert!(useful * 5 >= kills, "most kills came before anything happened: {useful} of {kills}");
}

/// The places on a document's way where the daemon ends itself, each at these hits.
const POINTS: [(&str, &[u64]); 3] = [("pin", &[1, 3, 8]), ("commit", &[1, 3, 8]), ("position.save", &[2])];

#[tokio::test]
async fn every_line_is_one_document_wherever_the_daemon_ends() {
    for (point, hits) in POINTS {
        for hit in hits {
            let indices = Indices::new(SmallRng::from_os_rng().random()).await;
            let mut daemon = indices.daemon();
            let writer = Writer::start(&daemon.path("in"), 2, *hit);
            daemon.ended_at(point, *hit).await;
            indices.drain(&mut daemon, &writer.stop()).await;
        }
    }
}
