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
        if self.has(of) {
            return Ok(());
        }
        let hold = self.ask(of, offset).await?;
        // A run and its supervisor may both have asked: the one that came first may have moved on since.
        self.holds.lock().entry(of.clone()).or_insert(hold);
        Ok(())
    }

    /// Whether something of a partition is held.
    pub(crate) fn has(&self, of: &TopicPartition) -> bool {
        self.holds.lock().contains_key(of)
    }

    /// Takes a hold anew, wherever it was before.
    pub(crate) async fn retake(&self, of: &TopicPartition, offset: Offset) -> Result<()> {
        let hold = self.ask(of, offset).await?;
        self.holds.lock().insert(of.clone(), hold);
        Ok(())
    }

    async fn ask(&self, of: &TopicPartition, offset: Offset) -> Result<(Option<TopicId>, Hold)> {
        // Asked first: if the topic changes in between, the hold is taken for one that is gone, and taken anew.
        let topics = self.store.topics().await?;
        let id = topics.iter().find(|topic| topic.name == of.topic).map(|topic| topic.id);
        Ok((id, self.store.hold(of, offset, &self.holder).await?))
    }

    /// Lets go of topics that are gone, also where another one has the name now; answers with all that there are.
    pub(crate) async fn forget_gone(&self) -> Result<Vec<Topic>> {
        // Noted first: what somebody comes to hold meanwhile may be newer than the answer.
        let before: BTreeMap<_, _> = self.holds.lock().iter().map(|(of, (id, _))| (of.clone(), *id)).collect();
        let topics = self.store.topics().await?;
        let is_there = |of: &TopicPartition, id: Option<TopicId>| {
            topics.iter().any(|topic| topic.name == of.topic && Some(topic.id) == id)
        };
        self.holds.lock().retain(|of, (id, _)| before.get(of) != Some(id) || is_there(of, *id));
        Ok(topics)
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
