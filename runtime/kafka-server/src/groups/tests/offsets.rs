//! What groups commit and are told of it: by names and by ids of topics, and while a transaction is open.

use std::sync::Arc;

use aqueduct_api::{Committed, Groups as _, Memberships as _, TopicPartition};
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{ApiKey, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName};
use uuid::Uuid;

use super::store::Memory;
use crate::apis::api;
use crate::broker::{Broker, Options};
use crate::call::Caller;
use crate::groups::offsets_apis;
use crate::names::text;

const PRODUCER: i64 = 9;
/// What is told of a partition in which something waits.
fn unstable() -> (i64, i16) {
    (-1, E::UnstableOffsetCommit.code())
}

/// The id of topic `t`.
const T: Uuid = Uuid::from_u128(1);
const NOWHERE: Uuid = Uuid::from_u128(2);

fn broker(log: &Memory) -> Broker {
    let store = Arc::new(log.clone());
    Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store)
}

/// Somebody who may do everything, in a version that names topics by their ids or not.
fn caller(key: ApiKey, by_id: bool) -> Caller {
    let needs = api(key as i16).unwrap().needs;
    Caller { needs, ..Caller::somebody(if by_id { 10 } else { 9 }) }
}

/// The code of each topic that group `g` commits offset 7 of partition 0 of.
async fn committed(broker: &Broker, topics: &[(&str, Uuid)], by_id: bool) -> Vec<(Uuid, i16)> {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(7);
    let topic = |(name, id): &(&str, Uuid)| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_topic_id(*id)
            .with_partitions(vec![partition.clone()])
    };
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.iter().map(topic).collect());
    let response = offsets_apis::commit(broker, request, &caller(ApiKey::OffsetCommit, by_id)).await;
    response.topics.iter().map(|topic| (topic.topic_id, topic.partitions[0].error_code)).collect()
}

/// What group `g` is told: of each topic its name, id, and the offset and code of its partitions.
async fn told(
    broker: &Broker,
    topics: Option<&[(&str, Uuid)]>,
    by_id: bool,
    is_stable: bool,
) -> Vec<(String, Uuid, Vec<(i64, i16)>)> {
    let topic = |(name, id): &(&str, Uuid)| {
        OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(name)))
            .with_topic_id(*id)
            .with_partition_indexes(vec![0, 1])
    };
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(is_stable);
    let mut response = offsets_apis::fetch(broker, request, &caller(ApiKey::OffsetFetch, by_id)).await;
    let topics = response.groups.remove(0).topics.into_iter();
    let told = topics.map(|topic| {
        let partitions = topic.partitions.iter().map(|of| (of.committed_offset, of.error_code)).collect();
        (topic.name.to_string(), topic.topic_id, partitions)
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn topics_are_named_by_their_ids_from_version_10_on() {
    let broker = broker(&Memory::default());
    let unknown = E::UnknownTopicId.code();
    let both = [("", T), ("", NOWHERE)];
    assert_eq!(committed(&broker, &both, true).await, [(T, 0), (NOWHERE, unknown)]);
    let of_t = vec![(7, 0), (-1, 0)];
    let of_nowhere = vec![(-1, unknown), (-1, unknown)];
    let by_id = [(String::new(), T, of_t.clone()), (String::new(), NOWHERE, of_nowhere)];
    assert_eq!(told(&broker, Some(&both), true, false).await, by_id);
    let all = told(&broker, None, true, false).await;
    assert_eq!(all, [("t".to_owned(), T, vec![(7, 0)])]);
    // A name says nothing where ids count, and an id nothing where names do.
    assert_eq!(committed(&broker, &[("t", NOWHERE)], true).await, [(NOWHERE, unknown)]);
    assert_eq!(committed(&broker, &[("t", NOWHERE)], false).await, [(NOWHERE, 0)]);
    assert_eq!(told(&broker, Some(&[("t", NOWHERE)]), false, false).await, [("t".to_owned(), NOWHERE, of_t)]);
}

/// A group that has committed 1, and 2 in a transaction that is open.
async fn undecided(log: &Memory) {
    let of = TopicPartition::new("t", 0);
    let committed = |offset| Committed { offset, leader_epoch: -1, metadata: String::new() };
    let token = log.join("g").await.unwrap();
    log.commit(&token, vec![(of.clone(), Some(committed(1)))]).await.unwrap();
    log.commit_in_transaction(&token, (PRODUCER, 0), vec![(of, committed(2))]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_wants_stable_offsets_is_told_to_wait_for_the_transaction() {
    for (is_committed, expected) in [(true, (2, 0)), (false, (1, 0))] {
        let log = Memory::default();
        let broker = broker(&log);
        undecided(&log).await;
        for by_id in [true, false] {
            let asked = [("t", T)];
            let partitions = async |topics, is_stable| told(&broker, topics, by_id, is_stable).await.remove(0).2;
            assert_eq!(partitions(Some(&asked[..]), false).await, [(1, 0), (-1, 0)]);
            assert_eq!(partitions(Some(&asked[..]), true).await, [unstable(), (-1, 0)], "only where something waits");
            assert_eq!(partitions(None, true).await, [unstable()]);
        }
        log.decide(PRODUCER, is_committed);
        for is_stable in [true, false] {
            assert_eq!(
                told(&broker, None, false, is_stable).await.remove(0).2,
                [expected],
                "committed: {is_committed}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_ends_meanwhile_does_not_bring_back_what_was_before() {
    let log = Memory::default();
    let broker = broker(&log);
    undecided(&log).await;
    *log.commits_after_read.lock() = Some(PRODUCER);
    assert_eq!(told(&broker, None, false, true).await.remove(0).2, [unstable()]);
    assert_eq!(told(&broker, None, false, true).await.remove(0).2, [(2, 0)]);
}

#[tokio::test(start_paused = true)]
async fn metadata_is_as_long_as_kafka_takes_it() {
    let broker = broker(&Memory::default());
    for (length, expected) in [(0, 0), (4096, 0), (4097, E::OffsetMetadataTooLarge.code())] {
        let partition =
            OffsetCommitRequestPartition::default().with_committed_metadata(Some(text(&"m".repeat(length))));
        let topic = OffsetCommitRequestTopic::default().with_topic_id(T).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let response = offsets_apis::commit(&broker, request, &caller(ApiKey::OffsetCommit, true)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, expected, "{length} bytes");
    }
}
