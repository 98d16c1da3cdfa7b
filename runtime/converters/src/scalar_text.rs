//! Decimals and times as text that people read, and back.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Timelike, Utc};

use crate::avro_schema::Unit;

/// The most bytes of a decimal, which has 308 digits then: making digits of bytes takes the square of their number.
const LARGEST_DECIMAL: usize = 128;

/// The most digits of a decimal of so many bytes.
const MOST_DIGITS: usize = 308;

/// Days from the beginning of the first year to 1970.
const DAYS_TO_1970: i32 = 719_163;

const NANOS: i64 = 1_000_000_000;

/// The digits of a decimal's bytes, two's complement and big-endian.
///
/// # Errors
/// Why there are none.
pub(crate) fn decimal(bytes: &[u8], scale: usize) -> Result<String, String> {
    let Some(first) = bytes.first() else { return Err("a decimal has no bytes".to_owned()) };
    if bytes.len() > LARGEST_DECIMAL {
        return Err(format!("a decimal has {} bytes, at most {LARGEST_DECIMAL} are read", bytes.len()));
    }
    let is_negative = first & 0x80 != 0;
    let mut magnitude = bytes.to_vec();
    if is_negative {
        negate(&mut magnitude);
    }
    let mut digits = digits(magnitude);
    if digits.len() <= scale {
        digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
    }
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    if is_negative {
        digits.insert(0, '-');
    }
    Ok(digits)
}

/// Two's complement of the opposite.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}

/// The decimal digits of a number, big-endian.
fn digits(mut number: Vec<u8>) -> String {
    let mut groups = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut number {
            let part = rest << 8 | u32::from(*byte);
            *byte = (part / 10_000) as u8;
            rest = part % 10_000;
        }
        groups.push(rest);
    }
    let mut text: String = groups.iter().rev().map(|group| format!("{group:04}")).collect();
    let zeros = text.len() - text.trim_start_matches('0').len();
    text.drain(..zeros);
    if text.is_empty() { "0".to_owned() } else { text }
}

/// The bytes of a decimal, as few as hold it, two's complement and big-endian.
///
/// # Errors
/// Why it has none, or too many digits.
pub(crate) fn decimal_bytes(text: &str, precision: usize, scale: usize) -> Result<Vec<u8>, String> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit());
    if !all_digits || (whole.is_empty() && part.is_empty()) {
        return Err(format!("`{}` is no decimal, expected for example 12.34", shortened(text)));
    }
    let part = part.trim_end_matches('0');
    if part.len() > scale {
        return Err(format!("`{}` has more than {scale} digits after the point", shortened(text)));
    }
    let significant = format!("{whole}{part}{}", "0".repeat(scale - part.len()));
    let significant = significant.trim_start_matches('0');
    if significant.len() > precision.min(MOST_DIGITS) {
        let most = precision.min(MOST_DIGITS);
        return Err(format!("`{}` has {} digits, the schema allows {most}", shortened(text), significant.len()));
    }
    let mut bytes = vec![0_u8];
    for digit in significant.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    // Room for the sign.
    if bytes[0] & 0x80 != 0 {
        bytes.insert(0, 0);
    }
    if is_negative {
        negate(&mut bytes);
    }
    // As few bytes as hold it: 0xff80 is 0x80.
    while bytes.len() > 1 && matches!((bytes[0], bytes[1] & 0x80), (0, 0) | (0xff, 0x80)) {
        bytes.remove(0);
    }
    Ok(bytes)
}

/// Text in a message is not as long as the record.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `2026-11-21`.
pub(crate) fn date(days: i32) -> Result<String, String> {
    let date = days.checked_add(DAYS_TO_1970).and_then(NaiveDate::from_num_days_from_ce_opt);
    date.map(|date| date.to_string()).ok_or_else(|| beyond("date", days.into()))
}

/// `12:34:56.789`.
pub(crate) fn time(unit: Unit, since_midnight: i64) -> Result<String, String> {
    let nanos = since_midnight.checked_mul(NANOS / unit.per_second());
    let time = nanos.filter(|nanos| *nanos >= 0).and_then(|nanos| {
        NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(nanos / NANOS).ok()?, (nanos % NANOS) as u32)
    });
    let time = time.filter(|time| time.nanosecond() < NANOS as u32);
    time.map(|time| time.to_string()).ok_or_else(|| beyond("time of day", since_midnight))
}

/// `2026-11-21T12:34:56.789Z`, without the `Z` where it is local to nobody knows where.
pub(crate) fn timestamp(unit: Unit, since_1970: i64, utc: bool) -> Result<String, String> {
    let (seconds, rest) = (since_1970.div_euclid(unit.per_second()), since_1970.rem_euclid(unit.per_second()));
    let time = DateTime::<Utc>::from_timestamp(seconds, (rest * (NANOS / unit.per_second())) as u32);
    let time = time.ok_or_else(|| beyond("timestamp", since_1970))?;
    let mut text = time.to_rfc3339_opts(unit.digits(), true);
    if !utc {
        text.truncate(text.len() - 1);
    }
    Ok(text)
}

fn beyond(what: &str, number: i64) -> String {
    format!("{number} is no {what} that a calendar has: `times: number` leaves it as it is")
}

/// Days since 1970.
pub(crate) fn days(text: &str) -> Result<i32, String> {
    let date: Result<NaiveDate, _> = text.parse();
    let date = date.map_err(|_| format!("`{}` is no date, expected for example 2026-11-21", shortened(text)))?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).map_err(|_| "is no date".to_owned())
}

/// Time since midnight.
pub(crate) fn since_midnight(unit: Unit, text: &str) -> Result<i64, String> {
    let time: Result<NaiveTime, _> = text.parse();
    let time = time.map_err(|_| format!("`{}` is no time, expected for example 12:34:56.789", shortened(text)))?;
    whole(unit, time.num_seconds_from_midnight().into(), time.nanosecond(), text)
}

/// Time since 1970.
pub(crate) fn since_1970(unit: Unit, text: &str, utc: bool) -> Result<i64, String> {
    let (time, example) = match utc {
        true => {
            let time = text.parse::<DateTime<FixedOffset>>().map(|time| time.to_utc());
            (time.ok(), "2026-11-21T12:34:56.789Z")
        }
        false => (text.parse::<NaiveDateTime>().map(|time| time.and_utc()).ok(), "2026-11-21T12:34:56.789"),
    };
    let time = time.ok_or_else(|| format!("`{}` is no timestamp, expected for example {example}", shortened(text)))?;
    whole(unit, time.timestamp(), time.timestamp_subsec_nanos(), text)
}

fn whole(unit: Unit, seconds: i64, nanos: u32, text: &str) -> Result<i64, String> {
    let (per_second, per_unit) = (unit.per_second(), NANOS / unit.per_second());
    if i64::from(nanos) % per_unit != 0 {
        return Err(format!("`{}` is finer than the {} of the schema", shortened(text), unit.name()));
    }
    let parts = seconds.checked_mul(per_second).and_then(|it| it.checked_add(i64::from(nanos) / per_unit));
    parts.ok_or_else(|| format!("`{}` is beyond what {} since 1970 can count", shortened(text), unit.name()))
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => NANOS,
        }
    }

    fn digits(self) -> SecondsFormat {
        match self {
            Unit::Millis => SecondsFormat::Millis,
            Unit::Micros => SecondsFormat::Micros,
            Unit::Nanos => SecondsFormat::Nanos,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Millis => "milliseconds",
            Unit::Micros => "microseconds",
            Unit::Nanos => "nanoseconds",
        }
    }
}

/// The 16 bytes of a UUID as text.
pub(crate) fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The 16 bytes of a UUID.
pub(crate) fn uuid_bytes(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{}` is no UUID", shortened(text));
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != 16 || !rest.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(wrong());
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).map_err(|_| wrong());
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_come_back_as_they_were() {
        for (text, scale, bytes) in [
            ("0", 0, &[0][..]),
            ("12.34", 2, &[0x04, 0xd2]),
            ("-12.34", 2, &[0xfb, 0x2e]),
            ("0.05", 2, &[5]),
            ("-0.01", 2, &[0xff]),
            ("1.28", 2, &[0x00, 0x80]),
            ("-1.28", 2, &[0x80]),
            ("-1.29", 2, &[0xff, 0x7f]),
            ("340282366920938463463374607431768211456", 0, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(decimal(bytes, scale).as_deref(), Ok(text));
            assert_eq!(decimal_bytes(text, 50, scale).as_deref(), Ok(bytes), "{text}");
        }
        assert_eq!(decimal(&[0xff, 0xff, 0xfe], 0).as_deref(), Ok("-2"), "more bytes than needed");
        assert_eq!(decimal_bytes("+1.50", 3, 2), decimal_bytes("1.5", 3, 2));
        for (text, part) in
            [("", "no decimal"), ("1e5", "no decimal"), ("1.234", "more than 2"), ("123.45", "5 digits")]
        {
            assert!(decimal_bytes(text, 4, 2).unwrap_err().contains(part), "{text}");
        }
        assert!(decimal(&[], 0).is_err() && decimal(&[1; 129], 0).is_err());
    }

    #[test]
    fn times_come_back_as_they_were() {
        for days_since in [0, -1, 20_778, 3_000_000, -800_000] {
            assert_eq!(days(&date(days_since).unwrap()), Ok(days_since));
        }
        assert_eq!(date(20_778).as_deref(), Ok("2026-11-21"));
        assert_eq!(time(Unit::Millis, 45_296_789).as_deref(), Ok("12:34:56.789"));
        assert_eq!(since_midnight(Unit::Micros, "12:34:56.789"), Ok(45_296_789_000));
        assert_eq!(timestamp(Unit::Millis, -1, true).as_deref(), Ok("1969-12-31T23:59:59.999Z"));
        for unit in [Unit::Millis, Unit::Micros, Unit::Nanos] {
            for since in [0, 1, -1, 1_795_264_496_789, i64::from(i32::MIN)] {
                for utc in [true, false] {
                    let text = timestamp(unit, since, utc).unwrap();
                    assert_eq!(since_1970(unit, &text, utc), Ok(since), "{text}");
                }
            }
        }
        assert_eq!(since_1970(Unit::Millis, "2026-11-21T13:00:00+01:00", true), Ok(1_795_262_400_000));
        let far = timestamp(Unit::Millis, 300_000_000_000_000, true).unwrap();
        assert_eq!(since_1970(Unit::Millis, &far, true), Ok(300_000_000_000_000), "{far}");
    }

    #[test]
    fn what_is_no_time_says_so() {
        assert!(date(i32::MAX).unwrap_err().contains("times: number"));
        assert!(time(Unit::Millis, -1).is_err() && time(Unit::Millis, 86_400_000).is_err());
        assert!(time(Unit::Micros, i64::MAX).is_err());
        assert!(timestamp(Unit::Millis, i64::MAX, true).is_err());
        assert!(days("tomorrow").unwrap_err().contains("expected for example"));
        assert!(since_1970(Unit::Millis, "2026-11-21T12:00:00.0001Z", true).unwrap_err().contains("finer"));
        assert!(since_1970(Unit::Nanos, "+9999-01-01T00:00:00Z", true).unwrap_err().contains("beyond"));
    }

    #[test]
    fn uuids_come_back_as_they_were() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let bytes = uuid_bytes(text).unwrap();
        assert_eq!((bytes[1], bytes[15], uuid(&bytes).as_str()), (0x11, 0xff, text));
        assert!(uuid_bytes("0011").is_err() && uuid_bytes(&"+1".repeat(16)).is_err());
    }
}
