//! The settings of the sink.

use std::collections::BTreeMap;

use aqueduct_api::template::Template;
use aqueduct_api::{ByteSize, NamedBy, Problem, Result, Secret, Settings, Sink, SinkOpening, SinkSettings, Span};
use aqueduct_http_client::OAuth2;
use async_trait::async_trait;
use hyper::header::{HeaderName, HeaderValue};
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::sink::client::Client;
use crate::sink::plan::Plan;
use crate::sink::write::HttpSink;

/// Settings of the http sink. Delivery is at least once: after a crash, or when an answer is lost, a request is sent
/// again. Requests are cut from the log by fixed rules, so that it is the same request, with the same `Idempotency-Key`
/// (topic, partition, first offset, offset after the last, and the topic's id): a server that remembers keys, or stores
/// under them, has every record once, as long as it finds the same requests too large or not to its liking. A dead letter
/// that is replayed goes alone, under a key of its own (`letter-`, the id of the dead letters' topic, its offset there),
/// since servers may remember that they refused the first one; `url`, `headers` and `body` are filled in as then.
/// After `aqueduct sinks rewind` keys end in `-runN`, and where a chunk was given up (`aqueduct sinks unpin`) those of what
/// is cut anew end in `-cutN`: a server takes that as new, beside what the chunk that was given up had sent.
///
/// | answer | what happens |
/// |---|---|
/// | 2xx | delivered |
/// | 408, 425, 429, 5xx, none, one that is cut off | sent again later, after `Retry-After` (seconds or a date) where there is one |
/// | 413 | the request is halved, each half with a key of its own; a single record becomes a dead letter |
/// | 401 | OAuth2: once with a new token; then, and without OAuth2, the sink stops |
/// | 403, 407, 3xx | the sink stops |
/// | 404, 405, 410 | the sink stops where `url` is the same for all records, else as other 4xx |
/// | other 4xx | see `on-refusal` |
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpSinkSettings {
    /// Where requests go, a template: `https://collector:8443/in/{topic}?user={field:user.id}`. `{topic}`, `{partition}`,
    /// `{offset}`, `{key}`, `{header:name}`, `{field:a.b}` of a JSON value, `{timestamp:%Y-%m-%d}` (of the record, UTC);
    /// `{{` and `}}` stand for braces. What a record says is escaped and stays one part of the path or query; scheme and
    /// host are fixed. Records that follow each other and differ in it go in different requests.
    pub url: String,
    /// `post`, `put`, `patch` or `delete`. Default: post.
    #[serde(default)]
    pub method: Method,
    /// Headers of each request, templates as `url`. Records that differ in them go in different requests.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How records become a body: `record` (one request each, the value as it is), `json-array` (values are JSON),
    /// `json-lines` (the same, a line each), `lines` (the value and a newline), `firehose` (Amazon Data Firehose's
    /// protocol for HTTP endpoints). A record without a value, or without JSON where JSON is due, becomes a dead letter.
    /// Default: json-lines.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub format: Format,
    /// What each record becomes in the body in place of its value, a template as `url`, with `{value}` too. Where JSON is
    /// due all but `{value}` is escaped for a JSON string: `{{"topic":"{topic}","key":"{key}","it":{value}}}`.
    #[schemars(extend("x-shaping" = true))]
    pub body: Option<String>,
    /// The `Content-Type`. Default: that of the format.
    pub content_type: Option<String>,
    /// The most records of a request. Default: 500.
    #[serde(default = "request_records")]
    #[schemars(extend("x-shaping" = true))]
    pub request_records: u32,
    /// The most bytes of a request's body before compression; a larger record goes alone. Default: 1 MiB.
    #[serde(default = "request_bytes")]
    #[schemars(extend("x-shaping" = true))]
    pub request_bytes: ByteSize,
    /// `none`, `gzip` or `zstd`, as `Content-Encoding`. Default: none.
    #[serde(default)]
    pub compression: Compression,
    /// The header with the key that stays the same when a request is sent again. Default: Idempotency-Key.
    #[serde(default = "idempotency_header")]
    pub idempotency_header: String,
    /// How we prove who we are. Default: not at all.
    pub authentication: Option<Authentication>,
    /// `X-Amz-Firehose-Access-Key`, with `format: firehose`.
    pub access_key: Option<Secret>,
    /// `X-Amz-Firehose-Common-Attributes`, with `format: firehose`.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Certificates of ours and of whom we trust.
    pub tls: Option<ClientTls>,
    /// How many requests run at once. Default: 8.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// Whether a partition's requests go one after the other, in the order of its records. Default: true.
    #[serde(default = "ordered")]
    pub ordered: bool,
    /// How long a request may take, its answer included. Default: 30s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How long a connection may take. Default: 5s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// `never`, or `same-host`: answers 307 and 308 are followed on the same scheme, host and port. Default: never.
    #[serde(default)]
    pub redirects: Redirects,
    /// What happens when a server refuses a request (another 4xx): `halve` (halves are sent until it is known which
    /// records they are, which become dead letters), `reject` (all its records become dead letters), `stop` (the sink
    /// stops). Default: halve.
    #[serde(default)]
    pub on_refusal: OnRefusal,
}

/// The verb of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

/// How records become a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One request each.
    Record,
    /// `[…,…]`.
    JsonArray,
    /// A JSON value a line.
    #[default]
    JsonLines,
    /// The value and a newline.
    Lines,
    /// Amazon Data Firehose's protocol for HTTP endpoints.
    Firehose,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// `Content-Encoding: gzip`.
    Gzip,
    /// `Content-Encoding: zstd`.
    Zstd,
}

/// Whether redirects are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Redirects {
    /// A redirect stops the sink.
    #[default]
    Never,
    /// 307 and 308 are followed on the same scheme, host and port.
    SameHost,
}

/// What happens when a server refuses a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefusal {
    /// Halves are sent until it is known which records they are.
    #[default]
    Halve,
    /// All records of the request become dead letters.
    Reject,
    /// The sink stops.
    Stop,
}

/// How we prove who we are.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// `Authorization: Basic …`.
    Basic(Basic),
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// A header of any name.
    Header(SecretHeader),
    /// OAuth2 client credentials: a token is fetched, kept, and fetched anew before it expires or when it is refused.
    Oauth2(OAuth2),
}

/// A name and a password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Basic {
    /// Who we are.
    pub username: String,
    /// What proves it.
    pub password: Secret,
}

/// A header with a secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretHeader {
    /// Its name: `X-API-Key`.
    pub name: String,
    /// Its value.
    pub value: Secret,
}

/// Certificates of ours and of whom we trust; files of PEM, relative to the configuration's folder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClientTls {
    /// Whom we trust, in place of those whom the machine trusts.
    pub ca: Option<String>,
    /// Our own certificate, with those between it and its root.
    pub certificate: Option<String>,
    /// The certificate's key, unencrypted.
    pub key: Option<String>,
}

fn request_records() -> u32 {
    500
}

fn request_bytes() -> ByteSize {
    ByteSize::mib(1)
}

fn idempotency_header() -> String {
    "Idempotency-Key".to_owned()
}

fn concurrency() -> u32 {
    8
}

fn ordered() -> bool {
    true
}

fn timeout() -> Span {
    Span::millis(30_000)
}

fn connect_timeout() -> Span {
    Span::millis(5_000)
}

impl Settings for HttpSinkSettings {
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "delivers records to an HTTP server, at least once and under stable keys";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |setting: &str, wrong: Result<(), String>| {
            problems.extend(wrong.err().map(|why| Problem::new(setting, why)));
        };
        add("url", check_url(&self.url));
        for (name, value) in &self.headers {
            add(&format!("headers.{name}"), check_header(name, value).and_then(|()| self.check_is_free(name)));
        }
        add("idempotency-header", header_name(&self.idempotency_header));
        add("body", self.body.as_deref().map_or(Ok(()), |body| Template::parse(body).map(drop)));
        add("content-type", self.content_type.as_deref().map_or(Ok(()), header_value));
        add("request-records", within(self.request_records.into(), 1, 100_000));
        add("request-bytes", within(self.request_bytes.0, 1 << 10, 256 << 20));
        add("concurrency", within(self.concurrency.into(), 1, 1000));
        let span = |span: Span| span.duration().map_or(0, |it| it.as_millis() as u64);
        add("timeout", within(span(self.timeout), 1, 3_600_000).map_err(|_| "expected 1ms to 1h".to_owned()));
        add(
            "connect-timeout",
            within(span(self.connect_timeout), 1, 3_600_000).map_err(|_| "expected 1ms to 1h".into()),
        );
        add("authentication", self.check_authentication());
        add("tls", self.check_tls());
        let only = |is_set: bool| match is_set && self.format != Format::Firehose {
            true => Err("is for `format: firehose` alone".to_owned()),
            false => Ok(()),
        };
        add("access-key", only(self.access_key.is_some()));
        add("attributes", only(!self.attributes.is_empty()));
        problems
    }
}

impl HttpSinkSettings {
    /// Two headers of one name are read by some servers as the first and by others as the last.
    fn check_is_free(&self, name: &str) -> Result<(), String> {
        let of_authentication = match &self.authentication {
            None => "",
            Some(Authentication::Header(header)) => &header.name,
            Some(_) => "authorization",
        };
        for (taken, setting) in
            [(of_authentication, "authentication"), (&self.idempotency_header, "idempotency-header")]
        {
            if name.eq_ignore_ascii_case(taken) {
                return Err(format!("is set by `{setting}`: leave one out"));
            }
        }
        Ok(())
    }

    fn check_authentication(&self) -> Result<(), String> {
        match &self.authentication {
            Some(Authentication::Header(header)) => header_name(&header.name),
            Some(Authentication::Oauth2(oauth2)) => oauth2.check().map_err(|(_, why)| why),
            _ => Ok(()),
        }
    }

    fn check_tls(&self) -> Result<(), String> {
        match &self.tls {
            Some(ClientTls { certificate: Some(_), key: None, .. }) => {
                Err("`key` is missing beside `certificate`".into())
            }
            Some(ClientTls { certificate: None, key: Some(_), .. }) => {
                Err("`certificate` is missing beside `key`".into())
            }
            _ => Ok(()),
        }
    }
}

fn check_url(text: &str) -> Result<(), String> {
    let template = Template::parse(text)?;
    if template.has_value() {
        return Err("a whole value is no part of an address, a field may be: `{field:a.b}`".to_owned());
    }
    let prefix = template.prefix();
    let expected = "expected for example `https://collector:8443/in/{topic}`";
    let Some((scheme @ ("http" | "https"), rest)) = prefix.split_once("://") else {
        return Err(format!("`{text}` is no address, {expected}"));
    };
    let is_whole = rest.contains(['/', '?']) || template.is_text();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !is_whole || host.is_empty() {
        return Err(format!("scheme and host are the same for all records: {expected}"));
    }
    if host.contains('@') {
        return Err("credentials have their own setting: `authentication: {basic: …}`".to_owned());
    }
    if text.contains('#') {
        return Err("what follows `#` is never sent".to_owned());
    }
    Url::parse(&format!("{scheme}://{host}")).map(drop).map_err(|cause| format!("`{text}` is no address: {cause}"))
}

/// Headers that the sink or HTTP itself sets.
const OURS: [&str; 6] =
    ["content-length", "content-encoding", "transfer-encoding", "connection", "host", "content-type"];

fn check_header(name: &str, value: &str) -> Result<(), String> {
    header_name(name)?;
    if OURS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err("is set by the sink; `content-type` and `compression` are settings of their own".to_owned());
    }
    if Template::parse(value)?.has_value() {
        return Err("a whole value is no header, a field may be: `{field:a.b}`".to_owned());
    }
    Ok(())
}

fn header_name(name: &str) -> Result<(), String> {
    name.parse::<HeaderName>().map(drop).map_err(|_| format!("`{name}` is no name of a header"))
}

fn header_value(value: &str) -> Result<(), String> {
    HeaderValue::from_str(value).map(drop).map_err(|_| format!("`{value}` is no value of a header"))
}

fn within(value: u64, least: u64, most: u64) -> Result<(), String> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(format!("{value} is out of range, expected {least} to {most}")),
    }
}

#[async_trait]
impl SinkSettings for HttpSinkSettings {
    const NAMED_BY: NamedBy = NamedBy::Record;

    async fn open(self, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        let client = Client::new(&self, &opening).await?;
        Ok(Box::new(HttpSink::new(&self, Plan::new(&self)?, client)))
    }

    async fn probe(&self, opening: SinkOpening) -> Result<Vec<String>> {
        Client::new(self, &opening).await?.probe().await
    }

    fn destination(&self, _: &SinkOpening) -> Option<String> {
        // A key names topic and offsets: two sinks of the same records send the same under one.
        None
    }
}
