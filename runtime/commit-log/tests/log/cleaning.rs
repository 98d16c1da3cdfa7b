//! Retention and compaction: what goes, what stays, and what a kill in between leaves.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{
    ByteSize, CleanupPolicy, Committed, Groups as _, Isolation, Log as _, Span, TopicPartition, TopicSettings,
    Topics as _,
};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::{Batch, BatchBuilder, Offset};

use crate::opened::{Time, copy_folder, edge, files, fill, filled, killed, of, open, small_segments};

pub(crate) async fn log_at(folder: &Path, time: &Time, settings: &TopicSettings) -> CommitLog {
    let log = CommitLog::open(edge(time), folder, Options::default()).await.unwrap();
    log.create("t", 1, settings).await.unwrap();
    log
}

#[tokio::test]
async fn segments_go_when_all_their_records_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let settings = TopicSettings { retention: Span::millis(500), ..small_segments() };
    let log = log_at(folder.path(), &time, &settings).await;
    fill(&log, 10).await;
    let bases: Vec<i64> = files(folder.path(), ".log").iter().map(|path| base(path)).collect();
    for (now, start) in [
        (1000, 0),
        // A segment goes with its last record, not with its first.
        (1000 + bases[1] - 1 + 500, 0),
        (1000 + bases[1] + 500, bases[1]),
        (1000 + bases[2] + 500, bases[2]),
    ] {
        time.0.store(now, Ordering::SeqCst);
        log.clean().await.unwrap();
        assert_eq!(log.bounds(&of()).await.unwrap().start, start, "at {now}");
        let found = read_all(&log, &of(), start, 1000).await;
        assert_eq!(found, (filled(start as usize..10), vec![]), "at {now}");
    }
    assert_eq!(read_all(&log, &of(), 0, 1000).await.1, vec![0..bases[2]], "who comes too late is told");
    time.0.store(100_000, Ordering::SeqCst);
    log.clean().await.unwrap();
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (10, 10), "the segment that is written to goes too, and offsets go on");
    let copy = killed(folder.path());
    assert_eq!(open(copy.path()).await.bounds(&of()).await.unwrap().end, 10, "after a kill, too");
}

#[tokio::test]
async fn a_partition_that_was_just_made_is_spared_until_its_readers_may_have_come() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let settings = TopicSettings { retention: Span::millis(500), ..small_segments() };
    let options = Options { spare_new: std::time::Duration::from_secs(3600), ..Options::default() };
    let log = CommitLog::open(edge(&time), folder.path(), options.clone()).await.unwrap();
    log.create("t", 1, &settings).await.unwrap();
    fill(&log, 10).await;
    time.0.store(100_000, Ordering::SeqCst);
    log.clean().await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().start, 0, "nobody had a chance to hold it");
    log.close().await.unwrap();
    let log = CommitLog::open(edge(&time), folder.path(), options).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().start, 10, "holds are taken before cleaning starts in an old folder");
}

fn base(path: &Path) -> Offset {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_partition_keeps_no_more_bytes_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        TopicSettings { retention_bytes: Some(ByteSize(1000)), retention: Span::FOREVER, ..small_segments() };
    let log = log_at(folder.path(), &Time::default(), &settings).await;
    fill(&log, 20).await;
    log.clean().await.unwrap();
    let kept: u64 = files(folder.path(), ".log").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((1000..1700).contains(&kept), "{kept}");
    let start = log.bounds(&of()).await.unwrap().start;
    assert_eq!(read_all(&log, &of(), start, 1000).await, (filled(start as usize..20), vec![]));
}

#[tokio::test]
async fn nothing_goes_that_somebody_holds() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let settings = TopicSettings { retention: Span::millis(1), retention_bytes: Some(ByteSize(1)), ..small_segments() };
    let log = log_at(folder.path(), &time, &settings).await;
    fill(&log, 10).await;
    time.0.store(1_000_000, Ordering::SeqCst);
    let hold = log.hold(&of(), 0, "sink lake").await.unwrap();
    let other = log.hold(&of(), 5, "sink pond").await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().start, 0);
    assert_eq!(log.usage().partitions[1].holders.len(), 2);
    hold.advance(7);
    log.clean().await.unwrap();
    let start = log.bounds(&of()).await.unwrap().start;
    assert!(start > 0 && start <= 5, "{start}");
    drop(other);
    log.clean().await.unwrap();
    let start = log.bounds(&of()).await.unwrap().start;
    assert!(start > 5 && start <= 7, "{start}");
    mutate(Some(Mutant::RetentionPastPin));
    log.clean().await.unwrap();
    mutate(None);
    assert_eq!(log.bounds(&of()).await.unwrap().start, 10, "the mistake is one");
}

fn compacted() -> TopicSettings {
    TopicSettings { cleanup: CleanupPolicy::Compact, tombstone_retention: Span::millis(100), ..small_segments() }
}

fn keyed(key: &str, value: Option<&str>) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(0, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    builder.finish()
}

/// Offsets, keys and values.
async fn contents(log: &CommitLog) -> Vec<(Offset, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut found, mut offset) = (Vec::new(), log.bounds(&of()).await.unwrap().start);
    loop {
        let read = log.read(&of(), offset, 1 << 20, Isolation::Uncommitted).await.unwrap();
        assert_eq!(read.lost, None);
        let mut rest = read.batches;
        if rest.is_empty() {
            return found;
        }
        while let Some((batch, behind)) = Batch::split_first(&rest).unwrap() {
            for record in batch.records().unwrap().iter() {
                let record = record.unwrap();
                found.push((record.offset, record.key.map(text).unwrap_or_default(), record.value.map(text)));
            }
            (offset, rest) = (batch.next_offset(), behind);
        }
    }
}

/// Forty records of four keys, one without a key, and a tombstone.
async fn fill_keyed(log: &CommitLog) {
    for n in 0..40 {
        append(log, &of(), keyed(&format!("key-{}", n % 4), Some(&format!("{n:040}")))).await;
    }
    append(log, &of(), batch(&["no key"], 0)).await;
    append(log, &of(), keyed("key-1", None)).await;
    for n in 42..50 {
        append(log, &of(), keyed("filler", Some(&format!("{n:040}")))).await;
    }
}

/// The last record of each key, whichever keys there are.
fn last_of_each(contents: &[(Offset, String, Option<String>)]) -> Vec<(Offset, String, Option<String>)> {
    let is_last = |at: usize| !contents[at + 1..].iter().any(|later| later.1 == contents[at].1);
    (0..contents.len()).filter(|at| is_last(*at)).map(|at| contents[at].clone()).collect()
}

#[tokio::test]
async fn the_last_record_of_each_key_stays_at_its_offset() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let log = log_at(folder.path(), &time, &compacted()).await;
    fill_keyed(&log).await;
    let before = contents(&log).await;
    let bytes = log.usage().partitions[1].bytes;
    log.clean().await.unwrap();
    let after = contents(&log).await;
    assert_eq!(
        last_of_each(&after),
        last_of_each(&before).into_iter().filter(|of| !of.1.is_empty()).collect::<Vec<_>>()
    );
    assert!(after.iter().all(|record| before.contains(record)), "nothing is changed");
    assert!(after.len() < 20 && log.usage().partitions[1].bytes < bytes / 2, "{} records left", after.len());
    assert!(after.contains(&(41, "key-1".into(), None)), "the tombstone stays for a while");
    assert_eq!(log.bounds(&of()).await.unwrap().end, 50);
    // Every offset can still be asked for.
    for from in 0..50 {
        let (found, lost) = read_all(&log, &of(), from, 1).await;
        let expected: Vec<_> = after.iter().map(|record| record.0).filter(|offset| *offset >= from).collect();
        assert_eq!((found.iter().map(|record| record.0).collect::<Vec<_>>(), lost), (expected, vec![]), "from {from}");
    }

    time.0.store(1000, Ordering::SeqCst);
    for n in 50..100 {
        append(&log, &of(), keyed("filler", Some(&format!("{n:040}")))).await;
    }
    log.clean().await.unwrap();
    assert!(!contents(&log).await.iter().any(|record| record.1 == "key-1"), "the tombstone's time is over");
    log.close().await.unwrap();
    let log = open(folder.path()).await;
    assert!(log.recovery().clean);
    assert_eq!(log.bounds(&of()).await.unwrap().end, 100);
}

#[tokio::test]
async fn compaction_passes_no_hold() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_at(folder.path(), &Time::default(), &compacted()).await;
    fill_keyed(&log).await;
    let before = contents(&log).await;
    let hold = log.hold(&of(), 0, "mirror").await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(contents(&log).await, before);
    hold.advance(25);
    log.clean().await.unwrap();
    let after = contents(&log).await;
    let held = |contents: &[(Offset, String, Option<String>)]| {
        contents.iter().filter(|of| of.0 >= 25).cloned().collect::<Vec<_>>()
    };
    assert_eq!(held(&after), held(&before));
    assert!(after.len() < before.len());
}

/// A kill at every step of a swap: the old segments are there or the new one, never a mixture with holes.
#[tokio::test]
async fn a_kill_during_compaction_leaves_the_old_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_at(folder.path(), &Time::default(), &compacted()).await;
    fill_keyed(&log).await;
    let old = killed(folder.path());
    let before = contents(&log).await;
    log.clean().await.unwrap();
    let after = contents(&log).await;
    let new = killed(folder.path());
    let closed = files(new.path(), ".log");
    let (made, bound) = (&closed[0], base(&closed[1]));
    let swap = format!("t/0/{:020}-{bound:020}.swap", base(made));

    let check = async |copy: &Path, expected: &[(Offset, String, Option<String>)], what: String| {
        let log = open(copy).await;
        assert_eq!(contents(&log).await, expected, "{what}");
        assert_eq!(log.recovery().foreign.len() + log.recovery().missing.len(), 0, "{what}");
        assert_eq!(log.bounds(&of()).await.unwrap().end, 50, "{what}");
        append(&log, &of(), keyed("on", None)).await;
        assert!(files(copy, ".swap").is_empty() && files(copy, ".cleaned").is_empty(), "{what}");
    };
    let whole = fs::read(made).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len()] {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(old.path(), copy.path());
        fs::write(copy.path().join(format!("t/0/{:020}.cleaned", base(made))), &whole[..length]).unwrap();
        check(copy.path(), &before, format!("{length} bytes are cleaned")).await;
    }
    let replaced: Vec<_> = files(old.path(), ".log").into_iter().filter(|path| base(path) < bound).collect();
    for removed in 0..=replaced.len() {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(old.path(), copy.path());
        // Of the others it does not matter which are gone already.
        for path in replaced.iter().rev().take(removed) {
            fs::remove_file(copy.path().join("t/0").join(path.file_name().unwrap())).unwrap();
        }
        fs::write(copy.path().join(&swap), &whole).unwrap();
        for path in &closed[1..] {
            fs::copy(path, copy.path().join("t/0").join(path.file_name().unwrap())).unwrap();
        }
        for path in files(copy.path(), ".log").iter().filter(|path| base(path) > bound) {
            if !closed.iter().any(|kept| base(kept) == base(path)) {
                fs::remove_file(path).unwrap();
            }
        }
        check(copy.path(), &after, format!("{removed} segments are replaced")).await;
    }
}

#[tokio::test]
async fn committed_offsets_shrink_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_at(folder.path(), &Time::default(), &small_segments()).await;
    let internal =
        TopicSettings { segment_bytes: ByteSize::kib(4), cleanup: CleanupPolicy::Compact, ..TopicSettings::default() };
    log.alter("__consumer_offsets", 1, &internal).await.unwrap();
    let token = log.join("g").await.unwrap();
    for offset in 0..300 {
        let committed = Committed { offset, leader_epoch: 0, metadata: "{\"v\":1}".into() };
        log.commit(&token, vec![(of(), Some(committed))]).await.unwrap();
    }
    let offsets = TopicPartition::new("__consumer_offsets", 0);
    let before = log.usage().bytes;
    log.clean().await.unwrap();
    assert!(log.usage().bytes < before / 2, "{} of {before} bytes are left", log.usage().bytes);
    assert_eq!(log.bounds(&offsets).await.unwrap().end, 300);
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    assert_eq!(again.committed("g").await.unwrap()[&of()].offset, 299);
    assert_eq!(again.groups().await.unwrap(), ["g"]);
}

#[tokio::test]
async fn void_bytes_that_a_clean_stop_left_behind_do_not_come_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_at(folder.path(), &Time::default(), &TopicSettings::default()).await;
    fill(&log, 3).await;
    log.close().await.unwrap();
    let segment =
        files(folder.path(), ".log").into_iter().find(|path| path.starts_with(folder.path().join("t"))).unwrap();
    let kept = fs::read(&segment).unwrap();
    // What a failed sync made void and a read-only disk kept from being cut: whole batches that go on where the log ended.
    let mut void = kept.clone();
    void[..8].copy_from_slice(&3i64.to_be_bytes());
    fs::write(&segment, [&kept[..], &void[..]].concat()).unwrap();
    let reopened = open(folder.path()).await;
    assert_eq!(reopened.bounds(&of()).await.unwrap().end, 3);
    let crashed = killed(folder.path());
    assert_eq!(open(crashed.path()).await.bounds(&of()).await.unwrap().end, 3, "the next start does not believe it");
}
