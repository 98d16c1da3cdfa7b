//! Somebody who reads the log all the time and forgets nothing: what was readable once must stay as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::{Durability, Hold, Isolation, POSITION_HEADER, Result, Store, TopicPartition};
use aqueduct_record::{Batch, Offset, crc32c};
use bytes::Bytes;

use crate::life::{Time, Trace};
use crate::world::{LineId, identify};

/// A record as it was first seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    #[expect(dead_code, reason = "told when a place held two records")]
    epoch: i32,
    checksum: u32,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

/// All that was ever readable.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) partitions: BTreeMap<(String, i32), BTreeMap<Offset, Seen>>,
    /// Checksums by offset and epoch, of what an unclean start lost too: one place is one record for ever.
    places: BTreeMap<(String, i32), BTreeMap<(Offset, i32), u32>>,
    /// Lines of the application that are in the log, and where.
    pub(crate) lines: BTreeMap<LineId, Vec<(String, i32, Offset)>>,
    /// Dead-letter topics.
    pub(crate) dead_letters: BTreeSet<String>,
}

/// How far a partition was read in this life.
pub(crate) struct Followed {
    next: Offset,
    /// From here on a failed sync may make offsets void that could be read.
    floor: Offset,
    epoch: i32,
    given_back: u64,
    hold: Hold,
}

/// Reads in one life of the machine.
pub(crate) struct Observer {
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) time: Arc<Time>,
    pub(crate) trace: Arc<Trace>,
}

impl Memory {
    /// Forgets what an unclean start lost of a topic that is not synced.
    fn forget(&mut self, of: &(String, i32), from: Offset) {
        let Some(records) = self.partitions.get_mut(of) else { return };
        for (offset, seen) in records.split_off(&from) {
            if let Some(line) = seen.value.as_deref().and_then(identify)
                && let Some(places) = self.lines.get_mut(&line)
            {
                places.retain(|(topic, partition, place)| (topic, partition, place) != (&of.0, &of.1, &offset));
                if places.is_empty() {
                    self.lines.remove(&line);
                }
            }
        }
    }
}

impl Observer {
    /// Reads all user topics until the life ends.
    pub(crate) async fn watch(self, store: Arc<dyn Store>, mut followed: BTreeMap<TopicPartition, Followed>) {
        loop {
            if let Err(error) = self.round(&*store, &mut followed).await {
                self.trace.event(&self.time, format!("observer: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    /// Reads what a life begins with, before anything is added to it: all of it is synced.
    pub(crate) async fn recovered(&self, store: &dyn Store) -> Result<BTreeMap<TopicPartition, Followed>> {
        let mut followed = BTreeMap::new();
        self.round(store, &mut followed).await?;
        followed.values_mut().for_each(|known| known.floor = known.next);
        Ok(followed)
    }

    /// Reads what is there, and keeps from retention what it has not read yet.
    async fn round(&self, store: &dyn Store, followed: &mut BTreeMap<TopicPartition, Followed>) -> Result<()> {
        for topic in store.topics().await? {
            if topic.is_internal() {
                continue;
            }
            if topic.settings.dead_letters {
                self.memory.lock().unwrap().dead_letters.insert(topic.name.to_string());
            }
            for partition in topic.all_partitions() {
                let durability = topic.settings.durability;
                if !followed.contains_key(&partition) {
                    let start = self.resume(store, &partition, durability).await?;
                    let hold = store.hold(&partition, start, "observer").await?;
                    let fresh = Followed { next: start, floor: start, epoch: -1, given_back: 0, hold };
                    followed.insert(partition.clone(), fresh);
                }
                let known = followed.get_mut(&partition).expect("it was just inserted");
                self.follow(store, &partition, known, durability).await?;
                if durability == Durability::Fsync {
                    known.floor = known.next;
                }
                known.hold.advance(known.floor);
            }
        }
        Ok(())
    }

    /// Where reading begins in a new life: at the start of what is kept, to see it again.
    async fn resume(&self, store: &dyn Store, of: &TopicPartition, durability: Durability) -> Result<Offset> {
        let bounds = store.bounds(of).await?;
        let key = (of.topic.to_string(), of.partition);
        let mut memory = self.memory.lock().unwrap();
        let last = memory.partitions.get(&key).and_then(|records| records.last_key_value()).map(|(last, _)| *last);
        if let Some(last) = last
            && last >= bounds.stable
        {
            if durability == Durability::Fsync {
                self.trace.violated(format!(
                    "{of}: records up to {last} were readable, after the restart it ends at {}",
                    bounds.stable
                ));
            }
            memory.forget(&key, bounds.stable);
        }
        Ok(bounds.start)
    }

    async fn follow(
        &self,
        store: &dyn Store,
        of: &TopicPartition,
        known: &mut Followed,
        durability: Durability,
    ) -> Result<()> {
        let bounds = store.bounds(of).await?;
        if (bounds.leader_epoch, bounds.given_back) != (known.epoch, known.given_back) {
            // Offsets may have been made void, and be used again.
            (known.epoch, known.given_back) = (bounds.leader_epoch, bounds.given_back);
            known.next = known.floor;
            if durability != Durability::Fsync {
                self.memory.lock().unwrap().forget(&(of.topic.to_string(), of.partition), bounds.stable);
            }
        }
        while known.next < bounds.stable {
            let read = store.read(of, known.next, 64 << 10, Isolation::Committed).await?;
            if let Some(lost) = read.lost {
                self.lost(of, &lost);
                known.next = lost.end;
                continue;
            }
            let mut rest = read.batches;
            if rest.is_empty() {
                break;
            }
            while let Ok(Some((batch, after))) = Batch::split_first(&rest) {
                self.remember(of, &batch, known.next, durability);
                known.next = known.next.max(batch.next_offset());
                rest = after;
            }
        }
        Ok(())
    }

    fn lost(&self, of: &TopicPartition, lost: &std::ops::Range<Offset>) {
        let key = (of.topic.to_string(), of.partition);
        let memory = self.memory.lock().unwrap();
        let known = memory.partitions.get(&key);
        let unknown = lost.clone().find(|offset| !known.is_some_and(|known| known.contains_key(offset)));
        if let Some(offset) = unknown {
            self.trace.violated(format!("{of}: {lost:?} can not be read, and {offset} never could"));
        }
    }

    fn remember(&self, of: &TopicPartition, batch: &Batch, from: Offset, durability: Durability) {
        let key = (of.topic.to_string(), of.partition);
        let Ok(records) = batch.records() else {
            return self.trace.violated(format!("{of}: the batch at {} can not be read", batch.base_offset()));
        };
        let mut memory = self.memory.lock().unwrap();
        let memory = &mut *memory;
        let known = memory.partitions.entry(key.clone()).or_default();
        let places = memory.places.entry(key.clone()).or_default();
        for record in records.iter() {
            let Ok(record) = record else {
                return self.trace.violated(format!("{of}: a record after {from} can not be read"));
            };
            if record.offset < from || batch.header().attributes.is_control() {
                continue;
            }
            let checksum = crc32c(record.value.unwrap_or_default()) ^ crc32c(record.key.unwrap_or_default());
            let place = (record.offset, batch.leader_epoch());
            let first = *places.entry(place).or_insert(checksum);
            let old = known.get(&record.offset);
            let changed = durability == Durability::Fsync && old.is_some_and(|old| old.checksum != checksum);
            if first != checksum || changed {
                self.trace.violated(format!(
                    "{of}: offset {} held two records, the last under epoch {}: {:?}, before that {old:?}",
                    record.offset,
                    batch.leader_epoch(),
                    record.value.map(String::from_utf8_lossy),
                ));
            }
            if old.is_some_and(|old| old.checksum == checksum) {
                continue;
            }
            if let Some(line) = old.and_then(|old| identify(old.value.as_deref()?))
                && let Some(places) = memory.lines.get_mut(&line)
            {
                places
                    .retain(|(topic, partition, place)| (topic, *partition, *place) != (&key.0, key.1, record.offset));
            }
            let value = record.value.map(Bytes::copy_from_slice);
            if !memory.dead_letters.contains(&key.0)
                && let Some(line) = value.as_deref().and_then(identify)
            {
                memory.lines.entry(line).or_default().push((key.0.clone(), key.1, record.offset));
            }
            let headers = record.headers.without(POSITION_HEADER).iter();
            let headers = headers.map(|(name, value)| (name_of(name), value.map(Bytes::copy_from_slice))).collect();
            known.insert(record.offset, Seen { epoch: batch.leader_epoch(), checksum, value, headers });
        }
    }
}

fn name_of(name: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(name.as_ref()).into_owned()
}
