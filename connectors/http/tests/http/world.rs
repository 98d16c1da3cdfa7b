//! A source, and a log behind it that does with what it reads as it is told.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::{ByteSize, Edge, Error, Incoming, Registry, Result, Source, SourceOpening, TopicPartition};
use aqueduct_http::HttpSourceSettings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What the log does with what comes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Log {
    Takes,
    /// Takes nothing: answers are dropped.
    Refuses,
    /// Takes nothing now.
    IsFull,
    /// Takes nothing for partition 7, which is not there.
    HasTwo,
    /// Reads, and never answers.
    Hangs,
    /// Never reads.
    Stands,
}

/// A record as the log got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) topic: Option<String>,
    pub(crate) partition: i32,
    pub(crate) stream: String,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<String>,
}

pub(crate) struct World {
    pub(crate) address: String,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub(crate) async fn open(settings: Value) -> Result<Box<dyn Source>> {
    let connector = Registry::default().source::<HttpSourceSettings>().sources.remove("http").unwrap();
    let opening = SourceOpening {
        name: "in".into(),
        folder: std::env::temp_dir(),
        edge: Edge::real(),
        positions: Vec::new(),
        batch: ByteSize::mib(1),
        largest: ByteSize::mib(1),
    };
    connector.open(settings, opening).await
}

impl World {
    pub(crate) async fn new(log: Log, more: Value) -> World {
        let address = free_address();
        let mut settings = json!({"listen": address, "topics": ["orders", "logs.*"]});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut source = open(settings).await.unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let shared = got.clone();
        let task = tokio::spawn(async move {
            let (mut ends, mut hung) = (BTreeMap::new(), Vec::new());
            if log == Log::Stands {
                std::future::pending::<()>().await;
            }
            loop {
                let Ok(Some(incoming)) = source.read().await else { return };
                match log {
                    Log::Takes => take(incoming, &mut ends, &shared),
                    Log::Hangs => hung.push(incoming),
                    Log::IsFull => incoming.done.unwrap().not_taken(Error::retry("disk full: /srv")),
                    Log::HasTwo if incoming.partition == Some(7) => {
                        incoming.done.unwrap().not_taken(Error::refused("topic orders has no partition 7"));
                    }
                    Log::HasTwo => take(incoming, &mut ends, &shared),
                    Log::Refuses | Log::Stands => {}
                }
            }
        });
        World { address, got, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Posts a body: the status and what was answered.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let mut request = reqwest::Client::new().post(self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        if status == 429 || status == 503 {
            assert_eq!(answer.headers()["retry-after"], "1");
        }
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Sends bytes as they are and reads until the server has nothing more to say.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        // What was not read when the server ended the connection makes it a reset.
        let _ = read.expect("the server ends the connection");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.got().into_iter().map(|got| got.value.unwrap_or_else(|| "null".into())).collect()
    }
}

/// Appends to a log of two partitions.
fn take(incoming: Incoming, ends: &mut BTreeMap<i32, i64>, got: &Mutex<Vec<Got>>) {
    assert!(incoming.position.is_none() && incoming.stream.id.starts_with('{'));
    let topic = incoming.topic.as_deref().map(str::to_owned);
    let partition = incoming.partition.unwrap_or(i32::from(incoming.stream.key.len().is_multiple_of(2)));
    let batch = incoming.records.finish();
    let end = ends.entry(partition).or_default();
    let text = |bytes: Option<&[u8]>| bytes.map(|it| String::from_utf8_lossy(it).into_owned());
    for record in batch.records().unwrap().iter().map(Result::unwrap) {
        got.lock().unwrap().push(Got {
            topic: topic.clone(),
            partition,
            stream: incoming.stream.key.clone(),
            key: text(record.key),
            value: text(record.value),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", text(value).unwrap_or_default()))
                .collect(),
        });
    }
    let count = i64::from(batch.header().count);
    incoming.done.unwrap().durable(TopicPartition::new(topic.as_deref().unwrap_or("in"), partition), *end);
    *end += count;
}
