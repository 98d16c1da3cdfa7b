//! Versions of Kafka 4.3 that are newer than the crate of messages knows.
//!
//! Where nothing but the number has changed, a message is read and written as in the version before. Where a request has, it
//! is read here; its shape has been checked by then, as that of any other. What its answer has more is put in here too.

use aqueduct_record::Fields;
use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    ApiKey, DescribeLogDirsResponse, GroupId, OffsetCommitRequest, OffsetFetchRequest, ProducerId, TopicName,
    WriteTxnMarkersRequest,
};
use uuid::Uuid;

use crate::call::{Broken, Call, Reply, decode};
use crate::names::text;

/// From this version on OffsetCommit and OffsetFetch name topics by their ids (KIP-848).
pub(crate) const TOPIC_IDS: i16 = 10;
/// From this version on WriteTxnMarkers says by which rules a transaction ends (KIP-1228).
const ENDS_BY_RULES: i16 = 2;
/// From this version on DescribeLogDirs says whether a folder takes no more partitions (KIP-1066).
const CORDONED: i16 = 5;

/// The version in which the crate reads and writes a message.
pub(crate) fn known_as(key: ApiKey, version: i16) -> i16 {
    match (key, version) {
        (ApiKey::ListOffsets, 11) => 10,
        (ApiKey::WriteTxnMarkers, ENDS_BY_RULES) => 1,
        (ApiKey::DescribeLogDirs, CORDONED) => 4,
        _ => version,
    }
}

/// Reads an OffsetCommit.
pub(crate) fn offset_commit(version: i16, body: &Bytes) -> Result<OffsetCommitRequest, Broken> {
    match version {
        TOPIC_IDS.. => read(ApiKey::OffsetCommit, version, body, commit_by_id),
        _ => decode(ApiKey::OffsetCommit, version, body),
    }
}

/// Reads an OffsetFetch.
pub(crate) fn offset_fetch(version: i16, body: &Bytes) -> Result<OffsetFetchRequest, Broken> {
    match version {
        TOPIC_IDS.. => read(ApiKey::OffsetFetch, version, body, fetch_by_id),
        _ => decode(ApiKey::OffsetFetch, version, body),
    }
}

/// A marker that is to be written, and the version of transactions by whose rules.
pub(crate) type Ruled = (WritableTxnMarker, i8);

/// Reads a WriteTxnMarkers.
pub(crate) fn markers(version: i16, body: &Bytes) -> Result<Vec<Ruled>, Broken> {
    match version {
        ENDS_BY_RULES.. => read(ApiKey::WriteTxnMarkers, version, body, markers_with_rules),
        _ => {
            let request: WriteTxnMarkersRequest = decode(ApiKey::WriteTxnMarkers, version, body)?;
            Ok(request.markers.into_iter().map(|marker| (marker, 0)).collect())
        }
    }
}

fn read<R>(key: ApiKey, version: i16, body: &[u8], read: fn(&mut Fields<'_>) -> Option<R>) -> Result<R, Broken> {
    let unfit = || Broken(format!("{key:?} version {version}: a body that makes no sense"));
    read(&mut Fields::new(body)).ok_or_else(unfit)
}

fn commit_by_id(body: &mut Fields<'_>) -> Option<OffsetCommitRequest> {
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(body.compact_text()?)))
        .with_generation_id_or_member_epoch(body.i32()?)
        .with_member_id(text(body.compact_text()?))
        .with_group_instance_id(body.optional_compact_text()?.map(text));
    let partition = |body: &mut Fields<'_>| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(body.i32()?)
            .with_committed_offset(body.i64()?)
            .with_committed_leader_epoch(body.i32()?)
            .with_committed_metadata(body.optional_compact_text()?.map(text));
        body.skip_tags().map(|()| partition)
    };
    let topics = many(body, |body| {
        let topic = OffsetCommitRequestTopic::default()
            .with_topic_id(Uuid::from_u128(body.id()?))
            .with_partitions(many(body, partition)??);
        body.skip_tags().map(|()| topic)
    })??;
    body.skip_tags().map(|()| request.with_topics(topics))
}

fn fetch_by_id(body: &mut Fields<'_>) -> Option<OffsetFetchRequest> {
    let topic = |body: &mut Fields<'_>| {
        let topic = OffsetFetchRequestTopics::default()
            .with_topic_id(Uuid::from_u128(body.id()?))
            .with_partition_indexes(many(body, Fields::i32)??);
        body.skip_tags().map(|()| topic)
    };
    let groups = many(body, |body| {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(body.compact_text()?)))
            .with_member_id(body.optional_compact_text()?.map(text))
            .with_member_epoch(body.i32()?)
            .with_topics(many(body, topic)?);
        body.skip_tags().map(|()| group)
    })??;
    let request = OffsetFetchRequest::default().with_groups(groups).with_require_stable(body.i8()? != 0);
    body.skip_tags().map(|()| request)
}

fn markers_with_rules(body: &mut Fields<'_>) -> Option<Vec<Ruled>> {
    let topic = |body: &mut Fields<'_>| {
        let topic = WritableTxnMarkerTopic::default()
            .with_name(TopicName(text(body.compact_text()?)))
            .with_partition_indexes(many(body, Fields::i32)??);
        body.skip_tags().map(|()| topic)
    };
    let markers = many(body, |body| {
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(body.i64()?))
            .with_producer_epoch(body.i16()?)
            .with_transaction_result(body.i8()? != 0)
            .with_topics(many(body, topic)??)
            .with_coordinator_epoch(body.i32()?);
        let rules = body.i8()?;
        body.skip_tags().map(|()| (marker, rules))
    })??;
    body.skip_tags().map(|()| markers)
}

/// The elements of an array, if it is there.
fn many<'a, T>(body: &mut Fields<'a>, mut element: impl FnMut(&mut Fields<'a>) -> Option<T>) -> Option<Option<Vec<T>>> {
    match body.compact_length()? {
        Some(count) => (0..count).map(|_| element(body)).collect::<Option<Vec<T>>>().map(Some),
        None => Some(None),
    }
}

/// Answers a DescribeLogDirs about at most one folder, which takes partitions.
pub(crate) fn log_dirs(call: &Call, response: &DescribeLogDirsResponse) -> Result<Reply, Broken> {
    let frame = call.frame(response)?;
    if call.caller.version < CORDONED || response.results.is_empty() {
        return Ok(Reply::Now(frame));
    }
    // Behind the folder's last field are two counts of tagged fields: the folder's and the answer's.
    let (fields, counts) = frame.split_at(frame.len() - 2);
    let length = (frame.len() - 4 + 1) as u32;
    Ok(Reply::Now([&length.to_be_bytes(), &fields[4..], &[u8::from(false)], counts].concat().into()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };

    use super::*;
    use crate::call::Caller;
    use crate::guard;
    use crate::shapes::shape_of;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// A request, once its shape was found right.
    fn body(key: ApiKey, version: i16, hex: &str) -> Bytes {
        let body = bytes(hex);
        assert_eq!(guard::check(shape_of(key).unwrap(), version, &body), Ok(&[][..]), "{key:?}");
        body.into()
    }

    fn id(high: u64, low: u64) -> Uuid {
        Uuid::from_u64_pair(high, low)
    }

    // What follows was written by the classes of Kafka 4.3.1's clients.

    #[test]
    fn commits_that_name_topics_by_id_are_read() {
        let hex = "026700000005026d0269030000000000000001000000000000000202000000070000000000000008000000090278000000000000\
                   000000030000000000000004010000";
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(7)
            .with_committed_offset(8)
            .with_committed_leader_epoch(9)
            .with_committed_metadata(Some(text("x")));
        let topics = vec![
            OffsetCommitRequestTopic::default().with_topic_id(id(1, 2)).with_partitions(vec![partition]),
            OffsetCommitRequestTopic::default().with_topic_id(id(3, 4)),
        ];
        let expected = OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(5)
            .with_member_id(text("m"))
            .with_group_instance_id(Some(text("i")))
            .with_topics(topics);
        assert_eq!(offset_commit(10, &body(ApiKey::OffsetCommit, 10, hex)), Ok(expected));
    }

    #[test]
    fn fetches_of_offsets_that_name_topics_by_id_are_read() {
        let hex = "030267026d0000000502000000000000000100000000000000020300000007000000080000026800ffffffff00000100";
        let topic = OffsetFetchRequestTopics::default().with_topic_id(id(1, 2)).with_partition_indexes(vec![7, 8]);
        let groups = vec![
            OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text("g")))
                .with_member_id(Some(text("m")))
                .with_member_epoch(5)
                .with_topics(Some(vec![topic])),
            OffsetFetchRequestGroup::default().with_group_id(GroupId(text("h"))).with_topics(None),
        ];
        let expected = OffsetFetchRequest::default().with_groups(groups).with_require_stable(true);
        assert_eq!(offset_fetch(10, &body(ApiKey::OffsetFetch, 10, hex)), Ok(expected));
    }

    #[test]
    fn markers_that_say_their_rules_are_read() {
        let hex = "0200000000000000010002010202740300000004000000050000000003020000";
        let topic =
            WritableTxnMarkerTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![4, 5]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(1))
            .with_producer_epoch(2)
            .with_transaction_result(true)
            .with_coordinator_epoch(3)
            .with_topics(vec![topic]);
        assert_eq!(markers(2, &body(ApiKey::WriteTxnMarkers, 2, hex)), Ok(vec![(marker, 2)]));
    }

    #[tokio::test]
    async fn folders_are_told_to_take_partitions() {
        let partition = DescribeLogDirsPartition::default().with_partition_size(3);
        let topic = DescribeLogDirsTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
        let folder = DescribeLogDirsResult::default()
            .with_log_dir(text("/d"))
            .with_topics(vec![topic])
            .with_total_bytes(2)
            .with_usable_bytes(1);
        let cases = [
            (
                DescribeLogDirsResponse::default().with_results(vec![folder]),
                "000000000000020000032f640202740200000000000000000000000300000000000000000000000000000000000002000000000000\
                 0001000000",
            ),
            (DescribeLogDirsResponse::default().with_error_code(31), "00000000001f0100"),
        ];
        for (response, expected) in cases {
            let (key, caller) = (ApiKey::DescribeLogDirs, Caller::somebody(5));
            let call = Call { key, correlation: 7, caller, body: body(key, 5, "0000") };
            let Ok(Reply::Now(frame)) = log_dirs(&call, &response) else { panic!("no answer at once") };
            let expected = bytes(expected);
            assert_eq!(frame[..4], (5 + expected.len() as u32).to_be_bytes(), "{response:?}");
            assert_eq!(frame[9..], expected, "{response:?}");
        }
    }
}
