//! Records that are not in the system's memory any more, fetched over real connections, plain and with TLS: they come as they were
//! written, whatever becomes of their segments meanwhile, and a client that does not read what it fetched holds up nobody else.

#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests are the outside")]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_record::BatchBuilder;
use aqueduct_tests::daemon::{Daemon, PATIENCE};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use rustix::fs::{Advice, fadvise};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const SASL_HANDSHAKE: i16 = 17;
const DELETE_RECORDS: i16 = 21;
const SASL_AUTHENTICATE: i16 = 36;

/// Bytes of a batch's one value.
const VALUE: usize = 60_000;
/// What a client may ask for at once, and more than sockets hold.
const MUCH: i32 = 50 << 20;

/// A socket, whatever lies around it.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A client that writes requests by hand.
struct Peer(Box<dyn Socket>);

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn code(bytes: &[u8]) -> i16 {
    i16::from_be_bytes([bytes[0], bytes[1]])
}

impl Peer {
    async fn to(address: &str) -> Peer {
        Peer(Box::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Over TLS, as the user that the daemon knows.
    async fn known_to(daemon: &Daemon, address: &str) -> Peer {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(daemon.path("kafka.pem")).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut peer = Peer(Box::new(TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()));
        assert_eq!(code(&peer.ask(SASL_HANDSHAKE, 1, &text("PLAIN")).await), 0);
        let proof = b"\0alice\0alice-secret";
        let proof = [&(proof.len() as u32).to_be_bytes()[..], proof].concat();
        assert_eq!(code(&peer.ask(SASL_AUTHENTICATE, 1, &proof).await), 0);
        peer
    }

    async fn send(&mut self, api: i16, version: i16, body: &[u8]) {
        let header = [api.to_be_bytes(), version.to_be_bytes()].concat();
        let header = [&header[..], &7i32.to_be_bytes(), &(-1i16).to_be_bytes()].concat();
        let frame = [&((header.len() + body.len()) as u32).to_be_bytes()[..], &header, body].concat();
        self.0.write_all(&frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
        self.send(api, version, body).await;
        let (answer, is_whole) = self.answer().await;
        assert!(is_whole, "the connection ends in the middle of an answer");
        answer
    }

    /// What follows an answer's number, and whether all of it came before the connection's end.
    async fn answer(&mut self) -> (Vec<u8>, bool) {
        let answer = async {
            let Ok(length) = self.0.read_u32().await else { return (Vec::new(), false) };
            let mut answer = Vec::new();
            let read = (&mut self.0).take(u64::from(length)).read_to_end(&mut answer).await;
            let is_whole = read.is_ok() && answer.len() == length as usize;
            (answer, is_whole)
        };
        let (mut answer, is_whole) = tokio::time::timeout(PATIENCE, answer).await.expect("it is answered in time");
        let rest = answer.split_off(4.min(answer.len()));
        assert!(!is_whole || answer == 7i32.to_be_bytes());
        (rest, is_whole)
    }

    async fn produce(&mut self, topic: &str, batch: &[u8]) {
        let place = [&1i32.to_be_bytes()[..], &text(topic), &1i32.to_be_bytes(), &0i32.to_be_bytes()].concat();
        let head = [&(-1i16).to_be_bytes()[..], &(-1i16).to_be_bytes(), &10_000i32.to_be_bytes()].concat();
        let body = [&head[..], &place, &(batch.len() as u32).to_be_bytes(), batch].concat();
        let answer = self.ask(PRODUCE, 3, &body).await;
        assert_eq!(code(&answer[4 + 2 + topic.len() + 4 + 4..]), 0);
    }

    /// Asks for records from an offset on.
    async fn want(&mut self, topic: &str, from: i64, most: i32) {
        let times = [(-1i32).to_be_bytes(), 500i32.to_be_bytes(), 1i32.to_be_bytes(), MUCH.to_be_bytes()].concat();
        let place = [&1i32.to_be_bytes()[..], &text(topic), &1i32.to_be_bytes(), &0i32.to_be_bytes()].concat();
        let body = [&times[..], &[0], &place, &from.to_be_bytes(), &most.to_be_bytes()].concat();
        self.send(FETCH, 4, &body).await;
    }

    async fn records(&mut self, topic: &str) -> Bytes {
        let (records, is_whole) = self.records_or_end(topic).await;
        assert!(is_whole, "the connection ends in the middle of an answer");
        records
    }

    /// The records that come, and whether they are all that was announced: else the connection has ended.
    async fn records_or_end(&mut self, topic: &str) -> (Bytes, bool) {
        let (answer, is_whole) = self.answer().await;
        let places = 4 + 4 + 2 + topic.len() + 4 + 4;
        let head = places + 2 + 8 + 8 + 4 + 4;
        if answer.len() < head {
            assert!(!is_whole);
            return (Bytes::new(), false);
        }
        assert_eq!(code(&answer[places..]), 0);
        let announced = u32::from_be_bytes(answer[head - 4..head].try_into().unwrap()) as usize;
        assert!(!is_whole || answer.len() == head + announced);
        (Bytes::from(answer).slice(head..), is_whole)
    }

    async fn delete_before(&mut self, topic: &str, offset: i64) {
        let place = [&1i32.to_be_bytes()[..], &text(topic), &1i32.to_be_bytes(), &0i32.to_be_bytes()].concat();
        let body = [&place[..], &offset.to_be_bytes(), &10_000i32.to_be_bytes()].concat();
        let answer = self.ask(DELETE_RECORDS, 1, &body).await;
        let at = 4 + 4 + 2 + topic.len() + 4 + 4;
        assert_eq!(answer[at..], [&offset.to_be_bytes()[..], &0i16.to_be_bytes()].concat());
    }
}

/// The batch at an offset, as it is sent: nothing in it can be guessed from another.
fn batch(offset: i64) -> Vec<u8> {
    let mut value = vec![0; VALUE];
    SmallRng::seed_from_u64(offset as u64).fill_bytes(&mut value);
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(&value), &[]);
    builder.finish().bytes().to_vec()
}

/// Checks that records are those from an offset on, and returns the offset after the last whole batch of them.
fn check(mut records: &[u8], from: i64) -> i64 {
    let mut next = from;
    while !records.is_empty() {
        let expected = batch(next);
        let (came, rest) = records.split_at(expected.len().min(records.len()));
        // The log writes the offset and the leader epoch, and nothing else.
        let epoch = came.get(12..16).unwrap_or_default();
        let expected = [&next.to_be_bytes()[..], &expected[8..12], epoch, &expected[16..]].concat();
        let sure = if came.len() < 16 { came.len().min(12) } else { came.len() };
        assert!(came[..sure] == expected[..sure], "other bytes came at {next}");
        if came.len() < expected.len() {
            return next;
        }
        (records, next) = (rest, next + 1);
    }
    next
}

/// Reads on from an offset to another, each answer a whole one.
async fn consume(peer: &mut Peer, topic: &str, (from, to): (i64, i64), most: i32) {
    let mut next = from;
    while next < to {
        peer.want(topic, next, most).await;
        let records = peer.records(topic).await;
        let after = check(&records, next);
        assert_eq!(records.len(), (next..after).map(|offset| batch(offset).len()).sum::<usize>(), "a part of a batch");
        assert!(after > next, "nothing comes from {next} on");
        next = after;
    }
}

/// A daemon with TLS, whose user may say its password as it is.
async fn for_known_clients(configuration: &str) -> (Daemon, String) {
    let (mut daemon, address) = Daemon::for_known_kafka_clients(PROGRAM, configuration).await;
    assert!(daemon.stop().success());
    let file = daemon.path("aqueduct.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("users: {", "mechanisms: [plain], users: {", 1)).unwrap();
    daemon.started().await;
    (daemon, address)
}

/// Has the system forget what it keeps in memory of a topic's records.
fn make_cold(daemon: &Daemon, topic: &str) {
    let segments = fs::read_dir(daemon.path(&format!("data/{topic}/0"))).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    for path in segments.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
        let file = fs::File::open(&path).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_memory_comes_as_it_was_written() {
    for is_encrypted in [false, true] {
        let topics = "topics:\n  t: { segment.bytes: 4 MiB, retention.ms: -1 }\n";
        let (mut daemon, address) = match is_encrypted {
            false => Daemon::for_kafka_clients(PROGRAM, topics).await,
            true => for_known_clients(topics).await,
        };
        let count = 200;
        let peer = async |daemon: &Daemon| match is_encrypted {
            false => Peer::to(&address).await,
            true => Peer::known_to(daemon, &address).await,
        };
        let mut writer = peer(&daemon).await;
        for offset in 0..count {
            writer.produce("t", &batch(offset)).await;
        }
        // A process that wrote it knows that it is whole, one that found it has to look.
        for is_restarted in [false, true] {
            if is_restarted {
                assert!(daemon.stop().success());
                daemon.started().await;
            }
            for most in [1, 100_000, 1 << 20, MUCH] {
                let mut reader = peer(&daemon).await;
                make_cold(&daemon, "t");
                consume(&mut reader, "t", (0, count), most).await;
                consume(&mut reader, "t", (0, count), most).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_what_they_fetched_hold_up_nobody() {
    let (daemon, address) =
        Daemon::for_kafka_clients(PROGRAM, "topics:\n  t: { segment.bytes: 4 MiB, retention.ms: -1 }\n").await;
    let mut writer = Peer::to(&address).await;
    let count = 400;
    for offset in 0..count {
        writer.produce("t", &batch(offset)).await;
    }
    let mut stuck = Vec::new();
    for _ in 0..20 {
        make_cold(&daemon, "t");
        let mut peer = Peer::to(&address).await;
        peer.want("t", 0, MUCH).await;
        stuck.push(peer);
    }
    let mut reader = Peer::to(&address).await;
    for round in 0..3 {
        make_cold(&daemon, "t");
        let end = count + round;
        let others = async {
            consume(&mut reader, "t", (0, end), 4 << 20).await;
            writer.produce("t", &batch(end)).await;
            consume(&mut reader, "t", (end, end + 1), 1).await;
        };
        tokio::time::timeout(Duration::from_secs(60), others).await.expect("nobody waits for those that do not read");
    }
    // Whoever reads after all finds it, all of it unless it was too late.
    for mut peer in stuck {
        check(&peer.records_or_end("t").await.0, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_while_segments_begin_and_go_is_whole_or_ends_with_its_connection() {
    let (daemon, address) = Daemon::for_kafka_clients(
        PROGRAM,
        "topics:\n  rolls: { segment.bytes: 150 KiB, retention.ms: -1 }\n  goes: { segment.bytes: 1 MiB, retention.ms: -1 }\n",
    )
    .await;
    let count = 300;
    let mut writer = Peer::to(&address).await;
    let writing = tokio::spawn(async move {
        for offset in 0..count {
            writer.produce("rolls", &batch(offset)).await;
        }
        writer
    });
    // Each answer ends where a segment does, or within one that is written to.
    let readers = [1, 70_000, 200_000, MUCH].map(async |most| {
        let mut reader = Peer::to(&address).await;
        let mut next = 0;
        while next < count {
            reader.want("rolls", next, most).await;
            let records = reader.records("rolls").await;
            let after = check(&records, next);
            assert_eq!(records.len(), (next..after).map(|offset| batch(offset).len()).sum::<usize>());
            next = after;
        }
    });
    futures::future::join_all(readers).await;
    let mut writer = writing.await.unwrap();

    for offset in 0..count {
        writer.produce("goes", &batch(offset)).await;
    }
    let mut stuck = Vec::new();
    for from in 0..8 {
        make_cold(&daemon, "goes");
        let mut peer = Peer::to(&address).await;
        peer.want("goes", from * 10, MUCH).await;
        // The first bytes are here: the rest is on its way, or waits for room.
        let mut first = [0; 4];
        peer.0.read_exact(&mut first).await.unwrap();
        stuck.push((from * 10, peer, first));
    }
    writer.delete_before("goes", count).await;
    let left = daemon.files("data/goes/0").into_iter().filter(|(name, _)| name.ends_with(".log")).count();
    assert_eq!(left, 1, "the segments are gone");
    for (from, mut peer, first) in stuck {
        peer.0 = Box::new(tokio::io::join(std::io::Cursor::new(first).chain(peer.0), tokio::io::sink()));
        let (records, is_whole) = peer.records_or_end("goes").await;
        let next = check(&records, from);
        let whole: usize = (from..next).map(|offset| batch(offset).len()).sum();
        assert!(records.len() == whole || !is_whole, "a part of a batch");
    }
    let mut late = Peer::to(&address).await;
    writer.produce("goes", &batch(count)).await;
    consume(&mut late, "goes", (count, count + 1), MUCH).await;
}
