//! The engine: all connectors of one plan over one store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_api::{ByteSize, Edge, Error, Problem, Registry, Result, Store, Topic, TopicSettings};
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;

use crate::check::check;
use crate::counters::{Counters, Progress};
use crate::holds::Holds;
use crate::host::Host;
use crate::rewind::{self, Rewind};
use crate::supervisor::connector::{Connector, Declaration, Declared, PATIENCE, Target};
use crate::supervisor::topics;
use crate::{
    BudgetStatus, ConnectorStatus, Kind, PartitionStatus, Plan, RewindTo, Rewound, SinkPlan, Status, Unpinned,
};

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
    inner: Arc<Inner>,
}

struct Inner {
    host: Arc<Host>,
    resolve: Resolve,
    connectors: Mutex<BTreeMap<String, Arc<Connector>>>,
    /// What runs; locked while it is being changed.
    running: tokio::sync::Mutex<Running>,
    /// Holds of connectors that are no longer declared: they last until the process ends.
    retired: Mutex<Vec<Arc<Holds>>>,
}

struct Running {
    plan: Plan,
    /// Topics that were changed by a reload which then failed: sources that feed them have not begun anew yet.
    altered: BTreeSet<String>,
}

impl Engine {
    /// What is wrong with a plan, as far as can be told without touching anything. Each problem's setting is a path
    /// from the configuration's root: `sinks.lake.settings.url`.
    pub fn check(registry: &Registry, resolve: &Resolve, edge: &Edge, plan: &Plan) -> Vec<Problem> {
        check(registry, resolve, edge, plan)
    }

    /// Makes the plan's topics, takes holds for all its sinks and sources, then starts them; one that can not be opened
    /// fails alone.
    ///
    /// # Errors
    /// `Refused` when the plan has problems; others when the store does not answer.
    pub async fn start(parts: Parts, plan: Plan) -> Result<Engine> {
        refuse_problems(&parts.registry, &parts.resolve, &parts.edge, &plan)?;
        let resolve = parts.resolve.clone();
        let host = Arc::new(Host::open(parts).await?);
        topics::differences(&host, &plan).await?.apply(&host, &mut Vec::new()).await?;
        let mut declarations = Vec::new();
        for (name, declared) in declared(&plan) {
            declarations.push(Connector::declare(&host, (&name, plan.folder.clone()), declared, None).await?);
        }
        let connectors = declarations.into_iter().map(|declaration| {
            let connector = declaration.begin();
            (connector.name.clone(), connector)
        });
        let connectors = Mutex::new(connectors.collect());
        let running = tokio::sync::Mutex::new(Running { plan, altered: BTreeSet::new() });
        let inner = Inner { host, resolve, connectors, running, retired: Mutex::default() };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Applies what is different in `plan`, connector by connector, and says what it did. What is the same keeps running.
    ///
    /// # Errors
    /// `Refused` when the plan has problems: nothing was changed then. Others, as when the store does not answer, say what
    /// was done to topics before; all connectors run on as they did, and the next reload goes on from there.
    pub async fn reload(&self, plan: Plan) -> Result<Vec<String>> {
        // Seen through even where nobody waits any more: half of it would leave connectors ended for good.
        let engine = self.clone();
        let applied = tokio::spawn(async move { engine.apply(plan).await });
        applied.await.map_err(|cause| Error::fatal(format!("reload: {cause}")))?
    }

    async fn apply(&self, plan: Plan) -> Result<Vec<String>> {
        let host = &self.inner.host;
        refuse_problems(&host.registry, &self.inner.resolve, &host.edge, &plan)?;
        let mut running = self.inner.running.lock().await;
        let mut told = Vec::new();
        let differences = topics::differences(host, &plan).await?;
        running.altered.extend(differences.altered());
        let so_far = |error: Error, told: &[String]| match told {
            [] => error,
            told => error.context(format!("done before that: {}", told.join("; "))),
        };
        differences.apply(host, &mut told).await.map_err(|error| so_far(error, &told))?;
        let declared = self.declare_changed(&running, &plan).await.map_err(|error| so_far(error, &told))?;
        // From here on nothing can fail: no connector is ended without the next one being there.
        let names: BTreeSet<String> = self.inner.connectors.lock().keys().cloned().collect();
        for name in names.into_iter().filter(|name| !plan.sources.contains_key(name) && !plan.sinks.contains_key(name))
        {
            let connector = self.inner.connectors.lock().remove(&name);
            if let Some(connector) = connector {
                connector.end(PATIENCE).await;
                self.inner.retired.lock().push(connector.holds.clone());
            }
            told.push(format!("stopped `{name}`, which is no longer declared"));
        }
        for (name, declaration) in declared {
            let before = self.inner.connectors.lock().get(&name).cloned();
            match before {
                Some(before) => {
                    before.end(PATIENCE).await;
                    told.push(format!("restarted `{name}`, which has changed"));
                }
                None => told.push(format!("started `{name}`")),
            }
            self.inner.connectors.lock().insert(name, declaration.begin());
        }
        *running = Running { plan, altered: BTreeSet::new() };
        Ok(told)
    }

    /// Declares what differs from what runs; what runs goes on meanwhile.
    async fn declare_changed(&self, running: &Running, plan: &Plan) -> Result<Vec<(String, Declaration)>> {
        let was = declared(&running.plan);
        let mut changed = Vec::new();
        for (name, declared) in declared(plan) {
            // A source goes by its topic's partitions, compression and durability as they were when it began.
            let feeds_altered = matches!(&declared, Declared::Source(plan) if running.altered.contains(&plan.topic));
            let is_same = was.get(&name) == Some(&declared) && running.plan.folder == plan.folder && !feeds_altered;
            let before = self.inner.connectors.lock().get(&name).cloned();
            if is_same && before.is_some() {
                continue;
            }
            let same_kind =
                |before: &Arc<Connector>| std::mem::discriminant(&before.declared) == std::mem::discriminant(&declared);
            let holds = before.filter(same_kind).map(|before| before.holds.clone());
            let declaration =
                Connector::declare(&self.inner.host, (&name, plan.folder.clone()), declared, holds).await?;
            changed.push((name, declaration));
        }
        Ok(changed)
    }

    /// What every connector does right now; waits for none of them.
    pub async fn status(&self) -> Status {
        let connectors: Vec<Arc<Connector>> = self.inner.connectors.lock().values().cloned().collect();
        let mut told = Vec::with_capacity(connectors.len());
        for connector in connectors {
            told.push(self.connector_status(&connector).await);
        }
        let (bytes, taken) = self.inner.host.budget.usage();
        Status { connectors: told, budget: BudgetStatus { bytes, taken } }
    }

    /// Changes a topic. Before it answers, sinks know which records came before the topic grew, and sources that feed it go
    /// by what it is now.
    pub async fn alter_topic(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let (engine, name, settings) = (self.clone(), name.to_owned(), settings.clone());
        // Seen through even where nobody waits any more: the growth has to be noted, and soon.
        let altered = tokio::spawn(async move { engine.alter(&name, partitions, &settings).await });
        altered.await.map_err(|cause| Error::fatal(format!("alter: {cause}")))?
    }

    async fn alter(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let _running = self.inner.running.lock().await;
        let host = &self.inner.host;
        let before = host.store.topics().await?.into_iter().find(|topic| *topic.name == *name);
        let topic = host.store.alter(name, partitions, settings).await?;
        host.note_growth(&topic).await?;
        let shape = |topic: &Topic| {
            let settings = &topic.settings;
            (topic.partitions, settings.compression, settings.durability, settings.max_batch)
        };
        if before.is_some_and(|before| shape(&before) == shape(&topic)) {
            return Ok(topic);
        }
        let connectors: Vec<Arc<Connector>> = self.inner.connectors.lock().values().cloned().collect();
        let feeds = |connector: &&Arc<Connector>| {
            matches!(&connector.declared, Declared::Source(plan) if plan.topic == name)
                && connector.target() == Target::Started
        };
        join_all(connectors.iter().filter(feeds).map(|connector| connector.restart())).await;
        Ok(topic)
    }

    /// Lets a connector rest, also after a restart of the process, until it is resumed. Its place in the log is kept.
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.connector(name)?.set_target(Target::Paused).await
    }

    /// Sets a paused or stopped connector to work again.
    pub async fn resume(&self, name: &str) -> Result<()> {
        self.connector(name)?.set_target(Target::Started).await
    }

    /// Stops a connector, also after a restart of the process, until it is resumed.
    pub async fn stop(&self, name: &str) -> Result<()> {
        self.connector(name)?.set_target(Target::Stopped).await
    }

    /// Stops a connector and starts it again at once, also one that waits after a failure.
    pub async fn restart(&self, name: &str) -> Result<()> {
        self.connector(name)?.restart().await
    }

    /// Delivers again on purpose: sets a sink back, in one topic or in all, under the next `run` number. A dry run only
    /// says what would happen.
    pub async fn rewind(&self, sink: &str, topic: Option<&str>, to: RewindTo, dry_run: bool) -> Result<Vec<Rewound>> {
        let (connector, plan) = self.sink(sink)?;
        let rewind = Rewind { topic, to };
        if dry_run {
            return rewind::plan(&self.inner.host, (sink, &plan), rewind).await;
        }
        let resting = connector.rest().await?;
        let rewound = rewind::rewind(&self.inner.host, (sink, &plan), &connector.holds, rewind).await;
        if let Ok(rewound) = &rewound {
            for rewound in rewound {
                let of = aqueduct_api::TopicPartition::new(rewound.topic.as_str(), rewound.partition);
                connector.counters.partition(&of).committed_at(rewound.to, Vec::new());
            }
        }
        drop(resting);
        rewound
    }

    /// Gives up a sink's pinned chunks: the way out when they can not be finished under the settings that they were
    /// pinned under. What they had written may be written again in other chunks.
    pub async fn unpin(&self, sink: &str) -> Result<Vec<Unpinned>> {
        let (connector, _) = self.sink(sink)?;
        let resting = connector.rest().await?;
        let unpinned = rewind::unpin(&self.inner.host, sink).await;
        drop(resting);
        unpinned
    }

    /// Stops all connectors: each finishes, or saves, what it has in flight, and is cut off after `deadline`.
    pub async fn shutdown(&self, deadline: Duration) {
        let connectors: Vec<Arc<Connector>> = self.inner.connectors.lock().values().cloned().collect();
        join_all(connectors.iter().map(|connector| connector.end(deadline))).await;
    }

    fn connector(&self, name: &str) -> Result<Arc<Connector>> {
        let connectors = self.inner.connectors.lock();
        connectors.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = connectors.keys().map(String::as_str).collect();
            Error::refused(format!("there is no source or sink `{name}`, there is `{}`", names.join("`, `")))
        })
    }

    fn sink(&self, name: &str) -> Result<(Arc<Connector>, SinkPlan)> {
        let connector = self.connector(name)?;
        match &connector.declared {
            Declared::Sink(plan) => Ok((connector.clone(), plan.clone())),
            Declared::Source(_) => Err(Error::refused(format!("`{name}` is a source, not a sink"))),
        }
    }

    async fn connector_status(&self, connector: &Connector) -> ConnectorStatus {
        let counters = &connector.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (state, reason) = counters.state();
        let partitions = self.partitions(counters).await;
        let (kind, class, topics) = match &connector.declared {
            Declared::Source(plan) => (Kind::Source, &plan.connector, vec![plan.topic.clone()]),
            Declared::Sink(plan) => {
                let mut topics: Vec<String> = partitions.iter().map(|partition| partition.topic.clone()).collect();
                topics.dedup();
                (Kind::Sink, &plan.connector, topics)
            }
        };
        ConnectorStatus {
            name: connector.name.clone(),
            kind,
            connector: class.clone(),
            state,
            reason,
            restarts: count(&counters.restarts),
            records: count(&counters.records),
            bytes: count(&counters.bytes),
            dead_letters: count(&counters.dead_letters),
            retries: count(&counters.retries),
            lost: count(&counters.lost),
            last_error: counters.last_error(),
            topics,
            streams: count(&counters.streams),
            partitions,
            in_flight_bytes: count(&counters.in_flight_bytes),
            progressed_at_ms: counters.progressed_at(),
        }
    }

    async fn partitions(&self, counters: &Counters) -> Vec<PartitionStatus> {
        let mut told = Vec::new();
        for (of, progress) in counters.partitions() {
            let bounds = self.inner.host.store.bounds(&of).await;
            let end = bounds.map_or(progress.end(), |bounds| bounds.stable);
            told.push(PartitionStatus {
                topic: of.topic.to_string(),
                partition: of.partition,
                committed: progress.committed(),
                pinned: progress.pinned(),
                end,
                lag: (end - progress.committed().unwrap_or(0)).max(0) as u64,
                chunk_age_ms: age(&progress, self.inner.host.edge.now()),
                stopped: progress.stopped(),
            });
        }
        told
    }
}

fn age(progress: &Progress, now: i64) -> u64 {
    match progress.waiting_since() {
        0 => 0,
        since => (now - since).max(0) as u64,
    }
}

fn refuse_problems(registry: &Registry, resolve: &Resolve, edge: &Edge, plan: &Plan) -> Result<()> {
    let problems = check(registry, resolve, edge, plan);
    if problems.is_empty() {
        return Ok(());
    }
    let told: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect();
    Err(Error::refused(told.join("; ")))
}

fn declared(plan: &Plan) -> BTreeMap<String, Declared> {
    let sources = plan.sources.iter().map(|(name, source)| (name.clone(), Declared::Source(source.clone())));
    let sinks = plan.sinks.iter().map(|(name, sink)| (name.clone(), Declared::Sink(sink.clone())));
    sources.chain(sinks).collect()
}
