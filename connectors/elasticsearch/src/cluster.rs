//! The nodes of a cluster, and how a request reaches one that is there.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result};
use bytes::Bytes;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Url};
use tokio::time::Instant;

use crate::access::Access;
use crate::wire::{Call, Reply, Wire};

struct Node {
    url: Url,
    /// It did not answer: others are asked first until then.
    away: Mutex<Option<Instant>>,
}

/// The nodes of a cluster.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    next: AtomicUsize,
    wire: Arc<dyn Wire>,
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
/// An answer has at most so many bytes, and so many for each byte that was asked: a refusal names the document, its
/// field and, twice and escaped, what stood there.
const LARGEST_ANSWER: usize = 4 << 20;
const LARGEST_PER_BYTE: usize = 8;

impl Cluster {
    pub(crate) fn new(
        urls: Vec<Url>,
        wire: Arc<dyn Wire>,
        access: Access,
        gzip: bool,
        timeout: Duration,
        edge: Edge,
    ) -> Self {
        let nodes: Vec<Node> = urls.into_iter().map(|url| Node { url, away: Mutex::new(None) }).collect();
        // Daemons and sinks that start together do not all begin with the same node.
        let next = AtomicUsize::new((edge.random() % 1024) as usize);
        Cluster { nodes, next, wire, access, gzip, timeout, edge }
    }

    /// Asks the nodes in turn until one answers.
    ///
    /// # Errors
    /// `Retry` when none does.
    pub(crate) async fn send(&self, method: Method, path: &str, content: Content, body: Bytes) -> Result<Answer> {
        let room = LARGEST_ANSWER + body.len() * LARGEST_PER_BYTE;
        let (body, gzip) = self.packed(body).await?;
        let mut resent = false;
        let mut last = Error::retry("no node");
        for node in self.in_turn() {
            let call = self.call(node, (&method, path), (content, gzip), body.clone(), room).await?;
            let shown = shown(&node.url);
            match tokio::time::timeout(self.timeout, self.wire.exchange(call)).await {
                Ok(Ok(Reply { status, headers, body })) => {
                    *node.away.lock() = matches!(status, 502..=504).then(|| Instant::now() + AWAY);
                    if let (300..=399, Some(to)) = (status, headers.get(LOCATION)) {
                        let to = to.to_str().unwrap_or("?");
                        return Err(Error::fatal(format!("setting url: {shown} answered {status}, as it is at {to}")));
                    }
                    return Ok(Answer { status, after: retry_after(&headers), body, resent });
                }
                Ok(Err(cause)) => last = Error::retry(format!("ask {shown}: {cause}")),
                Err(_) => last = Error::retry(format!("{shown} did not answer within {:?}", self.timeout)),
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

    async fn call(
        &self,
        node: &Node,
        (method, path): (&Method, &str),
        (content, gzip): (Content, bool),
        body: Bytes,
        room: usize,
    ) -> Result<Call> {
        // A node may be asked below a path of its own.
        let path = path.trim_start_matches('/');
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
        self.access.add(method, url.as_str(), &mut headers, &body).await?;
        Ok(Call { method: method.clone(), url, headers, body, room })
    }
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

/// A node's address without what may be secret.
fn shown(url: &Url) -> String {
    format!("{}://{}:{}", url.scheme(), url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(0))
}
