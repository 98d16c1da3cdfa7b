//! Data streams: documents are only ever created, and the index behind the name changes.

use aqueduct_api::Error;
use aqueduct_api::conformance::sink::{self, Script, deliver};
use aqueduct_tests::services;
use reqwest::Method;
use serde_json::json;

use crate::world::{World, values};

/// A world whose indices are data streams; the pipeline gives documents the time that these must have.
async fn streams() -> World {
    let search = services::opensearch().await;
    let world = World::new(&search, json!({ "operation": "create" }));
    let template = json!({ "index_patterns": [format!("{}-*", world.prefix)], "data_stream": {}, "priority": 500 });
    let path = format!("_index_template/{}", world.prefix);
    assert_eq!(search.ask(Method::PUT, &path, Some(template)).await.0, 200);
    let set = json!({ "processors": [{ "set": { "field": "@timestamp", "value": "2026-01-01T00:00:00Z" } }] });
    let path = format!("_ingest/pipeline/{}", world.prefix);
    assert_eq!(search.ask(Method::PUT, &path, Some(set)).await.0, 200);
    let settings = json!({ "pipeline": world.prefix });
    let mut world = world;
    world.settings.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    world
}

#[tokio::test]
async fn data_streams_get_what_every_sink_must_write() {
    sink::all(&streams().await).await;
}

#[tokio::test]
async fn a_data_stream_that_rolled_over_gets_no_document_twice() {
    let world = streams().await;
    let (first, sink) = (Script::new("t", 0).batch(0, 50), world.sink().await);
    let mut part = first.chunk();
    part.ranges = vec![0..20; 1];
    deliver(&*sink, &mut [part]).await;
    let (status, answer) = world.search.ask(Method::POST, &format!("{}/_rollover", world.index("t")), None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(deliver(&*sink, &mut [first.again()]).await, []);
    first.expect(&world, 0..50).await;
    assert_eq!(deliver(&*sink, &mut [first.again()]).await, []);
    first.expect(&world, 0..50).await;
}

#[tokio::test]
async fn a_data_stream_takes_created_documents_alone() {
    let mut world = streams().await;
    deliver(&*world.sink().await, &mut [values(&["{}"]).chunk()]).await;
    world.settings["operation"] = json!("index");
    let written = world.sink().await.write(&mut [values(&["{}"]).chunk()]).await;
    assert!(matches!(&written, Err(Error::Fatal { cause }) if cause.to_string().contains("create")), "{written:?}");
    world.settings["index"] = json!(world.index("t"));
    let probed = world.probe().await;
    assert!(matches!(&probed, Err(Error::Fatal { cause }) if cause.to_string().contains("data stream")), "{probed:?}");
}
