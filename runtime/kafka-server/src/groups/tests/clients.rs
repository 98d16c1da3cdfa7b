//! Members of a simulated group, which behave as Kafka's consumers do.

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::world::PARTITIONS;
use crate::groups::request::{Claimed, Join, Joined, Millis, Protocol, Refused, Sync, Synced};
use crate::worlds::Dice;

const HEARTBEAT: Millis = 3000;
const SESSION: Millis = 10_000;
const REBALANCE: Millis = 30_000;
/// After which a member asks again.
const REQUEST: Millis = 40_000;

/// What a member asks.
pub(super) enum Asked {
    Join(Join),
    Sync(Sync),
    Heartbeat(Claimed),
    Leave(Claimed),
    Commit(Claimed),
    /// Offsets of partitions, in a transaction of that number.
    CommitInTransaction(Claimed, u64, Vec<u8>),
    /// A transaction is to be committed or aborted.
    End(u64, bool),
}

/// What a member is told.
pub(super) enum Told {
    Joined(Result<Joined, Refused>),
    Synced(Result<Synced, ResponseError>),
    Heartbeat(Result<(), ResponseError>),
    CommittedInTransaction(u64, Result<(), ResponseError>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// It does not run.
    Gone,
    /// It joins at that time.
    Outside(Millis),
    /// It has asked, and asks again at that time.
    Joining(Millis),
    /// It asks what to do, for all where it leads.
    Syncs(Vec<String>),
    /// It has asked, and joins again at that time.
    Syncing(Millis),
    /// It works.
    Works,
    /// It says that it leaves.
    Leaves,
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Client {
    name: String,
    instance_id: Option<String>,
    needs_id: bool,
    member_id: String,
    generation: i32,
    assignment: Bytes,
    /// What it says of itself.
    version: u64,
    phase: Phase,
    /// Answers to earlier attempts come over connections that it has closed.
    pub(super) attempt: u64,
    paused_until: Millis,
    heartbeat_at: Millis,
    /// Transactions that it has begun.
    begun: u64,
    /// Whether the last of them is to be ended, and may be committed.
    transaction: Option<bool>,
}

impl Client {
    pub(super) fn new(number: u64, dice: &mut Dice) -> Self {
        Client {
            name: format!("c{number}"),
            instance_id: dice.once_in(2).then(|| format!("i{number}")),
            needs_id: !dice.once_in(4),
            member_id: String::new(),
            generation: -1,
            assignment: Bytes::new(),
            version: 0,
            phase: Phase::Outside(dice.below(20_000)),
            attempt: 0,
            paused_until: 0,
            heartbeat_at: 0,
            begun: 0,
            transaction: None,
        }
    }

    /// The same static member, in another process.
    pub(super) fn started_again(&self) -> Self {
        Client {
            member_id: String::new(),
            generation: -1,
            assignment: Bytes::new(),
            phase: Phase::Outside(0),
            paused_until: 0,
            attempt: self.attempt + 1,
            transaction: None,
            ..self.clone()
        }
    }

    /// By what it is the same, however often it is restarted.
    pub(super) fn owner(&self) -> String {
        match &self.instance_id {
            Some(instance) => instance.clone(),
            None => self.member_id.clone(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.phase != Phase::Gone
    }

    /// What it works on.
    pub(super) fn assigned(&self) -> Option<(i32, &Bytes)> {
        (self.phase == Phase::Works).then_some((self.generation, &self.assignment))
    }

    /// Something happens to it. True: it is started again while it still runs.
    pub(super) fn disturb(&mut self, now: Millis, dice: &mut Dice) -> bool {
        if self.phase == Phase::Gone {
            if dice.once_in(3) {
                *self = self.started_again();
            }
            return false;
        }
        match dice.below(10) {
            0 => self.phase = Phase::Gone,
            1 | 2 => self.phase = Phase::Leaves,
            3 | 4 => self.paused_until = now + dice.below(60_000),
            5 => self.version += 1,
            6 => {
                self.attempt += 1;
                self.phase = Phase::Outside(now);
            }
            7 if self.instance_id.is_some() => return true,
            8 if self.instance_id.is_some() => *self = self.started_again(),
            _ => {}
        }
        false
    }

    pub(super) fn calm_down(&mut self) {
        self.paused_until = 0;
    }

    /// Its connection broke.
    pub(super) fn disconnected(&mut self) {
        self.attempt += 1;
        if matches!(self.phase, Phase::Joining(_) | Phase::Syncing(_) | Phase::Syncs(_)) {
            self.phase = Phase::Outside(0);
        }
    }

    fn who(&self) -> Claimed {
        let (member_id, instance_id) = (self.member_id.clone(), self.instance_id.clone());
        Claimed { member_id, instance_id, generation: self.generation }
    }

    /// What it does now.
    pub(super) fn act(&mut self, now: Millis, dice: &mut Dice) -> Vec<Asked> {
        if now < self.paused_until {
            return Vec::new();
        }
        match self.phase.clone() {
            Phase::Outside(at) if at <= now => vec![self.join(now)],
            Phase::Joining(until) | Phase::Syncing(until) if until <= now => {
                self.attempt += 1;
                vec![self.join(now)]
            }
            Phase::Syncs(members) => {
                self.phase = Phase::Syncing(now + REQUEST);
                let assignments = assign(&members, dice);
                vec![Asked::Sync(Sync { who: self.who(), assignments, ..Sync::default() })]
            }
            Phase::Works if dice.once_in(30) && self.version > 0 => {
                // What it says of itself has changed.
                vec![self.join(now)]
            }
            Phase::Works if self.heartbeat_at <= now => {
                self.heartbeat_at = now + HEARTBEAT;
                let mut asked = vec![Asked::Heartbeat(self.who()), Asked::Commit(self.who())];
                asked.extend(self.transact(dice));
                asked
            }
            Phase::Leaves => {
                self.phase = Phase::Gone;
                self.attempt += 1;
                let who = self.who();
                self.member_id.clear();
                if who.member_id.is_empty() { Vec::new() } else { vec![Asked::Leave(who)] }
            }
            _ => Vec::new(),
        }
    }

    /// Works in transactions: commits in one what it has done, then ends it.
    fn transact(&mut self, dice: &mut Dice) -> Option<Asked> {
        match self.transaction {
            None if dice.once_in(2) && !self.assignment.is_empty() => {
                self.begun += 1;
                self.transaction = Some(false);
                Some(Asked::CommitInTransaction(self.who(), self.begun, self.assignment.to_vec()))
            }
            Some(may_commit) if !dice.once_in(3) => {
                self.transaction = None;
                Some(Asked::End(self.begun, may_commit && !dice.once_in(4)))
            }
            _ => None,
        }
    }

    fn join(&mut self, now: Millis) -> Asked {
        self.phase = Phase::Joining(now + REQUEST);
        let metadata = Bytes::from(self.version.to_string());
        self.version = 0;
        Asked::Join(Join {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.name.clone(),
            client_host: "/h".into(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata }],
            fresh_id: String::new(),
            needs_id: self.needs_id,
            may_skip: true,
        })
    }

    /// It is told something, unless it does not run or has closed that connection.
    pub(super) fn hear(&mut self, now: Millis, attempt: u64, told: Told) {
        if attempt != self.attempt || self.phase == Phase::Gone {
            return;
        }
        match (told, &self.phase) {
            (Told::Joined(Ok(joined)), Phase::Joining(_)) => {
                self.member_id = joined.member_id.clone();
                self.generation = joined.generation;
                let leads = joined.leader == joined.member_id && !joined.skip_assignment;
                let members = if leads { joined.members.into_iter().map(|(id, ..)| id).collect() } else { Vec::new() };
                self.phase = Phase::Syncs(members);
            }
            (Told::Joined(Err(Refused { error: ResponseError::MemberIdRequired, member_id })), Phase::Joining(_)) => {
                self.member_id = member_id;
                self.phase = Phase::Outside(now);
            }
            (Told::Joined(Err(Refused { error, .. })), Phase::Joining(_)) => self.refused(now, error),
            (Told::Synced(Ok(synced)), Phase::Syncing(_)) => {
                self.assignment = synced.assignment;
                self.phase = Phase::Works;
                self.heartbeat_at = now + HEARTBEAT;
            }
            (Told::Synced(Err(error)), Phase::Syncing(_)) => self.refused(now, error),
            (Told::Heartbeat(Err(error)), Phase::Works) => self.refused(now, error),
            (Told::CommittedInTransaction(number, answer), _) if number == self.begun => {
                // What was refused is aborted.
                self.transaction = self.transaction.map(|_| answer.is_ok());
            }
            _ => {}
        }
    }

    fn refused(&mut self, now: Millis, error: ResponseError) {
        self.phase = match error {
            ResponseError::FencedInstanceId => Phase::Gone,
            ResponseError::CoordinatorNotAvailable => Phase::Outside(now + 100),
            _ => Phase::Outside(now),
        };
        if error == ResponseError::UnknownMemberId {
            self.member_id.clear();
        }
    }
}

/// Gives all partitions to somebody.
fn assign(members: &[String], dice: &mut Dice) -> Vec<(String, Bytes)> {
    let mut parts = vec![Vec::new(); members.len()];
    let shift = dice.below(8) as usize;
    for partition in 0..PARTITIONS {
        if let Some(count) = std::num::NonZero::new(members.len()) {
            parts[(usize::from(partition) + shift) % count.get()].push(partition);
        }
    }
    members.iter().cloned().zip(parts.into_iter().map(Bytes::from)).collect()
}
