//! What answers: a log, and what clients are told of the node that keeps it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aqueduct_api::{
    Bounds, Edge, Kept, Memberships, Producers, Result, Store, Stretches, Topic, TopicId, TopicPartition,
    TopicSettings, Transactions,
};
use async_trait::async_trait;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use uuid::Uuid;

use crate::call::{Access, Wrong};
use crate::fetch::{Followed, sessions::Sessions};
use crate::frame::{Limits, Room};
use crate::groups::{Coordinator, GroupSettings};
use crate::names::text;
use crate::produce::INFLATED_AT_ONCE;
use crate::security::Security;
use crate::security::current::Current;
use crate::transactions::{self, TransactionSettings};

/// The number under which clients know this node: there is one.
pub(crate) const NODE: i32 = 0;

/// All that is asked of the log.
pub trait Served: Store + Stretches + Kept + Producers + Memberships + Transactions {}

impl<T: Store + Stretches + Kept + Producers + Memberships + Transactions> Served for T {}

/// Answers requests; connections share one.
pub struct Broker {
    /// Where records are.
    pub(crate) store: Arc<dyn Served>,
    /// Time and threads.
    pub(crate) edge: Edge,
    /// What was declared of the endpoint.
    pub(crate) options: Options,
    /// Who says what topics are to be, and changes them.
    pub(crate) host: Arc<dyn Host>,
    /// What a connection may ask for.
    pub(crate) limits: Limits,
    /// Bytes of requests that may be in flight.
    pub(crate) room: Room,
    /// What a connection may ask for that is not known yet, and the room for that.
    pub(crate) lobby: (Limits, Room),
    /// Bytes of records that may be on their way to clients.
    pub(crate) outgoing: Arc<Semaphore>,
    /// Bytes of files that may be read at once, to be sent.
    pub(crate) reading: Semaphore,
    /// What clients follow that do not name it each time.
    pub(crate) sessions: Mutex<Sessions<Followed>>,
    /// Bytes that batches may inflate to while they are checked.
    pub(crate) inflating: Semaphore,
    /// Who is in which group.
    pub(crate) groups: Coordinator,
    /// Which transactions producers have.
    pub(crate) transactions: transactions::Coordinator,
    /// How clients come to be known.
    pub(crate) security: Current,
    /// What has happened.
    pub(crate) counters: Counters,
    cluster_id: OnceCell<StrBytes>,
}

/// What is declared of the endpoint.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host that clients are told to connect to.
    pub host: String,
    /// The port that clients are told to connect to.
    pub port: u16,
    /// Whether a topic that does not exist is made when somebody writes to it or asks for it.
    pub auto_create: bool,
    /// Connections that are served at once.
    pub connections: usize,
    /// Connections that are served at once from one address.
    pub connections_of_one: usize,
    /// The longest request, in bytes.
    pub request: usize,
    /// Bytes of requests in flight; never less than one request.
    pub in_flight: usize,
    /// Bytes of records on their way to clients.
    pub outgoing: usize,
    /// How long a connection may say nothing.
    pub idle: Duration,
    /// How groups are coordinated.
    pub groups: GroupSettings,
    /// How transactions are coordinated.
    pub transactions: TransactionSettings,
    /// How clients come to be known at first.
    pub security: Security,
}

impl Options {
    /// As Kafka has them, at an address.
    pub fn at(host: impl Into<String>, port: u16) -> Self {
        Options {
            host: host.into(),
            port,
            auto_create: true,
            connections: 10_000,
            connections_of_one: 10_000,
            request: 100 << 20,
            in_flight: 128 << 20,
            outgoing: 128 << 20,
            idle: Duration::from_secs(600),
            groups: GroupSettings::default(),
            security: Security::default(),
            transactions: TransactionSettings::default(),
        }
    }
}

/// The process around the broker.
#[async_trait]
pub trait Host: Send + Sync {
    /// How many partitions a topic gets and how it is kept, where a client does not say it.
    fn declared(&self, topic: &str) -> (i32, TopicSettings);

    /// Changes a topic. Once it answers, whoever reads or feeds the topic goes by what it is now.
    async fn alter(&self, topic: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic>;
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were served.
    pub connections: AtomicU64,
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that were turned away because there were too many, in all or from their address.
    pub turned_away: AtomicU64,
    /// Connections that were closed for what came over them, or because it did not come.
    pub broken: AtomicU64,
    /// Connections on which TLS could not be agreed.
    pub insecure: AtomicU64,
    /// Attempts to say who one is that failed.
    pub refused: Arc<AtomicU64>,
    /// Connections that were closed because they did not say in time who they are.
    pub silent: AtomicU64,
    /// Requests that were answered with a time to wait, because a quota was used up.
    pub throttled: AtomicU64,
    /// Batches that were refused.
    pub refused_batches: AtomicU64,
}

/// Bytes of files that are read at once for clients whose records are not in memory, or go out encrypted.
const READ_AT_ONCE: usize = 64 << 20;
/// How long the rest of a frame may take, besides what its length allows.
const REST: Duration = Duration::from_secs(10);
/// The longest frame of somebody who is not known yet.
const UNKNOWN: usize = 32 << 10;
/// What all frames of those may take.
const LOBBY: usize = 8 << 20;

impl Broker {
    /// Answers from `store`.
    pub fn new(store: Arc<dyn Served>, edge: Edge, options: Options, host: Arc<dyn Host>) -> Self {
        Broker {
            groups: Coordinator::new(store.clone(), edge.clone(), options.groups.clone()),
            transactions: transactions::Coordinator::new(store.clone(), edge.clone(), options.transactions.clone()),
            security: Current::new(options.security.clone()),
            store,
            edge,
            host,
            lobby: (
                Limits { frame: UNKNOWN.min(options.request), idle: options.idle, rest: REST },
                Room::new(LOBBY, UNKNOWN),
            ),
            limits: Limits { frame: options.request, idle: options.idle, rest: REST },
            room: Room::new(options.in_flight, options.request),
            outgoing: Arc::new(Semaphore::new(options.outgoing.min(u32::MAX as usize))),
            reading: Semaphore::new(READ_AT_ONCE),
            sessions: Mutex::default(),
            inflating: Semaphore::new(INFLATED_AT_ONCE),
            counters: Counters::default(),
            cluster_id: OnceCell::new(),
            options,
        }
    }

    /// What has happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where clients are told to connect to: `localhost:9092`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.options.host, self.options.port)
    }

    /// How clients come to be known.
    pub fn security(&self) -> Arc<Security> {
        self.security.get()
    }

    /// Lets clients come to be known in another way: new ones from now on, those that are connected with their next request.
    pub fn secure(&self, security: Security) {
        self.security.change(security);
    }

    /// The host that clients are told.
    pub(crate) fn host(&self) -> StrBytes {
        text(&self.options.host)
    }

    /// The port that clients are told.
    pub(crate) fn port(&self) -> i32 {
        i32::from(self.options.port)
    }

    /// What tells this log from others: the id of the topic that every log has.
    pub(crate) async fn cluster_id(&self) -> Option<StrBytes> {
        let find = async || match self.store.topic("__consumer_offsets").await {
            Ok(Some(topic)) => Ok(text(&topic.id.to_string())),
            _ => Err(()),
        };
        self.cluster_id.get_or_try_init(find).await.ok().cloned()
    }

    /// A topic by its name, whether it exists or not told only to who may have it.
    pub(crate) async fn topic(&self, access: Access<'_>, name: &str) -> Result<Topic, Wrong> {
        access.check(name)?;
        let unknown = || Wrong::from(ResponseError::UnknownTopicOrPartition);
        self.store.topic(name).await?.ok_or_else(unknown)
    }

    /// A topic by its id.
    pub(crate) async fn topic_of(&self, access: Access<'_>, id: Uuid) -> Result<Topic, Wrong> {
        let unknown = || Wrong::from(ResponseError::UnknownTopicId);
        let topic = self.store.topic_of(TopicId(id.as_u128())).await?.ok_or_else(unknown)?;
        // As in Kafka: ids are no secret, names are.
        access.check(&topic.name)?;
        Ok(topic)
    }

    /// The topic that a request names: by its id in versions that have ids, else by its name.
    pub(crate) async fn named(&self, access: Access<'_>, name: &str, id: Uuid, by_id: bool) -> Result<Topic, Wrong> {
        if by_id { self.topic_of(access, id).await } else { self.topic(access, name).await }
    }

    /// A partition with its bounds, for a client that believes its leader to have `epoch`; -1: it says nothing.
    pub(crate) async fn bounds(
        &self,
        topic: &Topic,
        partition: i32,
        epoch: i32,
    ) -> Result<(TopicPartition, Bounds), Wrong> {
        if !(0..topic.partitions).contains(&partition) {
            return Err(ResponseError::UnknownTopicOrPartition.into());
        }
        let of = TopicPartition::new(topic.name.clone(), partition);
        let bounds = self.store.bounds(&of).await?;
        match epoch {
            0.. if epoch < bounds.leader_epoch => Err(ResponseError::FencedLeaderEpoch.into()),
            0.. if epoch > bounds.leader_epoch => Err(ResponseError::UnknownLeaderEpoch.into()),
            _ => Ok((of, bounds)),
        }
    }
}
