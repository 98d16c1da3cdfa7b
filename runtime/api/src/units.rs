//! Values with units, as people write them in YAML.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes: `8 MiB`, `500kb`, `1048576`. K, M, G, T are powers of 1000 with `B`, of 1024 with `iB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` kibibytes.
    pub const fn kib(n: u64) -> Self {
        ByteSize(n << 10)
    }

    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        ByteSize(n << 20)
    }
}

const SIZES: [(&str, u64); 15] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
    ("bytes", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &SIZES)
            .map(ByteSize)
            .ok_or_else(|| format!("`{text}` is not a number of bytes, expected for example `8 MiB` or `500 kB`"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match unit.iter().find(|(_, shift)| self.0 >= 1 << shift && self.0.trailing_zeros() >= *shift) {
            Some((name, shift)) => write!(f, "{} {name}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A length of time: `200ms`, `1.5s`, `5m`, `7d`; -1 where a setting may last for ever. A bare number is milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Option<Duration>);

impl Span {
    /// No end.
    pub const FOREVER: Span = Span(None);

    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Span(Some(Duration::from_millis(n)))
    }

    /// `n` seconds.
    pub const fn seconds(n: u64) -> Self {
        Span(Some(Duration::from_secs(n)))
    }

    /// `n` days.
    pub const fn days(n: u64) -> Self {
        Span(Some(Duration::from_secs(n * 86_400)))
    }

    /// How long; `None`: for ever.
    pub const fn duration(self) -> Option<Duration> {
        self.0
    }
}

const TIMES: [(&str, u64); 15] = [
    ("", 1_000_000),
    ("ns", 1),
    ("us", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("seconds", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("minutes", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("hours", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("days", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text.trim(), "-1" | "never" | "forever") {
            return Ok(Span::FOREVER);
        }
        scaled(text, &TIMES)
            .map(|nanos| Span(Some(Duration::from_nanos(nanos))))
            .ok_or_else(|| format!("`{text}` is not a length of time, expected for example `200ms`, `5m` or `7d`"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(duration) = self.0 else { return f.write_str("never") };
        let nanos = duration.as_nanos();
        let units: [(&str, u128); 7] = [
            ("d", 86_400_000_000_000),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1000),
            ("ns", 1),
        ];
        let fits = units.iter().find(|(_, size)| nanos >= *size && nanos.is_multiple_of(*size));
        match fits {
            Some((name, size)) => write!(f, "{}{name}", nanos / size),
            None => f.write_str("0ms"),
        }
    }
}

/// `number unit`, with at most a few digits after the point, in the smallest unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (_, size) = *units.iter().find(|(name, _)| unit.trim().eq_ignore_ascii_case(name))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let mut total = whole.parse::<u64>().ok()?.checked_mul(size)?;
    if !fraction.is_empty() {
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(size) / 10u128.pow(fraction.len() as u32);
        total = total.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(total)
}

macro_rules! as_text {
    ($type:ident, $name:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!($name, ", for example ", $example))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": ["string", "integer"],
                    "description": concat!($name, ", for example ", $example),
                })
            }
        }
    };
}

as_text!(ByteSize, "a number of bytes", "`8 MiB`");
as_text!(Span, "a length of time", "`5m`");

/// A value that is never shown: `***` in every output.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself, for the one who uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "x-secret": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_people_do() {
        for (text, bytes) in [("8 MiB", 8 << 20), ("500kB", 500_000), ("1048576", 1 << 20), ("1.5 KiB", 1536), ("0", 0)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for (bytes, text) in [(8 << 20, "8 MiB"), (1000, "1000 B"), (1 << 40, "1 TiB"), (0, "0 B")] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        for wrong in ["", "MiB", "8 XiB", "-1", "1.2.3", "99999999999 TiB", "1..5", "٣"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_read_and_written_as_people_do() {
        for (text, millis) in [("200ms", 200), ("1.5s", 1500), ("5m", 300_000), ("7d", 604_800_000), ("250", 250)] {
            assert_eq!(text.parse::<Span>().unwrap(), Span::millis(millis), "{text}");
        }
        assert_eq!("-1".parse::<Span>().unwrap(), Span::FOREVER);
        for (span, text) in [(Span::days(7), "7d"), (Span::millis(90_000), "90s"), (Span::millis(0), "0ms")] {
            assert_eq!(span.to_string(), text);
            assert_eq!(text.parse::<Span>().unwrap(), span);
        }
        assert!("soon".parse::<Span>().unwrap_err().contains("`soon` is not a length of time"));
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {}", serde_json::to_string(&secret).unwrap()), "*** \"***\"");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
