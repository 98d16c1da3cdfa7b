//! `aqueduct topics` and `aqueduct groups`: what the log holds, and who has read how far.

use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{Context, number, text};
use crate::client::path;
use crate::terminal::Failure;

/// List, show, make, change or delete topics.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct topics list
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
    },
    /// One topic: its settings, and where its partitions begin and end
    Show {
        /// Its name
        topic: String,
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
            Action::List { internal } => list(context, internal).await,
            Action::Show { topic } => {
                let shown = context.ask("topics show", Method::GET, &path(&["topics", &topic], &[]), None).await?;
                show(context, &shown)
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

async fn list(context: &mut Context, internal: bool) -> Result<(), Failure> {
    let mut answer = context.ask("topics list", Method::GET, "/topics", None).await?;
    if let Some(topics) = answer["topics"].as_array_mut() {
        topics.retain(|topic| internal || topic["internal"] != true);
    }
    if context.common.json {
        return context.terminal.json(&answer);
    }
    let row = |topic: &Value| {
        let partitions = topic["partitions"].as_array().map_or(0, Vec::len);
        let keep = match text(&topic["settings"], "cleanup.policy").as_str() {
            "compact" => "last of each key".to_owned(),
            _ => text(&topic["settings"], "retention.ms"),
        };
        let kind = if topic["dead_letters"] == true { "dead letters" } else { "" };
        vec![text(topic, "name"), partitions.to_string(), number(topic, "records"), keep, kind.to_owned()]
    };
    let rows: Vec<_> = answer["topics"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["TOPIC", "PARTITIONS", "RECORDS", "KEPT", ""], &rows)
}

fn show(context: &mut Context, topic: &Value) -> Result<(), Failure> {
    if context.common.json {
        return context.terminal.json(topic);
    }
    context.terminal.line(format!("{}  id {}", text(topic, "name"), text(topic, "id")))?;
    for (name, value) in topic["settings"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        context.terminal.line(format!("  {name}: {value}"))?;
    }
    let row =
        |partition: &Value| ["partition", "start", "end", "leader_epoch"].map(|key| number(partition, key)).to_vec();
    let rows: Vec<_> = topic["partitions"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["PARTITION", "START", "END", "EPOCH"], &rows)
}

fn done(context: &mut Context, topic: &Value, dry_run: bool, what: &str) -> Result<(), Failure> {
    if context.common.json {
        return context.terminal.json(topic);
    }
    let would = if dry_run { "would be " } else { "" };
    context.terminal.line(format!("topic {} {would}{what}", text(topic, "name")))
}

/// List groups of readers, or show how far one has come.
#[derive(Args)]
#[command(after_help = "Example:\n  aqueduct groups show connect-lake")]
pub(super) struct Groups {
    #[command(subcommand)]
    action: GroupAction,
}

#[derive(Subcommand)]
enum GroupAction {
    /// All groups
    List,
    /// One group, partition by partition
    Show {
        /// Its name: a sink's is connect-NAME
        group: String,
    },
}

impl Groups {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (at, headings): (_, &[&str]) = match &self.action {
            GroupAction::List => ("/groups".to_owned(), &["GROUP", "PARTITIONS", "LAG"]),
            GroupAction::Show { group } => {
                (path(&["groups", group], &[]), &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"])
            }
        };
        let answer = context.ask("groups", Method::GET, &at, None).await?;
        if context.common.json {
            return context.terminal.json(&answer);
        }
        let rows: Vec<Vec<String>> = match self.action {
            GroupAction::List => answer["groups"].as_array().into_iter().flatten().map(group_row).collect(),
            GroupAction::Show { .. } => answer["partitions"].as_array().into_iter().flatten().map(place_row).collect(),
        };
        context.terminal.table(headings, &rows)
    }
}

fn group_row(group: &Value) -> Vec<String> {
    let partitions = group["partitions"].as_array().map_or(0, Vec::len);
    vec![text(group, "name"), partitions.to_string(), number(group, "lag")]
}

fn place_row(place: &Value) -> Vec<String> {
    let numbers = ["partition", "committed", "end", "lag"].map(|key| number(place, key));
    [text(place, "topic")].into_iter().chain(numbers).collect()
}
