//! A store in memory. An append is synced a millisecond later, unless syncs are stuck; a crash forgets what is not synced
//! and raises the leader epoch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{
    Committed, Durability, Error, Groups, Hold, Result, Token, Topic, TopicId, TopicPartition, TopicSettings, Topics,
};
use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Switch;

#[derive(Clone)]
pub struct Memory {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) changed: Arc<watch::Sender<u64>>,
    pub faults: Arc<Faults>,
}

/// What goes wrong.
#[derive(Default)]
pub struct Faults {
    /// Appends to topics that do not begin with `__` are refused for now.
    pub full: Switch,
    /// Nothing becomes durable in topics that do not begin with `__`.
    pub stuck: Switch,
    /// Whoever asks for a sync of topics that do not begin with `__` waits for ever.
    pub syncs_hang: Switch,
    /// Deleting a topic forgets what was committed for it.
    pub forgets: Switch,
    /// The next sync fails, once.
    pub sync_fails: Switch,
    /// Commits fail for now.
    pub no_commits: Switch,
    /// That a sink has started can not be written for now.
    pub not_started: Switch,
    /// The topic that can not be changed for now.
    pub unalterable: Mutex<Option<String>>,
}

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) topics: BTreeMap<String, (Topic, Vec<Part>)>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) ids: u128,
    pub(super) epoch: i32,
    pub(super) holds: BTreeMap<u64, (TopicPartition, Offset, String)>,
    pub(super) hold_ids: u64,
}

#[derive(Clone, Default)]
pub(super) struct Group {
    pub(super) generation: i32,
    pub(super) committed: BTreeMap<TopicPartition, Committed>,
}

#[derive(Clone, Default)]
pub(super) struct Part {
    pub(super) start: Offset,
    pub(super) batches: Vec<Batch>,
    pub(super) synced: Offset,
    pub(super) lost: Vec<std::ops::Range<Offset>>,
    pub(super) end: Offset,
    /// Readers need not wait for a sync, nor does anybody else.
    pub(super) lazy: bool,
    /// How often a failed sync took something away.
    pub(super) failures: u64,
}

impl Part {
    pub(super) fn stable(&self) -> Offset {
        if self.lazy { self.end } else { self.synced }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory { state: Arc::default(), changed: Arc::new(watch::channel(0).0), faults: Arc::default() }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        for (name, (_, parts)) in &state.topics {
            for (partition, part) in parts.iter().enumerate() {
                writeln!(f, "{name}-{partition}: {}..{} synced {}", part.start, part.end, part.synced)?;
            }
        }
        for (name, group) in &state.groups {
            writeln!(f, "{name} {}: {:#?}", group.generation, group.committed)?;
        }
        Ok(())
    }
}

impl Memory {
    /// What is there after a crash.
    pub fn crash(&self) -> Memory {
        let mut state = self.state.lock().clone();
        for (_, parts) in state.topics.values_mut() {
            for part in parts {
                let synced = part.synced;
                part.batches.retain(|batch| batch.next_offset() <= synced);
                part.end = part.synced;
            }
        }
        state.epoch += 1;
        state.holds.clear();
        Memory { state: Arc::new(Mutex::new(state)), ..Memory::default() }
    }

    /// Values of all records of a partition, with header `name` where one is given.
    pub fn records(&self, of: &TopicPartition) -> Vec<Kept> {
        let state = self.state.lock();
        let Some((_, parts)) = state.topics.get(&*of.topic) else { return Vec::new() };
        let mut kept = Vec::new();
        for batch in &parts[of.partition as usize].batches {
            for record in batch.records().unwrap().iter() {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                kept.push(Kept {
                    offset: record.offset,
                    key: record.key.map(text),
                    value: record.value.map(text),
                    headers: record.headers.iter().map(|(name, value)| (name.into(), value.map(text))).collect(),
                });
            }
        }
        kept
    }

    /// How many partitions a topic has, if it is there.
    pub fn partitions(&self, topic: &str) -> Option<i32> {
        self.state.lock().topics.get(topic).map(|(topic, _)| topic.partitions)
    }

    pub fn committed_now(&self, group: &str, of: &TopicPartition) -> Option<Committed> {
        self.state.lock().groups.get(group)?.committed.get(of).cloned()
    }

    pub fn set_committed(&self, group: &str, of: &TopicPartition, committed: Option<Committed>) {
        let mut state = self.state.lock();
        let all = &mut state.groups.entry(group.to_owned()).or_default().committed;
        match committed {
            Some(committed) => all.insert(of.clone(), committed),
            None => all.remove(of),
        };
    }

    /// Where records are held from, by holder.
    pub fn held(&self, of: &TopicPartition) -> Vec<(String, Offset)> {
        let state = self.state.lock();
        let holds = state.holds.values().filter(|(held, ..)| held == of);
        holds.map(|(_, offset, holder)| (holder.clone(), *offset)).collect()
    }

    /// Makes a range unreadable.
    pub fn damage(&self, of: &TopicPartition, range: std::ops::Range<Offset>) {
        self.with(of, |part, _| part.lost.push(range)).unwrap();
    }

    /// Has a failed sync of the past take away what nobody misses.
    pub fn give_back(&self, of: &TopicPartition) {
        self.with(of, |part, _| part.failures += 1).unwrap();
    }

    /// Cuts a partition's end off.
    pub fn cut(&self, of: &TopicPartition, end: Offset) {
        let cut = |part: &mut Part, _: i32| {
            part.batches.retain(|batch| batch.next_offset() <= end);
            (part.end, part.synced) = (end, end);
        };
        self.with(of, cut).unwrap();
    }

    pub(super) fn with<T>(&self, of: &TopicPartition, body: impl FnOnce(&mut Part, i32) -> T) -> Result<T> {
        let mut state = self.state.lock();
        let epoch = state.epoch;
        let part = state.topics.get_mut(&*of.topic).and_then(|(_, parts)| parts.get_mut(of.partition as usize));
        part.map(|part| body(part, epoch)).ok_or_else(|| Error::refused(format!("no partition {of}")))
    }

    pub(super) fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A record as a test looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub offset: Offset,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
}

impl Kept {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name)?.1.as_deref()
    }
}

#[async_trait]
impl Topics for Memory {
    async fn topics(&self) -> Result<Vec<Topic>> {
        Ok(self.state.lock().topics.values().map(|(topic, _)| topic.clone()).collect())
    }

    async fn create(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let mut state = self.state.lock();
        if state.topics.contains_key(name) {
            return Err(Error::refused(format!("topic {name} is there already")));
        }
        state.ids += 1;
        let topic = Topic { name: name.into(), id: TopicId(state.ids), partitions, settings: settings.clone() };
        let part = Part { lazy: settings.durability != Durability::Fsync, ..Part::default() };
        state.topics.insert(name.into(), (topic.clone(), vec![part; partitions as usize]));
        Ok(topic)
    }

    async fn alter(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        if self.faults.unalterable.lock().as_deref() == Some(name) {
            return Err(Error::retry("no changes today"));
        }
        let mut state = self.state.lock();
        let (topic, parts) = state.topics.get_mut(name).ok_or_else(|| Error::refused(format!("no topic {name}")))?;
        if partitions < topic.partitions {
            return Err(Error::refused("a topic never shrinks"));
        }
        let part = Part { lazy: settings.durability != Durability::Fsync, ..Part::default() };
        parts.iter_mut().for_each(|old| old.lazy = part.lazy);
        parts.resize(partitions as usize, part);
        topic.partitions = partitions;
        topic.settings = settings.clone();
        Ok(topic.clone())
    }

    async fn delete(&self, name: &str, _: bool) -> Result<()> {
        let mut state = self.state.lock();
        state.holds.retain(|_, (of, ..)| *of.topic != *name);
        if self.faults.forgets.is_on() {
            state.groups.values_mut().for_each(|group| group.committed.retain(|of, _| *of.topic != *name));
        }
        let gone = state.topics.remove(name);
        gone.map(drop).ok_or_else(|| Error::refused(format!("no topic {name}")))
    }

    async fn hold(&self, of: &TopicPartition, offset: Offset, holder: &str) -> Result<Hold> {
        let mut state = self.state.lock();
        state.hold_ids += 1;
        let id = state.hold_ids;
        state.holds.insert(id, (of.clone(), offset, holder.to_owned()));
        let shared = self.state.clone();
        Ok(Hold::new(move |offset| {
            let mut state = shared.lock();
            match offset {
                Some(offset) => {
                    if let Some(hold) = state.holds.get_mut(&id) {
                        hold.1 = offset;
                    }
                }
                None => {
                    state.holds.remove(&id);
                }
            }
        }))
    }
}

#[async_trait]
impl Groups for Memory {
    async fn join(&self, group: &str) -> Result<Token> {
        let mut state = self.state.lock();
        let found = state.groups.entry(group.to_owned()).or_default();
        found.generation += 1;
        Ok(Token::new(group, found.generation))
    }

    async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>> {
        Ok(self.state.lock().groups.get(group).map(|group| group.committed.clone()).unwrap_or_default())
    }

    async fn commit(&self, token: &Token, offsets: Vec<(TopicPartition, Option<Committed>)>) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.faults.no_commits.is_on() {
            return Err(Error::retry("no commits today"));
        }
        let mut state = self.state.lock();
        if let Some((of, _)) = offsets.iter().find(|(of, _)| !state.topics.contains_key(&*of.topic)) {
            return Err(Error::refused(format!("no partition {of}")));
        }
        let group = state.groups.entry(token.group.clone()).or_default();
        if group.generation != token.generation {
            return Err(Error::fatal(format!("token {} of {} is void", token.generation, token.group)));
        }
        for (of, committed) in offsets {
            match committed {
                Some(committed) => group.committed.insert(of, committed),
                None => group.committed.remove(&of),
            };
        }
        Ok(())
    }

    async fn groups(&self) -> Result<Vec<String>> {
        Ok(self.state.lock().groups.keys().cloned().collect())
    }
}
