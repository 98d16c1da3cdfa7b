//! How far each group has come, and who is in it: what [`crate::group_records`] say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{
    At, CleanupPolicy, Committed, Durability, Error, Isolation, Marker, Membership, Result, Span, Token,
    TopicPartition, TopicSettings,
};
use aqueduct_record::{Batch, Offset};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::group_records::{self as records, Key};
use crate::partition::Partition;
use crate::topic::Registry;
use crate::undecided::{Undecided, Waiting};

pub(crate) const TOPIC: &str = "__consumer_offsets";
const LONGEST_METADATA: usize = 4096;
const LONGEST_GROUP: usize = i16::MAX as usize;
/// Bytes read at once when the offsets are loaded.
const LOADED_AT_ONCE: usize = 1 << 20;
/// From how many groups on those are looked for that nothing is known of.
const MANY_GROUPS: usize = 1024;

/// The groups and where they are.
pub(crate) struct Groups {
    partition: Arc<Partition>,
    registry: Arc<Registry>,
    /// Where commits are seen through to their end, whoever stops waiting for them.
    runtime: tokio::runtime::Handle,
    groups: Mutex<BTreeMap<String, Arc<Group>>>,
    /// What is committed in transactions has its place by the time that their markers are looked at.
    transacting: Arc<tokio::sync::Mutex<()>>,
    /// Groups in which something waits for a producer's transaction.
    open: Arc<Mutex<BTreeMap<i64, Vec<Arc<Group>>>>>,
}

/// One group. Who has the turn decides who may commit, and no other commit is under way meanwhile.
#[derive(Default)]
struct Group {
    turn: Arc<tokio::sync::Mutex<i32>>,
    /// What was committed, and when.
    committed: Mutex<BTreeMap<TopicPartition, (Committed, i64)>>,
    undecided: Mutex<Undecided>,
    membership: Mutex<Option<Membership>>,
    /// Lives as long as somebody has the last token.
    claim: Mutex<Weak<()>>,
}

impl Group {
    fn is_claimed(&self) -> bool {
        self.claim.lock().strong_count() > 0
    }

    fn is_known(&self) -> bool {
        !self.committed.lock().is_empty() || self.membership.lock().is_some() || !self.undecided.lock().is_empty()
    }

    /// What holds for a partition from the record at that offset on; `None`: nothing.
    fn set(&self, of: TopicPartition, committed: Option<(Committed, i64)>, at: Offset) {
        self.undecided.lock().supersede(&of, at);
        match committed {
            Some(committed) => drop(self.committed.lock().insert(of, committed)),
            None => drop(self.committed.lock().remove(&of)),
        }
    }

    /// Voids all tokens but the one that it gives.
    fn assign(&self, name: &str, generation: &mut i32) -> Token {
        *generation += 1;
        let token = Token::new(name, *generation);
        *self.claim.lock() = token.claim();
        token
    }
}

impl Groups {
    /// Loads what was committed. Blocks.
    pub(crate) fn load(registry: &Arc<Registry>, runtime: tokio::runtime::Handle) -> Result<Self> {
        let partition = match registry.topic(TOPIC) {
            Ok(topic) => topic.partitions.first().cloned(),
            Err(_) => {
                let settings = TopicSettings {
                    cleanup: CleanupPolicy::Compact,
                    retention: Span::FOREVER,
                    durability: Durability::Fsync,
                    ..TopicSettings::default()
                };
                registry.create(TOPIC, 1, &settings)?;
                registry.topic(TOPIC)?.partitions.first().cloned()
            }
        };
        let partition = partition.ok_or_else(|| Error::fatal(format!("topic `{TOPIC}` has no partitions")))?;
        let groups = Groups {
            partition,
            registry: registry.clone(),
            runtime,
            groups: Mutex::default(),
            transacting: Arc::default(),
            open: Arc::default(),
        };
        groups.read_all()?;
        Ok(groups)
    }

    fn read_all(&self) -> Result<()> {
        let mut offset = self.partition.start();
        loop {
            let found = self.partition.read(offset, LOADED_AT_ONCE, Isolation::Uncommitted)?;
            if let Some(lost) = found.lost {
                tracing::error!(
                    topic = TOPIC,
                    from = lost.start,
                    to = lost.end,
                    "committed offsets are damaged: groups may go on from older ones"
                );
                offset = lost.end;
                continue;
            }
            if found.batches.is_empty() {
                return Ok(());
            }
            let mut rest = found.batches;
            while let Some((batch, behind)) = Batch::split_first(&rest).map_err(Error::retry)? {
                offset = batch.next_offset();
                self.load_batch(&batch)?;
                rest = behind;
            }
        }
    }

    fn load_batch(&self, batch: &Batch) -> Result<()> {
        let header = batch.header();
        if header.attributes.is_control() {
            if let Some(marker) = Marker::of(batch) {
                self.decide(marker, batch.base_offset());
            }
            return Ok(());
        }
        let producer_id = header.attributes.is_transactional().then_some(header.producer_id);
        let mut records = batch.records().map_err(|cause| Error::retry(cause).context(TOPIC))?;
        while let Some(record) = records.next() {
            let record = record.map_err(|cause| Error::retry(cause).context(TOPIC))?;
            match record.key.and_then(records::parse_key) {
                Some(Key::Offset(group, of)) => {
                    let group = self.group(&group);
                    match record.value.map(records::parse_offset) {
                        Some(Some((committed, time))) => match producer_id {
                            Some(producer_id) => {
                                let at = record.offset;
                                wait(&self.open, &group, Waiting { producer_id, at, of, committed, time });
                            }
                            None => group.set(of, Some((committed, time)), record.offset),
                        },
                        Some(None) => {
                            tracing::warn!(topic = TOPIC, offset = record.offset, "a committed offset makes no sense")
                        }
                        None => group.set(of, None, record.offset),
                    }
                }
                Some(Key::Members(group)) => {
                    let membership = record.value.and_then(records::parse_members);
                    if record.value.is_some() && membership.is_none() {
                        tracing::warn!(topic = TOPIC, offset = record.offset, group, "a group's members make no sense");
                    }
                    *self.group(&group).membership.lock() = membership;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn group(&self, name: &str) -> Arc<Group> {
        let mut groups = self.groups.lock();
        match groups.get(name) {
            Some(group) => group.clone(),
            None => {
                if groups.len() >= MANY_GROUPS && groups.len().is_power_of_two() {
                    // Names that somebody asked for once.
                    groups.retain(|_, group| Arc::strong_count(group) > 1 || group.is_claimed() || group.is_known());
                }
                groups.entry(name.to_owned()).or_default().clone()
            }
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.lock().get(name).cloned()
    }

    /// Assigns the group to the caller, once no commit of it is under way.
    pub(crate) async fn join(&self, name: &str) -> Result<Token> {
        let group = self.named(name)?;
        let mut generation = group.turn.lock().await;
        Ok(group.assign(name, &mut generation))
    }

    /// Assigns the group to the caller, once no commit of it is under way, unless somebody has it.
    pub(crate) async fn claim(&self, name: &str) -> Result<Option<Token>> {
        let group = self.named(name)?;
        let mut generation = group.turn.lock().await;
        Ok(match group.is_claimed() {
            true => None,
            false => Some(group.assign(name, &mut generation)),
        })
    }

    fn named(&self, name: &str) -> Result<Arc<Group>> {
        match name.len() {
            1..=LONGEST_GROUP => Ok(self.group(name)),
            length => Err(Error::refused(format!("a group's name has 1 to {LONGEST_GROUP} bytes, not {length}"))),
        }
    }

    pub(crate) fn is_claimed(&self, name: &str) -> bool {
        self.find(name).is_some_and(|group| group.is_claimed())
    }

    pub(crate) fn committed(&self, name: &str) -> BTreeMap<TopicPartition, Committed> {
        let Some(group) = self.find(name) else { return BTreeMap::new() };
        let committed = group.committed.lock();
        committed.iter().map(|(of, (committed, _))| (of.clone(), committed.clone())).collect()
    }

    pub(crate) fn committed_at(&self, name: &str) -> BTreeMap<TopicPartition, i64> {
        let Some(group) = self.find(name) else { return BTreeMap::new() };
        let committed = group.committed.lock();
        committed.iter().map(|(of, (_, at))| (of.clone(), *at)).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let groups = self.groups.lock();
        groups.iter().filter(|(_, group)| group.is_known()).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn remembered(&self, name: &str) -> Option<Membership> {
        self.find(name).and_then(|group| group.membership.lock().clone())
    }

    /// Commits, durably, all or nothing.
    pub(crate) async fn commit(&self, token: &Token, offsets: Vec<(TopicPartition, Option<Committed>)>) -> Result<()> {
        self.check(&offsets)?;
        let now = self.partition.shared.edge.now();
        let batch = match offsets.is_empty() {
            true => None,
            false => Some(records::offsets(&token.group, &offsets, now)?),
        };
        let wanted = offsets.clone();
        let apply = move |group: &Group, base: Offset| {
            let (mut committed, mut undecided) = (group.committed.lock(), group.undecided.lock());
            for (at, (of, offset)) in (base..).zip(offsets) {
                undecided.supersede(&of, at);
                match offset {
                    Some(offset) => drop(committed.insert(of, (offset, now))),
                    None => drop(committed.remove(&of)),
                }
            }
        };
        self.write(token, batch, || self.check(&wanted), apply).await
    }

    /// Saves who is in the group, durably.
    pub(crate) async fn remember(&self, token: &Token, membership: Option<Membership>) -> Result<()> {
        let batch = records::members(&token.group, membership.as_ref(), self.partition.shared.edge.now())?;
        self.write(token, Some(batch), || Ok(Vec::new()), move |group, _| *group.membership.lock() = membership).await
    }

    /// Writes what whoever has the group decided, and applies it once it is durable.
    async fn write(
        &self,
        token: &Token,
        batch: Option<Batch>,
        check: impl FnOnce() -> Result<Vec<Arc<Partition>>>,
        apply: impl FnOnce(&Group, Offset) + Send + 'static,
    ) -> Result<()> {
        let (group, generation) = self.turn(token).await?;
        let Some(batch) = batch else { return Ok(()) };
        // With the turn: of a topic that is deleted from now on, what is committed here is forgotten after it.
        let depends_on = check()?;
        let partition = self.partition.clone();
        // Seen through even where nobody waits any more: else the next owner would read an older state than the log has.
        let commit = self.runtime.spawn(async move {
            for partition in depends_on {
                partition.sync().await?;
            }
            fault::point("commit");
            let base = partition.append(batch, At::End).await?.durable().await?;
            apply(&group, base);
            drop(generation);
            Ok(())
        });
        commit
            .await
            .unwrap_or_else(|_| Err(Error::retry(format!("the log ended before group `{}` committed", token.group))))
    }

    /// The turn of whoever has the group.
    async fn turn(&self, token: &Token) -> Result<(Arc<Group>, OwnedMutexGuard<i32>)> {
        let group = self.group(&token.group);
        let generation = group.turn.clone().lock_owned().await;
        if *generation != token.generation && !fault::mutated(Mutant::CommitAfterRevocation) {
            return Err(Error::fatal(format!(
                "group `{}` was assigned to somebody else: its generation is {}, this commit's {}",
                token.group, *generation, token.generation
            )));
        }
        Ok((group, generation))
    }

    /// Commits in a producer's transaction, durably, all or nothing.
    pub(crate) async fn commit_in_transaction(
        &self,
        token: &Token,
        (producer_id, epoch): (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
    ) -> Result<()> {
        let wanted: Vec<_> = offsets.iter().map(|(of, committed)| (of.clone(), Some(committed.clone()))).collect();
        self.check(&wanted)?;
        let time = self.partition.shared.edge.now();
        let (group, generation) = self.turn(token).await?;
        if offsets.is_empty() {
            return Ok(());
        }
        let depends_on = self.check(&wanted)?;
        let batch = records::offsets_of(&token.group, &wanted, time, producer_id, epoch)?;
        let (partition, transacting, open) = (self.partition.clone(), self.transacting.clone(), self.open.clone());
        let commit = self.runtime.spawn(async move {
            for partition in depends_on {
                partition.sync().await?;
            }
            fault::point("commit.transaction");
            let placing = transacting.lock().await;
            let appended = partition.append(batch, At::End).await?;
            let records = appended.base_offset..appended.next_offset;
            for (at, (of, committed)) in records.clone().zip(offsets) {
                if Undecided::counts_at_once() {
                    group.committed.lock().insert(of.clone(), (committed.clone(), time));
                }
                wait(&open, &group, Waiting { producer_id, at, of, committed, time });
            }
            drop(placing);
            let outcome = appended.durable.await;
            if outcome.is_err() {
                group.undecided.lock().retract(records);
            }
            drop(generation);
            outcome
        });
        commit
            .await
            .unwrap_or_else(|_| Err(Error::retry(format!("the log ended before group `{}` committed", token.group))))
    }

    /// A producer's transaction has ended, with a marker at that offset.
    pub(crate) async fn ended(&self, marker: Marker, at: Offset) {
        let _placed = self.transacting.lock().await;
        self.decide(marker, at);
    }

    fn decide(&self, marker: Marker, at: Offset) {
        let groups = self.open.lock().remove(&marker.producer_id).unwrap_or_default();
        for group in groups {
            let (mut committed, mut undecided) = (group.committed.lock(), group.undecided.lock());
            for waiting in undecided.decide(marker.producer_id, at) {
                if marker.committed {
                    undecided.supersede(&waiting.of, waiting.at);
                    committed.insert(waiting.of, (waiting.committed, waiting.time));
                }
            }
            drop(committed);
            if undecided.waits_for(marker.producer_id) {
                drop(undecided);
                self.open.lock().entry(marker.producer_id).or_default().push(group);
            }
        }
    }

    /// Where offsets of a group wait for the outcome of a transaction.
    pub(crate) fn undecided(&self, name: &str) -> BTreeSet<TopicPartition> {
        self.find(name).map(|group| group.undecided.lock().partitions()).unwrap_or_default()
    }

    /// Forgets, durably, what was committed for topics that are gone: whoever gets their names begins anew. Nobody may make a
    /// topic meanwhile.
    pub(crate) async fn forget_gone(&self) -> Result<()> {
        let groups: Vec<_> = self.groups.lock().iter().map(|(name, group)| (name.clone(), group.clone())).collect();
        for (name, group) in groups {
            let _turn = group.turn.lock().await;
            let is_gone = |of: &&TopicPartition| self.registry.topic(&of.topic).is_err();
            let mut known = group.undecided.lock().partitions();
            known.extend(group.committed.lock().keys().cloned());
            let gone: Vec<_> = known.into_iter().filter(|of| is_gone(&of)).map(|of| (of, None)).collect();
            if gone.is_empty() {
                continue;
            }
            let batch = records::offsets(&name, &gone, self.partition.shared.edge.now())?;
            let base = self.partition.append(batch, At::End).await?.durable().await?;
            let (mut committed, mut undecided) = (group.committed.lock(), group.undecided.lock());
            for (at, (of, _)) in (base..).zip(&gone) {
                undecided.supersede(of, at);
                committed.remove(of);
            }
            tracing::info!(group = name, partitions = gone.len(), "committed offsets of deleted topics were forgotten");
        }
        Ok(())
    }

    /// Refuses what can not be committed, and returns the partitions that are not synced by themselves.
    fn check(&self, offsets: &[(TopicPartition, Option<Committed>)]) -> Result<Vec<Arc<Partition>>> {
        let mut depends_on = Vec::new();
        for (of, committed) in offsets {
            let Some(committed) = committed else { continue };
            if committed.metadata.len() > LONGEST_METADATA || committed.offset < 0 {
                return Err(Error::refused(format!(
                    "{of}: offset {} with {} bytes of metadata can not be committed, expected at most {LONGEST_METADATA} \
                     bytes and no negative offset",
                    committed.offset,
                    committed.metadata.len()
                )));
            }
            let partition = self.registry.partition(of)?;
            if !partition.is_fsync() {
                depends_on.push(partition);
            }
        }
        Ok(depends_on)
    }
}

/// Lets an offset wait for its producer's transaction.
fn wait(open: &Mutex<BTreeMap<i64, Vec<Arc<Group>>>>, group: &Arc<Group>, waiting: Waiting) {
    let mut open = open.lock();
    let groups = open.entry(waiting.producer_id).or_default();
    if !groups.iter().any(|known| Arc::ptr_eq(known, group)) {
        groups.push(group.clone());
    }
    drop(open);
    group.undecided.lock().push(waiting);
}
