//! The real daemon, killed while it writes Avro with a real schema registry and reads it again: every line arrives once and in
//! order, and all of them were written by one schema.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 25); `AQUEDUCT_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::lines::{self, Writer};
use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// A daemon that brings the lines of its files `in` as Avro into a topic, from there as they are to `raw` and as lines
/// again to `out`.
fn daemon(topic: &str, registry: &str) -> Daemon {
    let registry = format!("registry: {{ url: \"{registry}\", timeout: 2s }}");
    let configuration = format!(
        r#"
topics:
  {topic}: {{ partitions: 3, segment.bytes: 256 KiB }}
sources:
  logs:
    connector: file
    topic: {topic}
    settings: {{ paths: ["in/*.log", "in/*.log.*"], poll: 20ms, discover: 50ms, rotate-wait: 200ms }}
    retry: {{ first: 20ms, longest: 200ms }}
    transforms:
      - vrl: |
          words = split(string!(.message), " ")
          . = {{ "file": words[0], "number": to_int!(words[1]), "padding": words[2] }}
      - encode:
          to: avro
          schema: |
            {{"type": "record", "name": "Line", "fields": [
              {{"name": "file", "type": "string"}}, {{"name": "number", "type": "long"}},
              {{"name": "padding", "type": "string"}}]}}
          {registry}
sinks:
  out:
    connector: s3
    topics: [{topic}]
    transforms:
      - decode: {{ from: avro, {registry} }}
      - vrl: |
          line = parse_json!(string!(.message))
          . = join!([line.file, to_string!(line.number), line.padding], " ")
    chunk: {{ bytes: 256 KiB, age: 100ms }}
    retry: {{ first: 20ms, longest: 200ms }}
    settings: {{ url: "file://./out", path: "{{topic}}", format: lines }}
  raw:
    connector: s3
    topics: [{topic}]
    chunk: {{ bytes: 256 KiB, age: 100ms }}
    retry: {{ first: 20ms, longest: 200ms }}
    settings: {{ url: "file://./raw", path: "{{topic}}", format: records }}
"#
    );
    Daemon::new(PROGRAM, &configuration)
}

/// How many lines there are in a folder.
fn count(daemon: &Daemon, folder: &str) -> u64 {
    lines::count(&daemon.files(folder))
}

/// The ids of the schemas of all records, as they are in the topic.
fn schemas(daemon: &Daemon) -> BTreeSet<u32> {
    let files = daemon.files("raw").into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap());
    let mut found = BTreeSet::new();
    for text in files {
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let value = match (record["value"].as_str(), record["value-base64"].as_str()) {
                (Some(text), _) => text.as_bytes().to_vec(),
                (None, Some(text)) => STANDARD.decode(text).unwrap(),
                _ => panic!("{record}"),
            };
            assert_eq!(value[0], 0, "{record}");
            found.insert(u32::from_be_bytes(value[1..5].try_into().unwrap()));
        }
    }
    found
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn say(text: &str) {
    // Straight to the file descriptor: a test's own output is shown only when it fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[tokio::test]
async fn every_line_is_one_record_of_one_schema_whenever_the_daemon_is_killed() {
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(|| SmallRng::from_os_rng().random());
    let kills = number("AQUEDUCT_KILLS").unwrap_or(25);
    say(&format!("converters kill: AQUEDUCT_SEED={seed}, {kills} kills"));
    let mut chance = SmallRng::seed_from_u64(seed);
    let registry = services::schema_registry().await;
    let network = Network::before(registry.url.trim_end_matches("/apis/ccompat/v7")).await;
    let topic = format!("lines-{}-{seed:x}", std::process::id());
    let mut daemon = daemon(&topic, &format!("{}/apis/ccompat/v7", network.endpoint));
    let writer = Writer::start(&daemon.path("in"), 3, seed);
    let (mut before, mut useful) = (0, 0);
    for kill in 0..kills {
        // In every other life some of what is asked of the registry is lost, or its answer is.
        for method in ["GET", "POST"] {
            let fault = if chance.random_bool(0.5) { Fault::LoseAnswer } else { Fault::LoseRequest };
            network.harm(method, "/", fault, chance.random_range(0..3) * usize::from(kill % 2 == 0));
        }
        // Every fifth life is ended while it starts and recovers, the others while they work.
        let starting = kill % 5 == 0;
        let millis = if starting { 0..150 } else { 100..700 };
        daemon.live((starting, chance.random_range(millis))).await;
        network.heal();
        let now = count(&daemon, "out");
        useful += u64::from(now > before);
        before = now;
    }
    let written = writer.stop();
    let total = lines::total(&written);
    daemon.started().await;
    let begun = Instant::now();
    while count(&daemon, "out") < total || count(&daemon, "raw") < total {
        let found = (count(&daemon, "out"), count(&daemon, "raw"));
        assert!(begun.elapsed() < PATIENCE, "{found:?} of {total} lines after {PATIENCE:?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(daemon.stop().success(), "{}", daemon.log());
    lines::check(&written, &daemon.files("out")).unwrap_or_else(|wrong| panic!("{wrong}\n{}", daemon.log()));
    assert_eq!(count(&daemon, "raw"), total);
    let schemas = schemas(&daemon);
    assert_eq!(schemas.len(), 1, "{schemas:?}");
    let versions = reqwest::get(format!("{}/subjects/{topic}-value/versions", registry.url)).await.unwrap();
    assert_eq!(versions.json::<Value>().await.unwrap(), json!([1]));
    for letters in ["logs.dead-letters", "out.dead-letters"] {
        let shown = daemon.command(&["topics", "show", letters, "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        assert_eq!(shown["partitions"][0]["end"].as_u64().unwrap_or(0), 0, "{letters}: {shown}");
    }
    say(&format!(
        "converters kill: {kills} kills, {useful} of them after new objects, {} requests harmed; {total} lines once, in order, of \
         one schema",
        network.suffered()
    ));
    assert!(useful * 5 >= kills, "most kills came before anything happened: {useful} of {kills}");
}
