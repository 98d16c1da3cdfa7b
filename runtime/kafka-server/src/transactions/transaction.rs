//! One transactional id: a machine without clock or disk. Time comes in with each call, what is to be done outside comes out
//! as [`Effect`]s, and nothing holds, or is told to anybody, before it is saved.
//!
//! ```text
//!        add                 end, time-out, another producer         all partitions are marked
//! Empty ─────► Ongoing ─────────────────────────────────────► PrepareCommit ───────────────► CompleteCommit ─┐
//!   ▲            ▲   │                                        PrepareAbort                   CompleteAbort   │
//!   │            │   └── add ──┐                                                                             │
//!   │            └─────────────┴──────────────────────────────────── add ────────────────────────────────────┤
//!   └───────────────────────────────────────────────────────────────── init ─────────────────────────────────┘
//! ```
//!
//! Answers and their codes are those of Kafka's transaction coordinator.

use std::collections::BTreeSet;

use aqueduct_api::TopicPartition;
use aqueduct_api::fault::{self, Mutant};
use kafka_protocol::ResponseError;

use super::entry::{Entry, State, is_exhausted};
use super::request::{Answer, Effect, Init, Millis, Ticket, Who};

/// How long to wait before something that could not be saved is tried again.
const AGAIN: Millis = 1000;

/// A transactional id, and the transaction that its producer has.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(super) entry: Entry,
    /// The epoch of the same producer before it raised it; -1: it is another one.
    pub(super) last_epoch: i16,
    pub(super) saving: Option<Saving>,
    /// Partitions that do not know of the outcome yet.
    pub(super) unmarked: BTreeSet<TopicPartition>,
    /// When something that could not be saved is tried again.
    pub(super) again: Option<Millis>,
    is_gone: bool,
}

/// What is being saved, and what follows.
#[derive(Clone, Debug)]
pub(super) struct Saving {
    pub(super) entry: Option<Entry>,
    pub(super) last_epoch: i16,
    /// Who is told what once it is.
    pub(super) answer: Option<(Ticket, Answer)>,
}

impl Transaction {
    /// An id that nobody had before, for a producer of that id.
    pub(crate) fn new(producer_id: i64, now: Millis) -> Self {
        Transaction::load(Entry {
            producer_id,
            previous_producer_id: -1,
            next_producer_id: -1,
            epoch: -1,
            timeout: 0,
            state: State::Empty,
            partitions: BTreeSet::new(),
            updated: now,
            started: -1,
            client_version: 0,
        })
    }

    /// An id as it was saved.
    pub(crate) fn load(mut entry: Entry) -> Self {
        if fault::mutated(Mutant::OutcomeForgotten) && entry.state.decided().is_some() {
            entry.state = State::Ongoing;
        }
        let unmarked = if entry.state.decided().is_some() { entry.partitions.clone() } else { BTreeSet::new() };
        Transaction { entry, last_epoch: -1, saving: None, unmarked, again: None, is_gone: false }
    }

    /// Goes on with what was decided before it was loaded.
    pub(crate) fn resume(&mut self, now: Millis, out: &mut Vec<Effect>) {
        if self.entry.state.decided().is_some() {
            self.mark(now, out);
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// What was saved last.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whether a new producer id may be needed to go on.
    pub(crate) fn needs_id(&self) -> bool {
        is_exhausted(self.entry.epoch)
    }

    /// A producer takes the id, and whoever had it before may write no more. `fresh` is a producer id that nobody had.
    pub(crate) fn init(&mut self, now: Millis, ticket: Ticket, init: &Init, fresh: Option<i64>, out: &mut Vec<Effect>) {
        if let Err(error) = self.try_init(now, ticket, init, fresh, out) {
            out.push(Effect::Answer(ticket, Err(error)));
        }
    }

    fn try_init(
        &mut self,
        now: Millis,
        ticket: Ticket,
        init: &Init,
        fresh: Option<i64>,
        out: &mut Vec<Effect>,
    ) -> Result<(), ResponseError> {
        if self.saving.is_some() || self.is_gone {
            return Err(ResponseError::ConcurrentTransactions);
        }
        let entry = &self.entry;
        let goes_on = |expected: Who| {
            let was_before = expected.producer_id == entry.previous_producer_id && is_exhausted(expected.epoch);
            entry.epoch == -1 || expected.producer_id == entry.producer_id || was_before
        };
        if !init.expected.is_none_or(goes_on) {
            return Err(ResponseError::ProducerFenced);
        }
        match entry.state {
            State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            State::Ongoing => {
                // Whoever was fenced may not fence who fenced it.
                if init.expected.is_some_and(|expected| expected.epoch != entry.epoch) {
                    return Err(ResponseError::ProducerFenced);
                }
                self.fence(now, Some((ticket, Err(ResponseError::ConcurrentTransactions))), out);
                Ok(())
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let (who, last_epoch) = self.next_producer(init.expected, fresh)?;
                let mut next = Entry { timeout: init.timeout, updated: now, started: -1, ..entry.clone() };
                next.state = State::Empty;
                next.client_version = 0;
                next.partitions.clear();
                if who.producer_id != entry.producer_id {
                    next.previous_producer_id = entry.producer_id;
                }
                (next.producer_id, next.epoch) = (who.producer_id, who.epoch);
                self.save(Some(next), last_epoch, Some((ticket, Ok(who))), out);
                Ok(())
            }
        }
    }

    /// Who has the id next, and the epoch that it had before where it goes on.
    fn next_producer(&self, expected: Option<Who>, fresh: Option<i64>) -> Result<(Who, i16), ResponseError> {
        let (producer_id, epoch) = (self.entry.producer_id, self.entry.epoch);
        if is_exhausted(epoch) && expected.is_none_or(|expected| expected.epoch == epoch) {
            let producer_id = fresh.ok_or(ResponseError::ConcurrentTransactions)?;
            let last_epoch = if expected.is_some() { epoch } else { -1 };
            return Ok((Who { producer_id, epoch: 0 }, last_epoch));
        }
        let raised = if fault::mutated(Mutant::SameProducerEpoch) { epoch.max(0) } else { epoch.saturating_add(1) };
        match expected {
            None => Ok((Who { producer_id, epoch: raised }, -1)),
            Some(expected) if epoch == -1 || expected.epoch == epoch => Ok((Who { producer_id, epoch: raised }, epoch)),
            // It asks again, since it has not heard the answer.
            Some(expected) if expected.epoch == self.last_epoch => Ok((Who { producer_id, epoch }, self.last_epoch)),
            Some(_) => Err(ResponseError::ProducerFenced),
        }
    }

    /// Adds partitions, and begins the transaction where it has not begun.
    pub(crate) fn add(
        &mut self,
        now: Millis,
        ticket: Ticket,
        who: Who,
        partitions: &BTreeSet<TopicPartition>,
        out: &mut Vec<Effect>,
    ) {
        match self.may_add(who) {
            Err(error) => out.push(Effect::Answer(ticket, Err(error))),
            Ok(()) if self.entry.state == State::Ongoing && partitions.is_subset(&self.entry.partitions) => {
                out.push(Effect::Answer(ticket, Ok(who)));
            }
            Ok(()) => {
                let mut next = Entry { state: State::Ongoing, updated: now, ..self.entry.clone() };
                if self.entry.state != State::Ongoing {
                    next.started = now;
                    next.partitions.clear();
                }
                next.client_version = 0;
                next.partitions.extend(partitions.iter().cloned());
                self.save(Some(next), self.last_epoch, Some((ticket, Ok(who))), out);
            }
        }
    }

    fn may_add(&self, who: Who) -> Result<(), ResponseError> {
        self.recognise(who)?;
        match self.saving.is_some() || self.entry.state.decided().is_some() {
            true => Err(ResponseError::ConcurrentTransactions),
            false => Ok(()),
        }
    }

    /// Whether somebody is the producer that has the id.
    pub(super) fn recognise(&self, who: Who) -> Result<(), ResponseError> {
        if self.is_gone || who.producer_id != self.entry.producer_id {
            Err(ResponseError::InvalidProducerIdMapping)
        } else if who.epoch != self.entry.epoch {
            Err(ResponseError::ProducerFenced)
        } else {
            Ok(())
        }
    }

    /// Whether somebody may write to a partition now: only what belongs to the transaction, and only until its outcome is
    /// decided. `Ok(false)`: the partition does not belong to it.
    pub(crate) fn may_write(&self, who: Who, to: &TopicPartition) -> Result<bool, ResponseError> {
        self.recognise(who)?;
        match self.entry.state {
            State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            State::Ongoing => Ok(self.entry.partitions.contains(to)),
            State::Empty | State::CompleteCommit | State::CompleteAbort => Ok(false),
        }
    }

    pub(super) fn save(
        &mut self,
        entry: Option<Entry>,
        last_epoch: i16,
        answer: Option<(Ticket, Answer)>,
        out: &mut Vec<Effect>,
    ) {
        self.again = None;
        let mut answer = answer;
        if fault::mutated(Mutant::AnswerBeforeSave)
            && let Some((ticket, told)) = answer.take()
        {
            out.push(Effect::Answer(ticket, told));
        }
        out.push(Effect::Save(entry.clone()));
        self.saving = Some(Saving { entry, last_epoch, answer });
    }

    /// What was to be saved is, or could not be.
    pub(crate) fn saved(&mut self, now: Millis, outcome: Result<(), ResponseError>, out: &mut Vec<Effect>) {
        let Some(Saving { entry, last_epoch, answer }) = self.saving.take() else { return };
        if let Some((ticket, told)) = answer {
            out.push(Effect::Answer(ticket, outcome.and(told)));
        }
        match (outcome, entry) {
            (Err(_), _) => self.again = Some(now + AGAIN),
            (Ok(()), None) => self.is_gone = true,
            (Ok(()), Some(entry)) => {
                self.entry = entry;
                self.last_epoch = last_epoch;
                if self.entry.state.decided().is_some() {
                    self.unmarked = self.entry.partitions.clone();
                    self.mark(now, out);
                }
            }
        }
    }

    /// When it has to be called again, whatever happens: [`Transaction::expire`].
    pub(crate) fn deadline(&self, expiration: Millis) -> Option<Millis> {
        let is_saving = self.saving.is_some() && !fault::mutated(Mutant::TimeoutOverEnd);
        if is_saving || self.is_gone {
            return None;
        }
        let due = match self.entry.state {
            State::Ongoing => Some(self.entry.started.saturating_add(i64::from(self.entry.timeout))),
            State::PrepareCommit | State::PrepareAbort if self.unmarked.is_empty() => self.again,
            State::PrepareCommit | State::PrepareAbort => None,
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                Some(self.entry.updated.saturating_add(expiration))
            }
        };
        due.max(self.again.filter(|_| due.is_some()))
    }

    /// Time is up, if it is: the transaction is aborted, an id that nobody uses is forgotten, and what could not be saved is
    /// tried again.
    pub(crate) fn expire(&mut self, now: Millis, expiration: Millis, out: &mut Vec<Effect>) {
        if self.deadline(expiration).is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.entry.state {
            State::Ongoing => self.fence(now, None, out),
            State::PrepareCommit | State::PrepareAbort => self.complete(now, out),
            State::Empty | State::CompleteCommit | State::CompleteAbort => self.save(None, -1, None, out),
        }
    }
}
