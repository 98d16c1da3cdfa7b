//! DescribeTopicPartitions: topics with their partitions, as many at once as a client wants to hear of.

use aqueduct_api::Topic;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};

use crate::broker::{Broker, NODE};
use crate::call::{Caller, Wrong};
use crate::names::{self, text, uuid};
use crate::security::rights::{Operation, Resource};

/// Partitions in one answer: Kafka's `max.request.partition.size.limit`.
const MOST: i32 = 2000;

/// The answer.
pub(crate) async fn answer(
    broker: &Broker,
    request: DescribeTopicPartitionsRequest,
    caller: &Caller,
) -> DescribeTopicPartitionsResponse {
    let wants_all = request.topics.is_empty();
    let mut wanted: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    if wants_all {
        let sees = |topic: &Topic| caller.allows(Operation::Describe, Resource::Topic(&topic.name));
        let all = broker.store.topics().await.unwrap_or_default();
        wanted = all.iter().filter(|topic| sees(topic)).map(|topic| topic.name.to_string()).collect();
    }
    wanted.sort();
    wanted.dedup();
    let from = request.cursor.as_ref();
    wanted.retain(|name| from.is_none_or(|cursor| **name >= **cursor.topic_name));
    let mut left = request.response_partition_limit.clamp(1, MOST);
    let (mut told, mut next) = (Vec::new(), None);
    for name in wanted {
        if left == 0 {
            next = Some(cursor(&name, 0));
            break;
        }
        let first = first_of(from, &name);
        match topic(broker, caller, &name, first, left).await {
            Ok((topic, rest)) => {
                left -= topic.partitions.len() as i32;
                told.push(topic);
                if let Some(rest) = rest {
                    next = Some(cursor(&name, rest));
                    break;
                }
            }
            // It has gone since it was listed.
            Err(wrong) if wants_all && wrong.error == ResponseError::UnknownTopicOrPartition => {}
            Err(wrong) => told.push(
                DescribeTopicPartitionsResponseTopic::default()
                    .with_error_code(wrong.code())
                    .with_name(Some(TopicName(text(&name)))),
            ),
        }
    }
    DescribeTopicPartitionsResponse::default().with_topics(told).with_next_cursor(next)
}

fn first_of(cursor: Option<&Cursor>, topic: &str) -> i32 {
    cursor.filter(|cursor| **cursor.topic_name == *topic).map_or(0, |cursor| cursor.partition_index.max(0))
}

fn cursor(topic: &str, partition: i32) -> NextCursor {
    NextCursor::default().with_topic_name(TopicName(text(topic))).with_partition_index(partition)
}

/// At most so many partitions of a topic from one on, and with which to go on.
async fn topic(
    broker: &Broker,
    caller: &Caller,
    name: &str,
    first: i32,
    most: i32,
) -> Result<(DescribeTopicPartitionsResponseTopic, Option<i32>), Wrong> {
    let topic = broker.topic(caller.to(Operation::Describe), name).await?;
    let end = topic.partitions.min(first.saturating_add(most));
    let mut partitions = Vec::new();
    for partition in first..end {
        let epoch = broker.bounds(&topic, partition, -1).await.map_or(-1, |(_, bounds)| bounds.leader_epoch);
        partitions.push(
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(partition)
                .with_leader_id(BrokerId(NODE))
                .with_leader_epoch(epoch)
                .with_replica_nodes(vec![BrokerId(NODE)])
                .with_isr_nodes(vec![BrokerId(NODE)])
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new())),
        );
    }
    let told = DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(uuid(topic.id))
        .with_is_internal(names::is_internal(&topic.name))
        .with_partitions(partitions)
        .with_topic_authorized_operations(caller.principal.rights().operations(Resource::Topic(&topic.name)));
    Ok((told, (end < topic.partitions).then_some(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_on_where_the_last_one_ended() {
        let at = |topic: &str, partition| {
            Cursor::default().with_topic_name(TopicName(text(topic))).with_partition_index(partition)
        };
        let cases = [(None, 0), (Some(at("t", 5)), 5), (Some(at("s", 5)), 0), (Some(at("t", -7)), 0)];
        for (cursor, expected) in cases {
            assert_eq!(first_of(cursor.as_ref(), "t"), expected, "{cursor:?}");
        }
    }
}
