//! Files into the log and the log into objects, by the real binary.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::floor;
use crate::meter::{cpu_of, memory_of};
use crate::process::Daemon;
use crate::table::Table;

const PORT: u16 = 18_083;

/// All measurements of whole pipelines.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    lines_in(folder, table);
    json_out(folder, table);
}

fn lines_in(folder: &Path, table: &mut Table) {
    let place = folder.join("lines");
    std::fs::create_dir_all(place.join("in")).expect("a folder");
    let input = place.join("in/a.log");
    let count = floor::make_lines(&input, 3 << 30, 235, false);
    let batches = place.join("floor-batches");
    let (floor, bytes) = floor::lines_to_batches(&input, &batches);
    let back = floor::batches_to_lines(&batches, &place);
    let _ = std::fs::remove_file(batches);
    let source = format!(
        "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\ntopics:\n  lines: {{ durability: os }}\n\
         sources:\n  lines:\n    connector: file\n    topic: lines\n    settings: {{ paths: [\"in/*.log\"] }}\n"
    );
    let configuration = place.join("aqueduct.yaml");
    std::fs::write(&configuration, &source).expect("a new file");
    let start = Instant::now();
    let daemon = Daemon::start(&configuration, PORT);
    let cost = daemon.cost_until((start, Duration::ZERO), |daemon| daemon.connector("lines")["records"] == count);
    let peak = memory_of(&daemon.id()).1;
    drop(daemon);
    table.row(
        "file → log, 235-byte lines, durability os",
        format!("{}, {} MB at peak", cost.tell(bytes), peak / 1_000_000),
        format!("bare loop: {}", floor.tell(bytes)),
        Some(cost.rate(bytes) / floor.rate(bytes)),
        "≥ 1.2 GB/s, ≤ 0.7 CPU-s/GB",
    );
    let sink = "sinks:\n  out:\n    connector: s3\n    topics: [lines]\n    chunk: { bytes: 64 MiB, age: 1s }\n    \
                settings: { url: \"file://PLACE/out\", format: lines, compression: none }\n";
    deliver(&place, source.split("sources:").next().unwrap_or_default(), sink, (count, bytes), |cost, bytes, peak| {
        table.row(
            "log → raw lines in a local folder",
            format!("{}, {} MB at peak", cost.tell(bytes), peak / 1_000_000),
            format!("bare loop: {}", back.tell(bytes)),
            Some(cost.rate(bytes) / back.rate(bytes)),
            "≥ 0.4 GB/s, ≤ 0.8 CPU-s/GB",
        );
    });
    floor::remove(&place);
}

fn json_out(folder: &Path, table: &mut Table) {
    let place = folder.join("json");
    std::fs::create_dir_all(place.join("in")).expect("a folder");
    let input = place.join("in/a.log");
    let count = floor::make_lines(&input, 1 << 30, 500, true);
    let (floor, bytes) = floor::zstd_alone(&input);
    let head = format!(
        "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\ntopics:\n  lines: {{ durability: os }}\n"
    );
    let source = format!(
        "{head}sources:\n  lines:\n    connector: file\n    topic: lines\n    settings: {{ paths: [\"in/*.log\"] }}\n"
    );
    let configuration = place.join("aqueduct.yaml");
    std::fs::write(&configuration, source).expect("a new file");
    let daemon = Daemon::start(&configuration, PORT);
    daemon.cost_until((Instant::now(), Duration::ZERO), |daemon| daemon.connector("lines")["records"] == count);
    drop(daemon);
    let sink = "sinks:\n  out:\n    connector: s3\n    topics: [lines]\n    chunk: { bytes: 64 MiB, age: 1s }\n    \
                settings: { url: \"file://PLACE/out\", format: json-lines, compression: zstd, compression-level: 1 }\n";
    deliver(&place, &head, sink, (count, bytes), |cost, bytes, peak| {
        table.row(
            "log → zstd-1 JSON lines in a local folder",
            format!("{}, {} MB at peak", cost.tell(bytes), peak / 1_000_000),
            format!("zstd-1 alone: {}", floor.tell(bytes)),
            Some(cost.rate(bytes) / floor.rate(bytes)),
            "≥ 0.7",
        );
    });
    floor::remove(&place);
}

/// Runs a sink over what is in the log, until all of it is delivered.
fn deliver(
    place: &Path,
    head: &str,
    sink: &str,
    (count, bytes): (u64, u64),
    tell: impl FnOnce(crate::meter::Cost, u64, u64),
) {
    let configuration = place.join("deliver.yaml");
    std::fs::write(&configuration, format!("{head}{}", sink.replace("PLACE", &place.display().to_string())))
        .expect("a new file");
    let start = Instant::now();
    let daemon = Daemon::start(&configuration, PORT);
    let cost = daemon.cost_until((start, cpu_of("none")), |daemon| daemon.connector("out")["records"] == count);
    let peak = memory_of(&daemon.id()).1;
    drop(daemon);
    tell(cost, bytes, peak);
}
