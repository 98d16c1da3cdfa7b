//! Records as people and commands read and write them.

use aqueduct_api::Error;
use aqueduct_api::Result as ApiResult;
use aqueduct_record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, de};
use serde_json::{Value, json};

/// Bytes in JSON: text where they are UTF-8, else `{"base64": "…"}`; null is null.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bytes(pub(crate) Option<Vec<u8>>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes_json(self.0.as_deref()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match &value {
            Value::Null => Ok(Bytes(None)),
            Value::String(text) => Ok(Bytes(Some(text.clone().into_bytes()))),
            Value::Object(fields) if fields.len() == 1 => match fields.get("base64").and_then(Value::as_str) {
                Some(text) => STANDARD.decode(text).map(|bytes| Bytes(Some(bytes))).map_err(de::Error::custom),
                None => Err(de::Error::custom("expected text, null or {\"base64\": \"…\"}")),
            },
            _ => Err(de::Error::custom("expected text, null or {\"base64\": \"…\"}")),
        }
    }
}

fn bytes_json(bytes: Option<&[u8]>) -> Value {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    };
    bytes.map_or(Value::Null, text)
}

/// A record to append.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRecord {
    /// The key, which also chooses the partition.
    #[serde(default)]
    pub(crate) key: Bytes,
    /// The value.
    #[serde(default)]
    pub(crate) value: Bytes,
    /// Names and values, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<(String, Bytes)>,
    /// The partition; absent: by the key, else one for all records of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<i32>,
    /// Milliseconds since 1970; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<i64>,
}

/// A record that was read, as JSON.
pub(crate) fn record_json(topic: &str, partition: i32, record: &Record<'_>) -> Value {
    let headers = record.headers.iter().map(|(name, value)| json!([name, bytes_json(value)]));
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": bytes_json(record.key),
        "value": bytes_json(record.value),
        "headers": headers.collect::<Vec<_>>(),
    })
}

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The first record that is kept.
    Beginning,
    /// What comes from now on.
    End,
    /// So many records before the end.
    Last(i64),
    /// An offset.
    Offset(i64),
    /// The first record of that time or later, milliseconds since 1970.
    Time(i64),
}

impl From {
    /// Reads what people write: `beginning`, `end`, `-10` (the last ten), an offset, a time as RFC 3339, a date, or how
    /// long ago (`15m`).
    pub(crate) fn parse(text: &str, now: i64) -> ApiResult<From> {
        let ago = || text.parse::<aqueduct_api::Span>().ok().and_then(aqueduct_api::Span::duration);
        let time = || chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis());
        let date = || {
            let date = text.parse::<chrono::NaiveDate>().ok()?;
            Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
        };
        match (text, text.parse::<i64>()) {
            ("beginning", _) => Ok(From::Beginning),
            ("end", _) => Ok(From::End),
            (_, Ok(last)) if last < 0 => Ok(From::Last(-last)),
            (_, Ok(offset)) => Ok(From::Offset(offset)),
            _ => match (time().or_else(date), ago()) {
                (Some(time), _) => Ok(From::Time(time)),
                (None, Some(ago)) => Ok(From::Time(now - i64::try_from(ago.as_millis()).unwrap_or(now))),
                (None, None) => Err(Error::refused(format!(
                    "`{text}` is not a place in a topic, expected `beginning`, `end`, an offset, a time like \
                     `2026-11-20T08:00:00Z` or how long ago, `15m`"
                ))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_base64() {
        for (bytes, value) in
            [(Some(&b"a"[..]), json!("a")), (Some(&b"\xff\x00"[..]), json!({"base64": "/wA="})), (None, Value::Null)]
        {
            let shown = serde_json::to_value(Bytes(bytes.map(<[u8]>::to_vec))).unwrap();
            assert_eq!(shown, value);
            assert_eq!(serde_json::from_value::<Bytes>(shown).unwrap().0.as_deref(), bytes);
        }
        for wrong in [json!(5), json!({"base64": "!"}), json!({"base64": "", "x": 1}), json!(["a"])] {
            assert!(serde_json::from_value::<Bytes>(wrong).is_err());
        }
    }

    #[test]
    fn places_are_written_in_many_ways() {
        for (text, from) in [
            ("beginning", From::Beginning),
            ("end", From::End),
            ("-10", From::Last(10)),
            ("42", From::Offset(42)),
            ("1970-01-01T00:00:01Z", From::Time(1000)),
            ("1970-01-02", From::Time(86_400_000)),
            ("15m", From::Time(1_000_000)),
        ] {
            assert_eq!(From::parse(text, 1_900_000).unwrap(), from, "{text}");
        }
        assert!(From::parse("yesterday", 0).unwrap_err().to_string().contains("`yesterday` is not a place"));
    }
}
