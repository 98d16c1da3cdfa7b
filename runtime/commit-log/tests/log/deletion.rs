//! Records that somebody asked to be rid of are gone for good, and nothing else is.

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::{CleanupPolicy, Kept as _, Log as _, TopicSettings, Topics as _};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::Offset;

use crate::opened::{copy_folder, files, fill, filled, of, open, small_segments, with_topic};

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
