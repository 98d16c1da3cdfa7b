//! What every log with transactions must do. Each check makes topics of its own, so all of them can run on one log.

use aqueduct_record::{Batch, BatchBuilder, Offset};

use super::log::{append, batch, topic};
use crate::{Isolation, Marker, ProducerError, Producers, Result, Store, TopicPartition, Transactions};

/// A log whose producers write in transactions.
pub trait Transacted: Store + Producers + Transactions {}

impl<T: Store + Producers + Transactions> Transacted for T {}

/// A part of a producer's transaction: records that are numbered from `sequence` on, which are their values.
fn part((id, epoch, sequence): (i64, i16, i32), count: i32) -> Batch {
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence).transactional();
    for number in sequence..sequence + count {
        builder.push(0, None, Some(number.to_string().as_bytes()), &[]);
    }
    builder.finish()
}

/// Ends what a producer has open, and waits until that is safe.
async fn end(store: &dyn Transacted, of: &TopicPartition, marker: Marker) -> Result<Offset> {
    store.end(of, marker).await?.durable().await
}

/// Offsets and values that a reader sees, read in steps of `max_bytes`.
async fn seen(
    store: &dyn Transacted,
    of: &TopicPartition,
    (from, max_bytes): (Offset, usize),
    isolation: Isolation,
) -> Vec<(Offset, String)> {
    let (mut found, mut next) = (Vec::new(), from);
    loop {
        let read = store.read(of, next, max_bytes, isolation).await.expect("the partition is read");
        if read.batches.is_empty() {
            return found;
        }
        for batch in read.into_batches() {
            let batch = batch.expect("only whole batches are read");
            let records = batch.records().expect("the records are there");
            for record in records.iter().map(|record| record.expect("the record is there")) {
                if record.offset >= from {
                    found.push((record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()));
                }
            }
            next = batch.next_offset();
        }
    }
}

/// Whoever reads what is committed sees nothing of open and aborted transactions, and all else in order.
pub async fn only_what_is_committed_is_read(store: &dyn Transacted) {
    topic(store, "committed", 1).await;
    let of = TopicPartition::new("committed", 0);
    let committed = async |from: Offset| {
        let found = seen(store, &of, (from, 1), Isolation::Committed).await;
        assert_eq!(seen(store, &of, (from, 1 << 20), Isolation::Committed).await, found, "in one step from {from}");
        found.into_iter().map(|(offset, _)| offset).collect::<Vec<_>>()
    };
    let stable = async || store.bounds(&of).await.expect("the partition has bounds").stable;
    let (one, other) = (
        store.new_producer().await.expect("a producer id is given"),
        store.new_producer().await.expect("another producer id is given"),
    );
    let marker = |producer_id, committed| Marker { producer_id, epoch: 0, coordinator_epoch: 0, committed };
    append(store, &of, batch(&["plain"], 0)).await;
    append(store, &of, part((one, 0, 0), 2)).await;
    append(store, &of, part((other, 0, 0), 2)).await;
    append(store, &of, batch(&["plain"], 0)).await;
    assert_eq!((stable().await, committed(0).await), (1, vec![0]));
    assert_eq!(end(store, &of, marker(one, false)).await.expect("a marker is written"), 6);
    assert_eq!((stable().await, committed(0).await), (3, vec![0]));
    assert_eq!(end(store, &of, marker(other, true)).await.expect("a marker is written"), 7);
    append(store, &of, part((one, 0, 2), 1)).await;
    assert_eq!((stable().await, committed(0).await), (8, vec![0, 3, 4, 5]));
    assert_eq!(committed(2).await, [3, 4, 5]);
    end(store, &of, marker(one, true)).await.expect("a marker is written");
    end(store, &of, marker(one, true)).await.expect("it is written again");
    assert_eq!((stable().await, committed(0).await), (11, vec![0, 3, 4, 5, 8]));
    let all = seen(store, &of, (0, 100), Isolation::Uncommitted).await;
    assert_eq!(all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 8]);
}

/// A marker fences older epochs of its producer, and is fenced by later ones.
pub async fn a_marker_fences(store: &dyn Transacted) {
    topic(store, "fenced", 1).await;
    let of = TopicPartition::new("fenced", 0);
    let id = store.new_producer().await.expect("a producer id is given");
    append(store, &of, part((id, 0, 0), 1)).await;
    let marker = Marker { producer_id: id, epoch: 1, coordinator_epoch: 7, committed: false };
    end(store, &of, marker).await.expect("a marker is written");
    let described = store.producers(&of).await.expect("producers are told");
    let [producer] = described[..] else { panic!("one producer is known, not {described:?}") };
    assert_eq!((producer.epoch, producer.coordinator_epoch, producer.open_since), (1, 7, None));
    let late = store.append(&of, part((id, 0, 1), 1), crate::At::End).await;
    assert_eq!(cause(late), ProducerError::Fenced { id, epoch: 0, current: 1 });
    let old = store.end(&of, Marker { epoch: 0, ..marker }).await;
    assert_eq!(cause(old), ProducerError::Fenced { id, epoch: 0, current: 1 });
    let replaced = store.end(&of, Marker { coordinator_epoch: 6, ..marker }).await;
    assert_eq!(cause(replaced), ProducerError::CoordinatorFenced { id, epoch: 6, current: 7 });
    append(store, &of, part((id, 1, 0), 1)).await;
    let mut outside = BatchBuilder::new().producer(id, 1, 1);
    outside.push(0, None, Some(b"1"), &[]);
    let outside = store.append(&of, outside.finish(), crate::At::End).await;
    assert_eq!(cause(outside), ProducerError::OutsideTransaction { id, since: 2 });
}

fn cause<T>(refused: Result<T>) -> ProducerError {
    let error = refused.err().expect("it is refused");
    ProducerError::of(&error).unwrap_or_else(|| panic!("not for its producer: {error}"))
}
