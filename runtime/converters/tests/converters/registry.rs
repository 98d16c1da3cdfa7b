//! What a registry answers, and what becomes of the records.

use aqueduct_api::{Error, Trial};
use serde_json::{Value, json};

use crate::server::{Fault, Server};
use crate::world::{draft, frame, made, open, open_for, problems, text, try_open};

const USER: &str = r#"{"type":"record","name":"User","fields":[{"name":"id","type":"long"}]}"#;

fn settings(server: &Server) -> Value {
    json!({"url": server.url, "timeout": "500ms"})
}

fn decode(server: &Server) -> Value {
    json!({"from": "avro", "registry": settings(server)})
}

fn encode(server: &Server) -> Value {
    json!({"to": "avro", "schema": USER, "registry": settings(server)})
}

fn status(status: u16, body: &str) -> Fault {
    Fault::Status(status, &[], body.to_owned())
}

#[tokio::test]
async fn a_schema_is_asked_for_once() {
    let server = Server::start().await;
    let id = server.add("users-value", "AVRO", USER, json!([]));
    let decode = open("decode", decode(&server));
    for _ in 0..3 {
        assert_eq!(text(&*decode, &frame(id, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
    }
    assert_eq!(server.requests(), ["GET /schemas/ids/1"]);
}

#[tokio::test]
async fn an_unknown_id_is_a_dead_letter_and_the_others_go_on() {
    let server = Server::start().await;
    let id = server.add("users-value", "AVRO", USER, json!([]));
    let other = server.add("x", "JSON", "{}", json!([]));
    let decode = open("decode", decode(&server));
    let (known, unknown, wrong) = (frame(id, &[0x0a]), frame(99, &[0x0a]), frame(other, b"{}"));
    let mut drafts = vec![draft(None, Some(&unknown)), draft(None, Some(&known)), draft(None, Some(&wrong))];
    drafts.extend([draft(None, None), draft(None, Some(b"{\"plain\":1}"))]);
    for (offset, draft) in (0..).zip(&mut drafts) {
        draft.offset = offset;
    }
    let done = decode.apply(drafts.clone()).await.unwrap();
    let offsets: Vec<i64> = done.drafts.iter().map(|draft| draft.offset).collect();
    assert_eq!(offsets, [1, 3], "{done:?}");
    let reasons: Vec<&str> = done.unfit.iter().map(|unfit| unfit.reason.as_str()).collect();
    assert!(reasons[0].contains("the value names the schema 99: the schema registry does not know it"), "{reasons:?}");
    assert!(reasons[1].contains("names the schema 2: it is of type JSON, expected AVRO"), "{reasons:?}");
    assert!(reasons[2].contains("begins with 0x7b and not with 0x00"), "{reasons:?}");
    let for_now: Vec<bool> = done.unfit.iter().map(|unfit| unfit.for_now).collect();
    assert_eq!(for_now, [true, false, false], "the registry may know it later, what a schema is never changes");
    server.requests();
    decode.apply(drafts).await.unwrap();
    assert_eq!(server.requests(), Vec::<String>::new(), "an unknown id is not asked for again at once");
}

#[tokio::test]
async fn an_id_that_was_unknown_is_asked_for_again_later() {
    let server = Server::start().await;
    let decode = open("decode", decode(&server));
    assert!(text(&*decode, &frame(1, &[0x0a])).await.unwrap_err().contains("does not know"));
    server.add("users-value", "AVRO", USER, json!([]));
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(text(&*decode, &frame(1, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
}

/// What a failure is: `retry`, `retry 7s`, `fatal`.
fn kind(error: &Error) -> String {
    match error {
        Error::Retry { after: Some(after), .. } => format!("retry {after:?}"),
        Error::Retry { .. } => "retry".to_owned(),
        Error::Refused { .. } => "refused".to_owned(),
        Error::Fatal { .. } => "fatal".to_owned(),
    }
}

#[tokio::test]
async fn a_registry_that_fails_is_tried_again_or_stops_the_sink_and_loses_nothing() {
    for (fault, expected, part) in [
        (status(500, r#"{"error_code":50001,"message":"Error in the backend"}"#), "retry", "Error in the backend"),
        (status(503, "<html>"), "retry", "503"),
        (Fault::Status(429, &[("retry-after", "7")], String::new()), "retry 7s", "429"),
        (Fault::Silence, "retry", "no answer in time"),
        (Fault::LostAnswer, "retry", "connection closed"),
        (status(200, "<html>log in</html>"), "retry", "no answer of a registry"),
        (status(404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#), "fatal", "look at `registry.url`"),
        (status(404, "<html>"), "fatal", "look at `registry.url`"),
        (status(401, ""), "fatal", "look at `registry.username` and"),
        (status(403, r#"{"error_code":40301,"message":"no"}"#), "fatal", "may not do this"),
        (Fault::Status(302, &[("location", "/login")], String::new()), "fatal", "302"),
    ] {
        let server = Server::start().await;
        let id = server.add("orders-value", "AVRO", USER, json!([]));
        let (decode, encode) = (open("decode", decode(&server)), open("encode", encode(&server)));
        let framed = frame(id, &[0x0a]);
        for (transform, input, output) in
            [(&decode, &framed[..], &br#"{"id":5}"#[..]), (&encode, br#"{"id":5}"#, &framed)]
        {
            server.fail([fault.clone()]);
            let error = transform.apply(vec![draft(None, Some(input))]).await.unwrap_err();
            assert_eq!(kind(&error), expected, "{fault:?}: {error}");
            assert!(error.to_string().contains(part) && error.to_string().contains(&server.url), "{fault:?}: {error}");
            assert_eq!(made(&**transform, input).await.as_deref(), Ok(output), "after {fault:?}");
        }
        assert_eq!(server.versions("orders-value"), 1, "{fault:?}: a request that is repeated registers nothing new");
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = json!({"from": "avro", "registry": {"url": away}});
    let error = open("decode", settings).apply(vec![draft(None, Some(&frame(1, &[])))]).await.unwrap_err();
    assert!(kind(&error) == "retry" && error.to_string().contains("no connection"), "{error}");
}

#[tokio::test]
async fn another_address_answers_for_one_that_is_away() {
    let (one, two) = (Server::start().await, Server::start().await);
    for server in [&one, &two] {
        server.add("a", "AVRO", USER, json!([]));
        server.add("b", "AVRO", "\"long\"", json!([]));
    }
    let settings = json!({"from": "avro", "registry": {"url": [one.url, two.url], "timeout": "500ms"}});
    let decode = open("decode", settings);
    one.fail([status(503, "")]);
    assert_eq!(text(&*decode, &frame(1, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
    assert_eq!(text(&*decode, &frame(2, &[0x0a])).await.unwrap(), "5");
    assert_eq!((one.requests().len(), two.requests().len()), (1, 2), "who answered last is asked first");
}

#[tokio::test]
async fn credentials_are_shown_and_never_told() {
    for (credentials, header) in [
        (json!({"username": "app", "password": "sesame"}), "Basic YXBwOnNlc2FtZQ=="),
        (json!({"token": "sesame"}), "Bearer sesame"),
    ] {
        let server = Server::start().await;
        let id = server.add("a", "AVRO", USER, json!([]));
        server.demand(header);
        let mut registry = settings(&server);
        registry.as_object_mut().unwrap().extend(credentials.as_object().unwrap().clone());
        let decode = open("decode", json!({"from": "avro", "registry": registry}));
        assert_eq!(text(&*decode, &frame(id, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
        server.demand("else");
        let error = text(&*decode, &frame(2, &[])).await.unwrap_err();
        assert!(error.contains("401") && !error.contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn tokens_of_oauth2_are_fetched_kept_and_fetched_anew_when_refused() {
    let server = Server::start().await;
    for name in ["A", "B", "C"] {
        server.add("a", "AVRO", &USER.replace("User", name), json!([]));
    }
    let oauth2 = |in_body: bool| json!({"token-url": server.token_url(), "client-id": "id", "client-secret": "s:", "scope": "a b", "audience": "sr", "in-body": in_body});
    let mut registry = settings(&server);
    registry["oauth2"] = oauth2(false);
    registry["logical-cluster"] = json!("lsrc-1");
    registry["identity-pool"] = json!("pool-1,pool-2");
    let open_with = |registry: &Value| open("decode", json!({"from": "avro", "registry": registry}));
    let decode = open_with(&registry);
    for (id, demanded) in [(1, "Bearer t1"), (2, "Bearer t1"), (3, "Bearer t2")] {
        server.demand(demanded);
        assert_eq!(text(&*decode, &frame(id, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
    }
    let form = "grant_type=client_credentials&scope=a%20b&audience=sr";
    let asked = ("Basic aWQ6cyUzQQ==".to_owned(), form.to_owned());
    assert_eq!(server.cloud(), [Some("lsrc-1".to_owned()), Some("pool-1,pool-2".to_owned())]);
    assert_eq!(server.token_requests(), [asked.clone(), asked]);

    server.demand("else");
    let error = text(&*decode, &frame(4, &[])).await.unwrap_err();
    assert!(error.contains("401") && error.contains("`registry.oauth2`"), "{error}");
    assert_eq!(server.token_requests().len(), 1, "one more token is tried, not many");

    registry["oauth2"] = oauth2(true);
    server.demand("Bearer t1");
    assert_eq!(text(&*open_with(&registry), &frame(1, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
    let (shown, sent) = server.token_requests().remove(0);
    assert_eq!((&*shown, sent), ("", format!("{form}&client_id=id&client_secret=s%3A")));
}

#[tokio::test]
async fn a_token_server_that_refuses_stops_the_sink_and_one_that_is_away_does_not() {
    let server = Server::start().await;
    let id = server.add("a", "AVRO", USER, json!([]));
    let mut registry = settings(&server);
    registry["oauth2"] = json!({"token-url": server.token_url(), "client-id": "id", "client-secret": "sesame"});
    let decode = open("decode", json!({"from": "avro", "registry": registry}));
    for (status, expected) in [(401, "fatal"), (400, "fatal"), (503, "retry"), (429, "retry")] {
        server.fail_tokens([status]);
        let framed = frame(id, &[0x0a]);
        let error = decode.apply(vec![draft(None, Some(&framed))]).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{status}: {error}");
        assert!(error.to_string().contains("get a token: ") && !error.to_string().contains("sesame"), "{error}");
        assert_eq!(expected == "fatal", error.to_string().contains("look at `registry.oauth2`"), "{error}");
    }
    assert_eq!(text(&*decode, &frame(id, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
}

#[tokio::test]
async fn credentials_that_can_not_work_are_told() {
    let oauth2 = |url: &str| json!({"token-url": url, "client-id": "i", "client-secret": "s"});
    for (mut registry, expected) in [
        (json!({"username": "a"}), "registry.password: is missing beside `username`"),
        (json!({"password": "a"}), "registry.username: is missing beside `password`"),
        (json!({"username": "a", "password": "b", "token": "c"}), "registry.token: and `username` exclude each other"),
        (
            json!({"username": "a", "password": "b", "oauth2": oauth2("http://t/")}),
            "registry.oauth2: and `username` exclude each other",
        ),
        (json!({"token": "c", "oauth2": oauth2("http://t/")}), "registry.oauth2: and `token` exclude each other"),
        (json!({"oauth2": oauth2("t:80")}), "registry.oauth2.token-url: `t:80` is no address to get tokens from"),
        (json!({"logical-cluster": "lsrc-1"}), "registry.logical-cluster: goes with `oauth2` or `token` alone"),
        (json!({"token": "c", "identity-pool": "a\nb"}), "registry.identity-pool: holds what no header can hold"),
        (json!({"oauth2": oauth2("https://t/token"), "identity-pool": "pool-1"}), ""),
        (json!({"token": "c", "logical-cluster": "lsrc-1"}), ""),
    ] {
        registry["url"] = json!("https://registry:8081");
        let problems = problems("decode", json!({"from": "avro", "registry": registry}));
        let told: Vec<_> = problems.iter().map(|it| format!("{}: {}", it.setting, it.message)).collect();
        assert_eq!(told.join("; "), expected, "{registry}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
    let server = Server::start().await;
    let large = format!(r#"{{"schema":"{}"}}"#, "x".repeat(5 << 20));
    server.fail([status(200, &large)]);
    let error = text(&*open("decode", decode(&server)), &frame(1, &[])).await.unwrap_err();
    assert!(error.contains("names the schema 1: it is too large"), "{error}");
}

#[tokio::test]
async fn only_so_many_schemas_are_kept() {
    let server = Server::start().await;
    for number in 0..4 {
        server.add("a", "AVRO", &USER.replace("User", &format!("User{number}")), json!([]));
    }
    let mut registry = settings(&server);
    registry["cache"] = json!(2);
    let decode = open("decode", json!({"from": "avro", "registry": registry}));
    for id in [1, 2, 3, 3, 2, 1] {
        assert_eq!(text(&*decode, &frame(id, &[0x0a])).await.unwrap(), r#"{"id":5}"#);
    }
    assert_eq!(server.requests().len(), 4, "the first made room for the third and is asked for again");
}

#[tokio::test]
async fn a_schema_is_registered_once_a_subject_and_its_id_stays() {
    let server = Server::start().await;
    server.add("else", "AVRO", "\"long\"", json!([]));
    let encode = open("encode", encode(&server));
    for _ in 0..2 {
        assert_eq!(made(&*encode, br#"{"id":5}"#).await.unwrap(), frame(2, &[0x0a]));
    }
    assert_eq!(server.requests(), ["POST /subjects/orders-value/versions"]);
    let mut key = draft(Some(br#"{"id":5}"#), None);
    key.topic = "a b".into();
    let settings = json!({"to": "avro", "part": "key", "schema": USER, "registry": settings(&server)});
    let done = open("encode", settings).apply(vec![key]).await.unwrap();
    assert_eq!(done.drafts[0].key.as_deref(), Some(&frame(2, &[0x0a])[..]));
    assert_eq!(server.requests(), ["POST /subjects/a b-key/versions"]);
}

#[tokio::test]
async fn a_schema_that_must_not_be_registered_is_looked_up() {
    let server = Server::start().await;
    let mut looked_up = encode(&server);
    looked_up["register"] = json!(false);
    looked_up["subject"] = json!("users");
    let encode = open("encode", looked_up);
    let error = encode.apply(vec![draft(None, Some(br#"{"id":5}"#))]).await.unwrap_err();
    assert!(kind(&error) == "fatal" && error.to_string().contains("or say `register: true`"), "{error}");
    assert_eq!(server.versions("users"), 0);
    let id = server.add("users", "AVRO", USER, json!([]));
    assert_eq!(made(&*encode, br#"{"id":5}"#).await.unwrap(), frame(id, &[0x0a]));
}

#[tokio::test]
async fn who_only_tries_registers_nothing_and_is_told_what_would_be_registered() {
    let server = Server::start().await;
    let trial = Trial::default();
    let encode_for_trial = open_for("encode", encode(&server), Some(trial.clone())).unwrap();
    for _ in 0..2 {
        assert_eq!(made(&*encode_for_trial, br#"{"id":5}"#).await.unwrap(), frame(0, &[0x0a]));
    }
    assert_eq!(server.requests(), ["POST /subjects/orders-value"]);
    assert_eq!(server.versions("orders-value"), 0);
    let told = trial.told();
    assert!(told.len() == 1 && told[0].contains("would register in orders-value {\"schema\":"), "{told:?}");
    assert!(told[0].contains("0 stands for the id"), "{told:?}");

    let id = server.add("orders-value", "AVRO", USER, json!([]));
    let known = open_for("encode", encode(&server), Some(trial.clone())).unwrap();
    assert_eq!(made(&*known, br#"{"id":5}"#).await.unwrap(), frame(id, &[0x0a]));
    assert_eq!(trial.told(), Vec::<String>::new());
}

#[tokio::test]
async fn a_version_of_a_subject_is_a_schema_too() {
    let server = Server::start().await;
    server.add("users", "AVRO", "\"long\"", json!([]));
    let id = server.add("users", "AVRO", USER, json!([]));
    let settings =
        |version: u32| json!({"to": "avro", "subject": "users", "version": version, "registry": settings(&server)});
    assert_eq!(made(&*open("encode", settings(2)), br#"{"id":5}"#).await.unwrap(), frame(id, &[0x0a]));
    let missing = open("encode", settings(3)).apply(vec![draft(None, Some(b"{}"))]).await.unwrap_err();
    assert!(kind(&missing) == "fatal" && missing.to_string().contains("version 3 of users"), "{missing}");
}

#[tokio::test]
async fn a_schema_that_the_registry_refuses_stops_the_sink() {
    for (code, message, part) in [
        (409, "incompatible with an earlier schema", "not compatible with earlier ones"),
        (422, "Invalid schema", "422 Unprocessable Entity: Invalid schema"),
    ] {
        let server = Server::start().await;
        server.fail([status(code, &json!({"error_code": code, "message": message}).to_string())]);
        let error = open("encode", encode(&server)).apply(vec![draft(None, Some(b"{}"))]).await.unwrap_err();
        assert!(kind(&error) == "fatal" && error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn what_a_schema_refers_to_is_fetched_too() {
    let server = Server::start().await;
    let country = r#"{"type":"enum","name":"Country","symbols":["DE","FR"]}"#;
    let address = r#"{"type":"record","name":"Address","fields":[{"name":"country","type":"Country"}]}"#;
    let user =
        r#"{"type":"record","name":"User","fields":[{"name":"at","type":"Address"},{"name":"from","type":"Country"}]}"#;
    let to = |name: &str| json!({"name": name, "subject": name, "version": 1});
    server.add("Country", "AVRO", country, json!([]));
    server.add("Address", "AVRO", address, json!([to("Country")]));
    let id = server.add("orders-value", "AVRO", user, json!([to("Address"), to("Country")]));
    let json = r#"{"at":{"country":"FR"},"from":"DE"}"#;
    assert_eq!(text(&*open("decode", decode(&server)), &frame(id, &[2, 0])).await.unwrap(), json);
    let mut settings = encode(&server);
    settings["schema"] = json!(user);
    settings["references"] = json!([to("Address"), to("Country")]);
    assert_eq!(made(&*open("encode", settings), json.as_bytes()).await.unwrap(), frame(id, &[2, 0]));
}

#[tokio::test]
async fn references_that_lead_nowhere_or_round_and_round_are_dead_letters() {
    let server = Server::start().await;
    let to = |name: &str| json!({"name": name, "subject": name, "version": 1});
    let gone = server.add("a", "AVRO", r#"["null","Gone"]"#, json!([to("Gone")]));
    let user = r#"{"type":"record","name":"Round","fields":[{"name":"at","type":"Trip"}]}"#;
    server.add("Trip", "AVRO", &user.replace("Trip", "Round2").replace("Round\"", "Trip\""), json!([to("Round")]));
    let round = server.add("Round", "AVRO", user, json!([to("Trip")]));
    let decode = open("decode", decode(&server));
    for (id, part) in [(gone, "refers to version 1 of Gone: 404"), (round, "it can not be read")] {
        let reason = text(&*decode, &frame(id, &[0])).await.unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn files_of_settings_are_read_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let server = Server::start().await;
    let with_file = |file: String| json!({"to": "avro", "schema-file": file, "registry": settings(&server)});
    let encode = open("encode", with_file(path("user.avsc", USER)));
    assert_eq!(made(&*encode, br#"{"id":5}"#).await.unwrap(), frame(1, &[0x0a]));
    for (file, part) in [
        (path("bad.avsc", "{\n  \"type\": \"recor"), "bad.avsc:2:"),
        (path("wrong.avsc", r#"{"type":"recor"}"#), "there is no type `recor`"),
        ("/no/such/file".to_owned(), "read /no/such/file: No such file"),
    ] {
        let error = try_open("encode", with_file(file)).err().unwrap().to_string();
        assert!(error.contains("setting schema-file: ") && error.contains(part), "{error}");
    }
    let ca = json!({"from": "avro", "registry": {"url": server.url, "tls": {"ca": path("ca.pem", "no certificate")}}});
    let error = try_open("decode", ca).err().unwrap().to_string();
    assert!(error.contains("setting registry.tls.ca: "), "{error}");
}
