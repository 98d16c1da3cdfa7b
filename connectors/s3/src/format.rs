//! How a record is written into an object.

use aqueduct_api::TopicPartition;
use aqueduct_api::line::Line;
use aqueduct_record::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one record becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The value and a newline; line breaks inside a value stay as they are. A record without a value is a dead letter.
    #[default]
    Lines,
    /// The value, which must be one JSON value, in one line: line breaks between its parts are left out, all else
    /// stays as it is. Anything else is a dead letter.
    JsonLines,
    /// One JSON object a line from which the record can be made again:
    /// `{"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v","headers":[["h","v"]]}`.
    /// The timestamp is in milliseconds since 1970. A key or value that is not UTF-8 is base64 under the name
    /// `key-base64` or `value-base64`, a header that is not is `["h",null,"base64"]`; null is null.
    Records,
    /// A row of a Parquet file: the value must be a JSON object whose fields are the columns. Anything else is a dead
    /// letter.
    Parquet,
    /// A record of an Avro container file, of the same values.
    Avro,
    /// A line of comma-separated values (RFC 4180), of the same values. A field that is an object or a list is its
    /// JSON text.
    Csv,
}

impl Format {
    /// Whether records become rows of a table, see [`crate::tabular`].
    pub(crate) fn has_columns(self) -> bool {
        matches!(self, Format::Parquet | Format::Avro | Format::Csv)
    }

    /// Appends the record to `out`, or leaves `out` as it is and says why the record can not be written.
    pub(crate) fn encode(
        self,
        partition: &TopicPartition,
        record: &Record<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self {
            Format::Lines => Line::Value.push(partition, record, out),
            Format::JsonLines => Line::Json.push(partition, record, out),
            Format::Records => Line::Record.push(partition, record, out),
            Format::Parquet | Format::Avro | Format::Csv => Err("its format has columns".to_owned()),
        }
    }
}
