//! Asks a schema registry: Confluent's API, version 1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::{Error, Result, TransformOpening};
use aqueduct_http_client::{Credentials, Token, told};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bounds::LARGEST_SCHEMA;
use crate::registry_settings::{RegistrySettings, address};

/// What the API's bodies are called.
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// What registries say when a subject, a version or a schema is not there; every other 404 is about the address.
const NOT_FOUND: [u64; 3] = [40401, 40402, 40403];

/// The most characters of a message of a registry that are shown.
const SHOWN: usize = 300;

/// A registry that can be asked.
pub(crate) struct Registry {
    client: Client,
    urls: Vec<Url>,
    /// Which of them answered last.
    answering: AtomicUsize,
    /// What all requests have.
    headers: HeaderMap,
    credentials: Credentials,
}

/// What Confluent Cloud wants to know beside a token: whose registry is meant, and on whose behalf.
const LOGICAL_CLUSTER: HeaderName = HeaderName::from_static("target-sr-cluster");
const IDENTITY_POOL: HeaderName = HeaderName::from_static("confluent-identity-pool-id");

/// A schema as a registry has it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Registered {
    pub(crate) schema: String,
    #[serde(rename = "schemaType")]
    pub(crate) kind: Option<String>,
    pub(crate) references: Option<Vec<Reference>>,
    pub(crate) id: Option<u32>,
}

/// What a schema refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) version: u32,
}

/// What a registry says to something that it understood.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Is(T),
    /// There is no such thing: in the registry's words.
    Not(String),
    /// It is more than anybody reads.
    TooLarge,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

impl Registry {
    /// A registry as the settings say, which were checked before.
    pub(crate) fn open(settings: &RegistrySettings, opening: &TransformOpening) -> Result<Registry> {
        let urls = settings.url.all().iter().map(|url| address(url)).collect::<Result<Vec<_>, String>>();
        let urls = urls.map_err(|why| Error::fatal(format!("setting registry.url: {why}")))?;
        let mut builder = Client::builder()
            .user_agent(concat!("aqueduct/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy();
        if let Some(timeout) = settings.timeout.duration() {
            builder = builder.timeout(timeout).connect_timeout(timeout.min(Duration::from_secs(5)));
        }
        if let Some(tls) = &settings.tls {
            builder = tls.certified(builder, &opening.folder, &opening.edge)?;
        }
        let client =
            builder.build().map_err(|cause| Error::fatal(format!("setting registry.tls: {}", told(&cause))))?;
        let credentials = credentials(settings, &client)?;
        Ok(Registry { client, urls, answering: AtomicUsize::new(0), headers: headers(settings)?, credentials })
    }

    /// The schema of an id.
    pub(crate) async fn schema(&self, id: u32) -> Result<Answer<Registered>> {
        self.ask(Method::GET, &["schemas", "ids", &id.to_string()], None).await
    }

    /// The schema of a subject's version; one that was deleted, too: others may still refer to it.
    pub(crate) async fn version(&self, subject: &str, version: u32) -> Result<Answer<Registered>> {
        self.ask(Method::GET, &["subjects", subject, "versions", &version.to_string()], None).await
    }

    /// The id of a schema in a subject, where it is made known if it is not yet.
    pub(crate) async fn register(&self, subject: &str, schema: &Value) -> Result<Answer<u32>> {
        let answer = self.ask::<Id>(Method::POST, &["subjects", subject, "versions"], Some(schema)).await?;
        Ok(answer.map(|Id { id }| id))
    }

    /// The id of a schema in a subject.
    pub(crate) async fn find(&self, subject: &str, schema: &Value) -> Result<Answer<u32>> {
        Ok(self.ask::<Id>(Method::POST, &["subjects", subject], Some(schema)).await?.map(|Id { id }| id))
    }

    /// Asks one registry after the other, until one answers.
    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Answer<T>> {
        let first = self.answering.load(Ordering::Relaxed);
        let mut failure = None;
        for turn in 0..self.urls.len() {
            let at = (first + turn) % self.urls.len();
            let mut url = self.urls[at].clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(path);
            }
            match self.ask_one(method.clone(), url, body).await {
                Err(error) if error.is_retry() => failure = Some(error),
                done => {
                    self.answering.store(at, Ordering::Relaxed);
                    return done;
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::fatal("setting registry.url: names no registry")))
    }

    /// Asks one registry; with a token that it does not take any more once again with another.
    async fn ask_one<T: DeserializeOwned>(
        &self,
        method: Method,
        mut url: Url,
        body: Option<&Value>,
    ) -> Result<Answer<T>> {
        let shown = format!("schema registry: {method} {url}");
        if method == Method::GET && url.path().contains("/versions/") {
            url.set_query(Some("deleted=true"));
        }
        let body = body.map(Value::to_string);
        let told = |error: Error| error.context(&shown);
        let (mut answer, token) = self.send(&method, &url, body.as_deref(), None).await.map_err(told)?;
        if let Some(refused) = token.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) {
            answer = self.send(&method, &url, body.as_deref(), Some(&refused)).await.map_err(told)?.0;
        }
        let (status, after) = (answer.status(), retry_after(&answer));
        let body = match limited(answer).await.map_err(|why| Error::retry(format!("{shown}: {status}: {why}")))? {
            Some(body) => body,
            None if status.is_success() => return Ok(Answer::TooLarge),
            None => Vec::new(),
        };
        understood(status, after, &body).map_err(told)
    }

    /// Sends one request; `refused` is a token that is not to be used again. Answers with the one that was used.
    async fn send(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&str>,
        refused: Option<&Arc<Token>>,
    ) -> Result<(Response, Option<Arc<Token>>)> {
        let mut request = self.client.request(method.clone(), url.clone()).headers(self.headers.clone());
        let mut used = None;
        if let Some((name, value, token)) = self.credentials.header(refused).await? {
            request = request.header(name, value);
            used = token;
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, CONTENT).body(body.to_owned());
        }
        let answer = request.send().await.map_err(|cause| Error::retry(told(&cause)))?;
        Ok((answer, used))
    }
}

impl<T> Answer<T> {
    fn map<U>(self, with: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Answer::Is(it) => Answer::Is(with(it)),
            Answer::Not(why) => Answer::Not(why),
            Answer::TooLarge => Answer::TooLarge,
        }
    }
}

fn credentials(settings: &RegistrySettings, client: &Client) -> Result<Credentials> {
    match (&settings.username, &settings.password, &settings.token, &settings.oauth2) {
        (Some(name), Some(password), ..) => Credentials::basic("registry.password", name, password),
        (_, _, Some(token), _) => Credentials::bearer("registry.token", token),
        (_, _, _, Some(oauth2)) => Ok(Credentials::oauth2("registry.oauth2", oauth2, client)),
        _ => Ok(Credentials::None),
    }
}

/// What all requests have.
fn headers(settings: &RegistrySettings) -> Result<HeaderMap> {
    let accept = HeaderValue::from_static("application/vnd.schemaregistry.v1+json, application/json");
    let mut headers = HeaderMap::from_iter([(ACCEPT, accept)]);
    for (name, value) in [(LOGICAL_CLUSTER, &settings.logical_cluster), (IDENTITY_POOL, &settings.identity_pool)] {
        let Some(value) = value else { continue };
        let value = HeaderValue::from_str(value);
        let value =
            value.map_err(|_| Error::fatal(format!("setting registry: no header {name} can hold its value")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// How a schema is sent to a registry.
pub(crate) fn body(kind: &str, schema: &str, references: &[Reference]) -> Value {
    let mut body = json!({ "schema": schema });
    // Registries of old know no other kind than this one, and no references.
    if kind != "AVRO" {
        body["schemaType"] = kind.into();
    }
    if !references.is_empty() {
        body["references"] = json!(references);
    }
    body
}

fn understood<T: DeserializeOwned>(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Result<Answer<T>> {
    if status.is_success() {
        // Whoever answers this is no registry, perhaps for a moment: a proxy that asks for a login.
        let read = serde_json::from_slice(body);
        return read
            .map(Answer::Is)
            .map_err(|cause| Error::retry(format!("{status}: no answer of a registry: {cause}")));
    }
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let message: String = match said["message"].as_str() {
        Some(message) => message.chars().take(SHOWN).collect(),
        None => String::from_utf8_lossy(body).chars().take(SHOWN).collect(),
    };
    let told = format!("{status}: {}", message.split_whitespace().collect::<Vec<_>>().join(" "));
    match status.as_u16() {
        404 if said["error_code"].as_u64().is_some_and(|code| NOT_FOUND.contains(&code)) => Ok(Answer::Not(told)),
        404 => Err(Error::fatal(format!("{told}: is this the address of a registry? look at `registry.url`"))),
        401 => {
            let settings = "`registry.username` and `password`, `registry.token` or `registry.oauth2`";
            Err(Error::fatal(format!("{told}: look at {settings}")))
        }
        403 | 407 => Err(Error::fatal(format!("{told}: whom `registry` names may not do this"))),
        409 => Err(Error::fatal(format!("{told}: the schema is not compatible with earlier ones of the subject"))),
        408 | 425 | 429 | 500..=599 => Err(match after {
            Some(after) => Error::retry_after(told, after),
            None => Error::retry(told),
        }),
        _ => Err(Error::fatal(told)),
    }
}

/// How long a registry wants to be left alone, where it says so in seconds.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

/// The body of an answer; `None` where it is too large.
async fn limited(mut answer: Response) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|cause| told(&cause))? {
        if body.len() + part.len() > LARGEST_SCHEMA {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}
