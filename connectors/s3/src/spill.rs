//! Encoded records of many objects, kept until it is each object's turn: in memory while they are few, else in a file
//! that has no name.

use std::collections::VecDeque;
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

/// How much is read back at once, in bytes: several small objects, or some of a large one.
#[cfg(not(test))]
const READ: u64 = 1 << 20;
#[cfg(test)]
const READ: u64 = 64 << 10;

/// Records in the order in which they came, each with the object it is for.
pub(crate) struct Spill {
    edge: Edge,
    scratch: PathBuf,
    arena: Arena,
    file: Option<Arc<dyn File>>,
    written: u64,
    stretches: Vec<Stretch>,
}

/// What is in memory: bytes, and runs of them that belong to one object each.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    runs: Vec<(u32, Range<usize>)>,
}

/// A stretch of the file that was in memory at one time: sorted by object, so that of neighbours it is one piece.
struct Stretch {
    at: u64,
    /// Each object that has something in it, and how many bytes, ascending and yet to be read.
    runs: VecDeque<(u32, u64)>,
}

impl Stretch {
    /// The next object that has something in it.
    fn next(&self) -> Option<u32> {
        self.runs.front().map(|(path, _)| *path)
    }

    /// How many bytes of `path` are next.
    fn length_of(&self, path: u32) -> u64 {
        self.runs.front().filter(|(next, _)| *next == path).map_or(0, |(_, length)| *length)
    }

    /// Takes up to `most` bytes of `path`, and tells how many: there may be some more, or records of none.
    fn take(&mut self, path: u32, most: u64) -> Option<u64> {
        let (_, left) = self.runs.front_mut().filter(|(next, left)| *next == path && (most > 0 || *left == 0))?;
        let length = most.min(*left);
        *left -= length;
        if *left == 0 {
            self.runs.pop_front();
        }
        self.at += length;
        Some(length)
    }
}

impl Spill {
    /// An empty one, whose file would be in `scratch`.
    pub(crate) fn new(edge: &Edge, scratch: PathBuf) -> Self {
        let (arena, stretches) = (Arena::default(), Vec::new());
        Spill { edge: edge.clone(), scratch, arena, file: None, written: 0, stretches }
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
        let mut runs: VecDeque<(u32, u64)> = VecDeque::new();
        for (path, run) in &arena.runs {
            match runs.back_mut().filter(|(last, _)| last == path) {
                Some((_, length)) => *length += run.len() as u64,
                None => runs.push_back((*path, run.len() as u64)),
            }
        }
        self.written += runs.iter().map(|(_, length)| length).sum::<u64>();
        self.stretches.push(Stretch { at, runs });
        self.arena = arena;
        self.arena.bytes.clear();
        self.arena.bytes.shrink_to(2 * ARENA);
        self.arena.runs.clear();
        Ok(())
    }

    /// Everything that was appended, by object.
    pub(crate) fn sorted(mut self) -> Sorted {
        self.arena.runs.sort_by_key(|(path, _)| *path);
        Sorted { read: Vec::new(), pieces: VecDeque::new(), run: 0, spill: self }
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
    /// What was read last.
    read: Vec<u8>,
    /// What of it is of which object, ascending and yet to be taken.
    pieces: VecDeque<(u32, Range<usize>)>,
    run: usize,
}

impl Sorted {
    /// Appends some more records of object `path` to `out`; false when there are no more. Objects are asked for in
    /// ascending order.
    pub(crate) async fn read(&mut self, path: u32, out: &mut Vec<u8>) -> Result<bool> {
        if self.pieces.is_empty() {
            self.read_on().await?;
        }
        let mut is_more = false;
        while let Some((_, piece)) = self.pieces.pop_front_if(|(next, _)| *next == path) {
            out.extend_from_slice(&self.read[piece]);
            is_more = true;
        }
        if is_more {
            return Ok(true);
        }
        let arena = &self.spill.arena;
        while let Some((_, run)) = arena.runs.get(self.run).filter(|(next, _)| *next == path) {
            out.extend_from_slice(&arena.bytes[run.clone()]);
            self.run += 1;
            is_more = true;
        }
        Ok(is_more)
    }

    /// Reads what comes next in the file: of objects beside each other one part of each stretch.
    async fn read_on(&mut self) -> Result<()> {
        let Some(file) = self.spill.file.clone() else { return Ok(()) };
        let parts = self.next_parts();
        if parts.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.read);
        buffer.clear();
        let job = move || {
            for (at, length) in parts {
                if file.read_at(&mut buffer, length, at)? != length {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(buffer)
        };
        self.read = self.spill.edge.blocking(job).await?.map_err(|cause| self.spill.told("read", cause))?;
        Ok(())
    }

    /// Which parts of the file come next, as many as are worth a read; and notes which piece will be of which object.
    fn next_parts(&mut self) -> Vec<(u64, usize)> {
        let stretches = &mut self.spill.stretches;
        let mut taken: Vec<_> = stretches.iter().map(|stretch| (stretch.at, Vec::new())).collect();
        let mut room = READ;
        while let Some(path) = stretches.iter().filter_map(Stretch::next).min() {
            let length: u64 = stretches.iter().map(|stretch| stretch.length_of(path)).sum();
            if length > room && room < READ {
                break;
            }
            for (stretch, (_, pieces)) in stretches.iter_mut().zip(&mut taken) {
                let Some(length) = stretch.take(path, room) else { continue };
                room -= length;
                pieces.push((path, length as usize));
            }
        }
        let (mut parts, mut end) = (Vec::new(), 0);
        for (at, pieces) in taken {
            let start = end;
            for (path, length) in pieces {
                self.pieces.push_back((path, end..end + length));
                end += length;
            }
            parts.push((at, end - start));
        }
        // Of one object they stay in the order in which they were written.
        self.pieces.make_contiguous().sort_by_key(|(path, _)| *path);
        parts.retain(|(_, length)| *length > 0);
        parts
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
    async fn an_object_of_empty_records_is_told_from_one_that_has_none() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(&Edge::real(), scratch.path().to_owned());
        for path in [1, 3, 1] {
            spill.pushed(path);
        }
        spill.flush().await.unwrap();
        spill.pushed(4);
        let (mut sorted, mut out) = (spill.sorted(), Vec::new());
        for (path, has_some) in [(0, false), (1, true), (2, false), (3, true), (4, true)] {
            assert_eq!(sorted.read(path, &mut out).await.unwrap(), has_some, "object {path}");
            assert!(!sorted.read(path, &mut out).await.unwrap() && out.is_empty(), "object {path}");
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
