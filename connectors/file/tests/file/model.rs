//! A writer that rotates as writers do, at any moment of the source's looking around, and a source that is stopped at any
//! moment: every line comes once, and in the order in which it was written to its file.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::disk::MemoryDisk;
use crate::world::World;

const LOG: &str = "/l/app.log";

/// What a run may do.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// How long lines are: short ones make files that look alike.
    length: usize,
    /// Whether files are copied and truncated, or else renamed.
    copies: bool,
    /// Whether the writer does things while the source looks around.
    races: bool,
    restarts: bool,
    /// Whether the source is also stopped before what it read last is saved: then nothing is compressed.
    kills: bool,
}

/// Somebody who writes and rotates.
struct Writer {
    random: SmallRng,
    habits: Habits,
    /// Lines written, by generation of the file.
    lines: Vec<Vec<String>>,
    partial: Option<String>,
    /// What happened, to be told where a run fails.
    told: Vec<String>,
}

impl Writer {
    fn act(&mut self, disk: &MemoryDisk) {
        match self.random.random_range(0..20) {
            0..12 => self.write(disk),
            12..14 => self.begin(disk),
            14..17 => self.rotate(disk),
            _ if self.habits.kills => {}
            _ => self.compress(disk),
        }
    }

    fn line(&mut self) -> String {
        let (generation, number) = (self.lines.len() - 1, self.lines.last().map_or(0, Vec::len));
        let length = self.random.random_range(0..=self.habits.length);
        format!("{generation}-{number}-{:x<length$}", "")
    }

    fn write(&mut self, disk: &MemoryDisk) {
        let line = self.partial.take();
        let (line, rest) = match line {
            Some(line) => (line, 1),
            None => (self.line(), 0),
        };
        self.told.push(format!("write {line:.9}"));
        disk.append(LOG, if rest == 1 { "\n".to_owned() } else { format!("{line}\n") });
        self.lines.last_mut().unwrap().push(line);
    }

    fn begin(&mut self, disk: &MemoryDisk) {
        if self.partial.is_none() {
            let line = self.line();
            disk.append(LOG, &line);
            self.told.push(format!("begin {line:.9}"));
            self.partial = Some(line);
        }
    }

    fn rotate(&mut self, disk: &MemoryDisk) {
        if !disk.exists(LOG) || self.lines.last().is_none_or(Vec::is_empty) {
            return;
        }
        self.told.push("rotate".into());
        // The last line counts as it is.
        let partial = self.partial.take();
        self.lines.last_mut().unwrap().extend(partial);
        for number in (1..20).rev() {
            for end in ["", ".gz"] {
                let from = format!("{LOG}.{number}{end}");
                if disk.exists(&from) {
                    disk.rename(&from, &format!("{LOG}.{}{end}", number + 1));
                }
            }
        }
        let to = format!("{LOG}.1");
        if self.habits.copies {
            disk.copy(LOG, &to);
            disk.truncate(LOG);
        } else {
            disk.rename(LOG, &to);
        }
        self.lines.push(Vec::new());
    }

    fn compress(&mut self, disk: &MemoryDisk) {
        // As with `delaycompress`: what was rotated last is left alone.
        let number = (2..20).find(|number| disk.exists(&format!("{LOG}.{number}")));
        if let Some(number) = number {
            let from = format!("{LOG}.{number}");
            self.told.push(format!("compress {number}"));
            disk.gzip(&from, &format!("{from}.gz"));
            disk.remove(&from);
        }
    }
}

/// One run; answers with what differs.
async fn run(seed: u64, habits: Habits) -> Result<(), String> {
    let mut world = World::new(json!({"paths": ["/l/app.log*"]}));
    world.batch = 4096;
    let mut random = SmallRng::seed_from_u64(seed);
    let writer = Writer {
        random: SmallRng::seed_from_u64(!seed),
        habits,
        lines: vec![Vec::new()],
        partial: None,
        told: Vec::new(),
    };
    let writer = std::sync::Arc::new(std::sync::Mutex::new(writer));
    // Records that were read before a kill, and their streams.
    let mut unsaved = Vec::new();
    for _ in 0..random.random_range(5..60) {
        match random.random_range(0..10) {
            0..6 if habits.races && random.random_bool(0.5) => {
                let writer = writer.clone();
                let plan = move |disk: &MemoryDisk| writer.lock().unwrap().act(disk);
                world.disk.plan(random.random_range(1..30), Box::new(plan));
            }
            0..6 => writer.lock().unwrap().act(&world.disk),
            6..9 => {
                let within = Duration::from_millis([1, 100, 300, 1500, 4000][random.random_range(0..5)]);
                for _ in 0..random.random_range(1..5) {
                    let came = world.step(within).await;
                    writer
                        .lock()
                        .unwrap()
                        .told
                        .push(format!("read for {within:?}: {came}, {} lines", world.records.len()));
                }
            }
            _ if habits.restarts => {
                let read = if habits.kills { world.next(Duration::from_millis(300)).await } else { None };
                if let Some(incoming) = read.filter(|incoming| !incoming.records.is_empty()) {
                    let batch = incoming.records.finish();
                    let first = batch.records().unwrap().iter().next().unwrap().unwrap().value.unwrap().to_vec();
                    unsaved.push((incoming.stream.id.clone(), first));
                }
                world.stop();
                writer.lock().unwrap().told.push("restart".into());
            }
            _ => {}
        }
    }
    world.settle().await;
    world.disk.carry_out();
    // A file with its first name tells what the others are.
    writer.lock().unwrap().write(&world.disk);
    world.settle().await;
    let writer = writer.lock().unwrap();
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for line in world.lines() {
        let generation = line.split('-').next().and_then(|text| text.parse().ok());
        found.entry(generation.unwrap_or(usize::MAX)).or_default().push(line);
    }
    let written = writer.lines.iter().cloned().enumerate().filter(|(_, lines)| !lines.is_empty());
    let written: BTreeMap<usize, Vec<String>> = written.collect();
    if let Some((id, line)) = unsaved.iter().find(|read| !world.records.contains(read)) {
        let line = String::from_utf8_lossy(line);
        Err(format!("seed {seed}, {habits:?}\n{line:.9} was of {id}\n{}", writer.told.join("\n")))
    } else if found == written {
        Ok(())
    } else {
        Err(format!("seed {seed}, {habits:?}\nwritten {written:?}\nread    {found:?}\n{}", writer.told.join("\n")))
    }
}

/// Runs as many seeds as `AQUEDUCT_SEEDS` says, or the one that `AQUEDUCT_SEED` names.
fn check(habits: Habits) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let count = number("AQUEDUCT_SEEDS").unwrap_or(1500);
    let seeds = number("AQUEDUCT_SEED").map_or(0..count, |only| only..only + 1);
    let mut failed = Vec::new();
    for seed in seeds.clone() {
        let habits = Habits { length: [3, 40, 900][seed as usize % 3], ..habits };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        if let Err(difference) = runtime.block_on(run(seed, habits)) {
            failed.push((seed, difference));
        }
    }
    let numbers: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let shortest = failed.iter().map(|(_, difference)| difference).min_by_key(|difference| difference.len());
    assert!(failed.is_empty(), "seeds {numbers:?} of {seeds:?} failed, for example {}", shortest.unwrap());
}

#[test]
fn every_line_comes_once_while_files_are_renamed() {
    check(Habits { length: 0, copies: false, races: false, restarts: true, kills: false });
}

#[test]
fn every_line_comes_once_and_of_its_stream_though_the_source_is_killed() {
    check(Habits { length: 0, copies: false, races: false, restarts: true, kills: true });
    check(Habits { length: 0, copies: false, races: true, restarts: true, kills: true });
}

#[test]
fn every_line_comes_once_while_files_are_copied_and_truncated() {
    check(Habits { length: 0, copies: true, races: false, restarts: true, kills: false });
}

#[test]
fn every_line_comes_once_while_files_are_renamed_under_the_source() {
    check(Habits { length: 0, copies: false, races: true, restarts: true, kills: false });
}

#[test]
fn every_line_comes_once_while_files_are_copied_and_truncated_under_the_source() {
    check(Habits { length: 0, copies: true, races: true, restarts: true, kills: false });
}
