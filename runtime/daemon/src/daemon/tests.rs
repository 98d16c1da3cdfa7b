//! A daemon in this process, and every command that concerns it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::references::Environment;
use crate::secrets::Secrets;

#[path = "../../tests/outside/mod.rs"]
mod outside;
use outside::{Done, Outside, exit};

/// Lines of `in/` become objects under `out/`.
const PIPELINE: &str = r#"
log: { path: ./data, limit: 100% }
listen: { http: "127.0.0.1:0" }
sources:
  lines:
    connector: file
    topic: lines
    settings: { paths: ["in/*.log"] }
sinks:
  lake:
    connector: s3
    topics: [lines]
    chunk: { age: 50ms }
    settings: { url: "file://./out", format: lines }
"#;

struct Running {
    outside: Outside,
    daemon: Daemon,
}

impl Running {
    async fn start(config: &str) -> Running {
        let outside = Outside::new(config);
        std::fs::create_dir(outside.path().join("in")).unwrap();
        std::fs::create_dir(outside.path().join("out")).unwrap();
        let environment: Environment = Arc::new(|name| (name == "TOKEN").then(|| "hunter2".to_owned()));
        let loaded = load::load(&outside.config(), &registry(), &environment, &Secrets::default());
        let daemon = Daemon::start(loaded.unwrap_or_else(|problems| panic!("{problems:?}"))).await.unwrap();
        Running { outside, daemon }
    }

    /// Runs a command against the daemon, on a thread of its own as a process would be.
    async fn run(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut all: Vec<OsString> = vec!["aqueduct".into()];
        all.extend(arguments.iter().map(OsString::from));
        all.extend(["--url".into(), format!("http://{}", self.daemon.address()).into()]);
        let input = input.to_vec();
        Edge::real().blocking(move || outside::run(all, &input)).await.unwrap()
    }

    async fn works(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments, b"").await;
        assert_eq!(done.code, exit(0), "{arguments:?}: {}", done.err.text());
        done.out.text()
    }

    async fn fails(&self, arguments: &[&str], code: u8) -> String {
        let done = self.run(arguments, b"").await;
        assert_eq!(done.code, exit(code), "{arguments:?}: {}{}", done.out.text(), done.err.text());
        done.err.text()
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&self.works(&["status", "--json"]).await).unwrap()
    }

    /// Waits until the status says so.
    async fn until(&self, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..600 {
            let status = self.status().await;
            if reached(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {what}: {:#}", self.status().await);
    }

    async fn state_of(&self, name: &str) -> String {
        connector(&self.status().await, name)["state"].as_str().unwrap().to_owned()
    }
}

fn connector<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["connectors"].as_array().unwrap().iter().find(|connector| connector["name"] == name).unwrap()
}

/// Everything that the sink wrote, in the order of names.
fn written(folder: &Path) -> String {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            match path.is_dir() {
                _ if hidden => {}
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_become_objects_and_the_status_says_so() {
    let running = Running::start(PIPELINE).await;
    std::fs::write(running.outside.path().join("in/a.log"), "one\ntwo\n").unwrap();
    running.until("two records were delivered", |status| connector(status, "lake")["records"] == 2).await;
    assert_eq!(written(&running.outside.path().join("out")), "one\ntwo\n");
    let shown = running.works(&["status"]).await;
    assert!(shown.contains("lines  source  RUNNING        2"), "{shown}");
    assert!(shown.contains("lake   sink    RUNNING        2"), "{shown}");
    assert_eq!(running.works(&["tail", "lines"]).await, "one\ntwo\n");
    let group = running.works(&["groups", "show", "connect-lake"]).await;
    assert!(group.contains("lines          0          2    2    0"), "{group}");
    assert!(running.works(&["sinks", "show", "lake"]).await.contains("COMMITTED"));
    assert!(running.works(&["sinks", "list"]).await.contains("lake  s3         RUNNING  lines"));
    assert!(running.works(&["sources", "show", "lines"]).await.contains("streams: 1"));
    let missing = running.fails(&["sources", "show", "lake"], 1).await;
    assert!(missing.contains("unknown source `lake`, expected `lines`"), "{missing}");
    running.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_paused_resumed_stopped_restarted_and_rewound() {
    let running = Running::start(PIPELINE).await;
    std::fs::write(running.outside.path().join("in/a.log"), "one\n").unwrap();
    running.until("delivered", |status| connector(status, "lake")["records"] == 1).await;
    running.works(&["pause", "lake"]).await;
    running.until("paused", |status| connector(status, "lake")["state"] == "PAUSED").await;
    running.works(&["resume", "lake"]).await;
    running.until("running", |status| connector(status, "lake")["state"] == "RUNNING").await;
    running.works(&["stop", "lines"]).await;
    running.until("stopped", |status| connector(status, "lines")["state"] == "STOPPED").await;
    running.works(&["restart", "lake"]).await;
    running.until("running again", |status| connector(status, "lake")["state"] == "RUNNING").await;
    let missing = running.fails(&["pause", "lak"], 1).await;
    assert!(missing.contains("there is no source or sink `lak`, did you mean `lake`?"), "{missing}");

    let would = running.works(&["sinks", "rewind", "lake", "--to", "beginning", "--dry-run"]).await;
    assert!(would.contains("lines          0     1   0    1"), "{would}");
    let unasked = running.fails(&["sinks", "rewind", "lake", "--to", "beginning"], 2).await;
    assert!(unasked.contains("give --yes"), "{unasked}");
    assert!(running.fails(&["sinks", "rewind", "lake", "--to", "x", "--yes"], 2).await.contains("`x` is not"));
    running.works(&["sinks", "rewind", "lake", "--to", "beginning", "--yes"]).await;
    let again =
        running.until("delivered again", |_| written(&running.outside.path().join("out")) == "one\none\n").await;
    assert_eq!(connector(&again, "lake")["state"], "RUNNING");
    assert!(
        running.works(&["sinks", "unpin", "lake", "--dry-run"]).await.contains("0 pinned chunks would be given up")
    );
    let nothing = running.works(&["sinks", "unpin", "lake"]).await;
    assert_eq!(nothing, "lake has no pinned chunks: nothing to give up\n");
    running.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_applies_the_difference_and_keeps_the_old_when_the_new_is_wrong() {
    let running = Running::start(PIPELINE).await;
    assert_eq!(running.works(&["reload"]).await, "nothing has changed\n");
    running.outside.configure(&PIPELINE.replace("topics: [lines]", "topcs: [lines]"));
    let error = running.fails(&["reload"], 1).await;
    assert!(error.contains("the old configuration keeps running, the new one is wrong"), "{error}");
    assert!(error.contains("sinks.lake.topcs: unknown key `topcs`, did you mean `topics`?"), "{error}");
    assert_eq!(running.state_of("lake").await, "RUNNING");
    running.outside.configure(&PIPELINE.replace("age: 50ms", "age: 60ms").replace("./data", "./elsewhere"));
    let told = running.works(&["reload"]).await;
    assert!(told.contains("restarted `lake`"), "{told}");
    assert!(told.contains("`log` has changed, which takes a restart"), "{told}");
    assert!(!told.contains("`lines`"), "{told}");
    assert_eq!(running.works(&["reload"]).await, "`log` has changed, which takes a restart\n");
    let folder = running.outside.path().canonicalize().unwrap().join("data");
    assert_eq!(running.status().await["log"]["path"], serde_json::json!(folder), "the log that runs is still this one");
    running.outside.configure(&PIPELINE.replace("age: 50ms", "age: 60ms"));
    assert_eq!(running.works(&["reload"]).await, "nothing has changed\n");
    running.outside.configure("log: { path: ./data, limit: 100% }\n");
    running.works(&["reload"]).await;
    assert_eq!(running.status().await["connectors"], serde_json::json!([]));
    running.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_says_what_of_listening_changes_now_and_what_after_a_restart() {
    let listens = |http: &str, kafka: &str| {
        format!("log: {{ path: ./data, limit: 100% }}\nlisten: {{ http: \"{http}\", kafka: {{ {kafka} }} }}\n")
    };
    let of = |kafka: &str| listens("127.0.0.1:0", kafka);
    let users = "users: { a: { password: x, rights: all } }";
    let running = Running::start(&of(&format!("address: \"127.0.0.1:0\", {users}"))).await;
    let restart = |key: &str| format!("`listen.{key}` has changed, which takes a restart\n");
    let now = |key: &str| format!("`listen.kafka.{key}` has changed, and holds for Kafka clients now\n");
    let more = "users: { a: { password: x, rights: all }, b: { password: y, rights: all, quota: { fetch: 1 KiB } } }";
    let cases = [
        (of(&format!("address: \"127.0.0.1:0\", {users}")), "nothing has changed\n".to_owned()),
        (of(&format!("address: \"127.0.0.1:0\", {more}")), now("users")),
        (of(&format!("address: \"127.0.0.1:0\", {more}")), "nothing has changed\n".to_owned()),
        (
            of(&format!("address: \"127.0.0.1:1\", limits: {{ connections: 7 }}, mechanisms: [plain], {more}")),
            restart("kafka.address") + &restart("kafka.limits") + &now("mechanisms"),
        ),
        (
            listens("127.0.0.1:1", &format!("address: \"127.0.0.1:0\", session: 1h, {users}")),
            restart("http") + &now("mechanisms") + &now("session") + &now("users"),
        ),
        ("log: { path: ./data, limit: 100% }\nlisten: { http: \"127.0.0.1:0\" }\n".to_owned(), restart("kafka")),
    ];
    for (config, expected) in cases {
        running.outside.configure(&config);
        assert_eq!(running.works(&["reload"]).await, expected, "{config}");
    }
    let unreadable = "tls: { certificate: none.pem, key: none.pem }";
    running.outside.configure(&of(&format!("address: \"127.0.0.1:0\", {unreadable}, {users}")));
    let error = running.fails(&["reload"], 1).await;
    assert!(error.contains("listen.kafka") && error.contains("none.pem"), "{error}");
    running.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_does_not_open_an_address_to_others_that_was_closed_to_them() {
    let of = |kafka: &str| {
        format!("log: {{ path: ./data, limit: 100% }}\nlisten: {{ http: \"127.0.0.1:0\", kafka: {{ {kafka} }} }}\n")
    };
    let running = Running::start(&of("address: \"0.0.0.0:0\", users: { a: { password: x, rights: all } }")).await;
    running.outside.configure(&of("address: \"127.0.0.1:0\""));
    for _ in 0..2 {
        let told = running.works(&["reload"]).await;
        assert!(told.contains("`listen.kafka.address` has changed, which takes a restart"), "{told}");
        let stays = "who Kafka clients are and what they may do stays as it was until a restart: listen.kafka: 0.0.0.0:0 can \
                     be reached from other machines";
        assert!(told.contains(stays), "{told}");
    }
    running.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_commands_find_the_daemon_that_holds_the_folder() {
    let config = PIPELINE.replace("127.0.0.1:0", "127.0.0.1:18734");
    let running = Running::start(&config).await;
    let path = running.outside.config();
    let run = |arguments: &[&str], input: &'static [u8]| {
        let mut all: Vec<OsString> = vec!["aqueduct".into(), "--config".into(), path.clone().into_os_string()];
        all.extend(arguments.iter().map(OsString::from));
        async move { Edge::real().blocking(move || outside::run(all, input)).await }
    };
    let done = run(&["topics", "create", "mine"], b"").await.unwrap();
    assert_eq!(done.code, exit(0), "{}", done.err.text());
    let long: &'static [u8] = Box::leak(vec![b'x'; 5 << 20].into_boxed_slice());
    assert_eq!(run(&["produce", "mine"], long).await.unwrap().code, exit(0));
    assert_eq!(run(&["tail", "mine"], b"").await.unwrap().out.bytes().len(), (5 << 20) + 1);
    let second = run(&["run"], b"").await.unwrap();
    assert_eq!(second.code, exit(1));
    let told = second.err.text();
    assert!(told.contains("aqueduct run, process") && told.contains("http://127.0.0.1:18734"), "{told}");
    running.outside.configure(&config.replace("connector: s3", "connector: s4"));
    for command in [&["status"][..], &["topics", "list"]] {
        let done = run(command, b"").await.unwrap();
        let told = done.err.text();
        assert_eq!(done.code, exit(0), "{told}");
        assert!(told.contains("has 1 problem (see aqueduct check), so http://127.0.0.1:18734 is asked"), "{told}");
    }
    running.outside.configure(&config);
    running.daemon.stop().await.unwrap();
    let done = run(&["topics", "list"], b"").await.unwrap();
    assert!(done.out.text().contains("mine"), "{}{}", done.out.text(), done.err.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_in_no_answer() {
    let sink = r#"
  remote:
    connector: s3
    topics: [lines]
    settings: { url: "s3://bucket-${env:TOKEN}", endpoint: "http://127.0.0.1:9/${env:TOKEN}", allow-http: true,
                access-key-id: public-part, secret-access-key: "${env:TOKEN}" }
"#;
    let running = Running::start(&format!("{}{sink}", PIPELINE.trim_end())).await;
    std::fs::write(running.outside.path().join("in/a.log"), "one\n").unwrap();
    running.until("failed", |status| !connector(status, "remote")["last_error"].is_null()).await;
    for arguments in [&["status", "--json"][..], &["status"], &["sinks", "show", "remote"], &["restart", "remote"]] {
        let done = running.run(arguments, b"").await;
        let shown = done.out.text() + &done.err.text();
        assert!(!shown.contains("hunter2") && !shown.contains("public-part"), "{arguments:?}: {shown}");
    }
    running.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_what_the_status_says() {
    let running = Running::start(PIPELINE).await;
    std::fs::write(running.outside.path().join("in/a.log"), "one\ntwo\nthree\n").unwrap();
    running.until("delivered", |status| connector(status, "lake")["records"] == 3).await;
    let url = format!("http://{}", running.daemon.address());
    let get = |path: &str| reqwest::get(format!("{url}{path}"));
    let text = get("/metrics").await.unwrap().text().await.unwrap();
    for line in [
        r#"aqueduct_records_total{connector="lines",kind="source"} 3"#,
        r#"aqueduct_records_total{connector="lake",kind="sink"} 3"#,
        r#"aqueduct_sink_lag_records{connector="lake",topic="lines",partition="0"} 0"#,
        r#"aqueduct_connector_state{connector="lake",state="RUNNING"} 1"#,
        r#"aqueduct_log_end_offset{topic="lines",partition="0"} 3"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }
    assert_eq!(get("/health").await.unwrap().json::<Value>().await.unwrap()["status"], "ok");
    let nothing = get("/nothing").await.unwrap();
    assert_eq!(nothing.status(), 404);
    assert_eq!(nothing.json::<Value>().await.unwrap()["error_code"], 404);
    let foreign = reqwest::Client::new().post(format!("{url}/reload")).header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let rebound = reqwest::Client::new().get(format!("{url}/status")).header("host", "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), 403);
    running.daemon.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_said() {
    let arguments = ["aqueduct", "status", "--url", "http://127.0.0.1:1"].map(OsString::from).to_vec();
    let done = Edge::real().blocking(move || outside::run(arguments, b"")).await.unwrap();
    assert_eq!(done.code, exit(1));
    assert_eq!(done.err.text(), "aqueduct: no daemon answers at http://127.0.0.1:1: is `aqueduct run` running?\n");
    for url in ["127.0.0.1:1", "ftp://localhost", "http://", "localhost:8083"] {
        let arguments = ["aqueduct", "status", "--url", url].map(OsString::from).to_vec();
        let done = Edge::real().blocking(move || outside::run(arguments, b"")).await.unwrap();
        assert_eq!(done.code, exit(2), "{url}");
        let expected = format!("aqueduct: --url: expected an address like `http://127.0.0.1:8083`, found `{url}`\n");
        assert_eq!(done.err.text(), expected);
    }
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arguments = ["aqueduct", "status", "--url", &url].map(OsString::from).to_vec();
    let asked = tokio::spawn(async move { Edge::real().blocking(move || outside::run(arguments, b"")).await.unwrap() });
    drop(listener.accept().await.unwrap());
    drop(listener);
    let done = asked.await.unwrap();
    assert_eq!(done.code, exit(1));
    let told = done.err.text();
    assert!(told.starts_with(&format!("aqueduct: the daemon at {url} did not answer to the end: ")), "{told}");
    assert!(!told.contains("error sending request"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_said_and_leaves_the_folder_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let outside = Outside::new(&format!("log: {{ path: ./data, limit: 100% }}\nlisten: {{ http: \"{address}\" }}\n"));
    let environment: Environment = Arc::new(|_| None);
    let load = || load::load(&outside.config(), &registry(), &environment, &Secrets::default()).ok().unwrap();
    let error = Daemon::start(load()).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("listen.http: {address}: Address already in use")), "{error}");
    drop(taken);
    let daemon = Daemon::start(load()).await.unwrap();
    assert!(daemon.log().recovery().clean);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_follows_sees_what_comes() {
    let running = Running::start(PIPELINE).await;
    running.works(&["topics", "create", "live"]).await;
    let at = format!("http://{}/topics/live/records?from=end&wait=20000", running.daemon.address());
    let waiting = tokio::spawn(async move { reqwest::get(at).await.unwrap().json::<Value>().await.unwrap() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(running.run(&["produce", "live"], b"now\n").await.code, exit(0));
    let page = waiting.await.unwrap();
    assert_eq!(page["records"][0]["value"], "now");
    assert_eq!(page["next"], "0:1");
    running.daemon.stop().await.unwrap();
}
