//! One partition: its segments, its queue of appends, and who holds its records.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use aqueduct_api::{Bounds, Durability, Error, Isolation, Result, TopicPartition, TopicSettings};
use aqueduct_record::Offset;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::holds::Holds;
use crate::producers::Producers;
use crate::queue::{Queue, WAITING_BYTES};
use crate::reader::Cursors;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::watchers::Watchers;
use crate::writer::Writer;

/// A partition that is open.
pub(crate) struct Partition {
    pub(crate) of: TopicPartition,
    pub(crate) folder: PathBuf,
    pub(crate) shared: Arc<Shared>,
    settings: RwLock<Arc<TopicSettings>>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) writer: Mutex<Writer>,
    /// The offset before which everything is synced, as far as appends have to know.
    pub(crate) safe: AtomicI64,
    /// By base offset; the last one may be written to.
    pub(crate) segments: RwLock<BTreeMap<Offset, Arc<Segment>>>,
    /// Whether transactions hold up readers; not asked of the queue, since most partitions have none.
    pub(crate) is_unstable: AtomicBool,
    tail: Mutex<Tail>,
    /// Wakes who waits for the tail, in the order in which they came.
    tail_moved: Notify,
    pub(crate) holds: Arc<Holds>,
    pub(crate) watchers: Arc<Watchers>,
    /// The offset before which somebody deleted the records.
    pub(crate) floor: AtomicI64,
    /// Until when nothing of it is cleaned: it was made in this process, and its readers are still coming.
    spared_until: OnceLock<Instant>,
    pub(crate) cursors: Cursors,
    /// One round of retention or compaction at a time.
    pub(crate) cleaning: Mutex<crate::compaction::Progress>,
}

/// What readers wait for.
#[derive(Clone, Copy, Debug)]
struct Tail {
    high_watermark: Offset,
    stable: Offset,
    is_gone: bool,
}

impl Tail {
    /// The last stable offset of a partition that begins at `start`: transactions that were cut off there hold up nobody.
    fn stable(&self, start: Offset) -> Offset {
        self.stable.max(start).min(self.high_watermark)
    }
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
    pub(crate) producers: Producers,
    /// Records before it were deleted.
    pub(crate) floor: Offset,
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
        let stable = found.producers.stable(end);
        Arc::new(Partition {
            of,
            folder,
            shared: shared.clone(),
            settings: RwLock::new(settings),
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            is_unstable: AtomicBool::new(found.producers.is_unstable()),
            queue: Mutex::new(Queue::new(end, found.producers)),
            writer: Mutex::new(found.writer),
            safe: AtomicI64::new(end),
            segments: RwLock::new(found.segments),
            tail: Mutex::new(Tail { high_watermark: end, stable, is_gone: false }),
            tail_moved: Notify::new(),
            holds: Arc::default(),
            watchers: Arc::default(),
            floor: AtomicI64::new(found.floor),
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
        let (start, tail) = (self.start(), *self.tail.lock());
        let high_watermark = tail.high_watermark;
        let (stable, end) = (tail.stable(start), end.max(high_watermark));
        let leader_epoch = self.shared.epoch.current();
        Bounds { start, stable, high_watermark, end, leader_epoch, given_back }
    }

    /// The first offset that is kept.
    pub(crate) fn start(&self) -> Offset {
        let first = self.segments.read().first_key_value().map_or(0, |(base, _)| *base);
        first.max(self.floor.load(Ordering::Acquire))
    }

    /// The offset before which anybody may read.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.tail.lock().high_watermark
    }

    /// The end of what a reader may see.
    pub(crate) fn readable(&self, isolation: Isolation) -> Offset {
        let tail = *self.tail.lock();
        match isolation {
            Isolation::Committed if tail.stable < tail.high_watermark => tail.stable(self.start()),
            _ => tail.high_watermark,
        }
    }

    /// The offset before which there is nothing of open transactions.
    pub(crate) fn stable(&self) -> Offset {
        self.readable(Isolation::Committed)
    }

    /// Lets readers see everything before an offset, those of what is committed as far as no transaction holds them up.
    pub(crate) fn set_high_watermark(&self, high_watermark: Offset) {
        let mut stable = high_watermark;
        // One that begins meanwhile begins at or after it.
        if self.is_unstable.load(Ordering::Acquire) {
            let mut queue = self.queue.lock();
            stable = queue.producers.stable(high_watermark);
            queue.producers.settle(self.safe.load(Ordering::Acquire));
            self.is_unstable.store(queue.producers.is_unstable(), Ordering::Release);
        }
        {
            let mut tail = self.tail.lock();
            (tail.high_watermark, tail.stable) = (high_watermark, stable);
        }
        self.tail_moved.notify_waiters();
        self.watchers.tell();
    }

    /// Returns once the end of what a reader may see is past `offset`.
    pub(crate) async fn grown(&self, offset: Offset, isolation: Isolation) -> Result<()> {
        loop {
            let mut moved = pin!(self.tail_moved.notified());
            // From here on no move is missed.
            moved.as_mut().enable();
            if self.tail.lock().is_gone {
                return Err(Error::refused(format!("topic `{}` was deleted", self.of.topic)));
            }
            if self.readable(isolation) > offset {
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

    /// Takes nothing any more.
    pub(crate) fn stop(&self, stopped: Stopped) {
        self.queue.lock().stopped.get_or_insert(stopped);
        if stopped == Stopped::Deleted {
            self.tail.lock().is_gone = true;
            self.tail_moved.notify_waiters();
            self.watchers.tell();
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

    pub(crate) fn refusal(&self, stopped: Stopped) -> Error {
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
