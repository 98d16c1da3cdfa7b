//! Comparing contents: whether a file that turned up is the rest of one that is known, a copy of it, or one of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;

use aqueduct_api::Disk;
use aqueduct_api::disk::{Entry, Kind};

use crate::catalog::{Addition, FileId};
use crate::content::{Content, Damage};
use crate::progress::{Progress, are_related};
use crate::tail::TailId;
use crate::walk::Found;

/// How much of a copy is compared at its head and at its end.
const COMPARED: u64 = 256 << 10;

/// What a look at the folders asks to be compared.
#[derive(Default)]
pub(crate) struct Questions {
    /// Files that no tail is in, and which of them were copies.
    pub(crate) unknown: Vec<(Found, Option<Copied>)>,
    /// Tails without a file, or with one that was truncated or replaced.
    pub(crate) lost: BTreeSet<TailId>,
    /// Those of them that may have more to read, wherever they went.
    pub(crate) sought: BTreeSet<TailId>,
    /// What was read of every file so far.
    pub(crate) known: BTreeMap<TailId, Progress>,
    /// Where the other tails are.
    pub(crate) there: BTreeMap<TailId, Found>,
    /// Those that were not seen since the source was opened.
    pub(crate) unseen: BTreeSet<TailId>,
    /// Those of which nothing was read, whose files changed: nothing but an inode says that they are in them.
    pub(crate) unread: BTreeSet<TailId>,
    /// Lost files of which nothing was read, but that are still open.
    pub(crate) open: BTreeMap<TailId, Content>,
    /// Whether compressed files are inflated.
    pub(crate) inflate: bool,
}

/// A file that was found to be a copy of another one.
#[derive(Clone, Copy)]
pub(crate) struct Copied {
    /// Of which.
    pub(crate) of: TailId,
    /// Its length and when it was last written to, as it was then.
    pub(crate) was: (u64, i64),
}

impl Copied {
    /// Whether the copy is what it was.
    pub(crate) fn is_unchanged(&self, found: &Found) -> bool {
        self.was == (found.metadata.length, found.metadata.modified)
    }
}

/// What the comparison found.
#[derive(Default)]
pub(crate) struct Answers {
    /// Lost tails that go on in another file.
    pub(crate) continued: BTreeMap<TailId, Found>,
    /// Files that are nobody's continuation.
    pub(crate) new: Vec<Addition>,
    /// Copies of files that are still there.
    pub(crate) copies: BTreeMap<FileId, Copied>,
    /// Tails that turned out to be in a file no more though it is where it was.
    pub(crate) replaced: BTreeSet<TailId>,
}

/// Where lost files are looked for.
struct Elsewhere<'a> {
    /// Files that other tails are in.
    files: &'a BTreeSet<FileId>,
    /// The files in folders that were looked into.
    folders: &'a mut BTreeMap<PathBuf, Vec<Entry>>,
}

/// What an unknown file is.
enum Verdict {
    /// The rest of a file that is not where it was.
    Continues(TailId),
    /// A copy of a file that is still there: not read, as long as that is so.
    Copy(TailId),
    /// A copy of what was read before: nothing in it is new.
    Read(Progress),
    /// Nothing can be said yet.
    Unclear,
    /// A file of its own.
    New,
}

impl Questions {
    /// Whether there is nothing to compare.
    pub(crate) fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.sought.is_empty() && self.unseen.is_empty() && self.unread.is_empty()
    }

    /// Looks into the files. Blocks.
    pub(crate) fn answer(mut self, disk: &dyn Disk) -> Answers {
        let mut answers = Answers::default();
        let replaced = self.replaced(disk);
        self.give_up(replaced, &mut answers);
        let taken_over = self.taken_over(disk, &answers);
        self.give_up(taken_over, &mut answers);
        let files: BTreeSet<FileId> = self.there.values().map(Found::file).collect();
        for (found, copied) in &self.unknown {
            match self.verdict(disk, found, *copied, &answers) {
                Verdict::Continues(id) => drop(answers.continued.insert(id, found.clone())),
                Verdict::Copy(of) => {
                    let was = (found.metadata.length, found.metadata.modified);
                    answers.copies.insert(found.file(), Copied { of, was });
                }
                Verdict::Read(progress) => answers.new.push((found.clone(), Some(progress))),
                Verdict::Unclear => {}
                Verdict::New => answers.new.push((found.clone(), None)),
            }
        }
        let mut folders = BTreeMap::new();
        for id in &self.sought {
            if !answers.continued.contains_key(id)
                && let Some(found) =
                    self.elsewhere(disk, *id, &answers, &mut Elsewhere { files: &files, folders: &mut folders })
            {
                answers.continued.insert(*id, found);
            }
        }
        let taken: BTreeSet<FileId> = answers.continued.values().map(Found::file).collect();
        answers.new.retain(|(found, _)| !taken.contains(&found.file()));
        answers
    }

    /// Tails that are in their files no more: what is in those is unknown.
    fn give_up(&mut self, replaced: BTreeSet<TailId>, answers: &mut Answers) {
        for id in &replaced {
            let found = self.there.remove(id).filter(|found| found.metadata.length > 0);
            self.unknown.extend(found.map(|found| (found, None)));
            self.lost.insert(*id);
            self.sought.insert(*id);
        }
        answers.replaced.extend(replaced);
    }

    fn verdict(&self, disk: &dyn Disk, found: &Found, copied: Option<Copied>, answers: &Answers) -> Verdict {
        match Content::open(disk, &found.path, self.inflate) {
            Ok(content) => Unknown { questions: self, disk, found, content }.verdict(copied, answers),
            // A file that is gone already is looked for again; one that can not be opened waits as a file of its own.
            Err(cause) if cause.kind() == ErrorKind::NotFound => Verdict::Unclear,
            Err(_) => Verdict::New,
        }
    }

    /// Tails of which nothing was read, and whose inode went to a continuation or a copy of another file.
    fn taken_over(&self, disk: &dyn Disk, answers: &Answers) -> BTreeSet<TailId> {
        let is_taken = |id: &TailId| {
            let verdict = self.there.get(id).map(|found| self.verdict(disk, found, None, answers));
            matches!(verdict, Some(Verdict::Continues(_) | Verdict::Copy(_)))
        };
        self.unread.iter().copied().filter(is_taken).collect()
    }

    /// Files that were written anew after they were copied, perhaps to a file that turned up.
    fn replaced(&self, disk: &dyn Disk) -> BTreeSet<TailId> {
        let unread = self.unread.iter().filter_map(|id| self.there.get(id));
        let candidates: Vec<&Found> = self.unknown.iter().map(|(unknown, _)| unknown).chain(unread).collect();
        let is_replaced = |(id, found): (&TailId, &Found)| {
            let is_candidate = |candidate: &&Found| are_related(&candidate.path, &found.path);
            let concerned = self.unseen.contains(id) || candidates.iter().any(is_candidate);
            (concerned && !self.is_as_read(disk, *id, found)).then_some(*id)
        };
        self.there.iter().filter_map(is_replaced).collect()
    }

    /// Whether a file still holds what was read from it.
    fn is_as_read(&self, disk: &dyn Disk, id: TailId, found: &Found) -> bool {
        let Ok(content) = Content::open(disk, &found.path, self.inflate) else { return true };
        let is_it = content.metadata().is_ok_and(|metadata| (metadata.device, metadata.inode) == found.file());
        let matches = |progress: &Progress| match content.is_compressed() {
            // Going to the offset would inflate all that was read before.
            true => progress.begins_like(&content, &mut BTreeMap::new()),
            false => progress.matches(&content).unwrap_or(true),
        };
        !is_it || self.known.get(&id).is_none_or(matches)
    }

    /// Where a lost file went, if it was renamed to or copied under a related name that no glob matches.
    fn elsewhere(&self, disk: &dyn Disk, id: TailId, answers: &Answers, places: &mut Elsewhere<'_>) -> Option<Found> {
        let progress = self.known.get(&id)?;
        let path = progress.path();
        let folder = path.parent()?.to_owned();
        let names = places.folders.entry(folder).or_insert_with_key(|folder| {
            let mut names = disk.list(folder).unwrap_or_default();
            names.retain(|entry| entry.kind == Kind::File);
            names.sort_by(|a, b| a.name.cmp(&b.name));
            names
        });
        names.iter().find_map(|entry| {
            let candidate = path.with_file_name(&entry.name);
            if !are_related(&path, &candidate) {
                return None;
            }
            let metadata = disk.metadata(&candidate, false).ok().filter(|found| found.kind == Kind::File)?;
            let found = Found { path: candidate, metadata };
            let same = found.file() == progress.file() && progress.may_be_at(&found.path);
            let taken = answers.continued.values().any(|other| other.file() == found.file());
            let other = found.path == path || places.files.contains(&found.file()) || progress.offset == 0;
            if taken || (other && !same) {
                return None;
            }
            if progress.offset == 0 {
                return matches!(self.verdict(disk, &found, None, answers), Verdict::New).then_some(found);
            }
            let content = Content::open(disk, &found.path, self.inflate).ok()?;
            progress.matches(&content).unwrap_or(false).then_some(found)
        })
    }
}

/// A file that turned up.
struct Unknown<'a> {
    questions: &'a Questions,
    disk: &'a dyn Disk,
    found: &'a Found,
    content: Content,
}

impl Unknown<'_> {
    fn verdict(&self, copied: Option<Copied>, answers: &Answers) -> Verdict {
        // Renamed since it was found: the next look will find it under its other name.
        let opened = self.content.metadata().map(|metadata| (metadata.device, metadata.inode));
        if opened.ok() != Some(self.found.file()) {
            return Verdict::Unclear;
        }
        // A compressed file of which nothing can be inflated yet is like an empty one.
        let mut first = Vec::new();
        if self.content.is_compressed() && matches!(self.content.read(&mut first, 1, 0), Ok(0)) {
            return if matches!(self.content.damage(), Some(Damage::Wrong(_))) {
                Verdict::New
            } else {
                Verdict::Unclear
            };
        }
        if let Some(id) = self.predecessor(answers) {
            return Verdict::Continues(id);
        }
        if let Some(verdict) = self.copy_of_open(answers) {
            return verdict;
        }
        if let Some(copied) = copied
            && copied.is_unchanged(self.found)
            && let Some(progress) = self.end_of(copied.of)
        {
            return Verdict::Read(progress);
        }
        match self.damaged_copy() {
            Some(progress) => Verdict::Read(progress),
            None => self.original(),
        }
    }

    /// The end of what is left of a lost file that was compressed, read further than the damage, and removed.
    fn damaged_copy(&self) -> Option<Progress> {
        if !self.content.is_compressed() {
            return None;
        }
        let is_it = |id: &&TailId| {
            let known = &self.questions.known[id];
            known.is_strong()
                && are_related(&known.path(), &self.found.path)
                && known.begins_like(&self.content, &mut BTreeMap::new())
        };
        self.questions.lost.iter().filter(is_it).find_map(|id| {
            let end = self.end_of(*id)?;
            matches!(self.content.damage(), Some(Damage::Wrong(_))).then_some(end)
        })
    }

    /// The lost file whose continuation this is, by its content. The longest match wins.
    fn predecessor(&self, answers: &Answers) -> Option<TailId> {
        let mut heads = BTreeMap::new();
        let lost = self.questions.lost.iter().copied().filter(|id| !answers.continued.contains_key(id));
        let mut lost: Vec<TailId> = lost.collect();
        lost.sort_by_key(|id| std::cmp::Reverse(self.questions.known[id].offset));
        lost.into_iter().find(|id| {
            let progress = &self.questions.known[id];
            let (same_file, path) = (progress.file() == self.found.file(), progress.path());
            // Short files that begin alike are told apart by what usually happens to files: they are renamed or copied to
            // a name like theirs.
            let may_be =
                progress.is_strong() || same_file || (are_related(&path, &self.found.path) && path != self.found.path);
            progress.offset > 0
                && may_be
                && (self.content.is_compressed() || self.found.metadata.length >= progress.offset)
                && progress.begins_like(&self.content, &mut heads)
                && progress.matches(&self.content).unwrap_or(false)
        })
    }

    /// Whether this is all that was in a lost file of which nothing was read yet: as long as that is open, it tells.
    fn copy_of_open(&self, answers: &Answers) -> Option<Verdict> {
        let is_lost = |id: &TailId| self.questions.lost.contains(id) && !answers.continued.contains_key(id);
        self.questions.open.iter().filter(|(id, _)| is_lost(id)).find_map(|(id, open)| {
            let alike = are_related(&self.questions.known[id].path(), &self.found.path)
                && self.content.is_beginning_of(open, COMPARED).unwrap_or(false);
            let length = alike.then(|| self.content.length().ok())??;
            match self.content.damage() {
                Some(Damage::Cut) => return Some(Verdict::Unclear),
                Some(Damage::Wrong(_)) => return None,
                None => {}
            }
            open.length().is_ok_and(|other| other == length).then_some(Verdict::Continues(*id))
        })
    }

    /// The end of a copy of a file that was read further than the copy goes and is not there any more.
    fn end_of(&self, of: TailId) -> Option<Progress> {
        let original = self.questions.known.get(&of).filter(|_| self.questions.lost.contains(&of))?;
        let Found { path, metadata } = self.found;
        let length = self.content.length().ok().filter(|length| *length <= original.offset)?;
        Progress::beginning(path, metadata.inode, metadata.device).at(&self.content, length).ok()
    }

    /// Whether this is a copy of a file that is still there and begins with all that is in this one.
    fn original(&self) -> Verdict {
        let mut verdict = Verdict::New;
        for (id, there) in &self.questions.there {
            let read = self.questions.known.get(id).is_some_and(|progress| progress.offset > 0);
            if !read || there.path == self.found.path || !are_related(&there.path, &self.found.path) {
                continue;
            }
            let original = Content::open(self.disk, &there.path, self.questions.inflate);
            let is_it = |original: &Content| {
                original.metadata().is_ok_and(|metadata| (metadata.device, metadata.inode) == there.file())
            };
            match original {
                Ok(original) if is_it(&original) => {
                    if self.content.is_beginning_of(&original, COMPARED).unwrap_or(false) {
                        // Of one that was truncated meanwhile nothing was compared.
                        let now = self.content.metadata().map_or(0, |metadata| metadata.length);
                        let whole = now >= self.found.metadata.length;
                        return if whole { Verdict::Copy(*id) } else { Verdict::Unclear };
                    }
                    // Truncated while the two were compared: the next look will tell.
                    if !self.questions.is_as_read(self.disk, *id, there) {
                        verdict = Verdict::Unclear;
                    }
                }
                // Renamed or compressed since it was found, perhaps to this one: the next look will tell.
                Ok(_) => verdict = Verdict::Unclear,
                Err(cause) if cause.kind() == ErrorKind::NotFound => verdict = Verdict::Unclear,
                Err(_) => {}
            }
        }
        verdict
    }
}
