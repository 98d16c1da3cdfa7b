//! The data folder: its lock, its format version, its small state files, and the leader epoch.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use aqueduct_api::disk::{Disk, LockError, Open};
use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Error, Result, TopicPartition};
use parking_lot::Mutex;

/// What the file `format` says of folders that this release writes and reads.
const FORMAT: &str = "aqueduct-log 1\n";

pub(crate) const LOCK: &str = ".lock";
pub(crate) const FORMAT_FILE: &str = "format";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const CLEAN: &str = "clean";
pub(crate) const BALLAST: &str = "ballast";
pub(crate) const PRODUCER_IDS: &str = "producer-ids";
/// What is in the folder besides topics.
pub(crate) const OWN_FILES: [&str; 6] = [LOCK, FORMAT_FILE, EPOCH, CLEAN, BALLAST, PRODUCER_IDS];
/// Ends the name of a state file while it is written; no topic's name has it.
const UNFINISHED: &str = "~";

/// A data folder that this process holds, until the last owner of this is gone at the latest.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Whether there was no log in it before.
    pub(crate) is_new: bool,
    disk: Arc<dyn Disk>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl Folder {
    /// Takes the folder, making it where it is missing.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, owner: &str) -> Result<Folder> {
        make_folder(&**disk, path).map_err(|cause| unusable(path, cause))?;
        // Asked before anything is written, so that nothing is left behind in a folder of somebody else's.
        is_new(&**disk, path)?;
        let lock = disk.lock(&path.join(LOCK), owner).map_err(|cause| match cause {
            LockError::Held(holder) => {
                let holder = if holder.is_empty() { "another process" } else { &holder };
                Error::fatal(format!(
                    "data folder {} is held by {holder}: stop that first, or choose another folder",
                    path.display()
                ))
            }
            LockError::Io(cause) => unusable(&path.join(LOCK), cause),
        })?;
        let is_new = is_new(&**disk, path)?;
        if is_new {
            // The format comes last: with it the folder is complete.
            for (name, content) in [(EPOCH, "0\n"), (FORMAT_FILE, FORMAT)] {
                let path = path.join(name);
                write_state(&**disk, &path, content.as_bytes()).map_err(|cause| unusable(&path, cause))?;
            }
        }
        Ok(Folder { path: path.to_owned(), is_new, disk: disk.clone(), lock: Mutex::new(Some(lock)) })
    }

    /// Replaces a small file: after a crash it is the old one or the new one, whole.
    pub(crate) fn write_state(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        write_state(&*self.disk, path, content)
    }

    /// The folder of a partition.
    pub(crate) fn of(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(&*partition.topic).join(partition.partition.to_string())
    }

    /// Gives the folder back, before the last owner of this is gone.
    pub(crate) fn release(&self) {
        *self.lock.lock() = None;
    }

    /// Takes the mark of a clean stop away, durably, and returns what it says.
    pub(crate) fn take_clean(&self) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(CLEAN);
        let found = read_whole(&*self.disk, &path).map_err(at(&path))?;
        if found.is_some() {
            self.disk.remove(&path).map_err(at(&path))?;
            self.disk.sync_folder(&self.path).map_err(at(&self.path))?;
        }
        Ok(found)
    }
}

/// Whether there is no log in a folder yet; a folder that holds other things is refused.
fn is_new(disk: &dyn Disk, folder: &Path) -> Result<bool> {
    let path = folder.join(FORMAT_FILE);
    match read_whole(disk, &path).map_err(|cause| unusable(&path, cause))? {
        Some(found) if found == FORMAT.as_bytes() => Ok(false),
        Some(found) => Err(Error::fatal(format!(
            "{} says {:?}, but this release knows only {:?}: use the release that wrote the folder, or choose another \
             folder",
            path.display(),
            String::from_utf8_lossy(&found[..found.len().min(40)]).trim(),
            FORMAT.trim()
        ))),
        None => {
            let entries = disk.list(folder).map_err(|cause| unusable(folder, cause))?;
            let mut names: Vec<_> = entries.iter().map(|entry| entry.name.to_string_lossy()).collect();
            names.retain(|name| ![LOCK, EPOCH, "lost+found"].contains(&&**name) && !is_unfinished(name));
            names.sort();
            match names.first() {
                None => Ok(true),
                Some(name) => Err(Error::fatal(format!(
                    "{} is no data folder of aqueduct: it holds {name:?} but no file `{FORMAT_FILE}`; choose an empty \
                     folder, or put that file back",
                    folder.display()
                ))),
            }
        }
    }
}

/// The leader epoch of the folder: appends carry it, and it rises whenever offsets might be used a second time.
pub(crate) struct Epoch {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    raising: Mutex<()>,
    current: AtomicI32,
}

impl Epoch {
    pub(crate) fn open(folder: &Folder) -> Result<Epoch> {
        let path = folder.path.join(EPOCH);
        let found = read_whole(&*folder.disk, &path).map_err(at(&path))?.ok_or_else(|| {
            Error::fatal(format!(
                "{} is missing: put back the file from a backup, or make one with a number in it that is larger than the \
                 leader epoch of every record",
                path.display()
            ))
        })?;
        let number = std::str::from_utf8(&found).ok().and_then(|text| text.trim().parse().ok());
        let current: i32 = number.ok_or_else(|| {
            Error::fatal(format!(
                "{} does not hold a number: put back the file from a backup, or write a number into it that is larger \
                 than the leader epoch of every record",
                path.display()
            ))
        })?;
        let current = AtomicI32::new(current);
        Ok(Epoch { path, disk: folder.disk.clone(), raising: Mutex::new(()), current })
    }

    /// The epoch under which appends are written now.
    pub(crate) fn current(&self) -> i32 {
        self.current.load(Ordering::SeqCst)
    }

    /// Makes a higher epoch durable, then uses it.
    pub(crate) fn raise(&self) -> io::Result<()> {
        let _raising = self.raising.lock();
        let next = self.current().saturating_add(1);
        write_state(&*self.disk, &self.path, format!("{next}\n").as_bytes())?;
        self.current.store(next, Ordering::SeqCst);
        Ok(())
    }
}

/// Tells of a failure with the file that it happened to.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |cause| Error::from(cause).context(path.display())
}

/// A whole small file; `None` where there is none.
pub(crate) fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let length = file.metadata()?.length;
    let mut content = Vec::new();
    file.read_at(&mut content, length as usize, 0)?;
    Ok(Some(content))
}

/// Replaces a small file, durably.
pub(crate) fn write_state(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    remove_if_there(disk, &unfinished)?;
    let file = disk.open(&unfinished, Open::New)?;
    file.write_at(&[io::IoSlice::new(content)], 0)?;
    file.sync()?;
    fault::point("journal.write");
    disk.rename(&unfinished, path)?;
    sync_parent(disk, path)
}

/// Whether a name is that of a state file that was being written.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it.
pub(crate) fn remove_all(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut entries = disk.list(path)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        let path = path.join(&entry.name);
        match entry.kind {
            aqueduct_api::disk::Kind::Folder => remove_all(disk, &path)?,
            _ => disk.remove(&path)?,
        }
    }
    disk.remove(path)
}

/// Syncs the folder that a path lies in.
pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !fault::mutated(Mutant::NoFolderSync) => disk.sync_folder(parent),
        _ => Ok(()),
    }
}

/// Makes a folder, and makes its name and those of the folders above it durable: one that is there may have been made by a
/// run that was cut short before it had synced.
fn make_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    let is_missing = |path: &&Path| matches!(disk.metadata(path, true), Err(cause) if cause.kind() == NotFound);
    let missing = path.ancestors().take_while(is_missing).count();
    disk.create_folder(path)?;
    for (depth, made) in path.ancestors().enumerate() {
        match sync_parent(disk, made) {
            // Somebody else's folder that we may not even open was not made by us.
            Err(cause)
                if depth >= missing
                    && matches!(cause.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// A failure at start: one that only a person can mend is told as such.
fn unusable(path: &Path, cause: io::Error) -> Error {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    let told = format!("data folder can not be used: {}: {cause}", path.display());
    match cause.kind() {
        AlreadyExists | PermissionDenied | ReadOnlyFilesystem | NotADirectory => Error::fatal(told),
        _ => Error::retry(told),
    }
}
