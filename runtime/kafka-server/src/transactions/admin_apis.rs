//! DescribeTransactions, ListTransactions and WriteTxnMarkers: what people ask and do.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use aqueduct_api::{Error, Marker, Producer, ProducerError, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerId, TopicName, TransactionalId, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::StrBytes;
use regex::{Regex, RegexBuilder};

use super::entry::{Entry, NAMES};
use crate::broker::Broker;
use crate::call::Caller;
use crate::names::text;
use crate::newer::Ruled;
use crate::security::rights::{Operation, Resource};

/// From this version of transactions on the marker of each has an epoch that none of its records has (KIP-890).
const EPOCH_OF_ITS_OWN: i8 = 2;
/// The longest pattern that is looked at.
const LONGEST_PATTERN: usize = 256;
/// Bytes that a pattern may take once it is compiled.
const LARGEST_PATTERN: usize = 1 << 20;

/// DescribeTransactions.
pub(crate) async fn describe(
    broker: &Broker,
    request: DescribeTransactionsRequest,
    caller: &Caller,
) -> DescribeTransactionsResponse {
    let mut found = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        let described = match described(broker, &id, caller).await {
            Ok(entry) => to_described(&entry, caller),
            Err(error) => Described::default().with_error_code(error.code()),
        };
        found.push(described.with_transactional_id(id));
    }
    DescribeTransactionsResponse::default().with_transaction_states(found)
}

async fn described(broker: &Broker, id: &str, caller: &Caller) -> Result<Entry, ResponseError> {
    caller.may(Operation::Describe, Resource::Transaction(id))?;
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    broker.transactions.describe(id).await?.ok_or(ResponseError::TransactionalIdNotFound)
}

fn to_described(entry: &Entry, caller: &Caller) -> Described {
    let mut topics = BTreeMap::<&Arc<str>, Vec<i32>>::new();
    for of in &entry.partitions {
        if caller.allows(Operation::Describe, Resource::Topic(&of.topic)) {
            topics.entry(&of.topic).or_default().push(of.partition);
        }
    }
    let topic = |(topic, partitions): (&Arc<str>, Vec<i32>)| {
        TopicData::default().with_topic(TopicName(text(topic))).with_partitions(partitions)
    };
    Described::default()
        .with_transaction_state(StrBytes::from_static_str(entry.state.name()))
        .with_transaction_timeout_ms(entry.timeout)
        .with_transaction_start_time_ms(entry.started)
        .with_producer_id(ProducerId(entry.producer_id))
        .with_producer_epoch(entry.epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}

/// ListTransactions.
pub(crate) async fn list(
    broker: &Broker,
    request: ListTransactionsRequest,
    caller: &Caller,
) -> ListTransactionsResponse {
    let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let found = match matcher(broker, pattern).await {
        Ok(matcher) => broker.transactions.all().await.map(|all| (all, matcher)),
        Err(error) => Err(error),
    };
    let (all, pattern) = match found {
        Ok(found) => found,
        Err(error) => return ListTransactionsResponse::default().with_error_code(error.code()),
    };
    let now = broker.transactions.now();
    let producers: HashSet<_> = request.producer_id_filters.iter().copied().collect();
    let is_asked = |name: &str, entry: &Entry| {
        caller.allows(Operation::Describe, Resource::Transaction(name))
            && (producers.is_empty() || producers.contains(&ProducerId(entry.producer_id)))
            && (request.state_filters.is_empty()
                || request.state_filters.iter().any(|state| **state == *entry.state.name()))
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && (request.duration_filter < 0 || now.saturating_sub(entry.started) > request.duration_filter)
    };
    let found = all.into_iter().filter(|(name, entry)| is_asked(name, entry)).map(|(name, entry)| {
        Listed::default()
            .with_transactional_id(TransactionalId(StrBytes::from_string(name)))
            .with_producer_id(ProducerId(entry.producer_id))
            .with_transaction_state(StrBytes::from_static_str(entry.state.name()))
    });
    let unknown = request.state_filters.iter().filter(|state| !NAMES.contains(&&***state)).cloned().collect();
    ListTransactionsResponse::default().with_transaction_states(found.collect()).with_unknown_state_filters(unknown)
}

/// What names have to match, made where it holds up nobody: some short patterns take milliseconds.
async fn matcher(broker: &Broker, pattern: Option<&str>) -> Result<Option<Regex>, ResponseError> {
    let Some(pattern) = pattern.map(str::to_owned) else { return Ok(None) };
    let made = broker.edge.blocking(move || compiled(&pattern)).await;
    made.unwrap_or(Err(ResponseError::CoordinatorNotAvailable)).map(Some)
}

/// A pattern that is to match the whole of a name.
fn compiled(pattern: &str) -> Result<Regex, ResponseError> {
    let whole = format!(r"\A(?:{pattern})\z");
    // Alone too: a bracket that closes ours is none of its own.
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    match pattern.len() > LONGEST_PATTERN || compile(pattern).is_err() {
        true => Err(ResponseError::InvalidRegularExpression),
        false => compile(&whole).map_err(|_| ResponseError::InvalidRegularExpression),
    }
}

/// WriteTxnMarkers: what a person does about a transaction that no coordinator knows.
pub(crate) async fn write_markers(broker: &Broker, asked: Vec<Ruled>, caller: &Caller) -> WriteTxnMarkersResponse {
    let allowed = caller.allows(Operation::Alter, Resource::Cluster)
        || caller.allows(Operation::ClusterAction, Resource::Cluster);
    let mut results = Vec::with_capacity(asked.len());
    for (marker, rules) in asked {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in &marker.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes.iter().copied() {
                let of = TopicPartition::new(&*topic.name.0, index);
                let error = match allowed {
                    true => written(broker, &of, (&marker, rules)).await.err(),
                    false => Some(ResponseError::ClusterAuthorizationFailed),
                };
                let result = WritableTxnMarkerPartitionResult::default().with_partition_index(index);
                partitions.push(result.with_error_code(error.map_or(0, |error| error.code())));
            }
            topics.push(
                WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions),
            );
        }
        results.push(WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics));
    }
    WriteTxnMarkersResponse::default().with_markers(results)
}

async fn written(
    broker: &Broker,
    of: &TopicPartition,
    (asked, rules): (&WritableTxnMarker, i8),
) -> Result<(), ResponseError> {
    let topic = broker.store.topic(&of.topic).await.map_err(|_| ResponseError::KafkaStorageError)?;
    if topic.is_none_or(|topic| !(0..topic.partitions).contains(&of.partition)) {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    if rules >= EPOCH_OF_ITS_OWN {
        let producers = broker.store.producers(of).await.map_err(|_| ResponseError::KafkaStorageError)?;
        let is_of_next = |producer: &Producer| {
            (producer.id, producer.epoch) == (asked.producer_id.0, asked.producer_epoch)
                && producer.open_since.is_some()
        };
        if producers.iter().any(is_of_next) {
            return Err(ResponseError::InvalidProducerEpoch);
        }
    }
    let marker = Marker {
        producer_id: asked.producer_id.0,
        epoch: asked.producer_epoch,
        coordinator_epoch: asked.coordinator_epoch,
        committed: asked.transaction_result,
    };
    let outcome = async { broker.store.end(of, marker).await?.durable.await };
    outcome.await.map_err(|cause| not_written(of, &cause))
}

fn not_written(of: &TopicPartition, cause: &Error) -> ResponseError {
    tracing::warn!(partition = %of, %cause, "a marker that somebody asked for is not written");
    match (ProducerError::of(cause), cause) {
        (Some(ProducerError::CoordinatorFenced { .. }), _) => ResponseError::TransactionCoordinatorFenced,
        (Some(_), _) => ResponseError::InvalidProducerEpoch,
        (None, Error::Retry { .. }) => ResponseError::KafkaStorageError,
        (None, _) => ResponseError::InvalidRequest,
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarkerTopic;

    use super::*;
    use crate::broker::Options;
    use crate::groups::tests::store::Memory;

    /// What is answered to a marker of a producer and its epoch, by rules, where producer 7 has a transaction open under its
    /// epoch 5, and producer 8 none; nothing: it is written.
    async fn marked((id, epoch): (i64, i16), rules: i8) -> Option<ResponseError> {
        let log = Memory::default();
        let known = |id, open_since| Producer {
            id,
            epoch: 5,
            last_sequence: 0,
            last_timestamp: 0,
            coordinator_epoch: 0,
            open_since,
        };
        *log.producers.lock() = vec![known(7, Some(0)), known(8, None)];
        let store = Arc::new(log.clone());
        let broker = Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store);
        let topic = WritableTxnMarkerTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0]);
        let asked = WritableTxnMarker::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
            .with_transaction_result(true)
            .with_topics(vec![topic]);
        let needs = crate::apis::api(ApiKey::WriteTxnMarkers as i16).unwrap().needs;
        let caller = Caller { needs, ..Caller::somebody(2) };
        let answer = write_markers(&broker, vec![(asked, rules)], &caller).await;
        let code = answer.markers[0].topics[0].partitions[0].error_code;
        let written: Vec<_> = log.markers.lock().iter().map(|marker| (marker.producer_id, marker.epoch)).collect();
        assert_eq!(written, if code == 0 { vec![(id, epoch)] } else { Vec::new() });
        ResponseError::try_from_code(code)
    }

    #[tokio::test]
    async fn a_marker_that_comes_late_ends_no_transaction_of_the_next_epoch() {
        let late = Some(ResponseError::InvalidProducerEpoch);
        let cases = [
            ("of the transaction before, which had the epoch before", (7, 5), 2, late),
            ("of the one that is open", (7, 6), 2, None),
            ("of the one that is open, where a marker has the epoch of its records", (7, 5), 1, None),
            ("by a coordinator that knows no such rules", (7, 5), 0, None),
            ("where nothing is open", (8, 5), 2, None),
        ];
        for (what, marker, rules, expected) in cases {
            assert_eq!(marked(marker, rules).await, expected, "{what}");
        }
    }

    #[test]
    fn patterns_match_whole_ids_and_cost_little() {
        let matching = [
            ("a.*", "abc", true),
            ("b", "abc", false),
            ("a|abc", "abc", true),
            ("ab", "abc", false),
            (r"\w+", "é", true),
        ];
        for (pattern, id, expected) in matching {
            assert_eq!(compiled(pattern).unwrap().is_match(id), expected, "{pattern} of {id}");
        }
        let long = "a".repeat(LONGEST_PATTERN + 1);
        for pattern in ["(", "a)(b", "a)|(?:b", "[", r"(a)\1", "a{9999}{9999}", &long] {
            assert_eq!(compiled(pattern).unwrap_err(), ResponseError::InvalidRegularExpression, "{pattern:.20}");
        }
    }
}
