//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::coordinator::{Coordinator, Request};
use super::request::{Claimed, Join, Joined, Millis, Protocol, Refused, Sync, Synced};
use crate::call::Caller;
use crate::names::text;
use crate::security::rights::{Operation, Resource};

/// From this version of JoinGroup on a member without an id gets one first.
const NEEDS_ID: i16 = 4;
/// From this version of JoinGroup on a protocol that was not chosen is absent rather than empty.
const ABSENT_PROTOCOL: i16 = 7;
/// From this version of JoinGroup on a leader can be told to assign nothing.
const MAY_SKIP: i16 = 9;
/// What a member may say of itself, in bytes: more could never be saved.
const LONGEST: usize = 1 << 20;
/// From this version of LeaveGroup on several members leave at once.
const MANY_LEAVE: i16 = 3;

/// JoinGroup.
pub(crate) async fn join(groups: &Coordinator, request: JoinGroupRequest, caller: &Caller) -> JoinGroupResponse {
    let member_id = request.member_id.to_string();
    let outcome = match check(groups, &request, caller) {
        Ok(()) => {
            let group = request.group_id.to_string();
            let join = Box::new(to_join(groups, request, caller));
            let answer = groups.ask(&group, |answer| Request::Join(join, answer)).await;
            answer.unwrap_or_else(|error| Err(Refused { error, member_id }))
        }
        Err(error) => Err(Refused { error, member_id }),
    };
    let mut response = match outcome {
        Ok(joined) => from_joined(joined),
        Err(Refused { error, member_id }) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_member_id(StrBytes::from_string(member_id)),
    };
    if caller.version < ABSENT_PROTOCOL {
        response.protocol_name.get_or_insert_default();
    }
    response
}

/// Refuses what does not even reach the group.
fn check(groups: &Coordinator, request: &JoinGroupRequest, caller: &Caller) -> Result<(), ResponseError> {
    caller.may(Operation::Read, Resource::Group(&request.group_id))?;
    if request.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let lengths = request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
    if lengths.sum::<usize>() > LONGEST {
        return Err(ResponseError::InvalidRequest);
    }
    let timeout = u64::try_from(request.session_timeout_ms).map(Duration::from_millis);
    match timeout.is_ok_and(|timeout| groups.settings().session_timeout.contains(&timeout)) {
        true => Ok(()),
        false => Err(ResponseError::InvalidSessionTimeout),
    }
}

fn to_join(groups: &Coordinator, request: JoinGroupRequest, caller: &Caller) -> Join {
    let millis = |timeout: i32| Millis::try_from(timeout).unwrap_or(0);
    let session_timeout = millis(request.session_timeout_ms);
    let instance_id = request.group_instance_id.as_ref().map(StrBytes::to_string);
    let named = |protocol: JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        // A copy: else it would keep the whole request.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    Join {
        member_id: request.member_id.to_string(),
        fresh_id: groups.fresh_id(instance_id.as_deref().unwrap_or(&caller.client)),
        instance_id,
        client_id: caller.client.to_string(),
        client_host: caller.host.to_string(),
        session_timeout,
        rebalance_timeout: if caller.version == 0 { session_timeout } else { millis(request.rebalance_timeout_ms) },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(named).collect(),
        needs_id: caller.version >= NEEDS_ID,
        may_skip: caller.version >= MAY_SKIP,
    }
}

fn from_joined(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance_id, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(id))
            .with_group_instance_id(instance_id.map(StrBytes::from_string))
            .with_metadata(metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(joined.protocol.map(StrBytes::from_string))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(StrBytes::from_string(joined.member_id))
        .with_members(members.collect())
}

/// SyncGroup.
pub(crate) async fn sync(groups: &Coordinator, request: SyncGroupRequest, caller: &Caller) -> SyncGroupResponse {
    if let Err(error) = caller.may(Operation::Read, Resource::Group(&request.group_id)) {
        return SyncGroupResponse::default().with_error_code(error.code());
    }
    let sync = Sync {
        who: claimed(&request.member_id, request.group_instance_id.as_ref(), request.generation_id),
        protocol_type: request.protocol_type.map(|text| text.to_string()),
        protocol: request.protocol_name.map(|text| text.to_string()),
        assignments: request.assignments.iter().map(copied).collect(),
    };
    let asked = groups.ask_named(&request.group_id, |answer| Request::Sync(sync, answer)).await;
    match asked.and_then(|answer| answer) {
        Ok(Synced { protocol_type, protocol, assignment }) => SyncGroupResponse::default()
            .with_protocol_type(protocol_type.map(StrBytes::from_string))
            .with_protocol_name(protocol.map(StrBytes::from_string))
            .with_assignment(assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

/// A member's part, without the request that it came in.
fn copied(of: &SyncGroupRequestAssignment) -> (String, Bytes) {
    (of.member_id.to_string(), Bytes::copy_from_slice(&of.assignment))
}

/// Heartbeat.
pub(crate) async fn heartbeat(groups: &Coordinator, request: HeartbeatRequest, caller: &Caller) -> HeartbeatResponse {
    if let Err(error) = caller.may(Operation::Read, Resource::Group(&request.group_id)) {
        return HeartbeatResponse::default().with_error_code(error.code());
    }
    let who = claimed(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let asked = groups.ask_named(&request.group_id, |answer| Request::Heartbeat(who, answer)).await;
    HeartbeatResponse::default().with_error_code(code(asked.and_then(|answer| answer)))
}

/// LeaveGroup.
pub(crate) async fn leave(groups: &Coordinator, request: LeaveGroupRequest, caller: &Caller) -> LeaveGroupResponse {
    if let Err(error) = caller.may(Operation::Read, Resource::Group(&request.group_id)) {
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    let who: Vec<Claimed> = match caller.version < MANY_LEAVE {
        true => vec![claimed(&request.member_id, None, -1)],
        false => request.members.iter().map(|of| claimed(&of.member_id, of.group_instance_id.as_ref(), -1)).collect(),
    };
    let told = who.clone();
    let answers = match groups.ask_named(&request.group_id, |answer| Request::Leave(who, answer)).await {
        Ok(answers) => answers,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    if caller.version < MANY_LEAVE {
        let first = answers.into_iter().next().unwrap_or(Ok(()));
        return LeaveGroupResponse::default().with_error_code(code(first));
    }
    let members = told.into_iter().zip(answers).map(|(who, answer)| {
        MemberResponse::default()
            .with_member_id(StrBytes::from_string(who.member_id))
            .with_group_instance_id(who.instance_id.as_deref().map(text))
            .with_error_code(code(answer))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

/// Who somebody says it is.
pub(super) fn claimed(member_id: &StrBytes, instance_id: Option<&StrBytes>, generation: i32) -> Claimed {
    Claimed { member_id: member_id.to_string(), instance_id: instance_id.map(StrBytes::to_string), generation }
}

/// The code on the wire.
pub(super) fn code(outcome: Result<(), ResponseError>) -> i16 {
    outcome.err().map_or(0, |error| error.code())
}
