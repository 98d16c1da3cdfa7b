//! Damage in segments that were closed long ago: what can not be read is told, offset by offset, and the rest is served.

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::{Limit, Log as _, Topics as _};
use aqueduct_commit_log::{CommitLog, Damaged};
use aqueduct_record::{Header, Offset};
use std::path::Path;

use crate::opened::{copy_folder, files, fill, filled, of, open, small_segments, value, with_topic};

/// Ten batches in segments of three or four, closed cleanly.
async fn closed_log() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 10).await;
    log.close().await.unwrap();
    folder
}

/// What a log says to damage: these offsets are lost, all others are read, from wherever a reader comes.
async fn check(log: &CommitLog, lost: std::ops::Range<Offset>, what: &str) {
    let there: Vec<_> = filled(0..10).into_iter().filter(|(offset, _)| !lost.contains(offset)).collect();
    for max_bytes in [1, 400, 1 << 20] {
        assert_eq!(read_all(log, &of(), 0, max_bytes).await, (there.clone(), vec![lost.clone()]), "{what}");
    }
    for from in 0..10 {
        let (found, losses) = read_all(log, &of(), from, 1 << 20).await;
        let expected: Vec<_> = there.iter().filter(|(offset, _)| *offset >= from).cloned().collect();
        assert_eq!(found, expected, "{what}, from {from}");
        let rest = from.max(lost.start)..lost.end;
        assert_eq!(losses, if rest.is_empty() { vec![] } else { vec![rest] }, "{what}, from {from}");
        let measured = log.measure(&of(), from, Limit { bytes: 1 << 30, records: 1 << 30 }).await.unwrap();
        assert_eq!((measured.end, measured.full), (10, false), "{what}, from {from}");
    }
    let told: Vec<_> = log.usage().partitions.into_iter().flat_map(|of| of.damaged).collect();
    assert_eq!(told, [Damaged { from: lost.start, to: lost.end }], "{what}");
    assert_eq!(append(log, &of(), batch(&["on"], 0)).await, 10, "{what}");
}

async fn check_changed(
    folder: &Path,
    segment: usize,
    change: impl Fn(&mut Vec<u8>),
    lost: std::ops::Range<Offset>,
    what: &str,
) {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder, copy.path());
    let path = &files(copy.path(), ".log")[segment];
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    check(&open(copy.path()).await, lost.clone(), what).await;
    // The same after a kill, without the note of a clean stop.
    let unclean = tempfile::tempdir().unwrap();
    copy_folder(folder, unclean.path());
    let path = &files(unclean.path(), ".log")[segment];
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    std::fs::remove_file(unclean.path().join("clean")).unwrap();
    check(&open(unclean.path()).await, lost, &format!("{what}, after a kill")).await;
}

#[tokio::test]
async fn damaged_offsets_are_told_and_the_others_are_served() {
    let folder = closed_log().await;
    let bases: Vec<Offset> = files(folder.path(), ".log")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    let (first, second) = (bases[1], bases[2]);
    let size = |bytes: &[u8]| Header::peek(bytes).unwrap().size();
    let path = folder.path();
    check_changed(path, 1, |bytes| bytes[100] ^= 1, first..first + 1, "a flipped bit in a value").await;
    check_changed(path, 1, |bytes| bytes[10] ^= 1, first..first + 1, "a flipped bit in a length").await;
    check_changed(path, 1, |bytes| bytes[0] ^= 0x40, first..first + 1, "a flipped bit in an offset").await;
    check_changed(path, 1, |bytes| bytes[16] = 1, first..first + 1, "another version").await;
    let middle = |bytes: &mut Vec<u8>| {
        let at = size(bytes);
        bytes[at + 80] ^= 1;
    };
    check_changed(path, 1, middle, first + 1..first + 2, "a flipped bit in the second batch").await;
    check_changed(path, 1, |bytes| bytes.fill(0), first..second, "all zeros").await;
    let end = |bytes: &mut Vec<u8>| {
        let length = bytes.len();
        bytes[length - 1] ^= 1;
    };
    check_changed(path, 1, end, second - 1..second, "a flipped bit at the end").await;
    check_changed(path, 1, |bytes| bytes.truncate(bytes.len() - 1), second - 1..second, "a byte short").await;
    check_changed(path, 0, |bytes| bytes[30] ^= 1, 0..1, "a flipped bit in the first segment").await;
}

#[tokio::test]
async fn an_index_that_is_missing_or_wrong_is_made_anew() {
    let folder = closed_log().await;
    for change in ["missing", "empty", "torn", "scrambled", "another's"] {
        for clean in [true, false] {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(folder.path(), copy.path());
            let indexes = files(copy.path(), "index");
            for path in &indexes {
                let mut bytes = std::fs::read(path).unwrap();
                match change {
                    "missing" => std::fs::remove_file(path).unwrap(),
                    "empty" => std::fs::write(path, "").unwrap(),
                    "torn" => std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap(),
                    "scrambled" => {
                        bytes[0] ^= 1;
                        std::fs::write(path, bytes).unwrap();
                    }
                    _ => drop(std::fs::copy(&indexes[0], path).unwrap()),
                }
            }
            if !clean {
                std::fs::remove_file(copy.path().join("clean")).unwrap();
            }
            let log = open(copy.path()).await;
            assert_eq!(read_all(&log, &of(), 0, 400).await, (filled(0..10), vec![]), "{change}");
            for n in 0..10 {
                assert_eq!(log.find(&of(), 1000 + n).await.unwrap(), n, "{change}");
            }
            assert_eq!(log.find(&of(), 1010).await.unwrap(), 10, "{change}");
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_gone_is_told_with_its_offsets() {
    let folder = closed_log().await;
    let path = files(folder.path(), ".log")[1].clone();
    let from: Offset = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let to: Offset = files(folder.path(), ".log")[2].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::remove_file(&path).unwrap();
    let log = open(folder.path()).await;
    let missing: Vec<_> =
        log.recovery().missing.iter().map(|missing| (missing.file.clone(), missing.from, missing.to)).collect();
    assert_eq!(missing, [(path, from, to)]);
    check(&log, from..to, "a segment is gone").await;
}

#[tokio::test]
async fn the_last_segment_s_loss_is_told_and_its_offsets_are_not_used_again() {
    let folder = closed_log().await;
    let path = files(folder.path(), ".log").pop().unwrap();
    let from: Offset = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::remove_file(&path).unwrap();
    let log = open(folder.path()).await;
    check(&log, from..10, "the last segment is gone").await;
}

#[tokio::test]
async fn damage_does_not_keep_a_topic_from_being_compacted_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let settings = aqueduct_api::TopicSettings { cleanup: aqueduct_api::CleanupPolicy::Compact, ..small_segments() };
    let log = with_topic(folder.path(), &settings).await;
    for n in 0..12usize {
        let mut builder = aqueduct_record::BatchBuilder::new();
        builder.push(n as i64, Some(b"key"), Some(value(n).as_bytes()), &[]);
        append(&log, &of(), builder.finish()).await;
    }
    log.close().await.unwrap();
    let path = &files(folder.path(), ".log")[1];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let log = open(folder.path()).await;
    log.clean().await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes, "what is damaged stays for whoever can mend it");
    assert_eq!(log.topics().await.unwrap().len(), 2);
}
