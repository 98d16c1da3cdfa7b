//! One request on its way: looked up, sent, divided where it is too large, and answered for record by record.

use std::collections::BTreeSet;

use aqueduct_api::{Error, Rejected, Result};
use aqueduct_record::Offset;
use elasticsearch::BulkParts;
use reqwest::Method;

use crate::answer::{Known, Reason, Verdict, Whole, verdict, whole};
use crate::bulk::{self, Answered};
use crate::cluster::{Cluster, Content};
use crate::document::{Action, Kind};
use crate::lookup;
use crate::pace::{Running, Went};
use crate::request::Request;

/// Only what is looked at; without id and status of each, items could not be told apart.
const LOOKED_AT: &str =
    "errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by";

/// What became of a request's records.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) done: Vec<Action>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) later: Vec<Action>,
    /// Why some are to be tried again.
    pub(crate) reason: Option<Reason>,
}

impl Sent {
    fn put_off(&mut self, actions: impl IntoIterator<Item = Action>, reason: Reason) {
        self.later.extend(actions);
        let after = self.reason.as_ref().and_then(|earlier| earlier.after).max(reason.after);
        let throttled = self.reason.as_ref().is_some_and(|earlier| earlier.throttled) || reason.throttled;
        self.reason = Some(Reason { after, throttled, ..reason });
    }

    fn reject(&mut self, action: &Action, reason: String) {
        self.rejected.push(Rejected { chunk: action.place, offset: action.offset, reason });
    }
}

/// Sends a request until each of its records has an answer, or is to be tried again later.
///
/// # Errors
/// `Fatal` when a person must change something first.
pub(crate) async fn deliver(
    cluster: &Cluster,
    named_by_record: bool,
    request: Request,
    running: Running,
) -> Result<Sent> {
    let mut sent = Sent::default();
    let mut parts = vec![request];
    while let Some(part) = parts.pop() {
        let Some(part) = without_what_is_there(cluster, part, &mut sent).await? else { continue };
        match attempt(cluster, named_by_record, part, &mut sent).await? {
            Attempt::Answered => {}
            Attempt::Divided(first, second) => parts.extend([second, first]),
            Attempt::PutOff(reason) => {
                parts.drain(..).for_each(|part| sent.put_off(part.actions, reason.clone()));
            }
        }
    }
    running.went(match &sent.reason {
        Some(reason) if reason.throttled => Went::Throttled,
        Some(_) => Went::Otherwise,
        None => Went::Well,
    });
    Ok(sent)
}

/// What came of sending one part.
enum Attempt {
    Answered,
    Divided(Request, Request),
    /// All of it is to be tried later, so it makes no sense to send the rest now.
    PutOff(Reason),
}

async fn attempt(cluster: &Cluster, named_by_record: bool, part: Request, sent: &mut Sent) -> Result<Attempt> {
    let path = format!("{}?filter_path={LOOKED_AT}", BulkParts::None.url());
    let answer = match cluster.send(Method::POST, &path, Content::Lines, part.body.clone()).await {
        Ok(answer) => answer,
        Err(Error::Retry { cause, .. }) => {
            let reason = Reason::new(cause.to_string());
            sent.put_off(part.actions, reason.clone());
            return Ok(Attempt::PutOff(reason));
        }
        Err(error) => return Err(error),
    };
    if answer.status == 200 {
        let known = Known { resent: answer.resent, named_by_record };
        return match bulk::read(&answer.body, &part.actions) {
            Ok(items) => judge(items, part.actions, known, sent).map(|()| Attempt::Answered),
            Err(told) => {
                let reason = Reason::new(told);
                sent.put_off(part.actions, reason.clone());
                Ok(Attempt::PutOff(reason))
            }
        };
    }
    match whole(answer.status, answer.after, &answer.body) {
        Whole::Fatal(told) => Err(Error::fatal(told)),
        Whole::Later(reason) => {
            sent.put_off(part.actions, reason.clone());
            Ok(Attempt::PutOff(reason))
        }
        Whole::Divide(told) => Ok(match part.halves() {
            Ok((first, second)) => Attempt::Divided(first, second),
            Err(one) => {
                let size = one.body.len();
                one.actions.iter().for_each(|action| sent.reject(action, format!("{told}, to {size} bytes alone")));
                Attempt::Answered
            }
        }),
    }
}

fn judge(items: Vec<Answered>, actions: Vec<Action>, known: Known, sent: &mut Sent) -> Result<()> {
    for (item, action) in items.iter().zip(actions) {
        match verdict(item, &action, known) {
            Verdict::Done => sent.done.push(action),
            Verdict::Reject(reason) => sent.reject(&action, reason),
            Verdict::Later(reason) => sent.put_off([action], reason),
            Verdict::Fatal(told) => return Err(Error::fatal(format!("document of offset {}: {told}", action.offset))),
        }
    }
    Ok(())
}

/// A name may stand for several indices by now, of which only the newest is written to: what is created again is looked up
/// in all of them first.
async fn without_what_is_there(cluster: &Cluster, part: Request, sent: &mut Sent) -> Result<Option<Request>> {
    if !part.actions.iter().any(|action| action.kind == Kind::Create && action.repeated) {
        return Ok(Some(part));
    }
    let there = match lookup::there(cluster, &part.actions).await {
        Ok(there) => there,
        Err(Error::Retry { cause, after }) => {
            sent.put_off(part.actions, Reason { after, ..Reason::new(cause.to_string()) });
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    sent.done.extend(part.actions.iter().filter(|action| there.contains(&action.identity)).cloned());
    Ok(part.without(|action| there.contains(&action.identity)))
}

/// What of the records was written is told by chunk and ranges of offsets.
pub(crate) fn ranges(actions: &[Action]) -> Vec<(usize, std::ops::Range<Offset>)> {
    let offsets: BTreeSet<(usize, Offset)> = actions.iter().map(|action| (action.place, action.offset)).collect();
    let mut ranges: Vec<(usize, std::ops::Range<Offset>)> = Vec::new();
    for (place, offset) in offsets {
        match ranges.last_mut() {
            Some((last, range)) if *last == place && range.end == offset => range.end += 1,
            _ => ranges.push((place, offset..offset + 1)),
        }
    }
    ranges
}
