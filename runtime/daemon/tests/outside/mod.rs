//! A configuration in a folder of its own, and commands run on it in this process.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "tests share it, and none needs all of it"
)]

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aqueduct_daemon::Terminal;

/// Where commands run.
pub struct Outside {
    folder: tempfile::TempDir,
}

/// Bytes that a command writes.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// What was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// The same as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command did.
pub struct Done {
    pub code: String,
    pub out: Written,
    pub err: Written,
}

impl Outside {
    pub fn new(config: &str) -> Self {
        let outside = Outside { folder: tempfile::tempdir().unwrap() };
        outside.configure(config);
        outside
    }

    /// Writes another configuration.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.config(), config).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("aqueduct.yaml")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command with this configuration.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Done {
        let config = self.config();
        let mut all: Vec<OsString> = vec!["aqueduct".into()];
        all.extend(arguments.iter().map(OsString::from));
        all.extend(["--config".into(), config.into_os_string()]);
        run(all, input)
    }

    pub fn works(&self, arguments: &[&str]) -> String {
        self.works_with(arguments, b"")
    }

    pub fn works_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let done = self.run(arguments, input);
        assert_eq!(done.code, exit(0), "{arguments:?}: {}", done.err.text());
        done.out.text()
    }

    pub fn works_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let done = self.run(arguments, b"");
        assert_eq!(done.code, exit(0), "{arguments:?}: {}", done.err.text());
        done.out.bytes()
    }

    /// What a command says that ends with `code`.
    pub fn fails(&self, arguments: &[&str], code: u8) -> String {
        self.fails_with(arguments, b"", code)
    }

    pub fn fails_with(&self, arguments: &[&str], input: &[u8], code: u8) -> String {
        let done = self.run(arguments, input);
        assert_eq!(done.code, exit(code), "{arguments:?}: {}{}", done.out.text(), done.err.text());
        done.err.text()
    }

    /// Holds the folder `data` as another process would.
    pub fn hold_log(&self, owner: &str) -> impl Sized + use<> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = aqueduct_commit_log::Options { owner: owner.to_owned(), ..Default::default() };
        let folder = self.path().join("data");
        let log = runtime.block_on(async {
            aqueduct_commit_log::CommitLog::open(aqueduct_api::Edge::real(), &folder, options).await.unwrap()
        });
        (log, runtime)
    }
}

/// Runs a command.
pub fn run(arguments: Vec<OsString>, input: &[u8]) -> Done {
    let (out, err) = (Written::default(), Written::default());
    let terminal = Terminal::piped(io::Cursor::new(input.to_vec()), out.clone(), err.clone());
    let code = format!("{:?}", aqueduct_daemon::execute(arguments, terminal));
    Done { code, out, err }
}

/// An exit code as it is compared: the standard library's has no other way.
pub fn exit(code: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(code))
}
