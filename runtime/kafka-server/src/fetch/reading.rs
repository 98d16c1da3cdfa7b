//! What is read of one partition for one fetch.

use aqueduct_api::{Aborted, Bounds, Isolation, Records, Stretch, TopicPartition};
use aqueduct_record::Offset;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProducerId;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use tokio::sync::OwnedSemaphorePermit;

use crate::broker::Broker;
use crate::call::Wrong;

use super::following::{Outcome, Told};

/// What has been read of one partition.
pub(crate) struct Reading {
    /// The offset from which to read on.
    pub(crate) next: Offset,
    pub(crate) records: Vec<Records>,
    pub(crate) size: usize,
    pub(crate) response: PartitionData,
    isolation: Isolation,
    has_more: bool,
}

/// What came of reading on.
pub(crate) enum Read {
    /// There is nothing more, or it can not be read.
    Nothing,
    /// There is more than may be sent.
    Full,
    /// So many bytes; there may be more.
    Some(usize),
}

impl Reading {
    pub(crate) fn new(partition: i32, from: Offset, isolation: Isolation) -> Self {
        let response = PartitionData::default()
            .with_partition_index(partition)
            .with_aborted_transactions((isolation == Isolation::Committed).then(Vec::new));
        Reading { next: from, records: Vec::new(), size: 0, response, isolation, has_more: false }
    }

    /// Tells the client that the partition can not be read.
    pub(crate) fn fail(&mut self, error: ResponseError) {
        self.response.error_code = error.code();
        self.response.high_watermark = -1;
        self.response.last_stable_offset = -1;
        self.has_more = false;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.response.error_code != 0
    }

    /// Whether there is more than was read.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// What the client's list of partitions is told.
    pub(crate) fn outcome(&self) -> Outcome {
        let told = Told {
            high_watermark: self.response.high_watermark,
            stable: self.response.last_stable_offset,
            start: self.response.log_start_offset,
        };
        match () {
            () if self.has_failed() => Outcome::Failed,
            () if self.size > 0 => Outcome::Records(told),
            () if self.has_more => Outcome::Waits(told),
            () => Outcome::Nothing(told),
        }
    }

    /// Reads on, at most `most` bytes unless `at_least_one` batch; what comes into memory takes of `room`, where the fetch has
    /// what it needs for the answer.
    pub(crate) async fn read(
        &mut self,
        broker: &Broker,
        of: &TopicPartition,
        bounds: Bounds,
        most: usize,
        room: &mut Option<OwnedSemaphorePermit>,
        at_least_one: bool,
    ) -> Read {
        self.response.high_watermark = bounds.high_watermark;
        self.response.last_stable_offset = bounds.stable;
        self.response.log_start_offset = bounds.start;
        if self.size == 0 && !(bounds.start..=bounds.end).contains(&self.next) {
            self.fail(ResponseError::OffsetOutOfRange);
            return Read::Nothing;
        }
        self.has_more = self.next < bounds.readable(self.isolation);
        if !self.has_more {
            return Read::Nothing;
        }
        if most == 0 && !at_least_one {
            return Read::Full;
        }
        let Some(mut taken) = take_room(broker, room.is_some(), most).await else { return Read::Full };
        let found = match self.look(broker, of, most).await {
            Ok(found) => found,
            Err(cause) => {
                self.fail(Wrong::from(cause).error);
                return Read::Nothing;
            }
        };
        let size = found.records.len();
        if size > most && !at_least_one {
            return Read::Full;
        }
        let in_memory = if matches!(found.records, Records::Bytes(_)) { size } else { 0 };
        // What was not read is given back.
        let _unused = taken.split(taken.num_permits().saturating_sub(in_memory));
        match room {
            Some(room) => room.merge(taken),
            None => *room = Some(taken),
        }
        let has_come_further = found.next > self.next;
        self.next = found.next;
        self.note_aborted(&found.aborted);
        self.size += size;
        self.records.extend((size > 0).then_some(found.records));
        self.has_more = self.next < bounds.readable(self.isolation);
        if has_come_further { Read::Some(size) } else { Read::Nothing }
    }

    async fn look(&mut self, broker: &Broker, of: &TopicPartition, most: usize) -> aqueduct_api::Result<Stretch> {
        let found = broker.store.stretch(of, self.next, most, self.isolation).await?;
        let Some(lost) = found.lost else { return Ok(found) };
        // A client has no word for it: it goes on after them, as after records that compaction removed.
        let (from, to) = (lost.start, lost.end);
        tracing::error!(partition = %of, from, to, "offsets can not be read: a Kafka client passes them");
        let found = broker.store.stretch(of, to, most, self.isolation).await?;
        Ok(Stretch { next: found.next.max(to), ..found })
    }

    /// Tells a client that wants only what is committed what to leave out.
    fn note_aborted(&mut self, aborted: &[Aborted]) {
        let Some(told) = &mut self.response.aborted_transactions else { return };
        for Aborted { producer_id, first, .. } in aborted {
            let (producer_id, first_offset) = (ProducerId(*producer_id), *first);
            // A transaction with records in two reads is told once.
            if !told.iter().any(|told| (told.producer_id, told.first_offset) == (producer_id, first_offset)) {
                told.push(AbortedTransaction::default().with_producer_id(producer_id).with_first_offset(first_offset));
            }
        }
    }
}

/// Room for so many bytes. Who has some already does not wait for more, so that no two fetches wait for each other.
async fn take_room(broker: &Broker, has_some: bool, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let permits = bytes.min(broker.options.outgoing).min(u32::MAX as usize) as u32;
    let room = broker.outgoing.clone();
    if has_some { room.try_acquire_many_owned(permits).ok() } else { room.acquire_many_owned(permits).await.ok() }
}
