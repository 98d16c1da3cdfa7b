//! One chunk on its way into files: all of it blocks, under the folder's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use aqueduct_api::disk::{Kind, Open};
use aqueduct_api::{Error, Result, TopicId};
use aqueduct_record::Offset;
use tokio::sync::OwnedMutexGuard;

use crate::sink_format::FileCompression;
use crate::sink_journal::{Before, Journal, Lane, Numbered, Place, told};
use crate::sink_name::Naming;
use crate::sink_settings::Roll;

/// How files are written.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) naming: Naming,
    pub(crate) compression: FileCompression,
    pub(crate) roll: Option<Roll>,
}

/// Records that go into one file.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u64,
}

/// Nobody else writes in the folder as long as this is there. Dropped before it is finished, it leaves the sink without a
/// journal: whoever writes next reads it again and cuts what is half written.
pub(crate) struct Writing {
    place: Place,
    shape: Shape,
    journal: Journal,
    /// Files that the chunk has changed, by name.
    touched: BTreeMap<String, Touched>,
    /// Folders in which names are not durable yet.
    folders: BTreeSet<PathBuf>,
    _lock: Box<dyn Send + Sync>,
    kept: OwnedMutexGuard<Option<Journal>>,
}

struct Touched {
    file: String,
    length: u64,
    is_new: bool,
    number: Option<u64>,
    records: u64,
}

impl Writing {
    /// Reads the journal, and makes whole what it says is not.
    pub(crate) fn begin(
        place: Place,
        shape: Shape,
        mut kept: OwnedMutexGuard<Option<Journal>>,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Self> {
        let journal = place.journal(kept.take())?;
        let (touched, folders) = (BTreeMap::new(), BTreeSet::new());
        Ok(Writing { place, shape, journal, touched, folders, kept, _lock: lock })
    }

    /// Up to where the lane is written.
    pub(crate) fn done(&self, lane: &Lane, topic_id: TopicId) -> Offset {
        self.journal.done(lane, topic_id)
    }

    /// Appends records to the files of their names, durably, after the journal has said durably how long they were.
    pub(crate) fn append(&mut self, buffers: BTreeMap<String, Buffer>) -> Result<()> {
        let mut before = Vec::new();
        for name in buffers.keys().filter(|name| !self.touched.contains_key(*name)).cloned().collect::<Vec<_>>() {
            let (touched, length) = self.choose(&name)?;
            before.push(Before { file: touched.file.clone(), length });
            self.touched.insert(name, touched);
        }
        if !before.is_empty() {
            self.journal.begin(before)?;
        }
        for (name, buffer) in buffers {
            if let Some(touched) = self.touched.get_mut(&name) {
                let bytes = self.shape.compression.compress(buffer.bytes)?;
                write(&self.place, touched, &bytes, &mut self.folders)?;
                touched.records += buffer.records;
            }
        }
        Ok(())
    }

    /// Makes the names of new files durable, and then says durably that the lane is written up to `end`.
    pub(crate) fn finish(mut self, lane: Lane, topic_id: TopicId, end: Offset) -> Result<()> {
        if self.touched.is_empty() {
            *self.kept = Some(self.journal);
            return Ok(());
        }
        for folder in &self.folders {
            self.place.disk.sync_folder(folder).map_err(|cause| told(&cause, "sync folder", folder))?;
        }
        let numbered = self.touched.into_iter().filter_map(|(name, touched)| {
            Some((name, Numbered { number: touched.number?, records: touched.records, turn: 0 }))
        });
        self.journal.finish(lane, topic_id, end, numbered.collect())?;
        *self.kept = Some(self.journal);
        Ok(())
    }

    /// The file that a name's records go to, and how long it is.
    fn choose(&self, name: &str) -> Result<(Touched, Option<u64>)> {
        let Some(roll) = self.shape.roll else {
            let file = self.shape.naming.file(name, None);
            let length = self.length(&file)?;
            return Ok((Touched::new(file, length, None, 0), length));
        };
        let known = self.journal.numbered(name);
        let mut number = known.map_or(1, |known| known.number);
        let mut file = self.shape.naming.file(name, Some(number));
        let mut length = self.length(&file)?;
        // A file that was moved away begins anew.
        let mut records = known.filter(|_| length.is_some()).map_or(0, |known| known.records);
        if let Some(bytes) = length
            && (known.is_none() || roll.is_reached(bytes, records))
        {
            records = 0;
            while length.is_some() {
                number += 1;
                file = self.shape.naming.file(name, Some(number));
                length = self.length(&file)?;
            }
        }
        Ok((Touched::new(file, length, Some(number), records), length))
    }

    /// How long a file is, if it is there. What is no file, or is reached through a link, is not written to.
    fn length(&self, file: &str) -> Result<Option<u64>> {
        let mut path = self.place.root.clone();
        let mut parts = file.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            let expected = if parts.peek().is_some() { Kind::Folder } else { Kind::File };
            match self.place.disk.metadata(&path, false) {
                Ok(found) if found.kind != expected => {
                    let what = if expected == Kind::File { "a file" } else { "a folder" };
                    return Err(Error::fatal(format!("{} is not {what} of ours: move it away", path.display())));
                }
                Ok(found) if expected == Kind::File => return Ok(Some(found.length)),
                Ok(_) => {}
                Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
                Err(cause) => return Err(told(&cause, "look at", &path)),
            }
        }
        Ok(None)
    }
}

impl Touched {
    fn new(file: String, length: Option<u64>, number: Option<u64>, records: u64) -> Self {
        Touched { file, length: length.unwrap_or(0), is_new: length.is_none(), number, records }
    }
}

fn write(place: &Place, touched: &mut Touched, bytes: &[u8], folders: &mut BTreeSet<PathBuf>) -> Result<()> {
    let path = place.root.join(&touched.file);
    if touched.is_new {
        let folder = path.parent().unwrap_or(&place.root);
        place.disk.create_folder(folder).map_err(|cause| told(&cause, "make folder", folder))?;
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&place.root));
        folders.extend(above.map(Path::to_owned));
    }
    let file = place.disk.open(&path, Open::Write).map_err(|cause| told(&cause, "open", &path))?;
    let found = file.metadata().map_err(|cause| told(&cause, "look at", &path))?.length;
    if found != touched.length {
        // Rotated between two writes of a chunk: the chunk is written again, to what is there now.
        let told = format!("{}: another program has changed it: {found} bytes, not {}", path.display(), touched.length);
        return Err(Error::retry(told));
    }
    touched.is_new = false;
    let written = file.write_at(&[IoSlice::new(bytes)], touched.length);
    written.and_then(|()| file.sync()).map_err(|cause| told(&cause, "append to", &path))?;
    touched.length += bytes.len() as u64;
    Ok(())
}
