//! A bare client of Kafka's protocol: as many connections as one likes, without a JVM behind each.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use aqueduct_api::Edge;
use aqueduct_record::BatchBuilder;

/// The newest versions that name topics, not their ids.
const FETCH: i16 = 12;
const PRODUCE: i16 = 12;

/// A connection with one request at a time.
pub(crate) struct Client {
    stream: TcpStream,
    number: i32,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: &str) -> Self {
        Client { stream: TcpStream::connect(address).await.expect("a broker that listens"), number: 0 }
    }

    /// Writes a record of 100 bytes to each of the first partitions.
    pub(crate) async fn produce(&mut self, topic: &str, partitions: i32) {
        // Of today: retention would delete older ones in the middle of what is measured.
        let mut batch = BatchBuilder::new();
        batch.push(Edge::real().now(), None, Some(&[b'x'; 100]), &[]);
        let batch = batch.finish().bytes().clone();
        let data = |partition| {
            let records = Some(batch.clone());
            PartitionProduceData::default().with_index(partition).with_records(records)
        };
        let data =
            TopicProduceData::default().with_name(name(topic)).with_partition_data((0..partitions).map(data).collect());
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
        let response = self.ask(PRODUCE, &request).await;
        let mut told = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        assert!(told.all(|told| told.error_code == 0), "{response:?}");
    }

    /// Asks for what partitions have from an offset on, by name and without a session; waits for a byte so long.
    pub(crate) async fn fetch(&mut self, topic: &str, partitions: &[i32], from: i64, wait: i32) -> FetchResponse {
        let wanted = |partition: &i32| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(from)
                .with_partition_max_bytes(1 << 20)
        };
        let topic =
            FetchTopic::default().with_topic(name(topic)).with_partitions(partitions.iter().map(wanted).collect());
        let request = FetchRequest::default()
            .with_max_wait_ms(wait)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        self.ask(FETCH, &request).await
    }

    async fn ask<R: Request + Encodable>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Decodable,
    {
        self.number += 1;
        let key = ApiKey::try_from(R::KEY).expect("a known API");
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.number)
            .with_client_id(Some(StrBytes::from_static_str("aqueduct-bench")));
        let mut body = BytesMut::new();
        header.encode(&mut body, key.request_header_version(version)).expect("a header");
        request.encode(&mut body, version).expect("a request");
        let mut frame = BytesMut::with_capacity(body.len() + 4);
        frame.put_u32(body.len() as u32);
        frame.put(body);
        self.stream.write_all(&frame).await.expect("a connection that lasts");
        let length = self.stream.read_u32().await.expect("an answer");
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer).await.expect("an answer");
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, key.response_header_version(version)).expect("a header");
        R::Response::decode(&mut answer, version).expect("an answer to what was asked")
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
