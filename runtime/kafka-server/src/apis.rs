//! The table of what is answered: each API with its versions and who answers it.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::BoxFuture;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiKey, ApiVersionsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeTopicPartitionsRequest, DescribeTransactionsRequest, EndTxnRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, ListTransactionsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest, SyncGroupRequest, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request};

use crate::broker::Broker;
use crate::call::{Broken, Call, Caller, Reply};
use crate::security::rights::Of::{Cluster, Group, Topic, Transaction};
use crate::security::rights::Operation::{
    Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read, Write,
};
use crate::security::rights::{Need, hides, needs};
use crate::{
    cluster, configs, fetch, groups, metadata, offsets, produce, producers, records, topic_partitions, topics,
    transactions, versions,
};

/// One API.
pub(crate) struct Api {
    /// Which.
    pub(crate) key: ApiKey,
    /// The versions that are answered, and that ApiVersions tells of.
    pub(crate) versions: RangeInclusive<i16>,
    /// What a client must have the right to; an empty list says that everybody may ask.
    pub(crate) needs: &'static [Need],
    /// Who answers.
    pub(crate) answer: fn(Arc<Broker>, Call) -> Answering,
}

/// An answer on its way. Until it resolves, the connection's next request waits; what may be waited for while the next
/// requests are taken goes into [`Reply::Later`].
pub(crate) type Answering = BoxFuture<'static, Result<Reply, Broken>>;

/// All APIs, by key. A row names its request's type, and the function that answers it.
pub(crate) const APIS: &[Api] = &[
    Api {
        key: ApiKey::Produce,
        versions: 3..=13,
        needs: &[needs(Write, Topic), needs(Write, Transaction)],
        answer: |b, call| Box::pin(produce::answer(b, call)),
    },
    Api {
        key: ApiKey::Fetch,
        versions: 4..=18,
        needs: &[needs(Read, Topic)],
        answer: |b, call| Box::pin(fetch::answer(b, call)),
    },
    Api {
        key: ApiKey::ListOffsets,
        versions: 1..=10,
        needs: &[needs(Describe, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: ListOffsetsRequest, c| async move { offsets::list(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::Metadata,
        versions: 0..=13,
        needs: &[needs(Describe, Topic), needs(Create, Topic), hides(Describe, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: MetadataRequest, c| async move { metadata::answer(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::OffsetCommit,
        versions: 2..=9,
        needs: &[needs(Read, Group), needs(Read, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: OffsetCommitRequest, c| async move {
                groups::offsets_apis::commit(&b, &b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::OffsetFetch,
        versions: 1..=9,
        needs: &[needs(Describe, Group), needs(Describe, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: OffsetFetchRequest, c| async move {
                groups::offsets_apis::fetch(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::FindCoordinator,
        versions: 0..=6,
        needs: &[needs(Describe, Group), needs(Describe, Transaction)],
        answer: |b, call| {
            answered(b, call, |b, r: FindCoordinatorRequest, c| async move { cluster::coordinator(&b, r, &c) })
        },
    },
    Api {
        key: ApiKey::JoinGroup,
        versions: 0..=9,
        needs: &[needs(Read, Group)],
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
        needs: &[needs(Read, Group)],
        answer: |b, call| {
            answered(b, call, |b, r: HeartbeatRequest, c| async move {
                groups::members_apis::heartbeat(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::LeaveGroup,
        versions: 0..=5,
        needs: &[needs(Read, Group)],
        answer: |b, call| {
            answered(b, call, |b, r: LeaveGroupRequest, c| async move {
                groups::members_apis::leave(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::SyncGroup,
        versions: 0..=5,
        needs: &[needs(Read, Group)],
        answer: |b, call| {
            answered(
                b,
                call,
                |b, r: SyncGroupRequest, c| async move { groups::members_apis::sync(&b.groups, r, &c).await },
            )
        },
    },
    Api {
        key: ApiKey::DescribeGroups,
        versions: 0..=6,
        needs: &[needs(Describe, Group)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeGroupsRequest, c| async move {
                groups::groups_apis::describe(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::ListGroups,
        versions: 0..=5,
        needs: &[hides(Describe, Cluster), hides(Describe, Group)],
        answer: |b, call| {
            answered(
                b,
                call,
                |b, r: ListGroupsRequest, c| async move { groups::groups_apis::list(&b.groups, r, &c).await },
            )
        },
    },
    Api {
        key: ApiKey::ApiVersions,
        versions: 0..=4,
        needs: &[],
        answer: |b, call| answered(b, call, |_, _: ApiVersionsRequest, _| async move { versions::answer() }),
    },
    Api {
        key: ApiKey::CreateTopics,
        versions: 2..=7,
        needs: &[needs(Create, Topic), hides(DescribeConfigs, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: CreateTopicsRequest, c| async move { topics::create(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::DeleteTopics,
        versions: 1..=6,
        needs: &[needs(Delete, Topic), hides(Describe, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: DeleteTopicsRequest, c| async move { topics::delete(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::InitProducerId,
        versions: 0..=5,
        needs: &[needs(IdempotentWrite, Cluster), needs(Write, Transaction)],
        answer: |b, call| {
            answered(b, call, |b, r: InitProducerIdRequest, c| async move { producers::init(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::OffsetForLeaderEpoch,
        versions: 2..=4,
        needs: &[needs(Describe, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: OffsetForLeaderEpochRequest, c| async move { offsets::of_epochs(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::AddPartitionsToTxn,
        versions: 0..=5,
        needs: &[needs(Write, Transaction), needs(Write, Topic), needs(ClusterAction, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: AddPartitionsToTxnRequest, c| async move {
                transactions::apis::add_partitions(&b, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::AddOffsetsToTxn,
        versions: 0..=4,
        needs: &[needs(Write, Transaction), needs(Read, Group)],
        answer: |b, call| {
            answered(b, call, |b, r: AddOffsetsToTxnRequest, c| async move {
                transactions::apis::add_offsets(&b, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::EndTxn,
        versions: 0..=5,
        needs: &[needs(Write, Transaction)],
        answer: |b, call| {
            answered(b, call, |b, r: EndTxnRequest, c| async move { transactions::apis::end(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::TxnOffsetCommit,
        versions: 0..=5,
        needs: &[needs(Write, Transaction), needs(Read, Group), needs(Read, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: TxnOffsetCommitRequest, c| async move {
                groups::transactional_apis::commit(&b, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::WriteTxnMarkers,
        versions: 1..=1,
        needs: &[needs(Alter, Cluster), needs(ClusterAction, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: WriteTxnMarkersRequest, c| async move {
                transactions::admin_apis::write_markers(&b, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::DescribeConfigs,
        versions: 1..=4,
        needs: &[needs(DescribeConfigs, Topic), needs(DescribeConfigs, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeConfigsRequest, c| async move { configs::describe(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::CreatePartitions,
        versions: 0..=3,
        needs: &[needs(Alter, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: CreatePartitionsRequest, c| async move { topics::grow(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::DeleteGroups,
        versions: 0..=2,
        needs: &[needs(Delete, Group)],
        answer: |b, call| {
            answered(b, call, |b, r: DeleteGroupsRequest, c| async move {
                groups::groups_apis::delete(&b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::OffsetDelete,
        versions: 0..=0,
        needs: &[needs(Delete, Group), needs(Read, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: OffsetDeleteRequest, c| async move {
                groups::offsets_apis::delete(&b, &b.groups, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::IncrementalAlterConfigs,
        versions: 0..=1,
        needs: &[needs(AlterConfigs, Topic), needs(AlterConfigs, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: IncrementalAlterConfigsRequest, c| async move { configs::alter(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::SaslHandshake,
        versions: 0..=1,
        needs: &[],
        answer: |b, call| {
            answered(b, call, |_, r: SaslHandshakeRequest, c| async move { c.session.handshake(&r, c.version) })
        },
    },
    Api {
        key: ApiKey::SaslAuthenticate,
        versions: 0..=2,
        needs: &[],
        answer: |b, call| {
            answered(
                b,
                call,
                |_, r: SaslAuthenticateRequest, c| async move { c.session.authenticate(r, c.version).await },
            )
        },
    },
    Api {
        key: ApiKey::DescribeCluster,
        versions: 0..=2,
        needs: &[hides(Describe, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeClusterRequest, c| async move { cluster::describe(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::DescribeProducers,
        versions: 0..=0,
        needs: &[needs(Read, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeProducersRequest, c| async move { producers::describe(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::DescribeTransactions,
        versions: 0..=0,
        needs: &[needs(Describe, Transaction), hides(Describe, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeTransactionsRequest, c| async move {
                transactions::admin_apis::describe(&b, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::ListTransactions,
        versions: 0..=1,
        needs: &[hides(Describe, Transaction)],
        answer: |b, call| {
            answered(b, call, |b, r: ListTransactionsRequest, c| async move {
                transactions::admin_apis::list(&b, r, &c).await
            })
        },
    },
    Api {
        key: ApiKey::DeleteRecords,
        versions: 0..=2,
        needs: &[needs(Delete, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: DeleteRecordsRequest, c| async move { records::delete(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::AlterConfigs,
        versions: 0..=2,
        needs: &[needs(AlterConfigs, Topic), needs(AlterConfigs, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: AlterConfigsRequest, c| async move { configs::replace(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::DescribeLogDirs,
        versions: 1..=4,
        needs: &[needs(Describe, Cluster)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeLogDirsRequest, c| async move { records::describe(&b, r, &c).await })
        },
    },
    Api {
        key: ApiKey::DescribeTopicPartitions,
        versions: 0..=0,
        needs: &[needs(Describe, Topic)],
        answer: |b, call| {
            answered(b, call, |b, r: DescribeTopicPartitionsRequest, c| async move {
                topic_partitions::answer(&b, r, &c).await
            })
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
