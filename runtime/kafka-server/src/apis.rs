//! The table of what is answered: each API with its versions and who answers it.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::BoxFuture;
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::Encodable;

use crate::broker::Broker;
use crate::call::{Broken, Call, Caller, Reply};
use crate::security::rights::Of::{Cluster, Group, Topic, Transaction};
use crate::security::rights::Operation::{
    Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read, Write,
};
use crate::security::rights::{Need, hides, needs};
use crate::{
    cluster, configs, fetch, groups, metadata, newer, offsets, produce, producers, records, topic_partitions, topics,
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

/// The table's rows: an API's key and versions, what its clients need, what of the broker is given to whom for an answer, and who
/// reads the request if not the crate of messages. `call` says that who answers reads and writes the frames too.
macro_rules! apis {
    ($($key:ident $versions:expr, [$($need:expr),*], $($given:ident).+ => $answer:path $(, $read:path)?;)*) => {
        &[$(Api {
            key: ApiKey::$key,
            versions: $versions,
            needs: &[$($need),*],
            answer: apis!(@ $($given).+ => $answer $(, $read)?),
        }),*]
    };
    (@ call => $answer:path) => { |broker, call| Box::pin($answer(broker, call)) };
    (@ $broker:ident $(.$part:ident)? => $answer:path) => {
        apis!(@ $broker $(.$part)? => $answer; Call::decode)
    };
    (@ $broker:ident $(.$part:ident)? => $answer:path, $read:path) => {
        apis!(@ $broker $(.$part)? => $answer; |call| $read(call.caller.version, &call.body))
    };
    (@ $broker:ident $(.$part:ident)? => $answer:path; $read:expr) => {
        |broker, call| {
            let answer = |$broker: Arc<Broker>, request, caller: Caller| async move {
                $answer(&$broker $(.$part)?, request, &caller).await
            };
            answered(broker, call, $read, answer)
        }
    };
}

/// All APIs.
pub(crate) const APIS: &[Api] = apis! {
    Produce 3..=13, [needs(Write, Topic), needs(Write, Transaction)], call => produce::answer;
    Fetch 4..=18, [needs(Read, Topic)], call => fetch::answer;
    ListOffsets 1..=11, [needs(Describe, Topic)], broker => offsets::list;
    Metadata 0..=13, [needs(Describe, Topic), needs(Create, Topic), hides(Describe, Cluster)],
        broker => metadata::answer;
    OffsetCommit 2..=10, [needs(Read, Group), needs(Read, Topic)],
        broker => groups::offsets_apis::commit, newer::offset_commit;
    OffsetFetch 1..=10, [needs(Describe, Group), needs(Describe, Topic)],
        broker => groups::offsets_apis::fetch, newer::offset_fetch;
    FindCoordinator 0..=6, [needs(Describe, Group), needs(Describe, Transaction)], broker => cluster::coordinator;
    JoinGroup 0..=9, [needs(Read, Group)], broker.groups => groups::members_apis::join;
    Heartbeat 0..=4, [needs(Read, Group)], broker.groups => groups::members_apis::heartbeat;
    LeaveGroup 0..=5, [needs(Read, Group)], broker.groups => groups::members_apis::leave;
    SyncGroup 0..=5, [needs(Read, Group)], broker.groups => groups::members_apis::sync;
    DescribeGroups 0..=6, [needs(Describe, Group)], broker.groups => groups::groups_apis::describe;
    ListGroups 0..=5, [hides(Describe, Cluster), hides(Describe, Group)], broker.groups => groups::groups_apis::list;
    ApiVersions 0..=4, [], broker => versions::answer;
    CreateTopics 2..=7, [needs(Create, Topic), hides(DescribeConfigs, Topic)], broker => topics::create;
    DeleteTopics 1..=6, [needs(Delete, Topic), hides(Describe, Topic)], broker => topics::delete;
    InitProducerId 0..=5, [needs(IdempotentWrite, Cluster), needs(Write, Transaction)], broker => producers::init;
    OffsetForLeaderEpoch 2..=4, [needs(Describe, Topic)], broker => offsets::of_epochs;
    AddPartitionsToTxn 0..=5, [needs(Write, Transaction), needs(Write, Topic), needs(ClusterAction, Cluster)],
        broker => transactions::apis::add_partitions;
    AddOffsetsToTxn 0..=4, [needs(Write, Transaction), needs(Read, Group)], broker => transactions::apis::add_offsets;
    EndTxn 0..=5, [needs(Write, Transaction)], broker => transactions::apis::end;
    TxnOffsetCommit 0..=5, [needs(Write, Transaction), needs(Read, Group), needs(Read, Topic)],
        broker => groups::transactional_apis::commit;
    WriteTxnMarkers 1..=2, [needs(Alter, Cluster), needs(ClusterAction, Cluster)],
        broker => transactions::admin_apis::write_markers, newer::markers;
    DescribeConfigs 1..=4, [needs(DescribeConfigs, Topic), needs(DescribeConfigs, Cluster)],
        broker => configs::describe;
    CreatePartitions 0..=3, [needs(Alter, Topic)], broker => topics::grow;
    DeleteGroups 0..=2, [needs(Delete, Group)], broker.groups => groups::groups_apis::delete;
    OffsetDelete 0..=0, [needs(Delete, Group), needs(Read, Topic)], broker => groups::offsets_apis::delete;
    IncrementalAlterConfigs 0..=1, [needs(AlterConfigs, Topic), needs(AlterConfigs, Cluster)], broker => configs::alter;
    SaslHandshake 0..=1, [], broker => handshake;
    SaslAuthenticate 0..=2, [], broker => authenticate;
    DescribeCluster 0..=2, [hides(Describe, Cluster)], broker => cluster::describe;
    DescribeProducers 0..=0, [needs(Read, Topic)], broker => producers::describe;
    DescribeTransactions 0..=0, [needs(Describe, Transaction), hides(Describe, Topic)],
        broker => transactions::admin_apis::describe;
    ListTransactions 0..=2, [hides(Describe, Transaction)], broker => transactions::admin_apis::list;
    DeleteRecords 0..=2, [needs(Delete, Topic)], broker => records::delete;
    AlterConfigs 0..=2, [needs(AlterConfigs, Topic), needs(AlterConfigs, Cluster)], broker => configs::replace;
    DescribeLogDirs 1..=5, [needs(Describe, Cluster)], call => records::describe;
    DescribeTopicPartitions 0..=0, [needs(Describe, Topic)], broker => topic_partitions::answer;
};

/// The row of an API.
pub(crate) fn api(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// Reads a request, has it answered, and encodes the answer.
fn answered<R, E, F, W>(broker: Arc<Broker>, call: Call, read: fn(&Call) -> Result<R, Broken>, answer: F) -> Answering
where
    R: Send + 'static,
    E: Encodable + Send,
    F: FnOnce(Arc<Broker>, R, Caller) -> W + Send + 'static,
    W: Future<Output = E> + Send,
{
    Box::pin(async move {
        let request = read(&call)?;
        let response = answer(broker, request, call.caller.clone()).await;
        call.reply(&response)
    })
}

async fn handshake(_: &Broker, request: SaslHandshakeRequest, caller: &Caller) -> SaslHandshakeResponse {
    caller.session.handshake(&request, caller.version)
}

async fn authenticate(_: &Broker, request: SaslAuthenticateRequest, caller: &Caller) -> SaslAuthenticateResponse {
    caller.session.authenticate(request, caller.version).await
}
