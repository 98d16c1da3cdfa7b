//! Whether what a source has appended is still there. On topics that are not synced at once it may be given back when a
//! sync fails later, though it was answered as durable, and a topic may be deleted and made anew: the source then begins
//! anew with what the log holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{Durability, Error, Result, Topic, TopicId, TopicPartition};
use parking_lot::Mutex;

use crate::host::Host;

/// What a run of a source counts on.
pub(crate) struct Kept {
    host: Arc<Host>,
    /// How often each partition had given offsets back before the run looked into it; empty on topics that are synced.
    given_back: BTreeMap<TopicPartition, u64>,
    /// The topic, where it was synced at once when the run began.
    synced: Option<Arc<str>>,
    /// Which topics have the names that it writes to; `None`: not seen yet.
    topics: Mutex<BTreeMap<Arc<str>, Option<TopicId>>>,
}

impl Kept {
    /// To be made before the run looks into the log.
    pub(crate) async fn since_now(host: &Arc<Host>, topic: &Topic, letters: Option<&TopicPartition>) -> Result<Kept> {
        let mut given_back = BTreeMap::new();
        if topic.settings.durability != Durability::Fsync {
            for of in topic.all_partitions() {
                let bounds = host.store.bounds(&of).await?;
                given_back.insert(of, bounds.given_back);
            }
        }
        let synced = given_back.is_empty().then(|| topic.name.clone());
        let mut topics = BTreeMap::from([(topic.name.clone(), Some(topic.id))]);
        topics.extend(letters.map(|of| (of.topic.clone(), None)));
        let kept = Kept { host: host.clone(), given_back, synced, topics: Mutex::new(topics) };
        kept.look(&host.store.topics().await?)?;
        Ok(kept)
    }

    /// How often a partition had given offsets back, where that may void what was answered as durable.
    pub(crate) fn given_back(&self, of: &TopicPartition) -> Option<u64> {
        self.given_back.get(of).copied()
    }

    /// Whether all is still there that a position stands for. To be asked after a sync and before anything is written that counts on it: a sync
    /// that succeeds after one that failed says nothing of what the first one lost.
    pub(crate) async fn check(&self) -> Result<()> {
        for (of, before) in &self.given_back {
            if self.host.store.bounds(of).await?.given_back != *before {
                let message = "has given offsets back after a failed sync: they are read again";
                return Err(Error::retry(format!("{of} {message}")));
            }
        }
        self.check_topics().await
    }

    /// Whether the topics are still those that they were.
    pub(crate) async fn check_topics(&self) -> Result<()> {
        let topics = self.host.store.topics().await?;
        self.look(&topics)?;
        let Some(name) = &self.synced else { return Ok(()) };
        match topics.iter().find(|topic| topic.name == *name) {
            Some(topic) if topic.settings.durability != Durability::Fsync => Err(Error::retry(format!(
                "topic {name} is not synced at once any more: the source begins anew with what is there"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether names still stand for the topics that they stood for when they were first seen.
    fn look(&self, topics: &[Topic]) -> Result<()> {
        let mut seen = self.topics.lock();
        for topic in topics {
            let Some(seen) = seen.get_mut(&topic.name) else { continue };
            if *seen.get_or_insert(topic.id) != topic.id {
                let name = &topic.name;
                return Err(Error::retry(format!(
                    "topic {name} was made anew: the source begins anew with what is there"
                )));
            }
        }
        Ok(())
    }
}
