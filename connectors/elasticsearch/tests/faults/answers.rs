//! Answers that can not be trusted: whatever they say, each document is there once in the end, and none is rejected for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aqueduct_api::Error;
use aqueduct_api::conformance::sink::deliver;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};

use crate::mock::{Mock, Reply, Seen};
use crate::{again, numbered, sink, write};

/// How many documents each test writes, in requests of ten.
const COUNT: usize = 40;
/// The one that the cluster never takes.
const BAD: usize = 13;

/// A cluster that keeps documents by id and version, as a real one does.
#[derive(Default)]
struct Shelf {
    /// How often each was written, an older or equal version not counting.
    written: Mutex<BTreeMap<String, usize>>,
}

impl Shelf {
    /// Carries out the first `most` actions of a request; an item for each of them.
    fn take(&self, seen: &Seen, most: usize) -> Vec<Value> {
        let mut written = self.written.lock().unwrap();
        let actions = seen.actions();
        let take = actions.iter().take(most).map(|(kind, of)| {
            let id = of["_id"].as_str().unwrap().to_owned();
            if id.ends_with(&format!("+{BAD}")) {
                let error = json!({ "type": "mapper_parsing_exception", "reason": "no number" });
                return json!({ kind: { "_id": id, "status": 400, "error": error } });
            }
            if written.contains_key(&id) {
                let error = json!({ "type": "version_conflict_engine_exception", "reason": "it is there" });
                return json!({ kind: { "_id": id, "status": 409, "error": error } });
            }
            *written.entry(id.clone()).or_default() += 1;
            json!({ kind: { "_id": id, "status": 201 } })
        });
        take.collect()
    }

    fn all(&self, seen: &Seen) -> Vec<Value> {
        self.take(seen, usize::MAX)
    }
}

fn told(items: &[Value]) -> String {
    json!({ "errors": true, "items": items }).to_string()
}

/// Answers wrongly to the first three requests, as `wrong` says, and rightly from then on: what the cluster never takes is
/// rejected, and everything else is there once.
async fn check(name: &str, settings: Value, wrong: impl Fn(&Shelf, &Seen) -> Reply + Send + Sync + 'static) {
    let shelf = Arc::new(Shelf::default());
    let (shared, requests) = (shelf.clone(), AtomicUsize::new(0));
    let mock = Mock::new(move |seen| match requests.fetch_add(1, Ordering::Relaxed) {
        0..3 => wrong(&shared, seen),
        _ => Reply::new(200, told(&shared.all(seen))),
    })
    .await;
    let mut more = json!({ "request-records": 10 });
    more.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let sink = sink(&mock.url, more).await;
    assert_eq!(deliver(&*sink, &mut [numbered(COUNT)]).await, [(0, BAD as i64)], "{name}: what is rejected");
    let written = shelf.written.lock().unwrap();
    let expected: BTreeMap<String, usize> = (0..COUNT).filter(|n| *n != BAD).map(|n| (format!("t+0+{n}"), 1)).collect();
    assert_eq!(*written, expected, "{name}: what is there");
    assert!(mock.seen().len() > COUNT / 10, "{name}: no wrong answer was noticed");
}

#[tokio::test]
async fn whatever_a_wrong_answer_says_each_document_is_there_once() {
    let page = "<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>";
    check("html", json!({}), move |_, _| Reply::new(200, page)).await;
    check("html, and it was done", json!({}), move |shelf, seen| {
        shelf.all(seen);
        Reply::new(200, page)
    })
    .await;
    for status in [429, 500, 502, 503, 504] {
        check("html and a status", json!({}), move |_, _| Reply::new(status, page)).await;
    }
    check("an error in a 200", json!({}), |_, _| {
        Reply::new(200, r#"{"error":{"type":"node_closed","reason":"closing"},"status":500}"#)
    })
    .await;
    check("half of the JSON", json!({}), |shelf, seen| {
        let mut text = told(&shelf.all(seen));
        text.truncate(text.len() / 2);
        Reply::new(200, text)
    })
    .await;
    check("more behind the JSON", json!({}), |shelf, seen| Reply::new(200, told(&shelf.all(seen)) + "}")).await;
}

#[tokio::test]
async fn items_that_are_not_those_of_the_request_are_not_believed() {
    check("items for a part", json!({}), |shelf, seen| Reply::new(200, told(&shelf.take(seen, 4)))).await;
    check("one item more", json!({}), |shelf, seen| {
        let mut items = shelf.all(seen);
        items.insert(0, items[0].clone());
        // Where a proxy leaves the ids out, their number tells.
        items.iter_mut().for_each(|item| drop(item["index"].as_object_mut().unwrap().remove("_id")));
        Reply::new(200, told(&items))
    })
    .await;
    check("another order", json!({}), |shelf, seen| {
        let mut items = shelf.all(seen);
        items.reverse();
        Reply::new(200, told(&items))
    })
    .await;
    check("an item without a status", json!({}), |shelf, seen| {
        let mut items = shelf.take(seen, 9);
        items.push(json!({ "index": { "_id": seen.ids()[9] } }));
        Reply::new(200, told(&items))
    })
    .await;
    check("items that failed", json!({}), |_, seen| {
        let ids = seen.ids();
        seen.items(|n, kind| json!({ kind: { "_id": ids[n], "status": 500 } }))
    })
    .await;
}

#[tokio::test]
async fn items_beyond_those_of_the_request_are_not_kept() {
    let item = r#"{"index":{"status":201}}"#;
    let mock = Mock::new(move |_| Reply::new(200, format!(r#"{{"items":[{item},{item},{item},what follows"#))).await;
    again(write(&*sink(&mock.url, json!({})).await, numbered(2)).await, "more than 2 items");
}

/// A body without end; `sent` counts what of it was taken.
fn endless(piece: Bytes, pause: Duration, sent: Arc<AtomicUsize>) -> Body {
    // There is an end after all, so that a sink that reads on fails its test and not the machine.
    let pieces = stream::repeat(piece).take(4096).then(move |piece| {
        sent.fetch_add(piece.len(), Ordering::Relaxed);
        async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(piece)
        }
    });
    Body::from_stream(pieces)
}

#[tokio::test]
async fn an_answer_without_end_is_left_when_it_is_longer_than_any_answer() {
    let sent: Arc<AtomicUsize> = Arc::default();
    let count = sent.clone();
    check("endless", json!({ "concurrency": 1 }), move |shelf, seen| {
        shelf.all(seen);
        Reply::new(200, endless(Bytes::from(vec![b' '; 64 << 10]), Duration::ZERO, count.clone()))
    })
    .await;
    // Three answers of 4 MiB each, and what the sockets hold.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 48 << 20, "{sent} bytes were read of three answers");
}

#[tokio::test]
async fn an_answer_that_trickles_is_left_when_its_time_is_up() {
    let begun = Instant::now();
    check("trickling", json!({ "timeout": "150ms" }), |shelf, seen| {
        shelf.all(seen);
        Reply::new(200, endless(Bytes::from_static(b" "), Duration::from_millis(20), Arc::default()))
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_login_page_in_front_of_the_cluster_stops_the_sink_and_says_where_it_is() {
    let mock = Mock::new(|_| Reply::new(302, "").header("location", "https://login.example/")).await;
    match write(&*sink(&mock.url, json!({})).await, numbered(2)).await {
        Err(Error::Fatal { cause }) => assert!(cause.to_string().contains("https://login.example/"), "{cause}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(mock.seen().len(), 1);
}
