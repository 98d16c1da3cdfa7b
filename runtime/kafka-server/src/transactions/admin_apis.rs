//! DescribeTransactions, ListTransactions and WriteTxnMarkers: what people ask and do.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{Error, Marker, ProducerError, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerId, TopicName, TransactionalId, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::entry::{Entry, NAMES};
use crate::broker::Broker;
use crate::call::Caller;
use crate::names::text;
use crate::security::rights::{Operation, Resource};

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
    let all = match broker.transactions.all().await {
        Ok(all) => all,
        Err(error) => return ListTransactionsResponse::default().with_error_code(error.code()),
    };
    let now = broker.transactions.now();
    let is_asked = |name: &str, entry: &Entry| {
        let producers = &request.producer_id_filters;
        (producers.is_empty() || producers.contains(&ProducerId(entry.producer_id)))
            && (request.state_filters.is_empty()
                || request.state_filters.iter().any(|state| **state == *entry.state.name()))
            && (request.duration_filter < 0 || now.saturating_sub(entry.started) > request.duration_filter)
            && caller.allows(Operation::Describe, Resource::Transaction(name))
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

/// WriteTxnMarkers: what a person does about a transaction that no coordinator knows.
pub(crate) async fn write_markers(
    broker: &Broker,
    request: WriteTxnMarkersRequest,
    caller: &Caller,
) -> WriteTxnMarkersResponse {
    let allowed = caller.allows(Operation::Alter, Resource::Cluster)
        || caller.allows(Operation::ClusterAction, Resource::Cluster);
    let mut results = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in &marker.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes.iter().copied() {
                let of = TopicPartition::new(&*topic.name.0, index);
                let error = match allowed {
                    true => written(broker, &of, &marker).await.err(),
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

async fn written(broker: &Broker, of: &TopicPartition, asked: &WritableTxnMarker) -> Result<(), ResponseError> {
    let topic = broker.store.topic(&of.topic).await.map_err(|_| ResponseError::KafkaStorageError)?;
    if topic.is_none_or(|topic| !(0..topic.partitions).contains(&of.partition)) {
        return Err(ResponseError::UnknownTopicOrPartition);
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
