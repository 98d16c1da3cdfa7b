//! Peers of the real daemon that are many, slow, silent or absurd, while a normal client goes on: each of them loses its connection
//! or its request alone, it is counted, and the daemon's memory stays bounded.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aqueduct_record::{BatchBuilder, Compression};
use aqueduct_tests::daemon::{Daemon, PATIENCE};
use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const JOIN_GROUP: i16 = 11;
const SYNC_GROUP: i16 = 14;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;

/// A client that writes requests by hand.
struct Peer(TcpStream);

fn frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &(-1i16).to_be_bytes()].concat();
    [&((header.len() + body.len()) as u32).to_be_bytes()[..], &header, body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

impl Peer {
    async fn to(address: &str) -> Peer {
        Peer(TcpStream::connect(address).await.unwrap())
    }

    async fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
        self.0.write_all(&frame(api, version, body)).await.unwrap();
        self.answer().await
    }

    /// What follows the answer's number.
    async fn answer(&mut self) -> Vec<u8> {
        let answer = async {
            let mut answer = vec![0; self.0.read_u32().await.unwrap() as usize];
            self.0.read_exact(&mut answer).await.unwrap();
            answer
        };
        let mut answer = tokio::time::timeout(PATIENCE, answer).await.expect("it is answered in time");
        assert_eq!(answer[..4], 7i32.to_be_bytes());
        answer.split_off(4)
    }

    /// The code that a batch gets.
    async fn produce(&mut self, topic: &str, batch: &[u8]) -> i16 {
        let body = [
            &(-1i16).to_be_bytes()[..],
            &(-1i16).to_be_bytes(),
            &10_000i32.to_be_bytes(),
            &1i32.to_be_bytes(),
            &text(topic),
            &1i32.to_be_bytes(),
            &0i32.to_be_bytes(),
            &(batch.len() as u32).to_be_bytes(),
            batch,
        ];
        let answer = self.ask(PRODUCE, 3, &body.concat()).await;
        code(&answer[4 + 2 + topic.len() + 4 + 4..])
    }

    /// Waits for the connection's end, without an answer.
    async fn is_closed(&mut self, within: Duration) -> bool {
        let mut rest = Vec::new();
        // By an end of file or by a reset.
        let ended = tokio::time::timeout(within, self.0.read_to_end(&mut rest)).await.is_ok();
        assert!(rest.is_empty(), "an answer: {rest:?}");
        ended
    }
}

fn code(bytes: &[u8]) -> i16 {
    i16::from_be_bytes([bytes[0], bytes[1]])
}

fn batch(value: &[u8], compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compressed(compression);
    builder.push(1, None, Some(value), &[]);
    builder.finish().bytes().to_vec()
}

/// A client that writes one small batch after another, and how long the slowest took.
struct Normal {
    is_over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writing: JoinHandle<Duration>,
}

impl Normal {
    async fn at(address: &str) -> Normal {
        let (mut peer, is_over, written) =
            (Peer::to(address).await, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (is_over.clone(), written.clone());
        let writing = tokio::spawn(async move {
            let batch = batch(b"a", Compression::None);
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert_eq!(peer.produce("t", &batch).await, 0);
                slowest = slowest.max(begun.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            slowest
        });
        Normal { is_over, written, writing }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// It went on all the while, and none of its requests took longer than `most`.
    async fn ends_undisturbed(self, most: Duration) {
        self.is_over.store(true, Ordering::Relaxed);
        let slowest = self.writing.await.unwrap();
        assert!(slowest < most, "a request of a normal client took {slowest:?}");
    }
}

/// The most memory that the daemon had, in MiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() >> 10
}

async fn counter(daemon: &Daemon, name: &str) -> u64 {
    let page = daemon.get("/metrics").await.unwrap();
    let name = format!("aqueduct_kafka_{name}_total{{}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// The process, and every daemon that it starts, may have so many files.
fn files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    assert!(
        enough,
        "ten thousand connections have two ends: `ulimit -Hn` says {limit:?}, at least {wanted} are needed"
    );
    let current = limit.current.map(|current| current.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_are_served_and_more_turned_away() {
    files(12_000);
    let (daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: {}\n").await;
    let normal = Normal::at(&address).await;
    let before = memory(&daemon);
    // One place is taken by the normal client.
    let mut peers = Vec::new();
    for _ in 0..101 {
        peers.extend(join_all((0..99).map(|_| Peer::to(&address))).await);
    }
    for some in peers.chunks_mut(500) {
        let asked = some.iter_mut().map(async |peer| code(&peer.ask(API_VERSIONS, 0, &[]).await));
        assert!(join_all(asked).await.into_iter().all(|code| code == 0));
    }
    assert_eq!(counter(&daemon, "connections").await, 10_000);
    for _ in 0..100 {
        assert!(Peer::to(&address).await.is_closed(PATIENCE).await, "there are too many");
    }
    assert_eq!(counter(&daemon, "turned_away").await, 100);
    let grown = memory(&daemon) - before;
    assert!(grown < 200, "{grown} MiB more");
    let written = normal.written();
    daemon.until("the normal client goes on", async |_| normal.written() > written + 10).await;
    drop(peers);
    daemon
        .until("there is room again", async |_| {
            let mut peer = Peer::to(&address).await;
            peer.0.write_all(&frame(API_VERSIONS, 0, &[])).await.is_ok() && peer.0.read_u32().await.is_ok()
        })
        .await;
    normal.ends_undisturbed(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_silent_and_lying_peers_lose_their_connections_alone() {
    let (daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: {}\n").await;
    let normal = Normal::at(&address).await;
    let before = memory(&daemon);
    let longest = 100 << 20;
    for length in [0x7fff_ffffu32, 0x8000_0000, 0xffff_ffff, longest + 1, u32::from_be_bytes(*b"GET ")] {
        let mut peer = Peer::to(&address).await;
        peer.0.write_all(&[&length.to_be_bytes()[..], &[0; 8]].concat()).await.unwrap();
        assert!(peer.is_closed(PATIENCE).await, "a length of {length}");
    }
    assert_eq!(counter(&daemon, "broken").await, 5);
    // Each announces as much as a request may have, and sends it byte by byte, or not at all; half have sent a part and are gone.
    let begun = Instant::now();
    let slow = (0..200).map(|number| {
        let address = address.clone();
        async move {
            let mut peer = Peer::to(&address).await;
            peer.0.write_all(&longest.to_be_bytes()).await.unwrap();
            if number % 2 == 0 {
                // The end of what it sends, but not of the connection.
                peer.0.shutdown().await.unwrap();
            }
            while number % 2 == 1 && begun.elapsed() < Duration::from_secs(40) && peer.0.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            peer
        }
    });
    let slow = tokio::spawn(join_all(slow.collect::<Vec<_>>()));
    daemon.until("a normal client goes on", async |_| normal.written() > 200).await;
    let grown = memory(&daemon) - before;
    assert!(grown < 300, "{grown} MiB more");
    slow.abort();
    normal.ends_undisturbed(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_paths_and_records_that_inflate_are_refused() {
    let (daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: {}\n").await;
    let mut peer = Peer::to(&address).await;
    let long = "x".repeat(250);
    let names = ["../x", "..", ".", "a/b", "/etc/passwd", "a\\b", "a\0b", "ü", "", " ", "%2e%2e", &long];
    for name in names {
        let topic = [&1i32.to_be_bytes()[..], &text(name), &1i32.to_be_bytes(), &1i16.to_be_bytes(), &[0; 8]];
        let answer =
            peer.ask(CREATE_TOPICS, 2, &[topic.concat(), 10_000i32.to_be_bytes().to_vec(), vec![0]].concat()).await;
        assert_eq!(code(&answer[4 + 4 + 2 + name.len()..]), 17, "{name:?} is made");
        // Who asks for it makes it, where it may be.
        let answer = peer.ask(METADATA, 4, &[&1i32.to_be_bytes()[..], &text(name), &[1]].concat()).await;
        let refused = answer.windows(2 + 2 + name.len()).any(|part| code(part) == 17 && part[2..] == text(name));
        assert!(refused, "{name:?} is there: {answer:?}");
        assert_ne!(peer.produce(name, &batch(b"a", Compression::None)).await, 0, "{name:?}");
    }
    let topics =
        fs::read_dir(daemon.path("data")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strange: Vec<_> = topics.filter(|name| names.contains(&name.as_str())).collect();
    assert!(strange.is_empty() && !daemon.path("x").exists(), "{strange:?}");
    let refused = counter(&daemon, "refused_batches").await;
    assert_eq!(refused, names.len() as u64);

    let before = memory(&daemon);
    let zeros = vec![0; 300 << 20];
    let bombs: Vec<_> = [Compression::Gzip, Compression::Zstd].map(|codec| batch(&zeros, codec)).into();
    drop(zeros);
    assert!(bombs.iter().all(|bomb| bomb.len() < 1 << 20), "they are small");
    let peers = (0..40).map(async |number: usize| {
        let mut peer = Peer::to(&address).await;
        peer.produce("t", &bombs[number % bombs.len()]).await
    });
    let codes = join_all(peers).await;
    // Zstandard is not for clients that know Produce version 3.
    assert!(codes.iter().all(|code| matches!(code, 87 | 76)), "{codes:?}");
    assert_eq!(counter(&daemon, "refused_batches").await, refused + 40);
    let grown = memory(&daemon) - before;
    assert!(grown < 400, "{grown} MiB more");
    assert_eq!(peer.produce("t", &batch(b"a", Compression::Gzip)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_never_sync_are_put_out_of_their_group() {
    let (daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: {}\n").await;
    let join = |member: &str, timeout: i32| {
        let protocols = [&1i32.to_be_bytes()[..], &text("range"), &1i32.to_be_bytes(), b"x"].concat();
        let times = [6000i32.to_be_bytes(), timeout.to_be_bytes()].concat();
        [text("g"), times, text(member), text("consumer"), protocols].concat()
    };
    let first = |answer: &[u8]| {
        // After the code: generation, protocol, leader, and itself.
        let mut at = 2 + 4;
        let mut word = || {
            let length = code(&answer[at..]) as usize;
            let word = String::from_utf8(answer[at + 2..at + 2 + length].to_vec()).unwrap();
            at += 2 + length;
            word
        };
        let [_, leader, member] = [word(), word(), word()];
        (i32::from_be_bytes(answer[2..6].try_into().unwrap()), leader, member)
    };
    // It leads, and never says who gets what.
    let mut silent = Peer::to(&address).await;
    let answer = silent.ask(JOIN_GROUP, 1, &join("", 2000)).await;
    assert_eq!(code(&answer), 0);
    let (_, leader, member) = first(&answer);
    assert_eq!(leader, member);
    // Whoever comes next waits for it no longer than it said it would need.
    let begun = Instant::now();
    let mut next = Peer::to(&address).await;
    let answer = next.ask(JOIN_GROUP, 1, &join("", 2000)).await;
    assert_eq!(code(&answer), 0);
    let (generation, leader, member) = first(&answer);
    assert_eq!(leader, member, "the silent one is out");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let given = [&1i32.to_be_bytes()[..], &text(&member), &1i32.to_be_bytes(), b"y"].concat();
    let sync = [text("g"), generation.to_be_bytes().to_vec(), text(&member), given].concat();
    let answer = next.ask(SYNC_GROUP, 0, &sync).await;
    assert_eq!((code(&answer), &answer[6..]), (0, &b"y"[..]));
    // Those that joined and are gone are forgotten, and the group's other members with them.
    let many = (0..500).map(async |_| {
        let mut peer = Peer::to(&address).await;
        peer.0.write_all(&frame(JOIN_GROUP, 1, &join("", 1000))).await.unwrap();
    });
    join_all(many).await;
    daemon
        .until("the group is empty again", async |_| {
            let mut peer = Peer::to(&address).await;
            // DescribeGroups: the code, then the group and its state.
            let answer = peer.ask(15, 0, &[&1i32.to_be_bytes()[..], &text("g")].concat()).await;
            answer.windows(5).any(|part| part == b"Empty") || answer.windows(4).any(|part| part == b"Dead")
        })
        .await;
    assert!(memory(&daemon) < 300, "{} MiB", memory(&daemon));
}
