//! What a source's streams have come to, and the batches that go on from there: dead letters first, then what goes to
//! other topics, and last, with the position inside, what goes to the stream's own partition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aqueduct_api::{DeadLetter, Error, POSITION_HEADER, Position, Result, Stream, Topic, TopicPartition, Unfit};
use aqueduct_record::{Batch, BatchBuilder, Compression, partition_for_key};

use crate::dead_letters::{DeadLetters, Original, Reason, Stage};
use crate::ingest::SourceRun;
use crate::intake::Passed;
use crate::placing::{Kind, Unplaced};
use crate::positions::{Known, Recovered};
use crate::rides;

/// The streams of one run of a source.
pub(crate) struct Streams {
    run: Arc<SourceRun>,
    /// The source's own topic.
    topic: Topic,
    dead_letters: Option<Arc<DeadLetters>>,
    /// What dead letters of unfit records are made by.
    made_by: String,
    /// By id; only those that have a position.
    known: HashMap<String, Known>,
    /// How much was read that somebody waits for who sends it again where it is lost.
    once: u64,
}

impl Streams {
    pub(crate) fn new(
        run: &Arc<SourceRun>,
        topic: Topic,
        dead_letters: Option<Arc<DeadLetters>>,
        made_by: String,
        found: Recovered,
    ) -> Self {
        Streams { run: run.clone(), topic, dead_letters, made_by, known: found.streams.into_iter().collect(), once: 0 }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.known.len() as u64
    }

    /// Makes batches of what was read, in the order in which they are placed.
    pub(crate) fn take(&mut self, mut passed: Passed) -> Result<VecDeque<Unplaced>> {
        let stream = passed.stream.clone();
        let is_positioned = passed.position.is_some();
        let is_once = passed.done.is_some() && !is_positioned && !passed.last;
        let mut known = self.know(&stream, is_positioned || passed.last);
        let own = self.own_partition(&stream, &known);
        if let Some(known) = &mut known {
            known.stream = stream.clone();
            known.partition = Some(own.clone());
            known.sequence += u64::from(is_positioned);
            known.read += passed.read;
            known.early = std::mem::take(&mut passed.early);
        }
        let mut unplaced = VecDeque::new();
        if let Some((batch, unfit)) = passed.unfit.take() {
            unplaced.extend(self.letters(&batch, &unfit, (&own, known.as_ref(), is_positioned))?);
        }
        if is_positioned && passed.topic.name != self.topic.name {
            // Positions are looked for in the source's own topic alone.
            let apart = (std::mem::replace(&mut passed.topic, self.topic.clone()), std::mem::take(&mut passed.records));
            passed.elsewhere.push(apart);
            passed.partition = None;
        }
        let mut after = Vec::new();
        for (topic, records) in passed.elsewhere.drain(..).filter(|(_, records)| !records.is_empty()) {
            let to = hashed(&topic, &stream);
            after.push(to.clone());
            let batch = Some(compressed(records, &topic).finish());
            unplaced.push_back(Unplaced::new(Kind::Elsewhere, to, own.clone(), batch));
        }
        let (kind, to, mut rest) = self.rest(&mut passed, &own)?;
        if let (Some(known), Some(position)) = (&known, passed.position.as_ref().filter(|_| !rest.is_empty())) {
            rest.add_header_to_last(POSITION_HEADER, rides::header(&self.run.name, known, position).as_bytes());
        }
        let batch = (!rest.is_empty()).then(|| rest.finish());
        let known = known.and_then(|known| self.learn(known, passed.position, passed.last));
        unplaced.push_back(Unplaced { known, done: passed.done, after, ..Unplaced::new(kind, to, own, batch) });
        if is_once {
            self.once += 1;
            unplaced.iter_mut().for_each(|part| part.once = Some(self.once));
        }
        Ok(unplaced)
    }

    /// What the position rides with, where there is one, and where it goes.
    fn rest(&self, passed: &mut Passed, own: &TopicPartition) -> Result<(Kind, TopicPartition, BatchBuilder)> {
        let Passed { stream, topic, partition, .. } = &*passed;
        if let Some(letter) = &passed.dead_letter {
            let (to, builder) = self.dead_letter(letter, stream, own)?;
            return Ok((Kind::Letter, to, builder));
        }
        let is_own = topic.name == self.topic.name;
        let to = match partition {
            Some(partition) => TopicPartition::new(topic.name.clone(), *partition),
            None if is_own => own.clone(),
            None => hashed(topic, stream),
        };
        let kind = if is_own { Kind::Records } else { Kind::Elsewhere };
        Ok((kind, to, compressed(std::mem::take(&mut passed.records), &passed.topic)))
    }

    /// What is known of a stream; one that can not be read again leaves nothing behind.
    fn know(&mut self, stream: &Arc<Stream>, is_to_be_known: bool) -> Option<Known> {
        self.known.remove(&stream.id).or_else(|| is_to_be_known.then(|| Known::new(stream.clone())))
    }

    /// Keeps what is known now, and answers with it where it is to be saved.
    fn learn(&mut self, mut known: Known, position: Option<Position>, last: bool) -> Option<Known> {
        let is_news = position.is_some() || last;
        known.position = if last { None } else { position.or(known.position) };
        let news = is_news.then(|| known.clone());
        if !last {
            self.known.insert(known.stream.id.clone(), known);
        }
        news
    }

    fn own_partition(&self, stream: &Stream, known: &Option<Known>) -> TopicPartition {
        let kept = known.as_ref().and_then(|known| known.partition.as_ref());
        let kept = kept.filter(|kept| kept.topic == self.topic.name && kept.partition < self.topic.partitions);
        kept.cloned().unwrap_or_else(|| hashed(&self.topic, stream))
    }

    fn letters_of(&self, stream: &str, reason: &str) -> Result<&Arc<DeadLetters>> {
        let off = || Error::fatal(format!("{stream}: {reason} (dead letters are off)"));
        self.dead_letters.as_ref().ok_or_else(off)
    }

    /// The dead letters of unfit records.
    fn letters(
        &self,
        batch: &Batch,
        unfit: &[Unfit],
        (own, known, is_positioned): (&TopicPartition, Option<&Known>, bool),
    ) -> Result<Option<Unplaced>> {
        let Some(first) = unfit.first() else { return Ok(None) };
        let stream = known.map_or_else(String::new, |known| known.stream.id.clone());
        let letters = self.letters_of(&stream, &first.reason)?;
        let mut builder = BatchBuilder::new();
        let mut unfit = unfit.iter().peekable();
        for (place, record) in batch.records().map_err(Error::fatal)?.iter().enumerate() {
            let record = record.map_err(Error::fatal)?;
            let Some(unfit) = unfit.next_if(|unfit| unfit.offset == place as i64) else { continue };
            let headers = record.headers.without(POSITION_HEADER);
            let headers = headers.iter().collect();
            let original = Original { timestamp: record.timestamp, key: record.key, value: record.value, headers };
            let stage = Stage::Transformation;
            letters.push(
                &mut builder,
                original,
                &Reason { partition: own, offset: None, stage, message: &unfit.reason },
            );
        }
        if builder.is_empty() {
            return Ok(None);
        }
        tracing::warn!(
            source = self.run.name,
            stream,
            records = builder.count(),
            reason = first.reason,
            "records became dead letters"
        );
        let known = known.filter(|_| is_positioned);
        if let Some(known) = known {
            let rides = rides::letters_header(&self.run.name, known, &self.made_by);
            builder.add_header_to_last(POSITION_HEADER, rides.as_bytes());
        }
        let early_of = known.map(|known| known.stream.id.clone());
        let batch = Some(builder.finish());
        let letters = Unplaced::new(Kind::Letter, letters.partition().clone(), own.clone(), batch);
        Ok(Some(Unplaced { early_of, ..letters }))
    }

    /// The dead letter of input that can not be a record.
    fn dead_letter(
        &self,
        letter: &DeadLetter,
        stream: &Stream,
        own: &TopicPartition,
    ) -> Result<(TopicPartition, BatchBuilder)> {
        let letters = self.letters_of(&stream.id, &letter.reason)?;
        let mut builder = BatchBuilder::new();
        let headers = letter.headers.iter().filter(|(name, _)| name != POSITION_HEADER);
        let headers = headers.map(|(name, value)| (name.as_str(), Some(&value[..])));
        let original = Original {
            timestamp: self.run.host.edge.now(),
            key: None,
            value: letter.value.as_deref(),
            headers: headers.collect(),
        };
        let reason = Reason { partition: own, offset: None, stage: Stage::Poll, message: &letter.reason };
        letters.push(&mut builder, original, &reason);
        tracing::warn!(source = self.run.name, stream = stream.id, reason = letter.reason, "dead letter");
        Ok((letters.partition().clone(), builder))
    }
}

fn hashed(topic: &Topic, stream: &Stream) -> TopicPartition {
    TopicPartition::new(topic.name.clone(), partition_for_key(stream.key.as_bytes(), topic.partitions))
}

fn compressed(records: BatchBuilder, topic: &Topic) -> BatchBuilder {
    match topic.settings.compression {
        Compression::None => records,
        compression => records.compressed(compression),
    }
}
