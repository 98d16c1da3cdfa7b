//! After a kill: what was acknowledged is there, what is torn is cut, and nothing stays behind what was cut.

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::{At, Committed, Groups as _, Log as _, TopicPartition, TopicSettings, Topics as _};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::BatchBuilder;

use crate::opened::{files, fill, filled, killed, of, open, small_segments, with_topic};

#[tokio::test]
async fn a_clean_stop_needs_no_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 20).await;
    let before = log.bounds(&of()).await.unwrap();
    log.close().await.unwrap();

    let log = open(folder.path()).await;
    assert!(log.recovery().clean && log.recovery().cut.is_empty());
    assert_eq!(log.bounds(&of()).await.unwrap(), before, "the same epoch too");
    assert_eq!(read_all(&log, &of(), 0, 300).await, (filled(0..20), vec![]));
    assert_eq!(log.find(&of(), 1013).await.unwrap(), 13);
    fill(&log, 1).await;
    assert_eq!(log.bounds(&of()).await.unwrap().end, 21);
}

#[tokio::test]
async fn after_a_kill_all_is_there_under_a_higher_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 20).await;
    let epoch = log.bounds(&of()).await.unwrap().leader_epoch;
    let copy = killed(folder.path());

    let again = open(copy.path()).await;
    let recovery = again.recovery();
    assert!(!recovery.clean && recovery.cut.is_empty() && recovery.missing.is_empty() && recovery.foreign.is_empty());
    let bounds = again.bounds(&of()).await.unwrap();
    assert_eq!((bounds.start, bounds.stable, bounds.end), (0, 20, 20));
    assert!(bounds.leader_epoch > epoch);
    assert_eq!(read_all(&again, &of(), 0, 300).await, (filled(0..20), vec![]));
    again.close().await.unwrap();
    assert_eq!(open(copy.path()).await.bounds(&of()).await.unwrap(), bounds, "a clean stop raises nothing");
}

/// Cuts the last segment at sampled lengths within its last MiB: a prefix is there, never less than what was acknowledged
/// when the file was that long.
#[tokio::test]
async fn a_torn_tail_is_cut_after_its_last_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    let mut expected = Vec::new();
    let mut lengths = vec![(0, 0)];
    for n in 0..400 {
        let mut builder = BatchBuilder::new();
        for m in 0..n % 5 + 1 {
            let value = format!("{n}.{m}{}", "y".repeat(n * 131 % 3000));
            builder.push(0, None, Some(value.as_bytes()), &[]);
            expected.push((expected.len() as i64, value));
        }
        append(&log, &of(), builder.finish()).await;
        let length = std::fs::metadata(&files(folder.path(), ".log")[0]).unwrap().len();
        lengths.push((length, expected.len()));
    }
    let last = lengths[400].0;
    let sampled = (0..25u64).map(|n| last - (n * n * 293) % last.min(1 << 20));
    let near_ends =
        lengths.iter().step_by(80).flat_map(|(length, _)| [length.saturating_sub(1), *length, length + 1, length + 61]);
    for length in sampled.chain(near_ends).filter(|length| *length <= last) {
        let copy = killed(folder.path());
        let file = std::fs::OpenOptions::new().write(true).open(&files(copy.path(), ".log")[0]).unwrap();
        file.set_len(length).unwrap();
        let again = open(copy.path()).await;
        let (acknowledged, records) = *lengths.iter().rfind(|(acknowledged, _)| *acknowledged <= length).unwrap();
        assert_eq!(again.bounds(&of()).await.unwrap().end, records as i64, "cut at {length}");
        assert_eq!(
            read_all(&again, &of(), 0, 1 << 20).await,
            (expected[..records].to_vec(), vec![]),
            "cut at {length}"
        );
        let cut: Vec<_> = again.recovery().cut.iter().map(|cut| (cut.from, cut.bytes)).collect();
        let torn = length - acknowledged;
        assert_eq!(cut, if torn == 0 { vec![] } else { vec![(records as i64, torn)] }, "cut at {length}");
        assert_eq!(append(&again, &of(), batch(&["on"], 0)).await, records as i64);
    }
}

/// What a crash can leave in the last bytes of a file.
#[tokio::test]
async fn nothing_is_kept_behind_a_batch_that_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    fill(&log, 10).await;
    let whole = std::fs::read(&files(folder.path(), ".log")[0]).unwrap();
    let start = |n: usize| (0..n).map(|n| whole_size(&whole, n)).sum::<usize>();
    let middle = start(6) + 100;
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    for (what, bytes, kept) in [
        ("a bit flipped in the seventh batch", damaged(&|bytes| bytes[middle] ^= 4), 6),
        ("zeros from the seventh batch on", damaged(&|bytes| bytes[start(6)..].fill(0)), 6),
        ("zeros at the end", damaged(&|bytes| bytes.extend([0; 5000])), 10),
        ("a whole batch again behind the end", damaged(&|bytes| bytes.extend_from_within(..start(1))), 10),
        ("noise at the end", damaged(&|bytes| bytes.extend((0..999u32).map(|n| (n * n % 251) as u8))), 10),
        ("a hole of one sector", damaged(&|bytes| bytes[512..1024].fill(0)), 2),
        ("nothing at all", vec![], 0),
        ("one byte", vec![0], 0),
    ] {
        let copy = killed(folder.path());
        let path = &files(copy.path(), ".log")[0];
        std::fs::write(path, &bytes).unwrap();
        let again = open(copy.path()).await;
        assert_eq!(read_all(&again, &of(), 0, 500).await, (filled(0..kept), vec![]), "{what}");
        assert_eq!(std::fs::metadata(path).unwrap().len() as usize, start(kept), "{what}");
        assert_eq!(append(&again, &of(), batch(&["on"], 0)).await, kept as i64, "{what}");
    }
}

fn whole_size(bytes: &[u8], n: usize) -> usize {
    let mut at = 0;
    for _ in 0..n {
        at += aqueduct_record::Header::peek(&bytes[at..]).unwrap().size();
    }
    aqueduct_record::Header::peek(&bytes[at..]).unwrap().size()
}

#[tokio::test]
async fn what_a_segment_holds_past_the_next_one_s_base_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 10).await;
    let copy = killed(folder.path());
    let logs = files(copy.path(), ".log");
    // As after a failed sync whose bytes could not be cut off: the second segment's batches stand in the first, too.
    let mut first = std::fs::read(&logs[0]).unwrap();
    first.extend(std::fs::read(&logs[1]).unwrap());
    std::fs::write(&logs[0], first).unwrap();
    for index in files(copy.path(), "index") {
        std::fs::remove_file(index).unwrap();
    }
    for is_stopped_unread in [true, false] {
        let again = open(copy.path()).await;
        if is_stopped_unread {
            again.close().await.unwrap();
            continue;
        }
        assert!(again.recovery().clean);
        assert_eq!(read_all(&again, &of(), 0, 5000).await, (filled(0..10), vec![]));
        assert_eq!(again.usage().partitions.iter().map(|of| of.damaged.len()).sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn gaps_before_own_offsets_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    for base in [7, 100, 5_000_000_000] {
        let placed = batch(&["a"], 0).at(base, 0);
        log.append(&of(), placed, At::OwnOffset).await.unwrap().durable().await.unwrap();
    }
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    let bounds = again.bounds(&of()).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (7, 5_000_000_001));
    let (found, lost) = read_all(&again, &of(), 7, 1000).await;
    assert_eq!(found.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [7, 100, 5_000_000_000]);
    assert_eq!(lost, vec![]);
}

#[tokio::test]
async fn a_new_partition_and_a_new_topic_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    let grown = log.alter("t", 3, &TopicSettings::default()).await.unwrap();
    let other = log.create("other", 2, &small_segments()).await.unwrap();
    log.create("gone", 1, &small_segments()).await.unwrap();
    log.delete("gone", false).await.unwrap();
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    let topics = again.topics().await.unwrap();
    let named: Vec<_> = topics.iter().filter(|topic| !topic.is_internal()).cloned().collect();
    assert_eq!(named, [other, grown]);
}

/// Commits offset 7 of group `g` for topics.
async fn commit(log: &CommitLog, topics: &[&str]) {
    let token = log.join("g").await.unwrap();
    let seven = Committed { offset: 7, leader_epoch: 0, metadata: String::new() };
    let offsets = topics.iter().map(|topic| (TopicPartition::new(*topic, 0), Some(seven.clone())));
    log.commit(&token, offsets.collect()).await.unwrap();
}

/// The topics that group `g` has committed offsets of.
async fn committed(log: &CommitLog) -> Vec<String> {
    log.committed("g").await.unwrap().into_keys().map(|of| of.topic.to_string()).collect()
}

#[tokio::test]
async fn what_was_committed_for_a_deleted_topic_is_forgotten_also_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    log.create("other", 1, &TopicSettings::default()).await.unwrap();
    commit(&log, &["t", "other"]).await;
    log.delete("t", false).await.unwrap();
    assert_eq!(committed(&log).await, ["other"]);
    log.create("t", 1, &TopicSettings::default()).await.unwrap();
    let copy = killed(folder.path());
    assert_eq!(committed(&open(copy.path()).await).await, ["other"], "its name is taken again");
    log.delete("other", false).await.unwrap();
    assert_eq!(log.groups().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_kill_between_a_deletion_and_what_is_forgotten_with_it_keeps_no_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    log.create("other", 1, &TopicSettings::default()).await.unwrap();
    commit(&log, &["t", "other"]).await;
    let copy = killed(folder.path());
    // What a deletion does first.
    std::fs::rename(copy.path().join("t"), copy.path().join("~deleted-1")).unwrap();
    let again = open(copy.path()).await;
    assert_eq!(committed(&again).await, ["other"]);
    again.create("t", 1, &TopicSettings::default()).await.unwrap();
    let later = killed(copy.path());
    assert_eq!(committed(&open(later.path()).await).await, ["other"], "durably");
}

#[tokio::test]
async fn what_was_left_half_made_or_half_deleted_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    fill(&log, 3).await;
    let copy = killed(folder.path());
    for left in ["~creating-AAAAAAAAAAAAAAAAAAAAAA/0", "~deleted-AAAAAAAAAAAAAAAAAAAAAA/0"] {
        std::fs::create_dir_all(copy.path().join(left)).unwrap();
        std::fs::write(copy.path().join(left).join("00000000000000000000.log"), "x").unwrap();
    }
    for left in [
        "t/0/00000000000000000003.fresh",
        "t/0/00000000000000000000.cleaned",
        "epoch~",
        "t/0/00000000000000000009.index",
    ] {
        std::fs::write(copy.path().join(left), "x").unwrap();
    }
    let again = open(copy.path()).await;
    assert!(again.recovery().foreign.is_empty(), "{:?}", again.recovery());
    assert_eq!(read_all(&again, &of(), 0, 5000).await, (filled(0..3), vec![]));
    let names: Vec<_> = std::fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains('~')), "{names:?}");
    assert_eq!(files(copy.path(), "").len(), 1);
}
