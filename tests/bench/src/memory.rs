//! What the daemon holds in memory, and how fast it starts.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::floor;
use crate::meter::{cpu_of, memory_of};
use crate::process::Daemon;
use crate::table::Table;

const PORT: u16 = 18_084;

/// All measurements of memory and of starting.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    many_paths(folder, table);
    backlog(folder, table);
    start_and_idle(folder, table);
}

fn many_paths(folder: &Path, table: &mut Table) {
    let place = folder.join("paths");
    std::fs::create_dir_all(place.join("in")).expect("a folder");
    let count = floor::make_lines(&place.join("in/a.log"), 256 << 20, 500, true);
    let text = format!(
        "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\nsources:\n  lines:\n    connector: file\n    \
         topic: lines\n    settings: {{ paths: [\"in/*.log\"] }}\nsinks:\n  out:\n    connector: s3\n    topics: [lines]\n    \
         chunk: {{ bytes: 128 MiB, age: 1m }}\n    settings: {{ url: \"file://{}/out\", path: \"p={{field:path}}\", \
         format: json-lines, compression: zstd }}\n",
        place.display()
    );
    let configuration = place.join("aqueduct.yaml");
    std::fs::write(&configuration, text).expect("a new file");
    let start = Instant::now();
    let daemon = Daemon::start(&configuration, PORT);
    let cost = daemon.cost_until((start, Duration::ZERO), |daemon| {
        daemon.connector("lines")["records"] == count && daemon.connector("out")["records"].as_u64() > Some(count / 3)
    });
    let (now, peak) = memory_of(&daemon.id());
    table.row(
        "1,000 paths in a chunk of 128 MiB",
        format!(
            "{} MB resident, {} MB at peak, in {:.1} s",
            now / 1_000_000,
            peak / 1_000_000,
            cost.elapsed.as_secs_f64()
        ),
        String::new(),
        None,
        "< 150 MB",
    );
    drop(daemon);
    floor::remove(&place);
}

/// Gigabytes that wait in one partition, unless `AQUEDUCT_BENCH_WAITING` says otherwise. What waits is the same record over and
/// over: a file system that compresses has room for far more than its disk.
const WAITING: usize = 25;

/// A sink that comes late to a partition with far more than fits into memory.
fn backlog(folder: &Path, table: &mut Table) {
    let place = folder.join("backlog");
    std::fs::create_dir_all(&place).expect("a folder");
    let waiting = std::env::var("AQUEDUCT_BENCH_WAITING").ok().and_then(|given| given.parse().ok()).unwrap_or(WAITING);
    crate::log::fill(&place.join("data"), "lines", waiting * 1_000_000_000 / floor::MIB);
    let text = format!(
        "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{PORT} }}\nsinks:\n  out:\n    connector: s3\n    \
         topics: [lines]\n    settings: {{ url: \"file://{}/out\" }}\n",
        place.display()
    );
    let configuration = place.join("aqueduct.yaml");
    std::fs::write(&configuration, text).expect("a new file");
    let start = Instant::now();
    let daemon = Daemon::start(&configuration, PORT);
    let enough = 4 * 1023 * 1024;
    daemon.cost_until((start, Duration::ZERO), |daemon| daemon.connector("out")["records"].as_u64() > Some(enough));
    let (now, peak) = memory_of(&daemon.id());
    table.row(
        &format!("{waiting} GB waiting in one partition, while 4 GB of it are delivered"),
        format!("{} MB resident, {} MB at peak", now / 1_000_000, peak / 1_000_000),
        String::new(),
        None,
        "< 150 MB",
    );
    drop(daemon);
    floor::remove(&place);
}

fn start_and_idle(folder: &Path, table: &mut Table) {
    let place = folder.join("start");
    std::fs::create_dir_all(&place).expect("a folder");
    let configuration = place.join("aqueduct.yaml");
    let text = format!("log: ./data\nlisten: {{ http: 127.0.0.1:{PORT} }}\ntopics:\n  many: {{ partitions: 1000 }}\n");
    std::fs::write(&configuration, text).expect("a new file");
    drop(Daemon::start(&configuration, PORT));
    let start = Instant::now();
    let daemon = Daemon::start(&configuration, PORT);
    let started = start.elapsed();
    std::thread::sleep(Duration::from_secs(3));
    let (idle, cpu) = (Instant::now(), cpu_of(&daemon.id()));
    std::thread::sleep(Duration::from_secs(20));
    let busy = (cpu_of(&daemon.id()) - cpu).as_secs_f64() / idle.elapsed().as_secs_f64();
    let started = format!("{:.0} ms", started.as_secs_f64() * 1000.0);
    table.row("start to serving, 1,000 cleanly closed partitions", started, String::new(), None, "< 100 ms");
    let resident = memory_of(&daemon.id()).0 / 1_000_000;
    let told = format!("{resident} MB, {:.2} % of a core", busy * 100.0);
    table.row("idle, 1,000 partitions", told, String::new(), None, "< 30 MB, < 0.5 %");
    drop(daemon);
    floor::remove(&place);
}
