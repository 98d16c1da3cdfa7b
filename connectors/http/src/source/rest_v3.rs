//! Kafka REST proxy, version 3: `POST /v3/clusters/{cluster}/topics/{topic}/records` and `records:batch`.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::DateTime;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::source::formats::{not_json, utf8};
use crate::source::intake::{Entry, Place};
use crate::source::refusal::{Answer, Refusal, bytes, json};
use crate::source::rest::{Embedded, no_partition, value};

/// The most entries of a batch: what the proxy takes is 10, more does no harm here.
const MOST_ENTRIES: usize = 10_000;

/// A record as it stands in a request.
#[derive(Deserialize)]
struct Record<'a> {
    id: Option<String>,
    partition_id: Option<i32>,
    #[serde(default)]
    headers: Vec<Header>,
    #[serde(borrow, default)]
    key: Option<Data<'a>>,
    #[serde(borrow, default)]
    value: Option<Data<'a>>,
    timestamp: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// The entries of `records:batch`.
#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

/// A record of a request, or why it is none.
pub(crate) struct Asked {
    id: String,
    pub(crate) entry: Result<Entry, Refusal>,
    kinds: [String; 2],
}

/// The records of `records`: JSON objects one after the other. What follows something that is not JSON is lost to us, so
/// that is the last one.
pub(crate) fn stream(body: &Bytes, now: i64) -> Result<Vec<Asked>, Refusal> {
    let mut asked = Vec::new();
    for raw in serde_json::Deserializer::from_str(utf8(body)?).into_iter::<&RawValue>() {
        match raw {
            Ok(raw) => asked.push(read(body, raw, now)),
            Err(cause) => asked.push(Asked::wrong(String::new(), not_json(&cause))),
        }
    }
    match asked.is_empty() {
        true => Err(Refusal::bad("the body holds no record")),
        false => Ok(asked),
    }
}

/// The records of `records:batch`.
pub(crate) fn batch(body: &Bytes, now: i64) -> Result<Vec<Asked>, Refusal> {
    let wrong = |message: &str| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message).coded(42208);
    let batch: Batch<'_> = serde_json::from_str(utf8(body)?).map_err(|cause| not_json(&cause))?;
    if batch.entries.is_empty() || batch.entries.len() > MOST_ENTRIES {
        return Err(wrong("`entries` is empty, or has more than 10000"));
    }
    let asked: Vec<Asked> = batch.entries.into_iter().map(|raw| read(body, raw, now)).collect();
    let mut ids = HashSet::new();
    for one in &asked {
        if !(1..=80).contains(&one.id.len()) || !ids.insert(one.id.as_str()) {
            return Err(wrong("each entry needs an `id` of its own, of 1 to 80 characters"));
        }
    }
    Ok(asked)
}

impl Asked {
    pub(crate) fn wrong(id: String, refusal: Refusal) -> Self {
        Asked { id, entry: Err(refusal), kinds: Default::default() }
    }
}

/// What a record of a body asks for.
pub(crate) fn read(body: &Bytes, raw: &RawValue, now: i64) -> Asked {
    let record: Record<'_> = match serde_json::from_str(raw.get()) {
        Ok(record) => record,
        Err(cause) => return Asked::wrong(String::new(), Refusal::bad(format!("the record makes no sense: {cause}"))),
    };
    let id = record.id.clone().unwrap_or_default();
    let kind = |data: &Option<Data<'_>>| data.as_ref().and_then(|it| it.kind.clone()).unwrap_or_default();
    let kinds = [kind(&record.key), kind(&record.value)];
    Asked { id, entry: entry(body, record, now), kinds }
}

fn entry(body: &Bytes, record: Record<'_>, now: i64) -> Result<Entry, Refusal> {
    if record.partition_id.is_some_and(|partition| partition < 0) {
        return Err(no_partition());
    }
    let timestamp = match &record.timestamp {
        None => now,
        Some(text) => DateTime::parse_from_rfc3339(text)
            .map_err(|_| Refusal::bad(format!("timestamp `{}` is not RFC 3339", text.escape_debug())))?
            .timestamp_millis(),
    };
    let mut headers = Vec::with_capacity(record.headers.len());
    for Header { name, value } in record.headers {
        use base64::Engine as _;
        let value = value.map(|text| base64::engine::general_purpose::STANDARD.decode(text)).transpose();
        let value = value.map_err(|_| Refusal::bad(format!("header `{}` is not base64", name.escape_debug())))?;
        headers.push((name, value.map(Bytes::from)));
    }
    Ok(Entry {
        partition: record.partition_id,
        key: data(body, "key", record.key)?,
        value: data(body, "value", record.value)?,
        headers,
        timestamp,
    })
}

fn data(body: &Bytes, name: &str, data: Option<Data<'_>>) -> Result<Option<Bytes>, Refusal> {
    let Some(Data { kind, data }) = data else { return Ok(None) };
    let wrong = |why: String| Refusal::bad(format!("{name} {why}"));
    match kind.as_deref() {
        Some("JSON") => data.map(|raw| value(Embedded::Json, body, raw)).transpose().map_err(wrong),
        Some("BINARY") => data.map(|raw| value(Embedded::Binary, body, raw)).transpose().map_err(wrong),
        Some("STRING") => {
            let text = data.map(|raw| serde_json::from_str::<String>(raw.get())).transpose();
            text.map(|text| text.map(Bytes::from)).map_err(|_| wrong("is not a string".to_owned()))
        }
        Some(other) => {
            let message =
                format!("{name}.type `{}` is not known here, expected BINARY, JSON or STRING", other.escape_debug());
            Err(Refusal::bad(message))
        }
        None => {
            Err(Refusal::bad(format!("{name}.type is missing: BINARY, JSON or STRING (schemas are not known here)")))
        }
    }
}

/// What became of a record, for its sender.
fn report(one: &Asked, outcome: &Result<&Place, &Refusal>, cluster: &str) -> Value {
    let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    match (outcome, &one.entry) {
        (Ok((of, offset)), Ok(entry)) => {
            let time = DateTime::from_timestamp_millis(entry.timestamp).unwrap_or_default();
            let mut report = json!({
                "error_code": 200,
                "cluster_id": cluster,
                "topic_name": of.topic,
                "partition_id": of.partition,
                "offset": offset,
                "timestamp": time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            });
            for (name, kind, bytes) in [("key", &one.kinds[0], &entry.key), ("value", &one.kinds[1], &entry.value)] {
                if !kind.is_empty() {
                    report[name] = json!({ "type": kind, "size": size(bytes) });
                }
            }
            report
        }
        (Err(refusal), _) => json!({ "error_code": refusal.code, "message": refusal.message }),
        (_, Err(refusal)) => json!({ "error_code": refusal.code, "message": refusal.message }),
    }
}

/// Pairs each record with what became of it: `places` are those of the records that made sense.
fn outcomes<'a>(
    asked: &'a [Asked],
    places: &'a [Result<Place, Refusal>],
) -> Vec<(&'a Asked, Result<&'a Place, &'a Refusal>)> {
    let mut places = places.iter();
    let outcome = |one: &'a Asked| match &one.entry {
        Ok(_) => places.next().map(|place| (one, place.as_ref())),
        Err(refusal) => Some((one, Err(refusal))),
    };
    asked.iter().filter_map(outcome).collect()
}

/// A line for each record, in order.
pub(crate) fn reports(asked: &[Asked], places: &[Result<Place, Refusal>], cluster: &str) -> String {
    let outcomes = outcomes(asked, places);
    outcomes.iter().map(|(one, outcome)| format!("{}\r\n", report(one, outcome, cluster))).collect()
}

/// The answer to `records`: a report for each, in order.
pub(crate) fn stream_answer(asked: &[Asked], places: &[Result<Place, Refusal>], cluster: &str) -> Answer {
    let answer = bytes(StatusCode::OK, "application/json", reports(asked, places, cluster).into_bytes());
    let outcomes = outcomes(asked, places);
    // Who looks at the status alone is not told that all is well when nothing is.
    match outcomes.iter().find_map(|(_, outcome)| outcome.as_ref().err()) {
        Some(refusal) if outcomes.iter().all(|(_, outcome)| outcome.is_err()) => refusal.decorate(answer),
        _ => answer,
    }
}

/// The answer to `records:batch`: 207, what was taken and what was not apart.
pub(crate) fn batch_answer(asked: &[Asked], places: &[Result<Place, Refusal>], cluster: &str) -> Answer {
    let (mut successes, mut failures) = (Vec::new(), Vec::new());
    for (one, outcome) in outcomes(asked, places) {
        let mut report = report(one, &outcome, cluster);
        report["id"] = json!(one.id);
        match outcome {
            Ok(_) => successes.push(report),
            Err(_) => failures.push(report),
        }
    }
    json(StatusCode::MULTI_STATUS, &json!({ "successes": successes, "failures": failures }))
}

#[cfg(test)]
mod tests {
    use aqueduct_api::TopicPartition;

    use super::*;

    #[test]
    fn version_3_records_are_read_one_by_one() {
        let body = r#"{"key":{"type":"STRING","data":"k"},"value":{"type":"JSON","data":{"a":1}},"timestamp":"2024-01-01T00:00:00Z"}
            {"value":{"type":"BINARY","data":"dg=="},"partition_id":2,"headers":[{"name":"h","value":"aA=="},{"name":"n","value":null}]}
            {"value":{"type":"AVRO","data":1}} {"value":{"data":1}} {"value":{"type":"STRING","data":1}} {"partition_id":-2} {}
            {"timestamp":"yesterday"} 7 {"value" "#;
        let asked = stream(&Bytes::from(body), 5).unwrap();
        let shown = asked.iter().map(|one| match &one.entry {
            Ok(it) => format!("{:?} {:?} {:?} {} {}", it.key, it.value, it.partition, it.timestamp, it.headers.len()),
            Err(refusal) => format!("{} {}", refusal.code, refusal.message),
        });
        let shown: Vec<_> = shown.collect();
        for (found, expected) in shown.iter().zip([
            r#"Some(b"k") Some(b"{\"a\":1}") None 1704067200000 0"#,
            r#"None Some(b"v") Some(2) 5 2"#,
            "400 value.type `AVRO` is not known here",
            "400 value.type is missing",
            "400 value is not a string",
            "40402 ",
            "None None None 5 0",
            "400 timestamp `yesterday` is not RFC 3339",
            "400 the record makes no sense",
            "400 the body is not what is expected at line 4",
        ]) {
            assert!(found.starts_with(expected), "{found} instead of {expected}");
        }
        assert_eq!(shown.len(), 10);
    }

    #[test]
    fn reports_are_in_the_order_of_the_records() {
        let body =
            r#"{"value":{"type":"STRING","data":"a"}} {"value":{"type":"X"}} {"value":{"type":"STRING","data":"b"}}"#;
        let asked = stream(&Bytes::from(body), 0).unwrap();
        let places = [Ok((TopicPartition::new("t", 1), 7)), Err(Refusal::unavailable("late"))];
        let reports = outcomes(&asked, &places);
        let codes: Vec<_> = reports.iter().map(|(one, it)| report(one, it, "c")["error_code"].clone()).collect();
        assert_eq!(codes, [200, 400, 503]);
        assert_eq!(stream_answer(&asked, &places, "c").status(), 200);
        assert_eq!(stream_answer(&asked[1..2], &[], "c").status(), 400);
    }

    #[test]
    fn entries_of_a_batch_need_ids() {
        for (body, expected) in [
            (r#"{"entries":[{"id":"1"},{"id":"2"}]}"#, None),
            (r#"{"entries":[{"id":"1"},{"id":"1"}]}"#, Some(42208)),
            (r#"{"entries":[{}]}"#, Some(42208)),
            (r#"{"entries":[]}"#, Some(42208)),
            (r#"{"entries":1}"#, Some(400)),
        ] {
            let found = batch(&Bytes::from(body), 0);
            assert_eq!(found.map(|it| it.len()).map_err(|refusal| refusal.code).err(), expected, "{body}");
        }
    }
}
