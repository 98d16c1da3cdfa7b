//! What keeps a connector running: begins its runs, starts it again when it fails, and does what people ask.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ingest::Ended;
use crate::retry::Retry;
use crate::supervisor::connector::{Command, Connector, PATIENCE, Target};
use crate::supervisor::run::{Run, ended};
use crate::{RetryPlan, State};

pub(crate) struct Supervisor {
    connector: Arc<Connector>,
    target: Target,
    run: Option<Run>,
    /// When the next run begins; `None` while one is there, or when there is nothing more to run.
    again: Option<Instant>,
    failures: Failures,
    runs: u64,
}

impl Supervisor {
    pub(crate) fn new(connector: Arc<Connector>) -> Supervisor {
        let (target, failures) = (connector.target(), Failures::new(connector.retry_plan(), &connector.host.edge));
        Supervisor { connector, target, run: None, again: Some(Instant::now()), failures, runs: 0 }
    }

    pub(crate) async fn supervise(self, orders: mpsc::UnboundedReceiver<Command>) {
        let connector = self.connector.clone();
        tokio::select! {
            biased;
            () = self.keep_running(orders) => {}
            never = keep_holding(&connector) => match never {},
            never = keep_noting(&connector) => match never {},
        }
    }

    async fn keep_running(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
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
        self.failures.forget();
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
        self.run = Some(Run::begin(&self.connector));
    }

    async fn end_run(&mut self, deadline: Duration) {
        if let Some(run) = self.run.take() {
            run.end(deadline).await;
        }
    }

    /// A run has ended by itself.
    async fn ended(&mut self, result: Result<Ended>) {
        let Some(run) = self.run.take() else { return };
        let counters = &self.connector.counters;
        if run.was_good() {
            self.failures.forget();
        }
        run.void().await;
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
        let (wait, given_up) = self.failures.add(error);
        match &given_up {
            None => {
                tracing::warn!(connector = name, cause = message, ?wait, "a connector starts again");
                counters.enter(State::Restarting, Some(message));
            }
            Some(error) => {
                tracing::error!(connector = name, cause = %error, ?wait, "a connector has failed");
                counters.enter(State::Failed, Some(error.to_string()));
            }
        }
        self.again = Some(Instant::now() + wait);
    }
}

/// Failures one after the other, and how long to wait after each.
struct Failures {
    retry: Retry,
    /// Those that were not expected to pass.
    lasting: u32,
}

impl Failures {
    /// After a failure that is not expected to pass: the first and the longest wait.
    const WAITS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

    fn new(plan: &RetryPlan, edge: &Edge) -> Failures {
        Failures { retry: Retry::new(plan, edge), lasting: 0 }
    }

    /// One more: how long to wait, and the failure itself where it is not expected to pass.
    fn add(&mut self, error: Error) -> (Duration, Option<Error>) {
        match self.retry.failed(error) {
            Ok(wait) => (wait, None),
            Err(error) => {
                let (first, longest) = Self::WAITS;
                let wait = first.saturating_mul(1 << self.lasting.min(8)).min(longest);
                self.lasting += 1;
                (wait, Some(error))
            }
        }
    }

    /// The next one is the first again.
    fn forget(&mut self) {
        self.retry.succeeded();
        self.lasting = 0;
    }
}

/// Takes holds of what is new, whatever becomes of the runs: one that is being ended, waits for its first commit or does
/// not come back from a call looks for nothing, and retention spares new partitions for seconds only.
async fn keep_holding(connector: &Connector) -> Infallible {
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        // What the store does not answer now is asked again in a second.
        if let Err(error) = connector.hold().await {
            tracing::warn!(connector = connector.name, cause = %error, "holds are taken later");
        }
    }
}

/// Notes what became of the topics, whatever becomes of the runs.
async fn keep_noting(connector: &Connector) -> Infallible {
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(error) = connector.note().await {
            tracing::warn!(connector = connector.name, cause = %error, "incarnations are noted later");
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
