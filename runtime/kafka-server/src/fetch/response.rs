//! The answer to a fetch as pieces: what is written of it here, and between that the records, wherever they are.

use aqueduct_api::Records;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchResponse, ResponseHeader};
use kafka_protocol::protocol::Encodable;

use crate::call::{Broken, Call};

use super::following::Named;

/// The first version with errors and sessions, that with variable lengths, and that which names topics by their ids.
const SESSIONS_SINCE: i16 = 7;
const FLEXIBLE_SINCE: i16 = 12;

/// The partitions of a topic, each with its records.
pub(crate) type OfTopic = (Named, Vec<(PartitionData, Vec<Records>)>);

/// A whole frame. Of `response`, topics are passed over: they are those of `topics`.
pub(crate) fn pieces(call: &Call, response: &FetchResponse, topics: Vec<OfTopic>) -> Result<Vec<Records>, Broken> {
    let version = call.caller.version;
    let mut written = Written { pieces: Vec::new(), bytes: BytesMut::new(), is_flexible: version >= FLEXIBLE_SINCE };
    let unfit = |cause| Broken(format!("the answer to {:?} version {version}: {cause}", call.key));
    // Its length is known at the end.
    written.bytes.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(call.correlation);
    header.encode(&mut written.bytes, call.key.response_header_version(version)).map_err(unfit)?;
    written.bytes.put_i32(response.throttle_time_ms);
    if version >= SESSIONS_SINCE {
        written.bytes.put_i16(response.error_code);
        written.bytes.put_i32(response.session_id);
    }
    written.count(topics.len());
    for (topic, partitions) in topics {
        match &topic {
            Named::Id(id) => written.bytes.put_slice(id.as_bytes()),
            Named::Name(name) => written.text(name),
        }
        written.count(partitions.len());
        for (partition, records) in partitions {
            let partition = partition.with_records(Some(Bytes::new()));
            partition.encode(&mut written.bytes, version).map_err(unfit)?;
            written.records(records);
        }
        written.no_tags();
    }
    written.no_tags();
    written.framed()
}

struct Written {
    pieces: Vec<Records>,
    bytes: BytesMut,
    is_flexible: bool,
}

impl Written {
    /// Puts records in place of none, with which a partition has just ended.
    fn records(&mut self, records: Vec<Records>) {
        let ending = if self.is_flexible { 2 } else { 4 };
        self.bytes.truncate(self.bytes.len() - ending);
        let size = records.iter().map(Records::len).sum();
        self.count(size);
        for piece in records {
            self.cut();
            self.pieces.push(piece);
        }
        self.no_tags();
    }

    fn cut(&mut self) {
        if !self.bytes.is_empty() {
            self.pieces.push(Records::Bytes(self.bytes.split().freeze()));
        }
    }

    /// How many of something follow.
    fn count(&mut self, count: usize) {
        if !self.is_flexible {
            return self.bytes.put_i32(count as i32);
        }
        let mut rest = count as u64 + 1;
        while rest >= 0x80 {
            self.bytes.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.put_u8(rest as u8);
    }

    fn text(&mut self, text: &str) {
        if self.is_flexible {
            self.count(text.len());
        } else {
            self.bytes.put_i16(text.len() as i16);
        }
        self.bytes.put_slice(text.as_bytes());
    }

    fn no_tags(&mut self) {
        if self.is_flexible {
            self.bytes.put_u8(0);
        }
    }

    fn framed(mut self) -> Result<Vec<Records>, Broken> {
        self.cut();
        let size: usize = self.pieces.iter().map(Records::len).sum();
        let length = i32::try_from(size - 4).map_err(|_| Broken(format!("an answer of {size} bytes")))?;
        if let Some(Records::Bytes(first)) = self.pieces.first_mut() {
            let mut start = BytesMut::from(std::mem::take(first));
            start[..4].copy_from_slice(&length.to_be_bytes());
            *first = start.freeze();
        }
        Ok(self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse};
    use kafka_protocol::messages::{ApiKey, ProducerId, TopicName};
    use uuid::Uuid;

    use super::*;
    use crate::call::{Caller, frame};
    use crate::names::text;

    fn partition(index: i32, version: i16) -> PartitionData {
        let aborted = AbortedTransaction::default().with_producer_id(ProducerId(9)).with_first_offset(4);
        let partition = PartitionData::default()
            .with_partition_index(index)
            .with_error_code(3)
            .with_high_watermark(70)
            .with_last_stable_offset(60)
            .with_aborted_transactions((index > 0).then(|| vec![aborted]));
        if version >= 5 { partition.with_log_start_offset(5) } else { partition }
    }

    #[tokio::test]
    async fn pieces_are_the_frame_that_the_protocol_asks_for() {
        let sizes: [&[usize]; 4] = [&[], &[1], &[126, 1, 300], &[20_000]];
        for version in 4..=18 {
            let by_id = version >= 13;
            let caller = Caller::somebody(version);
            let call = Call { key: ApiKey::Fetch, correlation: 77, caller, body: Bytes::new() };
            let response = FetchResponse::default().with_throttle_time_ms(8);
            let response = match version {
                7.. => response.with_error_code(2).with_session_id(7),
                _ => response,
            };
            let (mut topics, mut whole) = (Vec::new(), Vec::new());
            for (number, name) in ["a", "topic"].into_iter().enumerate() {
                let id = Uuid::from_u128(number as u128 + 1);
                let (mut parts, mut wholes) = (Vec::new(), Vec::new());
                for (index, sizes) in sizes.iter().enumerate().skip(number) {
                    let records: Vec<_> = sizes.iter().map(|size| Bytes::from(vec![index as u8; *size])).collect();
                    let partition = partition(index as i32, version);
                    wholes.push(partition.clone().with_records(Some(records.concat().into())));
                    parts.push((partition, records.into_iter().map(Records::Bytes).collect()));
                }
                let named = if by_id { Named::Id(id) } else { Named::Name(name.into()) };
                topics.push((named, parts));
                let topic = FetchableTopicResponse::default().with_partitions(wholes);
                let topic = match by_id {
                    true => topic.with_topic_id(id),
                    false => topic.with_topic(TopicName(text(name))),
                };
                whole.push(topic);
            }
            let expected = frame(ApiKey::Fetch, version, 77, &response.clone().with_responses(whole)).unwrap();
            let told = pieces(&call, &response, topics).unwrap();
            let told = told.iter().map(|piece| match piece {
                Records::Bytes(bytes) => &bytes[..],
                Records::File(_) => panic!("there is no file"),
            });
            assert_eq!(told.collect::<Vec<_>>().concat(), expected, "version {version}");
        }
    }
}
