//! Kafka's own Java client reads the batches that our builder makes, and reads in them what we meant.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use aqueduct_record::{Batch, BatchBuilder, Compression, Control};

#[path = "describe.rs"]
mod describe;

const TIME: i64 = 1_700_000_000_000;

/// Needs a JDK of at least 17 and Maven (see `java.sh`): no Java is a failure, not a skip.
#[test]
fn java_reads_our_batches_as_we_mean_them() {
    let dir = tempfile::tempdir().unwrap();
    for (name, batch) in batches() {
        let meant = describe::describe(&batch).unwrap();
        std::fs::write(dir.path().join(format!("{name}.bin")), batch.bytes()).unwrap();
        std::fs::write(dir.path().join(format!("{name}.json")), meant).unwrap();
    }
    let (agrees, output) = check(dir.path());
    assert!(agrees, "{output}");

    // The check itself can fail: a description that is wrong in one word is noticed.
    let file = dir.path().join("none.json");
    let wrong = std::fs::read_to_string(&file).unwrap().replacen("\"offset\":1", "\"offset\":2", 1);
    std::fs::write(&file, wrong).unwrap();
    let (agrees, output) = check(dir.path());
    assert!(!agrees, "{output}");
}

fn check(dir: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/check.sh");
    let output = Command::new(script).arg(dir).output().expect("check.sh runs: it needs bash, java and mvn");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn batches() -> Vec<(String, Batch)> {
    let mut all = vec![
        ("headers".to_owned(), headers()),
        ("tombstones".to_owned(), tombstones()),
        ("abort".to_owned(), marker(Control::Abort)),
        ("commit".to_owned(), marker(Control::Commit)),
        ("idempotent".to_owned(), two_records().producer(1234, 5, 6).finish().at(99, 3)),
        ("transactional".to_owned(), two_records().producer(1234, 5, i32::MAX).transactional().finish()),
        ("append-time".to_owned(), two_records().append_time(TIME + 99).finish()),
        ("before-1970".to_owned(), timestamps(&[-5, -86_400_000, 3])),
        ("timestamps-far-apart".to_owned(), timestamps(&[0, i64::MAX, i64::MIN])),
        ("placed".to_owned(), two_records().finish().at(i64::MAX - 10, i32::MAX)),
        ("empty".to_owned(), BatchBuilder::new().producer(7, 1, 3).finish()),
    ];
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        all.push((codec.to_string(), two_records().compressed(codec).finish()));
        all.push((format!("{codec}-long"), long(codec)));
        all.push((format!("{codec}-compacted"), compacted(&long(codec).at(1000, 2))));
    }
    all
}

fn two_records() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.push(TIME, Some(b"key"), Some(b"value"), &[]);
    builder.push(TIME + 1, None, Some(b"another value"), &[("trace", Some(b"1"))]);
    builder
}

fn headers() -> Batch {
    let mut builder = BatchBuilder::new();
    let all: &[(&str, Option<&[u8]>)] = &[
        ("a", Some(b"1")),
        ("null", None),
        ("empty", Some(b"")),
        ("", Some(b"x")),
        ("größe", Some(&[0, 255])),
        ("a", None),
    ];
    builder.push(TIME, Some(b"k"), Some(b"v"), all);
    builder.push(TIME, None, None, &all[..1]);
    // 64 headers and more take two bytes to count.
    let many: Vec<(&str, Option<&[u8]>)> = (0..63).map(|_| ("n", Some(&b"v"[..]))).collect();
    builder.push(TIME, None, Some(b"v"), &many);
    builder.add_header_to_last("aqueduct.position", b"[\"source\",\"stream\",17]");
    builder.finish()
}

fn tombstones() -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(TIME, Some(b"key"), None, &[]);
    builder.push(TIME, None, None, &[]);
    builder.push(TIME, Some(b""), Some(b""), &[]);
    builder.finish()
}

fn marker(kind: Control) -> Batch {
    let mut builder = BatchBuilder::new().producer(4711, 12, -1).transactional().control();
    builder.push(TIME, Some(&kind.key()), Some(&[0, 0, 0, 0, 0, 99]), &[]);
    builder.finish().at(1000, 3)
}

fn timestamps(all: &[i64]) -> Batch {
    let mut builder = BatchBuilder::new();
    for timestamp in all {
        builder.push(*timestamp, None, Some(b"v"), &[]);
    }
    builder.finish()
}

/// More than a block of every codec.
fn long(codec: Compression) -> Batch {
    let mut builder = BatchBuilder::with_capacity(1 << 18).compressed(codec);
    for n in 0..2000 {
        builder.push(
            TIME + n,
            None,
            Some(format!("{n}: {}", "a line of a log ".repeat(n as usize % 9)).as_bytes()),
            &[],
        );
    }
    builder.finish()
}

fn compacted(batch: &Batch) -> Batch {
    let mut kept = BatchBuilder::remainder_of(&batch.header(), Some(TIME + 86_400_000));
    for record in batch.records().unwrap().iter().map(Result::unwrap).filter(|record| record.offset % 501 == 7) {
        kept.push_record((record.offset - batch.base_offset()) as i32, &record);
    }
    kept.finish().at(batch.base_offset(), batch.leader_epoch())
}
