//! `aqueduct check`: what is wrong with a configuration, as far as it can be told before running it.

use std::path::PathBuf;

use aqueduct_api::{ByteSize, Edge, Registry, SinkOpening, SourceOpening};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{Context, plural};
use crate::load::Loaded;
use crate::terminal::Failure;

/// Say what is wrong with a configuration before running it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct check                       ./aqueduct.yaml, with credentials and permissions tried
  aqueduct check --offline configs/    a folder of files, without a look at the network")]
pub(super) struct Check {
    /// A file, or a folder of *.yaml files [default: aqueduct.yaml]
    #[arg(value_name = "CONFIG")]
    path: Option<PathBuf>,
    /// Stop short of the network and of other people's folders
    #[arg(long)]
    offline: bool,
}

/// What trying a connector told.
struct Tried {
    name: String,
    outcome: Result<Vec<String>, String>,
}

impl Check {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let loaded = match context.load(self.path.as_deref()) {
            // They are what was asked for: with --json, they are the result.
            Err(Failure::Problems(problems)) if context.common.json => {
                context.terminal.json(&json!({ "problems": problems, "connectors": [] }))?;
                return Err(Failure::Usage(plural(problems.len(), "problem")));
            }
            loaded => loaded?,
        };
        let tried = match self.offline {
            true => Vec::new(),
            false => try_all(&loaded).await,
        };
        let failed = tried.iter().filter(|tried| tried.outcome.is_err()).count();
        match context.common.json {
            true => context.terminal.json(&report(&loaded, &tried))?,
            false => print(context, &tried)?,
        }
        if failed > 0 {
            return Err(Failure::Failed(format!("{} would not work", plural(failed, "connector"))));
        }
        match context.common.json {
            true => Ok(()),
            false => {
                let sources = plural(loaded.plan.sources.len(), "source");
                let sinks = plural(loaded.plan.sinks.len(), "sink");
                context.terminal.line(format!("{}: nothing wrong ({sources}, {sinks})", loaded.path.display()))
            }
        }
    }
}

async fn try_all(loaded: &Loaded) -> Vec<Tried> {
    let registry = crate::connectors::registry();
    let edge = Edge::real();
    let mut tried = Vec::new();
    for name in loaded.plan.sources.keys().chain(loaded.plan.sinks.keys()) {
        let outcome = try_one(loaded, &registry, &edge, name).await.map_err(|error| error.to_string());
        tried.push(Tried { name: name.clone(), outcome });
    }
    tried
}

async fn try_one(loaded: &Loaded, registry: &Registry, edge: &Edge, name: &str) -> aqueduct_api::Result<Vec<String>> {
    let (name, folder, edge) = (name.to_owned(), loaded.plan.folder.clone(), edge.clone());
    if let Some(plan) = loaded.plan.sources.get(&name) {
        let Some(connector) = registry.sources.get(plan.connector.as_str()) else { return Ok(Vec::new()) };
        let (batch, largest) = (ByteSize::mib(1), ByteSize::mib(17));
        let opening = SourceOpening { name, folder, edge, positions: Vec::new(), batch, largest };
        return connector.probe(loaded.references.resolve(&plan.settings)?, opening).await;
    }
    let Some(plan) = loaded.plan.sinks.get(&name) else { return Ok(Vec::new()) };
    let Some(connector) = registry.sinks.get(plan.connector.as_str()) else { return Ok(Vec::new()) };
    let opening = SinkOpening { name, folder, scratch: loaded.scratch(), edge };
    connector.probe(loaded.references.resolve(&plan.settings)?, opening).await
}

fn report(loaded: &Loaded, tried: &[Tried]) -> Value {
    let connectors = tried.iter().map(|tried| match &tried.outcome {
        Ok(told) => json!({ "name": tried.name, "works": true, "told": told }),
        Err(error) => json!({ "name": tried.name, "works": false, "error": error }),
    });
    json!({ "config": loaded.path, "problems": [], "connectors": connectors.collect::<Vec<_>>() })
}

fn print(context: &mut Context, tried: &[Tried]) -> Result<(), Failure> {
    for Tried { name, outcome } in tried {
        match outcome {
            Ok(told) if told.is_empty() => context.terminal.line(format!("{name}: works"))?,
            Ok(told) => context.terminal.line(format!("{name}: works, {}", told.join(", ")))?,
            Err(error) => context.terminal.line(format!("{name}: would not work: {error}"))?,
        }
    }
    Ok(())
}
