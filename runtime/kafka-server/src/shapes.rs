//! The shapes of requests, from the message definitions of Apache Kafka 4.3: which fields a version has, and what they
//! look like on the wire. What a field means is of no interest here, so none has a name.

use kafka_protocol::messages::ApiKey;

/// What a request looks like on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// From which version on lengths are variable, and tagged fields follow each structure.
    pub(crate) flexible: i16,
    /// In order.
    pub(crate) fields: &'static [Field],
}

/// One field of a structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// The first version that has it.
    pub(crate) from: i16,
    /// The last version that has it.
    pub(crate) until: i16,
    /// Its tag, for a field that comes only where it is not its default.
    pub(crate) tag: Option<u32>,
    /// What it looks like.
    pub(crate) kind: Kind,
}

/// What a field looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string: a length of 16 bits, or a variable one.
    Text,
    /// Bytes: a length of 32 bits, or a variable one.
    Blob,
    /// An array of numbers of so many bytes.
    Numbers(usize),
    /// An array of strings.
    Texts,
    /// An array of structures.
    Many(&'static [Field]),
    /// A structure.
    One(&'static [Field]),
    /// A structure, or the note that there is none.
    Maybe(&'static [Field]),
}

impl Field {
    const fn new(kind: Kind) -> Self {
        Field { from: 0, until: i16::MAX, tag: None, kind }
    }

    const fn from(self, from: i16) -> Self {
        Field { from, ..self }
    }

    const fn until(self, until: i16) -> Self {
        Field { until, ..self }
    }

    const fn tag(self, tag: u32) -> Self {
        Field { tag: Some(tag), ..self }
    }

    /// Whether a version has it.
    pub(crate) fn is_in(&self, version: i16) -> bool {
        (self.from..=self.until).contains(&version)
    }
}

/// The shape of an API's requests, for those that a server of clients may know.
pub(crate) fn shape_of(key: ApiKey) -> Option<&'static Shape> {
    SHAPES.iter().find(|(known, _)| *known == key).map(|(_, shape)| shape)
}

const BYTE: Field = Field::new(Kind::Fixed(1));
const SHORT: Field = Field::new(Kind::Fixed(2));
const INT: Field = Field::new(Kind::Fixed(4));
const LONG: Field = Field::new(Kind::Fixed(8));
const UUID: Field = Field::new(Kind::Fixed(16));
const TEXT: Field = Field::new(Kind::Text);
const BLOB: Field = Field::new(Kind::Blob);
const INTS: Field = Field::new(Kind::Numbers(4));
const LONGS: Field = Field::new(Kind::Numbers(8));
const TEXTS: Field = Field::new(Kind::Texts);
/// The flexible version of an API that has none.
const NEVER: i16 = i16::MAX;

const fn shape(flexible: i16, fields: &'static [Field]) -> Shape {
    Shape { flexible, fields }
}

const fn many(fields: &'static [Field]) -> Field {
    Field::new(Kind::Many(fields))
}

const fn one(fields: &'static [Field]) -> Field {
    Field::new(Kind::One(fields))
}

const fn maybe(fields: &'static [Field]) -> Field {
    Field::new(Kind::Maybe(fields))
}

/// By API key. Fields that are in every version that clients still send say no version.
const SHAPES: &[(ApiKey, Shape)] = &[
    (ApiKey::Produce, shape(9, &[TEXT, SHORT, INT, many(&[TEXT.until(12), UUID.from(13), many(&[INT, BLOB])])])),
    (
        ApiKey::Fetch,
        shape(
            12,
            &[
                TEXT.from(12).tag(0),
                INT.until(14),
                one(&[INT, LONG]).from(15).tag(1),
                INT,
                INT,
                INT,
                BYTE,
                INT.from(7),
                INT.from(7),
                many(&[
                    TEXT.until(12),
                    UUID.from(13),
                    many(&[
                        INT,
                        INT.from(9),
                        LONG,
                        INT.from(12),
                        LONG.from(5),
                        INT,
                        UUID.from(17).tag(0),
                        LONG.from(18).tag(1),
                    ]),
                ]),
                many(&[TEXT.until(12), UUID.from(13), INTS]).from(7),
                TEXT.from(11),
            ],
        ),
    ),
    (ApiKey::ListOffsets, shape(6, &[INT, BYTE.from(2), many(&[TEXT, many(&[INT, INT.from(4), LONG])]), INT.from(10)])),
    (ApiKey::Metadata, shape(9, &[many(&[UUID.from(10), TEXT]), BYTE.from(4), BYTE.from(8).until(10), BYTE.from(8)])),
    (
        ApiKey::OffsetCommit,
        shape(
            8,
            &[
                TEXT,
                INT,
                TEXT,
                TEXT.from(7),
                LONG.until(4),
                many(&[TEXT.until(9), UUID.from(10), many(&[INT, LONG, INT.from(6), TEXT])]),
            ],
        ),
    ),
    (
        ApiKey::OffsetFetch,
        shape(
            6,
            &[
                TEXT.until(7),
                many(&[TEXT.until(7), INTS.until(7)]).until(7),
                many(&[TEXT, TEXT.from(9), INT.from(9), many(&[TEXT.until(9), UUID.from(10), INTS])]).from(8),
                BYTE.from(7),
            ],
        ),
    ),
    (ApiKey::FindCoordinator, shape(3, &[TEXT.until(3), BYTE.from(1), TEXTS.from(4)])),
    (
        ApiKey::JoinGroup,
        shape(6, &[TEXT, INT, INT.from(1), TEXT, TEXT.from(5), TEXT, many(&[TEXT, BLOB]), TEXT.from(8)]),
    ),
    (ApiKey::Heartbeat, shape(4, &[TEXT, INT, TEXT, TEXT.from(3)])),
    (ApiKey::LeaveGroup, shape(4, &[TEXT, TEXT.until(2), many(&[TEXT, TEXT, TEXT.from(5)]).from(3)])),
    (ApiKey::SyncGroup, shape(4, &[TEXT, INT, TEXT, TEXT.from(3), TEXT.from(5), TEXT.from(5), many(&[TEXT, BLOB])])),
    (ApiKey::DescribeGroups, shape(5, &[TEXTS, BYTE.from(3)])),
    (ApiKey::ListGroups, shape(3, &[TEXTS.from(4), TEXTS.from(5)])),
    (ApiKey::SaslHandshake, shape(NEVER, &[TEXT])),
    (ApiKey::ApiVersions, shape(3, &[TEXT.from(3), TEXT.from(3)])),
    (ApiKey::CreateTopics, shape(5, &[many(&[TEXT, INT, SHORT, many(&[INT, INTS]), many(&[TEXT, TEXT])]), INT, BYTE])),
    (ApiKey::DeleteTopics, shape(4, &[many(&[TEXT, UUID]).from(6), TEXTS.until(5), INT])),
    (ApiKey::DeleteRecords, shape(2, &[many(&[TEXT, many(&[INT, LONG])]), INT])),
    (ApiKey::InitProducerId, shape(2, &[TEXT, INT, LONG.from(3), SHORT.from(3), BYTE.from(6), BYTE.from(6)])),
    (ApiKey::OffsetForLeaderEpoch, shape(4, &[INT.from(3), many(&[TEXT, many(&[INT, INT, INT])])])),
    (
        ApiKey::AddPartitionsToTxn,
        shape(
            3,
            &[
                many(&[TEXT, LONG, SHORT, BYTE, many(&[TEXT, INTS])]).from(4),
                TEXT.until(3),
                LONG.until(3),
                SHORT.until(3),
                many(&[TEXT, INTS]).until(3),
            ],
        ),
    ),
    (ApiKey::AddOffsetsToTxn, shape(3, &[TEXT, LONG, SHORT, TEXT])),
    (ApiKey::EndTxn, shape(3, &[TEXT, LONG, SHORT, BYTE])),
    (ApiKey::WriteTxnMarkers, shape(1, &[many(&[LONG, SHORT, BYTE, many(&[TEXT, INTS]), INT, BYTE.from(2)])])),
    (
        ApiKey::TxnOffsetCommit,
        shape(
            3,
            &[
                TEXT,
                TEXT,
                LONG,
                SHORT,
                INT.from(3),
                TEXT.from(3),
                TEXT.from(3),
                many(&[TEXT, many(&[INT, LONG, INT.from(2), TEXT])]),
            ],
        ),
    ),
    (ApiKey::DescribeConfigs, shape(4, &[many(&[BYTE, TEXT, TEXTS]), BYTE, BYTE.from(3)])),
    (ApiKey::AlterConfigs, shape(2, &[many(&[BYTE, TEXT, many(&[TEXT, TEXT])]), BYTE])),
    (ApiKey::DescribeLogDirs, shape(2, &[many(&[TEXT, INTS])])),
    (ApiKey::SaslAuthenticate, shape(2, &[BLOB])),
    (ApiKey::CreatePartitions, shape(2, &[many(&[TEXT, INT, many(&[INTS])]), INT, BYTE])),
    (ApiKey::DeleteGroups, shape(2, &[TEXTS])),
    (ApiKey::IncrementalAlterConfigs, shape(1, &[many(&[BYTE, TEXT, many(&[TEXT, BYTE, TEXT])]), BYTE])),
    (ApiKey::OffsetDelete, shape(NEVER, &[TEXT, many(&[TEXT, many(&[INT])])])),
    (ApiKey::DescribeCluster, shape(0, &[BYTE, BYTE.from(1), BYTE.from(2)])),
    (ApiKey::DescribeProducers, shape(0, &[many(&[TEXT, INTS])])),
    (ApiKey::DescribeTransactions, shape(0, &[TEXTS])),
    (ApiKey::ListTransactions, shape(0, &[TEXTS, LONGS, LONG.from(1), TEXT.from(2)])),
    (ApiKey::DescribeTopicPartitions, shape(0, &[many(&[TEXT]), INT, maybe(&[TEXT, INT])])),
];
