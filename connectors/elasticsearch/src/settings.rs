//! The settings of the sink: their doc comments are its manual.

use std::sync::Arc;

use aqueduct_api::template::Template;
use aqueduct_api::{
    ByteSize, Error, NamedBy, Problem, Result, Secret, Settings, Sink, SinkOpening, SinkSettings, Span,
};
use async_trait::async_trait;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::{Access, AwsSettings};
use crate::cluster::Cluster;
use crate::document::{Id, OnNull, Operation, Shape};
use crate::name::IndexName;
use crate::pace::Pace;
use crate::probe::probe;
use crate::request::Limits;
use crate::sink::DocumentSink;
use crate::tls::{Tls, TlsSettings};
use crate::wire::{Http, Wire};

/// Documents in Elasticsearch (8, 9) or OpenSearch (2, 3), a JSON object each.
///
/// Exactly once: a document's id is its record's topic, partition and offset, or its key, and its version (external) tells
/// which of two is newer, whatever the order in which they arrive: the topic's incarnation (how often it was made anew or
/// given more partitions) times 2^48, and the offset. A key must not come in two partitions or topics that go into one
/// index. With `operation: create` nothing has a version: on re-delivery ids are looked up in all indices behind the name,
/// since a data stream or an alias may have rolled over meanwhile; that needs the privileges `read` and `maintenance`.
/// With `operation: upsert` nothing has a version either: what was interrupted is merged again, in order, so for a moment
/// a document can fall back behind itself.
///
/// A deleted document's version is forgotten after `index.gc_deletes` (60 s), and an older record that is delivered again
/// after that brings it back: with `on-null: delete` set it to more than the longest time that the sink may be stopped in
/// the middle of a chunk (`1d`).
///
/// ```yaml
/// sinks:
///   search:
///     connector: elasticsearch
///     topics: [nginx]
///     settings:
///       url: ["https://search-1:9200", "https://search-2:9200"]
///       index: "nginx-{timestamp:%Y.%m.%d}"
///       username: aqueduct
///       password: "${env:SEARCH_PASSWORD}"
/// ```
///
/// After `aqueduct sinks rewind`, and where a chunk was given up (`aqueduct sinks unpin`), documents of the same index and id
/// are replaced by what is made of their records now, but not by older ones. Others stay: also those of records that are
/// rejected or left out now, or go to another index or id. With `operation: create`, and so in data streams, nothing is
/// replaced: a document that is there stays as it is and counts as written, whatever the settings are now. With
/// `operation: upsert` fields that are not made any more stay. Where a chunk is given up a second time, a request of the time
/// between that is still on its way can arrive last and bring its documents back.
///
/// What becomes of a document that was not taken:
///
/// | answer | what is done |
/// |---|---|
/// | 429, `es_rejected_execution_exception`, `circuit_breaking_exception` | sent again, alone; half as many requests run at once |
/// | `cluster_block_exception`, `index_create_block_exception` (a read-only index, a disk above its flood stage) | sent again |
/// | 5xx, `unavailable_shards_exception`, a shard limit that is reached, no answer, half an answer, one that makes no sense | sent again |
/// | `version_conflict_engine_exception` on re-delivery, after a rewind or an unpin, or of the very same version | nothing: it is there |
/// | `version_conflict_engine_exception` on first delivery | dead letter: there is a newer one that this sink did not write |
/// | `mapper_parsing_exception`, `document_parsing_exception`, `strict_dynamic_mapping_exception`, `illegal_argument_exception` and every other 4xx | dead letter, with the reason |
/// | 413, or Elasticsearch's 400 to a whole request | its halves are sent; a document alone: dead letter |
/// | `index_not_found_exception` | the sink stops; where records name the index: dead letter; of a deletion: nothing is to be deleted |
/// | 401, 403, `security_exception`, `index_closed_exception`, a pipeline or write index that is missing, a data stream without `operation: create` | the sink stops |
/// | no JSON object, an index name that is not allowed, an id over 512 bytes, null | dead letter, without being sent |
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ElasticsearchSettings {
    /// The cluster's address, `https://search:9200`, or a list of its nodes' addresses: they are asked in turn, and one that
    /// does not answer is left alone for a while. Other nodes than these are never looked for.
    pub url: Urls,
    /// The index, data stream or alias, as a template in lower case: `nginx-{timestamp:%Y.%m.%d}`. Placeholders: `{topic}`,
    /// `{partition}`, `{timestamp:FORMAT}` (the record's, in UTC, as strftime writes it), `{field:a.b}`, `{header:name}`,
    /// `{key}`. A record that makes no name that Elasticsearch allows is a dead letter, and so is one that would make a name
    /// begin with a dot. Default: {topic}.
    #[serde(default = "topic")]
    #[schemars(extend("x-shaping" = true))]
    pub index: String,
    /// What is done with a document. Default: index.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub operation: Operation,
    /// What a document is known by: `offset` is `topic+partition+offset` (and `+1`, `+2` where a transform made several
    /// records of one), `key` is the record's key, anything else is a template: `{field:user.id}`. Default: offset.
    #[serde(default = "offset")]
    #[schemars(extend("x-shaping" = true))]
    pub id: String,
    /// What is done with a record whose value is null; to delete, `id` must not be `offset`. Default: reject.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub on_null: OnNull,
    /// The ingest pipeline that documents go through, with `index` and `create`. It must leave `_id` as it is.
    #[schemars(extend("x-shaping" = true))]
    pub pipeline: Option<String>,
    /// What decides on a document's shard instead of its id, as a template.
    #[schemars(extend("x-shaping" = true))]
    pub routing: Option<String>,
    /// How large a request gets; a larger document is sent alone. Default: 5 MiB.
    #[serde(default = "request_bytes")]
    #[schemars(extend("x-shaping" = true))]
    pub request_bytes: ByteSize,
    /// How many documents a request has at most, up to 10,000. Towards a chunk's end an eighth of what is left of it is enough
    /// for a request that has more than 1000 documents or 1 MiB, so that several are under way until the end. Default: 5000.
    #[serde(default = "request_records")]
    #[schemars(extend("x-shaping" = true))]
    pub request_records: u32,
    /// How many requests run at once at most: how many do is found out, from the answers 429 and from how long answers
    /// take. Each is in memory. Default: 8.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// Whether requests are compressed by gzip. Default: false.
    #[serde(default)]
    pub gzip: bool,
    /// How long an answer may take. Default: 60s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// User name, with `password`.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// API key: `id:key`, or both as the cluster encoded them.
    pub api_key: Option<Secret>,
    /// Token.
    pub bearer_token: Option<Secret>,
    /// Requests are signed as Amazon's services want it.
    pub aws: Option<AwsSettings>,
    /// Certificates of one's own.
    pub tls: Option<TlsSettings>,
}

/// One address or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Urls {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Urls {
    fn all(&self) -> &[String] {
        match self {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Several(urls) => urls,
        }
    }
}

fn topic() -> String {
    "{topic}".to_owned()
}

fn offset() -> String {
    "offset".to_owned()
}

fn request_bytes() -> ByteSize {
    ByteSize::mib(5)
}

fn request_records() -> u32 {
    5000
}

fn concurrency() -> u32 {
    8
}

fn timeout() -> Span {
    Span::seconds(60)
}

impl Settings for ElasticsearchSettings {
    const NAME: &'static str = "elasticsearch";
    const SUMMARY: &'static str = "writes documents to Elasticsearch or OpenSearch";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.all() {
            [] => problems.push(Problem::new("url", "names no node")),
            urls => problems.extend(urls.iter().filter_map(|url| Some(Problem::new("url", node(url).err()?)))),
        }
        if let Err(why) = IndexName::parse(&self.index) {
            problems.push(Problem::new("index", why));
        }
        if let Err(why) = self.id() {
            problems.push(Problem::new("id", why));
        }
        if let Some(Err(why)) = self.routing.as_deref().map(template) {
            problems.push(Problem::new("routing", why));
        }
        if self.pipeline.is_some() && self.operation == Operation::Upsert {
            let message = "does not see what is merged: leave it out, or say another `operation`";
            problems.push(Problem::new("pipeline", message));
        }
        self.limit_problems(&mut problems);
        self.null_problems(&mut problems);
        self.access_problems(&mut problems);
        problems
    }
}

impl ElasticsearchSettings {
    fn limit_problems(&self, problems: &mut Vec<Problem>) {
        let mut range = |setting: &str, is: u64, from: u64, to: u64| {
            if !(from..=to).contains(&is) {
                problems.push(Problem::new(setting, format!("{is} is out of range, expected {from} to {to}")));
            }
        };
        range("request-bytes", self.request_bytes.0, 1 << 10, 100 << 20);
        range("request-records", self.request_records.into(), 1, 10_000);
        range("concurrency", self.concurrency.into(), 1, 1000);
        if self.timeout.duration().is_none_or(|timeout| timeout.is_zero()) {
            problems.push(Problem::new("timeout", "must be longer than nothing, and end"));
        }
    }

    fn null_problems(&self, problems: &mut Vec<Problem>) {
        if self.on_null != OnNull::Delete {
            return;
        }
        if self.id == "offset" {
            problems.push(Problem::new("on-null", "`delete` needs to know which document: say `id: key` beside it"));
        }
        if self.operation == Operation::Create {
            problems.push(Problem::new("on-null", "`delete` and `operation: create` exclude each other"));
        }
    }

    fn access_problems(&self, problems: &mut Vec<Problem>) {
        let ways = [
            ("username", self.username.is_some()),
            ("api-key", self.api_key.is_some()),
            ("bearer-token", self.bearer_token.is_some()),
            ("aws", self.aws.is_some()),
        ];
        let said: Vec<&str> = ways.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect();
        if let [first, second, ..] = said[..] {
            problems.push(Problem::new(second, format!("and `{first}` exclude each other: leave one out")));
        }
        match (&self.username, &self.password) {
            (Some(_), None) => problems.push(Problem::new("password", "is missing beside `username`")),
            (None, Some(_)) => problems.push(Problem::new("username", "is missing beside `password`")),
            _ => {}
        }
        if let Some(tls) = &self.tls {
            match (&tls.certificate, &tls.key) {
                (Some(_), None) => problems.push(Problem::new("tls.key", "is missing beside `tls.certificate`")),
                (None, Some(_)) => problems.push(Problem::new("tls.certificate", "is missing beside `tls.key`")),
                _ => {}
            }
        }
    }

    fn id(&self) -> Result<Id, String> {
        match self.id.as_str() {
            "offset" => Ok(Id::Offset),
            "key" => template("{key}").map(Id::Template),
            text if !text.contains('{') => {
                Err(format!("`{text}` is unknown, expected `offset`, `key` or a template like `{{field:a.b}}`"))
            }
            text => template(text).map(Id::Template),
        }
    }

    fn shape(&self) -> Result<Shape> {
        let fatal = |setting: &str, why: String| Error::fatal(format!("setting {setting}: {why}"));
        Ok(Shape {
            index: IndexName::parse(&self.index).map_err(|why| fatal("index", why))?,
            id: self.id().map_err(|why| fatal("id", why))?,
            operation: self.operation,
            on_null: self.on_null,
            pipeline: self.pipeline.clone(),
            routing: self.routing.as_deref().map(template).transpose().map_err(|why| fatal("routing", why))?,
        })
    }

    fn limits(&self) -> Limits {
        Limits { bytes: self.request_bytes.0 as usize, records: self.request_records as usize }
    }

    fn access(&self) -> Result<Access> {
        match (&self.username, &self.password, &self.api_key, &self.bearer_token, &self.aws) {
            (Some(username), Some(password), ..) => Access::basic(username, password),
            (_, _, Some(key), ..) => Access::api_key(key),
            (_, _, _, Some(token), _) => Access::bearer(token),
            (.., Some(aws)) => Access::aws(aws),
            _ => Ok(Access::Open),
        }
    }

    async fn http(&self, opening: &SinkOpening) -> Result<Arc<dyn Wire>> {
        let tls = match &self.tls {
            Some(tls) => Some(Tls::read(tls, &opening.folder, &opening.edge).await?),
            None => None,
        };
        Ok(Arc::new(Http::new(tls.as_ref())?))
    }

    fn cluster(&self, wire: Arc<dyn Wire>, opening: &SinkOpening) -> Result<Cluster> {
        let urls = self.url.all().iter().map(|url| node(url)).collect::<Result<Vec<Url>, String>>();
        let urls = urls.map_err(|why| Error::fatal(format!("setting url: {why}")))?;
        let timeout = self.timeout.duration().unwrap_or(std::time::Duration::from_secs(60));
        Ok(Cluster::new(urls, wire, self.access()?, self.gzip, timeout, opening.edge.clone()))
    }
}

/// The address of a node; paths of requests are joined to it, so it ends as a folder does.
fn node(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|cause| format!("`{text}` is no address: {cause}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{text}` is no address, expected for example `https://search:9200`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password stand in settings of their own: `username`, `password`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` says more than a place"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn template(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    if template.has_value() {
        return Err("a whole value is no part of it, name a field: `{field:a.b}`".to_owned());
    }
    Ok(template)
}

/// Opens the sink over a wire that the caller made, as the simulation does.
///
/// # Errors
/// `Fatal` when the settings make no sense.
pub fn open_over(
    settings: &ElasticsearchSettings,
    opening: &SinkOpening,
    wire: Arc<dyn Wire>,
) -> Result<Box<dyn Sink>> {
    let cluster = Arc::new(settings.cluster(wire, opening)?);
    let pace = Arc::new(Pace::new(settings.concurrency as usize));
    Ok(Box::new(DocumentSink { shape: settings.shape()?, limits: settings.limits(), cluster, pace }))
}

#[async_trait]
impl SinkSettings for ElasticsearchSettings {
    const NAMED_BY: NamedBy = NamedBy::Record;

    async fn open(self, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        let wire = self.http(&opening).await?;
        open_over(&self, &opening, wire)
    }

    async fn probe(&self, opening: SinkOpening) -> Result<Vec<String>> {
        let cluster = self.cluster(self.http(&opening).await?, &opening)?;
        probe(&cluster, &self.shape()?, self.limits()).await
    }

    fn destination(&self, _: &SinkOpening) -> Option<String> {
        let mut nodes: Vec<String> =
            self.url.all().iter().filter_map(|url| Some(node(url).ok()?.to_string())).collect();
        nodes.sort();
        let index = self.index.to_lowercase();
        Some(format!("{} {index}", nodes.join(",")))
    }
}
