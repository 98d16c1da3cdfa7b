//! HTTP in and out of the real daemon: real clients, and kills.
//!
//! `AQUEDUCT_HTTP_KILLS` says how often the kill test kills (default 50).

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_tests::asked::Asked;
use aqueduct_tests::daemon::{Daemon, PATIENCE};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// Bodies by idempotency key, in the order in which the keys came first.
#[derive(Default)]
struct Taken {
    keys: Vec<String>,
    bodies: BTreeMap<String, String>,
    /// How many requests came under a key that was known.
    again: usize,
    requests: usize,
    /// A line that makes a request wrong; and the keys of such requests, which it remembers to be wrong.
    dislikes: Option<&'static str>,
    refused: BTreeSet<String>,
}

impl Taken {
    /// The lines of all bodies.
    fn lines(&self) -> Vec<String> {
        self.keys.iter().flat_map(|key| self.bodies[key].lines().map(str::to_owned)).collect()
    }
}

/// A collector that remembers keys. It forgets to answer some of the requests.
struct Collector {
    address: String,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    async fn start(forgetful: bool) -> Collector {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::new(Mutex::new(Taken::default()));
        let shared = taken.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collect(stream, shared.clone(), forgetful));
            }
        });
        Collector { address, taken }
    }

    fn lines(&self) -> Vec<String> {
        self.taken.lock().unwrap().lines()
    }
}

async fn collect(mut stream: TcpStream, taken: Arc<Mutex<Taken>>, forgetful: bool) -> Option<()> {
    let mut buffer = Vec::new();
    while let Some(asked) = Asked::read(&mut stream, &mut buffer).await {
        let key = asked.header("idempotency-key").expect("every request has a key");
        let body = String::from_utf8(asked.body).unwrap();
        let (forgets, refuses) = {
            let mut taken = taken.lock().unwrap();
            taken.requests += 1;
            if taken.dislikes.is_some_and(|wrong| body.lines().any(|line| line == wrong)) {
                taken.refused.insert(key.clone());
            }
            let refuses = taken.refused.contains(&key);
            match taken.bodies.get(&key).cloned() {
                _ if refuses => {}
                Some(known) => {
                    assert_eq!(known, body, "one key, two bodies: {key}");
                    taken.again += 1;
                }
                None => {
                    taken.keys.push(key.clone());
                    taken.bodies.insert(key, body);
                }
            }
            (forgetful && taken.requests % 7 == 3, refuses)
        };
        if forgets {
            return None;
        }
        let answer: &[u8] = match refuses {
            true => b"HTTP/1.1 422 Unprocessable\r\ncontent-length: 0\r\n\r\n",
            false => b"HTTP/1.1 204 No Content\r\n\r\n",
        };
        stream.write_all(answer).await.ok()?;
    }
    None
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A daemon that takes records at the address and delivers them to the collector.
fn daemon(listen: &str, collector: &Collector, more: &str) -> Daemon {
    let configuration = format!(
        r#"
topics:
  events: {{ partitions: 3 }}
  other: {{ partitions: 2 }}
sources:
  in:
    connector: http
    topic: events
    settings: {{ listen: "{listen}", topics: [events, other], {more} }}
sinks:
  out:
    connector: http
    topics: [events, other]
    chunk: {{ records: 50, age: 50ms }}
    retry: {{ first: 20ms, longest: 200ms }}
    settings: {{ url: "http://{}/", format: lines, request-records: 20, timeout: 2s }}
"#,
        collector.address
    );
    Daemon::new(PROGRAM, &configuration)
}

/// Runs curl: the status and the answer.
fn curl(arguments: &[&str], input: &[u8]) -> (u16, String) {
    use std::io::Write as _;
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}"]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), answer.to_owned())
}

async fn listening(listen: &str) {
    let begun = std::time::Instant::now();
    while TcpStream::connect(listen).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "nobody listens on {listen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_curl_sends_is_durable_and_delivered() {
    let (listen, collector) = (free_address(), Collector::start(false).await);
    let mut daemon = daemon(&listen, &collector, "");
    daemon.started().await;
    listening(&listen).await;
    let url = format!("http://{listen}");
    let type_of = |name: &str| format!("Content-Type: {name}");
    let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    let (status, answer) = curl(&["-H", &type_of("text/plain"), "--data-binary", "@-", &url], lines.as_bytes());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["records"], 1000);
    let produce = json!({"records": [{"key": "a", "value": "of other"}, {"key": "a", "value": "also"}]}).to_string();
    let v2 = type_of("application/vnd.kafka.json.v2+json");
    let (status, answer) = curl(&["-H", &v2, "-d", &produce, &format!("{url}/topics/other")], b"");
    assert_eq!(status, 200, "{answer}");
    let offsets = serde_json::from_str::<Value>(&answer).unwrap()["offsets"].clone();
    assert_eq!((&offsets[0]["offset"], &offsets[1]["offset"]), (&json!(0), &json!(1)), "{answer}");
    assert_eq!(offsets[0]["partition"], offsets[1]["partition"], "a key has one partition");
    let one = json!({"records": [{"value": 1}]}).to_string();
    let (status, answer) = curl(&["-H", &v2, "-d", &one, &format!("{url}/topics/events/partitions/2")], b"");
    assert_eq!((status, answer.contains(r#""partition":2"#)), (200, true), "{answer}");
    let (status, answer) = curl(&["-H", &v2, "-d", &one, &format!("{url}/topics/events/partitions/7")], b"");
    assert_ne!(status, 200, "there are three partitions: {answer}");
    daemon.until("all is delivered", async |_| collector.lines().len() == 1003).await;
    let mut delivered = collector.lines();
    delivered.retain(|line| line.starts_with("line "));
    let mut expected: Vec<String> = lines.lines().map(str::to_owned).collect();
    delivered.sort();
    expected.sort();
    assert_eq!(delivered, expected);
    assert!(daemon.stop().success());
}

/// The folder with winston, a logger that many Node programs ship logs with; fetched from npm's registry once.
fn winston() -> PathBuf {
    const VERSION: &str = "3.17.0";
    let cache = std::env::var_os("AQUEDUCT_SERVICES_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("a home folder, or AQUEDUCT_SERVICES_CACHE");
        PathBuf::from(home).join(".cache/aqueduct-services")
    });
    let folder = cache.join(format!("winston-{VERSION}"));
    if !folder.join("node_modules/winston/package.json").exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(&folder);
        let status = npm.arg(format!("winston@{VERSION}")).current_dir(&folder).status();
        assert!(status.expect("npm is installed: it fetches winston").success(), "npm install winston@{VERSION}");
    }
    folder
}

const SHIP: &str = r#"
const winston = require('winston');
const to = { host: '127.0.0.1', port: process.argv[2], path: '/logs', batch: true, batchInterval: 50, batchCount: 10 };
const auth = { bearer: process.argv[3] };
const logger = winston.createLogger({ transports: [new winston.transports.Http({ ...to, auth })] });
logger.on('error', (error) => { console.error(error); process.exit(1); });
for (let number = 0; number < 105; number++) logger.info('event', { number });
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_winston_ships_is_delivered() {
    let (listen, collector) = (free_address(), Collector::start(false).await);
    let tokens = "authentication: { tokens: [{ name: apps, token: 0123456789abcdef, paths: [/logs] }] }, paths: [{ path: /logs }]";
    let mut daemon = daemon(&listen, &collector, tokens);
    daemon.started().await;
    listening(&listen).await;
    let port = listen.rsplit(':').next().unwrap();
    let mut node = Command::new("node");
    let output = node.args(["-e", SHIP, "--", "ship", port, "0123456789abcdef"]).current_dir(winston()).output();
    let output = output.expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon.until("all is delivered", async |_| collector.lines().len() == 105).await;
    let number = |line: &String| serde_json::from_str::<Value>(line).unwrap()["number"].as_u64().unwrap();
    let mut numbers: Vec<u64> = collector.lines().iter().map(number).collect();
    numbers.sort();
    assert_eq!(numbers, (0..105).collect::<Vec<_>>());
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_replayed_under_a_key_of_its_own() {
    let (listen, collector) = (free_address(), Collector::start(false).await);
    collector.taken.lock().unwrap().dislikes = Some("line 7");
    let mut daemon = daemon(&listen, &collector, "");
    daemon.started().await;
    listening(&listen).await;
    let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
    let (status, answer) =
        curl(&["-H", "Content-Type: text/plain", "--data-binary", "@-", &format!("http://{listen}")], lines.as_bytes());
    assert_eq!(status, 200, "{answer}");
    daemon.until("all but one is delivered", async |_| collector.lines().len() == 19).await;
    let replay = || {
        let output = daemon.command(&["dead-letters", "replay", "out", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["letters"].clone()
    };
    // The collector remembers that it refused a key; it would refuse this one for ever.
    collector.taken.lock().unwrap().dislikes = None;
    let begun = std::time::Instant::now();
    while replay() != json!(1) {
        assert!(begun.elapsed() < PATIENCE, "nothing becomes a dead letter\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    daemon.until("it is delivered", async |_| collector.lines().len() == 20).await;
    let taken = collector.taken.lock().unwrap();
    let key = taken.keys.last().unwrap();
    assert!(key.starts_with("letter-") && taken.bodies[key] == "line 7\n", "{key}: {}", taken.bodies[key]);
    drop(taken);
    assert!(daemon.stop().success());
}

/// How many bytes of a file system are in use.
fn used(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).unwrap();
    (found.f_blocks - found.f_bavail) * found.f_frsize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_refuses_and_takes_again_when_there_is_room() {
    // A file system in memory, which nothing else fills meanwhile.
    let folder = tempfile::tempdir_in("/dev/shm").expect("a file system in memory at /dev/shm");
    let (listen, collector) = (free_address(), Collector::start(false).await);
    let mut daemon = daemon(&listen, &collector, "answer-timeout: 1s, queue-wait: 300ms");
    let file = daemon.path("aqueduct.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    // The log keeps 16 MiB for itself.
    let limit = used(folder.path()) + (24 << 20);
    let log = format!("log: {{ path: {}/data, limit: {limit} }}", folder.path().display());
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&file, format!("{log}\n{rest}")).unwrap();
    daemon.started().await;
    listening(&listen).await;
    let client = reqwest::Client::new();
    let post = async |line: String| {
        let request = client.post(format!("http://{listen}/")).header("content-type", "text/plain").body(line);
        let answer = request.send().await.expect("somebody listens all the time");
        let after = answer.headers().get("retry-after").map(|after| after.to_str().unwrap().to_owned());
        (answer.status().as_u16(), after, answer.text().await.unwrap())
    };
    assert_eq!(post("before".to_owned()).await.0, 200);
    let filler = folder.path().join("filler");
    std::fs::write(&filler, vec![1; 28 << 20]).unwrap();
    let mut refused = Vec::new();
    while refused.len() < 6 {
        let (status, after, text) = post(format!("full {}", refused.len())).await;
        // What was measured a moment ago holds for a moment.
        if status == 200 && refused.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        match status {
            429 if after.as_deref() == Some("1") => refused.push(status),
            _ => panic!("{status} {after:?} {text}"),
        }
    }
    let told = daemon.connector("in").await;
    assert!(told.to_string().contains("disk full"), "{told}");
    std::fs::remove_file(&filler).unwrap();
    let begun = std::time::Instant::now();
    while post("after".to_owned()).await.0 != 200 {
        assert!(begun.elapsed() < PATIENCE, "it never takes again\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let arrived = |line: &str| collector.lines().iter().any(|arrived| arrived == line);
    daemon.until("what was answered is delivered", async |_| arrived("before") && arrived("after")).await;
    let told = daemon.connector("in").await;
    assert_eq!(told["restarts"], 0, "{told}");
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_arrives_whatever_dies() {
    let (listen, collector) = (free_address(), Collector::start(true).await);
    let mut daemon = daemon(&listen, &collector, "");
    let kills: u64 = std::env::var("AQUEDUCT_HTTP_KILLS").map_or(50, |text| text.parse().unwrap());
    let answered = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (url, answered) = (format!("http://{listen}/"), answered.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
                for number in 0.. {
                    let lines: Vec<String> = (0..5).map(|line| format!("{writer} {number} {line}")).collect();
                    let request = client.post(&url).header("content-type", "text/plain").body(lines.join("\n"));
                    match request.send().await {
                        Ok(answer) if answer.status() == 200 => answered.lock().unwrap().extend(lines),
                        // Taken or not: it is not sent again, so only what was answered must arrive.
                        _ => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            })
        })
        .collect();
    for kill in 0..kills {
        daemon.start(&[]);
        let before = answered.lock().unwrap().len();
        daemon.until("some more is answered", async |_| answered.lock().unwrap().len() > before + 50).await;
        tokio::time::sleep(Duration::from_millis(37 * kill % 100)).await;
        daemon.kill();
    }
    writers.iter().for_each(|writer| writer.abort());
    daemon.started().await;
    let answered = answered.lock().unwrap().clone();
    let missing = || {
        let lines: std::collections::BTreeSet<String> = collector.lines().into_iter().collect();
        answered.iter().filter(|line| !lines.contains(*line)).count()
    };
    daemon.until("all that was answered is delivered", async |_| missing() == 0).await;
    assert!(daemon.stop().success());
    // What is new under each key came once: nothing of the log is delivered under two keys.
    let mut lines = collector.lines();
    let all = lines.len();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), all, "a line came under two keys");
    let taken = collector.taken.lock().unwrap();
    eprintln!("{} lines answered, {} requests, {} of them again", answered.len(), taken.requests, taken.again);
    assert!(taken.again > 0, "answers were lost, so requests came again");
}
