//! Every API, asked by somebody who may do everything but one thing: the table says which, and the answer must say so too.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::protocol::Encodable;

use super::*;
use crate::apis::Api;
use crate::broker::{Broker, Options};
use crate::call::Reply;
use crate::groups::tests::store::Memory;
use crate::security::principal::Principal;
use crate::security::rights::{Need, Of, Operation, Rights};

/// What requests of the table's rows can not bring about, as they are made here: the tests of rights have others.
const ELSEWHERE: &[(ApiKey, Operation, Of)] = &[
    // A transactional id is always there: see below.
    (ApiKey::InitProducerId, Operation::IdempotentWrite, Of::Cluster),
    // Either is enough.
    (ApiKey::WriteTxnMarkers, Operation::Alter, Of::Cluster),
    (ApiKey::WriteTxnMarkers, Operation::ClusterAction, Of::Cluster),
    // Records come in pieces.
    (ApiKey::Fetch, Operation::Read, Of::Topic),
    // There is no such group, which is told first.
    (ApiKey::OffsetDelete, Operation::Read, Of::Topic),
];

/// The errors that an answer tells.
pub(super) type Told = fn(&[u8], i16) -> BTreeSet<i16>;

fn told<R: Request>(frame: &[u8], version: i16) -> BTreeSet<i16>
where
    R::Response: Decodable + Encodable + std::fmt::Debug,
{
    let mut rest = bytes::Bytes::copy_from_slice(&frame[4..]);
    let key = ApiKey::try_from(R::KEY).unwrap();
    ResponseHeader::decode(&mut rest, key.response_header_version(version)).unwrap();
    let version = newer::known_as(key, version);
    let text = format!("{:?}", R::Response::decode(&mut rest, version).unwrap());
    let codes = text.split("error_code: ").skip(1);
    codes.filter_map(|rest| rest.split([',', ' ']).next()?.parse().ok()).collect()
}

pub(super) fn teller(key: ApiKey) -> Told {
    match key {
        ApiKey::Produce => told::<ProduceRequest>,
        ApiKey::Fetch => told::<FetchRequest>,
        ApiKey::ListOffsets => told::<ListOffsetsRequest>,
        ApiKey::Metadata => told::<MetadataRequest>,
        ApiKey::OffsetCommit => told::<OffsetCommitRequest>,
        ApiKey::OffsetFetch => told::<OffsetFetchRequest>,
        ApiKey::FindCoordinator => told::<FindCoordinatorRequest>,
        ApiKey::JoinGroup => told::<JoinGroupRequest>,
        ApiKey::Heartbeat => told::<HeartbeatRequest>,
        ApiKey::LeaveGroup => told::<LeaveGroupRequest>,
        ApiKey::SyncGroup => told::<SyncGroupRequest>,
        ApiKey::DescribeGroups => told::<DescribeGroupsRequest>,
        ApiKey::ListGroups => told::<ListGroupsRequest>,
        ApiKey::CreateTopics => told::<CreateTopicsRequest>,
        ApiKey::DeleteTopics => told::<DeleteTopicsRequest>,
        ApiKey::DeleteRecords => told::<DeleteRecordsRequest>,
        ApiKey::InitProducerId => told::<InitProducerIdRequest>,
        ApiKey::OffsetForLeaderEpoch => told::<OffsetForLeaderEpochRequest>,
        ApiKey::AddPartitionsToTxn => told::<AddPartitionsToTxnRequest>,
        ApiKey::AddOffsetsToTxn => told::<AddOffsetsToTxnRequest>,
        ApiKey::EndTxn => told::<EndTxnRequest>,
        ApiKey::WriteTxnMarkers => told::<WriteTxnMarkersRequest>,
        ApiKey::TxnOffsetCommit => told::<TxnOffsetCommitRequest>,
        ApiKey::DescribeTransactions => told::<DescribeTransactionsRequest>,
        ApiKey::ListTransactions => told::<ListTransactionsRequest>,
        ApiKey::DescribeConfigs => told::<DescribeConfigsRequest>,
        ApiKey::DescribeLogDirs => told::<DescribeLogDirsRequest>,
        ApiKey::CreatePartitions => told::<CreatePartitionsRequest>,
        ApiKey::DeleteGroups => told::<DeleteGroupsRequest>,
        ApiKey::OffsetDelete => told::<OffsetDeleteRequest>,
        ApiKey::IncrementalAlterConfigs => told::<IncrementalAlterConfigsRequest>,
        ApiKey::AlterConfigs => told::<AlterConfigsRequest>,
        ApiKey::DescribeTopicPartitions => told::<DescribeTopicPartitionsRequest>,
        ApiKey::DescribeCluster => told::<DescribeClusterRequest>,
        ApiKey::DescribeProducers => told::<DescribeProducersRequest>,
        key => panic!("nothing here tells what {key:?} answers"),
    }
}

pub(super) fn broker() -> Arc<Broker> {
    let log = Memory::default();
    let store = Arc::new(log.clone());
    Arc::new(Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store))
}

/// The errors that somebody with rights is told, in any version and by any example of a request.
async fn answers(api: &'static Api, rights: &Rights) -> BTreeSet<i16> {
    let principal = Principal::new("somebody", Arc::new(rights.clone()), Arc::default());
    let shape = shape_of(api.key).unwrap();
    let mut all = BTreeSet::new();
    for version in api.versions.clone() {
        for fill in [0, 1, 2] {
            let body = Example::filled(shape, version, fill).bytes.into();
            let caller = Caller { principal: principal.clone(), needs: api.needs, ..Caller::somebody(version) };
            let call = Call { key: api.key, correlation: 7, caller, body };
            let mut reply = (api.answer)(broker(), call).await;
            if let Ok(Reply::Later(later)) = reply {
                reply = later.await;
            }
            // A producer may want no answer.
            let Ok(Reply::Now(frame)) = reply else { continue };
            all.extend(teller(api.key)(&frame, version));
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn who_may_do_everything_but_one_thing_is_told_so() {
    let refusals = [Of::Topic, Of::Group, Of::Transaction, Of::Cluster].map(|of| of.refused().code());
    for api in APIS.iter().filter(|api| !api.needs.is_empty()) {
        let all = answers(api, &Rights::all()).await;
        assert!(refusals.iter().all(|code| !all.contains(code)), "{:?} with all rights: {all:?}", api.key);
        for Need { operation, of, is_told } in api.needs {
            if ELSEWHERE.contains(&(api.key, *operation, *of)) {
                continue;
            }
            let told = answers(api, &Rights::all_but(*operation, *of)).await;
            let expected = is_told.then(|| of.refused().code());
            let found: Vec<i16> = told.into_iter().filter(|code| refusals.contains(code)).collect();
            match expected {
                Some(code) => assert_eq!(found, [code], "{:?} without {operation:?} of {of:?}", api.key),
                None => assert!(found.iter().all(|code| *code == of.refused().code()), "{:?}: {found:?}", api.key),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_write_nothing_gets_no_number_to_write_with() {
    let mut rights = Rights::default();
    let ask = async |rights: &Rights| {
        let needs = crate::apis::api(ApiKey::InitProducerId as i16).unwrap().needs;
        let principal = Principal::new("somebody", Arc::new(rights.clone()), Arc::default());
        let caller = Caller { principal, needs, ..Caller::somebody(4) };
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        crate::producers::init(&broker(), request, &caller).await.error_code
    };
    let refused = Of::Cluster.refused().code();
    assert_eq!(ask(&rights).await, refused);
    rights.grant(Of::Topic, "a*", crate::security::rights::Right::Read);
    assert_eq!(ask(&rights).await, refused);
    rights.grant(Of::Topic, "b*", crate::security::rights::Right::Write);
    assert_ne!(ask(&rights).await, refused);
}
