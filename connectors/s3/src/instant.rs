//! Points in time, days, times of day and decimals, as formats with columns keep them.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    /// How many units since 1970.
    pub(crate) count: i64,
    /// The unit.
    pub(crate) unit: Unit,
    /// Whether it is UTC, and not what a clock somewhere showed.
    pub(crate) is_utc: bool,
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => 1_000_000_000,
        }
    }

    /// Whole seconds, and what is left in nanoseconds.
    fn parts(self, count: i64) -> (i64, u32) {
        let per_second = self.per_second();
        let rest = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
        (count.div_euclid(per_second), rest as u32)
    }
}

impl Instant {
    /// Milliseconds since 1970.
    pub(crate) fn milliseconds(self) -> i64 {
        self.count.div_euclid(self.unit.per_second() / 1000)
    }
}

/// As RFC 3339 has it, without a zone where it is not UTC; the bare number where the year is beyond it.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.unit.parts(self.count);
        let time = DateTime::from_timestamp(seconds, nanos).filter(|time| time.timestamp().unsigned_abs() < 1 << 37);
        let Some(time) = time else { return write!(f, "{}", self.count) };
        let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        f.write_str(if self.is_utc { &text } else { text.trim_end_matches('Z') })
    }
}

/// A day as text, `2026-05-12`; `None` where it is beyond what a calendar holds.
pub(crate) fn date(days: i32) -> Option<String> {
    let day = DateTime::UNIX_EPOCH.date_naive().checked_add_signed(TimeDelta::days(i64::from(days)))?;
    Some(day.format("%Y-%m-%d").to_string())
}

/// A time of day as text, `10:30:00.5`; `None` where it is none.
pub(crate) fn time_of_day(count: i64, unit: Unit) -> Option<String> {
    let (seconds, nanos) = unit.parts(count);
    let time = chrono::NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(seconds).ok()?, nanos)?;
    Some(time.format("%H:%M:%S%.f").to_string())
}

/// The most bytes of a decimal: some 300 digits.
const LONGEST_DECIMAL: usize = 128;

/// A decimal number of big-endian bytes in two's complement, as text; `None` where it is too long.
pub(crate) fn decimal(bytes: &[u8], scale: usize) -> Option<String> {
    if bytes.len() > LONGEST_DECIMAL || scale > 2 * LONGEST_DECIMAL * 8 {
        return None;
    }
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut rest = bytes.to_vec();
    if is_negative {
        negate(&mut rest);
    }
    let mut digits = Vec::new();
    while rest.iter().any(|byte| *byte != 0) {
        let mut left = 0_u16;
        for byte in &mut rest {
            let whole = left << 8 | u16::from(*byte);
            *byte = (whole / 10) as u8;
            left = whole % 10;
        }
        digits.push(b'0' + left as u8);
    }
    while digits.len() <= scale {
        digits.push(b'0');
    }
    if scale > 0 {
        digits.insert(scale, b'.');
    }
    if is_negative {
        digits.push(b'-');
    }
    digits.reverse();
    String::from_utf8(digits).ok()
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (value, is_over) = (!*byte).overflowing_add(u8::from(carry));
        *byte = value;
        carry = is_over;
    }
}

/// A UUID as text.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scalar;

    fn instant(count: i64, unit: Unit, is_utc: bool) -> String {
        Instant { count, unit, is_utc }.to_string()
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        assert_eq!(instant(0, Unit::Millis, true), "1970-01-01T00:00:00Z");
        assert_eq!(instant(-1, Unit::Millis, true), "1969-12-31T23:59:59.999Z");
        assert_eq!(instant(1_778_581_800_123_456, Unit::Micros, true), "2026-05-12T10:30:00.123456Z");
        assert_eq!(instant(1_778_581_800_123_456_789, Unit::Nanos, false), "2026-05-12T10:30:00.123456789");
        assert_eq!(instant(i64::MAX, Unit::Millis, true), "9223372036854775807");
        assert_eq!(Instant { count: -1, unit: Unit::Micros, is_utc: true }.milliseconds(), -1);
        assert_eq!(date(-1).as_deref(), Some("1969-12-31"));
        assert_eq!(date(i32::MAX), None);
        assert_eq!(time_of_day(37_800_500, Unit::Millis).as_deref(), Some("10:30:00.500"));
        assert_eq!(time_of_day(86_400_000, Unit::Millis), None);
        assert_eq!(uuid(*b"\x01\x23\x45\x67\x89\xab\xcd\xef0123456789"[..16].first_chunk().unwrap()).len(), 36);
    }

    proptest! {
        #[test]
        fn decimals_come_back(number in any::<i128>().prop_map(|number| number / 10), scale in 0..38_u8) {
            let number = number % 10_i128.pow(38);
            let text = decimal(&number.to_be_bytes(), usize::from(scale)).unwrap();
            prop_assert_eq!(scalar::decimal(&text, 38, scale), Ok(number));
        }

        #[test]
        fn times_come_back(count in -2_000_000_000_000_000_i64..2_000_000_000_000_000) {
            prop_assert_eq!(scalar::timestamp(&instant(count, Unit::Micros, true)), Ok(count));
            prop_assert_eq!(scalar::timestamp(&instant(count, Unit::Micros, false)), Ok(count));
        }
    }

    #[test]
    fn decimals_of_any_length_are_written() {
        assert_eq!(decimal(&[], 0).as_deref(), Some("0"));
        assert_eq!(decimal(&[0xff], 3).as_deref(), Some("-0.001"));
        assert_eq!(decimal(&[0x80; 1], 0).as_deref(), Some("-128"));
        assert_eq!(decimal(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0).unwrap().len(), 39);
        assert_eq!(decimal(&[1; 200], 0), None);
    }
}
