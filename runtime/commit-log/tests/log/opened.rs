//! Logs for tests: in temporary folders, on one thread, where every blocking job runs at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aqueduct_api::conformance::log::{append, batch};
use aqueduct_api::edge::{Abort, Clock, Threads};
use aqueduct_api::{ByteSize, Edge, TopicPartition, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options};
use aqueduct_record::Offset;
use futures::future::BoxFuture;
use tempfile::TempDir;

/// A clock that tests move.
#[derive(Clone, Default)]
pub(crate) struct Time(pub(crate) Arc<AtomicI64>);

impl Clock for Time {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Inline;

impl Threads for Inline {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn connector(&self, _: &str, _: BoxFuture<'static, ()>) -> Abort {
        unreachable!("no connector runs here")
    }
}

/// The real disk, but no threads, and a clock that stands at `time`.
pub(crate) fn edge(time: &Time) -> Edge {
    Edge { threads: Arc::new(Inline), clock: Arc::new(time.clone()), ..Edge::real() }
}

/// Options under which it does not matter how full the disk is that the tests run on.
fn any_disk() -> Options {
    Options { limit: DiskLimit::Percent(100), ..Options::default() }
}

pub(crate) async fn open(folder: &Path) -> CommitLog {
    CommitLog::open(edge(&Time::default()), folder, any_disk()).await.unwrap()
}

pub(crate) async fn open_error(folder: &Path) -> String {
    let opened = CommitLog::open(edge(&Time::default()), folder, any_disk()).await;
    opened.err().expect("the folder is refused").to_string()
}

pub(crate) fn of() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Settings under which about three of [`fill`]'s batches are a segment.
pub(crate) fn small_segments() -> TopicSettings {
    TopicSettings { segment_bytes: ByteSize(700), ..TopicSettings::default() }
}

pub(crate) async fn with_topic(folder: &Path, settings: &TopicSettings) -> CommitLog {
    let log = open(folder).await;
    log.create("t", 1, settings).await.unwrap();
    log
}

/// Appends `count` batches of one record of 100 bytes and more, at timestamps 1000, 1001, …
pub(crate) async fn fill(log: &CommitLog, count: usize) {
    for n in 0..count {
        append(log, &of(), batch(&[&value(n)], 1000 + n as i64)).await;
    }
}

pub(crate) fn value(n: usize) -> String {
    format!("{n:04}{}", "x".repeat(100 + n % 50))
}

/// What [`fill`] left.
pub(crate) fn filled(range: std::ops::Range<usize>) -> Vec<(Offset, String)> {
    range.map(|n| (n as Offset, value(n))).collect()
}

/// What the disk would have after a kill: all that was written, and nothing that would be written at the end.
pub(crate) fn killed(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder, copy.path());
    copy
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false if entry.file_name() == "ballast" => {}
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The files of the partition with that ending, in order.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("t/0")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
}
