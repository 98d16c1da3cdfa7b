//! The files that are known: which are new, which were renamed, copied, truncated or replaced since they were last seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::disk::{Kind, Metadata};
use aqueduct_api::{Disk, Stream};
use tokio::time::Instant;

use crate::content::Content;
use crate::framing::Skip;
use crate::progress::{Progress, are_related};
use crate::walk::{Findings, Found};

/// Names a tail for as long as the process runs; a later one is a later file.
pub(crate) type TailId = u64;

/// A file that is being read, or was.
pub(crate) struct Tail {
    /// Its identity; the key is the path that it was first seen at.
    pub(crate) stream: Arc<Stream>,
    /// How far it was read.
    pub(crate) progress: Progress,
    /// Where it is now, if anywhere.
    pub(crate) path: Option<PathBuf>,
    /// Open while it is read.
    pub(crate) content: Option<Content>,
    /// Its length (as stored) when it was last seen.
    pub(crate) length: u64,
    /// The length at which nothing complete was left to read.
    pub(crate) exhausted: Option<u64>,
    /// When its length last changed.
    pub(crate) changed: Instant,
    /// Whether it was read whole after it was rotated away.
    pub(crate) finished: bool,
    /// The file that it replaces, which is read to its end first.
    pub(crate) after: Option<TailId>,
    /// How far a line that is too long was scanned.
    pub(crate) skip: Option<Skip>,
    /// Since when it is in none of the places that were looked at.
    pub(crate) gone: Option<Instant>,
}

impl Tail {
    /// Whether the file is no longer where it was first seen: nobody is expected to write to it any more.
    pub(crate) fn is_rotated(&self) -> bool {
        let compressed = self.content.as_ref().is_some_and(Content::is_compressed);
        compressed || self.path.as_deref().map(crate::progress::shortened).as_deref() != Some(&self.stream.key)
    }

    /// Whether all bytes that are there were consumed.
    pub(crate) fn is_at_end(&self) -> bool {
        match &self.content {
            Some(content) if content.is_compressed() => self.exhausted == Some(self.length),
            _ => self.length <= self.progress.offset,
        }
    }
}

/// All files that are known.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) tails: BTreeMap<TailId, Tail>,
    next: TailId,
    by_file: BTreeMap<(u64, u64), TailId>,
    /// Tails whose file does not hold any more what was read from it.
    replaced: BTreeSet<TailId>,
}

/// What a look at the folders asks to be compared.
#[derive(Default)]
pub(crate) struct Questions {
    /// Files that no tail knows by its inode.
    unknown: Vec<Found>,
    /// Tails without a file, or with one that was truncated or replaced.
    lost: BTreeSet<TailId>,
    /// What was read of every file so far.
    known: Vec<(TailId, Progress)>,
    /// Inodes that are known.
    files: BTreeSet<(u64, u64)>,
    inflate: bool,
}

/// What the comparison found.
#[derive(Default)]
pub(crate) struct Answers {
    /// Lost tails that go on in another file.
    continued: BTreeMap<TailId, Found>,
    /// Files that are nobody's continuation.
    new: Vec<Found>,
}

impl Catalog {
    /// Adds a file.
    pub(crate) fn add(&mut self, stream: Arc<Stream>, progress: Progress, found: Option<&Found>) -> TailId {
        let id = self.next;
        self.next += 1;
        let before = self.tails.iter().rev().find(|(_, tail)| tail.stream.key == stream.key && !tail.finished);
        let after = before.map(|(id, _)| *id);
        if let Some(found) = found {
            self.by_file.insert((found.metadata.device, found.metadata.inode), id);
        } else {
            self.by_file.insert((progress.device, progress.inode), id);
        }
        let tail = Tail {
            stream,
            progress,
            path: found.map(|found| found.path.clone()),
            content: None,
            length: found.map_or(0, |found| found.metadata.length),
            exhausted: None,
            changed: Instant::now(),
            finished: false,
            after,
            skip: None,
            gone: None,
        };
        self.tails.insert(id, tail);
        id
    }

    /// Forgets a file that is gone.
    pub(crate) fn forget(&mut self, id: TailId) -> Option<Tail> {
        self.by_file.retain(|_, known| *known != id);
        self.tails.remove(&id)
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
    pub(crate) fn questions(&self, findings: &Findings, inflate: bool) -> Questions {
        let mut questions = Questions { inflate, lost: self.replaced.clone(), ..Questions::default() };
        let mut seen = BTreeSet::new();
        for found in &findings.files {
            match self.tail_of(found) {
                Some(id) if !self.replaced.contains(&id) && !self.was_truncated(id, found) => drop(seen.insert(id)),
                Some(id) => {
                    seen.insert(id);
                    questions.lost.insert(id);
                    questions.unknown.push(found.clone());
                }
                None => questions.unknown.push(found.clone()),
            }
        }
        let lost = self.tails.iter().filter(|(id, tail)| !(seen.contains(id) || tail.finished && tail.gone.is_some()));
        questions.lost.extend(lost.map(|(id, _)| *id));
        if !questions.unknown.is_empty() || !questions.lost.is_empty() {
            questions.known = self.tails.iter().map(|(id, tail)| (*id, tail.progress.clone())).collect();
            questions.files = self.by_file.keys().copied().collect();
        }
        questions
    }

    fn tail_of(&self, found: &Found) -> Option<TailId> {
        self.by_file.get(&(found.metadata.device, found.metadata.inode)).copied()
    }

    fn was_truncated(&self, id: TailId, found: &Found) -> bool {
        let tail = &self.tails[&id];
        let compressed = tail.content.as_ref().is_some_and(Content::is_compressed) || is_gzip(&found.path);
        !compressed && found.metadata.length < tail.progress.offset
    }

    /// Takes over what a look at the folders found, and returns the files that are new: they are added by the caller, in
    /// the order given, so that a file comes after the one that it replaces.
    pub(crate) fn apply(&mut self, findings: &Findings, answers: Answers, now: Instant) -> Vec<Found> {
        let replaced = std::mem::take(&mut self.replaced);
        for found in &findings.files {
            let Some(id) = self.tail_of(found) else { continue };
            if !replaced.contains(&id) && !self.was_truncated(id, found) {
                self.see(id, found, now);
                continue;
            }
            self.by_file.remove(&(found.metadata.device, found.metadata.inode));
            if let Some(tail) = self.tails.get_mut(&id) {
                tail.content = None;
            }
        }
        for (id, found) in &answers.continued {
            self.by_file.insert((found.metadata.device, found.metadata.inode), *id);
            if let Some(tail) = self.tails.get_mut(id) {
                tail.progress = tail.progress.moved(&found.path, found.metadata.inode, found.metadata.device);
                (tail.content, tail.exhausted) = (None, None);
            }
            self.see(*id, found, now);
        }
        let seen: BTreeSet<TailId> = findings.files.iter().filter_map(|found| self.tail_of(found)).collect();
        let missing = self.tails.keys().filter(|id| !seen.contains(id) && !answers.continued.contains_key(id));
        for id in missing.copied().collect::<Vec<_>>() {
            self.lose(id, now);
        }
        answers.new
    }

    fn see(&mut self, id: TailId, found: &Found, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        tail.gone = None;
        if tail.path.as_ref() != Some(&found.path) {
            tail.progress = tail.progress.moved(&found.path, found.metadata.inode, found.metadata.device);
            tail.path = Some(found.path.clone());
        }
        grow(tail, found.metadata, now);
    }

    fn lose(&mut self, id: TailId, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        tail.path = None;
        tail.gone.get_or_insert(now);
        // A file that was only unlinked is read to its end while it is open; of others nothing is left.
        if tail.content.is_none() && !tail.finished {
            if tail.length > tail.progress.offset {
                let (file, read, length) = (&tail.progress.path, tail.progress.offset, tail.length);
                tracing::warn!(file, read, length, "a file went away before it was read whole");
            }
            tail.finished = true;
        }
    }
}

/// Takes note of a file's length.
pub(crate) fn grow(tail: &mut Tail, metadata: Metadata, now: Instant) {
    if tail.length != metadata.length {
        tail.length = metadata.length;
        tail.changed = now;
    }
}

/// Whether a name says that the file is compressed.
pub(crate) fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

impl Questions {
    /// Whether there is nothing to compare.
    pub(crate) fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.lost.is_empty()
    }

    /// Looks into the files. Blocks.
    pub(crate) fn answer(self, disk: &dyn Disk) -> Answers {
        let mut answers = Answers::default();
        let mut waiting = BTreeSet::new();
        for found in &self.unknown {
            match self.predecessor(disk, found, &answers) {
                Verdict::Continues(id) => drop(answers.continued.insert(id, found.clone())),
                Verdict::Copy => drop(waiting.insert(found.path.clone())),
                Verdict::New => {}
            }
        }
        for id in &self.lost {
            if !answers.continued.contains_key(id)
                && let Some(found) = self.elsewhere(disk, *id, &answers)
            {
                answers.continued.insert(*id, found);
            }
        }
        let taken: BTreeSet<PathBuf> = answers.continued.values().map(|found| found.path.clone()).collect();
        let new =
            self.unknown.into_iter().filter(|found| !taken.contains(&found.path) && !waiting.contains(&found.path));
        answers.new = new.collect();
        answers
    }

    /// Whose continuation an unknown file is, by its content. The longest match wins.
    fn predecessor(&self, disk: &dyn Disk, found: &Found, answers: &Answers) -> Verdict {
        let Ok(content) = Content::open(disk, &found.path, self.inflate) else { return Verdict::New };
        let mut known: Vec<&(TailId, Progress)> =
            self.known.iter().filter(|(_, progress)| progress.offset > 0).collect();
        known.sort_by_key(|(_, progress)| std::cmp::Reverse(progress.offset));
        let mut heads = BTreeMap::new();
        for (id, progress) in known {
            let (strong, related) = (progress.is_strong(), are_related(&progress.path(), &found.path));
            let may_be_long_enough = content.is_compressed() || found.metadata.length >= progress.offset;
            if !(strong || related) || !may_be_long_enough || answers.continued.contains_key(id) {
                continue;
            }
            if !progress.begins_like(&content, &mut heads) || !progress.matches(&content).unwrap_or(false) {
                continue;
            }
            let same_path = progress.path() == found.path;
            return match self.lost.contains(id) {
                true if strong || !same_path => Verdict::Continues(*id),
                true => Verdict::New,
                // The file that was read is still there, so this is a copy of it, as long as the two are equal that far.
                false if related && !same_path => Verdict::Copy,
                false => continue,
            };
        }
        Verdict::New
    }

    /// Where a lost file went, if it was renamed to or copied under a related name that no glob matches.
    fn elsewhere(&self, disk: &dyn Disk, id: TailId, answers: &Answers) -> Option<Found> {
        let (_, progress) = self.known.iter().find(|(known, _)| *known == id)?;
        let path = progress.path();
        let mut names = disk.list(path.parent()?).ok()?;
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.into_iter().filter(|entry| entry.kind == Kind::File).find_map(|entry| {
            let candidate = path.with_file_name(&entry.name);
            let metadata = disk
                .metadata(&candidate, false)
                .ok()
                .filter(|found| are_related(&path, &candidate) && found.kind == Kind::File)?;
            let file = (metadata.device, metadata.inode);
            let same = file == (progress.device, progress.inode);
            let taken = answers.continued.values().any(|found| (found.metadata.device, found.metadata.inode) == file);
            if taken
                || (self.files.contains(&file) && !same)
                || (candidate == path && !same)
                || (progress.offset == 0 && !same)
            {
                return None;
            }
            let content = Content::open(disk, &candidate, self.inflate).ok()?;
            let matches = progress.matches(&content).unwrap_or(false);
            matches.then_some(Found { path: candidate, metadata })
        })
    }
}

/// What an unknown file is.
enum Verdict {
    /// The rest of a file that is not where it was.
    Continues(TailId),
    /// A copy of a file that is still there: not read, as long as that is so.
    Copy,
    /// A file of its own.
    New,
}
