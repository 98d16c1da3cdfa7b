//! What must be true when everything has drained: every line exactly once and in order, in the log and at each sink.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aqueduct_record::Offset;
use bytes::Bytes;

use crate::life::Trace;
use crate::observer::{Memory, Seen};
use crate::world::{Kind, LineId, World, identify};

/// The topic that the application's lines go to.
pub(crate) const LINES: &str = "app";
/// The topic that is produced to directly.
pub(crate) const DIRECT: &str = "direct";
/// The source.
pub(crate) const SOURCE: &str = "logs";
/// The number of the file that records of [`DIRECT`] claim to be from.
pub(crate) const NO_FILE: u64 = 1_000_000;

type Place = (String, i32, Offset);

/// Of a sink and a partition, offsets of chunks that people may have given up: objects of other names hold them once more.
pub(crate) type GivenUp = (String, (String, i32), Range<Offset>);

/// What was produced directly.
#[derive(Default)]
pub(crate) struct Produced {
    /// Whether each was acknowledged.
    pub(crate) acknowledged: Vec<bool>,
}

/// Looks at everything.
pub(crate) struct Oracle<'a> {
    pub(crate) world: &'a World,
    pub(crate) memory: &'a Memory,
    pub(crate) produced: &'a Produced,
    pub(crate) given_up: &'a [GivenUp],
    pub(crate) trace: &'a Trace,
}

/// The name of an object, taken apart.
struct Name {
    topic: String,
    partition: i32,
    start: Offset,
    end: Option<Offset>,
    extension: String,
}

impl Name {
    fn parse(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let mut parts = name.split('+');
        let (topic, partition, start) = (parts.next()?, parts.next()?, parts.next()?);
        let (number, extension) = parts.next().unwrap_or(start).split_once('.')?;
        let start: Offset = start.split('.').next()?.parse().ok()?;
        let end = if name.split('+').count() == 4 { Some(number.parse().ok()?) } else { None };
        let (topic, partition) = (topic.to_owned(), partition.parse().ok()?);
        Some(Name { topic, partition, start, end, extension: extension.to_owned() })
    }

    fn holds(&self, place: &Place) -> bool {
        let (topic, partition, offset) = place;
        *topic == self.topic
            && *partition == self.partition
            && self.start <= *offset
            && self.end.is_none_or(|end| *offset < end)
    }
}

impl Oracle<'_> {
    /// Lines that were written and are not in the log.
    pub(crate) fn missing(&self) -> Vec<LineId> {
        let written = self.world.written.iter().enumerate();
        let lines = written.flat_map(|(file, written)| {
            written.lines.iter().enumerate().map(move |(line, text)| ((file as u64, line as u64), text.kind))
        });
        let expected = lines.filter(|(_, kind)| *kind != Kind::TooLong).map(|(line, _)| line);
        expected.filter(|line| !self.memory.lines.contains_key(line)).collect()
    }

    /// Whether every line that was written is where it belongs in the log.
    pub(crate) fn all_lines_arrived(&self) -> bool {
        let lines = self.world.written.iter().flat_map(|written| &written.lines);
        let too_long = lines.filter(|line| line.kind == Kind::TooLong).count();
        self.missing().is_empty() && self.dead_letters(SOURCE).count() >= too_long
    }

    /// Lines in the log: each once, those of one file in one partition and in order.
    pub(crate) fn check_lines(&self) {
        for (file, written) in self.world.written.iter().enumerate() {
            let mut last: Option<(i32, Offset)> = None;
            for (number, line) in written.lines.iter().enumerate() {
                let places = self.places((file as u64, number as u64));
                let expected = if line.kind == Kind::TooLong { 0 } else { 1 };
                if places.len() != expected {
                    self.violated(format!(
                        "line {number} of file {file} ({:?}) is in the log {} times: {places:?}",
                        line.kind,
                        places.len()
                    ));
                }
                let Some((_, partition, offset)) = places.first() else { continue };
                if last.is_some_and(|(before, after)| before != *partition || after >= *offset) {
                    self.violated(format!("line {number} of file {file} at {partition}:{offset} came after {last:?}"));
                }
                let seen = &self.memory.partitions[&(LINES.to_owned(), *partition)][offset];
                if seen.value.as_deref() != Some(&line.text) {
                    self.violated(format!("line {number} of file {file} was changed on its way"));
                }
                last = Some((*partition, *offset));
            }
        }
        for (file, line) in self.memory.lines.keys() {
            let written = self.world.written.get(*file as usize);
            if *file != NO_FILE && written.is_none_or(|written| written.lines.len() as u64 <= *line) {
                self.violated(format!("line {line} of file {file} is in the log and was never written"));
            }
        }
    }

    /// Lines that are too long: each exactly once among the source's dead letters.
    pub(crate) fn check_source_dead_letters(&self) {
        let lines = self.world.written.iter().flat_map(|written| &written.lines);
        let expected: Vec<_> = lines.filter(|line| line.kind == Kind::TooLong).collect();
        let found: Vec<&Seen> = self.dead_letters(SOURCE).map(|(_, seen)| seen).collect();
        if expected.len() != found.len() {
            self.violated(format!("{} lines were too long, {} dead letters say so", expected.len(), found.len()));
        }
        let distinct: BTreeSet<String> =
            found.iter().map(|seen| format!("{:?} {:?}", seen.value, seen.headers)).collect();
        if distinct.len() != found.len() {
            self.violated("a line that was too long is there twice as a dead letter");
        }
    }

    /// What was produced directly: there if it was acknowledged, never twice, in order.
    pub(crate) fn check_produced(&self) {
        let mut places: BTreeMap<u64, Vec<(i32, Offset)>> = BTreeMap::new();
        for ((topic, partition), records) in &self.memory.partitions {
            if topic == DIRECT {
                let mut last = None;
                for (offset, seen) in records {
                    let number = seen.value.as_deref().and_then(identify).map(|(_, number)| number);
                    let number = number.or_else(|| header(seen, "number")?.parse().ok());
                    let Some(number) = number else { continue };
                    places.entry(number).or_default().push((*partition, *offset));
                    if last.is_some_and(|last| last >= number) {
                        self.violated(format!("{topic}-{partition}: {number} was produced after {last:?}"));
                    }
                    last = Some(number);
                }
            }
        }
        for (number, acknowledged) in self.produced.acknowledged.iter().enumerate() {
            let found = places.get(&(number as u64)).map_or(0, Vec::len);
            if found > 1 || (*acknowledged && found == 0) {
                let told = if *acknowledged { "acknowledged" } else { "not acknowledged" };
                self.violated(format!("produced record {number} was {told} and is in the log {found} times"));
            }
        }
    }

    /// Every record of the topics exactly once among a sink's objects or its dead letters; at least once where its chunk was
    /// given up.
    pub(crate) fn check_sink(&self, sink: &str, objects: &[(String, Bytes)]) {
        let texts = self.texts();
        let mut delivered: BTreeMap<Place, Vec<String>> = BTreeMap::new();
        for (path, bytes) in objects {
            let Some(name) = Name::parse(path) else {
                self.violated(format!("{sink}: left over: {path}"));
                continue;
            };
            let mut last = None;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let Some(place) = self.place_of(line, &name, &texts) else {
                    let line = String::from_utf8_lossy(line);
                    self.violated(format!("{sink}: {path} holds a line that the log does not: {line}"));
                    continue;
                };
                if !name.holds(&place) || last.is_some_and(|last| last >= place.2) {
                    self.violated(format!("{sink}: {path} holds {place:?} after {last:?}"));
                }
                last = Some(place.2);
                delivered.entry(place).or_default().push(path.clone());
            }
        }
        for (at, seen) in self.dead_letters(sink) {
            match original(seen) {
                Some(place) => {
                    self.check_rejected(sink, &place, seen);
                    delivered.entry(place).or_default().push(format!("dead letter {at}"));
                }
                None => self.violated(format!("{sink}: dead letter {at} does not say where it is from")),
            }
        }
        self.check_each_once(sink, &delivered);
    }

    fn check_each_once(&self, sink: &str, delivered: &BTreeMap<Place, Vec<String>>) {
        for ((topic, partition), records) in &self.memory.partitions {
            if topic != LINES && topic != DIRECT {
                continue;
            }
            for (offset, seen) in records {
                let place = (topic.clone(), *partition, *offset);
                let found = delivered.get(&place).map_or(&[][..], Vec::as_slice);
                if found.is_empty() || (found.len() > 1 && !self.is_given_up(sink, &place)) {
                    let value = seen.value.as_deref().map(String::from_utf8_lossy);
                    self.violated(format!(
                        "{sink}: {topic}-{partition}:{offset} was delivered {} times, in {found:?}: {value:?}",
                        found.len()
                    ));
                }
            }
        }
        for place in delivered.keys() {
            let known = self.memory.partitions.get(&(place.0.clone(), place.1));
            if known.is_none_or(|known| !known.contains_key(&place.2)) {
                self.violated(format!("{sink}: {place:?} was delivered and is not in the log"));
            }
        }
    }

    /// Whether the record was in a chunk that may have been given up.
    fn is_given_up(&self, sink: &str, (topic, partition, offset): &Place) -> bool {
        self.given_up.iter().any(|(of, (of_topic, of_partition), offsets)| {
            of == sink && of_topic == topic && of_partition == partition && offsets.contains(offset)
        })
    }

    fn check_rejected(&self, sink: &str, place: &Place, letter: &Seen) {
        let known = self.memory.partitions.get(&(place.0.clone(), place.1)).and_then(|records| records.get(&place.2));
        let Some(known) = known else { return };
        if known.value != letter.value {
            self.violated(format!("{sink}: the dead letter of {place:?} does not hold its bytes"));
        }
        if known.value.as_deref().is_some_and(|value| value.starts_with(b"{")) {
            self.violated(format!("{sink}: {place:?} is a dead letter and need not be"));
        }
    }

    /// Where each record's text is.
    fn texts(&self) -> BTreeMap<&[u8], Place> {
        let mut texts = BTreeMap::new();
        for ((topic, partition), records) in &self.memory.partitions {
            if topic == LINES || topic == DIRECT {
                for (offset, seen) in records {
                    if let Some(value) = &seen.value {
                        texts.insert(&value[..], (topic.clone(), *partition, *offset));
                    }
                }
            }
        }
        texts
    }

    /// Which record a line of an object is.
    fn place_of(&self, line: &[u8], name: &Name, texts: &BTreeMap<&[u8], Place>) -> Option<Place> {
        if let Some(place) = texts.get(line) {
            return Some(place.clone());
        }
        let record: serde_json::Value = serde_json::from_slice(line).ok()?;
        let offset = record.get("offset")?.as_i64()?;
        let place = (record.get("topic")?.as_str()?.to_owned(), record.get("partition")?.as_i64()? as i32, offset);
        let known = self.memory.partitions.get(&(place.0.clone(), place.1))?.get(&offset)?;
        let value = record.get("value")?.as_str().map(str::as_bytes);
        (value == known.value.as_deref() && name.extension.contains("json")).then_some(place)
    }

    fn dead_letters(&self, of: &str) -> impl Iterator<Item = (Offset, &Seen)> {
        let topic = (format!("{of}.dead-letters"), 0);
        self.memory.partitions.get(&topic).into_iter().flatten().map(|(offset, seen)| (*offset, seen))
    }

    fn places(&self, line: LineId) -> &[Place] {
        self.memory.lines.get(&line).map_or(&[], Vec::as_slice)
    }

    fn violated(&self, rule: impl Into<String>) {
        self.trace.violated(rule);
    }
}

/// What a header says.
pub(crate) fn header(seen: &Seen, name: &str) -> Option<String> {
    let (_, value) = seen.headers.iter().find(|(known, _)| known == name)?;
    String::from_utf8(value.as_ref()?.to_vec()).ok()
}

/// Where a dead letter is from, in Kafka Connect's headers.
pub(crate) fn original(seen: &Seen) -> Option<Place> {
    let topic = header(seen, "__connect.errors.topic")?;
    let partition = header(seen, "__connect.errors.partition")?.parse().ok()?;
    Some((topic, partition, header(seen, "__connect.errors.offset")?.parse().ok()?))
}
