//! What the sink does when the network or the server misbehaves.

use aqueduct_api::Error;
use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services;
use reqwest::Method;
use serde_json::json;

use crate::world::{World, both, values, ways};

#[tokio::test]
async fn a_lost_answer_makes_no_second_document_and_no_dead_letter() {
    for (name, search) in both().await {
        for way in ways() {
            let network = Network::before(&search.endpoint).await;
            let mut world = World::new(&search, way);
            world.settings["url"] = json!(network.endpoint);
            let script = Script::new("t", 0).batch(0, 100);
            network.harm("POST", "_bulk", Fault::LoseAnswer, 2);
            assert_eq!(deliver(&*world.sink().await, &mut [script.chunk()]).await, [], "{name}");
            assert_eq!(network.suffered(), 2, "{name}");
            script.expect(&world, 0..100).await;
        }
    }
}

#[tokio::test]
async fn a_busy_server_is_tried_again_later() {
    let search = services::opensearch().await;
    for (status, reason) in [(503, "503"), (429, "429"), (500, "500"), (502, "502")] {
        let network = Network::before(&search.endpoint).await;
        let mut world = World::new(&search, json!({}));
        world.settings["url"] = json!(network.endpoint);
        network.harm("POST", "_bulk", Fault::Answer(status, "Busy"), 1);
        let (script, sink) = (Script::new("t", 0).batch(0, 10), world.sink().await);
        let written = sink.write(&mut [script.chunk()]).await;
        assert!(
            matches!(&written, Err(Error::Retry { cause, .. }) if cause.to_string().contains(reason)),
            "{written:?}"
        );
        deliver(&*sink, &mut [script.again()]).await;
        script.expect(&world, 0..10).await;
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_halves() {
    let search = services::opensearch().await;
    let network = Network::before(&search.endpoint).await;
    let mut world = World::new(&search, json!({}));
    world.settings["url"] = json!(network.endpoint);
    network.harm("POST", "_bulk", Fault::Answer(413, "TooLarge"), 3);
    let script = Script::new("t", 0).batch(0, 100);
    assert_eq!(deliver(&*world.sink().await, &mut [script.chunk()]).await, []);
    script.expect(&world, 0..100).await;
    let bulks = network.requests().iter().filter(|request| request.contains("_bulk")).count();
    // The whole, its first half, and a quarter are too large.
    assert_eq!(bulks, 7, "{:?}", network.requests());
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let search = services::opensearch().await;
    let world = World::new(&search, json!({ "url": ["http://127.0.0.1:9", search.endpoint, "http://127.0.0.1:19"] }));
    let sink = world.sink().await;
    for start in [0, 20, 40, 60] {
        let outcome = sink.write(&mut [Script::new("t", start).batch(0, 10).chunk()]).await.unwrap();
        assert!(outcome.unfinished.is_empty() && outcome.rejected.is_empty(), "{outcome:?}");
    }
    assert_eq!(world.documents().await.len(), 40);
    let world = World::new(&search, json!({ "url": "http://127.0.0.1:9" }));
    let written = world.sink().await.write(&mut [values(&["{}"]).chunk()]).await;
    assert!(
        matches!(&written, Err(Error::Retry { cause, .. }) if cause.to_string().contains("127.0.0.1:9")),
        "{written:?}"
    );
}

#[tokio::test]
async fn what_a_full_queue_turns_away_is_sent_again_alone() {
    let search = services::narrow_opensearch().await;
    let more = json!({ "request-records": 20, "concurrency": 32, "gzip": false });
    let world = World::new(&search, more);
    world.make(json!({ "settings": { "number_of_shards": 5, "number_of_replicas": 0 } })).await;
    let sink = world.sink().await;
    let scripts: Vec<Script> = (0..8).map(|partition| Script::new("t", partition).batch(0, 2000)).collect();
    let mut turned_away = 0;
    let deliveries = scripts.iter().map(|script| {
        let sink = &sink;
        async move {
            let (mut chunks, mut turned_away) = ([script.chunk()], 0);
            loop {
                match sink.write(&mut chunks).await {
                    Ok(outcome) => {
                        assert_eq!(outcome.rejected, []);
                        chunks[0].ranges = outcome.unfinished.into_iter().map(|(_, range)| range).collect();
                    }
                    Err(Error::Retry { cause, .. }) => assert!(cause.to_string().contains("reject"), "{cause}"),
                    Err(error) => panic!("{error}"),
                }
                if chunks[0].ranges.is_empty() {
                    return turned_away;
                }
                turned_away += 1;
                chunks[0].redelivered = true;
            }
        }
    });
    turned_away += futures::future::join_all(deliveries).await.into_iter().sum::<usize>();
    assert!(turned_away > 0, "the queue was never full");
    assert_eq!(world.documents().await.len(), 16_000);
}

#[tokio::test]
async fn a_read_only_index_is_waited_for() {
    for (name, search) in both().await {
        for block in ["index.blocks.write", "index.blocks.read_only_allow_delete"] {
            let world = World::new(&search, json!({}));
            world.make(json!({})).await;
            world.set(json!({ block: true })).await;
            let (script, sink) = (values(&["{}", "{}"]), world.sink().await);
            let written = sink.write(&mut [script.chunk()]).await;
            let told = matches!(&written, Err(Error::Retry { cause, .. }) if cause.to_string().contains("blocked by"));
            assert!(told, "{name}: {written:?}");
            world.set(json!({ block: null })).await;
            assert_eq!(deliver(&*sink, &mut [script.again()]).await, []);
            assert_eq!(world.documents().await.len(), 2, "{name}");
        }
    }
}

#[tokio::test]
async fn what_a_person_must_mend_stops_the_sink() {
    for (name, search) in both().await {
        let world = World::new(&search, json!({}));
        world.make(json!({})).await;
        assert_eq!(search.ask(Method::POST, &format!("{}/_close", world.index("t")), None).await.0, 200);
        let missing = World::new(&search, json!({ "pipeline": "no-such-pipeline" }));
        for (world, part) in [(world, "closed"), (missing, "no-such-pipeline")] {
            let written = world.sink().await.write(&mut [values(&["{}"]).chunk()]).await;
            let told = matches!(&written, Err(Error::Fatal { cause }) if cause.to_string().contains(part));
            assert!(told, "{name} {part}: {written:?}");
        }
    }
}
