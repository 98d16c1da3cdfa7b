//! What all connectors of an engine share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_api::{Edge, Error, Isolation, Registry, Result, SinkOpening, Store, TopicPartition, TransformOpening};
use aqueduct_record::{Batch, Offset};
use serde_json::Value;
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::incarnations::Incarnations;
use crate::lease::Lease;
use crate::table::{POSITIONS, SETTINGS, Table};
use crate::transforms::Transforms;
use crate::{Parts, TransformPlan};

/// What all connectors of an engine share.
pub(crate) struct Host {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) edge: Edge,
    pub(crate) registry: Arc<Registry>,
    resolve: crate::Resolve,
    scratch: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) positions: Table,
    pub(crate) settings: Table,
    pub(crate) incarnations: Incarnations,
    /// The engine's own right to append, never revoked.
    pub(crate) lease: Lease,
}

impl Host {
    pub(crate) async fn open(parts: Parts) -> Result<Host> {
        let settings = Table::open(&parts.store, &parts.edge, SETTINGS).await?;
        Ok(Host {
            positions: Table::open(&parts.store, &parts.edge, POSITIONS).await?,
            incarnations: Incarnations::open(&settings)?,
            settings,
            lease: Lease::new(&parts.store),
            budget: Budget::new(parts.budget),
            store: parts.store,
            edge: parts.edge,
            registry: parts.registry,
            resolve: parts.resolve,
            scratch: parts.scratch,
        })
    }

    /// Settings with their references resolved.
    pub(crate) fn resolved(&self, settings: &Value) -> Result<Value> {
        (self.resolve)(settings)
    }

    /// Transforms, open.
    pub(crate) fn transforms(&self, plans: &[TransformPlan], folder: &Path) -> Result<Transforms> {
        let opening = TransformOpening { folder: folder.to_owned(), edge: self.edge.clone(), trial: None };
        Transforms::open(&self.registry, &self.resolve, plans, &opening)
    }

    /// The leader epoch of the record before `offset`, where it is still there.
    pub(crate) async fn epoch_before(&self, of: &TopicPartition, offset: Offset) -> Result<Option<i32>> {
        let bounds = self.store.bounds(of).await?;
        if offset <= bounds.start || offset > bounds.high_watermark {
            return Ok(None);
        }
        let read = self.store.read(of, offset - 1, 1, Isolation::Uncommitted).await?;
        let first = Batch::split_first(&read.batches).map_err(Error::retry)?;
        Ok(first.filter(|(batch, _)| batch.base_offset() < offset).map(|(batch, _)| batch.leader_epoch()))
    }

    pub(crate) fn sink_opening(&self, name: &str, folder: &Path) -> SinkOpening {
        SinkOpening {
            name: name.to_owned(),
            folder: folder.to_owned(),
            scratch: self.scratch.clone(),
            edge: self.edge.clone(),
        }
    }
}

/// The signal that a run of a connector should finish what it has in flight and end. Nobody there to give it means the
/// same.
#[derive(Clone)]
pub(crate) struct Stop(Arc<Signal>);

/// Whoever gives the signal, at the latest by being dropped.
pub(crate) struct Stopper(Arc<Signal>);

/// Wakes those who wait in the order in which they came: tokio's `watch` does so in a random one, and no seed would give
/// the same run twice.
#[derive(Default)]
struct Signal {
    is_given: AtomicBool,
    given: Notify,
}

impl Stopper {
    pub(crate) fn stop(&self) {
        self.0.is_given.store(true, Ordering::SeqCst);
        self.0.given.notify_waiters();
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stop {
    pub(crate) fn channel() -> (Stopper, Stop) {
        let signal = Arc::new(Signal::default());
        (Stopper(signal.clone()), Stop(signal))
    }

    pub(crate) fn is_given(&self) -> bool {
        self.0.is_given.load(Ordering::SeqCst)
    }

    pub(crate) async fn given(&self) {
        let mut given = std::pin::pin!(self.0.given.notified());
        // From here on no signal is missed: one that came before is seen by the question after it.
        given.as_mut().enable();
        if !self.is_given() {
            given.await;
        }
    }

    /// Waits for that long; false when the signal came first.
    pub(crate) async fn sleep(&self, duration: std::time::Duration) -> bool {
        tokio::select! {
            biased;
            () = self.given() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}
