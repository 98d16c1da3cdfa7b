//! One run: life after life of the machine on the same disk, then a last one in which everything drains, then judgement.

mod bustle;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{At, ByteSize, Edge, Log as _, Store, TopicPartition};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_engine::{Engine, Parts};
use aqueduct_record::BatchBuilder;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::dice::{Dice, SimChance};
use crate::disk::{DiskFaults, SimDisk};
use crate::life::{Life, Time, Trace};
use crate::observer::{Memory, Observer};
use crate::oracle::{DIRECT, GivenUp, LINES, NO_FILE, Oracle, Produced, SOURCE};
use crate::pipeline::{self, DATA, OBJECTS};
use crate::scenario::{End, LifeShape, Place, Scenario, SinkShape};
use crate::store::{Bucket, StoreFaults};
use crate::threads::{SimThreads, Unrest};
use crate::world::{LOGS, World};

/// How long the last life may take to drain, in simulated time.
const PATIENCE: Duration = Duration::from_secs(3 * 60);

/// Where sinks put temporary files.
const SCRATCH: &str = "/scratch";

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) violations: Vec<String>,
    /// How many events there were, and their hash.
    pub(crate) digest: (u64, u64),
    pub(crate) last: Vec<String>,
    pub(crate) scenario: Scenario,
}

/// Runs a seed, its scenario aimed at a rule of delivery, with the mistake that breaks the rule switched on or not.
pub(crate) fn run(seed: u64, aim: Option<Mutant>, is_mutated: bool, aloud: bool) -> Outcome {
    listen_for_panics();
    fault::mutate(aim.filter(|_| is_mutated));
    let mut run = Run::new(Scenario::new(seed, aim), aloud);
    if aloud {
        eprintln!("{:#?}", run.scenario);
    }
    for shape in run.scenario.lives.clone() {
        if run.trace.violations().is_empty() {
            run.live(&shape, false);
        }
    }
    if run.trace.violations().is_empty() {
        run.live(&LifeShape::LAST, true);
    }
    if run.trace.violations().is_empty() {
        run.judge();
    }
    fault::mutate(None);
    for panic in panics() {
        run.trace.violated(format!("a panic: {panic}"));
    }
    let Run { trace, scenario, .. } = run;
    Outcome { seed, violations: trace.violations(), digest: trace.digest(), last: trace.last(), scenario }
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static IS_SIMULATION: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics are caught at the edge of tasks, so only a hook hears of all of them.
pub(crate) fn listen_for_panics() {
    static ONCE: Once = Once::new();
    IS_SIMULATION.set(true);
    PANICS.take();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match IS_SIMULATION.with_borrow(|is| *is) {
            true => PANICS.with_borrow_mut(|panics| panics.push(panic.to_string())),
            false => usual(panic),
        }));
    });
}

/// Panics of this thread since it began to listen.
pub(crate) fn panics() -> Vec<String> {
    IS_SIMULATION.set(false);
    PANICS.take()
}

struct Run {
    scenario: Scenario,
    time: Arc<Time>,
    trace: Arc<Trace>,
    disk: Arc<SimDisk>,
    bucket: Arc<Bucket>,
    world: World,
    memory: Arc<Mutex<Memory>>,
    produced: Arc<Mutex<Produced>>,
    given_up: Vec<GivenUp>,
    partitions: i32,
    sinks: Vec<SinkShape>,
    dice: Dice,
    lives: u64,
}

/// What runs in one life.
struct Alive {
    shape: LifeShape,
    threads: Arc<SimThreads>,
    log: CommitLog,
    engine: Engine,
    produce: mpsc::UnboundedSender<u64>,
    /// What ends on its own, and when.
    spells: Vec<(Instant, Spell)>,
}

/// A passing state of things.
enum Spell {
    Full,
    ReadOnly,
    Silence,
    Refusal,
    Paused(String),
}

impl Run {
    fn new(scenario: Scenario, aloud: bool) -> Self {
        let (time, trace, seed) = (Time::new(), Trace::new(aloud), scenario.seed);
        let disk = Arc::new(SimDisk::new(Dice::new(seed, "disk"), time.clone(), trace.clone()));
        disk.make_plain_folder(Path::new(LOGS));
        let dice = Dice::new(seed, "world");
        let world = World::new(disk.clone(), (time.clone(), trace.clone()), dice, scenario.habits, scenario.files);
        Run {
            bucket: Bucket::new(Dice::new(seed, "store"), time.clone(), trace.clone()),
            partitions: scenario.topic.partitions,
            sinks: scenario.sinks.clone(),
            dice: Dice::new(seed, "actions"),
            memory: Arc::default(),
            produced: Arc::default(),
            given_up: Vec::new(),
            lives: 0,
            time,
            trace,
            disk,
            world,
            scenario,
        }
    }

    /// One life of the machine, from power on to its end.
    fn live(&mut self, shape: &LifeShape, is_last: bool) {
        self.lives += 1;
        self.event(format!("life {} begins", self.lives));
        let life = Life::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.time.begin_life();
            self.time.jump(0);
            tokio::select! {
                biased;
                () = life.over() => {}
                () = self.days(shape, &life, is_last) => {}
            }
            self.time.end_life(shape.pause);
        });
        let died = life.is_over();
        life.end();
        match shape.end {
            _ if died => {}
            End::Power => self.disk.crash(),
            _ => self.disk.end_of_process(),
        }
        drop(runtime);
        self.disk.crash_after(None);
        self.disk.set_faults(DiskFaults::default());
        self.disk.leave_room(None);
        self.bucket.set_faults(StoreFaults::default());
        self.event(format!("life {} is over", self.lives));
        for _ in 0..self.dice.below(4) {
            if !is_last {
                self.happens_outside();
            }
        }
    }

    /// What happens between power on and the end of a life.
    async fn days(&mut self, shape: &LifeShape, life: &Arc<Life>, is_last: bool) {
        self.disk.set_faults(shape.disk);
        self.bucket.set_faults(shape.store);
        if let End::Operation(operation) = shape.end {
            self.disk.crash_after(Some(operation));
        }
        let mut starts = 0;
        let mut alive = loop {
            match self.start(shape, life).await {
                Ok(alive) => break alive,
                Err(cause) => self.event(format!("the daemon does not start: {cause}")),
            }
            starts += 1;
            if starts == 5 {
                if is_last {
                    self.trace.violated("the daemon does not start although nothing is wrong any more");
                }
                return;
            }
            sleep(Duration::from_secs(1)).await;
        };
        match is_last {
            true => self.drain(&alive).await,
            false => self.bustle(&mut alive, shape).await,
        }
        if shape.end == End::Clean {
            self.event("the daemon is stopped".into());
            alive.engine.shutdown(Duration::from_secs(30)).await;
            drop(alive.engine);
            if let Err(cause) = alive.log.close().await {
                self.event(format!("the log does not close: {cause}"));
            }
        }
    }

    async fn start(&mut self, shape: &LifeShape, life: &Arc<Life>) -> Result<Alive, aqueduct_api::Error> {
        let seed = self.scenario.seed ^ (self.lives << 32);
        let chance = Mutex::new((Dice::new(seed, "threads"), shape.unrest));
        let (time, trace) = (self.time.clone(), self.trace.clone());
        let threads = Arc::new(SimThreads { life: life.clone(), time, trace, chance });
        let edge = Edge {
            disk: self.disk.mount(life.clone()),
            clock: self.time.clone(),
            threads: threads.clone(),
            chance: Arc::new(SimChance::new(Dice::new(seed, "chance"))),
        };
        self.disk.empty(Path::new(SCRATCH));
        let options =
            Options { owner: format!("life {}", self.lives), spare_new: Duration::from_secs(10), ..Options::default() };
        let log = CommitLog::open(edge.clone(), Path::new(DATA), options).await?;
        self.event(format!("the log is open: {}", serde_json::to_string(log.recovery()).unwrap()));
        let store: Arc<dyn Store> = Arc::new(log.clone());
        let parts = Parts {
            store: store.clone(),
            edge,
            registry: Arc::new(pipeline::registry(self.bucket.connect(life.clone()), self.scenario.part_size)),
            resolve: Arc::new(|value| Ok(value.clone())),
            scratch: PathBuf::from(SCRATCH),
            budget: ByteSize(self.scenario.budget),
        };
        let observer = Observer { memory: self.memory.clone(), time: self.time.clone(), trace: self.trace.clone() };
        let followed = observer.recovered(&*store).await?;
        let engine = Engine::start(parts, pipeline::plan(&self.scenario, self.partitions, &self.sinks)).await?;
        log.start_cleaning();
        tokio::spawn(observer.watch(store, followed));
        let (produce, numbers) = mpsc::unbounded_channel();
        tokio::spawn(producer(log.clone(), numbers, self.produced.clone(), Dice::new(seed, "producer")));
        Ok(Alive { shape: *shape, threads, log, engine, produce, spells: Vec::new() })
    }

    /// Waits until everything that was written is at its destinations.
    async fn drain(&mut self, alive: &Alive) {
        alive.threads.set(Unrest::NONE);
        self.world.complete_all();
        let names: Vec<String> = self.sinks.iter().map(|sink| sink.name.clone()).chain([SOURCE.to_owned()]).collect();
        for name in names {
            let done = alive.engine.resume(&name).await;
            self.told(format!("resume {name}"), done);
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            sleep(Duration::from_millis(500)).await;
            if !self.trace.violations().is_empty() {
                return;
            }
            if self.is_drained(alive).await.unwrap_or(false) {
                // What the sinks write last has to be seen by the observer.
                sleep(Duration::from_secs(5)).await;
                return;
            }
        }
        let status = serde_json::to_string(&alive.engine.status().await).unwrap();
        let missing = self.oracle(&self.memory.lock().unwrap(), &self.produced.lock().unwrap()).missing();
        let some = &missing[..missing.len().min(10)];
        let (count, all) = (missing.len(), self.world.lines());
        self.trace
            .violated(format!("no end after {PATIENCE:?}: {count} of {all} lines missing: {some:?}, status {status}"));
    }

    async fn is_drained(&self, alive: &Alive) -> Result<bool, aqueduct_api::Error> {
        if !self.oracle(&self.memory.lock().unwrap(), &self.produced.lock().unwrap()).all_lines_arrived() {
            return Ok(false);
        }
        for sink in &self.sinks {
            let committed = aqueduct_api::Groups::committed(&alive.log, &format!("connect-{}", sink.name)).await?;
            for (topic, partitions) in [(LINES, self.partitions), (DIRECT, 2)] {
                for partition in 0..partitions {
                    let partition = TopicPartition::new(topic, partition);
                    let bounds = alive.log.bounds(&partition).await?;
                    if committed.get(&partition).map_or(0, |committed| committed.offset) < bounds.end {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn oracle<'a>(&'a self, memory: &'a Memory, produced: &'a Produced) -> Oracle<'a> {
        Oracle { world: &self.world, memory, produced, given_up: &self.given_up, trace: &self.trace }
    }

    /// Everything is at rest: is every record accounted for?
    fn judge(&self) {
        self.bucket.deliver_all();
        let (memory, produced) = (self.memory.lock().unwrap(), self.produced.lock().unwrap());
        let oracle = self.oracle(&memory, &produced);
        oracle.check_lines();
        oracle.check_source_dead_letters();
        oracle.check_produced();
        for sink in &self.sinks {
            oracle.check_sink(&sink.name, &self.objects(sink));
        }
        for (id, path, parts) in self.bucket.open_uploads() {
            self.trace.violated(format!("upload {id} of {path} was left open with {parts} parts"));
        }
        let scratch = self.disk.files(Path::new(SCRATCH));
        if let Some((path, _)) = scratch.first() {
            self.trace.violated(format!("left over: {}", path.display()));
        }
    }

    fn objects(&self, sink: &SinkShape) -> Vec<(String, Bytes)> {
        match sink.place {
            Place::Store => {
                let mut objects = self.bucket.objects();
                objects.retain(|(path, _)| path.starts_with(&format!("{}/", sink.name)));
                objects
            }
            Place::Folder => {
                let folder = Path::new(OBJECTS).join(&sink.name);
                let mut files = self.disk.files(&folder);
                // Which topic each name stands for, and how often chunks were given up, is kept beside the objects.
                let notes = [folder.join(".aqueduct/topics"), folder.join(".aqueduct/given-up")];
                files.retain(|(path, _)| !notes.iter().any(|notes| path.starts_with(notes)));
                files.into_iter().map(|(path, bytes)| (path.display().to_string(), bytes.into())).collect()
            }
        }
    }

    fn told<T: std::fmt::Debug, E: std::fmt::Display>(&self, what: String, done: Result<T, E>) {
        match done {
            Ok(_) => self.event(what),
            Err(cause) => self.event(format!("{what}: {cause}")),
        }
    }

    fn event(&self, event: String) {
        self.trace.event(&self.time, event);
    }
}

/// Appends records that can not be read again, one after the other, and notes which were acknowledged.
async fn producer(
    log: CommitLog,
    mut numbers: mpsc::UnboundedReceiver<u64>,
    produced: Arc<Mutex<Produced>>,
    mut dice: Dice,
) {
    while let Some(number) = numbers.recv().await {
        let mut batch = BatchBuilder::new();
        let text = format!("{{\"file\":{NO_FILE},\"line\":{number},\"pad\":\"\"}}");
        let text = if dice.one_in(8) { format!("oops {NO_FILE} {number} ") } else { text };
        let value = if dice.one_in(10) { None } else { Some(text.as_bytes()) };
        let digits = number.to_string();
        batch.push(
            1_772_323_200_000 + number as i64 * 700,
            Some(b"key"),
            value,
            &[("number", Some(digits.as_bytes()))],
        );
        let to = TopicPartition::new(DIRECT, dice.below(2) as i32);
        if let Ok(appended) = log.append(&to, batch.finish(), At::End).await
            && appended.durable.await.is_ok()
        {
            produced.lock().unwrap().acknowledged[number as usize] = true;
        }
    }
}
