//! How many bytes a second somebody may send and be sent.

use std::num::NonZeroU64;
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
    pub produce: Option<NonZeroU64>,
    /// Bytes a second of Fetch answers.
    pub fetch: Option<NonZeroU64>,
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

    /// The same under another quota: what is used under either counts under both.
    pub(crate) fn under(&self, quota: Quota) -> Arc<Self> {
        let Quota { produce, fetch } = quota;
        Arc::new(Used { produce: self.produce.under(produce), fetch: self.fetch.under(fetch) })
    }
}

/// Bytes a second, and what is owed of them.
#[derive(Default)]
pub(crate) struct Allowance {
    rate: Option<NonZeroU64>,
    /// When all that was used will have been allowed: one for all settings of a user, since requests go on under the old ones
    /// while new ones are made ready.
    paid: Arc<Mutex<Option<Instant>>>,
}

impl Allowance {
    fn new(rate: Option<NonZeroU64>) -> Self {
        Allowance { rate, paid: Arc::default() }
    }

    fn under(&self, rate: Option<NonZeroU64>) -> Self {
        Allowance { rate, paid: self.paid.clone() }
    }

    /// Uses so many bytes, which have come already, and says for how long to hold the client back.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let mut paid = self.paid.lock();
        let until = after(*paid, bytes, rate, now);
        *paid = Some(until);
        until.saturating_duration_since(now + BURST)
    }

    /// Uses so many bytes, which can be kept back. Where what was used before has not been allowed yet, nothing is used, and
    /// the error says for how long to hold the client back. So whatever comes in one piece is let through in its turn.
    pub(crate) fn take_if_paid(&self, bytes: usize, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate.filter(|_| bytes > 0) else { return Ok(()) };
        let mut paid = self.paid.lock();
        let owed = paid.map_or(Duration::ZERO, |paid| paid.saturating_duration_since(now + BURST));
        if !owed.is_zero() {
            return Err(owed);
        }
        *paid = Some(after(*paid, bytes, rate, now));
        Ok(())
    }

    /// The most bytes to use at once, where that can be chosen.
    pub(crate) fn at_once(&self) -> usize {
        self.rate.map_or(usize::MAX, |rate| (rate.get() as f64 * BURST.as_secs_f64()) as usize)
    }
}

/// When so many bytes more will have been allowed.
fn after(paid: Option<Instant>, bytes: usize, rate: NonZeroU64, now: Instant) -> Instant {
    let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64).min(LONGEST + BURST);
    (paid.unwrap_or(now).max(now) + cost).min(now + LONGEST + BURST)
}

#[cfg(test)]
mod tests;
