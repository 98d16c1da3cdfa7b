//! What people do with dead letters: count them by reason, put them where their records were, or leave them be.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::fault::point;
use aqueduct_api::{At, CleanupPolicy, Error, REPLAYED_HEADER, Replayed, Result, Store, Token, Topic, TopicPartition};
use aqueduct_record::{BatchBuilder, Offset, Record, partition_for_key};
use serde::Serialize;

use crate::dead_letters::{self as letters, Said};
use crate::letters::{Progress, Walk, group};

/// How many partitions are appended to between two commits: where they end must fit into a commit.
const MOST_TARGETS: usize = 8;

/// How many reasons are told apart.
const MOST_REASONS: usize = 1000;

/// How much of a reason tells it apart, in characters.
const LONGEST_REASON: usize = 300;

/// A topic of dead letters.
#[derive(Clone, Debug, Serialize)]
pub struct LetterCounts {
    /// Its name.
    pub topic: Arc<str>,
    /// How many it holds.
    pub records: i64,
    /// How many of them were neither replayed nor discarded.
    pub open: u64,
    /// Why those are there, the most frequent reason first.
    pub reasons: Vec<ReasonCount>,
}

/// How many open letters have one reason.
#[derive(Clone, Debug, Serialize)]
pub struct ReasonCount {
    /// How many.
    pub open: u64,
    /// At what stage they failed, in Kafka Connect's words.
    pub stage: String,
    /// The topic that they were in, or were going to.
    pub from: String,
    /// Why, with `#` for numbers.
    pub reason: String,
}

/// What is to be replayed.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Only letters whose reason has this in it.
    pub reason: Option<String>,
    /// Where to; `None`: where each was.
    pub to: Option<String>,
    /// Whether to only say what would be done.
    pub dry_run: bool,
}

/// What was settled.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settled {
    /// How many letters.
    pub letters: u64,
    /// Where they went, by topic; empty where they were discarded.
    pub to: BTreeMap<String, u64>,
    /// How many stay open because they can not be replayed, by why.
    pub left: BTreeMap<String, u64>,
}

/// Counts a topic's open letters by reason.
///
/// # Errors
/// As the log's; `Fatal` where somebody else commits for the group that says what is settled.
pub async fn count_letters(store: &dyn Store, topic: &Topic) -> Result<LetterCounts> {
    let progress = Progress::read(store, topic).await?;
    let of = TopicPartition::new(topic.name.clone(), 0);
    let bounds = store.bounds(&of).await?;
    let mut counts: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    let mut walk = Walk::new(&of, progress.next()..bounds.stable);
    while let Some(batches) = walk.next(store).await? {
        for batch in &batches {
            for record in batch.records().map_err(Error::retry)?.iter() {
                let record = record.map_err(Error::retry)?;
                if !progress.is_open(record.offset) {
                    continue;
                }
                let said = Said::of(record.headers);
                let mut key = (said.stage.to_owned(), said.topic.to_owned(), without_numbers(said.message));
                if counts.len() >= MOST_REASONS && !counts.contains_key(&key) {
                    key.2 = "other reasons".to_owned();
                }
                *counts.entry(key).or_default() += 1;
            }
        }
    }
    let open = counts.values().sum();
    let told = |((stage, from, reason), open)| ReasonCount { open, stage, from, reason };
    let mut reasons: Vec<_> = counts.into_iter().map(told).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.open));
    Ok(LetterCounts { topic: topic.name.clone(), records: bounds.stable - bounds.start, open, reasons })
}

/// Appends open letters to the topics that they were in, as their records were; the sink that had set one aside gets it
/// alone, and every other leaves it out. No two replays or discards of a topic may run at the same time; one that was
/// interrupted is gone on with by the next.
///
/// # Errors
/// As the log's; `Refused` where the topic to replay to is not there.
pub async fn replay_letters(store: &dyn Store, topic: &Topic, replay: &Replay) -> Result<Settled> {
    let of = TopicPartition::new(topic.name.clone(), 0);
    let topics = store.topics().await?;
    if let Some(to) = &replay.to
        && let Err(reason) = fit(&topics, to)
    {
        return Err(Error::refused(reason));
    }
    let end = store.sync(&of).await?;
    let mut progress = Progress::read(store, topic).await?;
    let mut token = None;
    if !replay.dry_run {
        let joined = token.insert(store.join(&group(&topic.name)).await?);
        // What a replay before this one left unsaid is not looked for again.
        progress.commit(store, joined, &[]).await?;
    }
    let mut settled = Settled::default();
    let mut walk = Walk::new(&of, progress.next()..end);
    while let Some(batches) = walk.next(store).await? {
        let mut pages = Pages { topic, topics: &topics, replay, left: BTreeMap::new(), pages: vec![Page::default()] };
        for batch in &batches {
            for record in batch.records().map_err(Error::retry)?.iter() {
                let record = record.map_err(Error::retry)?;
                if record.offset < end && progress.is_open(record.offset) {
                    pages.push(&record);
                }
            }
        }
        let Pages { left, pages, .. } = pages;
        left.into_iter().for_each(|(reason, count)| *settled.left.entry(reason).or_default() += count);
        for page in pages.into_iter().filter(|page| !page.letters.is_empty()) {
            settled.letters += page.letters.len() as u64;
            page.targets.iter().for_each(|(target, builder)| {
                *settled.to.entry(target.topic.to_string()).or_default() += u64::from(builder.count());
            });
            if let Some(token) = &token {
                page.append(store, token, &mut progress).await?;
            }
        }
    }
    Ok(settled)
}

/// Settles open letters without replaying them; they stay in their topic as long as it keeps them.
///
/// # Errors
/// As the log's; `Refused` where letters of other reasons are left open in too many places.
pub async fn discard_letters(store: &dyn Store, topic: &Topic, reason: Option<&str>, dry_run: bool) -> Result<Settled> {
    let of = TopicPartition::new(topic.name.clone(), 0);
    let end = store.sync(&of).await?;
    let mut progress = Progress::read(store, topic).await?;
    let mut doomed = Vec::new();
    let mut walk = Walk::new(&of, progress.next()..end);
    while let Some(batches) = walk.next(store).await? {
        for batch in &batches {
            for record in batch.records().map_err(Error::retry)?.iter() {
                let record = record.map_err(Error::retry)?;
                if record.offset < end && progress.is_open(record.offset) && chosen(&record, reason) {
                    doomed.push(record.offset);
                }
            }
        }
    }
    if !dry_run && !doomed.is_empty() {
        let token = store.join(&group(&topic.name)).await?;
        doomed.iter().for_each(|offset| progress.settle(*offset..offset + 1));
        progress.commit(store, &token, &[]).await?;
        tracing::warn!(topic = &*topic.name, letters = doomed.len(), "dead letters were discarded on purpose");
    }
    Ok(Settled { letters: doomed.len() as u64, ..Settled::default() })
}

/// Letters that are appended between two commits.
#[derive(Default)]
struct Page {
    letters: Vec<Offset>,
    targets: BTreeMap<TopicPartition, BatchBuilder>,
}

impl Page {
    /// Notes where the targets end, appends, and settles: whoever comes after a kill looks from there on for what is
    /// there already.
    async fn append(self, store: &dyn Store, token: &Token, progress: &mut Progress) -> Result<()> {
        let mut after = progress.clone();
        self.letters.iter().for_each(|offset| after.settle(*offset..offset + 1));
        // Nothing is appended that could not be settled.
        after.committed(&[])?;
        let mut ends = Vec::new();
        for target in self.targets.keys() {
            ends.push((target.clone(), store.sync(target).await?));
        }
        progress.commit(store, token, &ends).await?;
        point("deadletter.replay");
        for (target, builder) in self.targets {
            store.append(&target, builder.finish(), At::End).await?.durable().await?;
            store.sync(&target).await?;
            point("deadletter.replay");
        }
        after.commit(store, token, &[]).await?;
        point("deadletter.replay");
        tracing::info!(letters = self.letters.len(), "dead letters were replayed");
        *progress = after;
        Ok(())
    }
}

/// The letters of one read on their way back.
struct Pages<'a> {
    topic: &'a Topic,
    topics: &'a [Topic],
    replay: &'a Replay,
    left: BTreeMap<String, u64>,
    pages: Vec<Page>,
}

impl Pages<'_> {
    fn push(&mut self, record: &Record<'_>) {
        if !chosen(record, self.replay.reason.as_deref()) {
            return;
        }
        let said = Said::of(record.headers);
        let target = match self.target(record, &said) {
            Ok(target) => target,
            Err(reason) => {
                *self.left.entry(reason).or_default() += 1;
                return;
            }
        };
        let replayed = self.replayed(record, &said);
        // It was written by us and is plain data.
        let Ok(replayed) = serde_json::to_vec(&replayed) else { return };
        let own = letters::original_headers(record.headers).filter(|(name, _)| *name != REPLAYED_HEADER);
        let headers: Vec<_> = own.chain([(REPLAYED_HEADER, Some(&replayed[..]))]).collect();
        let is_full = |page: &Page| page.targets.len() >= MOST_TARGETS && !page.targets.contains_key(&target);
        if self.pages.last().is_none_or(is_full) {
            self.pages.push(Page::default());
        }
        if let Some(page) = self.pages.last_mut() {
            page.letters.push(record.offset);
            let builder = page.targets.entry(target).or_default();
            builder.push(record.timestamp, record.key, record.value, &headers);
        }
    }

    /// Where a letter goes, or why it goes nowhere.
    fn target(&self, record: &Record<'_>, said: &Said<'_>) -> Result<TopicPartition, String> {
        let is_empty = record.key.is_none() && record.value.is_none();
        if said.is_lost() || said.offset.is_none() && is_empty {
            return Err("it holds no record, only the reason".to_owned());
        }
        let name = self.replay.to.as_deref().unwrap_or(said.topic);
        let topic = fit(self.topics, name)?;
        // An older record of its key, or a second of one, must not become the last one.
        if topic.settings.cleanup == CleanupPolicy::Compact && self.replay.to.is_none() {
            return Err(format!("topic {name} keeps the last record of each key: replay to another one"));
        }
        let partition = match (said.partition, record.key) {
            (Some(partition), _) if (0..topic.partitions).contains(&partition) => partition,
            (_, Some(key)) => partition_for_key(key, topic.partitions),
            (_, None) => 0,
        };
        Ok(TopicPartition::new(topic.name.clone(), partition))
    }

    fn replayed(&self, record: &Record<'_>, said: &Said<'_>) -> Replayed {
        let own = Replayed {
            topic: said.topic.to_owned(),
            partition: said.partition.unwrap_or_default(),
            offset: said.offset,
            // What a source had set aside was never in the topic: everybody gets it.
            sink: said.offset.filter(|_| self.replay.to.is_none()).map(|_| said.connector.to_owned()),
            letter: (self.topic.id, record.offset),
        };
        match Replayed::of(record.headers) {
            // It was replayed before, and set aside again: it keeps where it was first.
            Some(before) => Replayed { topic: before.topic, partition: before.partition, offset: before.offset, ..own },
            None => own,
        }
    }
}

/// The topic that letters may go to.
fn fit<'a>(topics: &'a [Topic], name: &str) -> Result<&'a Topic, String> {
    match topics.iter().find(|topic| &*topic.name == name) {
        None => Err(format!("there is no topic {name}")),
        Some(topic) if topic.is_internal() => Err(format!("topic {name} belongs to the runtime")),
        Some(topic) if topic.settings.dead_letters => Err(format!("topic {name} holds dead letters")),
        Some(topic) => Ok(topic),
    }
}

fn chosen(record: &Record<'_>, reason: Option<&str>) -> bool {
    let Some(reason) = reason else { return true };
    let message = Said::of(record.headers).message;
    message.contains(reason) || without_numbers(message).contains(reason)
}

/// A reason without what differs from letter to letter.
fn without_numbers(message: &str) -> String {
    let mut told = String::new();
    let mut digits = false;
    for c in message.chars().take(LONGEST_REASON) {
        match c.is_ascii_digit() {
            true if digits => {}
            true => told.push('#'),
            false => told.push(c),
        }
        digits = c.is_ascii_digit();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart_by_more_than_numbers() {
        assert_eq!(without_numbers("expected value at line 1 column 250"), "expected value at line # column #");
        assert_eq!(without_numbers("no field é"), "no field é");
    }
}
