//! `aqueduct topics`: what the log holds.

use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::watch::{Before, Watch};
use crate::cli::{Context, number, text};
use crate::client::path;
use crate::terminal::Failure;

/// List, show, make, change or delete topics.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct topics list --watch
  aqueduct topics create orders --partitions 4 --set retention.ms=30d --set compression.type=zstd
  aqueduct topics alter orders --set retention.bytes='10 GiB' --dry-run
  aqueduct topics delete orders --dry-run")]
pub(super) struct Topics {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// All topics
    List {
        /// Those of the runtime too
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// One topic: its settings, and where its partitions begin and end
    Show {
        /// Its name
        topic: String,
        #[command(flatten)]
        watch: Watch,
    },
    /// Make a topic
    Create {
        /// Its name
        topic: String,
        /// How many partitions
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        #[command(flatten)]
        change: Change,
    },
    /// Change a topic's settings, or give it more partitions
    Alter {
        /// Its name
        topic: String,
        /// How many partitions; never fewer than there are
        #[arg(long)]
        partitions: Option<i32>,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a topic and its records
    Delete {
        /// Its name
        topic: String,
        /// Also when somebody still needs its records
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
struct Change {
    /// A setting under Kafka's name: retention.ms=7d; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Change {
    fn settings(&self) -> Result<Map<String, Value>, Failure> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), Value::from(value.trim()))),
            None => Err(Failure::Usage(format!("--set {text}: expected NAME=VALUE"))),
        };
        self.settings.iter().map(pair).collect()
    }
}

impl Topics {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.action {
            Action::List { internal, watch } => {
                let at = path(&["topics"], &[("internal", internal.to_string())]);
                watch.data(context, "topics list", &at, list).await
            }
            Action::Show { topic, watch } => {
                watch.data(context, "topics show", &path(&["topics", &topic], &[]), show).await
            }
            Action::Create { topic, partitions, change } => {
                let body = json!({
                    "name": topic, "partitions": partitions, "settings": change.settings()?, "dry_run": change.dry_run,
                });
                let made = context.ask("topics create", Method::POST, "/topics", Some(body)).await?;
                done(context, &made, change.dry_run, "made")
            }
            Action::Alter { topic, partitions, change } => {
                let settings = change.settings()?;
                let body = json!({ "partitions": partitions, "settings": settings, "dry_run": change.dry_run });
                let at = path(&["topics", &topic], &[]);
                let changed = context.ask("topics alter", Method::PATCH, &at, Some(body)).await?;
                done(context, &changed, change.dry_run, "changed")
            }
            Action::Delete { topic, force, yes, dry_run } => {
                let query = |dry_run: bool| [("force", force.to_string()), ("dry_run", dry_run.to_string())];
                let at = path(&["topics", &topic], &query(true));
                let doomed = context.ask("topics delete", Method::DELETE, &at, None).await?;
                if !dry_run {
                    let records = number(&doomed, "records");
                    context.terminal.confirm(&format!("delete topic {topic} with {records} records"), yes)?;
                    let at = path(&["topics", &topic], &query(false));
                    context.ask("topics delete", Method::DELETE, &at, None).await?;
                }
                done(context, &doomed, dry_run, "deleted")
            }
        }
    }
}

fn list(context: &mut Context, answer: &Value, before: Option<&Before>) -> Result<(), Failure> {
    let row = |topic: &Value| {
        let partitions = topic["partitions"].as_array().map_or(0, Vec::len);
        let keep = match text(&topic["settings"], "cleanup.policy").as_str() {
            "compact" => "last of each key".to_owned(),
            _ => text(&topic["settings"], "retention.ms"),
        };
        let kind = if topic["dead_letters"] == true { "dead letters" } else { "" };
        let rate = Before::rate(before, Some(written(topic)), |then| {
            then["topics"].as_array()?.iter().find(|then| then["id"] == topic["id"]).map(written)
        });
        vec![text(topic, "name"), partitions.to_string(), number(topic, "records"), rate, keep, kind.to_owned()]
    };
    let rows: Vec<_> = answer["topics"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["TOPIC", "PARTITIONS", "RECORDS", "RATE/S", "KEPT", ""], &rows)
}

/// How many records a topic was ever given.
fn written(topic: &Value) -> u64 {
    topic["partitions"].as_array().into_iter().flatten().filter_map(|partition| partition["end"].as_u64()).sum()
}

fn show(context: &mut Context, topic: &Value, before: Option<&Before>) -> Result<(), Failure> {
    context.terminal.line(format!("{}  id {}", text(topic, "name"), text(topic, "id")))?;
    for (name, value) in topic["settings"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        context.terminal.line(format!("  {name}: {value}"))?;
    }
    let row = |partition: &Value| {
        let rate = Before::rate(before, partition["end"].as_u64(), |then| {
            let mut partitions = then["partitions"].as_array()?.iter();
            partitions.find(|then| then["partition"] == partition["partition"])?["end"].as_u64()
        });
        let numbers = ["partition", "start", "end", "leader_epoch"].map(|key| number(partition, key));
        numbers.into_iter().chain([rate]).collect()
    };
    let rows: Vec<_> = topic["partitions"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["PARTITION", "START", "END", "EPOCH", "RATE/S"], &rows)
}

fn done(context: &mut Context, topic: &Value, dry_run: bool, what: &str) -> Result<(), Failure> {
    if context.common.json {
        return context.terminal.json(topic);
    }
    let would = if dry_run { "would be " } else { "" };
    context.terminal.line(format!("topic {} {would}{what}", text(topic, "name")))
}
