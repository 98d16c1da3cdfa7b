//! The daemon's HTTP interface: what there is and what it does, as JSON; commands are its clients.
//!
//! | method and path | does |
//! |---|---|
//! | `GET /health` | says that the daemon serves, and what |
//! | `GET /status`, `GET /metrics` | tells what every connector does, as JSON and for Prometheus |
//! | `POST /reload` | applies what changed in the configuration |
//! | `POST /connectors/{name}/{pause,resume,stop,restart}` | does that |
//! | `POST /sinks/{name}/{rewind,unpin}` | moves a sink on purpose |
//! | `GET, POST /topics`, `GET, PATCH, DELETE /topics/{topic}` | lists, makes, shows, changes, deletes topics |
//! | `GET, POST /topics/{topic}/records` | reads and appends records |
//! | `GET /dead-letters`, `GET /dead-letters/{topic}` | counts what was set aside, by reason |
//! | `POST /dead-letters/{topic}/{replay,discard}` | does that with what was set aside |
//! | `GET /groups`, `GET /groups/{group}` | tells who has read how far |
//!
//! Errors are `{"error_code": 404, "message": "…"}`.

pub(crate) mod control;
pub(crate) mod dead_letters;
pub(crate) mod guard;
pub(crate) mod metrics;
pub(crate) mod records;
pub(crate) mod topics;

use std::sync::Arc;

use aqueduct_api::{Edge, Memberships, Store};
use aqueduct_engine::Engine;
use axum::Router;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::secrets::Secrets;

/// All that is asked of the log here.
pub(crate) trait Kept: Store + Memberships {}

impl<T: Store + Memberships> Kept for T {}

/// What the endpoints on data work with.
#[derive(Clone)]
pub(crate) struct Data {
    /// The log.
    pub(crate) store: Arc<dyn Kept>,
    /// What runs over it, if anything does.
    pub(crate) engine: Option<Engine>,
    /// Where time comes from.
    pub(crate) edge: Edge,
    /// Held by whoever replays or discards dead letters: one at a time.
    pub(crate) settling: Arc<tokio::sync::Mutex<()>>,
}

impl Data {
    /// Works with a log.
    pub(crate) fn new(store: Arc<dyn Kept>, engine: Option<Engine>, edge: Edge) -> Self {
        Data { store, engine, edge, settling: Arc::default() }
    }
}

/// The endpoints that need no engine: topics, records, dead letters, groups. A command without a daemon calls the same
/// ones in its own process.
pub(crate) fn data_router(data: Data) -> Router {
    let router = topics::router().merge(records::router()).merge(dead_letters::router());
    router.fallback(nothing_here).with_state(data)
}

async fn nothing_here(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no {method} {}", uri.path()))
}

/// The answer to a request that was not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    /// Refuses with a reason for people.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }

    /// Refuses input that makes no sense.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    /// Says that something is not there.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }

    /// The refusal with what else may help whoever asked for something that is not there.
    pub(crate) fn or(self, help: &str) -> Self {
        match self.status {
            StatusCode::NOT_FOUND => Refusal { message: format!("{}{help}", self.message), ..self },
            _ => self,
        }
    }

    /// The refusal without what must not be shown.
    pub(crate) fn hidden(self, secrets: &Secrets) -> Self {
        Refusal { message: secrets.hide(&self.message).into_owned(), ..self }
    }
}

impl From<aqueduct_api::Error> for Refusal {
    fn from(error: aqueduct_api::Error) -> Self {
        let status = match error {
            aqueduct_api::Error::Retry { .. } => StatusCode::SERVICE_UNAVAILABLE,
            aqueduct_api::Error::Refused { .. } => StatusCode::CONFLICT,
            aqueduct_api::Error::Fatal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.status.as_u16(), "message": self.message });
        (self.status, axum::Json(body)).into_response()
    }
}

/// JSON in and out, a query, a path: axum's, with refusals as JSON.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Refusal))]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(crate) struct Query<T>(pub(crate) T);

/// The variable parts of a path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Refusal))]
pub(crate) struct Path<T>(pub(crate) T);

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request is larger than is taken: records of so many bytes go in through a source",
            ),
            status => Refusal::new(status, rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Refusal::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Refusal::new(rejection.status(), rejection.body_text())
    }
}
