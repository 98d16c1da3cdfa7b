//! The sink for documents on real servers: what it must do, and what it does when documents, the network or the server
//! misbehave.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod faults;
mod keys;
mod rejections;
mod streams;
mod world;

use aqueduct_api::conformance::sink;
use aqueduct_tests::services;
use reqwest::Method;
use serde_json::{Value, json};

use world::{World, both, ways};

#[tokio::test]
async fn opensearch_gets_what_every_sink_must_write() {
    for way in ways() {
        sink::all(&World::new(&services::opensearch().await, way)).await;
    }
}

#[tokio::test]
async fn elasticsearch_gets_what_every_sink_must_write() {
    for way in ways() {
        sink::all(&World::new(&services::elasticsearch().await, way)).await;
    }
}

#[tokio::test]
async fn a_probe_names_product_and_version_and_changes_nothing() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({ "index": "{topic}" }));
        let told = world.probe().await.unwrap();
        let version = if name == "opensearch" { "OpenSearch " } else { "8." };
        assert!(told[0].contains(version), "{name}: {told:?}");
        let mut world = World::new(&search, json!({}));
        world.settings["index"] = json!(world.index("t"));
        let told = world.probe().await.unwrap();
        assert!(told[1].contains("is not there"), "{name}: {told:?}");
        assert_eq!(world.search.documents(&world.index("t")).await, [] as [Value; 0]);
        assert_eq!(search.ask(Method::HEAD, &world.index("t"), None).await.0, 404, "{name}");
    }
    let world = World::new(&services::opensearch().await, json!({ "url": "http://127.0.0.1:9" }));
    assert!(world.probe().await.is_err_and(|error| error.is_retry()));
}
