//! Which topics the members of a group read, from what they say of themselves.

use std::collections::BTreeSet;

use super::group::{Group, State};

/// The topics that members read; `None` where that can not be told, so that any topic may be read.
pub(super) fn topics(group: &Group) -> Option<BTreeSet<String>> {
    let mut topics = BTreeSet::new();
    if group.state() == State::Empty {
        return Some(topics);
    }
    if group.protocol_type() != Some("consumer") {
        return None;
    }
    for member in group.members() {
        // Whoever is about to join says the same under each protocol.
        let metadata = member.protocols.iter().find(|known| group.protocol().is_none_or(|named| named == known.name));
        topics.extend(parse(&metadata?.metadata)?);
    }
    Some(topics)
}

/// The topics of a `ConsumerProtocolSubscription`, which begins with them in every version.
fn parse(bytes: &[u8]) -> Option<Vec<String>> {
    let (_, rest) = bytes.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (topic, behind) = behind.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
        topics.push(std::str::from_utf8(topic).ok()?.to_owned());
        rest = behind;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_lies_are_not_believed() {
        let told = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(parse(told), Some(vec!["a".to_owned(), "bc".to_owned()]));
        for lie in [&b"\0\x01\x7f\xff\xff\xff"[..], b"", b"\0\0\0\0\0\x01\xff\xff", b"\0\0\0\0\0\x01\0\x05a"] {
            assert_eq!(parse(lie), None, "{lie:?}");
        }
    }
}
