//! An in-memory store that fails, loses answers and counts the uploads that are open.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It is not done.
    Before,
    /// It is done, but the answer is lost.
    After,
    /// It is not done before [`FaultyStore::arrive`], and the answer is lost; for puts.
    Late,
    /// It is refused with these words, as S3 would say it.
    Says(&'static str),
}

#[derive(Clone, Default)]
pub(crate) struct FaultyStore {
    pub(crate) inner: InMemory,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The operation, how many of it pass before, and what happens then.
    plan: Option<(&'static str, usize, Fault)>,
    /// Open uploads and how many parts each has.
    uploads: BTreeMap<String, usize>,
    no_conditions: bool,
    ignores_conditions: bool,
    keeps_for_ever: bool,
    operations: Vec<&'static str>,
    late: Vec<(Path, PutPayload, PutOptions)>,
    /// When objects were made, as lists say it, where that is not the time.
    dates: BTreeMap<Path, DateTime<Utc>>,
    /// What the next list misses.
    missed: BTreeSet<Path>,
}

impl FaultyStore {
    pub(crate) fn plan(&self, operation: &'static str, after: usize, fault: Fault) {
        self.state.lock().unwrap().plan = Some((operation, after, fault));
    }

    /// Lists say that the object was made then, in ms since 1970.
    pub(crate) fn date(&self, path: &str, millis: i64) {
        let date = DateTime::from_timestamp_millis(millis).unwrap();
        self.state.lock().unwrap().dates.insert(Path::from(path), date);
    }

    /// The next list passes the object over, as if it had appeared once that list was past its key.
    pub(crate) fn miss(&self, path: &str) {
        self.state.lock().unwrap().missed.insert(Path::from(path));
    }

    /// Whether the plan was carried out.
    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().unwrap().plan.is_none()
    }

    pub(crate) fn without_conditional_put(&self) {
        self.state.lock().unwrap().no_conditions = true;
    }

    /// Puts whatever is there already, and does not say that it does not know conditions.
    pub(crate) fn ignoring_conditions(&self) {
        self.state.lock().unwrap().ignores_conditions = true;
    }

    /// Forbids to put what is there, whatever the condition.
    pub(crate) fn keeping_for_ever(&self) {
        self.state.lock().unwrap().keeps_for_ever = true;
    }

    /// Open uploads that have parts, which somebody pays for.
    pub(crate) fn paid_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.values().filter(|parts| **parts > 0).count()
    }

    /// What was asked of the store since the last call.
    pub(crate) fn operations(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.lock().unwrap().operations)
    }

    /// What is late arrives.
    pub(crate) async fn arrive(&self) -> Vec<Result<PutResult>> {
        let late = std::mem::take(&mut self.state.lock().unwrap().late);
        let mut answers = Vec::new();
        for (path, payload, options) in late {
            answers.push(self.inner.put_opts(&path, payload, options).await);
        }
        answers
    }

    /// Whether a put is to be late.
    fn is_late(&self, path: &Path, payload: &PutPayload, options: &PutOptions) -> bool {
        let mut state = self.state.lock().unwrap();
        let is_late = state.plan.take_if(|plan| *plan == ("put", 0, Fault::Late)).is_some();
        if is_late {
            state.late.push((path.clone(), payload.clone(), options.clone()));
        }
        is_late
    }

    fn fault(&self, operation: &'static str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.operations.push(operation);
        match &mut state.plan {
            Some((planned, after, fault)) if *planned == operation => {
                let fault = *fault;
                if *after > 0 {
                    *after -= 1;
                    return None;
                }
                state.plan = None;
                Some(fault)
            }
            _ => None,
        }
    }

    async fn apply<T>(&self, operation: &'static str, done: impl Future<Output = Result<T>>) -> Result<T> {
        // The network takes its time.
        tokio::task::yield_now().await;
        let error = |said: &str| Error::Generic { store: "S3", source: said.to_owned().into() };
        match self.fault(operation) {
            None => done.await,
            Some(Fault::Before) => Err(error("Server returned non-2xx status code: 503 Service Unavailable")),
            Some(Fault::Late) => Err(error("operation timed out")),
            Some(Fault::After) => {
                // Whatever the answer was, it does not arrive.
                let _ = done.await;
                Err(error("operation timed out"))
            }
            Some(Fault::Says(said)) if said.starts_with("404") => {
                Err(Error::NotFound { path: "x".to_owned(), source: said.to_owned().into() })
            }
            Some(Fault::Says(said)) if said.starts_with("409") => {
                Err(Error::AlreadyExists { path: "x".to_owned(), source: said.to_owned().into() })
            }
            Some(Fault::Says(said)) => Err(error(said)),
        }
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.state.lock().unwrap().ignores_conditions {
            options.mode = PutMode::Overwrite;
        }
        if self.state.lock().unwrap().no_conditions && options.mode != PutMode::Overwrite {
            let source = "Server returned non-2xx status code: 501 Not Implemented: <Code>NotImplemented</Code>".into();
            return Err(Error::Generic { store: "S3", source });
        }
        if self.is_late(path, &payload, &options) {
            return Err(Error::Generic { store: "S3", source: "operation timed out".into() });
        }
        let keeps_for_ever = self.state.lock().unwrap().keeps_for_ever;
        let put = self.apply("put", self.inner.put_opts(path, payload, options)).await;
        put.map_err(|cause| match cause {
            Error::AlreadyExists { path, source } if source.to_string().starts_with("409") => {
                Error::AlreadyExists { path, source }
            }
            Error::AlreadyExists { path, source } if keeps_for_ever => Error::PermissionDenied { path, source },
            // As the client of S3 tells status 412.
            Error::AlreadyExists { path, source } => {
                let source = Error::Precondition { path: path.clone(), source }.into();
                Error::AlreadyExists { path, source }
            }
            cause => cause,
        })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("uploads have ids")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.apply("get", self.inner.get_opts(path, options)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = self.state.clone();
        let dated = move |object: ObjectMeta| {
            let date = state.lock().unwrap().dates.get(&object.location).copied();
            ObjectMeta { last_modified: date.unwrap_or(object.last_modified), ..object }
        };
        let missed = std::mem::take(&mut self.state.lock().unwrap().missed);
        let listed = self.inner.list(prefix).try_filter(move |object| ready(!missed.contains(&object.location)));
        listed.map_ok(dated).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for FaultyStore {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId> {
        unreachable!("objects have attributes")
    }

    async fn create_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        let done = async {
            let id = self.inner.create_multipart_opts(path, options).await?;
            self.state.lock().unwrap().uploads.insert(id.clone(), 0);
            Ok(id)
        };
        self.apply("create", done).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, index: usize, data: PutPayload) -> Result<PartId> {
        let done = async {
            let part = self.inner.put_part(path, id, index, data).await?;
            *self.state.lock().unwrap().uploads.get_mut(id).unwrap() += 1;
            Ok(part)
        };
        self.apply("part", done).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let done = async {
            let completed = self.inner.complete_multipart(path, id, parts).await?;
            self.state.lock().unwrap().uploads.remove(id);
            Ok(completed)
        };
        self.apply("complete", done).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let done = async {
            self.inner.abort_multipart(path, id).await?;
            self.state.lock().unwrap().uploads.remove(id);
            Ok(())
        };
        self.apply("abort", done).await
    }
}
