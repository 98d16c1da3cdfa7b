//! Records that somebody asked to be rid of are gone for good, and nothing else is.

use std::sync::atomic::Ordering;

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::{CleanupPolicy, Kept as _, Log as _, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::Offset;

use crate::faulty::{Setup, setup};
use crate::opened::{copy_folder, files, fill, filled, killed, of, open, small_segments, with_topic};

/// What is there of ten records once those before `start` are deleted.
async fn check(log: &CommitLog, start: Offset, what: &str) {
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (start, 10), "{what}");
    let there: Vec<_> = filled(0..10).into_iter().filter(|(offset, _)| *offset >= start).collect();
    assert_eq!(read_all(log, &of(), start, 1 << 20).await, (there.clone(), vec![]), "{what}");
    let lost: Vec<_> = (start > 0).then_some(0..start).into_iter().collect();
    assert_eq!(read_all(log, &of(), 0, 1 << 20).await, (there, lost), "{what}");
    assert_eq!(log.find(&of(), 0).await.unwrap(), start, "{what}: the first of any time");
    assert_eq!(log.find(&of(), 1009).await.unwrap(), start.max(9), "{what}: the last one's time");
}

#[tokio::test]
async fn a_partition_begins_where_it_was_cut_whatever_happens() {
    for start in 0..=10 {
        let folder = tempfile::tempdir().unwrap();
        let log = with_topic(folder.path(), &small_segments()).await;
        fill(&log, 10).await;
        let segments = files(folder.path(), ".log").len();
        assert_eq!(log.delete_before(&of(), Some(start)).await.unwrap(), start);
        check(&log, start, "at once").await;
        assert!(start < 5 || files(folder.path(), ".log").len() < segments, "whole segments go: {start}");
        assert_eq!(log.delete_before(&of(), Some(start / 2)).await.unwrap(), start, "nothing comes back");
        let killed = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), killed.path());
        check(&open(killed.path()).await, start, "after a kill").await;
        log.close().await.unwrap();
        let log = open(folder.path()).await;
        check(&log, start, "after a stop").await;
        assert_eq!(files(folder.path(), ".start").len(), usize::from(start > 0), "{start}");
        assert_eq!(append(&log, &of(), batch(&["on"], 0)).await, 10);
    }
}

#[tokio::test]
async fn all_that_there_is_can_be_deleted_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    assert_eq!(log.delete_before(&of(), None).await.unwrap(), 0);
    for round in 1..4 {
        fill(&log, 10).await;
        assert_eq!(log.delete_before(&of(), None).await.unwrap(), round * 10);
        let bounds = log.bounds(&of()).await.unwrap();
        assert_eq!((bounds.start, bounds.end), (round * 10, round * 10));
        assert_eq!(files(folder.path(), ".start").len(), 1);
    }
}

#[tokio::test]
async fn what_somebody_needs_what_is_compacted_and_what_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 10).await;
    let hold = log.hold(&of(), 4, "sink s").await.unwrap();
    for (offset, why) in
        [(Some(5), "sink s needs"), (None, "sink s needs"), (Some(11), "ends at 10"), (Some(-2), "is not in it")]
    {
        let refused = log.delete_before(&of(), offset).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{offset:?}: {refused}");
    }
    assert_eq!(log.delete_before(&of(), Some(4)).await.unwrap(), 4);
    drop(hold);
    assert_eq!(log.delete_before(&of(), Some(5)).await.unwrap(), 5);
    let compacted = TopicSettings { cleanup: CleanupPolicy::Compact, ..small_segments() };
    log.alter("t", 1, &compacted).await.unwrap();
    let refused = log.delete_before(&of(), Some(6)).await.unwrap_err().to_string();
    assert!(refused.contains("is compacted"), "{refused}");
    check(&log, 5, "after all that").await;
}

/// The new start finds no room, or not without what is reserved, or is not durable.
#[tokio::test]
async fn a_full_disk_leaves_the_old_start_or_the_new_one_and_no_error_later() {
    for (names, folder_syncs, is_deleted) in [(0, 0, true), (1, 0, true), (2, 0, false), (0, 1, false)] {
        let place = format!("{names} names, {folder_syncs} syncs of the folder fail");
        let Setup { folder, faults, later: _later, log } = setup(&small_segments(), Options::default()).await;
        fill(&log, 10).await;
        assert_eq!(log.delete_before(&of(), Some(2)).await.unwrap(), 2);
        faults.names.store(names, Ordering::SeqCst);
        faults.folder_syncs.store(folder_syncs, Ordering::SeqCst);
        let deleted = log.delete_before(&of(), Some(6)).await;
        assert_eq!(deleted.as_ref().is_ok_and(|start| *start == 6), is_deleted, "{place}: {deleted:?}");
        assert!(deleted.is_ok() || deleted.is_err_and(|error| error.is_retry()), "{place}");
        check(&log, if is_deleted { 6 } else { 2 }, &place).await;
        let copy = killed(folder.path());
        let again = open(copy.path()).await;
        let start = again.bounds(&of()).await.unwrap().start;
        assert!(start == 6 || start == 2 && !is_deleted, "{place}: {start} after a kill");
        check(&again, start, &place).await;

        for to in [6, 7] {
            assert_eq!(log.delete_before(&of(), Some(to)).await.unwrap(), to, "{place}");
            check(&log, to, &place).await;
        }
        log.clean().await.unwrap();
        log.close().await.unwrap();
        let log = open(folder.path()).await;
        check(&log, 7, &place).await;
        assert_eq!(append(&log, &of(), batch(&["on"], 0)).await, 10);
    }
}

/// Retention removed segments, but that is not durable: where the partition begins then is not enough for who deletes.
#[tokio::test]
async fn what_retention_removed_before_is_deleted_for_good_where_somebody_asks() {
    let settings = TopicSettings { retention_bytes: Some(aqueduct_api::ByteSize(1)), ..small_segments() };
    let Setup { folder, faults, later: _later, log } = setup(&settings, Options::default()).await;
    fill(&log, 10).await;
    let before = killed(folder.path());
    faults.folder_syncs.store(1, Ordering::SeqCst);
    log.clean().await.unwrap_err();
    let start = log.bounds(&of()).await.unwrap().start;
    assert!(start > 2);
    assert_eq!(log.delete_before(&of(), Some(2)).await.unwrap(), start);
    // As if the power had failed: the segments are there again, the names that were synced stay.
    for name in files(folder.path(), ".start") {
        std::fs::copy(&name, before.path().join("t/0").join(name.file_name().unwrap())).unwrap();
    }
    check(&open(before.path()).await, 2, "after a crash").await;
}

#[tokio::test]
async fn what_comes_after_a_damaged_end_was_never_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 10).await;
    assert_eq!(log.delete_before(&of(), None).await.unwrap(), 10);
    let damaged = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), damaged.path());
    let last = files(damaged.path(), ".log").into_iter().max().unwrap();
    std::fs::write(&last, []).unwrap();
    let log = open(damaged.path()).await;
    let end = log.bounds(&of()).await.unwrap().end;
    assert!(end < 10, "{end}");
    for offset in end..end + 5 {
        assert_eq!(append(&log, &of(), batch(&["on"], 0)).await, offset);
    }
    log.close().await.unwrap();
    let log = open(damaged.path()).await;
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (end, end + 5));
    let (there, lost) = read_all(&log, &of(), end, 1 << 20).await;
    assert_eq!((there.len(), lost.len()), (5, 0));
}
