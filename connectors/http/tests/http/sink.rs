//! The sink: what every sink must do, and what it does when a server misbehaves.

use std::sync::Mutex;
use std::time::Duration;

use aqueduct_api::conformance::sink::{self, Script, SinkWorld, Written};
use aqueduct_api::{Edge, Error, Outcome, Registry, Result, Sink, SinkOpening, TopicPartition};
use aqueduct_http::HttpSinkSettings;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::{Act, Seen, Server};

fn opening() -> SinkOpening {
    let folder = std::env::temp_dir();
    SinkOpening { name: "out".into(), folder: folder.clone(), scratch: folder, edge: Edge::real() }
}

pub(crate) async fn open(settings: Value) -> Result<Box<dyn Sink>> {
    let connector = Registry::default().sink::<HttpSinkSettings>().sinks.remove("http").unwrap();
    connector.open(settings, opening()).await
}

pub(crate) async fn sink(server: &Server, more: Value) -> Box<dyn Sink> {
    let mut settings = json!({"url": format!("{}/in/{{topic}}", server.url), "request-records": 5, "timeout": "500ms"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    open(settings).await.unwrap()
}

struct World {
    server: Server,
    settings: Value,
}

#[async_trait]
impl SinkWorld for World {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(sink(&self.server, self.settings.clone()).await)
    }

    async fn written(&self) -> Vec<Written> {
        let mut written = Vec::new();
        for seen in self.server.taken() {
            for value in values(&seen) {
                let place: Value = serde_json::from_slice(&value).unwrap();
                let of =
                    TopicPartition::new(place["topic"].as_str().unwrap(), place["partition"].as_i64().unwrap() as i32);
                written.push(Written { partition: of, value, headers: Vec::new() });
            }
        }
        written
    }

    fn rejects(&self) -> Option<Option<&'static [u8]>> {
        match self.settings["format"].as_str().unwrap() {
            "json-lines" | "json-array" => Some(Some(b"{no json")),
            _ => Some(None),
        }
    }
}

/// The records of a request, by its content.
fn values(seen: &Seen) -> Vec<Vec<u8>> {
    let raw =
        |values: Vec<Box<serde_json::value::RawValue>>| values.iter().map(|it| it.get().as_bytes().to_vec()).collect();
    match seen.headers["content-type"].as_str() {
        "application/json" if seen.headers.contains_key("x-amz-firehose-request-id") => {
            let request: Value = serde_json::from_slice(&seen.body).unwrap();
            assert_eq!(request["requestId"], seen.headers["x-amz-firehose-request-id"].as_str());
            let records = request["records"].as_array().unwrap().iter();
            records.map(|record| STANDARD.decode(record["data"].as_str().unwrap()).unwrap()).collect()
        }
        "application/json" => raw(serde_json::from_slice(&seen.body).unwrap()),
        "application/octet-stream" => vec![seen.body.clone()],
        _ => seen.text().lines().map(|line| line.as_bytes().to_vec()).collect(),
    }
}

/// What Firehose expects.
fn firehose(seen: &Seen) -> Option<Act> {
    let id = seen.headers.get("x-amz-firehose-request-id")?;
    Some(Act::Answer(200, "", json!({"requestId": id, "timestamp": 1}).to_string()))
}

#[tokio::test]
async fn every_format_gets_what_every_sink_must_write() {
    for format in ["json-lines", "json-array", "lines", "record", "firehose"] {
        for compression in ["none", "gzip", "zstd"] {
            let settings = json!({"format": format, "compression": compression, "timeout": "30s"});
            sink::all(&World { server: Server::with(firehose).await, settings }).await;
        }
    }
}

/// A topic of its own in one batch of JSON numbers.
pub(crate) fn script(topic: &str, count: u32) -> Script {
    let mut builder = aqueduct_record::BatchBuilder::new();
    for number in 0..count {
        builder.push(1_700_000_000_000, Some(b"k"), Some(number.to_string().as_bytes()), &[("h", Some(b"v"))]);
    }
    Script::new(topic, 0).raw(0, builder)
}

fn numbers(server: &Server) -> Vec<u32> {
    let lines: Vec<String> =
        server.taken().iter().flat_map(|seen| seen.text().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

/// One write, and after it as many as it takes: the first outcome, and what was rejected then.
async fn deliver(sink: &dyn Sink, script: &Script) -> (Result<Outcome>, Vec<i64>) {
    let first = sink.write(&mut [script.chunk()]).await;
    let rejected = sink::deliver(sink, &mut [script.chunk()]).await;
    (first, rejected.into_iter().map(|(_, offset)| offset).collect())
}

#[tokio::test]
async fn what_a_bad_day_costs_is_a_request_sent_again_under_its_key() {
    for act in [
        Act::Half,
        Act::Reset,
        Act::Silence,
        Act::Answer(500, "", "oops".into()),
        Act::Answer(408, "", String::new()),
        Act::Answer(429, "retry-after: 7\r\n", String::new()),
        Act::Answer(503, "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n", String::new()),
    ] {
        let server = Server::start().await;
        server.script([Act::Answer(200, "", String::new()), act.clone()]);
        let sink = sink(&server, json!({})).await;
        let script = script("t", 20);
        let outcome = sink.write(&mut [script.chunk()]).await.unwrap();
        assert_eq!(outcome.unfinished, [(0, 5..20)], "{act:?}: what comes after it waits");
        let after = outcome.after.map(|after| after.as_secs());
        assert_eq!(
            after,
            match &act {
                Act::Answer(429, ..) => Some(7),
                Act::Answer(503, ..) => Some(3600),
                _ => None,
            }
        );
        let mut rest = script.again();
        rest.ranges = outcome.unfinished.into_iter().map(|(_, range)| range).collect();
        sink::deliver(&*sink, &mut [rest]).await;
        assert_eq!(numbers(&server), (0..20).collect::<Vec<_>>(), "{act:?}");
        let keys: Vec<String> = server.seen().iter().map(Seen::key).collect();
        assert_eq!(keys[1], keys[2], "{act:?}: {keys:?}");
        assert!(keys[1].starts_with("t-0-5-10-"), "{keys:?}");
    }
}

#[tokio::test]
async fn nothing_delivered_is_an_error_with_its_cause() {
    let server = Server::with(|_| Some(Act::Answer(503, "retry-after: 9\r\n", "over capacity".into()))).await;
    match sink(&server, json!({})).await.write(&mut [script("t", 5).chunk()]).await {
        Err(Error::Retry { cause, after }) => {
            assert!(cause.to_string().contains("503") && cause.to_string().contains("over capacity"), "{cause}");
            assert_eq!(after, Some(Duration::from_secs(9)));
        }
        other => panic!("{other:?}"),
    }
    let away = open(json!({"url": "http://127.0.0.1:9/"})).await.unwrap().write(&mut [script("t", 5).chunk()]).await;
    assert!(
        matches!(&away, Err(Error::Retry { cause, .. }) if cause.to_string().contains("no connection")),
        "{away:?}"
    );
}

#[tokio::test]
async fn requests_that_are_too_large_are_halved_each_half_under_its_own_key() {
    let too_large = |seen: &Seen| (seen.text().lines().count() > 2).then(|| Act::Answer(413, "", String::new()));
    let server = Server::with(too_large).await;
    let sink = sink(&server, json!({})).await;
    assert_eq!(deliver(&*sink, &script("t", 10)).await.1, Vec::<i64>::new());
    assert_eq!(numbers(&server), (0..10).collect::<Vec<_>>());
    let mut keys: Vec<String> = server.taken().iter().map(Seen::key).collect();
    keys.iter_mut().for_each(|key| key.truncate(key.rfind('-').map_or(0, |_| 7)));
    assert_eq!(keys, ["t-0-0-2", "t-0-2-3", "t-0-3-5", "t-0-5-7", "t-0-7-8", "t-0-8-1"]);
}

#[tokio::test]
async fn refused_records_are_found() {
    let refuse = |seen: &Seen| {
        seen.text().lines().any(|line| line == "3" || line == "8").then(|| Act::Answer(422, "", "no".into()))
    };
    for (setting, rejected) in [("halve", vec![3, 8]), ("reject", (0..10).collect())] {
        let server = Server::with(refuse).await;
        let sink = sink(&server, json!({"on-refusal": setting})).await;
        assert_eq!(deliver(&*sink, &script("t", 10)).await.1, rejected, "{setting}");
        let rest: Vec<u32> = (0..10).filter(|number| !rejected.contains(&i64::from(*number))).collect();
        assert_eq!(numbers(&server), rest, "{setting}");
    }
    let server = Server::with(refuse).await;
    let stopped = sink(&server, json!({"on-refusal": "stop"})).await.write(&mut [script("t", 10).chunk()]).await;
    assert!(matches!(stopped, Err(Error::Fatal { .. })), "{stopped:?}");
}

#[tokio::test]
async fn what_a_person_must_mend_stops_the_sink() {
    for (status, headers, more, expected) in [
        (401, "", json!({"authentication": {"bearer": "x"}}), "look at `authentication`"),
        (403, "", json!({}), "look at `authentication`"),
        (302, "location: http://elsewhere.example/\r\n", json!({}), "http://elsewhere.example/"),
        (
            307,
            "location: http://elsewhere.example/\r\n",
            json!({"redirects": "same-host"}),
            "http://elsewhere.example/",
        ),
        (302, "location: /other\r\n", json!({"redirects": "same-host"}), "/other"),
    ] {
        let server = Server::with(move |_| Some(Act::Answer(status, headers, String::new()))).await;
        let stopped = sink(&server, more).await.write(&mut [script("t", 5).chunk()]).await;
        assert!(matches!(&stopped, Err(Error::Fatal { cause }) if cause.to_string().contains(expected)), "{stopped:?}");
        assert_eq!(server.seen().len(), 1);
    }
    // A wrong address is wrong for all records where it is one for all, else it may be the record's fault.
    let server = Server::with(|_| Some(Act::Answer(404, "", String::new()))).await;
    let stopped = open(json!({"url": server.url})).await.unwrap().write(&mut [script("t", 5).chunk()]).await;
    assert!(matches!(&stopped, Err(Error::Fatal { cause }) if cause.to_string().contains("`url`")), "{stopped:?}");
    assert_eq!(deliver(&*sink(&server, json!({})).await, &script("t", 2)).await.1, [0, 1]);
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_where_that_is_said() {
    let redirect = |seen: &Seen| {
        seen.line.starts_with("POST /in/").then(|| Act::Answer(308, "location: /moved\r\n", String::new()))
    };
    let server = Server::with(redirect).await;
    let sink = sink(&server, json!({"redirects": "same-host", "authentication": {"bearer": "x"}})).await;
    assert_eq!(deliver(&*sink, &script("t", 3)).await.1, Vec::<i64>::new());
    let last = server.taken().pop().unwrap();
    assert!(last.line.starts_with("POST /moved"), "{}", last.line);
    assert_eq!((last.text().as_str(), last.headers["authorization"].as_str()), ("0\n1\n2\n", "Bearer x"));
}

#[tokio::test]
async fn an_answer_that_is_not_firehoses_is_none() {
    for body in ["", "ok", r#"{"requestId":"x","timestamp":1}"#, r#"{"requestId":"#] {
        let server = Server::start().await;
        server.script([Act::Answer(200, "", body.to_owned())]);
        let sink = sink(&server, json!({"format": "firehose", "access-key": "k", "attributes": {"env": "test"}})).await;
        let script = script("t", 3);
        let failed = sink.write(&mut [script.chunk()]).await;
        assert!(matches!(failed, Err(Error::Retry { .. })), "{body}: {failed:?}");
        drop(sink);
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.headers["x-amz-firehose-access-key"], "k");
        assert_eq!(seen.headers["x-amz-firehose-common-attributes"], r#"{"commonAttributes":{"env":"test"}}"#);
        assert_eq!(values(&seen), [b"0", b"1", b"2"]);
    }
}

#[tokio::test]
async fn templates_say_where_records_go() {
    let server = Server::start().await;
    let sink = open(json!({
        "url": format!("{}/{{topic}}/{{key}}?at={{timestamp:%Y-%m-%dT%H}}", server.url),
        "method": "put",
        "headers": {"X-H": "<{header:h}>"},
        "body": r#"{{"of":"{topic}-{partition}","h":"{header:h}","it":{value}}}"#,
        "content-type": "application/json; charset=utf-8",
        "format": "record",
        "authentication": {"basic": {"username": "u", "password": "p"}},
    }));
    sink::deliver(&*sink.await.unwrap(), &mut [script("t", 1).chunk()]).await;
    let seen = server.taken().pop().unwrap();
    assert_eq!(seen.line, "PUT /t/k?at=2023-11-14T22 HTTP/1.1");
    assert_eq!(seen.headers["x-h"], "<v>");
    assert_eq!(seen.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(seen.headers["authorization"], "Basic dTpw");
    assert_eq!(seen.text(), r#"{"of":"t-0","h":"v","it":0}"#);
}

#[tokio::test]
async fn requests_run_at_once_and_a_partitions_in_order() {
    for (ordered, partitions, most) in [(true, 1, 1), (true, 6, 4), (false, 1, 4)] {
        let server = Server::start().await;
        let sink = sink(&server, json!({"ordered": ordered, "concurrency": 4, "timeout": "30s"})).await;
        let scripts: Vec<Script> = (0..partitions).map(|n| script(&format!("t{n}"), 100)).collect();
        let mut chunks: Vec<_> = scripts.iter().map(Script::chunk).collect();
        sink::deliver(&*sink, &mut chunks).await;
        assert_eq!(server.taken().len(), 20 * partitions);
        let at_once = server.most_at_once();
        assert!(at_once <= most && (most == 1 || at_once > 1), "{at_once} at once, {most} allowed");
    }
}

#[tokio::test]
async fn tokens_are_fetched_kept_and_fetched_anew_when_refused() {
    let issued = std::sync::Arc::new(Mutex::new(0));
    let count = issued.clone();
    let server = Server::with(move |seen| {
        if seen.line.starts_with("POST /token") {
            assert_eq!(seen.text(), "grant_type=client_credentials&scope=write%20all");
            assert_eq!(seen.headers["authorization"], "Basic aWQ6cyUzQQ==");
            let mut issued = count.lock().unwrap();
            *issued += 1;
            return Some(Act::Answer(
                200,
                "",
                json!({"access_token": format!("t{issued}"), "expires_in": 3600}).to_string(),
            ));
        }
        // The first token is taken back after two requests.
        let is_first = seen.headers["authorization"] == "Bearer t1";
        (is_first && seen.text().starts_with("10\n")).then(|| Act::Answer(401, "", String::new()))
    });
    let server = server.await;
    let oauth2 = json!({"token-url": format!("{}/token", server.url), "client-id": "id", "client-secret": "s:", "scope": "write all"});
    let sink = sink(&server, json!({"authentication": {"oauth2": oauth2}})).await;
    sink::deliver(&*sink, &mut [script("t", 20).chunk()]).await;
    assert_eq!(*issued.lock().unwrap(), 2);
    let used = server.taken().into_iter().filter(|seen| !seen.line.contains("/token"));
    let used: Vec<String> = used.map(|seen| seen.headers["authorization"].clone()).collect();
    assert_eq!(used, ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]);
}

#[tokio::test]
async fn a_token_server_that_refuses_stops_the_sink_and_one_that_is_away_does_not() {
    for (status, fatal) in [(401, true), (400, true), (503, false), (429, false)] {
        let server = Server::with(move |_| Some(Act::Answer(status, "", String::new()))).await;
        let oauth2 = json!({"token-url": format!("{}/token", server.url), "client-id": "id", "client-secret": "s"});
        let sink = sink(&server, json!({"authentication": {"oauth2": oauth2}})).await;
        let failed = sink.write(&mut [script("t", 5).chunk()]).await.unwrap_err();
        assert_eq!(failed.is_retry(), !fatal, "{status}: {failed}");
        assert!(failed.to_string().contains("get a token"), "{failed}");
    }
}

#[test]
fn settings_that_can_not_work_are_told() {
    let connector = Registry::default().sink::<HttpSinkSettings>().sinks.remove("http").unwrap();
    for (settings, expected) in [
        (json!({"url": "collector:80"}), "url: `collector:80` is no address"),
        (json!({"url": "http://{key}/x"}), "url: scheme and host are the same"),
        (json!({"url": "http://h{key}/x"}), "url: scheme and host are the same"),
        (json!({"url": "http://u:p@h/x"}), "url: credentials have their own setting"),
        (json!({"url": "http://h/{value}"}), "url: a whole value"),
        (json!({"url": "http://h/{kye}"}), "url: unknown placeholder `{kye}`, did you mean `{key}`?"),
        (json!({"url": "http://h/", "headers": {"Content-Length": "1"}}), "headers.Content-Length: is set by the sink"),
        (json!({"url": "http://h/", "headers": {"a b": "1"}}), "headers.a b: `a b` is no name"),
        (
            json!({"url": "http://h/", "headers": {"authorization": "x"}, "authentication": {"bearer": "y"}}),
            "headers.authorization: is set by `authentication`",
        ),
        (
            json!({"url": "http://h/", "headers": {"x-api-key": "{key}"}, "authentication": {"header": {"name": "X-API-Key", "value": "y"}}}),
            "headers.x-api-key: is set by `authentication`",
        ),
        (
            json!({"url": "http://h/", "headers": {"idempotency-key": "{key}"}}),
            "headers.idempotency-key: is set by `idempotency-header`",
        ),
        (json!({"url": "http://h/", "access-key": "k"}), "access-key: is for `format: firehose`"),
        (json!({"url": "http://h/", "tls": {"key": "k.pem"}}), "tls: `certificate` is missing"),
        (json!({"url": "http://h/", "request-records": 0}), "request-records: 0 is out of range"),
        (
            json!({"url": "http://h/", "authentication": {"oauth2": {"token-url": "x", "client-id": "", "client-secret": ""}}}),
            "authentication: `x` is no address",
        ),
    ] {
        let problems: Vec<_> =
            connector.problems(&settings).iter().map(|it| format!("{}: {}", it.setting, it.message)).collect();
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{settings}: {problems:?}");
    }
}
