//! Offsets that groups commit in transactions: they count once the transaction does, in the order of their records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{
    ByteSize, CleanupPolicy, Committed, Error, Groups as _, Marker, Memberships as _, ProducerError, Token,
    TopicPartition, TopicSettings, Topics as _, Transactions as _,
};
use aqueduct_commit_log::CommitLog;

use crate::opened::{killed, open};

const PARTITIONS: i32 = 2;
const STEPS: usize = 60;

/// One thing that happens to the offsets of a group.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An offset is committed in no transaction; `None`: forgotten.
    Commit(i32, Option<i64>),
    /// A producer commits one in its transaction.
    InTransaction(i64, i32, i64),
    /// A producer's transaction ends.
    End(i64, bool),
}

/// What has to come of it.
#[derive(Default)]
struct Expected {
    /// By partition: which step said what.
    committed: BTreeMap<i32, (usize, Option<i64>)>,
    undecided: Vec<(usize, i64, i32, i64)>,
}

impl Expected {
    fn take(&mut self, number: usize, step: Step) {
        match step {
            Step::Commit(partition, offset) => drop(self.committed.insert(partition, (number, offset))),
            Step::InTransaction(producer, partition, offset) => {
                self.undecided.push((number, producer, partition, offset));
            }
            Step::End(ended, commits) => {
                let decided: Vec<_> = self.undecided.extract_if(.., |(_, producer, ..)| *producer == ended).collect();
                for (number, _, partition, offset) in decided.into_iter().filter(|_| commits) {
                    let before = self.committed.get(&partition).map_or(0, |(number, _)| *number);
                    if number >= before {
                        self.committed.insert(partition, (number, Some(offset)));
                    }
                }
            }
        }
    }

    fn committed(&self) -> BTreeMap<i32, i64> {
        self.committed.iter().filter_map(|(partition, (_, offset))| Some((*partition, (*offset)?))).collect()
    }

    /// Partitions whose offset may still change.
    fn undecided(&self) -> BTreeSet<i32> {
        let is_later =
            |number: usize, partition: &i32| self.committed.get(partition).is_none_or(|(known, _)| *known <= number);
        let waits =
            |(number, _, partition, _): &(usize, i64, i32, i64)| is_later(*number, partition).then_some(*partition);
        self.undecided.iter().filter_map(waits).collect()
    }
}

fn of(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn offset(offset: i64) -> Committed {
    Committed { offset, leader_epoch: -1, metadata: String::new() }
}

async fn end(log: &CommitLog, producer_id: i64, epoch: i16, committed: bool) {
    let marker = Marker { producer_id, epoch, coordinator_epoch: 0, committed };
    let offsets = TopicPartition::new("__consumer_offsets", 0);
    log.end(&offsets, marker).await.unwrap().durable.await.unwrap();
}

async fn take(log: &CommitLog, token: &Token, step: Step) {
    match step {
        Step::Commit(partition, committed) => {
            log.commit(token, vec![(of(partition), committed.map(offset))]).await.unwrap();
        }
        Step::InTransaction(producer, partition, committed) => {
            log.commit_in_transaction(token, (producer, 0), vec![(of(partition), offset(committed))]).await.unwrap();
        }
        Step::End(producer, commits) => end(log, producer, 0, commits).await,
    }
}

/// What the log knows of the group.
async fn known(log: &CommitLog) -> (BTreeMap<i32, i64>, BTreeSet<i32>) {
    let committed = log.committed("g").await.unwrap();
    let undecided = log.undecided("g").await.unwrap();
    (
        committed.into_iter().map(|(of, committed)| (of.partition, committed.offset)).collect(),
        undecided.into_iter().map(|of| of.partition).collect(),
    )
}

async fn opened(folder: &Path) -> CommitLog {
    let log = open(folder).await;
    log.create("t", PARTITIONS, &TopicSettings::default()).await.unwrap();
    // Segments roll, so that something can be compacted.
    let internal =
        TopicSettings { segment_bytes: ByteSize::kib(1), cleanup: CleanupPolicy::Compact, ..TopicSettings::default() };
    log.alter("__consumer_offsets", 1, &internal).await.unwrap();
    log
}

/// Steps of one seed.
fn steps(seed: u64) -> Vec<Step> {
    let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |end: u64| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        bits % end
    };
    let mut step = |number: usize| {
        let (partition, offset) = (below(PARTITIONS as u64) as i32, number as i64);
        match below(8) {
            0 | 1 => Step::Commit(partition, Some(offset)),
            2 => Step::Commit(partition, None),
            3..=5 => Step::InTransaction(below(3) as i64, partition, offset),
            _ => Step::End(below(3) as i64, below(3) > 0),
        }
    };
    (1..=STEPS).map(&mut step).collect()
}

/// The first step after which the log says something else than it should.
async fn wrong(seed: u64) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path()).await;
    let token = log.join("g").await.unwrap();
    let mut expected = Expected::default();
    for (number, step) in (1..).zip(steps(seed)) {
        take(&log, &token, step).await;
        expected.take(number, step);
        let should = (expected.committed(), expected.undecided());
        let told = known(&log).await;
        if told != should {
            return Some(format!("seed {seed}, {step:?}: {told:?} and not {should:?}"));
        }
        if number % 20 == 0 {
            log.clean().await.unwrap();
            let copy = killed(folder.path());
            let loaded = known(&open(copy.path()).await).await;
            if loaded != should {
                return Some(format!("seed {seed}, loaded after {step:?}: {loaded:?} and not {should:?}"));
            }
        }
    }
    None
}

#[tokio::test]
async fn offsets_in_transactions_count_in_the_order_of_their_records() {
    for seed in 0..12 {
        assert_eq!(wrong(seed).await, None);
    }
}

#[tokio::test]
async fn offsets_that_count_before_their_transaction_does_are_noticed() {
    mutate(Some(Mutant::OffsetsBeforeMarker));
    let noticed = wrong(0).await;
    mutate(None);
    assert!(noticed.is_some());
}

#[tokio::test]
async fn a_producer_that_was_replaced_commits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path()).await;
    let token = log.join("g").await.unwrap();
    end(&log, 7, 1, false).await;
    let refused = log.commit_in_transaction(&token, (7, 0), vec![(of(0), offset(5))]).await.unwrap_err();
    assert!(
        matches!(ProducerError::of(&refused), Some(ProducerError::Fenced { epoch: 0, current: 1, .. })),
        "{refused}"
    );
    assert_eq!(known(&log).await, (BTreeMap::new(), BTreeSet::new()));
}

#[tokio::test]
async fn a_token_that_is_void_commits_nothing_in_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path()).await;
    let void = log.join("g").await.unwrap();
    let _token = log.join("g").await.unwrap();
    let refused = log.commit_in_transaction(&void, (7, 0), vec![(of(0), offset(5))]).await;
    assert!(matches!(refused, Err(Error::Fatal { .. })));
    end(&log, 7, 0, true).await;
    assert_eq!(known(&log).await, (BTreeMap::new(), BTreeSet::new()));
}

#[tokio::test]
async fn what_waits_for_a_topic_that_is_deleted_never_counts() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path()).await;
    let token = log.join("g").await.unwrap();
    log.commit_in_transaction(&token, (7, 0), vec![(of(0), offset(5))]).await.unwrap();
    log.delete("t", false).await.unwrap();
    log.create("t", PARTITIONS, &TopicSettings::default()).await.unwrap();
    end(&log, 7, 0, true).await;
    assert_eq!(known(&log).await, (BTreeMap::new(), BTreeSet::new()));
    let copy = killed(folder.path());
    assert_eq!(known(&open(copy.path()).await).await, (BTreeMap::new(), BTreeSet::new()));
}
