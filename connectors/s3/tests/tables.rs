//! The source over Parquet and Avro that the sink wrote: what went in comes back, from every position, and damage is told.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{ByteSize, Edge, Position, SourceOpening, Stream};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::{S3Settings, S3SourceSettings, open_source_over};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::basic::{Compression, Encoding, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use proptest::prelude::*;
use serde_json::{Value, json};

use world::World;

/// Timestamp, key, value and headers.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    timestamp: i64,
    key: Option<String>,
    value: Value,
    headers: Vec<(String, Option<String>)>,
}

const COLUMNS: &str = r#"{"timestamp":"_t","key":"_k","headers":"_h","topic":"_x","partition":"_p","offset":"_o"}"#;

fn columns() -> Value {
    serde_json::from_str(COLUMNS).unwrap()
}

/// What the sink makes of records.
async fn written(shape: &Value, records: &[Seen]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let mut settings = json!({"url": "s3://bucket/in", "row-group": "1 MiB"});
    settings.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
    let settings: S3Settings = serde_json::from_value(settings).unwrap();
    let world = World::over(settings, scratch.path(), Arc::new(InMemory::new()));
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().map(str::as_bytes))).collect();
        let key = record.key.as_deref().map(str::as_bytes);
        builder.push(record.timestamp, key, Some(record.value.to_string().as_bytes()), &headers);
    }
    let script = Script::new("t", 0).raw(0, builder);
    deliver(&*world.open_sink().await, &mut [script.chunk()]).await;
    let mut objects = world.objects().await;
    assert_eq!(objects.len(), 1);
    objects.remove(0).1
}

/// What the source makes of objects; with a batch of that many bytes it is opened anew after each.
async fn read(format: &str, objects: &[Vec<u8>], batch: Option<u64>) -> (Vec<Seen>, Vec<String>) {
    let store = Arc::new(InMemory::new());
    for (number, object) in objects.iter().enumerate() {
        store.put(&Path::from(format!("in/{number:03}")), PutPayload::from(object.clone())).await.unwrap();
    }
    let settings = json!({"url": "s3://bucket/in", "poll": "1h", "format": format, "columns": columns()});
    let open = |positions| {
        let settings: S3SourceSettings = serde_json::from_value(settings.clone()).unwrap();
        let opening = SourceOpening {
            name: "in".into(),
            folder: "/".into(),
            edge: Edge::real(),
            positions,
            batch: ByteSize(batch.unwrap_or(1 << 20)),
            largest: ByteSize::mib(1),
        };
        open_source_over(settings, opening, store.clone()).unwrap()
    };
    let (mut seen, mut letters) = (Vec::new(), Vec::new());
    let mut source = open(Vec::new());
    loop {
        let Ok(incoming) = tokio::time::timeout(Duration::from_secs(60), source.read()).await else { break };
        let incoming = incoming.unwrap().unwrap();
        let position: (Arc<Stream>, Position) = (incoming.stream, incoming.position.unwrap());
        letters.extend(incoming.dead_letter.map(|letter| letter.reason));
        if batch.is_some() {
            source = open(vec![position]);
        }
        if incoming.records.is_empty() {
            continue;
        }
        for record in incoming.records.finish().records().unwrap().iter() {
            let record = record.unwrap();
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), text(value)));
            seen.push(Seen {
                timestamp: record.timestamp,
                key: text(record.key),
                value: serde_json::from_slice(record.value.unwrap()).unwrap(),
                headers: headers.collect(),
            });
        }
    }
    (seen, letters)
}

fn record(number: usize, value: Value) -> Seen {
    Seen {
        timestamp: 1_700_000_000_000 + number as i64,
        key: (!number.is_multiple_of(3)).then(|| format!("k{number}")),
        value,
        headers: (0..number % 3).map(|at| (format!("h{at}"), (at > 0).then(|| number.to_string()))).collect(),
    }
}

fn shapes() -> Vec<(&'static str, Value)> {
    let of =
        |format, compression| (format, json!({"format": format, "compression": compression, "columns": columns()}));
    vec![
        of("parquet", "none"),
        of("parquet", "zstd"),
        of("parquet", "gzip"),
        of("parquet", "snappy"),
        of("parquet", "lz4"),
        of("avro", "none"),
        of("avro", "gzip"),
        of("avro", "zstd"),
        of("avro", "snappy"),
    ]
}

#[tokio::test(start_paused = true)]
async fn records_come_back_from_every_position() {
    let records: Vec<Seen> = (0..500)
        .map(|number| {
            record(number, json!({"id": number, "name": format!("n{number}"), "deep": {"a": [1, null, number]}}))
        })
        .collect();
    for (format, shape) in shapes() {
        let objects = [written(&shape, &records).await, written(&shape, &records[..1]).await];
        let expected = [&records[..], &records[..1]].concat();
        assert_eq!(read(format, &objects, None).await, (expected.clone(), vec![]), "{shape}");
        assert_eq!(read(format, &objects, Some(2000)).await, (expected, vec![]), "{shape}");
    }
}

#[tokio::test(start_paused = true)]
async fn types_of_a_schema_come_back() {
    let schema = json!([
        {"name": "boolean", "type": "boolean"},
        {"name": "int32", "type": "int32", "required": true},
        {"name": "int64", "type": "int64"},
        {"name": "float", "type": "float"},
        {"name": "double", "type": "double"},
        {"name": "string", "type": "string"},
        {"name": "bytes", "type": "bytes"},
        {"name": "date", "type": "date"},
        {"name": "timestamp", "type": "timestamp"},
        {"name": "decimal", "type": {"decimal": {"precision": 38, "scale": 3}}},
        {"name": "list", "type": {"list": {"list": "int32"}}},
        {"name": "map", "type": {"map": {"struct": [{"name": "x", "type": "double"}]}}},
        {"name": "struct", "type": {"struct": [{"name": "list", "type": {"list": {"struct": [{"name": "y", "type": "date"}]}}}]}},
    ]);
    let full = json!({
        "boolean": true, "int32": -5, "int64": i64::MIN, "float": 0.5, "double": 1e300, "string": "é\u{0}",
        "bytes": "/wA=", "date": "1969-12-31", "timestamp": "2026-05-12T10:30:00.123456Z", "decimal": "-12345.678",
        "list": [[1, null], [], null], "map": {"a": {"x": 1.5}, "b": null},
        "struct": {"list": [{"y": "2026-01-01"}, {"y": null}, null]},
    });
    let nothing: BTreeMap<&str, Value> =
        schema.as_array().unwrap().iter().map(|field| (field["name"].as_str().unwrap(), Value::Null)).collect();
    let mut nothing = json!(nothing);
    nothing["int32"] = json!(7);
    let empty = json!({
        "boolean": null, "int32": 0, "int64": null, "float": null, "double": null, "string": "", "bytes": "",
        "date": null, "timestamp": null, "decimal": "0.000", "list": [], "map": {}, "struct": {"list": []},
    });
    let records: Vec<Seen> = [full, nothing, empty]
        .iter()
        .cycle()
        .take(30)
        .enumerate()
        .map(|(at, value)| record(at, value.clone()))
        .collect();
    for (format, mut shape) in shapes() {
        shape["schema"] = schema.clone();
        let object = written(&shape, &records).await;
        assert_eq!(read(format, &[object], None).await, (records.clone(), vec![]), "{shape}");
    }
}

#[tokio::test(start_paused = true)]
async fn large_objects_are_read_in_parts() {
    // Several row groups, and more than is read ahead.
    let noise = |number: usize| {
        let mut bits = number as u64;
        let mut next = || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (bits >> 60) as u8)
        };
        (0..1000).map(|_| next()).collect::<String>()
    };
    let records: Vec<Seen> =
        (0..12_000).map(|number| record(number, json!({"id": number, "noise": noise(number)}))).collect();
    for (format, shape) in [shapes().remove(0), shapes().remove(5)] {
        for row_group in ["1 MiB", "64 MiB"] {
            let mut shape = shape.clone();
            shape["row-group"] = json!(row_group);
            let object = written(&shape, &records).await;
            assert!(object.len() > 10 << 20);
            assert!(read(format, &[object], None).await == (records.clone(), vec![]), "{shape}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_such_file_is_told_and_the_next_object_is_read() {
    let records = [record(1, json!({"a": 1}))];
    for (format, shape) in shapes() {
        let whole = written(&shape, &records).await;
        let cut = whole[..whole.len() - 1].to_vec();
        let mut footer = whole.clone();
        let end = footer.len();
        footer[end - 8..end - 4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        for (name, object) in [
            ("a byte", vec![b'P']),
            ("text", b"{\"a\": 1}\n".repeat(100)),
            ("cut", cut),
            ("zeros", vec![0; 1000]),
            ("claims", footer),
        ] {
            let (seen, letters) = read(format, &[object, whole.clone()], None).await;
            assert_eq!(seen.last(), records.last(), "{name} {shape}");
            assert!(
                letters.len() == 1 && letters[0].contains("object in/000 is damaged"),
                "{name} {shape}: {letters:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_of_millions_of_values_is_told_before_there_is_room_for_them() {
    let shape = json!({"format": "parquet", "compression": "zstd"});
    let rows = |length: usize| [record(0, json!({"l": vec![0; length]})), record(1, json!({"l": [1]}))];
    let (fits, large) = (written(&shape, &rows(100_000)).await, written(&shape, &rows(3_000_000)).await);
    assert!(large.len() < 20_000, "{} bytes", large.len());
    let (seen, letters) = read("parquet", &[fits, large], None).await;
    assert_eq!((seen.len(), letters.len()), (2, 1));
    assert!(letters[0].contains("more than 2097152 values"), "{letters:?}");
}

/// A Parquet file of columns of strings, in which each row has the same `values` of each column.
fn strings(columns: usize, is_repeated: bool, rows: usize, values: &[String], with: WriterProperties) -> Vec<u8> {
    let repetition = if is_repeated { Repetition::REPEATED } else { Repetition::REQUIRED };
    let column = |at: usize| {
        let name = format!("c{at}");
        let column = Type::primitive_type_builder(&name, Physical::BYTE_ARRAY).with_repetition(repetition);
        Arc::new(column.build().unwrap())
    };
    let schema = Type::group_type_builder("rows").with_fields((0..columns).map(column).collect()).build().unwrap();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(with)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let values: Vec<_> = values.iter().map(|value| ByteArray::from(value.as_str())).collect();
    let repetition: Vec<_> = (0..values.len()).map(|at| i16::from(at > 0)).collect();
    let definition = vec![1; values.len()];
    while let Some(mut column) = group.next_column().unwrap() {
        for _ in 0..rows {
            let levels = is_repeated.then_some((&definition[..], &repetition[..]));
            let (definition, repetition) = levels.unzip();
            column.typed::<ByteArrayType>().write_batch(&values, definition, repetition).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn objects_that_would_fill_all_memory_are_told_before() {
    let with = || WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()));
    let dictionaries = || with().set_dictionary_page_size_limit(64 << 20);
    let plain = || with().set_dictionary_enabled(false);
    let deltas = || plain().set_encoding(Encoding::DELTA_BYTE_ARRAY);
    let long = |length: usize| "x".repeat(length);
    let different = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|at| format!("{at:09}{}", long(length))).collect()
    };
    let many = |count: usize, length: usize| vec![long(length); count];
    for (what, file, told) in [
        (
            "a row of one long value many times over",
            strings(1, true, 1, &many(5000, 1 << 20), dictionaries().build()),
            "the values of a row",
        ),
        (
            "dictionaries of all columns",
            strings(40, false, 1, &different(20, 1 << 20), dictionaries().build()),
            "the pages of a row group",
        ),
        (
            "pages of all columns",
            strings(12, false, 1, &many(1, 50 << 20), plain().build()),
            "the pages of a row group",
        ),
        (
            "beginnings that many values share",
            strings(1, true, 1, &many(2000, 1 << 20), deltas().build()),
            "the values of some rows",
        ),
    ] {
        assert!(file.len() < 1 << 20, "{what}: {} bytes are no feat", file.len());
        let fits = strings(2, false, 3, &many(1, 100), deltas().build());
        let (seen, letters) = read("parquet", &[file, fits], None).await;
        assert_eq!((seen.len(), letters.len()), (3, 1), "{what}: {letters:?}");
        assert!(letters[0].contains(told) && letters[0].contains("page-memory is 536870912"), "{what}: {letters:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_long_but_fits_is_read_in_smaller_steps() {
    let plain = WriterProperties::builder().set_dictionary_enabled(false).set_data_page_size_limit(1);
    let plain = plain.set_compression(Compression::SNAPPY).build();
    // More than page-memory in all.
    let file = strings(1, false, 800, &["x".repeat(700_000)], plain);
    let (seen, letters) = read("parquet", &[file], None).await;
    assert_eq!((seen.len(), letters.first()), (800, None));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Bytes that are changed anywhere cost records of that object, and never the next one.
    #[test]
    fn damage_ends_nothing_but_its_object(
        shape in 0..9usize,
        changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..8),
    ) {
        let (format, shape) = shapes().remove(shape);
        let records: Vec<_> = (0..40).map(|at| record(at, json!({"a": at, "b": [{"c": "x"}, null], "d": "text"}))).collect();
        block_on(async {
            let whole = written(&shape, &records).await;
            let mut damaged = whole.clone();
            for (at, byte) in changes {
                let at = at as usize % damaged.len();
                damaged[at] = byte;
            }
            let (seen, letters) = read(format, &[damaged, whole], None).await;
            assert!(seen.ends_with(&records), "{letters:?}");
        });
    }

    #[test]
    fn values_of_any_shape_come_back(
        values in proptest::collection::vec((any::<i64>(), any::<Option<bool>>(), ".{0,20}", any::<i32>()), 1..50),
        shape in 0..9usize,
    ) {
        let (format, shape) = shapes().remove(shape);
        let records: Vec<_> = values
            .into_iter()
            .enumerate()
            .map(|(at, (int, option, text, double))| {
                let double = f64::from(double) / 8.0;
                record(at, json!({"i": int, "n": {"o": option, "t": text}, "l": [double, 0.5], "always": 1}))
            })
            .collect();
        block_on(async {
            let object = written(&shape, &records).await;
            let (seen, letters) = read(format, &[object], Some(500)).await;
            assert_eq!(letters, Vec::<String>::new());
            let plain = |records: &[Seen]| {
                let mut records = records.to_vec();
                // What is null in all records is no column.
                records.iter_mut().for_each(|record| strip(&mut record.value));
                records
            };
            assert_eq!(plain(&seen), plain(&records));
        });
    }
}

/// Leaves out what is null.
fn strip(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(strip);
        fields.retain(|_, value| !value.is_null());
    }
}
