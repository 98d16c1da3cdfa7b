//! A machine with nothing on it but a log: what goes wrong with it from life to life.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Edge, Error};
use aqueduct_commit_log::{CommitLog, Options};
use tokio::time::sleep;

use crate::dice::{Dice, SimChance};
use crate::disk::{DiskFaults, SimDisk};
use crate::life::{Life, Time, Trace};
use crate::run::{Outcome, panics};
use crate::scenario::Scenario;
use crate::threads::{SimThreads, Unrest};

pub(crate) struct Machine {
    pub(crate) time: Arc<Time>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) disk: SimDisk,
}

/// What is done with the log.
pub(crate) trait Use {
    fn machine(&self) -> &Machine;

    /// Opens the log, and checks what is in it.
    async fn start(&self, seed: u64, life: &Arc<Life>) -> Result<CommitLog, Error>;

    /// Uses it for a while; at the end of a clean life it is closed.
    async fn bustle(&self, log: CommitLog, dice: &mut Dice, clean: bool, is_last: bool);
}

/// Some lives, in which much goes wrong, and a last one in which nothing does.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>, used: &impl Use, dice: &mut Dice) -> Outcome {
    let Machine { trace, .. } = used.machine();
    for number in 0..dice.between(2, 6) {
        if trace.violations().is_empty() {
            live(used, seed ^ (number << 40), dice, false);
        }
    }
    if trace.violations().is_empty() {
        live(used, seed ^ (9 << 40), dice, true);
    }
    fault::mutate(None);
    for panic in panics() {
        trace.violated(format!("a panic: {panic}"));
    }
    let (violations, digest, last) = (trace.violations(), trace.digest(), trace.last());
    Outcome { seed, violations, digest, last, scenario: Scenario::new(seed, mutant) }
}

fn live(used: &impl Use, seed: u64, dice: &mut Dice, is_last: bool) {
    let Machine { time, disk, .. } = used.machine();
    let life = Life::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (clean, power) = (is_last || dice.one_in(4), dice.one_in(2));
    runtime.block_on(async {
        time.begin_life();
        if !is_last {
            used.machine().faults(dice);
        }
        tokio::select! {
            biased;
            () = life.over() => {}
            () = days(used, seed, dice, &life, (clean, is_last)) => {}
        }
        time.end_life(10);
    });
    let died = life.is_over();
    life.end();
    match died || clean || !power {
        true => disk.end_of_process(),
        false => disk.crash(),
    }
    drop(runtime);
    disk.crash_after(None);
    disk.set_faults(DiskFaults::default());
    disk.leave_room(None);
}

async fn days(used: &impl Use, seed: u64, dice: &mut Dice, life: &Arc<Life>, (clean, is_last): (bool, bool)) {
    for _ in 0..5 {
        match used.start(seed, life).await {
            Ok(log) => return used.bustle(log, dice, clean, is_last).await,
            Err(cause) => used.machine().event(format!("the log does not open: {cause}")),
        }
        sleep(Duration::from_secs(1)).await;
    }
    if is_last {
        used.machine().trace.violated("the log does not open although nothing is wrong any more");
    }
}

impl Machine {
    pub(crate) fn new(seed: u64, aloud: bool) -> Self {
        let (time, trace) = (Time::new(), Trace::new(aloud));
        let disk = SimDisk::new(Dice::new(seed, "disk"), time.clone(), trace.clone());
        Machine { time, trace, disk }
    }

    fn faults(&self, dice: &mut Dice) {
        if dice.one_in(2) {
            self.disk.crash_after(Some(dice.between(1, 1500)));
        }
        if dice.one_in(2) {
            self.disk.set_faults(DiskFaults {
                sync: *dice.pick(&[0, 10, 60]),
                freeze: *dice.pick(&[0, 300]),
                sync_folder: *dice.pick(&[0, 20]),
                write: *dice.pick(&[0, 20]),
                names: *dice.pick(&[0, 10]),
                read: *dice.pick(&[0, 0, 2]),
                read_only: false,
            });
        }
        if dice.one_in(4) {
            self.disk.leave_room(Some(dice.between(5_000, 100_000)));
        }
    }

    /// The log, as it is found.
    pub(crate) async fn open(&self, seed: u64, life: &Arc<Life>) -> Result<CommitLog, Error> {
        let unrest = Unrest { slow: 100, stuck: 2, zombies: 0, zombie_life: 0 };
        let chance = Mutex::new((Dice::new(seed, "threads"), unrest));
        let (time, trace) = (self.time.clone(), self.trace.clone());
        let edge = Edge {
            disk: self.disk.mount(life.clone()),
            clock: self.time.clone(),
            threads: Arc::new(SimThreads { life: life.clone(), time, trace, chance }),
            chance: Arc::new(SimChance::new(Dice::new(seed, "chance"))),
        };
        let log = CommitLog::open(edge, Path::new("/data"), Options::default()).await?;
        self.event(format!("the log is open: {}", serde_json::to_string(log.recovery()).unwrap()));
        Ok(log)
    }

    pub(crate) async fn close(&self, log: CommitLog) {
        sleep(Duration::from_secs(5)).await;
        match log.close().await {
            Ok(()) => self.event("closed".into()),
            Err(cause) => self.event(format!("the log does not close: {cause}")),
        }
    }

    pub(crate) fn event(&self, event: String) {
        self.trace.event(&self.time, event);
    }
}
