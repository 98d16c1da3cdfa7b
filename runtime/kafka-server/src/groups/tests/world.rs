//! A simulated world around one group: members that come, go, pause and are restarted, messages that are late or lost, saves
//! that take time, and a coordinator that is restarted, all from one seed.

mod committing;

use std::collections::BTreeMap;

use aqueduct_api::Membership;
use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::clients::{Asked, Client, Told};
use super::transacted::Transacted;
use crate::groups::group::{Group, Rules};
use crate::groups::request::{Claimed, Effect, Millis, Stamp, Ticket};
use crate::worlds::Dice;
use committing::{Committing, number_of};

/// Partitions that members share.
pub(super) const PARTITIONS: u8 = 8;
const RULES: Rules = Rules { initial_delay: 3000, new_member_timeout: 300_000, max_size: 100 };
/// How long members do what they like.
const UNREST: Millis = 120_000;
/// How long nothing happens but what has to: more than the longest time-out.
const CALM: Millis = 700_000;

/// What is on its way.
enum Message {
    ToGroup(usize, u64, Asked),
    ToClient(usize, u64, Told),
}

/// One group and all around it.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Millis,
    group: Group,
    /// Counts the coordinator's lives.
    life: u64,
    durable: Option<Membership>,
    /// When each save is done, in order.
    saving: Vec<(Millis, Stamp, Membership)>,
    /// What is committed in transactions, and what is being written of that.
    transacted: Transacted,
    committing: Vec<Committing>,
    clients: Vec<Client>,
    /// Who waits for which answer, as which of its attempts, and as whom it asked.
    waiting: BTreeMap<Ticket, (usize, u64, String)>,
    tickets: u64,
    on_the_way: BTreeMap<(Millis, u64), Message>,
    sent: u64,
    /// Who was given which partition in which generation.
    given: BTreeMap<(i32, u8), String>,
    /// The generation that members were told last.
    told: i32,
    /// The id under which each static member is known.
    holders: BTreeMap<String, String>,
    /// Whether messages are late or lost, and saves fail.
    is_restless: bool,
    pub(super) violations: Vec<String>,
    /// Assignments that were handed out.
    pub(super) handed_out: usize,
    /// Commits that were taken.
    pub(super) commits: usize,
    /// Commits in transactions that were refused.
    pub(super) fenced: usize,
}

/// Runs one seed.
pub(super) fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    while world.now < UNREST {
        world.disturb();
        let step = 20 + world.dice.below(180);
        world.step(step);
    }
    world.is_restless = false;
    world.clients.iter_mut().for_each(Client::calm_down);
    while world.now < UNREST + CALM {
        let step = 200 + world.dice.below(600);
        world.step(step);
    }
    world.check_calm();
    world
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let clients = (0..2 + dice.below(5)).map(|n| Client::new(n, &mut dice)).collect();
        World {
            dice,
            now: 0,
            group: Group::new(RULES),
            life: 0,
            durable: None,
            saving: Vec::new(),
            transacted: Transacted::default(),
            committing: Vec::new(),
            clients,
            waiting: BTreeMap::new(),
            tickets: 0,
            on_the_way: BTreeMap::new(),
            sent: 0,
            given: BTreeMap::new(),
            told: 0,
            holders: BTreeMap::new(),
            is_restless: true,
            violations: Vec::new(),
            handed_out: 0,
            commits: 0,
            fenced: 0,
        }
    }

    fn violated(&mut self, what: String) {
        self.violations.push(format!("{} ms: {what}", self.now));
    }

    fn disturb(&mut self) {
        if self.dice.once_in(400) {
            self.restart();
        }
        if self.dice.once_in(10) {
            let which = self.dice.below(self.clients.len() as u64) as usize;
            let zombie = self.clients[which].disturb(self.now, &mut self.dice);
            // A static member that is started again while its former self still runs.
            if zombie && self.clients.len() < 12 {
                let again = self.clients[which].started_again();
                self.clients.push(again);
            }
        }
    }

    /// The coordinator dies, and another knows what is durable.
    fn restart(&mut self) {
        self.life += 1;
        self.saving.clear();
        // What was being written may be there, and nobody is told.
        for Committing { number, .. } in std::mem::take(&mut self.committing) {
            let is_there = self.dice.once_in(2);
            self.transacted.written(number, is_there);
        }
        self.waiting.clear();
        self.group = match self.durable.clone() {
            Some(saved) => Group::load(RULES, saved, self.now),
            None => Group::new(RULES),
        };
        self.told = self.group.generation;
        self.holders = self.group.instances.clone();
        // Connections break.
        self.on_the_way.clear();
        self.clients.iter_mut().for_each(Client::disconnected);
    }

    fn step(&mut self, millis: Millis) {
        self.now += millis;
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            match entry.remove() {
                Message::ToGroup(client, attempt, asked) => self.ask(client, attempt, asked),
                Message::ToClient(client, attempt, told) => self.clients[client].hear(self.now, attempt, told),
            }
        }
        while self.saving.first().is_some_and(|(due, ..)| *due <= self.now) {
            let (_, stamp, membership) = self.saving.remove(0);
            self.save(stamp, membership);
        }
        while let Some(at) = self.committing.iter().position(|committing| committing.due <= self.now) {
            let committing = self.committing.remove(at);
            self.commit_in_transaction(committing);
        }
        self.transacted.step(self.now);
        if self.group.deadline().is_some_and(|deadline| deadline <= self.now) {
            let mut out = Vec::new();
            self.group.expire(self.now, &mut out);
            self.perform(out);
        }
        for n in 0..self.clients.len() {
            let asked = self.clients[n].act(self.now, &mut self.dice);
            let attempt = self.clients[n].attempt;
            for asked in asked {
                self.send(Message::ToGroup(n, attempt, asked));
            }
        }
    }

    fn send(&mut self, message: Message) {
        if self.is_restless && self.dice.once_in(50) {
            return;
        }
        let slow = self.is_restless && self.dice.once_in(20);
        let delay = self.dice.below(if slow { 15_000 } else { 50 });
        self.sent += 1;
        self.on_the_way.insert((self.now + delay, self.sent), message);
    }

    fn ask(&mut self, client: usize, attempt: u64, asked: Asked) {
        let mut out = Vec::new();
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        match asked {
            Asked::Join(mut join) => {
                join.fresh_id = format!("{}-{}-{}", join.client_id, self.life, self.tickets);
                self.waiting.insert(ticket, (client, attempt, String::new()));
                self.group.join(self.now, ticket, join, &mut out);
                self.holders.extend(self.group.instances.clone());
            }
            Asked::Sync(sync) => {
                let owner = sync.who.instance_id.clone().unwrap_or_else(|| sync.who.member_id.clone());
                self.waiting.insert(ticket, (client, attempt, owner));
                self.group.sync(self.now, ticket, sync, &mut out);
            }
            Asked::Heartbeat(who) => {
                let answer = self.group.heartbeat(self.now, &who);
                self.send(Message::ToClient(client, attempt, Told::Heartbeat(answer)));
            }
            Asked::Leave(who) => drop(self.group.leave(self.now, &[who], &mut out)),
            Asked::Commit(who) => {
                let answer = self.group.may_commit(self.now, &who);
                if answer.is_ok() && who.generation >= 0 {
                    self.commits += 1;
                    self.check_commit(&who);
                }
                self.send(Message::ToClient(client, attempt, Told::Heartbeat(answer)));
            }
            Asked::CommitInTransaction(who, number, partitions) => {
                self.ask_in_transaction(client, attempt, who, number_of(client, number), partitions);
            }
            Asked::End(number, commits) => self.transacted.decide(number_of(client, number), commits),
        }
        self.perform(out);
    }

    /// What must hold of a commit that is taken.
    fn check_commit(&mut self, who: &Claimed) {
        if who.generation != self.told {
            self.violated(format!("a commit of generation {} is taken in {}", who.generation, self.told));
        }
        let holder = who.instance_id.as_ref().and_then(|instance| self.holders.get(instance));
        if holder.is_some_and(|holder| *holder != who.member_id) {
            self.violated(format!("a commit of {} is taken, whose place {holder:?} has", who.member_id));
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Joined(ticket, answer) => {
                    if let Ok(joined) = &answer {
                        if joined.generation < self.told {
                            self.violated(format!("generation {} comes after {}", joined.generation, self.told));
                        }
                        self.told = joined.generation;
                    }
                    self.tell(ticket, Told::Joined(answer));
                }
                Effect::Synced(ticket, answer) => {
                    if let (Ok(synced), Some((_, _, owner))) = (&answer, self.waiting.get(&ticket)) {
                        let (owner, assignment) = (owner.clone(), synced.assignment.clone());
                        self.hand_out(&owner, &assignment);
                    }
                    self.tell(ticket, Told::Synced(answer));
                }
                Effect::Save(stamp, membership) => {
                    let due = self.now + self.dice.below(200);
                    let due = self.saving.last().map_or(due, |(last, ..)| due.max(*last));
                    self.saving.push((due, stamp, membership));
                }
            }
        }
    }

    fn hand_out(&mut self, owner: &str, assignment: &Bytes) {
        self.handed_out += 1;
        let generation = self.group.generation;
        for partition in assignment.iter().copied() {
            let given = self.given.entry((generation, partition)).or_insert_with(|| owner.to_owned());
            if given != owner {
                let what = format!("{partition} is given to {given} and to {owner} in generation {generation}");
                self.violated(what);
            }
        }
    }

    fn tell(&mut self, ticket: Ticket, told: Told) {
        match self.waiting.remove(&ticket) {
            Some((client, attempt, _)) => self.send(Message::ToClient(client, attempt, told)),
            None => self.violated(format!("{ticket:?} is answered twice")),
        }
    }

    fn save(&mut self, stamp: Stamp, membership: Membership) {
        let fails = self.is_restless && self.dice.once_in(20);
        if !fails {
            let former = self.durable.as_ref().map_or(0, |saved| saved.generation);
            if membership.generation < former {
                self.violated(format!("generation {} is saved after {former}", membership.generation));
            }
            self.durable = Some(membership);
        }
        let outcome = if fails { Err(ResponseError::CoordinatorNotAvailable) } else { Ok(()) };
        let mut out = Vec::new();
        self.group.saved(self.now, stamp, outcome, &mut out);
        self.perform(out);
    }

    /// What holds once the world has been calm for long.
    fn check_calm(&mut self) {
        let mut wrong = Vec::new();
        let mut owned = BTreeMap::<u8, String>::new();
        let living: Vec<&Client> = self.clients.iter().filter(|client| client.is_alive()).collect();
        for client in &living {
            match client.assigned() {
                Some((generation, assignment)) if generation == self.group.generation => {
                    for partition in assignment.iter().copied() {
                        if let Some(other) = owned.insert(partition, client.owner()) {
                            wrong.push(format!("{partition} belongs to {other} and {}", client.owner()));
                        }
                    }
                }
                other => wrong.push(format!("{} has {other:?} in the end", client.owner())),
            }
        }
        if !living.is_empty() && owned.len() != usize::from(PARTITIONS) {
            wrong.push(format!("only {:?} belong to somebody alive", owned.keys()));
        }
        if self.group.members().count() != living.len() {
            wrong.push(format!("{} members for {} that live", self.group.members().count(), living.len()));
        }
        if !self.waiting.is_empty() {
            wrong.push(format!("{} wait for an answer in the end", self.waiting.len()));
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}
