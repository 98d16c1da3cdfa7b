//! The tree of files and folders, and what an end of the process or of the power does to it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use aqueduct_api::disk::{Kind, Metadata};

use super::{DEVICE, FileNode, FolderNode, NameChange, Node, NodeKind, ROOT, State};

impl State {
    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let mut inode = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let names = self.nodes[&inode].names()?;
                inode = *names.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(inode)
    }

    pub(super) fn parent<'p>(&self, path: &'p Path) -> io::Result<(u64, &'p OsStr)> {
        let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(parent)?, name))
    }

    pub(super) fn node(&mut self, inode: u64) -> &mut Node {
        self.nodes.get_mut(&inode).expect("an inode is kept while it has a name or is open")
    }

    pub(super) fn add(&mut self, parent: u64, name: &OsStr, kind: NodeKind) -> io::Result<u64> {
        let (inode, now) = (self.next_inode, self.time.now());
        self.next_inode += 1;
        let plain = self.nodes[&parent].plain;
        self.nodes.insert(inode, Node::new(kind, now, plain));
        self.change_names(parent, NameChange::Put(name.to_owned(), inode))?;
        Ok(inode)
    }

    pub(super) fn change_names(&mut self, folder: u64, change: NameChange) -> io::Result<()> {
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

    pub(super) fn make_file(&mut self, path: &Path) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        self.add(parent, name, NodeKind::File(FileNode::default()))
    }

    pub(super) fn make_folders(&mut self, path: &Path) -> io::Result<()> {
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

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
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

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        let (parent, name) = self.parent(path)?;
        if self.nodes[&inode].names().is_ok_and(|names| !names.is_empty()) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.node(inode).unlinked = true;
        self.change_names(parent, NameChange::Remove(name.to_owned()))
    }

    /// Bytes taken, without the application's.
    pub(super) fn used(&self) -> u64 {
        let taken = self.nodes.values().filter(|node| !(node.plain || node.unlinked && node.open == 0));
        taken.map(Node::length).sum()
    }

    pub(super) fn walk(&self, inode: u64, path: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        match &self.nodes[&inode].kind {
            NodeKind::File(file) => found.push((path.to_owned(), file.seen.clone())),
            NodeKind::Folder(folder) => {
                for (name, inode) in &folder.seen {
                    self.walk(*inode, &path.join(name), found);
                }
            }
        }
    }

    pub(super) fn metadata(&self, inode: u64) -> Metadata {
        let node = &self.nodes[&inode];
        let kind = if matches!(node.kind, NodeKind::File(_)) { Kind::File } else { Kind::Folder };
        Metadata { kind, length: node.length(), device: DEVICE, inode, modified: node.modified, created: node.created }
    }

    pub(super) fn end_of_process(&mut self) {
        self.crash_at = None;
        self.locks.clear();
        self.nodes.values_mut().for_each(|node| node.open = 0);
    }

    pub(super) fn crash(&mut self) {
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

    pub(super) fn forget_unnamed(&mut self) {
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
