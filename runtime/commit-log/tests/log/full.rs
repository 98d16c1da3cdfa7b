//! Disks that are full or slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::{At, ByteSize, Committed, Groups as _, Log as _, TopicPartition, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options, WhenFull};
use futures::FutureExt as _;

use crate::faulty::{Setup, append_later, setup, try_append};
use crate::opened::{fill, filled, killed, of, open, small_segments, value};

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let Setup { folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
    fill(&log, 3).await;
    faults.full.store(true, Ordering::SeqCst);
    later.is_held.store(true, Ordering::SeqCst);
    let waiting = [append_later(&log, 3).await.unwrap(), append_later(&log, 4).await.unwrap()];
    later.run();
    for appended in waiting {
        assert!(appended.durable().await.unwrap_err().is_retry());
    }
    assert_eq!(log.bounds(&of()).await.unwrap().end, 3, "the offsets are given back");
    assert_eq!(read_all(&log, &of(), 0, 1000).await, (filled(0..3), vec![]));
    let copy = killed(folder.path());
    assert_eq!(open(copy.path()).await.recovery().cut, [], "nothing half-written stays in the file");

    let token = log.join("g").await.unwrap();
    let offset = Committed { offset: 3, leader_epoch: 0, metadata: String::new() };
    log.commit(&token, vec![(of(), Some(offset))]).await.expect("commits use the room that is reserved for them");
    assert!(!folder.path().join("ballast").exists());

    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(try_append(&log, 3).await.unwrap(), 3);
    log.clean().await.unwrap();
    assert!(folder.path().join("ballast").exists(), "the room is reserved again");
}

#[tokio::test]
async fn appends_are_refused_past_the_limit_but_for_internal_topics() {
    let options = Options { limit: DiskLimit::Percent(80), ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&small_segments(), options).await;
    log.create("__internal", 1, &small_segments()).await.unwrap();
    fill(&log, 3).await;
    faults.used.store(90, Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    for _ in 0..3 {
        let error = try_append(&log, 3).await.unwrap_err();
        assert!(error.is_retry() && error.to_string().contains("past the limit of 80%"), "{error}");
    }
    assert!(log.usage().full.is_some());
    append(&log, &TopicPartition::new("__internal", 0), batch(&["x"], 0)).await;
    faults.used.store(10, Ordering::SeqCst);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(try_append(&log, 3).await.unwrap(), 3);
    assert_eq!(log.usage().full, None);
}

#[tokio::test]
async fn dead_letters_may_use_half_of_what_lies_above_the_limit() {
    let options = Options { limit: DiskLimit::Percent(80), ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&TopicSettings::default(), options).await;
    let letters = TopicPartition::new("out.dead-letters", 0);
    let settings = TopicSettings { dead_letters: true, ..TopicSettings::default() };
    log.create(&letters.topic, 1, &settings).await.unwrap();
    tokio::time::pause();
    for (used, data, buried) in [(79, true, true), (85, false, true), (89, false, true), (91, false, false)] {
        faults.used.store(used, Ordering::SeqCst);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for _ in 0..2 {
            let appended = log.append(&of(), batch(&["x"], 0), At::End).await;
            let appended = match appended {
                Ok(appended) => appended.durable().await,
                Err(error) => Err(error),
            };
            assert_eq!(appended.is_ok(), data, "{used}");
            let appended = match log.append(&letters, batch(&["x"], 0), At::End).await {
                Ok(appended) => appended.durable().await,
                Err(error) => Err(error),
            };
            assert_eq!(appended.is_ok(), buried, "{used}");
        }
    }
}

#[tokio::test]
async fn the_oldest_go_loudly_where_the_configuration_says_so() {
    let options = Options { limit: DiskLimit::Percent(80), when_full: WhenFull::DropOldest, ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&small_segments(), options).await;
    fill(&log, 10).await;
    let _hold = log.hold(&of(), 0, "sink lake").await.unwrap();
    faults.used.store(90, Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    // Nothing that is dropped makes this disk emptier, so that all closed segments go.
    assert!(try_append(&log, 10).await.unwrap_err().is_retry());
    let usage = log.usage();
    let start = log.bounds(&of()).await.unwrap().start;
    assert!(start > 0 && usage.dropped_offsets == start as u64 && usage.dropped_bytes > 0, "{usage:?}");
    let (found, lost) = read_all(&log, &of(), 0, 1000).await;
    assert_eq!((found, &lost[..]), (filled(start as usize..10), std::slice::from_ref(&(0..start))));
}

#[tokio::test]
async fn dead_letters_are_the_last_to_go_and_the_log_s_own_topics_stay() {
    let options = Options { limit: DiskLimit::Percent(80), when_full: WhenFull::DropOldest, ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&small_segments(), options).await;
    let (letters, own) = (TopicPartition::new("out.dead-letters", 0), TopicPartition::new("__own", 0));
    log.create(&letters.topic, 1, &TopicSettings { dead_letters: true, ..small_segments() }).await.unwrap();
    log.create(&own.topic, 1, &small_segments()).await.unwrap();
    // They are older than the data.
    for n in 0..10 {
        append(&log, &letters, batch(&[&value(n)], n as i64)).await;
        append(&log, &own, batch(&[&value(n)], n as i64)).await;
    }
    fill(&log, 10).await;
    let start = async |of: &TopicPartition| log.bounds(of).await.unwrap().start;
    tokio::time::pause();
    let mut starts = Vec::new();
    // The disk is full until so many files were removed; a segment is three.
    for removed in [3, 1000] {
        faults.used.store(90, Ordering::SeqCst);
        faults.removals_to_room.store(removed, Ordering::SeqCst);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(try_append(&log, 10).await.is_ok(), removed == 3);
        starts.push((start(&of()).await, start(&letters).await, start(&own).await));
    }
    assert!(starts[0].0 > 0 && starts[0].1 == 0, "data goes first: {starts:?}");
    assert!(starts[1].0 > starts[0].0 && starts[1].1 > 0, "dead letters go before nothing can be written: {starts:?}");
    assert_eq!(starts[1].2, 0, "{starts:?}");
    assert_eq!(log.usage().dropped_offsets, (starts[1].0 + starts[1].1) as u64);
}

#[tokio::test]
async fn a_batch_that_waits_for_room_keeps_its_turn() {
    let large = TopicSettings { max_batch: ByteSize::mib(40), ..TopicSettings::default() };
    let Setup { folder: _folder, later, log, .. } = setup(&large, Options::default()).await;
    fill(&log, 1).await;
    later.is_held.store(true, Ordering::SeqCst);
    let whole = "x".repeat(33 << 20);
    let first = log.append(&of(), batch(&[&whole], 0), At::End).await.unwrap();
    let (of_second, of_third) = (of(), of());
    let second = log.append(&of_second, batch(&[&whole], 0), At::End);
    let third = log.append(&of_third, batch(&["small"], 0), At::End);
    futures::pin_mut!(second, third);
    assert!(futures::poll!(&mut second).is_pending(), "there is no room for it yet");
    assert!(futures::poll!(&mut third).is_pending(), "nobody overtakes");
    later.run();
    first.durable().await.unwrap();
    let (second, third) = futures::join!(second, third);
    assert_eq!((second.unwrap().base_offset, third.unwrap().base_offset), (2, 3));
}

/// Has `act` done on another thread while the disk is slow, and counts how often that was done in time.
fn while_slow(setup: &Setup, act: impl Fn(&CommitLog) + Clone + Send + 'static) -> Arc<AtomicU64> {
    let done = Arc::new(AtomicU64::new(0));
    let (log, count) = (setup.log.clone(), done.clone());
    let meanwhile = move || {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (log, act) = (log.clone(), act.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            act(&log);
            let _ = sender.send(());
        });
        drop(thread.unwrap());
        receiver.recv_timeout(std::time::Duration::from_secs(5)).expect("it does not wait for the disk");
        count.fetch_add(1, Ordering::SeqCst);
    };
    *setup.faults.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
    done
}

#[tokio::test]
async fn nobody_waits_while_a_segment_is_removed() {
    let settings = TopicSettings { retention_bytes: Some(ByteSize(1)), ..small_segments() };
    let setup = setup(&settings, Options::default()).await;
    fill(&setup.log, 10).await;
    let done = while_slow(&setup, |log| assert!(log.bounds(&of()).now_or_never().unwrap().is_ok()));
    setup.log.clean().await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert!(setup.log.bounds(&of()).await.unwrap().start > 0);
}

#[tokio::test]
async fn nobody_waits_while_the_disk_is_asked_for_its_room() {
    let setup = setup(&TopicSettings::default(), Options::default()).await;
    fill(&setup.log, 1).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let done = while_slow(&setup, |log| drop(append_later(log, 2).now_or_never().unwrap().unwrap()));
    try_append(&setup.log, 1).await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
    setup.log.sync(&of()).await.unwrap();
    assert_eq!(read_all(&setup.log, &of(), 0, 1000).await, (filled(0..3), vec![]));
}
