//! How a group comes from one generation to the next.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_api::fault::{self, Mutant};
use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::group::{Group, JoinWait, Saving, State};
use super::member::Member;
use super::request::{Effect, Millis, Stamp, Sync, Synced, Ticket};

impl Group {
    /// Begins a rebalance, or goes on with the one that is under way.
    pub(super) fn rebalance(&mut self, now: Millis, out: &mut Vec<Effect>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare(now, out),
            // The first members of an empty group wait for more all the same.
            State::PreparingRebalance if self.is_initial() => {}
            State::PreparingRebalance => self.complete_if_all_joined(now, out),
            State::Dead => {}
        }
    }

    pub(super) fn is_initial(&self) -> bool {
        self.join_wait.is_some_and(|wait| wait.initial.is_some())
    }

    pub(super) fn prepare(&mut self, now: Millis, out: &mut Vec<Effect>) {
        if self.state == State::CompletingRebalance {
            self.propagate(now, &BTreeMap::new(), Err(ResponseError::RebalanceInProgress), out);
        }
        self.unsynced.clear();
        self.sync_until = None;
        let is_initial = self.state == State::Empty;
        self.become_(State::PreparingRebalance);
        if is_initial {
            let delay = self.rules.initial_delay;
            let more = self.rebalance_timeout().saturating_sub(delay);
            self.somebody_came = false;
            self.join_wait = Some(JoinWait { until: now + delay, initial: Some((delay, more)) });
        } else {
            self.join_wait = Some(JoinWait { until: now + self.rebalance_timeout(), initial: None });
            self.complete_if_all_joined(now, out);
        }
    }

    /// As long as the most patient member asks for.
    fn rebalance_timeout(&self) -> Millis {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or(0)
    }

    /// Goes on to the next generation unless somebody is still waited for.
    pub(super) fn complete_if_all_joined(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let all = self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if self.state == State::PreparingRebalance && all && !self.is_initial() {
            self.complete_join(now, out);
        }
    }

    /// The wait for members is over.
    pub(super) fn join_wait_ended(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let initial = self.join_wait.and_then(|wait| wait.initial);
        match initial {
            Some((delay, more)) if self.somebody_came && more > 0 => {
                self.somebody_came = false;
                let next = self.rules.initial_delay.min(more);
                let initial = Some((next, more.saturating_sub(delay)));
                self.join_wait = Some(JoinWait { until: now + next, initial });
            }
            _ => self.complete_join(now, out),
        }
    }

    /// Begins the next generation with those who have joined, and with static members, who may be restarting.
    fn complete_join(&mut self, now: Millis, out: &mut Vec<Effect>) {
        self.join_wait = None;
        let late = self.members.values().filter(|member| member.joining.is_none() && member.instance_id.is_none());
        for id in late.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(&id, out);
        }
        if !self.members.is_empty() && !self.elect() {
            // Only static members that have not come back: until their sessions end, or one comes.
            self.join_wait = Some(JoinWait { until: now + self.rebalance_timeout(), initial: None });
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.unsynced.clear();
        self.protocol = self.vote();
        if self.members.is_empty() {
            self.become_(State::Empty);
            let membership = self.membership(|_| Bytes::new());
            return self.save(membership, Saving::Emptied, out);
        }
        self.become_(State::CompletingRebalance);
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.joining.take() {
                out.push(Effect::Joined(ticket, Ok(joined)));
            }
            member.heard(now);
            member.is_new = false;
            self.unsynced.insert(id);
        }
        self.sync_until = Some(now + self.rebalance_timeout());
    }

    /// Keeps the leader, if it has joined, or makes one of those who have.
    fn elect(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(has_joined) {
            let Some(next) = self.members.values().find(|member| member.joining.is_some()) else { return false };
            self.leader = Some(next.id.clone());
        }
        true
    }

    /// The protocols that all members know. What they say is looked at once, however much it is.
    pub(super) fn common(&self) -> BTreeSet<&str> {
        let mut members = self.members.values();
        let mut common = members.next().map(Member::known).unwrap_or_default();
        for member in members {
            let known = member.known();
            common.retain(|name| known.contains(name));
        }
        common
    }

    /// The protocol that most members like best of those that all know; of equals the first by name.
    pub(super) fn vote(&self) -> Option<String> {
        let common = self.common();
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            if let Some(liked) = member.protocols.iter().find(|protocol| common.contains(&*protocol.name)) {
                *votes.entry(&liked.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// A member asks what it is to do; the leader says so at the same time.
    pub(crate) fn sync(&mut self, now: Millis, ticket: Ticket, sync: Sync, out: &mut Vec<Effect>) {
        if let Err(error) = self.may_sync(&sync) {
            return out.push(Effect::Synced(ticket, Err(error)));
        }
        let id = sync.who.member_id;
        match self.state {
            State::CompletingRebalance
                if !fault::mutated(Mutant::SyncBeforeLeader) || self.leader.as_ref() == Some(&id) =>
            {
                self.synced(&id);
                let Some(member) = self.members.get_mut(&id) else { return };
                if let Some(former) = member.syncing.replace(ticket) {
                    out.push(Effect::Synced(former, Err(ResponseError::RebalanceInProgress)));
                }
                if self.leader.as_ref() == Some(&id) {
                    self.save_assignments(now, sync.assignments, out);
                }
            }
            State::CompletingRebalance | State::Stable => {
                self.synced(&id);
                let Some(member) = self.members.get_mut(&id) else { return };
                member.heard(now);
                let assignment = member.assignment.clone();
                out.push(Effect::Synced(ticket, Ok(self.answer(assignment))));
            }
            State::Empty | State::PreparingRebalance | State::Dead => {
                out.push(Effect::Synced(ticket, Err(ResponseError::RebalanceInProgress)));
            }
        }
    }

    fn may_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        self.recognise_in_generation(&sync.who)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && is.is_some() && said != is;
        match differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            true => Err(ResponseError::InconsistentGroupProtocol),
            false => Ok(()),
        }
    }

    fn synced(&mut self, id: &str) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_until = None;
        }
    }

    fn save_assignments(&mut self, now: Millis, assignments: Vec<(String, Bytes)>, out: &mut Vec<Effect>) {
        // A leader that says it twice may say it differently: what is saved is what members are told.
        let is_this =
            |of: &Saving| matches!(of, Saving::Assignment { generation, .. } if *generation == self.generation);
        if self.saving.values().any(is_this) {
            return;
        }
        let assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        let membership = self.membership(|member| assignments.get(&member.id).cloned().unwrap_or_default());
        if fault::mutated(Mutant::AssignBeforeSave) {
            self.propagate(now, &assignments, Ok(()), out);
        }
        self.save(membership, Saving::Assignment { generation: self.generation, assignments }, out);
    }

    /// Something was saved, or could not be.
    pub(crate) fn saved(
        &mut self,
        now: Millis,
        stamp: Stamp,
        outcome: Result<(), ResponseError>,
        out: &mut Vec<Effect>,
    ) {
        match self.saving.remove(&stamp) {
            Some(Saving::Assignment { generation, assignments }) => {
                if self.state != State::CompletingRebalance || self.generation != generation {
                    return;
                }
                self.propagate(now, &assignments, outcome, out);
                match outcome {
                    Ok(()) => self.become_(State::Stable),
                    Err(_) => self.prepare(now, out),
                }
            }
            Some(Saving::Replaced { member_id, former_leader, may_skip }) => {
                self.tell_replaced(now, &member_id, &former_leader, may_skip, outcome, out);
            }
            // An empty generation has nobody who could miss it: after a restart the one before it times out again.
            Some(Saving::Emptied) | None => {}
        }
    }

    /// Gives members their part, and tells those who wait for it.
    fn propagate(
        &mut self,
        now: Millis,
        assignments: &BTreeMap<String, Bytes>,
        outcome: Result<(), ResponseError>,
        out: &mut Vec<Effect>,
    ) {
        let answer = self.answer(Bytes::new());
        for member in self.members.values_mut() {
            member.assignment = assignments.get(&member.id).filter(|_| outcome.is_ok()).cloned().unwrap_or_default();
            let Some(ticket) = member.syncing.take() else { continue };
            let answer = Synced { assignment: member.assignment.clone(), ..answer.clone() };
            out.push(Effect::Synced(ticket, outcome.map(|()| answer)));
            // Its session was not watched while it waited.
            member.heard(now);
        }
    }

    fn answer(&self, assignment: Bytes) -> Synced {
        Synced { protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment }
    }
}
