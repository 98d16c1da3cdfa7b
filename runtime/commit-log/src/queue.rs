//! What waits for a partition's writer, in the order in which it got its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Appended, At, Durable, Error, Marker, Producer, Result};
use aqueduct_record::{Batch, Header, Offset};
use parking_lot::MutexGuard;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::aborted::Entry;
use crate::partition::{Partition, Stopped};
use crate::producers::{Producers, Sent};
use crate::space::For;

/// Bytes of appends that may wait for their partition's writer; more wait for their place.
pub(crate) const WAITING_BYTES: usize = 32 << 20;
/// Batches of producers that may be taken back; where more of them are not synced, they get synced.
const UNSYNCED: usize = 1 << 16;
/// How long a producer is remembered that writes nothing: Kafka's default of `producer.id.expiration.ms`.
const PRODUCER_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// What waits for the writer.
pub(crate) struct Queue {
    /// The offset that the next append gets.
    pub(crate) next: Offset,
    /// How often offsets of failed appends were given back.
    pub(crate) given_back: u64,
    /// Who wrote up to there.
    pub(crate) producers: Producers,
    work: Work,
    /// Whether a job is at work, or about to be.
    is_busy: bool,
    pub(crate) stopped: Option<Stopped>,
}

impl Queue {
    /// Nothing waits, and the next append gets that offset.
    pub(crate) fn new(next: Offset, producers: Producers) -> Self {
        Queue { next, given_back: 0, producers, work: Work::default(), is_busy: false, stopped: None }
    }
}

/// What one round of the writer does, in this order.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) appends: Vec<Pending>,
    pub(crate) syncs: Vec<oneshot::Sender<Result<Offset>>>,
    /// Begin a new segment, unless the last one is empty.
    pub(crate) roll: Vec<oneshot::Sender<Result<()>>>,
    /// Who sent again what is written by then.
    pub(crate) again: Vec<Again>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.syncs.is_empty() && self.roll.is_empty() && self.again.is_empty()
    }
}

/// An append that has its place and is not written yet.
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    /// What the batch aborts, where it is a marker that does.
    pub(crate) aborted: Option<Box<Entry>>,
    pub(crate) answer: oneshot::Sender<Result<()>>,
    pub(crate) _room: OwnedSemaphorePermit,
}

/// An append that was sent again before the first one was safe.
pub(crate) struct Again {
    /// How often offsets had been given back when it came: where that has not changed, the first one is still there.
    pub(crate) given_back: u64,
    pub(crate) answer: oneshot::Sender<Result<()>>,
    pub(crate) _room: OwnedSemaphorePermit,
}

/// Where an append has its place.
struct Place {
    base: Offset,
    next: Offset,
    given_back: u64,
    /// The latest timestamp of the batch that has this place already.
    duplicate: Option<i64>,
}

impl Partition {
    /// Gives a batch its place and sees to it that it gets written.
    pub(crate) async fn append(self: &Arc<Self>, batch: Batch, at: At) -> Result<Appended> {
        let settings = self.settings();
        if batch.size() as u64 > settings.max_batch.0 {
            return Err(Error::refused(format!(
                "{}: a batch of {} bytes is larger than the topic's `max.message.bytes` of {}",
                self.of,
                batch.size(),
                settings.max_batch
            )));
        }
        let header = batch.header();
        if !self.is_internal() && !header.attributes.is_control() {
            self.shared.room.refuse(For::of(&settings)).inspect_err(|_| self.note_refused(&header))?;
        }
        let permits = batch.size().min(WAITING_BYTES) as u32;
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| self.refusal(Stopped::Closed))?;
        let (answer, answered) = oneshot::channel();
        let Place { base, next, given_back, duplicate } = self.enqueue(batch, at, answer, room)?;
        let of = self.of.clone();
        let durable: Durable = Box::pin(async move {
            answered
                .await
                .unwrap_or_else(|_| Err(Error::retry(format!("{of}: the log ended before the append was safe"))))
        });
        Ok(Appended { base_offset: base, next_offset: next, given_back, duplicate, durable })
    }

    fn enqueue(
        self: &Arc<Self>,
        batch: Batch,
        at: At,
        answer: oneshot::Sender<Result<()>>,
        room: OwnedSemaphorePermit,
    ) -> Result<Place> {
        let header = batch.header();
        let marker = if header.attributes.is_control() { Marker::of(&batch) } else { None };
        let mut queue = self.queue.lock();
        if let Some(stopped) = queue.stopped {
            return Err(self.refusal(stopped));
        }
        let base = match at {
            At::End => queue.next,
            At::EndSince(given_back) if given_back == queue.given_back => queue.next,
            At::EndSince(_) => {
                return Err(Error::retry(format!("{}: an append before this one has failed meanwhile", self.of)));
            }
            At::OwnOffset if batch.base_offset() >= queue.next => batch.base_offset(),
            At::OwnOffset => {
                return Err(Error::refused(format!(
                    "{}: a batch at its own offset {} lies before the end, {}",
                    self.of,
                    batch.base_offset(),
                    queue.next
                )));
            }
        };
        let next = base
            .checked_add(i64::from(header.last_offset_delta) + 1)
            .ok_or_else(|| Error::refused(format!("{}: no offsets are left for a batch at {base}", self.of)))?;
        let mut aborted = None;
        if header.producer_id >= 0 {
            // Who keeps offsets has had them checked where they come from.
            match &marker {
                _ if at == At::OwnOffset => {}
                Some(marker) => queue.producers.check_marker(marker)?,
                None => {
                    if let Some(sent) = queue.producers.check(&header)? {
                        return Ok(self.sent_again(queue, sent, answer, room));
                    }
                }
            }
            aborted = self.note_producer(&mut queue, (&header, marker.as_ref()), base);
        }
        queue.next = next;
        queue.work.appends.push(Pending { batch, base, next, aborted, answer, _room: room });
        let given_back = queue.given_back;
        self.wake(queue);
        Ok(Place { base, next, given_back, duplicate: None })
    }

    /// Notes what there was no room for.
    fn note_refused(&self, header: &Header) {
        if header.producer_id >= 0 {
            self.queue.lock().producers.want(header, self.shared.edge.now());
        }
    }

    /// Notes what a producer writes; it can be taken back until it is synced.
    fn note_producer(
        &self,
        queue: &mut Queue,
        (header, marker): (&Header, Option<&Marker>),
        base: Offset,
    ) -> Option<Box<Entry>> {
        let Queue { producers, work, .. } = queue;
        producers.settle(self.safe.load(Ordering::Acquire));
        let aborted = producers.add(header, marker, base, self.shared.edge.now());
        self.is_unstable.store(producers.is_unstable(), Ordering::Release);
        if producers.open() > UNSYNCED && !self.is_fsync() && work.syncs.is_empty() {
            // Nobody waits for it.
            work.syncs.push(oneshot::channel().0);
        }
        aborted
    }

    /// Answers a batch that was sent again, once the first one is as safe as the topic asks.
    fn sent_again(
        self: &Arc<Self>,
        mut queue: MutexGuard<'_, Queue>,
        sent: Sent,
        answer: oneshot::Sender<Result<()>>,
        room: OwnedSemaphorePermit,
    ) -> Place {
        let given_back = queue.given_back;
        if sent.next() <= self.high_watermark() || fault::mutated(Mutant::DuplicateBeforeSync) {
            // Whoever does not wait does not mind.
            let _ = answer.send(Ok(()));
        } else {
            queue.work.again.push(Again { given_back, answer, _room: room });
            self.wake(queue);
        }
        Place { base: sent.base, next: sent.next(), given_back, duplicate: Some(sent.timestamp) }
    }

    /// Syncs what has been appended so far; returns the offset before which everything is safe.
    pub(crate) async fn sync(self: &Arc<Self>) -> Result<Offset> {
        self.ask(|work, answer| work.syncs.push(answer)).await
    }

    /// Begins a new segment, unless the last one is empty.
    pub(crate) async fn roll(self: &Arc<Self>) -> Result<()> {
        self.ask(|work, answer| work.roll.push(answer)).await
    }

    async fn ask<T>(self: &Arc<Self>, put: impl FnOnce(&mut Work, oneshot::Sender<Result<T>>)) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if let Some(stopped) = queue.stopped {
                return Err(self.refusal(stopped));
            }
            put(&mut queue.work, answer);
            self.wake(queue);
        }
        answered.await.unwrap_or_else(|_| Err(Error::retry(format!("{}: the log ended", self.of))))
    }

    /// Sees to it that a job takes what was queued.
    fn wake(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        let was_busy = std::mem::replace(&mut queue.is_busy, true);
        // The job may run before this returns, and wants the queue.
        drop(queue);
        if !was_busy {
            let partition = self.clone();
            self.shared.edge.threads.blocking(Box::new(move || partition.write_queued()));
        }
    }

    /// What waits now, for the writer; `None` ends its job.
    pub(crate) fn take_work(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        if queue.work.is_empty() {
            queue.is_busy = false;
            return None;
        }
        Some(std::mem::take(&mut queue.work))
    }

    /// Gives offsets back from `next` on: all that waits behind them fails too.
    pub(crate) fn give_back(&self, next: Offset) -> Vec<Pending> {
        let mut queue = self.queue.lock();
        queue.next = next;
        queue.given_back += 1;
        if !fault::mutated(Mutant::SequencesKept) {
            queue.producers.take_back(next);
            self.is_unstable.store(queue.producers.is_unstable(), Ordering::Release);
        }
        std::mem::take(&mut queue.work.appends)
    }

    /// How often offsets of failed appends were given back.
    pub(crate) fn given_back(&self) -> u64 {
        self.queue.lock().given_back
    }

    /// What was known of producers where `offset` was the end; before it nothing may fail any more.
    pub(crate) fn producers_before(&self, offset: Offset) -> Producers {
        let queue = self.queue.lock();
        match queue.producers.is_empty() {
            true => Producers::default(),
            false => queue.producers.as_of(offset),
        }
    }

    /// Forgets producers that have not written for long.
    pub(crate) fn forget_producers(&self) {
        let mut queue = self.queue.lock();
        queue.producers.settle(self.safe.load(Ordering::Acquire));
        queue.producers.forget(self.shared.edge.now().saturating_sub(PRODUCER_EXPIRY.as_millis() as i64));
    }

    /// Whether a batch is its producer's last one.
    pub(crate) fn is_last_of_producer(&self, header: &Header) -> bool {
        header.producer_id >= 0 && self.queue.lock().producers.is_last(header)
    }

    pub(crate) fn largest_producer(&self) -> Option<i64> {
        self.queue.lock().producers.largest()
    }

    pub(crate) fn describe_producers(&self) -> Vec<Producer> {
        self.queue.lock().producers.described()
    }
}
