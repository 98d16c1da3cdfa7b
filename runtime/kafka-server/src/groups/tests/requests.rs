//! What each request is answered in each state, with Kafka's codes.

use bytes::Bytes;
use kafka_protocol::ResponseError as E;

use crate::groups::group::{Group, Rules, State};
use crate::groups::request::{Claimed, Effect, Join, Joined, Millis, Protocol, Refused, Stamp, Sync, Synced, Ticket};

const RULES: Rules = Rules { initial_delay: 3000, new_member_timeout: 300_000, max_size: 4 };

/// A group, what time it is, and what it said last.
struct Case {
    group: Group,
    now: Millis,
    tickets: u64,
    said: Vec<Effect>,
}

fn asks(id: &str) -> Join {
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

fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::from(format!("{name}!")) }
}

fn who(id: &str, generation: i32) -> Claimed {
    Claimed { member_id: id.into(), instance_id: None, generation }
}

fn instance(instance_id: &str, id: &str, generation: i32) -> Claimed {
    Claimed { instance_id: Some(instance_id.into()), ..who(id, generation) }
}

impl Case {
    fn empty() -> Self {
        Case { group: Group::new(RULES), now: 0, tickets: 0, said: Vec::new() }
    }

    /// The members `ids` after the initial delay, whom the group waits for an assignment from.
    fn completing(ids: &[&str]) -> Self {
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
    fn stable(ids: &[&str]) -> Self {
        let mut case = Case::completing(ids);
        case.assign(ids);
        assert_eq!(case.group.state(), State::Stable);
        case
    }

    /// A static member `i` with the id `s`, alone.
    fn static_stable() -> Self {
        let mut case = Case::empty();
        case.join(Join { instance_id: Some("i".into()), fresh_id: "s".into(), ..asks("") });
        case.pass(3000);
        case.assign(&["s"]);
        case
    }

    fn come(&mut self, id: &str) -> Ticket {
        self.join(Join { fresh_id: id.into(), needs_id: false, ..asks("") })
    }

    fn join(&mut self, join: Join) -> Ticket {
        self.tickets += 1;
        self.said.clear();
        self.group.join(self.now, Ticket(self.tickets), join, &mut self.said);
        Ticket(self.tickets)
    }

    fn sync(&mut self, who: Claimed, assignments: &[&str]) -> Ticket {
        let assignments = assignments.iter().map(|id| ((*id).to_owned(), Bytes::from((*id).to_owned()))).collect();
        self.sync_with(Sync { who, assignments, ..Sync::default() })
    }

    fn sync_with(&mut self, sync: Sync) -> Ticket {
        self.tickets += 1;
        self.said.clear();
        self.group.sync(self.now, Ticket(self.tickets), sync, &mut self.said);
        Ticket(self.tickets)
    }

    /// All sync, and what the leader says is saved.
    fn assign(&mut self, ids: &[&str]) {
        let generation = self.group.generation;
        for id in ids {
            self.sync(who(id, generation), ids);
        }
        self.save(Ok(()));
    }

    fn save(&mut self, outcome: Result<(), E>) {
        let stamps: Vec<Stamp> = self.group.saving.keys().copied().collect();
        self.said.clear();
        for stamp in stamps {
            self.group.saved(self.now, stamp, outcome, &mut self.said);
        }
    }

    fn leave(&mut self, who: Claimed) -> Result<(), E> {
        self.said.clear();
        self.group.leave(self.now, &[who], &mut self.said).remove(0)
    }

    fn pass(&mut self, millis: Millis) {
        self.now += millis;
        self.said.clear();
        self.group.expire(self.now, &mut self.said);
    }

    fn joined(&self, ticket: Ticket) -> Option<Result<Joined, Refused>> {
        self.said.iter().find_map(|effect| match effect {
            Effect::Joined(of, answer) if *of == ticket => Some(answer.clone()),
            _ => None,
        })
    }

    fn refusal(&self, ticket: Ticket) -> Option<E> {
        self.joined(ticket).and_then(Result::err).map(|refused| refused.error)
    }

    fn synced(&self, ticket: Ticket) -> Option<Result<Synced, E>> {
        self.said.iter().find_map(|effect| match effect {
            Effect::Synced(of, answer) if *of == ticket => Some(answer.clone()),
            _ => None,
        })
    }
}

/// A case in each state with the member `m`, where the state has members.
fn in_state(state: State) -> Case {
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

const STATES: [State; 5] =
    [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable, State::Dead];

#[test]
fn heartbeats_are_answered_by_state() {
    let unknown = [Some(E::UnknownMemberId); 4];
    let none: [Option<E>; 5] = [None; 5];
    let mut expected = none;
    // Empty, preparing, completing, stable, dead.
    expected[..].copy_from_slice(&[
        Some(E::UnknownMemberId),
        Some(E::RebalanceInProgress),
        None,
        None,
        Some(E::CoordinatorNotAvailable),
    ]);
    for (state, expected) in STATES.into_iter().zip(expected) {
        assert_eq!(in_state(state).group.heartbeat(0, &who("m", 1)).err(), expected, "{state:?}");
    }
    for (state, expected) in STATES.into_iter().zip(unknown) {
        assert_eq!(in_state(state).group.heartbeat(0, &who("stranger", 1)).err(), expected, "{state:?}");
    }
    for state in [State::PreparingRebalance, State::CompletingRebalance, State::Stable] {
        assert_eq!(in_state(state).group.heartbeat(0, &who("m", 0)), Err(E::IllegalGeneration), "{state:?}");
        assert_eq!(in_state(state).group.heartbeat(0, &instance("i", "m", 1)), Err(E::UnknownMemberId), "{state:?}");
    }
    assert_eq!(Case::static_stable().group.heartbeat(0, &instance("i", "former", 1)), Err(E::FencedInstanceId));
}

#[test]
fn commits_are_answered_by_state() {
    let member = [Some(E::UnknownMemberId), None, Some(E::RebalanceInProgress), None, Some(E::CoordinatorNotAvailable)];
    let nobody = [
        None,
        Some(E::UnknownMemberId),
        Some(E::UnknownMemberId),
        Some(E::UnknownMemberId),
        Some(E::CoordinatorNotAvailable),
    ];
    let old = [
        Some(E::UnknownMemberId),
        Some(E::IllegalGeneration),
        Some(E::IllegalGeneration),
        Some(E::IllegalGeneration),
        Some(E::CoordinatorNotAvailable),
    ];
    for (n, state) in STATES.into_iter().enumerate() {
        assert_eq!(in_state(state).group.may_commit(0, &who("m", 1)).err(), member[n], "a member in {state:?}");
        assert_eq!(in_state(state).group.may_commit(0, &who("", -1)).err(), nobody[n], "nobody in {state:?}");
        assert_eq!(in_state(state).group.may_commit(0, &who("m", 0)).err(), old[n], "an old member in {state:?}");
    }
    assert_eq!(Case::static_stable().group.may_commit(0, &instance("i", "former", 1)), Err(E::FencedInstanceId));
}

#[test]
fn syncs_are_answered_by_state() {
    let expected = [
        Some(Err(E::UnknownMemberId)),
        Some(Err(E::RebalanceInProgress)),
        None,
        Some(Ok(Bytes::from("n"))),
        Some(Err(E::CoordinatorNotAvailable)),
    ];
    for (state, expected) in STATES.into_iter().zip(expected) {
        let mut case = in_state(state);
        let ticket = case.sync(who("n", 1), &[]);
        let answer = case.synced(ticket).map(|answer| answer.map(|synced| synced.assignment));
        assert_eq!(answer, expected, "{state:?}");
    }
    for (sync, error) in [
        (Sync { who: who("n", 2), ..Sync::default() }, E::IllegalGeneration),
        (Sync { who: who("stranger", 1), ..Sync::default() }, E::UnknownMemberId),
        (
            Sync { who: who("n", 1), protocol_type: Some("connect".into()), ..Sync::default() },
            E::InconsistentGroupProtocol,
        ),
        (
            Sync { who: who("n", 1), protocol: Some("roundrobin".into()), ..Sync::default() },
            E::InconsistentGroupProtocol,
        ),
    ] {
        let mut case = in_state(State::CompletingRebalance);
        let ticket = case.sync_with(sync.clone());
        assert_eq!(case.synced(ticket), Some(Err(error)), "{sync:?}");
    }
}

#[test]
fn joins_of_strangers_are_refused_by_state() {
    let expected =
        [E::UnknownMemberId, E::UnknownMemberId, E::UnknownMemberId, E::UnknownMemberId, E::CoordinatorNotAvailable];
    for (state, expected) in STATES.into_iter().zip(expected) {
        let mut case = in_state(state);
        let ticket = case.join(asks("stranger"));
        assert_eq!(case.refusal(ticket), Some(expected), "{state:?}");
    }
}

#[test]
fn joins_that_share_nothing_are_refused() {
    let other = Join { protocols: vec![protocol("sticky")], ..asks("") };
    let connect = Join { protocol_type: "connect".into(), ..asks("") };
    for state in [State::PreparingRebalance, State::CompletingRebalance, State::Stable] {
        for join in [other.clone(), connect.clone(), Join { protocols: vec![], ..asks("m") }] {
            let mut case = in_state(state);
            let ticket = case.join(join.clone());
            assert_eq!(case.refusal(ticket), Some(E::InconsistentGroupProtocol), "{state:?}: {join:?}");
        }
    }
    for join in [Join { protocols: vec![], ..asks("") }, Join { protocol_type: String::new(), ..asks("") }] {
        let mut case = Case::empty();
        let ticket = case.join(join);
        assert_eq!(case.refusal(ticket), Some(E::InconsistentGroupProtocol));
    }
}

#[test]
fn a_member_without_an_id_gets_one_first_and_is_waited_for() {
    let mut case = Case::stable(&["m"]);
    let ticket = case.join(asks(""));
    assert_eq!(case.joined(ticket), Some(Err(Refused { error: E::MemberIdRequired, member_id: "fresh".into() })));
    assert_eq!(case.group.state(), State::Stable, "an id alone changes nothing");
    case.join(asks("m"));
    assert_eq!(case.group.state(), State::PreparingRebalance, "it is waited for whoever has an id");
    let ticket = case.join(asks("fresh"));
    let joined = case.joined(ticket).unwrap().unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 0), "it follows");
    let mut case = Case::stable(&["m"]);
    case.join(asks(""));
    case.pass(9_999);
    case.group.heartbeat(case.now, &who("m", 1)).unwrap();
    case.pass(1);
    let ticket = case.join(asks("fresh"));
    assert_eq!(case.refusal(ticket), Some(E::UnknownMemberId), "the id was given up");
}

#[test]
fn the_first_members_wait_for_more() {
    let mut case = Case::empty();
    let first = case.come("a");
    case.pass(2999);
    assert_eq!(case.joined(first), None);
    let second = case.come("b");
    case.pass(1);
    assert_eq!(case.joined(first), None, "another has come: the wait begins again");
    case.pass(3000);
    let (first, second) = (case.joined(first).unwrap().unwrap(), case.joined(second).unwrap().unwrap());
    assert_eq!((first.generation, &*first.leader, first.members.len()), (1, "a", 2));
    assert_eq!((second.generation, &*second.leader, second.members.len()), (1, "a", 0));
    let mut case = Case::empty();
    let first = case.come("m0");
    let mut answered = None;
    for n in 0..100 {
        case.pass(2000);
        answered = answered.or(case.joined(first).map(|_| case.now));
        if n < 3 {
            case.come(&format!("m{}", n + 1));
        }
    }
    assert!(answered.unwrap() <= 60_000 + 3000, "no longer than a rebalance may take");
}

#[test]
fn the_protocol_that_most_like_best_is_chosen() {
    let votes: &[(&[&[&str]], Option<&str>)] = &[
        (&[&["a", "b"]], Some("a")),
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], Some("b")),
        (&[&["a", "b"], &["b"]], Some("b")),
        (&[&["c", "a", "b"], &["b", "a"]], Some("a")),
    ];
    for (likes, chosen) in votes {
        let mut case = Case::empty();
        for (n, likes) in likes.iter().enumerate() {
            let protocols = likes.iter().map(|name| protocol(name)).collect();
            case.join(Join { protocols, fresh_id: format!("m{n}"), needs_id: false, ..asks("") });
        }
        case.pass(3000);
        case.pass(3000);
        assert_eq!(case.group.protocol(), *chosen, "{likes:?}");
    }
}

#[test]
fn members_are_told_what_is_saved_and_nothing_else() {
    let mut case = Case::completing(&["m", "n"]);
    let follower = case.sync(who("n", 1), &[]);
    assert_eq!(case.synced(follower), None);
    let leader = case.sync(who("m", 1), &["m", "n"]);
    assert_eq!(case.synced(leader), None, "it is not saved yet");
    let saved = case.said.iter().find_map(|effect| match effect {
        Effect::Save(_, saved) => Some(saved.clone()),
        _ => None,
    });
    let saved = saved.unwrap();
    assert_eq!((saved.generation, saved.protocol.as_deref(), saved.leader.as_deref()), (1, Some("range"), Some("m")));
    assert_eq!(saved.members[1].assignment, "n");
    assert_eq!(saved.members[1].subscription, "range!");
    case.save(Ok(()));
    assert_eq!(case.synced(follower).unwrap().unwrap().assignment, "n");
    assert_eq!(case.synced(leader).unwrap().unwrap().assignment, "m");
    let again = Group::load(RULES, saved, 0);
    assert_eq!((again.state(), again.members().count(), again.generation), (State::Stable, 2, 1));
}

#[test]
fn a_leader_that_assigns_twice_is_heard_once() {
    let mut case = Case::completing(&["m", "n"]);
    let first = case.sync(who("m", 1), &["m", "n"]);
    let second = case.sync(who("m", 1), &["n"]);
    assert_eq!(case.synced(first), Some(Err(E::RebalanceInProgress)), "it has asked again");
    assert!(!case.said.iter().any(|effect| matches!(effect, Effect::Save(..))), "what is on its way to the disk holds");
    case.save(Ok(()));
    assert_eq!(case.synced(second).unwrap().unwrap().assignment, "m");
}

#[test]
fn an_assignment_that_is_not_saved_is_made_again() {
    let mut case = Case::completing(&["m", "n"]);
    let follower = case.sync(who("n", 1), &[]);
    let leader = case.sync(who("m", 1), &["m", "n"]);
    case.save(Err(E::CoordinatorNotAvailable));
    assert_eq!(case.synced(follower), Some(Err(E::CoordinatorNotAvailable)));
    assert_eq!(case.synced(leader), Some(Err(E::CoordinatorNotAvailable)));
    assert_eq!(case.group.state(), State::PreparingRebalance);
}

#[test]
fn who_waits_for_an_assignment_is_told_of_a_rebalance() {
    let mut case = Case::completing(&["m", "n"]);
    let follower = case.sync(who("n", 1), &[]);
    case.come("late");
    assert_eq!(case.synced(follower), Some(Err(E::RebalanceInProgress)));
    assert_eq!(case.group.state(), State::PreparingRebalance);
}

#[test]
fn a_member_that_does_not_sync_goes() {
    let mut case = Case::completing(&["m", "n"]);
    case.sync(who("m", 1), &["m", "n"]);
    case.save(Ok(()));
    for _ in 0..11 {
        case.pass(5500);
        // It says that it is alive, and never asks what to do.
        let _ = case.group.heartbeat(case.now, &who("m", 1));
        let _ = case.group.heartbeat(case.now, &who("n", 1));
    }
    assert_eq!(case.group.heartbeat(case.now, &who("n", 1)), Err(E::UnknownMemberId));
    assert_eq!(case.group.heartbeat(case.now, &who("m", 1)), Err(E::RebalanceInProgress));
}

#[test]
fn a_silent_member_goes_and_the_others_rebalance() {
    let mut case = Case::stable(&["m", "n"]);
    case.pass(9_999);
    case.group.heartbeat(case.now, &who("m", 1)).unwrap();
    assert_eq!(case.group.deadline(), Some(case.now + 1));
    case.pass(1);
    assert_eq!(case.group.state(), State::PreparingRebalance);
    let ticket = case.join(asks("m"));
    assert_eq!(case.joined(ticket).unwrap().unwrap().generation, 2);
}

#[test]
fn who_does_not_come_back_in_time_goes() {
    let mut case = Case::stable(&["m", "n"]);
    let ticket = case.join(asks("m"));
    for _ in 0..7 {
        assert_eq!(case.joined(ticket), None);
        assert_eq!(case.group.heartbeat(case.now, &who("n", 1)), Err(E::RebalanceInProgress));
        case.pass(9_000);
    }
    let joined = case.joined(ticket).unwrap().unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn members_that_join_again_are_told_or_rebalance() {
    let changed = Join { protocols: vec![Protocol { metadata: "other".into(), ..protocol("range") }], ..asks("n") };
    let cases: [(State, Join, bool); 6] = [
        (State::CompletingRebalance, asks("n"), true),
        (State::CompletingRebalance, asks("m"), true),
        (State::CompletingRebalance, changed.clone(), false),
        (State::Stable, asks("n"), true),
        (State::Stable, asks("m"), false),
        (State::Stable, changed, false),
    ];
    for (state, join, is_told) in cases {
        let mut case = in_state(state);
        let leads = join.member_id == "m";
        let ticket = case.join(join);
        match is_told {
            true => {
                let joined = case.joined(ticket).unwrap().unwrap();
                assert_eq!((joined.generation, joined.members.is_empty()), (1, !leads), "{state:?}");
            }
            false => assert_eq!(case.group.state(), State::PreparingRebalance, "{state:?}"),
        }
    }
}

#[test]
fn members_leave() {
    for state in [State::PreparingRebalance, State::CompletingRebalance, State::Stable] {
        let mut case = in_state(state);
        assert_eq!(case.leave(who("stranger", -1)), Err(E::UnknownMemberId), "{state:?}");
        assert_eq!(case.leave(instance("i", "", -1)), Err(E::UnknownMemberId), "{state:?}");
        assert_eq!(case.leave(who("n", -1)), Ok(()), "{state:?}");
        assert_eq!(case.group.members().count(), 1, "{state:?}");
        let expected =
            if state == State::PreparingRebalance { State::CompletingRebalance } else { State::PreparingRebalance };
        assert_eq!(case.group.state(), expected, "{state:?}");
    }
    assert_eq!(in_state(State::Dead).leave(who("m", -1)), Err(E::CoordinatorNotAvailable));
    let mut case = Case::static_stable();
    assert_eq!(case.leave(instance("i", "former", -1)), Err(E::FencedInstanceId));
    assert_eq!(case.leave(instance("i", "", -1)), Ok(()), "sent away by what it calls itself");
    assert_eq!(case.group.state(), State::Empty);
    let mut case = Case::stable(&["m"]);
    case.join(asks(""));
    assert_eq!(case.leave(who("fresh", -1)), Ok(()));
    assert_eq!(case.group.state(), State::Stable, "an id that never joined is no loss");
}

#[test]
fn the_last_to_leave_leaves_an_empty_generation_that_is_saved() {
    let mut case = Case::stable(&["m"]);
    assert_eq!(case.leave(who("m", -1)), Ok(()));
    assert_eq!(case.group.state(), State::Empty);
    assert!(matches!(&case.said[..], [Effect::Save(_, saved)] if saved.generation == 2 && saved.members.is_empty()));
    assert!(!case.group.is_idle());
    case.save(Ok(()));
    assert!(case.group.is_idle());
    assert_eq!(case.group.deadline(), None);
}

#[test]
fn a_static_member_comes_back_unnoticed_and_its_former_self_is_fenced() {
    let back = |id: &str| Join { instance_id: Some("i".into()), fresh_id: id.into(), ..asks("") };
    let mut case = Case::static_stable();
    let ticket = case.join(back("t"));
    assert_eq!(case.joined(ticket), None, "its new id is not saved yet");
    case.save(Ok(()));
    let joined = case.joined(ticket).unwrap().unwrap();
    assert_eq!((joined.generation, &*joined.leader, joined.skip_assignment), (1, "t", true));
    assert_eq!(joined.members.len(), 1, "a leader that assigns nothing still knows whom it leads");
    assert_eq!(case.group.state(), State::Stable);
    assert_eq!(case.group.heartbeat(case.now, &instance("i", "s", 1)), Err(E::FencedInstanceId));
    assert_eq!(case.group.heartbeat(case.now, &who("s", 1)), Err(E::UnknownMemberId));
    let sync = case.sync(instance("i", "t", 1), &[]);
    assert_eq!(case.synced(sync).unwrap().unwrap().assignment, "s", "it goes on with what it had");
    let ticket = case.join(Join { may_skip: false, ..back("u") });
    case.save(Ok(()));
    let joined = case.joined(ticket).unwrap().unwrap();
    assert_eq!((&*joined.leader, joined.members.len()), ("t", 0), "an older client is not told that it leads");
    let ticket = case.join(Join { protocols: vec![protocol("roundrobin")], ..back("v") });
    assert_eq!(case.joined(ticket).unwrap().unwrap().generation, 2, "another protocol is chosen");
}

#[test]
fn a_static_member_that_comes_back_while_others_wait_is_one_of_them() {
    let back = |id: &str| Join { instance_id: Some("i".into()), fresh_id: id.into(), ..asks("") };
    let mut case = Case::empty();
    let first = case.join(back("s"));
    let second = case.join(back("t"));
    assert_eq!(case.joined(first), Some(Err(Refused { error: E::FencedInstanceId, member_id: "s".into() })));
    case.pass(3000);
    assert_eq!(case.joined(second).unwrap().unwrap().members.len(), 1);
    let waiting = case.sync(instance("i", "t", 1), &["t"]);
    case.join(back("u"));
    assert_eq!(case.synced(waiting), Some(Err(E::FencedInstanceId)), "what was said for its former self is void");
    case.save(Ok(()));
    assert_ne!(case.group.state(), State::Stable);
}

#[test]
fn a_group_that_is_full_takes_nobody() {
    for state in [State::CompletingRebalance, State::Stable] {
        let mut case = Case::completing(&["a", "b", "c", "d"]);
        if state == State::Stable {
            case.assign(&["a", "b", "c", "d"]);
        }
        let ticket = case.join(asks(""));
        assert_eq!(case.refusal(ticket), Some(E::GroupMaxSizeReached), "{state:?}");
        let ticket = case.join(asks("a"));
        assert_ne!(case.refusal(ticket), Some(E::GroupMaxSizeReached), "{state:?}: its members come back");
    }
    let mut case = Case::stable(&["a", "b", "c", "d"]);
    for id in ["a", "b", "c"] {
        case.join(asks(id));
    }
    case.join(Join { fresh_id: "e".into(), needs_id: false, ..asks("") });
    let ticket = case.join(asks("d"));
    assert_eq!(case.refusal(ticket), Some(E::GroupMaxSizeReached), "the last to come back has lost its place");
    assert_eq!(case.group.state(), State::CompletingRebalance);
}

#[test]
fn nobody_is_left_without_an_answer() {
    let mut case = Case::stable(&["m", "n"]);
    let first = case.join(asks("m"));
    let second = case.join(asks("m"));
    assert_eq!(case.refusal(first), Some(E::RebalanceInProgress), "asked twice, the earlier is told");
    case.said.clear();
    case.group.end(&mut case.said);
    assert_eq!(case.refusal(second), Some(E::UnknownMemberId));
    assert_eq!(case.group.deadline(), None);
    let mut case = Case::completing(&["m", "n"]);
    let waiting = case.sync(who("n", 1), &[]);
    case.said.clear();
    case.group.leave(case.now, &[who("n", 1)], &mut case.said);
    assert_eq!(case.synced(waiting), Some(Err(E::UnknownMemberId)));
}
