//! Fetches of clients that may do something else before they are answered.

use aqueduct_api::{Records, Secret};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, StrBytes};

use super::*;
use crate::broker::Options;
use crate::call::Caller;
use crate::groups::tests::store::{Memory, RECORD};
use crate::security::Security;
use crate::security::current::Current;
use crate::security::mechanism::Mechanism;
use crate::security::quotas::Quota;
use crate::security::rights::{Of, Right, Rights};
use crate::security::session::Session;
use crate::security::users::{Credentials, User, Users};

const VERSION: i16 = 12;
/// Records of the log.
const ALL: usize = 10;
/// How long a client waits.
const WAIT: Duration = Duration::from_secs(10);
/// When something changes.
const CHANGE: Duration = Duration::from_secs(1);

/// What holds where these are the users, and may do this.
fn security(users: &[(&str, &Rights)]) -> Security {
    let users = users.iter().map(|(name, rights)| {
        let credentials = Credentials::Password(Secret::new("secret"));
        ((*name).to_owned(), User { credentials, rights: (*rights).clone(), quota: Quota::default() })
    });
    let users = Some(Arc::new(Users::new(users).unwrap()));
    Security { mechanisms: vec![Mechanism::Plain], users, ..Security::default() }
}

fn reads(topic: &str) -> Rights {
    let mut rights = Rights::default();
    rights.grant(Of::Topic, topic, Right::Read);
    rights
}

/// A client that is known as `reader`, and what holds for it.
struct Client {
    broker: Arc<Broker>,
    current: Current,
    session: Arc<Session>,
}

impl Client {
    async fn new() -> Client {
        let log = Memory::default();
        *log.records.lock() = ALL as i64;
        let store = Arc::new(log.clone());
        let broker = Arc::new(Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store));
        let current = Current::new(security(&[("reader", &reads("t"))]));
        let both = (current.clone(), current.get());
        let session = Session::new("/127.0.0.1".into(), both, broker.edge.clone(), Arc::default(), None);
        session.handshake(&SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN")), 1);
        let token = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0reader\0secret"));
        assert_eq!(session.authenticate(token, 2).await.error_code, 0);
        Client { broker, current, session: Arc::new(session) }
    }

    /// What a fetch from an offset is answered that waits for so many bytes: an error and bytes of records.
    async fn fetch(&self, from: usize, least: i32) -> Result<(i16, usize), Broken> {
        let response = self.ask(from_there(from).with_min_bytes(least).with_session_epoch(sessions::LAST)).await?;
        let told = &response.responses[0].partitions[0];
        Ok((told.error_code, told.records.as_ref().map_or(0, Bytes::len)))
    }

    /// What a session's next fetch is answered: errors by partition, and when.
    async fn follow(&self, (session, epoch): (i32, i32)) -> (Vec<i16>, Duration) {
        let begun = Instant::now();
        let request = from_there(0).with_topics(Vec::new()).with_session_id(session).with_session_epoch(epoch);
        let response = self.ask(request.with_min_bytes(1)).await.unwrap();
        assert_eq!((response.error_code, response.session_id), (0, session));
        let told = response.responses.iter().flat_map(|topic| &topic.partitions);
        (told.map(|partition| partition.error_code).collect(), begun.elapsed())
    }

    async fn ask(&self, request: FetchRequest) -> Result<FetchResponse, Broken> {
        let mut body = BytesMut::new();
        request.encode(&mut body, VERSION).unwrap();
        let (session, principal) = (self.session.clone(), self.session.asks(ApiKey::Fetch)?);
        let needs = crate::apis::api(ApiKey::Fetch as i16).unwrap().needs;
        let caller = Caller { principal, session, needs, ..Caller::somebody(VERSION) };
        let call = Call { key: ApiKey::Fetch, correlation: 7, caller, body: body.freeze() };
        let Reply::Pieces(pieces, _) = answer(self.broker.clone(), call).await? else { panic!("it comes in pieces") };
        let bytes = |piece: &Records| match piece {
            Records::Bytes(bytes) => bytes.to_vec(),
            Records::File(_) => panic!("there is no file"),
        };
        let mut frame = Bytes::from(pieces.iter().flat_map(bytes).collect::<Vec<u8>>()).slice(4..);
        ResponseHeader::decode(&mut frame, ApiKey::Fetch.response_header_version(VERSION)).unwrap();
        Ok(FetchResponse::decode(&mut frame, VERSION).unwrap())
    }
}

/// A fetch from an offset.
fn from_there(from: usize) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(from as i64).with_partition_max_bytes(1 << 20);
    let topic =
        FetchTopic::default().with_topic(StrBytes::from_static_str("t").into()).with_partitions(vec![partition]);
    FetchRequest::default().with_max_wait_ms(WAIT.as_millis() as i32).with_max_bytes(1 << 20).with_topics(vec![topic])
}

#[tokio::test(start_paused = true)]
async fn a_session_is_told_what_it_may_not_read_any_more_though_nothing_moves() {
    let client = Client::new().await;
    let first = client.ask(from_there(ALL).with_session_epoch(sessions::FIRST)).await.unwrap();
    assert!(first.session_id > 0 && first.responses[0].partitions[0].error_code == 0);
    let refused = Of::Topic.refused().code();
    let reader = |rights| security(&[("reader", &rights)]);
    // What holds from now on, and what the next fetch is told.
    let cases = [
        ("nothing changed", None, vec![], WAIT),
        ("it may not read", Some(reader(reads("other"))), vec![refused], Duration::ZERO),
        ("that is so", None, vec![refused], Duration::ZERO),
        ("it may again", Some(reader(reads("t"))), vec![0], WAIT),
        ("others may do less", Some(security(&[("reader", &reads("t")), ("other", &reads("u"))])), vec![], WAIT),
    ];
    for (epoch, (what, now, errors, after)) in (1..).zip(cases) {
        if let Some(now) = now {
            client.current.change(now);
        }
        assert_eq!(client.follow((first.session_id, epoch)).await, (errors, after), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_may_read_is_asked_when_it_is_answered() {
    let (refused, all) = (Of::Topic.refused().code(), ALL * RECORD);
    let (of_t, nothing) = (reads("t"), reads("other"));
    let reader = |rights| security(&[("reader", rights)]);
    // From where it reads, what changes meanwhile, what it is answered, and when; nothing: it is cut off.
    let cases = [
        ("where there is nothing yet", ALL, reader(&nothing), Some((refused, 0)), CHANGE),
        ("where there is too little yet", 0, reader(&nothing), Some((refused, 0)), CHANGE),
        ("and may do more now", 0, reader(&Rights::all()), Some((0, all)), WAIT),
        ("and others may do less now", 0, security(&[("reader", &of_t), ("other", &nothing)]), Some((0, all)), WAIT),
        ("and is not known any more", 0, security(&[("other", &of_t)]), None, CHANGE),
    ];
    for (what, from, after, expected, at) in cases {
        let client = Client::new().await;
        let begun = Instant::now();
        let change = async {
            tokio::time::sleep(CHANGE).await;
            client.current.change(after);
        };
        let (found, ()) = tokio::join!(client.fetch(from, 1 << 20), change);
        assert_eq!((found.ok(), begun.elapsed()), (expected, at), "who reads {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_were_read_are_not_sent_to_whom_they_are_denied_meanwhile() {
    let client = Client::new().await;
    let others =
        client.broker.outgoing.clone().acquire_many_owned(client.broker.options.outgoing as u32).await.unwrap();
    let change = async {
        // By now it waits for room to read into.
        tokio::time::sleep(CHANGE).await;
        client.current.change(security(&[("reader", &reads("other"))]));
        drop(others);
    };
    let (found, ()) = tokio::join!(client.fetch(0, 1), change);
    assert_eq!(found, Ok((Of::Topic.refused().code(), 0)));
}
