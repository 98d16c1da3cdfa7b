//! `aqueduct run`: what a configuration declares, until somebody stops it.

use std::path::PathBuf;
use std::time::Duration;

use aqueduct_api::{Edge, SinkOpening};
use aqueduct_engine::{Kind, Status};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Context, count};
use crate::connectors::registry;
use crate::daemon::{Daemon, NotReloaded};
use crate::load::Loaded;
use crate::logging;
use crate::terminal::Failure;

/// How often progress is told, where there was any.
const PROGRESS: Duration = Duration::from_secs(5);

/// A stop that is asked for again within this time is the same one: `timeout`, for one, tells the process and its group.
const ECHO: Duration = Duration::from_secs(1);

/// Run what a file or folder declares, until SIGTERM or Ctrl-C.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct run configs/quickstart.yaml
  AQUEDUCT_LOG=debug aqueduct run /etc/aqueduct 2>aqueduct.log

Signals: SIGTERM and Ctrl-C finish what is in flight (a second one, a second later, ends at once), SIGHUP reloads.")]
pub(super) struct Run {
    /// A file, or a folder of *.yaml files [default: aqueduct.yaml]
    #[arg(value_name = "CONFIG")]
    path: Option<PathBuf>,
}

impl Run {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let loaded = context.load(self.path.as_deref())?;
        let secrets = &context.terminal.secrets;
        let filter = (context.terminal.environment)(logging::filter_variable());
        logging::begin(filter, loaded.config.log_file.as_deref(), secrets)?;
        let mut signals = Signals::new()?;
        have_files();
        let daemon = Daemon::start(loaded.clone()).await?;
        introduce(context, &loaded, &daemon)?;
        let mut progress = Progress::default();
        let mut ticks = tokio::time::interval(PROGRESS);
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break,
                    Asked::Reload => reload(&daemon).await,
                },
                _ = ticks.tick() => progress.tell(context, &daemon.status().await)?,
            }
        }
        tracing::info!(target: logging::TOLD, "stopping");
        if context.terminal.interactive {
            let within = loaded.config.stop_within;
            context.terminal.line(format!("finishing what is in flight, within {within} (once more: at once)"))?;
        }
        tokio::select! {
            stopped = daemon.stop() => stopped?,
            () = impatient(async || signals.next().await) => return Err(Failure::Failed("ended at once, as asked".to_owned())),
        }
        tracing::info!(target: logging::TOLD, "stopped");
        if context.terminal.interactive {
            context.terminal.line("stopped")?;
        }
        Ok(())
    }
}

/// What the operating system tells a daemon.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Waits until somebody who has asked for a stop asks once more.
async fn impatient(mut next: impl AsyncFnMut() -> Asked) {
    let echoes = async {
        loop {
            next().await;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(ECHO, echoes).await;
    while let Asked::Reload = next().await {}
}

async fn reload(daemon: &Daemon) {
    match daemon.reload().await {
        Ok(told) if told.is_empty() => tracing::info!("configuration read again: nothing has changed"),
        Ok(told) => told.iter().for_each(|change| tracing::info!(change, "configuration read again")),
        Err(NotReloaded::Refused(cause)) => {
            tracing::error!(%cause, "the new configuration is refused, the old one keeps running");
        }
        Err(NotReloaded::Problems(problems)) => {
            for problem in problems.iter().map(ToString::to_string) {
                let problem = problem.lines().next().unwrap_or_default();
                tracing::error!(problem, "the new configuration is wrong, the old one keeps running");
            }
        }
    }
}

/// Says what runs, where things are and what to try next.
fn introduce(context: &mut Context, loaded: &Loaded, daemon: &Daemon) -> Result<(), Failure> {
    let recovery = daemon.log().recovery();
    let (millis, url) = (recovery.millis, format!("http://{}", daemon.address()));
    let kafka = daemon.broker().map(|broker| broker.address());
    tracing::info!(target: logging::TOLD, config = %loaded.path.display(), log = %loaded.config.log.path.display(), url, kafka, millis, "running");
    if !context.terminal.interactive {
        return Ok(());
    }
    let found = match (recovery.clean, recovery.cut.len(), recovery.missing.len()) {
        (true, ..) => format!("opened in {millis} ms"),
        (false, 0, 0) => format!("recovered in {millis} ms, nothing was torn"),
        (false, cut, missing) => format!("recovered in {millis} ms, {cut} torn tails cut, {missing} segments missing"),
    };
    let mut lines = vec![
        format!("aqueduct {} runs {}", env!("CARGO_PKG_VERSION"), loaded.path.display()),
        format!("  log     {} ({found})", loaded.config.log.path.display()),
    ];
    for (name, plan) in &loaded.plan.sources {
        lines.push(format!("  source  {name} ({}) into topic {}", plan.connector, plan.topic));
    }
    for (name, plan) in &loaded.plan.sinks {
        let destination = destination(loaded, name).map(|place| format!(", to {place}")).unwrap_or_default();
        lines.push(format!("  sink    {name} ({}) from {}{destination}", plan.connector, plan.topics.join(", ")));
    }
    lines.push(format!("  http    {url}"));
    lines.extend(kafka.map(|address| format!("  kafka   {address}")));
    let (program, mut options) = (&context.program, String::new());
    if daemon.address().port() != 8083 {
        options = format!(" --url {url}");
    }
    lines.push(String::new());
    lines.push("In another terminal, try:".to_owned());
    lines.push(format!("  {program} status{options}"));
    if let Some(plan) = loaded.plan.sources.values().next() {
        lines.push(format!("  {program} tail {} -f{options}", plan.topic));
    }
    lines.push("Ctrl-C stops; what was read and written is remembered.".to_owned());
    lines.push(String::new());
    lines.iter().try_for_each(|line| context.terminal.line(line))?;
    context.terminal.flush()
}

/// Where a sink writes, where its connector can tell.
fn destination(loaded: &Loaded, name: &str) -> Option<String> {
    let plan = loaded.plan.sinks.get(name)?;
    let registry = registry();
    let connector = registry.sinks.get(plan.connector.as_str())?;
    let settings = loaded.references.resolve(&plan.settings).ok()?;
    let (folder, scratch, edge) = (loaded.plan.folder.clone(), loaded.scratch(), Edge::real());
    let destination = connector.destination(settings, &SinkOpening { name: name.to_owned(), folder, scratch, edge });
    // What follows the place is about the names in it.
    destination.ok()??.split_whitespace().next().map(str::to_owned)
}

/// What was told before.
#[derive(Default)]
struct Progress {
    told: Vec<(String, u64)>,
}

impl Progress {
    /// Tells how many records came in and went out, where that has changed.
    fn tell(&mut self, context: &mut Context, status: &Status) -> Result<(), Failure> {
        let now: Vec<_> = status.connectors.iter().map(|it| (it.name.clone(), it.records)).collect();
        if now == self.told || now.iter().all(|(_, records)| *records == 0) {
            return Ok(());
        }
        self.told = now;
        let mut parts = Vec::new();
        for connector in &status.connectors {
            let (name, records) = (&connector.name, count(connector.records));
            let behind: u64 = connector.partitions.iter().map(|partition| partition.lag).sum();
            parts.push(match connector.kind {
                Kind::Source => format!("{name}: {records} in"),
                Kind::Sink => format!("{name}: {records} out, {} behind", count(behind)),
            });
            tracing::info!(target: logging::TOLD, connector = name, records = connector.records, bytes = connector.bytes, behind, "progress");
        }
        if context.terminal.interactive {
            context.terminal.line(parts.join("   "))?;
            context.terminal.flush()?;
        }
        Ok(())
    }
}

/// Lets the process have as many files and connections as it may ask for: shells give it 1,024.
fn have_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%cause, ?limit, "the limit of open files can not be raised");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_is_impatience_only_a_second_later() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut waiting = std::pin::pin!(impatient(async || told.recv().await.unwrap_or(Asked::Stop)));
        let mut ended = async || tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_ok();
        assert!(!ended().await);
        for (after, asked) in [(0, Asked::Stop), (900, Asked::Stop), (200, Asked::Reload), (5000, Asked::Reload)] {
            tokio::time::advance(Duration::from_millis(after)).await;
            tell.send(asked).unwrap();
            assert!(!ended().await, "after {after} ms more");
        }
        tell.send(Asked::Stop).unwrap();
        assert!(ended().await);
    }
}
