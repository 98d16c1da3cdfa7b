//! The partitions that a client follows, and which of them a fetch has to look at: those that moved, that the client asked
//! for anew, and that it was told records or an error of. The others cost nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use uuid::Uuid;

/// A topic as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Named {
    Name(Arc<str>),
    Id(Uuid),
}

/// Partitions in the order in which they are looked at. `S` is what who looks keeps of each.
#[derive(Debug, Default)]
pub(crate) struct Following<S> {
    all: Vec<Option<Followed<S>>>,
    marks: HashMap<(Named, i32), u32>,
    free: Vec<u32>,
    /// Those to look at, first come first served; a mark whose partition is not due any more is passed.
    due: VecDeque<u32>,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Followed<S> {
    pub(crate) topic: Named,
    pub(crate) partition: i32,
    pub(crate) wanted: Wanted,
    pub(crate) state: S,
    told: Option<Told>,
    is_due: bool,
}

/// What a client wants of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) offset: i64,
    pub(crate) most: usize,
    /// The leader epoch that the client knows; -1: none.
    pub(crate) epoch: i32,
}

/// How far a partition has come, as a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) stable: i64,
    pub(crate) start: i64,
}

/// What a fetch found of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It can not be read.
    Failed,
    /// Records of it are sent.
    Records(Told),
    /// There are some, but none of them fits.
    Waits(Told),
    /// There are none.
    Nothing(Told),
}

impl<S: Default> Following<S> {
    /// Follows what a request names from now on as it says there, and no more what it forgets.
    pub(crate) fn update(&mut self, topics: Vec<FetchTopic>, forgotten: Vec<ForgottenTopic>, by_id: bool) {
        for topic in topics {
            let name = Named::new(&topic.topic, topic.topic_id, by_id);
            for partition in topic.partitions {
                self.follow(name.clone(), &partition);
            }
        }
        for topic in forgotten {
            let name = Named::new(&topic.topic, topic.topic_id, by_id);
            for partition in topic.partitions {
                self.forget(name.clone(), partition);
            }
        }
    }

    fn follow(&mut self, topic: Named, asked: &FetchPartition) {
        let wanted = Wanted {
            offset: asked.fetch_offset,
            most: asked.partition_max_bytes.max(0) as usize,
            epoch: asked.current_leader_epoch,
        };
        let partition = asked.partition;
        let mark = match self.marks.get(&(topic.clone(), partition)).copied() {
            Some(mark) => {
                if let Some(followed) = self.get_mut(mark) {
                    followed.wanted = wanted;
                }
                mark
            }
            None => {
                let state = S::default();
                let key = (topic.clone(), partition);
                let followed = Followed { topic, partition, wanted, state, told: None, is_due: false };
                let mark = self.free.pop().unwrap_or(self.all.len() as u32);
                match self.all.get_mut(mark as usize) {
                    Some(slot) => *slot = Some(followed),
                    None => self.all.push(Some(followed)),
                }
                self.marks.insert(key, mark);
                mark
            }
        };
        self.moved(mark);
    }

    fn forget(&mut self, topic: Named, partition: i32) {
        let Some(mark) = self.marks.remove(&(topic, partition)) else { return };
        self.all[mark as usize] = None;
        self.free.push(mark);
    }
}

impl<S> Following<S> {
    /// How many partitions are followed.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn get(&self, mark: u32) -> Option<&Followed<S>> {
        self.all.get(mark as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, mark: u32) -> Option<&mut Followed<S>> {
        self.all.get_mut(mark as usize)?.as_mut()
    }

    /// A partition is to be looked at.
    pub(crate) fn moved(&mut self, mark: u32) {
        if let Some(followed) = self.get_mut(mark).filter(|followed| !followed.is_due) {
            followed.is_due = true;
            self.due.push_back(mark);
        }
    }

    /// All partitions are to be looked at.
    pub(crate) fn all_moved(&mut self) {
        (0..self.all.len() as u32).for_each(|mark| self.moved(mark));
    }

    /// Whether any is to be looked at.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes those that are to be looked at now, in their turn.
    pub(crate) fn take_due(&mut self) -> VecDeque<u32> {
        let mut due = std::mem::take(&mut self.due);
        due.retain(|mark| self.get_mut(*mark).is_some_and(|followed| std::mem::take(&mut followed.is_due)));
        due
    }

    /// Notes what a fetch found of a partition, and says whether its client is told: of an error or records always, else
    /// where it has come further than it was told. What may have more for the next fetch is looked at again, last of all.
    pub(crate) fn found(&mut self, mark: u32, outcome: Outcome) -> bool {
        let Some(followed) = self.get_mut(mark) else { return false };
        let (told, is_said) = match outcome {
            Outcome::Failed => (None, true),
            Outcome::Records(told) => (Some(told), true),
            Outcome::Waits(told) | Outcome::Nothing(told) => (Some(told), followed.told != Some(told)),
        };
        followed.told = told;
        if !matches!(outcome, Outcome::Nothing(_)) {
            self.moved(mark);
        }
        is_said
    }
}

impl Named {
    fn new(name: &str, id: Uuid, by_id: bool) -> Self {
        if by_id { Named::Id(id) } else { Named::Name(name.into()) }
    }
}

#[cfg(test)]
mod tests;
