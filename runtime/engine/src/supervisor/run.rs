//! One run of a connector: on a thread of its own, under a lease that ends with it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::edge::Abort;
use aqueduct_api::{Error, Result};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::deliver::{self, SinkRun};
use crate::host::{Stop, Stopper};
use crate::ingest::{Ended, SourceRun, ingest};
use crate::lease::Lease;
use crate::supervisor::connector::{Connector, Declared};

/// One run of a connector.
pub(crate) struct Run {
    stop: Stopper,
    ended: oneshot::Receiver<Result<Ended>>,
    lease: Lease,
    abort: Abort,
    since: Instant,
    progressed_at: Option<i64>,
    connector: Arc<Connector>,
}

/// A run that lasted so long was a good one, also without anything to do.
const GOOD_RUN: Duration = Duration::from_secs(600);

impl Run {
    /// Begins a run, on a thread of its own.
    pub(crate) fn begin(connector: &Arc<Connector>) -> Run {
        let (stop_now, stop) = Stop::channel();
        let lease = Lease::new(&connector.host.store);
        let (host, name, folder) = (connector.host.clone(), connector.name.clone(), connector.folder.clone());
        let (counters, holds) = (connector.counters.clone(), connector.holds.clone());
        let task = match &connector.declared {
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
        let abort = connector.host.edge.threads.connector(&connector.name, contained.boxed());
        let (since, progressed_at) = (Instant::now(), connector.counters.progressed_at());
        Run { stop: stop_now, ended, lease, abort, since, progressed_at, connector: connector.clone() }
    }

    /// Gives it until the deadline to finish what it has in flight. On return it can append and commit no more.
    pub(crate) async fn end(mut self, deadline: Duration) {
        // A run that has ended needs no signal.
        self.stop.stop();
        let ended = tokio::time::timeout(deadline, &mut self.ended).await;
        let name = self.connector.name.clone();
        self.void().await;
        match ended {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(connector = name, cause = %error, "a run ended with a failure"),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(connector = name, ?deadline, "a run did not end in time and was cut off");
            }
        }
    }

    /// Makes void what it may still do.
    pub(crate) async fn void(self) {
        self.lease.revoke().await;
        self.abort.abort();
    }

    /// Whether it got something done, or at least lasted.
    pub(crate) fn was_good(&self) -> bool {
        self.connector.counters.progressed_at() != self.progressed_at || self.since.elapsed() >= GOOD_RUN
    }
}

/// How a run ends by itself.
pub(crate) async fn ended(run: &mut Option<Run>) -> Result<Ended> {
    match run {
        Some(run) => (&mut run.ended).await.unwrap_or_else(|_| Err(Error::fatal("its thread is gone"))),
        None => std::future::pending().await,
    }
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
