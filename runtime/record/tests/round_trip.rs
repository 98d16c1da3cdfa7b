//! What is built is what is read, for any records, codec and flags.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use aqueduct_record::{Batch, BatchBuilder, Compression, Inflation, TimestampType};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Given {
    /// Offsets that nobody has, before this record.
    gap: i32,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![1 => Just(None), 4 => vec(any::<u8>(), 0..40).prop_map(Some), 1 => vec(0..4u8, 60..400).prop_map(Some)]
}

fn record() -> impl Strategy<Value = Given> {
    let timestamp = prop_oneof![4 => 1_700_000_000_000..1_700_000_100_000i64, 1 => any::<i64>()];
    let headers = vec(("[a-zä.]{0,12}", some_bytes()), 0..4);
    (prop_oneof![4 => Just(0), 1 => 0..1000i32], timestamp, some_bytes(), some_bytes(), headers)
        .prop_map(|(gap, timestamp, key, value, headers)| Given { gap, timestamp, key, value, headers })
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ])
}

fn push(builder: &mut BatchBuilder, delta: i32, given: &Given) {
    let headers: Vec<(&str, Option<&[u8]>)> =
        given.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    builder.push_at(delta, given.timestamp, given.key.as_deref(), given.value.as_deref(), &headers);
}

/// The records of `batch`, by the lending walk and by the iterator alike.
fn read(batch: &Batch) -> Vec<(i64, Given)> {
    let mut records = batch.records().unwrap();
    let mut read = vec![];
    while let Some(record) = records.next() {
        let record = record.unwrap();
        let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        read.push((record.offset, Given { gap: 0, timestamp: record.timestamp, key, value, headers }));
    }
    assert!(records.next().is_none());
    assert!(records.iter().map(|record| record.unwrap().offset).eq(read.iter().map(|(offset, _)| *offset)));
    read
}

proptest! {
    #[test]
    fn what_is_built_is_what_is_read(
        given in vec(record(), 1..20),
        codec in codec(),
        base in 0..i64::MAX / 2,
        epoch: i32,
        producer: (i64, i16, i32),
        position in vec(any::<u8>(), 0..200),
    ) {
        let mut builder = BatchBuilder::new().compressed(codec).producer(producer.0, producer.1, producer.2);
        let mut meant = vec![];
        let mut delta = 0;
        for given in &given {
            delta += given.gap;
            push(&mut builder, delta, given);
            meant.push((base + i64::from(delta), Given { gap: 0, ..given.clone() }));
            delta += 1;
        }
        builder.add_header_to_last("aqueduct.position", &position);
        meant.last_mut().unwrap().1.headers.push(("aqueduct.position".to_owned(), Some(position)));
        let uncompressed = builder.size();

        let built = builder.finish().at(base, epoch);
        let batch = Batch::parse(built.bytes().clone()).unwrap();
        prop_assert_eq!(batch.header(), built.header());
        prop_assert_eq!(batch.validate(Inflation::default()), Ok(()));
        prop_assert_eq!(read(&batch), meant);
        if codec == Compression::None {
            prop_assert_eq!(batch.size(), uncompressed);
        }
        let header = batch.header();
        prop_assert_eq!(header.attributes.compression(), codec);
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), producer);
        prop_assert_eq!((batch.leader_epoch(), batch.next_offset()), (epoch, base + i64::from(delta)));
        prop_assert_eq!(header.base_timestamp, given[0].timestamp);
        prop_assert_eq!(header.max_timestamp, given.iter().map(|given| given.timestamp).max().unwrap());
    }

    #[test]
    fn compaction_keeps_extent_flags_and_what_it_keeps(
        given in vec(record(), 1..20),
        kept in vec(any::<bool>(), 20),
        codec in codec(),
        horizon in proptest::option::of(0..i64::MAX),
        append_time in proptest::option::of(0..i64::MAX),
    ) {
        let mut builder = BatchBuilder::new().compressed(codec).producer(1, 2, 3).transactional();
        if let Some(timestamp) = append_time {
            builder = builder.append_time(timestamp);
        }
        given.iter().enumerate().for_each(|(delta, given)| push(&mut builder, delta as i32, given));
        let whole = builder.finish().at(100, 5);

        let mut remainder = BatchBuilder::remainder_of(&whole.header(), horizon);
        for record in whole.records().unwrap().iter().map(Result::unwrap) {
            if kept[(record.offset - 100) as usize] {
                remainder.push_record((record.offset - 100) as i32, &record);
            }
        }
        let rest = Batch::parse(remainder.finish().at(100, 5).into_bytes()).unwrap();

        let meant: Vec<_> = read(&whole).into_iter().filter(|(offset, _)| kept[(offset - 100) as usize]).collect();
        prop_assert_eq!(read(&rest), meant);
        prop_assert_eq!((rest.base_offset(), rest.next_offset()), (whole.base_offset(), whole.next_offset()));
        prop_assert_eq!(rest.header().delete_horizon(), horizon);
        prop_assert!(rest.header().attributes.is_transactional());
        prop_assert_eq!(rest.header().base_sequence, 3);
        let stamped = append_time.map_or(TimestampType::CreateTime, |_| TimestampType::LogAppendTime);
        prop_assert_eq!(rest.header().attributes.timestamp_type(), stamped);
    }
}
