//! The application whose log files are read: it appends lines, rotates by rename and by copytruncate, and knows every
//! line that it ever wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::life::{Time, Trace};

/// Where the application writes.
pub(crate) const LOGS: &str = "/logs";
/// The longest line that is a record; longer ones are dead letters.
pub(crate) const LONGEST_LINE: usize = 400;
/// How many rotated files stay.
const KEPT: usize = 6;

/// What a line is to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// JSON that every sink takes.
    Good,
    /// A line that a sink of JSON rejects.
    NotJson,
    /// Longer than the source takes: a dead letter of the source.
    TooLong,
}

/// Names a line: which file (counted over all files that ever were), and which line of it.
pub(crate) type LineId = (u64, u64);

/// A line that was written whole.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: Vec<u8>,
    pub(crate) kind: Kind,
}

/// One file, whatever it is called by now.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) lines: Vec<Line>,
    /// The beginning of a line whose end is not written yet.
    partial: Option<(Vec<u8>, usize, Kind)>,
}

/// What the application may do, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Lines a burst has at most.
    pub(crate) burst: u64,
    /// How many of a thousand lines are no JSON.
    pub(crate) not_json: u64,
    /// How many of a thousand lines are too long.
    pub(crate) too_long: u64,
    /// How many of a thousand bursts end in the middle of a line.
    pub(crate) partial: u64,
}

/// The application.
pub(crate) struct World {
    disk: Arc<SimDisk>,
    time: Arc<Time>,
    trace: Arc<Trace>,
    dice: Dice,
    habits: Habits,
    /// The file that each path stands for now, as an index into `written`.
    current: Vec<(PathBuf, u64)>,
    /// Rotated names and their files, newest first.
    rotated: BTreeMap<PathBuf, Vec<u64>>,
    pub(crate) written: Vec<Written>,
}

impl World {
    pub(crate) fn new(
        disk: Arc<SimDisk>,
        (time, trace): (Arc<Time>, Arc<Trace>),
        dice: Dice,
        habits: Habits,
        files: u64,
    ) -> Self {
        let mut world = World {
            disk,
            time,
            trace,
            dice,
            habits,
            current: Vec::new(),
            rotated: BTreeMap::new(),
            written: Vec::new(),
        };
        for file in 0..files {
            let path = PathBuf::from(format!("{LOGS}/app{file}.log"));
            let id = world.begin();
            world.current.push((path, id));
        }
        world
    }

    /// Lines that were written whole.
    pub(crate) fn lines(&self) -> usize {
        self.written.iter().map(|written| written.lines.len()).sum()
    }

    /// Which paths there are to write to.
    pub(crate) fn files(&self) -> usize {
        self.current.len()
    }

    /// Appends a burst of lines to a file.
    pub(crate) fn write(&mut self, file: usize) {
        let mut bytes = self.finish_partial(file);
        for _ in 0..self.dice.between(1, self.habits.burst) {
            let (text, kind) = self.line(file);
            bytes.extend(self.take_down(file, text, kind));
        }
        if self.dice.permille(self.habits.partial) {
            let (text, kind) = self.line(file);
            let shown = self.dice.between(1, text.len() as u64) as usize;
            bytes.extend_from_slice(&text[..shown]);
            let (_, id) = self.current[file];
            self.written[id as usize].partial = Some((text, shown, kind));
        }
        self.append(file, &bytes);
    }

    /// Gives a file's path to a new file; the old one keeps growing no more.
    pub(crate) fn rotate(&mut self, file: usize) {
        self.complete(file);
        let (path, id) = self.current[file].clone();
        if self.written[id as usize].lines.is_empty() {
            return;
        }
        let older = self.rotated.entry(path.clone()).or_default().clone();
        if older.len() >= KEPT {
            return;
        }
        for number in (1..=older.len()).rev() {
            self.disk.rename(&rotated_name(&path, number), &rotated_name(&path, number + 1));
        }
        self.disk.rename(&path, &rotated_name(&path, 1));
        self.trace.event(&self.time, format!("application rotates {}", path.display()));
        self.rotated.entry(path.clone()).or_default().insert(0, id);
        self.current[file].1 = self.begin();
    }

    /// Removes the oldest rotated file of a path if `safe` says that every line of it is in the log for
    /// good.
    pub(crate) fn remove_oldest(&mut self, file: usize, safe: impl Fn(LineId) -> bool) {
        let path = self.current[file].0.clone();
        let Some(rotated) = self.rotated.get_mut(&path) else { return };
        let Some(&oldest) = rotated.last() else { return };
        if self.written[oldest as usize].all_lines(oldest).all(safe) {
            let name = rotated_name(&path, rotated.len());
            self.trace.event(&self.time, format!("application removes {}", name.display()));
            self.disk.remove(&name);
            rotated.pop();
        }
    }

    /// Cuts a file to nothing and goes on writing to it, if `safe` says that every line of it is in the log for good:
    /// the one order of copytruncate that loses nothing.
    pub(crate) fn truncate(&mut self, file: usize, safe: impl Fn(LineId) -> bool) {
        self.complete(file);
        let (path, id) = self.current[file].clone();
        let written = &self.written[id as usize];
        if written.lines.is_empty() || !written.all_lines(id).all(safe) {
            return;
        }
        self.trace.event(&self.time, format!("application cuts {}", path.display()));
        self.disk.cut(&path);
        self.current[file].1 = self.begin();
        self.write(file);
    }

    /// Ends every line that was begun.
    pub(crate) fn complete_all(&mut self) {
        for file in 0..self.files() {
            self.complete(file);
        }
    }

    fn begin(&mut self) -> u64 {
        self.written.push(Written::default());
        self.written.len() as u64 - 1
    }

    fn complete(&mut self, file: usize) {
        let rest = self.finish_partial(file);
        self.append(file, &rest);
    }

    fn finish_partial(&mut self, file: usize) -> Vec<u8> {
        let (_, id) = self.current[file];
        match self.written[id as usize].partial.take() {
            Some((text, shown, kind)) => self.take_down(file, text, kind).split_off(shown),
            None => Vec::new(),
        }
    }

    fn append(&mut self, file: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            let path = self.current[file].0.clone();
            self.trace.event(&self.time, format!("application writes {} bytes to {}", bytes.len(), path.display()));
            self.disk.append(&path, bytes);
        }
    }

    /// The next line of a file, not taken down yet.
    fn line(&mut self, file: usize) -> (Vec<u8>, Kind) {
        let (_, id) = self.current[file];
        let number = self.written[id as usize].lines.len();
        let pad = "x".repeat(self.dice.below(60) as usize);
        let roll = self.dice.below(1000);
        if roll < self.habits.not_json {
            (format!("oops {id} {number} {pad}").into_bytes(), Kind::NotJson)
        } else if roll < self.habits.not_json + self.habits.too_long {
            let pad = "y".repeat(LONGEST_LINE + 1 + self.dice.below(900) as usize);
            (format!("{{\"file\":{id},\"line\":{number},\"pad\":\"{pad}\"}}").into_bytes(), Kind::TooLong)
        } else {
            (format!("{{\"file\":{id},\"line\":{number},\"pad\":\"{pad}\"}}").into_bytes(), Kind::Good)
        }
    }

    /// Counts a line as written, and gives its bytes.
    fn take_down(&mut self, file: usize, text: Vec<u8>, kind: Kind) -> Vec<u8> {
        let (_, id) = self.current[file];
        let written = &mut self.written[id as usize];
        let mut bytes = text.clone();
        bytes.push(b'\n');
        written.lines.push(Line { text, kind });
        bytes
    }
}

impl Written {
    fn all_lines(&self, id: u64) -> impl Iterator<Item = LineId> + use<> {
        (0..self.lines.len() as u64).map(move |line| (id, line))
    }
}

fn rotated_name(path: &std::path::Path, number: usize) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

/// Which line a text is, if it is one.
pub(crate) fn identify(text: &[u8]) -> Option<LineId> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix("oops ") {
        let mut words = rest.split(' ');
        return Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?));
    }
    let rest = text.strip_prefix("{\"file\":")?;
    let (file, rest) = rest.split_once(",\"line\":")?;
    let (line, _) = rest.split_once(',')?;
    Some((file.parse().ok()?, line.parse().ok()?))
}
