//! Offsets that were committed in producers' transactions: they wait until theirs has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_api::fault;
use aqueduct_api::{At, Committed, Error, Marker, Result, Token, TopicPartition};
use aqueduct_record::Offset;
use parking_lot::Mutex;

use super::{Group, Groups};
use crate::group_records as records;
use crate::undecided::{Undecided, Waiting};

impl Groups {
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

    pub(super) fn decide(&self, marker: Marker, at: Offset) {
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
}

/// Lets an offset wait for its producer's transaction.
pub(super) fn wait(open: &Mutex<BTreeMap<i64, Vec<Arc<Group>>>>, group: &Arc<Group>, waiting: Waiting) {
    let mut open = open.lock();
    let groups = open.entry(waiting.producer_id).or_default();
    if !groups.iter().any(|known| Arc::ptr_eq(known, group)) {
        groups.push(group.clone());
    }
    drop(open);
    group.undecided.lock().push(waiting);
}
