//! The files that are known: where each is now, and which one comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_api::Stream;
use tokio::time::Instant;

use crate::compare::{Answers, Copied, Questions};
use crate::content::is_gzip;
use crate::identity::Generations;
use crate::progress::Progress;
use crate::tail::{Tail, TailId};
use crate::walk::{Findings, Found};

/// A file, by device and inode.
pub(crate) type FileId = (u64, u64);

/// All files that are known.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) tails: BTreeMap<TailId, Tail>,
    /// Tails that may want something before their file is seen to change again.
    pub(crate) busy: BTreeSet<TailId>,
    /// Whether compressed files are inflated.
    inflate: bool,
    next: TailId,
    by_file: BTreeMap<FileId, TailId>,
    last_of_key: BTreeMap<String, TailId>,
    /// Copies of files that are still there.
    copies: BTreeMap<FileId, Copied>,
    /// Tails whose file does not hold any more what was read from it.
    replaced: BTreeSet<TailId>,
    /// What the ids of new streams are made of.
    pub(crate) generations: Generations,
}

/// A file that is to be added, and how far it counts as read where that is not its beginning.
pub(crate) type Addition = (Found, Option<Progress>);

impl Catalog {
    /// Knows the files that were read before, in the order in which they were first seen.
    pub(crate) fn new(inflate: bool, mut saved: Vec<(Arc<Stream>, Progress)>) -> Self {
        let mut catalog = Catalog { inflate, next: 1, ..Catalog::default() };
        saved.sort_by(|a, b| (a.1.since, &a.0.id).cmp(&(b.1.since, &b.0.id)));
        let mut claimed = BTreeSet::new();
        for (stream, progress) in saved {
            let file = progress.file();
            catalog.generations.learn(&stream.id);
            let id = catalog.add(stream, progress, None);
            // Of several that were once in one file, the content says which is in it now.
            if claimed.insert(file) {
                catalog.by_file.insert(file, id)
            } else {
                catalog.by_file.remove(&file)
            };
        }
        catalog
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, stream: Arc<Stream>, progress: Progress, found: Option<&Found>) -> TailId {
        let (id, now) = (self.next, Instant::now());
        self.next += 1;
        let before = self.last_of_key.insert(stream.key.clone(), id);
        let mut tail = Tail::new(stream, progress, now);
        tail.after = before.filter(|before| self.tails.get(before).is_some_and(|before| !before.finished));
        if let Some(found) = found {
            self.by_file.insert(found.file(), id);
            tail.path = Some(found.path.clone());
            tail.compressed = self.inflate && is_gzip(&found.path);
            (tail.length, tail.modified) = (found.metadata.length, found.metadata.modified);
            tail.doubtful = false;
        }
        self.tails.insert(id, tail);
        self.busy.insert(id);
        id
    }

    /// Forgets a file that is gone.
    pub(crate) fn forget(&mut self, id: TailId) -> Option<Tail> {
        self.disclaim(id);
        let tail = self.tails.remove(&id)?;
        if self.last_of_key.get(&tail.stream.key) == Some(&id) {
            self.last_of_key.remove(&tail.stream.key);
        }
        self.busy.remove(&id);
        self.generations.forget(&tail.stream.id);
        Some(tail)
    }

    /// Marks a tail whose file turned out to hold something else.
    pub(crate) fn mark_replaced(&mut self, id: TailId) {
        self.replaced.insert(id);
    }

    /// Whether a file waits to be looked for.
    pub(crate) fn is_uncertain(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Compares what a walk found with what is known, changing nothing: the answers are applied at once or not at all.
    pub(crate) fn questions(&self, findings: &Findings) -> Questions {
        let mut questions = Questions { inflate: self.inflate, ..Questions::default() };
        for found in &findings.files {
            match self.tail_of(found) {
                Some(id) if self.is_still(id, found) => drop(questions.there.insert(id, found.clone())),
                // What is empty has nothing to be recognised by, and nothing to be read.
                _ if found.metadata.length == 0 => {}
                _ => questions.unknown.push((found.clone(), self.copies.get(&found.file()).copied())),
            }
        }
        // A copy that did not change, of a file that is where it was, is what it was.
        let there = &questions.there;
        questions.unknown.retain(|(found, copied)| {
            !copied.is_some_and(|copied| copied.is_unchanged(found) && there.contains_key(&copied.of))
        });
        // While a file is not open, its inode may have been given to another one.
        let unseen = |(id, found): (&TailId, &Found)| {
            let tail = &self.tails[id];
            let moved = tail.path.as_ref() != Some(&found.path);
            (moved && tail.content.is_none() && tail.progress.offset > 0).then_some(*id)
        };
        questions.unseen = questions.there.iter().filter_map(unseen).collect();
        let unread = |(id, found): (&TailId, &Found)| {
            let tail = &self.tails[id];
            let changed = (tail.length, tail.modified) != (found.metadata.length, found.metadata.modified);
            let there = found.metadata.length > 0 && tail.content.is_none() && tail.progress.offset == 0;
            (there && changed).then_some(*id)
        };
        questions.unread = questions.there.iter().filter_map(unread).collect();
        for (id, tail) in self.tails.iter().filter(|(id, _)| !questions.there.contains_key(id)) {
            questions.lost.insert(*id);
            if let Some(content) = tail.content.as_ref().filter(|_| tail.progress.offset == 0) {
                questions.open.insert(*id, content.clone());
            }
            if !tail.finished {
                questions.sought.insert(*id);
            }
        }
        if !questions.is_empty() {
            questions.known = self.tails.iter().map(|(id, tail)| (*id, tail.progress.clone())).collect();
        }
        questions
    }

    fn tail_of(&self, found: &Found) -> Option<TailId> {
        self.by_file.get(&found.file()).copied()
    }

    fn is_still(&self, id: TailId, found: &Found) -> bool {
        let tail = &self.tails[&id];
        let reused = tail.content.is_none()
            && tail.progress.path() != found.path
            && (found.metadata.length < tail.length || !tail.progress.may_be_at(&found.path));
        !self.replaced.contains(&id) && !reused && !tail.was_truncated(found.metadata.length)
    }

    /// Takes over what a look at the folders found, and returns the files that are new: they are added by the caller, in
    /// the order given, so that a file comes after the one that it replaces.
    pub(crate) fn apply(&mut self, findings: &Findings, answers: Answers, now: Instant) -> Vec<Addition> {
        let mut seen = BTreeSet::new();
        self.replaced.extend(&answers.replaced);
        for found in &findings.files {
            let Some(id) = self.tail_of(found) else { continue };
            if self.is_still(id, found) {
                self.see(id, found, now);
                seen.insert(id);
                continue;
            }
            self.by_file.remove(&found.file());
            if let Some(tail) = self.tails.get_mut(&id) {
                tail.content = None;
            }
        }
        self.replaced.clear();
        for (id, found) in &answers.continued {
            self.disclaim(*id);
            self.by_file.insert(found.file(), *id);
            if let Some(tail) = self.tails.get_mut(id) {
                (tail.content, tail.exhausted, tail.finished) = (None, None, false);
            }
            self.see(*id, found, now);
            seen.insert(*id);
        }
        for id in self.tails.keys().copied().filter(|id| !seen.contains(id)).collect::<Vec<_>>() {
            self.lose(id, now);
        }
        self.mark_displaced(findings);
        let present: BTreeSet<FileId> = findings.files.iter().map(Found::file).collect();
        self.copies.retain(|file, _| present.contains(file) && !self.by_file.contains_key(file));
        self.copies.extend(answers.copies);
        answers.new
    }

    fn mark_displaced(&mut self, findings: &Findings) {
        for id in &self.busy {
            let Some(tail) = self.tails.get_mut(id) else { continue };
            let keys = |name: &str| self.last_of_key.contains_key(name);
            let displaced = tail.path.as_deref().is_some_and(|path| findings.has_name_before(path, keys));
            if displaced != tail.displaced {
                (tail.displaced, tail.changed) = (displaced, Instant::now());
            }
        }
    }

    fn see(&mut self, id: TailId, found: &Found, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        tail.gone = None;
        let before = (tail.length, tail.modified);
        if tail.path.as_ref() != Some(&found.path) || tail.progress.file() != found.file() {
            tail.progress = tail.progress.moved(&found.path, found.metadata.inode, found.metadata.device);
            tail.path = Some(found.path.clone());
            tail.compressed = self.inflate && is_gzip(&found.path);
            tail.changed = now;
            self.busy.insert(id);
        }
        tail.look(found.metadata, now);
        // A damaged file may have been mended while nobody looked.
        let is_read = tail.progress.whole == tail.length && tail.progress.damaged.is_none();
        if tail.compressed && tail.exhausted.is_none() && is_read {
            (tail.exhausted, tail.doubtful) = (Some(tail.length), false);
        }
        if before != (tail.length, tail.modified) {
            self.busy.insert(id);
        }
    }

    fn lose(&mut self, id: TailId, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        tail.path = None;
        if tail.gone.is_none() {
            (tail.gone, tail.changed) = (Some(now), now);
            self.busy.insert(id);
        }
        // A file that was only unlinked is read to its end while it is open; of others nothing is left.
        if tail.content.is_none() && !tail.finished {
            if tail.length > tail.progress.offset && !tail.compressed {
                let (file, read, length) = (&tail.progress.path, tail.progress.offset, tail.length);
                tracing::warn!(file, read, length, "a file went away before it was read whole");
            }
            tail.finished = true;
        }
        if tail.content.is_none() {
            self.disclaim(id);
        }
    }

    /// Gives up the inode that a file had: once nobody has the file open, any other one may get it.
    fn disclaim(&mut self, id: TailId) {
        let file = self.tails.get(&id).map(|tail| tail.progress.file());
        if let Some(file) = file.filter(|file| self.by_file.get(file) == Some(&id)) {
            self.by_file.remove(&file);
        }
    }
}
