//! The settings of the source.

use std::net::{IpAddr, SocketAddr};

use aqueduct_api::{ByteSize, Problem, Result, Secret, Settings, Source, SourceOpening, SourceSettings, Span};
use aqueduct_tls::ServerTls;
use async_trait::async_trait;
use hyper::header::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::read::HttpSource;
use crate::source::refusal::topic_name;

/// Settings of the http source. A request is answered with 200 when all its records are durable, with where they are:
/// `{"records": 2, "offsets": [{"topic": "orders", "partition": 0, "offset": 17, "records": 2}]}`. Any other answer means
/// that the client has to send them again; some may be there already then (at least once).
///
/// | answer | means |
/// |---|---|
/// | 400 | the body makes no sense; the message says where |
/// | 401, 403 | no token, or one without the right to this path or topic; a browser's request from a page |
/// | 404, 405, 415 | no such path, method, content type or encoding |
/// | 408 | the body took too long |
/// | 413 | body, inflated body or a record is too large |
/// | 429 | too many requests at once, or the log is full or slow; nothing was taken, `Retry-After` says when to come again |
/// | 503 | not durable in time, or stopping: some records may be there |
///
/// Errors are `{"error_code": 400, "message": "…"}`, Firehose's in its own form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpSourceSettings {
    /// Where to listen: `127.0.0.1:8088`.
    pub listen: String,
    /// Who may send: `none` (everybody who reaches the address) or `{tokens: […]}`. Must be said where `listen` is not a
    /// loopback address. Default: none.
    pub authentication: Option<Authentication>,
    /// Paths that take records. Default: `/`, for everything that `format: auto` knows.
    #[serde(default = "paths")]
    pub paths: Vec<PathSettings>,
    /// Topics that Kafka REST requests (`POST /topics/{topic}`, `/topics/{topic}/partitions/{partition}`,
    /// `/v3/clusters/{cluster}/topics/{topic}/records` and `records:batch`) may go to: names, `*` stands for any
    /// characters. None: these paths are not there.
    #[serde(default)]
    pub topics: Vec<String>,
    /// What Kafka REST clients are told that the cluster is called. Default: aqueduct.
    #[serde(default = "cluster")]
    pub cluster: String,
    /// Answers `GET` with 200 while the source runs, without a token. Default: /health.
    #[serde(default = "health")]
    pub health: String,
    /// Serves HTTPS.
    pub tls: Option<ServerTls>,
    /// The largest body, as sent. Default: 8 MiB.
    #[serde(default = "body")]
    pub largest_body: ByteSize,
    /// The largest body after `Content-Encoding: gzip` or `zstd` is undone. Default: 32 MiB.
    #[serde(default = "inflated")]
    pub largest_inflated: ByteSize,
    /// How many bytes of all requests together are held until they are durable; more are answered with 429.
    /// Default: 128 MiB.
    #[serde(default = "held")]
    pub held: ByteSize,
    /// How many connections are open at once; more wait to be accepted. Default: 1024.
    #[serde(default = "connections")]
    pub connections: u32,
    /// How many requests are under way at once; more are answered with 429. Default: 1024.
    #[serde(default = "connections")]
    pub requests: u32,
    /// How long records may wait for the log to take them; when some have waited longer, new requests are answered with
    /// 429. Default: 5s.
    #[serde(default = "queue_wait")]
    pub queue_wait: Span,
    /// How long a request waits until its records are durable. Default: 30s.
    #[serde(default = "answer_timeout")]
    pub answer_timeout: Span,
    /// How long a client may take for a request's headers, read nothing of an answer, and leave a connection idle.
    /// Default: 30s.
    #[serde(default = "answer_timeout")]
    pub header_timeout: Span,
    /// How long a client may take for a request's body, or for each record of a request to
    /// `/v3/clusters/{cluster}/topics/{topic}/records` that stays open. Default: 30s.
    #[serde(default = "answer_timeout")]
    pub body_timeout: Span,
}

/// Who may send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// Everybody who reaches the address.
    None,
    /// Who has one of these: as `Authorization: Bearer …`, as the password of `Authorization: Basic …` with the token's
    /// name, as `X-API-Key`, or as `X-Amz-Firehose-Access-Key`.
    Tokens(Vec<Token>),
}

/// A token and its rights.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// The token, at least 16 characters.
    pub token: Secret,
    /// Paths that it may be used on; `*` stands for any characters. Default: all.
    #[serde(default = "everything")]
    pub paths: Vec<String>,
    /// Topics that it may send to, where a request or a path names one. Default: all.
    #[serde(default = "everything")]
    pub topics: Vec<String>,
}

/// A path that takes records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PathSettings {
    /// The path, exactly: `/events`.
    pub path: String,
    /// What bodies hold: `record` (one record), `json` (a JSON value, or an array of them, a record each), `json-lines`,
    /// `lines`, `firehose`, or `auto`: by content type `application/octet-stream` (or none), `application/json`,
    /// `application/x-ndjson`, `text/plain`, and Firehose's protocol by its headers. Default: auto.
    #[serde(default)]
    pub format: Format,
    /// The topic, which must be one that may be made or exists. Default: the source's.
    pub topic: Option<String>,
    /// The header of a request that has its records' key.
    pub key_header: Option<String>,
    /// Headers of a request that its records get.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// What bodies hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// What the content type says.
    #[default]
    Auto,
    /// One record.
    Record,
    /// A JSON value or an array of them.
    Json,
    /// A JSON value a line.
    JsonLines,
    /// A record a line.
    Lines,
    /// Amazon Data Firehose's protocol for HTTP endpoints.
    Firehose,
}

fn paths() -> Vec<PathSettings> {
    vec![PathSettings {
        path: "/".to_owned(),
        format: Format::Auto,
        topic: None,
        key_header: None,
        headers: Vec::new(),
    }]
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn cluster() -> String {
    "aqueduct".to_owned()
}

fn health() -> String {
    "/health".to_owned()
}

fn body() -> ByteSize {
    ByteSize::mib(8)
}

fn inflated() -> ByteSize {
    ByteSize::mib(32)
}

fn held() -> ByteSize {
    ByteSize::mib(128)
}

fn connections() -> u32 {
    1024
}

fn queue_wait() -> Span {
    Span::millis(5_000)
}

fn answer_timeout() -> Span {
    Span::millis(30_000)
}

/// The shortest token.
const SHORTEST_TOKEN: usize = 16;

impl Settings for HttpSourceSettings {
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "takes records from HTTP clients and answers when they are durable";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.address() {
            Ok(address) if !address.ip().is_loopback() && self.authentication.is_none() => {
                let message = "is missing: others reach this address, so give `{tokens: […]}`, or say `none`";
                problems.push(Problem::new("authentication", message));
            }
            Ok(_) => {}
            Err(why) => problems.push(Problem::new("listen", why)),
        }
        if let Some(Authentication::Tokens(tokens)) = &self.authentication {
            token_problems(tokens, &mut problems);
        }
        self.path_problems(&mut problems);
        for (name, value, least) in [
            ("largest-body", self.largest_body.0, 1),
            ("largest-inflated", self.largest_inflated.0, self.largest_body.0),
            ("held", self.held.0, self.largest_inflated.0 + self.largest_body.0),
            ("connections", self.connections.into(), 1),
            ("requests", self.requests.into(), 1),
        ] {
            if value < least {
                problems.push(Problem::new(name, format!("{value} is too small, expected at least {least}")));
            }
        }
        let spans = [
            ("queue-wait", self.queue_wait),
            ("answer-timeout", self.answer_timeout),
            ("header-timeout", self.header_timeout),
            ("body-timeout", self.body_timeout),
        ];
        for (name, span) in spans {
            if span.duration().is_none_or(|it| it.is_zero()) {
                problems.push(Problem::new(name, "must end some time, expected for example `30s`"));
            }
        }
        problems
    }
}

fn token_problems(tokens: &[Token], problems: &mut Vec<Problem>) {
    if tokens.is_empty() {
        problems.push(Problem::new("authentication.tokens", "nobody could send: give a token, or say `none`"));
    }
    for (index, token) in tokens.iter().enumerate() {
        if token.token.reveal().len() < SHORTEST_TOKEN {
            let message = format!("is shorter than {SHORTEST_TOKEN} characters, so it could be guessed");
            problems.push(Problem::new(format!("authentication.tokens[{index}].token"), message));
        }
        if token.name.is_empty() || tokens[..index].iter().any(|other| other.name == token.name) {
            let message = format!("`{}` is empty or the name of another token", token.name);
            problems.push(Problem::new(format!("authentication.tokens[{index}].name"), message));
        }
    }
}

impl HttpSourceSettings {
    /// Where to listen.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let wrong = || format!("`{}` is no address to listen on, expected for example `127.0.0.1:8088`", self.listen);
        let local = self.listen.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        match local {
            Some(port) => Ok(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)),
            None => self.listen.parse().map_err(|_| wrong()),
        }
    }

    fn path_problems(&self, problems: &mut Vec<Problem>) {
        let is_path = |path: &str| path.starts_with('/') && !path.contains(['?', '#', '%', ' ', '{']);
        if !is_path(&self.health) {
            problems
                .push(Problem::new("health", format!("`{}` is no path, expected for example `/health`", self.health)));
        }
        if self.paths.is_empty() && self.topics.is_empty() {
            problems.push(Problem::new("paths", "nothing could be sent: give a path here, or a topic in `topics`"));
        }
        for (index, path) in self.paths.iter().enumerate() {
            let mut add = |field: &str, message: String| {
                problems.push(Problem::new(format!("paths[{index}].{field}"), message));
            };
            if !is_path(&path.path) {
                add("path", format!("`{}` is no path, expected for example `/events`", path.path));
            }
            if self.paths[..index].iter().any(|other| other.path == path.path) || path.path == self.health {
                add("path", format!("`{}` is there twice", path.path));
            }
            if let Some(Err(why)) = path.topic.as_deref().map(topic_name) {
                add("topic", why);
            }
            for name in path.headers.iter().chain(&path.key_header) {
                if name.parse::<HeaderName>().is_err() {
                    add("headers", format!("`{name}` is no name of a header"));
                }
            }
        }
    }
}

#[async_trait]
impl SourceSettings for HttpSourceSettings {
    async fn open(self, opening: SourceOpening) -> Result<Box<dyn Source>> {
        Ok(Box::new(HttpSource::open(self, opening).await?))
    }

    async fn probe(&self, opening: SourceOpening) -> Result<Vec<String>> {
        crate::source::listen::probe(self, &opening).await
    }
}
