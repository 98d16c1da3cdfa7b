//! What groups leave in the log, in the record format of Kafka's `__consumer_offsets`.
//!
//! ```text
//! offset   key    version i16 = 1 | group string | topic string | partition i32
//!          value  version i16 = 3 | offset i64 | leader epoch i32 | metadata string | time of the commit i64; null: forgotten
//! members  key    version i16 = 2 | group string
//!          value  version i16 = 3 | protocol type string | generation i32 | protocol string? | leader string? | since i64 |
//!                 members [id string | instance string? | client string | host string | rebalance time-out i32 |
//!                 session time-out i32 | subscription bytes | assignment bytes]; null: forgotten
//! ```
//!
//! A string is its length as i16 and its bytes, bytes have an i32, and a length of -1 says that there are none (Kafka's
//! `OffsetCommitKey.json`, `OffsetCommitValue.json`, `GroupMetadataKey.json` and `GroupMetadataValue.json`).

use aqueduct_api::{Committed, Error, Member, Membership, Result, TopicPartition};
use aqueduct_record::{Batch, BatchBuilder, Fields};
use bytes::Bytes;

/// What a record is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// How far a group has come in a partition.
    Offset(String, TopicPartition),
    /// Who is in a group.
    Members(String),
}

/// The record of each offset.
pub(crate) fn offsets(group: &str, offsets: &[(TopicPartition, Option<Committed>)], now: i64) -> Result<Batch> {
    push_offsets(BatchBuilder::new(), group, offsets, now)
}

/// The record of each offset, in the transaction of a producer.
pub(crate) fn offsets_of(
    group: &str,
    offsets: &[(TopicPartition, Option<Committed>)],
    now: i64,
    producer_id: i64,
    epoch: i16,
) -> Result<Batch> {
    push_offsets(BatchBuilder::new().producer(producer_id, epoch, -1).transactional(), group, offsets, now)
}

fn push_offsets(
    mut builder: BatchBuilder,
    group: &str,
    offsets: &[(TopicPartition, Option<Committed>)],
    now: i64,
) -> Result<Batch> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for (of, committed) in offsets {
        key.clear();
        key.extend_from_slice(&1i16.to_be_bytes());
        put_text(&mut key, group)?;
        put_text(&mut key, &of.topic)?;
        key.extend_from_slice(&of.partition.to_be_bytes());
        let value = match committed {
            Some(committed) => {
                value.clear();
                value.extend_from_slice(&3i16.to_be_bytes());
                value.extend_from_slice(&committed.offset.to_be_bytes());
                value.extend_from_slice(&committed.leader_epoch.to_be_bytes());
                put_text(&mut value, &committed.metadata)?;
                value.extend_from_slice(&now.to_be_bytes());
                Some(&value[..])
            }
            None => None,
        };
        builder.push(now, Some(&key), value, &[]);
    }
    Ok(builder.finish())
}

/// The record of a group's members.
pub(crate) fn members(group: &str, membership: Option<&Membership>, now: i64) -> Result<Batch> {
    let mut key = 2i16.to_be_bytes().to_vec();
    put_text(&mut key, group)?;
    let value = membership.map(members_value).transpose()?;
    let mut builder = BatchBuilder::new();
    builder.push(now, Some(&key), value.as_deref(), &[]);
    Ok(builder.finish())
}

fn members_value(membership: &Membership) -> Result<Vec<u8>> {
    let mut value = 3i16.to_be_bytes().to_vec();
    put_text(&mut value, &membership.protocol_type)?;
    value.extend_from_slice(&membership.generation.to_be_bytes());
    put_optional(&mut value, membership.protocol.as_deref())?;
    put_optional(&mut value, membership.leader.as_deref())?;
    value.extend_from_slice(&membership.since.to_be_bytes());
    put_length(&mut value, membership.members.len())?;
    for member in &membership.members {
        put_text(&mut value, &member.id)?;
        put_optional(&mut value, member.instance_id.as_deref())?;
        put_text(&mut value, &member.client_id)?;
        put_text(&mut value, &member.client_host)?;
        value.extend_from_slice(&member.rebalance_timeout.to_be_bytes());
        value.extend_from_slice(&member.session_timeout.to_be_bytes());
        for bytes in [&member.subscription, &member.assignment] {
            put_length(&mut value, bytes.len())?;
            value.extend_from_slice(bytes);
        }
    }
    Ok(value)
}

fn put_text(to: &mut Vec<u8>, text: &str) -> Result<()> {
    let length = i16::try_from(text.len())
        .map_err(|_| Error::refused(format!("a text of {} bytes can not be committed", text.len())))?;
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_optional(to: &mut Vec<u8>, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) => put_text(to, text),
        None => {
            to.extend_from_slice(&(-1i16).to_be_bytes());
            Ok(())
        }
    }
}

fn put_length(to: &mut Vec<u8>, length: usize) -> Result<()> {
    let length = i32::try_from(length).map_err(|_| Error::refused(format!("{length} bytes of a group's members")))?;
    to.extend_from_slice(&length.to_be_bytes());
    Ok(())
}

/// What a key is about; `None` for keys of other things.
pub(crate) fn parse_key(key: &[u8]) -> Option<Key> {
    let mut fields = Fields::new(key);
    let version = fields.i16()?;
    let group = fields.text()?.to_owned();
    match version {
        0 | 1 => {
            let topic = fields.text()?;
            Some(Key::Offset(group, TopicPartition::new(topic, fields.i32()?)))
        }
        2 => Some(Key::Members(group)),
        _ => None,
    }
}

/// What an offset's value of version 0 to 3 says, and when it was committed.
pub(crate) fn parse_offset(value: &[u8]) -> Option<(Committed, i64)> {
    let mut fields = Fields::new(value);
    let version = fields.i16()?;
    if !(0..=3).contains(&version) {
        return None;
    }
    let offset = fields.i64()?;
    let leader_epoch = if version == 3 { fields.i32()? } else { -1 };
    let metadata = fields.text()?.to_owned();
    Some((Committed { offset, leader_epoch, metadata }, fields.i64()?))
}

/// What a value of version 0 to 3 says of a group's members.
pub(crate) fn parse_members(value: &[u8]) -> Option<Membership> {
    let mut fields = Fields::new(value);
    let version = fields.i16()?;
    if !(0..=3).contains(&version) {
        return None;
    }
    let mut membership = Membership {
        protocol_type: fields.text()?.to_owned(),
        generation: fields.i32()?,
        protocol: fields.optional_text()?.map(str::to_owned),
        leader: fields.optional_text()?.map(str::to_owned),
        since: if version >= 2 { fields.i64()? } else { -1 },
        members: Vec::new(),
    };
    for _ in 0..fields.i32()? {
        membership.members.push(Member {
            id: fields.text()?.to_owned(),
            instance_id: if version >= 3 { fields.optional_text()?.map(str::to_owned) } else { None },
            client_id: fields.text()?.to_owned(),
            client_host: fields.text()?.to_owned(),
            rebalance_timeout: if version >= 1 { fields.i32()? } else { -1 },
            session_timeout: fields.i32()?,
            subscription: Bytes::copy_from_slice(fields.bytes()?),
            assignment: Bytes::copy_from_slice(fields.bytes()?),
        });
    }
    Some(membership)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(batch: &Batch) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let records = batch.records().unwrap();
        let all = records.iter().map(|record| record.unwrap());
        all.map(|record| (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn commits_have_the_bytes_that_kafka_writes() {
        let committed = Committed { offset: 258, leader_epoch: 3, metadata: "m".into() };
        let of = TopicPartition::new("t", 5);
        let batch = offsets("g", &[(of.clone(), Some(committed.clone())), (of.clone(), None)], 7).unwrap();
        let key = b"\0\x01\0\x01g\0\x01t\0\0\0\x05".to_vec();
        let value = b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x03\0\x01m\0\0\0\0\0\0\0\x07".to_vec();
        assert_eq!(records(&batch), [(key.clone(), Some(value.clone())), (key.clone(), None)]);
        assert_eq!(parse_key(&key), Some(Key::Offset("g".into(), of)));
        assert_eq!(parse_offset(&value), Some((committed, 7)));
    }

    #[test]
    fn older_values_are_read_and_other_keys_are_left() {
        let old = b"\0\x01\0\0\0\0\0\0\0\x09\0\x02mm\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let committed = Committed { offset: 9, leader_epoch: -1, metadata: "mm".into() };
        assert_eq!(parse_offset(old), Some((committed, 0)));
        assert_eq!(parse_key(b"\0\x02\0\x01g"), Some(Key::Members("g".into())));
        assert_eq!(parse_key(b"\0\x03\0\x01g"), None);
        for length in 0..20 {
            assert_eq!(parse_offset(&old[..length.min(11)]), None);
        }
    }

    #[test]
    fn members_have_the_bytes_that_kafka_writes() {
        let member = Member {
            id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout: 2,
            session_timeout: 1,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::new(),
        };
        let membership = Membership {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: None,
            since: 9,
            members: vec![member],
        };
        let batch = members("g", Some(&membership), 7).unwrap();
        let value = b"\0\x03\0\x08consumer\0\0\0\x05\0\x05range\xff\xff\0\0\0\0\0\0\0\x09\0\0\0\x01\0\x01m\xff\xff\
                      \0\x01c\0\x02/h\0\0\0\x02\0\0\0\x01\0\0\0\x01s\0\0\0\0";
        assert_eq!(records(&batch), [(b"\0\x02\0\x01g".to_vec(), Some(value.to_vec()))]);
        assert_eq!(parse_members(value), Some(membership));
        for length in 0..value.len() {
            assert_eq!(parse_members(&value[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_count_of_members_that_lies_takes_no_room() {
        let lie = b"\0\x03\0\0\0\0\0\x05\xff\xff\xff\xff\0\0\0\0\0\0\0\x09\x7f\xff\xff\xff";
        assert_eq!(parse_members(lie), None);
    }
}
