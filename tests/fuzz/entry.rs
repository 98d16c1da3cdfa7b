//! What is tried with arbitrary bytes as requests of Kafka clients, by the fuzzer and by `tests/kafka_frames.rs`: a broker on a
//! log of its own answers them or closes their connection, and nothing panics.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Durability, Edge, Result, Topic, TopicSettings, Topics};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options};
use aqueduct_kafka_server::{Broker, GroupSettings, Host, Security};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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
    /// What it runs on.
    pub(crate) runtime: Runtime,
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
    /// One that keeps its log in `folder`; `outside` is asked for on the runtime.
    pub(crate) fn new(runtime: Runtime, folder: TempDir, outside: impl FnOnce() -> Edge, security: Security) -> Self {
        let address = runtime.block_on(async {
            let edge = outside();
            let options = Options { limit: DiskLimit::Percent(100), ..Options::default() };
            let log = CommitLog::open(edge.clone(), folder.path(), options).await.expect("a log");
            let log = Arc::new(log);
            log.create("t", 2, &unsynced()).await.expect("a topic");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("its address");
            // Members that come one by one are not waited for.
            let groups = GroupSettings { initial_delay: Duration::ZERO, ..GroupSettings::default() };
            let options = aqueduct_kafka_server::Options {
                groups,
                security,
                ..aqueduct_kafka_server::Options::at("127.0.0.1", address.port())
            };
            let broker = Broker::new(log.clone(), edge, options, Arc::new(Process(log)));
            tokio::spawn(aqueduct_kafka_server::serve(listener, Arc::new(broker)));
            address
        });
        Endpoint { runtime, address, clients: 0, _folder: folder }
    }

    /// Another client of it.
    pub(crate) fn client(&mut self) -> Client {
        self.clients += 1;
        Client { endpoint: self.address, number: self.clients, stream: None }
    }
}

/// Somebody who asks, one thing after the other.
pub(crate) struct Client {
    endpoint: SocketAddr,
    number: u32,
    stream: Option<TcpStream>,
}

impl Client {
    /// What becomes of a frame. It is sent over the connection of the one before, where that was answered.
    pub(crate) async fn ask(&mut self, frame: &[u8]) -> Told {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connected().await,
        };
        let answered = async {
            stream.write_all(&(frame.len() as u32).to_be_bytes()).await?;
            stream.write_all(frame).await?;
            let mut answer = vec![0; stream.read_u32().await? as usize];
            stream.read_exact(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        match answered.await {
            Ok(answer) => {
                self.stream = Some(stream);
                Told::Answer(answer)
            }
            Err(_) => Told::Closed,
        }
    }

    async fn connected(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Many connections end within a minute, more than one address has ports for.
        let from = Ipv4Addr::new(127, 0, 1, (self.number % 200) as u8 + 1);
        socket.bind((from, 0).into()).expect("a port");
        socket.connect(self.endpoint).await.expect("the broker listens")
    }
}

/// The frames of a list of them, each with its length; the last may be shorter than that.
pub(crate) fn listed(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (frame, rest) = rest.split_at(rest.len().min(u32::from_be_bytes(*length) as usize));
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}
