//! What is in the files when calls of the disk fail and the process lives on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::crashes::{chunks, expected, shapes};
use crate::disk::{CALLS, Call, CrashDisk};
use crate::world::World;

/// Delivers all chunks by one sink that tries again, and looks at the files, also after a loss of power: how often it had
/// to.
async fn check(shape: &Value, disk: &CrashDisk, expected: &BTreeMap<String, Vec<u8>>, what: &str) -> usize {
    let world = World::on(shape.clone(), Path::new("/out"), Arc::new(disk.clone()));
    let (sink, mut again) = (world.sink().await, 0);
    for chunk in chunks() {
        while let Err(error) = sink.write(&mut [chunk.again()]).await {
            again += 1;
            assert!(error.is_retry() && again < 50, "{shape}, {what}: {error}");
        }
    }
    assert!(world.files() == *expected, "{shape}, {what}: {:?}", world.texts());
    disk.restart(true, again as u64);
    assert!(world.files() == *expected, "{shape}, {what}, after a loss of power: {:?}", world.texts());
    again
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_whichever_call_fails_when() {
    for shape in shapes() {
        let (expected, _) = expected(&shape).await;
        for call in CALLS {
            let mut failed = 0;
            for after in 0.. {
                let disk = CrashDisk::default();
                disk.fail(call, after, 1 + after % 3);
                check(&shape, &disk, &expected, &format!("{call:?} fails after {after}")).await;
                if disk.failed() == 0 {
                    break;
                }
                failed += 1;
            }
            // Nothing is removed while all goes well; what an interrupted write leaves is in the next test.
            assert!(failed > 0 || call == Call::Remove, "{shape}: {call:?} was never called");
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_mending_fails_too() {
    let mut mended = BTreeMap::<String, u64>::new();
    for shape in shapes() {
        let (expected, _) = expected(&shape).await;
        for seed in 0..600u64 {
            let disk = CrashDisk::default();
            // A write or a sync fails, so that files are to be mended, and then what mends them.
            let first = if seed % 2 == 0 { Call::Write } else { Call::Sync };
            let second = CALLS[(seed / 2) as usize % CALLS.len()];
            disk.fail(first, seed / 14 % 15, 1);
            let before = disk.failed();
            disk.fail(second, seed / 210 * 2 + seed % 5, 1 + seed % 2);
            check(&shape, &disk, &expected, &format!("seed {seed}: {first:?}, then {second:?}")).await;
            *mended.entry(format!("{second:?}")).or_default() += u64::from(disk.failed() > before + 1);
        }
    }
    assert!(CALLS.iter().all(|call| mended[&format!("{call:?}")] > 0), "{mended:?}");
}

#[tokio::test]
async fn a_loss_of_power_after_a_failed_call_is_mended() {
    for shape in shapes() {
        let (expected, changes) = expected(&shape).await;
        for seed in 0..400u64 {
            let disk = CrashDisk::default();
            let world = World::on(shape.clone(), Path::new("/out"), Arc::new(disk.clone()));
            let call = CALLS[seed as usize % CALLS.len()];
            disk.fail(call, seed / 7 % 20, 2);
            disk.end_after(1 + seed * 31 % changes);
            let (sink, mut delivered) = (world.sink().await, 0);
            let chunks = chunks();
            'life: while let Some(chunk) = chunks.get(delivered) {
                for _ in 0..3 {
                    if sink.write(&mut [chunk.again()]).await.is_ok() {
                        delivered += 1;
                        continue 'life;
                    }
                }
                break;
            }
            disk.restart(true, seed);
            let sink = world.sink().await;
            for chunk in &chunks[delivered..] {
                sink.write(&mut [chunk.again()]).await.unwrap();
            }
            assert!(world.files() == expected, "{shape}, seed {seed}, {call:?}: {:?}", world.texts());
        }
    }
}

#[tokio::test]
async fn what_was_cut_stays_cut_also_where_making_that_durable_failed_first() {
    let shape = &shapes()[0];
    for seed in 0..64 {
        let disk = CrashDisk::default();
        let world = World::on(shape.clone(), Path::new("/out"), Arc::new(disk.clone()));
        disk.restart(false, seed);
        let (sink, chunks) = (world.sink().await, chunks());
        sink.write(&mut [chunks[0].again()]).await.unwrap();
        // The chunk's bytes are written but not synced, and neither is it when they are cut off.
        disk.fail(Call::Sync, 1, 2);
        for _ in 0..2 {
            sink.write(&mut [chunks[2].again()]).await.unwrap_err();
        }
        assert_eq!(disk.failed(), 2);
        // Another partition's chunk, which is shorter, comes in its place.
        sink.write(&mut [chunks[3].again()]).await.unwrap();
        let expected = world.files();
        disk.restart(true, seed);
        assert!(world.files() == expected, "seed {seed}: {:?}", world.texts());
    }
}
