//! What each request is answered in each state, with Kafka's codes.

use bytes::Bytes;
use kafka_protocol::ResponseError as E;

use super::case::{Case, RULES, STATES, asks, in_state, instance, protocol, who};
use crate::groups::group::{Group, State};
use crate::groups::request::{Effect, Join, Refused, Sync};

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
