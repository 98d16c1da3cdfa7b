//! Who is in a group, and who may say so.

use std::sync::atomic::Ordering;

use aqueduct_api::{Committed, Error, Groups as _, Member, Membership, Memberships as _, TopicSettings};
use bytes::Bytes;

use crate::cleaning::log_at;
use crate::opened::{Time, killed, of, open, with_topic};

fn membership(generation: i32) -> Membership {
    let member = Member {
        id: "m".into(),
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout: 60_000,
        session_timeout: 45_000,
        subscription: Bytes::from_static(b"s"),
        assignment: Bytes::from_static(b"a"),
    };
    let (protocol, leader) = (Some("range".to_owned()), Some("m".to_owned()));
    Membership { protocol_type: "consumer".into(), generation, protocol, leader, since: 7, members: vec![member] }
}

fn is_fatal<T>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Fatal { .. }))
}

#[tokio::test]
async fn members_survive_a_kill_until_they_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    let token = log.claim("g").await.unwrap().unwrap();
    for generation in 1..=3 {
        log.remember(&token, Some(membership(generation))).await.unwrap();
    }
    let gone = log.claim("gone").await.unwrap().unwrap();
    log.remember(&gone, Some(membership(1))).await.unwrap();
    log.remember(&gone, None).await.unwrap();
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    assert_eq!(again.remembered("g").await.unwrap(), Some(membership(3)));
    assert_eq!(again.remembered("gone").await.unwrap(), None);
    assert_eq!(again.groups().await.unwrap(), ["g"]);
}

#[tokio::test]
async fn a_group_is_claimed_as_long_as_somebody_has_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    assert!(!log.is_claimed("g"));
    let token = log.join("g").await.unwrap();
    let clone = token.clone();
    drop(token);
    assert!(log.is_claimed("g"));
    assert_eq!(log.claim("g").await.unwrap(), None);
    log.commit(&clone, vec![]).await.expect("a claim that was refused voids nothing");
    drop(clone);
    assert!(!log.is_claimed("g"));
    assert!(log.claim("g").await.unwrap().is_some());
}

#[tokio::test]
async fn whoever_joins_takes_a_group_from_its_members() {
    let folder = tempfile::tempdir().unwrap();
    let log = with_topic(folder.path(), &TopicSettings::default()).await;
    let members = log.claim("connect-lake").await.unwrap().unwrap();
    let _sink = log.join("connect-lake").await.unwrap();
    let committed = Committed { offset: 1, leader_epoch: -1, metadata: String::new() };
    assert!(is_fatal(log.commit(&members, vec![(of(), Some(committed))]).await));
    assert!(is_fatal(log.remember(&members, Some(membership(1))).await));
    drop(members);
    assert!(log.is_claimed("connect-lake"), "the token that was taken away says nothing");
}

#[tokio::test]
async fn the_time_of_a_commit_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let time = Time::default();
    let log = log_at(folder.path(), &time, &TopicSettings::default()).await;
    let token = log.join("g").await.unwrap();
    time.0.store(1234, Ordering::SeqCst);
    let committed = Committed { offset: 1, leader_epoch: -1, metadata: String::new() };
    log.commit(&token, vec![(of(), Some(committed))]).await.unwrap();
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    assert_eq!(again.committed_at("g").await.unwrap(), [(of(), 1234)].into());
}
