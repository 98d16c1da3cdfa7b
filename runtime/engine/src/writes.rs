//! The calls of a sink: a few at once, each of one chunk, or of all that wait where the sink names what it writes by
//! record.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::{Chunk, Error, NamedBy, Outcome, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::counters::{Counters, InFlight};
use crate::host::Stop;
use crate::opened::Opened;

/// Chunks that wait to be written.
pub(crate) struct Writes {
    waiting: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
    tickets: AtomicU64,
    /// How many bytes go into one call, where no single chunk has more.
    well: u64,
}

/// A chunk to be written.
pub(crate) struct Order {
    pub(crate) opened: Arc<Opened>,
    pub(crate) chunk: Chunk,
    pub(crate) bytes: u64,
    /// Whether no other chunk may be in the call.
    pub(crate) alone: bool,
}

/// What became of a chunk.
pub(crate) struct Written {
    pub(crate) chunk: Chunk,
    /// As if the chunk had been the only one.
    pub(crate) outcome: Result<Outcome>,
    /// Whether it was.
    pub(crate) was_alone: bool,
}

struct Waiting {
    ticket: u64,
    order: Order,
    answer: oneshot::Sender<Written>,
}

impl Writes {
    /// How many calls there are at once.
    const AT_ONCE: usize = 4;
    /// The most chunks of one call, so that one that fails is not the failure of too many.
    const MOST: usize = 64;

    pub(crate) fn new(well: u64) -> Self {
        Writes { waiting: Mutex::default(), arrived: Notify::new(), tickets: AtomicU64::default(), well }
    }

    /// Has a chunk written; `None` when told to stop before that began.
    pub(crate) async fn write(&self, order: Order, stop: &Stop) -> Result<Option<Written>> {
        if stop.is_given() {
            return Ok(None);
        }
        let (answer, mut written) = oneshot::channel();
        let ticket = self.hand_in(order, answer);
        tokio::select! {
            biased;
            written = &mut written => return written.map(Some).map_err(over),
            () = stop.given() => {}
        }
        match self.take_back(ticket) {
            true => Ok(None),
            false => written.await.map(Some).map_err(over),
        }
    }

    /// Calls the sink as long as it is polled. A chunk that nobody waits for any more is not begun; one that is under way
    /// goes on, with those that are in the same call.
    pub(crate) async fn drive(&self, counters: &Arc<Counters>) -> Infallible {
        let mut calls = FuturesUnordered::new();
        loop {
            while calls.len() < Self::AT_ONCE {
                let Some(call) = self.next_call() else { break };
                calls.push(write(call, counters));
            }
            tokio::select! {
                biased;
                Some(()) = calls.next() => {}
                () = self.arrived.notified() => {}
            }
        }
    }

    fn hand_in(&self, order: Order, answer: oneshot::Sender<Written>) -> u64 {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().push_back(Waiting { ticket, order, answer });
        self.arrived.notify_one();
        ticket
    }

    fn take_back(&self, ticket: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        waiting.retain(|waiting| waiting.ticket != ticket);
        waiting.len() < before
    }

    /// The chunk that has waited longest, and those that may go with it: nobody waits for company.
    fn next_call(&self) -> Option<Vec<Waiting>> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let first = waiting.pop_front()?;
        let opened = first.order.opened.clone();
        let (mut bytes, is_full) = (first.order.bytes, first.order.alone || opened.named_by == NamedBy::Chunk);
        let mut call = vec![first];
        if is_full {
            return Some(call);
        }
        for next in std::mem::take(&mut *waiting) {
            let fits = bytes.saturating_add(next.order.bytes) <= self.well && call.len() < Self::MOST;
            if fits && !next.order.alone && Arc::ptr_eq(&next.order.opened, &opened) {
                bytes += next.order.bytes;
                call.push(next);
            } else {
                waiting.push_back(next);
            }
        }
        Some(call)
    }
}

async fn write(call: Vec<Waiting>, counters: &Arc<Counters>) {
    let _in_flight = InFlight::new(counters, call.iter().map(|waiting| waiting.order.bytes).sum());
    let Some(opened) = call.first().map(|first| first.order.opened.clone()) else { return };
    let (mut chunks, answers): (Vec<Chunk>, Vec<_>) =
        call.into_iter().map(|waiting| (waiting.order.chunk, waiting.answer)).unzip();
    let outcome = opened.sink.write(&mut chunks).await;
    let was_alone = chunks.len() == 1;
    let outcomes = divided(outcome, chunks.len());
    for ((chunk, answer), outcome) in chunks.into_iter().zip(answers).zip(outcomes) {
        // Whoever no longer waits needs no answer.
        let _ = answer.send(Written { chunk, outcome, was_alone });
    }
}

/// What each of the chunks of a call gets of its outcome; a failure is that of them all.
fn divided(outcome: Result<Outcome>, chunks: usize) -> Vec<Result<Outcome>> {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return shared(error, chunks),
    };
    let told = outcome.rejected.iter().map(|rejected| rejected.chunk);
    if let Some(wrong) = told.chain(outcome.unfinished.iter().map(|(chunk, _)| *chunk)).find(|chunk| *chunk >= chunks) {
        let told = format!("the sink answered for chunk {wrong} (counted from 0) of a call of {chunks}");
        return shared(Error::fatal(told), chunks);
    }
    let mut divided: Vec<Outcome> = Vec::new();
    divided.resize_with(chunks, Outcome::default);
    for mut rejected in outcome.rejected {
        let chunk = std::mem::take(&mut rejected.chunk);
        divided[chunk].rejected.push(rejected);
    }
    for (chunk, range) in outcome.unfinished {
        divided[chunk].unfinished.push((0, range));
        divided[chunk].after = outcome.after;
    }
    divided.into_iter().map(Ok).collect()
}

fn shared(error: Error, chunks: usize) -> Vec<Result<Outcome>> {
    let again = |_| {
        Err(match &error {
            Error::Retry { cause, after } => Error::Retry { cause: cause.to_string().into(), after: *after },
            Error::Refused { cause } => Error::refused(cause.to_string()),
            Error::Fatal { cause } => Error::fatal(cause.to_string()),
        })
    };
    let mut all: Vec<_> = (1..chunks).map(again).collect();
    all.push(Err(error));
    all
}

fn over(_: oneshot::error::RecvError) -> Error {
    Error::fatal("write: this run of the sink is over")
}
