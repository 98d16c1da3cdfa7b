//! How many bytes a second somebody may send and be sent.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a client is held back at once, at most.
const LONGEST: Duration = Duration::from_secs(30);
/// Whoever was quiet may have this much of its quota at once.
const BURST: Duration = Duration::from_secs(1);

/// What somebody may use; nothing said: all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes a second of Produce requests.
    pub produce: Option<u64>,
    /// Bytes a second of Fetch answers.
    pub fetch: Option<u64>,
}

/// What somebody has used, on all its connections.
#[derive(Default)]
pub(crate) struct Used {
    /// Of Produce requests.
    pub(crate) produce: Allowance,
    /// Of Fetch answers.
    pub(crate) fetch: Allowance,
}

impl Used {
    /// Nothing yet.
    pub(crate) fn new(quota: Quota) -> Arc<Self> {
        let Quota { produce, fetch } = quota;
        Arc::new(Used { produce: Allowance::new(produce), fetch: Allowance::new(fetch) })
    }
}

impl Used {
    /// The same under another quota.
    pub(crate) fn under(&self, quota: Quota) -> Arc<Self> {
        let Quota { produce, fetch } = quota;
        Arc::new(Used { produce: self.produce.under(produce), fetch: self.fetch.under(fetch) })
    }
}

/// Bytes a second, and what is owed of them.
#[derive(Default)]
pub(crate) struct Allowance {
    rate: Option<u64>,
    /// When all that was used will have been allowed.
    paid: Mutex<Option<Instant>>,
}

impl Allowance {
    fn new(rate: Option<u64>) -> Self {
        Allowance { rate, paid: Mutex::default() }
    }

    fn under(&self, rate: Option<u64>) -> Self {
        Allowance { paid: Mutex::new(*self.paid.lock()), ..Allowance::new(rate) }
    }

    /// Uses so many bytes, and says for how long to hold the client back.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else { return Duration::ZERO };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64).min(LONGEST + BURST);
        let mut paid = self.paid.lock();
        let from = paid.unwrap_or(now).max(now);
        let until = (from + cost).min(now + LONGEST + BURST);
        *paid = Some(until);
        until.saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When, how many bytes, and for how long the client is held back, in milliseconds.
    fn check(rate: Option<u64>, steps: &[(u64, usize, u64)]) {
        let begun = Instant::now();
        let allowance = Allowance::new(rate);
        for (step, (at, bytes, held)) in steps.iter().enumerate() {
            let now = begun + Duration::from_millis(*at);
            assert_eq!(allowance.take(*bytes, now).as_millis(), u128::from(*held), "{rate:?}, step {step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_uses_more_than_its_quota_is_held_back() {
        check(None, &[(0, usize::MAX, 0)]);
        check(Some(1000), &[(0, 1000, 0), (0, 500, 500), (500, 0, 0), (500, 1000, 1000), (10_000, 1000, 0)]);
        check(Some(1000), &[(0, 1_000_000_000, 30_000), (0, 1, 30_000), (29_000, 0, 1000), (31_000, 0, 0)]);
    }
}
