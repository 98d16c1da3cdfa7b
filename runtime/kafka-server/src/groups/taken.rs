//! Answers for a group that somebody else has: a sink of the engine, which no client may disturb.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use tokio::sync::mpsc;

use super::acting::reply;
use super::coordinator::{DescribedMember, Description, Inner, Request};
use super::group::State;
use super::request::Refused;

/// How the engine is called where clients have names.
const ENGINE: &str = "aqueduct";

/// Answers what waits.
pub(super) async fn refuse(inner: &Arc<Inner>, name: &str, mailbox: &mut mpsc::UnboundedReceiver<Request>) {
    while let Ok(request) = mailbox.try_recv() {
        match request {
            Request::Join(join, answer) => {
                // As where members that share work in another way are there already.
                let error = ResponseError::InconsistentGroupProtocol;
                reply(answer, Err(Refused { error, member_id: join.member_id }));
            }
            Request::Sync(_, answer) => reply(answer, Err(ResponseError::UnknownMemberId)),
            Request::Heartbeat(_, answer) => reply(answer, Err(ResponseError::UnknownMemberId)),
            Request::Leave(who, answer) => reply(answer, vec![Err(ResponseError::UnknownMemberId); who.len()]),
            // What Kafka answers who is no member where there are members.
            Request::Commit(_, _, answer) => reply(answer, Err(ResponseError::UnknownMemberId)),
            Request::CommitInTransaction(_, _, _, answer) => reply(answer, Err(ResponseError::UnknownMemberId)),
            Request::Committed(answer) => reply(answer, ()),
            Request::Forget(_, answer) => reply(answer, Err(ResponseError::NonEmptyGroup)),
            Request::Delete(answer) => reply(answer, Err(ResponseError::NonEmptyGroup)),
            Request::Describe(answer) => reply(answer, describe(inner, name).await),
            Request::Sweep => {}
        }
    }
}

/// One member that has all partitions with offsets.
async fn describe(inner: &Arc<Inner>, name: &str) -> Description {
    let mut topics = BTreeMap::<Arc<str>, Vec<i32>>::new();
    // Without them it has no partitions to show.
    for of in inner.store.committed(name).await.unwrap_or_default().into_keys() {
        topics.entry(of.topic).or_default().push(of.partition);
    }
    let member = DescribedMember {
        id: format!("{ENGINE}-{name}"),
        instance_id: None,
        client_id: ENGINE.to_owned(),
        client_host: "/".to_owned(),
        metadata: Bytes::new(),
        assignment: assignment(&topics),
    };
    Description {
        state: State::Stable,
        protocol_type: "consumer".to_owned(),
        protocol: ENGINE.to_owned(),
        members: vec![member],
    }
}

/// Kafka's `ConsumerProtocolAssignment`, version 0.
fn assignment(topics: &BTreeMap<Arc<str>, Vec<i32>>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}
