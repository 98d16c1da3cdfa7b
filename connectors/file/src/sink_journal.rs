//! What the sinks of a folder keep beside its files: how far each partition was written, and how long the files were
//! that a chunk under way changes, so that whoever comes next cuts what was not finished.
//!
//! ```text
//! <folder>/.aqueduct/files.lock       held while a chunk is written
//! <folder>/.aqueduct/files.journal    lines of a CRC-32C and JSON, each synced before what depends on it
//! ```

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::disk::{Kind, LockError, Open};
use aqueduct_api::{Disk, Error, File, Result, TopicId};
use aqueduct_record::{Offset, crc32c};
use serde::{Deserialize, Serialize};

/// From which size on a journal is written anew, in bytes, where that makes it much smaller.
const LARGE: u64 = 1 << 20;

/// Of how many names it is remembered which number is theirs; of others the first number that is free.
const REMEMBERED: usize = 10_000;

/// A folder that sinks write in; what is done there blocks.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
}

/// What a sink is done with up to an offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub(crate) sink: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) run: u32,
    /// How often chunks were given up before: what those wrote, maybe under other settings, does not count for later ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) given_up: u32,
}

fn is_zero(times: &u32) -> bool {
    *times == 0
}

/// A file before a chunk changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// Its path below the folder.
    pub(crate) file: String,
    /// Its length; `None`: it was not there.
    pub(crate) length: Option<u64>,
}

/// Which file is the last of a name, and how much was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) records: u64,
    /// When it was written last, counted in chunks.
    pub(crate) turn: u64,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// The chunk under way changes these, too.
    Begun(Vec<Before>),
    /// What was begun is durable, and all before `end` is written.
    Done { lane: Lane, topic_id: TopicId, end: Offset, numbered: Vec<(String, Numbered)> },
    /// Numbers of names, where a journal was written anew.
    Numbered(Vec<(String, Numbered)>),
}

/// What the lines say.
#[derive(Debug, Default)]
struct State {
    done: BTreeMap<Lane, (TopicId, Offset)>,
    numbered: BTreeMap<String, Numbered>,
    begun: Vec<Before>,
    turn: u64,
}

/// The journal of a folder, without a chunk under way; to be used under the folder's lock.
pub(crate) struct Journal {
    file: Arc<dyn File>,
    inode: u64,
    length: u64,
    /// How long it was when it was written anew.
    first: u64,
    state: State,
}

impl Place {
    fn hidden(&self, name: &str) -> PathBuf {
        self.root.join(".aqueduct").join(name)
    }

    /// The lock of the folder; `Err(owner)` while another has it.
    pub(crate) fn lock(&self, owner: &str) -> Result<Result<Box<dyn Send + Sync>, String>> {
        let path = self.hidden("files.lock");
        let folder = self.root.join(".aqueduct");
        self.disk.create_folder(&folder).map_err(|cause| told(&cause, "make folder", &folder))?;
        match self.disk.lock(&path, owner) {
            Ok(lock) => Ok(Ok(lock)),
            Err(LockError::Held(owner)) => Ok(Err(owner)),
            Err(LockError::Io(cause)) => Err(told(&cause, "lock", &path)),
        }
    }

    /// The journal as it is on disk. Unless `kept` is that, what a chunk left half written is cut off first.
    pub(crate) fn journal(&self, kept: Option<Journal>) -> Result<Journal> {
        let path = self.hidden("files.journal");
        if let Some(kept) = kept {
            let found = self.disk.metadata(&path, false);
            let is_same = found.is_ok_and(|found| (found.inode, found.length) == (kept.inode, kept.length));
            if is_same && (kept.length < LARGE || kept.length < kept.first * 4) {
                return Ok(kept);
            }
        }
        let mut state = read(&*self.disk, &path)?;
        for before in std::mem::take(&mut state.begun) {
            self.restore(&before)?;
        }
        // Also where it says the same: what was read may not be durable, if whoever wrote it ended before its sync.
        self.renew(&path, state)
    }

    /// Makes a file durably what it was.
    fn restore(&self, before: &Before) -> Result<()> {
        let path = self.root.join(&before.file);
        let found = match self.disk.metadata(&path, false) {
            Ok(found) => found,
            Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(cause) => return Err(told(&cause, "look at", &path)),
        };
        match before.length {
            _ if found.kind != Kind::File => {}
            None => {
                tracing::info!(file = %path.display(), "removing what an interrupted write made");
                self.disk.remove(&path).map_err(|cause| told(&cause, "remove", &path))?;
                let folder = path.parent().unwrap_or(&self.root);
                self.disk.sync_folder(folder).map_err(|cause| told(&cause, "sync folder", folder))?;
            }
            Some(length) => {
                let file = self.disk.open(&path, Open::Write).map_err(|cause| told(&cause, "open", &path))?;
                if found.length > length {
                    tracing::info!(file = %path.display(), length, "cutting what an interrupted write appended");
                }
                if found.length >= length {
                    // Also where it is cut already: the sync after that may have failed, and its cut be lost.
                    file.truncate(length).map_err(|cause| told(&cause, "cut", &path))?;
                }
                file.sync().map_err(|cause| told(&cause, "sync", &path))?;
            }
        }
        Ok(())
    }

    /// Writes a journal that says the same and no more, durably, in the place of the one there is.
    fn renew(&self, path: &Path, mut state: State) -> Result<Journal> {
        let mut turns: Vec<u64> = state.numbered.values().map(|numbered| numbered.turn).collect();
        if turns.len() > REMEMBERED {
            turns.sort_unstable_by(|one, other| other.cmp(one));
            let oldest = turns[REMEMBERED - 1];
            state.numbered.retain(|_, numbered| numbered.turn >= oldest);
        }
        let mut bytes = Vec::new();
        for (lane, (topic_id, end)) in &state.done {
            let (lane, topic_id, end) = (lane.clone(), *topic_id, *end);
            push(&Line::Done { lane, topic_id, end, numbered: Vec::new() }, &mut bytes)?;
        }
        let numbered = state.numbered.iter().map(|(name, numbered)| (name.clone(), *numbered));
        push(&Line::Numbered(numbered.collect()), &mut bytes)?;
        let new = self.hidden("files.journal.new");
        let file = self.disk.open(&new, Open::Write).map_err(|cause| told(&cause, "open", &new))?;
        let written = file.truncate(0).and_then(|()| file.write_at(&[IoSlice::new(&bytes)], 0));
        written.and_then(|()| file.sync()).map_err(|cause| told(&cause, "write", &new))?;
        self.disk.rename(&new, path).map_err(|cause| told(&cause, "rename into place", path))?;
        // Any of the folders may have been made just now, or just before an earlier process ended.
        for folder in path.ancestors().skip(1) {
            match self.disk.sync_folder(folder) {
                // A folder that we may not even open, or of a file system that knows no sync, was not made by us.
                Err(cause)
                    if !folder.starts_with(&self.root)
                        && matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {}
                synced => synced.map_err(|cause| told(&cause, "sync folder", folder))?,
            }
        }
        let inode = file.metadata().map_err(|cause| told(&cause, "look at", path))?.inode;
        let length = bytes.len() as u64;
        Ok(Journal { file, inode, length, first: length, state })
    }
}

impl Journal {
    /// Up to where the lane is written.
    pub(crate) fn done(&self, lane: &Lane, topic_id: TopicId) -> Offset {
        // A topic that was made anew begins again.
        self.state.done.get(lane).filter(|(id, _)| *id == topic_id).map_or(0, |(_, end)| *end)
    }

    /// The last file of a name.
    pub(crate) fn numbered(&self, name: &str) -> Option<Numbered> {
        self.state.numbered.get(name).copied()
    }

    /// Says durably how files are before the chunk under way changes them.
    pub(crate) fn begin(&mut self, files: Vec<Before>) -> Result<()> {
        self.append(&Line::Begun(files))
    }

    /// Says durably that what was begun is done, and how many records each numbered file has now.
    pub(crate) fn finish(
        &mut self,
        lane: Lane,
        topic_id: TopicId,
        end: Offset,
        numbered: Vec<(String, Numbered)>,
    ) -> Result<()> {
        let turn = self.state.turn + 1;
        let numbered = numbered.into_iter().map(|(name, numbered)| (name, Numbered { turn, ..numbered })).collect();
        let line = Line::Done { lane, topic_id, end, numbered };
        self.append(&line)?;
        self.state.take(line);
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        let mut bytes = Vec::new();
        push(line, &mut bytes)?;
        let written = self.file.write_at(&[IoSlice::new(&bytes)], self.length).and_then(|()| self.file.sync());
        written.map_err(|cause| Error::retry(format!("write files.journal: {cause}")))?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl State {
    fn take(&mut self, line: Line) {
        match line {
            Line::Begun(files) => self.begun.extend(files),
            Line::Done { lane, topic_id, end, numbered } => {
                self.begun.clear();
                self.done.insert(lane, (topic_id, end));
                self.number(numbered);
            }
            Line::Numbered(numbered) => self.number(numbered),
        }
    }

    fn number(&mut self, numbered: Vec<(String, Numbered)>) {
        for (name, numbered) in numbered {
            self.turn = self.turn.max(numbered.turn);
            self.numbered.insert(name, numbered);
        }
    }
}

fn push(line: &Line, bytes: &mut Vec<u8>) -> Result<()> {
    let json = serde_json::to_string(line).map_err(Error::fatal)?;
    bytes.extend_from_slice(format!("{:08x} {json}\n", crc32c(json.as_bytes())).as_bytes());
    Ok(())
}

fn parse(line: &[u8]) -> Option<Line> {
    let line = std::str::from_utf8(line).ok()?;
    let (crc, json) = line.split_once(' ')?;
    let is_whole = u32::from_str_radix(crc, 16).ok()? == crc32c(json.as_bytes());
    serde_json::from_str(json).ok().filter(|_| is_whole)
}

/// Reads a journal up to its last whole line: only the last append can be torn.
fn read(disk: &dyn Disk, path: &Path) -> Result<State> {
    let mut state = State::default();
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(state),
        Err(cause) => return Err(told(&cause, "open", path)),
    };
    let mut bytes = Vec::new();
    let read = file.metadata().and_then(|found| file.read_at(&mut bytes, found.length as usize, 0));
    read.map_err(|cause| told(&cause, "read", path))?;
    let mut torn = None;
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n").and_then(parse) {
            Some(line) if torn.is_none() => state.take(line),
            Some(_) => {
                let torn = torn.unwrap_or(at);
                return Err(Error::fatal(format!(
                    "{} is damaged at byte {torn}: what was written can not be told any more; move it away to go on, \
                     then what was written last may be written again",
                    path.display()
                )));
            }
            None => torn = torn.or(Some(at)),
        }
        at += line.len();
    }
    Ok(state)
}

/// What can not pass by itself is fatal; a full or failing disk may recover.
pub(crate) fn told(cause: &io::Error, doing: &str, path: &Path) -> Error {
    let told = format!("{doing} {}: {cause}", path.display());
    match cause.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename => Error::fatal(told),
        _ => Error::retry(told),
    }
}
