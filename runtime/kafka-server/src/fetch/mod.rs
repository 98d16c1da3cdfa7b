//! Fetch: batches as they are stored, at once or as soon as there are enough of them.

mod following;
mod growth;
mod reading;
mod response;
pub(crate) mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Bounds, Isolation, Topic, TopicId, TopicPartition, Watch, Watcher};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::broker::Broker;
use crate::call::{Broken, Call, Caller, Reply, Wrong};
use crate::security::principal::Principal;
use crate::security::rights::Operation;

use following::{Following, Named};
use growth::Growth;
use reading::{Read, Reading};
use response::OfTopic;

/// The first version that names topics by their ids.
const IDS_SINCE: i16 = 13;
/// The most that an answer holds, whatever a client asks for: as Kafka's `fetch.max.bytes`.
pub(crate) const MOST_BYTES: usize = 55 << 20;
/// The longest that a fetch waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a fetch that wants more than any byte lets bytes gather before it looks again.
const GATHERING: Duration = Duration::from_millis(5);
/// The isolation level of clients that want no records of open or aborted transactions.
const READ_COMMITTED: i8 = 1;

/// What a session follows.
#[derive(Default)]
pub(crate) struct Followed {
    partitions: Following<Seen>,
    growth: Arc<Growth>,
    /// Whether the log tells of growth: not where the first look may be the only one.
    is_watched: bool,
    /// Who was answered last.
    answered: Option<Principal>,
}

/// A partition as it was seen last.
#[derive(Default)]
struct Seen {
    watch: Option<(TopicId, Watch)>,
}

/// Whether a fetch goes on where the client's last one was.
enum Kind {
    /// It names all its partitions, and is the only one.
    Alone,
    /// It names all its partitions, and would not name them again.
    First,
    /// It names what changes.
    Next(i32),
}

/// A fetch under way.
struct Fetch {
    broker: Arc<Broker>,
    call: Call,
    kind: Kind,
    /// There until the answer is made; a session whose fetch is dropped before is given up.
    followed: Followed,
    isolation: Isolation,
    most: usize,
    least: usize,
    due: Instant,
    size: usize,
    readings: BTreeMap<u32, Reading>,
    /// What was read, in the order in which it was looked at.
    turns: Vec<u32>,
    room: Option<OwnedSemaphorePermit>,
    /// Topics that were looked up in this round.
    topics: HashMap<Named, Result<Topic, Wrong>>,
}

/// The answer.
pub(crate) async fn answer(broker: Arc<Broker>, call: Call) -> Result<Reply, Broken> {
    let request: FetchRequest = call.decode()?;
    let due = Instant::now() + LONGEST_WAIT.min(Duration::from_millis(request.max_wait_ms.max(0) as u64));
    let isolation = isolation(request.isolation_level);
    let most = (request.max_bytes.max(0) as usize).min(MOST_BYTES).min(call.caller.fetches_at_once());
    let least = (request.min_bytes.max(0) as usize).min(most);
    let (kind, followed) = match begin(&broker, request, &call.caller) {
        Ok(begun) => begun,
        Err(error) => return call.reply(&FetchResponse::default().with_error_code(error.code())),
    };
    let (readings, turns, room, topics) = (BTreeMap::new(), Vec::new(), None, HashMap::new());
    let mut fetch =
        Fetch { broker, call, kind, followed, isolation, most, least, due, size: 0, readings, turns, room, topics };
    fetch.read().await?;
    // Nobody is told what it may not read any more.
    while fetch.call.caller.look_again()? {
        fetch.begin_again();
        fetch.read().await?;
    }
    fetch.answer()
}

/// What a client wants to see of transactions.
pub(crate) fn isolation(level: i8) -> Isolation {
    if level == READ_COMMITTED { Isolation::Committed } else { Isolation::Uncommitted }
}

/// What a fetch follows, as its session has it or as it says itself.
fn begin(broker: &Broker, request: FetchRequest, caller: &Caller) -> Result<(Kind, Followed), ResponseError> {
    let by_id = caller.version >= IDS_SINCE;
    let (id, epoch) = (request.session_id, request.session_epoch);
    let mut all = broker.sessions.lock();
    let (kind, mut followed) = match epoch {
        sessions::FIRST | sessions::LAST => {
            // Who names all partitions does not go on with what it had.
            all.close(id);
            (if epoch == sessions::FIRST { Kind::First } else { Kind::Alone }, Followed::default())
        }
        _ => (Kind::Next(id), all.take(id, epoch, by_id, broker.edge.now())?),
    };
    drop(all);
    followed.is_watched |= matches!(kind, Kind::First);
    followed.partitions.update(request.topics, request.forgotten_topics_data, by_id);
    if followed.answered.as_ref().is_some_and(|before| !before.has_rights_of(&caller.principal)) {
        // Also of those that have not moved it is told what it may not read any more.
        followed.partitions.all_moved();
    }
    Ok((kind, followed))
}

impl Fetch {
    /// Reads until there is enough, something is wrong, or the time is over; unless the client is not known any more.
    async fn read(&mut self) -> Result<(), Broken> {
        loop {
            self.topics.clear();
            for mark in self.followed.growth.take() {
                self.followed.partitions.moved(mark);
            }
            let mut is_full = false;
            for mark in self.followed.partitions.take_due() {
                is_full |= self.look(mark).await;
            }
            let has_failed = || self.readings.values().any(Reading::has_failed);
            let is_enough = self.size >= self.least || self.size >= self.most || is_full || has_failed();
            if is_enough || self.followed.partitions.len() == 0 || Instant::now() >= self.due {
                return Ok(());
            }
            if self.followed.partitions.has_due() {
                continue;
            }
            if !std::mem::replace(&mut self.followed.is_watched, true) {
                // Looked at once more, since it may have grown before it was watched.
                self.followed.partitions.all_moved();
                continue;
            }
            tokio::select! {
                grown = timeout_at(self.due, self.followed.growth.wait()) => if grown.is_err() {
                    return Ok(());
                },
                () = self.call.caller.session.changed() => if self.call.caller.look_again()? {
                    self.begin_again();
                    continue;
                },
            }
            if self.least > 1 {
                // Whoever wants many bytes is not woken for each few of them.
                sleep_until(self.due.min(Instant::now() + GATHERING)).await;
            }
        }
    }

    /// Begins again with nothing, for a client that may do something else now.
    fn begin_again(&mut self) {
        self.readings.clear();
        self.turns.clear();
        self.room = None;
        self.size = 0;
        self.most = self.most.min(self.call.caller.fetches_at_once());
        self.least = self.least.min(self.most);
        self.followed.partitions.all_moved();
    }

    /// Reads on in one partition; whether there is more than the answer may hold.
    async fn look(&mut self, mark: u32) -> bool {
        let Some(followed) = self.followed.partitions.get(mark) else { return false };
        let (partition, wanted) = (followed.partition, followed.wanted);
        let mut reading = self.readings.remove(&mark).unwrap_or_else(|| {
            self.turns.push(mark);
            Reading::new(partition, wanted.offset, self.isolation)
        });
        let read = match self.opened(mark).await {
            Ok((of, bounds)) => {
                let most = self.most.saturating_sub(self.size).min(wanted.most.saturating_sub(reading.size));
                let at_least_one = self.size == 0;
                reading.read(&self.broker, &of, bounds, most, &mut self.room, at_least_one).await
            }
            Err(wrong) => {
                reading.fail(wrong.error);
                Read::Nothing
            }
        };
        if let Read::Some(size) = read {
            self.size += size;
            if reading.has_more() {
                self.followed.partitions.moved(mark);
            }
        }
        self.readings.insert(mark, reading);
        matches!(read, Read::Full)
    }

    /// A partition that is followed, and where it begins and ends.
    async fn opened(&mut self, mark: u32) -> Result<(TopicPartition, Bounds), Wrong> {
        let gone = || Wrong::from(ResponseError::UnknownTopicOrPartition);
        let followed = self.followed.partitions.get(mark).ok_or_else(gone)?;
        let (named, partition, epoch) = (followed.topic.clone(), followed.partition, followed.wanted.epoch);
        let topic = self.topic(named).await?;
        let followed = self.followed.partitions.get_mut(mark).ok_or_else(gone)?;
        let is_seen = followed.state.watch.as_ref().is_some_and(|(id, _)| *id == topic.id);
        if self.followed.is_watched && !is_seen && (0..topic.partitions).contains(&partition) {
            let of = TopicPartition::new(topic.name.clone(), partition);
            let watcher: Arc<dyn Watcher> = self.followed.growth.clone();
            followed.state.watch = Some((topic.id, self.broker.store.watch(&of, &watcher, mark)?));
        }
        self.broker.bounds(&topic, partition, epoch).await
    }

    async fn topic(&mut self, named: Named) -> Result<Topic, Wrong> {
        if let Some(found) = self.topics.get(&named) {
            return found.clone();
        }
        let access = self.call.caller.to(Operation::Read);
        let found = match &named {
            Named::Name(name) => self.broker.named(access, name, Uuid::nil(), false).await,
            Named::Id(id) => self.broker.named(access, "", *id, true).await,
        };
        self.topics.insert(named, found.clone());
        found
    }

    /// What the client is told, and what its next fetch goes on with.
    fn answer(mut self) -> Result<Reply, Broken> {
        let held = self.hold();
        let moved = self.followed.partitions.take_due();
        let mut readings = std::mem::take(&mut self.readings);
        let has_records = |mark: &u32| readings.get(mark).is_some_and(|reading| reading.size > 0);
        let (with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut self.turns).into_iter().partition(has_records);
        // Those that had no room now come first next time, in their turn, and those that had it last.
        let others: Vec<_> = moved.iter().copied().filter(|mark| !readings.contains_key(mark)).collect();
        let mut told = BTreeMap::new();
        for mark in without.into_iter().chain(others).chain(with).chain(moved) {
            let Some(reading) = readings.remove(&mark) else {
                self.followed.partitions.moved(mark);
                continue;
            };
            let is_news = self.followed.partitions.found(mark, reading.outcome());
            if is_news || !matches!(self.kind, Kind::Next(_)) {
                told.insert(mark, reading);
            }
        }
        let topics = self.by_topic(told);
        let response = FetchResponse::default().with_session_id(self.keep()).with_throttle_time_ms(held);
        let pieces = response::pieces(&self.call, &response, topics)?;
        Ok(Reply::Pieces(pieces, self.room.take()))
    }

    /// For how many milliseconds the client is held back: it is told nothing then, and of no session that would begin, as in Kafka
    /// (KIP-219); what was found for it is looked at again.
    fn hold(&mut self) -> i32 {
        let Err(held) = self.call.caller.fetched(self.size) else { return 0 };
        self.readings.clear();
        self.room = None;
        let moved = self.followed.partitions.take_due();
        for mark in self.turns.drain(..).chain(moved) {
            self.followed.partitions.moved(mark);
        }
        if matches!(self.kind, Kind::First) {
            self.kind = Kind::Alone;
        }
        held
    }

    fn by_topic(&self, told: BTreeMap<u32, Reading>) -> Vec<OfTopic> {
        let mut places: HashMap<&Named, usize> = HashMap::new();
        let mut topics: Vec<OfTopic> = Vec::new();
        for (mark, Reading { response, records, .. }) in told {
            let Some(followed) = self.followed.partitions.get(mark) else { continue };
            let place = *places.entry(&followed.topic).or_insert_with(|| {
                topics.push((followed.topic.clone(), Vec::new()));
                topics.len() - 1
            });
            topics[place].1.push((response, records));
        }
        topics
    }

    /// Keeps what is followed for the next fetch, and says under which session.
    fn keep(&mut self) -> i32 {
        let mut followed = std::mem::take(&mut self.followed);
        followed.answered = Some(self.call.caller.principal.clone());
        let size = followed.partitions.len();
        let mut all = self.broker.sessions.lock();
        match std::mem::replace(&mut self.kind, Kind::Alone) {
            Kind::Alone => sessions::NONE,
            Kind::First => {
                let (by_id, now) = (self.call.caller.version >= IDS_SINCE, self.broker.edge.now());
                let chance = self.broker.edge.chance.bits() as i32;
                all.open(chance, by_id, size, now, followed).unwrap_or(sessions::NONE)
            }
            Kind::Next(id) if all.give_back(id, size, followed) => id,
            Kind::Next(_) => sessions::NONE,
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        // Nobody was told what it found: the client begins anew.
        if let Kind::Next(id) = self.kind {
            self.broker.sessions.lock().close(id);
        }
    }
}

#[cfg(test)]
mod tests;
