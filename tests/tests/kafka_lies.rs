//! Clients that send what no client should, byte by byte, to the real daemon: each is told with Kafka's own code, nothing of it is
//! in the log, and the next one is served.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use aqueduct_record::{BatchBuilder, Compression, crc32c};
use aqueduct_tests::daemon::{Daemon, PATIENCE};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

/// A client that knows the oldest forms of two requests.
struct Peer(TcpStream);

impl Peer {
    /// Asks, and returns what follows the answer's number.
    fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
        let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &(-1i16).to_be_bytes()];
        let frame = [&header.concat(), body].concat();
        self.0.write_all(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat()).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], 7i32.to_be_bytes());
        answer.split_off(4)
    }

    /// The code and the offset that a batch gets.
    fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> (i16, i64) {
        let body = [
            &(-1i16).to_be_bytes()[..],
            &(-1i16).to_be_bytes(),
            &10_000i32.to_be_bytes(),
            &asked(topic, partition),
            &(batch.len() as u32).to_be_bytes(),
            batch,
        ];
        let answer = self.ask(PRODUCE, 3, &body.concat());
        let answer = &answer[4 + 2 + topic.len() + 4 + 4..];
        (short(answer), i64::from_be_bytes(answer[2..10].try_into().unwrap()))
    }

    /// The code, the high watermark and how many bytes of records a fetch gets.
    fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> (i16, i64, usize) {
        let whole = [&(-1i32).to_be_bytes()[..], &0i32.to_be_bytes(), &1i32.to_be_bytes(), &(1i32 << 20).to_be_bytes()];
        let body =
            [&whole.concat()[..], &[0], &asked(topic, partition), &from.to_be_bytes(), &(1i32 << 20).to_be_bytes()];
        let answer = self.ask(FETCH, 4, &body.concat());
        let answer = &answer[4 + 4 + 2 + topic.len() + 4 + 4..];
        let end = i64::from_be_bytes(answer[2..10].try_into().unwrap());
        // No stable offset and no aborted transactions between.
        let records = i32::from_be_bytes(answer[22..26].try_into().unwrap());
        (short(answer), end, records.max(0) as usize)
    }
}

fn short(bytes: &[u8]) -> i16 {
    i16::from_be_bytes([bytes[0], bytes[1]])
}

/// One partition of one topic.
fn asked(topic: &str, partition: i32) -> Vec<u8> {
    let one = 1i32.to_be_bytes();
    [&one[..], &(topic.len() as u16).to_be_bytes(), topic.as_bytes(), &one, &partition.to_be_bytes()].concat()
}

fn batch(builder: BatchBuilder, value: &[u8]) -> Vec<u8> {
    let mut builder = builder;
    builder.push(1, None, Some(value), &[]);
    builder.finish().bytes().to_vec()
}

/// A batch with other bytes at a place, and the checksum that fits them.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch(BatchBuilder::new(), b"a");
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let sum = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_client_should_send_has_kafkas_code_and_is_not_there() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let topics = "topics:\n  t: { max.message.bytes: 16 KiB }\n  numbers: {}\n  keyed: { cleanup.policy: compact }\n";
    let mut daemon = Daemon::new(PROGRAM, topics);
    let file = daemon.path("aqueduct.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("listen: {", &format!("listen: {{ kafka: \"{address}\","), 1)).unwrap();
    daemon.started().await;
    let peer = TcpStream::connect(&address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peer = Peer(peer);

    let good = batch(BatchBuilder::new(), b"a");
    let damaged = [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat();
    let bomb = batch(BatchBuilder::new().compressed(Compression::Gzip), &vec![0; 200 << 20]);
    let cases: [(&str, &str, i32, Vec<u8>, i16); 17] = [
        ("a byte that changed on the way", "t", 0, damaged, 2),
        ("a batch cut short", "t", 0, good[..good.len() - 1].to_vec(), 87),
        ("no batch at all", "t", 0, Vec::new(), 87),
        ("two batches", "t", 0, [&good[..], &good].concat(), 87),
        ("an older format", "t", 0, with(16, &[1]), 43),
        ("a length of 2^31 - 1", "t", 0, with(8, &i32::MAX.to_be_bytes()), 87),
        ("a length of -1", "t", 0, with(8, &(-1i32).to_be_bytes()), 87),
        ("more records than there are", "t", 0, with(57, &2i32.to_be_bytes()), 87),
        ("2^31 - 1 records", "t", 0, with(57, &i32::MAX.to_be_bytes()), 87),
        ("offsets with a gap", "t", 0, with(23, &5i32.to_be_bytes()), 87),
        ("a control batch", "t", 0, with(21, &0x20i16.to_be_bytes()), 87),
        (
            "a transaction without its id",
            "t",
            0,
            batch(BatchBuilder::new().producer(1, 0, 0).transactional(), b"a"),
            53,
        ),
        ("more than the topic takes", "t", 0, batch(BatchBuilder::new(), &[7; 20 << 10]), 10),
        ("what inflates a thousand times", "numbers", 0, bomb, 87),
        ("a partition that is not there", "t", 7, good.clone(), 3),
        ("a name that leads elsewhere", "../data/t", 0, good.clone(), 3),
        ("the runtime's own topic", "__consumer_offsets", 0, good.clone(), 17),
    ];
    for (what, topic, partition, batch, code) in cases {
        assert_eq!(peer.produce(topic, partition, &batch).0, code, "{what}");
    }
    assert_eq!(peer.produce("keyed", 0, &good).0, 87, "no key where the last of each key is kept");
    for topic in ["t", "numbers", "keyed"] {
        assert_eq!(peer.fetch(topic, 0, 0), (0, 0, 0), "nothing of it is in {topic}");
    }

    let numbered = |epoch, sequence| batch(BatchBuilder::new().producer(4711, epoch, sequence), b"a");
    assert_eq!(peer.produce("numbers", 0, &numbered(1, 0)), (0, 0));
    assert_eq!(peer.produce("numbers", 0, &numbered(1, 0)), (0, 0), "again");
    assert_eq!(peer.produce("numbers", 0, &numbered(1, 2)).0, 45, "a gap");
    assert_eq!(peer.produce("numbers", 0, &numbered(0, 1)).0, 47, "an older epoch");
    assert_eq!(peer.produce("numbers", 0, &numbered(1, 1)), (0, 1));
    let size = numbered(1, 0).len();
    assert_eq!(peer.fetch("numbers", 0, 0), (0, 2, 2 * size));
    assert_eq!(peer.fetch("numbers", 0, 2), (0, 2, 0), "at the end");
    for (what, topic, partition, from, code) in [
        ("past the end", "numbers", 0, 3, 1),
        ("before the start", "numbers", 0, -1, 1),
        ("no such partition", "numbers", 9, 0, 3),
        ("no such topic", "nowhere", 0, 0, 3),
        ("a name that leads elsewhere", "../data/t", 0, 0, 3),
    ] {
        assert_eq!(peer.fetch(topic, partition, from).0, code, "{what}");
    }
    assert!(daemon.stop().success(), "{}", daemon.log());
}
