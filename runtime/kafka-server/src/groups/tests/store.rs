//! A log in memory that keeps groups, and one topic `t` with two partitions; it has no records, unless some are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use aqueduct_api::edge::{Abort, Chance, Clock, Threads};
use aqueduct_api::{
    Appended, At, Bounds, Committed, Edge, Error, Groups, Hold, Isolation, Limit, Log, Marker, Measured, Membership,
    Memberships, OnDisk, Producer, Producers, Read, Records, Result, Stretch, Stretches, Token, Topic, TopicId,
    TopicPartition, TopicSettings, Topics, Transactions, Watch, Watcher,
};
use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;

#[derive(Default)]
struct Kept {
    generation: i32,
    claim: Weak<()>,
    committed: BTreeMap<TopicPartition, (Committed, i64)>,
    membership: Option<Membership>,
    /// What waits for the end of a producer's transaction.
    undecided: Vec<(i64, TopicPartition, Committed)>,
}

/// What the log in memory keeps; clones keep the same.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    groups: Arc<Mutex<BTreeMap<String, Kept>>>,
    /// What time it is, for people.
    pub(super) time: Arc<Mutex<i64>>,
    /// How often something was written.
    pub(super) writes: Arc<Mutex<usize>>,
    /// Whether nothing can be written.
    pub(super) is_full: Arc<Mutex<bool>>,
    /// The producer whose transaction is committed right after somebody has read what a group has committed.
    pub(super) commits_after_read: Arc<Mutex<Option<i64>>>,
    /// How many records each partition has, of [`RECORD`] bytes each; 0: it can not have any.
    pub(crate) records: Arc<Mutex<Offset>>,
    /// What each partition knows of producers; nobody: it knows nothing of any.
    pub(crate) producers: Arc<Mutex<Vec<Producer>>>,
    /// Markers that were written.
    pub(crate) markers: Arc<Mutex<Vec<Marker>>>,
}

/// Bytes of a record that is counted.
pub(crate) const RECORD: usize = 100;

fn no_records<T>() -> Result<T> {
    Err(Error::refused("there are no records here"))
}

impl Memory {
    pub(crate) fn edge(&self) -> Edge {
        Edge {
            disk: Arc::new(aqueduct_api::disk::RealDisk),
            clock: Arc::new(self.clone()),
            threads: Arc::new(self.clone()),
            chance: Arc::new(self.clone()),
        }
    }

    /// What a producer's transaction has for groups counts, or does not.
    pub(super) fn decide(&self, producer_id: i64, is_committed: bool) {
        let now = self.now();
        for kept in self.groups.lock().values_mut() {
            for (_, of, committed) in kept.undecided.extract_if(.., |(id, ..)| *id == producer_id) {
                if is_committed {
                    kept.committed.insert(of, (committed, now));
                }
            }
        }
    }

    async fn write(&self, token: &Token, apply: impl FnOnce(&mut Kept)) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if *self.is_full.lock() {
            return Err(Error::retry("the disk is full"));
        }
        let mut groups = self.groups.lock();
        let kept = groups.entry(token.group.clone()).or_default();
        if kept.generation != token.generation {
            return Err(Error::fatal("the token is void"));
        }
        *self.writes.lock() += 1;
        apply(kept);
        Ok(())
    }
}

impl Clock for Memory {
    fn now(&self) -> i64 {
        *self.time.lock()
    }
}

impl Threads for Memory {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn connector(&self, _: &str, _: BoxFuture<'static, ()>) -> Abort {
        unreachable!("no connector runs here")
    }
}

impl Chance for Memory {
    fn bits(&self) -> u64 {
        let mut time = self.writes.lock();
        *time += 1;
        *time as u64
    }
}

#[async_trait]
impl Log for Memory {
    async fn append(&self, _: &TopicPartition, batch: Batch, _: At) -> Result<Appended> {
        let mut records = self.records.lock();
        if *records == 0 {
            return no_records();
        }
        let base_offset = *records;
        *records += Offset::from(batch.header().count);
        let durable = Box::pin(std::future::ready(Ok(())));
        Ok(Appended { base_offset, next_offset: *records, given_back: 0, duplicate: None, durable })
    }

    async fn bounds(&self, _: &TopicPartition) -> Result<Bounds> {
        match *self.records.lock() {
            0 => no_records(),
            end => Ok(Bounds { start: 0, stable: end, high_watermark: end, end, leader_epoch: 0, given_back: 0 }),
        }
    }

    async fn find(&self, _: &TopicPartition, _: i64) -> Result<Offset> {
        no_records()
    }

    async fn measure(&self, _: &TopicPartition, _: Offset, _: Limit) -> Result<Measured> {
        no_records()
    }

    async fn read(&self, _: &TopicPartition, _: Offset, _: usize, _: Isolation) -> Result<Read> {
        no_records()
    }

    async fn grown(&self, _: &TopicPartition, _: Offset, _: Isolation) -> Result<()> {
        no_records()
    }

    async fn sync(&self, _: &TopicPartition) -> Result<Offset> {
        no_records()
    }
}

#[async_trait]
impl Stretches for Memory {
    async fn stretch(&self, _: &TopicPartition, from: Offset, most: usize, _: Isolation) -> Result<Stretch> {
        let end = *self.records.lock();
        if end == 0 {
            return no_records();
        }
        let next = end.min(from + (most / RECORD).max(1) as Offset);
        let records = Records::Bytes(vec![0; (next - from) as usize * RECORD].into());
        Ok(Stretch { records, next, lost: None, aborted: Vec::new() })
    }

    fn watch(&self, _: &TopicPartition, _: &Arc<dyn Watcher>, _: u32) -> Result<Watch> {
        match *self.records.lock() {
            0 => no_records(),
            _ => Ok(Watch::new(|| {})),
        }
    }
}

#[async_trait]
impl aqueduct_api::Kept for Memory {
    async fn delete_before(&self, _: &TopicPartition, _: Option<Offset>) -> Result<Offset> {
        no_records()
    }

    async fn on_disk(&self) -> Result<OnDisk> {
        no_records()
    }
}

#[async_trait]
impl Topics for Memory {
    async fn topics(&self) -> Result<Vec<Topic>> {
        Ok(vec![Topic { name: "t".into(), id: TopicId(1), partitions: 2, settings: TopicSettings::default() }])
    }

    async fn create(&self, _: &str, _: i32, _: &TopicSettings) -> Result<Topic> {
        no_records()
    }

    async fn alter(&self, _: &str, _: i32, _: &TopicSettings) -> Result<Topic> {
        no_records()
    }

    async fn delete(&self, _: &str, _: bool) -> Result<()> {
        no_records()
    }

    async fn hold(&self, _: &TopicPartition, _: Offset, _: &str) -> Result<Hold> {
        no_records()
    }
}

#[async_trait]
impl Producers for Memory {
    async fn new_producer(&self) -> Result<i64> {
        no_records()
    }

    async fn producers(&self, _: &TopicPartition) -> Result<Vec<Producer>> {
        match self.producers.lock().clone() {
            known if known.is_empty() => no_records(),
            known => Ok(known),
        }
    }
}

#[async_trait]
impl Transactions for Memory {
    async fn end(&self, _: &TopicPartition, marker: Marker) -> Result<Appended> {
        if self.producers.lock().is_empty() {
            return no_records();
        }
        self.markers.lock().push(marker);
        let durable = Box::pin(std::future::ready(Ok(())));
        Ok(Appended { base_offset: 0, next_offset: 1, given_back: 0, duplicate: None, durable })
    }
}

#[async_trait]
impl Groups for Memory {
    async fn join(&self, group: &str) -> Result<Token> {
        let mut groups = self.groups.lock();
        let kept = groups.entry(group.to_owned()).or_default();
        kept.generation += 1;
        let token = Token::new(group, kept.generation);
        kept.claim = token.claim();
        Ok(token)
    }

    async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>> {
        let groups = self.groups.lock();
        let committed = groups.get(group).map(|kept| &kept.committed).into_iter().flatten();
        let committed = committed.map(|(of, (committed, _))| (of.clone(), committed.clone())).collect();
        drop(groups);
        if let Some(producer_id) = self.commits_after_read.lock().take() {
            self.decide(producer_id, true);
        }
        Ok(committed)
    }

    async fn commit(&self, token: &Token, offsets: Vec<(TopicPartition, Option<Committed>)>) -> Result<()> {
        if offsets.iter().any(|(of, _)| &*of.topic != "t") {
            return Err(Error::refused("there is no such topic"));
        }
        let now = self.now();
        let apply = |kept: &mut Kept| {
            for (of, committed) in offsets {
                match committed {
                    Some(committed) => drop(kept.committed.insert(of, (committed, now))),
                    None => drop(kept.committed.remove(&of)),
                }
            }
        };
        self.write(token, apply).await
    }

    async fn groups(&self) -> Result<Vec<String>> {
        let groups = self.groups.lock();
        let known = groups.iter().filter(|(_, kept)| !kept.committed.is_empty() || kept.membership.is_some());
        Ok(known.map(|(name, _)| name.clone()).collect())
    }
}

#[async_trait]
impl Memberships for Memory {
    async fn claim(&self, group: &str) -> Result<Option<Token>> {
        match self.is_claimed(group) {
            true => Ok(None),
            false => self.join(group).await.map(Some),
        }
    }

    fn is_claimed(&self, group: &str) -> bool {
        self.groups.lock().get(group).is_some_and(|kept| kept.claim.strong_count() > 0)
    }

    async fn remember(&self, token: &Token, membership: Option<Membership>) -> Result<()> {
        self.write(token, |kept| kept.membership = membership).await
    }

    async fn commit_in_transaction(
        &self,
        token: &Token,
        (producer_id, _): (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
    ) -> Result<()> {
        self.write(token, |kept| kept.undecided.extend(offsets.into_iter().map(|(of, it)| (producer_id, of, it)))).await
    }

    async fn undecided(&self, group: &str) -> Result<BTreeSet<TopicPartition>> {
        let groups = self.groups.lock();
        let undecided = groups.get(group).map(|kept| &kept.undecided).into_iter().flatten();
        Ok(undecided.map(|(_, of, _)| of.clone()).collect())
    }

    async fn remembered(&self, group: &str) -> Result<Option<Membership>> {
        Ok(self.groups.lock().get(group).and_then(|kept| kept.membership.clone()))
    }

    async fn committed_at(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>> {
        let groups = self.groups.lock();
        let committed = groups.get(group).map(|kept| &kept.committed).into_iter().flatten();
        Ok(committed.map(|(of, (_, at))| (of.clone(), *at)).collect())
    }
}
