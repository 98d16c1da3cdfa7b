//! How long to wait before the same is tried again, and when to give up.

use std::time::Duration;

use aqueduct_api::{Edge, Error, Result, Span};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::RetryPlan;

/// Waits for one thing that fails again and again.
pub(crate) struct Retry {
    plan: RetryPlan,
    edge: Edge,
    delays: ExponentialBackoff,
    since: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(plan: &RetryPlan, edge: &Edge) -> Self {
        Retry { plan: plan.clone(), edge: edge.clone(), delays: delays(plan), since: None }
    }

    /// How long to wait after this failure; the failure itself when it will not pass or was tried for long enough.
    pub(crate) fn failed(&mut self, error: Error) -> Result<Duration> {
        let Error::Retry { cause, after } = error else { return Err(error) };
        let since = *self.since.get_or_insert_with(Instant::now);
        match self.plan.give_up.duration() {
            Some(give_up) if since.elapsed() >= give_up => {
                return Err(Error::fatal(format!("gave up after {}: {cause}", self.plan.give_up)));
            }
            _ => {}
        }
        let delay = self.delays.next().unwrap_or(Duration::ZERO);
        Ok(jittered(delay, self.edge.random()).max(after.unwrap_or_default()))
    }

    /// It worked: the next failure is the first one again.
    pub(crate) fn succeeded(&mut self) {
        if self.since.take().is_some() {
            self.delays = delays(&self.plan);
        }
    }
}

fn delays(plan: &RetryPlan) -> ExponentialBackoff {
    const DAY: Duration = Duration::from_secs(86_400);
    let duration = |span: Span| span.duration().unwrap_or(DAY);
    ExponentialBuilder::default()
        .with_min_delay(duration(plan.first))
        .with_max_delay(duration(plan.longest))
        .without_max_times()
        .build()
}

/// Between a half and the whole, so that many that failed together do not come back together.
fn jittered(delay: Duration, random: u64) -> Duration {
    let half = delay / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(give_up: Span) -> Retry {
        let plan = RetryPlan { first: Span::millis(100), longest: Span::seconds(1), give_up };
        Retry::new(&plan, &Edge::real())
    }

    #[tokio::test]
    async fn waits_double_up_to_the_longest_and_begin_anew_after_success() {
        let mut retry = retry(Span::FOREVER);
        for most in [100, 200, 400, 800, 1000, 1000, 1000] {
            let wait = retry.failed(Error::retry("busy")).unwrap();
            assert!((most / 2..=most).contains(&(wait.as_millis() as u64)), "{wait:?} of {most} ms");
        }
        retry.succeeded();
        assert!(retry.failed(Error::retry("busy")).unwrap() <= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn the_other_side_may_ask_for_longer() {
        let asked = Error::retry_after("slow down", Duration::from_secs(7));
        assert_eq!(retry(Span::FOREVER).failed(asked).unwrap(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_a_while_and_at_once_where_waiting_is_of_no_use() {
        let mut retry = retry(Span::seconds(5));
        assert!(matches!(retry.failed(Error::refused("no")), Err(Error::Refused { .. })));
        retry.failed(Error::retry("busy")).unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        let error = retry.failed(Error::retry("busy")).unwrap_err();
        assert_eq!(error.to_string(), "gave up after 5s: busy");
        assert!(matches!(error, Error::Fatal { .. }));
    }
}
