//! One declared connector: what it holds of the log, and the orders that people give it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Error, Result, TopicPartition};
use aqueduct_record::Offset;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::counters::Counters;
use crate::deliver::group;
use crate::glob::Selection;
use crate::holds::Holds;
use crate::host::Host;
use crate::pin::Pin;
use crate::positions;
use crate::supervisor::supervision::Supervisor;
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
    pub(crate) host: Arc<Host>,
    pub(crate) folder: PathBuf,
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

/// What people ask of a connector.
pub(crate) enum Command {
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
        let at = |error: Error| error.context(format!("{kind} {name}"));
        connector.hold().await.map_err(at)?;
        connector.note().await.map_err(at)?;
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

    pub(crate) fn target(&self) -> Target {
        #[derive(Deserialize)]
        struct Kept {
            state: Target,
        }
        let kept = self.host.settings.get(&target_key(&self.name));
        kept.and_then(|text| serde_json::from_str(&text).ok()).map_or(Target::Started, |kept: Kept| kept.state)
    }

    /// Takes the holds that are missing: what a source still has to scan, what a sink still has to deliver.
    pub(crate) async fn hold(&self) -> Result<()> {
        match &self.declared {
            Declared::Source(_) => self.hold_scan_marks().await,
            Declared::Sink(plan) => self.hold_undelivered(plan).await,
        }
    }

    async fn hold_scan_marks(&self) -> Result<()> {
        let topics = self.holds.forget_gone().await?;
        for (of, offset) in positions::scan_marks(&self.host.positions, &self.name) {
            if topics.iter().any(|topic| topic.name == of.topic && of.partition < topic.partitions) {
                self.holds.take(&of, offset).await?;
            }
        }
        Ok(())
    }

    async fn hold_undelivered(&self, plan: &SinkPlan) -> Result<()> {
        let selection = Selection::new(&plan.topics).map_err(|(_, told)| Error::refused(told))?;
        let topics = self.holds.forget_gone().await?;
        let selected = topics.iter().filter(|topic| selection.matches(topic));
        let all = selected.flat_map(|topic| topic.all_partitions().map(|of| (topic.id, of)));
        let new: Vec<_> = all.filter(|(_, of)| !self.holds.has(of)).collect();
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

    /// Notes what became of topics, also while it does not run: the longer it takes to notice, the more records count as
    /// earlier. This may wait for syncs, which nothing that is to be held waits for.
    pub(crate) async fn note(&self) -> Result<()> {
        let Declared::Sink(plan) = &self.declared else { return Ok(()) };
        let selection = Selection::new(&plan.topics).map_err(|(_, told)| Error::refused(told))?;
        let mut topics = self.host.store.topics().await?;
        topics.retain(|topic| selection.matches(topic));
        self.host.note_incarnations(&topics).await
    }

    pub(crate) fn retry_plan(&self) -> &RetryPlan {
        match &self.declared {
            Declared::Source(plan) => &plan.retry,
            Declared::Sink(plan) => &plan.retry,
        }
    }
}

fn target_key(name: &str) -> String {
    format!("target-state-{name}")
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
        tokio::spawn(Supervisor::new(self.connector).supervise(self.orders));
        connector
    }
}
