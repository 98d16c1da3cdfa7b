//! DeleteRecords and DescribeLogDirs: being rid of records, and what all of them take on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{CleanupPolicy, Error, TopicPartition};
use aqueduct_record::Offset;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName,
};

use crate::broker::Broker;
use crate::call::{Broken, Call, Caller, Reply, Wrong};
use crate::names::{self, text};
use crate::newer;
use crate::security::rights::{Operation, Resource};

/// What a client says that wants to be rid of all that there is.
const ALL: i64 = -1;

/// DeleteRecords.
pub(crate) async fn delete(broker: &Broker, request: DeleteRecordsRequest, caller: &Caller) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let told = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match delete_one(broker, &topic.name, &partition, caller).await {
                Ok(start) => told.with_low_watermark(start),
                Err(wrong) => {
                    tracing::debug!(topic = %*topic.name, partition = partition.partition_index, why = ?wrong.why, "records stay");
                    told.with_low_watermark(-1).with_error_code(wrong.code())
                }
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete_one(
    broker: &Broker,
    topic: &str,
    partition: &DeleteRecordsPartition,
    caller: &Caller,
) -> Result<Offset, Wrong> {
    let topic = broker.topic(caller.to(Operation::Delete), topic).await?;
    if names::is_ours(&topic.name) {
        return Err(ResponseError::InvalidTopicException.into());
    }
    let (of, bounds) = broker.bounds(&topic, partition.partition_index, -1).await?;
    if topic.settings.cleanup != CleanupPolicy::Delete {
        return Err(Wrong::new(ResponseError::PolicyViolation, "the topic is compacted"));
    }
    let to = Some(partition.offset).filter(|offset| *offset != ALL);
    if to.is_some_and(|to| !(0..=bounds.high_watermark).contains(&to)) {
        return Err(ResponseError::OffsetOutOfRange.into());
    }
    match broker.store.delete_before(&of, to).await {
        // Somebody still needs them.
        Err(cause @ Error::Refused { .. }) => Err(Wrong::new(ResponseError::PolicyViolation, cause.to_string())),
        deleted => Ok(deleted?),
    }
}

/// DescribeLogDirs.
pub(crate) async fn describe(broker: Arc<Broker>, call: Call) -> Result<Reply, Broken> {
    let response = described(&broker, call.decode()?, &call.caller).await;
    newer::log_dirs(&call, &response)
}

async fn described(broker: &Broker, request: DescribeLogDirsRequest, caller: &Caller) -> DescribeLogDirsResponse {
    if let Err(error) = caller.may(Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse::default().with_error_code(error.code());
    }
    let on_disk = match broker.store.on_disk().await {
        Ok(on_disk) => on_disk,
        Err(cause) => return DescribeLogDirsResponse::default().with_error_code(Wrong::from(cause).code()),
    };
    let is_asked = |of: &TopicPartition| {
        let asks = |topic: &kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic| {
            **topic.topic == *of.topic && topic.partitions.contains(&of.partition)
        };
        request.topics.as_ref().is_none_or(|topics| topics.iter().any(asks))
    };
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (of, bytes) in on_disk.partitions.into_iter().filter(|(of, _)| is_asked(of)) {
        let told = DescribeLogDirsPartition::default()
            .with_partition_index(of.partition)
            .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX));
        topics.entry(of.topic).or_default().push(told);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default().with_name(TopicName(text(&name))).with_partitions(partitions)
    });
    let mut folder = DescribeLogDirsResult::default()
        .with_log_dir(text(&on_disk.folder.to_string_lossy()))
        .with_topics(topics.collect());
    if caller.version >= 4 {
        folder.total_bytes = i64::try_from(on_disk.space.total).unwrap_or(i64::MAX);
        folder.usable_bytes = i64::try_from(on_disk.space.available).unwrap_or(i64::MAX);
    }
    DescribeLogDirsResponse::default().with_results(vec![folder])
}
