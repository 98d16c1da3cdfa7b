//! Answers to requests that were not done.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// An answer: whole, or piece by piece.
pub(crate) type Answer = Response<Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>>;

/// Why a request was not done.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The status, or Kafka REST's finer code.
    pub(crate) code: u32,
    pub(crate) message: String,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    /// Refuses with a reason for people.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal { status, code: status.as_u16().into(), message: message.into(), retry_after: None }
    }

    /// Refuses what makes no sense.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    /// Refuses for now: nothing was taken.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Refusal { retry_after: Some(1), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// Refuses for now: part of it may have been taken.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Refusal { retry_after: Some(1), ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// The same with Kafka REST's code.
    pub(crate) fn coded(self, code: u32) -> Self {
        Refusal { code, ..self }
    }

    /// The answer, for whoever reads `{"error_code", "message"}`.
    pub(crate) fn answer(&self) -> Answer {
        self.decorate(json(self.status, &json!({ "error_code": self.code, "message": self.message })))
    }

    /// Any answer, with what belongs to the refusal.
    pub(crate) fn decorate(&self, mut answer: Answer) -> Answer {
        *answer.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let schemes = HeaderValue::from_static("Bearer, Basic realm=\"aqueduct\"");
            answer.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, schemes);
        }
        answer
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).unwrap_or_default();
    bytes(status, "application/json", body)
}

/// An answer of any type.
pub(crate) fn bytes(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Whether a name is one that a topic can have.
pub(crate) fn topic_name(name: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" | "." | ".." => Err(format!("`{name}` is no name of a topic")),
        _ if name.len() > 249 => Err("the name of a topic has at most 249 characters".to_owned()),
        _ if !name.bytes().all(known) => {
            Err(format!("`{}` is no name of a topic: letters, digits, `.`, `_` and `-`", name.escape_debug()))
        }
        _ if name.starts_with("__") => Err(format!("topic `{name}` is the log's own")),
        _ => Ok(()),
    }
}
