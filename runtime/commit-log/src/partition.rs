//! One partition: its segments, its queue of appends, and who holds its records.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use aqueduct_api::{Appended, At, Bounds, Durability, Error, Result, TopicPartition, TopicSettings};
use aqueduct_record::{Batch, Offset};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::holds::Holds;
use crate::reader::Cursors;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::space::For;
use crate::writer::Writer;

/// Bytes of appends that may wait for their partition's writer; more wait for their place.
const WAITING_BYTES: usize = 32 << 20;

/// A partition that is open.
pub(crate) struct Partition {
    pub(crate) of: TopicPartition,
    pub(crate) folder: PathBuf,
    pub(crate) shared: Arc<Shared>,
    settings: RwLock<Arc<TopicSettings>>,
    room: Arc<Semaphore>,
    queue: Mutex<Queue>,
    pub(crate) writer: Mutex<Writer>,
    /// By base offset; the last one may be written to.
    pub(crate) segments: RwLock<BTreeMap<Offset, Arc<Segment>>>,
    tail: Mutex<Tail>,
    /// Wakes who waits for the tail, in the order in which they came.
    tail_moved: Notify,
    pub(crate) holds: Arc<Holds>,
    /// Until when nothing of it is cleaned: it was made in this process, and its readers are still coming.
    spared_until: OnceLock<Instant>,
    pub(crate) cursors: Cursors,
    /// One round of retention or compaction at a time.
    pub(crate) cleaning: Mutex<crate::compaction::Progress>,
}

/// What readers wait for.
#[derive(Clone, Copy, Debug)]
struct Tail {
    stable: Offset,
    is_gone: bool,
}

/// What waits for the writer.
struct Queue {
    /// The offset that the next append gets.
    next: Offset,
    /// How often offsets of failed appends were given back.
    given_back: u64,
    work: Work,
    /// Whether a job is at work, or about to be.
    is_busy: bool,
    stopped: Option<Stopped>,
}

/// What one round of the writer does, in this order.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) appends: Vec<Pending>,
    pub(crate) syncs: Vec<oneshot::Sender<Result<Offset>>>,
    /// Begin a new segment, unless the last one is empty.
    pub(crate) roll: Vec<oneshot::Sender<Result<()>>>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.syncs.is_empty() && self.roll.is_empty()
    }
}

/// An append that has its place and is not written yet.
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) answer: oneshot::Sender<Result<()>>,
    pub(crate) _room: OwnedSemaphorePermit,
}

/// Why a partition takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The log was closed.
    Closed,
    /// The topic was deleted.
    Deleted,
    /// Its writer panicked.
    Broken,
}

/// A partition as it was found or made.
pub(crate) struct Found {
    pub(crate) segments: BTreeMap<Offset, Arc<Segment>>,
    pub(crate) writer: Writer,
}

impl Partition {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        of: TopicPartition,
        folder: PathBuf,
        settings: Arc<TopicSettings>,
        found: Found,
    ) -> Arc<Self> {
        let end = found.writer.written;
        Arc::new(Partition {
            of,
            folder,
            shared: shared.clone(),
            settings: RwLock::new(settings),
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            queue: Mutex::new(Queue { next: end, given_back: 0, work: Work::default(), is_busy: false, stopped: None }),
            writer: Mutex::new(found.writer),
            segments: RwLock::new(found.segments),
            tail: Mutex::new(Tail { stable: end, is_gone: false }),
            tail_moved: Notify::new(),
            holds: Arc::default(),
            spared_until: OnceLock::new(),
            cursors: Cursors::default(),
            cleaning: Mutex::default(),
        })
    }

    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        self.settings.read().clone()
    }

    pub(crate) fn change_settings(&self, settings: Arc<TopicSettings>) {
        *self.settings.write() = settings;
    }

    pub(crate) fn is_internal(&self) -> bool {
        crate::topic::is_internal(&self.of.topic)
    }

    /// Has a partition that was just made spared for a while.
    pub(crate) fn spare(&self) {
        self.spared_until.get_or_init(|| Instant::now() + self.shared.spare_new);
    }

    /// Whether nothing of it is to be cleaned yet.
    pub(crate) fn is_spared(&self) -> bool {
        self.spared_until.get().is_some_and(|until| Instant::now() < *until)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let (end, given_back) = {
            let queue = self.queue.lock();
            (queue.next, queue.given_back)
        };
        let stable = self.stable();
        let leader_epoch = self.shared.epoch.current();
        Bounds { start: self.start(), stable, end: end.max(stable), leader_epoch, given_back }
    }

    /// The first offset that is kept.
    pub(crate) fn start(&self) -> Offset {
        self.segments.read().first_key_value().map_or(0, |(base, _)| *base)
    }

    /// The offset before which readers may read.
    pub(crate) fn stable(&self) -> Offset {
        self.tail.lock().stable
    }

    pub(crate) fn set_stable(&self, stable: Offset) {
        self.tail.lock().stable = stable;
        self.tail_moved.notify_waiters();
    }

    /// Returns once the stable end is past `offset`.
    pub(crate) async fn grown(&self, offset: Offset) -> Result<()> {
        loop {
            let mut moved = pin!(self.tail_moved.notified());
            // From here on no move is missed.
            moved.as_mut().enable();
            let tail = *self.tail.lock();
            if tail.is_gone {
                return Err(Error::refused(format!("topic `{}` was deleted", self.of.topic)));
            }
            if tail.stable > offset {
                return Ok(());
            }
            moved.await;
        }
    }

    /// The segment that holds `offset`, or else the first one after it.
    pub(crate) fn segment_at(&self, offset: Offset) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let holds = segments.range(..=offset).next_back();
        holds.or_else(|| segments.first_key_value()).map(|(_, segment)| segment.clone())
    }

    pub(crate) fn segment_after(&self, base: Offset) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        segments.range((Bound::Excluded(base), Bound::Unbounded)).next().map(|(_, segment)| segment.clone())
    }

    /// All segments but the last, which may be written to.
    pub(crate) fn closed_segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        segments.values().take(segments.len().saturating_sub(1)).cloned().collect()
    }

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
        if !self.is_internal() {
            self.shared.room.refuse(For::of(&settings))?;
        }
        let permits = batch.size().min(WAITING_BYTES) as u32;
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| self.refusal(Stopped::Closed))?;
        let (answer, answered) = oneshot::channel();
        let (base_offset, next_offset, given_back) = self.enqueue(batch, at, answer, room)?;
        let of = self.of.clone();
        let durable = Box::pin(async move {
            answered
                .await
                .unwrap_or_else(|_| Err(Error::retry(format!("{of}: the log ended before the append was safe"))))
        });
        Ok(Appended { base_offset, next_offset, given_back, duplicate: None, durable })
    }

    fn enqueue(
        self: &Arc<Self>,
        batch: Batch,
        at: At,
        answer: oneshot::Sender<Result<()>>,
        room: OwnedSemaphorePermit,
    ) -> Result<(Offset, Offset, u64)> {
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
            .checked_add(i64::from(batch.header().last_offset_delta) + 1)
            .ok_or_else(|| Error::refused(format!("{}: no offsets are left for a batch at {base}", self.of)))?;
        queue.next = next;
        queue.work.appends.push(Pending { batch, base, next, answer, _room: room });
        let given_back = queue.given_back;
        self.wake(queue);
        Ok((base, next, given_back))
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
        std::mem::take(&mut queue.work.appends)
    }

    /// Takes nothing any more.
    pub(crate) fn stop(&self, stopped: Stopped) {
        self.queue.lock().stopped.get_or_insert(stopped);
        if stopped == Stopped::Deleted {
            self.tail.lock().is_gone = true;
            self.tail_moved.notify_waiters();
        }
    }

    /// Why it takes nothing any more, when it does not.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        self.queue.lock().stopped
    }

    /// Refuses when the topic was deleted meanwhile.
    pub(crate) fn check_there(&self) -> Result<()> {
        match self.stopped() {
            Some(Stopped::Deleted) => Err(self.refusal(Stopped::Deleted)),
            _ => Ok(()),
        }
    }

    /// Takes appends again, after it turned out that the topic stays.
    pub(crate) fn revive(&self) {
        self.queue.lock().stopped = None;
        self.tail.lock().is_gone = false;
    }

    fn refusal(&self, stopped: Stopped) -> Error {
        match stopped {
            Stopped::Closed => Error::retry(format!("{}: the log is closed", self.of)),
            Stopped::Deleted => Error::refused(format!("topic `{}` was deleted", self.of.topic)),
            Stopped::Broken => Error::fatal(format!("{}: its writer panicked: restart the daemon", self.of)),
        }
    }

    /// Whether something is written that is not synced, or about to be.
    pub(crate) fn is_dirty(&self) -> bool {
        self.writer.try_lock().is_none_or(|writer| writer.is_dirty())
    }

    pub(crate) fn is_fsync(&self) -> bool {
        self.settings.read().durability == Durability::Fsync
    }
}
