//! The sink for objects on real S3 servers: what it must do, and what it does when the network or the server misbehaves.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod inward;
mod marks;
mod world;

use std::time::Duration;

use aqueduct_api::Error;
use aqueduct_api::conformance::sink;
use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services::{self, S3};
use serde_json::json;

use world::{World, both, large};

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
        ("POST", "uploads", 400, "ExpiredToken"),
        ("PUT", "partNumber=2", 400, "ExpiredToken"),
        ("POST", "uploadId", 400, "ExpiredToken"),
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
        // It is aborted beside whatever comes next.
        for _ in 0..200 {
            if world.bucket.uploads().await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.expect_one(&text).await;
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_in_the_middle_of_an_upload_is_asked_again() {
    let s3 = services::s3().await;
    let network = Network::before(&s3.endpoint).await;
    let world = World::new(&s3, json!({ "endpoint": network.endpoint })).await;
    let (script, text) = large(12);
    // Once each: a part, and what makes the object visible. Their time-out is a minute and what a part takes.
    network.harm("PUT", "partNumber=2", Fault::Swallow, 1);
    sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
    assert_eq!(network.suffered(), 1, "{:?}", network.requests());
    world.expect_one(&text).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_when_an_upload_is_completed_has_one_object_in_the_end() {
    let both = both().await;
    // It never hears of the request, or does what is asked and does not say so: the client gives up after a minute.
    let silences = [Fault::Swallow, Fault::Delay(Duration::from_secs(3600))];
    let cases = both.iter().flat_map(|(name, s3)| silences.iter().map(move |silence| (name, s3, silence)));
    let check = async |(name, s3, silence): (&&str, &S3, &Fault)| {
        let network = Network::before(&s3.endpoint).await;
        let world = World::new(s3, json!({ "endpoint": network.endpoint })).await;
        let (script, text) = large(12);
        network.harm("POST", "uploadId", silence.clone(), 1);
        let written = world.sink().await.unwrap().write(&mut [script.chunk()]).await;
        assert!(matches!(written, Err(Error::Retry { .. })), "{name} {silence:?}: {written:?}");
        assert_eq!(network.suffered(), 1, "{name} {silence:?}: {:?}", network.requests());
        let there = world.bucket.list().await.len();
        assert_eq!(there, usize::from(*silence != Fault::Swallow), "{name} {silence:?}");
        sink::deliver(&*world.sink().await.unwrap(), &mut [script.again()]).await;
        world.expect_one(&text).await;
    };
    futures::future::join_all(cases.map(check)).await;
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
