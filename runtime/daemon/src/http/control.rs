//! The daemon's state and what can be done to it.

use aqueduct_api::Error;
use aqueduct_engine::RewindTo;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemon::{Daemon, NotReloaded};
use crate::http::{Json, Path, Refusal, metrics};
use crate::secrets::Secrets;

/// What the endpoints work with.
#[derive(Clone)]
pub(crate) struct Control {
    /// The daemon.
    pub(crate) daemon: Daemon,
    /// What must not be shown.
    pub(crate) secrets: Secrets,
}

type Answer = Result<Json<Value>, Refusal>;

/// The endpoints.
pub(crate) fn control_router(control: Control) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/status", get(status))
        .route("/metrics", get(prometheus))
        .route("/reload", post(reload))
        .route("/connectors/{name}/{action}", post(act))
        .route("/sinks/{name}/rewind", post(rewind))
        .route("/sinks/{name}/unpin", post(unpin))
        .with_state(control)
}

impl Control {
    fn shown(&self, mut value: Value) -> Json<Value> {
        self.secrets.hide_in(&mut value);
        Json(value)
    }

    fn refused(&self, error: Error) -> Refusal {
        Refusal::from(error).hidden(&self.secrets)
    }

    /// Says that a connector is not there, before something else is said about it.
    async fn find(&self, name: &str) -> Result<(), Refusal> {
        let plan = self.daemon.loaded().plan;
        let names: Vec<&str> = plan.sources.keys().chain(plan.sinks.keys()).map(String::as_str).collect();
        if names.contains(&name) {
            return Ok(());
        }
        let meant = crate::problems::nearest(name, names.iter().copied());
        let hint = match (meant, names.is_empty()) {
            (Some(meant), _) => format!(", did you mean `{meant}`?"),
            (None, true) => ": none is declared".to_owned(),
            (None, false) => format!(", there is `{}`", names.join("`, `")),
        };
        Err(Refusal::missing(format!("there is no source or sink `{name}`{hint}")))
    }
}

async fn health(State(control): State<Control>) -> Json<Value> {
    let loaded = control.daemon.loaded();
    control.shown(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "log": loaded.config.log.path,
    }))
}

async fn status(State(control): State<Control>) -> Json<Value> {
    control.shown(control.daemon.described().await)
}

async fn prometheus(State(control): State<Control>) -> Response {
    let status = control.daemon.status().await;
    let text = metrics::render(&status, &control.daemon.log().usage(), control.daemon.broker());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

async fn reload(State(control): State<Control>) -> Response {
    match control.daemon.reload().await {
        Ok(told) => control.shown(json!({ "changes": told })).into_response(),
        Err(NotReloaded::Refused(error)) => control.refused(error).into_response(),
        Err(NotReloaded::Problems(problems)) => {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let body = json!({
                "error_code": 409,
                "message": format!("the old configuration keeps running, the new one is wrong:\n{}", told.join("\n")),
                "problems": problems,
            });
            (StatusCode::CONFLICT, control.shown(body)).into_response()
        }
    }
}

async fn act(State(control): State<Control>, Path((name, action)): Path<(String, String)>) -> Answer {
    control.find(&name).await?;
    let engine = control.daemon.engine();
    let done = match action.as_str() {
        "pause" => engine.pause(&name).await,
        "resume" => engine.resume(&name).await,
        "stop" => engine.stop(&name).await,
        "restart" => engine.restart(&name).await,
        _ => {
            let message = format!("there is no action `{action}`, expected pause, resume, stop or restart");
            return Err(Refusal::missing(message));
        }
    };
    done.map_err(|error| control.refused(error))?;
    let status = control.daemon.status().await;
    let connector = status.connectors.iter().find(|connector| connector.name == name);
    Ok(control.shown(json!({ "name": name, "state": connector.map(|connector| connector.state) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rewind {
    topic: Option<String>,
    to: String,
    #[serde(default)]
    dry_run: bool,
}

async fn rewind(State(control): State<Control>, Path(name): Path<String>, Json(rewind): Json<Rewind>) -> Answer {
    control.find(&name).await?;
    let to: RewindTo = rewind.to.parse().map_err(|message| Refusal::bad(format!("to: {message}")))?;
    let rewound = control.daemon.engine().rewind(&name, rewind.topic.as_deref(), to, rewind.dry_run).await;
    let rewound = rewound.map_err(|error| control.refused(error))?;
    Ok(control.shown(json!({ "sink": name, "dry_run": rewind.dry_run, "partitions": rewound })))
}

async fn unpin(State(control): State<Control>, Path(name): Path<String>) -> Answer {
    control.find(&name).await?;
    let unpinned = control.daemon.engine().unpin(&name).await.map_err(|error| control.refused(error))?;
    Ok(control.shown(json!({ "sink": name, "partitions": unpinned })))
}
