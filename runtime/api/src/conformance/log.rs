//! What every log must do. Each check makes topics of its own, so all of them can run on one log.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_record::{Batch, BatchBuilder, Offset};
use bytes::Bytes;

use crate::{At, Committed, Error, Isolation, Limit, Result, Store, Topic, TopicPartition, TopicSettings};

/// A batch of records with these values, at timestamps that count up from `timestamp`.
pub fn batch(values: &[&str], timestamp: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    for (n, value) in values.iter().enumerate() {
        builder.push(timestamp + n as i64, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

/// A topic of that name with default settings.
pub async fn topic(store: &dyn Store, name: &str, partitions: i32) -> Topic {
    store.create(name, partitions, &TopicSettings::default()).await.expect("a topic is made")
}

/// Appends at the end, and waits until it is safe.
pub async fn append(store: &dyn Store, to: &TopicPartition, batch: Batch) -> Offset {
    let appended = store.append(to, batch, At::End).await.expect("the batch gets a place");
    appended.durable().await.expect("the batch gets safe")
}

/// All offsets and values from `from` on, read in steps of `max_bytes`, and the offsets said to be lost.
pub async fn read_all(
    store: &dyn Store,
    of: &TopicPartition,
    from: Offset,
    max_bytes: usize,
) -> (Vec<(Offset, String)>, Vec<std::ops::Range<Offset>>) {
    let (mut found, mut lost, mut offset) = (Vec::new(), Vec::new(), from);
    loop {
        let read = store.read(of, offset, max_bytes, Isolation::Uncommitted).await.expect("the partition is read");
        if let Some(range) = read.lost {
            assert!(
                range.start == offset && range.end > offset,
                "a loss of {range:?} was told to who read from {offset}"
            );
            offset = range.end;
            lost.push(range);
            continue;
        }
        if read.batches.is_empty() {
            return (found, lost);
        }
        let mut batches = read.batches;
        while let Some((batch, rest)) = Batch::split_first(&batches).expect("only whole batches are read") {
            let records = batch.records().expect("the records are there");
            for record in records.iter() {
                let record = record.expect("the record is there");
                if record.offset >= offset {
                    found.push((record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()));
                }
            }
            assert!(batch.next_offset() > offset, "a read from {offset} returned a batch that ends before it");
            offset = batch.next_offset();
            batches = rest;
        }
        assert!(batches.is_empty(), "{} bytes after the last whole batch", batches.len());
    }
}

fn is_refused<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Refused { .. }))
}

/// What is appended is read again, in order, at offsets that follow each other.
pub async fn appends_are_read_in_order(store: &dyn Store) {
    topic(store, "order", 2).await;
    let of = TopicPartition::new("order", 1);
    let mut expected = Vec::new();
    for n in 0..20 {
        let values: Vec<String> = (0..n % 3 + 1).map(|m| format!("{n}.{m}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let base = append(store, &of, batch(&values, 0)).await;
        assert_eq!(base, expected.len() as Offset, "the base offset of batch {n}");
        expected.extend(values.iter().enumerate().map(|(m, value)| (base + m as Offset, (*value).to_owned())));
    }
    for max_bytes in [1, 100, 150, 1 << 20] {
        for from in [0, 1, 7, 19, expected.len() - 1, expected.len()] {
            let (found, lost) = read_all(store, &of, from as Offset, max_bytes).await;
            assert_eq!((&found[..], lost), (&expected[from..], vec![]), "from {from}, {max_bytes} bytes at once");
        }
    }
    let other = TopicPartition::new("order", 0);
    assert_eq!(read_all(store, &other, 0, 100).await.0, [], "the other partition stays empty");
}

/// A batch's bytes are kept but for its place; where it is, say offset and leader epoch.
pub async fn batches_are_kept_byte_for_byte(store: &dyn Store) {
    topic(store, "bytes", 1).await;
    let of = TopicPartition::new("bytes", 0);
    let mut builder = BatchBuilder::new();
    builder.push(-5, Some(b"key"), None, &[("name", None), ("name", Some(b"\xff\x00"))]);
    let first = builder.finish();
    append(store, &of, first.clone()).await;
    append(store, &of, first.clone()).await;
    let read = store.read(&of, 1, 1000, Isolation::Committed).await.expect("the partition is read");
    let epoch = store.bounds(&of).await.expect("the partition has bounds").leader_epoch;
    assert!(epoch >= 0, "a log has a leader epoch");
    assert_eq!(read.batches, first.at(1, epoch).into_bytes());
}

/// Bounds tell where a partition begins and ends.
pub async fn bounds_follow_what_is_appended(store: &dyn Store) {
    topic(store, "bounds", 1).await;
    let of = TopicPartition::new("bounds", 0);
    let bounds = store.bounds(&of).await.expect("the partition has bounds");
    assert_eq!((bounds.start, bounds.stable, bounds.end), (0, 0, 0));
    append(store, &of, batch(&["a", "b", "c"], 0)).await;
    let bounds = store.bounds(&of).await.expect("the partition has bounds");
    assert_eq!((bounds.start, bounds.stable, bounds.high_watermark, bounds.end), (0, 3, 3, 3));
    assert_eq!(store.sync(&of).await.expect("the partition is synced"), 3);
    let past = store.read(&of, 9, 100, Isolation::Uncommitted).await.expect("a read past the end finds nothing");
    assert_eq!((past.batches, past.lost), (Bytes::new(), None));
}

/// Batches at their own offsets keep them, gaps too, and never lie before the end.
pub async fn own_offsets_are_kept_with_their_gaps(store: &dyn Store) {
    topic(store, "own", 1).await;
    let of = TopicPartition::new("own", 0);
    append(store, &of, batch(&["a"], 0)).await;
    for base in [5, 1_000, 5_000_000_000] {
        let placed = batch(&["b", "c"], 0).at(base, 7);
        let appended = store.append(&of, placed, At::OwnOffset).await.expect("the batch gets its place");
        assert_eq!((appended.base_offset, appended.next_offset), (base, base + 2));
        appended.durable().await.expect("the batch gets safe");
    }
    let before = store.append(&of, batch(&["d"], 0).at(1_001, 7), At::OwnOffset).await;
    assert!(is_refused(&before), "a batch before the end is refused");
    append(store, &of, batch(&["e"], 0)).await;
    let offsets = |found: Vec<(Offset, String)>| found.into_iter().map(|(offset, _)| offset).collect::<Vec<_>>();
    let all = [0, 5, 6, 1_000, 1_001, 5_000_000_000, 5_000_000_001, 5_000_000_002];
    for (from, first) in [(0, 0), (1, 1), (6, 2), (7, 3), (1_002, 5), (4_999_999_999, 5), (5_000_000_002, 7)] {
        let (found, lost) = read_all(store, &of, from, 1 << 20).await;
        assert_eq!((offsets(found), lost), (all[first..].to_vec(), vec![]), "from {from}");
    }
}

/// A chunk ends on a batch boundary, as soon as a limit is reached, and has the bytes that a read returns.
pub async fn measured_chunks_agree_with_what_is_read(store: &dyn Store) {
    topic(store, "measure", 1).await;
    let of = TopicPartition::new("measure", 0);
    let mut ends = vec![(0, 0u64)];
    for n in 0..50 {
        let value = "x".repeat(n * 37 % 300);
        let batch = batch(&vec![&value[..]; n % 4 + 1], 0);
        let (offset, bytes) = ends[n];
        ends.push((offset + i64::from(batch.count()), bytes + batch.size() as u64));
        append(store, &of, batch).await;
    }
    for from in [0, 1, 13, 48, 49] {
        for (bytes, records) in [(1, 1000), (2_000, 1000), (1 << 30, 1), (1 << 30, 10), (3_000, 12), (1 << 30, 1 << 40)]
        {
            let (offset, before) = ends[from];
            let reaches = |end: &&(Offset, u64)| end.1 - before >= bytes || (end.0 - offset) as u64 >= records;
            let expected = ends[from + 1..].iter().find(reaches);
            let (end, size) = *expected.unwrap_or(&ends[50]);
            let found = store.measure(&of, offset, Limit { bytes, records }).await.expect("the chunk is measured");
            let told = (found.end, found.bytes, found.full);
            assert_eq!(
                told,
                (end, size - before, expected.is_some()),
                "from {offset}, {bytes} bytes, {records} records"
            );
            let read =
                store.read(&of, offset, found.bytes as usize, Isolation::Committed).await.expect("the chunk is read");
            assert_eq!(read.batches.len() as u64, found.bytes, "what is read from {offset} on");
        }
    }
    let (end, _) = ends[50];
    let nothing = store.measure(&of, end, Limit { bytes: 1, records: 1 }).await.expect("nothing is measured");
    assert_eq!((nothing.end, nothing.bytes, nothing.full), (end, 0, false));
}

/// A time is found at the first record that is as late.
pub async fn times_are_found(store: &dyn Store) {
    topic(store, "times", 1).await;
    let of = TopicPartition::new("times", 0);
    assert_eq!(store.find(&of, 5).await.expect("an empty partition is searched"), 0);
    for timestamp in [100, 50, 200, 150] {
        append(store, &of, batch(&["a", "b", "c"], timestamp)).await;
    }
    for (timestamp, offset) in [(0, 0), (100, 0), (101, 1), (102, 2), (103, 6), (201, 7), (202, 8), (203, 12)] {
        assert_eq!(store.find(&of, timestamp).await.expect("the partition is searched"), offset, "time {timestamp}");
    }
}

/// Who waits for more is woken when it is there.
pub async fn waiting_for_growth_ends_with_an_append(store: &dyn Store) {
    topic(store, "grown", 1).await;
    let of = TopicPartition::new("grown", 0);
    append(store, &of, batch(&["a"], 0)).await;
    store.grown(&of, 0, Isolation::Committed).await.expect("there is more than offset 0 already");
    let grown = store.grown(&of, 1, Isolation::Committed);
    let wakes = async {
        append(store, &of, batch(&["b"], 0)).await;
    };
    let both = async { futures::join!(grown, wakes) };
    let (grown, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the wait ends");
    grown.expect("the partition has grown");
    assert_eq!(store.bounds(&of).await.expect("the partition has bounds").stable, 2);
}

/// What can never be taken is refused, and says what is wrong.
pub async fn what_can_not_be_taken_is_refused(store: &dyn Store) {
    let settings = TopicSettings { max_batch: crate::ByteSize(1000), ..TopicSettings::default() };
    store.create("refused", 1, &settings).await.expect("a topic is made");
    let of = TopicPartition::new("refused", 0);
    let large = store.append(&of, batch(&[&"x".repeat(2000)], 0), At::End).await;
    assert!(is_refused(&large), "a batch that is too large is refused");
    for unknown in
        [TopicPartition::new("no-such-topic", 0), TopicPartition::new("refused", 1), TopicPartition::new("refused", -1)]
    {
        assert!(is_refused(&store.append(&unknown, batch(&["a"], 0), At::End).await), "an append to {unknown}");
        assert!(is_refused(&store.read(&unknown, 0, 1, Isolation::Uncommitted).await), "a read of {unknown}");
        assert!(is_refused(&store.bounds(&unknown).await), "the bounds of {unknown}");
        assert!(is_refused(&store.hold(&unknown, 0, "test").await), "a hold of {unknown}");
    }
    for name in ["", ".", "..", "a/b", "a b", "\0", &"x".repeat(250)] {
        assert!(is_refused(&store.create(name, 1, &TopicSettings::default()).await), "a topic named {name:?}");
    }
    assert!(is_refused(&store.create("none", 0, &TopicSettings::default()).await), "a topic without partitions");
    append(store, &of, batch(&["still"], 0)).await;
}

/// Appends of one caller keep their order among those of many.
pub async fn each_caller_s_appends_keep_their_order(store: &Arc<dyn Store>) {
    topic(&**store, "callers", 1).await;
    let of = TopicPartition::new("callers", 0);
    let caller = |caller: usize| {
        let (store, of) = (store.clone(), of.clone());
        async move {
            let mut safe = Vec::new();
            for n in 0..50 {
                let value = format!("{caller}:{n:03}");
                let appended = store.append(&of, batch(&[&value], 0), At::End).await.expect("the batch gets a place");
                safe.push(appended.durable);
            }
            futures::future::try_join_all(safe).await.expect("all get safe");
        }
    };
    futures::future::join_all((0..8).map(caller)).await;
    let (found, lost) = read_all(&**store, &of, 0, 4000).await;
    assert_eq!((found.len(), lost), (400, vec![]));
    for caller in 0..8 {
        let prefix = format!("{caller}:");
        let values: Vec<_> = found.iter().filter(|(_, value)| value.starts_with(&prefix)).collect();
        assert!(values.windows(2).all(|pair| pair[0].1 < pair[1].1), "the order of caller {caller}");
    }
}

/// Topics are made once, listed with what they are, changed, grown and deleted.
pub async fn topics_are_made_changed_and_deleted(store: &dyn Store) {
    let made = topic(store, "topics", 1).await;
    assert!(is_refused(&store.create("topics", 1, &TopicSettings::default()).await), "a second topic of the name");
    append(store, &TopicPartition::new("topics", 0), batch(&["a"], 0)).await;

    let settings = TopicSettings { retention_bytes: Some(crate::ByteSize(7)), ..TopicSettings::default() };
    let grown = store.alter("topics", 3, &settings).await.expect("the topic grows");
    assert_eq!((grown.id, grown.partitions, &grown.settings), (made.id, 3, &settings));
    append(store, &TopicPartition::new("topics", 2), batch(&["b"], 0)).await;
    assert_eq!(read_all(store, &TopicPartition::new("topics", 0), 0, 100).await.0.len(), 1);
    assert!(is_refused(&store.alter("topics", 2, &settings).await), "a topic that would shrink");
    assert!(is_refused(&store.alter("no-such-topic", 2, &settings).await), "a topic that is not there");
    let all = store.topics().await.expect("topics are listed");
    assert!(all.windows(2).all(|pair| pair[0].name < pair[1].name), "topics are listed by name");
    assert_eq!(all.iter().find(|topic| &*topic.name == "topics"), Some(&grown));

    store.delete("topics", false).await.expect("the topic is deleted");
    assert!(is_refused(&store.bounds(&TopicPartition::new("topics", 0)).await), "the bounds of a deleted topic");
    assert!(is_refused(&store.delete("topics", false).await), "a topic that is gone");
    let again = topic(store, "topics", 1).await;
    assert_ne!(again.id, made.id, "a new topic has a new id");
    assert_eq!(read_all(store, &TopicPartition::new("topics", 0), 0, 100).await.0, []);
}

/// A topic that somebody holds is deleted only by force, and who waits for more of it hears of it.
pub async fn held_topics_stay(store: &dyn Store) {
    topic(store, "held", 1).await;
    let of = TopicPartition::new("held", 0);
    append(store, &of, batch(&["a"], 0)).await;
    let hold = store.hold(&of, 0, "sink lake").await.expect("the records are held");
    let refused = store.delete("held", false).await;
    assert!(
        is_refused(&refused) && refused.is_err_and(|cause| cause.to_string().contains("sink lake")),
        "names the holder"
    );
    let waiting = store.grown(&of, 1, Isolation::Committed);
    let deletes = store.delete("held", true);
    let both = async { futures::join!(waiting, deletes) };
    let (grown, deleted) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the wait ends");
    deleted.expect("force deletes it");
    assert!(is_refused(&grown), "the wait for a deleted topic ends");
    hold.advance(1);
    drop(hold);
    topic(store, "held", 1).await;
    drop(store.hold(&of, 0, "sink lake").await.expect("the records are held"));
    store.delete("held", false).await.expect("a hold ends when it is dropped");
}

fn committed(offset: Offset, metadata: &str) -> Option<Committed> {
    Some(Committed { offset, leader_epoch: 0, metadata: metadata.to_owned() })
}

/// What a group commits is found again, until it is forgotten.
pub async fn commits_are_found_again(store: &dyn Store) {
    topic(store, "commits", 2).await;
    let of = |partition| TopicPartition::new("commits", partition);
    let token = store.join("commits-group").await.expect("the group is joined");
    assert!(store.committed("commits-group").await.expect("the group is read").is_empty());
    let first = vec![(of(0), committed(5, "{}")), (of(1), committed(7, ""))];
    store.commit(&token, first.clone()).await.expect("the offsets are committed");
    let found = store.committed("commits-group").await.expect("the group is read");
    let expected = |offsets: Vec<(TopicPartition, Option<Committed>)>| {
        offsets.into_iter().filter_map(|(of, committed)| Some((of, committed?))).collect()
    };
    assert_eq!(found, expected(first));
    store.commit(&token, vec![(of(0), None), (of(1), committed(9, "x"))]).await.expect("the offsets are committed");
    let found = store.committed("commits-group").await.expect("the group is read");
    assert_eq!(found, expected(vec![(of(1), committed(9, "x"))]));
    assert!(store.groups().await.expect("groups are listed").contains(&"commits-group".to_owned()));
    assert!(store.committed("no-such-group").await.expect("a group is read").is_empty());
}

/// A commit that can not be kept is refused whole.
pub async fn commits_are_all_or_nothing(store: &dyn Store) {
    topic(store, "nothing", 1).await;
    let of = TopicPartition::new("nothing", 0);
    let token = store.join("nothing-group").await.expect("the group is joined");
    let unknown = TopicPartition::new("no-such-topic", 0);
    for wrong in
        [(unknown, committed(1, "")), (of.clone(), committed(-1, "")), (of.clone(), committed(1, &"x".repeat(5000)))]
    {
        let offsets = vec![(of.clone(), committed(1, "")), wrong];
        assert!(is_refused(&store.commit(&token, offsets).await), "a commit that can not be kept");
        assert!(store.committed("nothing-group").await.expect("the group is read").is_empty());
    }
    let longest = "x".repeat(4096);
    store.commit(&token, vec![(of, committed(1, &longest))]).await.expect("4 KiB of metadata are taken");
}

/// Only who joined last may commit.
pub async fn a_void_token_commits_nothing(store: &dyn Store) {
    topic(store, "tokens", 1).await;
    let of = TopicPartition::new("tokens", 0);
    let old = store.join("tokens-group").await.expect("the group is joined");
    let other = store.join("tokens-other").await.expect("another group is joined");
    let new = store.join("tokens-group").await.expect("the group is joined again");
    assert!(new.generation > old.generation);
    let void = store.commit(&old, vec![(of.clone(), committed(9, ""))]).await;
    assert!(matches!(void, Err(Error::Fatal { .. })), "a commit with a void token");
    assert!(store.committed("tokens-group").await.expect("the group is read").is_empty());
    store.commit(&new, vec![(of.clone(), committed(1, ""))]).await.expect("the new owner commits");
    store.commit(&other, vec![(of, committed(2, ""))]).await.expect("other groups are not concerned");
}

/// Syncing, reading and measuring work under every durability.
pub async fn every_durability_is_served(store: &dyn Store) {
    for (n, durability) in
        [crate::Durability::Fsync, crate::Durability::Interval, crate::Durability::Os].into_iter().enumerate()
    {
        let name = format!("durability-{n}");
        let settings = TopicSettings { durability, ..TopicSettings::default() };
        store.create(&name, 1, &settings).await.expect("a topic is made");
        let of = TopicPartition::new(name, 0);
        append(store, &of, batch(&["a", "b"], 0)).await;
        assert_eq!(store.bounds(&of).await.expect("the partition has bounds").stable, 2);
        assert_eq!(store.sync(&of).await.expect("the partition is synced"), 2);
        assert_eq!(read_all(store, &of, 0, 100).await.0.len(), 2);
        let token = store.join("durabilities").await.expect("the group is joined");
        store.commit(&token, vec![(of, committed(2, ""))]).await.expect("the offset is committed");
    }
}
