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
use crate::call::{Caller, Wrong};
use crate::names::{text, uuid};
use crate::newer::TOPIC_IDS;
use crate::security::rights::{Operation, Resource};

/// From this version of OffsetCommit on a group that is not there is told as such.
const KNOWS_MISSING_GROUPS: i16 = 9;
/// From this version of OffsetFetch on several groups are asked for.
const MANY_GROUPS: i16 = 8;

/// OffsetCommit.
pub(crate) async fn commit(broker: &Broker, request: OffsetCommitRequest, caller: &Caller) -> OffsetCommitResponse {
    let mut wanted = Wanted::default();
    for topic in &request.topics {
        let by_id = caller.version >= TOPIC_IDS;
        let found = broker.named(caller.to(Operation::Read), &topic.name.0, topic.topic_id, by_id).await;
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
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
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
    if caller.version >= MANY_GROUPS {
        let mut found = Vec::new();
        for group in request.groups {
            found.push(fetch_of(broker, group, request.require_stable, caller).await);
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
    let found = fetch_of(broker, group, request.require_stable, caller).await;
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
    broker: &Broker,
    asked: OffsetFetchRequestGroup,
    is_stable: bool,
    caller: &Caller,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    match look(broker, &response.group_id, asked.topics, is_stable, caller).await {
        Ok(topics) => response.with_topics(topics),
        Err(error) => response.with_error_code(error.code()),
    }
}

async fn look(
    broker: &Broker,
    group: &str,
    asked: Option<Vec<OffsetFetchRequestTopics>>,
    is_stable: bool,
    caller: &Caller,
) -> Result<Vec<OffsetFetchResponseTopics>, ResponseError> {
    caller.may(Operation::Describe, Resource::Group(group))?;
    // First: what a transaction commits between the two is then told as undecided, or as committed, and never as what was before.
    let undecided = match is_stable {
        true => broker.groups.undecided(group).await?,
        false => BTreeSet::new(),
    };
    let committed = broker.groups.committed(group).await?;
    let topics = match asked {
        Some(topics) => named(broker, topics, caller).await,
        None => all(broker, committed.keys().chain(&undecided), caller).await?,
    };
    let told_of = |topic: Asked| {
        let one = |partition| match &topic.name {
            Ok(name) => {
                let of = TopicPartition::new(name.clone(), partition);
                match undecided.contains(&of) {
                    true => told(partition, None).with_error_code(ResponseError::UnstableOffsetCommit.code()),
                    false => told(partition, committed.get(&of)),
                }
            }
            Err(error) => told(partition, None).with_error_code(error.code()),
        };
        let partitions = topic.partitions.iter().copied().map(one).collect();
        topic.told.with_partitions(partitions)
    };
    Ok(topics.into_iter().map(told_of).collect())
}

/// A topic that is asked for.
struct Asked {
    /// Its name, or why nothing is told of it.
    name: Result<Arc<str>, ResponseError>,
    partitions: Vec<i32>,
    /// What it is called in the answer.
    told: OffsetFetchResponseTopics,
}

/// The topics that a request names.
async fn named(broker: &Broker, topics: Vec<OffsetFetchRequestTopics>, caller: &Caller) -> Vec<Asked> {
    let access = caller.to(Operation::Describe);
    let mut asked = Vec::with_capacity(topics.len());
    for topic in topics {
        let name = match caller.version {
            TOPIC_IDS.. => broker.topic_of(access, topic.topic_id).await.map(|found| found.name).map_err(|no| no.error),
            _ => access.check(&topic.name).map(|()| Arc::from(&**topic.name)),
        };
        let told = OffsetFetchResponseTopics::default().with_name(topic.name).with_topic_id(topic.topic_id);
        asked.push(Asked { name, partitions: topic.partition_indexes, told });
    }
    asked
}

/// All topics of which something is committed, and that the client may know of.
async fn all(
    broker: &Broker,
    committed: impl Iterator<Item = &TopicPartition>,
    caller: &Caller,
) -> Result<Vec<Asked>, ResponseError> {
    let mut asked = Vec::new();
    for (name, partitions) in by_topic(committed) {
        if !caller.allows(Operation::Describe, Resource::Topic(&name)) {
            continue;
        }
        let told = OffsetFetchResponseTopics::default().with_name(TopicName(text(&name)));
        let told = match broker.store.topic(&name).await.map_err(|cause| Wrong::from(cause).error)? {
            Some(topic) => told.with_topic_id(uuid(topic.id)),
            // By its id nobody can ask for it, nor be told of it.
            None if caller.version >= TOPIC_IDS => continue,
            None => told,
        };
        asked.push(Asked { name: Ok(name), partitions, told });
    }
    Ok(asked)
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
