//! ApiVersions: what is answered, in which versions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::apis::{APIS, Api};
use crate::broker::Broker;
use crate::call::Caller;
use crate::transactions::OWN_EPOCHS;

/// The feature whose version says how clients end transactions (KIP-890).
const TRANSACTIONS: &str = "transaction.version";

/// ApiVersions.
pub(crate) async fn answer(_: &Broker, _: ApiVersionsRequest, _: &Caller) -> ApiVersionsResponse {
    told()
}

/// The table of APIs, for clients.
fn told() -> ApiVersionsResponse {
    let row = |api: &Api| {
        // Old versions of librdkafka compress nothing unless they are told of version 0 (KAFKA-18659), which they do not use.
        let first = if api.key == ApiKey::Produce { 0 } else { *api.versions.start() };
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(first).with_max_version(*api.versions.end())
    };
    // Clients before 3.9 do not understand a feature whose first version is 0 (KAFKA-17011).
    let (name, version) = (StrBytes::from_static_str(TRANSACTIONS), OWN_EPOCHS);
    let supported =
        SupportedFeatureKey::default().with_name(name.clone()).with_min_version(1).with_max_version(version);
    let finalized = FinalizedFeatureKey::default().with_name(name);
    ApiVersionsResponse::default()
        .with_api_keys(APIS.iter().map(row).collect())
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![finalized.with_min_version_level(version).with_max_version_level(version)])
}

/// For a client that asked in a version which is not known here (KIP-511).
pub(crate) fn refused() -> ApiVersionsResponse {
    told().with_error_code(ResponseError::UnsupportedVersion.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_compatibility_says_what_clients_are_told() {
        let page = include_str!("../../../docs/kafka-compatibility.md");
        let answered = page.split("## Absent").next().unwrap();
        let rows = answered.lines().filter(|line| line.starts_with("| ")).skip(1);
        let mut told: Vec<String> = rows.map(|row| row.split(" | ").take(3).collect::<Vec<_>>().join(" ")).collect();
        let row = |api: &ApiVersion| {
            let versions = match (api.min_version, api.max_version) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}–{last}"),
            };
            format!("| {:?} {} {versions}", ApiKey::try_from(api.api_key).unwrap(), api.api_key)
        };
        let mut expected: Vec<String> = super::told().api_keys.iter().map(row).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
    }

    /// The newest API of Kafka 4.3.
    const NEWEST: i16 = 92;

    #[test]
    fn the_page_on_compatibility_names_every_api_that_kafka_has_and_that_is_absent() {
        let page = include_str!("../../../docs/kafka-compatibility.md");
        let absent = page.split("## Absent").nth(1).unwrap().split("\n## ").next().unwrap();
        let mut keys: Vec<i16> = super::told().api_keys.iter().map(|api| api.api_key).collect();
        for row in absent.lines().filter(|line| line.starts_with("| ")).skip(1) {
            let cells: Vec<_> = row.split(" | ").collect();
            let before = keys.len();
            for range in cells[1].split(", ") {
                let (first, last) = range.split_once('–').unwrap_or((range, range));
                keys.extend(first.parse::<i16>().unwrap()..=last.parse().unwrap());
            }
            assert_eq!(cells[0].split(", ").count(), keys.len() - before, "{row}");
        }
        keys.sort_unstable();
        assert_eq!(keys, (0..=NEWEST).collect::<Vec<_>>());
    }
}
