//! What the engine remembers: a compacted topic of keys and values, loaded at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{At, Edge, Error, Isolation, Result, Store, TopicPartition, TopicSettings};
use aqueduct_record::{Batch, BatchBuilder, Offset};
use parking_lot::Mutex;

use crate::lease::Lease;

/// Positions of sources, scan marks, marks of sinks.
pub(crate) const POSITIONS: &str = "__aqueduct_positions";

/// Settings by digest, target states, first starts of sinks.
pub(crate) const SETTINGS: &str = "__aqueduct_settings";

/// A compacted topic of one partition, and all that it says.
pub(crate) struct Table {
    store: Arc<dyn Store>,
    edge: Edge,
    partition: TopicPartition,
    entries: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    /// Where it was put: of two runs of a connector the later one's word counts.
    offset: Offset,
    value: String,
}

/// A change of a table: a key, and its value or nothing.
pub(crate) type Change = (String, Option<String>);

impl Table {
    /// Makes the topic where it is missing, and reads it.
    pub(crate) async fn open(store: &Arc<dyn Store>, edge: &Edge, topic: &str) -> Result<Table> {
        if !store.topics().await?.iter().any(|found| *found.name == *topic) {
            store.create(topic, 1, &TopicSettings::table()).await?;
        }
        let partition = TopicPartition::new(topic, 0);
        let table = Table { store: store.clone(), edge: edge.clone(), partition, entries: Mutex::default() };
        table.load().await.map_err(|error| error.context(format!("read {topic}")))?;
        Ok(table)
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.entries.lock().get(key).map(|entry| entry.value.clone())
    }

    /// All entries whose keys begin with `prefix`.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let entries = self.entries.lock();
        let found = entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
    }

    /// Makes changes, durably and in their order: where the last one is there after a crash, so are those before it.
    pub(crate) async fn put(&self, lease: &Lease, changes: Vec<Change>) -> Result<()> {
        let mut placed = Vec::new();
        let mut rest = changes.as_slice();
        let mut at = At::End;
        while !rest.is_empty() {
            let (batch, taken) = self.batch(rest);
            let appended = lease.append(&self.partition, batch, at).await?;
            at = At::EndSince(appended.given_back);
            placed.push((appended.base_offset, &rest[..taken], appended.durable));
            rest = &rest[taken..];
        }
        for (base, changes, durable) in placed {
            durable.await?;
            let mut entries = self.entries.lock();
            for (index, (key, value)) in changes.iter().enumerate() {
                change(&mut entries, base + index as i64, key.clone(), value.clone());
            }
        }
        Ok(())
    }

    /// As many changes as one batch takes well.
    fn batch(&self, changes: &[Change]) -> (Batch, usize) {
        const WELL: usize = 256 << 10;
        let now = self.edge.now();
        let mut builder = BatchBuilder::new();
        for (key, value) in changes {
            if builder.size() >= WELL {
                break;
            }
            builder.push(now, Some(key.as_bytes()), value.as_ref().map(|value| value.as_bytes()), &[]);
        }
        let taken = builder.count() as usize;
        (builder.finish(), taken)
    }

    async fn load(&self) -> Result<()> {
        let end = self.store.sync(&self.partition).await?;
        let mut next = self.store.bounds(&self.partition).await?.start;
        while next < end {
            let read = self.store.read(&self.partition, next, 1 << 20, Isolation::Committed).await?;
            let lost = read.lost.clone();
            if let Some(lost) = &lost {
                tracing::error!(partition = %self.partition, from = lost.start, to = lost.end,
                    "part of what the engine remembers is damaged and was skipped");
                next = lost.end.max(next);
            }
            let before = next;
            for batch in read.into_batches() {
                let batch = batch.map_err(Error::fatal)?;
                self.learn(&batch)?;
                next = batch.next_offset().max(next);
            }
            if next == before && lost.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn learn(&self, batch: &Batch) -> Result<()> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut entries = self.entries.lock();
        for record in batch.records().map_err(Error::fatal)?.iter() {
            let record = record.map_err(Error::fatal)?;
            if let Some(key) = record.key {
                change(&mut entries, record.offset, text(key), record.value.map(text));
            }
        }
        Ok(())
    }
}

fn change(entries: &mut BTreeMap<String, Entry>, offset: Offset, key: String, value: Option<String>) {
    if entries.get(&key).is_some_and(|entry| entry.offset > offset) {
        return;
    }
    match value {
        Some(value) => entries.insert(key, Entry { offset, value }),
        None => entries.remove(&key),
    };
}
