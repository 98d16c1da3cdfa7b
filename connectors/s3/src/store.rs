//! A bucket behind S3's protocol.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Error, Problem, Result, Secret};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, Error as StoreError, GetOptions, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, RetryConfig,
};
use tokio::task::JoinSet;

use crate::S3Settings;
use crate::bucket::{Bucket, Note, Object, Upload};
use crate::protection::{Encryption, Marks, encrypted};
use crate::role::{AssumedRole, Role};

/// The metadata of an object in which its topic's id is kept.
const TOPIC_ID: &str = "aqueduct-topic-id";

/// How many parts of an object are on their way at once: one more is being filled.
const PARTS: usize = 2;

/// A store that also uploads in parts under ids of its own.
pub trait PartStore: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> PartStore for T {}

/// A bucket with a prefix.
pub(crate) struct StoreBucket {
    inner: Arc<Inner>,
    /// Whether the store has a conditional put, as far as we know.
    conditional: AtomicBool,
}

struct Inner {
    store: Arc<dyn PartStore>,
    bucket: String,
    prefix: String,
    part_size: usize,
    marks: Marks,
}

/// Opens a bucket; no request is made.
pub(crate) fn connect(settings: &S3Settings, bucket: &str, prefix: &str) -> Result<Arc<dyn Bucket>> {
    let store = client(&settings.access(), bucket)?;
    Ok(Arc::new(StoreBucket::new(store, bucket, prefix, settings)))
}

/// How a store is reached: what the settings of source and sink say alike.
pub(crate) struct Access<'a> {
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) allow_http: bool,
    pub(crate) path_style: Option<bool>,
    pub(crate) region: Option<&'a str>,
    pub(crate) access_key_id: Option<&'a Secret>,
    pub(crate) secret_access_key: Option<&'a Secret>,
    pub(crate) session_token: Option<&'a Secret>,
    /// The role that is assumed.
    pub(crate) role: Option<&'a Role>,
    /// How what is written is encrypted.
    pub(crate) encryption: Option<&'a Encryption>,
    /// How long one request may take.
    pub(crate) timeout: Duration,
}

impl Access<'_> {
    /// What is wrong with it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(endpoint) = self.endpoint {
            let message = match endpoint.split_once("://") {
                Some(("http", host)) if !host.is_empty() => (!self.allow_http)
                    .then(|| format!("`{endpoint}` is not encrypted: use https, or say `allow-http: true`")),
                Some(("https", host)) if !host.is_empty() => None,
                _ => Some(format!("`{endpoint}` is no address, expected for example `https://minio:9000`")),
            };
            problems.extend(message.map(|message| Problem::new("endpoint", message)));
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => problems.push(Problem::new("secret-access-key", "is missing beside `access-key-id`")),
            (None, Some(_)) => problems.push(Problem::new("access-key-id", "is missing beside `secret-access-key`")),
            _ => {}
        }
        problems
    }
}

/// A client of the store that the settings name.
pub(crate) fn client(settings: &Access<'_>, bucket: &str) -> Result<Arc<dyn PartStore>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = settings.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/')).with_allow_http(settings.allow_http);
    }
    if let Some(region) = settings.region {
        builder = builder.with_region(region);
    }
    if let (Some(id), Some(key)) = (settings.access_key_id, settings.secret_access_key) {
        builder = builder.with_access_key_id(id.reveal()).with_secret_access_key(key.reveal());
    }
    if let Some(token) = settings.session_token {
        builder = builder.with_token(token.reveal());
    }
    if let Some(encryption) = settings.encryption {
        builder = encrypted(builder, encryption);
    }
    let path_style = settings.path_style.unwrap_or(settings.endpoint.is_some());
    let options = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(settings.timeout)
        .with_allow_http(settings.allow_http);
    // The engine retries whole chunks; these only bridge a hiccup.
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(30) };
    let told = |cause: &dyn fmt::Display| Error::fatal(format!("s3://{bucket}: {cause}"));
    let builder = builder.with_virtual_hosted_style_request(!path_style).with_client_options(options).with_retry(retry);
    let mut store = builder.clone().build().map_err(|cause| told(&cause))?;
    if let Some(role) = settings.role {
        let region =
            settings.region.map(str::to_owned).or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Region));
        let role = AssumedRole::new(role, region.as_deref(), store.credentials().clone()).map_err(|why| told(&why))?;
        store = builder.with_credentials(Arc::new(role)).build().map_err(|cause| told(&cause))?;
    }
    Ok(Arc::new(store))
}

/// Tries what the sink will need, without leaving anything: a look, and an upload in parts that is given up.
pub(crate) async fn probe(settings: &S3Settings, bucket: &str, prefix: &str) -> Result<Vec<String>> {
    let object =
        Object { name: "aqueduct-probe".to_owned(), topic: String::new(), topic_id: aqueduct_api::TopicId(0), run: 0 };
    let bucket = connect(settings, bucket, prefix)?;
    bucket.find(&object).await?;
    let upload = bucket.begin(&object).await?;
    upload.abort().await;
    Ok(Vec::new())
}

impl StoreBucket {
    /// A bucket over `store`.
    pub(crate) fn new(store: Arc<dyn PartStore>, bucket: &str, prefix: &str, settings: &S3Settings) -> Self {
        let (part_size, marks) = (settings.part_size.0 as usize, Marks::new(settings));
        let inner = Inner { store, bucket: bucket.to_owned(), prefix: prefix.to_owned(), part_size, marks };
        StoreBucket { inner: Arc::new(inner), conditional: AtomicBool::new(true) }
    }
}

impl Inner {
    fn path(&self, name: &str) -> Result<Path> {
        let path = match self.prefix.as_str() {
            "" => Path::parse(name),
            prefix => Path::parse(format!("{prefix}/{name}")),
        };
        path.map_err(|cause| Error::fatal(format!("{name}: {cause}")))
    }

    fn told(&self, cause: StoreError, doing: &str, name: &str) -> Error {
        let url = match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        };
        told(&cause, &self.bucket, &url).context(format_args!("{doing} {url}/{name}"))
    }
}

fn attributes(object: &Object, marks: &Marks) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::Metadata(TOPIC_ID.into()), object.topic_id.to_string().into());
    marks.mark(&mut attributes);
    attributes
}

#[async_trait]
impl Bucket for StoreBucket {
    fn part_size(&self) -> usize {
        self.inner.part_size
    }

    async fn find(&self, object: &Object) -> Result<bool> {
        let path = self.inner.path(&object.name)?;
        let found = match self.inner.store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(cause) => return Err(self.inner.told(cause, "look at", &object.name)),
        };
        match found.attributes.get(&Attribute::Metadata(TOPIC_ID.into())).map(|id| id.parse()) {
            Some(Ok(id)) if object.topic_id == id => Ok(true),
            Some(Ok(id)) => Err(Error::fatal(format!(
                "s3://{}/{path} is there already, but of a topic {} with id {id}; this one has id {}: give the sink another \
                 url, or move the old objects away",
                self.inner.bucket, object.topic, object.topic_id
            ))),
            _ => Err(Error::fatal(format!(
                "s3://{}/{path} is there already and was not written by us (it has no metadata {TOPIC_ID}): move it away",
                self.inner.bucket
            ))),
        }
    }

    async fn put(&self, object: &Object, bytes: Vec<u8>) -> Result<()> {
        let path = self.inner.path(&object.name)?;
        let payload = PutPayload::from(Bytes::from(bytes));
        let (attributes, tags) = (attributes(object, &self.inner.marks), self.inner.marks.tags.clone());
        let options = PutOptions { attributes, tags, ..PutOptions::default() };
        fault::point("object.put");
        if self.conditional.load(Ordering::Relaxed) && !fault::mutated(Mutant::ShorterOverLonger) {
            let options = PutOptions { mode: PutMode::Create, ..options.clone() };
            match self.inner.store.put_opts(&path, payload.clone(), options).await {
                Ok(_) => {
                    fault::point("object.put");
                    return Ok(());
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    // Another owner of the chunk was faster; or is just now putting it, and it is not there yet.
                    return match self.find(object).await? {
                        true => Ok(()),
                        false => Err(Error::retry(format!("{}: somebody else is putting it", object.name))),
                    };
                }
                Err(cause) if is_unknown(&cause) => {
                    tracing::warn!(bucket = self.inner.bucket, "the store has no conditional put: putting without");
                    self.conditional.store(false, Ordering::Relaxed);
                }
                Err(cause) => return Err(self.inner.told(cause, "put", &object.name)),
            }
        }
        let put = self.inner.store.put_opts(&path, payload, options).await;
        put.map(drop).map_err(|cause| self.inner.told(cause, "put", &object.name))
    }

    async fn begin(&self, object: &Object) -> Result<Box<dyn Upload>> {
        let path = self.inner.path(&object.name)?;
        let (attributes, tags) = (attributes(object, &self.inner.marks), self.inner.marks.tags.clone());
        let options = PutMultipartOptions { attributes, tags, ..PutMultipartOptions::default() };
        let id = self.inner.store.create_multipart_opts(&path, options).await;
        let id = id.map_err(|cause| self.inner.told(cause, "begin upload of", &object.name))?;
        let (inner, name) = (self.inner.clone(), object.name.clone());
        Ok(Box::new(PartUpload { inner, name, path, id, next: 0, running: JoinSet::new(), parts: Vec::new() }))
    }

    async fn abort(&self, note: &Note) -> Result<()> {
        let path = self.inner.path(&note.object)?;
        match self.inner.store.abort_multipart(&path, &note.upload).await {
            Ok(()) => Ok(()),
            Err(cause) if is_gone(&cause) => Ok(()),
            Err(cause) => Err(self.inner.told(cause, "abort upload of", &note.object)),
        }
    }
}

/// An object on its way in parts.
struct PartUpload {
    inner: Arc<Inner>,
    name: String,
    path: Path,
    id: String,
    next: usize,
    running: JoinSet<(usize, object_store::Result<PartId>)>,
    parts: Vec<Option<PartId>>,
}

impl PartUpload {
    /// Waits for one of the parts on their way.
    async fn one(&mut self) -> Result<()> {
        let Some(part) = self.running.join_next().await else { return Ok(()) };
        let (index, part) = part.map_err(|cause| Error::fatal(format!("put a part: {cause}")))?;
        let part = part.map_err(|cause| self.told(cause, "put a part of"))?;
        self.parts[index] = Some(part);
        Ok(())
    }

    /// An upload that is gone (aborted by another owner, or by the store's rules) is begun again.
    fn told(&self, cause: StoreError, doing: &str) -> Error {
        match is_gone(&cause) {
            true => Error::retry(format!("{doing} {}: the upload is gone: {cause}", self.name)),
            false => self.inner.told(cause, doing, &self.name),
        }
    }
}

#[async_trait]
impl Upload for PartUpload {
    fn note(&self) -> Option<Note> {
        Some(Note { object: self.name.clone(), upload: self.id.clone() })
    }

    async fn part(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        while self.running.len() >= PARTS {
            self.one().await?;
        }
        let (inner, path, id, index) = (self.inner.clone(), self.path.clone(), self.id.clone(), self.next);
        self.next += 1;
        self.parts.push(None);
        self.running.spawn(async move {
            let payload = PutPayload::from(Bytes::from(bytes));
            (index, inner.store.put_part(&path, &id, index, payload).await)
        });
        // The bytes belong to the request now; the next part gets a buffer of its own.
        Ok(Vec::new())
    }

    async fn complete(mut self: Box<Self>) -> Result<()> {
        let done = self.finish().await;
        match &done {
            Err(error) if !error.is_retry() => self.abort().await,
            // What is tried again begins by aborting the upload that was noted.
            _ => {}
        }
        done
    }

    async fn abort(mut self: Box<Self>) {
        self.running.shutdown().await;
        if let Err(cause) = self.inner.store.abort_multipart(&self.path, &self.id).await
            && !is_gone(&cause)
        {
            tracing::warn!(object = self.name, %cause, "an upload could not be aborted: it is tried again on re-delivery");
        }
    }
}

impl PartUpload {
    async fn finish(&mut self) -> Result<()> {
        while !self.running.is_empty() {
            self.one().await?;
        }
        let parts: Option<Vec<_>> = self.parts.drain(..).collect();
        let parts = parts.ok_or_else(|| Error::retry(format!("{}: a part is missing", self.name)))?;
        fault::point("multipart.complete");
        let completed = self.inner.store.complete_multipart(&self.path, &self.id, parts).await;
        completed.map_err(|cause| self.told(cause, "complete upload of"))?;
        fault::point("multipart.complete");
        Ok(())
    }
}

/// What a store answered, as far as we look at it. `object_store` keeps the status and S3's code in the text alone.
pub(crate) fn says(cause: &StoreError, words: &[&str]) -> bool {
    let text = cause.to_string();
    words.iter().any(|word| text.contains(word))
}

/// Whether the store does not know conditional puts.
fn is_unknown(cause: &StoreError) -> bool {
    matches!(cause, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
        || says(cause, &["status code: 501", "<Code>NotImplemented</Code>"])
}

/// Whether an upload is gone.
fn is_gone(cause: &StoreError) -> bool {
    match says(cause, &["NoSuchBucket"]) || says(cause, WRONG_CREDENTIALS) {
        true => false,
        false => {
            matches!(cause, StoreError::NotFound { .. }) || says(cause, &["NoSuchUpload", "MultipartUpload not found"])
        }
    }
}

/// Credentials that the store does not know; the last one is what Versity's gateway answers, with status 404.
const WRONG_CREDENTIALS: &[&str] =
    &["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "XAdminUserNotFound"];

/// What passes without us, though some of it has status 400: a clock that jumped or a token that ran out is put right; a
/// request that was cut short or damaged on its way comes whole the next time.
const PASSING: &[&str] = &[
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "RequestExpired",
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "InternalError",
    "OperationAborted",
    "ServiceUnavailable",
    "SlowDown",
];

/// What a store's answer means.
pub(crate) fn told(cause: &StoreError, bucket: &str, url: &str) -> Error {
    if says(cause, WRONG_CREDENTIALS) {
        return Error::fatal(format!("the credentials for {url} are wrong: check settings.access-key-id: {cause}"));
    }
    if says(cause, &["NoSuchBucket"]) || matches!(cause, StoreError::NotFound { .. }) {
        return Error::fatal(format!("bucket `{bucket}` of {url} does not exist: create it, or change settings.url"));
    }
    if says(cause, PASSING) {
        return Error::retry(cause.to_string());
    }
    if says(cause, &["169.254.169.254", "169.254.170.2"]) {
        let settings = "set settings.access-key-id and settings.secret-access-key, or AWS_ACCESS_KEY_ID";
        return Error::fatal(format!("no credentials for {url}: {settings}: {cause}"));
    }
    match cause {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Error::fatal(format!(
            "the credentials for {url} do not allow it (s3:PutObject, s3:GetObject, s3:ListBucket and \
             s3:AbortMultipartUpload are needed): {cause}"
        )),
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => Error::fatal(cause.to_string()),
        _ if says(cause, &["status code: 400", "status code: 301", "without LOCATION", "status code: 405"]) => {
            Error::fatal(format!("{url} refuses it (is settings.region right?): {cause}"))
        }
        _ => Error::retry(cause.to_string()),
    }
}
