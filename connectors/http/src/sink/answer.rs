//! What an answer means for the records of a request.

use std::time::Duration;

use aqueduct_http_client::excerpt;
use chrono::DateTime;
use hyper::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::StatusCode;

use crate::firehose;

/// The longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What became of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The server has its records.
    Taken,
    /// It may be taken later.
    Later(String, Option<Duration>),
    /// Fewer records at once may be taken.
    TooLarge(String),
    /// At least one of its records will never be taken.
    Refused(String),
    /// The token that it was sent with is not valid any more.
    Unauthorized(String),
    /// Nothing will be taken until a person changes something.
    Never(String),
}

/// What a status means; `has_one_url`: all records go to one address, so that a wrong one is wrong for all.
pub(crate) fn of_status(status: StatusCode, headers: &HeaderMap, body: &[u8], has_one_url: bool, now: i64) -> Verdict {
    let said = match excerpt(body).as_str() {
        "" => format!("the server answered {status}"),
        text => format!("the server answered {status}: {text}"),
    };
    match status.as_u16() {
        200..=299 => Verdict::Taken,
        300..=399 => {
            let to = headers.get(LOCATION).map(|to| excerpt(to.as_bytes())).unwrap_or_default();
            Verdict::Never(format!("the server answered {status} to {to:?}: set `url` to where records should go"))
        }
        408 | 425 | 429 | 500..=599 => Verdict::Later(said, retry_after(headers, now)),
        401 => Verdict::Unauthorized(said),
        403 | 407 => Verdict::Never(format!("{said}: look at `authentication`")),
        404 | 405 | 410 if has_one_url => Verdict::Never(format!("{said}: look at `url` and `method`")),
        413 => Verdict::TooLarge(said),
        400..=499 => Verdict::Refused(said),
        _ => Verdict::Later(said, None),
    }
}

/// How long the server asks to be left alone: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
            Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or_default())
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Whether a success is one in Firehose's protocol too: the answer names the request.
pub(crate) fn of_firehose(body: &[u8], request_id: &str) -> Verdict {
    let later = |why: String| Verdict::Later(why, None);
    match serde_json::from_slice::<firehose::Answer>(body) {
        Ok(answer) if answer.request_id != request_id => later(format!(
            "the server answered for request {:?}, not {request_id}",
            excerpt(answer.request_id.as_bytes())
        )),
        Ok(firehose::Answer { error_message: Some(message), .. }) if !message.is_empty() => {
            later(format!("the server answered with an error: {}", excerpt(message.as_bytes())))
        }
        Ok(_) => Verdict::Taken,
        Err(cause) => later(format!("the server's answer is not Firehose's: {cause}: {}", excerpt(body))),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn kind(status: u16, has_one_url: bool) -> &'static str {
        match of_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"x", has_one_url, 0) {
            Verdict::Taken => "taken",
            Verdict::Later(..) => "later",
            Verdict::TooLarge(_) => "too large",
            Verdict::Refused(_) => "refused",
            Verdict::Unauthorized(_) => "unauthorized",
            Verdict::Never(_) => "never",
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        for (statuses, one_url, meaning) in [
            (&[200, 201, 202, 204, 207][..], true, "taken"),
            (&[301, 302, 303, 304, 307, 308], true, "never"),
            (&[408, 425, 429, 500, 501, 502, 503, 504, 599], true, "later"),
            (&[401], true, "unauthorized"),
            (&[403, 407, 404, 405, 410], true, "never"),
            (&[404, 405, 410, 400, 409, 411, 415, 422], false, "refused"),
            (&[413], false, "too large"),
        ] {
            for status in statuses {
                assert_eq!(kind(*status, one_url), meaning, "{status}");
            }
        }
    }

    #[test]
    fn servers_say_when_to_come_again() {
        for (text, expected) in [
            ("7", Some(7_000)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(1_000)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("999999999999", Some(3_600_000)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3_600_000)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            let found = retry_after(&headers, 784_111_776_000).map(|wait| wait.as_millis());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn firehoses_answer_must_name_the_request() {
        for (body, taken) in [
            (r#"{"requestId":"a","timestamp":1}"#, true),
            (r#"{"requestId":"b","timestamp":1}"#, false),
            (r#"{"requestId":"a","timestamp":1,"errorMessage":"no"}"#, false),
            (r#"{"requestId":"a","times"#, false),
            ("ok", false),
            ("", false),
        ] {
            assert_eq!(of_firehose(body.as_bytes(), "a") == Verdict::Taken, taken, "{body}");
        }
    }
}
