//! The real daemon, as a process of its own with a folder of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything that should happen may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon with its configuration, log and logs in a folder of its own; killed when dropped.
pub struct Daemon {
    program: PathBuf,
    folder: TempDir,
    address: String,
    child: Option<Child>,
}

impl Daemon {
    /// A daemon that is configured by `configuration`, under which the log is `./data` on a disk however full, and not started yet.
    /// `listen` is added; an input folder `in` is there.
    pub fn new(program: &str, configuration: &str) -> Daemon {
        let folder = tempfile::Builder::new().prefix("aqueduct-").tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let daemon = Daemon { program: PathBuf::from(program), folder, address, child: None };
        daemon.configure(configuration);
        daemon
    }

    /// A daemon that runs, with an endpoint for Kafka clients, and the endpoint's address.
    pub async fn for_kafka_clients(program: &str, configuration: &str) -> (Daemon, String) {
        let mut daemon = Daemon::new(program, configuration);
        let kafka = daemon.listens_for_kafka_clients("");
        daemon.started().await;
        (daemon, kafka)
    }

    /// The same with TLS, by the certificate in its folder's `kafka.pem`, for a user that proves its password: `alice`,
    /// `alice-secret`.
    pub async fn for_known_kafka_clients(program: &str, configuration: &str) -> (Daemon, String) {
        let mut daemon = Daemon::new(program, configuration);
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(daemon.path("kafka.pem"), made.cert.pem()).unwrap();
        fs::write(daemon.path("kafka-key.pem"), made.signing_key.serialize_pem()).unwrap();
        let kafka = daemon.listens_for_kafka_clients(
            ", tls: { certificate: kafka.pem, key: kafka-key.pem }, users: { alice: { password: alice-secret, rights: all } }",
        );
        daemon.started().await;
        (daemon, kafka)
    }

    fn listens_for_kafka_clients(&self, more: &str) -> String {
        let kafka = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        // Members that come one by one need not be waited for.
        let endpoint = format!("kafka: {{ address: \"{kafka}\", groups: {{ initial-delay: 500ms }}{more} }}");
        let file = self.path("aqueduct.yaml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("listen: {", &format!("listen: {{ {endpoint},"), 1)).unwrap();
        kafka
    }

    /// Writes another configuration; a running daemon does not notice until it is told.
    pub fn configure(&self, configuration: &str) {
        let text =
            format!("log: {{ path: ./data, limit: 100% }}\nlisten: {{ http: {} }}\n{configuration}", self.address);
        fs::write(self.folder.path().join("aqueduct.yaml"), text).unwrap();
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The address of its HTTP endpoint: `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts it, with `environment` on top of the test's own.
    pub fn start(&mut self, environment: &[(&str, &str)]) {
        let mut command = Command::new(&self.program);
        command.arg("run").envs(environment.iter().copied());
        self.spawn(command);
    }

    /// Starts it by a command that becomes it: the last argument is its program.
    pub fn start_as(&mut self, command: &[&str]) {
        let mut started = Command::new(command[0]);
        started.args(&command[1..]).arg(&self.program);
        self.spawn(started);
    }

    fn spawn(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "it runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("daemon.log")).unwrap();
        command.current_dir(self.folder()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|cause| panic!("start {command:?}: {cause}")));
    }

    /// Starts it and waits until it answers.
    pub async fn started(&mut self) {
        self.start(&[]);
        self.until("it answers", async |daemon| daemon.get("/health").await.is_some()).await;
    }

    /// Lives for so many milliseconds, from its start or from its first answer on, and is killed.
    pub async fn live(&mut self, (is_from_start, millis): (bool, u64)) {
        match is_from_start {
            true => self.start(&[]),
            false => self.started().await,
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.kill();
    }

    /// Runs until it ends itself at the `hit`-th time it comes to `point`.
    pub async fn ended_at(&mut self, point: &str, hit: u64) {
        let place = format!("{point}:{hit}");
        self.start(&[("AQUEDUCT_FAIL_POINT", &place)]);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.exited(Duration::ZERO) {
                assert_eq!(status.signal(), Some(9), "{place}: {status}\n{}", self.log());
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{place} was never hit\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(9), "it ended by itself: {status}\n{}", self.log());
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Asks it to stop and waits for that.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.exited(Duration::from_secs(40)).unwrap_or_else(|| panic!("it did not stop\n{}", self.log()))
    }

    /// Waits until it ends by itself; `None` when it still runs after `limit`.
    pub fn exited(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        let child = self.child.as_mut().expect("it was started");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            if begun.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has written to standard output and error.
    pub fn log(&self) -> String {
        let log = fs::read(self.path("daemon.log")).unwrap_or_default();
        let last = log.len().saturating_sub(20_000);
        String::from_utf8_lossy(&log[last..]).into_owned()
    }

    /// Runs a command of the command line in its folder.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.folder()).stdin(Stdio::null());
        command.output().unwrap_or_else(|cause| panic!("run {command:?}: {cause}"))
    }

    /// What a path of its HTTP endpoint answers; `None` where it does not answer with success.
    pub async fn get(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("{}{path}", self.url())).await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
    }

    /// Its status.
    pub async fn status(&self) -> Value {
        let text = self.get("/status").await.unwrap_or_else(|| panic!("no status\n{}", self.log()));
        serde_json::from_str(&text).unwrap()
    }

    /// The status of one source or sink.
    pub async fn connector(&self, name: &str) -> Value {
        let status = self.status().await;
        let connectors = status["connectors"].as_array().unwrap_or_else(|| panic!("{status}"));
        let found = connectors.iter().find(|connector| connector["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {status}")).clone()
    }

    /// Waits until `holds`; the test fails with `what` and the log when that takes too long.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Daemon) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The files under a folder of its own, by path from there; hidden ones left out.
    pub fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let root = self.path(folder);
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).into_iter().flatten().map(Result::unwrap) {
                let path = entry.path();
                if entry.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = fs::read(&path) {
                    files.push((path.strip_prefix(&root).unwrap().display().to_string(), bytes));
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}", self.log());
        }
    }
}
