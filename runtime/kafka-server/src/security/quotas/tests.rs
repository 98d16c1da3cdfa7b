//! Clients with quotas: what they are answered, and that those who do not wait as they are told are slowed all the same. The
//! clock of these tests stands still until everybody waits, so what they count does not depend on the machine.

use aqueduct_record::BatchBuilder;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::broker::{Broker, Options};
use crate::connection;
use crate::groups::tests::store::{Memory, RECORD};
use crate::security::Security;
use crate::security::current::Current;
use crate::security::mechanism::Mechanism;
use crate::security::rights::Rights;
use crate::security::session::Session;
use crate::security::stream::Stream;
use crate::security::users::{Credentials, User, Users};

/// Bytes a second of either kind, ten records of the log.
const RATE: u64 = 10 * RECORD as u64;
const FETCH: i16 = 12;
const PRODUCE: i16 = 9;

/// A client that is known by a certificate, on a connection of its own.
struct Client {
    stream: TcpStream,
    broker: Arc<Broker>,
    begun: Instant,
    /// How many requests it has sent.
    sent: i32,
}

fn security() -> Security {
    let quota = Quota { produce: NonZeroU64::new(RATE), fetch: NonZeroU64::new(RATE) };
    let user = User { credentials: Credentials::None, rights: Rights::all(), quota };
    let users = Users::new([("slow".to_owned(), user)]).unwrap();
    Security { mechanisms: vec![Mechanism::Plain], users: Some(Arc::new(users)), ..Security::default() }
}

fn broker() -> Arc<Broker> {
    let log = Memory::default();
    *log.records.lock() = 1_000_000;
    let store = Arc::new(log.clone());
    Arc::new(Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store))
}

impl Client {
    async fn new(broker: &Arc<Broker>, security: &Security) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, (accepted, _)) = (stream.unwrap(), accepted.unwrap());
        // The clock does not wait for what the system keeps back.
        [&stream, &accepted].iter().for_each(|stream| stream.set_nodelay(true).unwrap());
        let (edge, name) = (broker.edge.clone(), Some("slow".to_owned()));
        let current = Current::new(security.clone());
        let both = (current.clone(), current.get());
        let session = Session::new("/127.0.0.1".into(), both, edge, Arc::default(), name);
        let due = Instant::now() + Duration::from_secs(5);
        let served = connection::serve(broker.clone(), Arc::new(session), Stream::Plain(accepted), due);
        tokio::spawn(async move {
            if let Err(broken) = served.await {
                panic!("the connection was closed: {}", broken.0);
            }
        });
        Client { stream, broker: broker.clone(), begun: Instant::now(), sent: 0 }
    }

    async fn send<R: Request + Encodable>(&mut self, request: &R, version: i16) {
        let key = ApiKey::try_from(R::KEY).unwrap();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.sent);
        let mut bytes = vec![0; 4];
        header.encode(&mut bytes, key.request_header_version(version)).unwrap();
        request.encode(&mut bytes, version).unwrap();
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&bytes).await.unwrap();
        self.sent += 1;
    }

    async fn answer<R: Request>(&mut self, version: i16) -> R::Response
    where
        R::Response: Decodable,
    {
        let length = self.stream.read_u32().await.unwrap();
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).await.unwrap();
        let mut bytes = bytes::Bytes::from(bytes);
        let key = ApiKey::try_from(R::KEY).unwrap();
        ResponseHeader::decode(&mut bytes, key.response_header_version(version)).unwrap();
        R::Response::decode(&mut bytes, version).unwrap()
    }

    fn millis(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// The records of a fetch that goes on in a session, or begins one, and how long the client is told to wait.
    async fn fetch(&mut self, session: (i32, i32), from: i64) -> Fetched {
        self.send(&fetch(session, from), FETCH).await;
        self.fetched().await
    }

    async fn fetched(&mut self) -> Fetched {
        let response = self.answer::<FetchRequest>(FETCH).await;
        assert_eq!(response.error_code, 0);
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        let records =
            partitions.map(|partition| partition.records.as_ref().map_or(0, bytes::Bytes::len) / RECORD).sum();
        let topics = response.responses.len();
        Fetched { records, topics, session: response.session_id, held: response.throttle_time_ms }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Fetched {
    records: usize,
    topics: usize,
    session: i32,
    held: i32,
}

fn fetch((id, epoch): (i32, i32), from: i64) -> FetchRequest {
    let partition =
        FetchPartition::default().with_partition(0).with_fetch_offset(from).with_partition_max_bytes(1 << 20);
    let topic =
        FetchTopic::default().with_topic(StrBytes::from_static_str("t").into()).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(1 << 20)
        .with_max_bytes(1 << 20)
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_topics(vec![topic])
}

/// One batch of so many records.
fn produce(acks: i16, records: usize) -> ProduceRequest {
    let mut builder = BatchBuilder::new();
    (0..records).for_each(|_| builder.push(0, Some(b"k"), Some(&[7; 90]), &[]));
    let batch = builder.finish();
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.bytes().clone()));
    let topic =
        TopicProduceData::default().with_name(StrBytes::from_static_str("t").into()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_held_back_is_answered_with_nothing() {
    let (broker, security) = (broker(), security());
    let mut client = Client::new(&broker, &security).await;
    // A second's worth at once, and one more since nothing was owed before it; no wait for the minimum, which can not be reached.
    let first = client.fetch((0, 0), 0).await;
    assert_eq!((first.records, first.topics, first.held), (10, 1, 0));
    let session = first.session;
    assert_ne!(session, 0);
    assert_eq!(client.fetch((session, 1), 10).await, Fetched { records: 10, topics: 1, session, held: 0 });
    assert_eq!(client.fetch((session, 2), 20).await, Fetched { records: 0, topics: 0, session, held: 1000 });
    assert_eq!(client.millis(), 0, "what is held back is answered at once");
    // The session goes on, and what was kept back comes without being asked for again.
    let mut next = fetch((session, 3), 20);
    next.topics.clear();
    client.send(&next, FETCH).await;
    assert_eq!(client.fetched().await, Fetched { records: 10, topics: 1, session, held: 0 });
    assert_eq!(client.millis(), 1000, "nothing is taken until then, whether the client waits or not");
    // One that would begin does not: the client names all it wants again.
    assert_eq!(client.fetch((session, 0), 30).await, Fetched { records: 0, topics: 0, session: 0, held: 1000 });
    let again = client.fetch((0, 0), 30).await;
    assert_eq!((again.records, again.held, client.millis()), (10, 0, 2000));
}

#[tokio::test(start_paused = true)]
async fn who_fetches_without_waiting_gets_no_more_than_its_quota() {
    let (broker, security) = (broker(), security());
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Client::new(&broker, &security).await);
    }
    let (mut records, mut held) = (0, 0);
    for turn in 0..60 {
        let client = &mut clients[turn % 2];
        let fetched = client.fetch((0, -1), 0).await;
        assert_eq!(fetched.records > 0, fetched.held == 0, "{fetched:?}");
        records += fetched.records;
        held += usize::from(fetched.held > 0);
    }
    let seconds = clients[0].millis().div_ceil(1000) as usize;
    assert!((10 * seconds..=10 * (seconds + 2)).contains(&records), "{records} records in {seconds} s, 10 a second");
    assert!(held >= 20, "{held} of 60");
    assert!(broker.counters.throttled.load(std::sync::atomic::Ordering::Relaxed) >= held as u64 - 2);
}

#[tokio::test(start_paused = true)]
async fn partitions_take_turns_where_not_all_of_them_find_room() {
    let (broker, security) = (broker(), security());
    let mut client = Client::new(&broker, &security).await;
    let (mut from, mut named, mut session) = ([0; 2], vec![0, 1], 0);
    for epoch in 0..20 {
        // As consumers do, it names what it was given records of.
        let mut request = fetch((session, epoch), 0);
        let wished = |partition: &usize| {
            let wish = FetchPartition::default().with_partition_max_bytes(1 << 20);
            wish.with_partition(*partition as i32).with_fetch_offset(from[*partition])
        };
        request.topics[0].partitions = named.iter().map(wished).collect();
        client.send(&request, FETCH).await;
        let response = client.answer::<FetchRequest>(FETCH).await;
        session = response.session_id;
        named.clear();
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let records = partition.records.as_ref().map_or(0, bytes::Bytes::len) / RECORD;
            from[partition.partition_index as usize] += records as i64;
            if records > 0 {
                named.push(partition.partition_index as usize);
            }
        }
    }
    assert!(from[0] >= 40 && from[0].abs_diff(from[1]) <= 10, "{from:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_larger_than_the_quota_comes_in_its_turn() {
    let (broker, mut security) = (broker(), security());
    let quota = Quota { produce: None, fetch: NonZeroU64::new(10) };
    let user = User { credentials: Credentials::None, rights: Rights::all(), quota };
    security.users = Some(Arc::new(Users::new([("slow".to_owned(), user)]).unwrap()));
    let mut client = Client::new(&broker, &security).await;
    let mut records = Vec::new();
    for _ in 0..5 {
        let fetched = client.fetch((0, -1), 0).await;
        records.push((fetched.records, fetched.held, client.millis()));
    }
    assert_eq!(records, [(1, 0, 0), (0, 9000, 0), (1, 0, 9000), (0, 10_000, 9000), (1, 0, 19_000)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_produced_is_taken_and_answered_at_once_and_nothing_more_for_a_while() {
    let (broker, security) = (broker(), security());
    let mut client = Client::new(&broker, &security).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        client.send(&produce(1, 15), PRODUCE).await;
    }
    let size = 15 * 100;
    for _ in 0..4 {
        let response = client.answer::<ProduceRequest>(PRODUCE).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        told.push((client.millis(), response.throttle_time_ms));
    }
    // All four lie there from the start; each is taken when the one before is paid.
    let mut expected_at = 0;
    for (number, (at, held)) in told.iter().enumerate() {
        assert!(at.abs_diff(expected_at) <= 2, "{number}: {told:?}");
        let least = if number == 0 { size - 1000 } else { size } - 200;
        assert!((least..size + 300).contains(&(*held as u64)), "{number}: {told:?}");
        expected_at = at + *held as u64;
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_answer_is_held_back_as_well() {
    let (broker, security) = (broker(), security());
    let mut client = Client::new(&broker, &security).await;
    for _ in 0..10 {
        client.send(&produce(0, 10), PRODUCE).await;
    }
    client.send(&produce(1, 1), PRODUCE).await;
    client.answer::<ProduceRequest>(PRODUCE).await;
    // 100 records of which each takes as many bytes of a request as it does in the log, or a few more.
    assert!((8500..11_000).contains(&client.millis()), "{}", client.millis());
    assert_eq!(client.broker.counters.throttled.load(std::sync::atomic::Ordering::Relaxed), 11);
}

/// When, how many bytes, and for how long the client is held back, in milliseconds.
fn check(rate: Option<u64>, steps: &[(u64, usize, u64)]) {
    let begun = Instant::now();
    let allowance = Allowance::new(rate.and_then(NonZeroU64::new));
    for (step, (at, bytes, held)) in steps.iter().enumerate() {
        let now = begun + Duration::from_millis(*at);
        assert_eq!(allowance.take(*bytes, now).as_millis(), u128::from(*held), "{rate:?}, step {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_uses_more_than_its_quota_is_held_back() {
    check(None, &[(0, usize::MAX, 0)]);
    check(Some(1000), &[(0, 1000, 0), (0, 500, 500), (500, 0, 0), (500, 1000, 1000), (10_000, 1000, 0)]);
    check(Some(1000), &[(0, 1_000_000_000, 30_000), (0, 1, 30_000), (29_000, 0, 1000), (31_000, 0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_kept_back_is_not_used_before_it_is_allowed() {
    let begun = Instant::now();
    let allowance = Allowance::new(NonZeroU64::new(1000));
    let steps: &[(u64, usize, Result<(), u64>)] = &[
        (0, 1000, Ok(())),
        (0, 5000, Ok(())),
        (0, 1, Err(5000)),
        (0, 0, Ok(())),
        (4999, 1, Err(1)),
        (5000, 1000, Ok(())),
        (5000, 1, Err(1000)),
        (60_000, 1_000_000_000, Ok(())),
        (60_000, 1, Err(30_000)),
    ];
    for (at, bytes, expected) in steps {
        let found = allowance.take_if_paid(*bytes, begun + Duration::from_millis(*at));
        assert_eq!(found.map_err(|held| held.as_millis() as u64), *expected, "{bytes} bytes at {at}");
    }
    assert_eq!((allowance.at_once(), Allowance::new(None).at_once()), (1000, usize::MAX));
}
