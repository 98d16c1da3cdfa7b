//! TxnOffsetCommit: what a group commits in a producer's transaction.

use aqueduct_api::{Committed, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::coordinator::Request;
use super::members_apis::claimed;
use super::wanted::Wanted;
use crate::broker::Broker;
use crate::call::Caller;
use crate::security::rights::{Operation, Resource};
use crate::transactions::{OFFSETS, Permit, Who};

/// From this version on clients know TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 4;
/// From this version on what is committed begins its transaction (KIP-890).
const ADDS: i16 = 5;

/// TxnOffsetCommit.
pub(crate) async fn commit(
    broker: &Broker,
    request: TxnOffsetCommitRequest,
    caller: &Caller,
) -> TxnOffsetCommitResponse {
    let mut wanted = Wanted::default();
    for topic in &request.topics {
        let found = broker.topic(caller.to(Operation::Read), &topic.name.0).await;
        for asked in &topic.partitions {
            let offset = (asked.committed_offset, asked.committed_leader_epoch);
            wanted.push(&found, asked.partition_index, offset, asked.committed_metadata.as_ref());
        }
    }
    let outcome = take(broker, &request, wanted.offsets, caller).await;
    let mut codes = wanted.checks.codes(outcome);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().zip(&mut codes).map(|(asked, code)| {
            let told = TxnOffsetCommitResponsePartition::default();
            told.with_partition_index(asked.partition_index).with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

async fn take(
    broker: &Broker,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<(TopicPartition, Committed)>,
    caller: &Caller,
) -> Result<(), ResponseError> {
    caller.may(Operation::Write, Resource::Transaction(&request.transactional_id))?;
    caller.may(Operation::Read, Resource::Group(&request.group_id))?;
    if request.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    if request.generation_id >= 0 && !broker.groups.exists(&request.group_id).await? {
        return Err(ResponseError::IllegalGeneration);
    }
    // Until it is written: the transaction's marker comes after it.
    let _permit = permit(broker, request, caller.version).await?;
    let who = claimed(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let producer = (request.producer_id.0, request.producer_epoch);
    let ask = |answer| Request::CommitInTransaction(who, producer, offsets, answer);
    broker.groups.ask(&request.group_id, ask).await?
}

async fn permit(broker: &Broker, request: &TxnOffsetCommitRequest, version: i16) -> Result<Permit, ResponseError> {
    let who = Who { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let to = TopicPartition::new(OFFSETS, 0);
    let permit = broker.transactions.write(&request.transactional_id, who, &to, version >= ADDS).await;
    match permit {
        Ok(Some(permit)) => Ok(permit),
        Ok(None) if version >= KNOWS_ABORTABLE => Err(ResponseError::TransactionAbortable),
        Ok(None) => Err(ResponseError::InvalidTxnState),
        Err(ResponseError::ProducerFenced) => Err(ResponseError::InvalidProducerEpoch),
        // What clients that do not know better try again.
        Err(ResponseError::ConcurrentTransactions) if version < ADDS => Err(ResponseError::CoordinatorLoadInProgress),
        Err(error) => Err(error),
    }
}
