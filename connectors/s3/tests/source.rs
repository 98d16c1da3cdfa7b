//! The source over a store in memory: the suite that every source passes, and what is its own.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod faulty;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::conformance::source::{self, SourceWorld};
use aqueduct_api::{ByteSize, DeadLetter, Edge, Incoming, Position, Result, Source, SourceOpening, Stream};
use aqueduct_s3::{S3SourceSettings, open_source_over};
use async_trait::async_trait;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde_json::{Value, json};

use faulty::{Fault, FaultyStore};

/// A bucket in memory.
struct World {
    store: Arc<FaultyStore>,
    settings: Value,
    batch: ByteSize,
    count: AtomicUsize,
}

impl World {
    fn new(settings: Value) -> World {
        let mut all = json!({"url": "s3://bucket/in", "poll": "100ms"});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        World { store: Arc::default(), settings: all, batch: ByteSize::mib(1), count: AtomicUsize::new(0) }
    }

    async fn object(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        // Objects of one millisecond come by key.
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.store.put(&Path::from(key), PutPayload::from(bytes.into())).await.unwrap();
    }

    fn source(&self, positions: Vec<(Arc<Stream>, Position)>) -> Result<Box<dyn Source>> {
        let settings: S3SourceSettings = serde_json::from_value(self.settings.clone()).unwrap();
        let opening = SourceOpening {
            name: "in".into(),
            folder: "/".into(),
            edge: Edge::real(),
            positions,
            batch: self.batch,
            largest: ByteSize::mib(1),
        };
        open_source_over(settings, opening, self.store.clone())
    }
}

#[async_trait]
impl SourceWorld for World {
    async fn open(&self, positions: Vec<(Arc<Stream>, Position)>) -> Result<Box<dyn Source>> {
        self.source(positions)
    }

    async fn put(&self, stream: usize, values: &[Vec<u8>]) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bytes = Vec::new();
        values.iter().for_each(|value| bytes.extend([value, &b"\n"[..]].concat()));
        let bytes = match number % 3 {
            0 => bytes,
            1 => zstd::encode_all(&bytes[..], 1).unwrap(),
            _ => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&bytes).unwrap();
                gzip.finish().unwrap()
            }
        };
        self.object(&format!("in/{stream}/{number:06}"), bytes).await;
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(400)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_passes_the_suite() {
    source::all(&|| Box::new(World::new(json!({})))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_passes_the_suite_in_small_batches() {
    source::all(&|| Box::new(World { batch: ByteSize(100), ..World::new(json!({})) })).await;
}

/// Key, value and headers.
type Seen = (Option<String>, Option<String>, BTreeMap<String, String>);

/// All that a source hands over.
#[derive(Default)]
struct Taken {
    positions: BTreeMap<String, (Arc<Stream>, Position)>,
    records: Vec<Seen>,
    letters: Vec<DeadLetter>,
}

impl Taken {
    /// Reads up to `most` times, until nothing comes.
    async fn take(&mut self, source: &mut dyn Source, most: usize) -> bool {
        for _ in 0..most {
            let Ok(read) = tokio::time::timeout(Duration::from_millis(400), source.read()).await else { return true };
            let Some(incoming) = read.unwrap() else { return false };
            self.add(incoming);
        }
        true
    }

    fn add(&mut self, incoming: Incoming) {
        let position = incoming.position.unwrap();
        self.positions.insert(incoming.stream.id.clone(), (incoming.stream, position));
        self.letters.extend(incoming.dead_letter);
        if incoming.records.is_empty() {
            return;
        }
        for record in incoming.records.finish().records().unwrap().iter() {
            let record = record.unwrap();
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), text(value).unwrap_or_default()));
            self.records.push((text(record.key), text(record.value), headers.collect()));
        }
    }

    fn saved(&self) -> Vec<(Arc<Stream>, Position)> {
        self.positions.values().cloned().collect()
    }

    fn values(&self) -> Vec<&str> {
        self.records.iter().map(|(_, value, _)| value.as_deref().unwrap_or("null")).collect()
    }
}

async fn all_of(world: &World) -> Taken {
    let mut taken = Taken::default();
    taken.take(&mut *world.source(Vec::new()).unwrap(), usize::MAX).await;
    taken
}

#[tokio::test]
async fn objects_become_what_their_format_says() {
    for (settings, object, expected) in [
        (json!({}), "a\n\nb", vec!["a", "", "b"]),
        (json!({"format": "json-lines"}), "{\"a\":1}\n\n 7 \r\n", vec!["{\"a\":1}", " 7 "]),
        (json!({"format": "csv"}), "x,y\n1,\"2\n3\"\n", vec!["{\"x\":\"1\",\"y\":\"2\\n3\"}"]),
        (json!({"format": "csv", "csv": {"columns": ["x"], "delimiter": ";"}}), "1\n", vec!["{\"x\":\"1\"}"]),
    ] {
        let world = World::new(settings.clone());
        world.object("in/a", object).await;
        world.object("elsewhere/a", object).await;
        assert_eq!(all_of(&world).await.values(), expected, "{settings}");
    }
    let world = World::new(json!({"format": "records", "headers": ["key", "bucket"]}));
    world.object("in/a", r#"{"timestamp":5,"key":"k","value":null,"headers":[["h","v"]]}"#).await;
    let taken = all_of(&world).await;
    let headers = [("h", "v"), ("key", "in/a"), ("bucket", "bucket")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(taken.records, [(Some("k".into()), None, headers)]);
}

#[tokio::test]
async fn a_pattern_chooses_objects() {
    let world = World::new(json!({"pattern": "*/x-?.log"}));
    for key in ["in/a/x-1.log", "in/a/b/x-1.log", "in/x-1.log", "in/a/x-12.log"] {
        world.object(key, key).await;
    }
    assert_eq!(all_of(&world).await.values(), ["in/a/x-1.log"]);
}

#[tokio::test]
async fn what_is_no_record_is_a_dead_letter_between_its_neighbours() {
    let world = World::new(json!({"format": "json-lines", "max-record": "20 B"}));
    world.object("in/a", format!("1\nx\n2\n\"{}\"\n3\n", "y".repeat(100))).await;
    // At every position the source is opened anew.
    let mut taken = Taken::default();
    for _ in 0..20 {
        taken.take(&mut *world.source(taken.saved()).unwrap(), 1).await;
    }
    assert_eq!(taken.values(), ["1", "2", "3"]);
    let letters: Vec<_> =
        taken.letters.iter().map(|letter| (letter.value.as_deref(), letter.reason.as_str())).collect();
    assert_eq!(letters[0].0, Some(&b"x"[..]));
    assert!(letters[0].1.contains("not JSON") && letters[1].1.contains("102 bytes"), "{letters:?}");
    assert_eq!(letters.len(), 2);
    let header = |name: &str| taken.letters[1].headers.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!((&header("key")[..], &header("bytes")[..]), (&b"in/a"[..], &b"6-108"[..]));
}

#[tokio::test]
async fn lines_of_csv_that_are_too_long_are_told_once_wherever_reading_goes_on() {
    let world = World { batch: ByteSize(70), ..World::new(json!({"format": "csv", "max-record": "20 B"})) };
    let (quoted, plain) = ("z\n".repeat(50), "z".repeat(50));
    world.object("in/a", format!("x,y\n1,1\n2,\"{quoted}\"\n3,3\n4,{plain}\n5,5\n")).await;
    let mut taken = Taken::default();
    for _ in 0..20 {
        taken.take(&mut *world.source(taken.saved()).unwrap(), 1).await;
    }
    let expected = ["1", "3", "5"].map(|number| format!(r#"{{"x":"{number}","y":"{number}"}}"#));
    assert_eq!(taken.values(), expected);
    let reasons: Vec<_> = taken.letters.iter().map(|letter| letter.reason.as_str()).collect();
    let [one, other] = &reasons[..] else { panic!("{reasons:?}") };
    assert!(one.contains("a line of 104 bytes") && other.contains("a line of 52 bytes"), "{reasons:?}");
}

#[tokio::test]
async fn an_object_whose_first_line_names_no_columns_is_told_whole() {
    for (first, expected) in [(&b"\xff,b"[..], "UTF-8"), (&[b'a'; 30], "longer than max-record")] {
        let world = World::new(json!({"format": "csv", "max-record": "20 B"}));
        world.object("in/a", [first, b"\n1,2\n3,4\n"].concat()).await;
        world.object("in/b", "a,b\n5,6\n").await;
        let taken = all_of(&world).await;
        assert_eq!(taken.values(), [r#"{"a":"5","b":"6"}"#], "what came next must not be taken for columns");
        let [letter] = &taken.letters[..] else { panic!("{:?}", taken.letters) };
        assert!(letter.reason.starts_with("object in/a names no columns: ") && letter.reason.contains(expected));
    }
}

#[tokio::test]
async fn empty_objects_hold_nothing_whatever_their_format() {
    for format in ["lines", "json-lines", "csv", "records", "parquet", "avro"] {
        let world = World::new(json!({"format": format, "once": true}));
        world.object("in/_SUCCESS", "").await;
        world.object("in/folder/", "").await;
        let taken = all_of(&world).await;
        assert_eq!((taken.records.len(), taken.letters.len()), (0, 0), "{format}: {:?}", taken.letters);
    }
}

#[tokio::test]
async fn objects_are_inflated_by_what_they_begin_with_or_told() {
    let text = b"one\ntwo\n";
    let mut snappy = snap::write::FrameEncoder::new(Vec::new());
    snappy.write_all(text).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(text).unwrap();
    let world = World { batch: ByteSize(70), ..World::new(json!({})) };
    world.object("in/a", snappy.into_inner().unwrap()).await;
    world.object("in/b", lz4.finish().unwrap()).await;
    world.object("in/c", b"BZh61AY&SY\x01\x02\n\x03".to_vec()).await;
    // At every position the source is opened anew.
    let mut taken = Taken::default();
    for _ in 0..20 {
        taken.take(&mut *world.source(taken.saved()).unwrap(), 1).await;
    }
    assert_eq!(taken.values(), ["one", "two", "one", "two"]);
    assert_eq!(taken.letters.len(), 1, "{:?}", taken.letters);
    assert!(taken.letters[0].reason.contains("object in/c") && taken.letters[0].reason.contains("bzip2"));
}

#[tokio::test]
async fn an_object_that_is_written_anew_is_read_again_and_a_half_read_one_is_told() {
    let world = World { batch: ByteSize(1000), ..World::new(json!({})) };
    let lines: String = (0..1000).map(|number| format!("{number:06}\n")).collect();
    world.object("in/a", lines).await;
    let mut taken = Taken::default();
    // The first thing that a source says is where it began.
    taken.take(&mut *world.source(Vec::new()).unwrap(), 2).await;
    let before = taken.records.len();
    assert!(before > 10 && before < 1000);
    world.object("in/a", "new").await;
    taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
    assert_eq!(taken.values()[before..], ["new"]);
    assert!(taken.letters[0].reason.contains("gone or was written anew"), "{:?}", taken.letters);
    world.object("in/a", "newer").await;
    taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
    assert_eq!(taken.values()[before + 1..], ["newer"]);
    assert_eq!(taken.letters.len(), 1);
}

#[tokio::test]
async fn damage_is_told_and_the_next_object_is_read() {
    let world = World::new(json!({}));
    let whole = zstd::encode_all(&b"one\ntwo\n".repeat(50_000)[..], 1).unwrap();
    world.object("in/a", &whole[..whole.len() - 5]).await;
    world.object("in/b", "after").await;
    let taken = all_of(&world).await;
    assert_eq!(taken.values().last(), Some(&"after"));
    assert!(taken.letters[0].reason.contains("object in/a is damaged"), "{:?}", taken.letters);
}

#[tokio::test]
async fn what_appears_late_is_read_however_far_our_clock_is_ahead() {
    const MINUTE: i64 = 60_000;
    for ahead in [0, 180 * MINUTE] {
        let world = World::new(json!({}));
        let now = Edge::real().now() - ahead;
        let mut taken = Taken::default();
        let mut source = world.source(Vec::new()).unwrap();
        // The second was begun before the first, and is there after that was read; so was the last, too long ago.
        let objects = [("in/a", 5), ("in/b", 10), ("in/c", 64), ("in/d", 66), ("in/e", 0), ("in/f", 0), ("in/g", 61)];
        for (key, minutes) in objects {
            world.store.date(key, now - minutes * MINUTE);
            world.object(key, key).await;
            taken.take(&mut *source, usize::MAX).await;
        }
        assert_eq!(taken.values(), ["in/a", "in/b", "in/c", "in/e", "in/f"], "{ahead} ms ahead");
        // What is kept of that outlives a restart.
        taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
        assert_eq!(taken.records.len(), 5);
    }
}

#[tokio::test]
async fn an_object_in_an_archive_is_told_or_waited_for() {
    const SAID: &str = "status code: 403 Forbidden: <Code>InvalidObjectState</Code>";
    for (archived, read) in [("dead-letter", &["1", "3"][..]), ("wait", &["1", "2", "3"])] {
        let world = World::new(json!({"archived": archived, "read-ahead": 0, "once": true}));
        for (key, line) in [("in/a", "1"), ("in/b", "2"), ("in/c", "3")] {
            world.object(key, line).await;
        }
        world.store.plan("get", 1, Fault::Says(SAID));
        let (mut taken, mut told) = (Taken::default(), Vec::new());
        let mut source = world.source(Vec::new()).unwrap();
        loop {
            match source.read().await {
                Ok(None) => break,
                Ok(Some(incoming)) => taken.add(incoming),
                // The daemon may end while it waits.
                Err(error) => {
                    assert!(error.is_retry());
                    told.push(error.to_string());
                    source = world.source(taken.saved()).unwrap();
                }
            }
        }
        assert_eq!(taken.values(), read);
        let reasons = taken.letters.iter().map(|letter| letter.reason.as_str());
        let all: Vec<&str> = told.iter().map(String::as_str).chain(reasons).collect();
        let [said] = all[..] else { panic!("{all:?}") };
        assert!(said.contains("in/b") && said.contains("is archived: restore it"), "{said}");
        assert_eq!(told.len(), usize::from(archived == "wait"));
    }
}

#[tokio::test]
async fn what_was_read_before_an_archived_object_does_not_wait_for_it() {
    const SAID: &str = "status code: 403 Forbidden: <Code>InvalidObjectState</Code>";
    let world = World::new(json!({"archived": "wait", "read-ahead": 0}));
    world.object("in/a", "1").await;
    world.object("in/b", "2").await;
    world.store.plan("get", 1, Fault::Says(SAID));
    let (mut taken, mut source) = (Taken::default(), world.source(Vec::new()).unwrap());
    let error = loop {
        match source.read().await {
            Ok(incoming) => taken.add(incoming.unwrap()),
            Err(error) => break error,
        }
    };
    assert!(error.is_retry() && error.to_string().contains("in/b"), "{error}");
    assert_eq!(taken.values(), ["1"], "before in/b was restored");
    taken.take(&mut *source, usize::MAX).await;
    assert_eq!(taken.values(), ["1", "2"]);
}

#[tokio::test]
async fn the_end_is_where_the_store_says_whatever_our_clock_does() {
    const MINUTE: i64 = 60_000;
    for ahead in [5, 0, -5] {
        let world = World::new(json!({"start": "end"}));
        let now = Edge::real().now() - ahead * MINUTE;
        world.store.date("in/a", now);
        world.object("in/a", "old").await;
        // What comes before the first position is saved is there when the source starts again.
        drop(world.source(Vec::new()).unwrap());
        world.store.date("in/b", now + 10);
        world.object("in/b", "old").await;
        let mut taken = Taken::default();
        taken.take(&mut *world.source(Vec::new()).unwrap(), 1).await;
        // Of the very time of the last one, or begun before it, but not there at the start.
        for (key, time) in [("in/c", now + 10), ("in/d", now - MINUTE), ("in/e", now + 2 * MINUTE)] {
            world.store.date(key, time);
            world.object(key, key).await;
        }
        taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
        assert_eq!(taken.values(), ["in/d", "in/c", "in/e"], "{ahead} minutes ahead");
    }
}

#[tokio::test]
async fn of_a_bucket_that_was_empty_at_the_start_all_is_read_however_old() {
    let world = World::new(json!({"start": "end"}));
    let mut taken = Taken::default();
    taken.take(&mut *world.source(Vec::new()).unwrap(), 1).await;
    assert_eq!(taken.saved().len(), 1, "where it starts is said before anything is there");
    world.store.date("in/a", 1);
    world.object("in/a", "1").await;
    taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
    assert_eq!(taken.values(), ["1"]);
}

#[tokio::test]
async fn what_appears_behind_a_list_that_takes_long_is_read() {
    const MINUTE: i64 = 60_000;
    let world = World::new(json!({"late": "1h"}));
    let now = Edge::real().now();
    let (mut taken, mut source) = (Taken::default(), world.source(Vec::new()).unwrap());
    // The second was put when the second list was past its key, two hours before that came to the third.
    for (key, minutes) in [("in/m", 180), ("in/a", 120), ("in/z", 0)] {
        world.store.date(key, now - minutes * MINUTE);
    }
    world.object("in/m", "in/m").await;
    taken.take(&mut *source, usize::MAX).await;
    world.store.miss("in/a");
    world.object("in/a", "in/a").await;
    world.object("in/z", "in/z").await;
    taken.take(&mut *source, usize::MAX).await;
    assert_eq!(taken.values(), ["in/m", "in/z", "in/a"]);
}

#[tokio::test]
async fn a_source_that_reads_once_ends_and_later_reads_what_is_new() {
    let world = World::new(json!({"once": true}));
    world.object("in/a", "1").await;
    let mut taken = Taken::default();
    assert!(!taken.take(&mut *world.source(Vec::new()).unwrap(), usize::MAX).await);
    assert_eq!(taken.values(), ["1"]);
    world.object("in/b", "2").await;
    assert!(!taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await);
    assert_eq!(taken.values(), ["1", "2"]);
}

#[tokio::test]
async fn a_source_that_starts_at_the_end_reads_what_comes() {
    let world = World::new(json!({"start": "end"}));
    world.object("in/a", "old").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut taken = Taken::default();
    taken.take(&mut *world.source(Vec::new()).unwrap(), usize::MAX).await;
    world.object("in/b", "new").await;
    taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
    assert_eq!(taken.values(), ["new"]);
}

#[tokio::test]
async fn the_position_of_ten_thousand_objects_is_small() {
    let world = World::new(json!({}));
    for number in 0..10_000 {
        world.store.put(&Path::from(format!("in/{number:06}")), PutPayload::from_static(b"x")).await.unwrap();
    }
    let mut taken = all_of(&world).await;
    assert_eq!(taken.records.len(), 10_000);
    let (_, position) = &taken.saved()[0];
    assert!(position.as_json().len() < 2000, "{}", position.as_json());
    world.store.put(&Path::from("in/0"), PutPayload::from_static(b"late by name")).await.unwrap();
    taken.take(&mut *world.source(taken.saved()).unwrap(), usize::MAX).await;
    assert_eq!(taken.values()[10_000..], ["late by name"]);
}
