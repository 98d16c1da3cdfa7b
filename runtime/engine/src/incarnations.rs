//! Incarnations of topics: how often the topic of a name was made anew or given more partitions. A key's records come to
//! another partition, at lower offsets, when that happens; the incarnation tells which of two records is newer all the
//! same. Where one ends is noted durably before any record of the next is delivered.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Error, Result, Store, Topic, TopicId, TopicPartition};
use aqueduct_record::Offset;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::host::Host;
use crate::table::{Change, Table};

/// The incarnations of all topics that sinks deliver.
pub(crate) struct Incarnations {
    /// By the topic's name.
    noted: Mutex<BTreeMap<String, Noted>>,
    settled: Notify,
    /// Growth is noted by one at a time.
    noting: tokio::sync::Mutex<()>,
    runtime: Handle,
}

struct Noted {
    history: History,
    /// Whether ends are being noted: what is cut meanwhile could reach past them.
    is_growing: bool,
}

/// What there was of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct History {
    topic: TopicId,
    /// The topic's first incarnation: that after the last one of the topic which had the name before.
    since: u16,
    partitions: i32,
    /// Each time that it was given more partitions: where those ended that it had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ends: Vec<Vec<Offset>>,
}

impl Incarnations {
    /// Reads what was noted. To be opened on the engine's runtime.
    pub(crate) fn open(settings: &Table) -> Result<Incarnations> {
        let mut noted = BTreeMap::new();
        for (key, value) in settings.with_prefix(PREFIX) {
            let history = serde_json::from_str(&value).map_err(|cause| Error::fatal(format!("{key}: {cause}")))?;
            noted.insert(key[PREFIX.len()..].to_owned(), Noted { history, is_growing: false });
        }
        let (noted, runtime) = (Mutex::new(noted), Handle::current());
        Ok(Incarnations { noted, settled: Notify::new(), noting: tokio::sync::Mutex::default(), runtime })
    }

    /// The incarnation of a partition's record at `offset`, and where the next one begins, if that is known. Waits while
    /// that is being noted.
    pub(crate) async fn at(&self, topic: &Topic, of: &TopicPartition, offset: Offset) -> Result<(u16, Option<Offset>)> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            match self.noted.lock().get(&*topic.name) {
                Some(noted) if noted.history.topic != topic.id => {
                    return Err(Error::retry(format!("{} is another topic now", topic.name)));
                }
                Some(noted) if !noted.is_growing => return noted.history.at(of.partition, offset),
                Some(_) => {}
                None => return Err(Error::retry(format!("the incarnation of {} is not noted yet", topic.name))),
            }
            settled.await;
        }
    }

    fn knows(&self, topic: &Topic) -> bool {
        self.noted.lock().get(&*topic.name).is_some_and(|noted| noted.history.is_of(topic))
    }

    /// Says that where a topic's partitions end is being noted; the answer ends that when it is dropped.
    fn growing(&self, name: &str) -> Growing<'_> {
        if let Some(noted) = self.noted.lock().get_mut(name) {
            noted.is_growing = true;
        }
        Growing { incarnations: self, name: name.to_owned() }
    }
}

impl Host {
    /// Notes what became of topics: those that are new, were made anew or have more partitions. To be called before
    /// anything of those is delivered, and soon after it happened: records that came before this call count as earlier.
    pub(crate) async fn note_incarnations(self: &Arc<Self>, topics: &[Topic]) -> Result<()> {
        let new = topics.iter().filter(|topic| !self.incarnations.knows(topic));
        let new: Vec<String> = new.map(|topic| topic.name.to_string()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let host = self.clone();
        // On the engine's runtime: the thread of a connector may come to a halt, and others wait for this.
        let noting = self.incarnations.runtime.spawn(async move { host.note_now(&new).await });
        noting.await.map_err(|cause| Error::fatal(format!("note incarnations: {cause}")))?
    }

    /// Notes that a topic has more partitions now, where one that delivers it has noted those it had.
    pub(crate) async fn note_growth(self: &Arc<Self>, topic: &Topic) -> Result<()> {
        let is_noted = self.incarnations.noted.lock().contains_key(&*topic.name);
        if is_noted { self.note_incarnations(std::slice::from_ref(topic)).await } else { Ok(()) }
    }

    async fn note_now(&self, names: &[String]) -> Result<()> {
        let incarnations = &self.incarnations;
        let _noting = incarnations.noting.lock().await;
        // Asked here, so that of two that note the later one knows more.
        for topic in self.store.topics().await?.iter().filter(|topic| names.iter().any(|name| **name == *topic.name)) {
            let before = incarnations.noted.lock().get(&*topic.name).map(|noted| noted.history.clone());
            if before.as_ref().is_some_and(|before| before.is_of(topic)) {
                continue;
            }
            let _growing = incarnations.growing(&topic.name);
            let history = History::next(before, topic, &self.store).await?;
            self.settings.put(&self.lease, vec![history.change(&topic.name)?]).await?;
            tracing::info!(topic = &*topic.name, incarnation = history.last(), "a topic's incarnation was noted");
            incarnations.noted.lock().insert(topic.name.to_string(), Noted { history, is_growing: true });
        }
        Ok(())
    }
}

struct Growing<'a> {
    incarnations: &'a Incarnations,
    name: String,
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if let Some(noted) = self.incarnations.noted.lock().get_mut(&self.name) {
            noted.is_growing = false;
        }
        self.incarnations.settled.notify_waiters();
    }
}

const PREFIX: &str = "incarnation-";

impl History {
    /// What there is now, after what there was before.
    async fn next(before: Option<History>, topic: &Topic, store: &Arc<dyn Store>) -> Result<History> {
        let first = |since| History { topic: topic.id, since, partitions: topic.partitions, ends: Vec::new() };
        let Some(before) = before else { return Ok(first(1)) };
        if before.topic != topic.id {
            return Ok(first(after(before.last())?));
        }
        let mut ends = before.ends;
        let mut now = Vec::new();
        for partition in 0..before.partitions {
            // Synced: what a crash takes back is not before the end, and its offsets are used again after it.
            now.push(store.sync(&TopicPartition::new(topic.name.clone(), partition)).await?);
        }
        ends.push(now);
        Ok(History { partitions: topic.partitions, ends, ..before })
    }

    fn is_of(&self, topic: &Topic) -> bool {
        self.topic == topic.id && self.partitions >= topic.partitions
    }

    fn last(&self) -> u16 {
        self.since.saturating_add(u16::try_from(self.ends.len()).unwrap_or(u16::MAX))
    }

    fn at(&self, partition: i32, offset: Offset) -> Result<(u16, Option<Offset>)> {
        let mut incarnation = self.since;
        if mutated(Mutant::SameIncarnation) {
            return Ok((1, None));
        }
        for ends in &self.ends {
            match ends.get(partition as usize) {
                Some(end) if offset < *end => return Ok((incarnation, Some(*end))),
                _ => incarnation = after(incarnation)?,
            }
        }
        Ok((incarnation, None))
    }

    fn change(&self, name: &str) -> Result<Change> {
        Ok((format!("{PREFIX}{name}"), Some(serde_json::to_string(self).map_err(Error::fatal)?)))
    }
}

fn after(incarnation: u16) -> Result<u16> {
    incarnation.checked_add(1).ok_or_else(|| Error::fatal("a topic was made anew or grown more than 65535 times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_stays_and_offsets_belong_to_incarnations() {
        let text = r#"{"topic":"AAAAAAAAAAAAAAAAAAAABw","since":3,"partitions":4,"ends":[[10],[10,5]]}"#;
        let history: History = serde_json::from_str(text).unwrap();
        assert_eq!(history.change("t").unwrap(), ("incarnation-t".into(), Some(text.into())));
        for (partition, offset, expected) in [
            (0, 0, (3, Some(10))),
            (0, 9, (3, Some(10))),
            (0, 10, (5, None)),
            (1, 0, (4, Some(5))),
            (1, 5, (5, None)),
            (2, 0, (5, None)),
            (3, 0, (5, None)),
        ] {
            assert_eq!(history.at(partition, offset).unwrap(), expected, "{partition} {offset}");
        }
    }
}
