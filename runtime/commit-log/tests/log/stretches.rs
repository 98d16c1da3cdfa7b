//! Where records lie is said as it is read, and who watches a partition hears when it moves.

use std::sync::{Arc, Mutex};

use aqueduct_api::conformance::log::{append, batch};
use aqueduct_api::{
    Isolation, Log as _, Records, Stretch, Stretches as _, TopicPartition, TopicSettings, Topics as _, Watcher,
};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::Offset;

use crate::opened::{files, fill, of, open, small_segments, with_topic};

async fn stretch(log: &CommitLog, from: Offset, max_bytes: usize) -> Stretch {
    log.stretch(&of(), from, max_bytes, Isolation::Uncommitted).await.unwrap()
}

fn bytes(records: &Records) -> Vec<u8> {
    match records {
        Records::Bytes(bytes) => bytes.to_vec(),
        Records::File(part) => {
            let mut bytes = Vec::new();
            part.file.read_at(&mut bytes, part.length, part.offset).unwrap();
            bytes
        }
    }
}

/// Ten batches of 30 000 bytes.
async fn fill_large(log: &CommitLog) {
    for n in 0..10 {
        append(log, &of(), batch(&[&n.to_string().repeat(30_000)], 1000)).await;
    }
}

#[tokio::test]
async fn a_stretch_is_what_a_read_reads() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    fill(&log, 30).await;
    fill_large(&log).await;
    fill(&log, 5).await;
    for from in 0..=45 {
        for max_bytes in [0, 1, 200, 1000, 40_000, 100_000, 1 << 20] {
            let place = format!("{max_bytes} from {from}");
            let read = log.read(&of(), from, max_bytes, Isolation::Uncommitted).await.unwrap();
            let found = stretch(&log, from, max_bytes).await;
            assert!(bytes(&found.records) == read.batches, "{place}");
            assert_eq!((found.lost, found.records.is_empty()), (read.lost, from == 45), "{place}");
            let next = stretch(&log, found.next, 1).await;
            let expected = log.read(&of(), found.next, 1, Isolation::Uncommitted).await.unwrap().batches;
            assert!(bytes(&next.records) == expected, "{place}: what follows");
            let is_large = found.records.len() >= 16 << 10;
            assert_eq!(matches!(found.records, Records::File(_)), is_large, "{place}");
        }
    }
}

#[tokio::test]
async fn what_this_process_did_not_write_is_looked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    fill_large(&log).await;
    log.close().await.unwrap();
    let log = open(folder.path()).await;
    fill_large(&log).await;
    let is_file = |found: &Stretch| matches!(found.records, Records::File(_));
    assert!(is_file(&stretch(&log, 10, 100_000).await), "it wrote these");
    for from in [0, 3, 6, 9] {
        assert!(!is_file(&stretch(&log, from, 91_000).await), "{from}");
    }
    for from in 0..10 {
        let found = stretch(&log, from, 91_000).await;
        let read = log.read(&of(), from, 91_000, Isolation::Uncommitted).await.unwrap();
        assert!(is_file(&found) && bytes(&found.records) == read.batches, "{from}");
    }
}

#[tokio::test]
async fn damage_is_told_and_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    fill_large(&log).await;
    log.close().await.unwrap();
    let path = &files(folder.path(), ".log")[0];
    let mut changed = std::fs::read(path).unwrap();
    let at = changed.len() * 55 / 100;
    changed[at] ^= 1;
    std::fs::write(path, changed).unwrap();
    let log = open(folder.path()).await;
    let (mut from, mut lost, mut size) = (0, None, 0);
    while from < 10 {
        let found = stretch(&log, from, 70_000).await;
        lost = lost.or(found.lost.clone());
        size += found.records.len();
        from = found.lost.map_or(found.next, |lost| lost.end);
    }
    assert_eq!((lost, size > 9 * 30_000), (Some(5..6), true));
}

#[tokio::test]
async fn records_are_there_as_long_as_somebody_has_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    fill_large(&log).await;
    let read = log.read(&of(), 0, 100_000, Isolation::Uncommitted).await.unwrap().batches;
    let found = stretch(&log, 0, 100_000).await;
    log.delete("t", true).await.unwrap();
    assert!(bytes(&found.records) == read);
}

#[derive(Default)]
struct Told(Mutex<Vec<u32>>);

impl Watcher for Told {
    fn moved(&self, mark: u32) {
        self.0.lock().unwrap().push(mark);
    }
}

impl Told {
    fn take(&self) -> Vec<u32> {
        let mut told = std::mem::take(&mut *self.0.lock().unwrap());
        told.dedup();
        told
    }
}

#[tokio::test]
async fn whoever_watches_hears_of_records_of_retention_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(
        folder.path(),
        &TopicSettings { retention_bytes: Some(aqueduct_api::ByteSize(700)), ..small_segments() },
    )
    .await;
    let told = Arc::new(Told::default());
    let watcher: Arc<dyn Watcher> = told.clone();
    assert!(log.watch(&TopicPartition::new("t", 1), &watcher, 0).is_err(), "there is no such partition");
    let watch = log.watch(&of(), &watcher, 7).unwrap();
    assert!(told.take().is_empty());
    fill(&log, 10).await;
    assert_eq!(told.take(), [7]);
    let start = log.bounds(&of()).await.unwrap().start;
    log.clean().await.unwrap();
    assert!(log.bounds(&of()).await.unwrap().start > start);
    assert_eq!(told.take(), [7]);
    log.delete("t", true).await.unwrap();
    assert_eq!(told.take(), [7]);
    drop(watch);
}
