//! What clients are told of the cluster: one node, that coordinates all groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{Broker, NODE};
use crate::call::Caller;

/// What may be done to the cluster, as the bits of Kafka's operations: whoever reaches it may do everything.
pub(crate) const CLUSTER_OPERATIONS: i32 = 0x1fa0;
/// What may be done to a topic, likewise.
pub(crate) const TOPIC_OPERATIONS: i32 = 0x0df8;
/// Which coordinators there are: of groups and of transactions.
const GROUPS: i8 = 0;
const TRANSACTIONS: i8 = 1;
/// Endpoints of brokers, not of controllers.
const BROKERS: i8 = 1;

/// FindCoordinator: it is this node.
pub(crate) fn coordinator(
    broker: &Broker,
    request: FindCoordinatorRequest,
    caller: &Caller,
) -> FindCoordinatorResponse {
    let is_known = matches!(request.key_type, GROUPS | TRANSACTIONS);
    let (error, why) = match is_known {
        true => (0, None),
        false => (ResponseError::InvalidRequest.code(), Some(StrBytes::from_static_str("unknown kind of coordinator"))),
    };
    let (node, host, port) = match is_known {
        true => (NODE, broker.host(), broker.port()),
        false => (-1, StrBytes::default(), -1),
    };
    if caller.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(why.filter(|_| caller.version >= 1))
            .with_node_id(BrokerId(node))
            .with_host(host)
            .with_port(port);
    }
    let found = |key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(node))
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(error)
            .with_error_message(why.clone())
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.into_iter().map(found).collect())
}

/// DescribeCluster.
pub(crate) async fn describe(broker: &Broker, request: DescribeClusterRequest) -> DescribeClusterResponse {
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
        true => described.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
        false => described,
    }
}
