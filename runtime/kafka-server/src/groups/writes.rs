//! What one group writes, in order: one write is under way, and commits that wait meanwhile go together.

use std::collections::VecDeque;
use std::sync::Arc;

use aqueduct_api::{Committed, Error, Membership, Token, TopicPartition};
use futures::future::BoxFuture;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

use super::coordinator::Inner;
use super::request::Stamp;

/// Offsets that go together at most.
const TOGETHER: usize = 10_000;

/// One thing that is written.
pub(super) enum Write {
    /// Offsets; `None` forgets one.
    Offsets {
        offsets: Vec<(TopicPartition, Option<Committed>)>,
        answer: Option<oneshot::Sender<Result<(), ResponseError>>>,
        /// Whether it goes with no other.
        alone: bool,
    },
    /// Offsets in the transaction of a producer.
    InTransaction {
        producer: (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
        answer: oneshot::Sender<Result<(), ResponseError>>,
    },
    /// Who is in the group.
    Members { stamp: Stamp, membership: Membership },
    /// Nothing: what was written before is there to be read.
    Read(oneshot::Sender<()>),
    /// The group is forgotten.
    Gone(Option<oneshot::Sender<Result<(), ResponseError>>>),
}

/// What one group writes.
pub(super) struct Writes {
    inner: Arc<Inner>,
    token: Token,
    waiting: VecDeque<Write>,
    under_way: Option<UnderWay>,
}

/// What is written now, and the answer when it is.
struct UnderWay {
    writes: Vec<Write>,
    done: BoxFuture<'static, Result<(), Error>>,
}

impl Writes {
    pub(super) fn new(inner: &Arc<Inner>, token: Token) -> Self {
        Writes { inner: inner.clone(), token, waiting: VecDeque::new(), under_way: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    pub(super) fn push(&mut self, write: Write) {
        self.waiting.push_back(write);
    }

    /// Waits for the next write to be done. May be dropped while it waits, and called again.
    pub(super) async fn next(&mut self) -> (Vec<Write>, Result<(), Error>) {
        if self.under_way.is_none() {
            self.begin();
        }
        match &mut self.under_way {
            Some(under_way) => {
                let outcome = (&mut under_way.done).await;
                let writes = self.under_way.take().map(|under_way| under_way.writes);
                (writes.unwrap_or_default(), outcome)
            }
            None => std::future::pending().await,
        }
    }

    fn begin(&mut self) {
        let Some(first) = self.waiting.pop_front() else { return };
        let (inner, token) = (self.inner.clone(), self.token.clone());
        let done: BoxFuture<'static, Result<(), Error>> = match &first {
            Write::Read(_) => Box::pin(async { Ok(()) }),
            Write::Members { membership, .. } => {
                let membership = membership.clone();
                Box::pin(async move { inner.store.remember(&token, Some(membership)).await })
            }
            Write::Gone(_) => Box::pin(async move { inner.store.remember(&token, None).await }),
            Write::InTransaction { producer, offsets, .. } => {
                let (producer, offsets) = (*producer, offsets.clone());
                Box::pin(async move { inner.store.commit_in_transaction(&token, producer, offsets).await })
            }
            Write::Offsets { .. } => return self.begin_offsets(first),
        };
        self.under_way = Some(UnderWay { writes: vec![first], done });
    }

    fn begin_offsets(&mut self, first: Write) {
        let (inner, token) = (self.inner.clone(), self.token.clone());
        let goes_alone = matches!(first, Write::Offsets { alone: true, .. });
        let mut all = Vec::new();
        let mut writes = Vec::new();
        let mut next = Some(first);
        while let Some(Write::Offsets { offsets, .. }) = &next {
            all.extend(offsets.iter().cloned());
            writes.extend(next.take());
            let fits = !goes_alone && all.len() < TOGETHER;
            next = self.waiting.pop_front_if(|next| fits && matches!(next, Write::Offsets { alone: false, .. }));
        }
        let done = Box::pin(async move { inner.store.commit(&token, all).await });
        self.under_way = Some(UnderWay { writes, done });
    }
}
