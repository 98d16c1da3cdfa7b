//! Members that are not heard of, leave, come back, or are replaced.

use kafka_protocol::ResponseError as E;

use super::case::{Case, asks, in_state, instance, protocol, who};
use crate::groups::group::State;
use crate::groups::request::{Effect, Join, Protocol, Refused};

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
