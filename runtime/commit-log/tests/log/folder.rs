//! What is wrong with a folder is told: what, where, and what to do.

use std::fs;

use aqueduct_api::conformance::log::{batch, read_all};
use aqueduct_api::{Edge, Log as _, Topics as _};
use aqueduct_commit_log::{CommitLog, Options};

use crate::opened::{Time, edge, fill, filled, killed, of, open, open_error, small_segments, with_topic};

#[tokio::test]
async fn a_second_log_on_a_folder_is_told_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { owner: "aqueduct run, process 123".into(), ..Options::default() };
    let log = CommitLog::open(edge(&Time::default()), folder.path(), options).await.unwrap();
    let error = open_error(folder.path()).await;
    assert!(error.contains("is held by aqueduct run, process 123") && error.contains("stop that first"), "{error}");
    log.close().await.unwrap();
    open(folder.path()).await;
}

#[tokio::test]
async fn a_folder_of_another_version_or_somebody_else_s_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.close().await.unwrap();
    fs::write(folder.path().join("format"), "aqueduct-log 2\n").unwrap();
    let error = open_error(folder.path()).await;
    assert!(error.contains("\"aqueduct-log 2\"") && error.contains("\"aqueduct-log 1\""), "{error}");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    let error = open_error(folder.path()).await;
    assert!(!folder.path().join(".lock").exists(), "nothing is written into it");
    assert!(error.contains("\"thesis.tex\"") && error.contains("choose an empty folder"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = open_error(&folder.path().join("file/below")).await;
    assert!(error.contains("can not be used") && error.contains("file/below"), "{error}");
}

#[tokio::test]
async fn missing_files_are_named_with_what_to_do() {
    for (missing, told) in [
        ("t/topic.json", "put it back from a backup, or move the folder away"),
        ("t/0", "put it back from a backup, or make an empty folder"),
        ("epoch", "put back the file from a backup, or make one"),
        ("format", "is no data folder of aqueduct"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let log = with_topic(folder.path(), &small_segments()).await;
        fill(&log, 3).await;
        log.close().await.unwrap();
        let path = folder.path().join(missing);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        let error = open_error(folder.path()).await;
        assert!(error.contains(told) && error.contains(missing.trim_start_matches("t/")), "{missing}: {error}");
    }
}

#[tokio::test]
async fn unreadable_state_is_named() {
    for (file, told) in [("t/topic.json", "topic.json can not be read"), ("epoch", "does not hold a number")] {
        let folder = tempfile::tempdir().unwrap();
        with_topic(folder.path(), &small_segments()).await.close().await.unwrap();
        fs::write(folder.path().join(file), "{]").unwrap();
        let error = open_error(folder.path()).await;
        assert!(error.contains(told), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 5).await;
    log.close().await.unwrap();
    fs::write(folder.path().join("clean"), "{]").unwrap();
    let log = open(folder.path()).await;
    assert!(!log.recovery().clean, "an unreadable note of a clean stop is none");
    assert_eq!(read_all(&log, &of(), 0, 1000).await.0, filled(0..5));
}

#[tokio::test]
async fn a_folder_that_could_not_be_opened_is_free_for_the_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 3).await;
    let copy = killed(folder.path());
    let hidden = copy.path().join("t/0.hidden");
    std::fs::rename(copy.path().join("t/0"), &hidden).unwrap();
    for real_threads in [false, true] {
        let edge = if real_threads { Edge::real() } else { edge(&Time::default()) };
        for _ in 0..2 {
            let opened = CommitLog::open(edge.clone(), copy.path(), Options::default()).await;
            let error = opened.err().expect("a partition is missing").to_string();
            assert!(error.contains("is missing"), "{error}");
        }
    }
    std::fs::rename(&hidden, copy.path().join("t/0")).unwrap();
    assert_eq!(open(copy.path()).await.bounds(&of()).await.unwrap().end, 3);
}

#[tokio::test]
async fn foreign_files_are_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &small_segments()).await;
    fill(&log, 5).await;
    log.close().await.unwrap();
    fs::create_dir(folder.path().join("backup")).unwrap();
    for foreign in ["backup/x", "notes.txt", "t/0/00000000000000000000.log.bak", "t/0/core"] {
        fs::write(folder.path().join(foreign), "mine").unwrap();
    }
    let log = open(folder.path()).await;
    let mut foreign: Vec<_> = log.recovery().foreign.clone();
    foreign.sort();
    let expected =
        ["backup", "notes.txt", "t/0/00000000000000000000.log.bak", "t/0/core"].map(|name| folder.path().join(name));
    assert_eq!(foreign, expected);
    assert!(log.recovery().clean);
    let taken = log.create("backup", 1, &small_segments()).await.unwrap_err().to_string();
    assert!(taken.contains("backup is there and is not a topic"), "{taken}");
    assert_eq!(read_all(&log, &of(), 0, 1000).await.0, filled(0..5));
    log.close().await.unwrap();
    assert_eq!(fs::read(folder.path().join("t/0/core")).unwrap(), b"mine");
}

#[tokio::test]
async fn no_topic_takes_the_name_of_a_file_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    for name in ["clean", "format", "epoch", "ballast", ".lock"] {
        let error = log.create(name, 1, &small_segments()).await.unwrap_err().to_string();
        assert!(error.contains("no topic can be named"), "{error}");
    }
}

#[tokio::test]
async fn a_thousand_closed_partitions_open_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    log.create("t", 1000, &small_segments()).await.unwrap();
    fill(&log, 4).await;
    log.close().await.unwrap();
    let log = open(folder.path()).await;
    assert!(log.recovery().clean);
    // Ten times what it takes: the machine may be busy.
    assert!(log.recovery().millis < 1000, "{} ms", log.recovery().millis);
    assert_eq!(log.topics().await.unwrap()[1].partitions, 1000);
}

/// A folder as release 1 of the format left it: two batches, closed cleanly. Later releases have to read it.
#[tokio::test]
async fn the_first_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("t/0")).unwrap();
    let batch = batch(&["golden"], 1000).into_bytes();
    let second = aqueduct_record::Batch::parse(batch.clone()).unwrap().at(1, 5).into_bytes();
    let log = [&batch[..], &second[..]].concat();
    let (one, size) = (batch.len(), log.len());
    let mark = format!("{{\"topics\":{{\"t\":[{{\"segments\":[[0,{size}]],\"end\":2,\"born\":7}}]}}}}");
    let topic = r#"{
      "id": "AAAAAAAAAAAAAAAAAAAAAQ",
      "partitions": 1,
      "settings": { "retention.ms": "7d", "segment.bytes": "256 MiB", "cleanup.policy": "delete", "durability": "os" }
    }"#;
    for (name, content) in [
        ("format", b"aqueduct-log 1\n".to_vec()),
        ("epoch", b"5\n".to_vec()),
        ("clean", mark.into_bytes()),
        ("t/topic.json", topic.into()),
        ("t/0/00000000000000000000.log", log),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let log = open(folder.path()).await;
    assert!(log.recovery().clean && log.recovery().foreign.is_empty());
    let topics = log.topics().await.unwrap();
    assert_eq!((topics[1].id.0, topics[1].settings.durability), (1, aqueduct_api::Durability::Os));
    let values = ["golden", "golden"].map(str::to_owned);
    let (found, lost) = read_all(&log, &of(), 0, one).await;
    assert_eq!((found, lost), ((0..).zip(values).collect(), vec![]));
    assert_eq!(log.bounds(&of()).await.unwrap().leader_epoch, 5);
}
