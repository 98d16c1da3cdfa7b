//! A folder as a bucket: an object is staged in a hidden folder, synced, renamed into place, and its folders are synced.
//!
//! ```text
//! <url>/<object's name>                 objects
//! <url>/.aqueduct/staging/<sink>/…      objects on their way; what an ended process left goes at open
//! <url>/.aqueduct/topics/<topic>        the id of the topic whose objects are here
//! <url>/.aqueduct/given-up/<sink>/…     how often chunks of a partition were given up, where they were
//! ```

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aqueduct_api::disk::{Kind, Open};
use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Disk, Edge, Error, File, Result, TopicId};
use async_trait::async_trait;

use crate::bucket::{Bucket, Note, Object, Upload};
use crate::fence::Fences;
use crate::template::escape;

/// How much is written at once, in bytes: large enough for the disk, small enough for the processor's cache.
const PART_SIZE: usize = 512 << 10;

/// How much is written until the system is told again that nobody here will read it, in bytes: the memory that held it
/// serves what is written next, and the sync at the end finds most of it done.
const RELEASE: u64 = 4 << 20;

/// Staging files that somebody in this process has: a sink may be open twice, to finish a chunk under earlier settings.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Keeps a staging file from being taken for one that was left behind.
struct Live(PathBuf);

impl Live {
    fn new(path: &Path) -> Self {
        live().insert(path.to_owned());
        Live(path.to_owned())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder with objects.
pub(crate) struct Folder {
    edge: Edge,
    place: Place,
}

/// The folders of one sink; what is done in them blocks.
#[derive(Clone)]
struct Place {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    staging: PathBuf,
    fences: Fences,
}

impl Folder {
    /// Makes the folder durably where it is missing, and removes what an earlier run of the sink left half done.
    pub(crate) async fn open(edge: &Edge, root: PathBuf, sink: &str) -> Result<Self> {
        let mut name = String::new();
        escape(sink, &mut name);
        let (staging, fences) =
            (root.join(".aqueduct/staging").join(&name), root.join(".aqueduct/given-up").join(name));
        let place = Place { disk: edge.disk.clone(), root, staging, fences: Fences::new(fences) };
        let opened = place.clone();
        edge.blocking(move || opened.prepare()).await??;
        Ok(Folder { edge: edge.clone(), place })
    }

    /// Says whether the folder can be written, leaving nothing there.
    pub(crate) async fn probe(edge: &Edge, root: PathBuf) -> Result<Vec<String>> {
        let (disk, random) = (edge.disk.clone(), edge.random());
        edge.blocking(move || probe(&*disk, &root, random)).await?
    }

    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce(Place) -> Result<T> + Send + 'static) -> Result<T> {
        let place = self.place.clone();
        self.edge.blocking(move || job(place)).await?
    }

    async fn stage(&self, object: &Object) -> Result<Staged> {
        let (object, random) = (object.clone(), self.edge.random());
        let path = self.place.staging.join(format!("{random:016x}"));
        let opened = path.clone();
        let claimed = object.clone();
        let file = self.blocking(move |place| {
            place.claim(&claimed, random)?;
            place.fences.raise(&*place.disk, &claimed, |path, text| place.note(path, text, random))?;
            let live = Live::new(&opened);
            let file = place.disk.open(&opened, Open::New);
            file.map(|file| (file, live)).map_err(|cause| told(cause, "make staging file", &opened))
        });
        let (file, live) = file.await?;
        let (edge, place) = (self.edge.clone(), self.place.clone());
        Ok(Staged { edge, place, object, path, file, _live: live, length: 0, released: 0, visible: false })
    }
}

#[async_trait]
impl Bucket for Folder {
    fn part_size(&self) -> usize {
        PART_SIZE
    }

    fn is_refusing(&self) -> bool {
        false
    }

    async fn find(&self, object: &Object) -> Result<bool> {
        let object = object.clone();
        let random = self.edge.random();
        let kept = fault::mutated(Mutant::GivenUpKept);
        self.blocking(move |place| {
            let path = place.root.join(&object.name);
            match place.disk.metadata(&path, false) {
                Ok(found) if found.kind == Kind::File => {
                    place.claim(&object, random)?;
                    // Whoever put it there may have ended before its name was durable.
                    place.sync_folders(&path, false)?;
                    // Where its name does not tell its chunk, nothing does: it is made again, and replaced by the same.
                    Ok(object.tells_end && (object.given_up == 0 || kept))
                }
                Ok(_) => Err(Error::fatal(format!("{} is in the way of an object: move it away", path.display()))),
                Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(false),
                Err(cause) => Err(told(cause, "look at", &path)),
            }
        })
        .await
    }

    async fn put(&self, object: &Object, bytes: Vec<u8>) -> Result<()> {
        let mut staged = self.stage(object).await?;
        staged.part(bytes).await?;
        Box::new(staged).complete().await
    }

    async fn begin(&self, object: &Object) -> Result<Box<dyn Upload>> {
        Ok(Box::new(self.stage(object).await?))
    }

    async fn abort(&self, _: &Note) -> Result<()> {
        Ok(())
    }
}

/// An object under a staging name.
struct Staged {
    edge: Edge,
    place: Place,
    object: Object,
    path: PathBuf,
    file: Arc<dyn File>,
    _live: Live,
    length: u64,
    released: u64,
    visible: bool,
}

#[async_trait]
impl Upload for Staged {
    fn note(&self) -> Option<Note> {
        None
    }

    async fn part(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        let (file, at, path) = (self.file.clone(), self.length, self.path.clone());
        self.length += bytes.len() as u64;
        let length = self.length;
        let is_due = length - self.released >= RELEASE;
        if is_due {
            self.released = length;
        }
        let job = move || {
            file.write_at(&[IoSlice::new(&bytes)], at).map_err(|cause| told(cause, "write", &path))?;
            if is_due {
                file.release(length);
            }
            bytes.clear();
            Ok(bytes)
        };
        self.edge.blocking(job).await?
    }

    async fn complete(mut self: Box<Self>) -> Result<()> {
        // Mistakes are switched on for this thread, not for the one that does the work.
        let no_folder_sync = fault::mutated(Mutant::NoFolderSync);
        let (place, file, from) = (self.place.clone(), self.file.clone(), self.path.clone());
        let to = place.root.join(&self.object.name);
        let (length, object) = (self.length, self.object.clone());
        let careless = fault::mutated(Mutant::StaleOverNewer);
        let job = move || {
            let folder = to.parent().unwrap_or(&place.root);
            place.disk.create_folder(folder).map_err(|cause| told(cause, "make folder", folder))?;
            file.sync().map_err(|cause| told(cause, "sync", &from))?;
            if length > RELEASE {
                file.release(length);
            }
            fault::point("object.put");
            {
                let _passed = if careless { None } else { Some(place.fences.pass(&*place.disk, &object)?) };
                place.disk.rename(&from, &to).map_err(|cause| told(cause, "rename into place", &to))?;
            }
            fault::point("object.put");
            place.sync_folders(&to, no_folder_sync)
        };
        let done = self.edge.blocking(job).await?;
        self.visible = done.is_ok();
        done
    }

    async fn abort(self: Box<Self>) {}
}

/// What nobody will complete is removed, off the async threads; what the end of the process leaves, the next start removes.
impl Drop for Staged {
    fn drop(&mut self) {
        if !self.visible {
            let (disk, path) = (self.place.disk.clone(), self.path.clone());
            // It may have been renamed already, or be gone with its folder.
            self.edge.threads.blocking(Box::new(move || drop(disk.remove(&path))));
        }
    }
}

impl Place {
    fn prepare(&self) -> Result<()> {
        let topics = self.root.join(".aqueduct/topics");
        for folder in [&self.staging, &topics] {
            self.disk.create_folder(folder).map_err(|cause| told(cause, "make folder", folder))?;
        }
        for entry in self.disk.list(&self.staging).map_err(|cause| told(cause, "list", &self.staging))? {
            let path = self.staging.join(&entry.name);
            if live().contains(&path) {
                continue;
            }
            tracing::info!(file = %path.display(), "removing what an earlier run left half written");
            match self.disk.remove(&path) {
                // Whoever had it was just done with it.
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(|cause| told(cause, "remove", &path))?,
            }
        }
        for folder in [&topics, &self.root.join(".aqueduct"), &self.root] {
            self.disk.sync_folder(folder).map_err(|cause| told(cause, "sync folder", folder))?;
        }
        // Any of the folders above may have been made just now, or just before an earlier process ended.
        for folder in self.root.ancestors().skip(1) {
            match self.disk.sync_folder(folder) {
                // A folder that we may not even open, or of a file system that knows no sync, was not made by us.
                Err(cause) if matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {}
                synced => synced.map_err(|cause| told(cause, "sync folder", folder))?,
            }
        }
        Ok(())
    }

    /// Checks that the objects of the topic's name here are those of this very topic, and says so durably before the first.
    fn claim(&self, object: &Object, random: u64) -> Result<()> {
        let mut name = String::new();
        escape(&object.topic, &mut name);
        if object.run > 0 {
            name += &format!("+run={}", object.run);
        }
        let path = self.root.join(".aqueduct/topics").join(name);
        if self.owner(&path)?.is_none() {
            self.note(&path, &format!("{}\n", object.topic_id), random)?;
        }
        match self.owner(&path)? {
            Some(owner) if owner != object.topic_id => Err(Error::fatal(format!(
                "{}: objects of topic {} are here already, but of the one with id {owner}; this one has id {}: give the \
                 sink another url, or move the objects and {} away",
                object.name,
                object.topic,
                object.topic_id,
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    fn owner(&self, path: &Path) -> Result<Option<TopicId>> {
        let file = match self.disk.open(path, Open::Read) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(told(cause, "open", path)),
        };
        let mut text = Vec::new();
        file.read_at(&mut text, 64, 0).map_err(|cause| told(cause, "read", path))?;
        let owner = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        owner
            .map(Some)
            .ok_or_else(|| Error::fatal(format!("{} holds no topic id: it was not written by us", path.display())))
    }

    /// Writes a small file whole. Several may do so at once: who comes last decides, and all look again afterwards.
    fn note(&self, path: &Path, text: &str, random: u64) -> Result<()> {
        let staged = self.staging.join(format!("{random:016x}.note"));
        let _live = Live::new(&staged);
        let file = self.disk.open(&staged, Open::New).map_err(|cause| told(cause, "make", &staged))?;
        let written = file.write_at(&[IoSlice::new(text.as_bytes())], 0).and_then(|()| file.sync());
        written.map_err(|cause| told(cause, "write", &staged))?;
        self.disk.rename(&staged, path).map_err(|cause| told(cause, "rename into place", path))?;
        let folder = path.parent().unwrap_or(&self.root);
        self.disk.sync_folder(folder).map_err(|cause| told(cause, "sync folder", folder))
    }

    /// Makes the name of an object durable: every folder from its own up to the url's.
    fn sync_folders(&self, object: &Path, skip: bool) -> Result<()> {
        if skip {
            return Ok(());
        }
        for folder in object.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)) {
            self.disk.sync_folder(folder).map_err(|cause| told(cause, "sync folder", folder))?;
        }
        Ok(())
    }
}

fn probe(disk: &dyn Disk, root: &Path, random: u64) -> Result<Vec<String>> {
    let there = root.ancestors().find_map(|folder| disk.metadata(folder, true).ok().map(|found| (folder, found.kind)));
    let (folder, kind) = there.ok_or_else(|| Error::fatal(format!("{}: no such folder", root.display())))?;
    if kind != Kind::Folder {
        return Err(Error::fatal(format!("{} is not a folder", folder.display())));
    }
    let trial = folder.join(format!(".aqueduct-probe-{random:016x}"));
    let file = disk.open(&trial, Open::New).map_err(|cause| told(cause, "write to folder", folder))?;
    drop(file);
    disk.remove(&trial).map_err(|cause| told(cause, "remove", &trial))?;
    Ok(match folder == root {
        true => Vec::new(),
        false => vec![format!("folder {} will be made", root.display())],
    })
}

/// What can not pass by itself is fatal; a full or failing disk may recover.
pub(crate) fn told(cause: io::Error, doing: &str, path: &Path) -> Error {
    let told = format!("{doing} {}: {cause}", path.display());
    match cause.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename => Error::fatal(told),
        _ => Error::retry(told),
    }
}
