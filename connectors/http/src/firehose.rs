//! The protocol in which Amazon Data Firehose delivers to HTTP endpoints: both sides use its words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the protocol: `1.0`.
pub(crate) const PROTOCOL_VERSION: &str = "x-amz-firehose-protocol-version";
/// Stays the same when a request is sent again.
pub(crate) const REQUEST_ID: &str = "x-amz-firehose-request-id";
/// Proves who sends.
pub(crate) const ACCESS_KEY: &str = "x-amz-firehose-access-key";
/// What holds for all records, as JSON: [`CommonAttributes`].
pub(crate) const COMMON_ATTRIBUTES: &str = "x-amz-firehose-common-attributes";
/// Who sends.
pub(crate) const SOURCE_ARN: &str = "x-amz-firehose-source-arn";

/// A request's body, its records' bytes as base64.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    pub(crate) request_id: String,
    pub(crate) timestamp: i64,
    pub(crate) records: Vec<Record>,
}

/// A record of a request.
#[derive(Deserialize)]
pub(crate) struct Record {
    pub(crate) data: String,
}

/// The answer to a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub(crate) request_id: String,
    pub(crate) timestamp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error_message: Option<String>,
}

/// What holds for all records of a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommonAttributes {
    pub(crate) common_attributes: BTreeMap<String, String>,
}
