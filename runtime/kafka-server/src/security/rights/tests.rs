//! Rights for which the table of APIs can not be asked with any example of a request: each with what it takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use aqueduct_api::{Committed, Groups as _, Records, TopicPartition};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use super::*;
use crate::apis;
use crate::broker::{Broker, Options};
use crate::call::{Call, Caller, Reply};
use crate::groups::tests::store::Memory;
use crate::security::principal::Principal;

fn topic() -> TopicName {
    StrBytes::from_static_str("t").into()
}

fn group() -> GroupId {
    StrBytes::from_static_str("g").into()
}

/// What somebody with rights is answered, by a broker that keeps records and an offset of the group `g`.
async fn answered<R: Request + Encodable>(request: &R, version: i16, rights: &Rights) -> R::Response
where
    R::Response: Decodable,
{
    let log = Memory::default();
    *log.records.lock() = 10;
    let token = log.join("g").await.unwrap();
    let offset = Committed { offset: 1, leader_epoch: -1, metadata: String::new() };
    log.commit(&token, vec![(TopicPartition::new("t", 0), Some(offset))]).await.unwrap();
    drop(token);
    let store = Arc::new(log.clone());
    let broker = Arc::new(Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store));
    let api = apis::api(R::KEY).unwrap();
    let mut body = BytesMut::new();
    request.encode(&mut body, version).unwrap();
    let principal = Principal::new("somebody", Arc::new(rights.clone()), Arc::default());
    let caller = Caller { principal, needs: api.needs, ..Caller::somebody(version) };
    let call = Call { key: api.key, correlation: 7, caller, body: body.freeze() };
    let pieces = match (api.answer)(broker, call).await.unwrap() {
        Reply::Now(frame) => vec![Records::Bytes(frame)],
        Reply::Pieces(pieces, _) => pieces,
        Reply::Later(_) | Reply::Nothing => panic!("{:?} is answered at once", api.key),
    };
    let frame: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| match piece {
            Records::Bytes(bytes) => bytes.to_vec(),
            Records::File(_) => panic!("there is no file"),
        })
        .collect();
    let mut rest = Bytes::from(frame).slice(4..);
    ResponseHeader::decode(&mut rest, api.key.response_header_version(version)).unwrap();
    R::Response::decode(&mut rest, version).unwrap()
}

fn refused(of: Of) -> i16 {
    of.refused().code()
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_a_topic_fetches_nothing_of_it() {
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1000);
    let wanted = FetchTopic::default().with_topic(topic()).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1000).with_session_epoch(-1).with_topics(vec![wanted]);
    for (rights, expected) in [
        (Rights::all(), (0, 1000)),
        (Rights::all_but(Operation::Read, Of::Topic), (refused(Of::Topic), 0)),
        (Rights::default(), (refused(Of::Topic), 0)),
    ] {
        let answer = answered(&request, 12, &rights).await;
        let told = &answer.responses[0].partitions[0];
        let size = told.records.as_ref().map_or(0, Bytes::len);
        assert_eq!((told.error_code, size), expected, "{rights:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_a_topic_forgets_no_offset_of_it() {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let wanted = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![wanted]);
    for (rights, expected) in [(Rights::all(), 0), (Rights::all_but(Operation::Read, Of::Topic), refused(Of::Topic))] {
        let answer = answered(&request, 0, &rights).await;
        assert_eq!((answer.error_code, answer.topics[0].partitions[0].error_code), (0, expected), "{rights:?}");
    }
    let answer = answered(&request, 0, &Rights::all_but(Operation::Delete, Of::Group)).await;
    assert_eq!(answer.error_code, refused(Of::Group));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_group_is_told_instead_of_what_is_wrong_with_topics() {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let wanted = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
    let missing = ResponseError::GroupIdNotFound.code();
    // Kafka looks at the right to the group, then at those to topics, and then asks the group, whose error it tells alone.
    for (rights, expected) in [
        (Rights::all(), missing),
        (Rights::all_but(Operation::Read, Of::Topic), missing),
        (Rights::all_but(Operation::Delete, Of::Group), refused(Of::Group)),
        (Rights::default(), refused(Of::Group)),
    ] {
        let other = GroupId(StrBytes::from_static_str("other"));
        let request = OffsetDeleteRequest::default().with_group_id(other).with_topics(vec![wanted.clone()]);
        let answer = answered(&request, 0, &rights).await;
        assert_eq!((answer.error_code, answer.topics), (expected, Vec::new()), "{rights:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_a_topic_commits_nothing_of_it_in_a_transaction() {
    let partition = TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(1);
    let wanted = TxnOffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
    let id = TransactionalId(StrBytes::from_static_str("id"));
    let request =
        TxnOffsetCommitRequest::default().with_group_id(group()).with_transactional_id(id).with_topics(vec![wanted]);
    let unknown = ResponseError::InvalidProducerIdMapping.code();
    for (rights, expected) in [
        (Rights::all(), unknown),
        (Rights::all_but(Operation::Read, Of::Topic), refused(Of::Topic)),
        (Rights::all_but(Operation::Read, Of::Group), refused(Of::Group)),
        (Rights::all_but(Operation::Write, Of::Transaction), refused(Of::Transaction)),
        (Rights::default(), refused(Of::Transaction)),
    ] {
        let answer = answered(&request, 3, &rights).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected, "{rights:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn either_of_two_rights_is_enough_to_write_markers() {
    let wanted = WritableTxnMarkerTopic::default().with_name(topic()).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default().with_producer_id(ProducerId(1)).with_topics(vec![wanted]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let mut neither = Rights::all();
    neither.cluster &= !(Operation::Alter.bit() | Operation::ClusterAction.bit());
    for (rights, is_refused) in [
        (Rights::all(), false),
        (Rights::all_but(Operation::Alter, Of::Cluster), false),
        (Rights::all_but(Operation::ClusterAction, Of::Cluster), false),
        (neither, true),
    ] {
        let answer = answered(&request, 1, &rights).await;
        let partitions = answer.markers.iter().flat_map(|marker| &marker.topics).flat_map(|topic| &topic.partitions);
        let told: BTreeSet<i16> = partitions.map(|partition| partition.error_code).collect();
        assert_eq!(told.contains(&refused(Of::Cluster)), is_refused, "{rights:?}: {told:?}");
    }
}
