//! Asks a schema registry: Confluent's API, version 1.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::{Error, Result, TransformOpening};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
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
    credentials: Credentials,
}

enum Credentials {
    None,
    Basic(String, String),
    Bearer(String),
}

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
        let credentials = match (&settings.username, &settings.password, &settings.token) {
            (Some(name), Some(password), _) => Credentials::Basic(name.clone(), password.reveal().to_owned()),
            (_, _, Some(token)) => Credentials::Bearer(token.reveal().to_owned()),
            _ => Credentials::None,
        };
        Ok(Registry { client, urls, answering: AtomicUsize::new(0), credentials })
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
        let mut request = self.client.request(method, url).header(ACCEPT, format!("{CONTENT}, application/json"));
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic(name, password) => request.basic_auth(name, Some(password)),
            Credentials::Bearer(token) => request.bearer_auth(token),
        };
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, CONTENT).body(body.to_string());
        }
        let answer = request.send().await.map_err(|cause| Error::retry(format!("{shown}: {}", told(&cause))))?;
        let (status, after) = (answer.status(), retry_after(&answer));
        let body = match limited(answer).await.map_err(|why| Error::retry(format!("{shown}: {status}: {why}")))? {
            Some(body) => body,
            None if status.is_success() => return Ok(Answer::TooLarge),
            None => Vec::new(),
        };
        understood(status, after, &body).map_err(|error| error.context(shown))
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
            Err(Error::fatal(format!("{told}: look at `registry.username`, `registry.password` or `registry.token`")))
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

/// A failure with all its causes.
fn told(error: &reqwest::Error) -> String {
    let mut text = match error {
        it if it.is_timeout() => "no answer in time".to_owned(),
        it if it.is_connect() => "no connection".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
