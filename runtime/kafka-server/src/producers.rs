//! InitProducerId and DescribeProducers: who writes with sequence numbers.

use aqueduct_api::Producer;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
};

use crate::broker::Broker;
use crate::call::{Caller, Wrong};
use crate::security::rights::{Operation, Resource};
use crate::transactions;

/// InitProducerId. Without a transactional id it is an id that nobody ever had, at epoch 0; the id and epoch that a client had
/// before do not matter then: an idempotent producer raises its epoch by itself.
pub(crate) async fn init(broker: &Broker, request: InitProducerIdRequest, caller: &Caller) -> InitProducerIdResponse {
    let none = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    let allowed = match &request.transactional_id {
        Some(id) => caller.may(Operation::Write, Resource::Transaction(id)),
        None => caller.may(Operation::IdempotentWrite, Resource::Cluster),
    };
    if let Err(error) = allowed {
        return none(error);
    }
    let given =
        |id, epoch| InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
    if let Some(id) = &request.transactional_id {
        return match transactions::apis::init(broker, id, &request, caller).await {
            Ok(who) => given(who.producer_id, who.epoch),
            Err(error) => none(error),
        };
    }
    match broker.store.new_producer().await {
        Ok(id) => given(id, 0),
        Err(cause) => {
            tracing::warn!(%cause, "no producer id can be given");
            // Clients ask again.
            none(ResponseError::CoordinatorNotAvailable)
        }
    }
}

/// DescribeProducers: what each partition remembers.
pub(crate) async fn describe(
    broker: &Broker,
    request: DescribeProducersRequest,
    caller: &Caller,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for TopicRequest { name, partition_indexes, .. } in request.topics {
        let found = broker.topic(caller.to(Operation::Read), &name).await;
        let mut partitions = Vec::with_capacity(partition_indexes.len());
        for index in partition_indexes {
            let described = match &found {
                Ok(topic) => match broker.bounds(topic, index, -1).await {
                    Ok((of, _)) => broker.store.producers(&of).await.map_err(Wrong::from),
                    Err(wrong) => Err(wrong),
                },
                Err(wrong) => Err(wrong.clone()),
            };
            partitions.push(partition(index, described));
        }
        topics.push(TopicResponse::default().with_name(name).with_partitions(partitions));
    }
    DescribeProducersResponse::default().with_topics(topics)
}

fn partition(index: i32, described: Result<Vec<Producer>, Wrong>) -> PartitionResponse {
    let response = PartitionResponse::default().with_partition_index(index);
    match described {
        Ok(producers) => response.with_active_producers(producers.into_iter().map(state).collect()),
        Err(wrong) => response.with_error_code(wrong.code()).with_error_message(wrong.message()),
    }
}

fn state(producer: Producer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
}
