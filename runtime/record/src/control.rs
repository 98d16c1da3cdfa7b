//! The log's own marks between the data: what a control record says.

use crate::Record;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A transaction's records are to be ignored.
    Abort,
    /// A transaction's records count.
    Commit,
    /// Something else, by its type: 2 leader change, 3 and 4 snapshot header and footer, 5 and 6 KRaft's version and
    /// voters.
    Other(i16),
}

impl Control {
    /// The key of a control record that says this: version 0 and the type.
    pub fn key(self) -> [u8; 4] {
        let [high, low] = match self {
            Control::Abort => 0i16,
            Control::Commit => 1,
            Control::Other(kind) => kind,
        }
        .to_be_bytes();
        [0, 0, high, low]
    }
}

/// What a record of a control batch says; `None` where its key is not one of a control record.
///
/// Later versions of the key may append to it, so only the first four bytes count (as in Kafka's
/// `ControlRecordType.parse`). Meaningful only where [`crate::Attributes::is_control`] is true.
pub fn control_kind(record: &Record<'_>) -> Option<Control> {
    match *record.key?.first_chunk::<4>()? {
        [version, ..] if version >= 0x80 => None,
        [_, _, high, low] => Some(match i16::from_be_bytes([high, low]) {
            0 => Control::Abort,
            1 => Control::Commit,
            other => Control::Other(other),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Headers;

    fn check(key: Option<&[u8]>, expected: Option<Control>) {
        let record = Record { offset: 0, timestamp: 0, key, value: None, headers: Headers::default() };
        assert_eq!(control_kind(&record), expected, "{key:?}");
    }

    #[test]
    fn keys_say_their_kind_in_later_versions_too() {
        for kind in [Control::Abort, Control::Commit, Control::Other(2), Control::Other(-1)] {
            check(Some(&kind.key()), Some(kind));
        }
        check(Some(&[0, 9, 0, 1, 7, 7]), Some(Control::Commit));
    }

    #[test]
    fn other_keys_say_nothing() {
        for key in [None, Some(&b""[..]), Some(&[0, 0, 0]), Some(&[0xff, 0xff, 0, 1])] {
            check(key, None);
        }
    }
}
