//! A running daemon: a log, an engine over it and the HTTP interface, from start to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result, Topic, TopicSettings};
use aqueduct_commit_log::CommitLog;
use aqueduct_engine::{Engine, Parts, Status};
use aqueduct_kafka_server::{Broker, Host};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::connectors::registry;
use crate::http::control::{Control, control_router};
use crate::http::{Data, data_router};
use crate::kafka::{Change, Endpoint, Serving, fixed};
use crate::load::{self, Loaded};
use crate::problems::Problem;

/// What runs. Clones are the same daemon.
#[derive(Clone)]
pub(crate) struct Daemon {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    log: CommitLog,
    edge: Edge,
    address: SocketAddr,
    started_at: i64,
    path: PathBuf,
    loaded: Mutex<Loaded>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// True: the HTTP interface ends.
    ending: watch::Sender<bool>,
    serving: Mutex<Option<JoinHandle<()>>>,
    /// Answers Kafka clients.
    kafka: Mutex<Option<JoinHandle<()>>>,
    endpoint: OnceLock<Serving>,
}

/// Why a reload changed nothing.
#[derive(Debug)]
pub(crate) enum NotReloaded {
    /// The new configuration is wrong.
    Problems(Vec<Problem>),
    /// The engine does not take it.
    Refused(Error),
}

impl Daemon {
    /// Opens the log, starts the connectors and serves.
    ///
    /// # Errors
    /// `Fatal` when somebody else holds the log's folder, or the address is taken; others when the log cannot be opened.
    pub(crate) async fn start(loaded: Loaded) -> Result<Daemon> {
        let edge = Edge::real();
        let started_at = edge.now();
        let owner = format!("aqueduct run, process {}, {}", std::process::id(), loaded.url());
        let log = CommitLog::open(edge.clone(), &loaded.config.log.path, loaded.log_options(owner)).await?;
        let started = Self::over(log.clone(), loaded, edge, started_at).await;
        if started.is_err() {
            // The folder is as it was found, so the next start has nothing to recover.
            let _ = log.close().await;
        }
        started
    }

    async fn over(log: CommitLog, loaded: Loaded, edge: Edge, started_at: i64) -> Result<Daemon> {
        let wanted = loaded.config.listen.http;
        let taken = |cause: std::io::Error| Error::fatal(format!("listen.http: {wanted}: {cause}"));
        let listener = TcpListener::bind(wanted).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let kafka = match loaded.config.listen.kafka.clone() {
            Some(declared) => Some(Endpoint::bind(declared, &edge, &loaded.references.folder).await?),
            None => None,
        };
        let references = loaded.references.clone();
        let parts = Parts {
            store: Arc::new(log.clone()),
            edge: edge.clone(),
            registry: Arc::new(registry()),
            resolve: Arc::new(move |value| references.resolve(value)),
            scratch: loaded.scratch(),
            budget: loaded.config.memory,
        };
        let engine = Engine::start(parts, loaded.plan.clone()).await?;
        log.start_cleaning();
        let inner = Inner {
            engine,
            log,
            edge,
            address,
            started_at,
            path: loaded.path.clone(),
            loaded: Mutex::new(loaded),
            reloading: tokio::sync::Mutex::new(()),
            ending: watch::Sender::new(false),
            serving: Mutex::new(None),
            kafka: Mutex::new(None),
            endpoint: OnceLock::new(),
        };
        let daemon = Daemon { inner: Arc::new(inner) };
        daemon.serve(listener);
        if let Some(kafka) = kafka {
            daemon.serve_kafka(kafka);
        }
        Ok(daemon)
    }

    fn serve(&self, listener: TcpListener) {
        let loaded = self.loaded();
        let secrets = loaded.references.secrets.clone();
        let store = Arc::new(self.inner.log.clone());
        let data = Data::new(store, Some(self.inner.engine.clone()), self.inner.edge.clone());
        let control = control_router(Control { daemon: self.clone(), secrets });
        let hosts = Arc::new(loaded.config.listen.hosts);
        let guard = axum::middleware::from_fn_with_state(hosts, crate::http::guard::guard);
        let router = data_router(data).merge(control).layer(guard);
        let mut ending = self.inner.ending.subscribe();
        let serving = tokio::spawn(async move {
            let ended = async move {
                // An error means that the daemon is gone, which is an end too.
                let _ = ending.wait_for(|ending| *ending).await;
            };
            if let Err(cause) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
                tracing::error!(%cause, "the HTTP interface ended");
            }
        });
        *self.inner.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(serving);
    }

    fn serve_kafka(&self, endpoint: Endpoint) {
        let store = Arc::new(self.inner.log.clone());
        let around = Arc::new(Around(Arc::downgrade(&self.inner)));
        let (endpoint, serving) = endpoint.serve(store, self.inner.edge.clone(), around);
        let serving = tokio::spawn(serving);
        // It is served once.
        let _ = self.inner.endpoint.set(endpoint);
        *self.inner.kafka.lock().unwrap_or_else(PoisonError::into_inner) = Some(serving);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The log.
    pub(crate) fn log(&self) -> &CommitLog {
        &self.inner.log
    }

    /// What answers Kafka clients, where the configuration asks for it.
    pub(crate) fn broker(&self) -> Option<&Broker> {
        self.inner.endpoint.get().map(Serving::broker)
    }

    /// The configuration that runs.
    pub(crate) fn loaded(&self) -> Loaded {
        self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the engine does.
    pub(crate) async fn status(&self) -> Status {
        self.inner.engine.status().await
    }

    /// Everything that is known of the daemon, as JSON.
    pub(crate) async fn described(&self) -> Value {
        let status = self.status().await;
        let loaded = self.loaded();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "process": std::process::id(),
            "config": self.inner.path,
            "url": format!("http://{}", self.address()),
            "started_at_ms": self.inner.started_at,
            "now_ms": self.inner.edge.now(),
            "log": {
                "path": loaded.config.log.path,
                "usage": self.inner.log.usage(),
                "recovery": self.inner.log.recovery(),
            },
            "budget": status.budget,
            "connectors": status.connectors,
        })
    }

    /// Reads the configuration again and applies what is different; says what it did.
    ///
    /// # Errors
    /// What is wrong with the new configuration: the old one keeps running.
    pub(crate) async fn reload(&self) -> std::result::Result<Vec<String>, NotReloaded> {
        let _alone = self.inner.reloading.lock().await;
        let before = self.loaded();
        let references = &before.references;
        let (environment, secrets) = (&references.environment, &references.secrets);
        let mut after =
            load::load(&self.inner.path, &registry(), environment, secrets).map_err(NotReloaded::Problems)?;
        let kafka = self.change_of_kafka(&before, &after).await.map_err(NotReloaded::Refused)?;
        let mut told = self.inner.engine.reload(after.plan.clone()).await.map_err(NotReloaded::Refused)?;
        told.extend(needs_restart(&before.config, &after.config));
        // Until then the old ones hold, and every reload says so.
        let Config { log, mut listen, memory, log_file, .. } = before.config;
        if let (Some(endpoint), Some(change)) = (self.inner.endpoint.get(), kafka) {
            endpoint.apply(&change);
            told.extend(change.told);
            listen.kafka = Some(change.declared);
        }
        after.config = Config { log, listen, memory, log_file, ..after.config };
        *self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(told)
    }

    /// What becomes of the endpoint for Kafka clients, where there is one and there is to be one.
    async fn change_of_kafka(&self, before: &Loaded, after: &Loaded) -> Result<Option<Change>> {
        let declared = (&before.config.listen.kafka, &after.config.listen.kafka);
        let (Some(endpoint), (Some(held), Some(wanted))) = (self.inner.endpoint.get(), declared) else {
            return Ok(None);
        };
        endpoint.prepare(held, wanted, &self.inner.edge, &after.references.folder).await.map(Some)
    }

    /// Stops everything: connectors finish or save what they have in flight, the log is closed.
    ///
    /// # Errors
    /// When the log could not be closed cleanly: the next start recovers it.
    pub(crate) async fn stop(self) -> Result<()> {
        let deadline = self.loaded().config.stop_within.duration();
        self.inner.engine.shutdown(deadline.unwrap_or(Duration::from_secs(u64::from(u32::MAX)))).await;
        if let Some(kafka) = self.inner.kafka.lock().unwrap_or_else(PoisonError::into_inner).take() {
            kafka.abort();
        }
        // Requests that wait for records would wait on; whoever asks for a record a moment later is refused.
        self.inner.ending.send_replace(true);
        let serving = self.inner.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(serving) = serving {
            let abort = serving.abort_handle();
            if tokio::time::timeout(Duration::from_secs(1), serving).await.is_err() {
                abort.abort();
            }
        }
        self.inner.log.clone().close().await
    }
}

/// What Kafka clients find around the log, while the daemon is there.
struct Around(Weak<Inner>);

#[async_trait]
impl Host for Around {
    fn declared(&self, topic: &str) -> (i32, TopicSettings) {
        let inner = self.0.upgrade();
        let loaded = inner.as_ref().map(|inner| inner.loaded.lock().unwrap_or_else(PoisonError::into_inner));
        let plan = loaded.as_ref().and_then(|loaded| loaded.config.topics.get(topic)).cloned().unwrap_or_default();
        (plan.partitions, plan.settings)
    }

    async fn alter(&self, topic: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let engine = self.0.upgrade().map(|inner| inner.engine.clone());
        let engine = engine.ok_or_else(|| Error::retry("the daemon is stopping"))?;
        engine.alter_topic(topic, partitions, settings).await
    }
}

/// What a reload cannot change.
fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let (listened, listens) = (&before.listen, &after.listen);
    let mut changed = vec![
        ("log", before.log != after.log),
        ("listen.http", listened.http != listens.http),
        ("listen.expose", listened.expose != listens.expose),
        ("listen.hosts", listened.hosts != listens.hosts),
        ("memory", before.memory != after.memory),
        ("log-file", before.log_file != after.log_file),
    ];
    match (&listened.kafka, &listens.kafka) {
        (Some(before), Some(after)) => changed.extend(fixed(before, after)),
        (before, after) => changed.push(("listen.kafka", before.is_some() != after.is_some())),
    }
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| format!("`{key}` has changed, which takes a restart")).collect()
}

#[cfg(test)]
mod tests;
