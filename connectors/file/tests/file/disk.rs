//! A disk in memory: inodes are used again as soon as nobody has the file open, and what others do to the files may come
//! between any two calls of the source.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use aqueduct_api::disk::{Disk, Entry, File, Kind, LockError, Metadata, Open, Space};

/// The disk.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, Name>,
    inodes: BTreeMap<u64, Weak<Node>>,
    refused: BTreeSet<PathBuf>,
    now: i64,
    operations: u64,
    /// What others do, and before which operation.
    plans: VecDeque<(u64, Plan)>,
    most_open: usize,
    open: usize,
    tells_no_birth: bool,
}

/// What others do to the files while the source looks at them.
pub(crate) type Plan = Box<dyn FnOnce(&MemoryDisk) + Send>;

#[derive(Clone)]
enum Name {
    File(Arc<Node>),
    Folder(u64),
    Link(PathBuf),
    Pipe,
}

struct Node {
    inode: u64,
    /// When it was made; 0 where the disk does not say.
    created: i64,
    content: Mutex<(Vec<u8>, i64)>,
}

struct Handle {
    disk: MemoryDisk,
    node: Arc<Node>,
}

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Appends, making the file where it is missing.
    pub(crate) fn append(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let node = self.node(path);
        let now = {
            let mut state = self.state();
            state.now += 1;
            state.now
        };
        let mut content = node.content.lock().unwrap();
        content.0.extend_from_slice(bytes.as_ref());
        content.1 = now;
    }

    /// Cuts the file to nothing.
    pub(crate) fn truncate(&self, path: &str) {
        let node = self.node(path);
        *node.content.lock().unwrap() = (Vec::new(), self.state().now);
    }

    /// Writes a file anew in place.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.truncate(path);
        self.append(path, bytes);
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let mut state = self.state();
        let name = state.names.remove(Path::new(from)).expect("a file to rename");
        state.make_folders(Path::new(to));
        state.names.insert(to.into(), name);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().names.remove(Path::new(path)).expect("a file to remove");
    }

    /// Removes a folder and all in it.
    pub(crate) fn remove_all(&self, folder: &str) {
        self.state().names.retain(|path, _| !path.starts_with(folder));
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        let bytes = self.bytes(from);
        self.append(to, bytes);
    }

    pub(crate) fn hard_link(&self, from: &str, to: &str) {
        let mut state = self.state();
        let name = state.names[Path::new(from)].clone();
        state.make_folders(Path::new(to));
        state.names.insert(to.into(), name);
    }

    pub(crate) fn link(&self, target: &str, path: &str) {
        let mut state = self.state();
        state.make_folders(Path::new(path));
        state.names.insert(path.into(), Name::Link(target.into()));
    }

    pub(crate) fn pipe(&self, path: &str) {
        let mut state = self.state();
        state.make_folders(Path::new(path));
        state.names.insert(path.into(), Name::Pipe);
    }

    pub(crate) fn folder(&self, path: &str) {
        self.state().make_folders(&Path::new(path).join("x"));
    }

    /// Makes opening a path fail, or lets it work again.
    pub(crate) fn refuse(&self, path: &str, refused: bool) {
        let mut state = self.state();
        if refused {
            state.refused.insert(path.into())
        } else {
            state.refused.remove(Path::new(path))
        };
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.state().names.contains_key(Path::new(path))
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        self.node(path).content.lock().unwrap().0.clone()
    }

    /// Compresses a file into another one (a member more, where that is there), and leaves the first.
    pub(crate) fn gzip(&self, from: &str, to: &str) {
        let bytes = gzip(&self.bytes(from));
        self.append(to, bytes);
    }

    /// Sets the clock that changes are stamped with.
    pub(crate) fn set_now(&self, now: i64) {
        let mut state = self.state();
        state.now = state.now.max(now);
    }

    /// Makes files that do not say when they were made, as some file systems do.
    pub(crate) fn tell_no_birth(&self) {
        self.state().tells_no_birth = true;
    }

    /// Does something before the `after`th operation of the source from now on.
    pub(crate) fn plan(&self, after: u64, plan: Plan) {
        let mut state = self.state();
        let at = state.operations + after;
        let place = state.plans.partition_point(|(other, _)| *other <= at);
        state.plans.insert(place, (at, plan));
    }

    /// Does at once what was planned and has not happened yet.
    pub(crate) fn carry_out(&self) {
        while let Some((_, plan)) = { self.state().plans.pop_front() } {
            plan(self);
        }
    }

    pub(crate) fn most_open(&self) -> usize {
        self.state().most_open
    }

    fn node(&self, path: &str) -> Arc<Node> {
        let mut state = self.state();
        match state.names.get(Path::new(path)) {
            Some(Name::File(node)) => node.clone(),
            Some(_) => panic!("{path} is no file"),
            None => {
                state.make_folders(Path::new(path));
                let inode = state.free_inode();
                // An inode that is used again is another file's: no two are made at one time.
                state.now += 1;
                let created = if state.tells_no_birth { 0 } else { state.now };
                let node = Arc::new(Node { inode, created, content: Mutex::new((Vec::new(), state.now)) });
                state.inodes.insert(inode, Arc::downgrade(&node));
                state.names.insert(path.into(), Name::File(node.clone()));
                node
            }
        }
    }

    /// An operation of the source: what was planned before it happens now.
    fn step(&self) -> MutexGuard<'_, State> {
        self.state().operations += 1;
        loop {
            let mut state = self.state();
            if state.plans.front().is_none_or(|(at, _)| *at > state.operations) {
                return state;
            }
            let (_, plan) = state.plans.pop_front().unwrap();
            drop(state);
            plan(self);
        }
    }
}

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl State {
    fn make_folders(&mut self, path: &Path) {
        for folder in path.ancestors().skip(1) {
            if !self.names.contains_key(folder) {
                let inode = 1_000_000 + self.names.len() as u64;
                self.names.insert(folder.into(), Name::Folder(inode));
            }
        }
    }

    fn free_inode(&self) -> u64 {
        (10..).find(|inode| self.inodes.get(inode).is_none_or(|node| node.strong_count() == 0)).unwrap()
    }

    /// What a path stands for after all links.
    fn resolve(&self, path: &Path, links: usize) -> io::Result<&Name> {
        if links > 40 {
            return Err(io::Error::other("too many levels of symbolic links"));
        }
        let mut at = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            match part {
                Component::ParentDir => drop(at.pop()),
                part => at.push(part),
            }
            if let Some(Name::Link(target)) = self.names.get(&at) {
                let target = at.parent().unwrap_or(Path::new("/")).join(target);
                return self.resolve(&target.join(parts.as_path()), links + 1);
            }
        }
        self.names.get(&at).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Name {
    fn metadata(&self) -> Metadata {
        let plain = |kind, inode| Metadata { kind, length: 0, device: 1, inode, modified: 0, created: 0 };
        match self {
            Name::File(node) => node.metadata(),
            Name::Folder(inode) => plain(Kind::Folder, *inode),
            Name::Link(_) => plain(Kind::Link, 2_000_000),
            Name::Pipe => plain(Kind::Other, 2_000_001),
        }
    }
}

impl Node {
    fn metadata(&self) -> Metadata {
        let content = self.content.lock().unwrap();
        let (length, modified) = (content.0.len() as u64, content.1);
        Metadata { kind: Kind::File, length, device: 1, inode: self.inode, modified, created: self.created }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        assert_eq!(open, Open::Read, "a source only reads");
        let mut state = self.step();
        if state.refused.contains(path) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let Name::File(node) = state.resolve(path, 0)?.clone() else { panic!("opened what is no file") };
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        drop(state);
        Ok(Arc::new(Handle { disk: self.clone(), node }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let state = self.step();
        if state.refused.contains(folder) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let Name::Folder(inode) = state.resolve(folder, 0)? else { return Err(io::ErrorKind::NotADirectory.into()) };
        let is_it = |(_, name): &(&PathBuf, &Name)| matches!(name, Name::Folder(other) if other == inode);
        let real = state.names.iter().find(is_it).map(|(path, _)| path).expect("a folder has a path");
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(real));
        let entry = |(path, name): (&PathBuf, &Name)| Entry {
            name: path.file_name().unwrap().to_owned(),
            kind: name.metadata().kind,
        };
        Ok(inside.rev().map(entry).collect())
    }

    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        let state = self.step();
        if !follow && let Some(name) = state.names.get(path) {
            return Ok(name.metadata());
        }
        state.resolve(path, 0).map(Name::metadata)
    }

    fn create_folder(&self, _: &Path) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn lock(&self, _: &Path, _: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        panic!("a source only reads")
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        panic!("a source only reads")
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        drop(self.disk.step());
        let content = self.node.content.lock().unwrap();
        let from = content.0.len().min(offset as usize);
        let to = content.0.len().min(from + length);
        buffer.extend_from_slice(&content.0[from..to]);
        Ok(to - from)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn sync(&self) -> io::Result<()> {
        panic!("a source only reads")
    }

    fn metadata(&self) -> io::Result<Metadata> {
        drop(self.disk.step());
        Ok(self.node.metadata())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state().open -= 1;
    }
}
