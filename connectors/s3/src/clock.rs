//! Which time of a record counts in the names of objects, and where.

use std::fmt::Write as _;

use aqueduct_api::field;
use aqueduct_record::Record;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::scalar;

/// A way to tell a record's time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clock {
    /// The field that holds it; `None`: it is the record's timestamp.
    field: Option<Vec<String>>,
    /// How the field is written; `None`: as RFC 3339 has it, or as milliseconds since 1970.
    format: Option<String>,
    /// Where it is that time; `None`: UTC.
    zone: Option<Tz>,
}

impl Clock {
    /// Reads the settings `time-field`, `time-format` and `time-zone`; an error names the one that is wrong.
    pub(crate) fn parse(
        field: Option<&str>,
        format: Option<&str>,
        zone: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let path = field.map(|field| field.split('.').map(str::to_owned).collect::<Vec<_>>());
        if path.iter().flatten().any(String::is_empty) {
            return Err(("time-field", "expected a field's path, for example `created.at`".to_owned()));
        }
        if let Some(format) = format {
            if field.is_none() {
                return Err(("time-format", "is for a `time-field`".to_owned()));
            }
            if StrftimeItems::new(format).any(|item| item == Item::Error) {
                let why = format!("`{format}` is not a time format, expected for example `%d/%b/%Y:%H:%M:%S %z`");
                return Err(("time-format", why));
            }
        }
        let unknown =
            |zone: &str| ("time-zone", format!("`{zone}` is no time zone, expected for example Europe/Berlin"));
        let zone = zone.map(|zone| zone.parse().map_err(|_| unknown(zone))).transpose()?;
        Ok(Clock { field: path, format: format.map(str::to_owned), zone })
    }

    /// Whether it looks at nothing but the record's timestamp.
    pub(crate) fn is_timestamp(&self) -> bool {
        self.field.is_none()
    }

    /// The time of a record, in ms since 1970.
    pub(crate) fn time(&self, record: &Record<'_>) -> Result<i64, String> {
        let Some(path) = &self.field else {
            return match record.timestamp {
                -1 => Err("the record has no timestamp, which the name of its object needs".to_owned()),
                timestamp => Ok(timestamp),
            };
        };
        let value = record.value.ok_or_else(|| format!("no value, so no field {}", path.join(".")))?;
        let text = field::find(value, path)?;
        self.read(&text).map_err(|why| format!("field {}: {why}", path.join(".")))
    }

    fn read(&self, text: &str) -> Result<i64, String> {
        let Some(format) = &self.format else {
            return match text.parse::<i64>() {
                Ok(millis) => Ok(millis),
                Err(_) => scalar::timestamp(text).map(|micros| micros.div_euclid(1000)),
            };
        };
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Ok(time.timestamp_millis());
        }
        let time = NaiveDateTime::parse_from_str(text, format);
        let time = time.map_err(|cause| format!("`{text}` is no time as `{format}` writes it: {cause}"))?;
        // An hour that comes twice when clocks are put back is taken for the first; one that is left out is none.
        let time = self.zone.unwrap_or(Tz::UTC).from_local_datetime(&time).earliest();
        time.map(|time| time.timestamp_millis()).ok_or_else(|| format!("there was no time `{text}` there"))
    }

    /// Writes a time in ms since 1970 as the clocks there show it.
    pub(crate) fn push(&self, format: &[Item<'static>], millis: i64, out: &mut String) -> Result<(), String> {
        let time = DateTime::<Utc>::from_timestamp_millis(millis);
        let time = time.ok_or_else(|| format!("the record's timestamp {millis} is no time"))?;
        let written = match self.zone {
            None => write!(out, "{}", time.format_with_items(format.iter())),
            Some(zone) => write!(out, "{}", time.with_timezone(&zone).format_with_items(format.iter())),
        };
        written.map_err(|_| format!("no format for time {millis}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(field: Option<&str>, format: Option<&str>, zone: Option<&str>) -> Clock {
        Clock::parse(field, format, zone).unwrap()
    }

    #[test]
    fn fields_are_times_as_they_are_written() {
        let nine = 1_778_576_400_000;
        for (format, zone, text, expected) in [
            (None, None, "1778576400000", Ok(nine)),
            (None, None, "2026-05-12T09:00:00Z", Ok(nine)),
            (None, Some("Asia/Tokyo"), "2026-05-12T11:00:00+02:00", Ok(nine)),
            (Some("%d/%b/%Y:%H:%M:%S %z"), None, "12/May/2026:11:00:00 +0200", Ok(nine)),
            (Some("%Y-%m-%d %H:%M:%S"), None, "2026-05-12 09:00:00", Ok(nine)),
            (Some("%Y-%m-%d %H:%M:%S"), Some("Europe/Berlin"), "2026-05-12 11:00:00", Ok(nine)),
            (Some("%Y-%m-%d %H:%M:%S"), Some("Europe/Berlin"), "2026-03-29 02:30:00", Err("there was no time")),
            (Some("%Y"), None, "soon", Err("is no time as `%Y` writes it")),
            (None, None, "soon", Err("is no time")),
        ] {
            match (clock(Some("a"), format, zone).read(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        for (field, format, zone, expected) in [
            (Some("a..b"), None, None, "time-field"),
            (None, Some("%Y"), None, "time-format"),
            (Some("a"), Some("%Q"), None, "time-format"),
            (None, None, Some("Europe/Nowhere"), "time-zone"),
        ] {
            assert_eq!(Clock::parse(field, format, zone).unwrap_err().0, expected);
        }
    }

    #[test]
    fn zones_show_their_own_hours() {
        let format: Vec<_> = StrftimeItems::new("%Y-%m-%d %H").map(Item::to_owned).collect();
        for (zone, expected) in [(None, "2026-01-01 00"), (Some("America/New_York"), "2025-12-31 19")] {
            let mut out = String::new();
            clock(None, None, zone).push(&format, 1_767_225_600_000, &mut out).unwrap();
            assert_eq!(out, expected);
        }
    }
}
