//! Encoded records of many objects, kept until it is each object's turn: in memory while they are few, else in a file
//! that has no name.

use std::io::IoSlice;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use aqueduct_api::disk::Open;
use aqueduct_api::{Edge, Error, File, Result};

/// How much is collected in memory, in bytes.
#[cfg(not(test))]
const ARENA: usize = 8 << 20;
#[cfg(test)]
const ARENA: usize = 16 << 10;

/// Room in memory beside that, for the record that makes it full, in bytes.
const ROOM: usize = 64 << 10;

/// How much of an object is read back at once, in bytes.
const READ: u64 = 1 << 20;

/// Records in the order in which they came, each with the object it is for.
pub(crate) struct Spill {
    edge: Edge,
    scratch: PathBuf,
    arena: Arena,
    file: Option<Arc<dyn File>>,
    written: u64,
    extents: Vec<Extent>,
}

/// What is in memory: bytes, and runs of them that belong to one object each.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    runs: Vec<(u32, Range<usize>)>,
}

/// A stretch of the file that belongs to one object.
#[derive(Clone, Copy)]
struct Extent {
    path: u32,
    at: u64,
    length: u64,
}

impl Spill {
    /// An empty one, whose file would be in `scratch`.
    pub(crate) fn new(edge: &Edge, scratch: PathBuf) -> Self {
        let (arena, extents) = (Arena::default(), Vec::new());
        Spill { edge: edge.clone(), scratch, arena, file: None, written: 0, extents }
    }

    /// Where a record is appended, to be followed by [`Spill::pushed`].
    pub(crate) fn input(&mut self) -> &mut Vec<u8> {
        let bytes = &mut self.arena.bytes;
        // Many chunks may be under way, each with an arena: it does not double for the record that makes it full.
        if bytes.capacity() < ARENA && bytes.len() >= ARENA / 4 {
            bytes.reserve_exact(ARENA + ROOM - bytes.len());
        }
        bytes
    }

    /// Says that what was appended last is for object `path`.
    pub(crate) fn pushed(&mut self, path: u32) {
        let end = self.arena.bytes.len();
        match self.arena.runs.last_mut() {
            Some((last, run)) if *last == path => run.end = end,
            Some((_, run)) => {
                let start = run.end;
                self.arena.runs.push((path, start..end));
            }
            None => self.arena.runs.push((path, 0..end)),
        }
    }

    /// Whether [`Spill::flush`] has something to do.
    pub(crate) fn is_ripe(&self) -> bool {
        self.arena.bytes.len() >= ARENA
    }

    /// Moves what is in memory to the file, sorted by object.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.open().await?,
        };
        let (mut arena, at) = (std::mem::take(&mut self.arena), self.written);
        let job = move || {
            arena.runs.sort_by_key(|(path, _)| *path);
            let slices: Vec<_> = arena.runs.iter().map(|(_, run)| IoSlice::new(&arena.bytes[run.clone()])).collect();
            let written = file.write_at(&slices, at);
            written.map(|()| arena)
        };
        let arena = self.edge.blocking(job).await?.map_err(|cause| self.told("write", cause))?;
        for (path, run) in &arena.runs {
            let (path, length) = (*path, run.len() as u64);
            match self.extents.last_mut() {
                Some(last) if last.path == path && last.at + last.length == self.written => last.length += length,
                _ => self.extents.push(Extent { path, at: self.written, length }),
            }
            self.written += length;
        }
        self.arena = arena;
        self.arena.bytes.clear();
        self.arena.bytes.shrink_to(2 * ARENA);
        self.arena.runs.clear();
        Ok(())
    }

    /// Everything that was appended, by object.
    pub(crate) fn sorted(mut self) -> Sorted {
        self.extents.sort_by_key(|extent| extent.path);
        self.arena.runs.sort_by_key(|(path, _)| *path);
        Sorted { extent: 0, run: 0, spill: self }
    }

    /// Makes the file and takes its name away, so that nothing is left of it whatever happens.
    async fn open(&mut self) -> Result<Arc<dyn File>> {
        let path = self.scratch.join(format!("{:016x}.spill", self.edge.random()));
        let (disk, scratch) = (self.edge.disk.clone(), self.scratch.clone());
        let job = move || {
            disk.create_folder(&scratch)?;
            let file = disk.open(&path, Open::New)?;
            disk.remove(&path)?;
            Ok(file)
        };
        let file = self.edge.blocking(job).await?.map_err(|cause| self.told("make", cause))?;
        self.file = Some(file.clone());
        Ok(file)
    }

    fn told(&self, doing: &str, cause: std::io::Error) -> Error {
        Error::retry(format!("{doing} spill file in {}: {cause}", self.scratch.display()))
    }
}

/// Records by object, ascending.
pub(crate) struct Sorted {
    spill: Spill,
    extent: usize,
    run: usize,
}

impl Sorted {
    /// Appends some more records of object `path` to `out`; false when there are no more. Objects are asked for in
    /// ascending order.
    pub(crate) async fn read(&mut self, path: u32, out: &mut Vec<u8>) -> Result<bool> {
        let extents = self.extents_of(path);
        if !extents.is_empty() {
            let file = self.spill.file.clone().expect("extents are of the file");
            let mut buffer = std::mem::take(out);
            let job = move || {
                for extent in extents {
                    let have = file.read_at(&mut buffer, extent.length as usize, extent.at)?;
                    if have as u64 != extent.length {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(buffer)
            };
            *out = self.spill.edge.blocking(job).await?.map_err(|cause| self.spill.told("read", cause))?;
            return Ok(true);
        }
        let arena = &self.spill.arena;
        let from = self.run;
        while let Some((_, run)) = arena.runs.get(self.run).filter(|(next, _)| *next == path) {
            out.extend_from_slice(&arena.bytes[run.clone()]);
            self.run += 1;
        }
        Ok(self.run > from)
    }

    /// The next extents of `path`, as many as are worth a read.
    fn extents_of(&mut self, path: u32) -> Vec<Extent> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some(extent) = self.spill.extents.get_mut(self.extent).filter(|extent| extent.path == path) {
            let length = extent.length.min(READ - bytes);
            some.push(Extent { length, ..*extent });
            bytes += length;
            extent.at += length;
            extent.length -= length;
            if extent.length > 0 {
                break;
            }
            self.extent += 1;
            if bytes == READ {
                break;
            }
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends `records` of `(object, length)` and reads all objects back.
    async fn check(records: &[(u32, usize)]) {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(&Edge::real(), scratch.path().join("deep/er"));
        let objects = records.iter().map(|(path, _)| path + 1).max().unwrap_or(0);
        let mut expected = vec![Vec::new(); objects as usize];
        for (number, (path, length)) in records.iter().enumerate() {
            let record = format!("{number}:{};", "x".repeat(*length)).into_bytes();
            expected[*path as usize].extend_from_slice(&record);
            spill.input().extend_from_slice(&record);
            spill.pushed(*path);
            if spill.is_ripe() {
                spill.flush().await.unwrap();
                assert!(std::fs::read_dir(scratch.path().join("deep/er")).unwrap().next().is_none(), "no name is left");
            }
        }
        let mut sorted = spill.sorted();
        for (path, expected) in expected.iter().enumerate() {
            let mut found = Vec::new();
            while sorted.read(path as u32, &mut found).await.unwrap() {}
            assert!(found == *expected, "object {path}: {} bytes of {}", found.len(), expected.len());
        }
    }

    #[tokio::test]
    async fn few_records_stay_in_memory() {
        check(&[]).await;
        check(&[(0, 10), (2, 20), (0, 30), (1, 0), (2, 5)]).await;
    }

    #[tokio::test]
    async fn many_records_come_back_by_object_and_in_order() {
        let records: Vec<_> = (0..5000).map(|n| (n * 7919 % 100, (n as usize * 31) % 200)).collect();
        check(&records).await;
    }

    #[tokio::test]
    async fn records_larger_than_a_read_come_back_whole() {
        check(&[(1, 3 << 20), (0, 5), (1, 2 << 20), (0, 1 << 20), (1, 7)]).await;
    }
}
