//! What comes over the wire and is no request: of every API and version, and of frames. Nothing of it may end the process.

mod names;
mod rights;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Request};

use crate::apis::APIS;
use crate::call::{Broken, Call, Caller};
use crate::guard;
use crate::newer;
use crate::shapes::{Field, Kind, Shape, shape_of};

/// How a request is decoded once it was let through: how many bytes are left.
type Decode = fn(&[u8], i16) -> Option<usize>;

fn decode<R: Request + Decodable>(bytes: &[u8], version: i16) -> Option<usize> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let version = newer::known_as(ApiKey::try_from(R::KEY).unwrap(), version);
    R::decode(&mut bytes, version).ok().map(|_| bytes.len())
}

/// The same for what the crate of messages does not know in every version; what is left is not told.
fn read<R>(read: fn(i16, &Bytes) -> Result<R, Broken>, bytes: &[u8], version: i16) -> Option<usize> {
    read(version, &Bytes::copy_from_slice(bytes)).ok().map(|_| 0)
}

fn decoder(key: ApiKey) -> Decode {
    match key {
        ApiKey::Produce => decode::<ProduceRequest>,
        ApiKey::Fetch => decode::<FetchRequest>,
        ApiKey::ListOffsets => decode::<ListOffsetsRequest>,
        ApiKey::Metadata => decode::<MetadataRequest>,
        ApiKey::OffsetCommit => |bytes, version| read(newer::offset_commit, bytes, version),
        ApiKey::OffsetFetch => |bytes, version| read(newer::offset_fetch, bytes, version),
        ApiKey::FindCoordinator => decode::<FindCoordinatorRequest>,
        ApiKey::JoinGroup => decode::<JoinGroupRequest>,
        ApiKey::Heartbeat => decode::<HeartbeatRequest>,
        ApiKey::LeaveGroup => decode::<LeaveGroupRequest>,
        ApiKey::SyncGroup => decode::<SyncGroupRequest>,
        ApiKey::DescribeGroups => decode::<DescribeGroupsRequest>,
        ApiKey::ListGroups => decode::<ListGroupsRequest>,
        ApiKey::ApiVersions => decode::<ApiVersionsRequest>,
        ApiKey::CreateTopics => decode::<CreateTopicsRequest>,
        ApiKey::DeleteTopics => decode::<DeleteTopicsRequest>,
        ApiKey::DeleteRecords => decode::<DeleteRecordsRequest>,
        ApiKey::InitProducerId => decode::<InitProducerIdRequest>,
        ApiKey::OffsetForLeaderEpoch => decode::<OffsetForLeaderEpochRequest>,
        ApiKey::AddPartitionsToTxn => decode::<AddPartitionsToTxnRequest>,
        ApiKey::AddOffsetsToTxn => decode::<AddOffsetsToTxnRequest>,
        ApiKey::EndTxn => decode::<EndTxnRequest>,
        ApiKey::WriteTxnMarkers => |bytes, version| read(newer::markers, bytes, version),
        ApiKey::TxnOffsetCommit => decode::<TxnOffsetCommitRequest>,
        ApiKey::DescribeConfigs => decode::<DescribeConfigsRequest>,
        ApiKey::AlterConfigs => decode::<AlterConfigsRequest>,
        ApiKey::DescribeTopicPartitions => decode::<DescribeTopicPartitionsRequest>,
        ApiKey::DescribeLogDirs => decode::<DescribeLogDirsRequest>,
        ApiKey::CreatePartitions => decode::<CreatePartitionsRequest>,
        ApiKey::DeleteGroups => decode::<DeleteGroupsRequest>,
        ApiKey::IncrementalAlterConfigs => decode::<IncrementalAlterConfigsRequest>,
        ApiKey::OffsetDelete => decode::<OffsetDeleteRequest>,
        ApiKey::DescribeCluster => decode::<DescribeClusterRequest>,
        ApiKey::SaslHandshake => decode::<SaslHandshakeRequest>,
        ApiKey::SaslAuthenticate => decode::<SaslAuthenticateRequest>,
        ApiKey::DescribeProducers => decode::<DescribeProducersRequest>,
        ApiKey::DescribeTransactions => decode::<DescribeTransactionsRequest>,
        ApiKey::ListTransactions => decode::<ListTransactionsRequest>,
        key => panic!("{key:?} has no decoder in this test"),
    }
}

/// A request by its shape: one element in each array, `x` in each text, each tagged field.
struct Example<'a> {
    shape: &'a Shape,
    version: i16,
    bytes: Vec<u8>,
    /// What numbers are: as they have meanings, each value takes another way.
    fill: u8,
    /// Where lengths and counts are, and how many bytes they take.
    lengths: Vec<(usize, usize)>,
}

impl<'a> Example<'a> {
    fn of(shape: &'a Shape, version: i16) -> Self {
        Example::filled(shape, version, 0)
    }

    fn filled(shape: &'a Shape, version: i16, fill: u8) -> Self {
        let mut example = Example { shape, version, bytes: Vec::new(), fill, lengths: Vec::new() };
        example.structure(shape.fields);
        example
    }

    fn is_flexible(&self) -> bool {
        self.version >= self.shape.flexible
    }

    fn structure(&mut self, fields: &[Field]) {
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = fields.iter().partition(|field| field.tag.is_some());
        let version = self.version;
        plain.into_iter().filter(|field| field.is_in(version)).for_each(|field| self.value(field.kind));
        if !self.is_flexible() {
            return;
        }
        let tagged: Vec<_> = tagged.into_iter().filter(|field| field.is_in(self.version)).collect();
        self.varint(tagged.len());
        for field in tagged {
            let mut content = Example { bytes: Vec::new(), lengths: Vec::new(), ..*self };
            content.value(field.kind);
            self.bytes.push(field.tag.unwrap() as u8);
            self.varint(content.bytes.len());
            let at = self.bytes.len();
            self.lengths.extend(content.lengths.iter().map(|(position, size)| (at + position, *size)));
            self.bytes.extend(content.bytes);
        }
    }

    fn value(&mut self, kind: Kind) {
        match kind {
            // An `acks` of -1 wants an answer, a generation of -1 is nobody's.
            Kind::Fixed(bytes @ (2 | 4)) if self.fill == 2 => self.bytes.extend(vec![0xff; bytes]),
            Kind::Fixed(bytes @ (1 | 16)) => {
                self.bytes.extend(vec![0; bytes - 1]);
                self.bytes.push(self.fill);
            }
            Kind::Fixed(bytes) => self.bytes.extend(vec![0; bytes]),
            Kind::Text => self.text(),
            Kind::Blob => {
                self.length(1, 4);
                self.bytes.push(b'x');
            }
            Kind::Numbers(bytes) => {
                self.length(1, 4);
                self.bytes.extend(vec![0; bytes]);
            }
            Kind::Texts => {
                self.length(1, 4);
                self.text();
            }
            Kind::Many(fields) => {
                self.length(1, 4);
                self.structure(fields);
            }
            Kind::One(fields) => self.structure(fields),
            Kind::Maybe(fields) => {
                self.bytes.push(1);
                self.structure(fields);
            }
        }
    }

    fn text(&mut self) {
        self.length(1, 2);
        self.bytes.push(b'x');
    }

    fn length(&mut self, length: usize, bytes: usize) {
        if self.is_flexible() {
            self.varint(length + 1);
        } else {
            self.lengths.push((self.bytes.len(), bytes));
            self.bytes.extend(&(length as u32).to_be_bytes()[4 - bytes..]);
        }
    }

    fn varint(&mut self, value: usize) {
        assert!(value < 0x80);
        self.lengths.push((self.bytes.len(), 1));
        self.bytes.push(value as u8);
    }
}

/// Every API in every version, with an example of its requests.
fn every_version(mut check: impl FnMut(&str, Decode, &Shape, i16, &Example<'_>)) {
    let mut checked = 0;
    for api in APIS {
        let shape = shape_of(api.key).unwrap();
        for version in api.versions.clone() {
            let what = format!("{:?} version {version}", api.key);
            check(&what, decoder(api.key), shape, version, &Example::of(shape, version));
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn shapes_are_those_of_the_messages() {
    every_version(|what, decode, shape, version, example| {
        assert_eq!(guard::check(shape, version, &example.bytes), Ok(&[][..]), "{what}");
        assert_eq!(decode(&example.bytes, version), Some(0), "{what}: {:?}", example.bytes);
    });
}

#[test]
fn what_is_cut_off_is_refused_before_it_is_decoded() {
    every_version(|what, _, shape, version, example| {
        for length in 0..example.bytes.len() {
            assert!(guard::check(shape, version, &example.bytes[..length]).is_err(), "{what}, cut at {length}");
        }
    });
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_decoded() {
    every_version(|what, _, shape, version, example| {
        for (at, size) in &example.lengths {
            let lies: &[&[u8]] = match size {
                1 => &[&[0xff, 0xff, 0xff, 0xff, 0x07], &[0xff; 10], &[0x80, 0x80, 0x04]],
                2 => &[&[0x7f, 0xff], &[0x80, 0x00], &[0xff, 0xfe]],
                _ => &[&[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0], &[0xff, 0xff, 0xff, 0xfe], &[0, 1, 0, 0]],
            };
            for lie in lies {
                let bytes = [&example.bytes[..*at], lie, &example.bytes[at + size..]].concat();
                assert!(guard::check(shape, version, &bytes).is_err(), "{what}, {lie:?} at {at}");
            }
        }
    });
}

#[test]
fn whatever_a_byte_is_turned_into_is_refused_or_decoded() {
    every_version(|_, decode, shape, version, example| {
        for at in 0..example.bytes.len() {
            for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bytes = example.bytes.clone();
                bytes[at] = byte;
                if guard::check(shape, version, &bytes).is_ok() {
                    // Whether it makes sense is another matter.
                    let _ = decode(&bytes, version);
                }
            }
        }
    });
}

mod frames {
    use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::frame::{self, Incoming, Limits, Room};
    use crate::security::stream::Stream;

    impl Incoming for DuplexStream {
        fn wake_at(&self, _: usize) {}
    }

    const LIMITS: Limits = Limits { frame: 1000, idle: Duration::from_secs(600), rest: Duration::from_secs(10) };

    /// What comes, whether the client closes then, and what becomes of it: how long the frame is.
    type Case<'a> = (&'a [u8], bool, Result<Option<usize>, &'a str>);

    /// What becomes of bytes, and of a client that says nothing afterwards but stays.
    async fn read(bytes: &[u8], closes: bool) -> Result<Option<usize>, String> {
        let (mut client, mut server) = tokio::io::duplex(4096);
        client.write_all(bytes).await.unwrap();
        let client = (!closes).then_some(client);
        let read = frame::read(&mut server, &LIMITS, &Room::new(1000, 1000)).await;
        drop(client);
        read.map(|frame| frame.map(|frame| frame.bytes.len())).map_err(|broken| broken.0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_is_as_long_as_may_be_and_comes_in_time() {
        let cases: &[Case<'_>] = &[
            (&[0, 0, 0, 2, 7, 7], false, Ok(Some(2))),
            (&[0, 0, 0, 0], false, Ok(Some(0))),
            (&[], true, Ok(None)),
            (&[0, 0], true, Err("it broke off within a frame")),
            (&[0, 0, 0, 2, 7], true, Err("it broke off within a frame")),
            (&[0x7f, 0xff, 0xff, 0xff], false, Err("a frame of 2147483647 bytes")),
            (&[0, 0, 3, 0xe9], false, Err("a frame of 1001 bytes")),
            (&[0xff, 0xff, 0xff, 0xff], false, Err("a frame of -1 bytes")),
            (b"GET / HTTP/1.1\r\n\r\n", false, Err("a frame of 1195725856 bytes")),
            (&[], false, Err("nothing was said for too long")),
            (&[0], false, Err("a frame came too slowly")),
            (&[0, 0, 0, 2, 7], false, Err("a frame came too slowly")),
        ];
        for (bytes, closes, expected) in cases {
            match (read(bytes, *closes).await, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, *expected, "{bytes:?}"),
                (Err(why), Err(expected)) => assert!(why.starts_with(expected), "{bytes:?}: {why}"),
                (found, _) => panic!("{bytes:?}: {found:?}"),
            }
        }
    }

    /// A client that has said how long its frame is, and sent so much of it; and how that is read.
    async fn begun(room: &Room, length: usize, sent: usize) -> (DuplexStream, JoinHandle<Result<usize, String>>) {
        let (mut client, mut server) = tokio::io::duplex(64 << 20);
        client.write_all(&(length as u32).to_be_bytes()).await.unwrap();
        client.write_all(&vec![7; sent]).await.unwrap();
        let room = room.clone();
        let reading = tokio::spawn(async move {
            let limits = Limits { frame: 8 << 20, ..LIMITS };
            let read = frame::read(&mut server, &limits, &room).await;
            // Its share is held until here.
            read.map(|frame| frame.map_or(0, |frame| frame.bytes.len())).map_err(|broken| broken.0)
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        (client, reading)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_takes_room_as_it_comes() {
        let room = Room::new(12 << 20, 8 << 20);
        let all = room.free();
        for (sent, taken) in [(0, 64 << 10), (63 << 10, 64 << 10), (65 << 10, 256 << 10), (5 << 20, 8 << 20)] {
            let (client, reading) = begun(&room, 8 << 20, sent).await;
            assert_eq!(all - room.free(), taken, "after {sent} bytes");
            drop(client);
            assert!(reading.await.unwrap().is_err());
            assert_eq!(room.free(), all);
        }
    }

    /// Two frames that come through a socket, in pieces.
    async fn through_a_socket(lengths: [usize; 2], piece: usize) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = Stream::Plain(listener.accept().await.unwrap().0);
        let mut reader = BufReader::with_capacity(4096, server.split().0);
        let limits = Limits { frame: 8 << 20, idle: Duration::from_secs(10), ..LIMITS };
        let room = Room::new(12 << 20, 8 << 20);
        for (fill, length) in (1..).zip(lengths) {
            let sending = async {
                // It is waited for by then.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let frame = [&(length as u32).to_be_bytes()[..], &vec![fill; length]].concat();
                for piece in frame.chunks(piece) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (frame, ()) = tokio::join!(frame::read(&mut reader, &limits, &room), sending);
            let frame = frame.unwrap().unwrap();
            assert!(
                frame.bytes.len() == length && frame.bytes.iter().all(|byte| *byte == fill),
                "{lengths:?}, {piece}"
            );
        }
        // A client that goes in the middle of a frame is not waited for.
        client.write_all(&(2_u32 << 20).to_be_bytes()).await.unwrap();
        client.write_all(&vec![7; piece]).await.unwrap();
        drop(client);
        let broken = frame::read(&mut reader, &limits, &room).await.map(|_| ()).unwrap_err();
        assert!(broken.0.starts_with("it broke off"), "{}", broken.0);
    }

    #[tokio::test]
    async fn frames_are_whole_however_they_come_through_a_socket() {
        for piece in [1 << 10, 5000, 64 << 10, 1 << 20] {
            through_a_socket([3 << 20, 100], piece).await;
            through_a_socket([70 << 10, 1 << 20], piece).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_are_announced_and_do_not_come_hold_no_more_than_half() {
        let room = Room::new(12 << 20, 8 << 20);
        let all = room.free();
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(begun(&room, 1 << 20, 0).await);
        }
        let whole = (all - all / 2).div_ceil(1 << 20);
        assert_eq!(all - room.free(), (whole << 20) + (40 - whole) * (64 << 10));
        let (_client, other) = begun(&room, 1 << 20, 1 << 20).await;
        assert_eq!(other.await.unwrap(), Ok(1 << 20), "who sends has room");
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_that_come_slowly_leave_room_for_others() {
        let room = Room::new(12 << 20, 8 << 20);
        let (_first, one) = begun(&room, 8 << 20, (4 << 20) + 1).await;
        let (_second, two) = begun(&room, 8 << 20, (1 << 20) + 1).await;
        let (_third, small) = begun(&room, 1 << 20, 1 << 20).await;
        assert_eq!(small.await.unwrap(), Ok(1 << 20), "a small one has room");
        assert_eq!(two.await.unwrap().unwrap_err(), "there was no room for its frame in time");
        assert_eq!(one.await.unwrap().unwrap_err(), "a frame came too slowly");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_waits_while_others_take_all_the_memory() {
        let room = Room::new(1 << 20, 1 << 20);
        let all = room.free();
        let mut others = Vec::new();
        while room.free() > 0 {
            others.push(begun(&room, (64 << 10).min(room.free()), 0).await);
        }
        let (_client, reading) = begun(&room, 2, 2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!reading.is_finished(), "nothing may be read yet");
        others.pop();
        drop(others);
        assert_eq!(reading.await.unwrap(), Ok(2));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(room.free(), all);
    }
}
