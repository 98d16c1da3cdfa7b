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
