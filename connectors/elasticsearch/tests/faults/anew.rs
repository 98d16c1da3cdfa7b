//! What becomes of the documents of a chunk that was given up, in a cluster that keeps external versions as the real ones do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aqueduct_api::Chunk;
use aqueduct_api::conformance::sink::deliver;
use serde_json::{Value, json};

use crate::mock::{Mock, Reply, Seen};
use crate::{chunk, sink};

/// Documents by id: their version, what they say, and how often they were written.
#[derive(Default)]
struct Documents(Mutex<BTreeMap<String, (i64, Value, usize)>>);

impl Documents {
    fn answer(&self, seen: &Seen) -> Reply {
        let mut documents = self.0.lock().unwrap();
        if seen.body.is_empty() {
            // A refresh.
            return Reply::new(200, "{}");
        }
        if seen.body.contains(r#""query""#) {
            let hits: Vec<Value> = documents.keys().map(|id| json!({ "_id": id })).collect();
            return Reply::new(200, json!({ "hits": { "hits": hits } }).to_string());
        }
        let sources: Vec<Value> =
            seen.body.lines().skip(1).step_by(2).map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut items = Vec::new();
        for ((kind, of), source) in seen.actions().into_iter().zip(sources) {
            let id = of["_id"].as_str().unwrap().to_owned();
            let version = of["version"].as_i64().unwrap_or(0);
            let known = documents.get(&id).map(|(known, _, times)| (*known, *times));
            let is_refused = known.is_some_and(|(known, _)| match of["version_type"].as_str() {
                Some("external") => known >= version,
                Some("external_gte") => known > version,
                _ => true,
            });
            let status = if is_refused { 409 } else { 201 };
            let mut item = json!({ "_id": id, "status": status });
            if is_refused {
                let reason = format!("[{id}]: version conflict, current version [{}]", known.unwrap().0);
                item["error"] = json!({ "type": "version_conflict_engine_exception", "reason": reason });
            } else {
                documents.insert(id, (version, source, known.map_or(0, |(_, times)| times) + 1));
            }
            items.push(json!({ kind: item }));
        }
        Reply::new(200, json!({ "items": items }).to_string())
    }

    /// What they say, and how often they were written.
    fn are(&self) -> Vec<(String, String, usize)> {
        let documents = self.0.lock().unwrap();
        let told = |(id, (_, source, times)): (&String, &(i64, Value, usize))| {
            (id.clone(), source["by"].as_str().unwrap().to_owned(), *times)
        };
        documents.iter().map(told).collect()
    }
}

fn made(by: &str, given_up: u32, redelivered: bool, keys: &[&str]) -> Chunk {
    let records: Vec<(&str, Value)> = keys.iter().map(|key| (*key, json!({ "by": by }))).collect();
    Chunk { given_up, redelivered, ..chunk(&records) }
}

/// Delivers chunks one after the other, none of whose records may be rejected, and checks what is there then.
async fn check(more: Value, chunks: Vec<Chunk>, expected: &[(&str, &str, usize)]) {
    let documents = Arc::new(Documents::default());
    let shared = documents.clone();
    let mock = Mock::new(move |seen| shared.answer(seen)).await;
    for chunk in chunks {
        let (given_up, redelivered) = (chunk.given_up, chunk.redelivered);
        let rejected = deliver(&*sink(&mock.url, more.clone()).await, &mut [chunk]).await;
        assert_eq!(rejected, [], "{more}, given up {given_up} times, {redelivered}");
    }
    let expected: Vec<_> =
        expected.iter().map(|(id, by, times)| ((*id).to_owned(), (*by).to_owned(), *times)).collect();
    assert_eq!(documents.are(), expected, "{more}");
}

#[tokio::test]
async fn what_a_chunk_that_was_given_up_wrote_is_replaced_and_its_late_requests_replace_nothing() {
    let keys = ["a", "b", "a"];
    let chunks = || vec![made("old", 0, false, &keys), made("new", 1, false, &keys), made("old", 0, true, &keys)];
    check(json!({}), chunks(), &[("t+0+0", "new", 2), ("t+0+1", "new", 2), ("t+0+2", "new", 2)]).await;
    // The first record is older than what is there, and no dead letter.
    check(json!({ "id": "key" }), chunks(), &[("a", "new", 3), ("b", "new", 2)]).await;
}

#[tokio::test]
async fn what_comes_again_though_nothing_was_given_up_is_written_once() {
    let chunks = vec![made("first", 0, false, &["a", "b"]), made("again", 0, true, &["a", "b"])];
    check(json!({}), chunks, &[("t+0+0", "first", 1), ("t+0+1", "first", 1)]).await;
}

#[tokio::test]
async fn what_was_created_by_a_chunk_that_was_given_up_stays_and_the_rest_is_created() {
    let chunks = vec![made("old", 0, false, &["a", "b"]), made("new", 1, false, &["a", "b", "c"])];
    let expected = [("t+0+0", "old", 1), ("t+0+1", "old", 1), ("t+0+2", "new", 1)];
    check(json!({ "operation": "create" }), chunks, &expected).await;
}
