//! Idempotent producers: what is written once, what is answered as written before, and what is not taken.

use std::path::Path;
use std::sync::atomic::Ordering;

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{
    Appended, At, ByteSize, CleanupPolicy, Durability, Log as _, Producer, ProducerError, Producers as _, Result,
    TopicPartition, TopicSettings, Topics as _,
};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::{Batch, BatchBuilder};

use crate::faulty::{Setup, setup};
use crate::opened::{Time, edge, files, killed, of, open, small_segments, with_topic};

const MAX: i32 = i32::MAX;

/// A batch of a producer: `count` records from a sequence number on.
pub(crate) fn sent(id: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
    for n in 0..count {
        builder.push(5000 + i64::from(sequence % 1000) + n as i64, Some(&[id as u8]), Some(&[7; 40]), &[]);
    }
    builder.finish()
}

/// What a producer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Written at an offset.
    At(i64),
    /// Written before, at an offset.
    Again(i64),
    OutOfOrder,
    Fenced,
    Malformed,
    /// Try again.
    Later,
}

use Told::{Again, Fenced, Malformed, OutOfOrder};

pub(crate) async fn told(appended: Result<Appended>) -> Told {
    let error = match appended {
        Ok(appended) => {
            let (base, duplicate) = (appended.base_offset, appended.duplicate);
            match appended.durable.await {
                Ok(()) if duplicate.is_some() => return Again(base),
                Ok(()) => return Told::At(base),
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    match ProducerError::of(&error) {
        Some(ProducerError::OutOfOrder { .. }) => OutOfOrder,
        Some(ProducerError::Fenced { .. }) => Fenced,
        Some(ProducerError::Malformed { .. }) => Malformed,
        Some(other) => panic!("{other}"),
        None if error.is_retry() => Told::Later,
        None => panic!("{error}"),
    }
}

pub(crate) async fn send(log: &CommitLog, (id, epoch, sequence, count): (i64, i16, i32, usize)) -> Told {
    told(log.append(&of(), sent(id, epoch, sequence, count), At::End).await).await
}

type Sends = &'static [((i64, i16, i32, usize), Told)];

/// What Kafka 4 tells a producer, batch after batch: producer, epoch, first sequence number and records.
const RULES: &[(&str, Sends)] = &[
    ("batches that follow each other are written", &[((1, 0, 0, 3), Told::At(0)), ((1, 0, 3, 1), Told::At(3))]),
    (
        "each of the last five is known again, and an older one is out of order",
        &[
            ((1, 0, 0, 1), Told::At(0)),
            ((1, 0, 1, 1), Told::At(1)),
            ((1, 0, 2, 2), Told::At(2)),
            ((1, 0, 4, 1), Told::At(4)),
            ((1, 0, 5, 1), Told::At(5)),
            ((1, 0, 0, 1), Again(0)),
            ((1, 0, 6, 1), Told::At(6)),
            ((1, 0, 0, 1), OutOfOrder),
            ((1, 0, 1, 1), Again(1)),
            ((1, 0, 2, 2), Again(2)),
            ((1, 0, 6, 1), Again(6)),
            ((1, 0, 7, 1), Told::At(7)),
        ],
    ),
    (
        "only the same range of sequence numbers is the same batch",
        &[
            ((1, 0, 0, 3), Told::At(0)),
            ((1, 0, 0, 2), OutOfOrder),
            ((1, 0, 1, 2), OutOfOrder),
            ((1, 0, 0, 3), Again(0)),
        ],
    ),
    (
        "a gap is out of order, and what fills it is taken",
        &[
            ((1, 0, 0, 1), Told::At(0)),
            ((1, 0, 2, 1), OutOfOrder),
            ((1, 0, 1, 1), Told::At(1)),
            ((1, 0, 2, 1), Told::At(2)),
        ],
    ),
    (
        "an older epoch is fenced, its batches too that are known",
        &[((1, 3, 0, 1), Told::At(0)), ((1, 4, 0, 1), Told::At(1)), ((1, 3, 0, 1), Fenced), ((1, 3, 1, 1), Fenced)],
    ),
    (
        "a new epoch begins with 0, and knows nothing of the one before",
        &[
            ((1, 0, 0, 1), Told::At(0)),
            ((1, 1, 1, 1), OutOfOrder),
            ((1, 1, 0, 1), Told::At(1)),
            ((1, 1, 0, 1), Again(1)),
            ((1, 0, 1, 1), Fenced),
            ((1, 1, 1, 1), Told::At(2)),
        ],
    ),
    (
        "a producer that is not known may begin anywhere",
        &[
            ((1, 5, 77, 2), Told::At(0)),
            ((1, 5, 79, 1), Told::At(2)),
            ((1, 5, 77, 2), Again(0)),
            ((1, 5, 76, 1), OutOfOrder),
        ],
    ),
    (
        "0 follows the largest sequence number, in a batch or between two",
        &[
            ((1, 0, MAX - 1, 2), Told::At(0)),
            ((1, 0, 0, 1), Told::At(2)),
            ((2, 0, MAX - 1, 4), Told::At(3)),
            ((2, 0, 1, 1), OutOfOrder),
            ((2, 0, 2, 1), Told::At(7)),
            ((2, 0, MAX - 1, 4), Again(3)),
        ],
    ),
    (
        "producers do not know of each other",
        &[
            ((1, 0, 0, 1), Told::At(0)),
            ((2, 0, 0, 1), Told::At(1)),
            ((2, 0, 0, 1), Again(1)),
            ((1, 0, 1, 1), Told::At(2)),
        ],
    ),
    (
        "what has no epoch or sequence number is no producer's batch",
        &[((1, -1, 0, 1), Malformed), ((1, 0, -1, 1), Malformed), ((1, 0, 0, 1), Told::At(0))],
    ),
];

#[tokio::test]
async fn producers_are_told_what_kafka_tells_them() {
    for (rule, sends) in RULES {
        let folder = tempfile::tempdir().unwrap();
        let log = with_topic(folder.path(), &TopicSettings::default()).await;
        for (n, (batch, expected)) in sends.iter().enumerate() {
            assert_eq!(send(&log, *batch).await, *expected, "{rule}: {n}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    Clean,
}

async fn reopened(folder: &mut tempfile::TempDir, log: CommitLog, end: End) -> CommitLog {
    match end {
        End::Kill => *folder = killed(folder.path()),
        End::Clean => log.close().await.unwrap(),
    }
    open(folder.path()).await
}

/// With a restart before each batch, in segments of one batch, of three and of all.
async fn check_restarts(end: End) {
    for (rule, sends) in RULES {
        for segment in [100, 400, 1 << 20] {
            let mut folder = tempfile::tempdir().unwrap();
            let settings = TopicSettings { segment_bytes: ByteSize(segment), ..TopicSettings::default() };
            let mut log = with_topic(folder.path(), &settings).await;
            for (n, (batch, expected)) in sends.iter().enumerate() {
                log = reopened(&mut folder, log, end).await;
                assert_eq!(send(&log, *batch).await, *expected, "{rule}: {n}, {end:?}, segments of {segment}");
            }
        }
    }
}

#[tokio::test]
async fn producers_are_told_the_same_after_a_kill() {
    check_restarts(End::Kill).await;
}

#[tokio::test]
async fn producers_are_told_the_same_after_a_clean_stop() {
    check_restarts(End::Clean).await;
}

#[tokio::test]
async fn the_first_time_s_offsets_and_timestamp_are_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    append(&log, &of(), batch(&["a", "b"], 0)).await;
    assert_eq!(send(&log, (1, 0, 0, 3)).await, Told::At(2));
    assert_eq!(send(&log, (1, 0, 3, 3)).await, Told::At(5));
    let again = log.append(&of(), sent(1, 0, 0, 3), At::End).await.unwrap();
    assert_eq!((again.base_offset, again.next_offset, again.duplicate), (2, 5, Some(5002)));
    again.durable().await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().end, 8);
    let all =
        [Producer { id: 1, epoch: 0, last_sequence: 5, last_timestamp: 5005, coordinator_epoch: -1, open_since: None }];
    assert_eq!(log.producers(&of()).await.unwrap(), all);
}

#[tokio::test]
async fn a_batch_sent_again_waits_for_the_sync_of_the_first_one() {
    let Setup { folder: _folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
    for fails in [false, true] {
        let sequence = log.bounds(&of()).await.unwrap().end as i32;
        later.is_held.store(true, Ordering::SeqCst);
        let first = log.append(&of(), sent(1, 0, sequence, 1), At::End).await.unwrap();
        let mut again = log.append(&of(), sent(1, 0, sequence, 1), At::End).await.unwrap();
        assert_eq!((again.base_offset, again.duplicate.is_some()), (first.base_offset, true));
        assert!(futures::poll!(&mut again.durable).is_pending(), "the first one is not written yet");
        faults.syncs.store(u64::from(fails), Ordering::SeqCst);
        later.run();
        let expected = if fails { Told::Later } else { Again(first.base_offset) };
        assert_eq!(told(Ok(again)).await, expected);
        assert_eq!(first.durable.await.is_err(), fails);
        assert_eq!(send(&log, (1, 0, sequence, 1)).await, if fails { Told::At(1) } else { Again(0) });
    }
}

/// Appends fail in all the ways that they can: then their sequence numbers are free again, in the same order.
#[tokio::test]
async fn what_failed_can_be_sent_again() {
    for durability in [Durability::Fsync, Durability::Os] {
        for segment in [100, 300, 1 << 20] {
            let settings = TopicSettings { durability, segment_bytes: ByteSize(segment), ..TopicSettings::default() };
            for fault in [Fault::Syncs(1), Fault::Syncs(2), Fault::Syncs(3), Fault::FolderSync, Fault::Full] {
                check_failure(&settings, fault).await;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Syncs(u64),
    FolderSync,
    Full,
}

async fn check_failure(settings: &TopicSettings, fault: Fault) {
    const SENT: [(i64, i16, i32, usize); 4] = [(1, 0, 7, 1), (2, 0, 0, 1), (1, 1, 0, 1), (1, 1, 1, 1)];
    let Setup { folder, faults, later, log } = setup(settings, Options::default()).await;
    for sequence in 0..7 {
        assert_eq!(send(&log, (1, 0, sequence, 1)).await, Told::At(sequence.into()));
    }
    log.sync(&of()).await.unwrap();
    later.is_held.store(true, Ordering::SeqCst);
    let mut waiting = Vec::new();
    for (id, epoch, sequence, count) in SENT {
        waiting.push(log.append(&of(), sent(id, epoch, sequence, count), At::End).await.unwrap().durable);
    }
    match fault {
        Fault::Syncs(count) => faults.syncs.store(count, Ordering::SeqCst),
        Fault::FolderSync => faults.folder_syncs.store(1, Ordering::SeqCst),
        Fault::Full => faults.full.store(true, Ordering::SeqCst),
    }
    later.run();
    // On topics that are not synced it fails now at the latest.
    drop((futures::future::join_all(waiting).await, log.sync(&of()).await));
    faults.full.store(false, Ordering::SeqCst);
    faults.folder_syncs.store(0, Ordering::SeqCst);
    faults.syncs.store(0, Ordering::SeqCst);
    let kept = usize::try_from(log.bounds(&of()).await.unwrap().end - 7).unwrap();
    println!("{fault:?} on {:?}, segments of {}: {kept} of 4 kept", settings.durability, settings.segment_bytes.0);
    let copy = killed(folder.path());
    for log in [log, open(copy.path()).await] {
        // What was taken is known again, what failed is taken now, and the order is the same.
        for (n, batch) in SENT.into_iter().enumerate() {
            let again = send(&log, batch).await;
            match n >= kept {
                true => assert_eq!(again, Told::At(7 + n as i64), "{fault:?}, {batch:?}, {kept} kept"),
                false => assert!(matches!(again, Again(_) | Fenced), "{fault:?}, {batch:?}, {kept} kept: {again:?}"),
            }
        }
        assert_eq!(send(&log, (1, 0, 6, 1)).await, Fenced);
        assert_eq!(send(&log, (2, 0, 0, 1)).await, Again(8));
    }
}

#[tokio::test]
async fn a_producer_whose_first_batch_has_failed_has_to_begin_with_it() {
    let Setup { folder: _folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
    faults.syncs.store(1, Ordering::SeqCst);
    for (batch, expected) in [
        ((1, 0, 4, 2), Told::Later),
        ((1, 0, 6, 1), OutOfOrder),
        ((1, 0, 4, 2), Told::At(0)),
        ((1, 0, 6, 1), Told::At(2)),
    ] {
        assert_eq!(send(&log, batch).await, expected, "{batch:?}");
    }
    faults.syncs.store(1, Ordering::SeqCst);
    assert_eq!(send(&log, (3, 0, 5, 1)).await, Told::Later);
    assert_eq!(send(&log, (3, 1, 0, 1)).await, Told::At(3), "a new epoch begins anew");
}

#[tokio::test]
async fn sequence_numbers_that_stay_after_a_failure_are_noticed() {
    let Setup { folder: _folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
    for (mutant, expected) in [(None, Told::At(0)), (Some(Mutant::SequencesKept), Again(1))] {
        let sequence = log.bounds(&of()).await.unwrap().end as i32;
        mutate(mutant);
        faults.syncs.store(1, Ordering::SeqCst);
        assert_eq!(send(&log, (1, 0, sequence, 1)).await, Told::Later);
        assert_eq!(send(&log, (1, 0, sequence, 1)).await, expected);
        mutate(None);
    }
}

/// The files that say who wrote are torn, damaged or removed, one or all: the log knows all the same.
#[tokio::test]
async fn a_torn_or_missing_file_of_producers_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    for sequence in 0..40 {
        assert_eq!(send(&log, (sequence % 2, 0, (sequence / 2) as i32, 1)).await, Told::At(sequence));
    }
    assert_eq!(files(folder.path(), ".producers").len(), 2, "no more are kept than needed");
    let before = log.producers(&of()).await.unwrap();
    let torn = |path: &Path| std::fs::write(path, &std::fs::read(path).unwrap()[..30]).unwrap();
    let flipped = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[20] ^= 8;
        std::fs::write(path, bytes).unwrap();
    };
    let emptied = |path: &Path| std::fs::write(path, []).unwrap();
    let removed = |path: &Path| std::fs::remove_file(path).unwrap();
    let hurts: [&dyn Fn(&Path); 4] = [&torn, &flipped, &emptied, &removed];
    for (n, hurt) in hurts.iter().enumerate() {
        for which in [0..1, 1..2, 0..2] {
            let copy = killed(folder.path());
            files(copy.path(), ".producers")[which.clone()].iter().for_each(|path| hurt(path));
            let log = open(copy.path()).await;
            assert_eq!(log.producers(&of()).await.unwrap(), before, "{n}, {which:?}");
            for sequence in 15..20 {
                assert_eq!(send(&log, (0, 0, sequence, 1)).await, Again(i64::from(sequence) * 2), "{n}, {which:?}");
            }
            assert!(log.recovery().foreign.is_empty());
            let again = open(killed(copy.path()).path()).await;
            assert_eq!(again.producers(&of()).await.unwrap(), before, "what was made anew is read: {n}, {which:?}");
        }
    }
}

#[tokio::test]
async fn the_first_producer_of_a_log_with_much_in_it_needs_no_look_at_all_of_that() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    crate::opened::fill(&log, 20).await;
    assert!(files(folder.path(), ".producers").is_empty(), "the engine's own batches cost nothing");
    assert_eq!(send(&log, (9, 0, 0, 1)).await, Told::At(20));
    assert_eq!(files(folder.path(), ".producers").len(), 1);
    let copy = killed(folder.path());
    std::fs::remove_file(&files(copy.path(), ".log")[0]).unwrap();
    let again = open(copy.path()).await;
    assert_eq!(send(&again, (9, 0, 0, 1)).await, Again(20));
}

#[tokio::test]
async fn a_producer_is_forgotten_when_it_has_not_written_for_a_day() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let (folder, time) = (tempfile::tempdir().unwrap(), Time::default());
    let log = CommitLog::open(edge(&time), folder.path(), Options::default()).await.unwrap();
    log.create("t", 1, &small_segments()).await.unwrap();
    let ids = |all: Vec<Producer>| all.into_iter().map(|producer| producer.id).collect::<Vec<_>>();
    for (now, id, sequence, left) in [
        (0, 1, 0, vec![1]),
        (DAY / 2, 2, 0, vec![1, 2]),
        (DAY, 2, 1, vec![1, 2]),
        (DAY + 1, 2, 2, vec![2]),
        (DAY * 2 + 1, 2, 3, vec![2]),
        (DAY * 3 + 2, 3, 0, vec![3]),
    ] {
        time.0.store(now, Ordering::SeqCst);
        assert!(matches!(send(&log, (id, 0, sequence, 1)).await, Told::At(_)));
        log.clean().await.unwrap();
        assert_eq!(ids(log.producers(&of()).await.unwrap()), left, "at {now}");
    }
    log.close().await.unwrap();
    let log = CommitLog::open(edge(&time), folder.path(), Options::default()).await.unwrap();
    assert_eq!(ids(log.producers(&of()).await.unwrap()), [3], "when it wrote is known after a stop");
    time.0.store(DAY * 5, Ordering::SeqCst);
    log.clean().await.unwrap();
    log.clean().await.unwrap();
    for n in 4..8 {
        append(&log, &of(), batch(&["x"; 20], n)).await;
    }
    assert!(files(folder.path(), ".producers").is_empty(), "nor is anything kept of nobody");
}

#[tokio::test]
async fn compaction_keeps_the_last_batch_of_each_producer() {
    let folder = tempfile::tempdir().unwrap();
    let settings = TopicSettings { cleanup: CleanupPolicy::Compact, ..small_segments() };
    let log = with_topic(folder.path(), &settings).await;
    // All producers write the same key: only the last record of all stays.
    let keyed = |id: i64, sequence: i32| {
        let mut builder = BatchBuilder::new().producer(id, 0, sequence);
        builder.push(0, Some(b"key"), Some(&[7; 100]), &[]);
        builder.finish()
    };
    for n in 0..40i64 {
        append(&log, &of(), keyed(n % 4, (n / 4) as i32)).await;
    }
    for n in 0..20 {
        append(&log, &of(), keyed(9, n)).await;
    }
    log.clean().await.unwrap();
    let before = log.producers(&of()).await.unwrap();
    assert!(read_all(&log, &of(), 0, 1 << 20).await.0.len() < 10, "the segments were compacted");
    let copy = killed(folder.path());
    files(copy.path(), ".producers").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let again = open(copy.path()).await;
    assert_eq!(again.producers(&of()).await.unwrap(), before);
    for id in 0..4 {
        assert_eq!(send(&again, (id, 0, 9, 1)).await, Again(36 + id));
        assert!(matches!(send(&again, (id, 0, 10, 1)).await, Told::At(_)));
    }
}

#[tokio::test]
async fn batches_at_their_own_offsets_are_noted_and_not_checked() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    for (base, epoch, sequence) in [(0, 0, 0), (10, 0, 7), (20, 3, 5), (30, 3, 6)] {
        let batch = sent(1, epoch, sequence, 1).at(base, 0);
        assert_eq!(told(log.append(&of(), batch, At::OwnOffset).await).await, Told::At(base));
    }
    assert_eq!(send(&log, (1, 3, 5, 1)).await, Again(20));
    assert_eq!(send(&log, (1, 3, 8, 1)).await, OutOfOrder);
    assert_eq!(send(&log, (1, 3, 7, 1)).await, Told::At(31));
}

#[tokio::test]
async fn a_new_topic_of_the_name_knows_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    assert_eq!(send(&log, (1, 0, 0, 1)).await, Told::At(0));
    log.delete("t", false).await.unwrap();
    log.create("t", 2, &TopicSettings::default()).await.unwrap();
    assert_eq!(send(&log, (1, 0, 0, 1)).await, Told::At(0));
    assert_eq!(log.producers(&TopicPartition::new("t", 1)).await.unwrap(), []);
}

#[tokio::test]
async fn no_producer_id_is_given_twice() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut log = with_topic(folder.path(), &TopicSettings::default()).await;
    let mut last = -1;
    for round in 0..6 {
        for _ in 0..if round == 1 { 2500 } else { 3 } {
            let id = log.new_producer().await.unwrap();
            assert!(id > last, "{id} comes after {last}");
            last = id;
        }
        log = reopened(&mut folder, log, if round % 2 == 0 { End::Kill } else { End::Clean }).await;
    }
    assert!(last < 10_000, "a restart costs one block: {last}");
    assert_eq!(send(&log, (1 << 40, 0, 0, 1)).await, Told::At(0));
    assert_eq!(log.new_producer().await.unwrap(), (1 << 40) + 1, "nor one that somebody brought along");
    std::fs::write(folder.path().join("producer-ids"), "many").unwrap();
    let log = reopened(&mut folder, log, End::Kill).await;
    assert!(log.new_producer().await.unwrap_err().to_string().contains("does not hold a number"));
}
