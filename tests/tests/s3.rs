//! The sink for objects on real S3 servers: what it must do, and what it does when the network or the server misbehaves.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::time::Duration;

use aqueduct_api::conformance::sink::{self, Script, SinkWorld, Written};
use aqueduct_api::{Edge, Error, Registry, Result, Sink, SinkConnector, SinkOpening, TopicPartition};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::S3Settings;
use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services::{self, Bucket, S3};
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A bucket and the way to it.
struct World {
    bucket: Bucket,
    settings: Value,
    scratch: TempDir,
}

impl World {
    async fn new(s3: &S3, more: Value) -> World {
        let bucket = s3.bucket("sink").await;
        let mut settings = json!({
            "url": format!("s3://{}/raw/events", bucket.name),
            "endpoint": s3.endpoint,
            "allow-http": true,
            "region": s3.region,
            "access-key-id": s3.access_key,
            "secret-access-key": s3.secret_key,
            "path": "{topic}",
            "part-size": "5 MiB",
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        World { bucket, settings, scratch: tempfile::tempdir().unwrap() }
    }

    fn opening(&self) -> SinkOpening {
        SinkOpening {
            name: "lake".to_owned(),
            folder: self.scratch.path().to_owned(),
            scratch: self.scratch.path().to_owned(),
            edge: Edge::real(),
        }
    }

    /// Opens a sink as the engine does: from a registry, by untyped settings.
    async fn sink(&self) -> Result<Box<dyn Sink>> {
        connector().open(self.settings.clone(), self.opening()).await
    }

    async fn probe(&self) -> Result<Vec<String>> {
        connector().probe(self.settings.clone(), self.opening()).await
    }

    /// Checks that the bucket holds nothing but the script's lines in one object, and no upload that was begun.
    async fn expect_one(&self, text: &str) {
        let objects = self.bucket.objects().await;
        assert_eq!(objects.len(), 1, "{:?}", objects.iter().map(|(key, _)| key).collect::<Vec<_>>());
        assert!(objects[0].1 == text.as_bytes(), "{}: {} of {} bytes", objects[0].0, objects[0].1.len(), text.len());
        assert_eq!(self.bucket.uploads().await, []);
    }
}

fn connector() -> Box<dyn SinkConnector> {
    Registry::default().sink::<S3Settings>().sinks.remove("s3").unwrap()
}

#[async_trait]
impl SinkWorld for World {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        self.sink().await
    }

    async fn written(&self) -> Vec<Written> {
        let mut written = Vec::new();
        for (key, bytes) in self.bucket.objects().await {
            let name = key.rsplit('/').next().unwrap();
            let mut parts = name.split('+');
            let partition = TopicPartition::new(parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
            for line in String::from_utf8(bytes).unwrap().lines() {
                let (value, headers) = match self.settings["format"].as_str() {
                    Some("records") => {
                        let record: Value = serde_json::from_str(line).unwrap();
                        let headers = record["headers"].as_array().cloned().unwrap_or_default();
                        let name = |header: &Value| header.to_string();
                        (record["value"].as_str().unwrap().to_owned(), headers.iter().map(name).collect())
                    }
                    _ => (line.to_owned(), Vec::new()),
                };
                written.push(Written { partition: partition.clone(), value: value.into_bytes(), headers });
            }
        }
        written
    }

    fn rejects(&self) -> Option<Option<&'static [u8]>> {
        match self.settings["format"].as_str() {
            Some("json-lines") => Some(Some(b"{not json")),
            Some("lines") => Some(None),
            _ => None,
        }
    }
}

async fn both() -> [(&'static str, S3); 2] {
    [("minio", services::s3().await), ("versity", services::versity().await)]
}

#[tokio::test]
async fn minio_gets_what_every_sink_must_write() {
    for format in ["lines", "json-lines", "records"] {
        sink::all(&World::new(&services::s3().await, json!({ "format": format })).await).await;
    }
}

#[tokio::test]
async fn versity_gets_what_every_sink_must_write() {
    for format in ["lines", "json-lines", "records"] {
        sink::all(&World::new(&services::versity().await, json!({ "format": format })).await).await;
    }
}

/// A chunk of `count` lines of a MiB each, and what its object must hold.
fn large(count: i64) -> (Script, String) {
    let (mut script, mut text) = (Script::new("large", 0), String::new());
    for offset in 0..count {
        let value = format!("{offset} {}", "y".repeat(1 << 20));
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(value.as_bytes()), &[]);
        script = script.raw(offset, builder);
        text += &value;
        text.push('\n');
    }
    (script, text)
}

#[tokio::test]
async fn a_large_chunk_is_uploaded_in_parts() {
    for (_, s3) in both().await {
        let world = World::new(&s3, json!({})).await;
        let (script, text) = large(12);
        sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
        world.expect_one(&text).await;
        sink::deliver(&*world.sink().await.unwrap(), &mut [script.again()]).await;
        world.expect_one(&text).await;
    }
}

#[tokio::test]
async fn two_owners_of_a_large_chunk_write_the_same() {
    for (_, s3) in both().await {
        let world = World::new(&s3, json!({})).await;
        let (script, text) = large(8);
        let (one, two) = (world.sink().await.unwrap(), world.sink().await.unwrap());
        let (mut first, mut second) = ([script.chunk()], [script.chunk()]);
        futures::join!(sink::deliver(&*one, &mut first), sink::deliver(&*two, &mut second));
        assert!(world.bucket.objects().await[0].1 == text.as_bytes());
    }
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_object() {
    for (name, s3) in both().await {
        // The upload's last request is a POST, a part and a whole object are PUTs.
        for (count, method, part) in [(2, "PUT", "large"), (12, "PUT", "partNumber=2"), (12, "POST", "uploadId")] {
            // The first is bridged by the client, the second by whoever offers the chunk again.
            for times in [1, 4] {
                let network = Network::before(&s3.endpoint).await;
                let world = World::new(&s3, json!({ "endpoint": network.endpoint })).await;
                let (script, text) = large(count);
                network.harm(method, part, Fault::LoseAnswer, times);
                sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
                assert!(network.suffered() > 0, "{name} {part}: nothing was lost: {:?}", network.requests());
                world.expect_one(&text).await;
            }
        }
    }
}

#[tokio::test]
async fn a_busy_server_is_tried_again_later() {
    let s3 = services::s3().await;
    for (status, code) in
        [(503, "SlowDown"), (500, "InternalError"), (403, "RequestTimeTooSkewed"), (400, "ExpiredToken")]
    {
        let network = Network::before(&s3.endpoint).await;
        let world = World::new(&s3, json!({ "endpoint": network.endpoint })).await;
        let (script, text) = large(2);
        network.harm("PUT", "large", Fault::Answer(status, code), 3);
        let sink = world.sink().await.unwrap();
        let refused = sink.write(&mut [script.chunk()]).await;
        match refused {
            Err(Error::Retry { .. }) => {}
            other => panic!("{status} {code}: {other:?}"),
        }
        sink::deliver(&*sink, &mut [script.again()]).await;
        world.expect_one(&text).await;
    }
}

#[tokio::test]
async fn an_upload_in_parts_outlives_what_a_busy_server_answers() {
    let s3 = services::s3().await;
    for (method, part, status, code) in [
        ("POST", "uploads", 503, "SlowDown"),
        ("PUT", "partNumber=2", 503, "SlowDown"),
        ("PUT", "partNumber=1", 400, "RequestTimeout"),
        ("POST", "uploadId", 503, "SlowDown"),
        // An answer that begins as a good one, and then tells otherwise.
        ("POST", "uploadId", 200, "InternalError"),
        ("POST", "uploadId", 200, "SlowDown"),
    ] {
        for times in [1, 4] {
            let network = Network::before(&s3.endpoint).await;
            let world = World::new(&s3, json!({ "endpoint": network.endpoint })).await;
            let (script, text) = large(12);
            network.harm(method, part, Fault::Answer(status, code), times);
            let sink = world.sink().await.unwrap();
            match sink.write(&mut [script.chunk()]).await {
                Ok(_) | Err(Error::Retry { .. }) => {}
                other => panic!("{method} {part} {status} {code}: {other:?}"),
            }
            assert!(network.suffered() > 0, "{method} {part}: {:?}", network.requests());
            sink::deliver(&*sink, &mut [script.again()]).await;
            world.expect_one(&text).await;
        }
    }
}

#[tokio::test]
async fn a_store_without_conditional_put_is_written_all_the_same() {
    let s3 = services::s3().await;
    let network = Network::before(&s3.endpoint).await;
    let world = World::new(&s3, json!({ "endpoint": network.endpoint })).await;
    let (script, text) = large(1);
    network.harm("PUT", "large", Fault::Answer(501, "NotImplemented"), 1);
    sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
    assert_eq!(network.suffered(), 1);
    world.expect_one(&text).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_is_aborted() {
    for (_, s3) in both().await {
        let network = Network::before(&s3.endpoint).await;
        let world = World::new(&s3, json!({ "endpoint": network.endpoint })).await;
        let (script, text) = large(12);
        let sink = world.sink().await.unwrap();
        // Dropped in the middle of its parts, as the engine drops what takes too long. None of them reaches the server:
        // a part that arrives while its upload is aborted may bring it back, says S3's manual.
        network.harm("PUT", "partNumber", Fault::Swallow, 100);
        let mut chunk = [script.chunk()];
        let write = sink.write(&mut chunk);
        tokio::select! {
            written = write => panic!("written though a part is on its way: {written:?}"),
            () = until(|| network.suffered() > 0) => {}
        }
        network.heal();
        assert_eq!(world.bucket.uploads().await.len(), 1);
        sink::deliver(&*world.sink().await.unwrap(), &mut [script.again()]).await;
        world.expect_one(&text).await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_object_of_somebody_else_is_never_written_over() {
    for (name, s3) in both().await {
        let world = World::new(&s3, json!({})).await;
        let (script, _) = large(1);
        sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
        let (key, _) = world.bucket.list().await.remove(0);
        world.bucket.put(&key, b"somebody else's").await;
        let answer = world.sink().await.unwrap().write(&mut [script.chunk()]).await;
        match answer {
            Err(Error::Fatal { cause }) => assert!(cause.to_string().contains(&key), "{name}: {cause}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(world.bucket.read(&key).await, b"somebody else's", "{name}");
    }
}

#[tokio::test]
async fn what_a_person_must_mend_is_told_with_its_name() {
    for (name, s3) in both().await {
        for (wrong, expected) in [
            (json!({ "url": "s3://no-such-bucket/raw" }), "bucket `no-such-bucket`"),
            (json!({ "secret-access-key": "wrong" }), "credentials"),
            (json!({ "access-key-id": "nobody" }), "credentials"),
        ] {
            let world = World::new(&s3, wrong.clone()).await;
            let (script, _) = large(1);
            let written = world.sink().await.unwrap().write(&mut [script.chunk()]).await.map(drop);
            // The gateway answers 404 to a key that it does not know; an answer to HEAD has no body that says more.
            let blind = name == "versity" && wrong["access-key-id"] == "nobody";
            for answer in [written, world.probe().await.map(drop)] {
                match answer {
                    Err(Error::Fatal { cause }) => {
                        let cause = cause.to_string();
                        let is_told = cause.contains(expected) || blind && cause.contains("does not exist");
                        assert!(is_told, "{name} {wrong}: {cause}")
                    }
                    other => panic!("{name} {wrong}: {other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again() {
    let s3 = services::s3().await;
    let world = World::new(&s3, json!({ "endpoint": "http://127.0.0.1:9" })).await;
    let answer = world.sink().await.unwrap().write(&mut [large(1).0.chunk()]).await;
    assert!(matches!(answer, Err(Error::Retry { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_probe_leaves_nothing() {
    for (name, s3) in both().await {
        let world = World::new(&s3, json!({})).await;
        world.probe().await.unwrap_or_else(|cause| panic!("{name}: {cause}"));
        assert_eq!(world.bucket.list().await, []);
        assert_eq!(world.bucket.uploads().await, []);
    }
}

#[tokio::test]
async fn objects_have_the_tags_and_the_storage_class_of_the_settings() {
    let s3 = services::s3().await;
    let more = json!({"tags": {"team": "data + logs"}, "storage-class": "REDUCED_REDUNDANCY", "format": "parquet"});
    let world = World::new(&s3, more).await;
    let sink = world.sink().await.unwrap();
    // Put whole, and in parts.
    let value = |offset: i64| json!({"n": offset, "text": random_text(offset as u64)}).to_string();
    for (topic, count) in [("small", 1), ("parts", 12)] {
        let mut script = Script::new(topic, 0);
        for offset in 0..count {
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(value(offset).as_bytes()), &[]);
            script = script.raw(offset, builder);
        }
        assert!(sink::deliver(&*sink, &mut [script.chunk()]).await.is_empty());
    }
    let objects = world.bucket.list().await;
    assert_eq!(objects.len(), 2);
    for (key, _) in objects {
        let tags = world.bucket.request(reqwest::Method::GET, &key, &[("tagging", "")], Vec::new()).await;
        let tags = tags.text().await.unwrap();
        assert!(tags.contains("<Key>team</Key><Value>data + logs</Value>"), "{key}: {tags}");
        let head = world.bucket.request(reqwest::Method::GET, &key, &[], Vec::new()).await;
        assert_eq!(head.headers()["x-amz-storage-class"], "REDUCED_REDUNDANCY", "{key}");
    }
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_that_there_are() {
    let s3 = services::s3().await;
    let role = |secret: &str| {
        json!({
            "role": {"arn": "arn:xxx:xxx:xxx:xxxx", "endpoint": s3.endpoint, "external-id": "a b"},
            "secret-access-key": secret,
        })
    };
    let world = World::new(&s3, role(&s3.secret_key)).await;
    let (script, text) = large(1);
    sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
    world.expect_one(&text).await;
    let world = World::new(&s3, role("wrong")).await;
    let answer = world.sink().await.unwrap().write(&mut [script.chunk()]).await.map(drop);
    let told = format!("{answer:?}");
    assert!(told.contains("assume role arn:xxx:xxx:xxx:xxxx"), "{told}");
}

/// A MiB of text that does not compress, the same for the same seed.
fn random_text(seed: u64) -> String {
    let mut state = seed + 1;
    let digits = (0..1 << 16).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    });
    digits.collect()
}
