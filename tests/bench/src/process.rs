//! The real daemon, watched from outside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::meter::{Cost, cpu_of};

/// A daemon that runs until it is dropped.
pub(crate) struct Daemon {
    child: Child,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    url: String,
}

impl Daemon {
    /// Starts `aqueduct run` on a configuration; returns when it answers.
    pub(crate) fn start(configuration: &Path, port: u16) -> Self {
        let log = std::process::Stdio::from(create(&configuration.with_extension("log")));
        let mut command = Command::new(binary());
        command.arg("run").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("build the binary first: cargo build --release");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let daemon = Daemon { child, client: reqwest::Client::new(), runtime, url: format!("http://127.0.0.1:{port}") };
        let start = Instant::now();
        while daemon.status().is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the daemon does not answer: see {}",
                configuration.display()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon
    }

    /// What `/status` says.
    pub(crate) fn status(&self) -> Option<serde_json::Value> {
        self.runtime
            .block_on(async { self.client.get(format!("{}/status", self.url)).send().await.ok()?.json().await.ok() })
    }

    /// One connector's part of it.
    pub(crate) fn connector(&self, name: &str) -> serde_json::Value {
        let status = self.status().unwrap_or_default();
        let connectors = status["connectors"].as_array().cloned().unwrap_or_default();
        connectors.into_iter().find(|connector| connector["name"] == name).unwrap_or_default()
    }

    /// The process, for `/proc`.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// Waits until `done`, and says what the daemon's process cost since `from`.
    pub(crate) fn cost_until(&self, from: (Instant, Duration), mut done: impl FnMut(&Self) -> bool) -> Cost {
        while !done(self) {
            assert!(from.0.elapsed() < Duration::from_secs(600), "no end in ten minutes: {:?}", self.status());
            std::thread::sleep(Duration::from_millis(20));
        }
        Cost { elapsed: from.0.elapsed(), cpu: cpu_of(&self.id()).saturating_sub(from.1) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The release binary beside this one.
fn binary() -> PathBuf {
    let here = std::env::current_exe().expect("a path of our own");
    here.with_file_name("aqueduct")
}

#[expect(clippy::disallowed_types, reason = "a benchmark's own output")]
fn create(path: &Path) -> std::fs::File {
    std::fs::File::create(path).expect("a new file")
}
