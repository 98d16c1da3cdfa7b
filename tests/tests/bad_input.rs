//! Bad input and bad days over HTTP and into files: each record is delivered or a dead letter, nothing is lost, and nobody
//! else waits.
//!
//! `AQUEDUCT_BUSY_SECONDS` says how long a destination answers 429 (default 20).

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aqueduct_tests::asked::Asked;
use aqueduct_tests::daemon::{Daemon, PATIENCE};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// A server that remembers bodies by their key, unless it is busy.
#[derive(Default)]
struct Collector {
    is_busy: AtomicBool,
    turned_away: AtomicU64,
    bodies: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Collector {
    async fn start() -> (Arc<Collector>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let collector = Arc::new(Collector::default());
        let shared = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collect(stream, shared.clone()));
            }
        });
        (collector, address)
    }

    /// The lines of all bodies.
    fn lines(&self) -> Vec<Vec<u8>> {
        let bodies = self.bodies.lock().unwrap();
        bodies.values().flat_map(|body| lines(body)).collect()
    }
}

async fn collect(mut stream: TcpStream, collector: Arc<Collector>) -> Option<()> {
    let mut buffer = Vec::new();
    while let Some(asked) = Asked::read(&mut stream, &mut buffer).await {
        let answer: &[u8] = if collector.is_busy.load(Ordering::SeqCst) {
            collector.turned_away.fetch_add(1, Ordering::SeqCst);
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
        } else {
            let key = asked.header("idempotency-key").unwrap();
            let before = collector.bodies.lock().unwrap().insert(key.clone(), asked.body.clone());
            assert!(before.is_none_or(|before| before == asked.body), "one key, two bodies: {key}");
            b"HTTP/1.1 204 No Content\r\n\r\n"
        };
        stream.write_all(answer).await.ok()?;
    }
    None
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if whole.is_empty() { Vec::new() } else { whole.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() }
}

/// The lines of a file in the daemon's folder.
fn written(daemon: &Daemon, file: &str) -> Vec<Vec<u8>> {
    lines(&std::fs::read(daemon.path(file)).unwrap_or_default())
}

struct World {
    daemon: Daemon,
    collector: Arc<Collector>,
    listen: String,
    client: reqwest::Client,
}

impl World {
    async fn start() -> World {
        let (collector, address) = Collector::start().await;
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let configuration = format!(
            r#"
topics:
  events: {{ max.message.bytes: 16 MiB }}
sources:
  in:
    connector: http
    topic: events
    settings: {{ listen: "{listen}", largest-body: 32 MiB }}
sinks:
  posted:
    connector: http
    topics: [events]
    chunk: {{ age: 50ms }}
    settings: {{ url: "http://{address}/" }}
  filed:
    connector: file
    topics: [events]
    chunk: {{ age: 50ms }}
    settings: {{ path: filed/all.jsonl, format: json-lines }}
  kept:
    connector: file
    topics: [events]
    chunk: {{ age: 50ms }}
    settings: {{ path: kept/all.jsonl, format: records }}
"#
        );
        let mut daemon = Daemon::new(PROGRAM, &configuration);
        daemon.started().await;
        let begun = Instant::now();
        while TcpStream::connect(&listen).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "nobody listens on {listen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        World { daemon, collector, listen, client: reqwest::Client::new() }
    }

    async fn post(&self, content_type: &str, body: Vec<u8>) -> u16 {
        let request = self.client.post(format!("http://{}/", self.listen)).header("content-type", content_type);
        request.body(body).send().await.unwrap().status().as_u16()
    }

    async fn told(&self, connector: &str, what: &str) -> u64 {
        self.daemon.connector(connector).await[what].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_a_dead_letter_and_all_else_is_delivered() {
    let world = World::start().await;
    let deep = |end: &str| format!("{}{}", "[".repeat(100_000), end.repeat(100_000)).into_bytes();
    let large = format!("{{\"large\":\"{}\"}}", "x".repeat(10 << 20)).into_bytes();
    let good = [b"{\"n\":1}".to_vec(), large, deep("]"), b"{\"n\":2}".to_vec()];
    let bad = [deep(""), b"\xff\xfe\x00".to_vec(), b"{\"a\":\"\xff\"}".to_vec(), b"{} {}".to_vec()];
    for body in [&good[..2], &bad, &good[2..]].concat() {
        assert_eq!(world.post("application/octet-stream", body).await, 200);
    }
    // As JSON they are refused before they are records.
    for body in &bad[..3] {
        assert_eq!(world.post("application/json", body.clone()).await, 400);
    }
    world.daemon.until("all is written as it is", async |daemon| written(daemon, "kept/all.jsonl").len() == 8).await;
    let sorted = |mut lines: Vec<Vec<u8>>| {
        lines.sort();
        lines
    };
    let expected = sorted(good.to_vec());
    let is_out = async |daemon: &Daemon| {
        sorted(written(daemon, "filed/all.jsonl")) == expected && sorted(world.collector.lines()) == expected
    };
    world.daemon.until("all that is JSON is delivered", is_out).await;
    for sink in ["posted", "filed"] {
        assert_eq!((world.told(sink, "dead_letters").await, world.told(sink, "restarts").await), (4, 0), "{sink}");
    }
    assert_eq!(world.told("kept", "dead_letters").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn minutes_of_429_cost_nothing_and_delay_nobody_else() {
    let world = World::start().await;
    let seconds: u64 = std::env::var("AQUEDUCT_BUSY_SECONDS").map_or(20, |text| text.parse().unwrap());
    world.collector.is_busy.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        assert_eq!(world.post("application/x-ndjson", format!("{{\"n\":{sent}}}\n").into_bytes()).await, 200);
        sent += 1;
        let filed = Instant::now();
        world.daemon.until("it is in the file", async |daemon| written(daemon, "filed/all.jsonl").len() == sent).await;
        assert!(filed.elapsed() < Duration::from_secs(10), "a sink waits for another one");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let turned_away = world.collector.turned_away.load(Ordering::SeqCst);
    assert!(
        (1..=seconds * 8 + 8).contains(&turned_away),
        "{turned_away} requests in {seconds} s, against `Retry-After`"
    );
    let told = world.daemon.connector("posted").await;
    assert!(told.to_string().contains("429"), "{told}");
    assert_eq!((world.collector.lines().len(), told["restarts"].as_u64()), (0, Some(0)), "{told}");
    world.collector.is_busy.store(false, Ordering::SeqCst);
    world.daemon.until("all is delivered", async |_| world.collector.lines().len() == sent).await;
    let mut lines = world.collector.lines();
    lines.sort();
    lines.dedup();
    assert_eq!((lines.len(), world.told("posted", "dead_letters").await), (sent, 0), "each once");
}
