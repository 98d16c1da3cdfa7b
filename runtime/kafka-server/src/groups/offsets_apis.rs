//! OffsetCommit, OffsetFetch and OffsetDelete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_api::{Committed, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};

use super::coordinator::{Coordinator, Request};
use super::members_apis::claimed;
use super::wanted::Wanted;
use crate::broker::Broker;
use crate::call::Caller;
use crate::names::text;
use crate::security::rights::{Operation, Resource};

/// From this version of OffsetCommit on a group that is not there is told as such.
const KNOWS_MISSING_GROUPS: i16 = 9;
/// From this version of OffsetFetch on several groups are asked for.
const MANY_GROUPS: i16 = 8;

/// OffsetCommit.
pub(crate) async fn commit(broker: &Broker, request: OffsetCommitRequest, caller: &Caller) -> OffsetCommitResponse {
    let mut wanted = Wanted::default();
    for topic in &request.topics {
        let found = broker.topic(caller.to(Operation::Read), &topic.name.0).await;
        for asked in &topic.partitions {
            let offset = (asked.committed_offset, asked.committed_leader_epoch);
            wanted.push(&found, asked.partition_index, offset, asked.committed_metadata.as_ref());
        }
    }
    let outcome = take(&broker.groups, &request, wanted.offsets, caller).await;
    let mut codes = wanted.checks.codes(outcome);
    let topics = request.topics.into_iter().map(|topic| {
        // As many codes as partitions.
        let partitions = topic.partitions.into_iter().zip(&mut codes).map(|(asked, code)| {
            OffsetCommitResponsePartition::default().with_partition_index(asked.partition_index).with_error_code(code)
        });
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

async fn take(
    groups: &Coordinator,
    request: &OffsetCommitRequest,
    offsets: Vec<(TopicPartition, Committed)>,
    caller: &Caller,
) -> Result<(), ResponseError> {
    caller.may(Operation::Read, Resource::Group(&request.group_id))?;
    let generation = request.generation_id_or_member_epoch;
    if generation >= 0 && !request.group_id.is_empty() && !groups.exists(&request.group_id).await? {
        return Err(match caller.version < KNOWS_MISSING_GROUPS {
            true => ResponseError::IllegalGeneration,
            false => ResponseError::GroupIdNotFound,
        });
    }
    let who = claimed(&request.member_id, request.group_instance_id.as_ref(), generation);
    groups.ask_named(&request.group_id, |answer| Request::Commit(who, offsets, answer)).await?
}

/// OffsetFetch.
pub(crate) async fn fetch(broker: &Broker, request: OffsetFetchRequest, caller: &Caller) -> OffsetFetchResponse {
    let groups = &broker.groups;
    if caller.version >= MANY_GROUPS {
        let mut found = Vec::new();
        for group in request.groups {
            found.push(fetch_of(groups, group, request.require_stable, caller).await);
        }
        return OffsetFetchResponse::default().with_groups(found);
    }
    let topics = request.topics.map(|topics| {
        let many = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
        });
        many.collect()
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics);
    let found = fetch_of(groups, group, request.require_stable, caller).await;
    let topics = found.topics.into_iter().map(|topic| {
        let one = |partition: OffsetFetchResponsePartitions| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        };
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.into_iter().map(one).collect())
    });
    OffsetFetchResponse::default().with_error_code(found.error_code).with_topics(topics.collect())
}

async fn fetch_of(
    groups: &Coordinator,
    asked: OffsetFetchRequestGroup,
    is_stable: bool,
    caller: &Caller,
) -> OffsetFetchResponseGroup {
    let found = match caller.may(Operation::Describe, Resource::Group(&asked.group_id)) {
        Ok(()) => groups.committed(&asked.group_id).await,
        Err(error) => Err(error),
    };
    let response = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    let committed = match found {
        Ok(committed) => committed,
        Err(error) => return response.with_error_code(error.code()),
    };
    let undecided = match is_stable {
        true => groups.undecided(&response.group_id).await,
        false => Ok(BTreeSet::new()),
    };
    let undecided = match undecided {
        Ok(undecided) => undecided,
        Err(error) => return response.with_error_code(error.code()),
    };
    let is_seen = |topic: &str| caller.may(Operation::Describe, Resource::Topic(topic));
    let topics: Vec<_> = match asked.topics {
        Some(topics) => topics.into_iter().map(|topic| (Arc::from(&*topic.name.0), topic.partition_indexes)).collect(),
        None => by_topic(committed.keys().chain(&undecided))
            .into_iter()
            .filter(|(topic, _)| is_seen(topic).is_ok())
            .collect(),
    };
    let topics = topics.into_iter().map(|(topic, partitions): (Arc<str>, Vec<i32>)| {
        let seen = is_seen(&topic);
        let one = |partition| match seen {
            Ok(()) => {
                let of = TopicPartition::new(topic.clone(), partition);
                match undecided.contains(&of) {
                    true => told(partition, None).with_error_code(ResponseError::UnstableOffsetCommit.code()),
                    false => told(partition, committed.get(&of)),
                }
            }
            Err(error) => told(partition, None).with_error_code(error.code()),
        };
        let partitions = partitions.into_iter().map(one).collect();
        OffsetFetchResponseTopics::default().with_name(TopicName(text(&topic))).with_partitions(partitions)
    });
    response.with_topics(topics.collect())
}

fn by_topic<'a>(of: impl Iterator<Item = &'a TopicPartition>) -> Vec<(Arc<str>, Vec<i32>)> {
    let mut topics = BTreeMap::<Arc<str>, BTreeSet<i32>>::new();
    for of in of {
        topics.entry(of.topic.clone()).or_default().insert(of.partition);
    }
    topics.into_iter().map(|(topic, partitions)| (topic, partitions.into_iter().collect())).collect()
}

fn told(partition: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    let told = OffsetFetchResponsePartitions::default().with_partition_index(partition);
    match committed {
        Some(committed) => told
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(&committed.metadata))),
        None => told.with_committed_offset(-1).with_committed_leader_epoch(-1).with_metadata(Some(text(""))),
    }
}

/// OffsetDelete.
pub(crate) async fn delete(broker: &Broker, request: OffsetDeleteRequest, caller: &Caller) -> OffsetDeleteResponse {
    let mut offsets = Vec::new();
    let mut checks = Vec::new();
    for topic in &request.topics {
        let found = broker.topic(caller.to(Operation::Read), &topic.name.0).await.map_err(|wrong| wrong.error);
        for asked in &topic.partitions {
            let checked = found.as_ref().map_err(|error| *error).and_then(|found| {
                let is_known = (0..found.partitions).contains(&asked.partition_index);
                is_known.then_some(()).ok_or(ResponseError::UnknownTopicOrPartition)
            });
            checks.push(checked);
            if checked.is_ok() {
                offsets.push(TopicPartition::new(&*topic.name.0, asked.partition_index));
            }
        }
    }
    let answers = match forget(&broker.groups, &request, offsets, caller).await {
        Ok(answers) => answers,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut answers = answers.into_iter();
    let mut checks = checks.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let error = match checks.next() {
                Some(Err(error)) => Some(error),
                _ => answers.next().flatten(),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(error.map_or(0, |error| error.code()))
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

async fn forget(
    groups: &Coordinator,
    request: &OffsetDeleteRequest,
    offsets: Vec<TopicPartition>,
    caller: &Caller,
) -> Result<Vec<Option<ResponseError>>, ResponseError> {
    caller.may(Operation::Delete, Resource::Group(&request.group_id))?;
    if !request.group_id.is_empty() && !groups.exists(&request.group_id).await? {
        return Err(ResponseError::GroupIdNotFound);
    }
    groups.ask_named(&request.group_id, |answer| Request::Forget(offsets, answer)).await?
}
