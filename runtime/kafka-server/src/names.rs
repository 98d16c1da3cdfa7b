//! Names and ids of topics, between the log and the protocol.

use aqueduct_api::TopicId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::call::Wrong;

const LONGEST: usize = 249;

/// A text of ours, for the protocol.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's id, for the protocol.
pub(crate) fn uuid(id: TopicId) -> Uuid {
    Uuid::from_u128(id.0)
}

/// Whether Kafka, too, calls it internal.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// Whether the runtime keeps its own state in it: clients read it, and change nothing in it.
pub(crate) fn is_ours(name: &str) -> bool {
    is_internal(name) || name.starts_with("__aqueduct_")
}

/// Refuses names that Kafka refuses.
pub(crate) fn check(name: &str) -> Result<(), Wrong> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_legal) && name != "." && name != "..";
    match fits {
        true => Ok(()),
        false => Err(Wrong::new(
            ResponseError::InvalidTopicException,
            format!("a topic's name has 1 to {LONGEST} of a-z, A-Z, 0-9, `.`, `_` and `-`, and is not `.` or `..`"),
        )),
    }
}
