//! Taking turns: one batch of one file at a time, from the files that have something to read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Edge, Incoming, Position, Result, Source, SourceOpening, Span, Stream};
use aqueduct_record::BatchBuilder;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::beginning::{Beginning, ends};
use crate::catalog::{Addition, Catalog};
use crate::content::{Content, Damage, is_gzip};
use crate::framing::{Framer, Look, Taken};
use crate::progress::{Progress, shortened};
use crate::tail::{Tail, TailId};
use crate::told::Told;
use crate::walk::{Found, Walk};
use crate::{Compressed, FileSettings};

/// The most files that are open at once.
const OPEN_FILES: usize = 256;

/// How long to leave the folders alone for each name that a walk looked at: looking costs some 5 µs, so that this keeps
/// walks at some 0.3 % of a core.
const WALK_PAUSE: Duration = Duration::from_millis(2);

/// How long a file counts as busy after it changed: busy files are looked at between the walks through the folders.
const BUSY: Duration = Duration::from_secs(30);

/// Reads files that grow.
pub(crate) struct FileSource {
    settings: FileSettings,
    edge: Edge,
    walk: Walk,
    framer: Arc<Framer>,
    batch: usize,
    catalog: Catalog,
    /// Files that may have something to read: each gets its turn after the one before it.
    turns: BTreeSet<TailId>,
    /// Whose turn it was.
    last_turn: TailId,
    /// When the newest file was first seen.
    last_since: i64,
    /// Positions to be saved or forgotten though nothing was read.
    bookkeeping: VecDeque<Incoming>,
    /// Open files, the one used longest ago first.
    open: VecDeque<TailId>,
    next_walk: Instant,
    next_poll: Instant,
    beginning: Beginning,
    told: Told,
}

impl FileSource {
    /// Goes on at the saved positions.
    pub(crate) fn open(settings: FileSettings, opening: SourceOpening) -> Result<Self> {
        let (beginning, saved) = Beginning::read(&opening.positions, settings.start, || opening.edge.now())?;
        let now = Instant::now();
        Ok(FileSource {
            walk: Walk::new(&settings, &opening.folder)?,
            framer: Arc::new(Framer::new(&settings, opening.largest.0 as usize)?),
            batch: opening.batch.0.clamp(4096, 16 << 20) as usize,
            edge: opening.edge,
            beginning,
            last_since: saved.iter().map(|(_, progress)| progress.since).max().unwrap_or_default(),
            catalog: Catalog::new(settings.compressed == Compressed::Auto, saved),
            settings,
            turns: BTreeSet::new(),
            last_turn: 0,
            bookkeeping: VecDeque::new(),
            open: VecDeque::new(),
            next_walk: now,
            next_poll: now,
            told: Told::default(),
        })
    }

    /// Walks the folders, and finds out what became of every file. Changes nothing until all answers are there.
    async fn discover(&mut self) -> Result<()> {
        let (walk, disk) = (self.walk.clone(), self.edge.disk.clone());
        let findings = self.edge.blocking(move || walk.find(&*disk)).await?;
        let questions = self.catalog.questions(&findings);
        let answers = if questions.is_empty() {
            Default::default()
        } else {
            let disk = self.edge.disk.clone();
            self.edge.blocking(move || questions.answer(&*disk)).await?
        };
        let now = Instant::now();
        let is_moved = |(id, found): (&TailId, &Found)| {
            let before = self.catalog.tails.get(id).map(|tail| tail.progress.file());
            (before != Some(found.file())).then_some(*id)
        };
        let elsewhere: Vec<TailId> = answers.continued.iter().filter_map(is_moved).collect();
        let mut new = self.catalog.apply(&findings, answers, now);
        self.save_moved(&elsewhere)?;
        if let Some(age) = self.settings.ignore_older.duration() {
            let oldest = self.edge.now() - age.as_millis() as i64;
            // Those that begin at their end do so, however old: they may be written to later.
            let begins_at_end = |found: &Found| self.beginning.is_at_end(found) && !is_gzip(&found.path);
            new.retain(|(found, _)| found.metadata.modified >= oldest || begins_at_end(found));
        }
        if self.beginning.is_first() {
            new = self.ends_of(new).await?;
        }
        new.sort_by(|(a, _), (b, _)| (a.metadata.modified, &a.path).cmp(&(b.metadata.modified, &b.path)));
        for (found, progress) in new {
            self.add(found, progress)?;
        }
        self.bookkeeping.extend(self.beginning.over()?);
        self.told.findings(&findings);
        for (id, tail) in self.catalog.tails.iter_mut().filter(|(_, tail)| tail.failed) {
            tail.failed = false;
            self.catalog.busy.insert(*id);
        }
        self.give_turns(now);
        self.forget(now)?;
        let slowest = findings.names as u32 * WALK_PAUSE;
        self.next_walk = now + self.settings.discover.duration().unwrap_or_default().max(slowest);
        Ok(())
    }

    /// Saves where files went on that are another file now, so that a later start need not find that out again.
    fn save_moved(&mut self, moved: &[TailId]) -> Result<()> {
        for tail in moved.iter().filter_map(|id| self.catalog.tails.get(id)) {
            let position = Position::of(&tail.progress)?;
            self.bookkeeping.push_back(Incoming::records(tail.stream.clone(), position, BatchBuilder::new()));
        }
        Ok(())
    }

    /// Gives those that begin at their end their places there.
    async fn ends_of(&self, found: Vec<Addition>) -> Result<Vec<Addition>> {
        let disk = self.edge.disk.clone();
        let (delimiter, inflate) = (self.framer.delimiter(), self.settings.compressed == Compressed::Auto);
        let (at_end, rest): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(found, read)| read.is_none() && self.beginning.is_at_end(found));
        let at_end = at_end.into_iter().map(|(found, _)| found).collect();
        let ends = self.edge.blocking(move || ends(&*disk, delimiter, inflate, at_end)).await?;
        Ok(ends.into_iter().chain(rest).collect())
    }

    fn add(&mut self, found: Found, progress: Option<Progress>) -> Result<()> {
        let (inode, device) = (found.metadata.inode, found.metadata.device);
        let key = shortened(&found.path);
        let id = self.catalog.generations.next(&found, || self.edge.random());
        let stream = Arc::new(Stream { id, key });
        let must_be_saved = progress.is_some();
        let mut progress = progress.unwrap_or_else(|| Progress::beginning(&found.path, inode, device));
        self.last_since = self.edge.now().max(self.last_since + 1);
        (progress.since, progress.first_start) = (self.last_since, self.beginning.first_start);
        if must_be_saved {
            self.bookkeeping.push_back(Incoming::records(
                stream.clone(),
                Position::of(&progress)?,
                BatchBuilder::new(),
            ));
        }
        tracing::info!(file = %found.path.display(), inode, offset = progress.offset, "a new file");
        self.catalog.add(stream, progress, Some(&found));
        Ok(())
    }

    /// Rotated files that nobody has written to for a while are finished, and the ones that took their place begin.
    fn give_turns(&mut self, now: Instant) {
        for id in self.catalog.busy.iter().copied().collect::<Vec<_>>() {
            let Some(tail) = self.catalog.tails.get_mut(&id) else { continue };
            let rotated = tail.is_rotated();
            let at_end = tail.is_at_end() && !tail.doubtful;
            tail.finished |= rotated && at_end && passed(self.settings.rotate_wait, tail.changed, now);
            if tail.finished && tail.gone.is_some() {
                tail.content = None;
            }
        }
        for id in self.catalog.busy.iter().copied().collect::<Vec<_>>() {
            if self.wants_turn(id, now) {
                self.turns.insert(id);
            } else if self.is_settled(id, now) {
                self.catalog.busy.remove(&id);
            }
        }
    }

    fn wants_turn(&self, id: TailId, now: Instant) -> bool {
        let Some(tail) = self.catalog.tails.get(&id) else { return false };
        let waits = tail.after.and_then(|id| self.catalog.tails.get(&id)).is_some_and(|before| !before.finished);
        let readable = !tail.failed && (tail.path.is_some() || tail.content.is_some());
        let new = !tail.is_at_end() && (!tail.is_exhausted() || self.flushes(tail, now) != (false, false));
        readable && !waits && (tail.doubtful || new)
    }

    /// Whether nothing is to be done for a file until it is seen to change.
    fn is_settled(&self, id: TailId, now: Instant) -> bool {
        let Some(tail) = self.catalog.tails.get(&id) else { return true };
        let times_out = self.settings.multiline.is_some() || self.settings.unfinished_after.duration().is_some();
        let read = tail.is_at_end() || (tail.is_exhausted() && !times_out);
        let over = tail.finished || !tail.is_rotated();
        let gone = tail.path.is_none() && tail.content.is_none();
        tail.failed
            || (gone && tail.finished)
            || (now.duration_since(tail.changed) >= BUSY && read && over && !tail.doubtful)
    }

    /// Whether a last line without its end, and a last group of lines, is taken as it is.
    fn flushes(&self, tail: &Tail, now: Instant) -> (bool, bool) {
        let over = tail.is_rotated() && passed(self.settings.rotate_wait, tail.changed, now);
        // The last line of a file that was rotated away may belong to the group: they end together.
        let waits = self.settings.multiline.as_ref().filter(|_| !tail.is_rotated());
        let group = waits.is_some_and(|multiline| passed(multiline.timeout, tail.changed, now));
        (over || passed(self.settings.unfinished_after, tail.changed, now), over || group)
    }

    /// Looks at the files that changed lately.
    async fn poll(&mut self) -> Result<()> {
        let now = Instant::now();
        let tails = self.catalog.busy.iter().filter_map(|id| Some((*id, self.catalog.tails.get(id)?)));
        let open: Vec<(TailId, Content)> = tails.filter_map(|(id, tail)| Some((id, tail.content.clone()?))).collect();
        if !open.is_empty() {
            let look =
                move || open.into_iter().filter_map(|(id, content)| Some((id, content.metadata().ok()?))).collect();
            let found: Vec<_> = self.edge.blocking(look).await?;
            for (id, metadata) in found {
                let Some(tail) = self.catalog.tails.get_mut(&id) else { continue };
                tail.look(metadata, now);
                if tail.was_truncated(metadata.length) {
                    self.next_walk = now;
                }
            }
        }
        self.give_turns(now);
        self.next_poll = now + self.settings.poll.duration().unwrap_or_default();
        Ok(())
    }

    fn next_turn(&self) -> Option<TailId> {
        let next = self.turns.range(self.last_turn + 1..).next();
        next.or_else(|| self.turns.first()).copied()
    }

    /// One batch of one file, if it has one.
    async fn take(&mut self, id: TailId) -> Result<Option<Incoming>> {
        let Some(content) = self.opened(id).await? else { return Ok(None) };
        let tail = &self.catalog.tails[&id];
        let (flush_line, flush_group) = self.flushes(tail, Instant::now());
        let cut_after = self.settings.unfinished_after;
        let flush_cut = cut_after.duration().map(|_| passed(cut_after, tail.changed, Instant::now()));
        let length = tail.length;
        let watched = content.clone();
        let look = Look {
            content,
            path: tail.path.clone().unwrap_or_else(|| tail.progress.path()),
            progress: tail.progress.clone(),
            skip: tail.skip.clone(),
            flush_line,
            flush_group,
            flush_cut,
            batch: self.batch,
            now: self.edge.now(),
        };
        let framer = self.framer.clone();
        let taken = self.edge.blocking(move || framer.take(&look)).await?;
        let Some(tail) = self.catalog.tails.get_mut(&id) else { return Ok(None) };
        tail.doubtful = false;
        let (records, progress, dead_letter) = match taken {
            Ok(Taken::Records(records, progress, rest)) => {
                (tail.exhausted, tail.partial) = ((!rest.more).then_some(length), rest.partial);
                (records, progress, None)
            }
            Ok(Taken::Unfit(dead_letter, progress)) => (BatchBuilder::new(), progress, Some(dead_letter)),
            Ok(Taken::Nothing(skip, partial)) => {
                (tail.skip, tail.partial, tail.exhausted) = (skip, partial, Some(length));
                if flush_line && watched.damage() == Some(Damage::Cut) {
                    self.told.once(format!("open {}: ends in the middle: its rest is waited for", tail.progress.path));
                }
                return self.read_whole(id);
            }
            Ok(Taken::Replaced) => {
                tail.content = None;
                self.catalog.mark_replaced(id);
                return Ok(None);
            }
            Err(cause) => {
                (tail.content, tail.failed) = (None, true);
                let path = tail.progress.path.clone();
                self.told.once(format!("open {path}: {cause}"));
                return Ok(None);
            }
        };
        tail.progress = progress;
        tail.skip = None;
        let (stream, position) = (tail.stream.clone(), Position::of(&tail.progress)?);
        Ok(Some(Incoming { dead_letter, ..Incoming::records(stream, position, records) }))
    }

    /// A compressed file that was read to its end need not be inflated again to find that out: that is saved.
    fn read_whole(&mut self, id: TailId) -> Result<Option<Incoming>> {
        let Some(tail) = self.catalog.tails.get_mut(&id) else { return Ok(None) };
        if !tail.compressed || tail.partial || tail.progress.whole == tail.length {
            return Ok(None);
        }
        tail.progress.whole = tail.length;
        tail.content = None;
        Ok(Some(Incoming::records(tail.stream.clone(), Position::of(&tail.progress)?, BatchBuilder::new())))
    }

    /// The file's content, opened where it was closed; `None` when it can not be opened now.
    async fn opened(&mut self, id: TailId) -> Result<Option<Content>> {
        let Some(tail) = self.catalog.tails.get(&id) else { return Ok(None) };
        self.open.retain(|open| *open != id);
        if let Some(content) = tail.content.clone() {
            self.open.push_back(id);
            return Ok(Some(content));
        }
        let Some(path) = tail.path.clone() else { return Ok(None) };
        if self.open.len() >= OPEN_FILES
            && let Some(longest) = self.open.pop_front()
            && let Some(tail) = self.catalog.tails.get_mut(&longest)
            && tail.path.is_some()
        {
            tail.content = None;
        }
        let (disk, inflate) = (self.edge.disk.clone(), self.settings.compressed == Compressed::Auto);
        let opening = path.clone();
        let opened = self.edge.blocking(move || {
            let content = Content::open(&*disk, &opening, inflate)?;
            content.metadata().map(|metadata| (content, metadata))
        });
        let (content, metadata) = match opened.await? {
            Ok(opened) => opened,
            Err(cause) => {
                if let Some(tail) = self.catalog.tails.get_mut(&id) {
                    tail.failed = true;
                }
                self.told.once(format!("open {}: {cause}", path.display()));
                return Ok(None);
            }
        };
        let Some(tail) = self.catalog.tails.get_mut(&id) else { return Ok(None) };
        let is_it = (metadata.device, metadata.inode) == tail.progress.file();
        if !is_it || metadata.length < tail.length {
            // Renamed since the last walk, or else truncated, or another file with its inode: the next one finds out.
            self.next_walk = Instant::now();
            return Ok(None);
        }
        tail.content = Some(content.clone());
        self.open.push_back(id);
        Ok(Some(content))
    }

    /// Ends the streams of files that have been gone for long enough.
    fn forget(&mut self, now: Instant) -> Result<()> {
        let over = |since: Option<Instant>| since.is_some_and(|since| passed(self.settings.forget_after, since, now));
        let gone = self.catalog.tails.iter().filter(|(_, tail)| tail.finished && over(tail.gone)).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            let Some(tail) = self.catalog.forget(id) else { continue };
            let incoming = Incoming::records(tail.stream, Position::of(&tail.progress)?, BatchBuilder::new());
            self.bookkeeping.push_back(Incoming { last: true, ..incoming });
        }
        Ok(())
    }
}

#[async_trait]
impl Source for FileSource {
    async fn read(&mut self) -> Result<Option<Incoming>> {
        loop {
            let now = Instant::now();
            if now >= self.next_walk || self.catalog.is_uncertain() {
                self.discover().await?;
            } else if now >= self.next_poll {
                self.poll().await?;
            }
            if let Some(incoming) = self.bookkeeping.pop_front() {
                return Ok(Some(incoming));
            }
            if let Some(id) = self.next_turn() {
                let incoming = self.take(id).await?;
                if !self.wants_turn(id, Instant::now()) || incoming.is_none() {
                    self.turns.remove(&id);
                }
                // One compressed file after the other: what is inflated of each takes room.
                self.last_turn =
                    if self.catalog.tails.get(&id).is_some_and(|tail| tail.compressed) { id - 1 } else { id };
                if let Some(incoming) = incoming {
                    return Ok(Some(incoming));
                }
                continue;
            }
            if !self.catalog.is_uncertain() {
                tokio::time::sleep_until(self.next_walk.min(self.next_poll)).await;
            }
        }
    }
}

/// Whether `span` has passed since a moment; one without end never has.
fn passed(span: Span, since: Instant, now: Instant) -> bool {
    span.duration().is_some_and(|span| now.duration_since(since) >= span)
}
