//! How members stay and go: Heartbeat, LeaveGroup, time-outs; and who may commit.

use aqueduct_api::fault::{self, Mutant};
use kafka_protocol::ResponseError;

use super::group::{Group, State};
use super::member::Member;
use super::request::{Claimed, Effect, Millis};

impl Group {
    /// A member says that it is alive.
    pub(crate) fn heartbeat(&mut self, now: Millis, who: &Claimed) -> Result<(), ResponseError> {
        self.recognise_in_generation(who)?;
        self.hear(now, &who.member_id);
        match self.state {
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn hear(&mut self, now: Millis, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.heard(now);
        }
    }

    /// Members leave, or are sent away by what they call themselves alone (with an empty id). Answers each.
    pub(crate) fn leave(
        &mut self,
        now: Millis,
        who: &[Claimed],
        out: &mut Vec<Effect>,
    ) -> Vec<Result<(), ResponseError>> {
        let before = self.members.len();
        let answers = who.iter().map(|who| self.leave_alone(who, out)).collect();
        self.go_on(now, before, out);
        answers
    }

    fn leave_alone(&mut self, who: &Claimed, out: &mut Vec<Effect>) -> Result<(), ResponseError> {
        let id = match (&who.instance_id, who.member_id.is_empty()) {
            _ if self.state == State::Dead => return Err(ResponseError::CoordinatorNotAvailable),
            (Some(instance), true) => self.instances.get(instance).ok_or(ResponseError::UnknownMemberId)?.clone(),
            _ => who.member_id.clone(),
        };
        if !self.pending.contains_key(&id) {
            self.recognise(&id, who.instance_id.as_deref())?;
        }
        self.remove(&id, out);
        Ok(())
    }

    /// Goes on where there may be fewer members than `before`.
    fn go_on(&mut self, now: Millis, before: usize, out: &mut Vec<Effect>) {
        match self.state {
            // An id that never joined is no loss.
            State::Stable | State::CompletingRebalance if self.members.len() < before => self.prepare(now, out),
            _ => self.complete_if_all_joined(now, out),
        }
    }

    /// Whether an offset may be committed by whom, and if so, it was heard of.
    pub(crate) fn may_commit(&mut self, now: Millis, who: &Claimed) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        if who.generation < 0 && self.state == State::Empty {
            // It uses the group for its offsets alone.
            return Ok(());
        }
        if who.generation < 0 && who.member_id.is_empty() && who.instance_id.is_none() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.recognise(&who.member_id, who.instance_id.as_deref())?;
        if who.generation != self.generation && !fault::mutated(Mutant::CommitOfOldGeneration) {
            return Err(ResponseError::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            // It knows the generation, and not yet what it is to do in it.
            return Err(ResponseError::RebalanceInProgress);
        }
        self.hear(now, &who.member_id);
        Ok(())
    }

    /// Whether somebody may commit offsets in a transaction: a member of the generation, or who says nothing of itself
    /// (KIP-447). Its producer is recognised elsewhere, so that it may while the group is about to share its work anew.
    pub(crate) fn may_commit_in_transaction(&mut self, now: Millis, who: &Claimed) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let says_nothing = who.member_id.is_empty() && who.instance_id.is_none();
        if who.generation < 0 && (self.state == State::Empty || says_nothing) {
            return Ok(());
        }
        self.recognise(&who.member_id, who.instance_id.as_deref())?;
        if who.generation != self.generation && !fault::mutated(Mutant::TransactionOfOldGeneration) {
            return Err(ResponseError::IllegalGeneration);
        }
        self.hear(now, &who.member_id);
        Ok(())
    }

    /// When [`Group::expire`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let sessions = self.members.values().filter(|member| is_watched(member)).map(|member| member.until);
        let waits = self.join_wait.map(|wait| wait.until).into_iter().chain(self.sync_until);
        sessions.chain(self.pending.values().copied()).chain(waits).min()
    }

    /// Does what time brings.
    pub(crate) fn expire(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let before = self.members.len();
        let pending = self.pending.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id);
        let silent = self.members.values().filter(|member| is_watched(member) && member.until <= now);
        let gone: Vec<_> = pending.chain(silent.map(|member| &member.id)).cloned().collect();
        if !gone.is_empty() {
            gone.iter().for_each(|id| self.remove(id, out));
            self.go_on(now, before, out);
        }
        if self.join_wait.is_some_and(|wait| wait.until <= now) {
            self.join_wait_ended(now, out);
        }
        if self.sync_until.is_some_and(|until| until <= now) {
            self.sync_until = None;
            for id in std::mem::take(&mut self.unsynced) {
                self.remove(&id, out);
            }
            if matches!(self.state, State::CompletingRebalance | State::Stable) {
                self.prepare(now, out);
            }
        }
    }
}

/// Whether a member counts as gone when it is silent.
fn is_watched(member: &Member) -> bool {
    !member.waits() && !fault::mutated(Mutant::SessionForEver)
}
