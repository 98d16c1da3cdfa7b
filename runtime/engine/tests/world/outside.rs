//! What is there to read and what was written, for one test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aqueduct_api::TopicPartition;
use aqueduct_record::Offset;
use parking_lot::Mutex;
use tokio::sync::watch;

/// What is there to read and what was written, for one test.
pub struct Outside {
    pub id: u64,
    /// Lines of each stream. `bad …` can not be a record, `big N` is a record of N bytes, `reject …` is what the sink
    /// rejects, `refuse …` what one that names by record refuses the whole call for, `panic` and `end` are what they say.
    pub streams: Mutex<BTreeMap<String, Vec<String>>>,
    pub changed: watch::Sender<u64>,
    pub objects: Mutex<BTreeMap<Name, Vec<String>>>,
    pub documents: Mutex<BTreeMap<Id, Document>>,
    /// What every call of a sink that names by record was given.
    pub calls: Mutex<Vec<Vec<Given>>>,
    /// What the sink does in its next writes; then it just writes.
    pub script: Mutex<VecDeque<Do>>,
    /// All chunks that were written, and whether they were called redelivered.
    pub writes: Mutex<Vec<(Name, bool)>>,
    pub opened: Mutex<u32>,
    pub notes: Mutex<Vec<Option<String>>>,
    /// How often chunks were given up before each that was offered.
    pub given_up: Mutex<Vec<u32>>,
    /// How many lines the source reads at once, where not as many as its settings say.
    pub at_once: Mutex<Option<usize>>,
}

/// What an object is named by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub place: String,
    pub topic: String,
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub run: u32,
}

/// What a document is named by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub topic: u128,
    pub partition: i32,
    pub offset: Offset,
}

/// What a record-named sink has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub key: Option<String>,
    pub value: String,
    /// The incarnation, then the offset: of two documents of one key the higher is newer.
    pub version: (u16, Offset),
    /// How often it was written.
    pub times: u32,
}

/// A chunk of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub partition: TopicPartition,
    pub ranges: Vec<Range<Offset>>,
    pub whole: Range<Offset>,
    pub redelivered: bool,
    pub incarnation: u16,
}

/// What a sink does with a write.
#[derive(Clone, Debug)]
pub enum Do {
    Write,
    Retry,
    Fatal,
    Refuse,
    Panic,
    /// Write, and never answer.
    WriteAndHang,
    /// Write nothing, and answer after a while.
    Wait(Duration),
    /// Write, and answer after a while.
    WriteAndWait(Duration),
    /// Leave the second half for later.
    Half,
    Note(String),
}

static WORLDS: LazyLock<Mutex<BTreeMap<u64, Arc<Outside>>>> = LazyLock::new(Mutex::default);

impl Outside {
    pub fn new() -> Arc<Outside> {
        let mut worlds = WORLDS.lock();
        let id = worlds.len() as u64;
        let outside = Arc::new(Outside {
            id,
            streams: Mutex::default(),
            changed: watch::channel(0).0,
            objects: Mutex::default(),
            documents: Mutex::default(),
            calls: Mutex::default(),
            script: Mutex::default(),
            writes: Mutex::default(),
            opened: Mutex::default(),
            notes: Mutex::default(),
            given_up: Mutex::default(),
            at_once: Mutex::default(),
        });
        worlds.insert(id, outside.clone());
        outside
    }

    /// The one that connectors were told of.
    pub fn of(id: u64) -> Arc<Outside> {
        WORLDS.lock().get(&id).cloned().unwrap()
    }

    pub fn put(&self, stream: &str, lines: &[&str]) {
        let mut streams = self.streams.lock();
        streams.entry(stream.to_owned()).or_default().extend(lines.iter().map(|&line| line.to_owned()));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Lines `stream 0`, `stream 1`, … so many.
    pub fn put_many(&self, stream: &str, count: usize) {
        let from = self.streams.lock().get(stream).map_or(0, Vec::len);
        let lines: Vec<String> = (from..from + count).map(|n| format!("{stream} {n}")).collect();
        self.put(stream, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    }

    pub fn lines(&self) -> Vec<String> {
        self.streams.lock().values().flatten().cloned().collect()
    }

    pub fn script(&self, script: &[Do]) {
        self.script.lock().extend(script.iter().cloned());
    }

    pub fn objects(&self) -> BTreeMap<Name, Vec<String>> {
        self.objects.lock().clone()
    }

    pub fn documents(&self) -> BTreeMap<Id, Document> {
        self.documents.lock().clone()
    }

    /// Values of all objects and documents, in the order of their offsets.
    pub fn out(&self) -> Vec<String> {
        let objects: Vec<String> = self.objects.lock().values().flatten().cloned().collect();
        let documents = self.documents.lock();
        objects.into_iter().chain(documents.values().map(|document| document.value.clone())).collect()
    }

    fn expected(&self) -> Vec<String> {
        let is_record = |line: &&String| {
            !["bad", "reject", "refuse", "big", "panic", "end"].iter().any(|word| line.starts_with(word))
        };
        self.streams.lock().values().flatten().filter(is_record).cloned().collect()
    }

    pub fn missing(&self) -> Vec<String> {
        let out: BTreeSet<String> = self.out().into_iter().collect();
        self.expected().into_iter().filter(|line| !out.contains(line)).collect()
    }

    pub fn is_all_out(&self) -> bool {
        self.missing().is_empty()
    }

    /// Every line of every stream came out once, in order.
    pub fn check(&self) {
        let out = self.out();
        for (stream, lines) in &*self.streams.lock() {
            let prefix = format!("{stream} ");
            let came: Vec<&String> = out.iter().filter(|line| line.starts_with(&prefix)).collect();
            let went: Vec<&String> = lines.iter().filter(|line| line.starts_with(&prefix)).collect();
            assert_eq!(came, went, "stream {stream}: {:#?}", self.objects());
        }
    }
}
