//! What clients sent and the log has not taken yet, bounded in bytes and in time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aqueduct_api::Incoming;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::source::refusal::Refusal;

/// From the clients' side to the engine's.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
    longest: Duration,
    requests: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    line: VecDeque<Placed>,
    is_closed: bool,
}

struct Placed {
    incoming: Incoming,
    request: u64,
    since: Instant,
}

/// Which request something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Queue {
    /// A queue that takes nothing while something in it has waited longer than `longest`.
    pub(crate) fn new(longest: Duration) -> Self {
        Queue { waiting: Mutex::default(), news: Notify::new(), longest, requests: AtomicU64::new(0) }
    }

    /// Puts all of a request at the end, or nothing of it.
    pub(crate) fn put(&self, request: Vec<Incoming>) -> Result<Ticket, Refusal> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(Refusal::unavailable("the source is stopping"));
        }
        let now = Instant::now();
        if waiting.line.front().is_some_and(|first| now - first.since > self.longest) {
            return Err(Refusal::busy("the log is full or slow"));
        }
        let ticket = self.requests.fetch_add(1, Ordering::Relaxed);
        waiting.line.extend(request.into_iter().map(|incoming| Placed { incoming, request: ticket, since: now }));
        drop(waiting);
        self.news.notify_one();
        Ok(Ticket(ticket))
    }

    /// Takes back what nobody has taken of a request: how much.
    pub(crate) fn withdraw(&self, ticket: Ticket) -> usize {
        let mut waiting = self.waiting.lock();
        let before = waiting.line.len();
        waiting.line.retain(|placed| placed.request != ticket.0);
        before - waiting.line.len()
    }

    /// Waits for the next; `None` when the queue is closed.
    pub(crate) async fn next(&self) -> Option<Incoming> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(placed) = waiting.line.pop_front() {
                    return Some(placed.incoming);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// Takes nothing more; whoever waits for what is still here learns that it was not taken.
    pub(crate) fn close(&self) {
        let line = {
            let mut waiting = self.waiting.lock();
            waiting.is_closed = true;
            std::mem::take(&mut waiting.line)
        };
        drop(line);
        self.news.notify_one();
    }
}

/// How many bytes of requests may be held at once.
#[derive(Clone)]
pub(crate) struct Held(Arc<Mutex<u64>>);

/// Bytes that are held; given back when dropped.
pub(crate) struct Charge {
    left: Held,
    bytes: u64,
}

impl Held {
    /// Room for `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        Held(Arc::new(Mutex::new(bytes)))
    }

    /// Nothing yet.
    pub(crate) fn charge(&self) -> Charge {
        Charge { left: self.clone(), bytes: 0 }
    }
}

impl Charge {
    /// Holds that many more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let mut left = self.left.0.lock();
        let Some(rest) = left.checked_sub(bytes as u64) else {
            return Err(Refusal::busy("the requests that wait for the log hold as many bytes as they may"));
        };
        *left = rest;
        self.bytes += bytes as u64;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        *self.left.0.lock() += self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_api::{Done, Stream};
    use aqueduct_record::BatchBuilder;

    use super::*;

    fn incoming(done: Option<Done>) -> Incoming {
        let stream = Arc::new(Stream { id: "{}".into(), key: String::new() });
        Incoming {
            stream,
            position: None,
            last: false,
            topic: None,
            partition: None,
            records: BatchBuilder::new(),
            dead_letter: None,
            done,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_taken_while_something_waits_too_long() {
        let queue = Queue::new(Duration::from_secs(5));
        queue.put(vec![incoming(None)]).unwrap();
        tokio::time::advance(Duration::from_secs(4)).await;
        queue.put(vec![incoming(None)]).unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(queue.put(vec![incoming(None)]).unwrap_err().status.as_u16(), 429);
        queue.next().await.unwrap();
        queue.put(vec![incoming(None)]).unwrap();
    }

    #[tokio::test]
    async fn what_nobody_took_is_given_back() {
        let queue = Queue::new(Duration::from_secs(5));
        let first = queue.put(vec![incoming(None), incoming(None)]).unwrap();
        let second = queue.put(vec![incoming(None)]).unwrap();
        queue.next().await.unwrap();
        assert_eq!((queue.withdraw(first), queue.withdraw(first), queue.withdraw(second)), (1, 0, 1));
    }

    #[tokio::test]
    async fn a_closed_queue_tells_those_who_wait() {
        let queue = Queue::new(Duration::from_secs(5));
        let (done, answer) = Done::channel();
        queue.put(vec![incoming(Some(done))]).unwrap();
        queue.close();
        assert!(answer.await.is_err());
        assert!(queue.next().await.is_none());
        assert_eq!(queue.put(vec![incoming(None)]).unwrap_err().status.as_u16(), 503);
    }

    #[test]
    fn bytes_are_given_back() {
        let held = Held::new(100);
        let mut one = held.charge();
        one.grow(60).unwrap();
        let mut two = held.charge();
        assert_eq!(two.grow(41).unwrap_err().status.as_u16(), 429);
        drop(one);
        two.grow(41).unwrap();
        two.grow(59).unwrap();
    }
}
