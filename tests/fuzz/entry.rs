//! What is tried with arbitrary bytes as requests of Kafka clients, by the fuzzer and by `tests/kafka_frames.rs`: a broker on a
//! log of its own answers them or closes their connection, and nothing panics.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Durability, Edge, Result, Topic, TopicSettings, Topics};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options};
use aqueduct_kafka_server::{Broker, GroupSettings, Host};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// An answer, which begins with the frame's number.
    Answer(Vec<u8>),
    /// The connection was closed.
    Closed,
    /// Nothing within the time.
    Nothing,
}

/// A broker with a topic `t` of two partitions.
pub(crate) struct Endpoint {
    runtime: Runtime,
    address: SocketAddr,
    /// How many clients there were.
    clients: u32,
    _folder: TempDir,
}

/// What the endpoint's process would be.
struct Process(Arc<CommitLog>);

#[async_trait::async_trait]
impl Host for Process {
    fn declared(&self, _: &str) -> (i32, TopicSettings) {
        (2, unsynced())
    }

    async fn alter(&self, topic: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        self.0.alter(topic, partitions, settings).await
    }
}

/// Nobody waits for the disk here.
fn unsynced() -> TopicSettings {
    TopicSettings { durability: Durability::Os, ..TopicSettings::default() }
}

impl Endpoint {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let address = runtime.block_on(async {
            let options = Options { limit: DiskLimit::Percent(100), ..Options::default() };
            let log = CommitLog::open(Edge::real(), folder.path(), options).await.expect("a log");
            let log = Arc::new(log);
            log.create("t", 2, &unsynced()).await.expect("a topic");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("its address");
            // Members that come one by one are not waited for.
            let groups = GroupSettings { initial_delay: Duration::ZERO, ..GroupSettings::default() };
            let options = aqueduct_kafka_server::Options {
                groups,
                ..aqueduct_kafka_server::Options::at("127.0.0.1", address.port())
            };
            let broker = Broker::new(log.clone(), Edge::real(), options, Arc::new(Process(log)));
            tokio::spawn(aqueduct_kafka_server::serve(listener, Arc::new(broker)));
            address
        });
        Endpoint { runtime, address, clients: 0, _folder: folder }
    }

    /// What becomes of frames, each sent by a client of its own at the same time, within so long.
    pub(crate) fn ask(&mut self, frames: &[Vec<u8>], within: Duration) -> Vec<Told> {
        let first = self.clients;
        self.clients += frames.len() as u32;
        let asked = frames.iter().zip(first..).map(|(frame, client)| ask(self.address, client, frame, within));
        self.runtime.block_on(join_all(asked))
    }
}

async fn ask(address: SocketAddr, client: u32, frame: &[u8], within: Duration) -> Told {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Many connections end within a minute, more than one address has ports for.
    let from = Ipv4Addr::new(127, 0, 1, (client % 200) as u8 + 1);
    socket.bind((from, 0).into()).expect("a port");
    let mut stream = socket.connect(address).await.expect("the broker listens");
    let answered = async {
        stream.write_all(&(frame.len() as u32).to_be_bytes()).await?;
        stream.write_all(frame).await?;
        let mut answer = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(within, answered).await {
        Ok(Ok(answer)) => Told::Answer(answer),
        Ok(Err(_)) => Told::Closed,
        Err(_) => Told::Nothing,
    }
}

/// The frames of a list of them, each with its length.
pub(crate) fn listed(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}
