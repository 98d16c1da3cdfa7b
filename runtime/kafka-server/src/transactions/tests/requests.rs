//! What each request is answered in each state.

use std::collections::BTreeSet;

use aqueduct_api::TopicPartition;
use kafka_protocol::ResponseError as E;

use crate::transactions::entry::State;
use crate::transactions::request::{Answer, Effect, End, Init, Outcome, Ticket, Who};
use crate::transactions::transaction::Transaction;

const EXPIRATION: i64 = 1_000_000;
const FRESH: i64 = 77;

/// A transactional id whose writes are as quick as the test wants.
struct Case {
    machine: Transaction,
    now: i64,
    out: Vec<Effect>,
    saves: usize,
}

fn who(producer_id: i64, epoch: i16) -> Who {
    Who { producer_id, epoch }
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

impl Case {
    fn new() -> Self {
        Case { machine: Transaction::new(7, 0), now: 0, out: Vec::new(), saves: 0 }
    }

    /// One whose producer has an epoch.
    fn at(epoch: i16) -> Self {
        let mut entry = Transaction::new(7, 0).entry().clone();
        (entry.epoch, entry.timeout) = (epoch, 1000);
        Case { machine: Transaction::load(entry), ..Case::new() }
    }

    /// Does what is to be done, but for what is left open.
    fn settle(&mut self, saves: bool, marks: bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut kept = Vec::new();
        while !self.out.is_empty() {
            for effect in std::mem::take(&mut self.out) {
                match effect {
                    Effect::Answer(_, answer) => answers.push(answer),
                    Effect::Save(_) if saves => {
                        self.saves += 1;
                        self.machine.saved(self.now, Ok(()), &mut self.out);
                    }
                    Effect::Mark(_, partitions) if marks => {
                        partitions.iter().for_each(|of| self.machine.marked(self.now, of, &mut self.out));
                    }
                    effect => kept.push(effect),
                }
            }
        }
        self.out = kept;
        answers
    }

    fn answer(&mut self) -> Answer {
        let answers = self.settle(true, true);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0]
    }

    fn init_as(&mut self, expected: Option<Who>) -> Answer {
        let fresh = self.machine.needs_id().then_some(FRESH);
        self.machine.init(self.now, Ticket(0), &Init { timeout: 1000, expected }, fresh, &mut self.out);
        self.answer()
    }

    fn add(&mut self, who: Who, partitions: &[i32]) -> Answer {
        let partitions: BTreeSet<_> = partitions.iter().map(|number| partition(*number)).collect();
        self.machine.add(self.now, Ticket(0), who, &partitions, &mut self.out);
        self.answer()
    }

    /// Asks for the end, and leaves open what follows.
    fn ask_end(&mut self, who: Who, commits: bool, client_version: i16) {
        let fresh = self.machine.needs_id().then_some(FRESH);
        self.machine.end(self.now, Ticket(0), &End { who, commits, client_version }, fresh, &mut self.out);
    }

    fn end(&mut self, who: Who, commits: bool, client_version: i16) -> Answer {
        self.ask_end(who, commits, client_version);
        self.answer()
    }

    fn state(&self) -> State {
        self.machine.entry().state
    }
}

#[test]
fn each_producer_that_takes_the_id_fences_the_one_before() {
    let mut case = Case::new();
    assert_eq!(case.init_as(None), Ok(who(7, 0)));
    assert_eq!(case.init_as(None), Ok(who(7, 1)));
    assert_eq!(case.add(who(7, 0), &[1]), Err(E::ProducerFenced));
    assert_eq!(case.end(who(7, 0), true, 0), Err(E::ProducerFenced));
    assert_eq!(case.end(who(7, 0), true, 2), Err(E::ProducerFenced));
    assert_eq!(case.machine.may_write(who(7, 0), &partition(1)), Err(E::ProducerFenced));
    assert_eq!(case.add(who(8, 1), &[1]), Err(E::InvalidProducerIdMapping));
    assert_eq!(case.end(who(8, 1), true, 0), Err(E::InvalidProducerIdMapping));
    assert_eq!(case.add(who(7, 1), &[1]), Ok(who(7, 1)));
}

#[test]
fn what_is_not_in_the_transaction_is_not_written() {
    let mut case = Case::at(0);
    let me = who(7, 0);
    assert_eq!(case.machine.may_write(me, &partition(1)), Ok(false));
    assert_eq!(case.end(me, true, 0), Err(E::InvalidTxnState));
    assert_eq!(case.end(me, false, 0), Err(E::InvalidTxnState));
    assert_eq!(case.add(me, &[1, 2]), Ok(me));
    assert_eq!(case.saves, 1);
    // It belongs to it already: nothing is saved.
    assert_eq!(case.add(me, &[2]), Ok(me));
    assert_eq!(case.saves, 1);
    assert_eq!(case.machine.may_write(me, &partition(1)), Ok(true));
    assert_eq!(case.machine.may_write(me, &partition(3)), Ok(false));
    assert_eq!(case.end(me, true, 0), Ok(me));
    assert_eq!((case.state(), case.machine.may_write(me, &partition(1))), (State::CompleteCommit, Ok(false)));
}

#[test]
fn the_end_is_answered_once_it_is_saved_and_complete_once_all_partitions_know() {
    for (commits, prepared, complete) in
        [(true, State::PrepareCommit, State::CompleteCommit), (false, State::PrepareAbort, State::CompleteAbort)]
    {
        let mut case = Case::at(0);
        let me = who(7, 0);
        case.add(me, &[1, 2]).unwrap();
        case.ask_end(me, commits, 0);
        assert_eq!(case.settle(false, false), []);
        assert_eq!(case.end_again(me, commits), Err(E::ConcurrentTransactions));
        assert_eq!(case.settle(true, false), [Ok(me)]);
        assert_eq!(case.state(), prepared);
        let outcome = Outcome { who: me, commits };
        assert_eq!(case.out, [Effect::Mark(outcome, [partition(1), partition(2)].into())]);
        // Nobody gets in between.
        assert_eq!(case.machine.may_write(me, &partition(1)), Err(E::ConcurrentTransactions));
        assert_eq!(case.end_again(me, commits), Err(E::ConcurrentTransactions));
        assert_eq!(case.end_again(me, !commits), Err(E::InvalidTxnState));
        case.machine.marked(0, &partition(2), &mut case.out);
        case.machine.marked(0, &partition(2), &mut case.out);
        assert_eq!((case.out.len(), case.state()), (1, prepared));
        case.machine.marked(0, &partition(1), &mut case.out);
        case.out.remove(0);
        assert_eq!(case.settle(true, true), []);
        assert_eq!((case.state(), case.machine.entry().partitions.len()), (complete, 0));
        // Its answer was lost.
        assert_eq!(case.end(me, commits, 0), Ok(me));
        assert_eq!(case.end(me, !commits, 0), Err(E::InvalidTxnState));
    }
}

impl Case {
    /// Asks for the end while something is under way, which stays so.
    fn end_again(&mut self, who: Who, commits: bool) -> Answer {
        let under_way = std::mem::take(&mut self.out);
        self.ask_end(who, commits, 0);
        let answers = self.settle(false, false);
        assert!(self.out.is_empty(), "{:?}", self.out);
        self.out = under_way;
        answers[0]
    }
}

#[test]
fn a_transaction_of_another_producer_is_aborted_before_the_id_is_taken() {
    let mut case = Case::at(4);
    case.add(who(7, 4), &[1]).unwrap();
    assert_eq!(case.init_as(None), Err(E::ConcurrentTransactions));
    assert_eq!((case.state(), case.machine.entry().epoch), (State::CompleteAbort, 5));
    assert_eq!(case.end(who(7, 4), true, 0), Err(E::ProducerFenced));
    assert_eq!(case.init_as(None), Ok(who(7, 6)));
}

#[test]
fn a_producer_that_goes_on_after_an_error_keeps_the_id_and_one_that_was_replaced_does_not() {
    let mut case = Case::at(4);
    assert_eq!(case.init_as(Some(who(7, 4))), Ok(who(7, 5)));
    // It has not heard the answer.
    assert_eq!(case.init_as(Some(who(7, 4))), Ok(who(7, 5)));
    assert_eq!(case.init_as(Some(who(7, 3))), Err(E::ProducerFenced));
    assert_eq!(case.init_as(Some(who(6, 5))), Err(E::ProducerFenced));
    assert_eq!(case.init_as(None), Ok(who(7, 6)));
    assert_eq!(case.init_as(Some(who(7, 5))), Err(E::ProducerFenced));
    // And may not abort what its successor does.
    case.add(who(7, 6), &[1]).unwrap();
    assert_eq!(case.init_as(Some(who(7, 5))), Err(E::ProducerFenced));
    assert_eq!(case.state(), State::Ongoing);
}

#[test]
fn an_id_whose_epochs_run_out_gets_another_producer_id() {
    let last = i16::MAX - 1;
    let mut case = Case::at(last - 1);
    assert_eq!(case.init_as(None), Ok(who(7, last)));
    assert_eq!(case.init_as(None), Ok(who(FRESH, 0)));
    assert_eq!(case.machine.entry().previous_producer_id, 7);
    let mut case = Case::at(last);
    assert_eq!(case.init_as(Some(who(7, last))), Ok(who(FRESH, 0)));
    assert_eq!(case.init_as(Some(who(7, last))), Ok(who(FRESH, 0)));
    // Fencing has an epoch of its own.
    let mut case = Case::at(last);
    case.add(who(7, last), &[1]).unwrap();
    assert_eq!(case.init_as(None), Err(E::ConcurrentTransactions));
    assert_eq!(case.machine.entry().epoch, i16::MAX);
    assert_eq!(case.init_as(None), Ok(who(FRESH, 0)));
}

#[test]
fn each_transaction_of_a_newer_client_has_an_epoch_of_its_own() {
    let mut case = Case::at(0);
    case.add(who(7, 0), &[1]).unwrap();
    case.ask_end(who(7, 0), true, 2);
    assert_eq!(case.settle(true, false), [Ok(who(7, 1))]);
    assert_eq!(case.out, [Effect::Mark(Outcome { who: who(7, 1), commits: true }, [partition(1)].into())]);
    // Its client gives up the next one before this one is complete.
    case.ask_end(who(7, 1), false, 2);
    assert!(matches!(case.out.pop(), Some(Effect::Answer(_, Err(E::ConcurrentTransactions)))));
    case.settle(true, true);
    // Its answer was lost.
    assert_eq!(case.end(who(7, 0), true, 2), Ok(who(7, 1)));
    assert_eq!(case.end(who(7, 0), false, 2), Err(E::InvalidTxnState));
    assert_eq!(case.add(who(7, 0), &[1]), Err(E::ProducerFenced));
    // The abort of nothing raises the epoch, the commit of nothing is a mistake.
    assert_eq!(case.end(who(7, 1), true, 2), Err(E::InvalidTxnState));
    assert_eq!(case.end(who(7, 1), false, 2), Ok(who(7, 2)));
    assert_eq!(case.state(), State::CompleteAbort);
    assert_eq!(case.end(who(7, 1), false, 2), Ok(who(7, 2)));
    case.add(who(7, 2), &[1]).unwrap();
    assert_eq!(case.end(who(7, 1), false, 2), Err(E::ProducerFenced));
    assert_eq!(case.end(who(7, 2), false, 2), Ok(who(7, 3)));
}

#[test]
fn a_newer_client_s_epochs_run_out_with_the_end_of_a_transaction() {
    let last = i16::MAX - 1;
    let mut case = Case::at(last);
    case.add(who(7, last), &[1]).unwrap();
    case.ask_end(who(7, last), true, 2);
    assert_eq!(case.settle(true, false), [Ok(who(FRESH, 0))]);
    assert_eq!(case.out, [Effect::Mark(Outcome { who: who(7, i16::MAX), commits: true }, [partition(1)].into())]);
    case.settle(true, true);
    assert_eq!(case.end(who(7, last), true, 2), Ok(who(FRESH, 0)));
    assert_eq!(case.add(who(FRESH, 0), &[1]), Ok(who(FRESH, 0)));
}

#[test]
fn a_transaction_whose_time_is_up_is_aborted_and_its_producer_fenced() {
    let mut case = Case::at(0);
    case.now = 500;
    case.add(who(7, 0), &[1]).unwrap();
    assert_eq!(case.machine.deadline(EXPIRATION), Some(1500));
    case.now = 1400;
    case.add(who(7, 0), &[2]).unwrap();
    case.machine.expire(1499, EXPIRATION, &mut case.out);
    assert_eq!(case.out, []);
    case.now = 1500;
    case.machine.expire(1500, EXPIRATION, &mut case.out);
    assert_eq!(case.settle(true, true), []);
    assert_eq!((case.state(), case.machine.entry().epoch), (State::CompleteAbort, 1));
    assert_eq!(case.end(who(7, 0), true, 0), Err(E::ProducerFenced));
    assert_eq!(case.end(who(7, 0), true, 2), Err(E::ProducerFenced));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten() {
    let mut case = Case::at(0);
    case.now = 10;
    case.add(who(7, 0), &[1]).unwrap();
    case.end(who(7, 0), true, 0).unwrap();
    assert_eq!(case.machine.deadline(EXPIRATION), Some(10 + EXPIRATION));
    case.now = 10 + EXPIRATION;
    case.machine.expire(case.now, EXPIRATION, &mut case.out);
    assert_eq!(case.out, [Effect::Save(None)]);
    assert_eq!(case.end_again(who(7, 0), true), Err(E::ConcurrentTransactions));
    case.settle(true, true);
    assert!(case.machine.is_gone());
    assert_eq!(case.add(who(7, 0), &[1]), Err(E::InvalidProducerIdMapping));
}

#[test]
fn what_could_not_be_saved_does_not_hold_and_is_tried_again() {
    let mut case = Case::at(0);
    let me = who(7, 0);
    case.add(me, &[1]).unwrap();
    case.ask_end(me, true, 0);
    case.out.clear();
    case.machine.saved(0, Err(E::CoordinatorNotAvailable), &mut case.out);
    assert_eq!(case.settle(true, true), [Err(E::CoordinatorNotAvailable)]);
    assert_eq!((case.state(), case.machine.may_write(me, &partition(1))), (State::Ongoing, Ok(true)));
    case.ask_end(me, true, 0);
    case.settle(true, false);
    case.out.clear();
    case.machine.marked(0, &partition(1), &mut case.out);
    case.out.clear();
    case.machine.saved(0, Err(E::CoordinatorNotAvailable), &mut case.out);
    assert_eq!((case.state(), case.machine.deadline(EXPIRATION)), (State::PrepareCommit, Some(1000)));
    case.machine.expire(1000, EXPIRATION, &mut case.out);
    case.settle(true, true);
    assert_eq!(case.state(), State::CompleteCommit);
}
