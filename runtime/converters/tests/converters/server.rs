//! A schema registry to Confluent's API, which does wrong on request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What the next request meets in place of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status with headers and a body.
    Status(u16, &'static [(&'static str, &'static str)], String),
    /// Nothing, for longer than anybody waits.
    Silence,
    /// The answer, after it was done: only the answer is lost.
    LostAnswer,
}

#[derive(Default)]
struct Kept {
    /// By id, from 1.
    schemas: Vec<Value>,
    /// Ids of versions, from 1.
    subjects: BTreeMap<String, Vec<usize>>,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
    authorization: Option<String>,
    /// What Confluent Cloud is told, by the last request.
    cloud: [Option<String>; 2],
    /// Requests for a token: who asked, and the form.
    token_requests: Vec<(String, String)>,
    /// What the next ones are answered with in place of a token.
    token_faults: VecDeque<u16>,
}

/// A registry that runs.
#[derive(Clone)]
pub(crate) struct Server {
    kept: Arc<Mutex<Kept>>,
    pub(crate) url: String,
}

impl Server {
    pub(crate) async fn start() -> Server {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(kept.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Server { kept, url }
    }

    /// The id of a schema in a subject.
    pub(crate) fn add(&self, subject: &str, kind: &str, schema: &str, references: Value) -> u32 {
        let mut schema = json!({"schema": schema, "schemaType": kind, "references": references});
        if kind == "AVRO" {
            schema.as_object_mut().unwrap().remove("schemaType");
        }
        self.kept.lock().unwrap().register(subject, schema) as u32
    }

    /// The next requests fail, one after the other.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.kept.lock().unwrap().faults.extend(faults);
    }

    /// Only who shows this is let in.
    pub(crate) fn demand(&self, authorization: &str) {
        self.kept.lock().unwrap().authorization = Some(authorization.to_owned());
    }

    /// Where it gives out tokens: `t1`, `t2`, ….
    pub(crate) fn token_url(&self) -> String {
        self.url.replace("/apis/ccompat/v7", "/token")
    }

    /// The next requests for a token fail, one after the other.
    pub(crate) fn fail_tokens(&self, statuses: impl IntoIterator<Item = u16>) {
        self.kept.lock().unwrap().token_faults.extend(statuses);
    }

    /// `Authorization` and form of each request for a token, since the last call.
    pub(crate) fn token_requests(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.kept.lock().unwrap().token_requests)
    }

    /// The logical cluster and the identity pool that the last request named.
    pub(crate) fn cloud(&self) -> [Option<String>; 2] {
        self.kept.lock().unwrap().cloud.clone()
    }

    /// `GET /schemas/ids/1`, …, since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.kept.lock().unwrap().requests)
    }

    /// How many versions a subject has.
    pub(crate) fn versions(&self, subject: &str) -> usize {
        self.kept.lock().unwrap().subjects.get(subject).map_or(0, Vec::len)
    }
}

impl Kept {
    fn register(&mut self, subject: &str, schema: Value) -> usize {
        let id = self.schemas.iter().position(|known| *known == schema).unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        }) + 1;
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&id) {
            versions.push(id);
        }
        id
    }

    fn answer(&mut self, method: &Method, path: &[&str], body: &[u8]) -> Result<Value, (u16, u64)> {
        let schema = || {
            let mut schema: Value = serde_json::from_slice(body).unwrap();
            if schema.get("references").is_none() {
                schema["references"] = json!([]);
            }
            schema
        };
        match (method.as_str(), path) {
            ("GET", ["schemas", "ids", id]) => {
                let id: usize = id.parse().unwrap();
                self.schemas.get(id.wrapping_sub(1)).cloned().ok_or((404, 40403))
            }
            ("GET", ["subjects", subject, "versions", version]) => {
                let versions = self.subjects.get(*subject).ok_or((404, 40401))?;
                let version: usize = version.parse().unwrap();
                let id = *versions.get(version.wrapping_sub(1)).ok_or((404, 40402))?;
                let mut found = self.schemas[id - 1].clone();
                found["id"] = json!(id);
                found["version"] = json!(version);
                Ok(found)
            }
            ("POST", ["subjects", subject, "versions"]) => Ok(json!({"id": self.register(subject, schema())})),
            ("POST", ["subjects", subject]) => {
                let wanted = schema();
                let versions = self.subjects.get(*subject).ok_or((404, 40401))?;
                let id = versions.iter().find(|id| self.schemas[**id - 1] == wanted).ok_or((404, 40403))?;
                Ok(json!({"id": id, "subject": subject}))
            }
            _ => Err((404, 404)),
        }
    }
}

async fn answer(
    State(kept): State<Arc<Mutex<Kept>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
    if uri.path() == "/token" {
        let mut kept = kept.lock().unwrap();
        let form = String::from_utf8(body.to_vec()).unwrap();
        kept.token_requests.push((header("authorization").unwrap_or_default(), form));
        return match kept.token_faults.pop_front() {
            Some(status) => (StatusCode::from_u16(status).unwrap(), "no token").into_response(),
            None => {
                let number = kept.token_requests.len();
                axum::Json(json!({"access_token": format!("t{number}"), "expires_in": 3600})).into_response()
            }
        };
    }
    let path = uri.path().strip_prefix("/apis/ccompat/v7/").unwrap_or("").replace("%20", " ");
    let path: Vec<&str> = path.split('/').collect();
    let (fault, answer) = {
        let mut kept = kept.lock().unwrap();
        kept.requests.push(format!("{method} /{}", path.join("/")));
        kept.cloud = [header("target-sr-cluster"), header("confluent-identity-pool-id")];
        let shown = header("authorization");
        if kept.authorization.is_some() && kept.authorization != shown {
            return (StatusCode::UNAUTHORIZED, r#"{"error_code":401,"message":"Unauthorized"}"#).into_response();
        }
        let fault = kept.faults.pop_front();
        let done = matches!(fault, None | Some(Fault::LostAnswer));
        (fault, done.then(|| kept.answer(&method, &path, &body)))
    };
    match (fault, answer) {
        (Some(Fault::Status(status, headers, body)), _) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }
        (Some(Fault::Silence), _) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
        (Some(Fault::LostAnswer), _) => {
            // A body that breaks off.
            let broken = futures::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("lost"))]);
            axum::body::Body::from_stream(broken).into_response()
        }
        (None, Some(Ok(answer))) => axum::Json(answer).into_response(),
        (None, Some(Err((status, code)))) => {
            let body = axum::Json(json!({"error_code": code, "message": "not here"}));
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        (None, None) => StatusCode::OK.into_response(),
    }
}
