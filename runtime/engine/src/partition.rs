//! The way out of one partition: wait until a chunk is ripe, pin it, let the sink write it, commit, again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_api::fault::{Mutant, mutated, point};
use aqueduct_api::{Chunk, Error, NamedBy, Outcome, Rejected, Result, Topic, TopicPartition};
use aqueduct_record::Offset;

use crate::burial::Burial;
use crate::content::{LogContent, told};
use crate::counters::Progress;
use crate::dead_letters::Stage;
use crate::deliver::Delivery;
use crate::opened::Opened;
use crate::pin::Pin;
use crate::retry::Retry;
use crate::ripeness::{Cut, Ripeness};
use crate::work::{Work, count};
use crate::writes::{Order, Written};

/// Where a sink is in a partition.
pub(crate) struct Place {
    /// Where the next chunk begins.
    pub(crate) next: Offset,
    /// The leader epoch of the record before it.
    pub(crate) epoch: i32,
    /// What is committed beside it.
    pub(crate) pin: Pin,
    /// Where the partition ended when the run began: what was there then has waited long enough.
    pub(crate) waiting_until: Offset,
}

/// One partition in one run of a sink.
pub(crate) struct Partition {
    delivery: Arc<Delivery>,
    topic: Topic,
    of: TopicPartition,
    place: Place,
    ripeness: Ripeness,
    progress: Arc<Progress>,
    retry: Retry,
    work: Option<Work>,
}

/// Delivers a partition until the run is told to stop; an answer says why the partition alone has stopped.
pub(crate) async fn deliver(
    delivery: Arc<Delivery>,
    topic: Topic,
    of: TopicPartition,
    place: Place,
) -> Result<Option<String>> {
    let progress = delivery.run.counters.partition(&of);
    let retry = Retry::new(&delivery.run.plan.retry, &delivery.run.host.edge);
    let ripeness = Ripeness::new(&delivery, &topic, &of, place.waiting_until);
    Partition { delivery, topic, of, place, ripeness, progress, retry, work: None }.run().await
}

impl Partition {
    async fn run(mut self) -> Result<Option<String>> {
        loop {
            match self.step().await {
                Ok(true) => self.retry.succeeded(),
                Ok(false) => return Ok(None),
                Err(error) => {
                    let error = error.context(&self.of);
                    let message = error.to_string();
                    let wait = self.retry.failed(error)?;
                    tracing::warn!(sink = self.delivery.run.name, cause = message, "delivery is tried again");
                    self.delivery.run.counters.retried(message);
                    if !self.delivery.run.stop.sleep(wait).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// One chunk; false when the run is told to stop.
    async fn step(&mut self) -> Result<bool> {
        if self.place.pin.ends.is_empty() {
            let Some(cut) = self.ripeness.wait(self.place.next).await? else { return Ok(false) };
            let pin = self.pinning(&cut, self.place.pin.clone()).await?;
            if !mutated(Mutant::WriteBeforePin) {
                point("pin");
                self.commit(self.place.next, self.place.epoch, &pin).await?;
                point("pin");
            }
            let noted = pin.dead_letters;
            self.pinned(pin, cut.bytes);
            self.delivery.hold_dead_letters(&self.of, noted).await?;
        }
        // A chunk without work was pinned by an earlier run.
        let unknown = || Work::new(self.place.next..self.place.pin.ends[0]);
        let mut work = self.work.take().unwrap_or_else(unknown);
        let written = self.write(&mut work).await;
        match written {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                self.work = Some(work);
                return Err(error);
            }
        }
        let finished = self.finish(&work).await;
        if finished.is_err() && self.place.next == work.range.start {
            self.work = Some(work);
        }
        finished.map(|()| true)
    }

    /// What is committed before the chunk is written, beside what stays of `before`. Everything that it depends on is safe on
    /// return.
    async fn pinning(&self, cut: &Cut, before: Pin) -> Result<Pin> {
        // Whatever the topic's durability was when the run found it: it may have been changed since.
        let safe = self.delivery.run.host.store.sync(&self.of).await?;
        if safe < cut.end {
            return Err(Error::retry(format!("only what comes before {safe} is synced yet")));
        }
        let dead_letters = match &self.delivery.dead_letters {
            Some(letters) => Some(letters.end().await?),
            None => None,
        };
        Ok(Pin { ends: vec![cut.end], settings: Some(self.delivery.digest.clone()), dead_letters, ..before })
    }

    fn pinned(&mut self, pin: Pin, bytes: u64) {
        let end = pin.ends[0];
        self.progress.committed_at(self.place.next, pin.ends.clone());
        self.place.pin = pin;
        self.work = Some(Work::first(self.place.next..end, bytes));
    }

    /// Has the pinned chunk written; false when told to stop before that.
    async fn write(&mut self, work: &mut Work) -> Result<bool> {
        let delivery = self.delivery.clone();
        while let Some(offer) = work.offer() {
            let opened = delivery.opened_for(self.place.pin.settings.as_deref()).await?;
            let pinned = (self.place.pin.clone(), self.place.epoch);
            let offer = offer.to_vec();
            let dead = self.dead(work).await?.into_iter();
            // What the sink itself rejected it sees again, or it would name objects and cut requests otherwise than before.
            let unfit = dead.filter(|(_, stage)| *stage == Stage::Transformation).map(|(offset, _)| offset).collect();
            let content = LogContent::new((&delivery, &opened), &self.of, work.range.clone(), pinned, unfit);
            let content = Arc::new(content);
            let chunk = self.chunk(offer, work, &content).await?;
            let order = Order { opened: opened.clone(), chunk, bytes: work.bytes, alone: work.alone };
            work.redelivered = true;
            // What is buried while the sink reads is known once it has answered.
            let dead = work.dead.take();
            let Some(written) = delivery.writes.write(order, &delivery.run.stop).await? else { return Ok(false) };
            content.rest();
            if let (Some(mut dead), Some(buried)) = (dead, content.buried()) {
                work.not_delivered += buried.len() as u64;
                dead.extend(buried.into_iter().map(|offset| (offset, Stage::Transformation)));
                work.dead = Some(dead);
            }
            if let Some(note) = content.note() {
                self.place.pin.note = Some(note);
            }
            work.last_epoch = content.last_epoch().or(work.last_epoch);
            self.account(work, written, (&opened, &content)).await?;
        }
        Ok(true)
    }

    /// The records of the chunk that are dead letters already: each stays one, whatever a transform or the destination would say
    /// of it now. After a failure it is not known which they are.
    async fn dead(&self, work: &mut Work) -> Result<BTreeMap<Offset, Stage>> {
        if work.dead.is_none() {
            let from = self.place.pin.dead_letters.unwrap_or(0);
            work.dead = Some(match &self.delivery.dead_letters {
                Some(letters) => letters.written(from, &self.of, work.range.clone()).await?,
                None => BTreeMap::new(),
            });
        }
        Ok(work.dead.clone().unwrap_or_default())
    }

    async fn chunk(&self, ranges: Vec<Range<Offset>>, work: &Work, content: &Arc<LogContent>) -> Result<Chunk> {
        let (start, incarnations) = (self.place.next, &self.delivery.run.host.incarnations);
        let (incarnation, _) = incarnations.at(&self.topic, &self.of, start).await?;
        Ok(Chunk {
            partition: self.of.clone(),
            topic_id: self.topic.id,
            start,
            end: work.range.end,
            run: self.place.pin.run,
            given_up: self.place.pin.given_up(start),
            incarnation,
            redelivered: work.redelivered,
            ranges,
            note: self.place.pin.note.clone(),
            content: content.clone(),
        })
    }

    /// Takes over what the sink answered: dead letters first, then what is left to write.
    async fn account(&mut self, work: &mut Work, written: Written, from: (&Opened, &LogContent)) -> Result<()> {
        let ((opened, content), chunk) = (from, &written.chunk);
        let mut outcome = match written.outcome {
            Ok(outcome) => outcome,
            Err(Error::Refused { cause }) if opened.named_by == NamedBy::Record => {
                let reason = cause.to_string();
                tracing::warn!(sink = self.delivery.run.name, %chunk, ranges = ?chunk.ranges, reason,
                    "a chunk was refused: which record of it is being found out");
                self.delivery.run.counters.failed(reason.clone());
                let Some(offset) = work.refused(written.was_alone) else { return Ok(()) };
                Outcome { rejected: vec![Rejected { chunk: 0, offset, reason }], ..Outcome::default() }
            }
            Err(error) => return Err(error.context(told(chunk))),
        };
        outcome.rejected.extend(content.unfit(0, chunk, &outcome).await?);
        let mut rejected = outcome.rejected;
        rejected.sort_by_key(|rejected| rejected.offset);
        rejected.dedup_by_key(|rejected| rejected.offset);
        if let Some(outside) = rejected.iter().find(|rejected| !work.range.contains(&rejected.offset)) {
            let (offset, range) = (outside.offset, &work.range);
            return Err(Error::fatal(format!("the sink rejected offset {offset}, which is not in {range:?}")));
        }
        self.bury(work, rejected, content).await?;
        let unfinished: Vec<Range<Offset>> = outcome.unfinished.into_iter().map(|(_, left)| left).collect();
        let taken = work.taken(&unfinished);
        if taken.left < taken.offered {
            self.retry.succeeded();
        }
        if taken.left == 0 {
            return Ok(());
        }
        let cause = format!("the destination left {} of {} records unfinished", taken.left, taken.offered);
        Err(match outcome.after {
            Some(after) => Error::retry_after(cause, after),
            None => Error::retry(cause),
        })
    }

    /// Writes dead letters of what was rejected and of what is lost, each once.
    async fn bury(&self, work: &mut Work, rejected: Vec<Rejected>, content: &LogContent) -> Result<()> {
        let lost = content.lost();
        if rejected.is_empty() && lost.is_empty() {
            return Ok(());
        }
        let run = &self.delivery.run;
        let Some(letters) = &self.delivery.dead_letters else {
            let Some(first) = rejected.first() else {
                run.counters.lost.fetch_add(count(&lost), Ordering::Relaxed);
                work.not_delivered += count(&lost);
                return Ok(());
            };
            let (offset, reason) = (first.offset, &first.reason);
            return Err(Error::fatal(format!("offset {offset} was rejected: {reason} (dead letters are off)")));
        };
        // Some were buried while the sink, or nobody but us, was reading.
        let buried = content.buried();
        if buried.is_none() {
            work.dead = None;
        }
        let mut dead = self.dead(work).await?;
        dead.extend(buried.unwrap_or_default().into_iter().map(|offset| (offset, Stage::Transformation)));
        work.dead = None;
        let burial = Burial { letters, of: &self.of, content, now: run.host.edge.now() };
        let (mut buried, mut gone) = (0, 0);
        for lost in lost.iter().filter(|lost| !dead.contains_key(&lost.start)) {
            burial.lost(lost).await?;
            let missing = count(std::slice::from_ref(lost));
            gone += missing;
            run.counters.lost.fetch_add(missing, Ordering::Relaxed);
            run.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
        }
        let new: Vec<&Rejected> = rejected.iter().filter(|rejected| !dead.contains_key(&rejected.offset)).collect();
        if !new.is_empty() {
            buried += burial.rejected(&new).await?;
            tracing::warn!(sink = run.name, partition = %self.of, records = buried,
                first = new[0].offset, reason = new[0].reason, "records became dead letters");
            run.counters.dead_letters.fetch_add(buried, Ordering::Relaxed);
        }
        dead.extend(lost.iter().map(|lost| (lost.start, Stage::Consume)));
        dead.extend(rejected.iter().map(|rejected| (rejected.offset, content.stage(rejected.offset))));
        work.dead = Some(dead);
        work.not_delivered += buried + gone;
        Ok(())
    }

    /// Commits that the chunk is written and, in the same commit, the next chunk if it is ripe.
    async fn finish(&mut self, work: &Work) -> Result<()> {
        let (end, bytes) = (work.range.end, work.bytes);
        let records = ((end - self.place.next) as u64).saturating_sub(work.not_delivered);
        let epoch = match work.last_epoch {
            Some(epoch) => epoch,
            None => self.delivery.run.host.epoch_before(&self.of, end).await?.unwrap_or(self.place.epoch),
        };
        let rest = self.place.pin.ends[1..].to_vec();
        let mut next_bytes = 0;
        let next = if !rest.is_empty() {
            Pin { ends: rest, note: None, ..self.place.pin.clone() }
        } else {
            match self.next_cut(end).await? {
                Some(cut) => {
                    next_bytes = cut.bytes;
                    self.pinning(&cut, self.place.pin.delivered()).await?
                }
                None => self.place.pin.delivered(),
            }
        };
        point("commit");
        self.commit(end, epoch, &next).await?;
        point("commit");
        self.delivery.run.holds.advance(&self.of, end);
        self.delivery.run.counters.progressed(records, bytes);
        self.place.next = end;
        self.place.epoch = epoch;
        self.progress.committed_at(end, next.ends.clone());
        let noted = next.dead_letters.filter(|_| !next.ends.is_empty());
        match next.ends.len() {
            1 if next_bytes > 0 => self.pinned(next, next_bytes),
            _ => self.place.pin = next,
        }
        self.delivery.hold_dead_letters(&self.of, noted).await
    }

    async fn next_cut(&mut self, from: Offset) -> Result<Option<Cut>> {
        if self.delivery.run.stop.is_given() || mutated(Mutant::WriteBeforePin) {
            return Ok(None);
        }
        self.ripeness.cut(from).await
    }

    async fn commit(&self, next: Offset, epoch: i32, pin: &Pin) -> Result<()> {
        self.delivery.commit(&self.of, next, epoch, pin).await
    }
}
