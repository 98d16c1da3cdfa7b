//! How far each group has come, and who is in it: what [`crate::group_records`] say.

mod loading;
mod transacting;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{At, Committed, Error, Membership, Result, Token, TopicPartition};
use aqueduct_record::{Batch, Offset};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::group_records as records;
use crate::partition::Partition;
use crate::topic::Registry;
use crate::undecided::Undecided;

pub(crate) const TOPIC: &str = "__consumer_offsets";
const LONGEST_METADATA: usize = 4096;
const LONGEST_GROUP: usize = i16::MAX as usize;
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
