//! What comes in from outside: disk, clock, threads and chance. A test puts its own behind it, so that a whole run with
//! faults is replayed from one seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::disk::{Disk, RealDisk};
use crate::{Error, Result};

/// The outside of a run.
#[derive(Clone)]
pub struct Edge {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where work runs.
    pub threads: Arc<dyn Threads>,
    /// Where chance comes from.
    pub chance: Arc<dyn Chance>,
}

/// What time it is, for people: timers use tokio's clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970; may jump either way.
    fn now(&self) -> i64;
}

/// Where work runs.
pub trait Threads: Send + Sync {
    /// Runs a job that may block, off the async threads.
    fn blocking(&self, job: Box<dyn FnOnce() + Send>);

    /// Runs a connector on a thread of its own, until it ends or is aborted.
    fn connector(&self, name: &str, connector: BoxFuture<'static, ()>) -> Abort;
}

/// Where chance comes from.
pub trait Chance: Send + Sync {
    /// 64 random bits.
    fn bits(&self) -> u64;
}

/// Ends a connector's thread; dropping it lets the connector run.
pub struct Abort(Box<dyn FnOnce() + Send + Sync>);

impl Abort {
    /// Ends the connector by `abort`.
    pub fn new(abort: impl FnOnce() + Send + Sync + 'static) -> Self {
        Abort(Box::new(abort))
    }

    /// Drops the connector's future as soon as it gives its thread back.
    pub fn abort(self) {
        (self.0)();
    }
}

impl Edge {
    /// The real outside. To be called on a tokio runtime, whose blocking threads it uses.
    pub fn real() -> Self {
        Edge {
            disk: Arc::new(RealDisk),
            clock: Arc::new(RealClock),
            threads: Arc::new(RealThreads(tokio::runtime::Handle::current())),
            chance: Arc::new(RealChance::new()),
        }
    }

    /// Milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Runs `job` off the async threads and waits for its answer; the job runs to its end even when the wait is dropped.
    ///
    /// # Errors
    /// `Fatal` when the job panicked.
    pub async fn blocking<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.threads.blocking(Box::new(move || {
            // Nobody waits any more: the job is done all the same.
            let _ = sender.send(job());
        }));
        receiver.await.map_err(|_| Error::fatal("a blocking job panicked"))
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.chance.bits()
    }
}

struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the edge")]
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as i64)
    }
}

struct RealThreads(tokio::runtime::Handle);

impl Threads for RealThreads {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        drop(self.0.spawn_blocking(job));
    }

    fn connector(&self, name: &str, connector: BoxFuture<'static, ()>) -> Abort {
        let (abort, aborted) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let spawned = thread.spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(cause) => return tracing::error!(%cause, "no event loop for a connector"),
            };
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    Ok(()) = aborted => {}
                    () = connector => {}
                }
            });
        });
        if let Err(cause) = spawned {
            tracing::error!(connector = name, %cause, "no thread for a connector");
        }
        Abort::new(move || {
            // A connector that has ended needs no abort.
            let _ = abort.send(());
        })
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014) over a start that the operating system chose.
struct RealChance(AtomicU64);

impl RealChance {
    fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        RealChance(AtomicU64::new(std::hash::RandomState::new().build_hasher().finish()))
    }
}

impl Chance for RealChance {
    fn bits(&self) -> u64 {
        let mut bits = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connector_has_a_thread_of_its_own_and_can_be_aborted() {
        let edge = Edge::real();
        let (alive, gone) = oneshot::channel::<()>();
        let abort = edge.threads.connector(
            "one",
            Box::pin(async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            }),
        );
        abort.abort();
        assert!(gone.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_in_a_blocking_job_is_an_error() {
        let edge = Edge::real();
        assert_eq!(edge.blocking(|| 7).await.unwrap(), 7);
        assert!(edge.blocking(|| panic!("on purpose")).await.is_err());
    }
}
