//! What all parts of a simulated machine share: its time, whether it lives, and the trace of what happened.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

/// How many events a failing seed shows.
const LAST_EVENTS: usize = 120;
/// As many where a run is told whole.
const ALL_EVENTS: usize = 1_000_000;

/// What happened: a hash over everything, to compare two runs of a seed, and the last events in words.
pub(crate) struct Trace {
    state: Mutex<TraceState>,
    /// Prints every event as it happens.
    pub(crate) aloud: bool,
    /// Keeps every event.
    whole: bool,
}

struct TraceState {
    hash: u64,
    count: u64,
    last: VecDeque<String>,
    violations: Vec<String>,
}

impl Trace {
    pub(crate) fn new(aloud: bool) -> Arc<Self> {
        let state = TraceState { hash: 0xcbf2_9ce4_8422_2325, count: 0, last: VecDeque::new(), violations: Vec::new() };
        Arc::new(Trace { state: Mutex::new(state), aloud, whole: std::env::var_os("AQUEDUCT_SIM_WHOLE").is_some() })
    }

    /// Notes an event.
    pub(crate) fn event(&self, time: &Time, event: String) {
        let event = format!("{:>9}ms {event}", time.elapsed());
        if self.aloud {
            eprintln!("{event}");
        }
        let mut state = self.state.lock().unwrap();
        state.count += 1;
        for word in event.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            state.hash = (state.hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        if state.last.len() == if self.whole { ALL_EVENTS } else { LAST_EVENTS } {
            state.last.pop_front();
        }
        state.last.push_back(event);
    }

    /// Notes that a rule was broken; the run fails.
    pub(crate) fn violated(&self, rule: impl Into<String>) {
        let mut state = self.state.lock().unwrap();
        let rule = rule.into();
        if self.aloud {
            eprintln!("VIOLATED: {rule}");
        }
        if state.violations.len() < 20 {
            state.violations.push(rule);
        }
    }

    /// What was violated.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }

    /// How many events there were, and their hash.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap();
        (state.count, state.hash)
    }

    /// The last events.
    pub(crate) fn last(&self) -> Vec<String> {
        self.state.lock().unwrap().last.iter().cloned().collect()
    }
}

/// Simulated time, which goes on from one life to the next.
pub(crate) struct Time {
    /// Milliseconds since 1970 at the start of this life.
    base: AtomicI64,
    started: Mutex<Option<Instant>>,
    /// How wrong the machine's clock is, milliseconds.
    skew: AtomicI64,
}

/// When every run begins: 2026-03-01T00:00:00Z.
const BEGINNING: i64 = 1_772_323_200_000;

impl Time {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Time { base: AtomicI64::new(BEGINNING), started: Mutex::new(None), skew: AtomicI64::new(0) })
    }

    /// The true time, milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let life = self.started.lock().unwrap().map_or(0, |started| started.elapsed().as_millis() as i64);
        self.base.load(Ordering::Relaxed) + life
    }

    /// Milliseconds since the run began.
    pub(crate) fn elapsed(&self) -> i64 {
        self.now() - BEGINNING
    }

    /// Called on a life's runtime when it begins.
    pub(crate) fn begin_life(&self) {
        *self.started.lock().unwrap() = Some(Instant::now());
    }

    /// Called on a life's runtime when it ends; the machine is off for `pause` milliseconds.
    pub(crate) fn end_life(&self, pause: u64) {
        let now = self.now();
        *self.started.lock().unwrap() = None;
        self.base.store(now + pause as i64, Ordering::Relaxed);
    }

    /// Makes the machine's clock wrong by `skew` milliseconds.
    pub(crate) fn jump(&self, skew: i64) {
        self.skew.store(skew, Ordering::Relaxed);
    }
}

impl aqueduct_api::edge::Clock for Time {
    fn now(&self) -> i64 {
        Time::now(self) + self.skew.load(Ordering::Relaxed)
    }
}

/// One life of the machine, from power on to power off.
pub(crate) struct Life {
    dead: AtomicBool,
    died: Notify,
}

impl Life {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Life { dead: AtomicBool::new(false), died: Notify::new() })
    }

    /// Whether it is over: nothing that is done now has an effect.
    pub(crate) fn is_over(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// Returns when it is over.
    pub(crate) async fn over(&self) {
        while !self.is_over() {
            self.died.notified().await;
        }
    }
}
