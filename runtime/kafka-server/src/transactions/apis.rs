//! InitProducerId of transactional ids, AddPartitionsToTxn, AddOffsetsToTxn and EndTxn.

use std::collections::BTreeSet;

use aqueduct_api::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, ProducerId,
};

use super::request::{Answer, End, Init, Who};
use crate::broker::Broker;
use crate::call::Caller;
use crate::names;
use crate::security::rights::{Operation, Resource};

/// From this version of InitProducerId on clients know PRODUCER_FENCED.
const INIT_KNOWS_FENCED: i16 = 4;
/// From this version of the others on clients know it.
const KNOWS_FENCED: i16 = 2;
/// From this version of AddPartitionsToTxn on many transactions come at once, as brokers send it to each other.
const MANY_AT_ONCE: i16 = 4;
/// From this version of EndTxn on each transaction has an epoch of its own.
const OWN_EPOCHS: i16 = 5;
/// Where groups keep how far they have come.
pub(crate) const OFFSETS: &str = "__consumer_offsets";

/// A producer takes a transactional id.
pub(crate) async fn init(broker: &Broker, id: &str, request: &InitProducerIdRequest, caller: &Caller) -> Answer {
    let (producer_id, epoch) = (request.producer_id.0, request.producer_epoch);
    let expected = match (producer_id, epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return Err(ResponseError::InvalidRequest),
        _ => Some(Who { producer_id, epoch }),
    };
    if !is_id(id) {
        return Err(ResponseError::InvalidRequest);
    }
    let init = Init { timeout: request.transaction_timeout_ms, expected };
    broker.transactions.init(id, init).await.map_err(|error| known(error, caller.version >= INIT_KNOWS_FENCED))
}

/// Whether it can be kept.
fn is_id(id: &str) -> bool {
    (1..=i16::MAX as usize).contains(&id.len())
}

/// An error that a client knows.
fn known(error: ResponseError, knows_fenced: bool) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if !knows_fenced => ResponseError::InvalidProducerEpoch,
        error => error,
    }
}

fn code<T>(outcome: Result<T, ResponseError>) -> i16 {
    outcome.err().map_or(0, |error| error.code())
}

/// AddPartitionsToTxn.
pub(crate) async fn add_partitions(
    broker: &Broker,
    request: AddPartitionsToTxnRequest,
    caller: &Caller,
) -> AddPartitionsToTxnResponse {
    if caller.version < MANY_AT_ONCE {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let allowed = caller.may(Operation::Write, Resource::Transaction(&transaction.transactional_id));
        let result = add_to_one(broker, transaction, allowed, caller).await;
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(result.topic_results);
    }
    if let Err(error) = caller.may(Operation::ClusterAction, Resource::Cluster) {
        return AddPartitionsToTxnResponse::default().with_error_code(error.code());
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results.push(add_to_one(broker, transaction, Ok(()), caller).await);
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

async fn add_to_one(
    broker: &Broker,
    transaction: AddPartitionsToTxnTransaction,
    allowed: Result<(), ResponseError>,
    caller: &Caller,
) -> AddPartitionsToTxnResult {
    let id = transaction.transactional_id.clone();
    let outcome = match allowed {
        Ok(()) => added(broker, &transaction, caller).await,
        Err(error) => Outcome::All(Err(error)),
    };
    let topics = transaction.topics.into_iter().map(|topic| {
        let result = |partition: i32| {
            let told = outcome.of(&TopicPartition::new(&*topic.name.0, partition));
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(partition)
                .with_partition_error_code(code(told.map_err(|error| known(error, caller.version >= KNOWS_FENCED))))
        };
        let results = topic.partitions.iter().copied().map(result).collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(results)
    });
    let topics = topics.collect();
    AddPartitionsToTxnResult::default().with_transactional_id(id).with_topic_results(topics)
}

/// What became of partitions that were to be added.
enum Outcome {
    All(Result<(), ResponseError>),
    /// Nothing was added: these can not be.
    Wrong(Vec<(TopicPartition, ResponseError)>),
    /// Nothing was to be added: these belong to the transaction.
    Verified(BTreeSet<TopicPartition>),
}

impl Outcome {
    fn of(&self, partition: &TopicPartition) -> Result<(), ResponseError> {
        match self {
            Outcome::All(outcome) => *outcome,
            Outcome::Wrong(wrong) => {
                let found = wrong.iter().find(|(of, _)| of == partition);
                Err(found.map_or(ResponseError::OperationNotAttempted, |(_, error)| *error))
            }
            Outcome::Verified(found) if found.contains(partition) => Ok(()),
            Outcome::Verified(_) => Err(ResponseError::TransactionAbortable),
        }
    }
}

async fn added(broker: &Broker, transaction: &AddPartitionsToTxnTransaction, caller: &Caller) -> Outcome {
    let id = &*transaction.transactional_id.0;
    if !is_id(id) {
        return Outcome::All(Err(ResponseError::InvalidRequest));
    }
    let (mut partitions, mut wrong) = (BTreeSet::new(), Vec::new());
    for AddPartitionsToTxnTopic { name, partitions: numbers, .. } in &transaction.topics {
        let found = topic(broker, &name.0, caller).await;
        for number in numbers {
            let of = TopicPartition::new(&*name.0, *number);
            match found {
                Ok(count) if (0..count).contains(number) => drop(partitions.insert(of)),
                Ok(_) => wrong.push((of, ResponseError::UnknownTopicOrPartition)),
                Err(error) => wrong.push((of, error)),
            }
        }
    }
    if !wrong.is_empty() {
        return Outcome::Wrong(wrong);
    }
    let who = Who { producer_id: transaction.producer_id.0, epoch: transaction.producer_epoch };
    match transaction.verify_only {
        true => match broker.transactions.verify(id, who, &partitions).await {
            Ok(found) => Outcome::Verified(found),
            Err(error) => Outcome::All(Err(error)),
        },
        false => Outcome::All(broker.transactions.add(id, who, &partitions).await.map(drop)),
    }
}

/// How many partitions a topic has that may be written to.
async fn topic(broker: &Broker, name: &str, caller: &Caller) -> Result<i32, ResponseError> {
    if names::is_ours(name) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    if caller.version < MANY_AT_ONCE {
        caller.may(Operation::Write, Resource::Topic(name))?;
    }
    match broker.store.topic(name).await {
        Ok(Some(topic)) => Ok(topic.partitions),
        Ok(None) => Err(ResponseError::UnknownTopicOrPartition),
        Err(_) => Err(ResponseError::CoordinatorNotAvailable),
    }
}

/// AddOffsetsToTxn: what a group commits in the transaction is in one partition for all groups.
pub(crate) async fn add_offsets(
    broker: &Broker,
    request: AddOffsetsToTxnRequest,
    caller: &Caller,
) -> AddOffsetsToTxnResponse {
    let outcome = async {
        caller.may(Operation::Write, Resource::Transaction(&request.transactional_id))?;
        caller.may(Operation::Read, Resource::Group(&request.group_id))?;
        if !is_id(&request.transactional_id) {
            return Err(ResponseError::InvalidRequest);
        }
        let who = Who { producer_id: request.producer_id.0, epoch: request.producer_epoch };
        let partitions = BTreeSet::from([TopicPartition::new(OFFSETS, 0)]);
        broker.transactions.add(&request.transactional_id, who, &partitions).await
    };
    let outcome = outcome.await.map_err(|error| known(error, caller.version >= KNOWS_FENCED));
    AddOffsetsToTxnResponse::default().with_error_code(code(outcome))
}

/// EndTxn.
pub(crate) async fn end(broker: &Broker, request: EndTxnRequest, caller: &Caller) -> EndTxnResponse {
    let outcome = async {
        caller.may(Operation::Write, Resource::Transaction(&request.transactional_id))?;
        if !is_id(&request.transactional_id) {
            return Err(ResponseError::InvalidRequest);
        }
        let who = Who { producer_id: request.producer_id.0, epoch: request.producer_epoch };
        let client_version = if caller.version >= OWN_EPOCHS { super::ending::OWN_EPOCHS } else { 0 };
        broker
            .transactions
            .end(&request.transactional_id, End { who, commits: request.committed, client_version })
            .await
    };
    match outcome.await {
        Ok(_) if caller.version < OWN_EPOCHS => EndTxnResponse::default(),
        Ok(who) => {
            EndTxnResponse::default().with_producer_id(ProducerId(who.producer_id)).with_producer_epoch(who.epoch)
        }
        Err(error) => EndTxnResponse::default().with_error_code(known(error, caller.version >= KNOWS_FENCED).code()),
    }
}
