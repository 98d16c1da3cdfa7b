//! A disk in memory that ends at any change, and then forgets or tears what was not synced; or that fails and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use aqueduct_api::disk::{Disk, Entry, File, Kind, LockError, Metadata, Open, Space};

/// The disk.
#[derive(Clone, Default)]
pub(crate) struct CrashDisk(Arc<Mutex<State>>);

/// What can fail while all else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Write,
    Truncate,
    Sync,
    SyncFolder,
    Rename,
    Remove,
}

pub(crate) const CALLS: [Call; 7] =
    [Call::Open, Call::Write, Call::Truncate, Call::Sync, Call::SyncFolder, Call::Rename, Call::Remove];

/// Some calls that fail: `times` of them after `after` that do not.
struct Failure {
    call: Call,
    after: u64,
    times: u64,
}

#[derive(Default)]
struct State {
    failures: Vec<Failure>,
    /// How many calls have failed.
    failed: u64,
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, Name>,
    /// Names as they are after a loss of power, at least.
    durable: BTreeMap<PathBuf, Name>,
    links: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    life: u64,
    changes: u64,
    /// At which change everything ends.
    end: Option<u64>,
    /// How many more bytes there is room for.
    room: Option<usize>,
    dice: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    File(usize),
    Folder,
}

#[derive(Default)]
struct Node {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last sync.
    changes: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Cut(length) => bytes.resize(*length, 0),
            Change::Write(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
        }
    }
}

impl State {
    /// A change, which may be the last, or fail.
    fn change(&mut self, call: Call) -> io::Result<()> {
        self.changes += 1;
        for failure in self.failures.iter_mut().filter(|failure| failure.call == call) {
            if failure.after > 0 {
                failure.after -= 1;
            } else if failure.times > 0 {
                failure.times -= 1;
                self.failed += 1;
                return Err(io::Error::other(format!("{call:?} fails")));
            }
        }
        match self.end {
            Some(end) if self.changes >= end => Err(io::Error::other("the machine has ended")),
            _ => Ok(()),
        }
    }

    /// One of `sides`, by chance.
    fn dice(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn name(&self, path: &Path) -> io::Result<Name> {
        if path.parent().is_none() {
            return Ok(Name::Folder);
        }
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl CrashDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets everything end at the `after`th change from now on.
    pub(crate) fn end_after(&self, after: u64) {
        let mut state = self.state();
        state.end = Some(state.changes + after);
    }

    /// How many changes there were.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Lets `times` calls of a kind fail after `after` more that do not.
    pub(crate) fn fail(&self, call: Call, after: u64, times: u64) {
        self.state().failures.push(Failure { call, after, times });
    }

    /// How many calls have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.state().failed
    }

    pub(crate) fn room(&self, bytes: Option<usize>) {
        self.state().room = bytes;
    }

    /// Makes a path tell that it is a symbolic link.
    pub(crate) fn link(&self, path: &str) {
        self.state().links.insert(path.into());
    }

    /// A new life: with all that was done, or with what a loss of power left.
    pub(crate) fn restart(&self, lost_power: bool, seed: u64) {
        let mut state = self.state();
        state.life += 1;
        state.locks.clear();
        (state.end, state.dice) = (None, seed);
        state.failures.clear();
        if !lost_power {
            return;
        }
        for index in 0..state.nodes.len() {
            let node = &mut state.nodes[index];
            let (mut bytes, changes) = (std::mem::take(&mut node.durable), std::mem::take(&mut node.changes));
            for change in changes {
                match (state.dice(3), change) {
                    (0, _) => {}
                    (1, Change::Write(at, new)) if !new.is_empty() => {
                        // A part is there, and what lies before it may be zeros.
                        let (from, to) = (state.dice(new.len() as u64) as usize, new.len());
                        let part = if state.dice(2) == 0 { 0..from } else { from..to };
                        Change::Write(at + part.start, new[part].to_vec()).apply(&mut bytes);
                    }
                    (_, change) => change.apply(&mut bytes),
                }
            }
            state.nodes[index] = Node { now: bytes.clone(), durable: bytes, changes: Vec::new() };
        }
        let (now, durable) = (state.names.clone(), state.durable.clone());
        let paths: BTreeSet<&PathBuf> = now.keys().chain(durable.keys()).collect();
        let mut names = BTreeMap::new();
        for path in paths {
            let side = if state.dice(2) == 0 { &now } else { &durable };
            let has_folder = path.parent().is_none_or(|it| it.parent().is_none() || names.contains_key(it));
            if let Some(name) = side.get(path).filter(|_| has_folder) {
                names.insert(path.clone(), *name);
            }
        }
        (state.names, state.durable) = (names.clone(), names);
    }
}

struct Handle {
    disk: CrashDisk,
    node: usize,
}

struct Lock(CrashDisk, PathBuf, u64);

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.life == self.2 {
            state.locks.remove(&self.1);
        }
    }
}

impl Disk for CrashDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let node = match (state.name(path), open) {
            (Ok(Name::Folder), _) => return Err(ErrorKind::IsADirectory.into()),
            (Ok(Name::File(_)), Open::New) => return Err(ErrorKind::AlreadyExists.into()),
            (Ok(Name::File(node)), _) => node,
            (Err(cause), Open::Read) => return Err(cause),
            (Err(_), _) => {
                state.change(Call::Open)?;
                state.name(path.parent().unwrap())?;
                state.nodes.push(Node::default());
                let node = state.nodes.len() - 1;
                state.names.insert(path.to_owned(), Name::File(node));
                node
            }
        };
        Ok(Arc::new(Handle { disk: self.clone(), node }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        Ok(inside
            .map(|(path, name)| {
                let kind = if *name == Name::Folder { Kind::Folder } else { Kind::File };
                Entry { name: path.file_name().unwrap().to_owned(), kind }
            })
            .collect())
    }

    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        let state = self.state();
        let (kind, length, inode) = match state.name(path)? {
            _ if !follow && state.links.contains(path) => (Kind::Link, 0, 0),
            Name::Folder => (Kind::Folder, 0, 0),
            Name::File(node) => (Kind::File, state.nodes[node].now.len() as u64, node as u64),
        };
        Ok(Metadata { kind, length, device: 1, inode, modified: 0, created: 0 })
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let missing: Vec<_> = path.ancestors().filter(|folder| state.name(folder).is_err()).collect();
        for folder in missing.into_iter().rev() {
            state.change(Call::Open)?;
            state.names.insert(folder.to_owned(), Name::Folder);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change(Call::Rename)?;
        let name = state.name(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), name);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change(Call::Remove)?;
        state.name(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change(Call::SyncFolder)?;
        state.name(path)?;
        let is_in = |name: &Path| name.parent() == Some(path);
        state.durable.retain(|name, _| !is_in(name));
        let now: Vec<_> =
            state.names.iter().filter(|(name, _)| is_in(name)).map(|(at, it)| (at.clone(), *it)).collect();
        state.durable.extend(now);
        Ok(())
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut state = self.state();
        if !state.locks.insert(path.to_owned()) {
            return Err(LockError::Held(owner.to_owned()));
        }
        Ok(Box::new(Lock(self.clone(), path.to_owned(), state.life)))
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { total: 1 << 30, available: 1 << 30 })
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = &state.nodes[self.node].now;
        let start = bytes.len().min(offset as usize);
        let part = &bytes[start..bytes.len().min(start + length)];
        buffer.extend_from_slice(part);
        Ok(part.len())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let mut done = state.change(Call::Write);
        if done.is_err() {
            bytes.truncate(bytes.len() / 2);
        }
        if let Some(room) = &mut state.room {
            if bytes.len() > *room {
                bytes.truncate(*room);
                done = Err(ErrorKind::StorageFull.into());
            }
            *room -= bytes.len();
        }
        let (change, node) = (Change::Write(offset as usize, bytes), &mut state.nodes[self.node]);
        change.apply(&mut node.now);
        node.changes.push(change);
        done
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change(Call::Truncate)?;
        let (change, node) = (Change::Cut(length as usize), &mut state.nodes[self.node]);
        change.apply(&mut node.now);
        node.changes.push(change);
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let synced = state.change(Call::Sync);
        // Of what a failed sync was about some is written and the rest never will be, though it can be read.
        let lost = |state: &mut State| synced.is_err() && state.end.is_none() && state.dice(2) == 0;
        if synced.is_err() && state.end.is_some() {
            return synced;
        }
        for change in std::mem::take(&mut state.nodes[self.node].changes) {
            if !lost(&mut state) {
                change.apply(&mut state.nodes[self.node].durable);
            }
        }
        synced
    }

    fn metadata(&self) -> io::Result<Metadata> {
        let state = self.disk.state();
        let length = state.nodes[self.node].now.len() as u64;
        Ok(Metadata { kind: Kind::File, length, device: 1, inode: self.node as u64, modified: 0, created: 0 })
    }
}
