//! The sink: reads chunks, cuts requests, keeps as many in flight as the cluster takes, and tells what became of them.

use std::collections::HashSet;
use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Chunk, Error, Outcome, Rejected, Result, Sink};
use aqueduct_record::Offset;
use async_trait::async_trait;
use tokio::task::{JoinError, JoinSet};

use crate::answer::Reason;
use crate::cluster::Cluster;
use crate::delivery::{Sent, deliver, ranges};
use crate::document::{Action, Id, Operation, Shape, Subject};
use crate::pace::Pace;
use crate::request::{Limits, Packer, Request};

/// Writes documents.
pub(crate) struct DocumentSink {
    pub(crate) shape: Shape,
    pub(crate) limits: Limits,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) pace: Arc<Pace>,
}

#[async_trait]
impl Sink for DocumentSink {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        let mut flight = Flight::new(self);
        let mut packer = Packer::new(self.cut_at());
        for (place, chunk) in chunks.iter().enumerate() {
            let mut batches = chunk.batches();
            let mut last: Option<(Offset, u32)> = None;
            while let Some(batch) = batches.next().await? {
                let records = batch.records()?;
                for record in records.iter() {
                    let record = record?;
                    let ordinal =
                        last.filter(|(offset, _)| *offset == record.offset).map_or(0, |(_, ordinal)| ordinal + 1);
                    last = Some((record.offset, ordinal));
                    let subject = Subject { place, chunk, record: &record, ordinal };
                    let full = match self.shape.write(&subject, packer.body()) {
                        Ok(Some(action)) => packer.added(action, (chunk.end - record.offset).unsigned_abs()),
                        Ok(None) => None,
                        Err(reason) => {
                            flight.total.rejected.push(Rejected { chunk: place, offset: record.offset, reason });
                            None
                        }
                    };
                    if let Some(request) = full {
                        flight.launch(request).await?;
                    }
                }
            }
            if let Some(request) = packer.end_of_chunk() {
                flight.launch(request).await?;
            }
        }
        if let Some(request) = packer.finish() {
            flight.launch(request).await?;
        }
        flight.land().await
    }
}

impl DocumentSink {
    fn cut_at(&self) -> Limits {
        match mutated(Mutant::AdaptiveCuts) {
            true => Limits { records: self.limits.records.min(self.pace.limit()), ..self.limits },
            false => self.limits,
        }
    }
}

/// The requests of one write; those that run are ended when it is dropped.
struct Flight<'a> {
    sink: &'a DocumentSink,
    running: JoinSet<(Vec<u64>, Result<Sent>)>,
    /// What the running ones write to: two of one document never run at once, or the older could come last.
    busy: HashSet<u64>,
    total: Sent,
    /// How many documents were written.
    written: usize,
}

impl<'a> Flight<'a> {
    fn new(sink: &'a DocumentSink) -> Self {
        Flight { sink, running: JoinSet::new(), busy: HashSet::new(), total: Sent::default(), written: 0 }
    }

    /// Sends a request as soon as one more may run.
    async fn launch(&mut self, request: Request) -> Result<()> {
        let mut identities = Vec::new();
        if !matches!(self.sink.shape.id, Id::Offset) {
            identities.extend(request.actions.iter().map(|action| action.identity));
            while identities.iter().any(|identity| self.busy.contains(identity)) {
                let Some(ended) = self.running.join_next().await else { break };
                self.take(ended)?;
            }
        }
        while let Some(ended) = self.running.try_join_next() {
            self.take(ended)?;
        }
        let permit = self.sink.pace.enter().await;
        self.busy.extend(&identities);
        let cluster = self.sink.cluster.clone();
        let named_by_record = self.sink.shape.index.is_said_by_records();
        self.running.spawn(async move { (identities, deliver(&cluster, named_by_record, request, permit).await) });
        Ok(())
    }

    fn take(&mut self, ended: Result<(Vec<u64>, Result<Sent>), JoinError>) -> Result<()> {
        let (identities, sent) = ended.map_err(|cause| Error::fatal(format!("a request ended early: {cause}")))?;
        for identity in &identities {
            self.busy.remove(identity);
        }
        let sent = sent?;
        self.written += sent.done.len();
        // Only updates are sent again after they were done: what else was done needs no memory of it.
        if self.sink.shape.operation == Operation::Upsert {
            self.total.done.extend(sent.done);
        }
        self.total.rejected.extend(sent.rejected);
        self.total.later.extend(sent.later);
        let after = self.total.reason.as_ref().and_then(|reason| reason.after);
        self.total.reason = sent.reason.or(self.total.reason.take());
        if let Some(reason) = &mut self.total.reason {
            reason.after = reason.after.max(after);
        }
        Ok(())
    }

    /// Waits for all and tells what became of them.
    async fn land(mut self) -> Result<Outcome> {
        while let Some(ended) = self.running.join_next().await {
            self.take(ended)?;
        }
        let Sent { done, rejected, mut later, reason } = self.total;
        let Some(Reason { text, after, .. }) = reason else {
            return Ok(Outcome { rejected, ..Outcome::default() });
        };
        if self.written == 0 && rejected.is_empty() {
            return Err(Error::Retry { cause: text.into(), after });
        }
        later.extend(done_too_early(done, &later));
        tracing::warn!(documents = later.len(), reason = text, "documents are to be sent again");
        Ok(Outcome { rejected, unfinished: ranges(&later), after })
    }
}

/// Updates carry no version, so one that was done before an earlier one of its document is done again after it.
fn done_too_early(done: Vec<Action>, later: &[Action]) -> Vec<Action> {
    let behind: HashSet<u64> = later.iter().map(|action| action.identity).collect();
    done.into_iter().filter(|action| behind.contains(&action.identity)).collect()
}
