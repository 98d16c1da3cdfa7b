//! One file of batches, from its base offset up to where the next segment begins.

mod aborting;
mod indexed;

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_api::Result;
use aqueduct_api::disk::{File, Metadata, Open};
use aqueduct_record::Offset;
use parking_lot::{Mutex, RwLock};

use crate::folder::{at, remove_if_there};
use crate::index::Index;
use crate::names::{self, LOG};
use crate::shared::Shared;

/// "Too many open files", which `io::ErrorKind` has no name for.
const EMFILE: i32 = 24;

/// A segment, as readers see it.
pub(crate) struct Segment {
    /// The offset that its name says: nothing before it is in the file.
    pub(crate) base: Offset,
    /// Names what is cached of it; another one after compaction.
    pub(crate) id: u64,
    path: PathBuf,
    /// Set before its file is removed or replaced: whoever opens the file afterwards has to look again.
    retired: AtomicBool,
    /// Keeps the file open while bytes of it are not synced, or its name is not its own yet.
    pinned: Mutex<Option<Arc<dyn File>>>,
    state: RwLock<State>,
}

struct State {
    extent: Extent,
    /// Whether the size is known to end with a batch of this segment; else it is only that of the file.
    is_exact: bool,
    /// While the segment is written to, and after a scan, its index is here; else it is on disk.
    live: Option<Index>,
    damage: Vec<Damage>,
    /// The smallest first offset of the transactions that were aborted with a marker in it; the largest number: none was.
    /// `None`: not known yet, or told by the index that is here.
    first_aborted: Option<Offset>,
    /// From where on this process wrote the bytes: nobody need look whether they are whole.
    own_from: u64,
    /// Bytes of which somebody saw that they are whole.
    whole: Range<u64>,
}

/// How far readers may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes.
    pub(crate) size: u64,
    /// The offset before which all batches lie.
    pub(crate) bound: Offset,
}

/// A stretch of a segment that can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The first offset that may be lost.
    pub(crate) from: Offset,
    /// The first offset that is there again.
    pub(crate) to: Offset,
    /// Where it begins in the file.
    pub(crate) position: u64,
    /// Where it ends.
    pub(crate) resume: u64,
}

impl Segment {
    /// A closed segment whose file is `size` bytes long; `is_exact`: and no other bytes are in it than batches.
    pub(crate) fn closed(shared: &Shared, folder: &Path, base: Offset, extent: Extent, is_exact: bool) -> Self {
        Segment {
            base,
            id: shared.next_id(),
            path: names::path(folder, base, LOG),
            retired: AtomicBool::new(false),
            pinned: Mutex::new(None),
            state: RwLock::new(State {
                extent,
                is_exact,
                live: None,
                damage: Vec::new(),
                first_aborted: None,
                own_from: u64::MAX,
                whole: 0..0,
            }),
        }
    }

    /// A segment that is written to, with its index.
    pub(crate) fn live(shared: &Shared, folder: &Path, base: Offset, extent: Extent, index: Index) -> Self {
        let segment = Segment::closed(shared, folder, base, extent, true);
        let mut state = segment.state.write();
        (state.live, state.own_from) = (Some(index), extent.size);
        drop(state);
        segment
    }

    /// A segment whose file is gone: all its offsets are lost.
    pub(crate) fn missing(shared: &Shared, folder: &Path, base: Offset, bound: Offset) -> Self {
        let segment = Segment::live(shared, folder, base, Extent { size: 0, bound }, Index::new());
        segment.state.write().damage.push(Damage { from: base, to: bound, position: 0, resume: 0 });
        segment.pin(Arc::new(Nothing));
        segment
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn extent(&self) -> Extent {
        self.state.read().extent
    }

    /// Whether the size is known to end with a batch of this segment.
    pub(crate) fn is_exact(&self) -> bool {
        self.state.read().is_exact
    }

    pub(crate) fn set_extent(&self, extent: Extent) {
        self.state.write().extent = extent;
    }

    pub(crate) fn set_bound(&self, bound: Offset) {
        self.state.write().extent.bound = bound;
    }

    /// Notes that all batches in a range are whole.
    pub(crate) fn note_whole(&self, range: Range<u64>) {
        let known = |state: &State| state.own_from <= range.start || state.whole.contains(&(range.end - 1));
        if range.is_empty() || known(&self.state.read()) {
            return;
        }
        let mut state = self.state.write();
        let (start, end) = (range.start.min(state.whole.start), range.end.max(state.whole.end));
        let touches = range.start <= state.whole.end && state.whole.start <= range.end;
        // One range is remembered: the longer one, where they do not touch.
        if touches && !state.whole.is_empty() {
            state.whole = start..end;
        } else if range.end - range.start > state.whole.end - state.whole.start {
            state.whole = range;
        }
    }

    /// Where the bytes end that are known to be whole from `position` on.
    pub(crate) fn whole_until(&self, position: u64) -> u64 {
        let state = self.state.read();
        match &state.whole {
            _ if position >= state.own_from => u64::MAX,
            whole if !whole.contains(&position) => position,
            whole if whole.end >= state.own_from => u64::MAX,
            whole => whole.end,
        }
    }

    /// Its file; `None` when the segment was removed or replaced.
    pub(crate) fn file(&self, shared: &Shared) -> Result<Option<Arc<dyn File>>> {
        if let Some(file) = self.pinned.lock().clone().or_else(|| shared.files.get(self.id)) {
            return Ok(Some(file));
        }
        let opened = match self.open(shared) {
            Err(cause) if cause.raw_os_error() == Some(EMFILE) => {
                shared.files.halve();
                self.open(shared)
            }
            opened => opened,
        };
        if self.is_retired() {
            return Ok(None);
        }
        opened.map(Some).map_err(at(&self.path))
    }

    fn open(&self, shared: &Shared) -> io::Result<Arc<dyn File>> {
        let disk = shared.disk();
        // A file that somebody removed must not come to be again, empty.
        disk.metadata(&self.path, true)?;
        match disk.open(&self.path, Open::Write) {
            Err(cause)
                if matches!(cause.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) =>
            {
                // What can not be written can be read all the same; not kept, since a writer needs another one.
                disk.open(&self.path, Open::Read)
            }
            opened => opened.inspect(|file| shared.files.put(self.id, file.clone())),
        }
    }

    pub(crate) fn pin(&self, file: Arc<dyn File>) {
        *self.pinned.lock() = Some(file);
    }

    pub(crate) fn unpin(&self, shared: &Shared) {
        if let Some(file) = self.pinned.lock().take() {
            shared.files.put(self.id, file);
        }
    }

    /// Says that its file is about to be removed or replaced.
    pub(crate) fn retire(&self, shared: &Shared) {
        self.retired.store(true, Ordering::SeqCst);
        *self.pinned.lock() = None;
        shared.files.remove(self.id);
        shared.indexes.remove(self.id);
    }

    /// Takes back that the segment was removed, because its file could not be.
    pub(crate) fn revive(&self) {
        self.retired.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Removes the files of a retired segment.
    pub(crate) fn remove(&self, shared: &Shared) -> io::Result<()> {
        remove_if_there(shared.disk(), &self.path)?;
        for path in self.index_paths() {
            // An index without a segment is removed at the next start.
            let _ = remove_if_there(shared.disk(), &path);
        }
        Ok(())
    }

    /// Notes a damage that was found, and tells of it once.
    pub(crate) fn quarantine(&self, damage: Damage) {
        let mut state = self.state.write();
        if state.damage.iter().any(|known| known.from == damage.from && known.position == damage.position) {
            return;
        }
        tracing::error!(
            segment = %self.path.display(),
            from = damage.from,
            to = damage.to,
            position = damage.position,
            bytes = damage.resume - damage.position,
            "damaged records: these offsets are lost, the others are served"
        );
        state.damage.push(damage);
    }

    /// The known damage that begins at a position.
    pub(crate) fn damage_at(&self, position: u64) -> Option<Damage> {
        self.state.read().damage.iter().find(|damage| damage.position == position).copied()
    }

    pub(crate) fn damage(&self) -> Vec<Damage> {
        self.state.read().damage.clone()
    }
}

/// What stands for a file that is gone.
struct Nothing;

impl File for Nothing {
    fn read_at(&self, _: &mut Vec<u8>, _: usize, _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Err(io::ErrorKind::NotFound.into())
    }
}
