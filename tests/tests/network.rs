//! The network that loses answers, on a real server.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::time::{Duration, Instant};

use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services::{self, S3};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, RetryConfig};

/// A client that tries once.
fn once(s3: &S3, bucket: &str) -> impl object_store::ObjectStore {
    let builder = object_store::aws::AmazonS3Builder::new();
    let builder = builder.with_endpoint(&s3.endpoint).with_allow_http(true).with_region(&s3.region);
    let builder = builder.with_access_key_id(&s3.access_key).with_secret_access_key(&s3.secret_key);
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    builder.with_bucket_name(bucket).with_retry(retry).build().unwrap()
}

#[tokio::test]
async fn each_fault_does_what_it_says() {
    let s3 = services::s3().await;
    let bucket = s3.bucket("network").await;
    let network = Network::before(&s3.endpoint).await;
    let store = once(&S3 { endpoint: network.endpoint.clone(), ..s3.clone() }, &bucket.name);
    for (key, fault, answered, happened) in [
        ("fine", None, true, true),
        ("lost-answer", Some(Fault::LoseAnswer), false, true),
        ("lost-request", Some(Fault::LoseRequest), false, false),
        ("slow-down", Some(Fault::Answer(503, "SlowDown")), false, false),
        ("late", Some(Fault::Delay(Duration::from_millis(200))), true, true),
    ] {
        let harmed = usize::from(fault.is_some());
        let before = network.suffered();
        if let Some(fault) = fault {
            network.harm("PUT", key, fault, 1);
        }
        let begun = Instant::now();
        let answer = store.put(&Path::from(key), vec![7; 3 << 20].into()).await;
        assert_eq!(answer.is_ok(), answered, "{key}: {answer:?}");
        assert_eq!(network.suffered() - before, harmed, "{key}");
        assert_eq!(bucket.list().await.iter().any(|(listed, _)| listed == key), happened, "{key}");
        assert!(key != "late" || begun.elapsed() >= Duration::from_millis(200));
        assert!(store.put(&Path::from(key), "again".into()).await.is_ok(), "{key}: harm is done as often as asked");
    }
    assert_eq!(network.requests().len(), 10);
}
