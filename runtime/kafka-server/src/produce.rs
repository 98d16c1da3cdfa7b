//! Produce: batches are checked once and written as they came.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_api::{At, CleanupPolicy, Durable, ProducerError, Topic, TopicPartition};
use aqueduct_record::{Batch, BatchError, Compression, Header, Inflation};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TransactionalId};

use crate::broker::Broker;
use crate::call::{Broken, Call, Reply, Wrong, frame};
use crate::names;
use crate::security::rights::{Operation, Resource};
use crate::transactions::{Permit, Who};

/// Batches that are larger, or have more records, are checked off the async threads, and so are compressed ones: the way to
/// another thread and back costs as much as to check a mebibyte, which takes a third of a millisecond (some, if it is all headers).
const CHECKED_AT_ONCE: usize = 1 << 20;
const RECORDS_CHECKED_AT_ONCE: u32 = 16 << 10;
/// Compressed batches that are larger are checked off the async threads.
const INFLATED_HERE: usize = 16 << 10;
/// Bytes that all batches which are being checked may inflate to.
pub(crate) const INFLATED_AT_ONCE: usize = 256 << 20;
/// The first version whose clients know zstd.
const ZSTD_SINCE: i16 = 7;
/// The first version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_SINCE: i16 = 11;
/// The first version whose clients let what they write begin their transaction (KIP-890).
const ADDS_SINCE: i16 = 12;
/// The first version that names topics by their ids.
const IDS_SINCE: i16 = 13;

/// What a request says of all its batches.
struct Sent {
    version: i16,
    transactional_id: Option<TransactionalId>,
}

/// What became of a partition's batch.
struct Written {
    topic: usize,
    response: PartitionProduceResponse,
    durable: Option<Durable>,
}

/// The answer: batches have their places, in the order of requests, before the next request is taken; the client hears of it
/// once they are safe.
pub(crate) async fn answer(broker: Arc<Broker>, call: Call) -> Result<Reply, Broken> {
    let request: ProduceRequest = call.decode()?;
    let (acks, version) = (request.acks, call.caller.version);
    let sent = Sent { version, transactional_id: request.transactional_id };
    let allowed = match &sent.transactional_id {
        Some(id) => call.caller.may(Operation::Write, Resource::Transaction(id)),
        None => Ok(()),
    };
    let is_known = matches!(acks, -1..=1);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    let mut written = Vec::new();
    for (index, data) in request.topic_data.into_iter().enumerate() {
        let TopicProduceData { name, topic_id, partition_data, .. } = data;
        let topic = match allowed {
            _ if !is_known => Err(ResponseError::InvalidRequiredAcks.into()),
            Err(error) => Err(error.into()),
            Ok(()) => {
                let access = call.caller.to(Operation::Write);
                broker.named(access, &name, topic_id, version >= IDS_SINCE).await
            }
        };
        for data in partition_data {
            written.push(partition(&broker, index, topic.as_ref(), data, &sent).await);
        }
        topics.push(TopicProduceResponse::default().with_name(name).with_topic_id(topic_id));
    }
    let held_back = call.caller.produced(call.body.len());
    let (key, correlation) = (call.key, call.correlation);
    let finish = async move {
        let mut failed = false;
        for Written { topic, mut response, durable } in written {
            if let Some(durable) = durable
                && let Err(cause) = durable.await
            {
                response = refused(response.index, &cause.into());
            }
            failed |= response.error_code != 0;
            topics[topic].partition_responses.push(response);
        }
        match acks {
            // Nothing else can tell a client that wants no answer.
            0 if failed => Err(Broken("a batch was not taken, and its producer wants no answer".to_owned())),
            0 => Ok(Reply::Nothing),
            _ => {
                let response = ProduceResponse::default().with_responses(topics).with_throttle_time_ms(held_back);
                frame(key, version, correlation, &response).map(Reply::Now)
            }
        }
    };
    Ok(Reply::Later(Box::pin(finish)))
}

async fn partition(
    broker: &Broker,
    topic: usize,
    found: Result<&Topic, &Wrong>,
    data: PartitionProduceData,
    sent: &Sent,
) -> Written {
    let index = data.index;
    let appended = match found {
        Ok(found) => append(broker, found, data, sent).await,
        Err(wrong) => Err(wrong.clone()),
    };
    match appended {
        Ok((response, durable)) => Written { topic, response, durable: Some(durable) },
        Err(wrong) => {
            broker.counters.refused_batches.fetch_add(1, Ordering::Relaxed);
            Written { topic, response: refused(index, &wrong), durable: None }
        }
    }
}

async fn append(
    broker: &Broker,
    topic: &Topic,
    data: PartitionProduceData,
    sent: &Sent,
) -> Result<(PartitionProduceResponse, Durable), Wrong> {
    let (to, bounds) = broker.bounds(topic, data.index, -1).await?;
    if names::is_ours(&topic.name) {
        return Err(Wrong::new(ResponseError::InvalidTopicException, "the topic is the runtime's own"));
    }
    let batch = checked(broker, topic, data.records.unwrap_or_default(), sent.version).await?;
    // Until the batch has its place: the transaction's marker comes after it.
    let _permit = permit(broker, &to, &batch, sent).await?;
    let appended = broker.store.append(&to, batch, At::End).await.map_err(|cause| not_appended(&to, cause))?;
    let response = PartitionProduceResponse::default()
        .with_index(data.index)
        .with_base_offset(appended.base_offset)
        // As Kafka tells it of a batch that was sent again; the log stamps nothing itself.
        .with_log_append_time_ms(appended.duplicate.unwrap_or(-1))
        .with_log_start_offset(bounds.start);
    Ok((response, appended.durable))
}

/// The right to write a batch of a transaction; `None` for one that is in none.
async fn permit(
    broker: &Broker,
    to: &TopicPartition,
    batch: &Batch,
    sent: &Sent,
) -> Result<Option<Permit>, ResponseError> {
    let header = batch.header();
    if !header.attributes.is_transactional() {
        return Ok(None);
    }
    let Some(id) = &sent.transactional_id else {
        return Err(ResponseError::TransactionalIdAuthorizationFailed);
    };
    let who = Who { producer_id: header.producer_id, epoch: header.producer_epoch };
    let adds = sent.version >= ADDS_SINCE;
    match broker.transactions.write(id, who, to, adds).await {
        Ok(Some(permit)) => Ok(Some(permit)),
        Ok(None) if sent.version >= ABORTABLE_SINCE => Err(ResponseError::TransactionAbortable),
        Ok(None) => Err(ResponseError::InvalidTxnState),
        Err(ResponseError::ProducerFenced) => Err(ResponseError::InvalidProducerEpoch),
        // What clients that do not know better try again.
        Err(ResponseError::ConcurrentTransactions) if !adds => Err(ResponseError::NotEnoughReplicas),
        Err(ResponseError::CoordinatorNotAvailable) => Err(ResponseError::NotEnoughReplicas),
        Err(error) => Err(error),
    }
}

/// The one batch that a client may send to a partition at once.
async fn checked(broker: &Broker, topic: &Topic, bytes: Bytes, version: i16) -> Result<Batch, Wrong> {
    if bytes.len() as u64 > topic.settings.max_batch.0 {
        let most = topic.settings.max_batch;
        return Err(Wrong::new(ResponseError::MessageTooLarge, format!("a batch has at most {most} in this topic")));
    }
    let needs_keys = topic.settings.cleanup == CleanupPolicy::Compact;
    let size = bytes.len();
    let (inflated, is_quick) = match Header::peek(&bytes) {
        // Its CRC is not looked at.
        Err(_) => (0, true),
        Ok(header) if header.attributes.compression() == Compression::None => {
            (0, size <= CHECKED_AT_ONCE && header.count <= RECORDS_CHECKED_AT_ONCE)
        }
        Ok(_) => (Inflation::default().limit(size), size <= INFLATED_HERE),
    };
    if is_quick {
        let checked = check(bytes, version, needs_keys);
        // A request may have many of them.
        tokio::task::yield_now().await;
        return checked;
    }
    // All that is inflated at once is bounded, not only each batch.
    let permits = inflated.min(INFLATED_AT_ONCE) as u32;
    let _room = broker.inflating.acquire_many(permits).await;
    broker.edge.blocking(move || check(bytes, version, needs_keys)).await?
}

fn check(bytes: Bytes, version: i16, needs_keys: bool) -> Result<Batch, Wrong> {
    let batch = Batch::parse(bytes).map_err(|cause| unfit(&cause))?;
    let header = batch.header();
    let invalid = |why: &str| Err(Wrong::new(ResponseError::InvalidRecord, why));
    if header.attributes.is_control() {
        return invalid("clients do not write control batches");
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        // The log takes such from coordinators.
        return invalid("a producer numbers its batches");
    }
    if header.count == 0 || i64::from(header.count) != i64::from(header.last_offset_delta) + 1 {
        return invalid("a batch's records have the offsets 0, 1, 2 and so on within it");
    }
    if header.attributes.compression() == Compression::Zstd && version < ZSTD_SINCE {
        return Err(ResponseError::UnsupportedCompressionType.into());
    }
    if !needs_keys {
        return batch.validate(Inflation::default()).map_err(|cause| unfit(&cause)).map(|()| batch);
    }
    let mut records = batch.records().map_err(|cause| unfit(&cause))?;
    while let Some(record) = records.next() {
        if record.map_err(|cause| unfit(&cause))?.key.is_none() {
            return invalid("a topic that keeps the last record of each key takes none without a key");
        }
    }
    Ok(batch)
}

fn unfit(cause: &BatchError) -> Wrong {
    let code = match cause {
        BatchError::Crc { .. } => ResponseError::CorruptMessage,
        BatchError::Magic { .. } => ResponseError::UnsupportedForMessageFormat,
        _ => ResponseError::InvalidRecord,
    };
    Wrong::new(code, cause.to_string())
}

fn not_appended(to: &TopicPartition, cause: aqueduct_api::Error) -> Wrong {
    let code = match ProducerError::of(&cause) {
        Some(ProducerError::OutOfOrder { .. }) => ResponseError::OutOfOrderSequenceNumber,
        Some(ProducerError::Fenced { .. }) => ResponseError::InvalidProducerEpoch,
        Some(ProducerError::OutsideTransaction { .. }) => ResponseError::InvalidTxnState,
        Some(ProducerError::CoordinatorFenced { .. }) => ResponseError::TransactionCoordinatorFenced,
        Some(ProducerError::Malformed { .. }) => ResponseError::InvalidRecord,
        None => {
            tracing::debug!(partition = %to, %cause, "a Kafka client's batch was not taken");
            return cause.into();
        }
    };
    Wrong::new(code, cause.to_string())
}

fn refused(index: i32, wrong: &Wrong) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(wrong.code())
        .with_error_message(wrong.message())
        .with_base_offset(-1)
        .with_log_start_offset(-1)
}
