//! How members come: JoinGroup.

use kafka_protocol::ResponseError;

use super::group::{Group, Saving, State, refused, release};
use super::member::Member;
use super::request::{Effect, Join, Millis, Ticket};

impl Group {
    /// Somebody joins. The answer comes at once or later.
    pub(crate) fn join(&mut self, now: Millis, ticket: Ticket, join: Join, out: &mut Vec<Effect>) {
        if self.state == State::Dead {
            return out.push(refused(ticket, ResponseError::CoordinatorNotAvailable, &join.member_id));
        }
        if !self.has_room_for(&join.member_id) {
            self.remove(&join.member_id, out);
            out.push(refused(ticket, ResponseError::GroupMaxSizeReached, ""));
            return self.complete_if_all_joined(now, out);
        }
        if !self.can_share_with(&join) {
            return out.push(refused(ticket, ResponseError::InconsistentGroupProtocol, &join.member_id));
        }
        match join.member_id.is_empty() {
            true => self.join_new(now, ticket, join, out),
            false => self.join_known(now, ticket, join, out),
        }
    }

    /// While the group forms, the first to come back count, so that a limit that was lowered is kept.
    fn has_room_for(&self, member_id: &str) -> bool {
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                let waits = self.members.get(member_id).is_some_and(|member| member.joining.is_some());
                let joining = self.members.values().filter(|member| member.joining.is_some()).count();
                waits || joining < self.rules.max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < self.rules.max_size
            }
        }
    }

    /// Whether it has a protocol in common with all members.
    fn can_share_with(&self, join: &Join) -> bool {
        if self.state == State::Empty || self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let common = self.common();
        self.protocol_type.as_deref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|protocol| common.contains(&*protocol.name))
    }

    fn join_new(&mut self, now: Millis, ticket: Ticket, join: Join, out: &mut Vec<Effect>) {
        let current = join.instance_id.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        match current {
            Some(current) => self.replace(now, ticket, join, &current, out),
            None if join.needs_id && join.instance_id.is_none() => {
                self.pending.insert(join.fresh_id.clone(), now + join.session_timeout);
                out.push(refused(ticket, ResponseError::MemberIdRequired, &join.fresh_id));
            }
            None => {
                let id = join.fresh_id.clone();
                self.add(now, ticket, id, join, out);
            }
        }
    }

    fn join_known(&mut self, now: Millis, ticket: Ticket, join: Join, out: &mut Vec<Effect>) {
        let id = join.member_id.clone();
        if join.instance_id.is_none() && self.pending.contains_key(&id) {
            return self.add(now, ticket, id, join, out);
        }
        if let Err(error) = self.recognise(&id, join.instance_id.as_deref()) {
            return out.push(refused(ticket, error, &id));
        }
        let is_same = self.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        let leads = self.leader.as_deref() == Some(&id);
        let is_told = match self.state {
            // It may not have got the first answer.
            State::CompletingRebalance => is_same,
            // A leader that joins again wants a rebalance, for reasons that its own metadata need not show.
            State::Stable => is_same && !leads,
            State::PreparingRebalance => false,
            State::Empty | State::Dead => return out.push(refused(ticket, ResponseError::UnknownMemberId, &id)),
        };
        if is_told {
            return out.push(Effect::Joined(ticket, Ok(self.joined(&id))));
        }
        self.update(&id, ticket, &join, out);
        self.rebalance(now, out);
    }

    fn add(&mut self, now: Millis, ticket: Ticket, id: String, join: Join, out: &mut Vec<Effect>) {
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.somebody_came = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.pending.remove(&id);
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        let mut member = Member::new(id.clone(), join, now + self.rules.new_member_timeout);
        member.joining = Some(ticket);
        self.members.insert(id, member);
        self.rebalance(now, out);
    }

    /// Takes over what a member says of itself now, and lets its join wait.
    fn update(&mut self, id: &str, ticket: Ticket, join: &Join, out: &mut Vec<Effect>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols.clone_from(&join.protocols);
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        if let Some(former) = member.joining.replace(ticket) {
            // Its connection broke, or it did not want to wait: nobody is left without an answer.
            out.push(refused(former, ResponseError::RebalanceInProgress, id));
        }
    }

    /// A static member comes back and does not know its id: it gets another, and whoever has the former is fenced.
    fn replace(&mut self, now: Millis, ticket: Ticket, join: Join, former: &str, out: &mut Vec<Effect>) {
        let Some(mut member) = self.members.remove(former) else { return };
        let (id, former_leader) = (join.fresh_id.clone(), self.leader.clone().unwrap_or_default());
        release(&member, ResponseError::FencedInstanceId, former, out);
        (member.joining, member.syncing) = (None, None);
        member.id.clone_from(&id);
        (member.client_id, member.client_host) = (join.client_id.clone(), join.client_host.clone());
        member.heard(now);
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.leader.as_deref() == Some(former) {
            self.leader = Some(id.clone());
        }
        if self.unsynced.remove(former) {
            self.unsynced.insert(id.clone());
        }
        self.members.insert(id.clone(), member);
        self.update(&id, ticket, &join, out);
        match self.state {
            State::Stable if self.vote() == self.protocol => {
                // It goes on with what the former id was assigned, and nobody else notices.
                let saved = self.membership(|member| member.assignment.clone());
                let then = Saving::Replaced { member_id: id, former_leader, may_skip: join.may_skip };
                self.save(saved, then, out);
            }
            // The leader may have been told of the former id, and would assign nothing to this one.
            State::Stable | State::CompletingRebalance => self.prepare(now, out),
            _ => self.complete_if_all_joined(now, out),
        }
    }

    /// A replaced static member is told, now that its id is saved.
    pub(super) fn tell_replaced(
        &mut self,
        now: Millis,
        id: &str,
        former_leader: &str,
        may_skip: bool,
        outcome: Result<(), ResponseError>,
        out: &mut Vec<Effect>,
    ) {
        if self.state != State::Stable {
            // It takes part in the rebalance that has begun meanwhile.
            return;
        }
        let Some(member) = self.members.get_mut(id) else { return };
        member.heard(now);
        let Some(ticket) = member.joining.take() else { return };
        if let Err(error) = outcome {
            return out.push(refused(ticket, error, ""));
        }
        let mut joined = self.joined(id);
        if may_skip {
            joined.skip_assignment = joined.leader == id;
        } else {
            // Told that it leads, an older client would assign, and nobody would be asked to follow.
            joined.leader = former_leader.to_owned();
            joined.members = Vec::new();
        }
        out.push(Effect::Joined(ticket, Ok(joined)));
    }
}
