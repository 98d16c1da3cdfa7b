//! The way in: `source.read → transforms → log.append (position inside) → answer`. Many batches are in flight, in order; one is being
//! placed, and one is in hand, which is what the connector's own room is for.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Appended, ByteSize, Error, Result, SourceOpening, Topic, TopicPartition};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::SourcePlan;
use crate::counters::Counters;
use crate::dead_letters::DeadLetters;
use crate::flight::{Flight, Landing};
use crate::holds::Holds;
use crate::host::{Host, Stop};
use crate::intake::{Intake, Passed};
use crate::kept::Kept;
use crate::lease::Lease;
use crate::placing::{Ahead, Kind, Placed, Placing, Unplaced};
use crate::positions::{self, Traces};
use crate::retry::Retry;
use crate::saving::{Saved, Saving};
use crate::settings_by_digest::digest;
use crate::streams::Streams;
use crate::transforms::Transforms;

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
pub(crate) const HEADER_ROOM: u64 = 16 << 10;
/// How often positions are saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Runs a source until it is told to stop, has no more or fails.
pub(crate) async fn ingest(run: SourceRun) -> Result<Ended> {
    let (ingest, intake) = Ingest::open(Arc::new(run)).await?;
    ingest.run(intake).await
}

type Reading = BoxFuture<'static, (Intake, Result<Option<Passed>>)>;

struct Ingest {
    run: Arc<SourceRun>,
    dead_letters: Option<Arc<DeadLetters>>,
    streams: Streams,
    in_flight: FuturesOrdered<Landing>,
    /// In flight without shared bytes: in the connector's own room.
    in_own_room: usize,
    /// How many are in flight, for the one that is being placed behind them.
    under_way: Arc<AtomicUsize>,
    /// How often each partition had given offsets back at the last append.
    given_back: BTreeMap<TopicPartition, u64>,
    kept: Arc<Kept>,
    /// Of what the last batch was that a position rides with, or comes after.
    last: Kind,
    /// What the log did not take, where no position is to go past it: the rest of it is not taken either.
    lost: Option<u64>,
    saving: Saving,
}

impl Ingest {
    async fn open(run: Arc<SourceRun>) -> Result<(Ingest, Intake)> {
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
        let made_by = made_by(&run.plan);
        let of_letters = dead_letters.as_ref().map(|letters| letters.partition().clone());
        let kept = Arc::new(Kept::since_now(host, &topic, of_letters.as_ref()).await?);
        let letters = of_letters.clone().map(|of| (of, made_by.clone()));
        let found = positions::recover(host, Traces { source: &run.name, partitions, letters }).await?;
        for (of, offset) in &found.scanned {
            run.holds.take(of, *offset).await?;
        }
        run.counters.streams.store(found.streams.len() as u64, Ordering::Relaxed);
        let transforms = host.transforms(&run.plan.transforms, &run.folder)?;
        let positions = found.streams.values();
        let opening = SourceOpening {
            name: run.name.clone(),
            folder: run.folder.clone(),
            edge: host.edge.clone(),
            positions: positions.filter_map(|known| Some((known.stream.clone(), known.position.clone()?))).collect(),
            batch: run.counters.smaller(batch_size(&topic, &transforms)),
            largest: ByteSize(topic.settings.max_batch.0.saturating_sub(HEADER_ROOM)),
        };
        let early = found.streams.iter().filter(|(_, known)| !known.early.is_empty());
        let early = early.map(|(id, known)| (id.clone(), known.early.clone())).collect();
        let source = connector.open(settings, opening).await?;
        let ingest = Ingest {
            in_flight: FuturesOrdered::new(),
            in_own_room: 0,
            under_way: Arc::default(),
            given_back: BTreeMap::new(),
            last: Kind::Records,
            lost: None,
            saving: Saving::new(&run, &kept, &found, of_letters.as_ref()),
            streams: Streams::new(&run, topic.clone(), dead_letters.clone(), made_by, found),
            kept,
            dead_letters,
            run: run.clone(),
        };
        Ok((ingest, Intake::new(&run, source, topic, (transforms, early))))
    }

    async fn run(mut self, intake: Intake) -> Result<Ended> {
        // What was found in the log holds back retention until it is saved: on a full disk a run may end before the first
        // tick, again and again, and nothing would ever be freed.
        let (save, result) = self.saving.save().await;
        self.saving.saved(save, result)?;
        let mut retry = Retry::new(&self.run.plan.retry, &self.run.host.edge);
        let mut idle = Some(intake);
        let mut reading: Option<Reading> = None;
        let mut hand: VecDeque<Unplaced> = VecDeque::new();
        let mut placing: Option<Placing> = None;
        let mut saving: Option<Saved> = None;
        let mut ended = None;
        let mut clock = interval_at(Instant::now() + SAVE_EVERY, SAVE_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if placing.is_none() && hand.front().is_some_and(|unplaced| self.may_place(unplaced)) {
                placing = hand.pop_front().map(|unplaced| self.place(unplaced));
            }
            if hand.is_empty() && self.in_own_room == 0 && ended.is_none() {
                reading = reading.or_else(|| idle.take().map(|intake| read(intake, Duration::ZERO)));
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
                    self.landed(flight, durable, &mut hand)?;
                    if saving.is_none() && self.saving.waiting() >= Saving::AT {
                        saving = Some(self.saving.save());
                    }
                }
                placed = maybe(&mut placing) => {
                    placing = None;
                    self.placed(placed?, &mut hand)?;
                }
                (save, result) = maybe(&mut saving) => {
                    saving = None;
                    self.saving.saved(save, result)?;
                }
                (intake, passed) = maybe(&mut reading) => {
                    reading = None;
                    match passed {
                        Ok(Some(passed)) => {
                            retry.succeeded();
                            if let Some(why) = passed.too_many {
                                return Err(Error::retry(why));
                            }
                            idle = Some(intake);
                            hand.extend(self.streams.take(passed)?);
                        }
                        Ok(None) => ended = Some(Ended::Exhausted),
                        Err(error) => {
                            let message = error.to_string();
                            let wait = retry.failed(error)?;
                            tracing::warn!(source = self.run.name, cause = message, "read is tried again");
                            self.run.counters.retried(message);
                            reading = Some(read(intake, wait));
                        }
                    }
                }
                _ = clock.tick() => {
                    // Without positions nothing has to be there.
                    match self.streams.count() {
                        0 => self.kept.check_topics().await?,
                        _ => self.kept.check().await?,
                    }
                    let is_idle = placing.is_none() && hand.is_empty() && self.in_flight.is_empty();
                    if saving.is_none() {
                        self.saving.follow_others(is_idle).await;
                    }
                    if saving.is_none() && self.saving.waiting() > 0 {
                        saving = Some(self.saving.save());
                    }
                }
            }
        }
        self.saving.finish(saving).await?;
        Ok(ended.unwrap_or(Ended::Stopped))
    }

    /// Before a stream changes between data and dead letters, what is in flight has to be durable: of two topics it
    /// could not be told which one was written first. The same holds for what comes after the rest of what was read.
    fn may_place(&self, unplaced: &Unplaced) -> bool {
        let is_free = unplaced.batch.is_none() || unplaced.kind == Kind::Elsewhere || unplaced.kind == self.last;
        let is_free = is_free && unplaced.after.is_empty() && unplaced.early_of.is_none();
        is_free || self.in_flight.is_empty()
    }

    fn place(&mut self, mut unplaced: Unplaced) -> Placing {
        if let Some(batch) = &unplaced.batch {
            if unplaced.kind != Kind::Elsewhere {
                self.last = unplaced.kind;
            }
            // What is in hand is in the connector's own room, what is under way takes shared bytes where there are any.
            unplaced.charge = self.run.host.budget.try_take(batch.size() as u64);
        }
        let letters = self.dead_letters.clone().filter(|_| unplaced.kind == Kind::Letter);
        // The mark comes before the first append, so that a partition without one need not be looked at.
        let is_marked = self.saving.covered(&unplaced.to).is_some();
        let given_back = self.given_back.get(&unplaced.to).copied();
        let after = unplaced.after.iter().filter_map(|of| Some((of.clone(), *self.given_back.get(of)?))).collect();
        let ahead = Ahead { in_flight: self.under_way.clone(), given_back, kept: self.kept.clone(), after };
        unplaced.place(self.run.clone(), letters, (is_marked, ahead))
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
                let Some(letters) = self.dead_letters.as_ref().filter(|_| unplaced.kind != Kind::Letter) else {
                    return Err(error.context(format!("append to {}", unplaced.to)));
                };
                tracing::warn!(source = self.run.name, cause = %error, "a refused batch becomes dead letters");
                self.run.counters.failed(error.to_string());
                hand.push_front(unplaced.into_dead_letters(letters)?);
                return Ok(());
            }
        };
        let (at, durable) = match appended {
            Some(Appended { base_offset, next_offset, given_back, durable, .. }) => {
                self.given_back.insert(unplaced.to.clone(), given_back);
                if let Some(stream) = &unplaced.early_of {
                    self.saving.placed_early(stream, &unplaced.to, base_offset);
                }
                if unplaced.kind != Kind::Elsewhere {
                    self.saving.placed(&unplaced.to, base_offset);
                }
                (Some((unplaced.to.clone(), base_offset, next_offset)), durable)
            }
            None => (None, futures::future::ready(Ok(())).boxed()),
        };
        let flight = Flight::begin(unplaced, at, &self.run.counters);
        if mutated(Mutant::PositionAheadOfData) {
            self.note(&flight);
        }
        self.in_own_room += usize::from(flight.is_in_own_room());
        self.under_way.fetch_add(1, Ordering::AcqRel);
        self.in_flight.push_back(durable.map(|durable| (flight, durable)).boxed());
        Ok(())
    }

    /// A batch is durable, or never will be: then nothing that came after it may be either, and the run is over. The
    /// next one begins with what is in the log. Where no position goes past it, whoever waits hears, and the run goes on.
    fn landed(&mut self, flight: Flight, durable: Result<()>, hand: &mut VecDeque<Unplaced>) -> Result<()> {
        self.in_own_room -= usize::from(flight.is_in_own_room());
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        match durable.map_err(|error| error.context("append was not made durable")) {
            Err(error @ Error::Retry { .. }) if flight.once.is_some() => {
                self.lose(flight, error, hand);
                return Ok(());
            }
            durable => durable?,
        }
        if flight.once.is_some() && flight.once == self.lost {
            if let Some(done) = flight.done {
                done.not_taken(Error::retry("a part of it was not taken"));
            }
            return Ok(());
        }
        self.note(&flight);
        let counters = &self.run.counters;
        counters.streams.store(self.streams.count(), Ordering::Relaxed);
        match (flight.kind, &flight.at) {
            (_, None) => {}
            (Kind::Records | Kind::Elsewhere, Some(_)) => counters.progressed(flight.records, flight.bytes),
            (Kind::Letter, Some(_)) => {
                counters.dead_letters.fetch_add(flight.records, Ordering::Relaxed);
                counters.progressed(0, 0);
            }
        }
        if let Some(done) = flight.done {
            let (partition, offset) = match flight.at {
                Some((partition, base, _)) => (partition, base),
                None => {
                    let covered = self.saving.covered(&flight.partition);
                    (flight.partition, covered.unwrap_or_default())
                }
            };
            done.durable(partition, offset);
        }
        Ok(())
    }

    /// The log did not take something that somebody waits for: they hear so, also where they wait for the rest of it.
    fn lose(&mut self, flight: Flight, error: Error, hand: &mut VecDeque<Unplaced>) {
        let message = error.to_string();
        tracing::warn!(source = self.run.name, cause = message, "records are not taken");
        self.run.counters.retried(message);
        let rest = hand.front().is_some_and(|unplaced| unplaced.once == flight.once).then(|| hand.drain(..));
        let rest = rest.into_iter().flatten().filter_map(|unplaced| unplaced.done).last();
        if let Some(done) = flight.done.or(rest) {
            done.not_taken(error);
        }
        self.lost = flight.once;
    }

    fn note(&mut self, flight: &Flight) {
        let at = flight.at.as_ref().filter(|_| flight.kind != Kind::Elsewhere);
        self.saving.note(flight.known.as_ref(), at.map(|(of, _, next)| (of, *next)));
    }
}

/// How large the source makes its batches. Transforms may make more of them, and each is still to fit the topic.
fn batch_size(topic: &Topic, transforms: &Transforms) -> ByteSize {
    let most = topic.settings.max_batch;
    match transforms.is_empty() {
        true => BATCH.min(most),
        false => BATCH.min(ByteSize(most.0 / 4)),
    }
}

/// What decides which records are unfit.
fn made_by(plan: &SourcePlan) -> String {
    digest(&serde_json::json!([plan.connector, plan.settings, plan.transforms]))
}

fn read(mut intake: Intake, after: Duration) -> Reading {
    async move {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let passed = intake.read().await;
        (intake, passed)
    }
    .boxed()
}

async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
