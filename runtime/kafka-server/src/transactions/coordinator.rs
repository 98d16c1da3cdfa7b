//! Coordinates all transactions: does what their machines say has to be done, in the log, and tells them how it went.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aqueduct_api::{Edge, Error, TopicPartition};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, OwnedRwLockReadGuard, RwLock, oneshot};
use tokio::time::MissedTickBehavior;

use super::entry::Entry;
use super::kept::Kept;
use super::markers;
use super::request::{Answer, Effect, End, Init, Millis, Ticket, Who};
use super::transaction::Transaction;
use crate::broker::Served;

/// How transactions are coordinated, under Kafka's names and with its defaults.
#[derive(Clone, Debug)]
pub struct TransactionSettings {
    /// `transaction.max.timeout.ms`: how long a producer may ask for.
    pub max_timeout: Duration,
    /// `transactional.id.expiration.ms`: how long an id that nobody uses is remembered.
    pub expiration: Duration,
    /// How often transactions are looked for whose time is up.
    pub check: Duration,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        TransactionSettings {
            max_timeout: Duration::from_secs(15 * 60),
            expiration: Duration::from_secs(7 * 24 * 60 * 60),
            check: Duration::from_secs(1),
        }
    }
}

/// How long who writes waits until the transaction before is complete everywhere.
const COMPLETED_WITHIN: Duration = Duration::from_secs(1);

/// Coordinates transactions; clones coordinate the same.
#[derive(Clone)]
pub(crate) struct Coordinator {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Served>,
    pub(super) edge: Edge,
    settings: TransactionSettings,
    kept: OnceCell<Kept>,
    ids: Mutex<BTreeMap<String, Arc<Id>>>,
    tickets: AtomicU64,
}

/// One transactional id.
pub(super) struct Id {
    name: String,
    held: Mutex<Held>,
    /// Held by who writes, from when it is seen that it may until its batch has its place; markers come after all of them.
    pub(super) writing: Arc<RwLock<()>>,
    /// Rings whenever something is saved.
    saved: Notify,
}

struct Held {
    transaction: Transaction,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
}

/// The right to write one batch of a transaction: its marker is not written as long as it lives.
#[must_use]
pub(crate) struct Permit {
    _writing: OwnedRwLockReadGuard<()>,
}

impl Coordinator {
    /// Coordinates the transactions of a log.
    pub(crate) fn new(store: Arc<dyn Served>, edge: Edge, settings: TransactionSettings) -> Self {
        let (ids, tickets) = (Mutex::default(), AtomicU64::new(0));
        Coordinator { inner: Arc::new(Inner { store, edge, settings, kept: OnceCell::new(), ids, tickets }) }
    }

    /// Goes on with what was decided before the start, and ends transactions whose time is up, until dropped.
    pub(crate) async fn watch(&self) {
        let mut ticks = tokio::time::interval(self.inner.settings.check.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.inner.kept().await {
                Ok(_) => self.inner.expire(),
                Err(cause) => tracing::warn!(%cause, "transactions can not be coordinated yet"),
            }
        }
    }

    /// A producer takes an id.
    pub(crate) async fn init(&self, name: &str, init: Init) -> Answer {
        let inner = &self.inner;
        let most = i32::try_from(inner.settings.max_timeout.as_millis()).unwrap_or(i32::MAX);
        if !(1..=most).contains(&init.timeout) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let (id, fresh) = match inner.find(name).await? {
            Some(id) => {
                let fresh = inner.fresh_for(&id).await?;
                (id, fresh)
            }
            None => (inner.begin(name, inner.fresh().await?), None),
        };
        inner.ask(&id, |transaction, now, ticket, out| transaction.init(now, ticket, &init, fresh, out)).await
    }

    /// Adds partitions to a producer's transaction.
    pub(crate) async fn add(&self, name: &str, who: Who, partitions: &BTreeSet<TopicPartition>) -> Answer {
        let id = self.inner.known(name).await?;
        self.inner.ask(&id, |transaction, now, ticket, out| transaction.add(now, ticket, who, partitions, out)).await
    }

    /// Ends a producer's transaction.
    pub(crate) async fn end(&self, name: &str, end: End) -> Answer {
        let id = self.inner.known(name).await?;
        let fresh = self.inner.fresh_for(&id).await?;
        self.inner.ask(&id, |transaction, now, ticket, out| transaction.end(now, ticket, &end, fresh, out)).await
    }

    /// Lets a producer write to a partition, once and in its transaction. One that belongs to none is added where `adds`, else
    /// `None` comes back.
    pub(crate) async fn write(
        &self,
        name: &str,
        who: Who,
        to: &TopicPartition,
        adds: bool,
    ) -> Result<Option<Permit>, ResponseError> {
        let id = self.inner.known(name).await?;
        let permit = self.inner.write(&id, who, to, adds);
        match tokio::time::timeout(COMPLETED_WITHIN, permit).await {
            Ok(permit) => permit,
            Err(_) => Err(ResponseError::ConcurrentTransactions),
        }
    }

    /// Which of some partitions belong to a producer's transaction.
    pub(crate) async fn verify(
        &self,
        name: &str,
        who: Who,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeSet<TopicPartition>, ResponseError> {
        let id = self.inner.known(name).await?;
        let held = id.held.lock();
        let mut found = BTreeSet::new();
        for of in partitions {
            if held.transaction.may_write(who, of)? {
                found.insert(of.clone());
            }
        }
        Ok(found)
    }

    /// What is known of an id.
    pub(crate) async fn describe(&self, name: &str) -> Result<Option<Entry>, ResponseError> {
        Ok(self.inner.find(name).await?.and_then(|id| id.entry()))
    }

    /// What is known of all ids.
    pub(crate) async fn all(&self) -> Result<Vec<(String, Entry)>, ResponseError> {
        self.inner.kept().await.map_err(|cause| told(&cause))?;
        let ids = self.inner.ids.lock();
        Ok(ids.values().filter_map(|id| Some((id.name.clone(), id.entry()?))).collect())
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Millis {
        self.inner.edge.now()
    }
}

impl Id {
    fn new(name: &str, transaction: Transaction) -> Arc<Id> {
        let held = Mutex::new(Held { transaction, waiting: HashMap::new() });
        Arc::new(Id { name: name.to_owned(), held, writing: Arc::default(), saved: Notify::new() })
    }

    fn entry(&self) -> Option<Entry> {
        let held = self.held.lock();
        let entry = held.transaction.entry();
        // Of one that nobody was told of nothing is known.
        (!held.transaction.is_gone() && entry.epoch >= 0).then(|| entry.clone())
    }
}

impl Inner {
    /// What was kept before the start, and where more is kept.
    async fn kept(self: &Arc<Self>) -> Result<&Kept, Error> {
        if let Some(kept) = self.kept.get() {
            return Ok(kept);
        }
        let mut resumed = Vec::new();
        let kept = self.kept.get_or_try_init(|| async {
            let (kept, entries) = Kept::load(self.store.clone(), self.edge.clone()).await?;
            let load = |(name, entry): (String, Entry)| Id::new(&name, Transaction::load(entry));
            resumed = entries.into_iter().map(load).collect::<Vec<_>>();
            self.ids.lock().extend(resumed.iter().map(|id| (id.name.clone(), id.clone())));
            Ok::<_, Error>(kept)
        });
        let kept = kept.await?;
        for id in resumed {
            self.step(&id, |transaction, now, out| transaction.resume(now, out));
        }
        Ok(kept)
    }

    async fn find(self: &Arc<Self>, name: &str) -> Result<Option<Arc<Id>>, ResponseError> {
        self.kept().await.map_err(|cause| told(&cause))?;
        Ok(self.ids.lock().get(name).cloned())
    }

    async fn known(self: &Arc<Self>, name: &str) -> Result<Arc<Id>, ResponseError> {
        self.find(name).await?.ok_or(ResponseError::InvalidProducerIdMapping)
    }

    fn begin(&self, name: &str, producer_id: i64) -> Arc<Id> {
        let fresh = || Id::new(name, Transaction::new(producer_id, self.edge.now()));
        self.ids.lock().entry(name.to_owned()).or_insert_with(fresh).clone()
    }

    async fn fresh(&self) -> Result<i64, ResponseError> {
        self.store.new_producer().await.map_err(|cause| told(&cause))
    }

    async fn fresh_for(&self, id: &Id) -> Result<Option<i64>, ResponseError> {
        let needs_id = id.held.lock().transaction.needs_id();
        match needs_id {
            true => self.fresh().await.map(Some),
            false => Ok(None),
        }
    }

    async fn write(
        self: &Arc<Self>,
        id: &Arc<Id>,
        who: Who,
        to: &TopicPartition,
        adds: bool,
    ) -> Result<Option<Permit>, ResponseError> {
        loop {
            let saved = id.saved.notified();
            let writing = id.writing.clone().read_owned().await;
            let may = id.held.lock().transaction.may_write(who, to);
            let answer = match may {
                Ok(true) => return Ok(Some(Permit { _writing: writing })),
                Ok(false) if !adds => return Ok(None),
                Ok(false) => {
                    drop(writing);
                    let partitions = BTreeSet::from([to.clone()]);
                    let add = |transaction: &mut Transaction, now, ticket, out: &mut Vec<Effect>| {
                        transaction.add(now, ticket, who, &partitions, out);
                    };
                    self.ask(id, add).await.map(drop)
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok(()) => {}
                Err(ResponseError::ConcurrentTransactions) if adds => saved.await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask(
        self: &Arc<Self>,
        id: &Arc<Id>,
        call: impl FnOnce(&mut Transaction, Millis, Ticket, &mut Vec<Effect>),
    ) -> Answer {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        id.held.lock().waiting.insert(ticket, sender);
        self.step(id, |transaction, now, out| call(transaction, now, ticket, out));
        receiver.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    /// Does one thing with a machine, and what it says is to be done.
    pub(super) fn step(self: &Arc<Self>, id: &Arc<Id>, call: impl FnOnce(&mut Transaction, Millis, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        let mut held = id.held.lock();
        call(&mut held.transaction, self.edge.now(), &mut out);
        let is_gone = held.transaction.is_gone();
        for effect in out {
            match effect {
                Effect::Answer(ticket, answer) => {
                    if let Some(waiting) = held.waiting.remove(&ticket) {
                        // Whoever asked may be gone.
                        let _ = waiting.send(answer);
                    }
                }
                Effect::Save(entry) => drop(tokio::spawn(save(self.clone(), id.clone(), entry))),
                Effect::Mark(outcome, partitions) => {
                    drop(tokio::spawn(markers::write(Arc::downgrade(self), id.clone(), outcome, partitions)));
                }
            }
        }
        drop(held);
        if is_gone {
            let mut ids = self.ids.lock();
            if ids.get(&id.name).is_some_and(|known| Arc::ptr_eq(known, id)) {
                ids.remove(&id.name);
            }
        }
    }

    fn expire(self: &Arc<Self>) {
        let expiration = i64::try_from(self.settings.expiration.as_millis()).unwrap_or(i64::MAX);
        let now = self.edge.now();
        let is_due =
            |id: &&Arc<Id>| id.held.lock().transaction.deadline(expiration).is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.ids.lock().values().filter(is_due).cloned().collect();
        for id in due {
            self.step(&id, |transaction, now, out| transaction.expire(now, expiration, out));
        }
    }

    /// The epoch under which this coordinator decides.
    pub(super) fn epoch(&self) -> i32 {
        self.kept.get().map_or(0, Kept::epoch)
    }
}

/// Saves what a machine says, and tells it how that went.
async fn save(inner: Arc<Inner>, id: Arc<Id>, entry: Option<Entry>) {
    let saved = async { inner.kept().await?.save(&id.name, entry.as_ref()).await };
    let outcome = saved.await;
    if let Err(cause) = &outcome {
        tracing::warn!(id = id.name, %cause, "what a transaction has come to is not kept");
    }
    let outcome = outcome.map_err(|cause| told(&cause));
    inner.step(&id, |transaction, now, out| transaction.saved(now, outcome, out));
    id.saved.notify_waiters();
}

/// What a client is told of a failure of the log.
fn told(cause: &Error) -> ResponseError {
    match cause {
        Error::Retry { .. } => ResponseError::CoordinatorNotAvailable,
        Error::Refused { .. } | Error::Fatal { .. } => ResponseError::UnknownServerError,
    }
}
