//! Syncs and writes that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{At, Durability, Edge, Error, Groups as _, Log as _, TopicPartition, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, Options};

use crate::faulty::{Faults, Faulty, Setup, append_later, settings, setup, try_append};
use crate::opened::{fill, filled, killed, of, open, small_segments, value};

#[tokio::test]
async fn appends_that_wait_for_the_same_file_share_a_write_and_a_sync() {
    let Setup { folder: _folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
    fill(&log, 1).await;
    later.is_held.store(true, Ordering::SeqCst);
    let mut waiting = Vec::new();
    for n in 1..20 {
        waiting.push(append_later(&log, n).await.unwrap());
    }
    let before = faults.synced.load(Ordering::SeqCst);
    assert_eq!(log.bounds(&of()).await.unwrap().stable, 1, "nobody reads what is not synced");
    later.run();
    for (n, appended) in waiting.into_iter().enumerate() {
        assert_eq!(appended.durable().await.unwrap(), n as i64 + 1);
    }
    assert_eq!(faults.synced.load(Ordering::SeqCst) - before, 1);
    assert_eq!(read_all(&log, &of(), 0, 1 << 20).await.0, filled(0..20));
}

/// What holds after a sync failed that covered offsets 4, 5 and 6: they are void, and the next append gets 4.
async fn check_after_failed_sync(setup: Setup, epoch: i32) {
    let Setup { folder, log, .. } = setup;
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!((bounds.stable, bounds.end), (4, 4));
    assert_eq!(read_all(&log, &of(), 0, 1 << 20).await, (filled(0..4), vec![]));
    for n in 4..8 {
        assert_eq!(try_append(&log, n).await.unwrap(), n as i64);
    }
    assert_eq!(log.sync(&of()).await.unwrap(), 8);
    assert!(log.bounds(&of()).await.unwrap().leader_epoch > epoch, "offsets are used again only under a new epoch");
    assert_eq!(read_all(&log, &of(), 0, 1 << 20).await, (filled(0..8), vec![]));
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    assert_eq!(read_all(&again, &of(), 0, 1 << 20).await, (filled(0..8), vec![]));
}

#[tokio::test]
async fn what_a_failed_sync_covered_is_void() {
    for settings in [settings(Durability::Fsync), TopicSettings::default()] {
        let setup = setup(&settings, Options::default()).await;
        fill(&setup.log, 4).await;
        let epoch = setup.log.bounds(&of()).await.unwrap().leader_epoch;
        setup.later.is_held.store(true, Ordering::SeqCst);
        let mut waiting = Vec::new();
        for n in 14..17 {
            waiting.push(append_later(&setup.log, n).await.unwrap());
        }
        setup.faults.syncs.store(1, Ordering::SeqCst);
        setup.later.run();
        for appended in waiting {
            let error = appended.durable().await.unwrap_err();
            assert!(error.is_retry() && error.to_string().contains("could not be synced"), "{error}");
        }
        check_after_failed_sync(setup, epoch).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_without_a_sync_is_void_when_its_sync_fails() {
    for durability in [Durability::Interval, Durability::Os] {
        let setup = setup(&TopicSettings { durability, ..TopicSettings::default() }, Options::default()).await;
        fill(&setup.log, 4).await;
        assert_eq!(setup.log.sync(&of()).await.unwrap(), 4);
        let epoch = setup.log.bounds(&of()).await.unwrap().leader_epoch;
        for n in 14..17 {
            try_append(&setup.log, n).await.unwrap();
        }
        assert_eq!(setup.log.bounds(&of()).await.unwrap().stable, 7);
        setup.faults.syncs.store(1, Ordering::SeqCst);
        assert!(setup.log.sync(&of()).await.unwrap_err().is_retry());
        check_after_failed_sync(setup, epoch).await;
    }
}

#[tokio::test]
async fn what_was_written_without_a_sync_is_safe_before_a_topic_becomes_a_synced_one() {
    for durability in [Durability::Interval, Durability::Os] {
        let old = TopicSettings { durability, ..TopicSettings::default() };
        let Setup { folder: _folder, faults, log, .. } = setup(&old, Options::default()).await;
        fill(&log, 3).await;
        let before = faults.synced.load(Ordering::SeqCst);
        log.alter("t", 1, &TopicSettings::default()).await.unwrap();
        // One for the records, one for the settings.
        assert_eq!(faults.synced.load(Ordering::SeqCst) - before, 2);
        log.alter("t", 1, &old).await.unwrap();
        try_append(&log, 3).await.unwrap();
        faults.syncs.store(1, Ordering::SeqCst);
        assert!(log.alter("t", 1, &TopicSettings::default()).await.unwrap_err().is_retry());
        let topics = log.topics().await.unwrap();
        let topic = topics.iter().find(|topic| &*topic.name == "t").unwrap();
        assert_eq!(topic.settings.durability, durability, "what could not be synced stays as it was");
        assert_eq!(log.bounds(&of()).await.unwrap().stable, 3, "but for what the failed sync made void");
    }
}

#[tokio::test]
async fn a_sync_that_fails_before_anything_was_synced_voids_the_whole_segment() {
    let setup = setup(&TopicSettings::default(), Options::default()).await;
    setup.faults.syncs.store(1, Ordering::SeqCst);
    assert!(try_append(&setup.log, 9).await.unwrap_err().is_retry());
    assert_eq!(read_all(&setup.log, &of(), 0, 1000).await, (vec![], vec![]));
    fill(&setup.log, 3).await;
    assert_eq!(read_all(&setup.log, &of(), 0, 1000).await.0, filled(0..3));
    let copy = killed(setup.folder.path());
    assert_eq!(read_all(&open(copy.path()).await, &of(), 0, 1000).await.0, filled(0..3));
}

#[tokio::test]
async fn a_topic_that_could_not_be_made_goes_only_after_its_name() {
    for (failures, left) in [(1, 0), (2, 1)] {
        let Setup { folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
        faults.root_syncs.store(failures, Ordering::SeqCst);
        assert!(log.create("u", 2, &TopicSettings::default()).await.unwrap_err().is_retry());
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let unfinished: Vec<_> = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('~')).collect();
        assert_eq!(unfinished.len(), left, "{unfinished:?}");
        for entry in unfinished {
            assert!(
                entry.path().join("0").exists() && entry.path().join("1").exists(),
                "it is whole, as its name may be"
            );
        }
        log.create("u", 2, &TopicSettings::default()).await.unwrap();
        drop(log);
        let log = open(folder.path()).await;
        assert!(
            !folder.path().join("~").exists() && log.topics().await.unwrap().iter().any(|topic| &*topic.name == "u")
        );
    }
}

#[tokio::test]
async fn void_records_that_can_not_be_cut_do_not_come_back_after_a_crash() {
    for durability in [Durability::Fsync, Durability::Os] {
        let topic = TopicSettings { durability, ..TopicSettings::default() };
        let Setup { folder, faults, log, .. } = setup(&topic, Options::default()).await;
        fill(&log, 4).await;
        log.sync(&of()).await.unwrap();
        // The sync fails, and what it made void can be cut at first, or not before the disk can be written to again.
        for (n, read_only) in [(14, false), (15, true)] {
            faults.syncs.store(1, Ordering::SeqCst);
            faults.read_only.store(read_only, Ordering::SeqCst);
            let appended = try_append(&log, n).await;
            assert!(appended.is_err() || durability == Durability::Os && log.sync(&of()).await.is_err());
            assert!(!read_only || try_append(&log, n).await.is_err(), "nothing is taken before the void is settled");
            faults.read_only.store(false, Ordering::SeqCst);
            tokio::time::pause();
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            tokio::time::resume();
            let copy = killed(folder.path());
            let again = open(copy.path()).await;
            assert_eq!(read_all(&again, &of(), 0, 1000).await, (filled(0..4), vec![]), "{durability:?} {read_only}");
            assert_eq!(append(&again, &of(), batch(&[&value(4)], 1004)).await, 4);
        }
        assert_eq!(try_append(&log, 4).await.unwrap(), 4);
        assert_eq!(read_all(&log, &of(), 0, 1000).await, (filled(0..5), vec![]));
    }
}

#[tokio::test]
async fn half_written_records_do_not_come_back_after_a_crash() {
    for read_only in [false, true] {
        let Setup { folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
        fill(&log, 3).await;
        later.is_held.store(true, Ordering::SeqCst);
        let waiting = [append_later(&log, 13).await.unwrap(), append_later(&log, 14).await.unwrap()];
        faults.full.store(true, Ordering::SeqCst);
        faults.read_only.store(read_only, Ordering::SeqCst);
        later.run();
        for appended in waiting {
            assert!(appended.durable().await.unwrap_err().is_retry());
        }
        faults.full.store(false, Ordering::SeqCst);
        faults.read_only.store(false, Ordering::SeqCst);
        tokio::time::pause();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        tokio::time::resume();
        let copy = killed(folder.path());
        let again = open(copy.path()).await;
        assert_eq!(read_all(&again, &of(), 0, 1000).await, (filled(0..3), vec![]), "{read_only}");
        assert_eq!(try_append(&log, 3).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn a_gap_that_came_to_nothing_is_as_if_it_had_never_been_asked_for() {
    for (before, gap) in [(0, 20), (3, 20), (3, i64::from(i32::MAX) + 20)] {
        for (full, folder_syncs) in [(true, 0), (false, 1)] {
            let Setup { folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
            fill(&log, before).await;
            let own = |offset: i64| {
                let mut bytes = batch(&["far"], 0).bytes().to_vec();
                bytes[..8].copy_from_slice(&offset.to_be_bytes());
                aqueduct_record::Batch::split_first(&bytes.into()).unwrap().unwrap().0
            };
            faults.full.store(full, Ordering::SeqCst);
            faults.folder_syncs.store(folder_syncs, Ordering::SeqCst);
            let far = before as i64 + gap;
            let failed = log.append(&of(), own(far), At::OwnOffset).await.unwrap().durable().await;
            faults.full.store(false, Ordering::SeqCst);
            faults.folder_syncs.store(0, Ordering::SeqCst);
            let mut expected = filled(0..before);
            if failed.is_ok() {
                // Within a segment no folder is synced.
                assert!(!full && before > 0 && gap == 20);
                expected.push((far, "far".into()));
            }
            for n in 0..3 {
                let offset = try_append(&log, before + n).await.unwrap();
                expected.push((offset, value(before + n)));
            }
            let end = log.bounds(&of()).await.unwrap().end;
            log.append(&of(), own(end + gap), At::OwnOffset).await.unwrap().durable().await.unwrap();
            expected.push((end + gap, "far".into()));
            let first = expected[0].0;
            assert_eq!(read_all(&log, &of(), first, 1000).await, (expected.clone(), vec![]), "{before} {gap} {full}");
            let copy = killed(folder.path());
            let again = open(copy.path()).await;
            assert_eq!(read_all(&again, &of(), first, 1000).await, (expected, vec![]), "{before} {gap} {full} killed");
        }
    }
}

#[tokio::test]
async fn failures_between_two_segments_lose_nothing_that_was_acknowledged() {
    for folder_too in [false, true] {
        let Setup { folder, faults, log, .. } = setup(&small_segments(), Options::default()).await;
        let mut next = 0;
        let mut failed = 0;
        while next < 30 {
            let (files, folders) = if folder_too { (0, 1) } else { (1, 0) };
            if (next + failed) % 2 == 0 {
                faults.syncs.store(files, Ordering::SeqCst);
                faults.folder_syncs.store(folders, Ordering::SeqCst);
            }
            match try_append(&log, next).await {
                Ok(offset) => {
                    assert_eq!(offset, next as i64);
                    next += 1;
                }
                Err(error) => {
                    assert!(error.is_retry(), "{error}");
                    failed += 1;
                }
            }
            faults.syncs.store(0, Ordering::SeqCst);
            faults.folder_syncs.store(0, Ordering::SeqCst);
        }
        assert!(failed > 5, "{failed}");
        assert_eq!(read_all(&log, &of(), 0, 1000).await, (filled(0..30), vec![]));
        let copy = killed(folder.path());
        assert_eq!(read_all(&open(copy.path()).await, &of(), 0, 1000).await, (filled(0..30), vec![]));
    }
}

#[tokio::test]
async fn an_unclean_start_syncs_partitions_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    log.create("t", 8, &TopicSettings::default()).await.unwrap();
    for partition in 0..8 {
        append(&log, &TopicPartition::new("t", partition), batch(&["x"], 0)).await;
    }
    let copy = killed(folder.path());
    let faults = Arc::new(Faults::default());
    faults.together.store(8, Ordering::SeqCst);
    let edge = Edge { disk: Arc::new(Faulty(faults)), ..Edge::real() };
    let log = CommitLog::open(edge, copy.path(), Options::default()).await.unwrap();
    assert!(!log.recovery().clean);
    assert_eq!(read_all(&log, &TopicPartition::new("t", 7), 0, 1000).await.0, [(0, "x".to_owned())]);
}

/// The mistakes that tests of the whole can switch on do what their names say.
#[tokio::test]
async fn mutants_break_the_rules_they_are_named_for() {
    let acknowledged = async |mutant| {
        let Setup { folder: _folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
        mutate(mutant);
        faults.syncs.store(1, Ordering::SeqCst);
        let appended = try_append(&log, 0).await;
        mutate(None);
        appended.is_ok()
    };
    assert!(!acknowledged(None).await);
    assert!(acknowledged(Some(Mutant::AcknowledgeBeforeSync)).await);
    assert!(acknowledged(Some(Mutant::SyncAgain)).await);

    let Setup { folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
    mutate(Some(Mutant::NoFolderSync));
    faults.folder_syncs.store(1, Ordering::SeqCst);
    fill(&log, 1).await;
    assert_eq!(faults.folder_syncs.swap(0, Ordering::SeqCst), 1, "no folder was synced");
    mutate(Some(Mutant::SameEpoch));
    let copy = killed(folder.path());
    assert_eq!(open(copy.path()).await.usage().leader_epoch, log.usage().leader_epoch);
    mutate(Some(Mutant::CommitAfterRevocation));
    let old = log.join("g").await.unwrap();
    log.join("g").await.unwrap();
    log.commit(&old, vec![(of(), None)]).await.expect("the mistake takes a void token");
    mutate(None);
    assert!(matches!(log.commit(&old, vec![(of(), None)]).await, Err(Error::Fatal { .. })));
}
