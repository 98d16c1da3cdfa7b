//! A bucket behind S3's protocol.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Error, Result};
use aqueduct_record::Offset;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as StoreError, GetOptions, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, UpdateVersion,
};
use tokio::task::JoinSet;

use crate::S3Settings;
use crate::access::{client, creating};
use crate::answers::{is_gone, is_unknown, told};
use crate::bucket::{Bucket, Note, Object, Upload};
use crate::condition::Condition;
use crate::protection::Marks;

/// The metadata of an object in which its topic's id is kept.
const TOPIC_ID: &str = "aqueduct-topic-id";

/// The metadata in which the end of an object's chunk is kept, where its name does not tell it.
const END: &str = "aqueduct-end";

/// The metadata in which it is kept how often chunks were given up before an object's chunk was cut, where they were.
const GIVEN_UP: &str = "aqueduct-given-up";

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
    /// What its conditional put was found to do.
    condition: Condition,
}

struct Inner {
    store: Arc<dyn PartStore>,
    /// What makes and begins objects.
    creating: Arc<dyn PartStore>,
    bucket: String,
    prefix: String,
    part_size: usize,
    marks: Marks,
}

/// Opens a bucket; no request is made.
pub(crate) fn connect(settings: &S3Settings, bucket: &str, prefix: &str) -> Result<Arc<dyn Bucket>> {
    let store = client(&settings.access(), bucket)?;
    let made = settings.acl.map(|acl| creating(&settings.access(), bucket, &store, acl)).transpose()?;
    let store: Arc<dyn PartStore> = Arc::new(store);
    let made = made.map_or_else(|| store.clone(), |made| Arc::new(made));
    Ok(Arc::new(StoreBucket::with_creating(store, made, bucket, prefix, settings)))
}

/// Tries what the sink will need, without leaving anything: a look, and an upload in parts that is given up.
pub(crate) async fn probe(settings: &S3Settings, bucket: &str, prefix: &str) -> Result<Vec<String>> {
    let (name, topic_id) = ("aqueduct-probe".to_owned(), aqueduct_api::TopicId(0));
    let (topic, run, given_up, partition, offsets, tells_end) = (String::new(), 0, 0, 0, 0..0, true);
    let object = Object { name, topic, topic_id, run, given_up, partition, offsets, tells_end };
    let bucket = connect(settings, bucket, prefix)?;
    bucket.find(&object).await?;
    let upload = bucket.begin(&object).await?;
    upload.abort().await;
    Ok(Vec::new())
}

impl StoreBucket {
    /// A bucket over `store`.
    pub(crate) fn new(store: Arc<dyn PartStore>, bucket: &str, prefix: &str, settings: &S3Settings) -> Self {
        StoreBucket::with_creating(store.clone(), store, bucket, prefix, settings)
    }

    fn with_creating(
        store: Arc<dyn PartStore>,
        creating: Arc<dyn PartStore>,
        bucket: &str,
        prefix: &str,
        settings: &S3Settings,
    ) -> Self {
        let (part_size, marks) = (settings.part_size.0 as usize, Marks::new(settings));
        let inner = Inner { store, creating, bucket: bucket.to_owned(), prefix: prefix.to_owned(), part_size, marks };
        StoreBucket { inner: Arc::new(inner), conditional: AtomicBool::new(true), condition: Condition::new() }
    }
}

impl StoreBucket {
    /// What is there under the object's name.
    async fn look(&self, object: &Object) -> Result<There> {
        let path = self.inner.path(&object.name)?;
        let found = match self.inner.store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(There::Nothing),
            Err(cause) => return Err(self.inner.told(cause, "look at", &object.name)),
        };
        match found.attributes.get(&Attribute::Metadata(TOPIC_ID.into())).map(|id| id.parse()) {
            Some(Ok(id)) if object.topic_id == id => {
                let (there, ends_before) = (given_up(&found.attributes), ends_before(&found.attributes, object));
                match there.cmp(&object.given_up) {
                    Ordering::Less if fault::mutated(Mutant::GivenUpKept) => Ok(There::Whole),
                    Ordering::Equal | Ordering::Greater if !ends_before => Ok(There::Whole),
                    Ordering::Greater => Err(object.outdated("what is there", there)),
                    Ordering::Less | Ordering::Equal => {
                        Ok(There::Earlier(UpdateVersion { e_tag: found.meta.e_tag, version: found.meta.version }))
                    }
                }
            }
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

    /// Puts an object in place of what an earlier chunk left under its name: of that very object, where the store knows the
    /// condition, so that a request of an earlier owner that comes late does not replace what a later one put.
    async fn replace(&self, object: &Object, there: UpdateVersion, put: (&Path, PutPayload, PutOptions)) -> Result<()> {
        let (path, payload, options) = put;
        let options = PutOptions { mode: PutMode::Overwrite, ..options };
        tracing::warn!(%object, "an earlier chunk left it there: replacing it");
        let mode = if there.e_tag.is_some() { PutMode::Update(there) } else { PutMode::Overwrite };
        let conditional = PutOptions { mode, ..options.clone() };
        match self.inner.creating.put_opts(path, payload.clone(), conditional).await {
            Ok(_) => Ok(()),
            Err(StoreError::Precondition { .. }) => match self.look(object).await? {
                There::Whole => Ok(()),
                There::Nothing | There::Earlier(_) => {
                    Err(Error::retry(format!("{}: somebody else is replacing it", object.name)))
                }
            },
            Err(cause) if is_unknown(&cause) => self.overwrite(object, path, payload, options).await,
            Err(cause) => Err(self.inner.told(cause, "replace", &object.name)),
        }
    }

    async fn overwrite(&self, object: &Object, path: &Path, payload: PutPayload, options: PutOptions) -> Result<()> {
        let put = self.inner.creating.put_opts(path, payload, options).await;
        put.map(drop).map_err(|cause| self.inner.told(cause, "put", &object.name))
    }

    /// Puts an object that was just put once more, as long as it is not known what the store makes of that. It is the same
    /// object then.
    async fn try_condition(&self, path: &Path, payload: PutPayload, options: PutOptions) {
        if let Some(trial) = self.condition.begin() {
            trial.end(self.inner.creating.put_opts(path, payload, options).await, &self.inner.bucket);
        }
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

/// What is there under the name of an object.
#[derive(Debug)]
enum There {
    Nothing,
    /// What an earlier chunk left, that was given up or ended earlier.
    Earlier(UpdateVersion),
    Whole,
}

fn ends_before(found: &Attributes, object: &Object) -> bool {
    let end = found.get(&Attribute::Metadata(END.into())).and_then(|end| end.parse::<Offset>().ok());
    !object.tells_end && end.is_some_and(|end| end < object.offsets.end)
}

fn given_up(found: &Attributes) -> u32 {
    found.get(&Attribute::Metadata(GIVEN_UP.into())).and_then(|times| times.parse().ok()).unwrap_or(0)
}

fn attributes(object: &Object, marks: &Marks) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::Metadata(TOPIC_ID.into()), object.topic_id.to_string().into());
    if !object.tells_end {
        attributes.insert(Attribute::Metadata(END.into()), object.offsets.end.to_string().into());
    }
    if object.given_up > 0 {
        attributes.insert(Attribute::Metadata(GIVEN_UP.into()), object.given_up.to_string().into());
    }
    marks.mark(&mut attributes);
    attributes
}

#[async_trait]
impl Bucket for StoreBucket {
    fn part_size(&self) -> usize {
        self.inner.part_size
    }

    async fn find(&self, object: &Object) -> Result<bool> {
        Ok(matches!(self.look(object).await?, There::Whole))
    }

    fn is_refusing(&self) -> bool {
        self.conditional.load(Relaxed) && self.condition.is_heeded()
    }

    async fn put(&self, object: &Object, bytes: Vec<u8>) -> Result<()> {
        let path = self.inner.path(&object.name)?;
        let payload = PutPayload::from(Bytes::from(bytes));
        let (attributes, tags) = (attributes(object, &self.inner.marks), self.inner.marks.tags.clone());
        let options = PutOptions { attributes, tags, ..PutOptions::default() };
        fault::point("object.put");
        let is_careless = fault::mutated(Mutant::StaleOverNewer);
        if self.conditional.load(Relaxed) && !is_careless {
            let options = PutOptions { mode: PutMode::Create, ..options.clone() };
            let again = options.clone();
            match self.inner.creating.put_opts(&path, payload.clone(), options).await {
                Ok(_) => {
                    fault::point("object.put");
                    self.try_condition(&path, payload, again).await;
                    return Ok(());
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    // Another owner of the chunk was faster; or is just now putting it, and it is not there yet.
                    match self.look(object).await? {
                        There::Whole => return Ok(()),
                        There::Nothing => {
                            return Err(Error::retry(format!("{}: somebody else is putting it", object.name)));
                        }
                        There::Earlier(there) => return self.replace(object, there, (&path, payload, again)).await,
                    }
                }
                Err(cause) if is_unknown(&cause) => {
                    tracing::warn!(bucket = self.inner.bucket, "the store has no conditional put: putting without");
                    self.conditional.store(false, Relaxed);
                }
                Err(cause) => return Err(self.inner.told(cause, "put", &object.name)),
            }
        }
        // Its caller relied on a condition that the store does not know any more.
        if self.condition.is_heeded() && !is_careless && self.find(object).await? {
            return Ok(());
        }
        self.overwrite(object, &path, payload, options).await
    }

    async fn begin(&self, object: &Object) -> Result<Box<dyn Upload>> {
        let path = self.inner.path(&object.name)?;
        let (attributes, tags) = (attributes(object, &self.inner.marks), self.inner.marks.tags.clone());
        let options = PutMultipartOptions { attributes, tags, ..PutMultipartOptions::default() };
        let id = self.inner.creating.create_multipart_opts(&path, options).await;
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
