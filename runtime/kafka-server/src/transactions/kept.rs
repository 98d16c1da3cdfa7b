//! Where transactions are kept: the topic `__transaction_state`, whose last record of each transactional id counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::fault;
use aqueduct_api::{At, Edge, Error, Isolation, Result, TopicPartition, TopicSettings};
use aqueduct_record::{Batch, BatchBuilder};
use tokio::sync::OnceCell;

use super::entry::Entry;
use super::records;
use crate::broker::Served;

/// Kafka's name of the topic.
pub(super) const TOPIC: &str = "__transaction_state";
/// Bytes read at once when it is loaded.
const LOADED_AT_ONCE: usize = 1 << 20;

/// The topic.
pub(super) struct Kept {
    store: Arc<dyn Served>,
    edge: Edge,
    /// Made with the first record.
    topic: OnceCell<TopicPartition>,
    epoch: i32,
}

impl Kept {
    /// Reads all that is kept.
    pub(super) async fn load(store: Arc<dyn Served>, edge: Edge) -> Result<(Kept, BTreeMap<String, Entry>)> {
        let mut entries = BTreeMap::new();
        let Some(topic) = store.topic(TOPIC).await? else {
            return Ok((Kept { store, edge, topic: OnceCell::new(), epoch: 0 }, entries));
        };
        for of in topic.all_partitions() {
            load_partition(&*store, &of, &mut entries).await?;
        }
        let of = TopicPartition::new(TOPIC, 0);
        let epoch = store.bounds(&of).await?.leader_epoch;
        tracing::debug!(ids = entries.len(), "transactions are loaded");
        Ok((Kept { store, edge, topic: OnceCell::new_with(Some(of)), epoch }, entries))
    }

    /// Rises with every start after which offsets might be used a second time.
    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Keeps what became of a transactional id, durably; `None` forgets it.
    pub(super) async fn save(&self, id: &str, entry: Option<&Entry>) -> Result<()> {
        let to = self.topic.get_or_try_init(|| self.make()).await?;
        let value = entry.map(records::value);
        let mut builder = BatchBuilder::new();
        builder.push(self.edge.now(), Some(&records::key(id)?), value.as_deref(), &[]);
        fault::point("transactions.save");
        self.store.append(to, builder.finish(), At::End).await?.durable.await?;
        fault::point("transactions.saved");
        Ok(())
    }

    async fn make(&self) -> Result<TopicPartition> {
        if self.store.topic(TOPIC).await?.is_none() {
            self.store.create(TOPIC, 1, &TopicSettings::table()).await?;
        }
        Ok(TopicPartition::new(TOPIC, 0))
    }
}

async fn load_partition(store: &dyn Served, of: &TopicPartition, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
    let mut offset = store.bounds(of).await?.start;
    loop {
        let found = store.read(of, offset, LOADED_AT_ONCE, Isolation::Uncommitted).await?;
        if let Some(lost) = found.lost {
            tracing::error!(partition = %of, from = lost.start, to = lost.end, "what is kept of transactions is damaged");
            offset = lost.end;
            continue;
        }
        if found.batches.is_empty() {
            return Ok(());
        }
        for batch in found.into_batches() {
            let batch = batch.map_err(Error::retry)?;
            offset = batch.next_offset();
            load_batch(&batch, entries)?;
        }
    }
}

/// Takes over what a batch says: the last record of each id counts.
pub(super) fn load_batch(batch: &Batch, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
    let mut records = batch.records().map_err(|cause| Error::retry(cause).context(TOPIC))?;
    while let Some(record) = records.next() {
        let record = record.map_err(|cause| Error::retry(cause).context(TOPIC))?;
        let Some(id) = record.key.and_then(records::parse_key) else { continue };
        match record.value.map(records::parse_value) {
            Some(Some(entry)) => drop(entries.insert(id.to_owned(), entry)),
            Some(None) => {
                tracing::error!(
                    topic = TOPIC,
                    offset = record.offset,
                    id,
                    "what is kept of a transaction makes no sense"
                );
            }
            None if fault::mutated(fault::Mutant::IdNotForgotten) => {}
            None => drop(entries.remove(id)),
        }
    }
    Ok(())
}
