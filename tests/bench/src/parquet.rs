//! The sink's Parquet against arrow-json and parquet in one process, on the same records.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{Edge, SinkOpening};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::{S3Settings, open_over};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use serde_json::json;

use crate::meter::{Cost, cpu_of};
use crate::table::Table;

/// Records of a chunk, which becomes an object of some 64 MB of JSON.
const RECORDS: usize = 128_000;
/// Of a batch, as a log keeps them.
const BATCH: usize = 2_000;
const CHUNKS: usize = 6;

/// All measurements of Parquet.
pub(crate) fn measure(folder: &std::path::Path, table: &mut Table) {
    let values: Vec<String> = (0..RECORDS).map(value).collect();
    let bytes = values.iter().map(|value| value.len() as u64).sum::<u64>() * CHUNKS as u64;
    // They take turns, since the machine's speed drifts: the better of three of each is told.
    let mut best: [Option<Cost>; 4] = [None; 4];
    for _ in 0..3 {
        let (given, inferred) = (sink(folder, &values, true), sink(folder, &values, false));
        let costs = [Some(given), floor::cost(&values, true), Some(inferred), floor::cost(&values, false)];
        for (best, cost) in best.iter_mut().zip(costs) {
            *best = [*best, cost].into_iter().flatten().min_by_key(|cost| cost.elapsed);
        }
    }
    let [given, floor, inferred, like_inferred] = best;
    for (what, ours, peer, floor) in [
        ("schema given", given, "arrow-json + parquet", floor),
        ("schema inferred", inferred, "the same, schema given", floor),
        ("schema inferred", inferred, "the same, told what is inferred", like_inferred),
    ] {
        let Some(ours) = ours else { continue };
        table.row(
            &format!("500-byte JSON → Parquet, zstd 1, {what}"),
            ours.tell(bytes),
            floor.map_or_else(
                || "arrow-json + parquet: run with --features arrow".to_owned(),
                |floor| format!("{peer}: {}", floor.tell(bytes)),
            ),
            floor.map(|floor| ours.rate(bytes) / floor.rate(bytes)),
            "≥ 0.7",
        );
    }
}

/// What a web server might log, some 500 bytes of it.
fn value(number: usize) -> String {
    let mut noise = String::new();
    for part in 0..12_u64 {
        let bits = (number as u64 * 31 + part + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Writing to a string can not fail.
        let _ = write!(noise, "{bits:016x}");
    }
    let (method, status) = (["GET", "POST", "PUT"][number % 3], [200, 200, 200, 304, 404, 500][number % 6]);
    let tag = ["a", "b"][number % 2];
    json!({
        "id": number,
        "time": format!("2026-05-12T{:02}:{:02}:{:02}.{:06}Z", number / 3600 % 24, number / 60 % 60, number % 60, number),
        "method": method,
        "path": format!("/shop/items/{}/reviews", number % 5000),
        "status": status,
        "seconds": number as f64 / 1024.0,
        "cached": number.is_multiple_of(4),
        "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "tags": ["web", tag],
        "trace": noise,
    })
    .to_string()
}

/// Writes all chunks to a store in memory.
fn sink(folder: &std::path::Path, values: &[String], is_given: bool) -> Cost {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut settings = json!({"url": "s3://bench/lake", "path": "{topic}", "format": "parquet"});
        if is_given {
            settings["schema"] = json!([
                {"name": "id", "type": "int64"}, {"name": "time", "type": "timestamp"}, {"name": "method", "type": "string"},
                {"name": "path", "type": "string"}, {"name": "status", "type": "int32"}, {"name": "seconds", "type": "double"},
                {"name": "cached", "type": "boolean"}, {"name": "agent", "type": "string"},
                {"name": "tags", "type": {"list": "string"}}, {"name": "trace", "type": "string"},
            ]);
        }
        settings["compression"] = json!("zstd");
        let settings: S3Settings = serde_json::from_value(settings).expect("good settings");
        let scratch = folder.join("parquet");
        let opening = SinkOpening { name: "bench".into(), folder: "/".into(), scratch, edge: Edge::real() };
        let store = Arc::new(InMemory::new());
        let sink = open_over(&settings, &opening, store.clone()).expect("a sink");
        let mut scripts = Vec::new();
        for chunk in 0..CHUNKS {
            let mut script = Script::new("lines", chunk as i32);
            for (number, values) in values.chunks(BATCH).enumerate() {
                let mut batch = BatchBuilder::new();
                values.iter().for_each(|value| batch.push(0, None, Some(value.as_bytes()), &[]));
                script = script.raw((number * BATCH) as i64, batch);
            }
            scripts.push(script);
        }
        let (start, cpu) = (Instant::now(), cpu_of("self"));
        for script in &scripts {
            let rejected = deliver(&*sink, &mut [script.chunk()]).await;
            assert!(rejected.is_empty(), "a record was rejected");
        }
        let cost = Cost { elapsed: start.elapsed(), cpu: cpu_of("self").saturating_sub(cpu) };
        store.head(&Key::from("lake/none")).await.expect_err("nothing is there that was not written");
        cost
    })
}

/// The peer: built on demand alone, as it doubles what there is to build.
#[cfg(feature = "arrow")]
mod floor {
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::file::properties::WriterProperties;
    use arrow_json::ReaderBuilder;
    use arrow_schema::{DataType, Field, Schema, TimeUnit};

    use crate::meter::{Cost, measured};

    /// Rows of a batch of columns, as the reader's manual has it.
    const ROWS: usize = 8192;

    /// What it costs to make as many files of the same values.
    pub(super) fn cost(values: &[String], is_given: bool) -> Option<Cost> {
        let lines: String = values.iter().flat_map(|value| [value.as_str(), "\n"]).collect();
        let (cost, sizes) =
            measured(|| (0..super::CHUNKS).map(|_| file(lines.as_bytes(), schema(is_given))).collect::<Vec<_>>());
        assert!(sizes.iter().all(|size| *size > 1 << 20), "files of some size");
        Some(cost)
    }

    /// The schema that the sink is given, or the one that it infers: text where a time is written as text, and whole numbers
    /// of 64 bits.
    fn schema(is_given: bool) -> Arc<Schema> {
        let text = DataType::Utf8;
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let (time, status) = if is_given { (time, DataType::Int32) } else { (text.clone(), DataType::Int64) };
        let fields = [
            ("id", DataType::Int64),
            ("time", time),
            ("method", text.clone()),
            ("path", text.clone()),
            ("status", status),
            ("seconds", DataType::Float64),
            ("cached", DataType::Boolean),
            ("agent", text.clone()),
            ("tags", DataType::List(Arc::new(Field::new("element", text.clone(), true)))),
            ("trace", text),
        ];
        Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()))
    }

    fn file(mut lines: &[u8], schema: Arc<Schema>) -> usize {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("a level"));
        let properties = WriterProperties::builder().set_compression(zstd).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).expect("a writer");
        let mut decoder = ReaderBuilder::new(schema).with_batch_size(ROWS).build_decoder().expect("a decoder");
        loop {
            let taken = decoder.decode(lines).expect("good JSON");
            lines = &lines[taken..];
            match decoder.flush().expect("good rows") {
                Some(rows) => writer.write(&rows).expect("rows that can be written"),
                None => break,
            }
        }
        writer.into_inner().expect("a whole file").len()
    }
}

#[cfg(not(feature = "arrow"))]
mod floor {
    use crate::meter::Cost;

    /// Nothing to stand beside.
    pub(super) fn cost(_: &[String], _: bool) -> Option<Cost> {
        None
    }
}
