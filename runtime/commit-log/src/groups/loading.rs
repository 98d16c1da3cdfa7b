//! What the log says of groups, read once at the start.

use std::sync::Arc;

use aqueduct_api::{Error, Isolation, Marker, Result, TopicSettings};
use aqueduct_record::Batch;
use parking_lot::Mutex;

use super::transacting::wait;
use super::{Groups, TOPIC};
use crate::group_records::{self as records, Key};
use crate::topic::Registry;
use crate::undecided::Waiting;

/// Bytes read at once when the offsets are loaded.
const LOADED_AT_ONCE: usize = 1 << 20;

impl Groups {
    /// Loads what was committed. Blocks.
    pub(crate) fn load(registry: &Arc<Registry>, runtime: tokio::runtime::Handle) -> Result<Self> {
        let partition = match registry.topic(TOPIC) {
            Ok(topic) => topic.partitions.first().cloned(),
            Err(_) => {
                registry.create(TOPIC, 1, &TopicSettings::table())?;
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
}
