//! The endpoint for Kafka clients, as the configuration declares it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result, Span};
use aqueduct_kafka_server::{Broker, GroupSettings, Host, Options, Served};
use tokio::net::TcpListener;

use crate::config::{KafkaGroups, KafkaListen};

/// An endpoint that has its address.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    declared: KafkaListen,
}

impl Endpoint {
    /// Takes the address.
    ///
    /// # Errors
    /// `Fatal` when it is taken.
    pub(crate) async fn bind(declared: KafkaListen) -> Result<Endpoint> {
        let wanted = declared.address;
        let taken = |cause: std::io::Error| Error::fatal(format!("listen.kafka: {wanted}: {cause}"));
        let listener = TcpListener::bind(wanted).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Endpoint { listener, address, declared })
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
        let auto_create = self.declared.auto_create;
        let options = Options { auto_create, groups, ..Options::at(name, self.address.port()) };
        let broker = Arc::new(Broker::new(store, edge, options, host));
        (broker.clone(), aqueduct_kafka_server::serve(self.listener, broker))
    }
}
