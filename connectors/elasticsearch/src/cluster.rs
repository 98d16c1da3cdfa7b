//! The nodes of a cluster, and how a request reaches one that is there.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result};
use bytes::Bytes;
use elasticsearch::http::headers::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::access::Access;
use crate::tls::Tls;

/// How a request travels to one node.
enum Way {
    /// By the client's own transport.
    Transport(Transport),
    /// By a client of ours, where certificates are given: the transport can be told of none without a second crypto library.
    Certified(reqwest::Client),
}

struct Node {
    url: Url,
    way: Way,
    /// It did not answer: others are asked first until then.
    away: Mutex<Option<Instant>>,
}

/// The nodes of a cluster.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    next: AtomicUsize,
    access: Access,
    gzip: bool,
    timeout: Duration,
    edge: Edge,
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How long the other side asked to be left alone.
    pub(crate) after: Option<Duration>,
    pub(crate) body: Bytes,
    /// Whether the request may have been carried out before, by a node that did not answer.
    pub(crate) resent: bool,
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    Lines,
}

/// For how long others are asked first after a node did not answer.
const AWAY: Duration = Duration::from_secs(10);
/// More than any answer to what we ask.
const LARGEST_ANSWER: u64 = 256 << 20;

impl Cluster {
    pub(crate) fn new(
        urls: Vec<Url>,
        access: Access,
        tls: Option<&Tls>,
        gzip: bool,
        timeout: Duration,
        edge: Edge,
    ) -> Result<Self> {
        let certified = tls.map(Tls::client).transpose()?;
        let mut nodes = Vec::new();
        for url in urls {
            let way = match &certified {
                Some(client) => Way::Certified(client.clone()),
                None => Way::Transport(transport(&url)?),
            };
            nodes.push(Node { url, way, away: Mutex::new(None) });
        }
        // Daemons and sinks that start together do not all begin with the same node.
        let next = AtomicUsize::new((edge.random() % 1024) as usize);
        Ok(Cluster { nodes, next, access, gzip, timeout, edge })
    }

    /// Asks the nodes in turn until one answers.
    ///
    /// # Errors
    /// `Retry` when none does.
    pub(crate) async fn send(&self, method: Method, path: &str, content: Content, body: Bytes) -> Result<Answer> {
        let (body, gzip) = self.packed(body).await?;
        let mut resent = false;
        let mut last = Error::retry("no node");
        for node in self.in_turn() {
            match tokio::time::timeout(self.timeout, self.ask(node, method, path, content, gzip, body.clone())).await {
                Ok(Ok(answer)) => {
                    *node.away.lock() = matches!(answer.status, 502..=504).then(|| Instant::now() + AWAY);
                    return Ok(Answer { resent, ..answer });
                }
                Ok(Err(error)) if !error.is_retry() => return Err(error),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::retry(format!("{} did not answer within {:?}", shown(&node.url), self.timeout)),
            }
            *node.away.lock() = Some(Instant::now() + AWAY);
            resent = true;
        }
        Err(last)
    }

    /// All nodes, each first once in a while, those that did not answer lately last.
    fn in_turn(&self) -> Vec<&Node> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len();
        let mut nodes: Vec<&Node> = self.nodes[first..].iter().chain(&self.nodes[..first]).collect();
        let now = Instant::now();
        nodes.sort_by_key(|node| node.away.lock().is_some_and(|until| until > now));
        nodes
    }

    async fn packed(&self, body: Bytes) -> Result<(Bytes, bool)> {
        if !self.gzip || body.len() < 512 {
            return Ok((body, false));
        }
        let pack = move || {
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
            encoder.write_all(&body)?;
            encoder.finish()
        };
        let packed = self.edge.blocking(pack).await?.map_err(|cause| Error::retry(format!("gzip: {cause}")))?;
        Ok((packed.into(), true))
    }

    async fn ask(
        &self,
        node: &Node,
        method: Method,
        path: &str,
        content: Content,
        gzip: bool,
        body: Bytes,
    ) -> Result<Answer> {
        let url = node.url.join(path).map_err(|cause| Error::fatal(format!("setting url: {cause}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(match content {
                Content::Json => "application/json",
                Content::Lines => "application/x-ndjson",
            }),
        );
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let verb = match method {
            Method::Get => reqwest::Method::GET,
            Method::Put => reqwest::Method::PUT,
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
            Method::Head => reqwest::Method::HEAD,
        };
        self.access.add(&verb, url.as_str(), &mut headers, &body).await?;
        let failed =
            |cause: &dyn std::error::Error| Error::retry(format!("ask {}: {}", shown(&node.url), chain(cause)));
        match &node.way {
            Way::Transport(transport) => {
                let body = (!body.is_empty()).then_some(body);
                let sent = transport.send(method, path, headers, None::<&()>, body, None).await;
                let response = sent.map_err(|cause| failed(&cause))?;
                let (status, after) = (response.status_code().as_u16(), retry_after(response.headers()));
                bounded(response.content_length())?;
                let body = response.bytes().await.map_err(|cause| failed(&cause))?;
                Ok(Answer { status, after, body, resent: false })
            }
            Way::Certified(client) => {
                let sent = client.request(verb, url).headers(headers).body(body).send().await;
                let response = sent.map_err(|cause| failed(&cause))?;
                let (status, after) = (response.status().as_u16(), retry_after(response.headers()));
                bounded(response.content_length())?;
                let body = response.bytes().await.map_err(|cause| failed(&cause))?;
                Ok(Answer { status, after, body, resent: false })
            }
        }
    }
}

fn transport(url: &Url) -> Result<Transport> {
    // Its HTTP client asks the process for the crypto library; that there is one already is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.clone())).enable_meta_header(false);
    builder.build().map_err(|cause| Error::fatal(format!("setting url: {cause}")))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(|seconds: u64| Duration::from_secs(seconds.min(3600)))
}

fn bounded(length: Option<u64>) -> Result<()> {
    match length.filter(|length| *length > LARGEST_ANSWER) {
        Some(length) => Err(Error::retry(format!("an answer of {length} bytes is none"))),
        None => Ok(()),
    }
}

/// A node's address without what may be secret.
fn shown(url: &Url) -> String {
    format!("{}://{}:{}", url.scheme(), url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(0))
}

/// An error with its causes: the first alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
