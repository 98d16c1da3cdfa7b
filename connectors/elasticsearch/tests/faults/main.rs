//! What a real cluster does not do when asked: answers that come late, in half, or make no sense.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod anew;
mod answers;
mod mock;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::conformance::sink::{Script, deliver};
use aqueduct_api::{Chunk, Edge, Error, Outcome, Result, Sink, SinkOpening, SinkSettings as _};
use aqueduct_elasticsearch::ElasticsearchSettings;
use aqueduct_record::BatchBuilder;
use serde_json::{Value, json};

use mock::{Mock, Reply, Seen};

fn settings(url: &str, more: Value) -> ElasticsearchSettings {
    let mut settings = json!({ "url": url, "index": "x" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

async fn sink(url: &str, more: Value) -> Box<dyn Sink> {
    settings(url, more).open(opening()).await.unwrap()
}

fn opening() -> SinkOpening {
    SinkOpening { name: "search".into(), folder: "/".into(), scratch: "/".into(), edge: Edge::real() }
}

/// A chunk of topic `t` with records of key and value, from offset 0 on.
fn chunk(records: &[(&str, Value)]) -> Chunk {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(0, Some(key.as_bytes()), Some(value.to_string().as_bytes()), &[]);
    }
    Script::new("t", 0).raw(0, builder).chunk()
}

fn numbered(count: usize) -> Chunk {
    chunk(&(0..count).map(|n| ("k", json!({ "n": n }))).collect::<Vec<_>>())
}

async fn write(sink: &dyn Sink, chunk: Chunk) -> Result<Outcome> {
    sink.write(&mut [chunk]).await
}

/// Checks that a write is to be tried again, for a reason with `part` in it.
fn again(written: Result<Outcome>, part: &str) -> Option<Duration> {
    match written {
        Err(Error::Retry { cause, after }) => {
            assert!(cause.to_string().contains(part), "{cause}");
            after
        }
        other => panic!("{part}: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_says_how_long_to_wait_is_left_alone_so_long() {
    let mock = Mock::new(|_| Reply::new(429, "slow down").header("retry-after", "7")).await;
    let sink = sink(&mock.url, json!({})).await;
    assert_eq!(again(write(&*sink, numbered(3)).await, "slow down"), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn records_are_told_apart_in_one_answer() {
    let mock = Mock::new(|seen| {
        seen.items(|n, kind| match n {
            1 | 2 | 5 => json!({ kind: { "status": 429, "error": { "type": "es_rejected_execution_exception", "reason": "full" } } }),
            3 => json!({ kind: { "status": 400, "error": { "type": "mapper_parsing_exception", "reason": "no number", "caused_by": { "type": "x", "reason": "because" } } } }),
            4 => json!({ kind: { "status": 500, "error": { "type": "null_pointer_exception" } } }),
            _ => json!({ kind: { "status": 201 } }),
        })
    })
    .await;
    let sink = sink(&mock.url, json!({})).await;
    let outcome = write(&*sink, numbered(8)).await.unwrap();
    assert_eq!(outcome.unfinished, [(0, 1..3), (0, 4..6)]);
    let [rejected] = &outcome.rejected[..] else { panic!("{outcome:?}") };
    assert_eq!((rejected.offset, &*rejected.reason), (3, "mapper_parsing_exception: no number: because"));
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_no_answer() {
    for nonsense in ["", "hello", "{}", "[]", r#"{"items":[]}"#, r#"{"items":[{"index":{"status":201}}]}"#, "null"] {
        let mock = Mock::new(move |_| Reply::new(200, nonsense)).await;
        again(write(&*sink(&mock.url, json!({})).await, numbered(2)).await, "answer");
    }
    let swapped = Mock::new(|seen| seen.items(|_, _| json!({ "delete": { "status": 200 } }))).await;
    again(write(&*sink(&swapped.url, json!({})).await, numbered(2)).await, "answer");
}

#[tokio::test]
async fn half_an_answer_is_no_answer() {
    for text in
        ["", "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"errors\":false,\"items\":[{\"index\"", "garbage\r\n\r\n"]
    {
        let url = mock::raw(text).await;
        again(write(&*sink(&url, json!({})).await, numbered(2)).await, "127.0.0.1");
    }
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_not_waited_for() {
    let mock = Mock::new(|seen| Reply { delay: Duration::from_secs(60), ..seen.taken() }).await;
    let sink = sink(&mock.url, json!({ "timeout": "100ms" })).await;
    again(write(&*sink, numbered(2)).await, "did not answer within 100ms");
}

#[tokio::test]
async fn a_whole_request_is_divided_until_the_record_at_fault_is_known() {
    for (status, body) in
        [(400, r#"{"error":{"type":"parse_exception","reason":"not this"}}"#), (413, "<html>too large</html>")]
    {
        let mock = Mock::new(move |seen| match seen.body.contains(r#""n":11}"#) {
            true => Reply::new(status, body),
            false => seen.taken(),
        })
        .await;
        let outcome = write(&*sink(&mock.url, json!({})).await, numbered(40)).await.unwrap();
        assert_eq!(outcome.rejected.iter().map(|rejected| rejected.offset).collect::<Vec<_>>(), [11]);
        assert!(outcome.unfinished.is_empty());
        assert!(mock.seen().len() < 14, "{}", mock.seen().len());
    }
}

#[tokio::test]
async fn what_only_a_person_can_mend_stops_the_sink() {
    for (status, body, part) in [
        (
            401,
            r#"{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}"#,
            "unable to authenticate",
        ),
        (403, r#"{"Message":"not authorized to perform es:ESHttpPost"}"#, "not authorized"),
        (400, "The plain HTTP request was sent to HTTPS port", "plain HTTP request"),
        (404, "nothing here", "nothing here"),
        (405, r#"{"error":"Incorrect HTTP method"}"#, "Incorrect HTTP method"),
    ] {
        let mock = Mock::new(move |_| Reply::new(status, body)).await;
        let sink = sink(&mock.url, json!({ "username": "me", "password": "hidden-word" })).await;
        match write(&*sink, numbered(2)).await {
            Err(Error::Fatal { cause }) => {
                assert!(cause.to_string().contains(part), "{cause}");
                assert!(!cause.to_string().contains("hidden-word"), "{cause}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_closed_for_writes_is_waited_for() {
    for kind in ["cluster_block_exception", "index_create_block_exception"] {
        let error = json!({ "type": kind, "reason": "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];" });
        for (status, whole) in [(403, false), (429, false), (403, true), (429, true)] {
            let (error, told) = (error.clone(), json!({ "error": error, "status": status }).to_string());
            let mock = Mock::new(move |seen| match whole {
                true => Reply::new(status, told.clone()),
                false => seen.items(|_, kind| json!({ kind: { "status": status, "error": error } })),
            });
            again(write(&*sink(&mock.await.url, json!({})).await, numbered(2)).await, "create-index blocked");
        }
    }
}

#[tokio::test]
async fn what_is_deleted_where_there_is_no_index_is_gone() {
    let mock = Mock::new(|seen| {
        let error = json!({ "type": "index_not_found_exception", "reason": "no such index [x]" });
        seen.items(|_, kind| json!({ kind: { "status": 404, "error": error } }))
    })
    .await;
    let deletes = || {
        let mut builder = BatchBuilder::new();
        (0..3).for_each(|_| builder.push(0, Some(b"k"), None, &[]));
        Script::new("t", 0).raw(0, builder).chunk()
    };
    for operation in ["index", "upsert"] {
        let more = json!({ "id": "key", "on-null": "delete", "operation": operation });
        let deleted = write(&*sink(&mock.url, more.clone()).await, deletes()).await;
        // One with a version makes its index: where it may not, no later document would know of it.
        assert_eq!(deleted.is_ok(), operation == "upsert", "{deleted:?}");
        let stopped = write(&*sink(&mock.url, more).await, numbered(1)).await;
        assert!(matches!(stopped, Err(Error::Fatal { .. })), "{operation}: a document needs its index: {stopped:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_for_a_moment_is_waited_for() {
    let mock = Mock::new(|_| Reply::new(403, r#"{"message":"Signature expired: 20260101T000000Z"}"#)).await;
    again(write(&*sink(&mock.url, json!({})).await, numbered(1)).await, "Signature expired");
}

#[tokio::test]
async fn every_request_says_who_we_are() {
    let aws = json!({ "aws": { "region": "eu-west-1", "access-key-id": "AKID", "secret-access-key": "s", "session-token": "tok" } });
    for (access, expected) in [
        (json!({ "username": "me", "password": "pass" }), "Basic bWU6cGFzcw=="),
        (json!({ "api-key": "id:key" }), "ApiKey aWQ6a2V5"),
        (json!({ "api-key": "aWQ6a2V5" }), "ApiKey aWQ6a2V5"),
        (json!({ "bearer-token": "t0" }), "Bearer t0"),
        (aws, "AWS4-HMAC-SHA256 Credential=AKID/"),
    ] {
        let mock = Mock::new(Seen::taken).await;
        deliver(&*sink(&mock.url, access).await, &mut [numbered(2)]).await;
        let seen = &mock.seen()[0];
        let said = seen.header("authorization");
        assert!(said.starts_with(expected), "{said}");
        if said.starts_with("AWS4") {
            assert!(said.contains("/eu-west-1/es/aws4_request"), "{said}");
            assert!(said.contains("SignedHeaders=") && said.contains("host;"), "{said}");
            assert_eq!(seen.header("x-amz-security-token"), "tok");
            assert_eq!(seen.header("x-amz-content-sha256").len(), 64);
        }
    }
}

#[tokio::test]
async fn a_secret_that_fits_in_no_header_is_told_by_its_setting_alone() {
    let opened = settings("http://127.0.0.1:9", json!({ "bearer-token": "a\nb" })).open(opening()).await;
    let told = opened.err().unwrap().to_string();
    assert!(told.contains("bearer-token") && !told.contains("a\nb"), "{told}");
}

#[tokio::test]
async fn compressed_requests_say_so_and_hold_the_same() {
    let mock = Mock::new(Seen::taken).await;
    deliver(&*sink(&mock.url, json!({ "gzip": true })).await, &mut [numbered(100)]).await;
    let plain = Mock::new(Seen::taken).await;
    deliver(&*sink(&plain.url, json!({})).await, &mut [numbered(100)]).await;
    assert_eq!(mock.seen()[0].header("content-encoding"), "gzip");
    assert_eq!(mock.seen()[0].body, plain.seen()[0].body);
}

#[tokio::test]
async fn load_changes_how_many_requests_run_but_never_where_they_are_cut() {
    let cuts = |concurrency: usize, busy: bool| async move {
        let turn = Arc::new(Mutex::new(0_u64));
        let mock = Mock::new(move |seen| {
            let mut turn = turn.lock().unwrap();
            *turn += 1;
            match busy && (*turn).is_multiple_of(3) {
                true => Reply::new(429, "busy"),
                false => Reply { delay: Duration::from_millis(*turn % 5), ..seen.taken() },
            }
        })
        .await;
        let more = json!({ "request-records": 7, "request-bytes": "1 KiB", "concurrency": concurrency });
        let chunks =
            &mut [Script::new("a", 0).batch(0, 90).batch(90, 60).chunk(), Script::new("b", 1).batch(3, 5).chunk()];
        let outcome = sink(&mock.url, more).await.write(chunks).await.unwrap();
        assert_eq!(outcome.unfinished.is_empty(), !busy);
        let bodies = mock.seen().into_iter().map(|seen| seen.body);
        bodies.collect::<BTreeSet<String>>()
    };
    let alone = cuts(1, false).await;
    assert!(alone.len() > 20, "{}", alone.len());
    assert_eq!(cuts(16, false).await, alone);
    assert_eq!(cuts(16, true).await, alone);
}

#[tokio::test]
async fn two_records_of_one_document_are_never_on_their_way_at_once() {
    let busy: Arc<Mutex<(HashSet<String>, usize)>> = Arc::default();
    let shared = busy.clone();
    let mock = Mock::new(move |seen| {
        let ids: HashSet<String> = seen.ids().into_iter().collect();
        let mut state = shared.lock().unwrap();
        assert!(state.0.is_disjoint(&ids), "{ids:?} beside {:?}", state.0);
        state.0.extend(ids.clone());
        state.1 = state.1.max(state.0.len());
        let shared = shared.clone();
        let end = move || shared.lock().unwrap().0.retain(|id| !ids.contains(id));
        Reply { delay: Duration::from_millis(3), end: Some(Box::new(end)), ..seen.taken() }
    })
    .await;
    let records: Vec<(String, Value)> = (0..120).map(|n| (format!("k{}", n % 5), json!({ "n": n }))).collect();
    let records: Vec<_> = records.iter().map(|(key, value)| (&**key, value.clone())).collect();
    let sink = sink(&mock.url, json!({ "id": "key", "request-records": 1, "concurrency": 32 })).await;
    let outcome = write(&*sink, chunk(&records)).await.unwrap();
    assert!(outcome.unfinished.is_empty());
    let mut last = std::collections::HashMap::new();
    for seen in mock.seen() {
        let (id, n) = (seen.ids().remove(0), seen.number());
        assert!(last.insert(id.clone(), n) < Some(n), "{id} out of order");
    }
    assert!(busy.lock().unwrap().1 > 1, "nothing ran at once");
}

#[tokio::test]
async fn an_update_that_overtook_one_of_its_document_is_made_again() {
    let mock = Mock::new(|seen| match seen.number() {
        1 => seen.items(|_, kind| json!({ kind: { "status": 429, "error": { "type": "x" } } })),
        _ => seen.taken(),
    })
    .await;
    let records =
        [("a", json!({ "n": 0 })), ("b", json!({ "n": 1 })), ("a", json!({ "n": 2 })), ("b", json!({ "n": 3 }))];
    let more = json!({ "id": "key", "operation": "upsert", "request-records": 1 });
    let outcome = write(&*sink(&mock.url, more).await, chunk(&records)).await.unwrap();
    assert_eq!(outcome.unfinished, [(0, 1..2), (0, 3..4)]);
    let outcome =
        write(&*sink(&mock.url, json!({ "id": "key", "request-records": 1 })).await, chunk(&records)).await.unwrap();
    assert_eq!(outcome.unfinished, [(0, 1..2)], "with versions the older one can not win");
}
