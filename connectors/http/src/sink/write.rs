//! Sends chunks: several partitions at once, each in order where that is asked for.

use std::ops::Range;
use std::time::Duration;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Chunk, Error, Outcome, Rejected, Result, Sink};
use aqueduct_record::Offset;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::Semaphore;

use crate::sink::answer::Verdict;
use crate::sink::client::Client;
use crate::sink::cut::Cutter;
use crate::sink::plan::Plan;
use crate::sink::request::{Left, Request};
use crate::sink::settings::{HttpSinkSettings, OnRefusal};

/// Delivers chunks.
pub(crate) struct HttpSink {
    plan: Plan,
    client: Client,
    concurrency: usize,
    /// How many requests of one partition run at once.
    at_once: usize,
    on_refusal: OnRefusal,
    /// How many requests run at once.
    turns: Semaphore,
}

/// What became of a chunk, or a request of it.
#[derive(Default)]
struct Written {
    rejected: Vec<(Offset, String)>,
    unfinished: Vec<Range<Offset>>,
    /// Why something is unfinished.
    later: Option<(String, Option<Duration>)>,
    /// How many requests were taken.
    taken: usize,
}

impl Written {
    fn add(&mut self, other: Written) {
        self.rejected.extend(other.rejected);
        self.unfinished.extend(other.unfinished);
        self.taken += other.taken;
        // Of two waits the longer one holds.
        self.later = match (self.later.take(), other.later) {
            (Some(a), Some(b)) => Some(if b.1 > a.1 { b } else { a }),
            (a, b) => a.or(b),
        };
    }
}

impl HttpSink {
    pub(crate) fn new(settings: &HttpSinkSettings, plan: Plan, client: Client) -> Self {
        let concurrency = settings.concurrency.max(1) as usize;
        HttpSink {
            plan,
            client,
            concurrency,
            at_once: if settings.ordered { 1 } else { concurrency },
            on_refusal: settings.on_refusal,
            turns: Semaphore::new(concurrency),
        }
    }

    /// Sends a chunk's requests until one has to wait; what comes after it waits too.
    async fn chunk(&self, chunk: &Chunk) -> Result<Written> {
        let mut cutter = Cutter::new(&self.plan, chunk);
        let mut flying = FuturesUnordered::new();
        let mut written = Written::default();
        let mut cut_to = chunk.start;
        while written.later.is_none() {
            let Some(request) = cutter.next().await? else {
                cut_to = chunk.end;
                break;
            };
            // Behind a part of what was made of one record more parts may come.
            cut_to = if request.part.is_some() { request.range().start } else { request.range().end };
            if request.left(&chunk.ranges) == Left::Nothing {
                continue;
            }
            flying.push(self.request(chunk, request));
            while flying.len() >= self.at_once {
                flying.next().await.transpose()?.into_iter().for_each(|one| written.add(one));
            }
        }
        while let Some(one) = flying.next().await {
            written.add(one?);
        }
        let rest = chunk.ranges.iter().map(|range| range.start.max(cut_to)..range.end);
        written.unfinished.extend(rest.filter(|range| range.start < range.end));
        written.unfinished.sort_by_key(|range| range.start);
        // Requests that hold parts of what was made of one record tell of the same offset.
        written.unfinished.dedup_by(|range, before| {
            let touches = range.start <= before.end;
            before.end = if touches { range.end.max(before.end) } else { before.end };
            touches
        });
        // What is cut again is looked at again.
        let again = |offset: Offset| written.unfinished.iter().any(|range| range.contains(&offset));
        written.rejected.append(&mut cutter.unfit);
        written.rejected.retain(|(offset, _)| !again(*offset));
        // Several that were made of one record can be rejected.
        written.rejected.sort_by_key(|(offset, _)| *offset);
        written.rejected.dedup_by_key(|(offset, _)| *offset);
        if mutated(Mutant::WholeAgain) && !written.unfinished.is_empty() {
            (written.unfinished, written.rejected) = (chunk.ranges.clone(), Vec::new());
        }
        Ok(written)
    }

    /// Sends a request, and its parts where it is too large or refused.
    async fn request(&self, chunk: &Chunk, request: Request) -> Result<Written> {
        let mut written = Written::default();
        let mut parts = vec![request];
        while let Some(part) = parts.pop() {
            match part.left(&chunk.ranges) {
                Left::Nothing => continue,
                // Only halves leave something of a request: it is sent again as the halves that it was sent as.
                Left::Some if let Some((first, second)) = part.halves() => {
                    parts.extend([second, first]);
                    continue;
                }
                _ => {}
            }
            let verdict = {
                let _turn = self.turns.acquire().await.map_err(|_| Error::fatal("the sink is closed"))?;
                self.client.send(chunk, &part).await?
            };
            let (halve, why) = match verdict {
                Verdict::Taken => {
                    written.taken += 1;
                    continue;
                }
                Verdict::Later(why, after) => {
                    tracing::debug!(chunk = %chunk, why, "a request waits");
                    written.later = Some((why, after));
                    parts.push(part);
                    break;
                }
                Verdict::Never(why) | Verdict::Unauthorized(why) => return Err(Error::fatal(why)),
                Verdict::TooLarge(why) => (true, why),
                Verdict::Refused(why) => match self.on_refusal {
                    OnRefusal::Halve => (true, why),
                    OnRefusal::Reject => (false, why),
                    OnRefusal::Stop => return Err(Error::fatal(format!("{why} (`on-refusal: stop`)"))),
                },
            };
            match part.halves().filter(|_| halve) {
                Some((first, second)) => parts.extend([second, first]),
                None => written.rejected.extend(part.records.iter().map(|(offset, _)| (*offset, why.clone()))),
            }
        }
        for part in parts.iter().rev().map(Request::range) {
            let left = chunk.ranges.iter().map(|range| range.start.max(part.start)..range.end.min(part.end));
            written.unfinished.extend(left.filter(|range| range.start < range.end));
        }
        Ok(written)
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn write(&self, chunks: &mut [Chunk]) -> Result<Outcome> {
        let chunks = &*chunks;
        let writes = chunks.iter().map(|chunk| self.chunk(chunk).boxed());
        let writes: Vec<BoxFuture<'_, Result<Written>>> = writes.collect();
        let results: Vec<Result<Written>> = stream::iter(writes).buffered(self.concurrency).collect().await;
        let mut outcome = Outcome::default();
        let (mut later, mut taken) = (None, 0);
        let mut failed = None;
        for (place, result) in results.into_iter().enumerate() {
            match result {
                Ok(written) => {
                    let unfinished = written.unfinished.into_iter().map(|range| (place, range));
                    outcome.unfinished.extend(unfinished);
                    let rejected = written.rejected.into_iter();
                    outcome.rejected.extend(rejected.map(|(offset, reason)| Rejected { chunk: place, offset, reason }));
                    taken += written.taken;
                    later = later.or(written.later.clone());
                    outcome.after = outcome.after.max(written.later.and_then(|(_, after)| after));
                }
                Err(error) if !error.is_retry() => return Err(error),
                Err(error) => {
                    outcome.unfinished.extend(chunks[place].ranges.iter().map(|range| (place, range.clone())));
                    failed = Some(error);
                }
            }
        }
        outcome.rejected.sort_by_key(|rejected| (rejected.chunk, rejected.offset));
        // Nothing came of it: the engine is told why, and waits longer each time.
        let nothing_done = taken == 0 && outcome.rejected.is_empty();
        match (failed, later) {
            (Some(error), _) if nothing_done || chunks.len() == 1 => Err(error),
            (_, Some((why, _))) if nothing_done => Err(match outcome.after {
                Some(after) => Error::retry_after(why, after),
                None => Error::retry(why),
            }),
            (Some(error), _) => {
                tracing::warn!(cause = %error, "part of a delivery is tried again");
                Ok(outcome)
            }
            (None, Some((why, _))) => {
                tracing::warn!(cause = why, "part of a delivery is tried again");
                Ok(outcome)
            }
            (None, None) => Ok(outcome),
        }
    }
}
