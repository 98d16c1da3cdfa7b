//! Kafka REST requests that stay open: each record is answered before the next one is sent.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Log, World};

/// A client with an open request.
struct Client {
    stream: TcpStream,
    read: String,
}

impl Client {
    async fn open(world: &World) -> Client {
        let mut stream = TcpStream::connect(&world.address).await.unwrap();
        let head = "POST /v3/clusters/aqueduct/topics/orders/records HTTP/1.1\r\nHost: x\r\n\
                    Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        Client { stream, read: String::new() }
    }

    async fn send(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.stream.write_all(chunk.as_bytes()).await.unwrap();
    }

    /// Reads until so many reports are there.
    async fn reports(&mut self, count: usize) -> Vec<Value> {
        let read = async {
            loop {
                let reports: Vec<Value> = self
                    .read
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok())
                    .filter(Value::is_object)
                    .collect();
                if reports.len() >= count {
                    return reports;
                }
                let mut part = [0; 4096];
                let length = self.stream.read(&mut part).await.unwrap();
                assert!(length > 0, "the connection ends: {}", self.read);
                self.read.push_str(std::str::from_utf8(&part[..length]).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("it is answered")
    }

    /// Reads to the end of the answer.
    async fn rest(mut self) -> String {
        let read = async {
            let mut part = [0; 4096];
            while !self.read.ends_with("0\r\n\r\n") {
                let length = self.stream.read(&mut part).await.unwrap_or(0);
                if length == 0 {
                    break;
                }
                self.read.push_str(std::str::from_utf8(&part[..length]).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("it ends");
        self.read
    }
}

fn record(value: &str) -> String {
    json!({ "value": { "type": "STRING", "data": value } }).to_string()
}

#[tokio::test]
async fn each_record_is_answered_before_the_next_is_sent() {
    let world = World::new(Log::Takes, json!({})).await;
    let mut client = Client::open(&world).await;
    client.send(&record("a")).await;
    let reports = client.reports(1).await;
    assert!(client.read.starts_with("HTTP/1.1 200 OK"), "{}", client.read);
    assert_eq!((&reports[0]["error_code"], &reports[0]["topic_name"]), (&json!(200), &json!("orders")));
    // Two at once, one of which makes no sense; then one in two pieces.
    client.send(&format!("{}{{\"value\":7}} ", record("b } \" ü"))).await;
    let reports = client.reports(3).await;
    assert_eq!((&reports[1]["error_code"], &reports[2]["error_code"]), (&json!(200), &json!(400)));
    let (one, other) = (record("c"), record("d"));
    let (start, end) = one.split_at(9);
    client.send(start).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send(&format!("{end}{other}")).await;
    let reports = client.reports(5).await;
    let offsets: Vec<_> = reports.iter().filter_map(|report| report["offset"].as_i64()).collect();
    assert_eq!(offsets.len(), 4, "{reports:?}");
    client.stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(client.rest().await.ends_with("0\r\n\r\n"));
    assert_eq!(world.values(), ["a", "b } \" ü", "c", "d"]);
}

#[tokio::test]
async fn what_ends_a_request_that_stays_open_is_said() {
    for (sent, status, expected) in [
        (vec![record("a"), "nonsense".to_owned()], "200", "`n` where a record was expected to begin"),
        (vec![record("a"), "{\"value\"".to_owned()], "200", "no whole record within 300ms"),
        (vec![record("a"), record(&"x".repeat(66_000))], "200", "a record has more than 65536 bytes"),
        (vec![record("a"), "{\"value\": nonsense}".to_owned()], "200", "the body is not what is expected"),
    ] {
        let world = World::new(Log::Takes, json!({"body-timeout": "300ms", "largest-body": "64 KiB"})).await;
        let mut client = Client::open(&world).await;
        for (count, text) in sent.iter().enumerate() {
            client.send(text).await;
            if count == 0 {
                client.reports(1).await;
            }
        }
        let told = client.rest().await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")) && told.contains(expected), "{told}");
        assert_eq!(world.values(), ["a"]);
    }
}

#[tokio::test]
async fn a_full_log_refuses_a_request_that_would_stay_open() {
    let world = World::new(Log::IsFull, json!({})).await;
    let mut client = Client::open(&world).await;
    client.send(&record("a")).await;
    client.reports(1).await;
    let told = client.read.to_lowercase();
    assert!(told.starts_with("http/1.1 429") && told.contains("retry-after: 1"), "{told}");
}
