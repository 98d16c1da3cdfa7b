//! The source under clients that mean well, and under others.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use aqueduct_api::{Registry, TopicPartition};
use aqueduct_http::HttpSourceSettings;
use serde_json::{Value, json};

use crate::world::{Log, World, free_address, open};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bodies_of_every_kind_are_records_when_they_are_answered() {
    for (content_type, encoding, body, expected) in [
        ("application/octet-stream", "", b"a\nb".to_vec(), vec!["a\nb"]),
        ("application/json", "", b"{\"a\": 1}".to_vec(), vec!["{\"a\": 1}"]),
        ("application/json; charset=utf-8", "gzip", gzip(b"[1,[2],\"3\"]"), vec!["1", "[2]", "\"3\""]),
        ("application/x-ndjson", "zstd", zstd::bulk::compress(b"1\n2\n", 1).unwrap(), vec!["1", "2"]),
        ("text/plain", "identity", b"one\ntwo\n".to_vec(), vec!["one", "two"]),
    ] {
        let world = World::new(Log::Takes, json!({})).await;
        let mut headers = vec![("content-type", content_type)];
        headers.extend((!encoding.is_empty()).then_some(("content-encoding", encoding)));
        let (status, answer) = world.post("/", &headers, body).await;
        assert_eq!((status, &answer["records"]), (200, &json!(expected.len())), "{content_type}: {answer}");
        assert_eq!(
            answer["offsets"][0],
            json!({"topic": "in", "partition": 0, "offset": 0, "records": expected.len()})
        );
        assert_eq!(world.values(), expected, "{content_type}");
    }
}

#[tokio::test]
async fn paths_say_topic_key_and_headers() {
    let path = json!({"path": "/events", "format": "lines", "topic": "events", "key-header": "X-Key", "headers": ["X-Tenant"]});
    let world = World::new(Log::Takes, json!({"paths": [path]})).await;
    let (status, answer) = world.post("/events", &[("x-key", "k"), ("x-tenant", "t")], "a\nb").await;
    assert_eq!((status, &answer["offsets"][0]["topic"]), (200, &json!("events")));
    let got = world.got().remove(0);
    assert_eq!((got.topic.as_deref(), got.key.as_deref(), got.stream.as_str()), (Some("events"), Some("k"), "k"));
    assert_eq!(got.headers, ["X-Tenant=t"]);
}

#[tokio::test]
async fn firehose_delivers() {
    let world = World::new(Log::Takes, json!({"paths": [{"path": "/f", "format": "firehose"}], "authentication": {"tokens": [{"name": "aws", "token": "0123456789abcdef"}]}})).await;
    let body = json!({"requestId": "r-1", "timestamp": 1_700_000_000_000_i64, "records": [{"data": "YQ=="}, {"data": "Yg=="}]}).to_string();
    let common = r#"{"commonAttributes":{"env":"prod"}}"#;
    let key = ("x-amz-firehose-access-key", "0123456789abcdef");
    let headers = [("x-amz-firehose-request-id", "r-1"), ("x-amz-firehose-common-attributes", common), key];
    let (status, answer) = world.post("/f", &headers, body.clone()).await;
    assert_eq!((status, &answer["requestId"], answer.get("errorMessage")), (200, &json!("r-1"), None));
    assert!(answer["timestamp"].is_i64());
    assert_eq!(world.values(), ["a", "b"]);
    assert_eq!(world.got()[1].headers, ["env=prod"]);
    for (headers, body, expected) in [
        (vec![("x-amz-firehose-request-id", "r-1")], body.clone(), 401),
        (vec![("x-amz-firehose-request-id", "r-2"), key], body, 400),
        (
            vec![("x-amz-firehose-request-id", "r-1"), key],
            r#"{"requestId":"r-1","timestamp":1,"records":[{"data":"!"}]}"#.into(),
            400,
        ),
    ] {
        let (status, answer) = world.post("/f", &headers, body).await;
        assert_eq!((status, &answer["requestId"]), (expected, &json!(headers[0].1)), "{answer}");
        assert!(answer["errorMessage"].is_string());
    }
}

#[tokio::test]
async fn kafka_rest_clients_produce() {
    let world = World::new(Log::Takes, json!({})).await;
    let v2 = ("content-type", "application/vnd.kafka.json.v2+json");
    let body = json!({"records": [{"key": "k", "value": {"a": 1}}, {"value": 2, "partition": 1}, {"key": "k", "value": null}]});
    let (status, answer) = world.post("/topics/orders", &[v2], body.to_string()).await;
    let offset = |partition: i32, offset: i64| json!({"partition": partition, "offset": offset, "error_code": null, "error": null});
    assert_eq!((status, &answer["offsets"]), (200, &json!([offset(0, 0), offset(1, 0), offset(0, 1)])));
    let binary = ("content-type", "application/vnd.kafka.binary.v2+json");
    let (status, answer) =
        world.post("/topics/logs.a/partitions/1", &[binary], r#"{"records":[{"value":"aGk="}]}"#).await;
    assert_eq!((status, &answer["offsets"][0]["offset"]), (200, &json!(1)), "{answer}");
    let body = r#"{"key":{"type":"STRING","data":"k"},"value":{"type":"JSON","data":{"b":2}}} {"value":{"type":"AVRO","data":1}}"#;
    let records = "/v3/clusters/aqueduct/topics/orders/records";
    let (status, answer) = world.post(records, &[("content-type", "application/json")], body).await;
    let reports =
        answer.as_str().unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    assert_eq!(
        (status, &reports[0]["offset"], &reports[1]["error_code"]),
        (200, &json!(2), &json!(400)),
        "{reports:?}"
    );
    let body = json!({"entries": [{"id": "a", "value": {"type": "STRING", "data": "x"}}, {"id": "b", "value": {"type": "?"}}]});
    let (status, answer) =
        world.post(&format!("{records}:batch"), &[("content-type", "application/json")], body.to_string()).await;
    assert_eq!((status, &answer["successes"][0]["id"], &answer["failures"][0]["id"]), (207, &json!("a"), &json!("b")));
    let clusters: Value =
        serde_json::from_str(&reqwest::get(world.url("/v3/clusters")).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(clusters["data"][0]["cluster_id"], "aqueduct");
    let orders: Vec<_> = world.got().into_iter().filter(|got| got.topic.as_deref() == Some("orders")).collect();
    assert_eq!((orders[0].key.as_deref(), orders[0].value.as_deref()), (Some("\"k\""), Some("{\"a\":1}")));
    assert_eq!(orders[1].value, None, "null is a tombstone");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_why() {
    let world = World::new(Log::Takes, json!({"largest-body": "64 KiB", "largest-inflated": "128 KiB"})).await;
    let json_type = ("content-type", "application/json");
    let v2 = ("content-type", "application/vnd.kafka.json.v2+json");
    let gzipped = ("content-encoding", "gzip");
    for (path, headers, body, status, message) in [
        ("/", vec![json_type], b"{\"a\":\n 1,}".to_vec(), 400, "line 2, column 4: "),
        ("/", vec![json_type], b"".to_vec(), 400, "the body is empty"),
        ("/", vec![json_type], vec![0xff, 0xfe], 400, "not UTF-8 at byte 0"),
        ("/", vec![json_type], b"[".repeat(60_000), 400, "the body is not what is expected"),
        ("/", vec![json_type, gzipped], b"no gzip".to_vec(), 400, "the body is not gzip"),
        ("/", vec![json_type, gzipped], gzip(&vec![b'0'; 10 << 20]), 413, "when it is inflated"),
        ("/", vec![json_type, gzipped], gzip(b"[1]")[..12].to_vec(), 400, "the body is not gzip"),
        ("/", vec![json_type, ("content-encoding", "br")], b"x".to_vec(), 415, "content encoding `br` is not known"),
        ("/", vec![("content-type", "text/html")], b"x".to_vec(), 415, "content type `text/html` is not known"),
        ("/", vec![], vec![b'x'; 65 << 10], 413, "more than 65536 bytes"),
        ("/nowhere", vec![], b"x".to_vec(), 404, "there is no path /nowhere"),
        ("/topics/secret", vec![v2], b"{}".to_vec(), 404, "topic secret is not one"),
        ("/topics/..%2f..%2fetc", vec![v2], b"{}".to_vec(), 400, "is no name of a topic"),
        ("/topics/orders", vec![("content-type", "application/vnd.kafka.avro.v2+json")], b"{}".to_vec(), 415, "avro"),
        ("/topics/orders", vec![v2], b"{\"records\":[{\"value\":}]}".to_vec(), 400, "line 1, column 22"),
        ("/", vec![("origin", "http://evil.example")], b"x".to_vec(), 403, "browser"),
    ] {
        let (found, answer) = world.post(path, &headers, body).await;
        let told = answer["message"].as_str().unwrap_or_default();
        assert!(found == status && told.contains(message), "{path} {headers:?}: {found} {answer}");
    }
    assert_eq!(world.got(), []);
    let answer = reqwest::get(world.url("/health")).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn damaged_requests_end_with_their_connection() {
    let world = World::new(Log::Takes, json!({"header-timeout": "300ms", "body-timeout": "300ms"})).await;
    let huge = format!("POST / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("POST / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    for (request, expected) in [
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc", "408"),
        ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc", "400"),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "400"),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", "413"),
        ("\u{16}\u{3}\u{1} no http\r\n\r\n", "400"),
        (&huge, "431"),
        (&many, "431"),
        // Slow on purpose: the headers never end.
        ("POST / HTTP/1.1\r\nhost: x\r\nx: ", ""),
    ] {
        let answer = world.raw(request.as_bytes()).await;
        let begin = format!("HTTP/1.1 {expected}");
        let begin = if expected.is_empty() { "" } else { &begin };
        assert!(answer.starts_with(begin), "{:.60}: {answer}", request);
    }
    assert_eq!(world.got(), []);
    assert_eq!(world.post("/", &[], "still there").await.0, 200);
}

#[tokio::test]
async fn ten_thousand_keys_in_one_request_keep_their_order() {
    let world = World::new(Log::Takes, json!({})).await;
    let record = |n: usize| json!({"key": format!("{}", n % 10_000), "value": n});
    let body = json!({"records": (0..20_000).map(record).collect::<Vec<_>>()}).to_string();
    let (status, answer) =
        world.post("/topics/orders", &[("content-type", "application/vnd.kafka.json.v2+json")], body).await;
    assert_eq!((status, answer["offsets"].as_array().unwrap().len()), (200, 20_000));
    let mut last: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for got in world.got() {
        let number: usize = got.value.unwrap().parse().unwrap();
        let before = last.insert(got.key, number);
        assert!(before.is_none_or(|before| before < number));
    }
    assert_eq!(last.len(), 10_000);
}

#[tokio::test]
async fn a_log_that_does_not_take_records_is_said() {
    let v2 = [("content-type", "application/vnd.kafka.json.v2+json")];
    let body = r#"{"records":[{"value":1}]}"#;
    for (log, expected) in [(Log::Refuses, 503), (Log::Hangs, 503), (Log::Stands, 429), (Log::IsFull, 429)] {
        let world = World::new(log, json!({"answer-timeout": "300ms"})).await;
        assert_eq!(world.post("/", &[], "x").await.0, expected);
        let (status, answer) = world.post("/topics/orders", &v2, body).await;
        assert_eq!(status, expected, "{answer}");
        assert!(!answer.to_string().contains("/srv"), "clients are not told of our disk: {answer}");
    }
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_said() {
    let v2 = [("content-type", "application/vnd.kafka.json.v2+json")];
    let world = World::new(Log::HasTwo, json!({})).await;
    let (status, answer) = world.post("/topics/orders/partitions/7", &v2, r#"{"records":[{"value":1}]}"#).await;
    assert_eq!((status, &answer["offsets"][0]["error"]), (404, &json!("topic orders has no partition 7")));
    let both = r#"{"records":[{"value":1,"partition":7},{"value":2,"partition":1}]}"#;
    let (status, answer) = world.post("/topics/orders", &v2, both).await;
    let told = &answer["offsets"];
    assert_eq!((status, &told[0]["error_code"], &told[1]["partition"]), (200, &json!(404), &json!(1)), "{answer}");
}

#[tokio::test]
async fn a_log_that_is_slow_makes_clients_wait() {
    let world = World::new(Log::Stands, json!({"answer-timeout": "5s", "queue-wait": "100ms"})).await;
    let (slow, told) = futures::join!(world.post("/", &[], "first"), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let begun = std::time::Instant::now();
        let (status, answer) = world.post("/", &[], "second").await;
        assert!(begun.elapsed() < Duration::from_secs(3), "it is told at once");
        (status, answer["message"].as_str().unwrap().to_owned())
    });
    assert_eq!((slow.0, told), (429, (429, "the log is full or slow".to_owned())));
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_and_requests() {
    let limits = json!({"largest-body": "1 MiB", "largest-inflated": "1 MiB", "held": "2 MiB", "requests": 8});
    let world = World::new(Log::Hangs, limits.as_object().unwrap().clone().into()).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let url = world.url("/");
        clients.spawn(async move {
            reqwest::Client::new().post(url).body(vec![b'x'; 600 << 10]).send().await.unwrap().status().as_u16()
        });
    }
    // Each is held twice, as a body and as a batch: at most one fits, and the others are told so.
    for _ in 0..7 {
        assert_eq!(clients.join_next().await.unwrap().unwrap(), 429);
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_refuses_the_rest() {
    let address = free_address();
    let mut source = open(json!({"listen": address})).await.unwrap();
    let post = |body: &'static str| {
        let url = format!("http://{address}/");
        tokio::spawn(
            async move { reqwest::Client::new().post(url).body(body).send().await.map(|it| it.status().as_u16()) },
        )
    };
    let first = post("taken");
    let taken = source.read().await.unwrap().unwrap();
    let second = post("waiting");
    // It is in the queue when it would be read.
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(source);
    assert_eq!(second.await.unwrap().unwrap(), 503);
    let third = post("late").await.unwrap();
    assert!(third.is_err() || third.unwrap() == 503);
    taken.done.unwrap().durable(TopicPartition::new("in", 0), 0);
    assert_eq!(first.await.unwrap().unwrap(), 200);
    // The address is free for the next one.
    open(json!({"listen": address})).await.unwrap();
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let address = free_address();
    let mut source = open(json!({"listen": address})).await.unwrap();
    for round in 0..20 {
        let url = format!("http://{address}/");
        let client =
            tokio::spawn(async move { reqwest::Client::new().post(url).body("x").send().await.unwrap().status() });
        let incoming = loop {
            let pause = async {
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                incoming = source.read() => break incoming.unwrap().unwrap(),
                () = pause => {}
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        incoming.done.unwrap().durable(TopicPartition::new("in", 0), round);
        assert_eq!(client.await.unwrap(), 200);
    }
}

#[test]
fn settings_that_can_not_work_are_told() {
    let connector = Registry::default().source::<HttpSourceSettings>().sources.remove("http").unwrap();
    for (settings, expected) in [
        (json!({"listen": "0.0.0.0:80"}), "authentication: is missing"),
        (json!({"listen": "0.0.0.0:80", "authentication": {"tokens": []}}), "authentication.tokens: nobody"),
        (
            json!({"listen": "0.0.0.0:80", "authentication": {"tokens": [{"name": "a", "token": "short"}]}}),
            "authentication.tokens[0].token: is shorter",
        ),
        (json!({"listen": "here"}), "listen: `here` is no address"),
        (json!({"listen": "127.0.0.1:1", "paths": []}), "paths: nothing could be sent"),
        (json!({"listen": "127.0.0.1:1", "paths": [{"path": "x"}]}), "paths[0].path: `x` is no path"),
        (
            json!({"listen": "127.0.0.1:1", "paths": [{"path": "/x", "topic": "../y"}]}),
            "paths[0].topic: `../y` is no name",
        ),
        (json!({"listen": "127.0.0.1:1", "largest-inflated": "1 KiB"}), "largest-inflated: 1024 is too small"),
        (json!({"listen": "127.0.0.1:1", "header-timeout": "-1"}), "header-timeout: must end some time"),
    ] {
        let problems: Vec<_> =
            connector.problems(&settings).iter().map(|it| format!("{}: {}", it.setting, it.message)).collect();
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{settings}: {problems:?}");
    }
    for fine in [
        json!({"listen": "localhost:1"}),
        json!({"listen": "0.0.0.0:1", "authentication": "none"}),
        json!({"listen": "[::1]:1"}),
    ] {
        assert_eq!(connector.problems(&fine), [], "{fine}");
    }
}
