//! What a connector still needs of the log: retention, compaction and deletion do not pass it. Holds belong to the
//! declaration of a connector, not to its runs: a paused one keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{Hold, Result, Store, Topic, TopicId, TopicPartition};
use aqueduct_record::Offset;
use parking_lot::Mutex;

/// The holds of one connector.
pub(crate) struct Holds {
    store: Arc<dyn Store>,
    holder: String,
    /// With the topic that each belongs to: another one may get its name.
    holds: Mutex<BTreeMap<TopicPartition, (Option<TopicId>, Hold)>>,
}

impl Holds {
    /// No holds yet; `holder` says who wants the records, for people.
    pub(crate) fn new(store: &Arc<dyn Store>, holder: String) -> Self {
        Holds { store: store.clone(), holder, holds: Mutex::default() }
    }

    /// Keeps the records of a partition from `offset` on, where nothing holds them yet.
    pub(crate) async fn take(&self, of: &TopicPartition, offset: Offset) -> Result<()> {
        if self.holds.lock().contains_key(of) {
            return Ok(());
        }
        self.retake(of, offset).await
    }

    /// Whether something of a partition is held.
    pub(crate) fn has(&self, of: &TopicPartition) -> bool {
        self.holds.lock().contains_key(of)
    }

    /// Takes a hold anew, wherever it was before.
    pub(crate) async fn retake(&self, of: &TopicPartition, offset: Offset) -> Result<()> {
        // Asked first: if the topic changes in between, the hold is taken for one that is gone, and taken anew.
        let topics = self.store.topics().await?;
        let id = topics.iter().find(|topic| topic.name == of.topic).map(|topic| topic.id);
        let hold = self.store.hold(of, offset, &self.holder).await?;
        self.holds.lock().insert(of.clone(), (id, hold));
        Ok(())
    }

    /// Lets go of topics that are gone, also where another one has the name now; `topics` is all that there are.
    pub(crate) fn forget_gone(&self, topics: &[Topic]) {
        self.holds
            .lock()
            .retain(|of, (id, _)| topics.iter().any(|topic| topic.name == of.topic && Some(topic.id) == *id));
    }

    /// Lets go of what lies before `offset`.
    pub(crate) fn advance(&self, of: &TopicPartition, offset: Offset) {
        if let Some((_, hold)) = self.holds.lock().get(of) {
            hold.advance(offset);
        }
    }

    /// Lets go of a partition.
    pub(crate) fn release(&self, of: &TopicPartition) {
        self.holds.lock().remove(of);
    }
}
