//! The APIs of groups over a log in memory, with time that stands still until all wait.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Groups as _, Memberships as _, Result, Topic, TopicPartition, TopicSettings, Topics};
use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::store::Memory;
use crate::apis::api;
use crate::broker::{Broker, Host, Options};
use crate::call::Caller;
use crate::groups::{groups_apis, members_apis, offsets_apis};
use crate::names::text;

/// A broker over a log in memory.
struct Case {
    log: Memory,
    broker: Broker,
}

/// Somebody who may do everything.
fn caller(key: ApiKey, version: i16) -> Caller {
    let needs = api(key as i16).unwrap().needs;
    Caller { needs, ..Caller::somebody(version) }
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

#[async_trait]
impl Host for Memory {
    fn declared(&self, _: &str) -> (i32, TopicSettings) {
        (1, TopicSettings::default())
    }

    async fn alter(&self, topic: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        Topics::alter(self, topic, partitions, settings).await
    }
}

impl Case {
    fn new(log: &Memory) -> Self {
        let store = Arc::new(log.clone());
        let broker = Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store);
        Case { log: log.clone(), broker }
    }

    async fn join(&self, name: &str, member_id: &str, version: i16) -> JoinGroupResponse {
        // A consumer's subscription to topic `t`.
        let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let request = JoinGroupRequest::default()
            .with_group_id(group(name))
            .with_member_id(text(member_id))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata)]);
        members_apis::join(&self.broker.groups, request, &caller(ApiKey::JoinGroup, version)).await
    }

    /// A group with one member, and the member's id.
    async fn stable(&self, name: &str) -> StrBytes {
        let joined = self.join(name, "", 3).await;
        assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1));
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::from_static(b"all"));
        let request = SyncGroupRequest::default()
            .with_group_id(group(name))
            .with_member_id(joined.member_id.clone())
            .with_generation_id(1)
            .with_assignments(vec![assignment]);
        let synced = members_apis::sync(&self.broker.groups, request, &caller(ApiKey::SyncGroup, 5)).await;
        assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from_static(b"all")));
        joined.member_id
    }

    async fn heartbeat(&self, name: &str, member_id: &str) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group(name))
            .with_member_id(text(member_id))
            .with_generation_id(1);
        members_apis::heartbeat(&self.broker.groups, request, &caller(ApiKey::Heartbeat, 4)).await.error_code
    }

    async fn leave(&self, name: &str, member_id: &str) -> i16 {
        let request = LeaveGroupRequest::default()
            .with_group_id(group(name))
            .with_members(vec![MemberIdentity::default().with_member_id(text(member_id))]);
        members_apis::leave(&self.broker.groups, request, &caller(ApiKey::LeaveGroup, 5)).await.members[0].error_code
    }

    /// Commits `offset` for a partition of `topic`, and returns its code.
    async fn commit_at(&self, name: &str, who: (&str, i32), topic: &str, partition: i32, offset: i64) -> i16 {
        let partition =
            OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
        let topic =
            OffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_member_id(text(who.0))
            .with_generation_id_or_member_epoch(who.1)
            .with_topics(vec![topic]);
        let response = offsets_apis::commit(&self.broker, request, &caller(ApiKey::OffsetCommit, 9)).await;
        response.topics[0].partitions[0].error_code
    }

    async fn commit(&self, name: &str, who: (&str, i32), offset: i64) -> i16 {
        self.commit_at(name, who, "t", 0, offset).await
    }

    async fn committed(&self, name: &str) -> Vec<(i32, i64)> {
        let asked = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let found = offsets_apis::fetch(&self.broker, request, &caller(ApiKey::OffsetFetch, 9)).await.groups.remove(0);
        let all = found.topics.into_iter().flat_map(|topic| topic.partitions);
        all.map(|partition| (partition.partition_index, partition.committed_offset)).collect()
    }

    /// The state and the number of members.
    async fn described(&self, name: &str) -> (i16, String, usize) {
        let request = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
        let found = groups_apis::describe(&self.broker.groups, request, &caller(ApiKey::DescribeGroups, 6))
            .await
            .groups
            .remove(0);
        (found.error_code, found.group_state.to_string(), found.members.len())
    }

    async fn delete(&self, name: &str) -> i16 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group(name)]);
        groups_apis::delete(&self.broker.groups, request, &caller(ApiKey::DeleteGroups, 2)).await.results[0].error_code
    }

    async fn forget(&self, name: &str) -> (i16, Option<i16>) {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let topic =
            OffsetDeleteRequestTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default().with_group_id(group(name)).with_topics(vec![topic]);
        let response = offsets_apis::delete(&self.broker, request, &caller(ApiKey::OffsetDelete, 0)).await;
        let partition = response.topics.first().map(|topic| topic.partitions[0].error_code);
        (response.error_code, partition)
    }

    async fn listed(&self, states: &[&str], types: &[&str]) -> Vec<(String, String)> {
        let texts = |all: &[&str]| all.iter().map(|one| text(one)).collect();
        let request = ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
        let found = groups_apis::list(&self.broker.groups, request, &caller(ApiKey::ListGroups, 5)).await.groups;
        found.into_iter().map(|group| (group.group_id.to_string(), group.group_state.to_string())).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_works_and_leaves() {
    let case = Case::new(&Memory::default());
    let first = case.join("g", "", 4).await;
    assert_eq!(first.error_code, E::MemberIdRequired.code());
    assert!(first.member_id.starts_with("c-"), "{}", first.member_id);
    let member = case.stable("g").await;
    assert_eq!(case.heartbeat("g", &member).await, 0);
    assert_eq!(case.commit("g", (&member, 1), 5).await, 0);
    assert_eq!(case.committed("g").await, [(0, 5)]);
    assert_eq!(case.described("g").await, (0, "Stable".into(), 1));
    assert_eq!(case.leave("g", &member).await, 0);
    assert_eq!(case.described("g").await, (0, "Empty".into(), 0));
    assert_eq!(case.heartbeat("g", &member).await, E::UnknownMemberId.code());
    assert_eq!(case.commit("g", (&member, 1), 6).await, E::UnknownMemberId.code());
    assert_eq!(case.committed("g").await, [(0, 5)]);
}

#[tokio::test(start_paused = true)]
async fn groups_that_are_not_there_are_told_as_kafka_does() {
    let case = Case::new(&Memory::default());
    assert_eq!(case.heartbeat("g", "m").await, E::UnknownMemberId.code());
    assert_eq!(case.leave("g", "m").await, E::UnknownMemberId.code());
    assert_eq!(case.join("g", "m", 9).await.error_code, E::UnknownMemberId.code());
    assert_eq!(case.commit("g", ("m", 1), 1).await, E::GroupIdNotFound.code());
    assert_eq!(case.described("g").await, (E::GroupIdNotFound.code(), "Dead".into(), 0));
    assert_eq!(case.delete("g").await, E::GroupIdNotFound.code());
    assert_eq!(case.forget("g").await, (E::GroupIdNotFound.code(), None));
    assert_eq!(case.committed("g").await, []);
    assert_eq!(case.listed(&[], &[]).await, [], "whoever asks makes no group");
    let invalid = E::InvalidGroupId.code();
    assert_eq!(case.join("", "", 9).await.error_code, invalid);
    assert_eq!(case.heartbeat("", "m").await, invalid);
    assert_eq!(case.commit("", ("", -1), 1).await, invalid);
    assert_eq!(case.delete("").await, invalid);
}

#[tokio::test(start_paused = true)]
async fn joins_that_ask_for_too_much_are_refused() {
    let case = Case::new(&Memory::default());
    let protocol = |length| {
        let metadata = Bytes::from(vec![0; length]);
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata)
    };
    let join = |session: i32, length: usize| {
        let request = JoinGroupRequest::default()
            .with_group_id(group("g"))
            .with_protocol_type(text("consumer"))
            .with_session_timeout_ms(session)
            .with_protocols(vec![protocol(length)]);
        let case = &case;
        async move { members_apis::join(&case.broker.groups, request, &caller(ApiKey::JoinGroup, 9)).await.error_code }
    };
    assert_eq!(join(10_000, 1 << 20).await, E::InvalidRequest.code());
    for session in [i32::MIN, -1, 0, 5_999, 1_800_001, i32::MAX] {
        assert_eq!(join(session, 10).await, E::InvalidSessionTimeout.code(), "{session}");
    }
    assert_eq!(join(6_000, 10).await, E::MemberIdRequired.code());
}

#[tokio::test(start_paused = true)]
async fn a_join_with_many_protocols_costs_little() {
    let case = Case::new(&Memory::default());
    let many = |prefix: &str| -> Vec<_> {
        (0..20_000).map(|n| JoinGroupRequestProtocol::default().with_name(text(&format!("{prefix}{n}")))).collect()
    };
    let join = |protocols| {
        let request = JoinGroupRequest::default()
            .with_group_id(group("g"))
            .with_protocol_type(text("consumer"))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocols(protocols);
        let case = &case;
        async move { members_apis::join(&case.broker.groups, request, &caller(ApiKey::JoinGroup, 3)).await.error_code }
    };
    let shared = many("a");
    let others = (0..5).map(|_| join(shared.clone()));
    let (codes, strange) = futures::join!(futures::future::join_all(others), join(many("b")));
    assert_eq!((codes, strange), (vec![0; 5], E::InconsistentGroupProtocol.code()));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_checked_one_by_one() {
    let case = Case::new(&Memory::default());
    let nobody = ("", -1);
    assert_eq!(case.commit_at("g", nobody, "t", 1, 7).await, 0);
    assert_eq!(case.commit_at("g", nobody, "t", 2, 7).await, E::UnknownTopicOrPartition.code());
    assert_eq!(case.commit_at("g", nobody, "nowhere", 0, 7).await, E::UnknownTopicOrPartition.code());
    assert_eq!(case.commit_at("g", nobody, "t", 0, -7).await, E::OffsetOutOfRange.code());
    assert_eq!(case.committed("g").await, [(1, 7)]);
    let topic = OffsetFetchRequestTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0, 1]);
    let request = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(Some(vec![topic]));
    let found = offsets_apis::fetch(&case.broker, request, &caller(ApiKey::OffsetFetch, 7)).await;
    let told: Vec<_> = found.topics[0].partitions.iter().map(|of| (of.committed_offset, of.error_code)).collect();
    assert_eq!(told, [(-1, 0), (7, 0)]);
}

#[tokio::test(start_paused = true)]
async fn commits_that_come_at_once_are_written_together() {
    let case = Arc::new(Case::new(&Memory::default()));
    let before = *case.log.writes.lock();
    let commits = (0..50).map(|offset| case.commit("g", ("", -1), offset));
    let codes = futures::future::join_all(commits).await;
    assert!(codes.iter().all(|code| *code == 0));
    let writes = *case.log.writes.lock() - before;
    assert!(writes <= 3, "{writes} writes for 50 commits");
    assert_eq!(case.committed("g").await, [(0, 49)], "the last of them holds");
}

#[tokio::test(start_paused = true)]
async fn reading_offsets_waits_for_commits_under_way_and_heartbeats_do_not() {
    let case = Case::new(&Memory::default());
    let member = case.stable("g").await;
    let before = tokio::time::Instant::now();
    let heartbeat = async {
        assert_eq!(case.heartbeat("g", &member).await, 0);
        before.elapsed()
    };
    let (code, found, beat) = futures::join!(case.commit("g", (&member, 1), 5), case.committed("g"), heartbeat);
    assert_eq!((code, found), (0, vec![(0, 5)]));
    assert!(beat.is_zero(), "a heartbeat took {beat:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_and_passes() {
    let case = Case::new(&Memory::default());
    let member = case.stable("g").await;
    *case.log.is_full.lock() = true;
    assert_eq!(case.commit("g", (&member, 1), 5).await, E::CoordinatorNotAvailable.code());
    *case.log.is_full.lock() = false;
    assert_eq!(case.commit("g", (&member, 1), 5).await, 0);
}

#[tokio::test(start_paused = true)]
async fn members_survive_a_restart_until_their_session_ends() {
    let log = Memory::default();
    let member = Case::new(&log).stable("g").await;
    let case = Case::new(&log);
    // The former coordinator is gone with its tokens.
    drop(log.join("g").await.unwrap());
    assert_eq!(case.heartbeat("g", &member).await, 0);
    assert_eq!(case.described("g").await, (0, "Stable".into(), 1));
    assert_eq!(case.commit("g", (&member, 1), 5).await, 0);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(case.described("g").await, (0, "Empty".into(), 0));
    assert_eq!(case.committed("g").await, [(0, 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_group_with_members_is_not_deleted_nor_are_offsets_that_they_need() {
    let case = Case::new(&Memory::default());
    let member = case.stable("g").await;
    assert_eq!(case.commit("g", (&member, 1), 5).await, 0);
    assert_eq!(case.commit("g", ("", -1), 9).await, E::UnknownMemberId.code(), "nobody else commits");
    assert_eq!(case.delete("g").await, E::NonEmptyGroup.code());
    assert_eq!(case.forget("g").await, (0, Some(E::GroupSubscribedToTopic.code())));
    case.leave("g", &member).await;
    assert_eq!(case.forget("g").await, (0, Some(0)));
    assert_eq!(case.committed("g").await, []);
    assert_eq!(case.commit("g", ("", -1), 9).await, 0);
    assert_eq!(case.delete("g").await, 0);
    assert_eq!(case.committed("g").await, []);
    assert_eq!(case.listed(&[], &[]).await, []);
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_state_and_type() {
    let case = Case::new(&Memory::default());
    case.stable("works").await;
    assert_eq!(case.commit("idle", ("", -1), 1).await, 0);
    let _sink = case.log.join("connect-lake").await.unwrap();
    let named = |all: &[(&str, &str)]| all.iter().map(|(name, state)| ((*name).into(), (*state).into())).collect();
    let all: Vec<(String, String)> = named(&[("idle", "Empty"), ("works", "Stable")]);
    assert_eq!(case.listed(&[], &[]).await, all);
    assert_eq!(case.listed(&["stable"], &[]).await, all[1..]);
    assert_eq!(case.listed(&["Empty", "Dead"], &["Classic"]).await, all[..1]);
    assert_eq!(case.listed(&[], &["consumer"]).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_sinks_group_is_shown_and_not_touched() {
    let case = Case::new(&Memory::default());
    let sink = case.log.join("connect-lake").await.unwrap();
    let committed = aqueduct_api::Committed { offset: 3, leader_epoch: -1, metadata: String::new() };
    case.log.commit(&sink, vec![(TopicPartition::new("t", 0), Some(committed))]).await.unwrap();
    let name = "connect-lake";
    assert_eq!(case.join(name, "", 9).await.error_code, E::InconsistentGroupProtocol.code());
    assert_eq!(case.commit(name, ("", -1), 9).await, E::UnknownMemberId.code());
    assert_eq!(case.commit(name, ("m", 1), 9).await, E::UnknownMemberId.code());
    assert_eq!(case.heartbeat(name, "m").await, E::UnknownMemberId.code());
    assert_eq!(case.leave(name, "m").await, E::UnknownMemberId.code());
    assert_eq!(case.delete(name).await, E::NonEmptyGroup.code());
    assert_eq!(case.forget(name).await.0, E::NonEmptyGroup.code());
    assert_eq!(case.described(name).await, (0, "Stable".into(), 1));
    assert_eq!(case.committed(name).await, [(0, 3)]);
    case.log.commit(&sink, vec![]).await.expect("the sink was not disturbed");
    drop(sink);
    assert_eq!(case.commit(name, ("", -1), 9).await, 0, "a sink that does not run");
}

#[tokio::test(start_paused = true)]
async fn members_are_sent_away_when_a_sink_takes_their_group() {
    let case = Case::new(&Memory::default());
    let member = case.stable("connect-lake").await;
    let sink = case.log.join("connect-lake").await.unwrap();
    assert_eq!(case.commit("connect-lake", (&member, 1), 9).await, E::UnknownMemberId.code());
    assert_eq!(case.heartbeat("connect-lake", &member).await, E::UnknownMemberId.code());
    assert_eq!(case.join("connect-lake", "", 9).await.error_code, E::InconsistentGroupProtocol.code());
    assert_eq!(case.committed("connect-lake").await, []);
    case.log.commit(&sink, vec![]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn old_offsets_of_groups_without_members_are_forgotten() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let log = Memory::default();
    let case = Case::new(&log);
    let watching = case.broker.groups.watch();
    let scenario = async {
        assert_eq!(case.commit("simple", ("", -1), 1).await, 0);
        assert_eq!(case.commit("connect-lake", ("", -1), 1).await, 0);
        let member = case.stable("left").await;
        assert_eq!(case.commit("left", (&member, 1), 1).await, 0);
        *log.time.lock() = 6 * DAY;
        assert_eq!(case.leave("left", &member).await, 0);
        *log.time.lock() = 8 * DAY;
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert_eq!(case.committed("simple").await, [], "seven days after its commit");
        assert_eq!(case.committed("left").await, [(0, 1)], "two days after its last member left");
        *log.time.lock() = 14 * DAY;
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert_eq!(case.committed("left").await, []);
        assert_eq!(
            case.listed(&[], &[]).await,
            [("connect-lake".to_owned(), "Empty".to_owned())],
            "a sink may be paused"
        );
        assert_eq!(log.remembered("left").await.unwrap(), None);
    };
    futures::pin_mut!(watching, scenario);
    futures::future::select(watching, scenario).await;
}
