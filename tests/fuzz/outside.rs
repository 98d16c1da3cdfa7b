//! What the fuzzer's brokers run on: one thread, a folder in memory and a time that passes when it is told to, so that the same
//! bytes take the same way again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::Edge;
use aqueduct_api::edge::{Abort, Chance, Clock, Threads};
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// A runtime whose time stands still.
pub(crate) fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    // While a job blocks, time does not run ahead where all wait: answers may be on their way through the network. The job
    // ends with the runtime.
    let (ends, end) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || end.recv());
    runtime.spawn(async move {
        let _ends = ends;
        std::future::pending::<()>().await;
    });
    runtime
}

/// A folder in memory, where there is one.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// To be asked for on the runtime.
pub(crate) fn edge() -> Edge {
    Edge {
        clock: Arc::new(Standing(Instant::now())),
        threads: Arc::new(AtOnce),
        chance: Arc::new(Same(AtomicU64::new(0))),
        ..Edge::real()
    }
}

/// Milliseconds since 1970 at the start: some day in 2026.
const START: i64 = 1_790_000_000_000;

struct Standing(Instant);

impl Clock for Standing {
    fn now(&self) -> i64 {
        START + self.0.elapsed().as_millis() as i64
    }
}

struct AtOnce;

impl Threads for AtOnce {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn connector(&self, name: &str, _: BoxFuture<'static, ()>) -> Abort {
        panic!("a broker has no connectors: {name}")
    }
}

/// Numbers that are the same in each run: SplitMix64.
struct Same(AtomicU64);

impl Chance for Same {
    fn bits(&self) -> u64 {
        splitmix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }
}

/// What is added for the next number.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number's bits, mixed.
pub(crate) fn splitmix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
