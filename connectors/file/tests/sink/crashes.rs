//! What is in the files when a machine or a process ends at any change that the sink makes to the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aqueduct_api::Chunk;
use aqueduct_api::conformance::sink::Script;
use serde_json::{Value, json};

use crate::disk::CrashDisk;
use crate::world::World;

pub(crate) fn shapes() -> [Value; 4] {
    [
        json!({"path": "all.log"}),
        json!({"path": "{topic}/{partition}.log", "compression": "zstd"}),
        json!({"path": "d/{timestamp:%S}.log", "format": "records", "roll": {"records": 2}}),
        json!({"path": "{topic}.json", "format": "json-lines", "compression": "gzip", "roll": {"bytes": 100}}),
    ]
}

/// Chunks of two partitions, in the order in which they are delivered.
pub(crate) fn chunks() -> Vec<Script> {
    let chunk = |partition, start, count| Script::new("t", partition).batch(start, count).batch(start + 10, 1);
    vec![chunk(0, 0, 3), chunk(1, 0, 2), chunk(0, 11, 2), chunk(1, 11, 1), chunk(0, 22, 1)]
}

/// Delivers what is not delivered, each chunk `twice` at first; false when the machine has ended.
async fn deliver(world: &World, chunks: &[Script], delivered: &mut usize) -> bool {
    let sink = world.sink().await;
    while let Some(chunk) = chunks.get(*delivered) {
        let chunk: Chunk = chunk.again();
        if sink.write(&mut [chunk]).await.is_err() {
            return false;
        }
        *delivered += 1;
    }
    true
}

/// What the files hold when nothing goes wrong, and after how many changes.
pub(crate) async fn expected(shape: &Value) -> (BTreeMap<String, Vec<u8>>, u64) {
    let disk = CrashDisk::default();
    let world = World::on(shape.clone(), Path::new("/out"), Arc::new(disk.clone()));
    assert!(deliver(&world, &chunks(), &mut 0).await);
    (world.files(), disk.changes())
}

#[tokio::test]
async fn every_record_is_there_once_and_in_order_wherever_it_ends() {
    for shape in shapes() {
        let (expected, changes) = expected(&shape).await;
        assert!(changes > 30, "{shape}: {changes}");
        for end in 1..=changes {
            for seed in 0..8 {
                let disk = CrashDisk::default();
                let world = World::on(shape.clone(), Path::new("/out"), Arc::new(disk.clone()));
                let (chunks, mut delivered) = (chunks(), 0);
                disk.end_after(end);
                assert!(!deliver(&world, &chunks, &mut delivered).await, "{shape}: {end} is before the end");
                disk.restart(seed % 4 > 0, seed);
                // It ends again while it mends what the first end left, or soon after.
                disk.end_after(1 + (end * 7 + seed) % 23);
                deliver(&world, &chunks, &mut delivered).await;
                disk.restart(seed % 3 > 0, seed + 100);
                assert!(deliver(&world, &chunks, &mut delivered).await);
                // What was told to be written is durable.
                disk.restart(true, seed + 200);
                assert!(world.files() == expected, "{shape}, end {end}, seed {seed}: {:?}", world.texts());
            }
        }
    }
}

#[tokio::test]
async fn what_was_written_before_its_commit_is_not_written_again() {
    for shape in shapes() {
        let (expected, _) = expected(&shape).await;
        let disk = CrashDisk::default();
        let world = World::on(shape, Path::new("/out"), Arc::new(disk.clone()));
        for known in 0..chunks().len() {
            assert!(deliver(&world, &chunks()[..=known], &mut 0).await);
            disk.restart(true, known as u64);
        }
        assert_eq!(world.files(), expected);
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    for shape in shapes() {
        let (expected, _) = expected(&shape).await;
        for room in (0..2000).step_by(37) {
            let disk = CrashDisk::default();
            let world = World::on(shape.clone(), Path::new("/out"), Arc::new(disk.clone()));
            let (sink, chunks) = (world.sink().await, chunks());
            disk.room(Some(room));
            for chunk in &chunks {
                while let Err(error) = sink.write(&mut [chunk.again()]).await {
                    assert!(error.is_retry(), "{error}");
                    disk.room(None);
                }
            }
            assert!(world.files() == expected, "{shape}, room {room}: {:?}", world.texts());
        }
    }
}

#[tokio::test]
async fn a_damaged_journal_stops_the_sink_and_is_named() {
    let disk = Arc::new(CrashDisk::default());
    let world = World::on(json!({"path": "all.log"}), Path::new("/out"), disk.clone());
    assert!(deliver(&world, &chunks(), &mut 0).await);
    let journal =
        aqueduct_api::Disk::open(&*disk, Path::new("/out/.aqueduct/files.journal"), aqueduct_api::disk::Open::Write);
    journal.unwrap().write_at(&[std::io::IoSlice::new(b"#")], 20).unwrap();
    let failed = world.sink().await.write(&mut [chunks()[0].again()]).await.unwrap_err();
    assert!(!failed.is_retry() && failed.to_string().contains("files.journal is damaged at byte 0"), "{failed}");
}
