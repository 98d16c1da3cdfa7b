//! Makes records of bodies: whole, lines, JSON, and Firehose's protocol.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::firehose;
use crate::source::intake::Entry;
use crate::source::refusal::Refusal;
use crate::source::settings::Format;

/// What a body holds, by its headers where the path does not say.
pub(crate) fn of(format: Format, headers: &HeaderMap) -> Result<Format, Refusal> {
    if format != Format::Auto {
        return Ok(format);
    }
    if headers.contains_key(firehose::PROTOCOL_VERSION) {
        return Ok(Format::Firehose);
    }
    match media_type(headers).as_str() {
        "" | "application/octet-stream" => Ok(Format::Record),
        "application/json" => Ok(Format::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Ok(Format::JsonLines)
        }
        "text/plain" => Ok(Format::Lines),
        other => {
            let message = format!(
                "content type `{}` is not known here, expected application/json, application/x-ndjson, text/plain or \
                 application/octet-stream",
                other.escape_debug()
            );
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// The content type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The values of a body's records.
pub(crate) fn values(format: Format, body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    if body.is_empty() {
        return Err(Refusal::bad("the body is empty"));
    }
    match format {
        Format::Lines => Ok(lines(body).map(|line| body.slice_ref(line)).collect()),
        Format::JsonLines => json_lines(body),
        Format::Json => json(body),
        Format::Record | Format::Auto | Format::Firehose => Ok(vec![body.clone()]),
    }
}

/// Lines without their newlines; what follows the last newline is a line too, unless it is empty.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let text = rest?;
        let (line, after) = match memchr::memchr(b'\n', text) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(line)
    })
}

fn json_lines(body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    let mut values = Vec::new();
    for (index, line) in lines(body).enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let wrong = |cause: serde_json::Error| {
            Refusal::bad(format!("line {} is not JSON: {} (column {})", index + 1, plain(&cause), cause.column()))
        };
        std::str::from_utf8(line).map_err(|_| Refusal::bad(format!("line {} is not UTF-8", index + 1)))?;
        serde_json::from_slice::<IgnoredAny>(line).map_err(wrong)?;
        values.push(body.slice_ref(line));
    }
    match values.is_empty() {
        true => Err(Refusal::bad("the body holds no record")),
        false => Ok(values),
    }
}

fn json(body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    let text = utf8(body)?;
    let slice = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
    if text.trim_start().starts_with('[') {
        let values: Vec<&RawValue> = serde_json::from_str(text).map_err(|cause| not_json(&cause))?;
        return match values.is_empty() {
            true => Err(Refusal::bad("the body holds no record")),
            false => Ok(values.into_iter().map(slice).collect()),
        };
    }
    let value: &RawValue = serde_json::from_str(text).map_err(|cause| not_json(&cause))?;
    Ok(vec![slice(value)])
}

/// A body as text.
pub(crate) fn utf8(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body)
        .map_err(|cause| Refusal::bad(format!("the body is not UTF-8 at byte {}", cause.valid_up_to())))
}

/// Says where a body is not JSON.
pub(crate) fn not_json(cause: &serde_json::Error) -> Refusal {
    Refusal::bad(format!(
        "the body is not what is expected at line {}, column {}: {}",
        cause.line(),
        cause.column(),
        plain(cause)
    ))
}

/// A cause without its place.
fn plain(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// A request of Firehose's, read whole.
pub(crate) struct Delivery {
    pub(crate) request_id: String,
    pub(crate) entries: Vec<Entry>,
}

/// Reads a request of Firehose's; its common attributes are headers of every record.
pub(crate) fn delivery(headers: &HeaderMap, body: &[u8], now: i64) -> Result<Delivery, Refusal> {
    let request: firehose::Request = serde_json::from_str(utf8(body)?).map_err(|cause| not_json(&cause))?;
    let told = headers.get(firehose::REQUEST_ID).map(|id| id.to_str().unwrap_or("?"));
    if told.is_some_and(|told| told != request.request_id) {
        return Err(Refusal::bad("`requestId` is not that of the header X-Amz-Firehose-Request-Id"));
    }
    let attributes = match headers.get(firehose::COMMON_ATTRIBUTES) {
        Some(value) => {
            let attributes = serde_json::from_slice::<firehose::CommonAttributes>(value.as_bytes());
            attributes
                .map_err(|cause| {
                    Refusal::bad(format!("X-Amz-Firehose-Common-Attributes is not JSON as expected: {cause}"))
                })?
                .common_attributes
        }
        None => Default::default(),
    };
    let shared: Vec<(String, Option<Bytes>)> =
        attributes.into_iter().map(|(name, value)| (name, Some(Bytes::from(value)))).collect();
    let timestamp = if request.timestamp > 0 { request.timestamp } else { now };
    let mut entries = Vec::with_capacity(request.records.len());
    for (index, record) in request.records.iter().enumerate() {
        let value = STANDARD.decode(&record.data);
        let value = value.map_err(|cause| Refusal::bad(format!("records[{index}].data is not base64: {cause}")))?;
        entries.push(Entry { value: Some(value.into()), headers: shared.clone(), timestamp, ..Entry::default() });
    }
    Ok(Delivery { request_id: request.request_id, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, body: &str, expected: Result<&[&str], &str>) {
        let found = values(format, &Bytes::copy_from_slice(body.as_bytes()));
        let found =
            found.map(|values| values.iter().map(|it| String::from_utf8(it.to_vec()).unwrap()).collect::<Vec<_>>());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{body}"),
            (Err(refusal), Err(part)) => assert!(refusal.message.contains(part), "{body}: {}", refusal.message),
            (found, expected) => panic!("{body}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn bodies_hold_records() {
        check(Format::Record, "a\nb\n", Ok(&["a\nb\n"]));
        check(Format::Lines, "a\n\nb\r\n", Ok(&["a", "", "b\r"]));
        check(Format::Lines, "a\nb", Ok(&["a", "b"]));
        check(Format::Lines, "\n", Ok(&[""]));
        check(Format::JsonLines, "{\"a\":1}\r\n\n [2] \n", Ok(&["{\"a\":1}", "[2]"]));
        check(Format::Json, " {\"a\": 1.50}\n", Ok(&["{\"a\": 1.50}"]));
        check(Format::Json, "[1, {\"a\":\n2}, \"x\"]", Ok(&["1", "{\"a\":\n2}", "\"x\""]));
    }

    #[test]
    fn bodies_that_make_no_sense_say_where() {
        check(Format::Record, "", Err("the body is empty"));
        check(Format::JsonLines, "1\n{\"a\":}\n", Err("line 2 is not JSON: expected value (column 6)"));
        check(Format::JsonLines, "\n \n", Err("holds no record"));
        check(Format::Json, "[1,\n 2,]", Err("line 2, column 4: trailing comma"));
        check(Format::Json, "[]", Err("holds no record"));
        check(Format::Json, "{} {}", Err("line 1, column 4: trailing characters"));
        check(Format::Json, "{\"a\"", Err("line 1, column 4"));
        check(Format::Json, &"[".repeat(100_000), Err("the body is not what is expected"));
    }
}
