//! A source of records that somebody waits for, and that can not be read again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};

use aqueduct_api::{Done, Incoming, Result, Settings, Source, SourceOpening, SourceSettings, Stream, TopicPartition};
use aqueduct_record::{BatchBuilder, Offset};
use async_trait::async_trait;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use super::Outside;

#[derive(Default)]
struct Line {
    waiting: Mutex<VecDeque<Incoming>>,
    news: Notify,
}

static LINES: LazyLock<Mutex<BTreeMap<u64, Arc<Line>>>> = LazyLock::new(Mutex::default);

fn line(outside: u64) -> Arc<Line> {
    LINES.lock().entry(outside).or_default().clone()
}

/// Sends lines as one batch, and waits for the answer.
pub fn ask(outside: &Outside, lines: &[&str]) -> oneshot::Receiver<Result<(TopicPartition, Offset)>> {
    ask_for(outside, lines, None)
}

/// The same for a partition.
pub fn ask_for(
    outside: &Outside,
    lines: &[&str],
    partition: Option<i32>,
) -> oneshot::Receiver<Result<(TopicPartition, Offset)>> {
    let (done, answer) = Done::channel();
    let mut records = BatchBuilder::new();
    for line in lines {
        records.push(1000, None, Some(line.as_bytes()), &[]);
    }
    let incoming = Incoming {
        stream: Arc::new(Stream { id: r#"{"client":1}"#.into(), key: "client".into() }),
        position: None,
        last: false,
        topic: None,
        partition,
        records,
        dead_letter: None,
        done: Some(done),
    };
    let line = line(outside.id);
    line.waiting.lock().push_back(incoming);
    line.news.notify_one();
    answer
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    outside: u64,
}

impl Settings for Clients {
    const NAME: &'static str = "clients";
    const SUMMARY: &'static str = "takes what a test asks for";
}

#[async_trait]
impl SourceSettings for Clients {
    async fn open(self, _: SourceOpening) -> Result<Box<dyn Source>> {
        Ok(Box::new(ClientsSource(line(self.outside))))
    }

    async fn probe(&self, _: SourceOpening) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

struct ClientsSource(Arc<Line>);

#[async_trait]
impl Source for ClientsSource {
    async fn read(&mut self) -> Result<Option<Incoming>> {
        loop {
            let next = self.0.waiting.lock().pop_front();
            if next.is_some() {
                return Ok(next);
            }
            self.0.news.notified().await;
        }
    }
}
