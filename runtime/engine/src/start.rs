//! Where in a partition a sink starts, or is rewound to.

use std::fmt;
use std::str::FromStr;

use aqueduct_record::Offset;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A place in a partition, told without an offset: `beginning`, `end`, or a time as RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first record that is kept.
    #[default]
    Beginning,
    /// What comes from now on.
    End,
    /// The first record of that time (milliseconds since 1970) or later.
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(Start::Beginning),
            "end" => Ok(Start::End),
            time => chrono::DateTime::parse_from_rfc3339(time)
                .map(|time| Start::Time(time.timestamp_millis()))
                .map_err(|_| format!("`{text}` is not `beginning`, `end` or a time such as `2026-11-20T08:00:00Z`")),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Beginning => f.write_str("beginning"),
            Start::End => f.write_str("end"),
            Start::Time(millis) => match chrono::DateTime::from_timestamp_millis(*millis) {
                Some(time) => f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
                None => write!(f, "{millis} ms"),
            },
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Start {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Start".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "`beginning`, `end`, or a time as RFC 3339",
            "examples": ["beginning", "end", "2026-11-20T08:00:00Z"],
        })
    }
}

/// Where a sink is rewound to: `beginning`, `end`, a time as RFC 3339, or an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindTo {
    /// A place that each partition has.
    Place(Start),
    /// The same offset in each partition.
    Offset(Offset),
}

impl FromStr for RewindTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Offset>() {
            Ok(offset) if offset >= 0 => Ok(RewindTo::Offset(offset)),
            Ok(offset) => Err(format!("offset {offset} is negative")),
            Err(_) => text.parse().map(RewindTo::Place).map_err(|told: String| format!("{told}, nor an offset")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written_as_people_do() {
        for text in ["beginning", "end", "2026-11-20T08:00:00Z"] {
            assert_eq!(text.parse::<Start>().unwrap().to_string(), text);
        }
        assert_eq!("1970-01-01T01:00:01+01:00".parse(), Ok(Start::Time(1000)));
        assert!("yesterday".parse::<Start>().unwrap_err().contains("`yesterday` is not `beginning`"));
        assert_eq!("42".parse(), Ok(RewindTo::Offset(42)));
        assert_eq!("end".parse(), Ok(RewindTo::Place(Start::End)));
        assert!("-1".parse::<RewindTo>().is_err());
    }
}
