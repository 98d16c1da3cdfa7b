//! Access logs to search and to count, by the configuration as it is published: what OpenSearch and DuckDB find is what the
//! files say.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::services::{self, Bucket, Search};
use chrono::{DateTime, Duration, Utc};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// The requests of good lines by their day; no two are alike.
type Days = BTreeMap<String, BTreeSet<String>>;

/// A web server that writes its log, a line a minute.
struct Nginx {
    chance: SmallRng,
    now: DateTime<Utc>,
    number: u32,
    good: Days,
    bad: u64,
}

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "curl/8.5.0",
    "Mozilla/5.0 (compatible; Bot/2.1; +http://www.example.com/bot.html)",
    "-",
];

/// What stands in such files beside access log lines.
const BAD: [&[u8]; 6] = [
    b"2026/11/19 08:00:00 [error] 31#31: *1 open() failed (2: No such file or directory), client: 10.0.0.1",
    b"10.0.0.7 - - [19/Nov/2026:08:0",
    b"GET / HTTP/1.1",
    b"10.0.0.7 - - [99/Foo/2026:08:00:00 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"",
    b"{\"json\": \"is none\"}",
    b"\xff\xfe\x00binary\x80",
];

impl Nginx {
    fn new() -> Nginx {
        let now = "2026-11-17T06:00:00Z".parse().unwrap();
        Nginx { chance: SmallRng::seed_from_u64(7), now, number: 0, good: Days::new(), bad: 0 }
    }

    /// The next lines of the log, one of fifty of them bad.
    fn write(&mut self, lines: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..lines {
            match self.chance.random_range(0..50) {
                0 => {
                    text.extend_from_slice(BAD[self.chance.random_range(0..BAD.len())]);
                    self.bad += 1;
                }
                _ => text.extend(self.line().into_bytes()),
            }
            text.push(b'\n');
        }
        text
    }

    fn line(&mut self) -> String {
        self.now += Duration::seconds(self.chance.random_range(0..120));
        self.number += 1;
        let method = ["GET", "GET", "GET", "POST", "HEAD"][self.chance.random_range(0..5)];
        let request = format!("{method} /items/{}?q=a%20b&lang=\\xC3\\xA4 HTTP/1.1", self.number);
        self.good.entry(self.now.format("%Y-%m-%d").to_string()).or_default().insert(request.clone());
        let client = match self.chance.random_range(0..4) {
            0 => "2001:db8::17".to_owned(),
            _ => format!("10.0.{}.{}", self.chance.random_range(0..256), self.chance.random_range(1..255)),
        };
        let user = ["-", "-", "-", "anna"][self.chance.random_range(0..4)];
        // The server's clock is an hour ahead of UTC.
        let time = (self.now + Duration::hours(1)).format("%d/%b/%Y:%H:%M:%S +0100");
        let status = [200, 200, 200, 301, 404, 499, 500][self.chance.random_range(0..7)];
        let size = self.chance.random_range(0..100_000);
        let referer = ["-", "https://shop.example/cart?id=1"][self.chance.random_range(0..2)];
        let agent = AGENTS[self.chance.random_range(0..AGENTS.len())];
        format!(r#"{client} - {user} [{time}] "{request}" {status} {size} "{referer}" "{agent}""#)
    }

    fn count(&self) -> u64 {
        self.good.values().map(|day| day.len() as u64).sum()
    }
}

/// The published configuration, with this test's places in the stead of those that it names.
fn configuration(index: &str, search: &Search, bucket: &Bucket) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/access-logs-everywhere.yaml");
    let mut text = fs::read_to_string(path).unwrap();
    // `Daemon` says where the log is.
    let log = text.lines().find(|line| line.starts_with("log:")).unwrap().to_owned();
    let settings = bucket.s3.settings();
    let flow: String = settings.split(", ").map(|setting| format!("\n      {setting}")).collect();
    for (from, to) in [
        (log.as_str(), String::new()),
        ("\"/var/log/nginx/access.log\"", "in/access.log".to_owned()),
        ("\"/var/log/nginx/access.log.1\"", "in/access.log.1".to_owned()),
        ("http://127.0.0.1:9200", search.endpoint.clone()),
        ("nginx-{timestamp", format!("{index}-{{timestamp")),
        ("s3://lake/access", format!("s3://{}/access", bucket.name)),
        ("\n      region: eu-central-1", flow),
        ("age: 5m", "age: 2s".to_owned()),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {path}");
        text = text.replace(from, &to);
    }
    text
}

/// How many documents there are by the server's count, and the requests of each day's index.
async fn searched(search: &Search, index: &str, days: &Days) -> (u64, Days) {
    let (status, answer) = search.ask(Method::POST, &format!("{index}-*/_refresh"), None).await;
    assert!(matches!(status, 200 | 404), "{answer}");
    let (status, answer) = search.ask(Method::GET, &format!("{index}-*/_count"), None).await;
    assert_eq!(status, 200, "{answer}");
    let mut found = Days::new();
    for day in days.keys() {
        let documents = search.documents(&format!("{index}-{}", day.replace('-', "."))).await;
        let requests: BTreeSet<String> =
            documents.iter().map(|document| document["_source"]["request"].as_str().unwrap().to_owned()).collect();
        assert_eq!(requests.len(), documents.len(), "a line is there twice on {day}");
        found.insert(day.clone(), requests);
    }
    (answer["count"].as_u64().unwrap(), found)
}

/// What a reader of Parquet finds, by day; each request once.
fn counted(reader: &str, files: &[PathBuf]) -> Days {
    let mut found = Days::new();
    let read = services::read(reader, files);
    let tables = read.as_array().unwrap().iter();
    for row in tables.flat_map(|rows| rows.as_array().unwrap()) {
        let day = row["timestamp"].as_str().unwrap()[..10].to_owned();
        let is_new = found.entry(day).or_default().insert(row["request"].as_str().unwrap().to_owned());
        assert!(is_new, "{reader} finds a line twice: {row}");
    }
    found
}

async fn download(bucket: &Bucket, daemon: &Daemon) -> Vec<PathBuf> {
    let folder = daemon.path("parquet");
    fs::create_dir_all(&folder).unwrap();
    let mut files = Vec::new();
    for (number, (key, bytes)) in bucket.objects().await.into_iter().enumerate() {
        assert!(key.starts_with("access/day=2026-11-"), "{key}");
        let file = folder.join(format!("{number}.parquet"));
        fs::write(&file, bytes).unwrap();
        files.push(file);
    }
    files
}

#[tokio::test]
async fn access_logs_are_the_same_in_the_files_in_opensearch_and_in_parquet() {
    let (search, bucket) = (services::opensearch().await, services::s3().await.bucket("access").await);
    // Buckets have names of their own, whatever the server.
    let index = format!("{}-nginx", bucket.name);
    let mut daemon = Daemon::new(PROGRAM, &configuration(&index, &search, &bucket));
    let mut nginx = Nginx::new();
    let log = daemon.path("in/access.log");
    fs::write(daemon.path("in/access.log.1"), nginx.write(2000)).unwrap();
    fs::write(&log, nginx.write(1500)).unwrap();
    daemon.started().await;
    // The server goes on, the log is rotated while it is read, and the daemon dies in between.
    for round in 0..4 {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        std::io::Write::write_all(&mut file, &nginx.write(500)).unwrap();
        drop(file);
        let documents = nginx.count();
        let all = async |daemon: &Daemon| lines(daemon, "nginx") == documents;
        daemon.until("all lines are in the log", all).await;
        match round {
            0 => fs::rename(&log, daemon.path("in/access.log.1")).unwrap(),
            2 => {
                daemon.kill();
                daemon.started().await;
            }
            _ => {}
        }
    }
    let good = nginx.count();
    assert!(good > 5000 && nginx.bad > 50 && nginx.good.len() > 2, "{good} {} {}", nginx.bad, nginx.good.len());
    let arrived = async |daemon: &Daemon| {
        let delivered = |sink: &Value| {
            let partitions = sink["partitions"].as_array().map_or(&[][..], Vec::as_slice);
            !partitions.is_empty() && partitions.iter().all(|partition| partition["lag"] == 0)
        };
        delivered(&daemon.connector("search").await) && delivered(&daemon.connector("lake").await)
    };
    daemon.until("both sinks have delivered all", arrived).await;
    assert!(daemon.stop().success(), "{}", daemon.log());

    assert_eq!(searched(&search, &index, &nginx.good).await, (good, nginx.good.clone()));
    let files = download(&bucket, &daemon).await;
    for reader in ["duckdb", "pyarrow"] {
        assert_eq!(counted(reader, &files), nginx.good, "{reader}");
    }
    assert_eq!(lines(&daemon, "nginx.dead-letters"), nginx.bad);
    let letters = daemon.command(&["dead-letters", "list"]);
    let letters = String::from_utf8_lossy(&letters.stdout).into_owned();
    assert!(!letters.contains("search.") && !letters.contains("lake."), "{letters}");
}

/// How many records a topic has got, 0 where there is none.
fn lines(daemon: &Daemon, topic: &str) -> u64 {
    let output = daemon.command(&["topics", "show", topic, "--json"]);
    let topic: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let partitions = topic["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    partitions.iter().map(|partition| partition["end"].as_u64().unwrap()).sum()
}
