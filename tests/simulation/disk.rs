//! A disk in memory that does to what was not synced whatever a real one may do when the power fails: keeps it, drops
//! it, tears it, forgets names. Its syncs fail, it fills up, it turns read-only.
//!
//! Files under `/logs` belong to the simulated application: what happens to them is durable at once, because another
//! program's losses are not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use aqueduct_api::disk::{Disk, Entry, File, Kind, LockError, Metadata, Open, Space};

use crate::dice::Dice;
use crate::life::{Life, Time, Trace};

/// What the device writes whole or not at all.
const SECTOR: u64 = 512;
const ROOT: u64 = 1;
const DEVICE: u64 = 7;
/// The size of the disk unless it is made smaller.
const PLENTY: u64 = 8 << 20;

/// What goes wrong while the power is on, each so many times in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskFaults {
    /// A sync fails; what it covered is marked clean, and is on the disk or not.
    pub(crate) sync: u64,
    /// A sync that fails leaves a disk on which nothing can be changed for a while.
    pub(crate) freeze: u64,
    /// A folder's sync fails.
    pub(crate) sync_folder: u64,
    /// A write fails after a part of it.
    pub(crate) write: u64,
    /// Opening, listing, renaming, removing or making something fails.
    pub(crate) names: u64,
    /// A read fails.
    pub(crate) read: u64,
    /// Nothing can be changed.
    pub(crate) read_only: bool,
}

/// The disk, which survives every life.
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The disk as one life of the machine sees it.
pub(crate) struct Mounted {
    state: Arc<Mutex<State>>,
    life: Arc<Life>,
}

struct State {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    locks: BTreeMap<PathBuf, (u64, String)>,
    next_lock: u64,
    capacity: u64,
    faults: DiskFaults,
    operations: u64,
    /// Up to this operation nothing can be changed.
    frozen: u64,
    crash_at: Option<u64>,
    dice: Dice,
    time: Arc<Time>,
    trace: Arc<Trace>,
}

struct Node {
    modified: i64,
    kind: NodeKind,
    /// The application's: always durable.
    plain: bool,
    /// Without a name; its room is free once nobody has it open.
    unlinked: bool,
    open: u64,
}

enum NodeKind {
    File(FileNode),
    Folder(FolderNode),
}

#[derive(Default)]
struct FileNode {
    /// What reads see.
    seen: Vec<u8>,
    /// What is on the disk for certain.
    durable: Vec<u8>,
    /// What happened since then and was not declared clean by a failed sync.
    pending: Vec<Change>,
}

enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Default)]
struct FolderNode {
    seen: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<NameChange>,
}

enum NameChange {
    Put(OsString, u64),
    Remove(OsString),
    Rename(OsString, OsString, u64),
}

impl SimDisk {
    pub(crate) fn new(dice: Dice, time: Arc<Time>, trace: Arc<Trace>) -> Self {
        let mut state = State {
            nodes: BTreeMap::new(),
            next_inode: ROOT + 1,
            locks: BTreeMap::new(),
            next_lock: 0,
            capacity: PLENTY,
            faults: DiskFaults::default(),
            operations: 0,
            frozen: 0,
            crash_at: None,
            dice,
            time,
            trace,
        };
        state.nodes.insert(ROOT, Node::new(NodeKind::Folder(FolderNode::default()), 0, false));
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk for another life.
    pub(crate) fn mount(&self, life: Arc<Life>) -> Arc<Mounted> {
        Arc::new(Mounted { state: self.state.clone(), life })
    }

    /// The power fails at the `after`th operation from now.
    pub(crate) fn crash_after(&self, after: Option<u64>) {
        let mut state = self.state();
        state.crash_at = after.map(|after| state.operations + after);
    }

    /// The power fails now; called for a life that is over.
    pub(crate) fn crash(&self) {
        self.state().crash();
    }

    /// The process ends, and the machine goes on: nothing is lost but what only a process holds.
    pub(crate) fn end_of_process(&self) {
        self.state().end_of_process();
    }

    pub(crate) fn set_faults(&self, faults: DiskFaults) {
        let mut state = self.state();
        state.faults = faults;
        state.frozen = 0;
    }

    /// Leaves room for `bytes` more; `None`: plenty.
    pub(crate) fn leave_room(&self, bytes: Option<u64>) {
        let mut state = self.state();
        state.capacity = bytes.map_or(PLENTY, |bytes| state.used() + bytes);
    }

    /// Makes a folder whose files are the application's.
    pub(crate) fn make_plain_folder(&self, path: &Path) {
        let mut state = self.state();
        state.make_folders(path).unwrap();
        let inode = state.find(path).unwrap();
        for node in state.nodes.values_mut() {
            node.settle_all();
        }
        state.nodes.get_mut(&inode).unwrap().plain = true;
    }

    /// Makes a folder without files, as a daemon does with its temporary ones before it starts.
    pub(crate) fn empty(&self, path: &Path) {
        let mut state = self.state();
        state.make_folders(path).unwrap();
        let mut found = Vec::new();
        let inode = state.find(path).unwrap();
        state.walk(inode, path, &mut found);
        found.iter().for_each(|(file, _)| state.remove(file).unwrap());
    }

    /// The application appends to its file, making it where missing.
    pub(crate) fn append(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let inode = match state.find(path) {
            Ok(inode) => inode,
            Err(_) => state.make_file(path).unwrap(),
        };
        let now = state.time.now();
        let node = state.nodes.get_mut(&inode).unwrap();
        node.modified = now;
        let file = node.file().unwrap();
        file.seen.extend_from_slice(bytes);
        file.durable = file.seen.clone();
    }

    /// The application cuts its file to nothing.
    pub(crate) fn cut(&self, path: &Path) {
        let mut state = self.state();
        let inode = state.find(path).unwrap();
        let now = state.time.now();
        let node = state.nodes.get_mut(&inode).unwrap();
        node.modified = now;
        *node.file().unwrap() = FileNode::default();
    }

    /// The application renames its file.
    pub(crate) fn rename(&self, from: &Path, to: &Path) {
        self.state().rename(from, to).unwrap();
    }

    /// The application removes its file.
    pub(crate) fn remove(&self, path: &Path) {
        self.state().remove(path).unwrap();
    }

    /// All files under a folder, as they are seen now.
    pub(crate) fn files(&self, under: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        let mut found = Vec::new();
        if let Ok(inode) = state.find(under) {
            state.walk(inode, under, &mut found);
        }
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Node {
    fn new(kind: NodeKind, modified: i64, plain: bool) -> Self {
        Node { modified, kind, plain, unlinked: false, open: 0 }
    }

    fn file(&mut self) -> io::Result<&mut FileNode> {
        match &mut self.kind {
            NodeKind::File(file) => Ok(file),
            NodeKind::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn folder(&mut self) -> io::Result<&mut FolderNode> {
        match &mut self.kind {
            NodeKind::Folder(folder) => Ok(folder),
            NodeKind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn names(&self) -> io::Result<&BTreeMap<OsString, u64>> {
        match &self.kind {
            NodeKind::Folder(folder) => Ok(&folder.seen),
            NodeKind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn length(&self) -> u64 {
        match &self.kind {
            NodeKind::File(file) => file.seen.len() as u64,
            NodeKind::Folder(_) => 0,
        }
    }

    fn settle_all(&mut self) {
        match &mut self.kind {
            NodeKind::File(file) => file.sync(),
            NodeKind::Folder(folder) => folder.sync(),
        }
    }
}

impl FileNode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Writes back what is dirty, and only that: what a failed sync marked clean stays as it is on the disk.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            if let Change::Write { at, bytes } = change {
                let end = (at + bytes.len() as u64).next_multiple_of(SECTOR).min(self.seen.len() as u64) as usize;
                let start = ((at / SECTOR * SECTOR) as usize).min(end);
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[start..end].copy_from_slice(&self.seen[start..end]);
            }
        }
        self.durable.resize(self.seen.len(), 0);
    }

    /// Some of what was not synced made it to the disk, some did not.
    fn settle(&mut self, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        match dice.below(6) {
            0 | 1 => {}
            2 => pending.iter().for_each(|change| change.apply(&mut self.durable)),
            3 | 4 => self.settle_prefix(&pending, dice),
            _ => self.settle_scattered(&pending, dice),
        }
    }

    /// The first few changes happened, and a part of the one after them.
    fn settle_prefix(&mut self, pending: &[Change], dice: &mut Dice) {
        let whole = dice.below(pending.len() as u64 + 1) as usize;
        pending[..whole].iter().for_each(|change| change.apply(&mut self.durable));
        if let Some(Change::Write { at, bytes }) = pending.get(whole) {
            let mut kept = dice.below(bytes.len() as u64 + 1);
            if dice.one_in(2) {
                kept = (at + kept).next_multiple_of(SECTOR).saturating_sub(*at).min(bytes.len() as u64);
            }
            Change::Write { at: *at, bytes: bytes[..kept as usize].to_vec() }.apply(&mut self.durable);
        }
    }

    /// Sectors were written in any order; lengths changed in theirs. What was written after a cut that did not happen did
    /// not happen either, since file systems order the two.
    fn settle_scattered(&mut self, pending: &[Change], dice: &mut Dice) {
        let mut considered = pending.len();
        let mut length = self.durable.len() as u64;
        let mut lengths = vec![length];
        for (place, change) in pending.iter().enumerate() {
            let next = change.length_after(length);
            if next < length {
                if dice.one_in(2) {
                    considered = place;
                    break;
                }
                lengths.clear();
            }
            length = next;
            lengths.push(length);
        }
        let mut target = self.durable.clone();
        let mut dirty = BTreeSet::new();
        for change in &pending[..considered] {
            change.apply(&mut target);
            match change {
                Change::Write { at, bytes } if !bytes.is_empty() => {
                    dirty.extend(at / SECTOR..=(at + bytes.len() as u64 - 1) / SECTOR);
                }
                Change::Write { .. } => {}
                Change::Length(length) => self.durable.truncate(*length as usize),
            }
        }
        self.durable.resize(target.len(), 0);
        for sector in dirty {
            let start = ((sector * SECTOR) as usize).min(target.len());
            let end = (start + SECTOR as usize).min(target.len());
            if !dice.one_in(3) {
                self.durable[start..end].copy_from_slice(&target[start..end]);
            }
        }
        self.durable.truncate(*dice.pick(&lengths) as usize);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                if !bytes.is_empty() && content.len() < end {
                    content.resize(end, 0);
                }
                if !bytes.is_empty() {
                    content[at..end].copy_from_slice(bytes);
                }
            }
            Change::Length(length) => content.resize(*length as usize, 0),
        }
    }

    fn length_after(&self, length: u64) -> u64 {
        match self {
            Change::Write { at, bytes } if !bytes.is_empty() => length.max(at + bytes.len() as u64),
            Change::Write { .. } => length,
            Change::Length(length) => *length,
        }
    }
}

impl FolderNode {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        self.pending.drain(..).for_each(|change| change.apply(&mut self.durable));
    }

    /// The first few changes happened.
    fn settle(&mut self, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        let kept = match dice.below(3) {
            0 => 0,
            1 => pending.len(),
            _ => dice.below(pending.len() as u64 + 1) as usize,
        };
        pending[..kept].iter().for_each(|change| change.apply(&mut self.durable));
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
        match self {
            NameChange::Put(name, inode) => drop(names.insert(name.clone(), *inode)),
            NameChange::Remove(name) => drop(names.remove(name)),
            NameChange::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<u64> {
        let mut inode = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let names = self.nodes[&inode].names()?;
                inode = *names.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(inode)
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(u64, &'p OsStr)> {
        let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(parent)?, name))
    }

    fn node(&mut self, inode: u64) -> &mut Node {
        self.nodes.get_mut(&inode).expect("an inode is kept while it has a name or is open")
    }

    fn add(&mut self, parent: u64, name: &OsStr, kind: NodeKind) -> io::Result<u64> {
        let (inode, now) = (self.next_inode, self.time.now());
        self.next_inode += 1;
        let plain = self.nodes[&parent].plain;
        self.nodes.insert(inode, Node::new(kind, now, plain));
        self.change_names(parent, NameChange::Put(name.to_owned(), inode))?;
        Ok(inode)
    }

    fn change_names(&mut self, folder: u64, change: NameChange) -> io::Result<()> {
        let now = self.time.now();
        let node = self.node(folder);
        node.modified = now;
        let plain = node.plain;
        let folder = node.folder()?;
        folder.change(change);
        if plain {
            folder.sync();
        }
        Ok(())
    }

    fn make_file(&mut self, path: &Path) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        self.add(parent, name, NodeKind::File(FileNode::default()))
    }

    fn make_folders(&mut self, path: &Path) -> io::Result<()> {
        let mut inode = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                inode = match self.nodes[&inode].names()?.get(name) {
                    Some(inode) => *inode,
                    None => self.add(inode, name, NodeKind::Folder(FolderNode::default()))?,
                };
            }
        }
        self.nodes[&inode].names().map(drop)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let ((old, old_name), (new, new_name)) = (self.parent(from)?, self.parent(to)?);
        if let Some(&replaced) = self.nodes[&new].names()?.get(new_name)
            && replaced != inode
        {
            if let NodeKind::Folder(folder) = &self.nodes[&replaced].kind
                && !folder.seen.is_empty()
            {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            self.node(replaced).unlinked = true;
        }
        if old == new {
            return self.change_names(old, NameChange::Rename(old_name.to_owned(), new_name.to_owned(), inode));
        }
        self.change_names(new, NameChange::Put(new_name.to_owned(), inode))?;
        self.change_names(old, NameChange::Remove(old_name.to_owned()))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        let (parent, name) = self.parent(path)?;
        if self.nodes[&inode].names().is_ok_and(|names| !names.is_empty()) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.node(inode).unlinked = true;
        self.change_names(parent, NameChange::Remove(name.to_owned()))
    }

    /// Bytes taken, without the application's.
    fn used(&self) -> u64 {
        let taken = self.nodes.values().filter(|node| !(node.plain || node.unlinked && node.open == 0));
        taken.map(Node::length).sum()
    }

    fn walk(&self, inode: u64, path: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        match &self.nodes[&inode].kind {
            NodeKind::File(file) => found.push((path.to_owned(), file.seen.clone())),
            NodeKind::Folder(folder) => {
                for (name, inode) in &folder.seen {
                    self.walk(*inode, &path.join(name), found);
                }
            }
        }
    }

    fn metadata(&self, inode: u64) -> Metadata {
        let node = &self.nodes[&inode];
        let kind = if matches!(node.kind, NodeKind::File(_)) { Kind::File } else { Kind::Folder };
        Metadata { kind, length: node.length(), device: DEVICE, inode, modified: node.modified }
    }

    fn end_of_process(&mut self) {
        self.crash_at = None;
        self.locks.clear();
        self.nodes.values_mut().for_each(|node| node.open = 0);
    }

    fn crash(&mut self) {
        self.trace.event(&self.time, format!("the power fails at disk operation {}", self.operations));
        self.end_of_process();
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                NodeKind::File(file) if !node.plain => {
                    file.settle(&mut self.dice);
                    file.seen = file.durable.clone();
                }
                NodeKind::Folder(folder) if !node.plain => {
                    folder.settle(&mut self.dice);
                    folder.seen = folder.durable.clone();
                }
                _ => {}
            }
        }
        self.forget_unnamed();
    }

    fn forget_unnamed(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            let Ok(names) = self.nodes[&folder].names() else { continue };
            let inodes: Vec<u64> = names.values().copied().collect();
            folders.extend(inodes.iter().filter(|inode| named.insert(**inode)));
        }
        self.nodes.retain(|inode, _| named.contains(inode));
        self.nodes.values_mut().for_each(|node| node.unlinked = false);
    }
}

fn no_power() -> io::Error {
    io::Error::other("the simulated power failed")
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// What an operation does, as far as faults are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Looking,
    Reading,
    Writing,
    Syncing,
    SyncingFolder,
    Naming,
}

impl Mounted {
    /// Runs one operation: the power may fail before or after it, and the disk may refuse it.
    fn run<T>(
        &self,
        doing: Doing,
        what: impl FnOnce() -> String,
        operation: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock().unwrap();
        if self.life.is_over() {
            return Err(no_power());
        }
        state.operations += 1;
        let last = state.crash_at == Some(state.operations);
        let result = if last && state.dice.one_in(2) {
            Err(no_power())
        } else {
            self.refuse(&mut state, doing).and_then(|()| operation(&mut state))
        };
        if doing != Doing::Looking && doing != Doing::Reading {
            let told = result.as_ref().err().map_or(String::new(), |error| format!(": {error}"));
            state.trace.event(&state.time, format!("disk {}{told}", what()));
        }
        if last {
            if state.dice.one_in(3) {
                state.trace.event(&state.time, "the process is killed".to_owned());
                state.end_of_process();
            } else {
                state.crash();
            }
            self.life.end();
            return Err(no_power());
        }
        result
    }

    fn refuse(&self, state: &mut State, doing: Doing) -> io::Result<()> {
        let faults = state.faults;
        let is_frozen = faults.read_only || state.operations < state.frozen;
        if is_frozen && !matches!(doing, Doing::Looking | Doing::Reading) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let chance = match doing {
            Doing::Looking | Doing::Writing | Doing::Syncing => 0,
            Doing::Reading => faults.read,
            Doing::SyncingFolder => faults.sync_folder,
            Doing::Naming => faults.names,
        };
        if chance > 0 && state.dice.permille(chance) { Err(failed()) } else { Ok(()) }
    }
}

impl Disk for Mounted {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let doing = if open == Open::Read { Doing::Reading } else { Doing::Naming };
        let inode = self.run(
            doing,
            || format!("open {} {open:?}", path.display()),
            |state| {
                let inode = match (state.find(path), open) {
                    (Ok(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
                    (Ok(inode), _) => inode,
                    (Err(error), Open::Read) => return Err(error),
                    (Err(_), _) => state.make_file(path)?,
                };
                if open != Open::Read {
                    state.node(inode).file()?;
                }
                state.node(inode).open += 1;
                Ok(inode)
            },
        )?;
        let (state, life) = (self.state.clone(), self.life.clone());
        let mounted = Mounted { state, life };
        Ok(Arc::new(OpenFile { mounted, inode, path: path.to_owned(), writes: open != Open::Read }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.run(Doing::Reading, String::new, |state| {
            let inode = state.find(folder)?;
            let names = state.nodes[&inode].names()?;
            Ok(names
                .iter()
                .map(|(name, inode)| Entry { name: name.clone(), kind: state.metadata(*inode).kind })
                .collect())
        })
    }

    fn metadata(&self, path: &Path, _follow: bool) -> io::Result<Metadata> {
        self.run(Doing::Looking, String::new, |state| state.find(path).map(|inode| state.metadata(inode)))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.run(Doing::Naming, || format!("make folder {}", path.display()), |state| state.make_folders(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = || format!("rename {} to {}", from.display(), to.display());
        self.run(Doing::Naming, what, |state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(Doing::Naming, || format!("remove {}", path.display()), |state| state.remove(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.run(
            Doing::SyncingFolder,
            || format!("sync folder {}", path.display()),
            |state| {
                let inode = state.find(path)?;
                state.node(inode).folder()?.sync();
                Ok(())
            },
        )
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        let held = self.run(
            Doing::Naming,
            || format!("lock {}", path.display()),
            |state| {
                if let Some((_, holder)) = state.locks.get(path) {
                    return Ok(Err(holder.clone()));
                }
                if state.find(path).is_err() {
                    state.make_file(path)?;
                }
                state.next_lock += 1;
                let number = state.next_lock;
                state.locks.insert(path.to_owned(), (number, owner.to_owned()));
                Ok(Ok(number))
            },
        );
        match held.map_err(LockError::Io)? {
            Ok(number) => Ok(Box::new(Lock { state: self.state.clone(), path: path.to_owned(), number })),
            Err(holder) => Err(LockError::Held(holder)),
        }
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        self.run(Doing::Looking, String::new, |state| {
            let total = state.capacity;
            Ok(Space { total, available: total.saturating_sub(state.used()) })
        })
    }
}

struct Lock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    number: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap();
        if state.locks.get(&self.path).is_some_and(|(number, _)| *number == self.number) {
            state.locks.remove(&self.path);
        }
    }
}

struct OpenFile {
    mounted: Mounted,
    inode: u64,
    path: PathBuf,
    writes: bool,
}

impl OpenFile {
    fn run<T>(
        &self,
        doing: Doing,
        what: impl FnOnce() -> String,
        operation: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        if !self.writes && !matches!(doing, Doing::Looking | Doing::Reading | Doing::Syncing) {
            return Err(io::Error::from_raw_os_error(9));
        }
        self.mounted.run(doing, || format!("{} {}", what(), self.path.display()), operation)
    }

    fn resize(&self, length: u64, cuts: bool) -> io::Result<()> {
        self.run(
            Doing::Writing,
            || format!("resize to {length}"),
            |state| {
                let before = state.nodes[&self.inode].length();
                if length > before && state.used() + (length - before) > state.capacity {
                    return Err(full());
                }
                if length != before && (length > before || cuts) {
                    let now = state.time.now();
                    let node = state.node(self.inode);
                    node.modified = now;
                    node.file()?.change(Change::Length(length));
                }
                Ok(())
            },
        )
    }
}

impl File for OpenFile {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        self.run(Doing::Reading, String::new, |state| {
            let content = &state.node(self.inode).file()?.seen;
            let start = (offset as usize).min(content.len());
            let end = start.saturating_add(length).min(content.len());
            buffer.extend_from_slice(&content[start..end]);
            Ok(end - start)
        })
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let length = bytes.len() as u64;
        self.run(
            Doing::Writing,
            || format!("write {offset}+{length} of"),
            |state| {
                let before = state.nodes[&self.inode].length();
                let growth = (offset + length).saturating_sub(before);
                let room = state.capacity.saturating_sub(state.used());
                let (mut kept, mut result) = (length, Ok(()));
                if growth > room {
                    (kept, result) = (length.saturating_sub(growth - room), Err(full()));
                } else if state.faults.write > 0 && state.dice.permille(state.faults.write) {
                    (kept, result) = (state.dice.below(length + 1), Err(failed()));
                }
                let now = state.time.now();
                let node = state.node(self.inode);
                node.modified = now;
                let mut bytes = bytes;
                bytes.truncate(kept as usize);
                node.file()?.change(Change::Write { at: offset, bytes });
                result
            },
        )
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.resize(length, true)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.resize(length, false)
    }

    fn sync(&self) -> io::Result<()> {
        self.run(
            Doing::Syncing,
            || "sync".to_owned(),
            |state| {
                let fails = state.faults.sync > 0 && state.dice.permille(state.faults.sync);
                let mut dice = state.dice.clone();
                let file = state.node(self.inode).file()?;
                let dirty = !file.pending.is_empty();
                if fails && dirty {
                    file.settle(&mut dice);
                    if state.faults.freeze > 0 && dice.permille(state.faults.freeze) {
                        state.frozen = state.operations + dice.between(5, 60);
                    }
                    state.dice = dice;
                    return Err(failed());
                }
                file.sync();
                Ok(())
            },
        )
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.run(Doing::Looking, String::new, |state| Ok(state.metadata(self.inode)))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.mounted.life.is_over() {
            return;
        }
        if let Some(node) = self.mounted.state.lock().unwrap().nodes.get_mut(&self.inode) {
            node.open = node.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of a disk on which `act` ran and the power failed, for many seeds.
    fn after_crash(act: impl Fn(&SimDisk, &dyn Disk)) -> BTreeSet<Vec<(PathBuf, Vec<u8>)>> {
        (0..200)
            .map(|seed| {
                let (time, trace) = (Time::new(), Trace::new(false));
                let disk = SimDisk::new(Dice::new(seed, "disk"), time, trace);
                act(&disk, &*disk.mount(Life::new()));
                disk.crash();
                disk.files(Path::new("/"))
            })
            .collect()
    }

    fn write(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
        let file = disk.open(Path::new(path), Open::Write).unwrap();
        file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
        file
    }

    fn file(path: &str, bytes: &[u8]) -> (PathBuf, Vec<u8>) {
        (PathBuf::from(path), bytes.to_vec())
    }

    #[test]
    fn what_was_synced_with_its_name_is_always_there() {
        let left = after_crash(|_, disk| {
            write(disk, "/a", b"durable").sync().unwrap();
            disk.sync_folder(Path::new("/")).unwrap();
        });
        assert_eq!(left, BTreeSet::from([vec![file("/a", b"durable")]]));
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_lost() {
        let left = after_crash(|_, disk| write(disk, "/a", b"durable").sync().unwrap());
        assert_eq!(left, BTreeSet::from([vec![], vec![file("/a", b"durable")]]));
    }

    #[test]
    fn what_was_not_synced_is_kept_lost_or_torn() {
        let long = vec![b'x'; 3 * SECTOR as usize];
        let left = after_crash(|_, disk| {
            write(disk, "/a", b"");
            disk.sync_folder(Path::new("/")).unwrap();
            write(disk, "/a", &long);
        });
        assert!(left.contains(&vec![file("/a", b"")]) && left.contains(&vec![file("/a", &long)]));
        let torn =
            |bytes: &[u8]| !bytes.is_empty() && bytes.len() < long.len() && bytes.iter().all(|byte| *byte == b'x');
        assert!(left.iter().any(|files| torn(&files[0].1)), "a prefix is left");
        assert!(left.iter().any(|files| files[0].1.contains(&0)), "a hole is left");
    }

    #[test]
    fn what_was_synced_survives_whatever_happens_later_to_other_bytes() {
        let left = after_crash(|_, disk| {
            let file = write(disk, "/a", &[b'x'; 700]);
            file.sync().unwrap();
            disk.sync_folder(Path::new("/")).unwrap();
            file.write_at(&[IoSlice::new(&[b'y'; 2000])], 700).unwrap();
        });
        assert!(left.iter().all(|files| files[0].1[..700] == [b'x'; 700]));
    }

    #[test]
    fn a_failed_sync_is_not_mended_by_the_next() {
        let left = after_crash(|whole, disk| {
            let file = write(disk, "/a", b"said to be clean");
            disk.sync_folder(Path::new("/")).unwrap();
            whole.set_faults(DiskFaults { sync: 1000, ..DiskFaults::default() });
            file.sync().unwrap_err();
            whole.set_faults(DiskFaults::default());
            file.sync().unwrap();
            let mut seen = Vec::new();
            file.read_at(&mut seen, 100, 0).unwrap();
            assert_eq!(seen, b"said to be clean");
        });
        assert!(left.iter().any(|files| files[0].1 != b"said to be clean"));
    }

    #[test]
    fn names_change_in_their_order() {
        let left = after_crash(|_, disk| {
            write(disk, "/a", b"1").sync().unwrap();
            disk.sync_folder(Path::new("/")).unwrap();
            disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
            disk.rename(Path::new("/b"), Path::new("/c")).unwrap();
        });
        let one = |path| vec![file(path, b"1")];
        assert_eq!(left, BTreeSet::from([one("/a"), one("/b"), one("/c")]));
    }

    #[test]
    fn a_full_disk_takes_a_part_and_is_freed_by_removing() {
        let disk = SimDisk::new(Dice::new(1, "disk"), Time::new(), Trace::new(false));
        let mounted = disk.mount(Life::new());
        drop(write(&*mounted, "/a", &[1; 100]));
        disk.leave_room(Some(50));
        let file = mounted.open(Path::new("/b"), Open::New).unwrap();
        assert_eq!(file.write_at(&[IoSlice::new(&[2; 80])], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.metadata().unwrap().length, 50);
        mounted.remove(Path::new("/a")).unwrap();
        file.write_at(&[IoSlice::new(&[2; 80])], 0).unwrap();
        assert_eq!(mounted.space(Path::new("/")).unwrap().available, 70);
    }

    #[test]
    fn a_machine_without_power_changes_nothing_and_holds_no_locks() {
        let disk = SimDisk::new(Dice::new(1, "disk"), Time::new(), Trace::new(false));
        let life = Life::new();
        let mounted = disk.mount(life.clone());
        let lock = mounted.lock(Path::new("/lock"), "one").unwrap();
        assert!(matches!(mounted.lock(Path::new("/lock"), "two"), Err(LockError::Held(holder)) if holder == "one"));
        disk.crash_after(Some(1));
        mounted.open(Path::new("/a"), Open::New).err().unwrap();
        assert!(life.is_over());
        mounted.create_folder(Path::new("/b")).unwrap_err();
        let next = disk.mount(Life::new());
        let again = next.lock(Path::new("/lock"), "three").unwrap();
        drop(lock);
        assert!(next.lock(Path::new("/lock"), "four").is_err(), "the lock of a dead owner is not that of the next");
        drop(again);
    }
}
