//! The way in: `source.read → log.append (position inside) → answer`. Many batches are in flight, in order; one is being
//! placed, and one is in hand, which is what the connector's own room is for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::fault::{Mutant, mutated, point};
use aqueduct_api::{
    Appended, ByteSize, Done, Error, Incoming, POSITION_HEADER, Result, Source, SourceOpening, Topic, TopicPartition,
};
use aqueduct_record::{BatchBuilder, Compression, Offset};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::budget::Taken;
use crate::counters::{Counters, InFlight};
use crate::dead_letters::{DeadLetters, Original, Reason, Stage};
use crate::holds::Holds;
use crate::host::{Host, Stop};
use crate::kept::Kept;
use crate::lease::Lease;
use crate::placing::{Ahead, Placed, Placing, Unplaced};
use crate::positions::{self, Known};
use crate::retry::Retry;
use crate::{SourcePlan, partitioning};

/// What one run of a source is made of.
pub(crate) struct SourceRun {
    pub(crate) host: Arc<Host>,
    pub(crate) name: String,
    pub(crate) folder: std::path::PathBuf,
    pub(crate) plan: SourcePlan,
    pub(crate) lease: Lease,
    pub(crate) stop: Stop,
    pub(crate) counters: Arc<Counters>,
    pub(crate) holds: Arc<Holds>,
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// The source will never have more.
    Exhausted,
}

/// How large sources make their batches.
const BATCH: ByteSize = ByteSize::mib(1);
/// What a position header may add to a batch, and more.
const HEADER_ROOM: u64 = 16 << 10;
/// How often positions are saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How many positions are saved at once at the latest.
const SAVE_AT: usize = 1000;
/// How many saves pass until holds follow a topic that only others write to.
const LOOK_EVERY: u32 = 10;

/// Runs a source until it is told to stop, has no more or fails.
pub(crate) async fn ingest(run: SourceRun) -> Result<Ended> {
    let (ingest, source) = Ingest::open(Arc::new(run)).await?;
    ingest.run(source).await
}

type Reading = BoxFuture<'static, (Box<dyn Source>, Result<Option<Incoming>>)>;
type Landing = BoxFuture<'static, (Flight, Result<()>)>;
type Saving = BoxFuture<'static, (Save, Result<()>)>;

/// One `Incoming` from its place in the log to being durable.
struct Flight {
    known: Option<Known>,
    done: Option<Done>,
    at: Option<(TopicPartition, Offset, Offset)>,
    /// The partition that the stream keeps.
    partition: TopicPartition,
    records: u64,
    bytes: u64,
    _counted: InFlight,
    is_dead_letter: bool,
    charge: Option<Taken>,
}

impl Flight {
    fn is_in_own_room(&self) -> bool {
        self.bytes > 0 && self.charge.is_none()
    }
}

/// What is saved at once: positions by stream, and how far each partition is covered by them.
#[derive(Default)]
struct Save {
    streams: BTreeMap<String, Known>,
    scanned: BTreeMap<TopicPartition, Offset>,
}

struct Ingest {
    run: Arc<SourceRun>,
    topic: Topic,
    dead_letters: Option<Arc<DeadLetters>>,
    streams: HashMap<String, Known>,
    in_flight: FuturesOrdered<Landing>,
    /// In flight without shared bytes: in the connector's own room.
    in_own_room: usize,
    /// How many are in flight, for the one that is being placed behind them.
    under_way: Arc<AtomicUsize>,
    /// How often each partition had given offsets back at the last append.
    given_back: BTreeMap<TopicPartition, u64>,
    kept: Arc<Kept>,
    last_was_dead_letter: bool,
    unsaved: Save,
    /// Up to where each partition is covered by positions that are saved or in `unsaved`.
    covered: BTreeMap<TopicPartition, Offset>,
    saves: u32,
}

impl Ingest {
    async fn open(run: Arc<SourceRun>) -> Result<(Ingest, Box<dyn Source>)> {
        let host = &run.host;
        let connector = host.registry.sources.get(run.plan.connector.as_str());
        let connector = connector.ok_or_else(|| Error::fatal(format!("no source `{}`", run.plan.connector)))?;
        let settings = host.resolved(&run.plan.settings)?;
        let topics = host.store.topics().await?;
        let topic = topics.into_iter().find(|topic| *topic.name == run.plan.topic);
        let topic = topic.ok_or_else(|| Error::retry(format!("topic {} is not there", run.plan.topic)))?;

        let names = (run.name.as_str(), run.plan.connector.as_str());
        let dead_letters = run.plan.dead_letters.topic(&run.name);
        let dead_letters = dead_letters.map(|topic| Arc::new(DeadLetters::new(host, &run.lease, names, topic)));
        let mut partitions: Vec<TopicPartition> = topic.all_partitions().collect();
        match &dead_letters {
            Some(letters) if letters.exists().await? => partitions.push(letters.partition().clone()),
            _ => {}
        }
        let kept = Arc::new(Kept::since_now(host, &topic).await?);
        let recovered = positions::recover(host, &run.name, partitions).await?;
        for (of, offset) in &recovered.scanned {
            run.holds.take(of, *offset).await?;
        }
        run.counters.streams.store(recovered.streams.len() as u64, Ordering::Relaxed);
        let positions = recovered.streams.values();
        let opening = SourceOpening {
            name: run.name.clone(),
            folder: run.folder.clone(),
            edge: host.edge.clone(),
            positions: positions.filter_map(|known| Some((known.stream.clone(), known.position.clone()?))).collect(),
            batch: BATCH.min(topic.settings.max_batch),
            largest: ByteSize(topic.settings.max_batch.0.saturating_sub(HEADER_ROOM)),
        };
        let source = connector.open(settings, opening).await?;
        // Everything that was found is saved with the next save, so that it is not looked for again.
        let unsaved = Save { streams: recovered.streams.clone(), scanned: recovered.scanned.clone() };
        let ingest = Ingest {
            topic,
            dead_letters,
            streams: recovered.streams.into_iter().collect(),
            in_flight: FuturesOrdered::new(),
            in_own_room: 0,
            under_way: Arc::default(),
            given_back: BTreeMap::new(),
            kept,
            last_was_dead_letter: false,
            unsaved,
            covered: recovered.scanned,
            saves: 0,
            run,
        };
        Ok((ingest, source))
    }

    async fn run(mut self, source: Box<dyn Source>) -> Result<Ended> {
        // What was found in the log holds back retention until it is saved: on a full disk a run may end before the first
        // tick, again and again, and nothing would ever be freed.
        let (save, result) = self.save().await;
        self.saved(save, result)?;
        let mut retry = Retry::new(&self.run.plan.retry, &self.run.host.edge);
        let mut idle = Some(source);
        let mut reading: Option<Reading> = None;
        let mut hand: VecDeque<Unplaced> = VecDeque::new();
        let mut placing: Option<Placing> = None;
        let mut saving: Option<Saving> = None;
        let mut ended = None;
        let mut clock = interval_at(Instant::now() + SAVE_EVERY, SAVE_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if placing.is_none() && hand.front().is_some_and(|unplaced| self.may_place(unplaced)) {
                placing = hand.pop_front().map(|unplaced| self.place(unplaced));
            }
            if hand.is_empty() && self.in_own_room == 0 && ended.is_none() {
                reading = reading.or_else(|| idle.take().map(|source| read(source, Duration::ZERO)));
            }
            if ended.is_some() && hand.is_empty() && placing.is_none() && self.in_flight.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = self.run.stop.given(), if ended.is_none() => {
                    ended = Some(Ended::Stopped);
                    (reading, idle) = (None, None);
                }
                Some((flight, durable)) = self.in_flight.next() => {
                    self.landed(flight, durable)?;
                    if saving.is_none() && self.unsaved.streams.len() >= SAVE_AT {
                        saving = Some(self.save());
                    }
                }
                placed = maybe(&mut placing) => {
                    placing = None;
                    self.placed(placed?, &mut hand)?;
                }
                (save, result) = maybe(&mut saving) => {
                    saving = None;
                    self.saved(save, result)?;
                }
                (source, incoming) = maybe(&mut reading) => {
                    reading = None;
                    match incoming {
                        Ok(Some(incoming)) => {
                            retry.succeeded();
                            idle = Some(source);
                            hand.push_back(self.take(incoming)?);
                        }
                        Ok(None) => ended = Some(Ended::Exhausted),
                        Err(error) => {
                            let message = error.to_string();
                            let wait = retry.failed(error)?;
                            tracing::warn!(source = self.run.name, cause = message, "read is tried again");
                            self.run.counters.retried(message);
                            reading = Some(read(source, wait));
                        }
                    }
                }
                _ = clock.tick() => {
                    self.saves += 1;
                    self.kept.check().await?;
                    if saving.is_none() && placing.is_none() {
                        self.follow_others().await;
                    }
                    if saving.is_none() && !self.unsaved.streams.is_empty() {
                        saving = Some(self.save());
                    }
                }
            }
        }
        self.finish(saving).await?;
        Ok(ended.unwrap_or(Ended::Stopped))
    }

    /// Before a stream changes between data and dead letters, what is in flight has to be durable: of two topics it
    /// could not be told which one was written first.
    fn may_place(&self, unplaced: &Unplaced) -> bool {
        unplaced.is_dead_letter == self.last_was_dead_letter || unplaced.batch.is_none() || self.in_flight.is_empty()
    }

    fn place(&mut self, mut unplaced: Unplaced) -> Placing {
        if let Some(batch) = &unplaced.batch {
            self.last_was_dead_letter = unplaced.is_dead_letter;
            // What is in hand is in the connector's own room, what is under way takes shared bytes where there are any.
            unplaced.charge = self.run.host.budget.try_take(batch.size() as u64);
        }
        let letters = self.dead_letters.clone().filter(|_| unplaced.is_dead_letter);
        // The mark comes before the first append, so that a partition without one need not be looked at.
        let is_marked = self.covered.contains_key(&unplaced.to);
        let given_back = self.given_back.get(&unplaced.to).copied();
        let ahead = Ahead { in_flight: self.under_way.clone(), given_back, kept: self.kept.clone() };
        unplaced.place(self.run.clone(), letters, (is_marked, ahead))
    }

    /// Makes a batch of what was read, with its position inside.
    fn take(&mut self, incoming: Incoming) -> Result<Unplaced> {
        let Incoming { stream, position, last, mut records, dead_letter, done, .. } = incoming;
        let count = self.topic.partitions;
        let topic = self.topic.name.clone();
        let known = self.streams.entry(stream.id.clone()).or_insert_with(|| Known {
            stream: stream.clone(),
            position: None,
            sequence: 0,
            partition: None,
        });
        let kept = known.partition.as_ref().filter(|kept| kept.topic == topic && kept.partition < count);
        let partition = match kept {
            Some(kept) => kept.clone(),
            None => TopicPartition::new(topic, partitioning::partition(stream.key.as_bytes(), count)),
        };
        known.stream = stream.clone();
        known.partition = Some(partition.clone());
        let rides = position.as_ref().map(|position| {
            known.sequence += 1;
            positions::header(&self.run.name, &stream, position, known.sequence)
        });
        let rides = rides.as_deref().map(str::as_bytes);
        let has_position = position.is_some();
        known.position = if last { None } else { position.or(known.position.take()) };
        let snapshot = (has_position || last).then(|| known.clone());
        if last {
            self.streams.remove(&stream.id);
        }
        let is_dead_letter = dead_letter.is_some();
        let (to, builder) = match dead_letter {
            Some(letter) => {
                let letters = self
                    .dead_letters
                    .as_ref()
                    .ok_or_else(|| Error::fatal(format!("{}: {} (dead letters are off)", stream.id, letter.reason)))?;
                let mut builder = BatchBuilder::new();
                let headers = letter.headers.iter().map(|(name, value)| (name.as_str(), Some(&value[..])));
                let original = Original {
                    timestamp: self.run.host.edge.now(),
                    key: None,
                    value: letter.value.as_deref(),
                    headers: headers.collect(),
                };
                let reason =
                    Reason { partition: &partition, offset: None, stage: Stage::Poll, message: &letter.reason };
                letters.push(&mut builder, original, &reason);
                tracing::warn!(source = self.run.name, stream = stream.id, reason = letter.reason, "dead letter");
                (letters.partition().clone(), builder)
            }
            None => {
                if self.topic.settings.compression != Compression::None {
                    records = records.compressed(self.topic.settings.compression);
                }
                (partition.clone(), records)
            }
        };
        let batch = (!builder.is_empty()).then(|| {
            let mut builder = builder;
            if let Some(rides) = rides {
                builder.add_header_to_last(POSITION_HEADER, rides);
            }
            builder.finish()
        });
        Ok(Unplaced { to, partition, batch, known: snapshot, done, is_dead_letter, charge: None })
    }

    /// What became of an append; what goes to the dead letters instead is put in hand again, before anything else.
    fn placed(&mut self, placed: Placed, hand: &mut VecDeque<Unplaced>) -> Result<()> {
        let (unplaced, appended) = match placed {
            Placed::There(unplaced, appended) => (unplaced, appended),
            Placed::NotTaken => {
                // What came after it must not get in before it.
                hand.clear();
                return Ok(());
            }
            Placed::Refused(unplaced, error) => {
                let Some(letters) = self.dead_letters.as_ref().filter(|_| !unplaced.is_dead_letter) else {
                    return Err(error.context(format!("append to {}", unplaced.to)));
                };
                tracing::warn!(source = self.run.name, cause = %error, "a refused batch becomes dead letters");
                self.run.counters.failed(error.to_string());
                hand.push_front(unplaced.into_dead_letters(letters)?);
                return Ok(());
            }
        };
        let (at, durable) = match appended {
            Some(Appended { base_offset, next_offset, given_back, durable }) => {
                self.given_back.insert(unplaced.to.clone(), given_back);
                // From here on the partition has a mark, which must not be set again past what is under way.
                self.covered.entry(unplaced.to.clone()).or_insert(base_offset);
                (Some((unplaced.to, base_offset, next_offset)), durable)
            }
            None => (None, futures::future::ready(Ok(())).boxed()),
        };
        let bytes = unplaced.batch.as_ref().map_or(0, |batch| batch.size() as u64);
        let flight = Flight {
            known: unplaced.known,
            done: unplaced.done,
            at,
            partition: unplaced.partition,
            records: unplaced.batch.as_ref().map_or(0, |batch| u64::from(batch.count())),
            bytes,
            _counted: InFlight::new(&self.run.counters, bytes),
            is_dead_letter: unplaced.is_dead_letter,
            charge: unplaced.charge,
        };
        if mutated(Mutant::PositionAheadOfData) {
            self.note(&flight);
        }
        self.in_own_room += usize::from(flight.is_in_own_room());
        self.under_way.fetch_add(1, Ordering::AcqRel);
        self.in_flight.push_back(durable.map(|durable| (flight, durable)).boxed());
        Ok(())
    }

    /// A batch is durable, or never will be: then nothing that came after it may be either, and the run is over. The
    /// next one begins with what is in the log.
    fn landed(&mut self, flight: Flight, durable: Result<()>) -> Result<()> {
        self.in_own_room -= usize::from(flight.is_in_own_room());
        durable.map_err(|error| error.context("append was not made durable"))?;
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        self.note(&flight);
        let counters = &self.run.counters;
        counters.streams.store(self.streams.len() as u64, Ordering::Relaxed);
        match (flight.is_dead_letter, &flight.at) {
            (_, None) => {}
            (false, Some(_)) => counters.progressed(flight.records, flight.bytes),
            (true, Some(_)) => {
                counters.dead_letters.fetch_add(flight.records, Ordering::Relaxed);
                counters.progressed(0, 0);
            }
        }
        if let Some(done) = flight.done {
            let (partition, offset) = match flight.at {
                Some((partition, base, _)) => (partition, base),
                None => {
                    let covered = self.covered.get(&flight.partition).copied();
                    (flight.partition, covered.unwrap_or_default())
                }
            };
            done.durable(partition, offset);
        }
        Ok(())
    }

    fn note(&mut self, flight: &Flight) {
        if let Some(known) = &flight.known {
            self.unsaved.streams.insert(known.stream.id.clone(), known.clone());
        }
        if let Some((of, _, next)) = &flight.at {
            let covered = self.covered.entry(of.clone()).or_default();
            *covered = (*covered).max(*next);
            self.unsaved.scanned.insert(of.clone(), *covered);
        }
    }

    /// Saves positions and, after them, up to where they make a scan needless.
    fn save(&mut self) -> Saving {
        let save = std::mem::take(&mut self.unsaved);
        let (host, lease, name) = (self.run.host.clone(), self.run.lease.clone(), self.run.name.clone());
        let kept = self.kept.clone();
        async move {
            let result = async {
                // Whatever the topic's durability was when the run began: it may have been changed since.
                if !mutated(Mutant::PositionAheadOfData) {
                    for (of, offset) in &save.scanned {
                        let safe = host.store.sync(of).await?;
                        if safe < *offset {
                            return Err(Error::retry(format!("{of}: only what comes before {safe} is synced yet")));
                        }
                    }
                    kept.check().await?;
                }
                let streams = save.streams.values().map(|known| positions::saved(&name, known));
                let mut changes = streams.collect::<Result<Vec<_>>>()?;
                changes.extend(save.scanned.iter().map(|(of, offset)| positions::scan_mark(&name, of, *offset)));
                point("position.save");
                host.positions.put(&lease, changes).await?;
                point("position.save");
                Ok(())
            };
            let result = result.await;
            (save, result)
        }
        .boxed()
    }

    fn saved(&mut self, save: Save, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) => {
                for (of, offset) in &save.scanned {
                    self.run.holds.advance(of, *offset);
                }
                Ok(())
            }
            Err(error @ Error::Retry { .. }) => {
                let message = error.context("save positions").to_string();
                tracing::warn!(source = self.run.name, cause = message, "positions are saved later");
                self.run.counters.retried(message);
                for (id, known) in save.streams {
                    self.unsaved.streams.entry(id).or_insert(known);
                }
                for (of, offset) in save.scanned {
                    self.unsaved.scanned.entry(of).or_insert(offset);
                }
                Ok(())
            }
            Err(error) => Err(error.context("save positions")),
        }
    }

    /// While nothing of this source is under way, what others append needs no scan: holds follow it, so that an idle
    /// source does not keep a topic for ever.
    async fn follow_others(&mut self) {
        let is_idle = self.in_flight.is_empty() && self.unsaved.streams.is_empty();
        if !is_idle || !self.saves.is_multiple_of(LOOK_EVERY) {
            return;
        }
        for (of, covered) in &mut self.covered {
            // A partition that does not answer now is asked the next time.
            let Ok(bounds) = self.run.host.store.bounds(of).await else { continue };
            if bounds.stable > *covered {
                *covered = bounds.stable;
                self.unsaved.scanned.insert(of.clone(), bounds.stable);
                self.run.holds.advance(of, bounds.stable);
            }
        }
    }

    /// Saves what is not saved yet; once, because the next run finds it in the log all the same.
    async fn finish(mut self, saving: Option<Saving>) -> Result<()> {
        if let Some(saving) = saving {
            let (save, result) = saving.await;
            self.saved(save, result)?;
        }
        if !self.unsaved.streams.is_empty() || !self.unsaved.scanned.is_empty() {
            let (save, result) = self.save().await;
            self.saved(save, result)?;
        }
        Ok(())
    }
}

fn read(mut source: Box<dyn Source>, after: Duration) -> Reading {
    async move {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let incoming = source.read().await;
        (source, incoming)
    }
    .boxed()
}

async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
