//! Objects with columns as others read them: Parquet through pyarrow and DuckDB, Avro through fastavro, CSV through Python.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::path::PathBuf;

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{Edge, SinkOpening, SinkSettings as _};
use aqueduct_record::{BatchBuilder, Offset};
use aqueduct_s3::S3Settings;
use aqueduct_tests::services::read;
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-05-12 10:30 UTC.
const MORNING: i64 = 1_778_581_800_000;

/// Chunks of values that were written into a folder.
struct Written {
    folder: TempDir,
    rejected: Vec<Offset>,
}

/// Writes each of `chunks` as a chunk of its own.
async fn write(settings: &Value, chunks: &[&[&str]]) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = json!({"url": format!("file://{}/lake", folder.path().display()), "path": "{topic}"});
    whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let settings: S3Settings = serde_json::from_value(whole).unwrap();
    let scratch = folder.path().join("scratch");
    let opening = SinkOpening { name: "lake".into(), folder: "/".into(), scratch, edge: Edge::real() };
    let sink = settings.open(opening).await.unwrap();
    let (mut rejected, mut start) = (Vec::new(), 0);
    for values in chunks {
        let mut batch = BatchBuilder::new();
        for (number, value) in values.iter().enumerate() {
            let key = format!("k{number}");
            batch.push(MORNING, Some(key.as_bytes()), Some(value.as_bytes()), &[("h", Some(b"v")), ("n", None)]);
        }
        let script = Script::new("t", 3).raw(start, batch);
        rejected.extend(deliver(&*sink, &mut [script.chunk()]).await.into_iter().map(|(_, offset)| offset));
        start += values.len() as Offset;
    }
    Written { folder, rejected }
}

impl Written {
    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("lake/t")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn rows(&self, reader: &str) -> Value {
        let mut rows = read(reader, &self.files());
        rows.as_array_mut().unwrap().remove(0)
    }
}

/// A schema of every type.
fn schema() -> Value {
    json!([
        {"name": "id", "type": "int64", "required": true},
        {"name": "small", "type": "int32"},
        {"name": "ok", "type": "boolean"},
        {"name": "ratio", "type": "double"},
        {"name": "near", "type": "float"},
        {"name": "name", "type": "string"},
        {"name": "any", "type": "text"},
        {"name": "raw", "type": "bytes"},
        {"name": "day", "type": "date"},
        {"name": "at", "type": "timestamp"},
        {"name": "price", "type": {"decimal": {"precision": 12, "scale": 3}}},
        {"name": "tags", "type": {"list": "string"}},
        {"name": "grid", "type": {"list": {"list": "int32"}}},
        {"name": "labels", "type": {"map": "int64"}},
        {"name": "user", "type": {"struct": [
            {"name": "id", "type": "int64", "required": true},
            {"name": "mails", "type": {"list": {"struct": [{"name": "to", "type": "string"}]}}},
        ]}},
    ])
}

const FULL: &str = r#"{"id":1,"small":-5,"ok":true,"ratio":2.5,"near":0.5,"name":"ä\"b","any":{"x":[1]},"raw":"AP8=",
    "day":"2026-05-12","at":"2026-05-12T12:00:00.25+02:00","price":-1.25,"tags":["a",null,""],"grid":[[1,2],[],null],
    "labels":{"x":1,"y":null},"user":{"id":7,"mails":[{"to":"z"},{},null]},"more":1}"#;

const VALUES: [&str; 5] = [
    FULL,
    r#"{"id":2,"name":null,"tags":[],"labels":{},"any":"text","user":null,"price":"12"}"#,
    r#"{"id":"three"}"#,
    r#"{"name":"no id"}"#,
    r#"{"id":5,"user":{"mails":[]}}"#,
];

fn full(near: Value, labels: Value, any: &str) -> Value {
    json!({
        "id": 1, "small": -5, "ok": true, "ratio": 2.5, "near": near, "name": "ä\"b", "any": any, "raw": "00ff",
        "day": "2026-05-12", "at": "2026-05-12T10:00:00.250000Z", "price": "-1.250", "tags": ["a", null, ""],
        "grid": [[1, 2], [], null], "labels": labels, "user": {"id": 7, "mails": [{"to": "z"}, {"to": null}, null]},
    })
}

fn empty(labels: Value) -> Value {
    json!({
        "id": 2, "small": null, "ok": null, "ratio": null, "near": null, "name": null, "any": "text", "raw": null,
        "day": null, "at": null, "price": "12.000", "tags": [], "grid": null, "labels": labels, "user": null,
    })
}

#[tokio::test]
async fn parquet_of_a_given_schema_is_read_by_others() {
    for compression in ["none", "snappy", "gzip", "zstd", "lz4"] {
        let settings = json!({"format": "parquet", "compression": compression, "schema": schema()});
        let written = write(&settings, &[&VALUES]).await;
        assert_eq!(written.rejected, [2, 3, 4]);
        let pairs = json!([["x", 1], ["y", null]]);
        assert_eq!(written.rows("pyarrow"), json!([full(json!(0.5), pairs, r#"{"x":[1]}"#), empty(json!([]))]));
        let map = json!({"x": 1, "y": null});
        assert_eq!(written.rows("duckdb"), json!([full(json!(0.5), map, r#"{"x":[1]}"#), empty(json!({}))]));
    }
    let written = write(&json!({"format": "parquet", "schema": schema()}), &[&VALUES]).await;
    let types = written.rows("schema");
    for (name, expected) in [
        ("id", "int64 not null"),
        ("day", "date32[day]"),
        ("at", "timestamp[us, tz=UTC]"),
        ("price", "decimal128(12, 3)"),
        ("raw", "binary"),
        ("any", "string"),
        ("tags", "list<element: string>"),
    ] {
        assert_eq!(types[name], expected, "{name}");
    }
}

#[tokio::test]
async fn avro_of_a_given_schema_is_read_by_others() {
    for compression in ["none", "snappy", "gzip", "zstd"] {
        let settings = json!({"format": "avro", "compression": compression, "schema": schema()});
        let written = write(&settings, &[&VALUES]).await;
        assert_eq!(written.rejected, [2, 3, 4]);
        let map = json!({"x": 1, "y": null});
        assert_eq!(written.rows("fastavro"), json!([full(json!(0.5), map, r#"{"x":[1]}"#), empty(json!({}))]));
    }
}

#[tokio::test]
async fn csv_is_read_by_others() {
    let values = [r#"{"b":"x,\"y\"\r\nz","a":1.50}"#, r#"{"a":{"c":[1, 2]},"b":""}"#, r#"{"c":true}"#];
    for compression in ["none", "gzip", "zstd", "snappy", "lz4"] {
        let settings = json!({"format": "csv", "compression": compression, "columns": {"key": "_key"}});
        let written = write(&settings, &[&values]).await;
        let expected = json!([
            {"a": "1.50", "b": "x,\"y\"\r\nz", "c": "", "_key": "k0"},
            {"a": "{\"c\":[1, 2]}", "b": "", "c": "", "_key": "k1"},
            {"a": "", "b": "", "c": "true", "_key": "k2"},
        ]);
        assert_eq!(written.rows("csv"), expected, "{compression}");
    }
}

#[tokio::test]
async fn what_records_have_beside_their_values_becomes_columns() {
    let columns = json!({
        "topic": "_topic", "partition": "_partition", "offset": "_offset", "timestamp": "_time", "key": "_key",
        "headers": "_headers",
    });
    let settings = json!({"format": "parquet", "columns": columns});
    let written = write(&settings, &[&[r#"{"a":1}"#, r#"{"_key":1}"#]]).await;
    let expected = json!([{
        "a": 1, "_topic": "t", "_partition": 3, "_offset": 0, "_time": "2026-05-12T10:30:00.000000Z", "_key": "k0",
        "_headers": [{"name": "h", "value": "v"}, {"name": "n", "value": null}],
    }]);
    assert_eq!((written.rows("pyarrow"), &written.rejected[..]), (expected, &[1][..]));
    let written = write(&json!({"format": "parquet"}), &[&["{}", r#"{"a":null}"#]]).await;
    assert_eq!(written.rows("duckdb"), json!([{"_offset": 0}, {"_offset": 1}]));
}

#[tokio::test]
async fn schemas_that_differ_between_objects_are_united_by_readers() {
    let settings = json!({"format": "parquet", "columns": {"offset": "_offset"}});
    let chunks: [&[&str]; 3] = [
        &[r#"{"a":1,"b":null}"#, r#"{"a":2,"c":{"d":[]}}"#],
        &[r#"{"a":2.5,"b":"x"}"#, r#"{"a":3,"c":{"d":[1]}}"#],
        &[r#"{"a":9007199254740993,"b":"y"}"#],
    ];
    let written = write(&settings, &chunks).await;
    assert!(written.rejected.is_empty());
    let expected = json!([
        {"_offset": 0, "a": 1.0, "b": null, "c": null},
        {"_offset": 1, "a": 2.0, "b": null, "c": null},
        {"_offset": 2, "a": 2.5, "b": "x", "c": null},
        {"_offset": 3, "a": 3.0, "b": null, "c": {"d": [1]}},
        {"_offset": 4, "a": 9007199254740992.0, "b": "y", "c": null},
    ]);
    assert_eq!(read("union", &written.files()), expected);
}

#[tokio::test]
async fn a_schema_that_changes_within_a_chunk_loses_nothing() {
    let values = [r#"{"a":1}"#, r#"{"a":"x","b":{"c":1}}"#, r#"{"b":[1],"d":true}"#, r#"{"d":0.5}"#];
    for (format, reader) in [("parquet", "pyarrow"), ("avro", "fastavro")] {
        let written = write(&json!({ "format": format }), &[&values]).await;
        assert!(written.rejected.is_empty());
        let expected = json!([
            {"a": "1", "b": null, "d": null},
            {"a": "x", "b": "{\"c\":1}", "d": null},
            {"a": null, "b": "[1]", "d": "true"},
            {"a": null, "b": null, "d": "0.5"},
        ]);
        assert_eq!(written.rows(reader), expected, "{format}");
    }
}

#[tokio::test]
async fn row_groups_are_as_large_as_the_settings_say() {
    let padding = "x".repeat(1000);
    let values: Vec<_> = (0..5000).map(|n| format!(r#"{{"n":{n},"text":"{n}{padding}"}}"#)).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    let settings = json!({"format": "parquet", "row-group": "1 MiB"});
    let written = write(&settings, &[&values]).await;
    let groups = written.rows("groups");
    let groups = groups.as_array().unwrap();
    assert_eq!(groups.len(), 5, "{groups:?}");
    assert_eq!(groups.iter().map(|group| group[0].as_i64().unwrap()).sum::<i64>(), 5000);
    assert!(groups.iter().all(|group| group[1].as_i64().unwrap() < 1_100_000), "{groups:?}");
}
