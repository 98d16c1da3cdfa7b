//! Coordinates all groups: each that has something to do has a task of its own, through which all that is asked of it goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Committed, Edge, Error, ProducerError, TopicPartition};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::acting;
use super::group::{Rules, State};
use super::request::{Claimed, Join, Joined, Millis, Refused, Sync, Synced};
use crate::broker::Served;

/// How groups are coordinated, under Kafka's names and with its defaults.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`: how long the first members of an empty group wait for more.
    pub initial_delay: Duration,
    /// `group.max.size`: how many members a group may have.
    pub max_size: usize,
    /// `group.min.session.timeout.ms` and `group.max.session.timeout.ms`: between what a member's session time-out lies.
    pub session_timeout: std::ops::RangeInclusive<Duration>,
    /// `offsets.retention.minutes`: how long offsets of a group without members are kept.
    pub retention: Duration,
    /// `offsets.retention.check.interval.ms`: how often old offsets are looked for.
    pub retention_check: Duration,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings {
            initial_delay: Duration::from_secs(3),
            max_size: i32::MAX as usize,
            session_timeout: Duration::from_secs(6)..=Duration::from_secs(30 * 60),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            retention_check: Duration::from_secs(10 * 60),
        }
    }
}

/// How long a new member may wait for the answer to its join, as with Kafka.
const NEW_MEMBER_TIMEOUT: Millis = 5 * 60 * 1000;

/// The longest delay, which Kafka, too, can not exceed.
const LONGEST_DELAY: Duration = Duration::from_millis(i32::MAX as u64);

/// What is asked of one group.
pub(super) enum Request {
    Join(Box<Join>, oneshot::Sender<Result<Joined, Refused>>),
    Sync(Sync, oneshot::Sender<Result<Synced, ResponseError>>),
    Heartbeat(Claimed, oneshot::Sender<Result<(), ResponseError>>),
    Leave(Vec<Claimed>, oneshot::Sender<Vec<Result<(), ResponseError>>>),
    Commit(Claimed, Vec<(TopicPartition, Committed)>, oneshot::Sender<Result<(), ResponseError>>),
    /// In the transaction of a producer, by its id and epoch.
    CommitInTransaction(
        Claimed,
        (i64, i16),
        Vec<(TopicPartition, Committed)>,
        oneshot::Sender<Result<(), ResponseError>>,
    ),
    /// After all commits that were taken before.
    Committed(oneshot::Sender<()>),
    /// Forgets offsets; of topics that members read only `GroupSubscribedToTopic` comes back.
    Forget(Vec<TopicPartition>, oneshot::Sender<Result<Vec<Option<ResponseError>>, ResponseError>>),
    Describe(oneshot::Sender<Description>),
    Delete(oneshot::Sender<Result<(), ResponseError>>),
    /// Forgets what is older than it may get.
    Sweep,
}

/// A group, for people.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) state: State,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<DescribedMember>,
}

/// A member, for people.
#[derive(Clone, Debug)]
pub(crate) struct DescribedMember {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: bytes::Bytes,
    pub(crate) assignment: bytes::Bytes,
}

/// Coordinates groups; clones coordinate the same.
#[derive(Clone)]
pub(crate) struct Coordinator {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Served>,
    pub(super) edge: Edge,
    pub(super) settings: GroupSettings,
    begun: Instant,
    live: Mutex<HashMap<String, mpsc::UnboundedSender<Request>>>,
}

impl Coordinator {
    /// Coordinates the groups of a log.
    pub(crate) fn new(store: Arc<dyn Served>, edge: Edge, settings: GroupSettings) -> Self {
        let inner = Inner { store, edge, settings, begun: Instant::now(), live: Mutex::default() };
        Coordinator { inner: Arc::new(inner) }
    }

    /// Gives members that the log remembers a session to be heard of, and looks for old offsets from time to time, until
    /// dropped.
    pub(crate) async fn watch(&self) {
        let mut ticks = tokio::time::interval(self.inner.settings.retention_check.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.inner.store.groups().await {
                Ok(names) => names.iter().for_each(|name| self.inner.send(name, Request::Sweep)),
                Err(cause) => tracing::warn!(%cause, "old offsets of groups are not looked for"),
            }
        }
    }

    /// Asks a group, whose task begins if it has none.
    pub(super) async fn ask<T>(
        &self,
        group: &str,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, ResponseError> {
        let (sender, receiver) = oneshot::channel();
        self.inner.send(group, request(sender));
        receiver.await.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// Asks a group that may not be named so.
    pub(super) async fn ask_named<T>(
        &self,
        group: &str,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, ResponseError> {
        match group.is_empty() {
            true => Err(ResponseError::InvalidGroupId),
            false => self.ask(group, request).await,
        }
    }

    /// How groups are coordinated.
    pub(super) fn settings(&self) -> &GroupSettings {
        &self.inner.settings
    }

    /// An id for a member that has none: nobody guesses it.
    pub(super) fn fresh_id(&self, named: &str) -> String {
        let bits = || u128::from(self.inner.edge.random());
        format!("{named}-{}", Uuid::from_u128(bits() << 64 | bits()))
    }

    /// What a group has committed, after all commits that were taken before.
    pub(super) async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, ResponseError> {
        let is_live = self.inner.live.lock().contains_key(group);
        if is_live {
            self.ask(group, Request::Committed).await?;
        }
        self.inner.store.committed(group).await.map_err(|cause| told(&cause))
    }

    /// Where offsets of a group wait for the outcome of a transaction.
    pub(super) async fn undecided(&self, group: &str) -> Result<BTreeSet<TopicPartition>, ResponseError> {
        self.inner.store.undecided(group).await.map_err(|cause| told(&cause))
    }

    /// Whether the group has members, offsets or a past.
    pub(super) async fn exists(&self, group: &str) -> Result<bool, ResponseError> {
        let inner = &self.inner;
        if inner.live.lock().contains_key(group) || inner.store.is_claimed(group) {
            return Ok(true);
        }
        let told = |cause| told(&cause);
        let is_remembered = inner.store.remembered(group).await.map_err(told)?.is_some();
        Ok(is_remembered || !inner.store.committed(group).await.map_err(told)?.is_empty())
    }

    /// All groups that have members, offsets or a past.
    pub(super) async fn names(&self) -> Result<Vec<String>, ResponseError> {
        let mut names = self.inner.store.groups().await.map_err(|cause| told(&cause))?;
        names.extend(self.inner.live.lock().keys().cloned());
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl Inner {
    pub(super) fn now(&self) -> Millis {
        Millis::try_from(self.begun.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    pub(super) fn at(&self, deadline: Millis) -> Instant {
        self.begun + Duration::from_millis(deadline)
    }

    pub(super) fn rules(&self) -> Rules {
        let initial_delay = self.settings.initial_delay.min(LONGEST_DELAY).as_millis() as Millis;
        Rules { initial_delay, new_member_timeout: NEW_MEMBER_TIMEOUT, max_size: self.settings.max_size }
    }

    pub(super) fn send(self: &Arc<Self>, group: &str, request: Request) {
        let mut live = self.live.lock();
        let mut request = request;
        if let Some(sender) = live.get(group) {
            match sender.send(request) {
                Ok(()) => return,
                // Its task panicked: another takes over from what was saved.
                Err(mpsc::error::SendError(unsent)) => request = unsent,
            }
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        // The receiver is here.
        let _ = sender.send(request);
        live.insert(group.to_owned(), sender);
        tokio::spawn(acting::act(self.clone(), group.to_owned(), receiver));
    }

    /// Ends a group's task, unless something was asked of it meanwhile.
    pub(super) fn retire(&self, group: &str, mailbox: &mpsc::UnboundedReceiver<Request>) -> bool {
        let mut live = self.live.lock();
        let is_done = mailbox.is_empty();
        if is_done {
            live.remove(group);
        }
        is_done
    }
}

/// What a client is told of a failure of the log.
pub(super) fn told(cause: &Error) -> ResponseError {
    match cause {
        cause if ProducerError::of(cause).is_some() => ResponseError::InvalidProducerEpoch,
        Error::Retry { .. } => ResponseError::CoordinatorNotAvailable,
        Error::Refused { .. } => ResponseError::UnknownServerError,
        // Somebody else has the group now.
        Error::Fatal { .. } => ResponseError::UnknownMemberId,
    }
}
