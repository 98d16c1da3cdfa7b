//! What a chunk's batches are read from: the log, about a mebibyte at a time, one read ahead in the sink's own room.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_api::{
    Chunk, Content, Draft, Error, Isolation, Made, Outcome, POSITION_HEADER, REPLAYED_HEADER, Read, Rejected, Replayed,
    Result, TopicPartition, Unfit,
};
use aqueduct_record::{Batch, BatchBuilder, Offset, Record};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::burial::Burial;
use crate::dead_letters::Stage;
use crate::deliver::Delivery;
use crate::opened::Opened;
use crate::pin::Pin;
use crate::transforms;

/// The batches and the note of one pinned chunk.
pub(crate) struct LogContent {
    delivery: Arc<Delivery>,
    opened: Arc<Opened>,
    runtime: Handle,
    of: TopicPartition,
    range: Range<Offset>,
    /// Under what the chunk is pinned, to be committed again with a note.
    pinned: (Pin, i32),
    /// Records of the chunk that transforms could make nothing of, by their dead letters: so it stays.
    dead: BTreeSet<Offset>,
    state: Mutex<Seen>,
}

/// What the reads of a chunk have shown.
#[derive(Default)]
struct Seen {
    ahead: Option<Ahead>,
    /// The last batch: its next offset and its leader epoch.
    last: Option<(Offset, i32)>,
    lost: Vec<Range<Offset>>,
    note: Option<String>,
    /// Up to where transforms have seen everything that is to be written.
    transformed: Offset,
    /// Records that transforms can make nothing of, and why: once, however often the chunk is read.
    unfit: BTreeMap<Offset, String>,
    /// Those of them whose dead letters were written at once; `None`: it is not known which.
    buried: Option<BTreeSet<Offset>>,
}

struct Ahead {
    from: Offset,
    read: JoinHandle<Result<Read>>,
    _room: OwnedSemaphorePermit,
}

const AT_A_TIME: usize = 1 << 20;

impl LogContent {
    /// The content of the chunk of `range`, pinned by `pin` under a leader epoch. To be made on a runtime that lives on.
    pub(crate) fn new(
        (delivery, opened): (&Arc<Delivery>, &Arc<Opened>),
        of: &TopicPartition,
        range: Range<Offset>,
        pinned: (Pin, i32),
        dead: BTreeSet<Offset>,
    ) -> LogContent {
        let (delivery, opened, runtime) = (delivery.clone(), opened.clone(), delivery.run.runtime.clone());
        let state = Seen { transformed: range.start, buried: Some(BTreeSet::new()), ..Seen::default() };
        LogContent { delivery, opened, runtime, of: of.clone(), range, pinned, dead, state: Mutex::new(state) }
    }

    /// Gives back what it holds while nobody reads.
    pub(crate) fn rest(&self) {
        let ahead = self.state.lock().ahead.take();
        if let Some(ahead) = ahead {
            ahead.read.abort();
        }
    }

    /// The leader epoch of the chunk's last batch, if it was read to its end.
    pub(crate) fn last_epoch(&self) -> Option<i32> {
        let last = self.state.lock().last;
        last.filter(|(next, _)| *next >= self.range.end).map(|(_, epoch)| epoch)
    }

    /// Ranges that could not be read.
    pub(crate) fn lost(&self) -> Vec<Range<Offset>> {
        self.state.lock().lost.clone()
    }

    /// Records that became dead letters while the sink was reading; `None`: it is not known which.
    pub(crate) fn buried(&self) -> Option<BTreeSet<Offset>> {
        self.state.lock().buried.clone()
    }

    /// The note that was saved, if one was.
    pub(crate) fn note(&self) -> Option<String> {
        self.state.lock().note.clone()
    }

    /// What transforms could make nothing of in what a sink has finished of the chunk, as rejections of the call's
    /// `index`. What the sink did not read, because it is there already, goes through transforms here.
    pub(crate) async fn unfit(&self, index: usize, chunk: &Chunk, outcome: &Outcome) -> Result<Vec<Rejected>> {
        if self.opened.transforms.is_empty() {
            return Ok(Vec::new());
        }
        let unfinished = outcome.unfinished.iter().filter(|(chunk, _)| *chunk == index).map(|(_, range)| range);
        let done = unfinished.fold(chunk.ranges.clone(), without);
        if done.last().is_some_and(|last| self.state.lock().transformed < last.end) {
            let mut batches = chunk.batches_of(done);
            while batches.next().await?.is_some() {}
        }
        let unfit = self.state.lock().unfit.clone().into_iter();
        Ok(unfit.map(|(offset, reason)| Rejected { chunk: index, offset, reason }).collect())
    }

    /// At what stage a record was rejected.
    pub(crate) fn stage(&self, offset: Offset) -> Stage {
        match self.state.lock().unfit.contains_key(&offset) {
            true => Stage::Transformation,
            false => Stage::Put,
        }
    }

    /// Whether a record is no replayed one of another sink.
    fn is_for_us(&self, record: &Record<'_>) -> bool {
        Replayed::of(record.headers).is_none_or(|replayed| replayed.is_for(&self.delivery.run.name))
    }

    async fn read_log(&self, from: Offset) -> Result<Read> {
        let ahead = self.state.lock().ahead.take();
        match ahead {
            Some(ahead) if ahead.from == from => {
                ahead.read.await.map_err(|cause| Error::retry(format!("read {}: {cause}", self.of)))?
            }
            _ => self.delivery.run.host.store.read(&self.of, from, AT_A_TIME, Isolation::Committed).await,
        }
    }

    fn read_ahead(&self, from: Offset) {
        if from >= self.range.end {
            return;
        }
        let Ok(room) = self.delivery.ahead.clone().try_acquire_owned() else { return };
        let (store, of) = (self.delivery.run.host.store.clone(), self.of.clone());
        let read = self.runtime.spawn(async move { store.read(&of, from, AT_A_TIME, Isolation::Committed).await });
        self.state.lock().ahead = Some(Ahead { from, read, _room: room });
    }

    async fn batches(&self, from: Offset) -> Result<Vec<Batch>> {
        let mut from = from.max(self.range.start);
        while from < self.range.end {
            let read = self.read_log(from).await?;
            if let Some(lost) = &read.lost {
                self.note_lost(lost);
            }
            let lost = read.lost.clone();
            let mut batches = Vec::new();
            for batch in read.into_batches() {
                let batch = batch.map_err(|cause| unreadable(&self.of, cause))?;
                if batch.base_offset() >= self.range.end {
                    break;
                }
                batches.push(batch);
            }
            if let Some(last) = batches.last() {
                let next = last.next_offset();
                self.state.lock().last = Some((next, last.leader_epoch()));
                self.read_ahead(next);
                return Ok(batches);
            }
            match lost {
                Some(lost) if lost.end > from => from = lost.end,
                _ => break,
            }
        }
        // Compaction may have left nothing between here and the chunk's end, the log's end may not.
        match self.delivery.run.host.store.bounds(&self.of).await?.end {
            end if end >= self.range.end => Ok(Vec::new()),
            end => Err(Error::retry(format!("{} ends at {end}, before its pinned chunk does", self.of))),
        }
    }

    /// Writes the dead letters of records of a batch that are unfit for now. It has to be before the sink sees the others: were the
    /// chunk written again and the record fit by then, it could be missing under a name that is kept, or come twice.
    async fn bury(&self, batch: &Batch, for_now: Vec<Offset>) -> Result<()> {
        let (false, Some(letters)) = (for_now.is_empty(), &self.delivery.dead_letters) else { return Ok(()) };
        let (known, rejected) = {
            let mut state = self.state.lock();
            let reason = |offset: &Offset| state.unfit.get(offset).cloned().unwrap_or_default();
            let rejected = for_now.iter().map(|offset| Rejected { chunk: 0, offset: *offset, reason: reason(offset) });
            let rejected: Vec<_> = rejected.collect();
            (state.buried.take(), rejected)
        };
        let run = &self.delivery.run;
        let burial = Burial { letters, of: &self.of, content: self, now: run.host.edge.now() };
        let buried = burial.rejected_of(batch, &rejected.iter().collect::<Vec<_>>()).await.map_err(later)?;
        tracing::warn!(sink = run.name, partition = %self.of, records = buried,
            first = rejected[0].offset, reason = rejected[0].reason, "records became dead letters");
        run.counters.dead_letters.fetch_add(buried, Ordering::Relaxed);
        self.state.lock().buried = known.map(|known| known.into_iter().chain(for_now).collect());
        Ok(())
    }

    fn note_lost(&self, lost: &Range<Offset>) {
        let lost = lost.start.max(self.range.start)..lost.end.min(self.range.end);
        let mut state = self.state.lock();
        if !lost.is_empty() && !state.lost.contains(&lost) {
            tracing::error!(sink = self.delivery.run.name, partition = %self.of, from = lost.start, to = lost.end,
                "records can not be read any more: they are skipped");
            state.lost.push(lost);
        }
    }
}

#[async_trait]
impl Content for LogContent {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        // A topic that was deleted refuses: that is not what the sink is asked about, and the next look forgets it.
        self.batches(from).await.map_err(later)
    }

    async fn transformed(&self, batch: &Batch, span: Range<Offset>, ranges: &[Range<Offset>]) -> Result<Option<Made>> {
        // A batch with replayed records is never compressed; where only bytes look like it, nothing is left out.
        let is_replayed = memchr::memmem::find(batch.bytes(), REPLAYED_HEADER.as_bytes()).is_some();
        let is_dead = self.dead.range(span.clone()).next().is_some();
        if self.opened.transforms.is_empty() && !is_replayed && !is_dead {
            return Ok(None);
        }
        // What was said of a record holds, also where a transform would say something else by now.
        let known: BTreeSet<Offset> = self.state.lock().unfit.range(span.clone()).map(|(offset, _)| *offset).collect();
        let records = batch.records().map_err(|cause| unreadable(&self.of, cause))?;
        // By offset: transforms do not see it, and what they make of a record keeps it.
        let mut replayed: BTreeMap<Offset, &[u8]> = BTreeMap::new();
        let mut drafts = Vec::new();
        for record in records.iter() {
            let record = record.map_err(|cause| unreadable(&self.of, cause))?;
            let is_wanted = ranges.iter().any(|range| range.contains(&record.offset));
            let is_settled = self.dead.contains(&record.offset) || known.contains(&record.offset);
            if !is_wanted || is_settled || is_replayed && !self.is_for_us(&record) {
                continue;
            }
            if let Some(Some(header)) = record.headers.get(REPLAYED_HEADER).filter(|_| is_replayed) {
                replayed.insert(record.offset, header);
            }
            let record = Record { headers: record.headers.without(POSITION_HEADER), ..record };
            let mut draft = Draft::of(&record, &self.of.topic, Some(self.of.partition));
            draft.headers.retain(|(name, _)| name != REPLAYED_HEADER);
            drafts.push(draft);
        }
        let made = self.opened.transforms.apply(drafts).await?;
        if let Some(routed) = made.drafts.iter().find(|draft| draft.topic != *self.of.topic) {
            return Err(Error::fatal(format!("a transform sends records to topic {}: a sink's can not", routed.topic)));
        }
        let (mut builder, mut offsets) = (BatchBuilder::new(), Vec::with_capacity(made.drafts.len()));
        for draft in &made.drafts {
            transforms::push(&mut builder, draft);
            if let Some(header) = replayed.get(&draft.offset) {
                builder.add_header_to_last(REPLAYED_HEADER, header);
            }
            offsets.push(draft.offset);
        }
        let for_now: Vec<Offset> = made.unfit.iter().filter(|unfit| unfit.for_now).map(|unfit| unfit.offset).collect();
        self.state.lock().unfit.extend(made.unfit.into_iter().map(|Unfit { offset, reason, .. }| (offset, reason)));
        self.bury(batch, for_now).await?;
        let mut state = self.state.lock();
        if span.start <= state.transformed {
            state.transformed = state.transformed.max(span.end);
        }
        Ok(Some(Made { batch: builder.finish(), offsets }))
    }

    async fn save_note(&self, note: &str) -> Result<()> {
        if note.len() > Pin::LARGEST_NOTE {
            let length = note.len();
            return Err(Error::refused(format!("a note of {length} bytes is longer than {}", Pin::LARGEST_NOTE)));
        }
        let (pin, epoch) = &self.pinned;
        let pin = Pin { note: Some(note.to_owned()), ..pin.clone() };
        self.delivery.commit(&self.of, self.range.start, *epoch, &pin).await?;
        self.state.lock().note = Some(note.to_owned());
        Ok(())
    }
}

impl Drop for LogContent {
    fn drop(&mut self) {
        self.rest();
    }
}

/// A refusal that is not about what the sink was given.
fn later(error: Error) -> Error {
    match error {
        Error::Refused { cause } => Error::Retry { cause, after: None },
        error => error,
    }
}

/// What a sink was given, for messages.
pub(crate) fn told(chunk: &Chunk) -> String {
    format!("write {chunk}")
}

/// `ranges` without one of them.
fn without(ranges: Vec<Range<Offset>>, gone: &Range<Offset>) -> Vec<Range<Offset>> {
    let cut = |range: Range<Offset>| [range.start..range.end.min(gone.start), range.start.max(gone.end)..range.end];
    ranges.into_iter().flat_map(cut).filter(|range| !range.is_empty()).collect()
}

fn unreadable(of: &TopicPartition, cause: aqueduct_record::BatchError) -> Error {
    Error::retry(format!("read {of}: {cause}"))
}
