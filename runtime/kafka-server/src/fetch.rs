//! Fetch: batches as they are stored, at once or as soon as there are enough of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Aborted, Isolation, Read, Topic, TopicPartition};
use aqueduct_record::{Header, Offset};
use bytes::{Bytes, BytesMut};
use futures::future::{self, Either};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use crate::broker::Broker;
use crate::call::{Broken, Call, Reply, Wrong};
use crate::security::rights::Operation;

/// The first version that names topics by their ids.
const IDS_SINCE: i16 = 13;
/// The most that an answer holds, whatever a client asks for: as Kafka's `fetch.max.bytes`.
const MOST_BYTES: usize = 55 << 20;
/// The longest that a fetch waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a fetch that wants more than any byte lets bytes gather before it looks again.
const GATHERING: Duration = Duration::from_millis(5);
/// The isolation level of clients that want no records of open or aborted transactions.
const READ_COMMITTED: i8 = 1;
/// A session that goes on, see [`answer`].
const NO_SESSION: i32 = 0;

/// What has been read of one partition.
struct Reading {
    topic: usize,
    of: Option<TopicPartition>,
    /// The offset from which to read on.
    next: Offset,
    isolation: Isolation,
    most: usize,
    records: Vec<Bytes>,
    size: usize,
    /// Whether the next batch does not fit any more.
    is_full: bool,
    response: PartitionData,
}

/// The answer. There are no sessions: every fetch names all its partitions, which a client is told by session id 0.
pub(crate) async fn answer(broker: Arc<Broker>, call: Call) -> Result<Reply, Broken> {
    let request: FetchRequest = call.decode()?;
    let version = call.caller.version;
    if request.session_id != NO_SESSION && request.session_epoch > 0 {
        let response = FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
        return call.reply(&response);
    }
    let due = Instant::now() + LONGEST_WAIT.min(Duration::from_millis(request.max_wait_ms.max(0) as u64));
    let wanted = Wanted {
        most: (request.max_bytes.max(0) as usize).min(MOST_BYTES),
        least: (request.min_bytes.max(0) as usize).min(MOST_BYTES),
        isolation: isolation(request.isolation_level),
    };
    let mut responses = Vec::with_capacity(request.topics.len());
    let mut readings = Vec::new();
    for (index, topic) in request.topics.into_iter().enumerate() {
        let FetchTopic { topic: name, topic_id, partitions, .. } = topic;
        let access = call.caller.to(Operation::Read);
        let found = broker.named(access, &name, topic_id, version >= IDS_SINCE).await;
        for partition in partitions {
            readings.push(open(&broker, index, found.as_ref(), &partition, &wanted).await);
        }
        responses.push(FetchableTopicResponse::default().with_topic(name).with_topic_id(topic_id));
    }
    let room = read_until(&broker, &mut readings, &wanted, due).await;
    let held_back = call.caller.fetched(readings.iter().map(|reading| reading.size).sum());
    for reading in readings {
        let Reading { topic, records, size, response, .. } = reading;
        responses[topic].partitions.push(response.with_records(Some(joined(records, size))));
    }
    let frame = call.frame(&FetchResponse::default().with_responses(responses).with_throttle_time_ms(held_back))?;
    Ok(Reply::Held(frame, room))
}

/// What a fetch asks for as a whole.
struct Wanted {
    most: usize,
    least: usize,
    isolation: Isolation,
}

/// What a client wants to see of transactions.
pub(crate) fn isolation(level: i8) -> Isolation {
    if level == READ_COMMITTED { Isolation::Committed } else { Isolation::Uncommitted }
}

async fn open(
    broker: &Broker,
    topic: usize,
    found: Result<&Topic, &Wrong>,
    partition: &FetchPartition,
    wanted: &Wanted,
) -> Reading {
    let response = PartitionData::default()
        .with_partition_index(partition.partition)
        .with_aborted_transactions((wanted.isolation == Isolation::Committed).then(Vec::new));
    let mut reading = Reading {
        topic,
        of: None,
        next: partition.fetch_offset,
        isolation: wanted.isolation,
        most: partition.partition_max_bytes.max(0) as usize,
        records: Vec::new(),
        size: 0,
        is_full: false,
        response,
    };
    let opened = match found {
        Ok(found) => broker.bounds(found, partition.partition, partition.current_leader_epoch).await,
        Err(wrong) => Err(wrong.clone()),
    };
    match opened {
        Ok((_, bounds)) if !(bounds.start..=bounds.end).contains(&reading.next) => {
            reading.response.log_start_offset = bounds.start;
            reading.fail(ResponseError::OffsetOutOfRange);
        }
        Ok((of, _)) => reading.of = Some(of),
        Err(wrong) => reading.fail(wrong.error),
    }
    reading
}

impl Reading {
    fn fail(&mut self, error: ResponseError) {
        self.of = None;
        self.response.error_code = error.code();
        self.response.high_watermark = -1;
        self.response.last_stable_offset = -1;
    }

    /// Whether there is more than was read; tells the client how far the partition has come.
    async fn has_more(&mut self, broker: &Broker) -> bool {
        let Some(of) = &self.of else { return false };
        match broker.store.bounds(of).await {
            Ok(bounds) => {
                self.response.high_watermark = bounds.high_watermark;
                self.response.last_stable_offset = bounds.stable;
                self.response.log_start_offset = bounds.start;
                self.next < bounds.readable(self.isolation)
            }
            Err(cause) => {
                self.fail(Wrong::from(cause).error);
                false
            }
        }
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

    /// Reads on, at most `most` bytes unless `at_least_one`; returns how many.
    async fn read(&mut self, broker: &Broker, most: usize, at_least_one: bool) -> usize {
        let Some(of) = self.of.clone() else { return 0 };
        let read = async {
            let found = broker.store.read(&of, self.next, most, self.isolation).await?;
            let Some(lost) = found.lost else { return Ok(found) };
            // A client has no word for it: it goes on after them, as after records that compaction removed.
            let (from, to) = (lost.start, lost.end);
            tracing::error!(partition = %of, from, to, "offsets can not be read: a Kafka client passes them");
            self.next = to;
            broker.store.read(&of, to, most, self.isolation).await
        };
        match read.await {
            Ok(found) if found.batches.len() > most && !at_least_one => {
                self.is_full = true;
                0
            }
            Ok(Read { batches, aborted, .. }) => {
                let size = batches.len();
                self.note_aborted(&aborted);
                self.next = end_of(&batches).unwrap_or(self.next);
                self.size += size;
                self.records.extend((size > 0).then_some(batches));
                size
            }
            Err(cause) => {
                let cause: aqueduct_api::Error = cause;
                self.fail(Wrong::from(cause).error);
                0
            }
        }
    }
}

/// Reads until there is enough, something is wrong, or the time is over; returns the room that the records take.
async fn read_until(
    broker: &Broker,
    readings: &mut [Reading],
    wanted: &Wanted,
    due: Instant,
) -> Option<OwnedSemaphorePermit> {
    let mut room: Option<OwnedSemaphorePermit> = None;
    loop {
        let mut is_full = false;
        let mut size: usize = readings.iter().map(|reading| reading.size).sum();
        for reading in readings.iter_mut() {
            let most = wanted.most.saturating_sub(size).min(reading.most.saturating_sub(reading.size));
            if !reading.has_more(broker).await {
                continue;
            }
            if most == 0 && size > 0 {
                is_full = true;
                continue;
            }
            let Some(mut taken) = take_room(broker, room.is_some(), most).await else {
                is_full = true;
                break;
            };
            let grown = reading.read(broker, most, size == 0).await;
            size += grown;
            // What was not read is given back.
            let _unused = taken.split(most.saturating_sub(grown).min(taken.num_permits()));
            match &mut room {
                Some(room) => room.merge(taken),
                None => room = Some(taken),
            }
            is_full |= reading.is_full;
        }
        let has_failed = readings.iter().any(|reading| reading.response.error_code != 0);
        let is_enough = size >= wanted.least || size >= wanted.most || is_full || has_failed;
        if is_enough || Instant::now() >= due || !grown(broker, readings, due).await {
            return room;
        }
        if wanted.least > 1 {
            // Whoever wants many bytes is not woken for each few of them.
            sleep_until(due.min(Instant::now() + GATHERING)).await;
        }
    }
}

/// Room for so many bytes. Who has some already does not wait for more, so that no two fetches wait for each other.
async fn take_room(broker: &Broker, has_some: bool, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let permits = bytes.min(broker.options.outgoing).min(u32::MAX as usize) as u32;
    let room = broker.outgoing.clone();
    if has_some { room.try_acquire_many_owned(permits).ok() } else { room.acquire_many_owned(permits).await.ok() }
}

/// Waits until one of the partitions has more than was read of it; `false` when the time is over first.
async fn grown(broker: &Broker, readings: &[Reading], due: Instant) -> bool {
    let waits = readings.iter().filter_map(|reading| {
        let of = reading.of.as_ref()?;
        (reading.size < reading.most || reading.size == 0)
            .then(|| broker.store.grown(of, reading.next, reading.isolation))
    });
    let waits: Vec<_> = waits.collect();
    let over = pin!(sleep_until(due));
    if waits.is_empty() {
        over.await;
        return false;
    }
    match future::select(future::select_all(waits), over).await {
        // A failure shows when the partition is read again.
        Either::Left(_) => true,
        Either::Right(_) => false,
    }
}

/// The offset after the last of some whole batches.
fn end_of(batches: &Bytes) -> Option<Offset> {
    let mut rest = &batches[..];
    let mut end = None;
    while let Ok(header) = Header::peek(rest) {
        end = Some(header.next_offset());
        rest = rest.get(header.size()..)?;
    }
    end
}

fn joined(mut records: Vec<Bytes>, size: usize) -> Bytes {
    if records.len() <= 1 {
        return records.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(size);
    records.iter().for_each(|records| joined.extend_from_slice(records));
    joined.freeze()
}
