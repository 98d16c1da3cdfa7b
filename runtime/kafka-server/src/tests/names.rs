//! Names that nobody may have, asked for in every way: Kafka's codes, and nothing is made.

use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource as Altered;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

use super::rights::{broker, teller};
use super::*;
use crate::apis::api;
use crate::call::Reply;
use crate::names::text;

/// What no topic is called.
fn illegal() -> Vec<String> {
    let long = "a".repeat(250);
    let names =
        ["", ".", "..", "../x", "/", "a/b", "/etc/passwd", r"a\b", r"..\x", "a b", "a:b", "a\0b", "ü", "a\n", &long];
    names.map(str::to_owned).into()
}

/// The codes that an API answers about a name, in a version that names topics by their names.
async fn codes(key: ApiKey, version: i16, body: bytes::Bytes) -> Vec<i16> {
    let row = api(key as i16).unwrap();
    let caller = Caller { needs: row.needs, ..Caller::somebody(version) };
    let mut reply = (row.answer)(broker(), Call { key, correlation: 7, caller, body }).await;
    if let Ok(Reply::Later(later)) = reply {
        reply = later.await;
    }
    let frame = match reply {
        Ok(Reply::Now(frame)) => frame.to_vec(),
        Ok(Reply::Pieces(pieces, _)) => pieces.iter().flat_map(whole).collect(),
        _ => panic!("{key:?} answers nothing"),
    };
    teller(key)(&frame, version).into_iter().filter(|code| *code != 0).collect()
}

fn whole(piece: &aqueduct_api::Records) -> Vec<u8> {
    match piece {
        aqueduct_api::Records::Bytes(bytes) => bytes.to_vec(),
        aqueduct_api::Records::File(_) => panic!("there are no files here"),
    }
}

/// A request as it comes over the wire.
fn encoded<R: Request>(version: i16, request: R, expected: E) -> (ApiKey, i16, bytes::Bytes, E) {
    let mut body = bytes::BytesMut::new();
    request.encode(&mut body, version).unwrap();
    (ApiKey::try_from(R::KEY).unwrap(), version, body.freeze(), expected)
}

/// A request of each API that takes the name of a topic, in a version of it, and the code that Kafka answers.
fn asked(name: &str) -> Vec<(ApiKey, i16, bytes::Bytes, E)> {
    let topic = || TopicName(text(name));
    let invalid = E::InvalidTopicException;
    let unknown = E::UnknownTopicOrPartition;
    let metadata = |creates| {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic()));
        MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(creates)
    };
    let produce = PartitionProduceData::default().with_records(Some(bytes::Bytes::from_static(b"x")));
    let produce = TopicProduceData::default().with_name(topic()).with_partition_data(vec![produce]);
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![produce]);
    let fetch = FetchTopic::default().with_topic(topic()).with_partitions(vec![FetchPartition::default()]);
    let list = ListOffsetsTopic::default()
        .with_name(topic())
        .with_partitions(vec![ListOffsetsPartition::default().with_timestamp(-1)]);
    let commit = OffsetCommitRequestTopic::default()
        .with_name(topic())
        .with_partitions(vec![OffsetCommitRequestPartition::default()]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![commit]);
    let create = CreatableTopic::default().with_name(topic()).with_num_partitions(1).with_replication_factor(1);
    let grow = CreatePartitionsTopic::default().with_name(topic()).with_count(2);
    let records = DeleteRecordsTopic::default()
        .with_name(topic())
        .with_partitions(vec![DeleteRecordsPartition::default().with_offset(-1)]);
    let add = AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text("x")))
        .with_v3_and_below_topics(vec![add]);
    const TOPIC: i8 = 2;
    let described = DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text(name));
    let replaced = AlterConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text(name));
    let altered = Altered::default().with_resource_type(TOPIC).with_resource_name(text(name));
    vec![
        encoded(12, metadata(true), invalid),
        encoded(12, metadata(false), invalid),
        encoded(12, produce, unknown),
        encoded(12, FetchRequest::default().with_max_wait_ms(0).with_topics(vec![fetch]), unknown),
        encoded(10, ListOffsetsRequest::default().with_topics(vec![list]), unknown),
        encoded(9, commit, unknown),
        encoded(7, CreateTopicsRequest::default().with_topics(vec![create]), invalid),
        encoded(
            6,
            DeleteTopicsRequest::default().with_topics(vec![DeleteTopicState::default().with_name(Some(topic()))]),
            unknown,
        ),
        encoded(3, CreatePartitionsRequest::default().with_topics(vec![grow]), unknown),
        encoded(2, DeleteRecordsRequest::default().with_topics(vec![records]), unknown),
        encoded(3, add, unknown),
        encoded(4, DescribeConfigsRequest::default().with_resources(vec![described]), invalid),
        encoded(2, AlterConfigsRequest::default().with_resources(vec![replaced]), invalid),
        encoded(1, IncrementalAlterConfigsRequest::default().with_resources(vec![altered]), invalid),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_no_topic_is_called_has_kafkas_code_in_every_api() {
    for name in illegal() {
        for (key, version, body, expected) in asked(&name) {
            assert_eq!(codes(key, version, body).await, [expected.code()], "{key:?} of {name:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_name_and_every_legal_byte_is_nothing_that_kafka_refuses() {
    let bytes: String = ('0'..='9').chain('A'..='Z').chain('a'..='z').chain(['.', '_', '-']).collect();
    for name in [&bytes[..], "...", "-", &"a".repeat(249)] {
        for (key, version, body, _) in asked(name) {
            let codes = codes(key, version, body).await;
            assert!(!codes.contains(&E::InvalidTopicException.code()), "{key:?} of {name:?}: {codes:?}");
        }
    }
}
