//! The disk of the operating system.

#![expect(clippy::disallowed_types, reason = "this is the edge")]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::buffer::spare_capacity;
use rustix::io::{ReadWriteFlags, preadv2};

use super::{Disk, Entry, File, Kind, LockError, Metadata, Open, Space};

/// The disk of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile(fs::File);

/// How far apart bytes lie that are looked for in memory: what the system reads ahead at once, and drops at once.
const LOOKED_AT: usize = 128 << 10;

impl Disk for RealDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        // O_NONBLOCK: opening a pipe that nobody writes to must not hang.
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        match open {
            Open::Read => options.write(false),
            Open::Write => options.write(true).create(true).truncate(false),
            Open::New => options.write(true).create_new(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let entries = fs::read_dir(folder)?;
        entries
            .map(|entry| entry.and_then(|entry| Ok(Entry { name: entry.file_name(), kind: kind(entry.file_type()?) })))
            .collect()
    }

    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        let found = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        found.map(|found| metadata(&found))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut file = fs::OpenOptions::new();
        let mut file = file.read(true).write(true).create(true).truncate(false).open(path).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(LockError::Io)?;
                return Err(LockError::Held(holder.trim().to_owned()));
            }
            Err(fs::TryLockError::Error(cause)) => return Err(LockError::Io(cause)),
        }
        // A full disk must not keep a daemon from starting: the name of its owner is only for people.
        let _ = file.set_len(0).and_then(|()| file.write_all(owner.as_bytes()));
        Ok(Box::new(file))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        let reserved = found.f_bfree.saturating_sub(found.f_bavail);
        let total = found.f_blocks.saturating_sub(reserved);
        Ok(Space { total: total * found.f_frsize, available: found.f_bavail * found.f_frsize })
    }

    fn most_open(&self) -> usize {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        let start = buffer.len();
        buffer.reserve_exact(length);
        while buffer.len() - start < length {
            // A buffer that had more room than was asked for is filled further: what is too much is cut off below.
            let next = offset + (buffer.len() - start) as u64;
            match rustix::io::pread(&self.0, spare_capacity(buffer), next) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        buffer.truncate(start + length);
        Ok(buffer.len() - start)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        if let [part] = parts {
            return self.0.write_all_at(part, offset);
        }
        let mut parts = parts.to_vec();
        let (mut left, mut offset) = (parts.as_mut_slice(), offset);
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            // The kernel takes at most 1024 parts a call.
            let most = left.len().min(1024);
            match rustix::io::pwritev(&self.0, &left[..most], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    IoSlice::advance_slices(&mut left, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(())
    }

    fn send(&self, socket: BorrowedFd<'_>, offset: u64, length: usize) -> io::Result<usize> {
        let mut next = offset;
        Ok(rustix::fs::sendfile(socket, &self.0, Some(&mut next), length)?)
    }

    fn is_in_memory(&self, offset: u64, length: usize) -> bool {
        let end = offset + length as u64;
        let mut byte = [0];
        (offset..end).step_by(LOOKED_AT).all(|at| {
            let read = preadv2(&self.0, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
            // A file system that can not tell is waited for, as one that has to read is.
            matches!(read, Ok(1))
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, length)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata().map(|found| metadata(&found))
    }

    fn release(&self, length: u64) {
        // Linux begins to write what is dirty, and drops what is written.
        let _ = rustix::fs::fadvise(&self.0, 0, NonZeroU64::new(length), rustix::fs::Advice::DontNeed);
    }
}

fn kind(found: fs::FileType) -> Kind {
    match found {
        found if found.is_file() => Kind::File,
        found if found.is_dir() => Kind::Folder,
        found if found.is_symlink() => Kind::Link,
        _ => Kind::Other,
    }
}

fn metadata(found: &fs::Metadata) -> Metadata {
    let created = found.created().ok().and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    Metadata {
        kind: kind(found.file_type()),
        length: found.len(),
        device: found.dev(),
        inode: found.ino(),
        modified: found.mtime() * 1000 + found.mtime_nsec() / 1_000_000,
        created: created.map_or(0, |since| since.as_millis() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("aqueduct-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        RealDisk.create_folder(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_released_is_still_there() {
        let folder = folder("released");
        let file = RealDisk.open(&folder.join("a"), Open::New).unwrap();
        let block = vec![7u8; 3 << 20];
        file.write_at(&[IoSlice::new(&block)], 0).unwrap();
        for length in [0, 1, 1 << 20, 3 << 20, 9 << 20] {
            file.release(length);
            let mut found = Vec::new();
            assert_eq!(file.read_at(&mut found, block.len() + 1, 0).unwrap(), block.len());
            assert!(found == block);
            file.sync().unwrap();
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn parts_are_written_one_after_the_other_and_read_back_up_to_the_end() {
        let folder = folder("parts");
        let file = RealDisk.open(&folder.join("a"), Open::New).unwrap();
        let many: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_be_bytes()[..(n % 5).min(4) as usize].to_vec()).collect();
        let slices: Vec<IoSlice<'_>> = many.iter().map(|part| IoSlice::new(part)).collect();
        file.write_at(&slices, 3).unwrap();
        let whole = many.concat();
        for capacity in [0, 10, 1 << 20] {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.extend_from_slice(b"kept");
            assert_eq!(file.read_at(&mut buffer, 100, 3).unwrap(), 100);
            assert_eq!(buffer, [b"kept", &whole[..100]].concat());
            assert_eq!(file.read_at(&mut buffer, 1 << 20, 103).unwrap(), whole.len() - 100);
            assert_eq!(&buffer[4..], whole);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_lock_is_held_once_and_names_its_owner() {
        let folder = folder("lock");
        let path = folder.join(".lock");
        let lock = RealDisk.lock(&path, "process 7, aqueduct run").unwrap();
        let refused = RealDisk.lock(&path, "another").err().unwrap();
        assert_eq!(refused.to_string(), "held by process 7, aqueduct run");
        drop(lock);
        assert!(RealDisk.lock(&path, "another").is_ok());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn opening_a_pipe_does_not_wait_and_its_kind_is_told() {
        let folder = folder("pipe");
        let path = folder.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(RealDisk.metadata(&path, true).unwrap().kind, Kind::Other);
        assert!(RealDisk.open(&path, Open::Read).is_ok());
        std::os::unix::fs::symlink(&folder, folder.join("loop")).unwrap();
        let kinds: std::collections::BTreeMap<_, _> =
            RealDisk.list(&folder).unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
        assert_eq!(kinds[std::ffi::OsStr::new("loop")], Kind::Link);
        fs::remove_dir_all(folder).unwrap();
    }
}
