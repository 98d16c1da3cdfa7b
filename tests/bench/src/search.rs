//! Documents into OpenSearch, by the real binary and by a bare loop that sends the same bodies to the same server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::floor;
use crate::meter::{Cost, cpu_of};
use crate::process::Daemon;
use crate::table::Table;

const PORT: u16 = 18_084;
/// About so many bytes of documents, 500 bytes each.
const BYTES: u64 = 128 << 20;
/// How many documents a request has: the sink's default.
const REQUEST: usize = 5000;
/// How often each way is measured, in turn.
const ROUNDS: usize = 3;
/// How many requests the bare loop has under way: whichever of them is best.
const AT_ONCE: [usize; 3] = [2, 4, 8];

/// Documents a second against the bare loop, and our processor time against the server's.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    let place = folder.join("search");
    std::fs::create_dir_all(place.join("in")).expect("a folder");
    let input = place.join("in/a.log");
    let count = floor::make_lines(&input, BYTES, 500, true);
    let server = Server::start(&place);
    let bodies: Vec<String> = bodies(&std::fs::read_to_string(&input).expect("the lines"));
    let head = format!(
        "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\ntopics:\n  lines: {{ durability: os }}\n"
    );
    fill(&place, &head, count);

    // A cold server is several times slower.
    server.bare(&bodies, 4, "warm-a", count);
    server.bare(&bodies, 4, "warm-b", count);
    let best = AT_ONCE.into_iter().max_by_key(|at_once| {
        let (cost, _) = server.bare(&bodies, *at_once, &format!("try-{at_once}"), count);
        (count as f64 / cost.elapsed.as_secs_f64()) as u64
    });
    let at_once = best.unwrap_or(4);
    let (mut bare, mut ours) = (Total::default(), Total::default());
    for round in 0..ROUNDS {
        bare.add(server.bare(&bodies, at_once, &format!("bare-{round}"), count));
        ours.add(server.ours(&place, &head, round, count));
    }

    table.row(
        "log → OpenSearch, 500-byte documents",
        format!("{:.0} documents/s", ours.rate(count)),
        format!("bare `_bulk` loop, {at_once} at once: {:.0} documents/s", bare.rate(count)),
        Some(ours.rate(count) / bare.rate(count)),
        "≥ 0.95",
    );
    table.row(
        "the same: processor time",
        format!("{:.1} s", ours.cost.cpu.as_secs_f64()),
        format!("the server's meanwhile: {:.1} s (under the bare loop: {:.1} s)", ours.server(), bare.server()),
        Some(ours.cost.cpu.as_secs_f64() / ours.server()),
        "≤ 0.15",
    );
    drop(server);
    floor::remove(&place);
}

/// What several rounds cost us, and the server meanwhile.
struct Total {
    cost: Cost,
    server: Duration,
    rounds: u64,
}

impl Default for Total {
    fn default() -> Self {
        Total { cost: Cost { elapsed: Duration::ZERO, cpu: Duration::ZERO }, server: Duration::ZERO, rounds: 0 }
    }
}

impl Total {
    fn add(&mut self, (cost, server): (Cost, Duration)) {
        self.cost.elapsed += cost.elapsed;
        self.cost.cpu += cost.cpu;
        self.server += server;
        self.rounds += 1;
    }

    /// Documents a second.
    fn rate(&self, count: u64) -> f64 {
        (count * self.rounds) as f64 / self.cost.elapsed.as_secs_f64()
    }

    fn server(&self) -> f64 {
        self.server.as_secs_f64()
    }
}

/// Brings the lines into the log.
fn fill(place: &Path, head: &str, count: u64) {
    let configuration = place.join("fill.yaml");
    let source = "sources:\n  lines:\n    connector: file\n    topic: lines\n    settings: { paths: [\"in/*.log\"] }\n";
    std::fs::write(&configuration, format!("{head}{source}")).expect("a new file");
    let daemon = Daemon::start(&configuration, PORT);
    daemon.cost_until((Instant::now(), Duration::ZERO), |daemon| daemon.connector("lines")["records"] == count);
}

/// The bodies that the sink sends, whose documents are the lines.
fn bodies(lines: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        if number.is_multiple_of(REQUEST) {
            bodies.push(String::new());
        }
        let version = (1_u64 << 48) + number as u64;
        let id = format!("lines+0+{number}");
        if let Some(body) = bodies.last_mut() {
            *body += &format!(
                "{{\"index\":{{\"_index\":\"INDEX\",\"_id\":\"{id}\",\"version\":{version},\"version_type\":\"external\"}}}}\n{line}\n"
            );
        }
    }
    bodies
}

/// An OpenSearch of the run's own.
struct Server {
    child: Child,
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(place: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/install.sh");
        let installed = Command::new("bash").arg(script).arg("opensearch").output().expect("bash");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let program = String::from_utf8_lossy(&installed.stdout).trim().to_owned();
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = Command::new(program);
        command.arg(address.to_string()).arg(place.join("server"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("OpenSearch starts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = Server { child, url: format!("http://{address}"), client: reqwest::Client::new(), runtime };
        let begun = Instant::now();
        while server.ask(reqwest::Method::GET, "_cluster/health", None).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "OpenSearch does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Option<Value> {
        self.runtime.block_on(async {
            let mut request = self.client.request(method, format!("{}/{path}", self.url));
            if let Some(body) = body {
                request = request.json(&body);
            }
            request.send().await.ok()?.error_for_status().ok()?.json().await.ok()
        })
    }

    /// An empty index, alike in every round.
    fn make(&self, index: &str) {
        let settings = json!({ "settings": { "number_of_shards": 1, "number_of_replicas": 0 } });
        self.ask(reqwest::Method::PUT, index, Some(settings)).expect("a new index");
    }

    /// Checks that all documents are there, and makes room for the next round.
    fn counted(&self, index: &str, count: u64) {
        self.ask(reqwest::Method::POST, &format!("{index}/_refresh"), None).expect("a refresh");
        let counted = self.ask(reqwest::Method::GET, &format!("{index}/_count"), None).expect("a count");
        assert_eq!(counted["count"], count, "documents in {index}");
        self.ask(reqwest::Method::DELETE, index, None).expect("the index can be deleted");
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    /// Sends the bodies, so many at once, with nothing of ours around it.
    fn bare(&self, bodies: &[String], at_once: usize, index: &str, count: u64) -> (Cost, Duration) {
        self.make(index);
        let bodies: Vec<Bytes> = bodies.iter().map(|body| Bytes::from(body.replace("INDEX", index))).collect();
        let (next, path) = (AtomicUsize::new(0), "_bulk?filter_path=errors,items.*._id,items.*.status");
        let (start, cpu, server) = (Instant::now(), cpu_of("self"), self.cpu());
        self.runtime.block_on(async {
            let send = async || {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = self.client.post(format!("{}/{path}", self.url)).body(body.clone());
                    let request = request.header("content-type", "application/x-ndjson");
                    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
                    assert_eq!(answer["errors"], false, "{answer}");
                }
            };
            futures::future::join_all((0..at_once).map(|_| send())).await;
        });
        let cost = Cost { elapsed: start.elapsed(), cpu: cpu_of("self").saturating_sub(cpu) };
        let server = self.cpu().saturating_sub(server);
        self.counted(index, count);
        (cost, server)
    }

    /// The same by the daemon, from its log; its start counts.
    fn ours(&self, place: &Path, head: &str, round: usize, count: u64) -> (Cost, Duration) {
        let index = format!("ours-{round}");
        self.make(&index);
        let sink = format!(
            "sinks:\n  out{round}:\n    connector: elasticsearch\n    topics: [lines]\n    chunk: {{ bytes: 32 MiB, age: 1s }}\n    \
             settings: {{ url: \"{}\", index: \"{index}\" }}\n",
            self.url
        );
        let configuration = place.join(format!("deliver-{round}.yaml"));
        std::fs::write(&configuration, format!("{head}{sink}")).expect("a new file");
        let (start, server) = (Instant::now(), self.cpu());
        let daemon = Daemon::start(&configuration, PORT);
        let name = format!("out{round}");
        let cost = daemon.cost_until((start, Duration::ZERO), |daemon| daemon.connector(&name)["records"] == count);
        let server = self.cpu().saturating_sub(server);
        drop(daemon);
        self.counted(&index, count);
        (cost, server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
