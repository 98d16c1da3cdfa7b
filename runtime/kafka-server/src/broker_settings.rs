//! How the endpoint is kept, under the names that Kafka has for it: clients read it and change nothing of it.

use crate::broker::Broker;
use crate::fetch;
use crate::settings::{DEFAULT, Described, Kind, OF_THE_BROKER};

/// What Kafka's tools ask of a broker, as far as it has a meaning here.
pub(crate) fn described(broker: &Broker) -> Vec<Described> {
    let options = &broker.options;
    let (_, declared) = broker.host.declared("");
    let address = format!("{}:{}", options.host, options.port);
    let set = |name, kind, value: String, default: &str, what| {
        let source = if value == default { DEFAULT } else { OF_THE_BROKER };
        Described { name, default: default.to_owned(), value, kind: kind as i8, what, source, is_fixed: true }
    };
    let number =
        |name, value: usize, default: usize, what| set(name, Kind::Long, value.to_string(), &default.to_string(), what);
    vec![
        set("advertised.listeners", Kind::List, address, "", "The address that clients are told to connect to."),
        set(
            "auto.create.topics.enable",
            Kind::Boolean,
            options.auto_create.to_string(),
            "true",
            "Whether a topic is made when somebody asks for it.",
        ),
        number(
            "connections.max.idle.ms",
            options.idle.as_millis() as usize,
            600_000,
            "How long a connection may say nothing.",
        ),
        number("default.replication.factor", 1, 1, "There is one broker."),
        number("fetch.max.bytes", fetch::MOST_BYTES, fetch::MOST_BYTES, "The most that one fetch is answered with."),
        number("max.connections", options.connections, 10_000, "Connections that are served at once."),
        number(
            "max.connections.per.ip",
            options.connections_of_one,
            10_000,
            "Connections that are served at once from one address.",
        ),
        number(
            "max.incremental.fetch.session.cache.slots",
            fetch::sessions::SLOTS,
            fetch::sessions::SLOTS,
            "Fetch sessions that are kept.",
        ),
        number(
            "message.max.bytes",
            declared.max_batch.0 as usize,
            declared.max_batch.0 as usize,
            "The largest batch that is taken, where a topic does not say it.",
        ),
        number("min.insync.replicas", 1, 1, "There is one broker."),
        set("node.id", Kind::Int, crate::broker::NODE.to_string(), "0", "The number of the one broker."),
        number("socket.request.max.bytes", options.request, 100 << 20, "The longest request."),
    ]
}
