//! The S3 source against real servers: every line of every object comes once, also when the daemon is killed.
//!
//! `AQUEDUCT_KILLS` says how often it is killed (default 50, 15 with columns).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{Edge, SinkOpening, SinkSettings as _};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::S3Settings;
use aqueduct_tests::daemon::{Daemon, PATIENCE};
use aqueduct_tests::services::{self, Bucket};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

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
async fn object(format: &str, number: usize, chance: &mut SmallRng) -> (usize, Vec<u8>) {
    // The sink makes no table without rows.
    let count = if number.is_multiple_of(9) { 40_000 } else { chance.random_range(1..300) };
    let lines = (0..count).map(|line| format!("{number:05} {line:06} {}", "x".repeat(60)));
    let text = || lines.clone().flat_map(|line| [line, "\n".to_owned()]).collect::<String>();
    let stored = match format {
        "lines" if number.is_multiple_of(2) => text().into_bytes(),
        "lines" => zstd::encode_all(text().as_bytes(), 1).unwrap(),
        _ => {
            let rows = lines.map(|line| json!({"line": line}).to_string());
            let compression = ["none", "zstd", "snappy", "gzip"][number % 4];
            return (count, table(format, compression, rows).await);
        }
    };
    (count, stored)
}

/// What the sink makes of values.
async fn table(format: &str, compression: &str, values: impl Iterator<Item = String>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let settings: S3Settings = serde_json::from_value(json!({
        "url": format!("file://{}/lake", folder.path().display()), "path": "{topic}", "row-group": "1 MiB",
        "format": format, "compression": compression, "schema": [{"name": "line", "type": "string"}],
    }))
    .unwrap();
    let scratch = folder.path().join("scratch");
    let opening = SinkOpening { name: "lake".into(), folder: "/".into(), scratch, edge: Edge::real() };
    let sink = settings.open(opening).await.unwrap();
    let mut batch = BatchBuilder::new();
    values.for_each(|value| batch.push(0, None, Some(value.as_bytes()), &[]));
    deliver(&*sink, &mut [Script::new("t", 0).raw(0, batch).chunk()]).await;
    let mut files = fs::read_dir(folder.path().join("lake/t")).unwrap();
    fs::read(files.next().unwrap().unwrap().path()).unwrap()
}

async fn every_line_comes_once_whenever_the_daemon_is_killed(format: &str, kills: u64) {
    let bucket = services::s3().await.bucket("source").await;
    let mut daemon = daemon(&bucket, &format!("format: {format},"));
    let mut chance = SmallRng::seed_from_u64(number("AQUEDUCT_SEED").unwrap_or(1));
    let (mut objects, mut lines) = (0, 0);
    for _ in 0..number("AQUEDUCT_KILLS").unwrap_or(kills) {
        daemon.start(&[]);
        let until = Instant::now() + Duration::from_millis(chance.random_range(100..1100));
        while Instant::now() < until {
            let (count, stored) = object(format, objects, &mut chance).await;
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
async fn every_line_of_every_object_comes_once_whenever_the_daemon_is_killed() {
    every_line_comes_once_whenever_the_daemon_is_killed("lines", 50).await;
}

#[tokio::test]
async fn every_row_of_parquet_comes_once_whenever_the_daemon_is_killed() {
    every_line_comes_once_whenever_the_daemon_is_killed("parquet", 15).await;
}

#[tokio::test]
async fn every_row_of_avro_comes_once_whenever_the_daemon_is_killed() {
    every_line_comes_once_whenever_the_daemon_is_killed("avro", 15).await;
}

/// What arrives of objects that other programs wrote, two rows each.
async fn written_by_others(format: &str, writers: &[&str]) -> Vec<Value> {
    let bucket = services::s3().await.bucket("source").await;
    for writer in writers {
        bucket.put(&format!("in/{writer}"), &services::write(writer)).await;
    }
    let mut daemon = daemon(&bucket, &format!("format: {format},"));
    daemon.started().await;
    until_all_arrived(&daemon, 2 * writers.len()).await;
    assert!(daemon.stop().success(), "{}", daemon.log());
    arrived(&daemon).into_keys().map(|line| serde_json::from_str(&line).unwrap()).collect()
}

/// A row, and the other one of its writer, in which all is null.
fn with_nulls(row: Value) -> [Value; 2] {
    let nulls = row.as_object().unwrap().keys().map(|name| (name.clone(), Value::Null)).collect();
    [row, Value::Object(nulls)]
}

fn expect_all(mut arrived: Vec<Value>, rows: impl IntoIterator<Item = Value>) {
    for row in rows.into_iter().flat_map(with_nulls) {
        let found = arrived.iter().position(|found| *found == row);
        arrived.remove(found.unwrap_or_else(|| panic!("{row} is not among {arrived:#?}")));
    }
    assert_eq!(arrived, Vec::<Value>::new());
}

#[tokio::test]
async fn parquet_of_pyarrow_and_duckdb_becomes_json() {
    let pyarrow = json!({
        "id": -5, "large": u64::MAX, "uint32": u32::MAX, "float": 0.1, "half": 1.5, "double": "NaN", "text": "é",
        "bytes": "/wA=", "day": "1969-12-31", "millis": "2026-05-12T10:30:00.123Z",
        "micros": "2026-05-12T10:30:00.123456", "nanos": "2026-05-12T10:30:00.123456Z", "clock": "10:30:00.500",
        "nanoclock": "10:30:00", "decimal": "-12345.60", "long": format!("{}.5", "9".repeat(50)),
        "list": [[1, null], [], null], "map": {"a": 1, "b": null}, "struct": {"x": [{"y": true}, null]},
    });
    // What the deprecated type keeps beyond milliseconds is cut.
    let int96 = json!({"time": "2026-05-12T10:30:00.123Z"});
    let duckdb = json!({
        "tiny": 1, "uuid": "00112233-4455-6677-8899-aabbccddeeff", "small": "1.25", "middle": "12345678901234567.8",
        "time": "2026-05-12T08:30:00.500Z", "local": "2026-05-12T10:30:00", "clock": "10:30:00", "list": ["a", null],
        "struct": {"x": 1, "y": [{"z": "2026-01-01"}]}, "map": {"k": 2.5}, "word": "b",
    });
    let arrived = written_by_others("parquet", &["pyarrow", "pyarrow-int96", "duckdb"]).await;
    expect_all(arrived, [pyarrow, int96, duckdb]);
}

#[tokio::test]
async fn avro_of_fastavro_becomes_json() {
    let row = json!({
        "id": i64::MIN, "float": 0.5, "day": "1969-12-31", "clock": "10:30:00.500",
        "millis": "2026-05-12T10:30:00.123Z", "local": "2026-05-12T10:30:00.123456", "decimal": "-12345.60",
        "fixed": "1.5", "uuid": "00112233-4455-6677-8899-aabbccddeeff", "bytes": "/wA=", "word": "B",
        "list": [1, null, "x"], "map": {"k": 2.5}, "node": {"next": {"next": null}},
    });
    expect_all(written_by_others("avro", &["fastavro"]).await, [row]);
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
