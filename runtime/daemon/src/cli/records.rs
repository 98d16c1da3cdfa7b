//! `aqueduct produce` and `tail`: records in and out.

use std::collections::VecDeque;
use std::io::BufRead;

use axum::http::Method;
use base64::Engine as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{Context, number};
use crate::client::{Client, path};
use crate::records::{Bytes, NewRecord};
use crate::terminal::Failure;

/// Append standard input to a topic, a record a line.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct topics create greetings && echo hello | aqueduct produce greetings
  aqueduct produce prices --key-separator '\t' < prices.tsv
  aqueduct tail a --json | aqueduct produce b --json")]
pub(super) struct Produce {
    /// The topic
    topic: String,
    /// What stands between a line's key and its value; without: lines have no key
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// The partition for all of them; without: by the key, else one at random
    #[arg(long)]
    partition: Option<i32>,
}

/// A request is sent when it holds so many records,
const MOST_RECORDS: usize = 1000;
/// or so many bytes.
const MOST_BYTES: usize = 1 << 20;

impl Produce {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = context.client("produce", false).await?;
        let done = self.produce(context, &client).await;
        client.close().await?;
        let written = done?;
        match context.common.json {
            true => context.terminal.json(&json!({ "records": written })),
            false if context.terminal.interactive => context.terminal.line(format!("{written} records are safe")),
            false => Ok(()),
        }
    }

    async fn produce(&self, context: &mut Context, client: &Client) -> Result<usize, Failure> {
        let at = path(&["topics", &self.topic, "records"], &[]);
        let (mut waiting, mut bytes, mut written, mut number) = (Vec::new(), 0, 0, 0);
        loop {
            let mut line = Vec::new();
            let read = context.terminal.input.read_until(b'\n', &mut line)?;
            if read > 0 {
                number += 1;
                bytes += read;
                waiting.push(self.record(line, context.common.json, number)?);
            }
            // Whoever types, or writes now and then, does not wait for a thousand lines.
            let pause = context.terminal.input.buffer().is_empty();
            let due = read == 0 || pause || waiting.len() >= MOST_RECORDS || bytes >= MOST_BYTES;
            if due && !waiting.is_empty() {
                let sent = waiting.len();
                client
                    .call(Method::POST, &at, Some(&json!({ "records": waiting })))
                    .await
                    .map_err(|failure| after(failure, written))?;
                written += sent;
                (waiting, bytes) = (Vec::new(), 0);
            }
            if read == 0 {
                return Ok(written);
            }
        }
    }

    fn record(&self, mut line: Vec<u8>, json: bool, number: usize) -> Result<NewRecord, Failure> {
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if json {
            // What `tail --json` writes says where a record was, which is not where it goes.
            let mut value: Value = serde_json::from_slice(&line)
                .map_err(|cause| Failure::Usage(format!("standard input, line {number}: {cause}")))?;
            if let Some(fields) = value.as_object_mut() {
                ["topic", "offset"].iter().for_each(|key| drop(fields.shift_remove(*key)));
                if fields.contains_key("partition") {
                    fields.shift_remove("partition");
                }
            }
            let record: NewRecord = serde_json::from_value(value)
                .map_err(|cause| Failure::Usage(format!("standard input, line {number}: {cause}")))?;
            return Ok(NewRecord { partition: self.partition, ..record });
        }
        let (key, value) = match &self.key_separator {
            None => (None, line),
            Some(separator) => match find(&line, separator.as_bytes()) {
                Some(at) => (Some(line[..at].to_vec()), line[at + separator.len()..].to_vec()),
                None => {
                    return Err(Failure::Usage(format!("standard input, line {number}: no `{separator}` in it")));
                }
            },
        };
        Ok(NewRecord { key: Bytes(key), value: Bytes(Some(value)), partition: self.partition, ..NewRecord::default() })
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    (!separator.is_empty()).then(|| line.windows(separator.len()).position(|window| window == separator)).flatten()
}

/// A failure with how much was done before.
fn after(failure: Failure, written: usize) -> Failure {
    match failure {
        failure if written == 0 => failure,
        Failure::Failed(message) => Failure::Failed(format!("{message}, after {written} records that are safe")),
        Failure::Usage(message) => Failure::Usage(format!("{message}, after {written} records that are safe")),
        other => other,
    }
}

/// Print a topic's records: the last ten, or from anywhere on.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct tail nginx                         the last ten
  aqueduct tail nginx -f                      and what comes
  aqueduct tail nginx --from beginning -n 3   the first three
  aqueduct tail nginx --from 15m --json       the last quarter of an hour, all that is known of each record")]
pub(super) struct Tail {
    /// The topic
    topic: String,
    /// Where to begin: beginning, end, an offset, a time (2026-11-20T08:00:00Z) or how long ago (15m)
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    from: Option<String>,
    /// How many records: the last ones, or with --from the first ones [default: 10, with --from all]
    #[arg(short = 'n', value_name = "N")]
    count: Option<usize>,
    /// One partition alone
    #[arg(long)]
    partition: Option<i32>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
}

impl Tail {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = context.client("tail", false).await?;
        let done = self.tail(context, &client).await;
        client.close().await?;
        done
    }

    async fn tail(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        let mut reader = Reader::new(&self.topic, self.partition);
        let mut left = match (&self.from, self.count) {
            (Some(from), count) => {
                reader.from = from.clone();
                count
            }
            (None, count) => {
                let count = count.unwrap_or(10);
                let last = reader.last(client, count).await?;
                last.iter().try_for_each(|record| print(context, record))?;
                match self.follow {
                    true => None,
                    false => return Ok(()),
                }
            }
        };
        loop {
            if left == Some(0) {
                return Ok(());
            }
            let page = reader.page(client, left, self.follow).await?;
            for lost in page["lost"].as_array().into_iter().flatten() {
                let (partition, start, end) = (number(lost, "partition"), number(lost, "start"), number(lost, "end"));
                context
                    .terminal
                    .note(format!("partition {partition}: offsets {start} to {end} can not be read any more"));
            }
            let records = page["records"].as_array().map_or(&[][..], Vec::as_slice);
            records.iter().try_for_each(|record| print(context, record))?;
            left = left.map(|left| left - records.len().min(left));
            context.terminal.flush()?;
            if records.is_empty() && page["at_end"] == true && !self.follow {
                return Ok(());
            }
        }
    }
}

/// Reads a topic page by page.
pub(super) struct Reader {
    at: String,
    partition: Option<i32>,
    from: String,
    next: Option<String>,
}

impl Reader {
    pub(super) fn new(topic: &str, partition: Option<i32>) -> Self {
        Reader { at: path(&["topics", topic, "records"], &[]), partition, from: "beginning".to_owned(), next: None }
    }

    /// Reads all partitions from a place on, as people write it.
    pub(super) fn from_place(topic: &str, from: &str) -> Self {
        Reader { from: from.to_owned(), ..Reader::new(topic, None) }
    }

    pub(super) async fn page(&mut self, client: &Client, limit: Option<usize>, wait: bool) -> Result<Value, Failure> {
        let mut query = match &self.next {
            Some(next) => vec![("next", next.clone())],
            None => vec![("from", self.from.clone())],
        };
        query.extend(self.partition.map(|partition| ("partition", partition.to_string())));
        query.push(("limit", limit.unwrap_or(1000).min(1000).to_string()));
        if wait {
            query.push(("wait", "10000".to_owned()));
        }
        let page = client.call(Method::GET, &format!("{}{}", self.at, path(&[], &query)), None).await?;
        self.next = page["next"].as_str().map(str::to_owned);
        Ok(page)
    }

    /// The last `count` records of all partitions, by time.
    pub(super) async fn last(&mut self, client: &Client, count: usize) -> Result<Vec<Value>, Failure> {
        self.from = format!("-{}", count.max(1));
        let mut last: VecDeque<Value> = VecDeque::new();
        loop {
            let mut page = self.page(client, None, false).await?;
            let ended = page["at_end"] == true;
            if let Value::Array(records) = page["records"].take() {
                last.extend(records);
            }
            last.make_contiguous().sort_by_key(|record| record["timestamp"].as_i64());
            last.drain(..last.len().saturating_sub(count));
            if ended {
                return Ok(last.into());
            }
        }
    }
}

pub(super) fn print(context: &mut Context, record: &Value) -> Result<(), Failure> {
    if context.common.json {
        // Records are data, not output about them: what they hold is shown as it is.
        return context.terminal.data(format!("{record}\n").as_bytes());
    }
    let mut line = bytes(&record["value"]);
    line.push(b'\n');
    context.terminal.data(&line)
}

/// The bytes that a record's JSON stands for.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Object(fields) => {
            let encoded = fields.get("base64").and_then(Value::as_str).unwrap_or_default();
            base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// A value on one line that does nothing to a terminal.
pub(super) fn harmless(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    for c in value.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    shown
}
