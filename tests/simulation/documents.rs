//! What must be true of documents when everything has drained: each record is a document once, or a dead letter once, and
//! of a key the newest record is there.

use std::collections::BTreeMap;

use aqueduct_record::Offset;
use serde_json::{Value, json};

use crate::life::Trace;
use crate::observer::{Memory, Seen};
use crate::oracle::{header, original};
use crate::search::{EACH, LATEST, TOPIC};

/// What a record is to the sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A document.
    Good,
    /// A document that the cluster will never take.
    Bad,
    /// None at all.
    NotJson,
    /// The end of its key's document.
    Null,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Bad => "bad",
            Kind::NotJson => "not-json",
            Kind::Null => "null",
        }
    }

    pub(crate) fn value(self, number: usize) -> Option<String> {
        match self {
            Kind::Good | Kind::Bad => Some(json!({ "number": number, "kind": self.name() }).to_string()),
            Kind::NotJson => Some(format!("oops {number}")),
            Kind::Null => None,
        }
    }
}

type Place = (i32, Offset);

/// A record of the log.
struct Produced {
    number: usize,
    key: String,
    kind: Kind,
    place: Place,
}

/// Looks at everything.
pub(crate) struct Judge<'a> {
    records: Vec<Produced>,
    memory: &'a Memory,
    trace: &'a Trace,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(memory: &'a Memory, trace: &'a Trace) -> Self {
        let mut records = Vec::new();
        for ((topic, partition), seen) in &memory.partitions {
            if topic == TOPIC {
                records.extend(seen.iter().map(|(offset, seen)| Produced::of(seen, (*partition, *offset))));
            }
        }
        Judge { records, memory, trace }
    }

    /// What was acknowledged is in the log, once.
    pub(crate) fn check_produced(&self, acknowledged: &[bool]) {
        let mut found = vec![0; acknowledged.len()];
        self.records.iter().for_each(|record| found[record.number] += 1);
        for (number, (times, acknowledged)) in found.iter().zip(acknowledged).enumerate() {
            if *times > 1 || (*acknowledged && *times == 0) {
                self.trace.violated(format!("record {number} is in the log {times} times"));
            }
        }
    }

    /// Each good record is a document under its place, and everything else is a dead letter.
    pub(crate) fn check_each(&self, documents: &BTreeMap<String, Value>) {
        let letters = self.dead_letters(EACH);
        for record in &self.records {
            let (partition, offset) = record.place;
            let document = documents.get(&format!("{TOPIC}+{partition}+{offset}"));
            let is_there = document.is_some_and(|document| document["number"] == record.number);
            let (is_good, letters) = (record.kind == Kind::Good, letters.get(&record.place).copied().unwrap_or(0));
            if is_there != is_good || document.is_some() != is_good || letters != usize::from(!is_good) {
                self.violated(EACH, record, format!("is {document:?} and {letters} dead letters"));
            }
        }
        let good = self.records.iter().filter(|record| record.kind == Kind::Good).count();
        if documents.len() != good {
            self.trace.violated(format!("{EACH}: {} documents of {good} records", documents.len()));
        }
    }

    /// Of each key the newest record is there, and no record is a dead letter that need not be one.
    pub(crate) fn check_latest(&self, documents: &BTreeMap<String, Value>) {
        let letters = self.dead_letters(LATEST);
        let mut newest: BTreeMap<&str, &Produced> = BTreeMap::new();
        for record in &self.records {
            let letters = letters.get(&record.place).copied().unwrap_or(0);
            let at_most = match record.kind {
                Kind::Bad | Kind::NotJson if letters == 1 => continue,
                Kind::Bad | Kind::NotJson => 0,
                // A newer record of the key that came to another partition may have been written before this one.
                Kind::Good | Kind::Null => usize::from(self.is_overtaken(record)),
            };
            if letters > at_most || matches!(record.kind, Kind::Bad | Kind::NotJson) {
                self.violated(LATEST, record, format!("is {letters} dead letters"));
            }
            let newest = newest.entry(&record.key).or_insert(record);
            if newest.number < record.number {
                *newest = record;
            }
        }
        for (key, record) in newest {
            let (document, is_good) = (documents.get(key), record.kind == Kind::Good);
            let is_there = document.is_some_and(|document| document["number"] == record.number);
            if is_there != is_good || document.is_some() != is_good {
                self.violated(LATEST, record, format!("is the newest of {key}, and there is {document:?}"));
            }
        }
    }

    fn is_overtaken(&self, record: &Produced) -> bool {
        let (partition, _) = record.place;
        let mut others = self.records.iter().filter(|other| other.key == record.key && other.place.0 != partition);
        others.any(|other| other.number > record.number)
    }

    /// How many dead letters of a sink there are for each record.
    fn dead_letters(&self, sink: &str) -> BTreeMap<Place, usize> {
        let mut letters = BTreeMap::new();
        let topic = (format!("{sink}.dead-letters"), 0);
        for seen in self.memory.partitions.get(&topic).into_iter().flat_map(BTreeMap::values) {
            match original(seen) {
                Some((_, partition, offset)) => *letters.entry((partition, offset)).or_default() += 1,
                None => self.trace.violated(format!("{sink}: a dead letter does not say where it is from")),
            }
        }
        letters
    }

    fn violated(&self, sink: &str, record: &Produced, what: String) {
        let Produced { number, key, kind, place: (partition, offset) } = record;
        self.trace.violated(format!("{sink}: record {number} of {key} ({kind:?}) at {partition}:{offset} {what}"));
    }
}

impl Produced {
    fn of(seen: &Seen, place: Place) -> Produced {
        let said = header(seen, "said").expect("every record says what it is");
        let [number, key, kind] = said.split(' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
        let kinds = [Kind::Good, Kind::Bad, Kind::NotJson, Kind::Null];
        let kind = kinds.into_iter().find(|known| known.name() == kind).expect("a known kind");
        Produced { number: number.parse().unwrap(), key: format!("k{key}"), kind, place }
    }
}
