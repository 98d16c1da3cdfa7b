//! A group of members that share work: a machine without clock or disk. Time comes in with each call, what is to be done
//! outside comes out as [`Effect`]s, and [`Group::deadline`] says when it has to be called again.
//!
//! ```text
//!            join                      all joined, or time is up                the leader's sync is saved
//! Empty ───────────► PreparingRebalance ───────────────────────► CompletingRebalance ──────────► Stable
//!   ▲                  │   ▲  a member comes, goes, changes its mind or is not heard of  │          │
//!   └── nobody left ───┘   └─────────────────────────────────────────────────────────────┴──────────┘
//! ```
//!
//! Answers and their codes are those of Kafka's classic group protocol.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_api::Membership;
use aqueduct_api::fault::{self, Mutant};
use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::member::Member;
use super::request::{Claimed, Effect, Joined, Millis, Refused, Stamp, Ticket};

/// What holds for all groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long the first members of an empty group wait for more.
    pub(crate) initial_delay: Millis,
    /// How long a new member may wait for the answer to its join.
    pub(crate) new_member_timeout: Millis,
    /// How many members a group may have.
    pub(crate) max_size: usize,
}

/// Where a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody is in it; it may have offsets.
    Empty,
    /// It waits for its members to join.
    PreparingRebalance,
    /// It waits for its leader to assign.
    CompletingRebalance,
    /// Everybody has what it is to do.
    Stable,
    /// It was taken over or deleted.
    Dead,
}

impl State {
    /// The name that Kafka's tools know.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A wait for members to join.
#[derive(Clone, Copy, Debug)]
pub(super) struct JoinWait {
    pub(super) until: Millis,
    /// Of the first members of an empty group: the delay under way, and how much more may follow.
    pub(super) initial: Option<(Millis, Millis)>,
}

/// What follows when something is saved.
#[derive(Clone, Debug)]
pub(super) enum Saving {
    /// Members are told of the leader's assignment.
    Assignment { generation: i32, assignments: BTreeMap<String, Bytes> },
    /// A static member that came back under another id is told.
    Replaced { member_id: String, former_leader: String, may_skip: bool },
    /// Nothing.
    Emptied,
}

/// A group of members that share work.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(super) rules: Rules,
    pub(super) state: State,
    pub(super) previous: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Ids of static members by what they call themselves.
    pub(super) instances: BTreeMap<String, String>,
    /// Ids that were given out and have not joined yet, and until when they may.
    pub(super) pending: BTreeMap<String, Millis>,
    /// Who was told of the generation and has not synced yet.
    pub(super) unsynced: BTreeSet<String>,
    pub(super) join_wait: Option<JoinWait>,
    pub(super) sync_until: Option<Millis>,
    /// Whether somebody came during the first members' wait.
    pub(super) somebody_came: bool,
    pub(super) stamps: u64,
    pub(super) saving: BTreeMap<Stamp, Saving>,
}

impl Group {
    /// A group that nobody has joined yet.
    pub(crate) fn new(rules: Rules) -> Self {
        Group {
            rules,
            state: State::Empty,
            previous: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            join_wait: None,
            sync_until: None,
            somebody_came: false,
            stamps: 0,
            saving: BTreeMap::new(),
        }
    }

    /// A group as it was saved. Its members have a session from now on to be heard of.
    pub(crate) fn load(rules: Rules, saved: Membership, now: Millis) -> Self {
        let mut group = Group::new(rules);
        let protocol = saved.protocol.clone().unwrap_or_default();
        group.state = if saved.members.is_empty() { State::Empty } else { State::Stable };
        group.previous = group.state;
        group.generation = saved.generation;
        group.protocol_type = Some(saved.protocol_type).filter(|named| !named.is_empty());
        group.protocol = saved.protocol;
        group.leader = saved.leader;
        for member in saved.members {
            if let Some(instance) = &member.instance_id {
                group.instances.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), Member::load(member, &protocol, now));
        }
        group
    }

    /// What is saved of it.
    pub(super) fn membership(&self, assignment: impl Fn(&Member) -> Bytes) -> Membership {
        let save = |member: &Member| member.save(self.protocol.as_deref(), assignment(member));
        Membership {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: -1,
            members: self.members.values().map(save).collect(),
        }
    }

    pub(super) fn save(&mut self, membership: Membership, then: Saving, out: &mut Vec<Effect>) {
        self.stamps += 1;
        self.saving.insert(Stamp(self.stamps), then);
        out.push(Effect::Save(Stamp(self.stamps), membership));
    }

    pub(super) fn become_(&mut self, state: State) {
        self.previous = self.state;
        self.state = state;
    }

    /// Whether somebody is who it says, and nobody has taken its place.
    pub(super) fn recognise(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(_) if fault::mutated(Mutant::UnfencedInstance) => return Ok(()),
                Some(current) if current != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ResponseError::UnknownMemberId),
        }
    }

    pub(super) fn recognise_in_generation(&self, who: &Claimed) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.recognise(&who.member_id, who.instance_id.as_deref())?;
        match who.generation == self.generation {
            true => Ok(()),
            false => Err(ResponseError::IllegalGeneration),
        }
    }

    /// What a member is told of the current generation.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let leads = self.leader.as_deref() == Some(member_id);
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if leads { self.introduced() } else { Vec::new() },
        }
    }

    /// All members, for the leader.
    pub(super) fn introduced(&self) -> Vec<(String, Option<String>, Bytes)> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let introduce = |of: &Member| (of.id.clone(), of.instance_id.clone(), of.metadata(protocol));
        self.members.values().map(introduce).collect()
    }

    /// Takes a member out, and answers what it waits for.
    pub(super) fn remove(&mut self, id: &str, out: &mut Vec<Effect>) {
        self.pending.remove(id);
        self.unsynced.remove(id);
        let Some(member) = self.members.remove(id) else { return };
        release(&member, ResponseError::UnknownMemberId, "", out);
        if let Some(instance) =
            member.instance_id.filter(|instance| self.instances.get(instance).is_some_and(|of| of == id))
        {
            self.instances.remove(&instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Ends the group: whoever waits is told that it is not known.
    pub(crate) fn end(&mut self, out: &mut Vec<Effect>) {
        let members: Vec<_> = self.members.keys().chain(self.pending.keys()).cloned().collect();
        for id in members {
            self.remove(&id, out);
        }
        self.join_wait = None;
        self.sync_until = None;
        self.become_(State::Dead);
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// What its members have in common.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The way of sharing that was chosen.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Its members, by id.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether nothing in it needs time or an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && self.saving.is_empty() && self.join_wait.is_none()
    }
}

/// Answers what a member waits for with an error.
pub(super) fn release(member: &Member, error: ResponseError, told_id: &str, out: &mut Vec<Effect>) {
    if let Some(ticket) = member.joining {
        out.push(Effect::Joined(ticket, Err(Refused { error, member_id: told_id.to_owned() })));
    }
    if let Some(ticket) = member.syncing {
        out.push(Effect::Synced(ticket, Err(error)));
    }
}

/// A join that was refused.
pub(super) fn refused(ticket: Ticket, error: ResponseError, member_id: &str) -> Effect {
    Effect::Joined(ticket, Err(Refused { error, member_id: member_id.to_owned() }))
}
