//! A cluster that answers as a test wants it.

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    headers: Vec<(String, String)>,
    /// Plain, also where it was compressed.
    pub(crate) body: String,
}

/// What is answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
    /// How long that takes.
    pub(crate) delay: Duration,
    /// What is done just before it.
    pub(crate) end: Option<Box<dyn FnOnce() + Send>>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Body>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO, end: None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The lines that say what to do.
    pub(crate) fn actions(&self) -> Vec<(String, Value)> {
        let mut actions = Vec::new();
        let mut lines = self.body.lines();
        while let Some(line) = lines.next() {
            let action: Value = serde_json::from_str(line).unwrap();
            let (kind, of) = action.as_object().unwrap().iter().next().unwrap();
            if kind != "delete" {
                lines.next().unwrap();
            }
            actions.push((kind.clone(), of.clone()));
        }
        actions
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.actions().iter().map(|(_, of)| of["_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The `n` of the first document.
    pub(crate) fn number(&self) -> i64 {
        let (_, rest) = self.body.split_once(r#""n":"#).unwrap();
        rest.split('}').next().unwrap().parse().unwrap()
    }

    /// An answer with an item for each action, by its place and kind.
    pub(crate) fn items(&self, item: impl Fn(usize, &str) -> Value) -> Reply {
        let items: Vec<Value> = self.actions().iter().enumerate().map(|(n, (kind, _))| item(n, kind)).collect();
        Reply::new(200, json!({ "errors": true, "items": items }).to_string())
    }

    /// An answer that says that all was taken.
    pub(crate) fn taken(&self) -> Reply {
        self.items(|_, kind| json!({ kind: { "status": 201 } }))
    }
}

/// The cluster.
pub(crate) struct Mock {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Mock {
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Mock {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (all, answer) = (seen.clone(), Arc::new(answer));
        let app = Router::new().fallback(move |request: Request| {
            let (all, answer) = (all.clone(), answer.clone());
            async move {
                let seen = read(request).await;
                all.lock().unwrap().push(seen.clone());
                let reply = answer(&seen);
                tokio::time::sleep(reply.delay).await;
                if let Some(end) = reply.end {
                    end();
                }
                let mut response = Response::builder().status(reply.status);
                for (name, value) in reply.headers {
                    response = response.header(name, value);
                }
                response.body(reply.body).unwrap()
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Mock { url, seen, task }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(request: Request) -> Seen {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let bytes = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let packed = headers.iter().any(|(name, value)| name == "content-encoding" && value == "gzip");
    let mut body = String::new();
    match packed {
        true => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut body).unwrap()),
        false => body = String::from_utf8(bytes.to_vec()).unwrap(),
    }
    Seen { headers, body }
}

/// Where every connection is answered with these bytes, whatever was asked, and ended.
pub(crate) async fn raw(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(text.as_bytes()).await;
        }
    });
    format!("http://{address}")
}
