//! What comes over the wire and is no request: of every API and version, and of frames. Nothing of it may end the process.

mod frames;
mod names;
mod rights;

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
