//! The engine: all connectors of one plan over one store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{ByteSize, Edge, Error, Problem, Registry, Result, Store};
use serde_json::Value;

use crate::{Plan, RewindTo, Rewound, Status, Unpinned};

/// Resolves `${env:…}` and `${file:…}` in settings.
pub type Resolve = Arc<dyn Fn(&Value) -> Result<Value> + Send + Sync>;

/// What an engine runs on.
#[derive(Clone)]
pub struct Parts {
    /// Where records, groups and the engine's own state are kept.
    pub store: Arc<dyn Store>,
    /// Disk, clock, threads and chance.
    pub edge: Edge,
    /// The connectors that there are.
    pub registry: Arc<Registry>,
    /// Resolves references in settings, each time that a connector is opened.
    pub resolve: Resolve,
    /// Where sinks put temporary files; emptied by the caller at start.
    pub scratch: PathBuf,
    /// Memory shared by all connectors, beyond the room that each has of its own.
    pub budget: ByteSize,
}

/// All connectors of one plan over one store. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    _parts: Arc<Parts>,
}

impl Engine {
    /// What is wrong with a plan, as far as can be told without touching anything. Each problem's setting is a path
    /// from the configuration's root: `sinks.lake.settings.url`.
    pub fn check(_registry: &Registry, _resolve: &Resolve, _edge: &Edge, _plan: &Plan) -> Vec<Problem> {
        Vec::new()
    }

    /// Makes the plan's topics, takes holds for all its sinks and sources, then starts them; one that can not be opened
    /// fails alone.
    ///
    /// # Errors
    /// When the plan has problems, or the store does not answer.
    pub async fn start(parts: Parts, _plan: Plan) -> Result<Engine> {
        Ok(Engine { _parts: Arc::new(parts) })
    }

    /// Applies what is different in `plan`, connector by connector, and says what it did.
    ///
    /// # Errors
    /// When the plan has problems: nothing was changed then.
    pub async fn reload(&self, _plan: Plan) -> Result<Vec<String>> {
        Err(unwritten())
    }

    /// What every connector does right now; waits for none of them.
    pub async fn status(&self) -> Status {
        Status { connectors: Vec::new(), budget: crate::BudgetStatus { bytes: 0, taken: 0 } }
    }

    /// Lets a connector rest, also after a restart of the process, until it is resumed.
    pub async fn pause(&self, _name: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Sets a paused or stopped connector to work again.
    pub async fn resume(&self, _name: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Stops a connector, also after a restart of the process, until it is resumed.
    pub async fn stop(&self, _name: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Stops a connector and starts it again at once, also one that waits after a failure.
    pub async fn restart(&self, _name: &str) -> Result<()> {
        Err(unwritten())
    }

    /// Delivers again on purpose: sets a sink back, in one topic or in all, under the next `run` number. A dry run only
    /// says what would happen.
    pub async fn rewind(
        &self,
        _sink: &str,
        _topic: Option<&str>,
        _to: RewindTo,
        _dry_run: bool,
    ) -> Result<Vec<Rewound>> {
        Err(unwritten())
    }

    /// Gives up a sink's pinned chunks: the way out when they can not be finished under the settings that they were
    /// pinned under. What they had written may be written again in other chunks.
    pub async fn unpin(&self, _sink: &str) -> Result<Vec<Unpinned>> {
        Err(unwritten())
    }

    /// Stops all connectors: each finishes, or saves, what it has in flight, and is ended after `deadline`.
    pub async fn shutdown(&self, _deadline: Duration) {}
}

fn unwritten() -> Error {
    Error::fatal("not there yet")
}
