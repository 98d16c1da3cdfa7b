//! What a record becomes in a file. The object store sink writes the same three formats, byte for byte.

use std::io::{self, Write as _};

use aqueduct_api::TopicPartition;
use aqueduct_record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
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
        match self {
            FileFormat::Lines => {
                out.extend_from_slice(record.value.ok_or("the record has no value, which format lines needs")?);
                out.push(b'\n');
                Ok(())
            }
            FileFormat::JsonLines => {
                push_json(record.value.ok_or("the record has no value, which format json-lines needs")?, out)
            }
            FileFormat::Records => {
                let before = out.len();
                push_record(of, record, out).map_err(|cause| {
                    out.truncate(before);
                    cause.to_string()
                })
            }
        }
    }
}

fn push_json(value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let told = |cause: &dyn std::fmt::Display| format!("the value is not JSON, which format json-lines needs: {cause}");
    let text = std::str::from_utf8(value).map_err(|cause| told(&cause))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|cause| told(&cause))?;
    // Inside a JSON string a line break is always escaped, so each one found here only separates.
    for part in value.split(|byte| *byte == b'\n') {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
    Ok(())
}

fn push_record(of: &TopicPartition, record: &Record<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(b"{\"topic\":");
    push_string(&of.topic, out)?;
    let (partition, Record { offset, timestamp, .. }) = (of.partition, record);
    write!(out, ",\"partition\":{partition},\"offset\":{offset},\"timestamp\":{timestamp}")?;
    push_bytes("key", record.key, out)?;
    push_bytes("value", record.value, out)?;
    out.extend_from_slice(b",\"headers\":[");
    for (index, (name, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        push_string(name, out)?;
        match value.map(|value| std::str::from_utf8(value).map_err(|_| value)) {
            None => out.extend_from_slice(b",null"),
            Some(Ok(text)) => {
                out.push(b',');
                push_string(text, out)?;
            }
            Some(Err(bytes)) => write!(out, ",null,\"{}\"", STANDARD.encode(bytes))?,
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}\n");
    Ok(())
}

fn push_bytes(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) -> io::Result<()> {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => write!(out, ",\"{name}\":null"),
        Some(Ok(text)) => {
            write!(out, ",\"{name}\":")?;
            push_string(text, out)
        }
        Some(Err(bytes)) => write!(out, ",\"{name}-base64\":\"{}\"", STANDARD.encode(bytes)),
    }
}

fn push_string(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    fn encoded(format: FileFormat, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<String, String> {
        let mut builder = BatchBuilder::new();
        builder.push(1234, key, value, &[("h", Some(b"v")), ("n", None), ("b", Some(b"\xfe"))]);
        let batch = builder.finish().at(7, 0);
        let records = batch.records().unwrap();
        let mut out = b"before|".to_vec();
        let done = format.encode(&TopicPartition::new("t", 3), &records.iter().next().unwrap().unwrap(), &mut out);
        let out = String::from_utf8(out).unwrap();
        let out = out.strip_prefix("before|").unwrap();
        assert!(done.is_ok() || out.is_empty(), "a rejected record leaves nothing behind");
        done.map(|()| out.to_owned())
    }

    #[test]
    fn records_become_lines_as_the_manual_says() {
        let line = |format, value: Option<&'static str>| encoded(format, None, value.map(str::as_bytes));
        assert_eq!(line(FileFormat::Lines, Some("one\ntwo")).unwrap(), "one\ntwo\n");
        assert!(line(FileFormat::Lines, None).unwrap_err().contains("no value"));
        assert_eq!(line(FileFormat::JsonLines, Some("{\n \"a\": 1.00\n}")).unwrap(), "{ \"a\": 1.00}\n");
        for wrong in ["", "{", "1\n2", "\"a\nb\""] {
            assert!(line(FileFormat::JsonLines, Some(wrong)).unwrap_err().contains("not JSON"), "{wrong}");
        }
        assert!(line(FileFormat::JsonLines, None).unwrap_err().contains("no value"));
        let expected = "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":1234,\"key\":\"k\\n\",\
             \"value-base64\":\"/wA=\",\"headers\":[[\"h\",\"v\"],[\"n\",null],[\"b\",null,\"/g==\"]]}\n";
        assert_eq!(encoded(FileFormat::Records, Some(b"k\n"), Some(b"\xff\x00")).unwrap(), expected);
        assert!(encoded(FileFormat::Records, None, None).unwrap().contains("\"key\":null,\"value\":null"));
    }
}
