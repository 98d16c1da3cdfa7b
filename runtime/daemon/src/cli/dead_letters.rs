//! `aqueduct dead-letters`: what was set aside, and what is done with it.

use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::records::{Reader, bytes, harmless, print};
use crate::cli::{Context, number, plural, text, time};
use crate::client::{Client, path};
use crate::terminal::{Failure, Terminal};

/// How many characters of a dead letter's value are shown.
const LONGEST_SHOWN: usize = 200;

/// How many reasons of each topic `list` shows.
const MOST_REASONS: usize = 10;

/// List what was set aside, show it with the reasons, replay or discard it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct dead-letters list
  aqueduct dead-letters show lake -n 20
  aqueduct dead-letters replay lake --reason 'not JSON' --dry-run
  aqueduct dead-letters discard lake --reason 'not JSON'")]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Every topic of dead letters, with the reasons of those that are open
    List,
    /// The reasons and the last dead letters of a source, a sink, or a topic
    Show {
        /// A source's or sink's name, or the topic's
        name: String,
        /// How many
        #[arg(short = 'n', value_name = "N", default_value_t = 10)]
        count: usize,
    },
    /// Put open letters back where their records were, once each: the sink that set one aside gets it again, no other
    #[command(after_help = REPLAY)]
    Replay {
        #[command(flatten)]
        which: Which,
        /// Another topic to put them into, for all of its sinks
        #[arg(long, value_name = "TOPIC")]
        to: Option<String>,
    },
    /// Settle open letters without replaying them; they stay readable
    Discard {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

const REPLAY: &str = "\
A letter is appended at the end of its topic with what its record had, and a header `aqueduct.replayed` that says where the
record was. It is appended once, also when this is interrupted: run it again. What a source set aside was never in the
topic: it goes to everybody, as the source read it, without the source's transforms.";

#[derive(Args)]
struct Which {
    /// A source's or sink's name, or the topic's
    name: String,
    /// Only letters whose reason has this in it, as `list` or `show` tells it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl DeadLetters {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = context.client("dead-letters", false).await?;
        let done = match self.action {
            Action::List => list(context, &client).await,
            Action::Show { name, count } => show(context, &client, &name, count).await,
            Action::Replay { which, to } => replay(context, &client, &which, to).await,
            Action::Discard { which, yes } => discard(context, &client, &which, yes).await,
        };
        client.close().await?;
        done
    }
}

async fn list(context: &mut Context, client: &Client) -> Result<(), Failure> {
    let answer = client.call(Method::GET, "/dead-letters", None).await?;
    if context.common.json {
        return context.terminal.json(&answer);
    }
    let topics: Vec<&Value> = answer["dead_letters"].as_array().into_iter().flatten().collect();
    let row = |topic: &&Value| vec![text(topic, "topic"), number(topic, "open"), number(topic, "records")];
    let rows: Vec<_> = topics.iter().map(row).collect();
    context.terminal.table(&["TOPIC", "OPEN", "RECORDS"], &rows)?;
    topics.iter().filter(|topic| topic["open"] != 0).try_for_each(|topic| {
        context.terminal.line(format!("\n{}", text(topic, "topic")))?;
        reasons(&mut context.terminal, topic)
    })
}

fn reasons(terminal: &mut Terminal, topic: &Value) -> Result<(), Failure> {
    let all: Vec<&Value> = topic["reasons"].as_array().into_iter().flatten().collect();
    let row = |reason: &&Value| {
        let told = harmless(&text(reason, "reason"));
        vec![number(reason, "open"), text(reason, "stage"), text(reason, "from"), told]
    };
    let rows: Vec<_> = all.iter().take(MOST_REASONS).map(row).collect();
    terminal.table(&["OPEN", "STAGE", "FROM", "REASON"], &rows)?;
    match all.len().saturating_sub(MOST_REASONS) {
        0 => Ok(()),
        more => terminal.line(format!("and {} more: --json tells all", plural(more, "reason"))),
    }
}

async fn show(context: &mut Context, client: &Client, name: &str, count: usize) -> Result<(), Failure> {
    let topic = client.call(Method::GET, &path(&["dead-letters", name], &[]), None).await?;
    let records = Reader::new(&text(&topic, "topic"), None).last(client, count).await?;
    if context.common.json {
        return records.iter().try_for_each(|record| print(context, record));
    }
    context.terminal.line(format!("{} of {} are open", number(&topic, "open"), number(&topic, "records")))?;
    if topic["open"] != 0 {
        reasons(&mut context.terminal, &topic)?;
    }
    records.iter().try_for_each(|record| dead_letter(&mut context.terminal, record))
}

/// One dead letter: where it came from, why, and what it holds.
fn dead_letter(terminal: &mut Terminal, record: &Value) -> Result<(), Failure> {
    let header = |name: &str| {
        let headers = record["headers"].as_array().into_iter().flatten();
        // A letter of a letter has two of each: its own come last.
        let found = headers.rev().find(|header| header[0] == format!("__connect.errors.{name}"));
        found.map(|header| String::from_utf8_lossy(&bytes(&header[1])).into_owned())
    };
    let from = match (header("topic"), header("partition"), header("offset")) {
        (Some(topic), Some(partition), Some(offset)) => format!(" from {topic}-{partition} at {offset}"),
        _ => String::new(),
    };
    let at = time(record["timestamp"].as_i64());
    terminal.line(format!("{}  {at}{from}", number(record, "offset")))?;
    if let Some(reason) = header("exception.message") {
        terminal.line(format!("  {reason}"))?;
    }
    match record["value"].is_null() {
        // What was too long to be read is told by the reason.
        true => Ok(()),
        false => terminal.line(format!("  {}", shown(&String::from_utf8_lossy(&bytes(&record["value"]))))),
    }
}

async fn replay(context: &mut Context, client: &Client, which: &Which, to: Option<String>) -> Result<(), Failure> {
    let body = json!({ "reason": which.reason, "to": to, "dry_run": which.dry_run });
    let answer = client.call(Method::POST, &path(&["dead-letters", &which.name, "replay"], &[]), Some(&body)).await?;
    if context.common.json {
        return context.terminal.json(&answer);
    }
    let would = if which.dry_run { "would be " } else { "" };
    for (topic, letters) in answer["to"].as_object().into_iter().flatten() {
        context.terminal.line(format!("{} {would}replayed to {topic}", counted(letters)))?;
    }
    for (reason, letters) in answer["left"].as_object().into_iter().flatten() {
        context.terminal.line(format!("{} left open: {reason}", counted(letters)))?;
    }
    match answer["letters"] == 0 {
        true => context.terminal.line("nothing to replay"),
        false => Ok(()),
    }
}

async fn discard(context: &mut Context, client: &Client, which: &Which, yes: bool) -> Result<(), Failure> {
    let at = path(&["dead-letters", &which.name, "discard"], &[]);
    let body = |dry_run: bool| json!({ "reason": which.reason, "dry_run": dry_run });
    let mut answer = client.call(Method::POST, &at, Some(&body(true))).await?;
    if !which.dry_run && answer["letters"] != 0 {
        let what = format!("discard {} of {}", counted(&answer["letters"]), text(&answer, "topic"));
        context.terminal.confirm(&what, yes)?;
        answer = client.call(Method::POST, &at, Some(&body(false))).await?;
    }
    if context.common.json {
        return context.terminal.json(&answer);
    }
    let would = if which.dry_run { "would be " } else { "" };
    context.terminal.line(format!("{} {would}discarded", counted(&answer["letters"])))
}

fn counted(letters: &Value) -> String {
    plural(letters.as_u64().and_then(|letters| usize::try_from(letters).ok()).unwrap_or_default(), "letter")
}

/// The beginning of a value on one line that does nothing to a terminal.
fn shown(value: &str) -> String {
    match value.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => harmless(&value[..end]) + " …",
        None => harmless(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_as_it_is_but_for_what_steers_terminals() {
        assert_eq!(shown(r#"{"user":"it's \ é"}"#), r#"{"user":"it's \ é"}"#);
        assert_eq!(shown("a\tb\nc\u{1b}[2Jd\0"), r"a\tb\nc\u{1b}[2Jd\0");
        assert_eq!(shown(&"x".repeat(200)), "x".repeat(200));
        assert_eq!(shown(&"é".repeat(201)), "é".repeat(200) + " …");
    }
}
