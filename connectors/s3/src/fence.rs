//! What keeps the owner of a chunk that was given up from replacing the files of the one that was cut anew: its last step may
//! still run on a thread that nobody can stop, though in no process but this one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use aqueduct_api::disk::Open;
use aqueduct_api::{Disk, Error, Result};
use aqueduct_record::Offset;

use crate::bucket::Object;
use crate::folder::told;
use crate::template::escape;

/// Held alone while a fence is raised, and with others while a file is renamed into place: who found the fence lower has
/// renamed before it is higher.
type Raising = RwLock<()>;

/// Those that are in use, by the folder of a sink's fences: all owners of a sink share one, and a disk that hangs holds up no
/// sink on another.
static RAISING: Mutex<BTreeMap<PathBuf, Weak<Raising>>> = Mutex::new(BTreeMap::new());

/// The fences of a sink: a file for each partition of which chunks were given up. Chunks that begin before `end` write
/// nothing more if they were cut before the last of `given_up` were given up.
#[derive(Clone, Debug)]
pub(crate) struct Fences {
    folder: PathBuf,
    raising: Arc<Raising>,
}

/// What the file of a partition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    given_up: u32,
    end: Offset,
}

impl Fences {
    /// Those in a folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let mut all = RAISING.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, raising| raising.strong_count() > 0);
        let raising = all.get(&folder).and_then(Weak::upgrade).unwrap_or_default();
        all.insert(folder.clone(), Arc::downgrade(&raising));
        Fences { folder, raising }
    }

    /// Raises the fence for an object of a chunk that was cut anew; `write` makes a file whole or not at all.
    pub(crate) fn raise(
        &self,
        disk: &dyn Disk,
        object: &Object,
        write: impl FnOnce(&Path, &str) -> Result<()>,
    ) -> Result<()> {
        let fence = Fence { given_up: object.given_up, end: object.offsets.end };
        if object.given_up == 0 || self.read(disk, object)? == Some(fence) {
            return Ok(());
        }
        let _alone = self.raising.write().unwrap_or_else(PoisonError::into_inner);
        self.check(disk, object)?;
        disk.create_folder(&self.folder).map_err(|cause| told(cause, "make folder", &self.folder))?;
        write(&self.path(object), &format!("{} {} {}\n", object.topic_id, fence.given_up, fence.end))
    }

    /// Lets an object through until the guard is dropped.
    ///
    /// # Errors
    /// `Fatal` when its chunk was given up.
    pub(crate) fn pass(&self, disk: &dyn Disk, object: &Object) -> Result<RwLockReadGuard<'_, ()>> {
        let guard = self.raising.read().unwrap_or_else(PoisonError::into_inner);
        self.check(disk, object).map(|()| guard)
    }

    fn check(&self, disk: &dyn Disk, object: &Object) -> Result<()> {
        match self.read(disk, object)? {
            Some(fence) if object.given_up < fence.given_up && object.offsets.start < fence.end => {
                Err(object.outdated(self.path(object).display(), fence.given_up))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, object: &Object) -> PathBuf {
        let mut name = String::new();
        escape(&object.topic, &mut name);
        name += &format!("+{}", object.partition);
        if object.run > 0 {
            name += &format!("+run={}", object.run);
        }
        self.folder.join(name)
    }

    /// The fence of an object's partition; none where it is of another topic of the name.
    fn read(&self, disk: &dyn Disk, object: &Object) -> Result<Option<Fence>> {
        let path = self.path(object);
        let file = match disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(told(cause, "open", &path)),
        };
        let mut text = Vec::new();
        file.read_at(&mut text, 128, 0).map_err(|cause| told(cause, "read", &path))?;
        let text = String::from_utf8_lossy(&text);
        let mut parts = text.split_whitespace();
        let mut part = || parts.next().unwrap_or_default();
        let (topic_id, given_up, end) = (part().parse(), part().parse(), part().parse());
        match (topic_id, given_up, end) {
            (Ok(topic_id), Ok(given_up), Ok(end)) => {
                Ok(Some(Fence { given_up, end }).filter(|_| object.topic_id == topic_id))
            }
            _ => Err(Error::fatal(format!("{} was not written by us: move it away", path.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_a_sink_share_a_lock_and_other_sinks_do_not() {
        let [one, again, other] = ["/a/x", "/a/x", "/b/x"].map(|folder| Fences::new(folder.into()));
        let held = one.raising.write().unwrap();
        assert!(again.raising.try_read().is_err());
        assert!(other.raising.try_read().is_ok());
        drop(held);
        assert!(again.raising.try_read().is_ok());
    }
}
