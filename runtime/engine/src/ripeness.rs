//! When a chunk is ripe, and where it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Error, Isolation, Limit, Result, Topic, TopicPartition};
use aqueduct_record::Offset;
use tokio::time::Instant;

use crate::counters::Progress;
use crate::deliver::Delivery;

/// What ripens in a partition.
pub(crate) struct Ripeness {
    delivery: Arc<Delivery>,
    topic: Topic,
    of: TopicPartition,
    progress: Arc<Progress>,
    /// Where the partition ended when the run began: what was there then has waited long enough.
    waiting_until: Offset,
    /// Where the partition was seen to end, and when: what a record's age is counted from.
    seen: VecDeque<(Offset, Instant)>,
}

/// A chunk that is ripe.
pub(crate) struct Cut {
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
}

impl Ripeness {
    pub(crate) fn new(delivery: &Arc<Delivery>, topic: &Topic, of: &TopicPartition, waiting_until: Offset) -> Self {
        let progress = delivery.run.counters.partition(of);
        let (delivery, topic, of) = (delivery.clone(), topic.clone(), of.clone());
        Ripeness { delivery, topic, of, progress, waiting_until, seen: VecDeque::new() }
    }

    /// Waits for the chunk that begins at `from` to be ripe; `None` when told to stop.
    pub(crate) async fn wait(&mut self, from: Offset) -> Result<Option<Cut>> {
        let delivery = self.delivery.clone();
        let age = delivery.run.plan.chunk.age.duration();
        let pause = (age.unwrap_or(Duration::MAX) / 5).clamp(Duration::from_millis(1), Duration::from_secs(1));
        loop {
            if delivery.run.stop.is_given() {
                return Ok(None);
            }
            let stable = match self.look(from).await? {
                (Some(cut), _) => return Ok(Some(cut)),
                (None, stable) => stable,
            };
            let ripens = self.seen.front().zip(age).map(|((_, seen), age)| *seen + age);
            let grown = async {
                delivery.run.host.store.grown(&self.of, stable, Isolation::Committed).await?;
                if !self.seen.is_empty() {
                    tokio::time::sleep(pause).await;
                }
                Ok::<_, Error>(())
            };
            tokio::select! {
                biased;
                () = delivery.run.stop.given() => return Ok(None),
                () = at(ripens) => {}
                grown = grown => grown?,
            }
        }
    }

    /// The chunk that begins at `from`, if it is ripe.
    pub(crate) async fn cut(&mut self, from: Offset) -> Result<Option<Cut>> {
        Ok(self.look(from).await?.0)
    }

    /// The chunk that begins at `from`, if it is ripe, and where the partition ends for readers.
    async fn look(&mut self, from: Offset) -> Result<(Option<Cut>, Offset)> {
        let run = &self.delivery.run;
        let (store, chunk) = (&run.host.store, &run.plan.chunk);
        let stable = store.bounds(&self.of).await?.stable;
        // What a failed sync made void is not there any more, and would look ripe for ever.
        self.seen.iter_mut().for_each(|(end, _)| *end = stable.min(*end));
        if self.seen.back().is_none_or(|(end, _)| *end < stable) {
            self.seen.push_back((stable, Instant::now()));
        }
        while self.seen.front().is_some_and(|(end, _)| *end <= from) {
            self.seen.pop_front();
        }
        let Some((_, seen)) = self.seen.front().copied() else {
            self.progress.saw(stable, 0);
            return Ok((None, stable.max(from)));
        };
        self.progress.saw(stable, run.host.edge.now() - seen.elapsed().as_millis() as i64);
        let limit = Limit { bytes: chunk.bytes.0, records: chunk.records.unwrap_or(u64::MAX) };
        let measured = store.measure(&self.of, from, limit).await?;
        // Asked after it was measured: what is noted in between ends after all that was there to measure.
        let (_, until) = run.host.incarnations.at(&self.topic, &self.of, from).await?;
        let end = until.map_or(measured.end, |until| until.min(measured.end));
        let is_last = until == Some(end);
        let waited = from < self.waiting_until;
        let aged = chunk.age.duration().is_some_and(|age| seen.elapsed() >= age);
        let is_ripe = end > from && (measured.full || is_last || waited || aged);
        Ok((is_ripe.then_some(Cut { end, bytes: measured.bytes }), stable))
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
