//! What a source reads, and what its transforms make of it: records by topic, and those that are unfit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{
    DeadLetter, Done, Draft, Error, Incoming, POSITION_HEADER, Position, REPLAYED_HEADER, Result, Source, Stream,
    Topic, TopicSettings, Transformed, Unfit,
};
use aqueduct_record::{Batch, BatchBuilder, Compression, Header, Record};
use tokio::time::Instant;

use crate::check::kafka_name;
use crate::early::{EarlyLetters, Fingerprint};
use crate::host::Host;
use crate::ingest::{HEADER_ROOM, SourceRun};
use crate::transforms::{self, Transforms};

/// A source with what its records go through.
pub(crate) struct Intake {
    source: Box<dyn Source>,
    transforms: Transforms,
    /// The source's own.
    topic: Topic,
    topics: Topics,
    run: Arc<SourceRun>,
    /// Dead letters of what is to be read again, by stream: only of those that have some.
    early: HashMap<String, EarlyLetters>,
    /// What was read and did not get through yet.
    waiting: Option<Incoming>,
}

/// What became of an [`Incoming`].
pub(crate) struct Passed {
    pub(crate) stream: Arc<Stream>,
    pub(crate) position: Option<Position>,
    pub(crate) last: bool,
    /// How much of the stream it is: how many records and dead letters of the source's own. Nothing without transforms.
    pub(crate) read: u64,
    /// Why it is to be read again in smaller batches: nothing of it goes on.
    pub(crate) too_many: Option<String>,
    /// Where `records` go.
    pub(crate) topic: Topic,
    /// The partition that was chosen for them.
    pub(crate) partition: Option<i32>,
    pub(crate) records: BatchBuilder,
    /// What goes to other topics than the source's own, where it carries no position.
    pub(crate) elsewhere: Vec<(Topic, BatchBuilder)>,
    /// The stream's dead letters whose records are still to be read again after these.
    pub(crate) early: EarlyLetters,
    /// Records that nothing can be made of: as they were read, and which, ascending by their place. Not those that have a dead
    /// letter from an earlier time.
    pub(crate) unfit: Option<(Batch, Vec<Unfit>)>,
    pub(crate) dead_letter: Option<DeadLetter>,
    pub(crate) done: Option<Done>,
}

impl Intake {
    pub(crate) fn new(
        run: &Arc<SourceRun>,
        source: Box<dyn Source>,
        topic: Topic,
        (transforms, early): (Transforms, HashMap<String, EarlyLetters>),
    ) -> Intake {
        let letters = run.plan.dead_letters.topic(&run.name);
        let topics = Topics { host: run.host.clone(), letters, there: BTreeMap::new(), looked: None };
        Intake { source, transforms, topic, topics, run: run.clone(), early, waiting: None }
    }

    /// What the source reads next, through its transforms. After a failure the next call goes on where this one was.
    pub(crate) async fn read(&mut self) -> Result<Option<Passed>> {
        loop {
            if self.waiting.is_none() {
                self.waiting = self.source.read().await?;
            }
            let Some(incoming) = &self.waiting else { return Ok(None) };
            let topic = match &incoming.topic {
                Some(name) if *name != self.topic.name => self.topics.find(name).await?,
                _ => Ok(self.topic.clone()),
            };
            match (topic, incoming.partition) {
                (Err(reason), _) => self.refuse(&reason)?,
                (Ok(topic), Some(partition)) if !(0..topic.partitions).contains(&partition) => {
                    self.refuse(&format!("topic {} has no partition {partition}", topic.name))?;
                }
                (Ok(topic), _) => return self.pass(topic).await,
            }
        }
    }

    /// What asks for a place that there is not is not taken; whoever sent it hears so.
    fn refuse(&mut self, reason: &str) -> Result<()> {
        let Some(incoming) = self.waiting.take() else { return Ok(()) };
        let Some(done) = incoming.done else {
            return Err(Error::fatal(format!("{}: {reason}", incoming.stream.id)));
        };
        done.not_taken(Error::refused(reason.to_owned()));
        tracing::warn!(source = self.run.name, stream = incoming.stream.id, reason, "records are not taken");
        self.run.counters.failed(reason.to_owned());
        Ok(())
    }

    async fn pass(&mut self, topic: Topic) -> Result<Option<Passed>> {
        let Some(incoming) = &self.waiting else { return Ok(None) };
        let mut early = self.early.get(&incoming.stream.id).cloned().unwrap_or_default();
        let made = match self.transforms.is_empty() || incoming.records.is_empty() {
            true => None,
            false => {
                let batch = incoming.records.clone().compressed(Compression::None).finish();
                let dead = buried(&batch, &mut early)?;
                if !dead.is_empty() {
                    let (source, stream, records) = (&self.run.name, &incoming.stream.id, dead.len());
                    tracing::info!(%source, stream, records, "records that have a dead letter already stay dead");
                }
                Some(made(&self.transforms, &mut self.topics, &topic, (batch, &dead)).await?)
            }
        };
        let Some(incoming) = self.waiting.take() else { return Ok(None) };
        let read = incoming.records.count();
        let passed = u64::from(read) + u64::from(incoming.dead_letter.is_some());
        // After its last records a stream is never read again.
        let letters = early.pass(if incoming.last { u64::MAX } else { passed });
        if letters > 0 {
            let (source, stream) = (&self.run.name, &incoming.stream.id);
            tracing::warn!(%source, stream, letters, "records that have dead letters were not read again: the letters stay");
        }
        self.early.remove(&incoming.stream.id);
        if !early.is_empty() {
            self.early.insert(incoming.stream.id.clone(), early.clone());
        }
        let Made { records, elsewhere, unfit } = match made {
            Some(made) => made,
            None => Made { records: honest(incoming.records)?, elsewhere: Vec::new(), unfit: None },
        };
        // A position rides with one batch, so only the source can cut what it reads into smaller parts.
        let is_too_many =
            incoming.position.is_some() && read > 1 && !self.transforms.is_empty() && !fits(&records, &topic);
        let too_many = is_too_many && self.run.counters.make_smaller();
        Ok(Some(Passed {
            too_many: too_many.then(|| {
                let (made, most) = (records.size(), topic.settings.max_batch);
                format!(
                    "transforms make {made} bytes of {read} records, and a batch of topic {} has {most} at most: they are read again \
                     in smaller batches",
                    topic.name
                )
            }),
            stream: incoming.stream,
            position: incoming.position,
            last: incoming.last,
            read: if self.transforms.is_empty() { 0 } else { passed },
            topic,
            partition: incoming.partition,
            records,
            elsewhere,
            early,
            unfit,
            dead_letter: incoming.dead_letter,
            done: incoming.done,
        }))
    }
}

struct Made {
    records: BatchBuilder,
    elsewhere: Vec<(Topic, BatchBuilder)>,
    unfit: Option<(Batch, Vec<Unfit>)>,
}

/// The places of records that have a dead letter from an earlier time, which are taken out of `early`. They stay dead, also where
/// something could be made of them by now: what was written then is there.
fn buried(batch: &Batch, early: &mut EarlyLetters) -> Result<BTreeSet<usize>> {
    let mut dead = BTreeSet::new();
    if early.is_empty() || mutated(Mutant::LetterForgotten) {
        return Ok(dead);
    }
    for (place, record) in batch.records().map_err(Error::fatal)?.iter().enumerate() {
        let record = record.map_err(Error::fatal)?;
        let headers = record.headers.without(POSITION_HEADER);
        if early.take(&Fingerprint::of(record.key, record.value, headers.iter()), place) {
            dead.insert(place);
        }
    }
    Ok(dead)
}

/// What transforms make of a batch on its way to a topic, but for what is dead already.
async fn made(
    transforms: &Transforms,
    topics: &mut Topics,
    topic: &Topic,
    (batch, dead): (Batch, &BTreeSet<usize>),
) -> Result<Made> {
    let read = batch.records().map_err(Error::fatal)?;
    let mut drafts = Vec::with_capacity(batch.count() as usize);
    for (place, record) in read.iter().enumerate().filter(|(place, _)| !dead.contains(place)) {
        let record = record.map_err(Error::fatal)?;
        let headers = record.headers.without(POSITION_HEADER);
        let record = Record { offset: place as i64, headers, ..record };
        drafts.push(Draft::of(&record, &topic.name, None));
    }
    let Transformed { mut drafts, mut unfit } = transforms.apply(drafts).await?;
    let targets = targets(topics, topic, &mut drafts, &mut unfit).await?;
    refuse_too_large(&mut drafts, (topic, &targets), &mut unfit);
    let mut records = BatchBuilder::with_capacity(batch.size());
    let mut elsewhere: BTreeMap<&str, (&Topic, Vec<BatchBuilder>)> = BTreeMap::new();
    for draft in &drafts {
        match targets.get(&*draft.topic) {
            None => transforms::push(&mut records, draft),
            Some(target) => {
                let (_, builders) = elsewhere.entry(&target.name).or_insert_with(|| (target, Vec::new()));
                let is_full = |builder: &BatchBuilder| builder.size() + size(draft) > room(target);
                if builders.last().is_none_or(is_full) {
                    builders.push(BatchBuilder::new());
                }
                if let Some(builder) = builders.last_mut() {
                    transforms::push(builder, draft);
                }
            }
        }
    }
    let parts = |(topic, builders): (&Topic, Vec<BatchBuilder>)| {
        builders.into_iter().map(|builder| (topic.clone(), builder)).collect::<Vec<_>>()
    };
    let elsewhere = elsewhere.into_values().flat_map(parts).collect();
    drop(drafts);
    let unfit = (!unfit.is_empty()).then(|| (batch.clone(), unfit));
    Ok(Made { records, elsewhere, unfit })
}

/// The topics that drafts are sent to, other than the one that they come for. What is sent where no record may go is
/// unfit.
async fn targets<'a>(
    topics: &mut Topics,
    topic: &Topic,
    drafts: &mut Vec<Draft<'a>>,
    unfit: &mut Vec<Unfit>,
) -> Result<BTreeMap<String, Topic>> {
    let names: BTreeSet<Cow<'a, str>> =
        drafts.iter().map(|draft| &draft.topic).filter(|name| ***name != *topic.name).cloned().collect();
    let mut targets = BTreeMap::new();
    for name in names {
        match topics.find(&name).await? {
            Ok(target) => drop(targets.insert(name.into_owned(), target)),
            Err(reason) => {
                let sent = drafts.iter().filter(|draft| draft.topic == name);
                unfit.extend(sent.map(|draft| Unfit { offset: draft.offset, reason: reason.clone(), for_now: false }));
            }
        }
    }
    unfit.sort_by_key(|unfit| unfit.offset);
    unfit.dedup_by_key(|unfit| unfit.offset);
    drafts.retain(|draft| unfit.binary_search_by_key(&draft.offset, |unfit| unfit.offset).is_err());
    Ok(targets)
}

/// How large records may be in a batch of a topic, with a position.
fn room(topic: &Topic) -> usize {
    let most = topic.settings.max_batch.0;
    usize::try_from(most - HEADER_ROOM.min(most / 4)).unwrap_or(usize::MAX)
}

/// Whether a topic takes a batch of these records.
fn fits(records: &BatchBuilder, topic: &Topic) -> bool {
    let room = room(topic);
    records.size() <= room
        || match topic.settings.compression {
            Compression::None => false,
            compression => records.clone().compressed(compression).finish().size() <= room,
        }
}

/// What a draft adds to a batch, at the most.
fn size(draft: &Draft<'_>) -> usize {
    const FRAME: usize = 40;
    let of = |bytes: &Option<Cow<'_, [u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers = draft.headers.iter().map(|(name, value)| name.len() + of(value) + FRAME).sum::<usize>();
    FRAME + of(&draft.key) + of(&draft.value) + headers
}

/// Takes out what is too large for any batch of where it goes: what it was made of is unfit.
fn refuse_too_large(
    drafts: &mut Vec<Draft<'_>>,
    (topic, targets): (&Topic, &BTreeMap<String, Topic>),
    unfit: &mut Vec<Unfit>,
) {
    let before = unfit.len();
    for draft in drafts.iter() {
        let to = targets.get(&*draft.topic).unwrap_or(topic);
        if size(draft) + Header::LEN <= room(to) {
            continue;
        }
        let mut alone = BatchBuilder::new();
        transforms::push(&mut alone, draft);
        if !fits(&alone, to) {
            let (made, most) = (alone.size(), to.settings.max_batch);
            let reason = format!("becomes {made} bytes, and a batch of topic {} has {most} at most", to.name);
            unfit.push(Unfit { offset: draft.offset, reason, for_now: false });
        }
    }
    if unfit.len() > before {
        unfit.sort_by_key(|unfit| unfit.offset);
        unfit.dedup_by_key(|unfit| unfit.offset);
        drafts.retain(|draft| unfit.binary_search_by_key(&draft.offset, |unfit| unfit.offset).is_err());
    }
}

/// Records without headers that claim to be the runtime's.
fn honest(records: BatchBuilder) -> Result<BatchBuilder> {
    let ours = [POSITION_HEADER, REPLAYED_HEADER];
    if ours.iter().all(|name| memchr::memmem::find(records.bytes(), name.as_bytes()).is_none()) {
        return Ok(records);
    }
    let batch = records.compressed(Compression::None).finish();
    let mut honest = BatchBuilder::with_capacity(batch.size());
    for record in batch.records().map_err(Error::fatal)?.iter() {
        let record = record.map_err(Error::fatal)?;
        let delta = (record.offset - batch.base_offset()) as i32;
        let headers: Vec<_> = record.headers.iter().filter(|(name, _)| !ours.contains(name)).collect();
        honest.push_at(delta, record.timestamp, record.key, record.value, &headers);
    }
    Ok(honest)
}

/// The topics that records may go to.
struct Topics {
    host: Arc<Host>,
    /// That of the source's own dead letters, also while it is not there.
    letters: Option<String>,
    there: BTreeMap<Arc<str>, Topic>,
    looked: Option<Instant>,
}

impl Topics {
    /// How long the answer stays good: topics are given partitions, or become dead-letter topics.
    const FRESH: Duration = Duration::from_secs(1);

    /// The topic of that name; where there is none it is made with defaults. An answer says why records can not go there.
    async fn find(&mut self, name: &str) -> Result<Result<Topic, String>> {
        if let Err(reason) = kafka_name(name, 249) {
            return Ok(Err(format!("topic: {reason}")));
        }
        if self.letters.as_deref() == Some(name) {
            return Ok(Err(format!("topic {name} is one of dead letters")));
        }
        if self.looked.is_none_or(|looked| looked.elapsed() > Topics::FRESH) || !self.there.contains_key(name) {
            self.look().await?;
        }
        if !self.there.contains_key(name) {
            tracing::info!(topic = name, "a topic is made for records that are sent there");
            let made = self.host.store.create(name, 1, &TopicSettings::default()).await;
            self.look().await?;
            if !self.there.contains_key(name) {
                made.map_err(|error| error.context(format!("make topic {name}")))?;
            }
        }
        match self.there.get(name) {
            Some(topic) if topic.settings.dead_letters => Ok(Err(format!("topic {name} is one of dead letters"))),
            Some(topic) => Ok(Ok(topic.clone())),
            None => Err(Error::retry(format!("topic {name} is not there"))),
        }
    }

    async fn look(&mut self) -> Result<()> {
        let topics = self.host.store.topics().await?;
        self.there = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        self.looked = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_claim_to_be_the_runtimes_are_taken_away() {
        let mut records = BatchBuilder::new();
        records.push(5, Some(b"k"), Some(b"v"), &[("a", Some(b"1")), (POSITION_HEADER, Some(b"[]")), ("b", None)]);
        records.push(5, None, None, &[(REPLAYED_HEADER, Some(b"{}")), ("c", None)]);
        records.push(6, None, Some(b"aqueduct.position"), &[]);
        let mut expected = BatchBuilder::new();
        expected.push(5, Some(b"k"), Some(b"v"), &[("a", Some(b"1")), ("b", None)]);
        expected.push(5, None, None, &[("c", None)]);
        expected.push(6, None, Some(b"aqueduct.position"), &[]);
        assert_eq!(honest(records).unwrap().finish(), expected.finish());
    }
}
