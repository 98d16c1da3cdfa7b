//! What is tried with arbitrary bytes, by the fuzzer and by `tests/hostile.rs`: nothing may panic, and what is taken for a
//! batch has to hold what a batch promises.

use aqueduct_record::{Batch, BatchBuilder, Header, Inflation, crc32c};
use bytes::Bytes;

/// Tries `bytes` as they are, then with length, magic and CRC put right, so that what lies behind those is reached too.
pub(crate) fn run(bytes: &[u8]) {
    split(Bytes::copy_from_slice(bytes));
    let mut repaired = bytes.to_vec();
    if repaired.len() >= Header::LEN {
        let length = (repaired.len() - 12) as i32;
        repaired[8..12].copy_from_slice(&length.to_be_bytes());
        repaired[16] = 2;
        let crc = crc32c(&repaired[21..]);
        repaired[17..21].copy_from_slice(&crc.to_be_bytes());
        split(repaired.into());
    }
}

fn split(mut rest: Bytes) {
    while let Ok(Some((batch, after))) = Batch::split_first(&rest) {
        assert_eq!(batch.size() + after.len(), rest.len());
        assert_eq!(Header::peek(&rest), Ok(batch.header()));
        inspect(&batch);
        rest = after;
    }
    let _ = Batch::parse(rest);
}

fn inspect(batch: &Batch) {
    assert!(batch.base_offset() <= batch.last_offset() && batch.last_offset() < batch.next_offset());
    assert_eq!(batch.clone().at(batch.base_offset(), -7).at(batch.base_offset(), batch.leader_epoch()), *batch);
    let small = Inflation { max_bytes: 1 << 20, max_ratio: 64, small_bytes: 1 << 16 };
    if batch.validate(small).is_err() {
        return;
    }
    let records = batch.records().expect("within the smaller limits, so within the larger ones");
    let mut again = BatchBuilder::remainder_of(&batch.header(), None);
    let mut count = 0;
    for record in records.iter() {
        let record = record.expect("all records were valid just now");
        assert!((batch.base_offset()..=batch.last_offset()).contains(&record.offset));
        assert_eq!(record.headers.len(), record.headers.iter().count());
        again.push_record((record.offset - batch.base_offset()) as i32, &record);
        count += 1;
    }
    assert_eq!(count, batch.count());
    rebuilt(batch, again);
}

/// What was read can be written, and says the same when it is read again.
fn rebuilt(batch: &Batch, again: BatchBuilder) {
    let again = again.finish().at(batch.base_offset(), batch.leader_epoch());
    let again = Batch::parse(again.into_bytes()).expect("what the builder makes is a batch");
    assert_eq!((again.count(), again.next_offset()), (batch.count(), batch.next_offset()));
    let (ours, theirs) = (again.records().expect("ours"), batch.records().expect("theirs"));
    for (ours, theirs) in ours.iter().zip(theirs.iter()) {
        let (ours, theirs) = (ours.expect("ours"), theirs.expect("theirs"));
        assert_eq!((ours.offset, ours.timestamp), (theirs.offset, theirs.timestamp));
        assert_eq!((ours.key, ours.value), (theirs.key, theirs.value));
        assert!(ours.headers.iter().eq(theirs.headers.iter()));
    }
}
