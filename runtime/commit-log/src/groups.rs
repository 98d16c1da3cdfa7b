//! How far each group has come, in the record format of Kafka's `__consumer_offsets`.
//!
//! ```text
//! key    version i16 = 1 | group string | topic string | partition i32
//! value  version i16 = 3 | offset i64 | leader epoch i32 | metadata string | time of the commit i64; null: forgotten
//! ```
//!
//! A string is its length as i16 and its bytes (Kafka's `OffsetCommitKey.json` and `OffsetCommitValue.json`).

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{
    At, CleanupPolicy, Committed, Durability, Error, Result, Span, Token, TopicPartition, TopicSettings,
};
use aqueduct_record::{Batch, BatchBuilder};
use parking_lot::Mutex;

use crate::partition::Partition;
use crate::topic::Registry;

pub(crate) const TOPIC: &str = "__consumer_offsets";
const LONGEST_METADATA: usize = 4096;
const LONGEST_GROUP: usize = i16::MAX as usize;
/// Bytes read at once when the offsets are loaded.
const LOADED_AT_ONCE: usize = 1 << 20;

/// The groups and where they are.
pub(crate) struct Groups {
    partition: Arc<Partition>,
    registry: Arc<Registry>,
    /// Where commits are seen through to their end, whoever stops waiting for them.
    runtime: tokio::runtime::Handle,
    groups: Mutex<BTreeMap<String, Arc<Group>>>,
}

/// One group. Who has the turn decides who may commit, and no other commit is under way meanwhile.
#[derive(Default)]
struct Group {
    turn: Arc<tokio::sync::Mutex<i32>>,
    committed: Mutex<BTreeMap<TopicPartition, Committed>>,
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
        let groups = Groups { partition, registry: registry.clone(), runtime, groups: Mutex::default() };
        groups.read_all()?;
        Ok(groups)
    }

    fn read_all(&self) -> Result<()> {
        let mut offset = self.partition.start();
        loop {
            let found = self.partition.read(offset, LOADED_AT_ONCE)?;
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
        if batch.header().attributes.is_control() {
            return Ok(());
        }
        let mut records = batch.records().map_err(|cause| Error::retry(cause).context(TOPIC))?;
        while let Some(record) = records.next() {
            let record = record.map_err(|cause| Error::retry(cause).context(TOPIC))?;
            let Some((group, of)) = record.key.and_then(parse_key) else { continue };
            let group = self.group(&group);
            match record.value.map(parse_value) {
                Some(Some(committed)) => drop(group.committed.lock().insert(of, committed)),
                Some(None) => {
                    tracing::warn!(topic = TOPIC, offset = record.offset, "a committed offset makes no sense")
                }
                None => drop(group.committed.lock().remove(&of)),
            }
        }
        Ok(())
    }

    fn group(&self, name: &str) -> Arc<Group> {
        let mut groups = self.groups.lock();
        match groups.get(name) {
            Some(group) => group.clone(),
            None => groups.entry(name.to_owned()).or_default().clone(),
        }
    }

    /// Assigns the group to the caller, once no commit of it is under way.
    pub(crate) async fn join(&self, name: &str) -> Result<Token> {
        if name.is_empty() || name.len() > LONGEST_GROUP {
            return Err(Error::refused(format!("a group's name has 1 to {LONGEST_GROUP} bytes, not {}", name.len())));
        }
        let group = self.group(name);
        let mut generation = group.turn.lock().await;
        *generation += 1;
        Ok(Token { group: name.to_owned(), generation: *generation })
    }

    pub(crate) fn committed(&self, name: &str) -> BTreeMap<TopicPartition, Committed> {
        let group = self.groups.lock().get(name).cloned();
        group.map(|group| group.committed.lock().clone()).unwrap_or_default()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let groups = self.groups.lock();
        let named = groups.iter().filter(|(_, group)| !group.committed.lock().is_empty());
        named.map(|(name, _)| name.clone()).collect()
    }

    /// Commits, durably, all or nothing.
    pub(crate) async fn commit(&self, token: &Token, offsets: Vec<(TopicPartition, Option<Committed>)>) -> Result<()> {
        let depends_on = self.check(&offsets)?;
        let group = self.group(&token.group);
        let generation = group.turn.clone().lock_owned().await;
        if *generation != token.generation && !fault::mutated(Mutant::CommitAfterRevocation) {
            return Err(Error::fatal(format!(
                "group `{}` was assigned to somebody else: its generation is {}, this commit's {}",
                token.group, *generation, token.generation
            )));
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let batch = to_batch(&token.group, &offsets, self.partition.shared.edge.now())?;
        let partition = self.partition.clone();
        // Seen through even where nobody waits any more: else the next owner would read an older state than the log has.
        let commit = self.runtime.spawn(async move {
            for partition in depends_on {
                partition.sync().await?;
            }
            fault::point("commit");
            let appended = partition.append(batch, At::End).await?;
            appended.durable.await?;
            let mut committed = group.committed.lock();
            for (of, offset) in offsets {
                match offset {
                    Some(offset) => drop(committed.insert(of, offset)),
                    None => drop(committed.remove(&of)),
                }
            }
            drop(generation);
            Ok(())
        });
        commit
            .await
            .unwrap_or_else(|_| Err(Error::retry(format!("the log ended before group `{}` committed", token.group))))
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

fn to_batch(group: &str, offsets: &[(TopicPartition, Option<Committed>)], now: i64) -> Result<Batch> {
    let mut builder = BatchBuilder::new();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for (of, committed) in offsets {
        key.clear();
        key.extend_from_slice(&1i16.to_be_bytes());
        put_text(&mut key, group)?;
        put_text(&mut key, &of.topic)?;
        key.extend_from_slice(&of.partition.to_be_bytes());
        let value = match committed {
            Some(committed) => {
                value.clear();
                value.extend_from_slice(&3i16.to_be_bytes());
                value.extend_from_slice(&committed.offset.to_be_bytes());
                value.extend_from_slice(&committed.leader_epoch.to_be_bytes());
                put_text(&mut value, &committed.metadata)?;
                value.extend_from_slice(&now.to_be_bytes());
                Some(&value[..])
            }
            None => None,
        };
        builder.push(now, Some(&key), value, &[]);
    }
    Ok(builder.finish())
}

fn put_text(to: &mut Vec<u8>, text: &str) -> Result<()> {
    let length = i16::try_from(text.len())
        .map_err(|_| Error::refused(format!("a text of {} bytes can not be committed", text.len())))?;
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Takes fields off the front of a key or a value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(i16::from_be_bytes(self.take()?)).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

/// The group and partition of a key; `None` for keys of other things, such as a group's members.
fn parse_key(key: &[u8]) -> Option<(String, TopicPartition)> {
    let mut fields = Fields(key);
    let version = i16::from_be_bytes(fields.take()?);
    if !(0..=1).contains(&version) {
        return None;
    }
    let group = fields.text()?.to_owned();
    let topic = fields.text()?;
    Some((group, TopicPartition::new(topic, i32::from_be_bytes(fields.take()?))))
}

/// What a value of version 0 to 3 says.
fn parse_value(value: &[u8]) -> Option<Committed> {
    let mut fields = Fields(value);
    let version = i16::from_be_bytes(fields.take()?);
    if !(0..=3).contains(&version) {
        return None;
    }
    let offset = i64::from_be_bytes(fields.take()?);
    let leader_epoch = if version == 3 { i32::from_be_bytes(fields.take()?) } else { -1 };
    let metadata = fields.text()?.to_owned();
    Some(Committed { offset, leader_epoch, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(batch: &Batch) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let records = batch.records().unwrap();
        let all = records.iter().map(|record| record.unwrap());
        all.map(|record| (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn commits_have_the_bytes_that_kafka_writes() {
        let committed = Committed { offset: 258, leader_epoch: 3, metadata: "m".into() };
        let of = TopicPartition::new("t", 5);
        let batch = to_batch("g", &[(of.clone(), Some(committed.clone())), (of.clone(), None)], 7).unwrap();
        let key = b"\0\x01\0\x01g\0\x01t\0\0\0\x05".to_vec();
        let value = b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x03\0\x01m\0\0\0\0\0\0\0\x07".to_vec();
        assert_eq!(records(&batch), [(key.clone(), Some(value.clone())), (key.clone(), None)]);
        assert_eq!(parse_key(&key), Some(("g".into(), of)));
        assert_eq!(parse_value(&value), Some(committed));
    }

    #[test]
    fn older_values_are_read_and_other_keys_are_left() {
        let old = b"\0\x01\0\0\0\0\0\0\0\x09\0\x02mm\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(parse_value(old), Some(Committed { offset: 9, leader_epoch: -1, metadata: "mm".into() }));
        assert_eq!(parse_key(b"\0\x02\0\x01g"), None);
        for length in 0..20 {
            assert_eq!(parse_value(&old[..length.min(11)]), None);
        }
    }
}
