//! The commits of one run of a sink: one in flight, which takes along what all partitions have to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_api::{Committed, Error, Result, Store, Token, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::counters::Counters;
use crate::retry::Retry;

/// Changes that wait for the next commit.
pub(crate) struct Commits {
    store: Arc<dyn Store>,
    token: Token,
    waiting: Mutex<Vec<Waiting>>,
    arrived: Notify,
    over: AtomicBool,
}

struct Waiting {
    partition: TopicPartition,
    committed: Committed,
    done: oneshot::Sender<()>,
}

impl Commits {
    /// The most changes of one commit, so that it stays a batch that every log takes.
    const MOST: usize = 1000;

    pub(crate) fn new(store: &Arc<dyn Store>, token: Token) -> Self {
        Commits {
            store: store.clone(),
            token,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            over: AtomicBool::new(false),
        }
    }

    /// Commits with the next commit; returns once it is durable.
    ///
    /// # Errors
    /// `Fatal` when the run is over.
    pub(crate) async fn commit(&self, partition: &TopicPartition, committed: Committed) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.waiting.lock().push(Waiting { partition: partition.clone(), committed, done });
        self.arrived.notify_one();
        if self.over.load(Ordering::Acquire) {
            return Err(over());
        }
        answer.await.map_err(|_| over())
    }

    /// Commits what waits, again and again, until that fails for good.
    pub(crate) async fn drive(&self, retry: &mut Retry, counters: &Counters) -> Error {
        loop {
            self.arrived.notified().await;
            loop {
                let mut taken: Vec<Waiting> = {
                    let mut waiting = self.waiting.lock();
                    let taken = waiting.len().min(Commits::MOST);
                    waiting.drain(..taken).collect()
                };
                if taken.is_empty() {
                    break;
                }
                if let Err(error) = self.commit_all(&mut taken, retry, counters).await {
                    self.over.store(true, Ordering::Release);
                    self.waiting.lock().clear();
                    return error;
                }
                for waiting in taken {
                    // Who no longer waits needs no answer.
                    let _ = waiting.done.send(());
                }
            }
        }
    }

    async fn commit_all(&self, taken: &mut Vec<Waiting>, retry: &mut Retry, counters: &Counters) -> Result<()> {
        loop {
            let changes = taken.iter().map(|waiting| (waiting.partition.clone(), Some(waiting.committed.clone())));
            match self.store.commit(&self.token, changes.collect()).await {
                Ok(()) => {
                    retry.succeeded();
                    return Ok(());
                }
                Err(Error::Refused { .. }) if self.leave_out_deleted(taken).await? => {}
                Err(error) => {
                    let error = error.context("commit offsets");
                    let message = error.to_string();
                    let wait = retry.failed(error)?;
                    tracing::warn!(group = self.token.group, cause = message, "commit is tried again");
                    counters.retried(message);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Leaves out what belongs to topics that are not there any more, so that the others are committed; false when
    /// nothing does.
    async fn leave_out_deleted(&self, taken: &mut Vec<Waiting>) -> Result<bool> {
        let topics = self.store.topics().await?;
        let before = taken.len();
        taken.retain(|waiting| topics.iter().any(|topic| topic.name == waiting.partition.topic));
        Ok(taken.len() < before)
    }
}

fn over() -> Error {
    Error::fatal("commit offsets: this run of the sink is over")
}
