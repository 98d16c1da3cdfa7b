//! `aqueduct transform test`: records before and after what a source or sink sends them through.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use aqueduct_api::{Draft, Edge, Transform, TransformOpening, Trial};
use aqueduct_engine::TransformPlan;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::records::{Reader, harmless};
use crate::cli::{Context, plural};
use crate::client::Client;
use crate::load::Loaded;
use crate::records::{Bytes, NewRecord};
use crate::terminal::{Failure, Terminal};

/// Try what a source or sink sends its records through.
#[derive(Args)]
pub(super) struct Transforms {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Test(Test),
}

impl Transforms {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.action {
            Action::Test(test) => test.run(context).await,
        }
    }
}

/// Show records before and after, without delivering, keeping or registering anything
#[derive(Args)]
#[command(allow_missing_positional = true)]
#[command(after_help = "\
Examples:
  aqueduct transform test nginx --input access.log              a record a line
  aqueduct transform test search --topic nginx -n 5             the first five of a topic
  aqueduct transform test other.yaml search --topic nginx       of another configuration than ./aqueduct.yaml
  aqueduct tail nginx --json | aqueduct transform test search --records

Exit codes: 0 done, 1 a record would become a dead letter, 2 wrong usage or configuration.")]
struct Test {
    /// A file, or a folder of *.yaml files [default: that of --config]
    #[arg(value_name = "CONFIG")]
    path: Option<PathBuf>,
    /// The source or sink
    name: String,
    /// Where records come from; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-", conflicts_with = "topic")]
    input: String,
    /// Lines are records as `tail --json` writes them, with key, headers and timestamp
    #[arg(long, conflicts_with = "topic")]
    records: bool,
    /// Records of a topic, from the running daemon or the data folder
    #[arg(long)]
    topic: Option<String>,
    /// Where in the topic to begin: beginning, an offset, a time (2026-11-20T08:00:00Z) or how long ago (15m)
    #[arg(long, value_name = "PLACE", default_value = "beginning", requires = "topic")]
    from: String,
    /// How many records at most [default: all, of a topic 10]
    #[arg(short = 'n', value_name = "N")]
    count: Option<usize>,
}

/// A record on its way in, as it was given.
struct Given {
    topic: Option<String>,
    offset: i64,
    partition: i32,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What is tried.
struct Tried {
    /// In order, with their names.
    transforms: Vec<(String, Box<dyn Transform>)>,
    /// The topic that records are of which say none.
    topic: String,
    source: bool,
    /// What they would change elsewhere.
    trial: Trial,
}

/// What became of a record.
enum Outcome<'a> {
    Made(Vec<Draft<'a>>),
    /// By which transform.
    Dropped(String),
    /// By which transform, and why.
    Rejected(String, String),
}

/// How many records went which way.
#[derive(Default)]
struct Counts {
    records: usize,
    made: usize,
    dropped: usize,
    rejected: usize,
}

impl Test {
    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let loaded = context.load(self.path.as_deref())?;
        let tried = tried(&loaded, &self.name)?;
        let mut counts = Counts::default();
        match &self.topic {
            Some(topic) => self.try_topic(context, &loaded, topic, &tried, &mut counts).await?,
            None => self.try_input(context, &tried, &mut counts).await?,
        }
        let Counts { records, made, dropped, rejected } = counts;
        if !context.common.json {
            let records = plural(records, "record");
            context.terminal.note(format!("{records}: {made} made, {dropped} left out, {rejected} rejected"));
        }
        match rejected {
            0 => Ok(()),
            rejected => Err(Failure::Failed(format!("{} would become dead letters", plural(rejected, "record")))),
        }
    }

    async fn try_topic(
        &self,
        context: &mut Context,
        loaded: &Loaded,
        topic: &str,
        tried: &Tried,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let url = context.common.url.clone();
        let client = match url {
            Some(url) => Client::daemon(&url)?,
            None => Client::of(loaded, &loaded.url(), "transform test", false).await?,
        };
        let mut reader = Reader::from_place(topic, &self.from);
        let mut left = self.count.unwrap_or(10);
        while left > 0 {
            let page = reader.page(&client, Some(left), false).await?;
            let records = page["records"].as_array().map_or(&[][..], Vec::as_slice);
            for record in records {
                let given = given(record.clone(), 0).map_err(Failure::Failed)?;
                try_one(&mut context.terminal, context.common.json, tried, &given, counts).await?;
            }
            left -= records.len().min(left);
            if records.is_empty() && page["at_end"] == true {
                break;
            }
        }
        client.close().await
    }

    async fn try_input(&self, context: &mut Context, tried: &Tried, counts: &mut Counts) -> Result<(), Failure> {
        let mut file = match self.input.as_str() {
            "-" => None,
            path => Some(BufReader::new(open(Path::new(path))?)),
        };
        let most = self.count.unwrap_or(usize::MAX);
        for number in 0..most {
            let mut line = Vec::new();
            let read = match &mut file {
                Some(file) => file.read_until(b'\n', &mut line)?,
                None => context.terminal.input.read_until(b'\n', &mut line)?,
            };
            if read == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let given = self.given(line, number)?;
            try_one(&mut context.terminal, context.common.json, tried, &given, counts).await?;
        }
        Ok(())
    }

    fn given(&self, line: Vec<u8>, number: usize) -> Result<Given, Failure> {
        let offset = i64::try_from(number).unwrap_or(i64::MAX);
        if !self.records {
            let (topic, key, headers) = (None, None, Vec::new());
            return Ok(Given { topic, offset, partition: 0, timestamp: -1, key, value: Some(line), headers });
        }
        let wrong = |cause: String| Failure::Usage(format!("{}, line {}: {cause}", self.input, number + 1));
        let record = serde_json::from_slice(&line).map_err(|cause: serde_json::Error| wrong(cause.to_string()))?;
        given(record, offset).map_err(wrong)
    }
}

#[expect(clippy::disallowed_types, reason = "what a person hands to a command is outside of what is ever replayed")]
fn open(path: &Path) -> Result<impl Read, Failure> {
    std::fs::File::open(path).map_err(|cause| Failure::Usage(format!("--input: {}: {cause}", path.display())))
}

/// A record as `tail --json` writes it.
fn given(mut record: Value, offset: i64) -> Result<Given, String> {
    let topic = record["topic"].as_str().map(str::to_owned);
    let offset = record["offset"].as_i64().unwrap_or(offset);
    if let Some(fields) = record.as_object_mut() {
        ["topic", "offset"].iter().for_each(|name| drop(fields.shift_remove(*name)));
    }
    let new: NewRecord = serde_json::from_value(record).map_err(|cause| cause.to_string())?;
    Ok(Given {
        topic,
        offset,
        partition: new.partition.unwrap_or(0),
        timestamp: new.timestamp.unwrap_or(-1),
        key: new.key.0,
        value: new.value.0,
        headers: new.headers.into_iter().map(|(name, value)| (name, value.0)).collect(),
    })
}

/// The transforms of the source or sink of that name.
fn tried(loaded: &Loaded, name: &str) -> Result<Tried, Failure> {
    let plan = &loaded.plan;
    let (plans, topic, source): (&[TransformPlan], &str, bool) = match (plan.sources.get(name), plan.sinks.get(name)) {
        (Some(source), _) => (&source.transforms[..], source.topic.as_str(), true),
        (_, Some(sink)) => (&sink.transforms[..], sink.topics.first().map_or("", String::as_str), false),
        _ => {
            let names: Vec<String> = plan.sources.keys().chain(plan.sinks.keys()).cloned().collect();
            return Err(Failure::Usage(crate::diagnosis::unknown("source or sink", name, &names)));
        }
    };
    let registry = crate::connectors::registry();
    let (mut transforms, trial) = (Vec::new(), Trial::default());
    for (index, plan) in plans.iter().enumerate() {
        let Some(kind) = registry.transforms.get(plan.transform.as_str()) else { continue };
        let opening =
            TransformOpening { folder: loaded.plan.folder.clone(), edge: Edge::real(), trial: Some(trial.clone()) };
        let transform = kind.open(loaded.references.resolve(&plan.settings)?, opening)?;
        transforms.push((format!("transforms[{index}].{}", plan.transform), transform));
    }
    Ok(Tried { transforms, topic: topic.to_owned(), source, trial })
}

async fn try_one(
    terminal: &mut Terminal,
    json: bool,
    tried: &Tried,
    given: &Given,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let before = draft(given, tried);
    let outcome = outcome(tried, before.clone()).await?;
    for told in tried.trial.told() {
        terminal.note(harmless(&told));
    }
    counts.records += 1;
    match &outcome {
        Outcome::Made(drafts) => counts.made += drafts.len(),
        Outcome::Dropped(_) => counts.dropped += 1,
        Outcome::Rejected(..) => counts.rejected += 1,
    }
    match json {
        true => terminal.data(format!("{}\n", outcome_json(&before, &outcome)).as_bytes()),
        false => print(terminal, &before, &outcome),
    }
}

fn draft<'a>(given: &'a Given, tried: &'a Tried) -> Draft<'a> {
    let headers = given.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_deref().map(Into::into)));
    Draft {
        topic: given.topic.as_deref().unwrap_or(&tried.topic).into(),
        partition: (!tried.source).then_some(given.partition),
        offset: given.offset,
        timestamp: given.timestamp,
        key: given.key.as_deref().map(Into::into),
        value: given.value.as_deref().map(Into::into),
        headers: headers.collect(),
    }
}

async fn outcome<'a>(tried: &Tried, draft: Draft<'a>) -> Result<Outcome<'a>, Failure> {
    let mut drafts = vec![draft];
    for (name, transform) in &tried.transforms {
        let done = transform.apply(drafts).await?;
        if let Some(unfit) = done.unfit.into_iter().next() {
            return Ok(Outcome::Rejected(name.clone(), unfit.reason));
        }
        if done.drafts.is_empty() {
            return Ok(Outcome::Dropped(name.clone()));
        }
        drafts = done.drafts;
    }
    Ok(Outcome::Made(drafts))
}

fn outcome_json(before: &Draft<'_>, outcome: &Outcome<'_>) -> Value {
    let before = draft_json(before);
    match outcome {
        Outcome::Made(drafts) => {
            json!({ "before": before, "after": drafts.iter().map(draft_json).collect::<Vec<_>>() })
        }
        Outcome::Dropped(by) => json!({ "before": before, "after": [], "left_out_by": by }),
        Outcome::Rejected(by, reason) => json!({ "before": before, "after": [], "rejected_by": by, "reason": reason }),
    }
}

fn draft_json(draft: &Draft<'_>) -> Value {
    let bytes = |bytes: Option<&[u8]>| json!(Bytes(bytes.map(<[u8]>::to_vec)));
    let headers = draft.headers.iter().map(|(name, value)| json!([name, bytes(value.as_deref())]));
    json!({
        "topic": draft.topic,
        "timestamp": draft.timestamp,
        "key": bytes(draft.key.as_deref()),
        "value": bytes(draft.value.as_deref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}

/// A record as a person compares it: what it holds on one line, and what else changed below.
fn print(terminal: &mut Terminal, before: &Draft<'_>, outcome: &Outcome<'_>) -> Result<(), Failure> {
    terminal.data(format!("- {}\n", value(before.value.as_deref())).as_bytes())?;
    let drafts = match outcome {
        Outcome::Made(drafts) => drafts,
        Outcome::Dropped(by) => return terminal.line(format!("  left out by {by}")),
        Outcome::Rejected(by, reason) => return terminal.line(format!("  rejected by {by}: {}", harmless(reason))),
    };
    for draft in drafts {
        terminal.data(format!("+ {}\n", value(draft.value.as_deref())).as_bytes())?;
        for (name, before, after) in [
            ("topic", before.topic.to_string(), draft.topic.to_string()),
            ("timestamp", before.timestamp.to_string(), draft.timestamp.to_string()),
            ("key", value(before.key.as_deref()), value(draft.key.as_deref())),
            ("headers", headers(before), headers(draft)),
        ] {
            if before != after {
                terminal.data(format!("    {name}: {before} → {after}\n").as_bytes())?;
            }
        }
    }
    Ok(())
}

fn value(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "(null)".to_owned(), |bytes| harmless(&String::from_utf8_lossy(bytes)))
}

fn headers(draft: &Draft<'_>) -> String {
    let shown: Vec<_> = draft.headers.iter().map(|(name, text)| format!("{name}={}", value(text.as_deref()))).collect();
    format!("[{}]", shown.join(", "))
}
