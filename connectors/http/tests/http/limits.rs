//! The source under very many clients, and under slow ones.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::world::{Log, World};

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";

/// Sends a request and reads the beginning of its answer.
async fn exchange(stream: &mut TcpStream) -> String {
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    // Until the body, which is JSON, is there.
    while !answer.ends_with(b"}]}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer[..12]).into_owned()
}

#[tokio::test]
async fn a_thousand_connections_at_once_are_served() {
    let world = World::new(Log::Takes, json!({})).await;
    let (all, mut clients) = (Arc::new(Barrier::new(1000)), JoinSet::new());
    for _ in 0..1000 {
        let (address, all) = (world.address.clone(), all.clone());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let first = exchange(&mut stream).await;
            // All are open now.
            all.wait().await;
            [first, exchange(&mut stream).await, exchange(&mut stream).await]
        });
    }
    while let Some(answers) = clients.join_next().await {
        assert_eq!(answers.unwrap(), ["HTTP/1.1 200"; 3]);
    }
    assert_eq!(world.values().len(), 3000);
}

#[tokio::test]
async fn connections_past_the_limit_wait_for_their_turn() {
    let world = World::new(Log::Takes, json!({"connections": 20})).await;
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let address = world.address.clone();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            exchange(&mut stream).await
        });
    }
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap(), "HTTP/1.1 200");
    }
    assert_eq!(world.values().len(), 1000);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_not_waited_for() {
    let limits = json!({"body-timeout": "400ms", "connections": 4, "requests": 4});
    let world = World::new(Log::Takes, limits).await;
    let begun = std::time::Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let address = world.address.clone();
        clients.spawn(async move {
            let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
            let trickle = tokio::spawn(async move {
                write.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
                // Always something, never enough.
                while write.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            let mut answer = Vec::new();
            let _ = read.read_to_end(&mut answer).await;
            trickle.abort();
            String::from_utf8_lossy(&answer).into_owned()
        });
    }
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    // They are gone, and others get their turn.
    assert_eq!(world.post("/", &[], "whole").await.0, 200);
    assert_eq!(world.values(), ["whole"]);
}

#[tokio::test]
async fn a_client_that_reads_no_answers_does_not_keep_its_connection() {
    let world = World::new(Log::Takes, json!({"header-timeout": "400ms", "connections": 1})).await;
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    let many = REQUEST.repeat(1000);
    let write = async { while stream.write_all(&many).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), write).await.expect("the source ends the connection");
    assert_eq!(world.post("/", &[], "another").await.0, 200);
    assert_eq!(world.values().last().unwrap(), "another");
}
