//! What a connector tells of itself while it works: read without waiting for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use aqueduct_api::{ByteSize, Edge, TopicPartition};
use aqueduct_record::Offset;
use parking_lot::Mutex;

use crate::{LastError, State};

/// Counters of one connector; they outlive its runs.
pub(crate) struct Counters {
    edge: Edge,
    state: Mutex<(State, Option<String>)>,
    last_error: Mutex<Option<LastError>>,
    progressed: AtomicI64,
    pub(crate) restarts: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) in_flight_bytes: AtomicU64,
    /// How often a source's batches were made smaller, by four each time.
    smaller: AtomicU32,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<Progress>>>,
}

/// How far a sink is in one partition.
pub(crate) struct Progress {
    /// -1: nothing committed.
    committed: AtomicI64,
    /// When the first record that is not delivered was seen, milliseconds since 1970; 0: there is none.
    waiting_since: AtomicI64,
    end: AtomicI64,
    pinned: Mutex<Vec<Offset>>,
    stopped: Mutex<Option<String>>,
}

/// Bytes that are under way, counted until this is dropped: what a run leaves behind never counts for the next one.
pub(crate) struct InFlight {
    counters: Arc<Counters>,
    bytes: u64,
}

impl InFlight {
    pub(crate) fn new(counters: &Arc<Counters>, bytes: u64) -> Self {
        counters.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlight { counters: counters.clone(), bytes }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counters.in_flight_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn new(edge: &Edge) -> Self {
        Counters {
            edge: edge.clone(),
            state: Mutex::new((State::Unassigned, None)),
            last_error: Mutex::default(),
            progressed: AtomicI64::default(),
            restarts: AtomicU64::default(),
            records: AtomicU64::default(),
            bytes: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            retries: AtomicU64::default(),
            lost: AtomicU64::default(),
            streams: AtomicU64::default(),
            in_flight_bytes: AtomicU64::default(),
            smaller: AtomicU32::default(),
            partitions: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> (State, Option<String>) {
        self.state.lock().clone()
    }

    pub(crate) fn enter(&self, state: State, reason: Option<String>) {
        *self.state.lock() = (state, reason);
    }

    /// Something got done: records and bytes.
    pub(crate) fn progressed(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progressed.store(self.edge.now(), Ordering::Relaxed);
    }

    pub(crate) fn progressed_at(&self) -> Option<i64> {
        Some(self.progressed.load(Ordering::Relaxed)).filter(|millis| *millis != 0)
    }

    /// Has the next run of a source make smaller batches than this one; false where they can not be much smaller.
    pub(crate) fn make_smaller(&self) -> bool {
        const MOST: u32 = 10;
        let next = |smaller| (smaller < MOST).then_some(smaller + 1);
        self.smaller.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// A size of batches, as small as it was made.
    pub(crate) fn smaller(&self, batch: ByteSize) -> ByteSize {
        ByteSize((batch.0 >> (2 * self.smaller.load(Ordering::Relaxed))).max(1))
    }

    /// A failure that is tried again.
    pub(crate) fn retried(&self, message: String) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.failed(message);
    }

    pub(crate) fn failed(&self, message: String) {
        *self.last_error.lock() = Some(LastError { message, at_ms: self.edge.now() });
    }

    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().clone()
    }

    pub(crate) fn partition(&self, of: &TopicPartition) -> Arc<Progress> {
        self.partitions.lock().entry(of.clone()).or_default().clone()
    }

    pub(crate) fn forget(&self, of: &TopicPartition) {
        self.partitions.lock().remove(of);
    }

    pub(crate) fn partitions(&self) -> Vec<(TopicPartition, Arc<Progress>)> {
        self.partitions.lock().iter().map(|(of, progress)| (of.clone(), progress.clone())).collect()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            committed: AtomicI64::new(-1),
            waiting_since: AtomicI64::default(),
            end: AtomicI64::default(),
            pinned: Mutex::default(),
            stopped: Mutex::default(),
        }
    }
}

impl Progress {
    /// What was committed: the next offset, and where pinned chunks end.
    pub(crate) fn committed_at(&self, next: Offset, pinned: Vec<Offset>) {
        self.committed.store(next, Ordering::Relaxed);
        *self.pinned.lock() = pinned;
    }

    pub(crate) fn committed(&self) -> Option<Offset> {
        Some(self.committed.load(Ordering::Relaxed)).filter(|offset| *offset >= 0)
    }

    pub(crate) fn pinned(&self) -> Vec<Offset> {
        self.pinned.lock().clone()
    }

    /// Where the partition ends, and since when something waits there (milliseconds since 1970, 0: nothing does).
    pub(crate) fn saw(&self, end: Offset, waiting_since: i64) {
        self.end.store(end, Ordering::Relaxed);
        self.waiting_since.store(waiting_since, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) -> Offset {
        self.end.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting_since(&self) -> i64 {
        self.waiting_since.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self, reason: Option<String>) {
        *self.stopped.lock() = reason;
    }

    pub(crate) fn stopped(&self) -> Option<String> {
        self.stopped.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_ended_run_had_under_way_does_not_change_what_the_next_one_counts() {
        let counters = Arc::new(Counters::new(&Edge::real()));
        let old = InFlight::new(&counters, 5);
        let new = InFlight::new(&counters, 7);
        drop(old);
        assert_eq!(counters.in_flight_bytes.load(Ordering::Relaxed), 7);
        drop(new);
        assert_eq!(counters.in_flight_bytes.load(Ordering::Relaxed), 0);
    }
}
