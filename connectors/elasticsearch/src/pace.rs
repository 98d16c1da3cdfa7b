//! How many requests run at once: one more while all goes well, half as many where there was too much.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Adapts the number of requests that run at once to what the cluster takes.
#[derive(Debug)]
pub(crate) struct Pace {
    most: f64,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// How many may run.
    limit: f64,
    running: usize,
    /// What a request usually takes, in seconds, slowly following; 0 before the first.
    usual: f64,
    /// Only requests that began after the last reduction may bring the next.
    reduced: Option<Instant>,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// It was taken.
    Well,
    /// There was too much at once.
    Throttled,
    /// It says nothing about how much the cluster takes.
    Otherwise,
}

/// A request that runs; it counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pace: Arc<Pace>,
    began: Instant,
}

/// Where the search for the right number begins.
const FIRST: f64 = 2.0;
/// Requests that take so many times as long as usual wait in line there.
const SLOW: f64 = 3.0;
/// How fast what is usual follows what is.
const FOLLOW: f64 = 0.05;

impl Pace {
    /// At most `most` at once, at least one.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        let state = State { limit: FIRST.min(most), running: 0, usual: 0.0, reduced: None };
        Pace { most, state: Mutex::new(state), freed: Notify::new() }
    }

    /// Waits until one more may run.
    pub(crate) async fn enter(self: &Arc<Self>) -> Running {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_enter() {
                return Running { pace: self.clone(), began: Instant::now() };
            }
            freed.await;
        }
    }

    fn try_enter(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.running < state.limit as usize;
        state.running += usize::from(free);
        free
    }

    /// How many may run now.
    pub(crate) fn limit(&self) -> usize {
        self.state.lock().limit as usize
    }
}

impl Running {
    /// The request has ended.
    pub(crate) fn went(self, how: Went) {
        let took = self.began.elapsed();
        let mut state = self.pace.state.lock();
        match how {
            Went::Well => state.went_well(took, self.began, self.pace.most),
            Went::Throttled => state.reduce(self.began, 0.5),
            Went::Otherwise => {}
        }
    }
}

impl State {
    fn went_well(&mut self, took: Duration, began: Instant, most: f64) {
        let took = took.as_secs_f64();
        let slow = self.usual > 0.0 && took > self.usual * SLOW;
        self.usual = if self.usual > 0.0 { self.usual + (took - self.usual) * FOLLOW } else { took };
        if slow {
            return self.reduce(began, 0.9);
        }
        // Only a limit that is reached is one: otherwise it would grow while nothing is asked of the cluster.
        if self.running as f64 + 1.0 > self.limit {
            self.limit = (self.limit + 1.0 / self.limit).min(most);
        }
    }

    fn reduce(&mut self, began: Instant, to: f64) {
        if self.reduced.is_none_or(|reduced| began > reduced) {
            self.limit = (self.limit * to).max(1.0);
            self.reduced = Some(Instant::now());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pace.state.lock().running -= 1;
        self.pace.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Runs as many requests at once as may run, `rounds` times, each taking `takes`.
    async fn run(pace: &Arc<Pace>, rounds: usize, takes: Duration, how: Went) {
        for _ in 0..rounds {
            let mut running = Vec::new();
            while let Some(one) = pace.enter().now_or_never() {
                running.push(one);
            }
            tokio::time::advance(takes).await;
            running.into_iter().for_each(|one| one.went(how));
        }
    }

    const USUAL: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn more_run_at_once_while_all_goes_well_up_to_the_most() {
        let pace = Arc::new(Pace::new(6));
        assert_eq!(pace.limit(), 2);
        run(&pace, 4, USUAL, Went::Well).await;
        assert!(pace.limit() > 2, "{}", pace.limit());
        run(&pace, 40, USUAL, Went::Well).await;
        assert_eq!(pace.limit(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn half_as_many_run_after_a_throttled_round_and_at_least_one() {
        let pace = Arc::new(Pace::new(16));
        run(&pace, 200, USUAL, Went::Well).await;
        assert_eq!(pace.limit(), 16);
        run(&pace, 1, USUAL, Went::Throttled).await;
        assert_eq!(pace.limit(), 8, "a round counts once, though all of it was throttled");
        run(&pace, 10, USUAL, Went::Throttled).await;
        assert_eq!(pace.limit(), 1);
        run(&pace, 3, USUAL, Went::Otherwise).await;
        assert_eq!(pace.limit(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_run_when_requests_wait_in_line_at_the_other_side() {
        let pace = Arc::new(Pace::new(16));
        run(&pace, 200, USUAL, Went::Well).await;
        run(&pace, 1, USUAL * 10, Went::Well).await;
        assert_eq!(pace.limit(), 14);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_runs_when_another_is_dropped() {
        let pace = Arc::new(Pace::new(1));
        let first = pace.enter().await;
        let waiting = pace.enter();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.now_or_never().is_some());
    }
}
