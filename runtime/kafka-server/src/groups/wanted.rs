//! What clients ask to commit, in a transaction or not: which of it may be committed, and what they are told of each partition.

use aqueduct_api::{Committed, Topic, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::members_apis::code;
use crate::call::Wrong;
use crate::security::rights::Of;

/// As `offset.metadata.max.bytes` of Kafka.
const LONGEST_METADATA: usize = 4096;

/// What a request asks to commit.
#[derive(Default)]
pub(super) struct Wanted {
    /// What may be committed.
    pub(super) offsets: Vec<(TopicPartition, Committed)>,
    /// What speaks against each partition, in the request's order.
    pub(super) checks: Checks,
}

/// What speaks against each partition of a request, in its order.
#[derive(Default)]
pub(super) struct Checks(Vec<Result<(), ResponseError>>);

impl Wanted {
    /// What is asked for a partition of a topic, or of one that the client may not write of or that is not there.
    pub(super) fn push(
        &mut self,
        topic: &Result<Topic, Wrong>,
        partition: i32,
        (offset, leader_epoch): (i64, i32),
        metadata: Option<&StrBytes>,
    ) {
        let metadata = metadata.map_or(String::new(), StrBytes::to_string);
        let committed = Committed { offset, leader_epoch, metadata };
        let checked = match topic {
            Ok(topic) => check(partition, &committed, topic.partitions)
                .map(|()| self.offsets.push((TopicPartition::new(topic.name.clone(), partition), committed))),
            Err(wrong) => Err(wrong.error),
        };
        self.checks.0.push(checked);
    }
}

impl Checks {
    /// The code of each partition, after what became of the request as a whole. As in Kafka, who may do it and may not read a
    /// topic is told that, whatever became of the rest.
    pub(super) fn codes(self, outcome: Result<(), ResponseError>) -> impl Iterator<Item = i16> {
        let is_refused = [Of::Group, Of::Transaction].iter().any(|of| outcome == Err(of.refused()));
        let unreadable = Err(Of::Topic.refused());
        self.0.into_iter().map(move |checked| match checked == unreadable && !is_refused {
            true => code(checked),
            false => code(outcome.and(checked)),
        })
    }
}

/// Refuses what can not be committed.
fn check(partition: i32, committed: &Committed, partitions: i32) -> Result<(), ResponseError> {
    if !(0..partitions).contains(&partition) {
        Err(ResponseError::UnknownTopicOrPartition)
    } else if committed.metadata.len() > LONGEST_METADATA {
        Err(ResponseError::OffsetMetadataTooLarge)
    } else if committed.offset < 0 {
        Err(ResponseError::OffsetOutOfRange)
    } else {
        Ok(())
    }
}
