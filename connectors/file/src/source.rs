//! Taking turns: one batch of one file at a time, from the files that have something to read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Edge, Incoming, Position, Result, Source, SourceOpening, Span, Stream};
use aqueduct_record::BatchBuilder;
use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::Instant;

use crate::catalog::{Catalog, TailId, grow};
use crate::content::Content;
use crate::framing::{Framer, Look, Taken};
use crate::progress::{Progress, shortened};
use crate::walk::{Findings, Found, Walk};
use crate::{Compressed, FileSettings, Start};

/// The most files that are open at once.
const OPEN_FILES: usize = 256;

/// How long a file counts as busy after it changed: busy files are looked at between the walks through the folders.
const BUSY: Duration = Duration::from_secs(30);

/// The stream that remembers that the source has been started before.
const STARTED: &str = r#"{"started":true}"#;

/// Reads files that grow.
pub(crate) struct FileSource {
    settings: FileSettings,
    edge: Edge,
    walk: Walk,
    framer: Arc<Framer>,
    batch: usize,
    catalog: Catalog,
    /// Files that may have something to read, in the order of their turns.
    turns: VecDeque<TailId>,
    /// Positions to be saved or forgotten though nothing was read.
    bookkeeping: VecDeque<Incoming>,
    /// Open files, the one used longest ago first.
    open: VecDeque<TailId>,
    next_walk: Instant,
    next_poll: Instant,
    /// Whether files that are found begin at their end: at the very first start, which is saved as a stream of its own.
    at_end: bool,
    told: BTreeSet<String>,
}

/// What a stream's id says.
#[derive(Deserialize)]
struct Id {
    path: String,
}

impl FileSource {
    /// Goes on at the saved positions.
    pub(crate) fn open(settings: FileSettings, opening: SourceOpening) -> Result<Self> {
        let mut catalog = Catalog::default();
        let started = opening.positions.iter().any(|(stream, _)| stream.id == STARTED);
        for (stream, position) in &opening.positions {
            let Ok(id) = serde_json::from_str::<Id>(&stream.id) else { continue };
            let stream = Arc::new(Stream { id: stream.id.clone(), key: id.path });
            catalog.add(stream, position.read::<Progress>()?, None);
        }
        // Which of two streams of one path came first is not known here: whichever has no file is finished soon.
        catalog.tails.values_mut().for_each(|tail| tail.after = None);
        let now = Instant::now();
        Ok(FileSource {
            walk: Walk::new(&settings, &opening.folder)?,
            framer: Arc::new(Framer::new(&settings, opening.largest.0 as usize)?),
            batch: opening.batch.0.clamp(4096, 16 << 20) as usize,
            edge: opening.edge,
            at_end: settings.start == Start::End && !started,
            settings,
            catalog,
            turns: VecDeque::new(),
            bookkeeping: VecDeque::new(),
            open: VecDeque::new(),
            next_walk: now,
            next_poll: now,
            told: BTreeSet::new(),
        })
    }

    /// Walks the folders, and finds out what became of every file. Changes nothing until all answers are there.
    async fn discover(&mut self) -> Result<()> {
        let (walk, disk) = (self.walk.clone(), self.edge.disk.clone());
        let findings = self.edge.blocking(move || walk.find(&*disk)).await?;
        let questions = self.catalog.questions(&findings, self.settings.compressed == Compressed::Auto);
        let answers = if questions.is_empty() {
            Default::default()
        } else {
            let disk = self.edge.disk.clone();
            self.edge.blocking(move || questions.answer(&*disk)).await?
        };
        let now = Instant::now();
        let mut new = self.catalog.apply(&findings, answers, now);
        if let Some(age) = self.settings.ignore_older.duration() {
            let oldest = self.edge.now() - age.as_millis() as i64;
            new.retain(|found| found.metadata.modified >= oldest);
        }
        new.sort_by(|a, b| (a.metadata.modified, &a.path).cmp(&(b.metadata.modified, &b.path)));
        let new =
            if self.at_end { self.ends_of(new).await? } else { new.into_iter().map(|found| (found, None)).collect() };
        for (found, progress) in new {
            self.add(found, progress)?;
        }
        if std::mem::take(&mut self.at_end) {
            let stream = Arc::new(Stream { id: STARTED.into(), key: String::new() });
            self.bookkeeping.push_back(Incoming::records(
                stream,
                Position::from_json(STARTED.into())?,
                BatchBuilder::new(),
            ));
        }
        self.tell(&findings);
        self.finish_rotated(now);
        self.forget(now)?;
        let slowest = Duration::from_micros(findings.names as u64 * 300);
        self.next_walk = now + self.settings.discover.duration().unwrap_or_default().max(slowest);
        Ok(())
    }

    /// Where reading begins in files that are there when the source starts for the first time.
    async fn ends_of(&self, found: Vec<Found>) -> Result<Vec<(Found, Option<Progress>)>> {
        let disk = self.edge.disk.clone();
        let read_end = move |found: Found| {
            let progress = Progress::beginning(&found.path, found.metadata.inode, found.metadata.device);
            let end = Content::open(&*disk, &found.path, false).and_then(|content| {
                let window = found.metadata.length.min(64 << 10);
                let mut bytes = Vec::new();
                content.read(&mut bytes, window as usize, found.metadata.length - window)?;
                let line = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| bytes.len() - at - 1);
                progress.at(&content, found.metadata.length - line as u64)
            });
            (found, end.ok())
        };
        self.edge.blocking(move || found.into_iter().map(read_end).collect()).await
    }

    fn add(&mut self, found: Found, progress: Option<Progress>) -> Result<()> {
        let (inode, device) = (found.metadata.inode, found.metadata.device);
        let key = shortened(&found.path);
        let id = serde_json::json!({ "path": key, "inode": inode, "file": format!("{:016x}", self.edge.random()) });
        let stream = Arc::new(Stream { id: id.to_string(), key });
        if let Some(progress) = &progress {
            self.bookkeeping.push_back(Incoming::records(stream.clone(), Position::of(progress)?, BatchBuilder::new()));
        }
        let progress = progress.unwrap_or_else(|| Progress::beginning(&found.path, inode, device));
        tracing::info!(file = %found.path.display(), inode, offset = progress.offset, "a new file");
        self.catalog.add(stream, progress, Some(&found));
        Ok(())
    }

    /// Says what can not be read, once for each path and reason.
    fn tell(&mut self, findings: &Findings) {
        let problems = findings.problems.iter().map(|(path, what)| format!("{}: {what}", path.display()));
        let now: BTreeSet<String> = problems.collect();
        for problem in now.difference(&self.told) {
            tracing::warn!(problem, "can not be read");
        }
        self.told.retain(|told| now.contains(told) || told.starts_with("open "));
        self.told.extend(now);
    }

    /// Rotated files that nobody has written to for a while are finished, and the ones that took their place begin.
    fn finish_rotated(&mut self, now: Instant) {
        let wait = self.settings.rotate_wait;
        for tail in self.catalog.tails.values_mut() {
            if !tail.finished && tail.is_rotated() && tail.is_at_end() && passed(wait, tail.changed, now) {
                tail.finished = true;
            }
            if tail.finished && tail.gone.is_some() {
                tail.content = None;
            }
        }
        let busy: Vec<TailId> = self.catalog.tails.keys().copied().filter(|id| self.wants_turn(*id, now)).collect();
        for id in busy {
            if !self.turns.contains(&id) {
                self.turns.push_back(id);
            }
        }
    }

    fn wants_turn(&self, id: TailId, now: Instant) -> bool {
        let tail = &self.catalog.tails[&id];
        let waits = tail.after.and_then(|id| self.catalog.tails.get(&id)).is_some_and(|before| !before.finished);
        let readable = tail.path.is_some() || tail.content.is_some();
        readable
            && !waits
            && !tail.is_at_end()
            && (tail.exhausted != Some(tail.length) || self.flushes(id, now) != (false, false))
    }

    /// Whether a last line without its end, and a last group of lines, is taken as it is.
    fn flushes(&self, id: TailId, now: Instant) -> (bool, bool) {
        let tail = &self.catalog.tails[&id];
        let over = tail.is_rotated() && passed(self.settings.rotate_wait, tail.changed, now);
        let group =
            self.settings.multiline.as_ref().is_some_and(|multiline| passed(multiline.timeout, tail.changed, now));
        (over || passed(self.settings.unfinished_after, tail.changed, now), over || group)
    }

    /// Looks at the files that changed lately.
    async fn poll(&mut self) -> Result<()> {
        let now = Instant::now();
        let tails = self.catalog.tails.iter().filter(|(_, tail)| now.duration_since(tail.changed) < BUSY);
        let open: Vec<(TailId, Content)> = tails.filter_map(|(id, tail)| Some((*id, tail.content.clone()?))).collect();
        if !open.is_empty() {
            let look =
                move || open.into_iter().filter_map(|(id, content)| Some((id, content.metadata().ok()?))).collect();
            let found: Vec<_> = self.edge.blocking(look).await?;
            for (id, metadata) in found {
                let Some(tail) = self.catalog.tails.get_mut(&id) else { continue };
                grow(tail, metadata, now);
                if metadata.length < tail.progress.offset && !tail.content.as_ref().is_some_and(Content::is_compressed)
                {
                    self.next_walk = now;
                }
            }
        }
        self.finish_rotated(now);
        self.next_poll = now + self.settings.poll.duration().unwrap_or_default();
        Ok(())
    }

    /// One batch of one file, if it has one.
    async fn take(&mut self, id: TailId) -> Result<Option<Incoming>> {
        let Some(content) = self.opened(id).await? else { return Ok(None) };
        let (flush_line, flush_group) = self.flushes(id, Instant::now());
        let tail = &self.catalog.tails[&id];
        let length = tail.length;
        let look = Look {
            content,
            path: tail.path.clone().unwrap_or_else(|| tail.progress.path()),
            progress: tail.progress.clone(),
            skip: tail.skip.clone(),
            flush_line,
            flush_group,
            batch: self.batch,
            now: self.edge.now(),
        };
        let framer = self.framer.clone();
        let taken = self.edge.blocking(move || framer.take(&look)).await?;
        let Some(tail) = self.catalog.tails.get_mut(&id) else { return Ok(None) };
        let (records, progress, dead_letter) = match taken {
            Ok(Taken::Records(records, progress, more)) => {
                tail.exhausted = (!more).then_some(length);
                (records, progress, None)
            }
            Ok(Taken::TooLong(dead_letter, progress)) => (BatchBuilder::new(), progress, Some(dead_letter)),
            Ok(Taken::Nothing(skip)) => {
                (tail.skip, tail.exhausted) = (skip, Some(length));
                return Ok(None);
            }
            Ok(Taken::Replaced) => {
                tail.content = None;
                self.catalog.mark_replaced(id);
                return Ok(None);
            }
            Err(cause) => {
                (tail.content, tail.exhausted) = (None, Some(length));
                self.tell_once(format!("open {}: {cause}", self.catalog.tails[&id].progress.path));
                return Ok(None);
            }
        };
        let position = Position::of(&progress)?;
        (tail.progress, tail.skip) = (progress, None);
        let stream = tail.stream.clone();
        if self.wants_turn(id, Instant::now()) {
            self.turns.push_back(id);
        }
        Ok(Some(Incoming { dead_letter, ..Incoming::records(stream, position, records) }))
    }

    /// The file's content, opened where it was closed; `None` when it can not be opened now.
    async fn opened(&mut self, id: TailId) -> Result<Option<Content>> {
        let Some(tail) = self.catalog.tails.get(&id) else { return Ok(None) };
        if let Some(content) = tail.content.clone() {
            self.open.retain(|open| *open != id);
            self.open.push_back(id);
            return Ok(Some(content));
        }
        let Some(path) = tail.path.clone() else { return Ok(None) };
        let (disk, inflate) = (self.edge.disk.clone(), self.settings.compressed == Compressed::Auto);
        let opening = path.clone();
        let opened = self.edge.blocking(move || {
            let content = Content::open(&*disk, &opening, inflate)?;
            content.metadata().map(|metadata| (content, metadata))
        });
        let (content, metadata) = match opened.await? {
            Ok(opened) => opened,
            Err(cause) => {
                self.tell_once(format!("open {}: {cause}", path.display()));
                return Ok(None);
            }
        };
        let Some(tail) = self.catalog.tails.get_mut(&id) else { return Ok(None) };
        if (metadata.device, metadata.inode) != (tail.progress.device, tail.progress.inode) {
            // Renamed since the last walk: the next one finds out where to.
            self.next_walk = Instant::now();
            return Ok(None);
        }
        tail.content = Some(content.clone());
        self.open.push_back(id);
        if self.open.len() > OPEN_FILES
            && let Some(longest) = self.open.pop_front()
            && let Some(tail) = self.catalog.tails.get_mut(&longest)
            && tail.path.is_some()
        {
            tail.content = None;
        }
        Ok(Some(content))
    }

    fn tell_once(&mut self, problem: String) {
        if !self.told.contains(&problem) {
            tracing::warn!(problem, "can not be read");
            self.told.insert(problem);
        }
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
            // The turn is given back when the future is dropped in the middle: the next walk or poll asks again.
            if let Some(id) = self.turns.pop_front() {
                if let Some(incoming) = self.take(id).await? {
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
