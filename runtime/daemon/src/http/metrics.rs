//! The same that `/status` tells, for Prometheus, in the OpenMetrics text format.

use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_commit_log::Usage;
use aqueduct_engine::Status;
use aqueduct_kafka_server::{Broker, Counters};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// A page of metrics.
pub(crate) fn render(status: &Status, usage: &Usage, broker: Option<&Broker>) -> String {
    let mut page = Page(Registry::with_prefix("aqueduct"));
    connectors(&mut page, status);
    partitions(&mut page, status);
    log(&mut page, usage);
    if let Some(broker) = broker {
        kafka(&mut page, broker.counters());
    }
    page.gauge("budget_bytes", "Memory that connectors share", [(Vec::new(), status.budget.bytes)]);
    page.gauge("budget_taken_bytes", "Shared memory that is taken", [(Vec::new(), status.budget.taken)]);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &page.0);
    text
}

fn connectors(page: &mut Page, status: &Status) {
    let of = |value: fn(&aqueduct_engine::ConnectorStatus) -> u64| {
        status.connectors.iter().map(move |connector| {
            let kind = serde_json::to_value(connector.kind).ok();
            let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            (vec![("connector", connector.name.clone()), ("kind", kind)], value(connector))
        })
    };
    page.counter("records", "Records taken in and durable, or delivered", of(|connector| connector.records));
    page.counter("bytes", "Bytes of these records as stored", of(|connector| connector.bytes));
    page.counter("dead_letters", "Dead letters written", of(|connector| connector.dead_letters));
    page.counter("retries", "Failures that were tried again", of(|connector| connector.retries));
    page.counter("restarts", "Starts after a failure", of(|connector| connector.restarts));
    page.counter("lost_records", "Records skipped because they were damaged or gone", of(|connector| connector.lost));
    page.gauge("in_flight_bytes", "Bytes read but not durable yet, or being delivered", of(|it| it.in_flight_bytes));
    page.gauge("streams", "Streams with a position", of(|connector| connector.streams));
    let states = status.connectors.iter().map(|connector| {
        (vec![("connector", connector.name.clone()), ("state", connector.state.name().to_owned())], 1)
    });
    page.gauge("connector_state", "1 for the state that the connector is in", states);
}

fn partitions(page: &mut Page, status: &Status) {
    let of = |value: fn(&aqueduct_engine::PartitionStatus) -> u64| {
        status.connectors.iter().flat_map(move |connector| {
            connector.partitions.iter().map(move |partition| {
                let mut labels = place(&partition.topic, partition.partition);
                labels.insert(0, ("connector", connector.name.clone()));
                (labels, value(partition))
            })
        })
    };
    page.gauge("sink_lag_records", "Offsets between what is delivered and what can be read", of(|it| it.lag));
    page.gauge("sink_waiting_milliseconds", "How long the first undelivered record waits", of(|it| it.chunk_age_ms));
    page.gauge(
        "sink_partition_stopped",
        "1 where a person has to set the partition right",
        of(|it| u64::from(it.stopped.is_some())),
    );
}

fn log(page: &mut Page, usage: &Usage) {
    let of = |value: fn(&aqueduct_commit_log::PartitionUsage) -> u64| {
        usage.partitions.iter().map(move |partition| (place(&partition.topic, partition.partition), value(partition)))
    };
    page.gauge("log_bytes", "Bytes of the segments", of(|partition| partition.bytes));
    page.gauge("log_segments", "Segments", of(|partition| partition.segments as u64));
    page.gauge("log_start_offset", "The first offset that is kept", of(|partition| partition.start.max(0) as u64));
    page.gauge("log_end_offset", "The offset that the next append gets", of(|partition| partition.end.max(0) as u64));
    page.gauge(
        "log_damaged_offsets",
        "Offsets that can not be read",
        of(|partition| partition.damaged.iter().map(|damaged| (damaged.to - damaged.from).max(0) as u64).sum()),
    );
    page.gauge("log_open_files", "Files that the log has open", [(Vec::new(), usage.open_files as u64)]);
    page.gauge(
        "log_full",
        "1 while appends are refused for want of room",
        [(Vec::new(), u64::from(usage.full.is_some()))],
    );
    page.gauge(
        "log_leader_epoch",
        "Rises with every start that had to recover",
        [(Vec::new(), usage.leader_epoch.max(0) as u64)],
    );
    page.counter("log_dropped_records", "Offsets deleted to make room", [(Vec::new(), usage.dropped_offsets)]);
    page.counter("log_dropped_bytes", "Bytes deleted to make room", [(Vec::new(), usage.dropped_bytes)]);
}

fn kafka(page: &mut Page, counters: &Counters) {
    let open = counters.open.load(Ordering::Relaxed);
    page.gauge("kafka_open_connections", "Connections of Kafka clients that are open", [(Vec::new(), open)]);
    let mut counter = |name, help, value: &AtomicU64| {
        page.counter(name, help, [(Vec::new(), value.load(Ordering::Relaxed))]);
    };
    counter("kafka_connections", "Connections of Kafka clients that were served", &counters.connections);
    counter("kafka_turned_away", "Connections of Kafka clients beyond the most that are served", &counters.turned_away);
    counter("kafka_broken", "Connections closed for what came over them, or did not come in time", &counters.broken);
    counter("kafka_insecure", "Connections on which TLS could not be agreed with Kafka clients", &counters.insecure);
    counter("kafka_not_known", "Attempts of Kafka clients to say who they are that failed", &counters.refused);
    counter("kafka_silent", "Connections of Kafka clients that did not say in time who they are", &counters.silent);
    counter("kafka_throttled", "Requests of Kafka clients after which a quota held them back", &counters.throttled);
    counter("kafka_refused_batches", "Batches of Kafka clients that were refused", &counters.refused_batches);
}

fn place(topic: &str, partition: i32) -> Labels {
    vec![("topic", topic.to_owned()), ("partition", partition.to_string())]
}

/// A page that is made anew for each reader, since the numbers are kept by engine and log.
struct Page(Registry);

impl Page {
    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.0.register(name, help, family);
    }
}
