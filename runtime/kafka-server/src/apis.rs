//! The table of what is answered: each API with its versions and who answers it.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::BoxFuture;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeProducersRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request};

use crate::broker::Broker;
use crate::call::{Broken, Call, Caller, Reply};
use crate::{cluster, configs, fetch, groups, metadata, offsets, produce, producers, topics, versions};

/// One API.
pub(crate) struct Api {
    /// Which.
    pub(crate) key: ApiKey,
    /// The versions that are answered, and that ApiVersions tells of.
    pub(crate) versions: RangeInclusive<i16>,
    /// Who answers.
    pub(crate) answer: fn(Arc<Broker>, Call) -> Answering,
}

/// An answer on its way. Until it resolves, the connection's next request waits; what may be waited for while the next
/// requests are taken goes into [`Reply::Later`].
pub(crate) type Answering = BoxFuture<'static, Result<Reply, Broken>>;

/// All APIs, by key. A row names its request's type, and the function that answers it.
pub(crate) const APIS: &[Api] = &[
    Api { key: ApiKey::Produce, versions: 3..=13, answer: |b, call| Box::pin(produce::answer(b, call)) },
    Api { key: ApiKey::Fetch, versions: 4..=18, answer: |b, call| Box::pin(fetch::answer(b, call)) },
    Api {
        key: ApiKey::ListOffsets,
        versions: 1..=10,
        answer: |b, call| {
            answered(b, call, |b, r: ListOffsetsRequest, c| async move { offsets::list(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::Metadata,
        versions: 0..=13,
        answer: |b, call| {
            answered(b, call, |b, r: MetadataRequest, c| async move { metadata::answer(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::OffsetCommit,
        versions: 2..=9,
        answer: |b, call| {
            answered(b, call, |b, r: OffsetCommitRequest, c| async move {
                groups::offsets_apis::commit(&b, &b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::OffsetFetch,
        versions: 1..=9,
        answer: |b, call| {
            answered(b, call, |b, r: OffsetFetchRequest, c| async move {
                groups::offsets_apis::fetch(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::FindCoordinator,
        versions: 0..=6,
        answer: |b, call| {
            answered(b, call, |b, r: FindCoordinatorRequest, c| async move { cluster::coordinator(&b, r, &c) })
        },
    },
    Api {
        key: ApiKey::JoinGroup,
        versions: 0..=9,
        answer: |b, call| {
            answered(
                b,
                call,
                |b, r: JoinGroupRequest, c| async move { groups::members_apis::join(&b.groups, r, &c).await },
            )
        },
    },
    Api {
        key: ApiKey::Heartbeat,
        versions: 0..=4,
        answer: |b, call| {
            answered(
                b,
                call,
                |b, r: HeartbeatRequest, _| async move { groups::members_apis::heartbeat(&b.groups, r).await },
            )
        },
    },
    Api {
        key: ApiKey::LeaveGroup,
        versions: 0..=5,
        answer: |b, call| {
            answered(b, call, |b, r: LeaveGroupRequest, c| async move {
                groups::members_apis::leave(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::SyncGroup,
        versions: 0..=5,
        answer: |b, call| {
            answered(b, call, |b, r: SyncGroupRequest, _| async move { groups::members_apis::sync(&b.groups, r).await })
        },
    },
    Api {
        key: ApiKey::DescribeGroups,
        versions: 0..=6,
        answer: |b, call| {
            answered(b, call, |b, r: DescribeGroupsRequest, c| async move {
                groups::groups_apis::describe(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::ListGroups,
        versions: 0..=5,
        answer: |b, call| {
            answered(b, call, |b, r: ListGroupsRequest, _| async move { groups::groups_apis::list(&b.groups, r).await })
        },
    },
    Api {
        key: ApiKey::ApiVersions,
        versions: 0..=4,
        answer: |b, call| answered(b, call, |_, _: ApiVersionsRequest, _| async move { versions::answer() }),
    },
    Api {
        key: ApiKey::CreateTopics,
        versions: 2..=7,
        answer: |b, call| answered(b, call, |b, r: CreateTopicsRequest, _| async move { topics::create(&b, r).await }),
    },
    Api {
        key: ApiKey::DeleteTopics,
        versions: 1..=6,
        answer: |b, call| answered(b, call, |b, r: DeleteTopicsRequest, _| async move { topics::delete(&b, r).await }),
    },
    Api {
        key: ApiKey::InitProducerId,
        versions: 0..=5,
        answer: |b, call| {
            answered(b, call, |b, r: InitProducerIdRequest, _| async move { producers::init(&b, r).await })
        },
    },
    Api {
        key: ApiKey::OffsetForLeaderEpoch,
        versions: 2..=4,
        answer: |b, call| {
            answered(b, call, |b, r: OffsetForLeaderEpochRequest, _| async move { offsets::of_epochs(&b, r).await })
        },
    },
    Api {
        key: ApiKey::DescribeConfigs,
        versions: 1..=4,
        answer: |b, call| {
            answered(b, call, |b, r: DescribeConfigsRequest, _| async move { configs::describe(&b, r).await })
        },
    },
    Api {
        key: ApiKey::CreatePartitions,
        versions: 0..=3,
        answer: |b, call| {
            answered(b, call, |b, r: CreatePartitionsRequest, _| async move { topics::grow(&b, r).await })
        },
    },
    Api {
        key: ApiKey::DeleteGroups,
        versions: 0..=2,
        answer: |b, call| {
            answered(
                b,
                call,
                |b, r: DeleteGroupsRequest, _| async move { groups::groups_apis::delete(&b.groups, r).await },
            )
        },
    },
    Api {
        key: ApiKey::OffsetDelete,
        versions: 0..=0,
        answer: |b, call| {
            answered(b, call, |b, r: OffsetDeleteRequest, _| async move {
                groups::offsets_apis::delete(&b, &b.groups, r).await
            })
        },
    },
    Api {
        key: ApiKey::IncrementalAlterConfigs,
        versions: 0..=1,
        answer: |b, call| {
            answered(b, call, |b, r: IncrementalAlterConfigsRequest, _| async move { configs::alter(&b, r).await })
        },
    },
    Api {
        key: ApiKey::DescribeCluster,
        versions: 0..=2,
        answer: |b, call| {
            answered(b, call, |b, r: DescribeClusterRequest, _| async move { cluster::describe(&b, r).await })
        },
    },
    Api {
        key: ApiKey::DescribeProducers,
        versions: 0..=0,
        answer: |b, call| {
            answered(b, call, |b, r: DescribeProducersRequest, _| async move { producers::describe(&b, r).await })
        },
    },
];

/// The row of an API.
pub(crate) fn api(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// Decodes a request, has it answered, and encodes the answer.
fn answered<R, F, W>(broker: Arc<Broker>, call: Call, answer: F) -> Answering
where
    R: Request + Decodable + Send + 'static,
    R::Response: Encodable + Send,
    F: FnOnce(Arc<Broker>, R, Caller) -> W + Send + 'static,
    W: Future<Output = R::Response> + Send,
{
    Box::pin(async move {
        let request = call.decode::<R>()?;
        let response = answer(broker, request, call.caller.clone()).await;
        call.reply(&response)
    })
}
