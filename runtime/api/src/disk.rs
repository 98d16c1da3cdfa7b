//! Where files are. The log, the file source and the folder sink go through this, so that a simulated disk can lose
//! and tear what was not synced.

mod real;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// A file system. Paths are absolute. What was made, renamed or removed in a folder is durable only after the folder was
/// synced.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>>;

    /// What a folder holds, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// What a path stands for, `follow`ing a symbolic link or telling of the link itself.
    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata>;

    /// Makes a folder and those above it that are missing.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or folder another name, replacing a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file or an empty folder.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what happened to the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Locks a file (made where missing) for one process and writes `owner` into it; the lock lasts until it is dropped or
    /// the process ends.
    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError>;

    /// How much room the file system of a path has.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// How many files may be open at once.
    fn most_open(&self) -> usize {
        1024
    }
}

/// An open file.
pub trait File: Send + Sync {
    /// Appends up to `length` bytes from `offset` on to `buffer`, and says how many: fewer only at the end of the file.
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize>;

    /// Writes all of `parts`, one after the other, from `offset` on. After an error any part of it may have been written.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Cuts or extends the file.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Takes room for the first `length` bytes without writing them.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable (`fdatasync`). After an error what was not durable may be lost for good,
    /// even where a later call succeeds.
    fn sync(&self) -> io::Result<()>;

    /// What the file is now.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Gives up to `length` bytes from `offset` on to a socket without reading them into this process, and says how many.
    /// `Unsupported` where the file is none of the operating system's.
    fn send(&self, _socket: BorrowedFd<'_>, _offset: u64, _length: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether `length` bytes from `offset` on are in memory, as far as a look at some of them tells: whoever reads them
    /// then waits for no disk.
    fn is_in_memory(&self, _offset: u64, _length: usize) -> bool {
        false
    }

    /// Says that nobody here will read the first `length` bytes: the system may write them out now, and keep no copy in
    /// memory. Nothing depends on it.
    fn release(&self, _length: u64) {}
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To be read; it must be there. Never waits, whatever the path stands for.
    Read,
    /// To be read and written; made where missing.
    Write,
    /// To be read and written; must not be there.
    New,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of its path; names that are not UTF-8 are kept as they are.
    pub name: std::ffi::OsString,
    /// What it is.
    pub kind: Kind,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, where links were not followed.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub length: u64,
    /// The file system.
    pub device: u64,
    /// The file, within its file system.
    pub inode: u64,
    /// When it was last changed, milliseconds since 1970.
    pub modified: i64,
    /// When it was made, milliseconds since 1970; 0 where the file system does not say.
    pub created: i64,
}

/// The room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, but for what only the superuser may use.
    pub total: u64,
    /// What is left for us.
    pub available: u64,
}

/// Why a lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else has it: what they wrote into it.
    Held(String),
    /// The file can not be locked.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held(owner) => write!(f, "held by {owner}"),
            LockError::Io(cause) => write!(f, "{cause}"),
        }
    }
}

impl std::error::Error for LockError {}
