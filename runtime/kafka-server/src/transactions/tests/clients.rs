//! Producers of simulated transactions, which behave as Kafka's do.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use super::log::PARTITIONS;
use crate::transactions::request::{Answer, End, Init, Millis, Who};
use crate::worlds::Dice;

/// After which a producer asks again.
const REQUEST: Millis = 3000;

/// What a producer asks.
#[derive(Clone)]
pub(super) enum Asked {
    Init(Init),
    Add(Who, BTreeSet<u8>),
    /// Writes its transaction's number into a partition.
    Write(Who, u8, u64),
    End(End),
}

/// What a producer does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// It does not run.
    Gone,
    /// It takes the transactional id.
    Inits,
    /// It begins a transaction at that time.
    Rests(Millis),
    /// It adds partitions.
    Adds,
    /// It writes to those that are left.
    Writes,
    /// It ends the transaction so.
    Ends(bool),
}

/// A producer.
pub(super) struct Client {
    /// Which of the transactional ids it uses.
    pub(super) id: usize,
    client_version: i16,
    timeout: i32,
    who: Option<Who>,
    phase: Phase,
    /// The number of its transaction.
    pub(super) number: u64,
    left: BTreeSet<u8>,
    added: BTreeSet<u8>,
    /// Answers to earlier attempts come over connections that it has closed.
    pub(super) attempt: u64,
    /// When it asks again.
    asks_at: Millis,
    paused_until: Millis,
    /// When it began its transaction.
    begun: Millis,
    is_calm: bool,
}

impl Client {
    pub(super) fn new(id: usize, dice: &mut Dice) -> Self {
        Client {
            id,
            client_version: if dice.once_in(2) { 2 } else { 0 },
            timeout: 5000 + dice.below(20_000) as i32,
            who: None,
            phase: Phase::Inits,
            number: 0,
            left: BTreeSet::new(),
            added: BTreeSet::new(),
            attempt: 0,
            asks_at: 0,
            paused_until: 0,
            begun: 0,
            is_calm: false,
        }
    }

    /// Whether what it has asked may arrive after it has given up waiting for the answer: else it must not, since nothing tells
    /// one transaction from the next.
    pub(super) fn survives_late(&self) -> bool {
        self.client_version >= 2
    }

    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.paused_until = 0;
    }

    /// It stops, or does nothing for a while.
    pub(super) fn disturb(&mut self, now: Millis, dice: &mut Dice) {
        match dice.below(3) {
            0 => self.phase = Phase::Gone,
            _ => self.paused_until = now + dice.below(40_000) as Millis,
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.attempt += 1;
        self.asks_at = 0;
    }

    /// What it asks now. `number` is one that no transaction has.
    pub(super) fn act(&mut self, now: Millis, dice: &mut Dice, number: &mut u64) -> Option<Asked> {
        if now < self.paused_until || now < self.asks_at {
            return None;
        }
        if self.phase == Phase::Rests(0) || matches!(self.phase, Phase::Rests(at) if at <= now) {
            if self.is_calm {
                return None;
            }
            *number += 1;
            self.number = *number;
            self.left = (0..PARTITIONS).filter(|_| dice.once_in(2)).collect();
            self.added.clear();
            self.begun = now;
            self.phase = if self.left.is_empty() { Phase::Rests(now + 100) } else { Phase::Adds };
        }
        self.attempt += 1;
        self.asks_at = now + REQUEST;
        match (&self.phase, self.who) {
            (Phase::Gone | Phase::Rests(_), _) => {
                self.asks_at = 0;
                None
            }
            (Phase::Inits, _) => Some(Asked::Init(Init { timeout: self.timeout, expected: None })),
            (Phase::Adds, Some(who)) => {
                // Often not all at once.
                let mut adds = self.left.clone();
                if dice.once_in(2) {
                    adds.pop_last().filter(|_| adds.len() > 1).map(|last| adds.remove(&last));
                }
                if adds.is_empty() {
                    adds = self.left.clone();
                }
                self.added.extend(adds.iter().copied());
                Some(Asked::Add(who, adds))
            }
            (Phase::Writes, Some(who)) => {
                let to = self.left.first().copied()?;
                Some(Asked::Write(who, to, self.number))
            }
            (Phase::Ends(commits), Some(who)) => {
                Some(Asked::End(End { who, commits: *commits, client_version: self.client_version }))
            }
            (_, None) => None,
        }
    }

    /// Hears an answer, and says how its transaction ended if it was told.
    pub(super) fn hear(&mut self, now: Millis, attempt: u64, answer: Answer, dice: &mut Dice) -> Option<(u64, bool)> {
        if attempt != self.attempt || self.phase == Phase::Gone {
            return None;
        }
        self.asks_at = now;
        let who = match answer {
            Ok(who) => who,
            Err(ResponseError::ConcurrentTransactions | ResponseError::CoordinatorNotAvailable) => {
                self.asks_at = now + 50;
                return None;
            }
            // It was replaced, or waited for too long: somebody starts it again.
            Err(_) => {
                self.phase = if dice.once_in(2) { Phase::Inits } else { Phase::Gone };
                self.who = None;
                return None;
            }
        };
        match self.phase.clone() {
            Phase::Inits => {
                self.who = Some(who);
                self.phase = Phase::Rests(now + dice.below(2000) as Millis);
            }
            Phase::Adds => self.phase = Phase::Writes,
            Phase::Writes => {
                let written = self.left.pop_first();
                debug_assert!(written.is_some());
                self.phase = match self.left.first() {
                    None => {
                        if dice.once_in(5) {
                            // It ends the transaction just when it has taken too long.
                            let late = self.begun + Millis::from(self.timeout) + dice.below(600) as Millis;
                            self.paused_until = late - 200;
                        }
                        Phase::Ends(!dice.once_in(4))
                    }
                    Some(next) if self.added.contains(next) => Phase::Writes,
                    Some(_) => Phase::Adds,
                };
            }
            Phase::Ends(commits) => {
                if self.client_version >= 2 {
                    self.who = Some(who);
                }
                self.phase = Phase::Rests(now + dice.below(2000) as Millis);
                return Some((self.number, commits));
            }
            Phase::Rests(_) | Phase::Gone => {}
        }
        None
    }
}
