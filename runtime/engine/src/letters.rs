//! Which dead letters of a topic are still open: how far they were replayed or discarded is a group's committed offset,
//! and what was settled behind it stands in the metadata.

use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::{Committed, Error, Isolation, Replayed, Result, Store, Token, Topic, TopicId, TopicPartition};
use aqueduct_record::{Batch, Offset};
use serde::{Deserialize, Serialize};

/// How much is read at once.
const AT_A_TIME: usize = 1 << 20;

/// The most bytes of a group's metadata.
const LARGEST_METADATA: usize = 4096;

/// The consumer group that says how far a topic of dead letters is settled.
pub(crate) fn group(topic: &str) -> String {
    format!("dead-letters-{topic}")
}

/// How far a topic of dead letters is settled.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    of: TopicPartition,
    topic: TopicId,
    /// Everything before it is settled.
    next: Offset,
    /// What is settled after it, ascending.
    settled: Vec<Range<Offset>>,
}

/// What is committed beside the offset.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    v: u32,
    topic: TopicId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    settled: Vec<(Offset, Offset)>,
    /// Where partitions ended before letters were appended to them; gone when that is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ends: Vec<(Arc<str>, i32, Offset)>,
}

impl Progress {
    /// Reads it. Where a replay was interrupted, those letters are settled that got into their topics.
    pub(crate) async fn read(store: &dyn Store, topic: &Topic) -> Result<Progress> {
        let of = TopicPartition::new(topic.name.clone(), 0);
        let start = store.bounds(&of).await?.start;
        let mut progress = Progress { of, topic: topic.id, next: start, settled: Vec::new() };
        let group = group(&topic.name);
        let Some(committed) = store.committed(&group).await?.remove(&progress.of) else { return Ok(progress) };
        let noted: Noted = serde_json::from_str(&committed.metadata)
            .map_err(|cause| Error::fatal(format!("group {group} was committed by somebody else: {cause}")))?;
        if noted.topic != topic.id {
            // Another topic had the name.
            return Ok(progress);
        }
        progress.settle(start..committed.offset.max(start));
        noted.settled.into_iter().for_each(|(start, end)| progress.settle(start..end));
        if noted.ends.is_empty() {
            return Ok(progress);
        }
        let topics = store.topics().await?;
        for (name, partition, from) in noted.ends {
            if topics.iter().any(|topic| topic.name == name && partition < topic.partitions) {
                let target = TopicPartition::new(name, partition);
                progress.settle_landed(store, &target, from).await?;
            }
        }
        Ok(progress)
    }

    /// Settles what is in `target` from `from` on.
    async fn settle_landed(&mut self, store: &dyn Store, target: &TopicPartition, from: Offset) -> Result<()> {
        let end = store.sync(target).await?;
        let mut walk = Walk::new(target, from..end);
        while let Some(batches) = walk.next(store).await? {
            for batch in batches {
                for record in batch.records().map_err(Error::retry)?.iter() {
                    let replayed = Replayed::of(record.map_err(Error::retry)?.headers);
                    if let Some(Replayed { letter: (topic, offset), .. }) = replayed
                        && topic == self.topic
                    {
                        self.settle(offset..offset + 1);
                    }
                }
            }
        }
        Ok(())
    }

    /// The offset before which everything is settled.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// Whether a letter was neither replayed nor discarded.
    pub(crate) fn is_open(&self, offset: Offset) -> bool {
        offset >= self.next && !self.settled.iter().any(|range| range.contains(&offset))
    }

    /// Settles letters.
    pub(crate) fn settle(&mut self, range: Range<Offset>) {
        if range.is_empty() {
            return;
        }
        let at = self.settled.partition_point(|other| other.start < range.start);
        self.settled.insert(at, range);
        let mut merged: Vec<Range<Offset>> = Vec::with_capacity(self.settled.len());
        for range in self.settled.drain(..) {
            match merged.last_mut() {
                _ if range.start <= self.next => self.next = self.next.max(range.end),
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.settled = merged;
    }

    /// What is to be committed, with where partitions end that are about to be appended to.
    ///
    /// # Errors
    /// `Refused` where so many gaps are left between what is settled that they can not be kept.
    pub(crate) fn committed(&self, ends: &[(TopicPartition, Offset)]) -> Result<Committed> {
        let noted = Noted {
            v: 1,
            topic: self.topic,
            settled: self.settled.iter().map(|range| (range.start, range.end)).collect(),
            ends: ends.iter().map(|(of, end)| (of.topic.clone(), of.partition, *end)).collect(),
        };
        let metadata = serde_json::to_string(&noted).map_err(Error::fatal)?;
        match metadata.len() > LARGEST_METADATA {
            false => Ok(Committed { offset: self.next, leader_epoch: -1, metadata }),
            true => Err(Error::refused(format!(
                "dead letters of {} are open in too many places: settle the first ones, from offset {} on, whatever \
                 their reason",
                self.of.topic, self.next
            ))),
        }
    }

    /// Commits it.
    pub(crate) async fn commit(
        &self,
        store: &dyn Store,
        token: &Token,
        ends: &[(TopicPartition, Offset)],
    ) -> Result<()> {
        store.commit(token, vec![(self.of.clone(), Some(self.committed(ends)?))]).await
    }
}

/// Reads a range of a partition, about a mebibyte at a time.
pub(crate) struct Walk {
    of: TopicPartition,
    range: Range<Offset>,
}

impl Walk {
    /// From the range's start to its end.
    pub(crate) fn new(of: &TopicPartition, range: Range<Offset>) -> Walk {
        Walk { of: of.clone(), range }
    }

    /// The next batches with records of the range, the first and last perhaps with others too; `None` at its end.
    pub(crate) async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<Batch>>> {
        while self.range.start < self.range.end {
            let read = store.read(&self.of, self.range.start, AT_A_TIME, Isolation::Committed).await?;
            let before = self.range.start;
            self.range.start = read.lost.as_ref().map_or(before, |lost| lost.end.max(before));
            let mut batches = Vec::new();
            for batch in read.into_batches() {
                let batch = batch.map_err(Error::retry)?;
                self.range.start = self.range.start.max(batch.next_offset());
                if batch.next_offset() > before && batch.count() > 0 {
                    batches.push(batch);
                }
            }
            if !batches.is_empty() {
                return Ok(Some(batches));
            }
            if self.range.start == before {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(next: Offset, settled: &[Range<Offset>]) -> Progress {
        let of = TopicPartition::new("lake.dead-letters", 0);
        let mut progress = Progress { of, topic: TopicId(1), next, settled: Vec::new() };
        settled.iter().for_each(|range| progress.settle(range.clone()));
        progress
    }

    /// What is settled, then where the rest begins and what is open.
    type Case = (&'static [(Offset, Offset)], Offset, &'static [Offset]);

    #[test]
    fn what_is_settled_is_open_no_more_and_the_rest_is() {
        let cases: [Case; 6] = [
            (&[], 2, &[2, 3, 4, 5, 6, 7]),
            (&[(2, 4), (4, 5)], 5, &[5, 6, 7]),
            (&[(4, 5)], 2, &[2, 3, 5, 6, 7]),
            (&[(6, 7), (4, 5), (5, 6)], 2, &[2, 3, 7]),
            (&[(4, 6), (3, 4), (2, 3)], 6, &[6, 7]),
            (&[(0, 3), (3, 3), (5, 8)], 3, &[3, 4]),
        ];
        for (settled, next, open) in cases {
            let settled: Vec<_> = settled.iter().map(|(from, to)| *from..*to).collect();
            let progress = progress(2, &settled);
            let found: Vec<_> = (0..8).filter(|offset| progress.is_open(*offset)).collect();
            assert_eq!((progress.next(), found.as_slice()), (next, open), "{settled:?}");
        }
    }

    #[test]
    fn too_many_gaps_are_refused() {
        let gaps: Vec<_> = (0..2000).map(|at| 10_000 + 2 * at..10_001 + 2 * at).collect();
        assert!(progress(2, &gaps[..100]).committed(&[]).is_ok());
        let refused = progress(2, &gaps).committed(&[]).unwrap_err().to_string();
        assert!(refused.contains("from offset 2 on"), "{refused}");
    }
}
