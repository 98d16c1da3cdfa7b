//! The disk as one life of the machine uses it: the calls, and the faults they meet.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aqueduct_api::disk::{Disk, Entry, File, LockError, Metadata, Open, Space};

use super::{Change, Mounted, State};

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
