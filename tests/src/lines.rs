//! Numbered lines: a writer that rotates its files while they are read, and the check that each line arrived once and in
//! order.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// How many lines were written to each file. A file is what has one inode: `a.3` is what was `a.log` after three rotations.
pub type Written = BTreeMap<String, u64>;

/// Writes until it is stopped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Written>>,
}

/// One log as a program sees it: a path that it appends to.
struct Log {
    name: String,
    path: PathBuf,
    file: fs::File,
    rotations: u64,
    lines: u64,
}

/// How many rotated files stay beside a log: more than any test makes, so that none is deleted before it was read.
const KEPT: u64 = 10_000;

impl Writer {
    /// Appends to `a.log`, `b.log`, … in `folder`, a few lines every few milliseconds, and now and then rotates one as
    /// logrotate does: `a.log` becomes `a.log.1`, what was `a.log.1` becomes `a.log.2`, and a new `a.log` is made.
    pub fn start(folder: &Path, logs: u8, seed: u64) -> Writer {
        Self::start_as(folder, 'a', logs, seed)
    }

    /// The same, the first log being called `first`.
    pub fn start_as(folder: &Path, first: char, logs: u8, seed: u64) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let folder = folder.to_owned();
        let thread = std::thread::spawn(move || write(&folder, first as u8, logs, seed, &stopped));
        Writer { stop, thread: Some(thread) }
    }

    /// Stops it, and says what it has written.
    pub fn stop(mut self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(folder: &Path, first: u8, logs: u8, seed: u64, stop: &AtomicBool) -> Written {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut logs: Vec<Log> = (0..logs).map(|log| Log::new(folder, char::from(first + log).to_string())).collect();
    let mut written = Written::new();
    while !stop.load(Ordering::Relaxed) {
        let which = chance.random_range(0..logs.len());
        let log = &mut logs[which];
        for _ in 0..chance.random_range(1..30) {
            log.line(&mut chance);
        }
        written.insert(log.identity(), log.lines);
        if chance.random_range(0..60) == 0 {
            log.rotate();
        }
        std::thread::sleep(Duration::from_millis(chance.random_range(0..8)));
    }
    written
}

impl Log {
    fn new(folder: &Path, name: String) -> Log {
        let path = folder.join(format!("{name}.log"));
        let file = fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
        Log { name, path, file, rotations: 0, lines: 0 }
    }

    fn identity(&self) -> String {
        format!("{}.{}", self.name, self.rotations)
    }

    fn line(&mut self, chance: &mut SmallRng) {
        let line = line(&self.identity(), self.lines, chance.random_range(0..200));
        // Readers see half a line now and then.
        let half = if chance.random_range(0..20) == 0 { chance.random_range(0..line.len()) } else { 0 };
        self.file.write_all(&line.as_bytes()[..half]).unwrap();
        self.file.write_all(&line.as_bytes()[half..]).unwrap();
        self.lines += 1;
    }

    fn rotate(&mut self) {
        let rotated = |number: u64| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..KEPT.min(self.rotations + 1)).rev() {
            fs::rename(rotated(number), rotated(number + 1)).unwrap();
        }
        fs::rename(&self.path, rotated(1)).unwrap();
        self.file = fs::OpenOptions::new().create_new(true).append(true).open(&self.path).unwrap();
        self.rotations += 1;
        self.lines = 0;
    }
}

/// A line that says of which file it is which, and is `padding` bytes longer than that.
pub fn line(file: &str, number: u64, padding: usize) -> String {
    format!("{file} {number} {:x<padding$}\n", "")
}

/// Writes `lines` lines of about `size` bytes to a new file.
pub fn write_file(path: &Path, file: &str, lines: u64, size: usize) -> Written {
    let text: String = (0..lines).map(|number| line(file, number, size)).collect();
    fs::write(path, text).unwrap();
    Written::from([(file.to_owned(), lines)])
}

/// How many lines there are.
pub fn total(written: &Written) -> u64 {
    written.values().sum()
}

/// An object's place: `topic+partition+start+end` and an extension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    partition: String,
    start: u64,
    end: u64,
}

fn place(key: &str) -> Option<Place> {
    let name = key.rsplit('/').next()?.split('.').next()?;
    let mut parts = name.rsplitn(3, '+');
    let end = parts.next()?.parse().ok()?;
    let start = parts.next()?.parse().ok()?;
    Some(Place { partition: parts.next()?.to_owned(), start, end })
}

/// Says what is wrong where the objects (names and contents) do not hold each written line exactly once, in order within its
/// file, and where the chunks that names tell of overlap or leave a gap.
pub fn check(written: &Written, objects: &[(String, Vec<u8>)]) -> Result<(), String> {
    let mut placed = Vec::new();
    for (key, bytes) in objects {
        placed.push((place(key).ok_or_else(|| format!("object {key} is not named by offsets"))?, key, bytes));
    }
    placed.sort();
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, key, bytes) in &placed {
        let expected = ends.insert(&place.partition, place.end).unwrap_or(0);
        if place.start != expected {
            return Err(format!("{key} begins at {}, the one before it ended at {expected}", place.start));
        }
        let text = std::str::from_utf8(bytes).map_err(|cause| format!("{key}: {cause}"))?;
        if !text.ends_with('\n') {
            return Err(format!("{key} ends within a line"));
        }
        let lines = text.lines().count() as u64;
        if lines != place.end - place.start {
            return Err(format!("{key} holds {lines} lines"));
        }
        for line in text.lines() {
            let mut words = line.split(' ');
            let (file, number) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
            let expected = next.entry(file).or_default();
            if number != Some(*expected) {
                return Err(format!("{key}: found {number:?} of {file} where {expected} should be: {line:?}"));
            }
            *expected += 1;
        }
    }
    for (file, lines) in written {
        let found = next.remove(file.as_str()).unwrap_or(0);
        if found != *lines {
            return Err(format!("{lines} lines were written to {file}, {found} arrived"));
        }
    }
    if next.is_empty() { Ok(()) } else { Err(format!("lines that nobody wrote: {next:?}")) }
}

/// How many lines the objects hold.
pub fn count(objects: &[(String, Vec<u8>)]) -> u64 {
    objects.iter().map(|(_, bytes)| bytes.iter().filter(|byte| **byte == b'\n').count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(objects: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        objects.iter().map(|(key, text)| ((*key).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_swapped_is_noticed() {
        let written = Written::from([("a.0".to_owned(), 3)]);
        for (expected, found) in [
            ("", vec![("x/t+0+0+2.txt", "a.0 0 x\na.0 1 \n"), ("x/t+0+2+3.txt", "a.0 2 \n")]),
            ("3 lines were written to a.0, 2 arrived", vec![("t+0+0+2.txt", "a.0 0 \na.0 1 \n")]),
            ("found Some(1) of a.0 where 0", vec![("t+0+0+2.txt", "a.0 1 \na.0 0 \n")]),
            ("found Some(1) of a.0 where 2", vec![("t+0+0+3.txt", "a.0 0 \na.0 1 \na.0 1 \n")]),
            (
                "begins at 1, the one before it ended at 2",
                vec![("t+0+0+2.txt", "a.0 0 \na.0 1 \n"), ("t+0+1+3.txt", "")],
            ),
            ("begins at 3", vec![("t+0+0+2.txt", "a.0 0 \na.0 1 \n"), ("t+0+3+4.txt", "a.0 2 \n")]),
            ("lines that nobody wrote", vec![("t+0+0+3.txt", "a.0 0 \na.0 1 \na.0 2 \n"), ("t+1+0+1.txt", "b.0 0 \n")]),
            ("holds 1 lines", vec![("t+0+0+2.txt", "a.0 0 \n")]),
            ("ends within a line", vec![("t+0+0+2.txt", "a.0 0 \na.0 1")]),
            ("not named by offsets", vec![("t.txt", "a.0 0 \n")]),
        ] {
            let answer = check(&written, &objects(&found)).err().unwrap_or_default();
            assert!(
                if expected.is_empty() { answer.is_empty() } else { answer.contains(expected) },
                "{expected}: {answer}"
            );
        }
    }

    #[test]
    fn a_writer_writes_what_it_says_whatever_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(folder.path(), 2, 7);
        while !folder.path().join("a.log.1").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let written = writer.stop();
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        let lines: u64 = files.map(|bytes| count(&[(String::new(), bytes)])).sum();
        assert_eq!(lines, total(&written));
    }
}
