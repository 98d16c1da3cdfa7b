//! Sends one request and says what became of it.

use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Chunk, Edge, Error, Result, SinkOpening};
use aqueduct_http_client::{Credentials, Token, limited, told};
use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;

use crate::firehose;
use crate::sink::answer::{Verdict, of_firehose, of_status};
use crate::sink::frame;
use crate::sink::request::Request;
use crate::sink::settings::{Authentication, ClientTls, Compression, Format, HttpSinkSettings, Method, Redirects};
use crate::sink::target::Templates;

/// The most bytes of an answer that are read.
const LARGEST_ANSWER: usize = 256 << 10;
/// The most redirects of one request.
const MOST_REDIRECTS: usize = 5;

/// Sends requests.
pub(crate) struct Client {
    http: reqwest::Client,
    edge: Edge,
    credentials: Credentials,
    method: reqwest::Method,
    format: Format,
    compression: Compression,
    /// What all requests have.
    headers: HeaderMap,
    idempotency: HeaderName,
    has_one_url: bool,
    /// Scheme, host and port, to be tried before running.
    origin: Option<reqwest::Url>,
}

impl Client {
    /// A client as the settings say, which were checked before.
    pub(crate) async fn new(settings: &HttpSinkSettings, opening: &SinkOpening) -> Result<Self> {
        let http = http_client(settings, opening).await?;
        let templates = Templates::new(settings)?;
        let name = settings.idempotency_header.parse();
        Ok(Client {
            credentials: credentials(settings.authentication.as_ref(), &http)?,
            http,
            edge: opening.edge.clone(),
            method: match settings.method {
                Method::Post => reqwest::Method::POST,
                Method::Put => reqwest::Method::PUT,
                Method::Patch => reqwest::Method::PATCH,
                Method::Delete => reqwest::Method::DELETE,
            },
            format: settings.format,
            compression: settings.compression,
            headers: headers(settings, &opening.name)?,
            idempotency: name.map_err(|_| Error::fatal("setting idempotency-header: no name of a header"))?,
            has_one_url: templates.has_one_url(),
            origin: origin(&settings.url),
        })
    }

    /// Sends a request; under OAuth2 once more with a new token where the server does not take the first.
    pub(crate) async fn send(&self, chunk: &Chunk, request: &Request) -> Result<Verdict> {
        let mut key = frame::key(chunk, request);
        if mutated(Mutant::KeyByAttempt) {
            key = format!("{key}-{}", self.edge.random());
        }
        let id = frame::uuid(&key);
        let mut headers = self.headers.clone();
        headers.extend(request.target.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let told = |_| Error::fatal(format!("setting idempotency-header: no header can hold {key:?}"));
        headers.insert(&self.idempotency, HeaderValue::from_str(&key).map_err(told)?);
        if self.format == Format::Firehose {
            let id = HeaderValue::from_str(&id);
            headers.insert(firehose::REQUEST_ID, id.map_err(|_| Error::fatal("a request's id is no header"))?);
        }
        let body = self.body(request, &id).await?;
        let (verdict, token) = self.attempt(request, &headers, &body, &id, None).await?;
        let verdict = match (verdict, token) {
            (Verdict::Unauthorized(_), Some(refused)) => {
                self.attempt(request, &headers, &body, &id, Some(&refused)).await?.0
            }
            (verdict, _) => verdict,
        };
        Ok(match verdict {
            Verdict::Unauthorized(said) => Verdict::Never(format!("{said}: look at `authentication`")),
            verdict => verdict,
        })
    }

    async fn body(&self, request: &Request, id: &str) -> Result<Bytes> {
        let body = frame::body(self.format, request, id);
        let compression = self.compression;
        match compression {
            Compression::None => Ok(body),
            _ => self.edge.blocking(move || frame::compress(compression, &body)).await?,
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        headers: &HeaderMap,
        body: &Bytes,
        id: &str,
        refused: Option<&Arc<Token>>,
    ) -> Result<(Verdict, Option<Arc<Token>>)> {
        let mut builder = self.http.request(self.method.clone(), request.target.url.clone());
        builder = builder.headers(headers.clone()).body(body.clone());
        let mut used = None;
        if let Some((name, value, token)) = self.credentials.header(refused).await? {
            builder = builder.header(name, value);
            used = token;
        }
        let answer = match builder.send().await {
            Ok(answer) => answer,
            Err(cause) => return Ok((Verdict::Later(told(&cause), None), used)),
        };
        let (status, said) = (answer.status(), answer.headers().clone());
        let body = match limited(answer, LARGEST_ANSWER).await {
            Ok(body) => body,
            // What else the server wanted to say is not known: the same key comes again.
            Err(why) => return Ok((Verdict::Later(format!("the answer {status} was cut off: {why}"), None), used)),
        };
        let verdict = of_status(status, &said, &body, self.has_one_url, self.edge.now());
        Ok(match verdict {
            Verdict::Taken if self.format == Format::Firehose => (of_firehose(&body, id), used),
            verdict => (verdict, used),
        })
    }

    /// Looks whether the server is there and credentials can be had; no record is sent.
    pub(crate) async fn probe(&self) -> Result<Vec<String>> {
        self.credentials.header(None).await?;
        let Some(origin) = self.origin.clone() else { return Ok(Vec::new()) };
        let answer = self.http.head(origin.clone()).send().await;
        answer.map(|_| Vec::new()).map_err(|cause| Error::retry(format!("{origin}: {}", told(&cause))))
    }
}

fn credentials(authentication: Option<&Authentication>, http: &reqwest::Client) -> Result<Credentials> {
    match authentication {
        None => Ok(Credentials::None),
        Some(Authentication::Basic(basic)) => {
            Credentials::basic("authentication.basic", &basic.username, &basic.password)
        }
        Some(Authentication::Bearer(token)) => Credentials::bearer("authentication.bearer", token),
        Some(Authentication::Header(header)) => {
            let name = header.name.parse();
            let name = name.map_err(|_| Error::fatal("setting authentication.header: no name of a header"))?;
            Credentials::fixed("authentication.header", name, header.value.reveal())
        }
        Some(Authentication::Oauth2(settings)) => Ok(Credentials::oauth2("authentication.oauth2", settings, http)),
    }
}

/// Scheme, host and port of a template.
fn origin(url: &str) -> Option<reqwest::Url> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '{']).next()?;
    reqwest::Url::parse(&format!("{scheme}://{host}/")).ok()
}

async fn http_client(settings: &HttpSinkSettings, opening: &SinkOpening) -> Result<reqwest::Client> {
    let wrong = |setting: &str, cause: reqwest::Error| Error::fatal(format!("setting {setting}: {}", told(&cause)));
    let policy = match settings.redirects {
        Redirects::Never => redirect::Policy::none(),
        Redirects::SameHost => redirect::Policy::custom(same_host),
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("aqueduct/", env!("CARGO_PKG_VERSION")))
        .redirect(policy)
        .no_proxy()
        .pool_max_idle_per_host(settings.concurrency as usize);
    if let Some(timeout) = settings.timeout.duration() {
        builder = builder.timeout(timeout);
    }
    if let Some(timeout) = settings.connect_timeout.duration() {
        builder = builder.connect_timeout(timeout);
    }
    let ClientTls { ca, certificate, key } = settings.tls.clone().unwrap_or_default();
    if let Some(ca) = ca {
        let pem = aqueduct_tls::read(&opening.edge, &opening.folder, &ca, "tls.ca").await?;
        let trusted = reqwest::Certificate::from_pem_bundle(&pem).map_err(|cause| wrong("tls.ca", cause))?;
        if trusted.is_empty() {
            return Err(Error::fatal(format!("setting tls.ca: {ca} holds no certificate")));
        }
        builder = builder.tls_certs_only(trusted);
    }
    if let (Some(certificate), Some(key)) = (certificate, key) {
        let mut pem = aqueduct_tls::read(&opening.edge, &opening.folder, &certificate, "tls.certificate").await?;
        pem.push(b'\n');
        pem.extend(aqueduct_tls::read(&opening.edge, &opening.folder, &key, "tls.key").await?);
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|cause| wrong("tls.certificate", cause))?);
    }
    builder.build().map_err(|cause| wrong("tls", cause))
}

/// Follows where method and body stay and the server stays the same.
fn same_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let origin =
        |url: &reqwest::Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    let is_same = attempt.previous().first().is_some_and(|first| origin(first) == origin(attempt.url()));
    let keeps_body = matches!(attempt.status().as_u16(), 307 | 308);
    match is_same && keeps_body && attempt.previous().len() <= MOST_REDIRECTS {
        true => attempt.follow(),
        false => attempt.stop(),
    }
}

/// What all requests have.
fn headers(settings: &HttpSinkSettings, name: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let content_type = settings.content_type.as_deref().unwrap_or(match settings.format {
        Format::Record => "application/octet-stream",
        Format::JsonArray | Format::Firehose => "application/json",
        Format::JsonLines => "application/x-ndjson",
        Format::Lines => "text/plain",
    });
    let value = |setting: &str, text: &str| {
        HeaderValue::from_str(text).map_err(|_| Error::fatal(format!("setting {setting}: no header can hold it")))
    };
    headers.insert(CONTENT_TYPE, value("content-type", content_type)?);
    let encoding = match settings.compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    };
    encoding.map(|encoding| headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding)));
    if settings.format == Format::Firehose {
        headers.insert(firehose::PROTOCOL_VERSION, HeaderValue::from_static("1.0"));
        headers.insert(firehose::SOURCE_ARN, value("name", &format!("arn:aqueduct:sink/{name}"))?);
        if let Some(key) = &settings.access_key {
            let mut key = value("access-key", key.reveal())?;
            key.set_sensitive(true);
            headers.insert(firehose::ACCESS_KEY, key);
        }
        if !settings.attributes.is_empty() {
            let attributes = firehose::CommonAttributes { common_attributes: settings.attributes.clone() };
            let attributes = serde_json::to_string(&attributes).map_err(|cause| Error::fatal(cause.to_string()))?;
            headers.insert(firehose::COMMON_ATTRIBUTES, value("attributes", &attributes)?);
        }
    }
    Ok(headers)
}
