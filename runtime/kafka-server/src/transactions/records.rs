//! What is kept of transactions, in the record format of Kafka's `__transaction_state`.
//!
//! ```text
//! key    version i16 = 0 | transactional id string
//! value  version i16 = 0 | producer id i64 | epoch i16 | time-out i32 | state i8 | partitions [topic string | numbers [i32]]? |
//!                          updated i64 | started i64; null: forgotten
//!        version i16 = 1: the same with compact strings and arrays, and the tagged fields previous producer id (0),
//!                          next producer id (1), the client's version (2) and the next epoch (3)
//! ```
//!
//! As in `TransactionLogKey.json` and `TransactionLogValue.json` of Kafka 4.3. The next epoch is of two-phase commits, which
//! are not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_api::{Error, Result, TopicPartition};
use aqueduct_record::Fields;

use super::entry::{Entry, State};

/// The key of a transactional id.
pub(crate) fn key(id: &str) -> Result<Vec<u8>> {
    let length = i16::try_from(id.len())
        .map_err(|_| Error::refused(format!("a transactional id of {} bytes can not be kept", id.len())))?;
    let mut key = 0i16.to_be_bytes().to_vec();
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    Ok(key)
}

/// The transactional id of a key.
pub(crate) fn parse_key(key: &[u8]) -> Option<&str> {
    let mut fields = Fields::new(key);
    match fields.i16()? {
        0 => fields.text(),
        _ => None,
    }
}

/// The value of an entry, in version 1.
pub(crate) fn value(entry: &Entry) -> Vec<u8> {
    let mut value = 1i16.to_be_bytes().to_vec();
    value.extend_from_slice(&entry.producer_id.to_be_bytes());
    value.extend_from_slice(&entry.epoch.to_be_bytes());
    value.extend_from_slice(&entry.timeout.to_be_bytes());
    value.extend_from_slice(&entry.state.id().to_be_bytes());
    put_partitions(&mut value, entry);
    value.extend_from_slice(&entry.updated.to_be_bytes());
    value.extend_from_slice(&entry.started.to_be_bytes());
    let tags = [
        (0, (entry.previous_producer_id != -1).then(|| entry.previous_producer_id.to_be_bytes().to_vec())),
        (1, (entry.next_producer_id != -1).then(|| entry.next_producer_id.to_be_bytes().to_vec())),
        (2, (entry.client_version != 0).then(|| entry.client_version.to_be_bytes().to_vec())),
    ];
    put_varint(&mut value, tags.iter().filter(|(_, field)| field.is_some()).count());
    for (tag, field) in tags {
        let Some(field) = field else { continue };
        put_varint(&mut value, tag);
        put_varint(&mut value, field.len());
        value.extend_from_slice(&field);
    }
    value
}

fn put_partitions(to: &mut Vec<u8>, entry: &Entry) {
    if entry.state == State::Empty {
        return put_varint(to, 0);
    }
    let mut topics = BTreeMap::<&Arc<str>, Vec<i32>>::new();
    for of in &entry.partitions {
        topics.entry(&of.topic).or_default().push(of.partition);
    }
    put_varint(to, topics.len() + 1);
    for (topic, partitions) in topics {
        put_varint(to, topic.len() + 1);
        to.extend_from_slice(topic.as_bytes());
        put_varint(to, partitions.len() + 1);
        partitions.iter().for_each(|partition| to.extend_from_slice(&partition.to_be_bytes()));
        put_varint(to, 0);
    }
}

fn put_varint(to: &mut Vec<u8>, number: usize) {
    let mut rest = number;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// What a value says.
pub(crate) fn parse_value(value: &[u8]) -> Option<Entry> {
    let mut fields = Fields::new(value);
    let is_flexible = match fields.i16()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let mut entry = Entry {
        producer_id: fields.i64()?,
        previous_producer_id: -1,
        next_producer_id: -1,
        epoch: fields.i16()?,
        timeout: fields.i32()?,
        state: State::of(fields.i8()?)?,
        partitions: parse_partitions(&mut fields, is_flexible)?,
        updated: fields.i64()?,
        started: fields.i64()?,
        client_version: 0,
    };
    if is_flexible {
        for _ in 0..fields.varint()? {
            let (tag, length) = (fields.varint()?, fields.varint()?);
            let mut field = Fields::new(fields.take(length as usize)?);
            match tag {
                0 => entry.previous_producer_id = field.i64()?,
                1 => entry.next_producer_id = field.i64()?,
                2 => entry.client_version = field.i16()?,
                _ => {}
            }
        }
    }
    Some(entry)
}

fn parse_partitions(fields: &mut Fields<'_>, is_flexible: bool) -> Option<BTreeSet<TopicPartition>> {
    let mut partitions = BTreeSet::new();
    for _ in 0..count(fields, is_flexible)?.unwrap_or(0) {
        let topic = if is_flexible { fields.compact_text()? } else { fields.text()? };
        let topic: Arc<str> = topic.into();
        for _ in 0..count(fields, is_flexible)?? {
            partitions.insert(TopicPartition::new(topic.clone(), fields.i32()?));
        }
        if is_flexible {
            fields.skip_tags()?;
        }
    }
    Some(partitions)
}

/// A count that says by itself whether there is anything at all.
fn count(fields: &mut Fields<'_>, is_flexible: bool) -> Option<Option<usize>> {
    match is_flexible {
        true => fields.compact_length(),
        false => Some(usize::try_from(fields.i32()?).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn entry() -> Entry {
        Entry {
            producer_id: 1,
            previous_producer_id: -1,
            next_producer_id: -1,
            epoch: 2,
            timeout: 3,
            state: State::Ongoing,
            partitions: [TopicPartition::new("t", 7), TopicPartition::new("t", 8)].into(),
            updated: 5,
            started: 6,
            client_version: 0,
        }
    }

    /// Written by the `TransactionLogKey` and `TransactionLogValue` of Kafka 4.3.1.
    const OLD: &str = "0000000000000000000100020000000301000000010001740000000200000007000000080000000000000005\
        0000000000000006";
    const PLAIN: &str = "00010000000000000001000200000003010202740300000007000000080000000000000000050000000000000006\
        00";
    const TAGGED: &str = "0001000000000000000100020000000301020274030000000700000008000000000000000005000000000000000604\
        000800000000000000090108000000000000000a0202000203020004";

    #[test]
    fn keys_and_values_are_those_that_kafka_writes() {
        assert_eq!(key("tx").unwrap(), bytes("000000027478"));
        assert_eq!(parse_key(&bytes("000000027478")), Some("tx"));
        assert_eq!(value(&entry()), bytes(PLAIN));
        let tagged = Entry { previous_producer_id: 9, next_producer_id: 10, client_version: 2, ..entry() };
        // Without the field of two-phase commits.
        let ours = TAGGED.replace("0604000800", "0603000800").replace("03020004", "");
        assert_eq!(value(&tagged), bytes(&ours));
        for (text, expected) in [(OLD, entry()), (PLAIN, entry()), (TAGGED, tagged.clone()), (&ours, tagged)] {
            assert_eq!(parse_value(&bytes(text)), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_value_that_ends_early_or_lies_says_nothing() {
        for text in [OLD, PLAIN, TAGGED] {
            let whole = bytes(text);
            for length in 0..whole.len() {
                assert_eq!(parse_value(&whole[..length]), None, "{length} bytes of {text}");
            }
        }
        let lie = "00000000000000000001000200000003017fffffff";
        assert_eq!(parse_value(&bytes(lie)), None);
        assert_eq!(parse_key(&bytes("000100027478")), None);
        assert_eq!(parse_value(&bytes("0002")), None);
    }
}
