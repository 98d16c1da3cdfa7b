//! One test run: the `cargo test` that started this process, or this process itself. Services belong to it: later
//! processes of the run find what the first one started, and everything ends when the run does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::{Kind, Started, ready};
use crate::services::local::cache;

/// The process whose life is the run's.
pub(super) fn process() -> u32 {
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get() as u32);
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    if name.starts_with("cargo") { parent } else { std::process::id() }
}

/// The folder of the run, outside the checkout.
fn folder() -> PathBuf {
    let process = process();
    // Process ids come again; with its start time one is unique. It is the 22nd field, the second may hold anything.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let start = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or("0");
    cache().join("runs").join(format!("{process}-{start}"))
}

/// Where a service of this run keeps its files.
pub(super) fn home(kind: &Kind) -> PathBuf {
    folder().join(kind.name)
}

/// The run's service: found where a process of the run has started it, else started.
pub(super) async fn shared<F: Future<Output = Started>>(kind: &Kind, start: impl FnOnce() -> F) -> Started {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap_or_else(|cause| panic!("make {}: {cause}", folder.display()));
    let lock =
        fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("{}.lock", kind.name))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let note = folder.join(kind.name).join("service.json");
    if let Some(started) = found(kind, &note).await {
        return started;
    }
    let started = start().await;
    fs::write(&note, serde_json::to_vec(&started).unwrap()).unwrap();
    started
}

async fn found(kind: &Kind, note: &Path) -> Option<Started> {
    let started: Started = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
    ready(kind, &started.address, std::time::Duration::from_secs(1)).await.ok()?;
    Some(started)
}

/// Runs `command` in the service's fresh folder for as long as the run lives.
pub(super) fn keep(kind: &Kind, command: &mut dyn FnMut(&mut Command)) -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    let home = home(kind);
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(home.join("data")).map_err(|cause| format!("make {}: {cause}", home.display()))?;
    let mut keeper = Command::new("sh");
    keeper.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/keep.sh")).arg(process().to_string()).arg(&home);
    command(&mut keeper);
    // A group of its own: an interrupt at the terminal must leave the keeper time to clean up.
    keeper.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    keeper.spawn().map_err(|cause| format!("start {keeper:?}: {cause}"))?;
    Ok(())
}
