//! A simulated world around transactions: producers that crash, pause and are replaced, messages that are late or lost, writes
//! that take time and fail, and a coordinator that dies at any of them, all from one seed.

mod invariants;

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_api::TopicPartition;
use kafka_protocol::ResponseError;

use super::clients::{Asked, Client};
use super::log::{Log, name};
use crate::transactions::entry::{Entry, State};
use crate::transactions::request::{Answer, Effect, Millis, Outcome, Ticket, Who};
use crate::transactions::transaction::Transaction;
use crate::worlds::Dice;

const IDS: usize = 2;
/// How long everybody does what they like.
const UNREST: Millis = 120_000;
/// How long nothing happens but what has to: more than the longest time-out.
const CALM: Millis = 60_000;
/// How long an id that nobody uses is remembered.
const EXPIRATION: Millis = 40_000;

/// What is on its way.
enum Message {
    ToServer(usize, u64, Asked),
    ToClient(usize, u64, Answer),
}

/// What is being written.
enum Writing {
    Save(usize, Option<Entry>),
    Mark(usize, Outcome, TopicPartition),
}

/// All of it.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Millis,
    machines: BTreeMap<usize, Transaction>,
    pub(super) log: Log,
    /// What is decided for good, until it is complete.
    decided: BTreeMap<usize, bool>,
    writing: Vec<(Millis, Writing)>,
    clients: Vec<Client>,
    waiting: BTreeMap<Ticket, (usize, u64)>,
    inits: BTreeSet<Ticket>,
    tickets: u64,
    on_the_way: BTreeMap<(Millis, u64), Message>,
    sent: u64,
    producer_ids: i64,
    numbers: u64,
    /// Who was given each transactional id last.
    owners: BTreeMap<usize, usize>,
    /// What each transaction came to, as its producer was told.
    told: BTreeMap<u64, bool>,
    /// How often it is looked for what takes too long, and when it is next.
    check: Millis,
    checks_at: Millis,
    is_restless: bool,
    pub(super) violations: Vec<String>,
    /// Transactions whose producers were told of a commit.
    pub(super) commits: usize,
    /// How often the coordinator has died while something was being written.
    pub(super) crashes: usize,
    /// How often an end came while a time-out was being saved, or a time-out was due while an end was.
    pub(super) races: usize,
}

/// Runs one seed.
pub(super) fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    while world.now < UNREST {
        world.disturb();
        let step = 5 + world.dice.below(60) as Millis;
        world.step(step);
    }
    world.is_restless = false;
    world.clients.iter_mut().for_each(Client::calm_down);
    while world.now < UNREST + CALM {
        let step = 50 + world.dice.below(200) as Millis;
        world.step(step);
    }
    world.check_calm();
    world
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let clients = (0..2 + dice.below(3) as usize).map(|n| Client::new(n % IDS, &mut dice)).collect();
        let mut world = World {
            dice,
            now: 0,
            machines: BTreeMap::new(),
            log: Log::new(),
            decided: BTreeMap::new(),
            writing: Vec::new(),
            clients,
            waiting: BTreeMap::new(),
            inits: BTreeSet::new(),
            tickets: 0,
            on_the_way: BTreeMap::new(),
            sent: 0,
            producer_ids: 0,
            numbers: 0,
            owners: BTreeMap::new(),
            told: BTreeMap::new(),
            check: 1,
            checks_at: 0,
            is_restless: true,
            violations: Vec::new(),
            commits: 0,
            crashes: 0,
            races: 0,
        };
        world.check += world.dice.below(1500) as Millis;
        if world.dice.once_in(3) {
            // Its epochs run out soon.
            let mut entry = Transaction::new(0, 0).entry().clone();
            (entry.epoch, world.producer_ids) = (i16::MAX - 1 - world.dice.below(4) as i16, 1);
            world.log.keep(0, Some(entry));
            world.load();
        }
        world
    }

    fn violated(&mut self, what: String) {
        self.violations.push(format!("{} ms: {what}", self.now));
    }

    fn disturb(&mut self) {
        if self.dice.once_in(100) {
            self.log.compact(&mut self.dice);
        }
        if self.dice.once_in(150) {
            self.crash();
        }
        if self.dice.once_in(40) {
            let which = self.dice.below(self.clients.len() as u64) as usize;
            self.clients[which].disturb(self.now, &mut self.dice);
            // Somebody is started in its place, whether or not it is still there.
            if self.clients.len() < 20 && self.dice.once_in(2) {
                let again = Client::new(self.clients[which].id, &mut self.dice);
                self.clients.push(again);
            }
        }
    }

    /// The coordinator dies, and another knows what is kept.
    fn crash(&mut self) {
        self.crashes += usize::from(!self.writing.is_empty());
        for (_, writing) in std::mem::take(&mut self.writing) {
            if self.dice.once_in(2) {
                match writing {
                    Writing::Save(id, entry) => self.log.keep(id, entry),
                    Writing::Mark(id, outcome, of) => self.mark(id, outcome, &of),
                }
            }
        }
        self.waiting.clear();
        self.inits.clear();
        // Connections break.
        self.on_the_way.clear();
        self.clients.iter_mut().for_each(Client::disconnected);
        self.load();
    }

    fn load(&mut self) {
        self.machines.clear();
        self.decided.clear();
        let (entries, wrong) = self.log.load();
        wrong.into_iter().for_each(|what| self.violated(what));
        for (id, entry) in entries {
            if let Some(commits) = entry.state.decided() {
                self.decided.insert(id, commits);
            }
            let mut out = Vec::new();
            let mut machine = Transaction::load(entry);
            machine.resume(self.now, &mut out);
            self.machines.insert(id, machine);
            self.perform(id, out);
        }
    }

    fn step(&mut self, millis: Millis) {
        self.now += millis;
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            match entry.remove() {
                Message::ToServer(client, attempt, asked) => self.ask(client, attempt, asked),
                Message::ToClient(client, attempt, answer) => {
                    let told = self.clients[client].hear(self.now, attempt, answer, &mut self.dice);
                    if let Some((number, commits)) = told {
                        self.told.insert(number, commits);
                        self.commits += usize::from(commits);
                    }
                }
            }
        }
        while let Some(at) = self.writing.iter().position(|(due, _)| *due <= self.now) {
            let (_, writing) = self.writing.remove(at);
            self.write(writing);
        }
        if self.checks_at <= self.now {
            self.checks_at = self.now + self.check;
            self.expire();
        }
        for n in 0..self.clients.len() {
            if let Some(asked) = self.clients[n].act(self.now, &mut self.dice, &mut self.numbers) {
                let attempt = self.clients[n].attempt;
                self.send(Message::ToServer(n, attempt, asked));
            }
        }
    }

    /// As the server does it from time to time.
    fn expire(&mut self) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            let ends = self.is_saving(id, |state| state.decided().is_some());
            let Some(machine) = self.machines.get_mut(&id) else { continue };
            let entry = machine.entry();
            let is_late = entry.state == State::Ongoing && entry.started + i64::from(entry.timeout) <= self.now;
            self.races += usize::from(is_late && ends);
            let mut out = Vec::new();
            machine.expire(self.now, EXPIRATION, &mut out);
            self.perform(id, out);
        }
    }

    /// Whether something of an id is being saved that is in such a state.
    fn is_saving(&self, id: usize, state: impl Fn(State) -> bool) -> bool {
        self.writing.iter().any(|(_, writing)| match writing {
            Writing::Save(of, entry) => *of == id && entry.as_ref().is_some_and(|entry| state(entry.state)),
            Writing::Mark(..) => false,
        })
    }

    fn send(&mut self, message: Message) {
        if self.is_restless && self.dice.once_in(60) {
            return;
        }
        let slow = self.is_restless && self.dice.once_in(25);
        let delay = self.dice.below(if slow { 8000 } else { 30 }) as Millis;
        self.sent += 1;
        self.on_the_way.insert((self.now + delay, self.sent), message);
    }

    fn fresh(&mut self) -> i64 {
        self.producer_ids += 1;
        self.producer_ids - 1
    }

    fn ask(&mut self, client: usize, attempt: u64, asked: Asked) {
        let is_late = attempt != self.clients[client].attempt;
        let id = self.clients[client].id;
        if is_late && !matches!(asked, Asked::Init(_)) && !self.clients[client].survives_late() {
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, (client, attempt));
        let fresh = self.fresh();
        let now = self.now;
        let mut out = Vec::new();
        if let Asked::Init(_) = asked {
            self.inits.insert(ticket);
            self.machines.entry(id).or_insert_with(|| Transaction::new(fresh, now));
        }
        let is_aborting = self.is_saving(id, |state| state == State::PrepareAbort);
        let Some(machine) = self.machines.get_mut(&id) else {
            return self.answer(ticket, id, Err(ResponseError::InvalidProducerIdMapping));
        };
        match asked {
            Asked::Init(init) => {
                let fresh = machine.needs_id().then_some(fresh);
                machine.init(now, ticket, &init, fresh, &mut out);
            }
            Asked::Add(who, partitions) => {
                machine.add(now, ticket, who, &partitions.into_iter().map(name).collect(), &mut out);
            }
            Asked::End(end) => {
                self.races += usize::from(is_aborting);
                let fresh = machine.needs_id().then_some(fresh);
                machine.end(now, ticket, &end, fresh, &mut out);
            }
            Asked::Write(who, to, number) => {
                let answer = match machine.may_write(who, &name(to)) {
                    Ok(true) => self.append(client, who, to, number),
                    Ok(false) => Err(ResponseError::InvalidTxnState),
                    Err(error) => Err(error),
                };
                self.answer(ticket, id, answer);
            }
        }
        self.perform(id, out);
    }

    fn append(&mut self, client: usize, who: Who, to: u8, number: u64) -> Answer {
        let owner = self.owners.get(&self.clients[client].id).copied();
        if owner != Some(client) {
            self.violated(format!("{client} writes transaction {number}, and {owner:?} has the id"));
        }
        if self.log.fates.contains_key(&number) {
            self.violated(format!("transaction {number} has ended, and is written to"));
        }
        self.log.append(who, to, number)
    }

    fn answer(&mut self, ticket: Ticket, id: usize, answer: Answer) {
        let Some((client, attempt)) = self.waiting.remove(&ticket) else {
            return self.violated(format!("{ticket:?} is answered twice"));
        };
        if self.inits.remove(&ticket) && answer.is_ok() {
            self.owners.insert(id, client);
        }
        self.send(Message::ToClient(client, attempt, answer));
    }

    fn perform(&mut self, id: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => self.answer(ticket, id, answer),
                Effect::Save(entry) => {
                    let is_saving = |(_, writing): &(_, Writing)| matches!(writing, Writing::Save(of, _) if *of == id);
                    if self.writing.iter().any(is_saving) {
                        self.violated(format!("{id} is saved twice at once"));
                    }
                    let due = self.now + self.dice.below(100) as Millis;
                    self.writing.push((due, Writing::Save(id, entry)));
                }
                Effect::Mark(outcome, partitions) => {
                    for of in partitions {
                        let due = self.now + self.dice.below(200) as Millis;
                        self.writing.push((due, Writing::Mark(id, outcome, of)));
                    }
                }
            }
        }
    }

    fn write(&mut self, writing: Writing) {
        let fails = self.is_restless && self.dice.once_in(15);
        // What has failed may have reached the log all the same.
        let reaches = !fails || self.dice.once_in(3);
        let mut out = Vec::new();
        match writing {
            Writing::Save(id, entry) => {
                if reaches {
                    self.log.keep(id, entry.clone());
                }
                if !fails && let Some(entry) = &entry {
                    self.is_kept(id, entry);
                }
                let outcome = if fails { Err(ResponseError::CoordinatorNotAvailable) } else { Ok(()) };
                let Some(machine) = self.machines.get_mut(&id) else { return };
                machine.saved(self.now, outcome, &mut out);
                if machine.is_gone() {
                    self.machines.remove(&id);
                }
                self.perform(id, out);
            }
            Writing::Mark(id, outcome, of) => {
                if reaches {
                    self.mark(id, outcome, &of);
                }
                if fails {
                    return self.writing.push((self.now + 300, Writing::Mark(id, outcome, of)));
                }
                let Some(machine) = self.machines.get_mut(&id) else { return };
                machine.marked(self.now, &of, &mut out);
                self.perform(id, out);
            }
        }
    }
}
