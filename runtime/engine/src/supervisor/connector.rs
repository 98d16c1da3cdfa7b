//! One connector: a task that runs it on a thread of its own, starts it again when it fails, and does what people ask.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_api::edge::Abort;
use aqueduct_api::{Error, Result, TopicId, TopicPartition};
use aqueduct_record::Offset;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::counters::Counters;
use crate::deliver::{self, SinkRun, group};
use crate::glob::Selection;
use crate::holds::Holds;
use crate::host::{Host, Stop};
use crate::ingest::{Ended, SourceRun, ingest};
use crate::lease::Lease;
use crate::pin::Pin;
use crate::positions;
use crate::retry::Retry;
use crate::{RetryPlan, SinkPlan, SourcePlan, State};

/// What a connector is declared as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Declared {
    Source(SourcePlan),
    Sink(SinkPlan),
}

/// A declared connector. It lives from one change of its declaration to the next.
pub(crate) struct Connector {
    pub(crate) name: String,
    pub(crate) declared: Declared,
    pub(crate) counters: Arc<Counters>,
    pub(crate) holds: Arc<Holds>,
    host: Arc<Host>,
    folder: PathBuf,
    commands: mpsc::UnboundedSender<Command>,
}

/// What people want a connector to do; kept over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Target {
    Started,
    Paused,
    Stopped,
}

/// How long a run gets to finish what it has in flight when a person changes its state.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// After a failure that is not expected to pass: the first and the longest wait.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A run that lasted so long was a good one, also without anything to do.
const GOOD_RUN: Duration = Duration::from_secs(600);

enum Command {
    Target(Target, oneshot::Sender<()>),
    Restart(oneshot::Sender<()>),
    /// End the run, and begin no other until the second half answers or is dropped.
    Rest(oneshot::Sender<()>, oneshot::Receiver<()>),
    End(Duration, oneshot::Sender<()>),
}

/// A connector at rest; dropping it lets the connector go on.
pub(crate) struct Resting(#[expect(dead_code, reason = "its end is the message")] oneshot::Sender<()>);

impl Connector {
    /// Declares a connector. It takes its holds before it answers, and runs from [`Declaration::begin`] on.
    pub(crate) async fn declare(
        host: &Arc<Host>,
        (name, folder): (&str, PathBuf),
        declared: Declared,
        holds: Option<Arc<Holds>>,
    ) -> Result<Declaration> {
        let kind = match declared {
            Declared::Source(_) => "source",
            Declared::Sink(_) => "sink",
        };
        let holds = holds.unwrap_or_else(|| Arc::new(Holds::new(&host.store, format!("{kind} {name}"))));
        let (commands, orders) = mpsc::unbounded_channel();
        let connector = Arc::new(Connector {
            name: name.to_owned(),
            declared,
            counters: Arc::new(Counters::new(&host.edge)),
            holds,
            host: host.clone(),
            folder,
            commands,
        });
        connector.hold().await.map_err(|error| error.context(format!("{kind} {name}")))?;
        Ok(Declaration { connector, orders })
    }

    pub(crate) async fn set_target(&self, target: Target) -> Result<()> {
        let state = serde_json::json!({ "state": target }).to_string();
        self.host.settings.put(&self.host.lease, vec![(target_key(&self.name), Some(state))]).await?;
        self.order(|done| Command::Target(target, done)).await
    }

    pub(crate) async fn restart(&self) -> Result<()> {
        match self.counters.state().0 {
            state @ (State::Paused | State::Stopped) if self.target() != Target::Started => {
                Err(Error::refused(format!("`{}` is {}: resume it", self.name, state.name())))
            }
            _ => self.order(Command::Restart).await,
        }
    }

    /// Lets the connector rest until the answer is dropped.
    pub(crate) async fn rest(&self) -> Result<Resting> {
        let (release, released) = oneshot::channel();
        self.order(|done| Command::Rest(done, released)).await?;
        Ok(Resting(release))
    }

    /// Ends the connector for good.
    pub(crate) async fn end(&self, deadline: Duration) {
        // Where nobody takes the order, it has ended.
        let _ = self.order(|done| Command::End(deadline, done)).await;
    }

    async fn order(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<()> {
        let gone = || Error::refused(format!("`{}` is being shut down", self.name));
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    fn target(&self) -> Target {
        #[derive(Deserialize)]
        struct Kept {
            state: Target,
        }
        let kept = self.host.settings.get(&target_key(&self.name));
        kept.and_then(|text| serde_json::from_str(&text).ok()).map_or(Target::Started, |kept: Kept| kept.state)
    }

    /// Takes the holds that are missing: what a source still has to scan, what a sink still has to deliver.
    async fn hold(&self) -> Result<()> {
        match &self.declared {
            Declared::Source(_) => self.hold_scan_marks().await,
            Declared::Sink(plan) => self.hold_undelivered(plan).await,
        }
    }

    async fn hold_scan_marks(&self) -> Result<()> {
        let topics = self.host.store.topics().await?;
        self.holds.forget_gone(&topics);
        for (of, offset) in positions::scan_marks(&self.host.positions, &self.name) {
            if topics.iter().any(|topic| topic.name == of.topic && of.partition < topic.partitions) {
                self.holds.take(&of, offset).await?;
            }
        }
        Ok(())
    }

    async fn hold_undelivered(&self, plan: &SinkPlan) -> Result<()> {
        let selection = Selection::new(&plan.topics).map_err(|(_, told)| Error::refused(told))?;
        let topics = self.host.store.topics().await?;
        self.holds.forget_gone(&topics);
        let selected = topics.iter().filter(|topic| selection.matches(topic));
        let all = selected.flat_map(|topic| topic.all_partitions().map(|of| (topic.id, of)));
        let new: Vec<(TopicId, TopicPartition)> = all.filter(|(_, of)| !self.holds.has(of)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let committed = self.host.store.committed(&group(&self.name)).await?;
        let mut dead_letters: Option<Offset> = None;
        for (id, of) in new {
            let progress = self.counters.partition(&of);
            let next = match committed.get(&of) {
                Some(committed) => {
                    // What is wrong with the metadata is told when the sink comes to the partition.
                    let pin = Pin::parse(&committed.metadata).ok();
                    progress.committed_at(committed.offset, pin.iter().flat_map(|pin| pin.ends.clone()).collect());
                    let is_other = pin.as_ref().is_some_and(|pin| pin.topic != id);
                    let noted = pin.filter(|pin| !pin.ends.is_empty()).and_then(|pin| pin.dead_letters);
                    dead_letters = dead_letters.into_iter().chain(noted).min();
                    match is_other {
                        true => self.host.store.bounds(&of).await?.start,
                        false => committed.offset,
                    }
                }
                None => self.host.store.bounds(&of).await?.start,
            };
            self.holds.take(&of, next).await?;
        }
        let topic = plan.dead_letters.topic(&self.name).filter(|name| topics.iter().any(|topic| *topic.name == **name));
        if let Some((topic, offset)) = topic.zip(dead_letters) {
            self.holds.take(&TopicPartition::new(topic, 0), offset).await?;
        }
        Ok(())
    }

    fn retry_plan(&self) -> &RetryPlan {
        match &self.declared {
            Declared::Source(plan) => &plan.retry,
            Declared::Sink(plan) => &plan.retry,
        }
    }

    /// Begins a run, on a thread of its own.
    fn run(&self) -> Run {
        let (stop_now, stop) = Stop::channel();
        let lease = Lease::new(&self.host.store);
        let (host, name, folder) = (self.host.clone(), self.name.clone(), self.folder.clone());
        let (counters, holds) = (self.counters.clone(), self.holds.clone());
        let task = match &self.declared {
            Declared::Source(plan) => {
                let (plan, lease) = (plan.clone(), lease.clone());
                ingest(SourceRun { host, name, folder, plan, lease, stop, counters, holds }).boxed()
            }
            Declared::Sink(plan) => {
                let (plan, lease, runtime) = (plan.clone(), lease.clone(), Handle::current());
                deliver::deliver(SinkRun { host, name, folder, plan, lease, stop, counters, holds, runtime }).boxed()
            }
        };
        let (answer, ended) = oneshot::channel();
        let contained = async move {
            // Whoever no longer waits has ended the run.
            let _ = answer.send(contained(task).await);
        };
        let abort = self.host.edge.threads.connector(&self.name, contained.boxed());
        Run { stop: stop_now, ended, lease, abort, since: Instant::now(), progressed_at: self.counters.progressed_at() }
    }
}

fn target_key(name: &str) -> String {
    format!("target-state-{name}")
}

/// A panic stops the connector that it happened in.
async fn contained<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Error::fatal(format!("panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))))
        }
    }
}

/// A connector that holds what it needs and does not run yet.
pub(crate) struct Declaration {
    connector: Arc<Connector>,
    orders: mpsc::UnboundedReceiver<Command>,
}

impl Declaration {
    /// Sets it to work, unless people want it to rest.
    pub(crate) fn begin(self) -> Arc<Connector> {
        let connector = self.connector.clone();
        let retry = Retry::new(connector.retry_plan(), &connector.host.edge);
        let target = connector.target();
        let supervisor = Supervisor {
            connector: self.connector,
            target,
            run: None,
            again: Some(Instant::now()),
            retry,
            failures: 0,
            runs: 0,
        };
        tokio::spawn(supervisor.supervise(self.orders));
        connector
    }
}

/// One run of a connector.
struct Run {
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<Ended>>,
    lease: Lease,
    abort: Abort,
    since: Instant,
    progressed_at: Option<i64>,
}

struct Supervisor {
    connector: Arc<Connector>,
    target: Target,
    run: Option<Run>,
    /// When the next run begins; `None` while one is there, or when there is nothing more to run.
    again: Option<Instant>,
    retry: Retry,
    /// Failures one after the other that were not expected to pass.
    failures: u32,
    runs: u64,
}

impl Supervisor {
    async fn supervise(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        let mut clock = interval(Duration::from_secs(1));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show_target();
        loop {
            let waits = self.target == Target::Started && self.run.is_none();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::End(deadline, done)) => {
                        self.end_run(deadline).await;
                        self.connector.counters.enter(State::Stopped, None);
                        let _ = done.send(());
                        return;
                    }
                    Some(order) => self.obey(order).await,
                    None => return self.end_run(Duration::ZERO).await,
                },
                ended = ended(&mut self.run) => self.ended(ended).await,
                () = at(self.again), if waits => self.begin_run(),
                _ = clock.tick(), if self.run.is_none() => {
                    // What the store does not answer now is asked again in a second.
                    if let Err(error) = self.connector.hold().await {
                        tracing::warn!(connector = self.connector.name, cause = %error, "holds are taken later");
                    }
                }
            }
        }
    }

    async fn obey(&mut self, order: Command) {
        let done = match order {
            Command::Target(target, done) => {
                if target != self.target {
                    self.end_run(PATIENCE).await;
                    self.target = target;
                    self.start_over();
                }
                done
            }
            Command::Restart(done) => {
                self.connector.counters.enter(State::Restarting, None);
                self.end_run(PATIENCE).await;
                self.start_over();
                done
            }
            Command::Rest(done, released) => {
                self.connector.counters.enter(State::Restarting, None);
                self.end_run(PATIENCE).await;
                let _ = done.send(());
                // An answer and the answerer's end mean the same.
                let _ = released.await;
                return self.start_over();
            }
            Command::End(_, done) => done,
        };
        // Whoever asked may have gone.
        let _ = done.send(());
    }

    fn start_over(&mut self) {
        self.again = Some(Instant::now());
        self.retry.succeeded();
        self.failures = 0;
        self.show_target();
    }

    fn show_target(&self) {
        let state = match self.target {
            Target::Started if self.runs == 0 => State::Unassigned,
            Target::Started => State::Restarting,
            Target::Paused => State::Paused,
            Target::Stopped => State::Stopped,
        };
        self.connector.counters.enter(state, None);
    }

    fn begin_run(&mut self) {
        self.again = None;
        self.connector.counters.restarts.fetch_add(u64::from(self.runs > 0), Ordering::Relaxed);
        self.runs += 1;
        self.connector.counters.enter(State::Running, None);
        self.run = Some(self.connector.run());
    }

    /// Gives the run until the deadline to finish what it has in flight. On return it can append and commit no more.
    async fn end_run(&mut self, deadline: Duration) {
        let Some(mut run) = self.run.take() else { return };
        // A run that has ended needs no signal.
        let _ = run.stop.send(true);
        let ended = tokio::time::timeout(deadline, &mut run.ended).await;
        run.lease.revoke().await;
        run.abort.abort();
        let name = &self.connector.name;
        match ended {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(connector = name, cause = %error, "a run ended with a failure"),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(connector = name, ?deadline, "a run did not end in time and was cut off");
            }
        }
    }

    /// A run has ended by itself.
    async fn ended(&mut self, result: Result<Ended>) {
        let Some(run) = self.run.take() else { return };
        run.lease.revoke().await;
        run.abort.abort();
        let counters = &self.connector.counters;
        if counters.progressed_at() != run.progressed_at || run.since.elapsed() >= GOOD_RUN {
            self.retry.succeeded();
            self.failures = 0;
        }
        let name = &self.connector.name;
        let error = match result {
            Ok(Ended::Exhausted) => {
                counters.enter(State::Stopped, Some("it has come to its end: there will never be more".to_owned()));
                return;
            }
            Ok(Ended::Stopped) => Error::retry("it ended without being told to"),
            Err(error) => error,
        };
        let message = error.to_string();
        counters.retried(message.clone());
        let now = Instant::now();
        match self.retry.failed(error) {
            Ok(wait) => {
                tracing::warn!(connector = name, cause = message, ?wait, "a connector starts again");
                counters.enter(State::Restarting, Some(message));
                self.again = Some(now + wait);
            }
            Err(error) => {
                let (first, longest) = AFTER_FAILURE;
                let wait = first.saturating_mul(1 << self.failures.min(8)).min(longest);
                self.failures += 1;
                tracing::error!(connector = name, cause = %error, ?wait, "a connector has failed");
                counters.enter(State::Failed, Some(error.to_string()));
                self.again = Some(now + wait);
            }
        }
    }
}

async fn ended(run: &mut Option<Run>) -> Result<Ended> {
    match run {
        Some(run) => (&mut run.ended).await.unwrap_or_else(|_| Err(Error::fatal("its thread is gone"))),
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
