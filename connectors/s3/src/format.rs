//! How a record is written into an object.

use std::io::Write as _;

use aqueduct_api::TopicPartition;
use aqueduct_record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
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
            Format::Lines => {
                let value = record.value.ok_or("the record has no value, which format lines needs")?;
                out.reserve(value.len() + 1);
                out.extend_from_slice(value);
                out.push(b'\n');
            }
            Format::JsonLines => {
                let value = record.value.ok_or("the record has no value, which format json-lines needs")?;
                push_json(value, out)?;
            }
            Format::Records => push_record(partition, record, out),
            Format::Parquet | Format::Avro | Format::Csv => return Err("its format has columns".to_owned()),
        }
        Ok(())
    }
}

fn push_json(value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let told = |cause: &dyn std::fmt::Display| format!("the value is not JSON, which format json-lines needs: {cause}");
    let text = std::str::from_utf8(value).map_err(|cause| told(&cause))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|cause| told(&cause))?;
    out.reserve(value.len() + 1);
    // Inside a JSON string a line break is always escaped, so each one found here only separates.
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\n');
    Ok(())
}

fn push_record(partition: &TopicPartition, record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    push_string(&partition.topic, out);
    let TopicPartition { partition, .. } = partition;
    let Record { offset, timestamp, .. } = record;
    write!(out, ",\"partition\":{partition},\"offset\":{offset},\"timestamp\":{timestamp}").expect(MEMORY);
    push_bytes("key", record.key, out);
    push_bytes("value", record.value, out);
    out.extend_from_slice(b",\"headers\":[");
    for (index, (name, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        push_string(name, out);
        out.push(b',');
        match value.map(|value| std::str::from_utf8(value).map_err(|_| value)) {
            None => out.extend_from_slice(b"null"),
            Some(Ok(text)) => push_string(text, out),
            Some(Err(bytes)) => {
                out.extend_from_slice(b"null,");
                push_base64(bytes, out);
            }
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}\n");
}

fn push_bytes(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => out.extend_from_slice(b"\":null"),
        Some(Ok(text)) => {
            out.extend_from_slice(b"\":");
            push_string(text, out);
        }
        Some(Err(bytes)) => {
            out.extend_from_slice(b"-base64\":");
            push_base64(bytes, out);
        }
    }
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect(MEMORY);
}

fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).expect("base64 takes four bytes for three");
    out.truncate(start + written);
    out.push(b'"');
}

/// Why writing into a `Vec` is not checked.
const MEMORY: &str = "writing into memory does not fail";

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    type Headers = Vec<(String, Option<Vec<u8>>)>;

    fn encoded(
        format: Format,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<String, String> {
        let mut builder = BatchBuilder::new();
        builder.push(1234, key, value, headers);
        let batch = builder.finish().at(7, 0);
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let mut out = b"before|".to_vec();
        let encoded = format.encode(&TopicPartition::new("t", 3), &record, &mut out);
        let out = String::from_utf8(out).unwrap();
        let out = out.strip_prefix("before|").unwrap().to_owned();
        if encoded.is_err() {
            assert_eq!(out, "", "a rejected record leaves nothing behind");
        }
        encoded.map(|()| out)
    }

    #[test]
    fn lines_are_values_with_a_newline() {
        let line = |value| encoded(Format::Lines, None, value, &[]);
        assert_eq!(line(Some(b"one")).unwrap(), "one\n");
        assert_eq!(line(Some(b"one\ntwo")).unwrap(), "one\ntwo\n");
        assert_eq!(line(Some(b"")).unwrap(), "\n");
        assert!(line(None).unwrap_err().contains("no value"));
    }

    #[test]
    fn json_lines_take_one_json_value_and_keep_its_bytes() {
        let line = |value: &str| encoded(Format::JsonLines, None, Some(value.as_bytes()), &[]);
        for whole in
            ["{\"a\": 1.000, \"a\":2}", "7", "\"a\\nb\"", "null", " [1,\t2] ", "123456789012345678901234567890"]
        {
            assert_eq!(line(whole).unwrap(), format!("{whole}\n"));
        }
        assert_eq!(line("{\n  \"a\": 1,\r\n  \"b\": [\n]\n}\n").unwrap(), "{  \"a\": 1,\r  \"b\": []}\n");
        for wrong in ["", "{", "{} {}", "nul", "1\n2", "\"a\nb\"", "'a'", "{\"a\":1,}", "NaN"] {
            assert!(line(wrong).unwrap_err().contains("not JSON"), "{wrong}");
        }
        assert!(encoded(Format::JsonLines, None, None, &[]).unwrap_err().contains("no value"));
        assert!(encoded(Format::JsonLines, None, Some(b"\"\xff\""), &[]).unwrap_err().contains("utf-8"));
    }

    #[test]
    fn json_that_is_nested_deeply_does_not_overflow_the_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(encoded(Format::JsonLines, None, Some(deep.as_bytes()), &[]).is_err());
    }

    #[test]
    fn records_are_written_as_the_manual_says() {
        let line = encoded(Format::Records, Some(b"k"), Some(b"\xff\x00"), &[("h", Some(b"v")), ("n", None)]).unwrap();
        let expected = "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":1234,\"key\":\"k\",\
             \"value-base64\":\"/wA=\",\"headers\":[[\"h\",\"v\"],[\"n\",null]]}\n";
        assert_eq!(line, expected);
        let line = encoded(Format::Records, None, None, &[("b", Some(b"\xfe"))]).unwrap();
        assert!(line.contains(r#""key":null,"value":null,"headers":[["b",null,"/g=="]]"#), "{line}");
    }

    /// Reads a line of format `records` as a person would who knows only its manual.
    fn decoded(line: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>, Headers) {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        let base64 = |value: &Value| Some(STANDARD.decode(value.as_str().unwrap()).unwrap());
        let bytes = |name: &str| match line.get(name) {
            Some(value) => text(value),
            None => base64(&line[format!("{name}-base64")]),
        };
        let headers = line["headers"].as_array().unwrap().iter().map(|header| {
            let value = header.get(2).map_or_else(|| text(&header[1]), base64);
            (header[0].as_str().unwrap().to_owned(), value)
        });
        (bytes("key"), bytes("value"), headers.collect())
    }

    fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        let text = any::<String>().prop_map(String::into_bytes);
        proptest::option::of(prop_oneof![text, proptest::collection::vec(any::<u8>(), 0..40)])
    }

    proptest! {
        #[test]
        fn records_lose_nothing(
            key in some_bytes(),
            value in some_bytes(),
            headers in proptest::collection::vec((any::<String>(), some_bytes()), 0..4),
        ) {
            let borrowed: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let line = encoded(Format::Records, key.as_deref(), value.as_deref(), &borrowed).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(decoded(&line), (key, value, headers));
        }
    }
}
