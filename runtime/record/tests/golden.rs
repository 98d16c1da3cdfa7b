//! Batches made by Kafka's Java client (`tests/golden/make.sh`) are read as that client reads them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use aqueduct_record::{Batch, BatchBuilder, Compression, Header, Inflation, TimestampType};

#[path = "../../../tests/golden/describe.rs"]
mod describe;

fn golden() -> Vec<(PathBuf, Batch)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/batches");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bin"));
    files.sort();
    assert_eq!(files.len(), 22, "one file a case of Golden.java");
    files.into_iter().map(|file| (file.clone(), Batch::parse(std::fs::read(file).unwrap().into()).unwrap())).collect()
}

#[test]
fn batches_made_by_java_say_to_us_what_they_say_to_java() {
    for (file, batch) in golden() {
        let theirs = std::fs::read_to_string(file.with_extension("json")).unwrap();
        assert_eq!(describe::describe(&batch).unwrap(), theirs, "{}", file.display());
        batch.validate(Inflation::default()).unwrap();
    }
}

#[test]
fn our_builder_writes_the_bytes_that_java_writes() {
    let mut same = 0;
    for (file, batch) in golden() {
        let header = batch.header();
        let mut builder = BatchBuilder::remainder_of(&header, None);
        for record in batch.records().unwrap().iter() {
            let record = record.unwrap();
            builder.push_record((record.offset - header.base_offset) as i32, &record);
        }
        let ours = builder.finish().at(header.base_offset, header.leader_epoch);
        // Encoders differ in how they compress, and the records' own times are hidden behind that of the append.
        let comparable = header.attributes.compression() == Compression::None
            && header.attributes.timestamp_type() == TimestampType::CreateTime;
        if comparable {
            assert_eq!(ours.bytes(), batch.bytes(), "{}", file.display());
            same += 1;
        } else {
            let fields = |batch: &Batch| Header { crc: 0, batch_length: 0, base_timestamp: 0, ..batch.header() };
            assert_eq!(fields(&ours), fields(&batch), "{}", file.display());
            assert_eq!(ours.header().delete_horizon(), header.delete_horizon(), "{}", file.display());
            assert_eq!(records_of(&ours), records_of(&batch), "{}", file.display());
        }
    }
    assert!(same >= 11, "{same}");
}

/// The records as `describe` tells them: what follows the fixed fields.
fn records_of(batch: &Batch) -> String {
    let described = describe::describe(batch).unwrap();
    described.split_once("\"records\"").unwrap().1.to_owned()
}

#[test]
fn all_golden_batches_in_a_row_come_apart_again() {
    let batches = golden();
    let mut rest =
        bytes::Bytes::from(batches.iter().flat_map(|(_, batch)| batch.bytes().to_vec()).collect::<Vec<u8>>());
    for (file, batch) in &batches {
        let (first, after) = Batch::split_first(&rest).unwrap().unwrap();
        assert_eq!(&first, batch, "{}", file.display());
        rest = after;
    }
    assert_eq!(Batch::split_first(&rest), Ok(None));
}
