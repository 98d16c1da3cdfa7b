//! An object store far away: it survives every crash, and requests reach it late, twice removed from their callers, or
//! not at all.
//!
//! A request that was sent is on its way whatever becomes of its sender: it is applied when its time has come, which
//! may be long after the sender was told that it failed, or had died.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::dice::Dice;
use crate::life::{Life, Time, Trace};

/// What goes wrong, each so many times in a thousand requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreFaults {
    /// Refused with "slow down" before it does anything.
    pub(crate) refused: u64,
    /// Done, but the answer is lost.
    pub(crate) unanswered: u64,
    /// Called lost, and done up to two minutes later.
    pub(crate) late: u64,
    /// Takes up to five seconds.
    pub(crate) slow: u64,
    /// Nothing is answered at all.
    pub(crate) silent: bool,
}

/// The remote system.
pub(crate) struct Bucket {
    state: Mutex<State>,
    time: Arc<Time>,
    trace: Arc<Trace>,
}

struct State {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Upload>,
    /// Requests on their way, by when they arrive and in which order they were sent.
    arriving: BTreeMap<(i64, u64), Request>,
    answers: BTreeMap<u64, Result<Answer>>,
    next: u64,
    faults: StoreFaults,
    dice: Dice,
}

#[derive(Clone)]
struct Stored {
    bytes: Bytes,
    modified: i64,
    etag: u64,
    attributes: object_store::Attributes,
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Clone, Default)]
struct Upload {
    path: String,
    parts: BTreeMap<usize, Bytes>,
    attributes: object_store::Attributes,
}

enum Request {
    Put { path: String, bytes: Bytes, mode: PutMode, attributes: object_store::Attributes },
    CreateUpload { path: String, attributes: object_store::Attributes },
    PutPart { upload: String, part: usize, bytes: Bytes },
    Complete { path: String, upload: String, parts: Vec<String> },
    Abort { upload: String },
    Delete { path: String },
    Copy { from: String, to: String, create: bool },
}

enum Answer {
    Done,
    Etag(u64),
    Upload(String),
    Part(String),
}

/// How often chunks had been given up when an object was made: one of a higher number may take its place.
fn given_up(attributes: &object_store::Attributes) -> u32 {
    let told = attributes.get(&object_store::Attribute::Metadata("aqueduct-given-up".into()));
    told.and_then(|told| told.parse().ok()).unwrap_or(0)
}

impl Bucket {
    pub(crate) fn new(dice: Dice, time: Arc<Time>, trace: Arc<Trace>) -> Arc<Self> {
        let state = State {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            arriving: BTreeMap::new(),
            answers: BTreeMap::new(),
            next: 1,
            faults: StoreFaults::default(),
            dice,
        };
        Arc::new(Bucket { state: Mutex::new(state), time, trace })
    }

    /// The bucket as one life of the machine reaches it.
    pub(crate) fn connect(self: &Arc<Self>, life: Arc<Life>) -> Arc<SimStore> {
        Arc::new(SimStore { bucket: self.clone(), life })
    }

    pub(crate) fn set_faults(&self, faults: StoreFaults) {
        self.state.lock().unwrap().faults = faults;
    }

    /// Everything that is on its way arrives.
    pub(crate) fn deliver_all(&self) {
        self.deliver(i64::MAX);
    }

    /// What is stored, by path.
    pub(crate) fn objects(&self) -> Vec<(String, Bytes)> {
        let state = self.state.lock().unwrap();
        state.objects.iter().map(|(path, stored)| (path.clone(), stored.bytes.clone())).collect()
    }

    /// Uploads that hold parts and were neither completed nor aborted: id, path, parts.
    pub(crate) fn open_uploads(&self) -> Vec<(String, String, usize)> {
        let state = self.state.lock().unwrap();
        let open = state.uploads.iter().filter(|(_, upload)| !upload.parts.is_empty());
        open.map(|(id, upload)| (id.clone(), upload.path.clone(), upload.parts.len())).collect()
    }

    fn deliver(&self, until: i64) {
        let mut state = self.state.lock().unwrap();
        while let Some(entry) = state.arriving.first_entry()
            && entry.key().0 <= until
        {
            let ((_, number), request) = entry.remove_entry();
            let answer = self.apply(&mut state, request);
            state.answers.insert(number, answer);
        }
    }

    fn apply(&self, state: &mut State, request: Request) -> Result<Answer> {
        let told = request.to_string();
        let answer = state.apply(request, self.time.now(), &self.trace);
        let error = answer.as_ref().err().map_or(String::new(), |error| format!(": {error}"));
        self.trace.event(&self.time, format!("store {told}{error}"));
        answer
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Put { path, bytes, mode, .. } => write!(f, "put {path} of {} bytes {mode:?}", bytes.len()),
            Request::CreateUpload { path, .. } => write!(f, "create upload of {path}"),
            Request::PutPart { upload, part, bytes } => write!(f, "put part {part} of {upload}, {} bytes", bytes.len()),
            Request::Complete { path, upload, parts } => {
                write!(f, "complete {upload} of {path}, {} parts", parts.len())
            }
            Request::Abort { upload } => write!(f, "abort {upload}"),
            Request::Delete { path } => write!(f, "delete {path}"),
            Request::Copy { from, to, .. } => write!(f, "copy {from} to {to}"),
        }
    }
}

impl State {
    fn apply(&mut self, request: Request, now: i64, trace: &Trace) -> Result<Answer> {
        match request {
            Request::Put { path, bytes, mode, attributes } => {
                let there = self.objects.get(&path).map(|stored| format!("\"{}\"", stored.etag));
                match mode {
                    PutMode::Create if there.is_some() => return Err(exists(&path)),
                    PutMode::Update(version) if version.e_tag != there => return Err(replaced(&path)),
                    _ => {}
                }
                Ok(Answer::Etag(self.store(path, bytes, attributes, now, trace)))
            }
            Request::CreateUpload { path, attributes } => {
                let id = format!("upload-{}", self.number());
                self.uploads.insert(id.clone(), Upload { path, parts: BTreeMap::new(), attributes });
                Ok(Answer::Upload(id))
            }
            Request::PutPart { upload, part, bytes } => {
                let number = self.number();
                let found = self.uploads.get_mut(&upload).ok_or_else(|| missing(&upload))?;
                found.parts.insert(part, bytes);
                Ok(Answer::Part(format!("part-{number}")))
            }
            Request::Complete { path, upload, parts } => {
                let found = self.uploads.get(&upload).ok_or_else(|| missing(&upload))?;
                if found.path != path || found.parts.len() < parts.len() {
                    return Err(refused("InvalidPart: one or more of the parts could not be found"));
                }
                let found = self.uploads.remove(&upload).expect("it was just found");
                let bytes: Vec<u8> =
                    found.parts.values().take(parts.len()).flat_map(|part| part.iter().copied()).collect();
                Ok(Answer::Etag(self.store(path, bytes.into(), found.attributes, now, trace)))
            }
            Request::Abort { upload } => {
                self.uploads.remove(&upload).map(|_| Answer::Done).ok_or_else(|| missing(&upload))
            }
            Request::Delete { path } => {
                self.objects.remove(&path);
                Ok(Answer::Done)
            }
            Request::Copy { from, to, create } => {
                let stored = self.objects.get(&from).cloned().ok_or_else(|| missing(&from))?;
                if create && self.objects.contains_key(&to) {
                    return Err(exists(&to));
                }
                Ok(Answer::Etag(self.store(to, stored.bytes, stored.attributes, now, trace)))
            }
        }
    }

    fn store(
        &mut self,
        path: String,
        bytes: Bytes,
        attributes: object_store::Attributes,
        modified: i64,
        trace: &Trace,
    ) -> u64 {
        if let Some(old) = self.objects.get(&path)
            && old.bytes != bytes
            && given_up(&attributes) <= given_up(&old.attributes)
        {
            let (old, new) = (old.bytes.len(), bytes.len());
            trace.violated(format!("object {path} of {old} bytes was overwritten with {new} other bytes"));
        }
        let etag = self.number();
        self.objects.insert(path, Stored { bytes, modified, etag, attributes });
        etag
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn refused(cause: &str) -> Error {
    Error::Generic { store: "simulated", source: cause.into() }
}

fn exists(path: &str) -> Error {
    Error::AlreadyExists { path: path.to_owned(), source: "it is there already".into() }
}

fn replaced(path: &str) -> Error {
    Error::Precondition { path: path.to_owned(), source: "another is there".into() }
}

fn missing(path: &str) -> Error {
    Error::NotFound { path: path.to_owned(), source: "nothing is there".into() }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: what.into() }
}

/// The bucket as one life of the machine reaches it.
pub(crate) struct SimStore {
    bucket: Arc<Bucket>,
    life: Arc<Life>,
}

/// What becomes of a request.
enum Fate {
    Refused,
    /// Arrives after so many milliseconds; the answer comes, is lost, or comes as a failure before that.
    Arrives(i64, Reply),
    Silence,
}

enum Reply {
    Heard,
    Lost,
}

impl SimStore {
    fn fate(&self) -> Fate {
        let state = &mut *self.bucket.state.lock().unwrap();
        let (faults, dice) = (state.faults, &mut state.dice);
        if faults.silent {
            return Fate::Silence;
        }
        let refused = faults.refused;
        let unanswered = refused + faults.unanswered;
        let late = unanswered + faults.late;
        let slow = late + faults.slow;
        match dice.below(1000) {
            roll if roll < refused => Fate::Refused,
            roll if roll < unanswered => Fate::Arrives(dice.between(1, 2000) as i64, Reply::Lost),
            roll if roll < late => Fate::Arrives(dice.between(5_000, 120_000) as i64, Reply::Lost),
            roll if roll < slow => Fate::Arrives(dice.between(50, 5_000) as i64, Reply::Heard),
            _ => Fate::Arrives(dice.between(1, 50) as i64, Reply::Heard),
        }
    }

    async fn send(&self, request: Request) -> Result<Answer> {
        self.alive().await;
        match self.fate() {
            Fate::Silence => std::future::pending().await,
            Fate::Refused => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                self.bucket.trace.event(&self.bucket.time, format!("store refuses to {request}"));
                Err(refused("SlowDown: please reduce your request rate"))
            }
            Fate::Arrives(delay, reply) => {
                let number = {
                    let state = &mut *self.bucket.state.lock().unwrap();
                    let number = state.number();
                    state.arriving.insert((self.bucket.time.now() + delay, number), request);
                    number
                };
                match reply {
                    Reply::Heard => {
                        tokio::time::sleep(Duration::from_millis(delay as u64)).await;
                        self.alive().await;
                        self.bucket.deliver(self.bucket.time.now());
                        let answer = self.bucket.state.lock().unwrap().answers.remove(&number);
                        answer.expect("the request has arrived")
                    }
                    Reply::Lost => {
                        let patience = self.bucket.state.lock().unwrap().dice.between(1, 10_000);
                        tokio::time::sleep(Duration::from_millis(patience)).await;
                        self.alive().await;
                        Err(refused("the connection was closed before an answer came"))
                    }
                }
            }
        }
    }

    /// Waits as long as an answer takes that nothing depends on; fails as requests do.
    async fn ask(&self, what: &str) -> Result<()> {
        self.alive().await;
        let delay = match self.fate() {
            Fate::Silence => std::future::pending().await,
            Fate::Arrives(delay, Reply::Heard) => delay,
            Fate::Refused | Fate::Arrives(_, Reply::Lost) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Err(refused("SlowDown: please reduce your request rate"));
            }
        };
        tokio::time::sleep(Duration::from_millis(delay as u64)).await;
        self.alive().await;
        self.bucket.deliver(self.bucket.time.now());
        self.bucket.trace.event(&self.bucket.time, format!("store {what}"));
        Ok(())
    }

    /// A machine without power hears nothing.
    async fn alive(&self) {
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }

    fn meta(path: &str, stored: &Stored) -> ObjectMeta {
        ObjectMeta {
            location: Path::from(path),
            last_modified: chrono::DateTime::from_timestamp_millis(stored.modified).unwrap_or_default(),
            size: stored.bytes.len() as u64,
            e_tag: Some(format!("\"{}\"", stored.etag)),
            version: None,
        }
    }

    fn metas(&self, prefix: Option<&Path>) -> Vec<ObjectMeta> {
        let state = self.bucket.state.lock().unwrap();
        let under = |path: &str| {
            prefix.is_none_or(|prefix| path.strip_prefix(prefix.as_ref()).is_some_and(|rest| rest.starts_with('/')))
                || prefix.is_some_and(|prefix| prefix.as_ref().is_empty())
        };
        state.objects.iter().filter(|(path, _)| under(path)).map(|(path, stored)| Self::meta(path, stored)).collect()
    }
}

fn result_of(answer: Answer) -> PutResult {
    let e_tag = match answer {
        Answer::Etag(etag) => Some(format!("\"{etag}\"")),
        _ => None,
    };
    PutResult { e_tag, version: None, extensions: Default::default() }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated store")
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated store")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (path, bytes) = (location.to_string(), payload.into());
        let request = Request::Put { path, bytes, mode: options.mode, attributes: options.attributes };
        self.send(request).await.map(result_of)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("uploads whose id nobody knows can not be aborted by a successor"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask(&format!("get {location}")).await?;
        let stored = self.bucket.state.lock().unwrap().objects.get(location.as_ref()).cloned();
        let stored = stored.ok_or_else(|| missing(location.as_ref()))?;
        let meta = Self::meta(location.as_ref(), &stored);
        options.check_preconditions(&meta)?;
        let range = match options.range {
            None => 0..meta.size,
            Some(range) => range.as_range(meta.size).map_err(|cause| refused(&cause.to_string()))?,
        };
        let bytes = stored.bytes.slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: stored.attributes, extensions: Default::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.ask(&format!("get ranges of {location}")).await?;
        let stored = self.bucket.state.lock().unwrap().objects.get(location.as_ref()).cloned();
        let bytes = stored.ok_or_else(|| missing(location.as_ref()))?.bytes;
        Ok(ranges.iter().map(|range| bytes.slice(range.start as usize..range.end as usize)).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = SimStore { bucket: self.bucket.clone(), life: self.life.clone() };
        let store = Arc::new(store);
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.send(Request::Delete { path: location.to_string() }).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = SimStore { bucket: self.bucket.clone(), life: self.life.clone() };
        let prefix = prefix.cloned();
        let listed = async move {
            match store.ask("list").await {
                Ok(()) => store.metas(prefix.as_ref()).into_iter().map(Ok).collect(),
                Err(cause) => vec![Err(cause)],
            }
        };
        futures::stream::once(listed).flat_map(futures::stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask("list with delimiter").await?;
        let skip = prefix.map_or(0, |prefix| prefix.parts().count());
        let (mut objects, mut folders) = (Vec::new(), std::collections::BTreeSet::new());
        for meta in self.metas(prefix) {
            match meta.location.parts().count() > skip + 1 {
                true => drop(folders.insert(meta.location.parts().take(skip + 1).collect::<Path>())),
                false => objects.push(meta),
            }
        }
        Ok(ListResult { objects, common_prefixes: folders.into_iter().collect(), extensions: Default::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = matches!(options.mode, object_store::CopyMode::Create);
        self.send(Request::Copy { from: from.to_string(), to: to.to_string(), create }).await.map(drop)
    }
}

#[async_trait]
impl MultipartStore for SimStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_multipart_opts(path, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        let request = Request::CreateUpload { path: path.to_string(), attributes: options.attributes };
        match self.send(request).await? {
            Answer::Upload(id) => Ok(id),
            _ => unreachable!("creating an upload is answered with its id"),
        }
    }

    async fn put_part(&self, _: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        match self.send(Request::PutPart { upload: id.clone(), part, bytes: data.into() }).await? {
            Answer::Part(content_id) => Ok(PartId { content_id }),
            _ => unreachable!("a part is answered with its id"),
        }
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let parts = parts.into_iter().map(|part| part.content_id).collect();
        self.send(Request::Complete { path: path.to_string(), upload: id.clone(), parts }).await.map(result_of)
    }

    async fn abort_multipart(&self, _: &Path, id: &MultipartId) -> Result<()> {
        self.send(Request::Abort { upload: id.clone() }).await.map(drop)
    }
}
