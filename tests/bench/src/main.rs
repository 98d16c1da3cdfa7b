//! Benchmarks: each figure stands beside a floor or a peer that was measured in the same run, and nothing is asserted.
//!
//! `cargo build --release && cargo run --release -p aqueduct-bench -- [log] [pipeline] [memory] [parquet] [isolation] [search] [http] [kafka] [s3]`
//!
//! Of `kafka`, parts are measured alone as `kafka-rates`, `kafka-waits` and `kafka-crowds`.

mod floor;
mod http;
mod isolation;
mod kafka;
mod kafka_peers;
mod kafka_wire;
mod log;
mod memory;
mod meter;
mod parquet;
mod pipeline;
mod process;
mod s3;
mod search;
mod table;

use std::path::PathBuf;

use table::Table;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let folder = std::env::var_os("AQUEDUCT_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("aqueduct-bench-{}", std::process::id()));
    floor::warm_up(&folder);
    let mut table = Table::default();
    if wants("log") {
        log::measure(&folder, &mut table);
    }
    if wants("pipeline") {
        pipeline::measure(&folder, &mut table);
    }
    if wants("memory") {
        memory::measure(&folder, &mut table);
    }
    if wants("parquet") {
        parquet::measure(&folder, &mut table);
    }
    if wants("isolation") {
        isolation::measure(&folder, &mut table);
    }
    if wants("search") {
        search::measure(&folder, &mut table);
    }
    if wants("http") {
        http::measure(&folder, &mut table);
    }
    kafka::measure(&folder, &mut table, |part| wants("kafka") || wants(part));
    if wants("s3") {
        s3::measure(&folder, &mut table);
    }
    println!("\n{table}");
    floor::remove(&folder);
}
