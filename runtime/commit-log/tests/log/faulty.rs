//! A disk of which syncs, writes and changes fail when a test says so, and threads that wait until they may run.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aqueduct_api::conformance::log::batch;
use aqueduct_api::disk::{Disk, Entry, File, LockError, Metadata, Open, RealDisk, Space};
use aqueduct_api::edge::{Abort, Threads};
use aqueduct_api::{Appended, At, Durability, Edge, Log as _, Result, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, Options};
use futures::future::BoxFuture;

use crate::opened::{Time, edge, of, small_segments, value};

/// What is wrong with the disk.
#[derive(Default)]
pub(crate) struct Faults {
    /// So many of the next syncs of files fail.
    pub(crate) syncs: AtomicU64,
    /// So many of the next syncs of folders fail.
    pub(crate) folder_syncs: AtomicU64,
    /// So many of the next syncs of the data folder itself fail.
    pub(crate) root_syncs: AtomicU64,
    /// Syncs of files that were asked for.
    pub(crate) synced: AtomicU64,
    /// Writes find no room, unless the ballast is gone.
    pub(crate) full: AtomicBool,
    /// Nor do they with the room that the ballast had.
    pub(crate) brimful: AtomicBool,
    /// So many of the next files that would be made find no room.
    pub(crate) names: AtomicU64,
    /// So many segments have to be synced at once, or nobody gets on.
    pub(crate) together: AtomicU64,
    pub(crate) waiting: (std::sync::Mutex<u64>, std::sync::Condvar),
    /// Nothing can be changed, but for bytes within files that are open.
    pub(crate) read_only: AtomicBool,
    /// After so many files were removed there is room again.
    pub(crate) removals_to_room: AtomicU64,
    /// Percent of the file system that are in use.
    pub(crate) used: AtomicU64,
    /// What else happens while a file is removed or the disk is asked for its room.
    pub(crate) meanwhile: std::sync::Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Faults {
    /// Returns once as many syncs are under way as there have to be.
    pub(crate) fn meet(&self) {
        let (count, moved) = &self.waiting;
        let mut arrived = count.lock().unwrap();
        *arrived += 1;
        moved.notify_all();
        let is_missing = |arrived: &mut u64| *arrived < self.together.load(Ordering::SeqCst);
        let patience = std::time::Duration::from_secs(10);
        let (_arrived, waited) = moved.wait_timeout_while(arrived, patience, is_missing).unwrap();
        assert!(!waited.timed_out(), "nobody else syncs");
    }

    pub(crate) fn change(&self) -> io::Result<()> {
        match self.read_only.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    pub(crate) fn happen(&self) {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }
}

pub(crate) fn fails(count: &AtomicU64) -> io::Result<()> {
    match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Err(io::Error::other("no answer from the disk")),
        Err(_) => Ok(()),
    }
}

pub(crate) struct Faulty(pub(crate) Arc<Faults>);

pub(crate) struct FaultyFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) is_segment: bool,
    pub(crate) ballast: std::path::PathBuf,
}

impl Disk for Faulty {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        if open == Open::New {
            self.0.change()?;
        }
        if open != Open::Read && !path.exists() && fails(&self.0.names).is_err() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = RealDisk.open(path, open)?;
        let root = path.ancestors().find(|folder| folder.join("format").exists()).unwrap_or(path);
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        Ok(Arc::new(FaultyFile { file, faults: self.0.clone(), is_segment, ballast: root.join("ballast") }))
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(folder)
    }
    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        RealDisk.metadata(path, follow)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change()?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.happen();
        self.0.change()?;
        if fails(&self.0.removals_to_room).is_err() && self.0.removals_to_room.load(Ordering::SeqCst) == 0 {
            self.0.used.store(10, Ordering::SeqCst);
        }
        RealDisk.remove(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fails(&self.0.folder_syncs)?;
        if path.join("format").exists() {
            fails(&self.0.root_syncs)?;
        }
        RealDisk.sync_folder(path)
    }
    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        RealDisk.lock(path, owner)
    }
    fn space(&self, _: &Path) -> io::Result<Space> {
        self.0.happen();
        let total = 1 << 30;
        Ok(Space { total, available: total / 100 * (100 - self.0.used.load(Ordering::SeqCst)) })
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, length, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let is_full = self.faults.full.load(Ordering::SeqCst) && self.ballast.exists();
        if is_full || self.faults.brimful.load(Ordering::SeqCst) {
            // A part of it finds room.
            self.file.write_at(&parts[..parts.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(parts, offset)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.faults.change()?;
        self.file.truncate(length)
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.faults.synced.fetch_add(1, Ordering::SeqCst);
        fails(&self.faults.syncs)?;
        if self.is_segment && self.faults.together.load(Ordering::SeqCst) > 0 {
            self.faults.meet();
        }
        self.file.sync()
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// Jobs that run when the test says so, while `held`.
#[derive(Default)]
pub(crate) struct Later {
    pub(crate) is_held: AtomicBool,
    pub(crate) jobs: std::sync::Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Later {
    pub(crate) fn run(&self) {
        self.is_held.store(false, Ordering::SeqCst);
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        jobs.into_iter().for_each(|job| job());
    }
}

impl Threads for Later {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        match self.is_held.load(Ordering::SeqCst) {
            true => self.jobs.lock().unwrap().push(job),
            false => job(),
        }
    }

    fn connector(&self, _: &str, _: BoxFuture<'static, ()>) -> Abort {
        unreachable!("no connector runs here")
    }
}

pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) faults: Arc<Faults>,
    pub(crate) later: Arc<Later>,
    pub(crate) log: CommitLog,
}

pub(crate) async fn setup(settings: &TopicSettings, options: Options) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let (faults, later) = (Arc::new(Faults::default()), Arc::new(Later::default()));
    let edge = Edge { disk: Arc::new(Faulty(faults.clone())), threads: later.clone(), ..edge(&Time::default()) };
    let log = CommitLog::open(edge, folder.path(), options).await.unwrap();
    log.create("t", 1, settings).await.unwrap();
    Setup { folder, faults, later, log }
}

pub(crate) async fn try_append(log: &CommitLog, n: usize) -> Result<i64> {
    append_later(log, n).await?.durable().await
}

pub(crate) async fn append_later(log: &CommitLog, n: usize) -> Result<Appended> {
    log.append(&of(), batch(&[&value(n)], 1000 + n as i64), At::End).await
}

pub(crate) fn settings(durability: Durability) -> TopicSettings {
    TopicSettings { durability, ..small_segments() }
}
