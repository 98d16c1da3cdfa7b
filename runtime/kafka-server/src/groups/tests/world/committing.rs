//! Members of a simulated group that commit in transactions.

use kafka_protocol::ResponseError;

use super::{Message, World};
use crate::groups::request::{Claimed, Millis};
use crate::groups::tests::clients::Told;

/// A commit in a transaction that is being written.
pub(super) struct Committing {
    pub(super) due: Millis,
    client: usize,
    attempt: u64,
    pub(super) number: u64,
}

/// More transactions than a member has.
const PER_CLIENT: u64 = 1_000_000;

/// What tells a transaction from all others.
pub(super) fn number_of(client: usize, number: u64) -> u64 {
    client as u64 * PER_CLIENT + number
}

impl World {
    /// Transactions whose offsets count, and those whose offsets do not.
    pub(in crate::groups::tests) fn transactions(&self) -> (usize, usize) {
        (self.transacted.commits, self.transacted.aborts)
    }

    /// As the server does it: the transaction lets the write through, then the group does; the marker waits for it.
    pub(super) fn ask_in_transaction(
        &mut self,
        client: usize,
        attempt: u64,
        who: Claimed,
        number: u64,
        partitions: Vec<u8>,
    ) {
        let mut answer = Err(ResponseError::InvalidTxnState);
        if self.transacted.begin(self.now, number) {
            answer = self.group.may_commit_in_transaction(self.now, &who);
            if answer.is_ok() {
                self.check_commit(&who);
                self.check_owner(&who, &partitions);
                let due = self.now + self.dice.below(2000);
                return self.committing.push(Committing { due, client, attempt, number });
            }
            self.transacted.written(number, false);
        }
        self.fenced += 1;
        self.send(Message::ToClient(client, attempt, Told::CommittedInTransaction(number % PER_CLIENT, answer)));
    }

    /// Nobody commits what somebody else works on.
    fn check_owner(&mut self, who: &Claimed, partitions: &[u8]) {
        let owner = who.instance_id.as_ref().unwrap_or(&who.member_id);
        for partition in partitions {
            match self.given.get(&(self.told, *partition)) {
                Some(given) if given != owner => {
                    self.violated(format!("{owner} commits {partition}, on which {given} works"));
                }
                _ => {}
            }
        }
    }

    pub(super) fn commit_in_transaction(&mut self, committing: Committing) {
        let Committing { client, attempt, number, .. } = committing;
        let fails = self.is_restless && self.dice.once_in(20);
        let is_there = !fails || self.dice.once_in(2);
        self.transacted.written(number, is_there);
        let answer = if fails { Err(ResponseError::CoordinatorNotAvailable) } else { Ok(()) };
        self.send(Message::ToClient(client, attempt, Told::CommittedInTransaction(number % PER_CLIENT, answer)));
    }
}
