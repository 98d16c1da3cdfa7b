//! Records into objects of real S3 servers, by the real binary: what a record costs us, and what we hold in memory.
//!
//! The servers share the machine's cores with the daemon, so a rate says little; its processor time is its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct_api::{At, Durability, Edge, Log as _, TopicPartition, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::BatchBuilder;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions};

use crate::floor;
use crate::meter::{Cost, measured, memory_of};
use crate::process::Daemon;
use crate::table::Table;

const PORT: u16 = 18_085;
/// About so many bytes of records, 500 bytes each, of 1,000 paths.
const BYTES: u64 = 1 << 30;
/// How many records a batch has.
const BATCH: usize = 2000;
/// How many objects are put at once.
const AT_ONCE: usize = 48;
const BUCKET: &str = "bench";
const KEY: &str = "aqueduct-bench";
const SECRET: &str = "aqueduct-bench-secret";

/// A server, and how it is started.
struct Kind {
    name: &'static str,
    /// Where `{address}` and `{data}` stand for where it listens and where it keeps its data.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "minio",
        arguments: &["server", "--quiet", "--address", "{address}", "{data}"],
        environment: &[
            ("MINIO_ROOT_USER", KEY),
            ("MINIO_ROOT_PASSWORD", SECRET),
            ("MINIO_BROWSER", "off"),
            ("MINIO_UPDATE", "off"),
        ],
    },
    Kind {
        name: "versitygw",
        arguments: &["--port", "{address}", "--health", "/health", "posix", "{data}"],
        environment: &[("ROOT_ACCESS_KEY", KEY), ("ROOT_SECRET_KEY", SECRET)],
    },
];

/// What goes into an object, or into many, as in `configs/files-to-s3.yaml`.
const CHUNK: &str = "128 MiB";

/// What is delivered.
struct Take {
    what: &'static str,
    partitions: i32,
    path: &'static str,
}

const TAKES: [Take; 2] = [
    Take { what: "one path", partitions: 1, path: "{topic}" },
    Take { what: "6 partitions × 1,000 paths", partitions: 6, path: "p={field:path}" },
];

/// All measurements of S3.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    let place = folder.join("s3");
    std::fs::create_dir_all(&place).expect("a folder");
    let input = place.join("lines");
    let count = floor::make_lines(&input, BYTES, 500, true);
    for take in TAKES {
        let floor = floor::zstd_alone(&input);
        fill(&place.join("data"), &input, take.partitions);
        for kind in KINDS {
            deliver(&place, &kind, &take, count, floor, table);
        }
        floor::remove(&place.join("data"));
    }
    floor::remove(&place);
}

fn deliver(place: &Path, kind: &Kind, take: &Take, count: u64, (floor, bytes): (Cost, u64), table: &mut Table) {
    let server = Server::start(&place.join("server"), kind);
    // A sink of another name begins anew.
    let configuration = place.join(format!("{}.yaml", kind.name));
    let text = format!(
        "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\nsinks:\n  {}:\n    connector: s3\n    \
         topics: [lines]\n    chunk: {{ bytes: {CHUNK}, age: 1s }}\n    settings: {{ url: \"s3://{BUCKET}/out\", endpoint: \"{}\", \
         allow-http: true, region: us-east-1, access-key-id: {KEY}, secret-access-key: {SECRET}, path: \"{}\", format: \
         json-lines, compression: zstd, compression-level: 1 }}\n",
        kind.name, server.endpoint, take.path
    );
    std::fs::write(&configuration, text).expect("a new file");
    let start = Instant::now();
    let daemon = Daemon::start(&configuration, PORT);
    let cost = daemon.cost_until((start, Duration::ZERO), |daemon| daemon.connector(kind.name)["records"] == count);
    let peak = memory_of(&daemon.id()).1;
    drop(daemon);
    let (objects, lines) = server.counted();
    assert_eq!(lines, count, "lines in {objects} objects");
    let puts = (objects > 1000).then(|| server.put_again());
    let what = format!("log → zstd-1 JSON lines in {}, {}", kind.name, take.what);
    table.row(
        &what,
        format!("{}, {objects} objects", cost.tell(bytes)),
        format!("zstd-1 alone: {}", floor.tell(bytes)),
        Some(cost.rate(bytes) / floor.rate(bytes)),
        "≥ 0.7, or:",
    );
    table.row(
        "the same: records of 500 bytes",
        format!(
            "{:.0} for each of our CPU-seconds, {} MB at peak",
            count as f64 / cost.cpu.as_secs_f64(),
            peak / 1_000_000
        ),
        format!("zstd-1 alone: {:.0}", count as f64 / floor.cpu.as_secs_f64()),
        Some(floor.cpu.as_secs_f64() / cost.cpu.as_secs_f64()),
        "≥ 1,000,000; < 200 MB",
    );
    if let Some(puts) = puts {
        table.row(
            "the same: beside a bare loop that puts the finished objects",
            cost.tell(bytes),
            puts.tell(bytes),
            Some(cost.rate(bytes) / puts.rate(bytes)),
            "",
        );
    }
    drop(server);
    floor::remove(&place.join("server"));
}

/// Brings the lines into the partitions of a new log, a batch to each in turn.
fn fill(data: &Path, input: &Path, partitions: i32) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let lines = std::fs::read(input).expect("the lines");
    runtime.block_on(async {
        let log = CommitLog::open(Edge::real(), data, Options::default()).await.expect("a new log");
        let settings = TopicSettings { durability: Durability::Os, ..TopicSettings::default() };
        log.create("lines", partitions, &settings).await.expect("a new topic");
        let mut lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
        let mut to = (0..partitions).cycle();
        while lines.peek().is_some() {
            let mut batch = BatchBuilder::with_capacity(BATCH * 512);
            lines.by_ref().take(BATCH).for_each(|line| batch.push(0, None, Some(line), &[]));
            let to = TopicPartition::new("lines", to.next().unwrap_or(0));
            let appended = log.append(&to, batch.finish(), At::End).await.expect("an append");
            appended.durable.await.expect("a durable append");
        }
        log.close().await.expect("a log that closes");
    });
}

/// An S3 server of the run's own, with one bucket.
struct Server {
    child: Child,
    endpoint: String,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(place: &Path, kind: &Kind) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/install.sh");
        let installed = Command::new("bash").arg(script).arg(kind.name).output().expect("bash");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let program = String::from_utf8_lossy(&installed.stdout).trim().to_owned();
        // To both servers a folder is a bucket.
        std::fs::create_dir_all(place.join(BUCKET)).expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let fill = |text: &&str| {
            text.replace("{address}", &address.to_string()).replace("{data}", &place.display().to_string())
        };
        let mut command = Command::new(program);
        command.args(kind.arguments.iter().map(fill)).envs(kind.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the server starts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = Server { child, endpoint: format!("http://{address}"), runtime };
        let begun = Instant::now();
        let store = server.store();
        while server.runtime.block_on(store.list(None).try_next()).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} does not answer", kind.name);
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn store(&self) -> AmazonS3 {
        let builder = AmazonS3Builder::new().with_endpoint(&self.endpoint).with_allow_http(true);
        let builder = builder.with_access_key_id(KEY).with_secret_access_key(SECRET).with_region("us-east-1");
        builder.with_bucket_name(BUCKET).with_virtual_hosted_style_request(false).build().expect("a client")
    }

    /// How many objects are there, and how many lines in them.
    fn counted(&self) -> (usize, u64) {
        let store = self.store();
        self.runtime.block_on(async {
            let objects: Vec<_> = store.list(None).try_collect().await.expect("a listing");
            let count = async |key: &object_store::path::Path| {
                let bytes = store.get(key).await.expect("an object").bytes().await.expect("a whole object");
                let plain = zstd::decode_all(&bytes[..]).expect("a whole frame");
                memchr::memchr_iter(b'\n', &plain).count() as u64
            };
            let counts = futures::stream::iter(&objects).map(|object| count(&object.location)).buffer_unordered(4);
            let lines = counts.fold(0, async |sum, count| sum + count).await;
            (objects.len(), lines)
        })
    }
}

impl Server {
    /// What it costs only to put objects like those that are there, as many at once as the sink does for a chunk.
    fn put_again(&self) -> Cost {
        let store = self.store();
        let objects: Vec<_> = self.runtime.block_on(async {
            let listed: Vec<_> = store.list(None).try_collect().await.expect("a listing");
            let get = async |listed: ObjectMeta| {
                let bytes =
                    store.get(&listed.location).await.expect("an object").bytes().await.expect("a whole object");
                (format!("bare/{}", listed.location), bytes)
            };
            futures::stream::iter(listed).map(get).buffer_unordered(4).collect().await
        });
        let (cost, ()) = measured(|| {
            self.runtime.block_on(async {
                let put = async |(key, bytes): (String, Bytes)| {
                    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                    store.put_opts(&key.into(), bytes.into(), options).await.expect("a put")
                };
                futures::stream::iter(objects).map(put).buffer_unordered(AT_ONCE).for_each(async |_| ()).await;
            });
        });
        cost
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
