//! What must hold in a simulated world whenever something is written, and in the end.

use aqueduct_api::TopicPartition;

use super::World;
use crate::transactions::entry::{Entry, State};
use crate::transactions::request::Outcome;

impl World {
    /// It is there for good, and the coordinator knows it.
    pub(super) fn is_kept(&mut self, id: usize, entry: &Entry) {
        let decided = self.decided.get(&id).copied();
        match (entry.state, decided) {
            (State::PrepareCommit | State::PrepareAbort, None) => {
                self.decided.insert(id, entry.state == State::PrepareCommit);
            }
            (State::CompleteCommit, Some(true)) | (State::CompleteAbort, Some(false)) => {
                self.decided.remove(&id);
                if self.log.is_open([entry.producer_id, entry.previous_producer_id]) {
                    self.violated(format!("{id} is complete, and open in a partition"));
                }
            }
            (_, None) => {}
            (state, Some(commits)) => {
                self.violated(format!("{id} becomes {state:?}, and was to commit: {commits}"));
            }
        }
    }

    /// A marker reaches a partition.
    pub(super) fn mark(&mut self, id: usize, outcome: Outcome, of: &TopicPartition) {
        if self.decided.get(&id).is_some_and(|commits| *commits != outcome.commits) {
            self.violated(format!("{of} is told that {id} commits: {}", outcome.commits));
        }
        let wrong = self.log.mark(outcome, of);
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// What holds once the world has been calm for long.
    pub(super) fn check_calm(&mut self) {
        let mut wrong = self.log.open();
        for (number, commits) in &self.told {
            if self.log.fates.get(number) != Some(commits) {
                wrong.push(format!(
                    "{number} commits: {commits}, as told; in the log: {:?}",
                    self.log.fates.get(number)
                ));
            }
        }
        for (id, machine) in &self.machines {
            if machine.entry().state.decided().is_some() || machine.entry().state == State::Ongoing {
                wrong.push(format!("{id} is {:?} in the end", machine.entry().state));
            }
        }
        if !self.waiting.is_empty() {
            wrong.push(format!("{} wait for an answer in the end", self.waiting.len()));
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}
