//! The real daemon, from outside: what it does when it is told something, and when the machine or a person is in its way.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::lines::{self, Written};
use aqueduct_tests::services;
use rustix::process::Signal;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

const SOURCE: &str = "
sources:
  logs:
    connector: file
    topic: lines
    settings: { paths: [\"in/*.log\"], poll: 20ms, discover: 50ms, max-record: 4 KiB }
    retry: { first: 20ms, longest: 200ms }
sinks:
";

/// A sink of the lines with these settings.
fn sink(name: &str, settings: &str) -> String {
    format!(
        "  {name}: {{ connector: s3, topics: [lines], chunk: {{ age: 100ms }}, retry: {{ first: 20ms, longest: 200ms }}, \
         settings: {{ path: \"{{topic}}\", {settings} }} }}\n"
    )
}

/// Lines into the folder `out`.
fn lake() -> String {
    format!("{SOURCE}{}", sink("lake", "url: \"file://./out\""))
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must succeed.
fn does(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.command(arguments);
    assert!(output.status.success(), "aqueduct {arguments:?}: {}\n{}", told(&output), daemon.log());
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, with that exit code.
fn fails(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let output = daemon.command(arguments);
    assert_eq!(output.status.code(), Some(code), "aqueduct {arguments:?}: {}", told(&output));
    told(&output)
}

/// Waits until all lines are in a folder, and checks them.
async fn arrived(daemon: &Daemon, folder: &str, written: &Written) {
    let all = async |daemon: &Daemon| lines::count(&daemon.files(folder)) >= lines::total(written);
    daemon.until(&format!("all lines are in {folder}"), all).await;
    lines::check(written, &daemon.files(folder)).unwrap_or_else(|wrong| panic!("{wrong}\n{}", daemon.log()));
}

/// What is shown the first two times, each from its heading on.
fn watched(daemon: &Daemon, arguments: &[&str], heading: &str) -> [Vec<String>; 2] {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(daemon.folder()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut watching = command.spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let shown = [(); 2].map(|()| {
        let heading = lines.find(|line| line.starts_with(heading)).unwrap();
        [heading].into_iter().chain(lines.by_ref().take(1)).collect()
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    shown
}

async fn in_state(daemon: &Daemon, name: &str, state: &str) {
    daemon.until(&format!("{name} is {state}"), async |daemon| daemon.connector(name).await["state"] == state).await;
}

#[tokio::test]
async fn it_delivers_tells_and_stops() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    let written = lines::write_file(&daemon.path("in/a.log"), "a.0", 1000, 50);
    daemon.started().await;
    arrived(&daemon, "out", &written).await;
    let delivered = async |daemon: &Daemon| daemon.connector("lake").await["records"] == 1000;
    daemon.until("the sink has committed", delivered).await;

    let status: Value = serde_json::from_str(&does(&daemon, &["status", "--json"])).unwrap();
    let names: Vec<_> =
        status["connectors"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["lake", "logs"]);
    let text = does(&daemon, &["status"]);
    assert!(text.contains("lake") && text.contains("RUNNING"), "{text}");
    assert_eq!(does(&daemon, &["tail", "lines", "-n", "1"]).trim(), lines::line("a.0", 999, 50).trim());
    let metrics = daemon.get("/metrics").await.unwrap();
    assert!(metrics.lines().any(|line| line.contains("lake") && line.ends_with(" 1000")), "{metrics}");
    assert!(does(&daemon, &["groups", "show", "connect-lake"]).contains("1000"));
    // What is watched is shown again, then with a rate.
    for (arguments, heading, row) in [
        (&["status", "--watch"][..], "NAME  KIND", "lake sink RUNNING 1,000 0 0"),
        (&["topics", "list", "--watch"], "TOPIC", "lines 1 1000 0 "),
        (&["topics", "show", "lines", "-w"], "PARTITION", "0 0 1000 0 0"),
        (&["groups", "list", "--watch"], "GROUP", "connect-lake 0 1 0 0"),
        (&["groups", "show", "connect-lake", "--watch"], "TOPIC", "lines 0 1000 1000 0 0"),
    ] {
        let shown = watched(&daemon, arguments, heading);
        let words: Vec<_> = shown[1][1].split_whitespace().collect();
        assert!(words.join(" ").starts_with(row), "{arguments:?}: {shown:#?}");
    }

    assert!(daemon.stop().success());
    // Without a daemon, what concerns data works all the same.
    assert_eq!(does(&daemon, &["tail", "lines", "-n", "1"]).trim(), lines::line("a.0", 999, 50).trim());
    fails(&daemon, &["status"], 1);
    fails(&daemon, &["topics", "list", "--watch"], 2);
}

#[tokio::test]
async fn a_pause_survives_a_restart() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    daemon.started().await;
    does(&daemon, &["pause", "lake"]);
    in_state(&daemon, "lake", "PAUSED").await;
    daemon.kill();
    let written = lines::write_file(&daemon.path("in/a.log"), "a.0", 500, 50);
    daemon.started().await;
    in_state(&daemon, "lake", "PAUSED").await;
    daemon.until("the source has read", async |daemon| daemon.connector("logs").await["records"] == 500).await;
    assert_eq!(daemon.files("out").len(), 0);
    does(&daemon, &["resume", "lake"]);
    arrived(&daemon, "out", &written).await;
    let unknown = fails(&daemon, &["pause", "lakes"], 1);
    assert!(unknown.contains("lakes") && unknown.contains("lake"), "{unknown}");
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_a_good_one_what_differs() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    let written = lines::write_file(&daemon.path("in/a.log"), "a.0", 100, 50);
    daemon.started().await;
    arrived(&daemon, "out", &written).await;

    daemon.configure(&lake().replace("connector: s3", "connectr: s3"));
    let refused = told(&daemon.command(&["reload", "--url", &daemon.url()]));
    assert!(refused.contains("connectr") && refused.contains("aqueduct.yaml"), "{refused}");
    daemon.signal(Signal::HUP);
    daemon.until("the signal is answered", async |daemon| daemon.log().contains("connectr")).await;
    in_state(&daemon, "lake", "RUNNING").await;

    let second = sink("second", "url: \"file://./second\"");
    daemon.configure(&format!("{}{second}", lake()));
    let changes = does(&daemon, &["reload"]);
    assert!(changes.contains("second"), "{changes}");
    arrived(&daemon, "second", &written).await;
    let restarted = daemon.connector("lake").await["restarts"].clone();
    assert_eq!(restarted, 0, "what did not change goes on");
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_who_is_there() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    daemon.started().await;
    let other = Daemon::new(PROGRAM, &lake());
    let configuration = fs::read_to_string(other.path("aqueduct.yaml")).unwrap();
    fs::write(daemon.path("other.yaml"), configuration).unwrap();
    let refused = fails(&daemon, &["run", "other.yaml"], 1);
    assert!(refused.contains(&daemon.id().to_string()), "{refused}");
    in_state(&daemon, "lake", "RUNNING").await;
}

#[tokio::test]
async fn a_stop_leaves_a_clean_log_and_nothing_behind() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    let written = lines::write_file(&daemon.path("in/a.log"), "a.0", 20_000, 200);
    daemon.started().await;
    // In the middle of its work.
    daemon.until("it reads", async |daemon| daemon.connector("logs").await["records"] != 0).await;
    assert!(daemon.stop().success());
    daemon.started().await;
    let status = daemon.status().await;
    assert_eq!(status["log"]["recovery"]["clean"], true, "{status}");
    arrived(&daemon, "out", &written).await;
}

#[tokio::test]
async fn a_connector_that_fails_fails_alone() {
    let s3 = services::s3().await;
    let broken = sink("broken", &format!("url: \"s3://no-such-bucket/x\", {}", s3.settings()));
    let mut daemon = Daemon::new(PROGRAM, &format!("{}{broken}", lake()));
    let written = lines::write_file(&daemon.path("in/a.log"), "a.0", 100, 50);
    daemon.started().await;
    arrived(&daemon, "out", &written).await;
    daemon
        .until("its reason is told", async |daemon| {
            let broken = daemon.connector("broken").await.to_string();
            broken.contains("no-such-bucket")
        })
        .await;
    in_state(&daemon, "lake", "RUNNING").await;
    let checked = fails(&daemon, &["check"], 1);
    assert!(checked.contains("no-such-bucket") && checked.contains("lake: works"), "{checked}");

    for text in [daemon.log(), daemon.status().await.to_string(), daemon.get("/metrics").await.unwrap(), checked] {
        assert!(!text.contains(&s3.secret_key), "a secret was shown: {text}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_set_aside_with_its_reason() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    let long = "z".repeat(10_000);
    let text = [lines::line("a.0", 0, 5), format!("{long}\n"), lines::line("a.0", 1, 5)].concat();
    fs::write(daemon.path("in/a.log"), text).unwrap();
    daemon.started().await;
    arrived(&daemon, "out", &Written::from([("a.0".to_owned(), 2)])).await;
    let letters = does(&daemon, &["dead-letters", "list"]);
    assert!(letters.contains("logs.dead-letters"), "{letters}");
    let shown = does(&daemon, &["dead-letters", "show", "logs.dead-letters"]);
    assert!(shown.contains("a.log"), "{shown}");
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_told_with_its_place() {
    for (configuration, expected) in [
        ("sinks: { lake: { conector: s3 } }", vec!["aqueduct.yaml:3:", "conector", "connector"]),
        ("sinks: { lake: { connector: s4, topics: [x] } }", vec!["s4", "s3"]),
        ("log: ./again", vec!["log", "aqueduct.yaml:3:"]),
        ("memory: lots", vec!["lots", "memory"]),
        ("a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]", vec!["aqueduct.yaml:"]),
    ] {
        let daemon = Daemon::new(PROGRAM, configuration);
        let shown = fails(&daemon, &["run"], 2);
        let checked = fails(&daemon, &["check", "--offline"], 2);
        for expected in expected {
            assert!(
                shown.contains(expected) && checked.contains(expected),
                "{configuration}: {expected}: {shown}\n{checked}"
            );
        }
    }
}

/// Starts a daemon in a mount namespace of its own, after `prepare` (a shell script) has run in its folder.
fn started_after(daemon: &mut Daemon, prepare: &str) {
    daemon.start_as(&[
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-ec",
        &format!("{prepare}\nexec \"$0\" run"),
    ]);
}

#[tokio::test]
async fn a_full_disk_makes_sources_wait_and_goes_on_by_itself() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    let written = lines::write_file(&daemon.path("in/a.log"), "a.0", 20_000, 1000);
    let prepare = "mkdir disk; mount -t tmpfs -o size=64m tmpfs disk; head -c 50331648 /dev/zero >disk/ballast
        mkdir disk/data; ln -s disk/data data";
    started_after(&mut daemon, prepare);
    daemon.until("it answers", async |daemon| daemon.get("/health").await.is_some()).await;
    let full = async |daemon: &Daemon| daemon.connector("logs").await.to_string().contains("disk full");
    daemon.until("the source is told that the disk is full", full).await;
    assert!(daemon.connector("logs").await["records"].as_u64().unwrap() < 20_000);
    // What is in the namespace can be reached through its process.
    let ballast = format!("/proc/{}/root{}", daemon.id(), daemon.path("disk/ballast").display());
    fs::remove_file(&ballast).unwrap_or_else(|cause| panic!("remove {ballast}: {cause}"));
    arrived(&daemon, "out", &written).await;
    assert!(daemon.stop().success());
}

#[tokio::test]
async fn a_folder_that_can_not_be_written_is_told() {
    let mut daemon = Daemon::new(PROGRAM, &lake());
    started_after(&mut daemon, "mkdir data; mount -t tmpfs -o ro tmpfs data");
    let status = daemon.exited(Duration::from_secs(30)).unwrap_or_else(|| panic!("it runs\n{}", daemon.log()));
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(daemon.log().contains("data"), "{}", daemon.log());
    assert!(daemon.log().to_lowercase().contains("read-only"), "{}", daemon.log());
}
