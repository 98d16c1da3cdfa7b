//! Transactions: what readers see of them, and that nothing of it is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use aqueduct_api::conformance::log::{append, batch};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{
    At, ByteSize, CleanupPolicy, Committed, Durability, Groups as _, Isolation, Log as _, Marker, Memberships as _,
    ProducerError, Producers as _, Result, Span, Stretches as _, TopicPartition, TopicSettings, Transactions as _,
};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::{Batch, BatchBuilder, Offset};

use crate::cleaning::log_at;
use crate::faulty::{Setup, setup};
use crate::opened::{Time, files, killed, of, open, small_segments, with_topic};

/// A batch of a producer's transaction: `count` records from a sequence number on, each with its own as the value.
fn part(id: i64, epoch: i16, sequence: i32, count: i32) -> Batch {
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence).transactional();
    for n in sequence..sequence + count {
        builder.push(0, Some(format!("{id}").as_bytes()), Some(format!("{id}:{n}").as_bytes()), &[]);
    }
    builder.finish()
}

async fn end(log: &CommitLog, producer_id: i64, epoch: i16, committed: bool) -> Result<Offset> {
    let marker = Marker { producer_id, epoch, coordinator_epoch: 0, committed };
    log.end(&of(), marker).await?.durable().await
}

/// What a reader sees from an offset on, read in steps of `max_bytes`.
async fn seen(log: &CommitLog, from: Offset, max_bytes: usize, isolation: Isolation) -> Vec<(Offset, String)> {
    let (mut found, mut next) = (Vec::new(), from);
    loop {
        let read = log.read(&of(), next, max_bytes, isolation).await.unwrap();
        assert_eq!(read.lost, None, "from {next} on");
        if read.batches.is_empty() {
            return found;
        }
        for batch in read.into_batches() {
            let batch = batch.unwrap();
            for record in batch.records().unwrap().iter().map(|record| record.unwrap()) {
                if record.offset >= from {
                    found.push((record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()));
                }
            }
            next = batch.next_offset();
        }
    }
}

async fn committed(log: &CommitLog, from: Offset) -> Vec<(Offset, String)> {
    seen(log, from, 1 << 20, Isolation::Committed).await
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What the log should say.
#[derive(Default)]
struct Model {
    records: Vec<(Offset, String)>,
    end: Offset,
    /// By producer: where its transaction begins, and its records.
    open: BTreeMap<i64, (Offset, BTreeSet<Offset>)>,
    aborted: BTreeSet<Offset>,
    sequences: BTreeMap<i64, i32>,
}

impl Model {
    async fn step(&mut self, log: &CommitLog, dice: &mut Dice) {
        let id = dice.below(4) as i64;
        match dice.below(6) {
            0 => {
                let base = append(log, &of(), batch(&["plain", "plain"], 0)).await;
                self.records.extend([base, base + 1].map(|offset| (offset, "plain".to_owned())));
                self.end = base + 2;
            }
            1 | 2 => {
                let is_committed = dice.below(2) == 0;
                self.end = end(log, id, 0, is_committed).await.unwrap() + 1;
                if let Some((_, records)) = self.open.remove(&id).filter(|_| !is_committed) {
                    self.aborted.extend(records);
                }
            }
            _ => {
                let (sequence, count) = (*self.sequences.get(&id).unwrap_or(&0), dice.below(3) as i32 + 1);
                let base = append(log, &of(), part(id, 0, sequence, count)).await;
                self.sequences.insert(id, sequence + count);
                let (_, records) = self.open.entry(id).or_insert((base, BTreeSet::new()));
                for n in 0..count {
                    records.insert(base + i64::from(n));
                    self.records.push((base + i64::from(n), format!("{id}:{}", sequence + n)));
                }
                self.end = base + i64::from(count);
            }
        }
    }

    async fn check(&self, log: &CommitLog, dice: &mut Dice, place: &str) {
        let stable = self.open.values().map(|(first, _)| *first).min().unwrap_or(self.end);
        let bounds = log.bounds(&of()).await.unwrap();
        assert_eq!((bounds.stable, bounds.high_watermark, bounds.end), (stable, self.end, self.end), "{place}");
        for max_bytes in [1, 400, 1 << 20] {
            let from = dice.below(self.end as usize + 1) as Offset;
            let expected = |is_seen: &dyn Fn(Offset) -> bool| -> Vec<(Offset, String)> {
                self.records.iter().filter(|(offset, _)| *offset >= from && is_seen(*offset)).cloned().collect()
            };
            let place = format!("{place}: from {from}, {max_bytes} bytes at once");
            let all = seen(log, from, max_bytes, Isolation::Uncommitted).await;
            assert_eq!(all, expected(&|_| true), "{place}");
            let counts = |offset: Offset| offset < stable && !self.aborted.contains(&offset);
            assert_eq!(seen(log, from, max_bytes, Isolation::Committed).await, expected(&counts), "{place}");
        }
        for producer in log.producers(&of()).await.unwrap() {
            let open = self.open.get(&producer.id).map(|(first, _)| *first);
            assert_eq!(producer.open_since, open, "{place}: producer {}", producer.id);
        }
    }
}

/// What happens between two starts, besides a kill or a clean stop.
fn harm(folder: &Path, dice: &mut Dice) {
    for ending in [".txnindex", ".index", ".timeindex"] {
        for file in files(folder, ending) {
            match dice.below(8) {
                0 => std::fs::remove_file(file).unwrap(),
                1 => std::fs::write(file, []).unwrap(),
                2 => {
                    let mut bytes = std::fs::read(&file).unwrap();
                    let at = dice.below(bytes.len().max(1));
                    bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 4);
                    std::fs::write(file, bytes).unwrap();
                }
                _ => {}
            }
        }
    }
    // One of the two files is enough.
    if dice.below(3) == 0
        && let Some(last) = files(folder, ".producers").last()
    {
        std::fs::write(last, []).unwrap();
    }
}

#[tokio::test]
async fn readers_see_what_is_committed_whatever_happens_to_the_log_and_its_indexes() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let segment_bytes = ByteSize([150, 700, 1 << 20][seed as usize % 3]);
        let mut folder = tempfile::tempdir().unwrap();
        let settings = TopicSettings { segment_bytes, ..small_segments() };
        let mut log = with_topic(folder.path(), &settings).await;
        let mut model = Model::default();
        for life in 0..6 {
            for _ in 0..dice.below(40) {
                model.step(&log, &mut dice).await;
            }
            model.check(&log, &mut dice, &format!("seed {seed}, life {life}")).await;
            if dice.below(2) == 0 {
                log.close().await.unwrap();
            } else {
                folder = killed(folder.path());
                drop(log);
            }
            harm(folder.path(), &mut dice);
            log = open(folder.path()).await;
            model.check(&log, &mut dice, &format!("seed {seed}, after life {life}")).await;
        }
    }
}

#[tokio::test]
async fn who_waits_for_what_is_committed_is_woken_by_the_marker() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    append(&log, &of(), part(1, 0, 0, 2)).await;
    log.grown(&of(), 1, Isolation::Uncommitted).await.unwrap();
    let partition = of();
    let grown = log.grown(&partition, 0, Isolation::Committed);
    futures::pin_mut!(grown);
    assert!(futures::poll!(&mut grown).is_pending());
    append(&log, &of(), batch(&["plain"], 0)).await;
    assert!(futures::poll!(&mut grown).is_pending());
    assert_eq!(end(&log, 1, 0, true).await.unwrap(), 3);
    grown.await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().stable, 4);
}

/// Offsets without records lie between what is committed and a transaction under way: who reads what is committed can not come to
/// that one's first offset, and must not be woken by it again and again.
#[tokio::test]
async fn who_stands_before_a_gap_and_an_open_transaction_looks_once_and_waits() {
    for gap in [20, i64::from(i32::MAX) + 20] {
        let folder = tempfile::tempdir().unwrap();
        let log = with_topic(folder.path(), &TopicSettings::default()).await;
        append(&log, &of(), batch(&["plain"], 0)).await;
        let mut bytes = part(1, 0, 0, 1).bytes().to_vec();
        bytes[..8].copy_from_slice(&(1 + gap).to_be_bytes());
        let open = Batch::split_first(&bytes.into()).unwrap().unwrap().0;
        log.append(&of(), open, At::OwnOffset).await.unwrap().durable().await.unwrap();
        assert_eq!(log.bounds(&of()).await.unwrap().stable, 1 + gap);
        let partition = of();
        let mut reads = 0;
        let reader = async {
            let mut next = 0;
            loop {
                reads += 1;
                assert!(reads < 10, "it looks again and again though nothing moves");
                let found = log.stretch(&partition, next, 1 << 20, Isolation::Committed).await.unwrap();
                assert_eq!(found.lost, None, "nothing was there that could be lost");
                next = found.next;
                if next > 1 + gap {
                    return;
                }
                if found.records.is_empty() {
                    log.grown(&partition, next, Isolation::Committed).await.unwrap();
                }
            }
        };
        {
            futures::pin_mut!(reader);
            assert!(futures::poll!(&mut reader).is_pending());
            assert_eq!(log.read(&of(), 1, 1 << 20, Isolation::Committed).await.unwrap().lost, None);
            append(&log, &of(), batch(&["plain"], 0)).await;
            assert!(futures::poll!(&mut reader).is_pending());
            end(&log, 1, 0, true).await.unwrap();
            reader.await;
        }
        assert_eq!(reads, 3, "what is before the gap, nothing, and what is after it");
    }
}

#[tokio::test]
async fn nothing_is_stable_before_the_marker_is_synced() {
    let Setup { folder: _folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
    append(&log, &of(), part(1, 0, 0, 2)).await;
    for fails in [true, false] {
        later.is_held.store(true, Ordering::SeqCst);
        let marker = Marker { producer_id: 1, epoch: 0, coordinator_epoch: 0, committed: true };
        let ended = log.end(&of(), marker).await.unwrap();
        assert_eq!(log.producers(&of()).await.unwrap()[0].open_since, None, "it has ended for the producer");
        assert_eq!(log.bounds(&of()).await.unwrap().stable, 0, "but not for readers");
        faults.syncs.store(u64::from(fails), Ordering::SeqCst);
        later.run();
        assert_eq!(ended.durable().await.is_err(), fails);
        let bounds = log.bounds(&of()).await.unwrap();
        assert_eq!(bounds.stable, if fails { 0 } else { 3 });
        let open = log.producers(&of()).await.unwrap()[0].open_since;
        assert_eq!(open, fails.then_some(0), "what failed has not ended it");
    }
}

/// Where nothing is synced at once, what readers saw can fail with a later sync: then it is open again.
#[tokio::test]
async fn a_marker_that_a_failed_sync_makes_void_has_not_ended_anything() {
    let settings = crate::faulty::settings(Durability::Os);
    let Setup { folder: _folder, faults, later: _later, log } = setup(&settings, Options::default()).await;
    append(&log, &of(), part(1, 0, 0, 1)).await;
    log.sync(&of()).await.unwrap();
    end(&log, 1, 0, false).await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().stable, 2);
    faults.syncs.store(1, Ordering::SeqCst);
    log.sync(&of()).await.unwrap_err();
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!((bounds.stable, bounds.high_watermark), (0, 1));
    append(&log, &of(), part(1, 0, 1, 1)).await;
    end(&log, 1, 0, true).await.unwrap();
    assert_eq!(committed(&log, 0).await, [(0, "1:0".into()), (1, "1:1".into())], "nor is it aborted");
}

#[tokio::test]
async fn a_marker_fences_and_older_ones_are_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    let refused = |error| ProducerError::of(&error).unwrap();
    append(&log, &of(), part(1, 0, 0, 1)).await;
    let outside = log.append(&of(), crate::producers::sent(1, 0, 1, 1), At::End).await.err().unwrap();
    assert_eq!(refused(outside), ProducerError::OutsideTransaction { id: 1, since: 0 });
    end(&log, 1, 5, false).await.unwrap();
    let zombie = log.append(&of(), part(1, 0, 1, 1), At::End).await.err().unwrap();
    assert_eq!(refused(zombie), ProducerError::Fenced { id: 1, epoch: 0, current: 5 });
    let late = end(&log, 1, 4, true).await.unwrap_err();
    assert_eq!(refused(late), ProducerError::Fenced { id: 1, epoch: 4, current: 5 });
    let marker = Marker { producer_id: 1, epoch: 5, coordinator_epoch: 3, committed: true };
    log.end(&of(), marker).await.unwrap().durable().await.unwrap();
    let replaced = end(&log, 1, 6, true).await.unwrap_err();
    assert_eq!(refused(replaced), ProducerError::CoordinatorFenced { id: 1, epoch: 0, current: 3 });
    assert_eq!(log.append(&of(), part(1, 5, 0, 1), At::End).await.unwrap().base_offset, 3);

    let copy = killed(folder.path());
    let log = open(copy.path()).await;
    let zombie = log.append(&of(), part(1, 0, 1, 1), At::End).await.err().unwrap();
    assert_eq!(refused(zombie), ProducerError::Fenced { id: 1, epoch: 0, current: 5 }, "after a kill too");
    assert_eq!(log.producers(&of()).await.unwrap()[0].coordinator_epoch, 3);
}

#[tokio::test]
async fn what_a_coordinator_writes_for_its_producer_needs_no_sequence_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    let offsets = || {
        let mut builder = BatchBuilder::new().producer(1, 0, -1).transactional();
        builder.push(0, Some(b"group"), Some(b"offset"), &[]);
        builder.finish()
    };
    append(&log, &of(), offsets()).await;
    append(&log, &of(), offsets()).await;
    assert_eq!(committed(&log, 0).await, []);
    end(&log, 1, 0, true).await.unwrap();
    assert_eq!(committed(&log, 0).await.len(), 2);
}

#[tokio::test]
async fn retention_stops_before_an_open_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let settings = TopicSettings { retention: Span::millis(10), ..small_segments() };
    let log = log_at(folder.path(), &time, &settings).await;
    for n in 0..6 {
        append(&log, &of(), batch(&[&format!("{n:040}")], 0)).await;
    }
    append(&log, &of(), part(1, 0, 0, 1)).await;
    for n in 0..20 {
        append(&log, &of(), batch(&[&format!("{n:040}")], 0)).await;
    }
    time.0.store(1000, Ordering::SeqCst);
    log.clean().await.unwrap();
    let bounds = log.bounds(&of()).await.unwrap();
    assert!((1..=6).contains(&bounds.start) && bounds.stable == 6, "{bounds:?}");
    end(&log, 1, 0, false).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().start, 27, "all but the marker");
    append(&log, &of(), batch(&[&"x".repeat(700)], 0)).await;
    assert_eq!(files(folder.path(), ".txnindex").len(), 1);
    time.0.store(2000, Ordering::SeqCst);
    log.clean().await.unwrap();
    assert_eq!(log.bounds(&of()).await.unwrap().start, 29);
    assert_eq!(files(folder.path(), ".txnindex"), Vec::<std::path::PathBuf>::new());
}

/// What is there of a compacted topic, markers too: offset and whether it is a control batch.
async fn batches(log: &CommitLog) -> Vec<(Offset, bool, u32)> {
    let start = log.bounds(&of()).await.unwrap().start;
    let (mut found, mut next) = (Vec::new(), start);
    loop {
        let mut rest = log.read(&of(), next, 1 << 20, Isolation::Uncommitted).await.unwrap().batches;
        if rest.is_empty() {
            return found;
        }
        while let Some((batch, behind)) = Batch::split_first(&rest).unwrap() {
            found.push((batch.base_offset(), batch.header().attributes.is_control(), batch.count()));
            (next, rest) = (batch.next_offset(), behind);
        }
    }
}

#[tokio::test]
async fn compaction_removes_what_was_aborted_and_its_marker_some_time_after() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let settings = TopicSettings {
        cleanup: CleanupPolicy::Compact,
        tombstone_retention: Span::millis(100),
        segment_bytes: ByteSize(250),
        ..small_segments()
    };
    let log = log_at(folder.path(), &time, &settings).await;
    let fill = async |count: usize| {
        for n in 0..count {
            let mut builder = BatchBuilder::new();
            builder.push(0, Some(b"filler"), Some(format!("{n:040}").as_bytes()), &[]);
            append(&log, &of(), builder.finish()).await;
        }
    };
    // The key of producer 1 is committed first, and what is aborted does not replace it.
    append(&log, &of(), part(1, 0, 0, 1)).await;
    end(&log, 1, 0, true).await.unwrap();
    append(&log, &of(), part(1, 0, 1, 3)).await;
    end(&log, 1, 0, false).await.unwrap();
    fill(10).await;
    append(&log, &of(), part(2, 0, 0, 1)).await;
    fill(10).await;
    let own = async || {
        let all = committed(&log, 0).await;
        all.into_iter().filter(|(_, value)| value.contains(':')).collect::<Vec<_>>()
    };
    log.clean().await.unwrap();
    assert_eq!(own().await, [(0, "1:0".into())]);
    let left = batches(&log).await;
    assert!(!left.iter().any(|(base, _, count)| *base == 2 && *count > 0), "aborted records are gone: {left:?}");
    assert!(left.contains(&(5, true, 1)), "the marker is not: {left:?}");
    assert!(left.iter().filter(|(base, ..)| *base > 16).count() == 10, "nothing after an open one is: {left:?}");
    // Found to have nothing left, then old enough.
    for (now, is_there) in [(0, true), (50, true), (200, false)] {
        time.0.store(now, Ordering::SeqCst);
        if now == 0 {
            end(&log, 2, 0, true).await.unwrap();
        }
        fill(40).await;
        log.clean().await.unwrap();
        let left = batches(&log).await;
        assert_eq!(left.iter().any(|(base, ..)| *base == 5), is_there, "at {now}: {left:?}");
        assert_eq!(own().await, [(0, "1:0".into()), (16, "2:0".into())], "at {now}");
        let copy = killed(folder.path());
        assert_eq!(committed(&open(copy.path()).await, 0).await, committed(&log, 0).await, "at {now}, after a kill");
    }
}

#[tokio::test]
async fn a_transaction_can_be_ended_on_a_full_disk() {
    let Setup { folder: _folder, faults, later: _later, log } =
        setup(&TopicSettings::default(), Options::default()).await;
    append(&log, &of(), part(1, 0, 0, 1)).await;
    faults.full.store(true, Ordering::SeqCst);
    crate::faulty::try_append(&log, 1).await.unwrap_err();
    end(&log, 1, 0, true).await.unwrap();
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!(bounds.stable, bounds.end);
}

/// Not even the reserved room is left, so that no marker can be written: what is open stays open and what was acknowledged is there,
/// now and after a kill; once there is room whoever asks again ends it, each transaction once.
#[tokio::test]
async fn transactions_that_can_not_be_ended_on_a_full_disk_are_ended_later() {
    let Setup { folder, faults, later: _later, log } = setup(&TopicSettings::default(), Options::default()).await;
    let token = log.join("g").await.unwrap();
    let offsets = || vec![(of(), Committed { offset: 1, leader_epoch: 0, metadata: String::new() })];
    let offsets_of = TopicPartition::new("__consumer_offsets", 0);
    append(&log, &of(), part(1, 0, 0, 1)).await;
    append(&log, &of(), part(2, 0, 0, 1)).await;
    log.commit_in_transaction(&token, (1, 0), offsets()).await.unwrap();
    faults.brimful.store(true, Ordering::SeqCst);
    for round in 0..3 {
        for (id, is_committed) in [(1, true), (2, false)] {
            assert!(end(&log, id, 0, is_committed).await.unwrap_err().is_retry(), "{round}");
        }
        let marker = Marker { producer_id: 1, epoch: 0, coordinator_epoch: 0, committed: true };
        let ended = match log.end(&offsets_of, marker).await {
            Ok(appended) => appended.durable().await,
            Err(error) => Err(error),
        };
        assert!(ended.unwrap_err().is_retry(), "{round}");
        let late = log.append(&of(), part(1, 0, 1, 1), At::End).await.unwrap().durable().await;
        assert!(late.unwrap_err().is_retry(), "{round}: it is told to send that again");
        let copy = killed(folder.path());
        for (log, place) in [(log.clone(), "now"), (open(copy.path()).await, "after a kill")] {
            let bounds = log.bounds(&of()).await.unwrap();
            assert_eq!((bounds.stable, bounds.end), (0, 2), "{round}, {place}");
            let open: Vec<_> = log.producers(&of()).await.unwrap().iter().map(|of| (of.id, of.open_since)).collect();
            assert_eq!(open, [(1, Some(0)), (2, Some(1))], "{round}, {place}");
            let all = seen(&log, 0, 1 << 20, Isolation::Uncommitted).await;
            assert_eq!(all, [(0, "1:0".into()), (1, "2:0".into())], "{round}, {place}");
            assert!(log.committed("g").await.unwrap().is_empty(), "{round}, {place}");
            assert_eq!(log.undecided("g").await.unwrap().len(), 1, "{round}, {place}");
        }
    }
    faults.brimful.store(false, Ordering::SeqCst);
    append(&log, &of(), part(1, 0, 1, 1)).await;
    for (id, is_committed) in [(1, true), (2, false)] {
        end(&log, id, 0, is_committed).await.unwrap();
    }
    let marker = Marker { producer_id: 1, epoch: 0, coordinator_epoch: 0, committed: true };
    log.end(&offsets_of, marker).await.unwrap().durable().await.unwrap();
    let copy = killed(folder.path());
    for log in [log, open(copy.path()).await] {
        let bounds = log.bounds(&of()).await.unwrap();
        assert_eq!((bounds.stable, bounds.end), (5, 5), "three records and a marker for each");
        assert_eq!(committed(&log, 0).await, [(0, "1:0".into()), (2, "1:1".into())]);
        assert_eq!(log.committed("g").await.unwrap().len(), 1);
    }
}

/// Each mistake changes what is seen after a kill, or before.
#[tokio::test]
async fn mistakes_are_noticed() {
    let outcome = async |mutant: Option<Mutant>| {
        mutate(mutant);
        let folder = tempfile::tempdir().unwrap();
        let log = with_topic(folder.path(), &TopicSettings { segment_bytes: ByteSize(400), ..small_segments() }).await;
        append(&log, &of(), part(1, 0, 0, 1)).await;
        end(&log, 1, 1, false).await.unwrap();
        let zombie = log.append(&of(), part(1, 0, 1, 1), At::End).await.is_ok();
        append(&log, &of(), part(2, 0, 0, 1)).await;
        let stable = log.bounds(&of()).await.unwrap().stable;
        let copy = killed(folder.path());
        let log = open(copy.path()).await;
        let after = committed(&log, 0).await;
        log.close().await.unwrap();
        let stable_again = open(copy.path()).await.bounds(&of()).await.unwrap().stable;
        mutate(None);
        (zombie, stable, after, stable_again)
    };
    let right = outcome(None).await;
    assert_eq!(right, (false, 2, vec![], 2));
    for mutant in [Mutant::StablePastOpen, Mutant::AbortedForgotten, Mutant::MarkerWithoutFence, Mutant::OpenForgotten]
    {
        assert_ne!(outcome(Some(mutant)).await, right, "{mutant:?}");
    }
}
