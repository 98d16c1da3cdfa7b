//! CreateTopics, DeleteTopics and CreatePartitions.

use std::collections::BTreeSet;

use aqueduct_api::{Error, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::broker::{Broker, NODE};
use crate::call::{Caller, Wrong};
use crate::names::{self, text, uuid};
use crate::security::rights::{Operation, Resource};
use crate::settings;

/// The most partitions that a topic may be given by a client.
const MOST_PARTITIONS: i32 = 10_000;
/// What a client says that leaves a number to the cluster.
const AS_DECLARED: i32 = -1;

/// CreateTopics.
pub(crate) async fn create(broker: &Broker, request: CreateTopicsRequest, caller: &Caller) -> CreateTopicsResponse {
    let twice = repeated(request.topics.iter().map(|topic| &topic.name));
    let mut told = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let made = match twice.contains(&name) {
            true => Err(said_twice()),
            false => create_one(broker, topic, request.validate_only, caller).await,
        };
        told.push(made.unwrap_or_else(|wrong| {
            CreatableTopicResult::default()
                .with_name(name)
                .with_error_code(wrong.code())
                .with_error_message(wrong.message())
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(None)
        }));
    }
    CreateTopicsResponse::default().with_topics(told)
}

async fn create_one(
    broker: &Broker,
    topic: CreatableTopic,
    only_check: bool,
    caller: &Caller,
) -> Result<CreatableTopicResult, Wrong> {
    caller.may(Operation::Create, Resource::Topic(&topic.name))?;
    names::check(&topic.name)?;
    if names::is_ours(&topic.name) {
        return Err(Wrong::new(ResponseError::InvalidTopicException, "the name is the runtime's own"));
    }
    if broker.store.topic(&topic.name).await?.is_some() {
        return Err(exists(&topic.name));
    }
    let (declared, mut wanted) = broker.host.declared(&topic.name);
    let partitions = partitions_of(&topic, declared)?;
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| null_value(&config.name))?;
        settings::set(&mut wanted, &config.name, value)?;
    }
    let made = match only_check {
        true => None,
        false => Some(make(broker, &topic.name, partitions, &wanted).await?),
    };
    let configs = settings::described(&wanted).map(|described| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(described.name))
            .with_value(Some(text(&described.value)))
            .with_config_source(described.source)
    });
    let told = match caller.allows(Operation::DescribeConfigs, Resource::Topic(&topic.name)) {
        true => CreatableTopicResult::default().with_configs(Some(configs.collect())),
        false => CreatableTopicResult::default()
            .with_topic_config_error_code(ResponseError::TopicAuthorizationFailed.code())
            .with_configs(None),
    };
    Ok(told
        .with_name(topic.name)
        .with_topic_id(made.map_or(Uuid::nil(), |made| uuid(made.id)))
        .with_num_partitions(partitions)
        .with_replication_factor(1))
}

async fn make(
    broker: &Broker,
    name: &str,
    partitions: i32,
    wanted: &aqueduct_api::TopicSettings,
) -> Result<Topic, Wrong> {
    match broker.store.create(name, partitions, wanted).await {
        // Somebody else may have been faster.
        Err(Error::Refused { .. }) if matches!(broker.store.topic(name).await, Ok(Some(_))) => Err(exists(name)),
        Err(cause @ Error::Refused { .. }) => Err(Wrong::new(ResponseError::InvalidConfig, cause.to_string())),
        made => Ok(made?),
    }
}

/// How many partitions a client asks for, by a number or by saying who is to have them.
fn partitions_of(topic: &CreatableTopic, declared: i32) -> Result<i32, Wrong> {
    if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            let why = "there is one broker: the replication factor is 1";
            return Err(Wrong::new(ResponseError::InvalidReplicationFactor, why));
        }
        return match topic.num_partitions {
            AS_DECLARED => Ok(declared),
            partitions => bounded(partitions),
        };
    }
    if topic.num_partitions != AS_DECLARED || topic.replication_factor != -1 {
        let why = "partitions are either counted or assigned";
        return Err(Wrong::new(ResponseError::InvalidRequest, why));
    }
    let indexes: BTreeSet<i32> = topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    let count = topic.assignments.len() as i32;
    let is_whole = indexes.len() as i32 == count && indexes.first() == Some(&0) && indexes.last() == Some(&(count - 1));
    let is_ours = topic.assignments.iter().all(|assignment| assignment.broker_ids == [BrokerId(NODE)]);
    match is_whole && is_ours {
        true => bounded(count),
        false => Err(assigned_elsewhere()),
    }
}

fn bounded(partitions: i32) -> Result<i32, Wrong> {
    match partitions {
        1..=MOST_PARTITIONS => Ok(partitions),
        _ => {
            Err(Wrong::new(ResponseError::InvalidPartitions, format!("a topic has 1 to {MOST_PARTITIONS} partitions")))
        }
    }
}

/// DeleteTopics.
pub(crate) async fn delete(broker: &Broker, request: DeleteTopicsRequest, caller: &Caller) -> DeleteTopicsResponse {
    let access = caller.to(Operation::Delete);
    let by_name = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut told = Vec::new();
    for topic in request.topics.into_iter().chain(by_name) {
        let described = DeletableTopicResult::default().with_topic_id(topic.topic_id);
        let found = match &topic.name {
            Some(name) => broker.topic(access, name).await,
            None => broker.topic_of(access, topic.topic_id).await,
        };
        told.push(match found {
            Err(wrong) => {
                described.with_name(topic.name).with_error_code(wrong.code()).with_error_message(wrong.message())
            }
            Ok(found) => {
                let described = described.with_name(Some(TopicName(text(&found.name))));
                match delete_one(broker, &found).await {
                    Ok(()) => described.with_topic_id(uuid(found.id)),
                    Err(wrong) => described.with_error_code(wrong.code()).with_error_message(wrong.message()),
                }
            }
        });
    }
    DeleteTopicsResponse::default().with_responses(told)
}

async fn delete_one(broker: &Broker, topic: &Topic) -> Result<(), Wrong> {
    if names::is_ours(&topic.name) {
        return Err(Wrong::new(ResponseError::InvalidRequest, "the topic is the runtime's own"));
    }
    match broker.store.delete(&topic.name, false).await {
        // Somebody still needs its records.
        Err(cause @ Error::Refused { .. }) => Err(Wrong::new(ResponseError::PolicyViolation, cause.to_string())),
        deleted => Ok(deleted?),
    }
}

/// CreatePartitions.
pub(crate) async fn grow(
    broker: &Broker,
    request: CreatePartitionsRequest,
    caller: &Caller,
) -> CreatePartitionsResponse {
    let twice = repeated(request.topics.iter().map(|topic| &topic.name));
    let mut told = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let grown = match twice.contains(&topic.name) {
            true => Err(said_twice()),
            false => grow_one(broker, &topic, request.validate_only, caller).await,
        };
        let described = CreatePartitionsTopicResult::default().with_name(topic.name);
        told.push(match grown {
            Ok(()) => described,
            Err(wrong) => described.with_error_code(wrong.code()).with_error_message(wrong.message()),
        });
    }
    CreatePartitionsResponse::default().with_results(told)
}

async fn grow_one(
    broker: &Broker,
    wanted: &CreatePartitionsTopic,
    only_check: bool,
    caller: &Caller,
) -> Result<(), Wrong> {
    let topic = broker.topic(caller.to(Operation::Alter), &wanted.name).await?;
    if names::is_ours(&topic.name) {
        return Err(Wrong::new(ResponseError::InvalidTopicException, "the topic is the runtime's own"));
    }
    let count = bounded(wanted.count)?;
    if count <= topic.partitions {
        let why = format!("the topic has {} partitions already, and none is taken away", topic.partitions);
        return Err(Wrong::new(ResponseError::InvalidPartitions, why));
    }
    if let Some(assignments) = &wanted.assignments {
        let is_ours = assignments.iter().all(|assignment| assignment.broker_ids == [BrokerId(NODE)]);
        if assignments.len() as i32 != count - topic.partitions || !is_ours {
            return Err(assigned_elsewhere());
        }
    }
    if !only_check {
        broker.host.alter(&topic.name, count, &topic.settings).await?;
    }
    Ok(())
}

/// The names that a request says more than once: Kafka does nothing about any of them.
fn repeated<'a>(names: impl Iterator<Item = &'a TopicName>) -> BTreeSet<TopicName> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

fn said_twice() -> Wrong {
    Wrong::new(ResponseError::InvalidRequest, "the request names the topic more than once")
}

fn exists(name: &str) -> Wrong {
    Wrong::new(ResponseError::TopicAlreadyExists, format!("topic `{name}` exists already"))
}

fn null_value(name: &str) -> Wrong {
    Wrong::new(ResponseError::InvalidConfig, format!("`{name}` has no value"))
}

fn assigned_elsewhere() -> Wrong {
    let why = format!("partitions are assigned in order, from 0, each to broker {NODE} alone");
    Wrong::new(ResponseError::InvalidReplicaAssignment, why)
}
