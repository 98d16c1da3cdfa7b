//! ListOffsets and OffsetForLeaderEpoch: where a time, an end or an epoch is.

use aqueduct_api::{Isolation, Result as LogResult, TopicPartition};
use aqueduct_record::{Batch, Offset};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use crate::broker::Broker;
use crate::call::{Caller, Wrong};
use crate::fetch::isolation;
use crate::security::rights::Operation;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING: i64 = -6;
/// No offset, no timestamp, no epoch.
const NONE: i64 = -1;

/// An offset that was asked for.
#[derive(Clone, Copy)]
struct Found {
    offset: Offset,
    /// Of the record there, where one was looked for.
    timestamp: i64,
    /// Of the record there, where that is known.
    epoch: i32,
}

impl Found {
    const NOTHING: Found = Found { offset: NONE, timestamp: NONE, epoch: -1 };

    fn end(offset: Offset, epoch: i32) -> Self {
        Found { offset, timestamp: NONE, epoch }
    }
}

/// ListOffsets.
pub(crate) async fn list(broker: &Broker, request: ListOffsetsRequest, caller: &Caller) -> ListOffsetsResponse {
    let isolation = isolation(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let described = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            partitions.push(match of_partition(broker, caller, &topic.name, (&partition, isolation)).await {
                Ok(Found { offset, timestamp, epoch }) => {
                    let described = described.with_offset(offset).with_timestamp(timestamp);
                    if caller.version >= 4 { described.with_leader_epoch(epoch) } else { described }
                }
                Err(wrong) => described.with_error_code(wrong.code()).with_offset(NONE).with_timestamp(NONE),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn of_partition(
    broker: &Broker,
    caller: &Caller,
    topic: &str,
    (partition, isolation): (&ListOffsetsPartition, Isolation),
) -> Result<Found, Wrong> {
    let topic = broker.topic(caller.to(Operation::Describe), topic).await?;
    let (of, bounds) = broker.bounds(&topic, partition.partition_index, partition.current_leader_epoch).await?;
    let readable = bounds.readable(isolation);
    Ok(match partition.timestamp {
        LATEST => Found::end(readable, bounds.leader_epoch),
        EARLIEST | EARLIEST_LOCAL => Found::end(bounds.start, -1),
        LATEST_TIERED | EARLIEST_PENDING => Found::NOTHING,
        MAX_TIMESTAMP => latest_time(broker, &of, readable).await?.unwrap_or(Found::NOTHING),
        0.. => at_time(broker, &of, readable, partition.timestamp).await?.unwrap_or(Found::NOTHING),
        _ => return Err(ResponseError::UnsupportedVersion.into()),
    })
}

/// The first record of a time or later that lies before an offset.
async fn at_time(broker: &Broker, of: &TopicPartition, before: Offset, time: i64) -> LogResult<Option<Found>> {
    let offset = broker.store.find(of, time).await?;
    if offset >= before {
        return Ok(None);
    }
    let batches = broker.store.read(of, offset, 0, Isolation::Uncommitted).await?.batches;
    let Ok(Some((batch, _))) = Batch::split_checked(&batches) else { return Ok(None) };
    let epoch = batch.leader_epoch();
    let timestamp = broker.edge.blocking(move || timestamp_at(&batch, offset)).await?;
    Ok(timestamp.map(|timestamp| Found { offset, timestamp, epoch }))
}

/// The first of the records that have the latest time. The log finds times: the latest is the last that it finds.
async fn latest_time(broker: &Broker, of: &TopicPartition, before: Offset) -> LogResult<Option<Found>> {
    let (mut there, mut from, mut beyond) = (None, 0, i64::MAX);
    while from < beyond {
        let middle = from + (beyond - from) / 2;
        match at_time(broker, of, before, middle).await? {
            Some(found) => {
                there = Some(found);
                from = found.timestamp.max(middle).saturating_add(1);
            }
            None => beyond = middle,
        }
    }
    Ok(there)
}

fn timestamp_at(batch: &Batch, offset: Offset) -> Option<i64> {
    let records = batch.records().ok()?;
    records.iter().filter_map(Result::ok).find(|record| record.offset == offset).map(|record| record.timestamp)
}

/// OffsetForLeaderEpoch: where an epoch's records end, so that a client notices records that are not those it has read.
pub(crate) async fn of_epochs(
    broker: &Broker,
    request: OffsetForLeaderEpochRequest,
    caller: &Caller,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let described = EpochEndOffset::default().with_partition(partition.partition);
            partitions.push(match end_of_epoch(broker, caller, &topic.topic, &partition).await {
                Ok((epoch, end)) => described.with_leader_epoch(epoch).with_end_offset(end),
                Err(wrong) => described.with_error_code(wrong.code()),
            });
        }
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn end_of_epoch(
    broker: &Broker,
    caller: &Caller,
    topic: &str,
    partition: &OffsetForLeaderPartition,
) -> Result<(i32, Offset), Wrong> {
    let topic = broker.topic(caller.to(Operation::Describe), topic).await?;
    let (of, bounds) = broker.bounds(&topic, partition.partition, partition.current_leader_epoch).await?;
    let wanted = partition.leader_epoch;
    if wanted == bounds.leader_epoch {
        return Ok((wanted, bounds.high_watermark));
    }
    if wanted < 0 || wanted > bounds.leader_epoch {
        return Ok((-1, NONE));
    }
    // Epochs rise with offsets: the first batch of a later one is where this one ends.
    let (mut from, mut to, mut epoch) = (bounds.start, bounds.high_watermark, None);
    while from < to {
        let middle = from + (to - from) / 2;
        let batches = broker.store.read(&of, middle, 0, Isolation::Uncommitted).await?.batches;
        match Batch::split_checked(&batches) {
            Ok(Some((batch, _))) if batch.leader_epoch() <= wanted => {
                epoch = Some(batch.leader_epoch());
                from = batch.next_offset();
            }
            Ok(Some((batch, _))) => to = batch.base_offset().clamp(from, middle),
            // What can not be read says nothing: the search goes on before it.
            _ => to = middle,
        }
    }
    Ok((epoch.unwrap_or(wanted), from))
}
