//! Objects become records: one object after the other, and of small ones many at once.

use std::collections::VecDeque;
use std::sync::Arc;

use aqueduct_api::{DeadLetter, Error, Incoming, Position, Result, Source, SourceOpening, Stream};
use aqueduct_record::BatchBuilder;
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::ahead::Ahead;
use crate::answers::{is_archived, told};
use crate::arriving::Stored;
use crate::finished::{Finished, Saved};
use crate::gather::{Gathered, ROOM, gather};
use crate::listing::{Listed, Selection};
use crate::reading::{Failure, Progress, Reading};
use crate::source_settings::{Archived, S3SourceSettings, Start};
use crate::store::PartStore;

/// Reads a bucket.
pub(crate) struct ObjectSource {
    settings: S3SourceSettings,
    store: Arc<dyn PartStore>,
    bucket: String,
    selection: Selection,
    opening: SourceOpening,
    stream: Arc<Stream>,
    longest: usize,
    finished: Finished,
    /// Whether it is to be found out where the end is, to begin there.
    is_at_end: bool,
    /// The object that was being read when the position was saved, until it is found.
    begun: Option<Begun>,
    reading: Option<Reading>,
    /// What is to be read, the next one last.
    unread: Vec<Listed>,
    ahead: Ahead,
    /// Whether the last list found more than is remembered.
    is_cut: bool,
    next_list: Instant,
    /// The time of the newest object of all lists.
    newest: Option<i64>,
    /// The same of those before the last one: what appeared while that was made may be in no list yet.
    newest_before: Option<i64>,
    builder: BatchBuilder,
    /// Whether there is progress that no record tells.
    is_unsaved: bool,
    ready: VecDeque<Incoming>,
    /// What went wrong behind all that is ready.
    failure: Option<Error>,
}

/// The position of the stream.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    finished: Saved,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Begun>,
}

/// How far an object has been read.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Begun {
    hash: u64,
    #[serde(flatten)]
    progress: Progress,
}

impl ObjectSource {
    /// Goes on at the saved position.
    pub(crate) fn open(
        settings: S3SourceSettings,
        opening: SourceOpening,
        store: Arc<dyn PartStore>,
    ) -> Result<ObjectSource> {
        let (bucket, prefix) = settings.bucket().map_err(Error::fatal)?;
        let id = serde_json::json!({"bucket": bucket, "prefix": prefix}).to_string();
        let saved = opening.positions.iter().find(|(stream, _)| stream.id == id);
        let saved = saved.map(|(_, position)| position.read::<State>()).transpose()?;
        let first = settings.first().map_err(Error::fatal)?;
        let is_at_end = saved.is_none() && first == Start::End;
        // Before that is known there is no position.
        let is_unsaved = saved.is_none() && !is_at_end;
        let (finished, begun) = match saved {
            Some(saved) => (Finished::restore(saved.finished).map_err(Error::fatal)?, saved.begun),
            None => (Finished::nothing(if let Start::Time(time) = first { time } else { i64::MIN }), None),
        };
        Ok(ObjectSource {
            selection: settings.selection().map_err(Error::fatal)?,
            longest: (settings.max_record.0 as usize).min((opening.largest.0 as usize).saturating_sub(ROOM).max(1)),
            stream: Arc::new(Stream { key: id.clone(), id }),
            store,
            bucket,
            ahead: Ahead::new(settings.read_ahead.0),
            settings,
            finished,
            is_at_end,
            begun,
            reading: None,
            unread: Vec::new(),
            is_cut: false,
            next_list: Instant::now(),
            newest: None,
            newest_before: None,
            builder: BatchBuilder::new(),
            is_unsaved,
            ready: VecDeque::new(),
            failure: None,
            opening,
        })
    }

    fn position(&self) -> Result<Position> {
        let reading = self.reading.as_ref();
        let begun = reading.map(|reading| Begun { hash: reading.object.place.hash, progress: reading.progress });
        let begun = begun.filter(|begun| begun.progress.has_begun()).or_else(|| self.begun.clone());
        Position::of(&State { finished: self.finished.saved(), begun })
    }

    /// Hands over what has been gathered, with how far it goes.
    fn flush(&mut self) -> Result<()> {
        if self.builder.is_empty() && !self.is_unsaved {
            return Ok(());
        }
        let position = self.position()?;
        let records = std::mem::take(&mut self.builder);
        self.ready.push_back(Incoming::records(self.stream.clone(), position, records));
        self.is_unsaved = false;
        Ok(())
    }

    fn bury(&mut self, dead_letter: DeadLetter) -> Result<()> {
        let incoming = Incoming::records(self.stream.clone(), self.position()?, BatchBuilder::new());
        self.ready.push_back(Incoming { dead_letter: Some(dead_letter), ..incoming });
        self.is_unsaved = false;
        Ok(())
    }

    fn told(&self, cause: &object_store::Error, doing: &str) -> Error {
        told(cause, &self.bucket, &self.settings.url).context(doing)
    }

    /// Finds out what is to be read; answers whether there is something.
    async fn list(&mut self) -> Result<bool> {
        let begun = Instant::now();
        if self.is_at_end {
            let latest = self.selection.latest(&*self.store, self.late()).await;
            if let Some((last, there)) = latest.map_err(|cause| self.told(&cause, "list objects"))? {
                self.finished.begin_behind(last, there, self.late());
            }
            (self.is_at_end, self.is_unsaved) = (false, true);
            self.flush()?;
        }
        if self.finished.is_unsure() {
            let between = self.selection.between(&*self.store, &self.finished).await;
            let between = between.map_err(|cause| self.told(&cause, "list objects"))?;
            if !self.finished.remember(between) {
                tracing::warn!(
                    source = self.opening.name,
                    url = self.settings.url,
                    "too many objects appeared out of order or were deleted while the source was away: those of the time \
                     `late` before the last one are read again"
                );
            }
        }
        let hash = self.begun.as_ref().map(|begun| begun.hash);
        let listing = self.selection.unread(&*self.store, &self.finished, hash).await;
        let listing = listing.map_err(|cause| self.told(&cause, "list objects"))?;
        let poll = self.settings.poll.duration().unwrap_or_default();
        self.next_list = Instant::now() + poll.max(begun.elapsed() * 10);
        self.is_cut = listing.is_cut;
        self.newest_before = self.newest;
        self.newest = self.newest.max(listing.newest);
        self.finished.retain(&listing.kept);
        self.unread = listing.unread;
        match (listing.begun, &self.begun) {
            (Some(object), _) => self.unread.push(object),
            (None, Some(begun)) => {
                let unit = self.settings.format.unit();
                let reason =
                    format!("an object is gone or was written anew: it was read up to {unit} {}", begun.progress);
                tracing::warn!(source = self.opening.name, url = self.settings.url, reason);
                self.begun = None;
                self.bury(DeadLetter { value: None, headers: Vec::new(), reason })?;
            }
            (None, None) => {}
        }
        Ok(!self.unread.is_empty() || !self.ready.is_empty())
    }

    /// Opens the next object.
    async fn next_object(&mut self) -> Result<()> {
        let Some(object) = self.unread.last().cloned() else { return Ok(()) };
        let begun = self.begun.as_ref().filter(|begun| begun.hash == object.place.hash);
        let progress = begun.map_or_else(Progress::default, |begun| begun.progress);
        self.ahead.fetch(&self.store, &self.unread);
        let here = self.ahead.take(&object).await;
        let stored = Stored { store: self.store.clone(), object: object.clone(), here };
        let opened = Reading::open(&self.opening.edge, stored, progress, &self.settings, self.longest).await;
        match opened.map_err(|failure| self.unless_waited_for(failure, progress)) {
            Ok(reading) => {
                self.unread.pop();
                self.begun = None;
                self.reading = Some(reading);
            }
            Err(Failure::Store(cause)) => return Err(self.told(&cause, &format!("get {}", object.shown()))),
            Err(Failure::Lost(reason)) => {
                self.unread.pop();
                self.flush()?;
                self.begun = None;
                self.finished.insert(object.place.clone());
                self.lost(&object, &reason)?;
            }
        }
        Ok(())
    }

    /// The rest of an object will never come.
    fn lost(&mut self, object: &Listed, reason: &str) -> Result<()> {
        let reason = format!("object {} {reason}", object.shown());
        tracing::warn!(source = self.opening.name, url = self.settings.url, reason);
        let headers = self.told_of(object);
        self.bury(DeadLetter { value: None, headers, reason })
    }

    fn told_of(&self, object: &Listed) -> Vec<(String, Bytes)> {
        let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        let mut headers = vec![header("bucket", &self.bucket), header("key", &object.key())];
        headers.extend(object.e_tag.as_deref().map(|tag| header("etag", tag)));
        headers
    }

    /// Takes records from the object that is being read, as far as it has come or the batch goes.
    async fn read_on(&mut self) -> Result<()> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        match gather(reading, &mut self.builder, &self.opening, &self.settings.headers, &self.bucket) {
            Gathered::Full => self.flush(),
            Gathered::Large(before, record) => {
                // What came before it goes first, with the position of before it.
                let next = std::mem::replace(&mut reading.progress, before);
                self.flush()?;
                if let Some(reading) = &mut self.reading {
                    reading.progress = next;
                }
                self.builder = record;
                Ok(())
            }
            Gathered::Unfit(unfit) => {
                // What came before it has a position of its own: that of before the line.
                let next = std::mem::replace(&mut reading.progress, unfit.before);
                let object = reading.object.clone();
                if !self.builder.is_empty() {
                    self.flush()?;
                }
                if let Some(reading) = &mut self.reading {
                    reading.progress = next;
                }
                let mut headers = self.told_of(&object);
                headers.extend(unfit.told.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
                self.bury(DeadLetter { value: unfit.value, headers, reason: unfit.reason })
            }
            Gathered::End => {
                let object = self.reading.take().map(|reading| reading.object);
                object.into_iter().for_each(|object| self.finished.insert(object.place));
                self.raise_floor();
                self.is_unsaved = true;
                Ok(())
            }
            Gathered::More => {
                let Err(failure) = reading.fill().await else { return Ok(()) };
                let (object, progress) = (reading.object.clone(), reading.progress);
                match self.unless_waited_for(failure, progress) {
                    Failure::Store(cause) => {
                        self.give_back();
                        Err(self.told(&cause, &format!("get {}", object.shown())))
                    }
                    Failure::Lost(reason) => {
                        self.flush()?;
                        self.reading = None;
                        self.finished.insert(object.place.clone());
                        self.lost(&object, &reason)
                    }
                }
            }
        }
    }

    /// What is archived is lost, unless the settings say to wait: a restore gives it back under the version that was told of
    /// here, and that is done with.
    fn unless_waited_for(&self, failure: Failure, progress: Progress) -> Failure {
        match failure {
            Failure::Store(cause) if is_archived(&cause) && self.settings.archived == Archived::DeadLetter => {
                let unit = self.settings.format.unit();
                let why = "is archived: restore it and copy it onto itself, and it is read";
                Failure::Lost(format!("{why}: {cause}: it was read up to {unit} {progress}"))
            }
            failure => failure,
        }
    }

    /// The object that is being read is opened anew where reading stopped.
    fn give_back(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        self.begun = Some(Begun { hash: reading.object.place.hash, progress: reading.progress });
        self.unread.push(reading.object);
    }

    /// Looks for objects, or waits until it is time to. Answers whether the source may have more.
    async fn look(&mut self) -> Result<bool> {
        if self.is_cut || self.settings.once {
            return self.list().await;
        }
        tokio::time::sleep_until(self.next_list).await;
        self.list().await?;
        Ok(true)
    }

    /// Does what comes next. Answers whether the source may have more.
    async fn step(&mut self) -> Result<bool> {
        if self.reading.is_some() {
            self.read_on().await?;
        } else if !self.unread.is_empty() {
            self.next_object().await?;
        } else {
            self.flush()?;
            return Ok(!self.ready.is_empty() || self.look().await? || self.is_cut);
        }
        Ok(true)
    }

    /// The setting `late`, in ms.
    fn late(&self) -> i64 {
        let late = self.settings.late.duration().unwrap_or_default();
        i64::try_from(late.as_millis()).unwrap_or(i64::MAX)
    }

    fn raise_floor(&mut self) {
        // The one that was being read comes last though it may not be the first in the order.
        let unread = self.unread.iter().rev().take(2).map(|object| object.place.modified).min();
        // Not by a clock of ours, nor by what is later than when the list began: what was not in it may bear a time from then on.
        let until = self.newest_before.unwrap_or(i64::MIN).saturating_sub(self.late());
        self.finished.raise_floor(unread.unwrap_or(i64::MAX).min(until));
    }
}

#[async_trait]
impl Source for ObjectSource {
    async fn read(&mut self) -> Result<Option<Incoming>> {
        loop {
            if let Some(incoming) = self.ready.pop_front() {
                return Ok(Some(incoming));
            }
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // It may last, as an archived object does: what was read before it does not wait for it.
                Err(error) => {
                    self.failure = Some(error);
                    self.flush()?;
                }
            }
        }
    }
}
