//! A sink and the bucket that it writes to.

use aqueduct_api::conformance::sink::{Script, SinkWorld, Written};
use aqueduct_api::{
    ByteSize, DeadLetter, Edge, Registry, Result, Sink, SinkConnector, SinkOpening, Source, SourceOpening,
    SourceSettings as _, TopicPartition,
};
use aqueduct_record::BatchBuilder;
use aqueduct_s3::{S3Settings, S3SourceSettings};
use aqueduct_tests::services::{self, Bucket, S3};
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A bucket and the way to it.
pub(crate) struct World {
    pub(crate) bucket: Bucket,
    settings: Value,
    scratch: TempDir,
}

impl World {
    pub(crate) async fn new(s3: &S3, more: Value) -> World {
        World::over(s3, s3.bucket("sink").await, more)
    }

    /// A bucket that was made otherwise.
    pub(crate) fn over(s3: &S3, bucket: Bucket, more: Value) -> World {
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
    pub(crate) async fn sink(&self) -> Result<Box<dyn Sink>> {
        connector().open(self.settings.clone(), self.opening()).await
    }

    /// One whose objects are in another folder of the bucket.
    pub(crate) async fn sink_at(&self, folder: &str) -> Result<Box<dyn Sink>> {
        let mut settings = self.settings.clone();
        settings["url"] = json!(format!("s3://{}/{folder}", self.bucket.name));
        connector().open(settings, self.opening()).await
    }

    pub(crate) async fn probe(&self) -> Result<Vec<String>> {
        connector().probe(self.settings.clone(), self.opening()).await
    }

    /// Checks that the bucket holds nothing but the script's lines in one object, and no upload that was begun.
    pub(crate) async fn expect_one(&self, text: &str) {
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

/// Two servers of different make.
pub(crate) async fn both() -> [(&'static str, S3); 2] {
    [("minio", services::s3().await), ("versity", services::versity().await)]
}

/// A chunk of `count` lines of a MiB each, and what its object must hold.
pub(crate) fn large(count: i64) -> (Script, String) {
    large_of("large", count)
}

/// One of topic `topic`.
pub(crate) fn large_of(topic: &str, count: i64) -> (Script, String) {
    let (mut script, mut text) = (Script::new(topic, 0), String::new());
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

/// A source of all that a bucket holds under `in/`, once.
pub(crate) async fn source(bucket: &Bucket, more: Value) -> Box<dyn Source> {
    let mut settings = json!({
        "url": format!("s3://{}/in", bucket.name),
        "endpoint": bucket.s3.endpoint,
        "allow-http": true,
        "region": bucket.s3.region,
        "access-key-id": bucket.s3.access_key,
        "secret-access-key": bucket.s3.secret_key,
        "once": true,
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let settings: S3SourceSettings = serde_json::from_value(settings).unwrap();
    let opening = SourceOpening {
        name: "in".into(),
        folder: "/".into(),
        edge: Edge::real(),
        positions: Vec::new(),
        batch: ByteSize::mib(1),
        largest: ByteSize::mib(20),
    };
    settings.open(opening).await.unwrap()
}

/// What a source hands over: key of the object, if it is told, and value of each record; and dead letters.
pub(crate) async fn all_of(source: &mut dyn Source) -> (Vec<(String, String)>, Vec<DeadLetter>) {
    let (mut records, mut letters) = (Vec::new(), Vec::new());
    loop {
        let incoming = match source.read().await {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return (records, letters),
            // The engine tries again, too.
            Err(error) => {
                assert!(error.is_retry(), "{error}");
                continue;
            }
        };
        letters.extend(incoming.dead_letter);
        if incoming.records.is_empty() {
            continue;
        }
        for record in incoming.records.finish().records().unwrap().iter() {
            let record = record.unwrap();
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let key = record.headers.iter().find(|(name, _)| *name == "key").map(|(_, value)| text(value));
            records.push((key.unwrap_or_default(), text(record.value)));
        }
    }
}
