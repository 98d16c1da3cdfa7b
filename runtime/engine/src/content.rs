//! What a chunk's batches are read from: the log, about a mebibyte at a time, one read ahead in the sink's own room.

use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::{Chunk, Content, Error, Read, Result, TopicPartition};
use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::deliver::Delivery;
use crate::pin::Pin;

/// The batches and the note of one pinned chunk.
pub(crate) struct LogContent {
    delivery: Arc<Delivery>,
    runtime: Handle,
    of: TopicPartition,
    range: Range<Offset>,
    /// Under what the chunk is pinned, to be committed again with a note.
    pinned: (Pin, i32),
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
        delivery: &Arc<Delivery>,
        of: &TopicPartition,
        range: Range<Offset>,
        pinned: (Pin, i32),
    ) -> LogContent {
        let (delivery, runtime) = (delivery.clone(), delivery.runtime.clone());
        LogContent { delivery, runtime, of: of.clone(), range, pinned, state: Mutex::default() }
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

    /// The note that was saved, if one was.
    pub(crate) fn note(&self) -> Option<String> {
        self.state.lock().note.clone()
    }

    async fn read_log(&self, from: Offset) -> Result<Read> {
        let ahead = self.state.lock().ahead.take();
        match ahead {
            Some(ahead) if ahead.from == from => {
                ahead.read.await.map_err(|cause| Error::retry(format!("read {}: {cause}", self.of)))?
            }
            _ => self.delivery.host.store.read(&self.of, from, AT_A_TIME).await,
        }
    }

    fn read_ahead(&self, from: Offset) {
        if from >= self.range.end {
            return;
        }
        let Ok(room) = self.delivery.ahead.clone().try_acquire_owned() else { return };
        let (store, of) = (self.delivery.host.store.clone(), self.of.clone());
        let read = self.runtime.spawn(async move { store.read(&of, from, AT_A_TIME).await });
        self.state.lock().ahead = Some(Ahead { from, read, _room: room });
    }

    fn note_lost(&self, lost: &Range<Offset>) {
        let lost = lost.start.max(self.range.start)..lost.end.min(self.range.end);
        let mut state = self.state.lock();
        if !lost.is_empty() && !state.lost.contains(&lost) {
            tracing::error!(sink = self.delivery.name, partition = %self.of, from = lost.start, to = lost.end,
                "records can not be read any more: they are skipped");
            state.lost.push(lost);
        }
    }
}

#[async_trait]
impl Content for LogContent {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        let mut from = from.max(self.range.start);
        while from < self.range.end {
            let read = self.read_log(from).await?;
            let mut batches = Vec::new();
            let mut bytes = read.batches;
            while let Some((batch, rest)) = Batch::split_first(&bytes).map_err(|cause| unreadable(&self.of, cause))? {
                if batch.base_offset() >= self.range.end {
                    break;
                }
                bytes = rest;
                batches.push(batch);
            }
            if let Some(lost) = &read.lost {
                self.note_lost(lost);
            }
            if let Some(last) = batches.last() {
                let next = last.next_offset();
                self.state.lock().last = Some((next, last.leader_epoch()));
                self.read_ahead(next);
                return Ok(batches);
            }
            match read.lost {
                Some(lost) if lost.end > from => from = lost.end,
                _ => break,
            }
        }
        // Compaction may have left nothing between here and the chunk's end, the log's end may not.
        match self.delivery.host.store.bounds(&self.of).await?.end {
            end if end >= self.range.end => Ok(Vec::new()),
            end => Err(Error::retry(format!("{} ends at {end}, before its pinned chunk does", self.of))),
        }
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

/// What a sink was given, for messages.
pub(crate) fn told(chunk: &Chunk) -> String {
    format!("write {chunk}")
}

fn unreadable(of: &TopicPartition, cause: aqueduct_record::BatchError) -> Error {
    Error::retry(format!("read {of}: {cause}"))
}
