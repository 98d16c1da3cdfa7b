//! Commands that concern a running daemon: its status, and what can be done to its sources and sinks.

use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::watch::{Before, Watch};
use crate::cli::{Context, bytes, count, number, text, time};
use crate::client::{Client, path};
use crate::terminal::Failure;

/// Show the state, position, lag and last error of every source and sink.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  aqueduct status\n  aqueduct status --watch\n  aqueduct status --json | jq .connectors"
)]
pub(super) struct Status {
    #[command(flatten)]
    watch: Watch,
}

impl Status {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = context.daemon()?;
        self.watch.run(context, &client, "/status", show).await
    }
}

/// The whole status; rates where there is one from before.
fn show(context: &mut Context, status: &Value, before: Option<&Before>) -> Result<(), Failure> {
    let connectors = status["connectors"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<String>> = connectors.iter().map(|connector| row(connector, status, before)).collect();
    let headings = ["NAME", "KIND", "STATE", "RECORDS", "RATE/S", "LAG", "DEAD LETTERS", "RETRIES", "LAST PROGRESS"];
    context.terminal.table(&headings, &rows)?;
    for connector in connectors {
        remarks(context, connector)?;
    }
    let usage = &status["log"]["usage"];
    let size = bytes(usage["bytes"].as_u64().unwrap_or_default());
    context.terminal.line(format!("\nlog {}: {size}", text(&status["log"], "path")))?;
    let recovery = &status["log"]["recovery"];
    if recovery["clean"] == false {
        let found = |key: &str| recovery[key].as_array().map_or(0, Vec::len);
        let (cut, missing) = (found("cut"), found("missing"));
        context.terminal.line(format!("log was recovered: {cut} torn tails cut, {missing} segments missing"))?;
    }
    if let Some(full) = usage["full"].as_str() {
        context.terminal.line(format!("log is full: {full}"))?;
    }
    if let Some(dropped) = usage["dropped_offsets"].as_u64().filter(|dropped| *dropped > 0) {
        context.terminal.line(format!("log dropped {} records to make room", count(dropped)))?;
    }
    for partition in usage["partitions"].as_array().into_iter().flatten() {
        for damaged in partition["damaged"].as_array().into_iter().flatten() {
            let place = format!("{}-{}", text(partition, "topic"), number(partition, "partition"));
            let (from, to) = (number(damaged, "from"), number(damaged, "to"));
            context.terminal.line(format!("log is damaged: {place}, offsets {from} to {to} can not be read"))?;
        }
    }
    Ok(())
}

fn row(connector: &Value, status: &Value, before: Option<&Before>) -> Vec<String> {
    let numeric = |key: &str| connector[key].as_u64().unwrap_or_default();
    let is_sink = connector["kind"] == "sink";
    let lags = connector["partitions"].as_array().into_iter().flatten();
    let lag: u64 = lags.filter_map(|partition| partition["lag"].as_u64()).sum();
    let progressed = connector["progressed_at_ms"].as_i64();
    let now = status["now_ms"].as_i64().unwrap_or_default();
    let ago = progressed.map_or_else(|| "-".to_owned(), |at| format!("{} s ago", (now - at).max(0) / 1000));
    let rate = Before::rate(before, connector["records"].as_u64(), |then| {
        let mut connectors = then["connectors"].as_array()?.iter();
        connectors.find(|then| then["name"] == connector["name"])?["records"].as_u64()
    });
    vec![
        text(connector, "name"),
        text(connector, "kind"),
        text(connector, "state"),
        count(numeric("records")),
        rate,
        if is_sink { count(lag) } else { "-".to_owned() },
        count(numeric("dead_letters")),
        count(numeric("retries")),
        ago,
    ]
}

/// What a table has no room for.
fn remarks(context: &mut Context, connector: &Value) -> Result<(), Failure> {
    let name = text(connector, "name");
    if let Some(reason) = connector["reason"].as_str() {
        context.terminal.line(format!("{name}: {reason}"))?;
    }
    let last_error = connector["last_error"]["message"].as_str();
    if let Some(message) = last_error.filter(|message| connector["reason"] != *message) {
        let at = time(connector["last_error"]["at_ms"].as_i64());
        context.terminal.line(format!("{name}: last error at {at}: {message}"))?;
    }
    if let Some(lost) = connector["lost"].as_u64().filter(|lost| *lost > 0) {
        context
            .terminal
            .line(format!("{name}: {} records could not be read any more and were skipped", count(lost)))?;
    }
    for partition in connector["partitions"].as_array().into_iter().flatten() {
        if let Some(stopped) = partition["stopped"].as_str() {
            let place = format!("{}-{}", text(partition, "topic"), number(partition, "partition"));
            context.terminal.line(format!("{name}: {place} has stopped: {stopped}"))?;
        }
    }
    Ok(())
}

/// One source or sink.
#[derive(Args)]
pub(super) struct Name {
    /// The source's or sink's name
    name: String,
}

impl Name {
    /// Does `action` to it.
    pub(super) async fn act(self, context: &mut Context, action: &str) -> Result<(), Failure> {
        let at = path(&["connectors", &self.name, action], &[]);
        let answer = context.daemon()?.call(Method::POST, &at, None).await?;
        match context.common.json {
            true => context.terminal.json(&answer),
            false => context.terminal.line(format!("{}: {}", self.name, text(&answer, "state"))),
        }
    }
}

/// Apply what has changed in the configuration.
pub(super) async fn reload(context: &mut Context) -> Result<(), Failure> {
    let answer = context.daemon()?.call(Method::POST, "/reload", None).await?;
    if context.common.json {
        return context.terminal.json(&answer);
    }
    let changes = answer["changes"].as_array().map_or(&[][..], Vec::as_slice);
    if changes.is_empty() {
        return context.terminal.line("nothing has changed");
    }
    changes.iter().filter_map(Value::as_str).try_for_each(|change| context.terminal.line(change))
}

/// List or show sources.
#[derive(Args)]
#[command(after_help = "Example:\n  aqueduct sources show nginx")]
pub(super) struct Sources {
    #[command(subcommand)]
    action: SourceAction,
}

#[derive(Subcommand)]
enum SourceAction {
    /// All sources
    List,
    /// One source, with everything that is known of it
    Show {
        /// Its name
        name: String,
    },
}

impl Sources {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = context.daemon()?;
        match self.action {
            SourceAction::List => list(context, &client, "source").await,
            SourceAction::Show { name } => show_one(context, &client, "source", &name).await,
        }
    }
}

/// List or show sinks, or move one on purpose.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct sinks show lake
  aqueduct sinks rewind lake --to 2026-11-20T08:00:00Z --dry-run
  aqueduct sinks unpin lake")]
pub(super) struct Sinks {
    #[command(subcommand)]
    action: SinkAction,
}

#[derive(Subcommand)]
enum SinkAction {
    /// All sinks
    List,
    /// One sink, partition by partition
    Show {
        /// Its name
        name: String,
    },
    /// Deliver again on purpose, under new names (run=N)
    Rewind {
        /// The sink
        name: String,
        /// One topic alone
        #[arg(long)]
        topic: Option<String>,
        /// Where to: beginning, end, an offset, or a time (2026-11-20T08:00:00Z)
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Give up the chunks that a sink has begun: what they had written may be written again
    Unpin {
        /// The sink
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

impl Sinks {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = context.daemon()?;
        match self.action {
            SinkAction::List => list(context, &client, "sink").await,
            SinkAction::Show { name } => show_one(context, &client, "sink", &name).await,
            SinkAction::Rewind { name, topic, to, yes, dry_run } => {
                let at = path(&["sinks", &name, "rewind"], &[]);
                let body = |dry_run: bool| json!({ "topic": topic, "to": to, "dry_run": dry_run });
                let mut answer = client.call(Method::POST, &at, Some(&body(true))).await?;
                if !dry_run {
                    context.terminal.confirm(&format!("deliver again with {name}, from {to} on"), yes)?;
                    answer = client.call(Method::POST, &at, Some(&body(false))).await?;
                }
                show_rewound(context, &answer, dry_run)
            }
            SinkAction::Unpin { name, yes, dry_run } => unpin(context, &client, &name, (yes, dry_run)).await,
        }
    }
}

async fn list(context: &mut Context, client: &Client, kind: &str) -> Result<(), Failure> {
    let mut status = client.call(Method::GET, "/status", None).await?;
    if let Some(connectors) = status["connectors"].as_array_mut() {
        connectors.retain(|connector| connector["kind"] == kind);
    }
    if context.common.json {
        return context.terminal.json(&json!({ "connectors": status["connectors"] }));
    }
    let connectors = status["connectors"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |connector: &Value| {
        let topics: Vec<&str> =
            connector["topics"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        vec![text(connector, "name"), text(connector, "connector"), text(connector, "state"), topics.join(", ")]
    };
    let rows: Vec<_> = connectors.iter().map(row).collect();
    context.terminal.table(&["NAME", "CONNECTOR", "STATE", "TOPICS"], &rows)
}

async fn show_one(context: &mut Context, client: &Client, kind: &str, name: &str) -> Result<(), Failure> {
    let status = client.call(Method::GET, "/status", None).await?;
    let found = find(&status, kind, name)?;
    if context.common.json {
        return context.terminal.json(found);
    }
    let keys = [
        "connector",
        "state",
        "records",
        "bytes",
        "dead_letters",
        "retries",
        "restarts",
        "lost",
        "in_flight_bytes",
        "streams",
    ];
    context.terminal.line(name)?;
    for key in keys {
        let value = &found[key];
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        context.terminal.line(format!("  {}: {shown}", key.replace('_', " ")))?;
    }
    remarks(context, found)?;
    if kind == "source" {
        return Ok(());
    }
    let row = |partition: &Value| {
        let pinned = partition["pinned"].as_array().map_or(0, Vec::len);
        let numbers = ["partition", "committed", "end", "lag"].map(|key| number(partition, key));
        [text(partition, "topic")].into_iter().chain(numbers).chain([pinned.to_string()]).collect()
    };
    let rows: Vec<Vec<String>> = found["partitions"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "PINNED"], &rows)
}

fn find<'a>(status: &'a Value, kind: &str, name: &str) -> Result<&'a Value, Failure> {
    let connectors = status["connectors"].as_array().map_or(&[][..], Vec::as_slice);
    let of_kind = || connectors.iter().filter(|connector| connector["kind"] == kind);
    of_kind().find(|connector| connector["name"] == name).ok_or_else(|| {
        let names: Vec<String> = of_kind().map(|connector| text(connector, "name")).collect();
        Failure::Failed(crate::diagnosis::unknown(kind, name, &names))
    })
}

fn show_rewound(context: &mut Context, answer: &Value, dry_run: bool) -> Result<(), Failure> {
    if context.common.json {
        return context.terminal.json(answer);
    }
    let row = |partition: &Value| {
        let numbers = ["partition", "from", "to", "run"].map(|key| number(partition, key));
        [text(partition, "topic")].into_iter().chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = answer["partitions"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["TOPIC", "PARTITION", "FROM", "TO", "RUN"], &rows)?;
    if dry_run {
        context.terminal.note("nothing was changed: this is what would be done");
    }
    Ok(())
}

async fn unpin(
    context: &mut Context,
    client: &Client,
    name: &str,
    (yes, dry_run): (bool, bool),
) -> Result<(), Failure> {
    let status = client.call(Method::GET, "/status", None).await?;
    let sink = find(&status, "sink", name)?;
    let pinned = sink["partitions"].as_array().into_iter().flatten();
    let pinned: usize = pinned.filter_map(|partition| partition["pinned"].as_array()).map(Vec::len).sum();
    if dry_run {
        return context.terminal.line(format!("{pinned} pinned chunks would be given up"));
    }
    if pinned == 0 && !context.common.json {
        return context.terminal.line(format!("{name} has no pinned chunks: nothing to give up"));
    }
    let question = format!("give up {pinned} chunks that {name} has begun, so that their records may be written twice");
    context.terminal.confirm(&question, yes)?;
    let answer = client.call(Method::POST, &path(&["sinks", name, "unpin"], &[]), None).await?;
    match context.common.json {
        true => context.terminal.json(&answer),
        false => context.terminal.line(format!("{pinned} pinned chunks were given up")),
    }
}
