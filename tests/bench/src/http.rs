//! The HTTP source: clients that wait until their records are durable, against bare appends to the log.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::floor;
use crate::meter::{cpu_of, memory_of};
use crate::process::Daemon;
use crate::table::Table;

const PORT: u16 = 18_085;
const SOURCE: &str = "127.0.0.1:18086";

/// How many clients there are, each with one connection and one request at a time.
const CONNECTIONS: usize = 64;

/// How long each take lasts, after a second of warming up.
const LASTS: Duration = Duration::from_secs(15);

/// What clients send.
struct Take {
    what: &'static str,
    /// Records of a request.
    records: usize,
    partitions: u32,
    target: &'static str,
}

const TAKES: [Take; 3] = [
    Take {
        what: "batches of 100 records of 235 bytes",
        records: 100,
        partitions: 4,
        target: "≥ 100,000 records/s, p99 < 25 ms",
    },
    Take { what: "one record of 235 bytes a request", records: 1, partitions: 1, target: "≥ 20,000/s, p99 < 25 ms" },
    Take {
        what: "one record of 235 bytes a request, 4 partitions",
        records: 1,
        partitions: 4,
        target: "≥ 20,000/s, p99 < 25 ms",
    },
];

/// All measurements of the HTTP source.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    for take in TAKES {
        let place = folder.join("http");
        std::fs::create_dir_all(&place).expect("a folder");
        let configuration = place.join("aqueduct.yaml");
        let text = format!(
            "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\ntopics:\n  in: {{ partitions: {} \
             }}\nsources:\n  in:\n    connector: http\n    topic: in\n    settings: {{ listen: \"{SOURCE}\" }}\n",
            take.partitions
        );
        std::fs::write(&configuration, text).expect("a new file");
        let daemon = Daemon::start(&configuration, PORT);
        let bare = crate::log::waiting_appends(&place.join("bare"), CONNECTIONS);
        let run = run(&take, &daemon);
        let peak = memory_of(&daemon.id()).1;
        drop(daemon);
        floor::remove(&place);
        table.row(
            &format!("HTTP source, {CONNECTIONS} connections, {}, durability fsync", take.what),
            format!(
                "{:.0} records/s, {:.0} requests/s, p50 {:.1} ms, p99 {:.1} ms, {:.2} of a core, {} MB at peak",
                run.requests * take.records as f64,
                run.requests,
                run.at(0.50),
                run.at(0.99),
                run.cores,
                peak / 1_000_000
            ),
            format!("{CONNECTIONS} appenders of 1 KiB to the log alone: {bare:.0}/s"),
            Some(run.requests / bare),
            take.target,
        );
    }
}

/// What came of a take.
struct Run {
    /// A second.
    requests: f64,
    /// How long each waited for its answer, ascending.
    waits: Vec<Duration>,
    /// Of the daemon, without the clients.
    cores: f64,
}

impl Run {
    /// How many milliseconds such a share of all requests took at most.
    fn at(&self, share: f64) -> f64 {
        let place = (self.waits.len() as f64 * share) as usize;
        self.waits.get(place.min(self.waits.len().saturating_sub(1))).map_or(0.0, |wait| wait.as_secs_f64() * 1000.0)
    }
}

fn run(take: &Take, daemon: &Daemon) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(235 - 15));
    let body = line.repeat(take.records);
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {SOURCE}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let request = format!("{head}{body}").into_bytes();
    runtime.block_on(async {
        let until = |lasts: Duration| {
            let clients = (0..CONNECTIONS).map(|_| client(request.clone(), Instant::now() + lasts));
            futures::future::join_all(clients.collect::<Vec<_>>())
        };
        until(Duration::from_secs(1)).await;
        let (start, cpu) = (Instant::now(), cpu_of(&daemon.id()));
        let mut waits: Vec<Duration> = until(LASTS).await.into_iter().flatten().collect();
        let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_of(&daemon.id()).saturating_sub(cpu));
        waits.sort_unstable();
        Run { requests: waits.len() as f64 / elapsed, waits, cores: cpu.as_secs_f64() / elapsed }
    })
}

/// Sends the same request again and again, and says how long each one waited.
async fn client(request: Vec<u8>, until: Instant) -> Vec<Duration> {
    let mut stream = connect().await;
    let _ = stream.set_nodelay(true);
    let (mut waits, mut answer) = (Vec::new(), Vec::with_capacity(4096));
    while Instant::now() < until {
        let begun = Instant::now();
        stream.write_all(&request).await.expect("a connection that lasts");
        answer.clear();
        while !is_whole(&answer) {
            assert!(stream.read_buf(&mut answer).await.expect("an answer") > 0, "the source ended the connection");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        waits.push(begun.elapsed());
    }
    waits
}

/// The source listens a moment after the daemon answers.
async fn connect() -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(SOURCE).await {
            Ok(stream) => return stream,
            Err(cause) if begun.elapsed() > Duration::from_secs(30) => panic!("nobody listens on {SOURCE}: {cause}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Whether an answer is there, head and body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let length = memchr::memmem::find(&answer[..end], b"content-length: ").map(|at| at + 16);
    let digits = length.map(|at| answer[at..end].iter().take_while(|byte| byte.is_ascii_digit()));
    let length = digits.map_or(0, |digits| digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')));
    answer.len() >= end + 4 + length
}
