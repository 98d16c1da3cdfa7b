//! ApiVersions: what is answered, in which versions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use crate::apis::{APIS, Api};

/// The table of APIs, for clients.
pub(crate) fn answer() -> ApiVersionsResponse {
    let row = |api: &Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(*api.versions.start())
            .with_max_version(*api.versions.end())
    };
    ApiVersionsResponse::default().with_api_keys(APIS.iter().map(row).collect())
}

/// For a client that asked in a version which is not known here (KIP-511).
pub(crate) fn refused() -> ApiVersionsResponse {
    answer().with_error_code(ResponseError::UnsupportedVersion.code())
}
