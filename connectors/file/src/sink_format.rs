//! What a record becomes in a file. The object store sink writes the same three formats, byte for byte.

use std::io::{self, Write as _};

use aqueduct_api::TopicPartition;
use aqueduct_api::line::Line;
use aqueduct_record::Record;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one record becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
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
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileCompression {
    /// Not at all.
    #[default]
    None,
    /// As gzip members, one after the other.
    Gzip,
    /// As Zstandard frames, one after the other.
    Zstd,
}

impl FileCompression {
    /// How the names of such files end.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            FileCompression::None => "",
            FileCompression::Gzip => ".gz",
            FileCompression::Zstd => ".zst",
        }
    }

    /// The bytes as a member or frame of its own.
    pub(crate) fn compress(self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            FileCompression::None => Ok(bytes),
            FileCompression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            FileCompression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
                encoder.include_checksum(true)?;
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
        }
    }
}

impl FileFormat {
    /// Appends the record to `out`, or leaves `out` as it is and says why the record can not be written.
    pub(crate) fn encode(self, of: &TopicPartition, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let line = match self {
            FileFormat::Lines => Line::Value,
            FileFormat::JsonLines => Line::Json,
            FileFormat::Records => Line::Record,
        };
        line.push(of, record, out)
    }
}
