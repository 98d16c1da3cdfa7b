//! The endpoint for Kafka clients against Apache Kafka itself: the same Java clients work both, in turn.

use std::path::Path;
use std::time::Duration;

use crate::kafka_peers::{Broker, Told, Whose};
use crate::kafka_wire::Client;
use crate::meter::Cost;
use crate::table::Table;

const PARTITIONS: usize = 6;
/// Bytes of records in each take.
const BYTES: u64 = 1_000_000_000;
/// Bytes of records that each moves after its start, while Java still compiles.
const FIRST: u64 = BYTES / 2;
/// How often each broker is measured, in turn.
const ROUNDS: usize = 2;
/// Connections that are open at once, and partitions of one topic.
const MANY: i32 = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// What is produced, and then consumed.
struct Take {
    what: &'static str,
    size: u64,
    is_synced: bool,
    targets: [&'static str; 4],
}

const TAKES: [Take; 3] = [
    Take {
        what: "1 KiB records, `durability: os` against Kafka's default",
        size: 1024,
        is_synced: false,
        targets: ["≥ 1.15", "≤ 1.0 CPU-s/GB and ≤ 0.35", "≥ 1.0", "≤ 0.35 CPU-s/GB"],
    },
    Take {
        what: "1 KiB records, `durability: fsync` against `flush.messages=1`",
        size: 1024,
        is_synced: true,
        targets: ["≥ 1.15", "≤ 1.0 CPU-s/GB and ≤ 0.35", "≥ 1.0", "≤ 0.35 CPU-s/GB"],
    },
    Take {
        what: "100-byte records, `durability: os` against Kafka's default",
        size: 100,
        is_synced: false,
        targets: ["≥ 1.15", "≤ 0.35", "≥ 1.0", "≤ 0.35 CPU-s/GB"],
    },
];

/// What a broker did in all rounds of a take.
#[derive(Default)]
struct Sum {
    /// Seconds that so many bytes took.
    produced: f64,
    consumed: f64,
    producing: Duration,
    consuming: Duration,
}

/// All measurements of the endpoint, or those parts that somebody wants.
pub(crate) fn measure(folder: &Path, table: &mut Table, wants: impl Fn(&str) -> bool) {
    let place = folder.join("kafka");
    let parts = ["kafka-rates", "kafka-waits"].map(&wants);
    if parts.contains(&true) {
        streams(&place, parts, table);
    }
    if wants("kafka-crowds") {
        crowds(&place, table);
    }
}

/// What a few clients move, and how long it waits.
fn streams(place: &Path, [rates, waits]: [bool; 2], table: &mut Table) {
    let brokers = [Broker::start(Whose::Ours, place), Broker::start(Whose::Kafkas, place)];
    std::thread::sleep(2 * SECOND);
    let idle = brokers.each_ref().map(|broker| broker.memory().0);
    // What Java compiles is compiled by then.
    let first = brokers.each_ref().map(|broker| take(broker, &TAKES[0], FIRST));
    if rates {
        tell("the first 0.5 GB after the start, 1 KiB records", (&TAKES[0], FIRST), &first, table);
    }
    for of in TAKES.iter().filter(|_| rates) {
        let mut sums = [Sum::default(), Sum::default()];
        for _ in 0..ROUNDS {
            for (broker, sum) in brokers.iter().zip(&mut sums) {
                sum.add(&take(broker, of, BYTES));
            }
        }
        tell(of.what, (of, BYTES * ROUNDS as u64), &sums, table);
    }
    if waits {
        wait(&brokers, table);
    }
    let peak = brokers.each_ref().map(|broker| broker.memory().1);
    table.row(
        "Kafka endpoint: resident, idle and at the peak of all the above",
        format!("{} MB, {} MB", idle[0], peak[0]),
        format!("Apache Kafka, heap 256 MB to 1 GB: {} MB, {} MB", idle[1], peak[1]),
        Some(peak[0] as f64 / peak[1] as f64),
        "",
    );
}

impl Sum {
    fn add(&mut self, more: &Sum) {
        self.produced += more.produced;
        self.consumed += more.consumed;
        self.producing += more.producing;
        self.consuming += more.consuming;
    }
}

fn take(broker: &Broker, of: &Take, bytes: u64) -> Sum {
    let count = bytes / of.size;
    let topic = broker.make(PARTITIONS, of.is_synced);
    let how = ["--throughput", "-1", "--command-property", "batch.size=1048576", "linger.ms=10", "acks=all"];
    let (told, producing) = broker.produce(topic, count, of.size, &how);
    let (rate, consuming) = broker.consume(topic, count);
    broker.delete(topic);
    Sum {
        produced: count as f64 / told.rate,
        consumed: count as f64 / rate,
        producing: producing.cpu,
        consuming: consuming.cpu,
    }
}

fn tell(what: &str, (of, bytes): (&Take, u64), sums: &[Sum; 2], table: &mut Table) {
    let rows = [
        ("produce", sums.each_ref().map(|sum| (sum.produced, sum.producing))),
        ("consume", sums.each_ref().map(|sum| (sum.consumed, sum.consuming))),
    ];
    for ((verb, sums), targets) in rows.iter().zip(of.targets.chunks(2)) {
        let [ours, theirs] = sums.map(|(seconds, _)| {
            let megabytes = bytes as f64 / seconds / 1e6;
            (megabytes, format!("{megabytes:.0} MB/s, {:.2} M records/s", megabytes / of.size as f64))
        });
        let what = format!("Kafka clients {verb} {what}");
        table.row(&what, ours.1, format!("Apache Kafka: {}", theirs.1), Some(ours.0 / theirs.0), targets[0]);
        let [ours, theirs] = sums.map(|(_, cpu)| Cost { elapsed: SECOND, cpu }.cpu_per_gb(bytes));
        table.row(
            "the same: the broker's processor time",
            format!("{ours:.2} CPU-s/GB"),
            format!("Apache Kafka: {theirs:.2} CPU-s/GB"),
            Some(ours / theirs),
            targets[1],
        );
    }
}

/// How long records wait that come at a steady rate.
fn wait(brokers: &[Broker; 2], table: &mut Table) {
    let [ours, theirs] = [(&brokers[0], true), (&brokers[1], false)].map(|(broker, is_synced)| {
        let topic = broker.make(PARTITIONS, is_synced);
        let how = ["--throughput", "10000", "--warmup-records", "50000", "--command-property", "acks=all"];
        let (told, cost) = broker.produce(topic, 250_000, 1024, &how);
        broker.delete(topic);
        (told, cost)
    });
    let text = |(told, cost): (Told, Cost)| {
        let cores = cost.cpu.as_secs_f64() / cost.elapsed.as_secs_f64();
        format!("p50 {:.0} ms, p99 {:.0} ms, {cores:.2} of a core", told.median, told.late)
    };
    table.row(
        "Kafka clients produce 10,000 records of 1 KiB a second, acks=all, ours with fsync",
        text(ours),
        format!("Apache Kafka without: {}", text(theirs)),
        Some(ours.0.late / theirs.0.late),
        "p99 ≤ 1.0",
    );
}

/// What many connections and partitions take, and clients that fetch what is not there.
fn crowds(place: &Path, table: &mut Table) {
    let [ours, theirs] = [Whose::Ours, Whose::Kafkas].map(|whose| {
        let broker = Broker::start(whose, place);
        let topic = broker.make(MANY as usize, false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let memory = runtime.block_on(crowd(&broker, topic));
        let sessions = {
            let _follower = broker.follow(topic);
            // Until the group has settled.
            std::thread::sleep(10 * SECOND);
            broker.busy(15 * SECOND)
        };
        let whole = runtime.block_on(async {
            let partitions: Vec<i32> = (0..MANY).collect();
            let mut client = Client::connect(&broker.address).await;
            let (begun, cpu) = (std::time::Instant::now(), crate::meter::cpu_of(&broker.id()));
            while begun.elapsed() < 15 * SECOND {
                client.fetch(topic, &partitions, 2, 500).await;
            }
            let cpu = crate::meter::cpu_of(&broker.id()).saturating_sub(cpu);
            cpu.as_secs_f64() / begun.elapsed().as_secs_f64()
        });
        (memory, sessions, whole)
    });
    table.row(
        "Kafka endpoint: resident with 1,000 connections that fetch and 1,000 partitions",
        format!("{} MB, {} MB at peak", ours.0.0, ours.0.1),
        format!("Apache Kafka: {} MB, {} MB", theirs.0.0, theirs.0.1),
        None,
        "< 100 MB",
    );
    let rows = [
        ("a Java consumer, in a session", ours.1, theirs.1, "< 2 % of a core"),
        ("a bare client that names them all twice a second", ours.2, theirs.2, ""),
    ];
    for (what, ours, theirs, target) in rows {
        let what = format!("Kafka endpoint: fetches of 1,000 idle partitions, {what}");
        let text = |share: f64| format!("{:.1} % of a core", share * 100.0);
        table.row(&what, text(ours), format!("Apache Kafka: {}", text(theirs)), None, target);
    }
}

/// Has each connection wait for a partition of its own, writes to all, and has each wait once more.
async fn crowd(broker: &Broker, topic: &str) -> (u64, u64) {
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(Client::connect(&broker.address).await);
    }
    let mut producer = Client::connect(&broker.address).await;
    for from in 0..2 {
        let wait = if from == 0 { 20_000 } else { 3_000 };
        let waiting = clients.iter_mut().enumerate().map(|(number, client)| async move {
            client.fetch(topic, &[number as i32], from, wait).await;
        });
        let waiting = futures::future::join_all(waiting.collect::<Vec<_>>());
        let produced = async {
            tokio::time::sleep(SECOND).await;
            producer.produce(topic, MANY).await;
        };
        futures::future::join(waiting, produced).await;
    }
    broker.memory()
}
