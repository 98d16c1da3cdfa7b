//! The log as the engine sees it.

mod opening;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_api::{
    Appended, At, Bounds, Committed, Edge, Error, Groups as GroupsApi, Hold, Isolation, Kept, Limit, Log, Marker,
    Measured, Membership, Memberships, OnDisk, Producer, Producers, Read, Result, Stretch, Stretches, Token, Topic,
    TopicId, TopicPartition, TopicSettings, Topics, Transactions, Watch, Watcher,
};
use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;

use crate::folder::at;
use crate::groups::{self, Groups};
use crate::options::Options;
use crate::partition::Partition;
use crate::producer_ids::ProducerIds;
use crate::recovery::Recovery;
use crate::shared::Shared;
use crate::topic::Registry;
use crate::usage::{PartitionUsage, Usage};

/// A log on the local disk. Clones are the same log. Dropping the last without [`CommitLog::close`] is like a kill: the next
/// start has to recover.
#[derive(Clone)]
pub struct CommitLog {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    groups: Groups,
    /// Topics are made and deleted by one at a time, until what was committed for those that are gone is forgotten.
    naming: tokio::sync::Mutex<()>,
    producer_ids: ProducerIds,
    recovery: Recovery,
    is_cleaning: AtomicBool,
}

impl CommitLog {
    /// Opens the log in a folder, which is made where it is missing, and recovers what a crash left. To be called on the
    /// runtime that is to carry the log's own timers.
    ///
    /// # Errors
    /// `Fatal` when the folder is held by somebody else, is none of the log's, or a file is missing or can not be read.
    pub async fn open(edge: Edge, folder: &Path, options: Options) -> Result<CommitLog> {
        let folder = folder.to_owned();
        let inside = edge.clone();
        let taken = edge.blocking(move || opening::Taken::take(inside, &folder, &options)).await??;
        // Whoever tries again finds the folder free, whatever else of this try is still there.
        let inner = Arc::new(taken.open().await.inspect_err(|_| taken.shared.folder.release())?);
        tokio::spawn(upkeep::sync_in_intervals(Arc::downgrade(&inner)));
        Ok(CommitLog { inner })
    }

    /// What was found at the start.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// What the log uses and has lost.
    pub fn usage(&self) -> Usage {
        Usage::of(&self.inner.registry)
    }

    /// Lets retention and compaction begin: to be called once all holds are taken. To be called on the runtime that is to
    /// carry the log's own timers.
    pub fn start_cleaning(&self) {
        if !self.inner.is_cleaning.swap(true, Ordering::SeqCst) {
            tokio::spawn(upkeep::clean_in_intervals(Arc::downgrade(&self.inner)));
        }
    }

    /// One round of retention and compaction, now.
    ///
    /// # Errors
    /// The first failure; the other partitions are cleaned all the same.
    pub async fn clean(&self) -> Result<()> {
        self.inner.clean().await
    }

    /// Syncs everything and notes that nothing needs to be recovered. Appends are refused from now on, and the folder is free
    /// afterwards.
    ///
    /// # Errors
    /// `Retry` when something could not be synced: the next start recovers.
    pub async fn close(self) -> Result<()> {
        let inner = self.inner.clone();
        let close = move || {
            let closed = inner.close();
            // Nobody writes any more, whoever still has a clone.
            inner.shared.folder.release();
            closed
        };
        self.inner.shared.edge.blocking(close).await?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        of: &TopicPartition,
        job: impl FnOnce(&Partition) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let partition = self.inner.registry.partition(of)?;
        self.inner.shared.edge.blocking(move || job(&partition)).await?
    }

    async fn change<T: Send + 'static>(&self, job: impl FnOnce(&Registry) -> Result<T> + Send + 'static) -> Result<T> {
        let registry = self.inner.registry.clone();
        self.inner.shared.edge.blocking(move || job(&registry)).await?
    }
}

#[async_trait]
impl Log for CommitLog {
    async fn append(&self, to: &TopicPartition, batch: Batch, at: At) -> Result<Appended> {
        self.inner.registry.partition(to)?.append(batch, at).await
    }

    async fn bounds(&self, of: &TopicPartition) -> Result<Bounds> {
        Ok(self.inner.registry.partition(of)?.bounds())
    }

    async fn find(&self, of: &TopicPartition, timestamp: i64) -> Result<Offset> {
        self.blocking(of, move |partition| partition.find(timestamp)).await
    }

    async fn measure(&self, of: &TopicPartition, from: Offset, limit: Limit) -> Result<Measured> {
        self.blocking(of, move |partition| partition.measure(from, limit)).await
    }

    async fn read(&self, of: &TopicPartition, from: Offset, max_bytes: usize, isolation: Isolation) -> Result<Read> {
        self.blocking(of, move |partition| partition.read(from, max_bytes, isolation)).await
    }

    async fn grown(&self, of: &TopicPartition, offset: Offset, isolation: Isolation) -> Result<()> {
        self.inner.registry.partition(of)?.grown(offset, isolation).await
    }

    async fn sync(&self, of: &TopicPartition) -> Result<Offset> {
        self.inner.registry.partition(of)?.sync().await
    }
}

#[async_trait]
impl Stretches for CommitLog {
    async fn stretch(
        &self,
        of: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Stretch> {
        self.blocking(of, move |partition| partition.stretch(from, max_bytes, isolation)).await
    }

    fn watch(&self, of: &TopicPartition, watcher: &Arc<dyn Watcher>, mark: u32) -> Result<Watch> {
        Ok(self.inner.registry.partition(of)?.watchers.take(watcher.clone(), mark))
    }
}

#[async_trait]
impl Kept for CommitLog {
    async fn delete_before(&self, of: &TopicPartition, offset: Option<Offset>) -> Result<Offset> {
        let partition = self.inner.registry.partition(of)?;
        let end = partition.high_watermark();
        let to = offset.unwrap_or(end);
        if !(0..=end).contains(&to) {
            return Err(Error::refused(format!("{of}: offset {to} is not in it, which ends at {end}")));
        }
        // What is deleted stays deleted: its offsets must not be used again.
        partition.sync().await?;
        self.blocking(of, move |partition| partition.delete_before(to)).await
    }

    async fn on_disk(&self) -> Result<OnDisk> {
        let log = self.clone();
        let look = move || {
            let folder = log.inner.shared.folder.path.clone();
            let space = log.inner.shared.disk().space(&folder).map_err(at(&folder))?;
            let of = |used: PartitionUsage| (TopicPartition::new(used.topic, used.partition), used.bytes);
            let partitions = log.usage().partitions.into_iter().map(of).collect();
            Ok(OnDisk { folder, space, partitions })
        };
        self.inner.shared.edge.blocking(look).await?
    }
}

#[async_trait]
impl Topics for CommitLog {
    async fn topics(&self) -> Result<Vec<Topic>> {
        Ok(self.inner.registry.all().iter().map(|open| open.topic.clone()).collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>> {
        Ok(self.inner.registry.topic(name).ok().map(|open| open.topic.clone()))
    }

    async fn topic_of(&self, id: TopicId) -> Result<Option<Topic>> {
        Ok(self.inner.registry.topic_of(id).map(|open| open.topic.clone()))
    }

    async fn create(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let _naming = self.inner.naming.lock().await;
        let (name, settings) = (name.to_owned(), settings.clone());
        self.change(move |registry| registry.create(&name, partitions, &settings)).await
    }

    async fn alter(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let (name, settings) = (name.to_owned(), settings.clone());
        self.change(move |registry| registry.alter(&name, partitions, &settings)).await
    }

    async fn delete(&self, name: &str, force: bool) -> Result<()> {
        let (log, name) = (self.clone(), name.to_owned());
        // Seen through even where nobody waits any more.
        let deleting = tokio::spawn(async move {
            let _naming = log.inner.naming.lock().await;
            log.change(move |registry| registry.delete(&name, force)).await?;
            if let Err(cause) = log.inner.groups.forget_gone().await {
                tracing::warn!(%cause, "committed offsets of a deleted topic are forgotten with the next one, or start");
            }
            Ok(())
        });
        deleting.await.map_err(|cause| aqueduct_api::Error::fatal(format!("delete: {cause}")))?
    }

    async fn hold(&self, of: &TopicPartition, offset: Offset, holder: &str) -> Result<Hold> {
        Ok(self.inner.registry.partition(of)?.holds.take(offset, holder))
    }
}

#[async_trait]
impl GroupsApi for CommitLog {
    async fn join(&self, group: &str) -> Result<Token> {
        self.inner.groups.join(group).await
    }

    async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>> {
        Ok(self.inner.groups.committed(group))
    }

    async fn commit(&self, token: &Token, offsets: Vec<(TopicPartition, Option<Committed>)>) -> Result<()> {
        self.inner.groups.commit(token, offsets).await
    }

    async fn groups(&self) -> Result<Vec<String>> {
        Ok(self.inner.groups.names())
    }
}

#[async_trait]
impl Memberships for CommitLog {
    async fn claim(&self, group: &str) -> Result<Option<Token>> {
        self.inner.groups.claim(group).await
    }

    fn is_claimed(&self, group: &str) -> bool {
        self.inner.groups.is_claimed(group)
    }

    async fn remember(&self, token: &Token, membership: Option<Membership>) -> Result<()> {
        self.inner.groups.remember(token, membership).await
    }

    async fn commit_in_transaction(
        &self,
        token: &Token,
        producer: (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
    ) -> Result<()> {
        self.inner.groups.commit_in_transaction(token, producer, offsets).await
    }

    async fn undecided(&self, group: &str) -> Result<BTreeSet<TopicPartition>> {
        Ok(self.inner.groups.undecided(group))
    }

    async fn remembered(&self, group: &str) -> Result<Option<Membership>> {
        Ok(self.inner.groups.remembered(group))
    }

    async fn committed_at(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>> {
        Ok(self.inner.groups.committed_at(group))
    }
}

#[async_trait]
impl Producers for CommitLog {
    async fn new_producer(&self) -> Result<i64> {
        let inner = self.inner.clone();
        self.inner.shared.edge.blocking(move || inner.producer_ids.take(&inner.registry)).await?
    }

    async fn producers(&self, of: &TopicPartition) -> Result<Vec<Producer>> {
        Ok(self.inner.registry.partition(of)?.describe_producers())
    }
}

#[async_trait]
impl Transactions for CommitLog {
    async fn end(&self, of: &TopicPartition, marker: Marker) -> Result<Appended> {
        let batch = marker.to_batch(self.inner.shared.edge.now());
        let mut appended = self.inner.registry.partition(of)?.append(batch, At::End).await?;
        if &*of.topic == groups::TOPIC {
            let (inner, at, durable) = (self.inner.clone(), appended.base_offset, appended.durable);
            // Seen through even where nobody waits any more: else groups would not know what the log says.
            let known = tokio::spawn(async move {
                durable.await?;
                inner.groups.ended(marker, at).await;
                Ok(())
            });
            appended.durable = Box::pin(async move {
                known.await.unwrap_or_else(|_| Err(Error::retry("the log ended before a transaction did")))
            });
        }
        Ok(appended)
    }
}
