//! What Elasticsearch answers, and what is done then: the table of [`verdict`].

use std::time::Duration;

use serde::Deserialize;

use crate::bulk::Answered;
use crate::document::{Action, Kind};

/// What became of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is durable there.
    Done,
    /// It will never be taken.
    Reject(String),
    /// It may be taken later.
    Later(Reason),
    /// A person must change something first.
    Fatal(String),
}

/// Why something is to be tried again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// Whether there was too much at once.
    pub(crate) throttled: bool,
    /// How long the other side asked to be left alone.
    pub(crate) after: Option<Duration>,
}

impl Reason {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Reason { text: text.into(), throttled: false, after: None }
    }
}

/// An error as Elasticsearch tells it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<Problem>>,
}

/// What the caller knows of an action beside the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Whether this very request may have been carried out before.
    pub(crate) resent: bool,
    /// Whether the name of the index comes out of the record.
    pub(crate) named_by_record: bool,
}

impl Problem {
    /// The problem of a whole answer: `{"error": {…}}`, or whatever it says.
    pub(crate) fn of(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Whole {
            Told {
                error: Problem,
            },
            Said {
                error: String,
            },
            /// As Amazon's front door answers.
            Message {
                #[serde(alias = "Message")]
                message: String,
            },
        }
        match serde_json::from_slice(body) {
            Ok(Whole::Told { error }) => error,
            Ok(Whole::Said { error } | Whole::Message { message: error }) => {
                Problem { reason: Some(error), ..Problem::default() }
            }
            Err(_) => {
                let shown: String =
                    String::from_utf8_lossy(&body[..body.len().min(400)]).trim().chars().take(200).collect();
                Problem { reason: Some(shown), ..Problem::default() }
            }
        }
    }

    /// For people: type, reason and the first cause.
    pub(crate) fn told(&self) -> String {
        let mut text = match (&*self.kind, &self.reason) {
            ("", None) => "no reason given".to_owned(),
            ("", Some(reason)) => reason.clone(),
            (kind, None) => kind.to_owned(),
            (kind, Some(reason)) => format!("{kind}: {reason}"),
        };
        let mut deepest = self.caused_by.as_deref();
        while let Some(next) = deepest.and_then(|cause| cause.caused_by.as_deref()) {
            deepest = Some(next);
        }
        if let Some(reason) = deepest.and_then(|cause| cause.reason.as_ref()).filter(|reason| !text.contains(*reason)) {
            text = format!("{text}: {reason}");
        }
        if text.len() > 1000 {
            text = text.chars().take(1000).collect::<String>() + "…";
        }
        text
    }

    /// Whether something is closed for writes that will be open again: an index, or the cluster for new indices.
    fn is_block(&self) -> bool {
        matches!(&*self.kind, "cluster_block_exception" | "index_create_block_exception")
    }

    fn says(&self, part: &str) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.contains(part))
            || self.caused_by.as_ref().is_some_and(|cause| cause.says(part))
    }
}

/// What is done after an item's answer. The page of the connector shows this table to people: `settings.rs`.
pub(crate) fn verdict(answered: &Answered, action: &Action, known: Known) -> Verdict {
    let Answered { status, error, .. } = answered;
    let Some(problem) = error else {
        return match (status, action.kind) {
            (200..=299, _) | (404, Kind::Delete) => Verdict::Done,
            _ => Verdict::Later(Reason::new(format!("answered {status} without a reason"))),
        };
    };
    let told = || problem.told();
    match (&*problem.kind, status) {
        ("version_conflict_engine_exception", _) | (_, 409) => conflict(problem, action, known),
        (_, 429)
        | ("es_rejected_execution_exception" | "rejected_execution_exception" | "circuit_breaking_exception", _) => {
            // A disk that is too full is told as 429 too: fewer requests at once would not help.
            let throttled = !problem.is_block();
            Verdict::Later(Reason { throttled, ..Reason::new(told()) })
        }
        _ if problem.is_block() => Verdict::Later(Reason::new(told())),
        ("validation_exception", _) if problem.says("this action would add") => Verdict::Later(Reason::new(told())),
        ("security_exception", _) | (_, 401 | 403) => Verdict::Fatal(told()),
        ("index_closed_exception", _) => Verdict::Fatal(told()),
        // There is nothing to be deleted, and a deletion without a version of ours makes no index.
        ("index_not_found_exception", _) if action.kind == Kind::Delete && action.version == 0 => Verdict::Done,
        ("index_not_found_exception", _) if !known.named_by_record => Verdict::Fatal(told()),
        ("illegal_argument_exception", _) if is_misconfigured(problem) => Verdict::Fatal(told()),
        (_, 500.. | 408) => Verdict::Later(Reason::new(told())),
        _ => Verdict::Reject(told()),
    }
}

/// What is said of every document alike until a person changes something.
fn is_misconfigured(problem: &Problem) -> bool {
    problem.says("only write ops with an op_type of create are allowed in data streams")
        || problem.says("no write index is defined for alias")
        || (problem.says("pipeline with id [") && problem.says("does not exist"))
}

/// A document of the id is there already, as new or newer.
fn conflict(problem: &Problem, action: &Action, known: Known) -> Verdict {
    let repeated = action.repeated || known.resent;
    match action.kind {
        // Somebody else changed the document between its reading and writing, more often than was tried.
        Kind::Update => Verdict::Later(Reason::new(problem.told())),
        _ if repeated => Verdict::Done,
        // The same record: a proxy repeated the request, or another owner was faster.
        _ if action.version > 0 && current_version(problem) == Some(action.version) => Verdict::Done,
        _ => Verdict::Reject(problem.told()),
    }
}

/// `[id]: version conflict, current version [281474976710657] is higher or equal to the one provided […]`.
fn current_version(problem: &Problem) -> Option<i64> {
    let (_, rest) = problem.reason.as_ref()?.split_once("current version [")?;
    rest.split_once(']')?.0.parse().ok()
}

/// What is done after the answer to a whole request that was not 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    Later(Reason),
    Fatal(String),
    /// The request is too large, or something in it makes it unreadable: its halves will tell.
    Divide(String),
}

/// See [`Whole`].
pub(crate) fn whole(status: u16, after: Option<Duration>, body: &[u8]) -> Whole {
    let problem = Problem::of(body);
    let told = format!("answered {status}: {}", problem.told());
    match status {
        429 => Whole::Later(Reason { text: told, throttled: !problem.is_block(), after }),
        413 => Whole::Divide(told),
        // Without a type it is not Elasticsearch that speaks, and what stands before it would say so of every record.
        400 if !problem.kind.is_empty() => Whole::Divide(told),
        // A signature is dated: clocks that differ may meet again.
        403 if problem.says("Signature expired") || problem.says("Signature not yet current") => {
            Whole::Later(Reason { text: told, throttled: false, after })
        }
        403 if problem.is_block() => Whole::Later(Reason { text: told, throttled: false, after }),
        408 | 500.. => Whole::Later(Reason { text: told, throttled: false, after }),
        401 | 403 => Whole::Fatal(format!("{told}: look at the credentials and what they may do")),
        _ => Whole::Fatal(told),
    }
}
