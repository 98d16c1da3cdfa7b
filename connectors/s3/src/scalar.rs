//! Dates, times and decimals in text.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// Days since 1970 of a date such as `2026-05-12`.
pub(crate) fn date(text: &str) -> Result<i32, String> {
    let wrong = || format!("`{text}` is no date, expected for example 2026-05-12");
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| wrong())?;
    let days = date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days();
    i32::try_from(days).map_err(|_| wrong())
}

/// Microseconds since 1970 of a time as RFC 3339 has it, in UTC where it names no zone.
pub(crate) fn timestamp(text: &str) -> Result<i64, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    let time = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let time = time.ok_or_else(|| format!("`{text}` is no time, expected for example 2026-05-12T10:30:00Z"))?;
    Ok(time.and_utc().timestamp_micros())
}

/// A decimal number without its point: exact, or not at all.
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128, String> {
    let wrong = || format!("`{text}` does not fit decimal({precision}, {scale})");
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| wrong())?),
        None => (text, 0),
    };
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number =
        (whole.len() + fraction.len() > 0) && whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit());
    if !is_number {
        return Err(wrong());
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    // How many zeros have to follow the digits; fewer than none: so many have to be there to be cut.
    let zeros = i64::from(scale) + i64::from(exponent) - fraction.len() as i64;
    let (digits, zeros) = match usize::try_from(zeros) {
        _ if digits.is_empty() => return Ok(0),
        Ok(zeros) => (digits, zeros),
        Err(_) => {
            let cut = usize::try_from(zeros.unsigned_abs()).map_err(|_| wrong())?;
            let keep = digits.len().checked_sub(cut).ok_or_else(wrong)?;
            let (kept, rest) = digits.split_at(keep);
            if rest.bytes().any(|digit| digit != b'0') {
                return Err(wrong());
            }
            (kept, 0)
        }
    };
    if digits.len().saturating_add(zeros) > usize::from(precision) {
        return Err(wrong());
    }
    let number: i128 = format!("{digits}{}", "0".repeat(zeros)).parse().map_err(|_| wrong())?;
    Ok(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        for (text, expected) in [
            ("0", 0),
            ("-0.00", 0),
            ("12.34", 1234),
            ("-12.3", -1230),
            ("1e3", 100_000),
            ("1.5E-1", 15),
            ("120e-1", 1200),
            ("12.340", 1234),
            ("00012", 1200),
            ("0e999999999", 0),
            ("99999999.99", 9_999_999_999),
        ] {
            assert_eq!(decimal(text, 10, 2), Ok(expected), "{text}");
        }
        for text in
            ["", "-", ".", "1.234", "100000000", "1e9999999999", "1e999999999", "1e-9", "0x1", "+1", "1e2.5", "NaN"]
        {
            assert!(decimal(text, 10, 2).is_err(), "{text}");
        }
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Ok(10_i128.pow(38) - 1));
    }

    #[test]
    fn times_are_utc_unless_they_say_so() {
        for (text, expected) in [
            ("1970-01-01T00:00:01.5Z", 1_500_000),
            ("1970-01-01T02:00:00+02:00", 0),
            ("1970-01-01T00:00:01", 1_000_000),
            ("1970-01-01 00:00:00.000001", 1),
        ] {
            assert_eq!(timestamp(text), Ok(expected), "{text}");
        }
        assert!(timestamp("yesterday").is_err());
        assert_eq!(date("1970-01-02"), Ok(1));
        assert_eq!(date("1969-12-31"), Ok(-1));
        assert!(date("1970-13-01").is_err());
    }
}
