//! The endpoint for Kafka clients, as the configuration declares it.

mod keys;
mod security;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result, Span};
use aqueduct_kafka_server::{Broker, GroupSettings, Host, Options, Security, Served};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::keys::Keys;
use self::security::Before;
use crate::config::Listen;
use crate::config::kafka::{KafkaGroups, KafkaLimits, KafkaListen};
use crate::load::listen::problems;

/// An endpoint that has its address.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    declared: KafkaListen,
    security: Security,
    keys: Option<Arc<Keys>>,
}

impl Endpoint {
    /// Takes the address, and reads what clients are known by; files are relative to `folder`.
    ///
    /// # Errors
    /// `Fatal` when the address is taken, or a file is not what it should be.
    pub(crate) async fn bind(declared: KafkaListen, edge: &Edge, folder: &Path) -> Result<Endpoint> {
        let wanted = declared.address;
        let taken = |cause: std::io::Error| Error::fatal(format!("listen.kafka: {wanted}: {cause}"));
        let listener = TcpListener::bind(wanted).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let within = |cause: Error| cause.context("listen.kafka");
        let (security, keys) = security::of(&declared, None, edge, folder).await.map_err(within)?;
        Ok(Endpoint { listener, address, declared, security, keys })
    }

    /// What answers from `store`, and its answering, until dropped.
    pub(crate) fn serve(
        self,
        store: Arc<dyn Served>,
        edge: Edge,
        host: Arc<dyn Host>,
    ) -> (Serving, impl Future<Output = ()> + use<>) {
        let ip = self.address.ip();
        let itself = || if ip.is_unspecified() { "localhost".to_owned() } else { ip.to_string() };
        let name = self.declared.advertise.unwrap_or_else(itself);
        let KafkaGroups { initial_delay, max_size, retention } = self.declared.groups;
        let or_ever = |span: Span| span.duration().unwrap_or(Duration::MAX);
        let groups = GroupSettings {
            initial_delay: or_ever(initial_delay),
            max_size: max_size as usize,
            retention: or_ever(retention),
            ..GroupSettings::default()
        };
        let KafkaLimits { connections, connections_per_address, request, in_flight, outgoing, idle } =
            self.declared.limits;
        let options = Options {
            auto_create: self.declared.auto_create,
            groups,
            connections: connections as usize,
            connections_of_one: connections_per_address as usize,
            request: request.0 as usize,
            in_flight: in_flight.0 as usize,
            outgoing: outgoing.0 as usize,
            idle: or_ever(idle),
            security: self.security,
            ..Options::at(name, self.address.port())
        };
        let broker = Arc::new(Broker::new(store, edge, options, host));
        let serving = aqueduct_kafka_server::serve(self.listener, broker.clone());
        let keys = watch::Sender::new(self.keys);
        let watching = watch_keys(keys.subscribe());
        let both = async move {
            let ((), ()) = tokio::join!(serving, watching);
        };
        (Serving { broker, keys }, both)
    }
}

/// Keeps the keys of tokens current, where there are any, whichever those are.
async fn watch_keys(mut changes: watch::Receiver<Option<Arc<Keys>>>) {
    loop {
        let keys = changes.borrow_and_update().clone();
        let watching = async {
            match keys {
                Some(keys) => keys.watch().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watching => {}
            changed = changes.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

/// An endpoint that answers.
pub(crate) struct Serving {
    broker: Arc<Broker>,
    keys: watch::Sender<Option<Arc<Keys>>>,
}

/// What a reload makes of an endpoint.
pub(crate) struct Change {
    /// What holds afterwards.
    pub(crate) declared: KafkaListen,
    /// What changes, for people.
    pub(crate) told: Vec<String>,
    known_by: Option<(Security, Option<Arc<Keys>>)>,
}

impl Serving {
    /// What answers.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Finds out what changes where `before` held and `after` is to hold: how clients come to be known, and what they may do.
    /// Where it listens does not change before a restart.
    ///
    /// # Errors
    /// `Fatal` when a file is not what it should be.
    pub(crate) async fn prepare(
        &self,
        before: &KafkaListen,
        after: &KafkaListen,
        edge: &Edge,
        folder: &Path,
    ) -> Result<Change> {
        let KafkaListen { tls, mechanisms, oauth, session, users, .. } = after.clone();
        let declared = KafkaListen { tls, mechanisms, oauth, session, users, ..before.clone() };
        if declared == *before {
            return Ok(Change { declared, told: Vec::new(), known_by: None });
        }
        // What would be right elsewhere may be wrong where it listens still.
        let listen = Listen { kafka: Some(declared.clone()), ..Listen::default() };
        if let Some((way, why)) = problems(&listen).into_iter().next() {
            let told = format!(
                "who Kafka clients are and what they may do stays as it was until a restart: {}: {why}",
                way.join(".")
            );
            return Ok(Change { declared: before.clone(), told: vec![told], known_by: None });
        }
        let (security, keys) = (self.broker.security(), self.keys.borrow().clone());
        let held = Before { declared: before, security: &security, keys };
        let known_by = security::of(&declared, Some(held), edge, folder).await;
        let known_by = Some(known_by.map_err(|cause| cause.context("listen.kafka"))?);
        Ok(Change { told: applied(before, &declared), declared, known_by })
    }

    /// Goes by it from now on: who connects at once, who is connected with the next request.
    pub(crate) fn apply(&self, change: &Change) {
        if let Some((security, keys)) = &change.known_by {
            self.broker.secure(security.clone());
            self.keys.send_replace(keys.clone());
        }
    }
}

/// What a reload changes.
fn applied(before: &KafkaListen, after: &KafkaListen) -> Vec<String> {
    let changed = [
        ("tls", before.tls != after.tls),
        ("mechanisms", before.mechanisms != after.mechanisms),
        ("oauth", before.oauth != after.oauth),
        ("session", before.session != after.session),
        ("users", before.users != after.users),
    ];
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| format!("`listen.kafka.{key}` has changed, and holds for Kafka clients now")).collect()
}

/// What only a restart changes, and whether it has changed.
pub(crate) fn fixed(before: &KafkaListen, after: &KafkaListen) -> [(&'static str, bool); 6] {
    [
        ("listen.kafka.address", before.address != after.address),
        ("listen.kafka.expose", before.expose != after.expose),
        ("listen.kafka.advertise", before.advertise != after.advertise),
        ("listen.kafka.auto-create", before.auto_create != after.auto_create),
        ("listen.kafka.groups", before.groups != after.groups),
        ("listen.kafka.limits", before.limits != after.limits),
    ]
}
