//! The two brokers that are measured, and Apache Kafka's own clients that work them.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::floor;
use crate::meter::{Cost, cpu_of, memory_of};
use crate::process::Daemon;

/// Fetches Kafka where it is missing, and runs it and its tools.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/kafka.sh");
const HTTP: u16 = 18_087;
/// Topics whose records are safe on the disk before they are acknowledged, and others: no tool of Kafka's can say it.
const SYNCED: &str = "synced";
const UNSYNCED: &str = "unsynced";
/// Java for clients that run long enough for what it compiles to pay.
const JAVA: &str = "-Xmx512m -XX:+UseG1GC";

/// A broker that runs until it is dropped.
pub(crate) struct Broker {
    /// `host:port`.
    pub(crate) address: String,
    process: Process,
    folder: PathBuf,
}

enum Process {
    Ours(Daemon),
    Kafka(Child),
}

/// Whose broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours,
    Kafkas,
}

impl Broker {
    /// Starts one in a folder of its own; returns when it answers.
    pub(crate) fn start(whose: Whose, folder: &Path) -> Self {
        let folder = folder.join(format!("{whose:?}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (process, address) = match whose {
            Whose::Ours => {
                let address = "127.0.0.1:18088".to_owned();
                let configuration = folder.join("aqueduct.yaml");
                let text = format!(
                    "log: {{ path: ./data, limit: 99% }}\nlisten: {{ http: 127.0.0.1:{HTTP}, kafka: \"{address}\" }}\n\
                     topics: {{ {SYNCED}: {{ durability: fsync }}, {UNSYNCED}: {{ durability: os }} }}\n"
                );
                std::fs::write(&configuration, text).expect("a new file");
                (Process::Ours(Daemon::start(&configuration, HTTP)), address)
            }
            Whose::Kafkas => {
                let mut command = Command::new("bash");
                command.args([SCRIPT, "server"]).arg(&folder).arg("18090");
                // What is deleted goes soon: the disk holds several gigabytes of each round.
                command.arg("log.segment.delete.delay.ms=1000").stdin(Stdio::null()).stdout(Stdio::null());
                (Process::Kafka(command.spawn().expect("bash")), "127.0.0.1:18090".to_owned())
            }
        };
        let broker = Broker { address, process, folder };
        let begun = Instant::now();
        while TcpStream::connect(&broker.address).is_err() || broker.try_tool("topics", &["--list"]).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no broker at {}", broker.address);
            std::thread::sleep(Duration::from_millis(100));
        }
        if whose == Whose::Ours {
            // They were made as they are declared, and are made anew with other numbers of partitions.
            [SYNCED, UNSYNCED].iter().for_each(|topic| broker.delete(topic));
        }
        broker
    }

    /// The process, for `/proc`.
    pub(crate) fn id(&self) -> String {
        match &self.process {
            Process::Ours(daemon) => daemon.id(),
            Process::Kafka(child) => child.id().to_string(),
        }
    }

    /// What it holds in memory, now and at its peak, in megabytes.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let (now, peak) = memory_of(&self.id());
        (now / 1_000_000, peak / 1_000_000)
    }

    /// A share of a core, while somebody else does what there is to do.
    pub(crate) fn busy(&self, lasts: Duration) -> f64 {
        let (begun, cpu) = (Instant::now(), cpu_of(&self.id()));
        std::thread::sleep(lasts);
        cpu_of(&self.id()).saturating_sub(cpu).as_secs_f64() / begun.elapsed().as_secs_f64()
    }

    /// Makes a topic that is synced with every append, or is not; its name.
    pub(crate) fn make(&self, partitions: usize, is_synced: bool) -> &'static str {
        let topic = if is_synced { SYNCED } else { UNSYNCED };
        let partitions = partitions.to_string();
        let how = ["--create", "--topic", topic, "--partitions", &partitions];
        let synced = ["--config", "flush.messages=1"];
        let is_kafka = matches!(self.process, Process::Kafka(_));
        self.tool("topics", &[&how[..], if is_kafka && is_synced { &synced } else { &[] }].concat());
        topic
    }

    /// Deletes a topic.
    pub(crate) fn delete(&self, topic: &str) {
        self.tool("topics", &["--delete", "--topic", topic]);
    }

    /// What a producer says that sends so many records, and what they cost the broker. All are there afterwards.
    pub(crate) fn produce(&self, topic: &str, count: u64, size: u64, more: &[&str]) -> (Told, Cost) {
        let (count, size) = (count.to_string(), size.to_string());
        let how = ["--topic", topic, "--num-records", &count, "--record-size", &size];
        let before = self.records(topic);
        let (begun, cpu) = (Instant::now(), cpu_of(&self.id()));
        let told = self.tool("producer-perf", &[&how[..], more].concat());
        let cost = Cost { elapsed: begun.elapsed(), cpu: cpu_of(&self.id()).saturating_sub(cpu) };
        assert_eq!((self.records(topic) - before).to_string(), count, "records in {topic}: {told}");
        let line = told.lines().rfind(|line| line.contains(" 99th")).expect("a last line with quantiles");
        let number = |unit: &str| number_before(line, unit).unwrap_or_else(|| panic!("no {unit} in {line}"));
        let told = Told { rate: number(" records/sec"), median: number(" ms 50th"), late: number(" ms 99th") };
        (told, cost)
    }

    /// How many records a second a consumer reads that reads all from the beginning, and what that costs the broker.
    pub(crate) fn consume(&self, topic: &str, count: u64) -> (f64, Cost) {
        let count = count.to_string();
        let how = ["--topic", topic, "--num-records", &count, "--timeout", "60000", "--hide-header"];
        let (begun, cpu) = (Instant::now(), cpu_of(&self.id()));
        let told = self.tool("consumer-perf", &how);
        let cost = Cost { elapsed: begun.elapsed(), cpu: cpu_of(&self.id()).saturating_sub(cpu) };
        let line = told.lines().rfind(|line| line.split(", ").count() == 10).expect("a line of ten columns");
        let column = |at: usize| line.split(", ").nth(at).and_then(|word| word.parse::<f64>().ok()).expect("a number");
        // A poll may bring a few more than were asked for.
        assert!(column(4) >= count.parse::<f64>().unwrap_or(0.0), "records read: {line}");
        (column(9), cost)
    }

    /// A console consumer of a whole topic, which runs until it is dropped.
    pub(crate) fn follow(&self, topic: &str) -> Follower {
        let mut command = self.command("console-consumer", &["--topic", topic]);
        Follower(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash"))
    }

    /// How many records a topic has, by its offsets.
    fn records(&self, topic: &str) -> u64 {
        let told = self.tool("get-offsets", &["--topic", topic, "--time", "latest"]);
        told.lines().filter_map(|line| line.rsplit(':').next()?.parse::<u64>().ok()).sum()
    }

    fn tool(&self, tool: &str, arguments: &[&str]) -> String {
        self.try_tool(tool, arguments).unwrap_or_else(|told| panic!("{tool} {arguments:?}: {told}"))
    }

    fn try_tool(&self, tool: &str, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(tool, arguments).output().expect("bash");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(told),
            false => Err(told + &String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.args([SCRIPT, tool, "--bootstrap-server", &self.address]).args(arguments).stdin(Stdio::null());
        if tool.ends_with("-perf") {
            command.env("AQUEDUCT_KAFKA_JAVA", JAVA);
        }
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Process::Kafka(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
        floor::remove(&self.folder);
    }
}

/// A consumer that is killed when dropped.
pub(crate) struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a producer says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    /// Records a second.
    pub(crate) rate: f64,
    /// How many milliseconds half of the records took at most.
    pub(crate) median: f64,
    /// And 99 of a hundred.
    pub(crate) late: f64,
}

fn number_before(line: &str, unit: &str) -> Option<f64> {
    let before = &line[..line.find(unit)?];
    before.rsplit([' ', ',']).next()?.parse().ok()
}
