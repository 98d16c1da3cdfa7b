//! The way out: finds the partitions of a sink's topics, and delivers each in chunks, a few at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Committed, Error, Result, Topic, TopicId, TopicPartition};
use aqueduct_record::Offset;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::SinkPlan;
use crate::commits::Commits;
use crate::counters::Counters;
use crate::dead_letters::DeadLetters;
use crate::glob::Selection;
use crate::holds::Holds;
use crate::host::{Host, Stop};
use crate::ingest::Ended;
use crate::lease::Lease;
use crate::opened::Opened;
use crate::partition;
use crate::pin::Pin;
use crate::retry::Retry;
use crate::settings_by_digest::Shaping;
use crate::takeover::{self, Found, take_over};
use crate::writes::Writes;

/// What one run of a sink is made of.
pub(crate) struct SinkRun {
    pub(crate) host: Arc<Host>,
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) plan: SinkPlan,
    pub(crate) lease: Lease,
    pub(crate) stop: Stop,
    pub(crate) counters: Arc<Counters>,
    pub(crate) holds: Arc<Holds>,
    /// The engine's runtime, for what must go on when the connector's thread does not.
    pub(crate) runtime: Handle,
}

/// One run of a sink, shared by its partitions.
pub(crate) struct Delivery {
    pub(crate) run: SinkRun,
    /// The digest of the shaping settings that the sink is open with.
    pub(crate) digest: String,
    pub(crate) writes: Writes,
    /// The one read ahead that the sink's own room is for: shared bytes would be kept while a destination is slow.
    pub(crate) ahead: Arc<Semaphore>,
    pub(crate) dead_letters: Option<DeadLetters>,
    commits: Commits,
    opened: Arc<Opened>,
    /// Where the dead-letter topic ended when each partition's chunk was pinned.
    noted: Mutex<BTreeMap<TopicPartition, Offset>>,
    /// Sinks that are open with earlier shaping settings, by digest.
    earlier: tokio::sync::Mutex<BTreeMap<String, Arc<Opened>>>,
}

/// How often new topics and partitions are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The consumer group of a sink, so that every tool for Kafka shows its lag.
pub(crate) fn group(sink: &str) -> String {
    format!("connect-{sink}")
}

/// Runs a sink until it is told to stop or fails.
pub(crate) async fn deliver(run: SinkRun) -> Result<Ended> {
    let host = &run.host;
    let shaping = Shaping::of(&host.registry, &run.plan)?;
    let opened = Opened::open(host, (&run.name, &run.folder), &run.plan).await?;
    shaping.keep(&host.settings, &run.lease).await?;
    let token = host.store.join(&group(&run.name)).await?;
    let selection = Selection::new(&run.plan.topics).map_err(|(_, told)| Error::fatal(told))?;
    let names = (run.name.as_str(), run.plan.connector.as_str());
    let dead_letters = run.plan.dead_letters.topic(&run.name);
    let delivery = Arc::new(Delivery {
        dead_letters: dead_letters.map(|topic| DeadLetters::new(host, &run.lease, names, topic)),
        commits: Commits::new(&host.store, token),
        opened,
        digest: shaping.digest(),
        writes: Writes::new(run.plan.chunk.bytes.0),
        ahead: Arc::new(Semaphore::new(1)),
        earlier: tokio::sync::Mutex::default(),
        noted: Mutex::default(),
        run,
    });
    Partitions { delivery, selection, known: BTreeMap::new(), running: FuturesUnordered::new() }.run().await
}

impl Delivery {
    /// Commits with the next commit of the sink.
    pub(crate) async fn commit(&self, of: &TopicPartition, next: Offset, epoch: i32, pin: &Pin) -> Result<()> {
        let committed = Committed { offset: next, leader_epoch: epoch, metadata: pin.metadata()? };
        self.commits.commit(of, committed).await
    }

    /// Keeps dead letters from where they were when a partition's chunk was pinned, until it is written: whoever
    /// delivers it again looks there.
    pub(crate) async fn hold_dead_letters(&self, of: &TopicPartition, noted: Option<Offset>) -> Result<()> {
        let Some(letters) = &self.dead_letters else { return Ok(()) };
        let first = {
            let mut all = self.noted.lock();
            match noted {
                Some(noted) => all.insert(of.clone(), noted),
                None => all.remove(of),
            };
            all.values().min().copied()
        };
        match first {
            None => self.run.holds.release(letters.partition()),
            Some(first) if letters.exists().await? => {
                self.run.holds.take(letters.partition(), first).await?;
                self.run.holds.advance(letters.partition(), first);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// The sink, open with the shaping settings that a chunk was pinned under.
    pub(crate) async fn opened_for(&self, digest: Option<&str>) -> Result<Arc<Opened>> {
        let digest = digest.filter(|digest| *digest != self.digest && !mutated(Mutant::SettingsUnderPin));
        let Some(digest) = digest else { return Ok(self.opened.clone()) };
        let mut earlier = self.earlier.lock().await;
        if let Some(opened) = earlier.get(digest) {
            return Ok(opened.clone());
        }
        let told = "a chunk that was pinned under earlier settings is finished under them";
        tracing::info!(sink = self.run.name, digest, "{told}");
        let opened =
            Opened::open_under(&self.run.host, (&self.run.name, &self.run.folder), &self.run.plan, digest).await?;
        earlier.insert(digest.to_owned(), opened.clone());
        Ok(opened)
    }
}

type Running = BoxFuture<'static, (TopicPartition, Result<Option<String>>)>;
type Taking = BoxFuture<'static, Result<Vec<(Topic, TopicPartition, Found)>>>;

/// All partitions of a sink's topics.
struct Partitions {
    delivery: Arc<Delivery>,
    selection: Selection,
    /// Partitions that were taken over; dropping the sender ends what runs there.
    known: BTreeMap<TopicPartition, (TopicId, Option<oneshot::Sender<()>>)>,
    running: FuturesUnordered<Running>,
}

impl Partitions {
    async fn run(mut self) -> Result<Ended> {
        let delivery = self.delivery.clone();
        let mut retry = Retry::new(&delivery.run.plan.retry, &delivery.run.host.edge);
        let committing = delivery.commits.drive(&mut retry, &delivery.run.counters);
        tokio::pin!(committing);
        let writing = delivery.writes.drive(&delivery.run.counters);
        tokio::pin!(writing);
        let mut clock = interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taking: Option<Taking> = None;
        let mut first = true;
        loop {
            let stopping = delivery.run.stop.is_given();
            if stopping && self.running.is_empty() {
                return Ok(Ended::Stopped);
            }
            tokio::select! {
                biased;
                error = &mut committing => return Err(error),
                never = &mut writing => match never {},
                Some((of, result)) = self.running.next() => match result {
                    Ok(None) => {}
                    Ok(Some(reason)) => self.stopped(&of, reason),
                    Err(error) => self.failed(&of, error).await?,
                },
                () = delivery.run.stop.given(), if !stopping => taking = None,
                found = async {
                    match &mut taking {
                        Some(taking) => taking.await,
                        None => std::future::pending().await,
                    }
                } => {
                    taking = None;
                    match found {
                        Ok(found) => {
                            self.begin(found);
                            first = false;
                        }
                        Err(error) => self.later(error)?,
                    }
                }
                _ = clock.tick(), if !stopping && taking.is_none() => match self.look().await {
                    Ok(new) if new.is_empty() && !first => {}
                    Ok(new) => taking = Some(self.take(new)),
                    Err(error) => self.later(error)?,
                },
            }
        }
    }

    /// A failure to look for partitions that the next look may not meet.
    fn later(&self, error: Error) -> Result<()> {
        let message = match error {
            Error::Retry { .. } => error.context("look for partitions").to_string(),
            error => return Err(error),
        };
        tracing::warn!(sink = self.delivery.run.name, cause = message, "looking for partitions is tried again");
        self.delivery.run.counters.retried(message);
        Ok(())
    }

    /// Partitions that this run does not know yet; what runs on a topic that is gone ends.
    async fn look(&mut self) -> Result<Vec<(Topic, TopicPartition)>> {
        let topics = self.delivery.run.holds.forget_gone().await?;
        let topics: Vec<Topic> = topics.into_iter().filter(|topic| self.selection.matches(topic)).collect();
        let ids: BTreeMap<_, _> = topics.iter().map(|topic| (topic.name.clone(), topic.id)).collect();
        let counters = &self.delivery.run.counters;
        self.known.retain(|of, (id, _)| {
            let is_there = ids.get(&of.topic) == Some(id);
            if !is_there {
                counters.forget(of);
            }
            is_there
        });
        let all = topics.iter().flat_map(|topic| topic.all_partitions().map(|of| (topic.clone(), of)));
        Ok(all.filter(|(_, of)| !self.known.contains_key(of)).collect())
    }

    /// Takes new partitions over, and remembers the sink's first start once that is done.
    fn take(&self, new: Vec<(Topic, TopicPartition)>) -> Taking {
        let delivery = self.delivery.clone();
        async move {
            // Asked for each time: what an attempt before this one has committed must not look as if it had vanished.
            let committed = delivery.run.host.store.committed(&group(&delivery.run.name)).await?;
            let found = take_over(&delivery, &committed, new).await?;
            if !takeover::has_started(&delivery.run.host, &delivery.run.name) {
                let started = takeover::started(&delivery.run.name, delivery.run.host.edge.now());
                delivery.run.host.settings.put(&delivery.run.lease, vec![started]).await?;
            }
            Ok(found)
        }
        .boxed()
    }

    fn begin(&mut self, found: Vec<(Topic, TopicPartition, Found)>) {
        for (topic, of, found) in found {
            let progress = self.delivery.run.counters.partition(&of);
            match found {
                Found::Stopped(reason) => {
                    self.known.insert(of.clone(), (topic.id, None));
                    self.stopped(&of, reason);
                }
                Found::Place(place) => {
                    progress.stop(None);
                    progress.committed_at(place.next, place.pin.ends.clone());
                    let (keep, gone) = oneshot::channel::<()>();
                    self.known.insert(of.clone(), (topic.id, Some(keep)));
                    let delivering = partition::deliver(self.delivery.clone(), topic, of.clone(), place);
                    self.running.push(
                        async move {
                            tokio::select! {
                                biased;
                                _ = gone => (of, Ok(None)),
                                result = delivering => (of, result),
                            }
                        }
                        .boxed(),
                    );
                }
            }
        }
    }

    /// A failure on a topic that was deleted meanwhile is no failure of the others: the next look forgets it.
    async fn failed(&mut self, of: &TopicPartition, error: Error) -> Result<()> {
        let known = self.known.get(of).map(|(id, _)| *id);
        let topics = self.delivery.run.host.store.topics().await?;
        match topics.iter().any(|topic| topic.name == of.topic && Some(topic.id) == known) {
            true => Err(error),
            false => {
                tracing::warn!(sink = self.delivery.run.name, partition = %of, cause = %error, "a topic was deleted");
                Ok(())
            }
        }
    }

    fn stopped(&self, of: &TopicPartition, reason: String) {
        tracing::error!(sink = self.delivery.run.name, partition = %of, reason, "delivery of a partition has stopped");
        self.delivery.run.counters.failed(format!("{of}: {reason}"));
        self.delivery.run.counters.partition(of).stop(Some(reason));
    }
}
