//! Records as lines of text: what sinks share that write them into files and objects, byte for byte the same.

use std::io::Write as _;

use aqueduct_record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use crate::TopicPartition;

/// What a record becomes. In each form it is appended, or `out` stays as it is and the error says why it can not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The value and a newline.
    Value,
    /// The value, which must be one JSON value, in one line.
    Json,
    /// One JSON object from which the record can be made again.
    Record,
}

impl Line {
    /// Appends the record to `out`, or leaves `out` as it is and says why the record can not be written.
    pub fn push(self, partition: &TopicPartition, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Line::Value => {
                let value = record.value.ok_or("the record has no value, which format lines needs")?;
                out.reserve(value.len() + 1);
                out.extend_from_slice(value);
                out.push(b'\n');
            }
            Line::Json => {
                let value = record.value.ok_or("the record has no value, which format json-lines needs")?;
                push_json(value, out)?;
            }
            Line::Record => push_record(partition, record, out),
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
        line: Line,
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
        let encoded = line.push(&TopicPartition::new("t", 3), &record, &mut out);
        let out = String::from_utf8(out).unwrap();
        let out = out.strip_prefix("before|").unwrap().to_owned();
        if encoded.is_err() {
            assert_eq!(out, "", "a rejected record leaves nothing behind");
        }
        encoded.map(|()| out)
    }

    #[test]
    fn lines_are_values_with_a_newline() {
        let line = |value| encoded(Line::Value, None, value, &[]);
        assert_eq!(line(Some(b"one")).unwrap(), "one\n");
        assert_eq!(line(Some(b"one\ntwo")).unwrap(), "one\ntwo\n");
        assert_eq!(line(Some(b"")).unwrap(), "\n");
        assert!(line(None).unwrap_err().contains("no value"));
    }

    #[test]
    fn json_lines_take_one_json_value_and_keep_its_bytes() {
        let line = |value: &str| encoded(Line::Json, None, Some(value.as_bytes()), &[]);
        for whole in
            ["{\"a\": 1.000, \"a\":2}", "7", "\"a\\nb\"", "null", " [1,\t2] ", "123456789012345678901234567890"]
        {
            assert_eq!(line(whole).unwrap(), format!("{whole}\n"));
        }
        assert_eq!(line("{\n  \"a\": 1,\r\n  \"b\": [\n]\n}\n").unwrap(), "{  \"a\": 1,\r  \"b\": []}\n");
        for wrong in ["", "{", "{} {}", "nul", "1\n2", "\"a\nb\"", "'a'", "{\"a\":1,}", "NaN"] {
            assert!(line(wrong).unwrap_err().contains("not JSON"), "{wrong}");
        }
        assert!(encoded(Line::Json, None, None, &[]).unwrap_err().contains("no value"));
        assert!(encoded(Line::Json, None, Some(b"\"\xff\""), &[]).unwrap_err().contains("utf-8"));
    }

    #[test]
    fn json_that_is_nested_deeply_does_not_overflow_the_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(encoded(Line::Json, None, Some(deep.as_bytes()), &[]).is_err());
    }

    #[test]
    fn records_are_written_as_the_manual_says() {
        let line = encoded(Line::Record, Some(b"k"), Some(b"\xff\x00"), &[("h", Some(b"v")), ("n", None)]).unwrap();
        let expected = "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":1234,\"key\":\"k\",\
             \"value-base64\":\"/wA=\",\"headers\":[[\"h\",\"v\"],[\"n\",null]]}\n";
        assert_eq!(line, expected);
        let line = encoded(Line::Record, None, None, &[("b", Some(b"\xfe"))]).unwrap();
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
            let line = encoded(Line::Record, key.as_deref(), value.as_deref(), &borrowed).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(decoded(&line), (key, value, headers));
        }
    }
}
