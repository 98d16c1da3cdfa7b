//! Kafka REST proxy, version 2: `POST /topics/{topic}` and `/topics/{topic}/partitions/{partition}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::source::formats::{media_type, not_json, utf8};
use crate::source::intake::{Entry, Place};
use crate::source::refusal::{Answer, Refusal, bytes};

/// How keys and values stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Embedded {
    /// Any JSON.
    Json,
    /// Base64 in a string.
    Binary,
}

/// A request to produce.
#[derive(Deserialize)]
struct Produce<'a> {
    #[serde(borrow)]
    records: Vec<Record<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<i32>,
}

/// How keys and values stand in a request of this content type.
pub(crate) fn embedded(headers: &HeaderMap) -> Result<Embedded, Refusal> {
    match media_type(headers).as_str() {
        "application/vnd.kafka.json.v2+json" => Ok(Embedded::Json),
        // What the proxy takes a request for that does not say.
        "application/vnd.kafka.binary.v2+json" | "application/vnd.kafka.v2+json" | "application/json" => {
            Ok(Embedded::Binary)
        }
        other => {
            let message = format!(
                "content type `{}` is not known here, expected application/vnd.kafka.json.v2+json or \
                 application/vnd.kafka.binary.v2+json",
                other.escape_debug()
            );
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// The records of a request, all to `partition` where the path names one.
pub(crate) fn entries(
    embedded: Embedded,
    body: &Bytes,
    partition: Option<i32>,
    now: i64,
) -> Result<Vec<Entry>, Refusal> {
    let produce: Produce<'_> = serde_json::from_str(utf8(body)?).map_err(|cause| not_json(&cause).coded(42206))?;
    if produce.records.is_empty() {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "`records` is empty").coded(42206));
    }
    let entry = |(index, record): (usize, Record<'_>)| {
        let part = |name: &str, raw: Option<&RawValue>| {
            raw.map(|raw| value(embedded, body, raw)).transpose().map_err(|why| {
                let message = format!("records[{index}].{name} {why}");
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message).coded(42206)
            })
        };
        if record.partition.is_some_and(|partition| partition < 0) {
            return Err(no_partition());
        }
        Ok(Entry {
            partition: partition.or(record.partition),
            key: part("key", record.key)?,
            value: part("value", record.value)?,
            headers: Vec::new(),
            timestamp: now,
        })
    };
    produce.records.into_iter().enumerate().map(entry).collect()
}

/// The bytes that a key or value stands for.
pub(crate) fn value(embedded: Embedded, body: &Bytes, raw: &RawValue) -> Result<Bytes, String> {
    match embedded {
        Embedded::Json => Ok(body.slice_ref(raw.get().as_bytes())),
        Embedded::Binary => {
            let text: String = serde_json::from_str(raw.get()).map_err(|_| "is not a string of base64".to_owned())?;
            STANDARD.decode(text).map(Bytes::from).map_err(|cause| format!("is not base64: {cause}"))
        }
    }
}

/// The answer for a partition that can not be.
pub(crate) fn no_partition() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such partition").coded(40402)
}

/// The answer to a request: where each record is, or why it is not known to be there.
pub(crate) fn answer(places: &[Result<Place, Refusal>]) -> Answer {
    let offset = |place: &Result<Place, Refusal>| match place {
        Ok((of, offset)) => {
            json!({ "partition": of.partition, "offset": offset, "error_code": null, "error": null })
        }
        Err(refusal) => {
            json!({ "partition": null, "offset": null, "error_code": refusal.code, "error": refusal.message })
        }
    };
    let offsets: Vec<Value> = places.iter().map(offset).collect();
    let body = json!({ "key_schema_id": null, "value_schema_id": null, "offsets": offsets });
    let answer = bytes(StatusCode::OK, "application/vnd.kafka.v2+json", body.to_string().into_bytes());
    // Who looks at the status alone is not told that all is well when nothing is.
    match places.iter().find_map(|place| place.as_ref().err()) {
        Some(refusal) if places.iter().all(Result::is_err) => refusal.decorate(answer),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(embedded: Embedded, body: &str, partition: Option<i32>) -> String {
        let text = |bytes: &Option<Bytes>| match bytes {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "null".to_owned(),
        };
        match entries(embedded, &Bytes::copy_from_slice(body.as_bytes()), partition, 1) {
            Ok(entries) => {
                let each = entries.iter().map(|it| format!("{}={}@{:?}", text(&it.key), text(&it.value), it.partition));
                each.collect::<Vec<_>>().join(" ")
            }
            Err(refusal) => format!("{} {}", refusal.code, refusal.message),
        }
    }

    #[test]
    fn version_2_requests_are_read() {
        for (embedded, body, partition, expected) in [
            (
                Embedded::Json,
                r#"{"records":[{"key":"k","value":{"a": 1.50}},{"value":null}]}"#,
                None,
                "\"k\"={\"a\": 1.50}@None null=null@None",
            ),
            (Embedded::Binary, r#"{"records":[{"key":"aw==","value":"dg==","partition":3}]}"#, None, "k=v@Some(3)"),
            (Embedded::Binary, r#"{"records":[{"value":"dg==","partition":3}]}"#, Some(1), "null=v@Some(1)"),
            (Embedded::Binary, r#"{"records":[{"value":"v"}]}"#, None, "42206 records[0].value is not base64"),
            (Embedded::Binary, r#"{"records":[{"value":1}]}"#, None, "42206 records[0].value is not a string"),
            (Embedded::Json, r#"{"records":[]}"#, None, "42206 `records` is empty"),
            (
                Embedded::Json,
                r#"{"records":[{"valeu":1}]}"#,
                None,
                "42206 the body is not what is expected at line 1, column 20: unknown field `valeu`",
            ),
            (Embedded::Json, r#"{"records":[{"value":1,"partition":-1}]}"#, None, "40402 there is no such partition"),
            (
                Embedded::Json,
                r#"{}"#,
                None,
                "42206 the body is not what is expected at line 1, column 2: missing field `records`",
            ),
        ] {
            let found = shown(embedded, body, partition);
            assert!(found.starts_with(expected), "{body}: {found}");
        }
    }
}
