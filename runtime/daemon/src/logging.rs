//! The daemon's own log: for people on a terminal, as JSON elsewhere, and into a file where one is declared.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::secrets::Secrets;
use crate::terminal::Failure;

/// The environment variable that says what is logged: `debug`, `aqueduct_engine=trace,info`.
const FILTER: &str = "AQUEDUCT_LOG";

/// What is logged where nobody says. The store's own attempts are told by the delivery that they belong to.
const DEFAULT: &str = "info,object_store=warn";

/// The target of what people on a terminal are told in other words.
pub(crate) const TOLD: &str = "aqueduct";

/// How large the file gets before it is renamed.
const LARGEST: u64 = 10 << 20;

/// Begins to log to standard error, and to `file`. `filter` is the value of `AQUEDUCT_LOG`. A process logs in one way:
/// where something in it has begun to log already, that stays.
///
/// # Errors
/// `Usage` when the filter makes no sense, `Failed` when the file cannot be opened.
pub(crate) fn begin(filter: Option<String>, file: Option<&Path>, secrets: &Secrets) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter.as_deref().unwrap_or(DEFAULT))
        .map_err(|cause| Failure::Usage(format!("{FILTER}: {cause}")))?;
    let terminal = io::stderr().is_terminal();
    let errors = Hiding { secrets: secrets.clone(), to: Target::Errors };
    let layer = tracing_subscriber::fmt::layer();
    let to_errors = match terminal {
        true => {
            let untold = filter_fn(|event| event.target() != TOLD || *event.level() < tracing::Level::INFO);
            layer.with_target(false).with_writer(errors).with_filter(untold).boxed()
        }
        false => layer.json().flatten_event(true).with_writer(errors).boxed(),
    };
    let to_file = match file {
        None => None,
        Some(path) => {
            let told = |cause: io::Error| Failure::Failed(format!("log-file {}: {cause}", path.display()));
            let target = Target::File(Arc::new(Mutex::new(LogFile::open(path).map_err(told)?)));
            let hiding = Hiding { secrets: secrets.clone(), to: target };
            Some(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(hiding))
        }
    };
    // Refused where the process logs already.
    let _ = tracing_subscriber::registry().with(filter).with(to_errors).with(to_file).try_init();
    Ok(())
}

/// The name of the variable that [`begin`] takes the value of.
pub(crate) fn filter_variable() -> &'static str {
    FILTER
}

/// Writes what may be shown.
#[derive(Clone)]
struct Hiding {
    secrets: Secrets,
    to: Target,
}

#[derive(Clone)]
enum Target {
    Errors,
    File(Arc<Mutex<LogFile>>),
}

impl<'a> MakeWriter<'a> for Hiding {
    type Writer = Hiding;

    fn make_writer(&'a self) -> Hiding {
        self.clone()
    }
}

impl Write for Hiding {
    /// An event is written with one call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let shown = self.secrets.hide(&text);
        match &self.to {
            Target::Errors => io::stderr().write_all(shown.as_bytes())?,
            Target::File(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write(shown.as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is renamed when it is large, so that two of them are the most there is.
struct LogFile {
    path: PathBuf,
    file: Box<dyn Write + Send>,
    length: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file: Box::new(file), length })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.length >= LARGEST {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            *self = LogFile::open(&self.path)?;
        }
        self.length += line.len() as u64;
        self.file.write_all(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_renamed_and_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/aqueduct.log");
        let mut log = LogFile::open(&path).unwrap();
        log.write(&vec![b'x'; LARGEST as usize]).unwrap();
        log.write(b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"next\n");
        assert_eq!(std::fs::metadata(folder.path().join("new/aqueduct.log.1")).unwrap().len(), LARGEST);
        drop(log);
        LogFile::open(&path).unwrap().write(b"more\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"next\nmore\n");
    }

    #[test]
    fn secrets_are_not_logged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aqueduct.log");
        let secrets = Secrets::default();
        secrets.remember("hunter2");
        let to = Target::File(Arc::new(Mutex::new(LogFile::open(&path).unwrap())));
        Hiding { secrets, to }.write_all(b"{\"error\":\"no user hunter2\"}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"error\":\"no user ***\"}\n");
    }
}
