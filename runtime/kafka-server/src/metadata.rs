//! Metadata: which topics there are, and who leads their partitions.

use aqueduct_api::{Topic, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

use crate::broker::{Broker, NODE};
use crate::call::{Caller, Wrong};
use crate::cluster;
use crate::names::{self, text, uuid};
use crate::security::rights::{Operation, Resource};

/// The answer.
pub(crate) async fn answer(broker: &Broker, request: MetadataRequest, caller: &Caller) -> MetadataResponse {
    let version = caller.version;
    // Before version 1 nobody could ask for no topic.
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let may_create = broker.options.auto_create && (version < 4 || request.allow_auto_topic_creation);
    let mut told = Vec::new();
    match wanted {
        Some(wanted) => {
            for topic in wanted {
                told.push(match find(broker, &topic, may_create, caller).await {
                    Ok(topic) => of_topic(broker, &topic, version).await,
                    Err(wrong) => unknown(topic, version, &wrong),
                });
            }
        }
        None => match broker.store.topics().await {
            Ok(topics) => {
                let is_seen = |topic: &Topic| caller.allows(Operation::Describe, Resource::Topic(&topic.name));
                for topic in topics.into_iter().filter(is_seen) {
                    told.push(of_topic(broker, &topic, version).await);
                }
            }
            Err(cause) => tracing::warn!(%cause, "Kafka clients were told of no topic"),
        },
    }
    if version >= 8 && request.include_topic_authorized_operations {
        for topic in &mut told {
            let name = topic.name.as_ref().map_or("", |name| &***name);
            topic.topic_authorized_operations = caller.principal.rights().operations(Resource::Topic(name));
        }
    }
    let node = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE))
        .with_host(broker.host())
        .with_port(broker.port());
    let mut response = MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(broker.cluster_id().await)
        .with_controller_id(BrokerId(NODE))
        .with_topics(told);
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = cluster::operations(caller);
    }
    response
}

async fn find(
    broker: &Broker,
    wanted: &MetadataRequestTopic,
    may_create: bool,
    caller: &Caller,
) -> Result<Topic, Wrong> {
    let access = caller.to(Operation::Describe);
    let Some(name) = &wanted.name else { return broker.topic_of(access, wanted.topic_id).await };
    match broker.topic(access, name).await {
        Err(wrong) if wrong.error == ResponseError::UnknownTopicOrPartition => {
            names::check(name)?;
            if !may_create || names::is_ours(name) {
                return Err(wrong);
            }
            caller.may(Operation::Create, Resource::Topic(name))?;
            let (partitions, settings) = broker.host.declared(name);
            match broker.store.create(name, partitions, &settings).await {
                Ok(topic) => Ok(topic),
                // Somebody else may have been faster.
                Err(cause) => broker.topic(access, name).await.map_err(|_| cause.into()),
            }
        }
        found => found,
    }
}

async fn of_topic(broker: &Broker, topic: &Topic, version: i16) -> MetadataResponseTopic {
    let mut partitions = Vec::with_capacity(topic.partitions.max(0) as usize);
    for of in topic.all_partitions() {
        partitions.push(partition(of.partition, epoch(broker, &of, version).await));
    }
    let described = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_is_internal(names::is_internal(&topic.name))
        .with_partitions(partitions);
    match version {
        10.. => described.with_topic_id(uuid(topic.id)),
        _ => described,
    }
}

async fn epoch(broker: &Broker, of: &TopicPartition, version: i16) -> i32 {
    match version {
        7.. => broker.store.bounds(of).await.map_or(-1, |bounds| bounds.leader_epoch),
        _ => -1,
    }
}

fn partition(index: i32, leader_epoch: i32) -> MetadataResponsePartition {
    MetadataResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(BrokerId(NODE))
        .with_leader_epoch(leader_epoch)
        .with_replica_nodes(vec![BrokerId(NODE)])
        .with_isr_nodes(vec![BrokerId(NODE)])
}

fn unknown(topic: MetadataRequestTopic, version: i16, wrong: &Wrong) -> MetadataResponseTopic {
    let told = MetadataResponseTopic::default().with_error_code(wrong.code());
    let told = match version {
        10.. => told.with_topic_id(topic.topic_id),
        _ => told,
    };
    match version {
        // A name may be absent from version 12 on.
        12.. => told.with_name(topic.name),
        _ => told.with_name(Some(topic.name.unwrap_or_default())),
    }
}
