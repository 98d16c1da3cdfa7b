//! How commands reach a log: over HTTP where a daemon holds it, else through the same endpoints in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::Edge;
use aqueduct_commit_log::{CommitLog, Options};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use crate::http::{Data, data_router};
use crate::load::Loaded;
use crate::terminal::Failure;

/// Where a daemon listens that was not told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8083";

/// The most bytes of an answer.
const LARGEST_ANSWER: usize = 256 << 20;

/// Answers requests.
pub(crate) enum Client {
    /// A running daemon.
    Daemon(Remote),
    /// The folder itself, held by this process.
    Folder { router: Router, log: CommitLog },
}

/// A daemon's address.
pub(crate) struct Remote {
    url: String,
    http: reqwest::Client,
}

impl Client {
    /// The daemon at `url`; whether it answers shows the first call.
    ///
    /// # Errors
    /// `Usage` when it is no address.
    pub(crate) fn daemon(url: &str) -> Result<Client, Failure> {
        let known =
            reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !known {
            return Err(Failure::Usage(format!("--url: expected an address like `{DEFAULT_URL}`, found `{url}`")));
        }
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(2));
        let http = http.build().map_err(|cause| Failure::Failed(format!("no HTTP client: {cause}")))?;
        Ok(Client::Daemon(Remote { url: url.trim_end_matches('/').to_owned(), http }))
    }

    /// Whoever has the log of a configuration: its daemon where one answers, else this process. `command` is who holds
    /// the folder then, for people; `make` allows a folder that is not there yet.
    pub(crate) async fn of(loaded: &Loaded, url: &str, command: &str, make: bool) -> Result<Client, Failure> {
        let daemon = Client::daemon(url)?;
        let folder = &loaded.config.log.path;
        if let Ok(health) = daemon.call(Method::GET, "/health", None).await
            && health.get("log").and_then(Value::as_str).is_some_and(|held| same(Path::new(held), folder))
        {
            return Ok(daemon);
        }
        if !make && !folder.exists() {
            return Err(Failure::Failed(format!(
                "there is no log in {} yet: `aqueduct run` makes it",
                folder.display()
            )));
        }
        let options = loaded.log_options(format!("aqueduct {command}, process {}", std::process::id()));
        Client::folder(folder, options).await.map_err(|error| {
            Failure::Failed(format!("{error}, and no daemon that holds {} answers at {url}", folder.display()))
        })
    }

    /// The folder itself.
    async fn folder(folder: &Path, options: Options) -> aqueduct_api::Result<Client> {
        let edge = Edge::real();
        let log = CommitLog::open(edge.clone(), folder, options).await?;
        let router = data_router(Data::new(Arc::new(log.clone()), None, edge));
        Ok(Client::Folder { router, log })
    }

    /// Sends a request and returns what was answered.
    ///
    /// # Errors
    /// `Usage` when the request makes no sense, `Failed` when it was not done or nobody answers.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, answer) = match self {
            Client::Daemon(remote) => remote.send(method, path, body).await?,
            Client::Folder { router, .. } => send_here(router.clone(), method, path, body).await?,
        };
        if status.is_success() {
            return Ok(answer);
        }
        let message = answer.get("message").and_then(Value::as_str).map(str::to_owned);
        let message = message.unwrap_or_else(|| format!("answered {status}"));
        Err(match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Failure::Usage(message),
            _ => Failure::Failed(message),
        })
    }

    /// Lets go of the folder, if it was held.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self {
            Client::Daemon(_) => Ok(()),
            Client::Folder { router, log } => {
                drop(router);
                Ok(log.close().await?)
            }
        }
    }
}

impl Remote {
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |cause: reqwest::Error| match cause.is_connect() || cause.is_builder() {
            true => Failure::Failed(format!("no daemon answers at {}: is `aqueduct run` running?", self.url)),
            false => Failure::Failed(format!("the daemon at {} did not answer to the end: {}", self.url, root(&cause))),
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(failed)?;
        let answer = serde_json::from_slice(&bytes);
        Ok((
            status,
            answer.map_err(|_| Failure::Failed(format!("{} is no Aqueduct daemon: answered no JSON", self.url)))?,
        ))
    }
}

/// What was behind a failure.
fn root<'a>(failure: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    failure.source().map_or(failure, root)
}

async fn send_here(
    router: Router,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), Failure> {
    let told = |cause: &dyn std::fmt::Display| Failure::Failed(cause.to_string());
    let bytes = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(Body::from(bytes)).map_err(|cause| told(&cause))?;
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), LARGEST_ANSWER).await.map_err(|cause| told(&cause))?;
    Ok((status, serde_json::from_slice(&bytes).map_err(|cause| told(&cause))?))
}

/// A path of parts, with a query, escaped.
pub(crate) fn path(parts: &[&str], query: &[(&str, String)]) -> String {
    let mut path = String::new();
    for part in parts {
        path.push('/');
        escape(part, &mut path);
    }
    for (at, (name, value)) in query.iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        escape(value, &mut path);
    }
    path
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(char::from(byte)),
            byte => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| -> PathBuf { path.canonicalize().unwrap_or_else(|_| path.to_owned()) };
    real(one) == real(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_path_is_escaped() {
        let query = [("from", "2026-11-20T08:00:00+01:00".to_owned()), ("n", "5".to_owned())];
        assert_eq!(
            path(&["topics", "a/b?ü"], &query),
            "/topics/a%2Fb%3F%C3%BC?from=2026-11-20T08%3A00%3A00%2B01%3A00&n=5"
        );
        assert_eq!(path(&["status"], &[]), "/status");
    }
}
