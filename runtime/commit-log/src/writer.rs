//! The one job at a time that writes a partition: it takes all that waits, writes it with one call, syncs it once, and
//! answers.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_api::disk::File;
use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Durability, Error, Result, TopicSettings};
use aqueduct_record::Offset;

use crate::folder::at;
use crate::partition::{Partition, Stopped};
use crate::queue::{Again, Pending, Work};
use crate::roll;
use crate::segment::{Extent, Segment};
use crate::snapshots::Snapshots;
use crate::space::For;

/// How far a partition is written.
pub(crate) struct Writer {
    /// The segment that is written to; `None`: the next append begins one.
    pub(crate) active: Option<Active>,
    /// The offset after the last batch that is in a file.
    pub(crate) written: Offset,
    /// The offset before which everything is durable.
    pub(crate) synced: Offset,
    /// Whether offsets may be used a second time: only under a new epoch.
    pub(crate) epoch_due: bool,
    /// Whether bytes that do not count may lie behind the end of what does: the next segment begins right there, so that
    /// its name says so whatever happens.
    pub(crate) is_void: bool,
    /// A segment past the end that was begun and came to nothing; its file may be there.
    pub(crate) begun: Option<Offset>,
    /// What is on disk of producers.
    pub(crate) snapshots: Snapshots,
}

/// The segment that is written to.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) size: u64,
    pub(crate) synced_size: u64,
    /// When it was begun, in ms since 1970.
    pub(crate) born: i64,
}

impl Writer {
    /// A partition without records.
    pub(crate) fn empty() -> Self {
        Writer::at_end(None, 0)
    }

    /// A partition of which everything before `end` is durable.
    pub(crate) fn at_end(active: Option<Active>, end: Offset) -> Self {
        let snapshots = Snapshots::default();
        Writer { active, written: end, synced: end, epoch_due: false, is_void: false, begun: None, snapshots }
    }

    /// Whether a crash could bring back what failed, as long as no segment is begun that says what counts.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.is_void && self.active.is_none()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.size > active.synced_size)
    }
}

/// Says that a partition's writer broke, unless it came to its end.
struct Watch<'a>(&'a Partition);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(Stopped::Broken);
            drop(self.0.take_work());
        }
    }
}

impl Partition {
    /// Writes until nothing waits any more.
    pub(crate) fn write_queued(&self) {
        let _watch = Watch(self);
        loop {
            // The lock comes first, so that nothing is taken that somebody else writes around.
            let mut writer = self.writer.lock();
            let Some(work) = self.take_work() else { return };
            self.write_round(&mut writer, work);
        }
    }

    /// Writes, syncs and answers what waited.
    pub(crate) fn write_round(&self, writer: &mut Writer, work: Work) {
        let settings = self.settings();
        let is_fsync = self.is_fsync();
        let mut written = self.write_all(writer, &settings, work.appends);
        if !is_fsync || fault::mutated(Mutant::AcknowledgeBeforeSync) {
            self.show(writer, writer.written);
            answer(std::mem::take(&mut written));
        }
        let must_sync = is_fsync || !work.syncs.is_empty();
        let synced = if must_sync { self.sync_file(writer) } else { Ok(()) };
        match &synced {
            Ok(()) => answer(written),
            Err(cause) => {
                // A segment that was closed on the way is safe, whatever befell the one after it.
                let (safe, voided) = written.into_iter().partition(|append| append.next <= writer.synced);
                answer(safe);
                fail(voided, cause);
            }
        }
        self.answer_again(work.again, &synced);
        for waiting in work.syncs {
            let _ = waiting.send(synced.as_ref().map(|()| writer.synced).map_err(same));
        }
        if !work.roll.is_empty() {
            let rolled = match &writer.active {
                Some(active) if active.size == 0 => Ok(()),
                _ => self.roll_active(writer).and_then(|()| self.begin_segment(writer, writer.written)),
            };
            for waiting in work.roll {
                let _ = waiting.send(rolled.as_ref().copied().map_err(same));
            }
        }
    }

    /// Answers what was sent again: the first one is written by now, and synced where it has to be, or it has failed.
    fn answer_again(&self, again: Vec<Again>, synced: &Result<()>) {
        if again.is_empty() {
            return;
        }
        let given_back = self.given_back();
        for Again { given_back: before, answer, .. } in again {
            let _ = answer.send(match synced {
                Ok(()) if before == given_back => Ok(()),
                Ok(()) => Err(Error::retry(format!("{}: what was sent again has failed meanwhile", self.of))),
                Err(cause) => Err(same(cause)),
            });
        }
    }

    /// Writes appends, and returns those that are written; the others have failed.
    fn write_all(&self, writer: &mut Writer, settings: &TopicSettings, appends: Vec<Pending>) -> Vec<Pending> {
        let mut written = Vec::with_capacity(appends.len());
        let mut left = appends.into_iter().peekable();
        while left.peek().is_some() {
            let mut run: Vec<Pending> = Vec::with_capacity(left.len());
            let outcome = self.write_run(writer, settings, &mut left, &mut run);
            match outcome {
                Ok(()) => written.append(&mut run),
                Err(cause) => {
                    // What a failed sync voided lies before the end of what was written.
                    let (kept, voided): (Vec<_>, Vec<_>) =
                        written.into_iter().partition(|append| append.next <= writer.written);
                    let behind = self.give_back(writer.written);
                    fail(voided.into_iter().chain(run).chain(left).chain(behind).collect(), &cause);
                    return kept;
                }
            }
        }
        written
    }

    /// Writes as many appends as fit the active segment, which is rolled before where it is due.
    fn write_run(
        &self,
        writer: &mut Writer,
        settings: &TopicSettings,
        left: &mut std::iter::Peekable<std::vec::IntoIter<Pending>>,
        run: &mut Vec<Pending>,
    ) -> Result<()> {
        let Some(first) = left.peek() else { return Ok(()) };
        if self.is_roll_due(writer, settings, first) {
            self.roll_active(writer)?;
        }
        if writer.active.is_none() {
            self.begin_segment(writer, self.next_base(writer, first))?;
        }
        let active = writer.active.as_mut().expect("a segment was begun where there was none");
        let most = roll::most_bytes(settings);
        let mut size = active.size;
        while let Some(next) = left.next_if(|next| {
            let fits = size == 0 || size + next.batch.size() as u64 <= most;
            fits && next.base - active.segment.base <= i64::from(i32::MAX)
        }) {
            size += next.batch.size() as u64;
            run.push(next);
        }
        if run.is_empty() {
            return Ok(());
        }
        if !self.may_use_ballast(run) {
            self.shared.take_room(size - active.size, For::of(settings))?;
        }
        let base = active.segment.base;
        if run.iter().any(|append| append.batch.header().producer_id >= 0) {
            self.note_first_producer(writer, base)?;
        }
        let active = writer.active.as_mut().expect("nothing was rolled since");
        active.segment.change_index(&self.shared, |_| ())?;
        let file =
            active.segment.file(&self.shared)?.ok_or_else(|| Error::retry(format!("{} was deleted", self.of)))?;
        if writer.epoch_due {
            self.shared.raise_epoch()?;
            writer.epoch_due = false;
        }
        if let Err(cause) = self.write_batches(&*file, active.size, run) {
            let cause = at(active.segment.path())(cause);
            // What was written of it may come back after a crash, in the place of what is written here next.
            (writer.epoch_due, writer.is_void) = (true, true);
            self.cut_half_written(writer, &*file);
            return Err(cause);
        }
        fault::point("append.written");
        let segment = active.segment.clone();
        if settings.durability == Durability::Fsync {
            segment.pin(file);
        }
        segment.change_index(&self.shared, |index| {
            let mut position = active.size;
            for append in &*run {
                index.add(segment.base, &append.batch.header(), append.base, position);
                append.aborted.iter().for_each(|aborted| index.add_aborted(**aborted));
                position += append.batch.size() as u64;
            }
        })?;
        active.size = size;
        writer.written = run.last().map_or(writer.written, |last| last.next);
        Ok(())
    }

    /// Whether what is written has a right to the room that is kept back: a transaction that can not be ended holds up
    /// readers, and with them the cleaning that would make room.
    fn may_use_ballast(&self, run: &[Pending]) -> bool {
        self.is_internal() || run.iter().all(|append| append.batch.header().attributes.is_control())
    }

    /// Writes batches with one call.
    fn write_batches(&self, file: &dyn File, position: u64, run: &[Pending]) -> io::Result<()> {
        let epoch = self.shared.epoch.current();
        let starts: Vec<[u8; 16]> = run.iter().map(|append| append.batch.placed(append.base, epoch)).collect();
        let mut parts = Vec::with_capacity(run.len() * 2);
        for (append, start) in run.iter().zip(&starts) {
            parts.push(IoSlice::new(start));
            parts.push(IoSlice::new(&append.batch.bytes()[start.len()..]));
        }
        match self.may_use_ballast(run) {
            true => self.shared.room.or_on_ballast(|| file.write_at(&parts, position)),
            false => file.write_at(&parts, position),
        }
    }

    /// Makes all that is written durable; on `fsync` topics readers see it then.
    pub(crate) fn sync_file(&self, writer: &mut Writer) -> Result<()> {
        match writer.is_dirty() {
            true => self.sync_active(writer),
            false => {
                self.synced(writer);
                Ok(())
            }
        }
    }

    pub(crate) fn sync_active(&self, writer: &mut Writer) -> Result<()> {
        let active = writer.active.as_mut().expect("what is synced is active");
        let file =
            active.segment.file(&self.shared)?.ok_or_else(|| Error::retry(format!("{} was deleted", self.of)))?;
        let mut synced = file.sync();
        if synced.is_err() && fault::mutated(Mutant::SyncAgain) {
            synced = file.sync();
        }
        if let Err(cause) = synced {
            return Err(self.void_unsynced(writer, &*file, &cause));
        }
        fault::point("append.synced");
        active.synced_size = active.size;
        active.segment.unpin(&self.shared);
        self.synced(writer);
        self.show(writer, writer.written);
        Ok(())
    }

    fn synced(&self, writer: &mut Writer) {
        writer.synced = writer.written;
        self.safe.store(writer.synced, Ordering::Release);
    }

    /// Lets readers see everything before `end`.
    fn show(&self, writer: &Writer, end: Offset) {
        if end <= self.high_watermark() {
            return;
        }
        if let Some(active) = &writer.active {
            active.segment.set_extent(Extent { size: active.size, bound: end });
        }
        self.set_high_watermark(end);
    }

    /// Writes and syncs what is left, and leaves the index on disk: the end of a clean stop.
    pub(crate) fn finish(&self) -> Result<()> {
        self.stop(Stopped::Closed);
        // Whoever cleans is waited for, and nobody begins to.
        drop(self.cleaning.lock());
        let mut writer = self.writer.lock();
        while let Some(work) = self.take_work() {
            self.write_round(&mut writer, work);
        }
        if self.stopped() == Some(Stopped::Broken) {
            return Err(Error::retry(format!("{}: its writer panicked", self.of)));
        }
        self.sync_file(&mut writer)?;
        if writer.is_unsettled() {
            let end = writer.written;
            self.begin_segment(&mut writer, end)?;
        }
        if writer.epoch_due {
            // A clean start does not raise it, and would use offsets again that a failed sync made void.
            self.shared.raise_epoch()?;
            writer.epoch_due = false;
        }
        if let Some(active) = &writer.active {
            active.segment.close(&self.shared);
        }
        Ok(())
    }
}

fn answer(appends: Vec<Pending>) {
    for append in appends {
        // Whoever does not wait does not mind.
        let _ = append.answer.send(Ok(()));
    }
}

pub(crate) fn fail(appends: Vec<Pending>, cause: &Error) {
    for append in appends {
        let _ = append.answer.send(Err(same(cause)));
    }
}

/// The same failure, for one more of those who wait.
fn same(cause: &Error) -> Error {
    let told = cause.to_string();
    match cause {
        Error::Retry { after, .. } => Error::Retry { cause: told.into(), after: *after },
        Error::Refused { .. } => Error::refused(told),
        Error::Fatal { .. } => Error::fatal(told),
    }
}
