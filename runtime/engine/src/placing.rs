//! A batch on its way to its place in the log: tried again in order, while everything after it is held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Appended, At, Done, Error, POSITION_HEADER, Result, TopicPartition};
use aqueduct_record::{Batch, BatchBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::budget::Taken;
use crate::dead_letters::{DeadLetters, Original, Reason, Stage};
use crate::host::Host;
use crate::ingest::SourceRun;
use crate::kept::Kept;
use crate::positions::{self, Known};
use crate::retry::Retry;

/// What was read and has no place yet.
pub(crate) struct Unplaced {
    /// Where it goes.
    pub(crate) to: TopicPartition,
    /// The partition that the stream keeps, also while dead letters go elsewhere.
    pub(crate) partition: TopicPartition,
    /// `None`: only a position.
    pub(crate) batch: Option<Batch>,
    /// What is known of the stream once this is durable; `None`: the source can not read again.
    pub(crate) known: Option<Known>,
    pub(crate) done: Option<Done>,
    pub(crate) kind: Kind,
    /// Where the rest of what was read went: what has the position comes after it.
    pub(crate) after: Vec<TopicPartition>,
    /// The stream whose position comes after these dead letters.
    pub(crate) early_of: Option<String>,
    /// Which it is of what somebody waits for and no position rides with: it may be lost alone, and they hear so.
    pub(crate) once: Option<u64>,
    /// Shared bytes; `None`: it is in the connector's own room.
    pub(crate) charge: Option<Taken>,
}

/// What a batch is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records of the source's topic.
    Records,
    /// Records of another topic, which no position rides with.
    Elsewhere,
    /// Dead letters.
    Letter,
}

/// What became of it.
pub(crate) enum Placed {
    /// It has its place, if it needs one.
    There(Unplaced, Option<Appended>),
    /// The log will never take it.
    Refused(Unplaced, Error),
    /// The run was told to stop before the log took it, or it came after something that was lost.
    NotTaken,
}

/// What is in flight ahead of it.
#[derive(Clone)]
pub(crate) struct Ahead {
    /// How many are not durable yet.
    pub(crate) in_flight: Arc<AtomicUsize>,
    /// How often the partition had given offsets back when the last one was placed there.
    pub(crate) given_back: Option<u64>,
    /// Whether what is ahead of it is there even where it was answered as durable.
    pub(crate) kept: Arc<Kept>,
    /// How often the partitions that it comes after had given offsets back when the last batch was placed there.
    pub(crate) after: Vec<(TopicPartition, u64)>,
}

impl Ahead {
    /// Makes sure that what it comes after stays: it was answered as durable, which says little of topics that are not
    /// synced at once.
    async fn settle(&self, host: &Host) -> Result<()> {
        for (of, before) in &self.after {
            host.store.sync(of).await?;
            if host.store.bounds(of).await?.given_back != *before {
                return Err(Error::retry(format!("{of} has given offsets back: what was sent there is read again")));
            }
        }
        Ok(())
    }

    /// Where it may go: not where something ahead of it has failed. What has failed ends the run.
    fn at(&self, to: &TopicPartition) -> At {
        let in_flight = self.given_back.filter(|_| self.in_flight.load(Ordering::Acquire) > 0);
        match self.kept.given_back(to).or(in_flight) {
            Some(given_back) => At::EndSince(given_back),
            None => At::End,
        }
    }
}

pub(crate) type Placing = BoxFuture<'static, Result<Placed>>;

impl Unplaced {
    /// A batch that nobody waits for and no position rides with.
    pub(crate) fn new(kind: Kind, to: TopicPartition, partition: TopicPartition, batch: Option<Batch>) -> Unplaced {
        Unplaced {
            to,
            partition,
            batch,
            known: None,
            done: None,
            kind,
            after: Vec::new(),
            early_of: None,
            once: None,
            charge: None,
        }
    }

    /// Gives it its place: among dead letters where those are given, in the partition else.
    pub(crate) fn place(
        mut self,
        run: Arc<SourceRun>,
        letters: Option<Arc<DeadLetters>>,
        (is_marked, ahead): (bool, Ahead),
    ) -> Placing {
        async move {
            match ahead.settle(&run.host).await {
                Err(error @ Error::Retry { .. }) if self.once.is_some() => {
                    tracing::warn!(source = run.name, cause = %error, "records are not taken");
                    if let Some(done) = self.done.take() {
                        done.not_taken(error);
                    }
                    return Ok(Placed::NotTaken);
                }
                settled => settled?,
            }
            let Some(batch) = self.batch.clone() else { return Ok(Placed::There(self, None)) };
            let mut retry = Retry::new(&run.plan.retry, &run.host.edge);
            loop {
                let at = if self.once.is_some() { At::End } else { ahead.at(&self.to) };
                let appended = match &letters {
                    Some(letters) => {
                        let kept = self.once.is_none().then_some(&*ahead.kept);
                        append_dead_letter(&run, letters, (&batch, &self.partition, at), (is_marked, kept)).await
                    }
                    None => run.lease.append(&self.to, batch.clone(), at).await,
                };
                let error = match appended {
                    Ok(appended) => return Ok(Placed::There(self, Some(appended))),
                    Err(error @ Error::Refused { .. }) => return Ok(Placed::Refused(self, error)),
                    Err(error) => error.context(format!("append to {}", self.to)),
                };
                let message = error.to_string();
                let wait = retry.failed(error)?;
                tracing::warn!(partition = %self.to, cause = message, "append is tried again");
                run.counters.retried(message);
                if !mutated(Mutant::BudgetHeldWaiting) {
                    self.charge = None;
                }
                if !run.stop.sleep(wait).await {
                    return Ok(Placed::NotTaken);
                }
            }
        }
        .boxed()
    }

    /// The same records as dead letters, under the same position.
    pub(crate) fn into_dead_letters(self, letters: &DeadLetters) -> Result<Unplaced> {
        let Some(batch) = &self.batch else { return Ok(self) };
        let mut builder = BatchBuilder::new();
        let records = batch.records().map_err(Error::fatal)?;
        let mut rides = None;
        for record in records.iter() {
            let record = record.map_err(Error::fatal)?;
            rides = record.headers.get(POSITION_HEADER).flatten();
            let message = format!("{} does not take a batch of {} bytes", self.to, batch.size());
            let original = Original {
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers.without(POSITION_HEADER).iter().collect(),
            };
            let reason = Reason { partition: &self.partition, offset: None, stage: Stage::Produce, message: &message };
            letters.push(&mut builder, original, &reason);
        }
        if let Some(rides) = rides {
            builder.add_header_to_last(POSITION_HEADER, rides);
        }
        let to = letters.partition().clone();
        Ok(Unplaced { to, batch: Some(builder.finish()), kind: Kind::Letter, ..self })
    }
}

async fn append_dead_letter(
    run: &SourceRun,
    letters: &DeadLetters,
    (batch, data, at): (&Batch, &TopicPartition, At),
    (is_marked, kept): (bool, Option<&Kept>),
) -> Result<Appended> {
    if !is_marked {
        letters.make().await?;
        let of = letters.partition();
        let end = run.host.store.sync(of).await?;
        run.host.positions.put(&run.lease, vec![positions::scan_mark(&run.name, of, end)]).await?;
        run.holds.take(of, end).await?;
    }
    if let Some(kept) = kept {
        // Its position says that the stream's data before it is there.
        run.host.store.sync(data).await?;
        kept.check().await?;
    }
    letters.append(batch.clone(), at).await
}
