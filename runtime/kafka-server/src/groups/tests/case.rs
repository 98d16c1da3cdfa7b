//! A group without a clock: what is asked of it, and what it said last.

use bytes::Bytes;
use kafka_protocol::ResponseError as E;

use crate::groups::group::{Group, Rules, State};
use crate::groups::request::{Claimed, Effect, Join, Joined, Millis, Protocol, Refused, Stamp, Sync, Synced, Ticket};

pub(super) const RULES: Rules = Rules { initial_delay: 3000, new_member_timeout: 300_000, max_size: 4 };

/// A group, what time it is, and what it said last.
pub(super) struct Case {
    pub(super) group: Group,
    pub(super) now: Millis,
    pub(super) tickets: u64,
    pub(super) said: Vec<Effect>,
}

pub(super) fn asks(id: &str) -> Join {
    Join {
        member_id: id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        session_timeout: 10_000,
        rebalance_timeout: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range"), protocol("roundrobin")],
        fresh_id: "fresh".into(),
        needs_id: true,
        may_skip: true,
    }
}

pub(super) fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::from(format!("{name}!")) }
}

pub(super) fn who(id: &str, generation: i32) -> Claimed {
    Claimed { member_id: id.into(), instance_id: None, generation }
}

pub(super) fn instance(instance_id: &str, id: &str, generation: i32) -> Claimed {
    Claimed { instance_id: Some(instance_id.into()), ..who(id, generation) }
}

impl Case {
    pub(super) fn empty() -> Self {
        Case { group: Group::new(RULES), now: 0, tickets: 0, said: Vec::new() }
    }

    /// The members `ids` after the initial delay, whom the group waits for an assignment from.
    pub(super) fn completing(ids: &[&str]) -> Self {
        let mut case = Case::empty();
        for id in ids {
            case.come(id);
        }
        case.pass(3000);
        case.pass(3000);
        assert_eq!(case.group.state(), State::CompletingRebalance);
        case
    }

    /// The same, each with its own id as its assignment.
    pub(super) fn stable(ids: &[&str]) -> Self {
        let mut case = Case::completing(ids);
        case.assign(ids);
        assert_eq!(case.group.state(), State::Stable);
        case
    }

    /// A static member `i` with the id `s`, alone.
    pub(super) fn static_stable() -> Self {
        let mut case = Case::empty();
        case.join(Join { instance_id: Some("i".into()), fresh_id: "s".into(), ..asks("") });
        case.pass(3000);
        case.assign(&["s"]);
        case
    }

    pub(super) fn come(&mut self, id: &str) -> Ticket {
        self.join(Join { fresh_id: id.into(), needs_id: false, ..asks("") })
    }

    pub(super) fn join(&mut self, join: Join) -> Ticket {
        self.tickets += 1;
        self.said.clear();
        self.group.join(self.now, Ticket(self.tickets), join, &mut self.said);
        Ticket(self.tickets)
    }

    pub(super) fn sync(&mut self, who: Claimed, assignments: &[&str]) -> Ticket {
        let assignments = assignments.iter().map(|id| ((*id).to_owned(), Bytes::from((*id).to_owned()))).collect();
        self.sync_with(Sync { who, assignments, ..Sync::default() })
    }

    pub(super) fn sync_with(&mut self, sync: Sync) -> Ticket {
        self.tickets += 1;
        self.said.clear();
        self.group.sync(self.now, Ticket(self.tickets), sync, &mut self.said);
        Ticket(self.tickets)
    }

    /// All sync, and what the leader says is saved.
    pub(super) fn assign(&mut self, ids: &[&str]) {
        let generation = self.group.generation;
        for id in ids {
            self.sync(who(id, generation), ids);
        }
        self.save(Ok(()));
    }

    pub(super) fn save(&mut self, outcome: Result<(), E>) {
        let stamps: Vec<Stamp> = self.group.saving.keys().copied().collect();
        self.said.clear();
        for stamp in stamps {
            self.group.saved(self.now, stamp, outcome, &mut self.said);
        }
    }

    pub(super) fn leave(&mut self, who: Claimed) -> Result<(), E> {
        self.said.clear();
        self.group.leave(self.now, &[who], &mut self.said).remove(0)
    }

    pub(super) fn pass(&mut self, millis: Millis) {
        self.now += millis;
        self.said.clear();
        self.group.expire(self.now, &mut self.said);
    }

    pub(super) fn joined(&self, ticket: Ticket) -> Option<Result<Joined, Refused>> {
        self.said.iter().find_map(|effect| match effect {
            Effect::Joined(of, answer) if *of == ticket => Some(answer.clone()),
            _ => None,
        })
    }

    pub(super) fn refusal(&self, ticket: Ticket) -> Option<E> {
        self.joined(ticket).and_then(Result::err).map(|refused| refused.error)
    }

    pub(super) fn synced(&self, ticket: Ticket) -> Option<Result<Synced, E>> {
        self.said.iter().find_map(|effect| match effect {
            Effect::Synced(of, answer) if *of == ticket => Some(answer.clone()),
            _ => None,
        })
    }
}

/// A case in each state with the member `m`, where the state has members.
pub(super) fn in_state(state: State) -> Case {
    let case = match state {
        State::Empty => Case::empty(),
        State::PreparingRebalance => {
            let mut case = Case::stable(&["m", "n"]);
            case.join(asks("m"));
            case
        }
        State::CompletingRebalance => Case::completing(&["m", "n"]),
        State::Stable => Case::stable(&["m", "n"]),
        State::Dead => {
            let mut case = Case::stable(&["m", "n"]);
            case.group.end(&mut Vec::new());
            case
        }
    };
    assert_eq!(case.group.state(), state);
    case
}

pub(super) const STATES: [State; 5] =
    [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable, State::Dead];
