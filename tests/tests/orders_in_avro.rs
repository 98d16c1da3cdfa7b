//! Orders in Avro, by the configuration as it is published: a schema registry, what is in the topic, in Parquet and in files.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::services::{self, Bucket, SchemaRegistry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// How many orders there are, and how many lines beside them that are none.
const ORDERS: u64 = 3000;
const BAD: [&str; 4] = [
    "no JSON",
    r#"{"id": 1, "total": "1.234", "placed": "2026-11-20T08:00:00Z"}"#,
    r#"{"id": 2, "total": "1.00", "placed": "2026-11-20T08:00:00Z", "color": "red"}"#,
    r#"{"id": 3, "placed": "2026-11-20T08:00:00Z"}"#,
];

/// An order as the schema has it, with all of its fields.
fn order(id: u64) -> Value {
    let tags: Vec<String> = (0..id % 3).map(|tag| format!("tag{tag}")).collect();
    let note = id.is_multiple_of(2).then(|| format!("é {id}"));
    let (total, placed) =
        (format!("{}.{:02}", id * 7, id % 100), format!("2026-11-{:02}T08:00:{:02}.5Z", 17 + id % 4, id % 60));
    json!({"id": id, "total": total, "placed": placed, "tags": tags, "note": note})
}

/// The lines that an application writes: what has a default is left out now and then.
fn lines() -> String {
    let mut text = String::new();
    for id in 0..ORDERS {
        let mut order = order(id);
        order.as_object_mut().unwrap().retain(|name, value| name == "id" || !value.is_null() && *value != json!([]));
        text += &format!("{order}\n");
        if let Some(bad) = BAD.get((id / 100) as usize).filter(|_| id.is_multiple_of(100)) {
            text += &format!("{bad}\n");
        }
    }
    text
}

/// The published configuration, with this test's places in the stead of those that it names.
fn configuration(topic: &str, registry: &SchemaRegistry, bucket: &Bucket) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/orders-in-avro.yaml");
    let mut text = fs::read_to_string(path).unwrap();
    // `Daemon` says where the log is.
    let log = text.lines().find(|line| line.starts_with("log:")).unwrap().to_owned();
    let flow: String = bucket.s3.settings().split(", ").map(|setting| format!("\n      {setting}")).collect();
    for (from, to, times) in [
        (log.as_str(), String::new(), 1),
        ("topic: orders\n", format!("topic: {topic}\n"), 1),
        ("topics: [orders]", format!("topics: [{topic}]"), 2),
        ("\"/srv/orders/*.jsonl\"", "in/*.jsonl".to_owned(), 1),
        ("http://127.0.0.1:8081", registry.url.clone(), 3),
        ("s3://lake/orders", format!("s3://{}/orders", bucket.name), 1),
        ("\n      region: eu-central-1", flow, 1),
        ("age: 5m", "age: 1s".to_owned(), 1),
        ("../aqueduct-data/orders/", "out/".to_owned(), 1),
    ] {
        assert_eq!(text.matches(from).count(), times, "{from:?} in {path}");
        text = text.replace(from, &to);
    }
    text
}

/// Orders by their ids, each once.
fn by_id(rows: impl IntoIterator<Item = Value>) -> BTreeMap<u64, Value> {
    let mut found = BTreeMap::new();
    for row in rows {
        let id = row["id"].as_u64().unwrap_or_else(|| panic!("{row}"));
        assert_eq!(found.insert(id, row), None, "order {id} is there twice");
    }
    found
}

/// Bytes as `tail` shows them.
fn bytes(shown: &Value) -> Vec<u8> {
    match (shown.as_str(), shown["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, text) => STANDARD.decode(text.unwrap_or_else(|| panic!("{shown}"))).unwrap(),
    }
}

/// The ids of the schemas of a topic's records, and how many records there are.
fn schemas(daemon: &Daemon, topic: &str) -> BTreeMap<u32, usize> {
    let output = daemon.command(&["tail", topic, "--from", "beginning", "-n", "100000", "--json"]);
    let mut found = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let value = bytes(&record["value"]);
        assert_eq!(value[0], 0, "{record}");
        *found.entry(u32::from_be_bytes(value[1..5].try_into().unwrap())).or_default() += 1;
    }
    found
}

/// What the registry says of the versions of a topic's schema.
async fn versions(registry: &SchemaRegistry, topic: &str) -> Value {
    let answer = reqwest::get(format!("{}/subjects/{topic}-value/versions", registry.url)).await.unwrap();
    answer.json().await.unwrap()
}

/// Trying what lines become leaves the registry as it was.
async fn tried(daemon: &Daemon, registry: &SchemaRegistry, topic: &str) {
    let output = daemon.command(&["transform", "test", "aqueduct.yaml", "orders", "--input", "in/a.jsonl", "-n", "5"]);
    let (made, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "one of five lines is none: {told}");
    assert_eq!(made.lines().filter(|line| line.starts_with('+')).count(), 4, "{made}");
    assert_eq!(told.matches(&format!("a run would register in {topic}-value")).count(), 1, "{told}");
    assert_eq!(versions(registry, topic).await["error_code"], 40401, "nothing was registered");
}

#[tokio::test]
async fn orders_are_the_same_in_lines_in_avro_and_in_parquet() {
    let (registry, bucket) = (services::schema_registry().await, services::s3().await.bucket("orders").await);
    let topic = bucket.name.clone();
    let mut daemon = Daemon::new(PROGRAM, &configuration(&topic, &registry, &bucket));
    fs::write(daemon.path("in/a.jsonl"), lines()).unwrap();
    tried(&daemon, &registry, &topic).await;
    daemon.started().await;
    let arrived = async |daemon: &Daemon| {
        let mut all = true;
        for sink in ["lake", "files"] {
            let partitions = daemon.connector(sink).await["partitions"].as_array().cloned().unwrap_or_default();
            let ends = |name: &str| partitions.iter().map(|it| it[name].as_u64().unwrap_or_default()).sum::<u64>();
            all &= ends("committed") == ORDERS && ends("lag") == 0;
        }
        all
    };
    daemon.until("both sinks have delivered all", arrived).await;
    assert!(daemon.stop().success(), "{}", daemon.log());

    let expected = by_id((0..ORDERS).map(order));
    let files = daemon.files("out").into_iter().filter(|(name, _)| name.ends_with(".jsonl"));
    let files: Vec<_> = files.map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(files.len(), 4, "a file a day");
    let lines = files.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let full = |mut order: Value| {
        order["placed"] = json!(order["placed"].as_str().unwrap().replace(".500Z", ".5Z"));
        order
    };
    assert_eq!(by_id(lines.map(full)), expected);

    let folder = daemon.path("parquet");
    fs::create_dir_all(&folder).unwrap();
    let mut objects: Vec<PathBuf> = Vec::new();
    for (number, (key, bytes)) in bucket.objects().await.into_iter().enumerate() {
        assert!(key.starts_with("orders/day=2026-11-"), "{key}");
        objects.push(folder.join(format!("{number}.parquet")));
        fs::write(&objects[number], bytes).unwrap();
    }
    for reader in ["duckdb", "pyarrow"] {
        let read = services::read(reader, &objects);
        let rows = read.as_array().unwrap().iter().flat_map(|rows| rows.as_array().unwrap().clone());
        let plain = |mut row: Value| {
            row["placed"] = json!(row["placed"].as_str().unwrap().replace(".500000Z", ".5Z"));
            row
        };
        assert_eq!(by_id(rows.map(plain)), expected, "{reader}");
    }

    let schemas = schemas(&daemon, &topic);
    assert_eq!(schemas.values().sum::<usize>() as u64, ORDERS);
    assert_eq!(schemas.len(), 1, "{schemas:?}");
    assert_eq!(versions(&registry, &topic).await, json!([1]));
    let letters = daemon.command(&["topics", "show", "orders.dead-letters", "--json"]);
    let letters: Value = serde_json::from_slice(&letters.stdout).unwrap();
    assert_eq!(letters["partitions"][0]["end"], json!(BAD.len()), "{letters}");
}
