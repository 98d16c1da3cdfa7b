//! What files and folders hold: what is seen, what is durable, and what a crash makes of the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;

use super::{Change, FileNode, FolderNode, NameChange, Node, NodeKind, SECTOR};
use crate::dice::Dice;

impl Node {
    pub(super) fn new(kind: NodeKind, created: i64, plain: bool) -> Self {
        Node { modified: created, created, kind, plain, unlinked: false, open: 0 }
    }

    pub(super) fn file(&mut self) -> io::Result<&mut FileNode> {
        match &mut self.kind {
            NodeKind::File(file) => Ok(file),
            NodeKind::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn folder(&mut self) -> io::Result<&mut FolderNode> {
        match &mut self.kind {
            NodeKind::Folder(folder) => Ok(folder),
            NodeKind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn names(&self) -> io::Result<&BTreeMap<OsString, u64>> {
        match &self.kind {
            NodeKind::Folder(folder) => Ok(&folder.seen),
            NodeKind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn length(&self) -> u64 {
        match &self.kind {
            NodeKind::File(file) => file.seen.len() as u64,
            NodeKind::Folder(_) => 0,
        }
    }

    pub(super) fn settle_all(&mut self) {
        match &mut self.kind {
            NodeKind::File(file) => file.sync(),
            NodeKind::Folder(folder) => folder.sync(),
        }
    }
}

impl FileNode {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Writes back what is dirty, and only that: what a failed sync marked clean stays as it is on the disk.
    pub(super) fn sync(&mut self) {
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
    pub(super) fn settle(&mut self, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        match dice.below(6) {
            0 | 1 => {}
            2 => pending.iter().for_each(|change| change.apply(&mut self.durable)),
            3 | 4 => self.settle_prefix(&pending, dice),
            _ => self.settle_scattered(&pending, dice),
        }
    }

    /// The first few changes happened, and a part of the one after them.
    pub(super) fn settle_prefix(&mut self, pending: &[Change], dice: &mut Dice) {
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
    pub(super) fn settle_scattered(&mut self, pending: &[Change], dice: &mut Dice) {
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
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
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

    pub(super) fn length_after(&self, length: u64) -> u64 {
        match self {
            Change::Write { at, bytes } if !bytes.is_empty() => length.max(at + bytes.len() as u64),
            Change::Write { .. } => length,
            Change::Length(length) => *length,
        }
    }
}

impl FolderNode {
    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.pending.drain(..).for_each(|change| change.apply(&mut self.durable));
    }

    /// The first few changes happened.
    pub(super) fn settle(&mut self, dice: &mut Dice) {
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
    pub(super) fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
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
