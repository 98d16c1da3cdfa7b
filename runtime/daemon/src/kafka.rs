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

use self::keys::Keys;
use crate::config::kafka::{KafkaGroups, KafkaLimits, KafkaListen};

/// An endpoint that has its address.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    declared: KafkaListen,
    security: Security,
    keys: Option<Keys>,
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
        let (security, keys) = security::of(&declared, edge, folder).await.map_err(within)?;
        Ok(Endpoint { listener, address, declared, security, keys })
    }

    /// What answers from `store`, and its answering, until dropped.
    pub(crate) fn serve(
        self,
        store: Arc<dyn Served>,
        edge: Edge,
        host: Arc<dyn Host>,
    ) -> (Arc<Broker>, impl Future<Output = ()> + use<>) {
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
        let keys = self.keys;
        let both = async move {
            match keys {
                Some(keys) => drop(tokio::join!(serving, keys.watch())),
                None => serving.await,
            }
        };
        (broker, both)
    }
}
