//! How a transaction ends: its outcome is saved, then all its partitions are told, then it is complete.

use aqueduct_api::TopicPartition;
use aqueduct_api::fault::{self, Mutant};
use kafka_protocol::ResponseError;

use super::entry::{Entry, State, is_exhausted};
use super::request::{Answer, Effect, End, Millis, Outcome, Ticket, Who};
use super::transaction::Transaction;

/// From which version of a client on (`transaction.version` of its feature) each transaction has an epoch of its own.
pub(crate) const OWN_EPOCHS: i16 = 2;

/// What an end that may be asked for comes to.
enum Ends {
    /// It was heard before: the answer was lost.
    Already,
    /// The outcome is saved now.
    Now,
}

impl Transaction {
    /// Its producer says whether it counts. `fresh` is a producer id that nobody had.
    pub(crate) fn end(&mut self, now: Millis, ticket: Ticket, end: &End, fresh: Option<i64>, out: &mut Vec<Effect>) {
        let may = match end.client_version >= OWN_EPOCHS {
            true => self.may_end_with_own_epoch(end),
            false => self.may_end(end),
        };
        match may {
            Err(error) => out.push(Effect::Answer(ticket, Err(error))),
            Ok(Ends::Already) => out.push(Effect::Answer(ticket, Ok(self.current()))),
            Ok(Ends::Now) => self.decide(now, ticket, end, fresh, out),
        }
    }

    fn current(&self) -> Who {
        Who { producer_id: self.entry.producer_id, epoch: self.entry.epoch }
    }

    fn may_end(&self, end: &End) -> Result<Ends, ResponseError> {
        self.recognise(end.who)?;
        if self.saving.is_some() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        match (self.entry.state, end.commits) {
            (State::Ongoing, _) => Ok(Ends::Now),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Ends::Already),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ResponseError::ConcurrentTransactions),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// The epoch that comes with the request says whether it is a new one or was heard before.
    fn may_end_with_own_epoch(&self, end: &End) -> Result<Ends, ResponseError> {
        let (entry, who) = (&self.entry, end.who);
        let had_own = entry.client_version >= OWN_EPOCHS;
        let is_same = who.producer_id == entry.producer_id && who.epoch == entry.epoch;
        let was_raised =
            had_own && who.producer_id == entry.producer_id && who.epoch.checked_add(1) == Some(entry.epoch);
        let was_replaced =
            had_own && who.producer_id == entry.previous_producer_id && is_exhausted(who.epoch) && entry.epoch == 0;
        if self.is_gone() || (who.producer_id != entry.producer_id && !was_replaced) {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if !is_same && !was_raised && !was_replaced {
            return Err(ResponseError::ProducerFenced);
        }
        if self.saving.is_some() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        match (entry.state, end.commits) {
            (State::Ongoing, _) | (State::Empty, false) if is_same => Ok(Ends::Now),
            (State::Ongoing, _) => Err(ResponseError::ProducerFenced),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) if was_raised => {
                Err(ResponseError::ConcurrentTransactions)
            }
            // The transaction before is not complete yet: its producer may be done with the next one already.
            (State::PrepareCommit | State::PrepareAbort, _) if is_same => Err(ResponseError::ConcurrentTransactions),
            // Nothing was added since: the abort of nothing raises the epoch all the same.
            (State::CompleteCommit | State::CompleteAbort, false) if is_same => Ok(Ends::Now),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if !is_same => Ok(Ends::Already),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    fn decide(&mut self, now: Millis, ticket: Ticket, end: &End, fresh: Option<i64>, out: &mut Vec<Effect>) {
        let mut next = Entry { updated: now, client_version: end.client_version, ..self.entry.clone() };
        next.state = if end.commits { State::PrepareCommit } else { State::PrepareAbort };
        let (mut last_epoch, mut told) = (self.last_epoch, self.current());
        if end.client_version >= OWN_EPOCHS {
            if is_exhausted(self.entry.epoch) {
                let Some(fresh) = fresh else {
                    return out.push(Effect::Answer(ticket, Err(ResponseError::ConcurrentTransactions)));
                };
                next.next_producer_id = fresh;
            }
            last_epoch = self.entry.epoch;
            next.epoch = self.entry.epoch.saturating_add(1);
            told = match next.next_producer_id {
                -1 => Who { epoch: next.epoch, ..told },
                producer_id => Who { producer_id, epoch: 0 },
            };
        }
        if self.entry.state != State::Ongoing {
            next.started = now;
            next.partitions.clear();
        }
        self.save(Some(next), last_epoch, Some((ticket, Ok(told))), out);
    }

    /// Aborts what is ongoing, under an epoch that nobody is told of: its producer may write no more.
    pub(super) fn fence(&mut self, now: Millis, answer: Option<(Ticket, Answer)>, out: &mut Vec<Effect>) {
        let epoch = self.entry.epoch.saturating_add(1);
        let next = Entry { state: State::PrepareAbort, epoch, updated: now, client_version: 0, ..self.entry.clone() };
        self.save(Some(next), -1, answer, out);
    }

    /// Tells all partitions of the outcome that is saved.
    pub(super) fn mark(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let Some(commits) = self.entry.state.decided() else { return };
        if self.unmarked.is_empty() {
            return self.complete(now, out);
        }
        out.push(Effect::Mark(Outcome { who: self.current(), commits }, self.unmarked.clone()));
        if fault::mutated(Mutant::CompleteBeforeMarkers) {
            self.complete(now, out);
        }
    }

    /// A partition knows of the outcome.
    pub(crate) fn marked(&mut self, now: Millis, of: &TopicPartition, out: &mut Vec<Effect>) {
        if self.unmarked.remove(of) && self.unmarked.is_empty() && self.saving.is_none() {
            self.complete(now, out);
        }
    }

    pub(super) fn complete(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let Some(commits) = self.entry.state.decided() else { return };
        let mut next = Entry { updated: now, ..self.entry.clone() };
        next.state = if commits { State::CompleteCommit } else { State::CompleteAbort };
        next.partitions.clear();
        let mut last_epoch = self.last_epoch;
        if next.next_producer_id != -1 {
            next.previous_producer_id = next.producer_id;
            last_epoch = next.epoch;
            (next.producer_id, next.epoch) = (next.next_producer_id, 0);
            next.next_producer_id = -1;
        }
        self.save(Some(next), last_epoch, None, out);
    }
}
