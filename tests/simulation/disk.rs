//! A disk in memory that does to what was not synced whatever a real one may do when the power fails: keeps it, drops
//! it, tears it, forgets names. Its syncs fail, it fills up, it turns read-only.
//!
//! Files under `/logs` belong to the simulated application: what happens to them is durable at once, because another
//! program's losses are not ours.

mod content;
mod mounted;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use aqueduct_api::disk::{Disk, File, LockError, Open};

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
    created: i64,
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
