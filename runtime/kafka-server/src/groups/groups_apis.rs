//! ListGroups, DescribeGroups and DeleteGroups.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::coordinator::{Coordinator, DescribedMember, Description, Request};
use super::group::State;
use super::members_apis::code;
use crate::call::Caller;
use crate::names::text;
use crate::security::rights::{Operation, Resource};

/// From this version of DescribeGroups on a group that is not there is told as such.
const KNOWS_MISSING_GROUPS: i16 = 6;
/// All groups here are of this type.
const TYPE: &str = "classic";

/// ListGroups.
pub(crate) async fn list(groups: &Coordinator, request: ListGroupsRequest, caller: &Caller) -> ListGroupsResponse {
    let sees_all = caller.allows(Operation::Describe, Resource::Cluster);
    let is_seen = |name: &String| sees_all || caller.allows(Operation::Describe, Resource::Group(name));
    let named = |filter: &[StrBytes], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let names = match groups.names().await {
        Ok(names) if named(&request.types_filter, TYPE) => names,
        Ok(_) => Vec::new(),
        Err(error) => return ListGroupsResponse::default().with_error_code(error.code()),
    };
    let mut listed = Vec::new();
    for name in names.into_iter().filter(is_seen) {
        // A group that is not there any more is none.
        let Ok(found) = groups.ask(&name, Request::Describe).await else { continue };
        if named(&request.states_filter, found.state.name()) {
            let group = ListedGroup::default()
                .with_group_id(GroupId(text(&name)))
                .with_protocol_type(StrBytes::from_string(found.protocol_type))
                .with_group_state(text(found.state.name()))
                .with_group_type(text(TYPE));
            listed.push(group);
        }
    }
    ListGroupsResponse::default().with_groups(listed)
}

/// DescribeGroups.
pub(crate) async fn describe(
    groups: &Coordinator,
    request: DescribeGroupsRequest,
    caller: &Caller,
) -> DescribeGroupsResponse {
    let mut described = Vec::new();
    for name in request.groups {
        let mut group = match look(groups, &name, caller).await {
            Ok(Some(found)) => from_description(found),
            Ok(None) => missing(&name, caller),
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        if request.include_authorized_operations {
            group.authorized_operations = caller.principal.rights().operations(Resource::Group(&name));
        }
        described.push(group.with_group_id(name));
    }
    DescribeGroupsResponse::default().with_groups(described)
}

async fn look(groups: &Coordinator, name: &GroupId, caller: &Caller) -> Result<Option<Description>, ResponseError> {
    caller.may(Operation::Describe, Resource::Group(name))?;
    if name.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    match groups.exists(name).await? {
        true => groups.ask(name, Request::Describe).await.map(Some),
        false => Ok(None),
    }
}

fn missing(name: &GroupId, caller: &Caller) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(text(State::Dead.name()));
    match caller.version < KNOWS_MISSING_GROUPS {
        true => dead,
        false => dead
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(StrBytes::from_string(format!("Group {} not found.", name.0)))),
    }
}

fn from_description(found: Description) -> DescribedGroup {
    let member = |of: DescribedMember| {
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(of.id))
            .with_group_instance_id(of.instance_id.map(StrBytes::from_string))
            .with_client_id(StrBytes::from_string(of.client_id))
            .with_client_host(StrBytes::from_string(of.client_host))
            .with_member_metadata(of.metadata)
            .with_member_assignment(of.assignment)
    };
    DescribedGroup::default()
        .with_group_state(text(found.state.name()))
        .with_protocol_type(StrBytes::from_string(found.protocol_type))
        .with_protocol_data(StrBytes::from_string(found.protocol))
        .with_members(found.members.into_iter().map(member).collect())
}

/// DeleteGroups.
pub(crate) async fn delete(
    groups: &Coordinator,
    request: DeleteGroupsRequest,
    caller: &Caller,
) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    for name in request.groups_names {
        let outcome = delete_one(groups, &name, caller).await;
        results.push(DeletableGroupResult::default().with_group_id(name).with_error_code(code(outcome)));
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete_one(groups: &Coordinator, name: &GroupId, caller: &Caller) -> Result<(), ResponseError> {
    caller.may(Operation::Delete, Resource::Group(name))?;
    if !name.is_empty() && !groups.exists(name).await? {
        return Err(ResponseError::GroupIdNotFound);
    }
    groups.ask_named(name, Request::Delete).await?
}
