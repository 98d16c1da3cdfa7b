//! Dead letters through the real daemon: counted, replayed after a fix, discarded, and killed in between.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use aqueduct_tests::daemon::Daemon;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// Every third line is no JSON.
const LINES: usize = 300;

/// A sink that takes JSON, or whatever comes, and one beside it that always took everything.
fn configuration(format: &str) -> String {
    let sink = |name: &str, format: &str| {
        format!(
            "  {name}: {{ connector: s3, topics: [lines], chunk: {{ age: 50ms }}, retry: {{ first: 20ms, longest: 200ms }}, \
             settings: {{ url: \"file://./{name}\", path: \"{{topic}}\", format: {format} }} }}\n"
        )
    };
    format!(
        "sources:\n  logs: {{ connector: file, topic: lines, settings: {{ paths: [\"in/*.log\"], poll: 20ms, \
         discover: 50ms }} }}\nsinks:\n{}{}",
        sink("lake", format),
        sink("raw", "lines")
    )
}

fn line(n: usize) -> String {
    match n % 3 {
        0 => format!("plain text {n}"),
        _ => format!("{{\"n\":{n}}}"),
    }
}

fn all() -> Vec<String> {
    let mut all: Vec<_> = (0..LINES).map(line).collect();
    all.sort();
    all
}

/// The lines in all files of a folder.
fn lines(daemon: &Daemon, folder: &str) -> Vec<String> {
    let files = daemon.files(folder);
    let text = files.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let mut lines: Vec<String> = text.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort();
    lines
}

fn does(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.command(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "aqueduct {arguments:?}: {told}\n{}", daemon.log());
    String::from_utf8(output.stdout).unwrap()
}

fn told_json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let told = does(daemon, &[arguments, &["--json"]].concat());
    serde_json::from_str(&told).unwrap_or_else(|cause| panic!("{cause}: {told}"))
}

/// What `list` says of the sink's letters.
fn listed(daemon: &Daemon) -> Value {
    let all = told_json(daemon, &["dead-letters", "list"]);
    let topics = all["dead_letters"].as_array().unwrap();
    topics.iter().find(|topic| topic["topic"] == "lake.dead-letters").cloned().unwrap_or_default()
}

async fn until_committed(daemon: &Daemon, records: usize) {
    let committed = async |daemon: &Daemon| {
        let group = daemon.get("/groups/connect-lake").await.unwrap_or_default();
        let other = daemon.get("/groups/connect-raw").await.unwrap_or_default();
        [group, other].iter().all(|group| {
            let group: Value = serde_json::from_str(group).unwrap_or_default();
            group["lag"] == 0 && group["partitions"][0]["committed"] == records
        })
    };
    daemon.until(&format!("both sinks have come to {records}"), committed).await;
}

/// A daemon whose sink has set every third line aside.
async fn with_letters() -> Daemon {
    let mut daemon = Daemon::new(PROGRAM, &configuration("json-lines"));
    let text: String = (0..LINES).map(|n| line(n) + "\n").collect();
    fs::write(daemon.path("in/a.log"), text).unwrap();
    daemon.started().await;
    until_committed(&daemon, LINES).await;
    assert_eq!(listed(&daemon)["open"], LINES / 3);
    assert_eq!(lines(&daemon, "lake").len(), LINES - LINES / 3);
    daemon
}

#[tokio::test]
async fn letters_are_replayed_once_to_the_sink_that_set_them_aside() {
    let daemon = with_letters().await;
    let listed_before = listed(&daemon);
    let reasons = listed_before["reasons"].as_array().unwrap();
    let told = |reason: &Value| (reason["stage"].clone(), reason["from"].clone(), reason["open"].clone());
    let counted: BTreeSet<_> = reasons.iter().map(|reason| format!("{:?}", told(reason))).collect();
    assert_eq!(counted.len(), 1, "{listed_before}");
    assert_eq!(reasons[0]["stage"], "TASK_PUT");
    assert_eq!(reasons[0]["from"], "lines");
    let text = does(&daemon, &["dead-letters", "list"]);
    assert!(text.contains("not JSON") && text.contains("TASK_PUT"), "{text}");

    // Only told.
    let dry = told_json(&daemon, &["dead-letters", "replay", "lake", "--dry-run"]);
    assert_eq!((&dry["letters"], &dry["to"]["lines"]), (&Value::from(LINES / 3), &Value::from(LINES / 3)), "{dry}");
    let dry = told_json(&daemon, &["dead-letters", "discard", "lake", "--dry-run"]);
    assert_eq!(dry["letters"], LINES / 3, "{dry}");
    assert_eq!(listed(&daemon), listed_before);
    let end = told_json(&daemon, &["topics", "show", "lines"])["partitions"][0]["end"].clone();
    assert_eq!(end, LINES);

    daemon.configure(&configuration("lines"));
    does(&daemon, &["reload"]);
    let done = told_json(&daemon, &["dead-letters", "replay", "lake", "--reason", "not JSON"]);
    assert_eq!(done["letters"], LINES / 3, "{done}");
    until_committed(&daemon, LINES + LINES / 3).await;
    assert_eq!(lines(&daemon, "lake"), all());
    assert_eq!(lines(&daemon, "raw"), all(), "a sink that had taken them does not get them again");

    let listed_after = listed(&daemon);
    assert_eq!((&listed_after["open"], &listed_after["records"]), (&Value::from(0), &Value::from(LINES / 3)));
    assert!(does(&daemon, &["dead-letters", "replay", "lake"]).contains("nothing to replay"));
    until_committed(&daemon, LINES + LINES / 3).await;
    assert_eq!(lines(&daemon, "lake"), all());
}

#[tokio::test]
async fn a_replay_that_is_killed_is_gone_on_with() {
    // After it is noted where the topic ends, after the append, and after that was noted.
    for (hit, open) in [(1, LINES / 3), (2, 0), (3, 0)] {
        let mut daemon = with_letters().await;
        assert!(daemon.stop().success());
        let mut replay = Command::new(PROGRAM);
        replay.args(["dead-letters", "replay", "lake"]).current_dir(daemon.folder());
        replay.env("AQUEDUCT_FAIL_POINT", format!("deadletter.replay:{hit}"));
        let killed = replay.output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{killed:?}");

        daemon.configure(&configuration("lines"));
        daemon.started().await;
        assert_eq!(listed(&daemon)["open"], open, "killed at {hit}");
        let done = told_json(&daemon, &["dead-letters", "replay", "lake"]);
        assert_eq!(done["letters"], open, "killed at {hit}: {done}");
        until_committed(&daemon, LINES + LINES / 3).await;
        assert_eq!(lines(&daemon, "lake"), all(), "killed at {hit}");
        assert_eq!(lines(&daemon, "raw"), all(), "killed at {hit}");
        assert_eq!(listed(&daemon)["open"], 0);
    }
}

#[tokio::test]
async fn what_is_set_aside_again_keeps_where_it_was_first() {
    let daemon = with_letters().await;
    told_json(&daemon, &["dead-letters", "replay", "lake"]);
    until_committed(&daemon, LINES + LINES / 3).await;
    let again = listed(&daemon);
    assert_eq!((&again["open"], &again["records"]), (&Value::from(LINES / 3), &Value::from(2 * LINES / 3)));

    daemon.configure(&configuration("lines"));
    does(&daemon, &["reload"]);
    told_json(&daemon, &["dead-letters", "replay", "lake"]);
    until_committed(&daemon, LINES + 2 * LINES / 3).await;
    assert_eq!(lines(&daemon, "lake"), all());
    assert_eq!(lines(&daemon, "raw"), all());
    let last = told_json(&daemon, &["tail", "lines", "-n", "1"]);
    let headers = last["headers"].as_array().unwrap().iter().filter(|header| header[0] == "aqueduct.replayed");
    let said: Vec<Value> = headers.map(|header| serde_json::from_str(header[1].as_str().unwrap()).unwrap()).collect();
    let was: Vec<_> = said.iter().map(|it| json!([it["topic"], it["partition"], it["offset"], it["sink"]])).collect();
    assert_eq!(was, [json!(["lines", 0, LINES - 3, "lake"])], "{last}");
}

#[tokio::test]
async fn discarded_letters_are_open_no_more_and_others_are() {
    let daemon = with_letters().await;
    let refused = daemon.command(&["dead-letters", "discard", "lake"]);
    assert_eq!(refused.status.code(), Some(2), "nobody can be asked: {refused:?}");
    assert!(does(&daemon, &["dead-letters", "discard", "lake", "--reason", "no such", "--yes"]).contains("0 letters"));
    assert_eq!(listed(&daemon)["open"], LINES / 3);

    let done = does(&daemon, &["dead-letters", "discard", "lake", "--yes"]);
    assert!(done.contains(&format!("{} letters discarded", LINES / 3)), "{done}");
    assert_eq!(listed(&daemon)["open"], 0);
    assert_eq!(told_json(&daemon, &["dead-letters", "replay", "lake"])["letters"], 0);
    assert!(does(&daemon, &["dead-letters", "show", "lake", "-n", "1"]).contains("not JSON"), "it stays readable");

    let unknown = daemon.command(&["dead-letters", "replay", "lakes"]);
    let unknown = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.contains("no dead letters of `lakes`") && unknown.contains("lake.dead-letters"), "{unknown}");
}
