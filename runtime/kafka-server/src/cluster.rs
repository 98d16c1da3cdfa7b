//! What clients are told of the cluster: one node, that coordinates all groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{Broker, NODE};
use crate::call::{Caller, Wrong};
use crate::security::rights::{Operation, Resource};

/// Which coordinators there are: of groups and of transactions.
const GROUPS: i8 = 0;
const TRANSACTIONS: i8 = 1;
/// Endpoints of brokers, not of controllers.
const BROKERS: i8 = 1;

/// FindCoordinator: it is this node.
pub(crate) async fn coordinator(
    broker: &Broker,
    request: FindCoordinatorRequest,
    caller: &Caller,
) -> FindCoordinatorResponse {
    let place_of = |key: &str| match request.key_type {
        GROUPS => caller.may(Operation::Describe, Resource::Group(key)).map_err(Wrong::from),
        TRANSACTIONS => caller.may(Operation::Describe, Resource::Transaction(key)).map_err(Wrong::from),
        _ => Err(Wrong::new(ResponseError::InvalidRequest, "unknown kind of coordinator")),
    };
    let place = |found: &Result<(), Wrong>| match found {
        Ok(()) => (BrokerId(NODE), broker.host(), broker.port()),
        Err(_) => (BrokerId(-1), StrBytes::default(), -1),
    };
    if caller.version < 4 {
        let found = place_of(&request.key);
        let (node, host, port) = place(&found);
        let wrong = found.err();
        return FindCoordinatorResponse::default()
            .with_error_code(wrong.as_ref().map_or(0, Wrong::code))
            .with_error_message(wrong.and_then(|wrong| wrong.message()).filter(|_| caller.version >= 1))
            .with_node_id(node)
            .with_host(host)
            .with_port(port);
    }
    let told = request.coordinator_keys.iter().map(|key| {
        let found = place_of(key);
        let (node, host, port) = place(&found);
        let wrong = found.err();
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(node)
            .with_host(host)
            .with_port(port)
            .with_error_code(wrong.as_ref().map_or(0, Wrong::code))
            .with_error_message(wrong.and_then(|wrong| wrong.message()))
    });
    FindCoordinatorResponse::default().with_coordinators(told.collect())
}

/// What a caller may do to the cluster; nothing where it may not even know.
pub(crate) fn operations(caller: &Caller) -> i32 {
    match caller.allows(Operation::Describe, Resource::Cluster) {
        true => caller.principal.rights().operations(Resource::Cluster),
        false => 0,
    }
}

/// DescribeCluster.
pub(crate) async fn describe(
    broker: &Broker,
    request: DescribeClusterRequest,
    caller: &Caller,
) -> DescribeClusterResponse {
    let described = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
    if request.endpoint_type != BROKERS {
        let why = StrBytes::from_static_str("there are endpoints of brokers only");
        let error = ResponseError::UnsupportedEndpointType.code();
        return described.with_error_code(error).with_error_message(Some(why));
    }
    let node = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE))
        .with_host(broker.host())
        .with_port(broker.port());
    let described = described
        .with_cluster_id(broker.cluster_id().await.unwrap_or_default())
        .with_controller_id(BrokerId(NODE))
        .with_brokers(vec![node]);
    match request.include_cluster_authorized_operations {
        true => described.with_cluster_authorized_operations(operations(caller)),
        false => described,
    }
}
