//! The way out of one partition: wait until a chunk is ripe, pin it, let the sink write it, commit, again.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_api::fault::{Mutant, mutated, point};
use aqueduct_api::{At, Chunk, Content as _, Error, Limit, Outcome, Rejected, Result, Topic, TopicPartition};
use aqueduct_record::{BatchBuilder, Offset};
use tokio::time::Instant;

use crate::content::{LogContent, told};
use crate::counters::{InFlight, Progress};
use crate::dead_letters::{DeadLetters, Original, Reason, Stage};
use crate::deliver::Delivery;
use crate::pin::Pin;
use crate::retry::Retry;

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
    progress: Arc<Progress>,
    retry: Retry,
    /// Where the partition was seen to end, and when: what a record's age is counted from.
    seen: VecDeque<(Offset, Instant)>,
    work: Option<Work>,
}

/// The pinned chunk that is being written.
struct Work {
    end: Offset,
    bytes: u64,
    /// What is still to be written.
    ranges: Vec<Range<Offset>>,
    /// Whether it may have been written before.
    redelivered: bool,
    /// Records of it that are dead letters already; `None`: to be looked up.
    dead: Option<BTreeSet<Offset>>,
    /// Dead letters and lost records, for the counters.
    not_delivered: u64,
    last_epoch: Option<i32>,
}

impl Work {
    /// A chunk that may have been written before.
    fn new(range: Range<Offset>) -> Work {
        Work {
            end: range.end,
            bytes: 0,
            ranges: Vec::from([range]),
            redelivered: true,
            dead: None,
            not_delivered: 0,
            last_epoch: None,
        }
    }
}

/// A chunk that is ripe.
struct Cut {
    end: Offset,
    bytes: u64,
}

/// Delivers a partition until the run is told to stop; an answer says why the partition alone has stopped.
pub(crate) async fn deliver(
    delivery: Arc<Delivery>,
    topic: Topic,
    of: TopicPartition,
    place: Place,
) -> Result<Option<String>> {
    let progress = delivery.counters.partition(&of);
    let retry = Retry::new(&delivery.plan.retry, &delivery.host.edge);
    Partition { delivery, topic, of, place, progress, retry, seen: VecDeque::new(), work: None }.run().await
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
                    tracing::warn!(sink = self.delivery.name, cause = message, "delivery is tried again");
                    self.delivery.counters.retried(message);
                    if !self.delivery.stop.sleep(wait).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// One chunk; false when the run is told to stop.
    async fn step(&mut self) -> Result<bool> {
        if self.place.pin.ends.is_empty() {
            let Some(cut) = self.ripe().await? else { return Ok(false) };
            let pin = self.pinning(&cut).await?;
            if !mutated(Mutant::WriteBeforePin) {
                point("pin");
                self.commit(self.place.next, self.place.epoch, &pin).await?;
                point("pin");
            }
            let noted = pin.dead_letters;
            self.pinned(pin, cut.bytes);
            self.delivery.hold_dead_letters(&self.of, noted).await?;
        }
        if !self.write().await? {
            return Ok(false);
        }
        self.finish().await?;
        Ok(true)
    }

    /// Waits for a chunk to be ripe; `None` when told to stop.
    async fn ripe(&mut self) -> Result<Option<Cut>> {
        let age = self.delivery.plan.chunk.age.duration();
        let pause = (age.unwrap_or(Duration::MAX) / 5).clamp(Duration::from_millis(1), Duration::from_secs(1));
        loop {
            if self.delivery.stop.is_given() {
                return Ok(None);
            }
            let stable = match self.cut(self.place.next).await? {
                (Some(cut), _) => return Ok(Some(cut)),
                (None, stable) => stable,
            };
            let ripens = self.seen.front().zip(age).map(|((_, seen), age)| *seen + age);
            let store = &self.delivery.host.store;
            let grown = async {
                store.grown(&self.of, stable).await?;
                if !self.seen.is_empty() {
                    tokio::time::sleep(pause).await;
                }
                Ok::<_, Error>(())
            };
            tokio::select! {
                biased;
                () = self.delivery.stop.given() => return Ok(None),
                () = at(ripens) => {}
                grown = grown => grown?,
            }
        }
    }

    /// The chunk that begins at `from`, if it is ripe, and where the partition ends for readers.
    async fn cut(&mut self, from: Offset) -> Result<(Option<Cut>, Offset)> {
        let (store, chunk) = (&self.delivery.host.store, &self.delivery.plan.chunk);
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
        self.progress.saw(stable, self.delivery.host.edge.now() - seen.elapsed().as_millis() as i64);
        let limit = Limit { bytes: chunk.bytes.0, records: chunk.records.unwrap_or(u64::MAX) };
        let measured = store.measure(&self.of, from, limit).await?;
        let waited = from < self.place.waiting_until;
        let aged = chunk.age.duration().is_some_and(|age| seen.elapsed() >= age);
        let is_ripe = measured.end > from && (measured.full || waited || aged);
        Ok((is_ripe.then_some(Cut { end: measured.end, bytes: measured.bytes }), stable))
    }

    /// What is committed before the chunk is written. Everything that it depends on is safe on return.
    async fn pinning(&self, cut: &Cut) -> Result<Pin> {
        // Whatever the topic's durability was when the run found it: it may have been changed since.
        let safe = self.delivery.host.store.sync(&self.of).await?;
        if safe < cut.end {
            return Err(Error::retry(format!("only what comes before {safe} is synced yet")));
        }
        let dead_letters = match &self.delivery.dead_letters {
            Some(letters) => Some(letters.end().await?),
            None => None,
        };
        Ok(Pin {
            ends: vec![cut.end],
            settings: Some(self.delivery.digest.clone()),
            dead_letters,
            ..Pin::nothing(self.topic.id, self.place.pin.run)
        })
    }

    fn pinned(&mut self, pin: Pin, bytes: u64) {
        let end = pin.ends[0];
        self.progress.committed_at(self.place.next, pin.ends.clone());
        self.place.pin = pin;
        let work = Work::new(self.place.next..end);
        self.work = Some(Work { bytes, redelivered: false, dead: Some(BTreeSet::new()), ..work });
    }

    /// Has the pinned chunk written; false when told to stop before that.
    async fn write(&mut self) -> Result<bool> {
        let (next, end) = (self.place.next, self.place.pin.ends[0]);
        // A chunk without work was pinned by an earlier run.
        self.work.get_or_insert_with(|| Work::new(next..end));
        let delivery = self.delivery.clone();
        while self.work.as_ref().is_some_and(|work| !work.ranges.is_empty()) {
            let slot = tokio::select! {
                biased;
                () = delivery.stop.given() => return Ok(false),
                slot = delivery.slots.acquire() => slot,
            };
            let _slot = slot.map_err(|_| Error::fatal("this run of the sink is over"))?;
            self.write_once().await?;
        }
        Ok(true)
    }

    async fn write_once(&mut self) -> Result<()> {
        let delivery = self.delivery.clone();
        let opened = delivery.opened_for(self.place.pin.settings.as_deref()).await?;
        let pinned = (self.place.pin.clone(), self.place.epoch);
        let Some(work) = &mut self.work else { return Ok(()) };
        let range = self.place.next..work.end;
        let content = Arc::new(LogContent::new((&delivery, &opened), &self.of, range, pinned));
        let mut chunk = Chunk {
            partition: self.of.clone(),
            topic_id: self.topic.id,
            start: self.place.next,
            end: work.end,
            run: self.place.pin.run,
            incarnation: 1,
            redelivered: std::mem::replace(&mut work.redelivered, true),
            ranges: work.ranges.clone(),
            note: self.place.pin.note.clone(),
            content: content.clone(),
        };
        let in_flight = InFlight::new(&delivery.counters, work.bytes);
        let mut outcome = opened.sink.write(std::slice::from_mut(&mut chunk)).await;
        if let Ok(outcome) = &mut outcome {
            outcome.rejected.extend(content.unfit(0, &chunk, outcome).await?);
        }
        drop(in_flight);
        content.rest();
        if let Some(note) = content.note() {
            self.place.pin.note = Some(note);
        }
        let outcome = outcome.map_err(|error| error.context(told(&chunk)))?;
        work.last_epoch = content.last_epoch().or(work.last_epoch);
        self.account(outcome, &content).await
    }

    /// Takes over what the sink answered: dead letters first, then what is left to write.
    async fn account(&mut self, outcome: Outcome, content: &LogContent) -> Result<()> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let range = self.place.next..work.end;
        let mut rejected = outcome.rejected;
        rejected.sort_by_key(|rejected| rejected.offset);
        rejected.dedup_by_key(|rejected| rejected.offset);
        if let Some(outside) = rejected.iter().find(|rejected| !range.contains(&rejected.offset)) {
            let offset = outside.offset;
            return Err(Error::fatal(format!("the sink rejected offset {offset}, which is not in {range:?}")));
        }
        let unfinished: Vec<Range<Offset>> = outcome
            .unfinished
            .into_iter()
            .map(|(_, left)| left.start.max(range.start)..left.end.min(range.end))
            .filter(|left| !left.is_empty())
            .collect();
        self.bury(rejected, content).await?;
        let Some(work) = &mut self.work else { return Ok(()) };
        let before = offsets(&work.ranges);
        work.ranges = unfinished;
        let left = offsets(&work.ranges);
        if left == 0 {
            return Ok(());
        }
        if left < before {
            self.retry.succeeded();
        }
        let cause = format!("the destination left {left} of {before} records unfinished");
        Err(match outcome.after {
            Some(after) => Error::retry_after(cause, after),
            None => Error::retry(cause),
        })
    }

    /// Writes dead letters of what was rejected and of what is lost, each once.
    async fn bury(&mut self, rejected: Vec<Rejected>, content: &LogContent) -> Result<()> {
        let lost = content.lost();
        let Some(work) = &mut self.work else { return Ok(()) };
        if rejected.is_empty() && lost.is_empty() {
            return Ok(());
        }
        let counters = &self.delivery.counters;
        let Some(letters) = &self.delivery.dead_letters else {
            let Some(first) = rejected.first() else {
                counters.lost.fetch_add(offsets(&lost), Ordering::Relaxed);
                work.not_delivered += offsets(&lost);
                return Ok(());
            };
            let (offset, reason) = (first.offset, &first.reason);
            return Err(Error::fatal(format!("offset {offset} was rejected: {reason} (dead letters are off)")));
        };
        if work.dead.is_none() {
            let from = self.place.pin.dead_letters.unwrap_or(0);
            work.dead = Some(letters.written(from, &self.of, self.place.next..work.end).await?);
        }
        // After a failure it is not known which of them are there.
        let mut dead = work.dead.take().unwrap_or_default();
        let burial = Burial { letters, of: &self.of, content, now: self.delivery.host.edge.now() };
        let (mut buried, mut gone) = (0, 0);
        for lost in lost.iter().filter(|lost| !dead.contains(&lost.start)) {
            burial.lost(lost).await?;
            let missing = offsets(std::slice::from_ref(lost));
            gone += missing;
            counters.lost.fetch_add(missing, Ordering::Relaxed);
            counters.dead_letters.fetch_add(1, Ordering::Relaxed);
        }
        let new: Vec<&Rejected> = rejected.iter().filter(|rejected| !dead.contains(&rejected.offset)).collect();
        if !new.is_empty() {
            buried += burial.rejected(&new).await?;
            tracing::warn!(sink = self.delivery.name, partition = %self.of, records = buried,
                first = new[0].offset, reason = new[0].reason, "records became dead letters");
            counters.dead_letters.fetch_add(buried, Ordering::Relaxed);
        }
        dead.extend(lost.iter().map(|lost| lost.start));
        dead.extend(rejected.iter().map(|rejected| rejected.offset));
        work.dead = Some(dead);
        work.not_delivered += buried + gone;
        Ok(())
    }

    /// Commits that the chunk is written and, in the same commit, the next chunk if it is ripe.
    async fn finish(&mut self) -> Result<()> {
        let Some(work) = &self.work else { return Ok(()) };
        let (end, bytes) = (work.end, work.bytes);
        let records = ((end - self.place.next) as u64).saturating_sub(work.not_delivered);
        let epoch = match work.last_epoch {
            Some(epoch) => epoch,
            None => self.delivery.host.epoch_before(&self.of, end).await?.unwrap_or(self.place.epoch),
        };
        let run = self.place.pin.run;
        let rest = self.place.pin.ends[1..].to_vec();
        let mut next_bytes = 0;
        let next = if !rest.is_empty() {
            Pin { ends: rest, note: None, ..self.place.pin.clone() }
        } else {
            match self.next_cut(end).await? {
                Some(cut) => {
                    next_bytes = cut.bytes;
                    self.pinning(&cut).await?
                }
                None => Pin::nothing(self.topic.id, run),
            }
        };
        point("commit");
        self.commit(end, epoch, &next).await?;
        point("commit");
        self.delivery.holds.advance(&self.of, end);
        self.delivery.counters.progressed(records, bytes);
        self.place.next = end;
        self.place.epoch = epoch;
        self.work = None;
        self.progress.committed_at(end, next.ends.clone());
        let noted = next.dead_letters.filter(|_| !next.ends.is_empty());
        match next.ends.len() {
            1 if next_bytes > 0 => self.pinned(next, next_bytes),
            _ => self.place.pin = next,
        }
        self.delivery.hold_dead_letters(&self.of, noted).await
    }

    async fn next_cut(&mut self, from: Offset) -> Result<Option<Cut>> {
        if self.delivery.stop.is_given() || mutated(Mutant::WriteBeforePin) {
            return Ok(None);
        }
        Ok(self.cut(from).await?.0)
    }

    async fn commit(&self, next: Offset, epoch: i32, pin: &Pin) -> Result<()> {
        self.delivery.commit(&self.of, next, epoch, pin).await
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn offsets(ranges: &[Range<Offset>]) -> u64 {
    ranges.iter().map(|range| (range.end - range.start).max(0) as u64).sum()
}

/// The making of dead letters out of a chunk's records.
struct Burial<'a> {
    letters: &'a DeadLetters,
    of: &'a TopicPartition,
    content: &'a LogContent,
    now: i64,
}

impl Burial<'_> {
    /// How large batches of dead letters get, where no single one is larger.
    const WELL: usize = 1 << 20;

    async fn lost(&self, lost: &Range<Offset>) -> Result<()> {
        let message = format!("offsets {} to {} of {} can not be read any more", lost.start, lost.end, self.of);
        let reason = Reason { partition: self.of, offset: Some(lost.start), stage: Stage::Consume, message: &message };
        let mut builder = BatchBuilder::new();
        self.letters.push(&mut builder, Original { timestamp: self.now, ..Original::default() }, &reason);
        self.letters.append(builder.finish(), At::End).await?.durable().await?;
        Ok(())
    }

    /// Dead letters of records, ascending by offset; how many.
    async fn rejected(&self, rejected: &[&Rejected]) -> Result<u64> {
        let mut waiting = rejected.iter().peekable();
        let mut builder = BatchBuilder::new();
        while let Some(first) = waiting.peek() {
            let batches = self.content.read(first.offset).await?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                if waiting.peek().is_none_or(|next| next.offset >= batch.next_offset()) {
                    continue;
                }
                for record in batch.records().map_err(Error::retry)?.iter() {
                    let record = record.map_err(Error::retry)?;
                    while waiting.peek().is_some_and(|next| next.offset < record.offset) {
                        waiting.next();
                    }
                    let Some(hit) = waiting.next_if(|next| next.offset == record.offset) else { continue };
                    let headers = record.headers.without(aqueduct_api::POSITION_HEADER);
                    let original = Original {
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: headers.iter().collect(),
                    };
                    let size = [record.key, record.value].iter().flatten().map(|bytes| bytes.len()).sum::<usize>();
                    // Before, not after: a record of the largest size fits a batch only alone.
                    if !builder.is_empty() && builder.size() + size > Self::WELL {
                        let full = std::mem::take(&mut builder);
                        self.letters.append(full.finish(), At::End).await?.durable().await?;
                    }
                    self.letters.push(&mut builder, original, &self.reason(hit));
                }
                // What the batch should have held and does not is past finding.
                while waiting.next_if(|next| next.offset < batch.next_offset()).is_some() {}
            }
        }
        if !builder.is_empty() {
            self.letters.append(builder.finish(), At::End).await?.durable().await?;
        }
        Ok(rejected.len() as u64)
    }

    fn reason<'r>(&'r self, rejected: &'r Rejected) -> Reason<'r> {
        let stage = self.content.stage(rejected.offset);
        Reason { partition: self.of, offset: Some(rejected.offset), stage, message: &rejected.reason }
    }
}
