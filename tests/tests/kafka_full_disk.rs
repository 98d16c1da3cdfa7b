//! A broker whose disk is full when a transaction is to be ended: it was promised, so it ends as soon as there is room.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::disk::{Disk, Entry, File, LockError, Metadata, Open, RealDisk, Space};
use aqueduct_api::{Edge, Result, Topic, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, DiskLimit};
use aqueduct_kafka_server::{Broker, Host, Options};
use aqueduct_record::{Batch, BatchBuilder};
use aqueduct_tests::daemon::PATIENCE;
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiKey, DescribeTransactionsRequest, EndTxnRequest, FetchRequest, InitProducerIdRequest,
    ProduceRequest, ProducerId, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PARTITIONS: i32 = 2;
/// Records of a transaction in each partition.
const RECORDS: i32 = 3;

/// Writes without room after which each marker was tried more than twice: the log tries each once more on the room that it keeps
/// back, before which it may have to note an epoch.
const TRIED: u64 = 2 * 4 * PARTITIONS as u64;

/// How full the disk is.
#[derive(Default)]
struct Filling {
    /// There is no room left behind the next decision on a transaction.
    fills: bool,
    is_full: bool,
    /// How many writes found no room.
    refused: u64,
}

/// A disk that fills up.
#[derive(Clone, Default)]
struct Full(Arc<Mutex<Filling>>);

struct FullFile {
    file: Arc<dyn File>,
    path: PathBuf,
    disk: Full,
}

impl Full {
    fn room_for(&self, path: &Path) -> io::Result<()> {
        let mut filling = self.0.lock().unwrap();
        if filling.is_full {
            filling.refused += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let decides = path.to_string_lossy().contains("__transaction_state");
        filling.is_full = decides && std::mem::take(&mut filling.fills);
        Ok(())
    }

    fn fill_behind_the_next_decision(&self) {
        *self.0.lock().unwrap() = Filling { fills: true, ..Filling::default() };
    }

    fn make_room(&self) {
        self.0.lock().unwrap().is_full = false;
    }

    fn refused(&self) -> u64 {
        self.0.lock().unwrap().refused
    }
}

impl Disk for Full {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FullFile { file: RealDisk.open(path, open)?, path: path.to_owned(), disk: self.clone() }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(folder)
    }

    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        RealDisk.metadata(path, follow)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }

    fn lock(&self, path: &Path, owner: &str) -> std::result::Result<Box<dyn Send + Sync>, LockError> {
        RealDisk.lock(path, owner)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }
}

impl File for FullFile {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, length, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.disk.room_for(&self.path)?;
        self.file.write_at(parts, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.disk.room_for(&self.path)?;
        self.file.allocate(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// What the broker's process would be.
struct Process(Arc<CommitLog>);

#[async_trait::async_trait]
impl Host for Process {
    fn declared(&self, _: &str) -> (i32, TopicSettings) {
        (PARTITIONS, TopicSettings::default())
    }

    async fn alter(&self, topic: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        self.0.alter(topic, partitions, settings).await
    }
}

/// A client with a transactional id.
struct Client {
    stream: TcpStream,
    producer: (ProducerId, i16),
}

fn text<T: From<StrBytes>>(text: &'static str) -> T {
    StrBytes::from_static_str(text).into()
}

fn id() -> TransactionalId {
    TransactionalId(StrBytes::from_static_str("id"))
}

impl Client {
    async fn ask<R: Request + Encodable>(&mut self, request: &R, version: i16) -> R::Response
    where
        R::Response: Decodable,
    {
        let key = ApiKey::try_from(R::KEY).unwrap();
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let mut frame = vec![0; 4];
        header.encode(&mut frame, key.request_header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
        let mut answer = vec![0; self.stream.read_u32().await.unwrap() as usize];
        self.stream.read_exact(&mut answer).await.unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, key.response_header_version(version)).unwrap();
        R::Response::decode(&mut answer, version).unwrap()
    }

    /// Writes one batch to each partition in a transaction, and, after `before`, says that it counts.
    async fn commit(&mut self, sequence: i32, before: impl FnOnce()) {
        let (producer_id, epoch) = self.producer;
        let topic = AddPartitionsToTxnTopic::default().with_name(text("t")).with_partitions((0..PARTITIONS).collect());
        let adds = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(producer_id)
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![topic]);
        for added in &self.ask(&adds, 3).await.results_by_topic_v3_and_below {
            assert!(added.results_by_partition.iter().all(|it| it.partition_error_code == 0), "{added:?}");
        }
        let mut batch = BatchBuilder::new().producer(producer_id.0, epoch, sequence).transactional();
        (0..RECORDS).for_each(|_| batch.push(0, Some(b"k"), Some(b"v"), &[]));
        let records = batch.finish().bytes().clone();
        let data = |n| PartitionProduceData::default().with_index(n).with_records(Some(records.clone()));
        let topic =
            TopicProduceData::default().with_name(text("t")).with_partition_data((0..PARTITIONS).map(data).collect());
        let writes = ProduceRequest::default()
            .with_transactional_id(Some(id()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        for written in &self.ask(&writes, 9).await.responses {
            assert!(written.partition_responses.iter().all(|it| it.error_code == 0), "{written:?}");
        }
        before();
        let ends = EndTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(producer_id)
            .with_producer_epoch(epoch)
            .with_committed(true);
        assert_eq!(self.ask(&ends, 3).await.error_code, 0);
    }

    async fn state(&mut self) -> String {
        let asks = DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
        self.ask(&asks, 0).await.transaction_states[0].transaction_state.to_string()
    }

    /// How many records of each partition a reader of what is committed gets.
    async fn committed(&mut self) -> Vec<i32> {
        let partition = |n| FetchPartition::default().with_partition(n).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(text::<TopicName>("t"))
            .with_partitions((0..PARTITIONS).map(partition).collect());
        let asks = FetchRequest::default()
            .with_isolation_level(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.ask(&asks, 12).await;
        let mut all = vec![0; PARTITIONS as usize];
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(partition.error_code, 0);
            let mut rest = partition.records.clone().unwrap_or_default();
            while let Some((batch, behind)) = Batch::split_first(&rest).unwrap() {
                let header = batch.header();
                let counts = !header.attributes.is_control();
                all[partition.partition_index as usize] += if counts { header.count as i32 } else { 0 };
                rest = behind;
            }
        }
        all
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("it never comes about that {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_promised_ends_once_there_is_room_for_its_markers() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Full::default());
    let edge = Edge { disk: Arc::new(disk.clone()), ..Edge::real() };
    let options = aqueduct_commit_log::Options { limit: DiskLimit::Percent(100), ..Default::default() };
    let log = Arc::new(CommitLog::open(edge.clone(), folder.path(), options).await.unwrap());
    log.create("t", PARTITIONS, &TopicSettings::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Broker::new(log.clone(), edge, Options::at("127.0.0.1", address.port()), Arc::new(Process(log)));
    let serving = tokio::spawn(aqueduct_kafka_server::serve(listener, Arc::new(broker)));
    let mut client = Client { stream: TcpStream::connect(address).await.unwrap(), producer: (ProducerId(-1), -1) };
    let takes = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let taken = client.ask(&takes, 4).await;
    assert_eq!(taken.error_code, 0);
    client.producer = (taken.producer_id, taken.producer_epoch);

    client.commit(0, || ()).await;
    until("the first one is complete", async || client.state().await == "CompleteCommit").await;
    assert_eq!(client.committed().await, [RECORDS; PARTITIONS as usize]);

    client.commit(RECORDS, || disk.fill_behind_the_next_decision()).await;
    until("the markers were tried several times", async || disk.refused() > TRIED).await;
    assert_eq!(client.state().await, "PrepareCommit");
    assert_eq!(client.committed().await, [RECORDS; PARTITIONS as usize], "it has not ended");
    disk.make_room();
    until("it is complete", async || client.state().await == "CompleteCommit").await;
    assert_eq!(client.committed().await, [2 * RECORDS; PARTITIONS as usize]);

    client.commit(2 * RECORDS, || ()).await;
    until("the next one is complete", async || client.state().await == "CompleteCommit").await;
    assert_eq!(client.committed().await, [3 * RECORDS; PARTITIONS as usize]);
    serving.abort();
}
