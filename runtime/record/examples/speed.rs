//! Prints what a record costs to build and to read: `cargo run --release -p aqueduct-record --example speed`.

use std::hint::black_box;
use std::time::Instant;

use aqueduct_record::{Batch, BatchBuilder, Compression, Inflation};

const LINE: usize = 235;
const RECORDS: usize = 4000;
const ROUNDS: usize = 500;

fn main() {
    let line = text(LINE);
    let build = || {
        let mut builder = BatchBuilder::with_capacity(RECORDS * (LINE + 16));
        for n in 0..RECORDS {
            builder.push(1_700_000_000_000 + n as i64 / 100, None, Some(black_box(&line)), &[]);
        }
        builder
    };
    measure("copy of the value alone", || {
        let mut bytes = Vec::with_capacity(RECORDS * (LINE + 16));
        (0..RECORDS).for_each(|_| bytes.extend_from_slice(black_box(&line)));
        black_box(bytes);
    });
    measure("push", || drop(black_box(build())));
    measure("push and finish", || drop(black_box(build().finish())));
    let bytes = build().finish().into_bytes();
    measure("parse (lengths, CRC)", || drop(black_box(Batch::parse(bytes.clone()))));
    measure("parse and walk", || {
        let records = Batch::parse(bytes.clone()).and_then(|batch| batch.records()).expect("a good batch");
        black_box(
            records.iter().filter_map(Result::ok).map(|record| record.value.map_or(0, <[u8]>::len)).sum::<usize>(),
        );
    });
    measure("push with key and 2 headers", || {
        let mut builder = BatchBuilder::with_capacity(RECORDS * (LINE + 80));
        for n in 0..RECORDS {
            let headers = [("trace", Some(&b"0123456789"[..])), ("host", Some(&b"web-1"[..]))];
            builder.push(n as i64, Some(b"a key"), Some(black_box(&line)), &headers);
        }
        black_box(builder.finish());
    });
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        codec_speed(codec);
    }
}

fn codec_speed(codec: Compression) {
    let mut builder = BatchBuilder::with_capacity(RECORDS * (LINE + 16)).compressed(codec);
    let words = text(RECORDS * LINE);
    words.chunks(LINE).for_each(|line| builder.push(0, None, Some(line), &[]));
    let start = Instant::now();
    let batch = builder.clone().finish();
    let built = start.elapsed();
    let start = Instant::now();
    batch.validate(Inflation::default()).expect("a good batch");
    let read = start.elapsed();
    let rate = |time: std::time::Duration| builder.size() as f64 / time.as_secs_f64() / 1e6;
    let ratio = builder.size() as f64 / batch.size() as f64;
    println!("{codec:<28} {:6.0} MB/s in  {:6.0} MB/s out  ratio {ratio:.2}", rate(built), rate(read));
}

/// Words of a small vocabulary in an order that does not repeat soon.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let words = std::iter::from_fn(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(format!("word{} ", state >> 54).into_bytes())
    });
    words.flatten().take(bytes).collect()
}

/// Prints the best of some runs, in ns a record.
fn measure(what: &str, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        (0..ROUNDS / 10).for_each(|_| run());
        best = best.min(start.elapsed().as_nanos() as f64 / (ROUNDS / 10 * RECORDS) as f64);
    }
    println!("{what:<28} {best:6.1} ns a record");
}
