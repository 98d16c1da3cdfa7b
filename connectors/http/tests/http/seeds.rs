//! Runs that are made of a seed: servers that lose requests and answers, are full, or find requests too large, and
//! processes that end; under deliberate mistakes, too, which must be noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::conformance::sink::{Multiplied, Script};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{Chunk, Error, Outcome, REPLAYED_HEADER, Replayed, Result, TopicId};
use aqueduct_record::{BatchBuilder, Offset};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::server::{Act, Seen, Server};
use crate::sink::sink;

/// What a server that remembers keys has.
#[derive(Default)]
struct Ledger {
    /// Bodies by key, in the order in which the keys came first.
    taken: Vec<(String, String)>,
    known: BTreeMap<String, String>,
    /// Keys that this life of the sink was told to be taken.
    answered: BTreeSet<String>,
    violations: Vec<String>,
}

impl Ledger {
    fn take(&mut self, seen: &Seen) {
        let (key, body) = (seen.key(), seen.text());
        match self.known.get(&key) {
            Some(known) if *known != body => self.violations.push(format!("{key} came with two bodies")),
            Some(_) => {}
            None => {
                self.known.insert(key.clone(), body.clone());
                self.taken.push((key, body));
            }
        }
    }
}

/// How many records a transform makes of one.
fn made_of(offset: Offset) -> usize {
    match offset % 11 {
        3 => 0,
        5 => 3,
        7 if offset % 2 == 0 => 9,
        _ => 1,
    }
}

fn is_bad(line: &str) -> bool {
    line.ends_with("bad 0") || line.ends_with("bad 2")
}

/// A partition's records, of which some are bad and some are dead letters that are replayed.
fn script(partition: i32, count: i64, chance: &mut SmallRng) -> (Script, Vec<String>) {
    let (mut script, mut lines, mut next) = (Script::new("t", partition), Vec::new(), 0);
    while next < count {
        let mut builder = BatchBuilder::new();
        let first = next;
        for _ in 0..chance.random_range(1..40) {
            let bad = if chance.random_range(0..15) == 0 { " bad" } else { "" };
            let value = format!("{partition} {next}{bad}");
            lines.extend((0..made_of(next)).map(|part| format!("{value} {part}")));
            let replayed = (chance.random_range(0..12) == 0).then(|| {
                let letter = (TopicId(9), i64::from(partition) * 10_000 + next);
                let replayed = Replayed { topic: "t".into(), partition, offset: Some(next), sink: None, letter };
                serde_json::to_vec(&replayed).unwrap()
            });
            let headers: Vec<_> = replayed.iter().map(|header| (REPLAYED_HEADER, Some(header.as_slice()))).collect();
            builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &headers);
            next += 1;
        }
        script = script.raw(first, builder);
    }
    (script, lines)
}

/// A server that finds requests of more than `most` lines too large and those with a bad one wrong, always; and loses
/// requests and answers by chance.
async fn server(ledger: Arc<Mutex<Ledger>>, most: usize, seed: u64) -> Server {
    let chance = Mutex::new(SmallRng::seed_from_u64(seed));
    Server::slow(Duration::ZERO, move |seen| {
        let answer = |status| Some(Act::Answer(status, "", String::new()));
        let dice = chance.lock().unwrap().random_range(0..100);
        let mut ledger = ledger.lock().unwrap();
        // What is left of one record can not be told, so all parts that were made of it come again.
        if !seen.key().contains("-part")
            && ledger.answered.contains(&format!("{} {}", seen.headers["x-life"], seen.key()))
        {
            ledger.violations.push(format!("{} came again after it was taken", seen.key()));
        }
        let text = seen.text();
        match dice {
            0..4 => return Some(Act::Reset),
            4..8 => return answer(429),
            8..12 => return answer(500),
            _ if text.lines().count() > most => return answer(413),
            _ if text.lines().any(is_bad) => return answer(422),
            _ => ledger.take(seen),
        }
        match dice {
            12..18 => Some(Act::Reset),
            18..22 => Some(Act::Half),
            22..26 => answer(503),
            _ => {
                ledger.answered.insert(format!("{} {}", seen.headers["x-life"], seen.key()));
                answer(200)
            }
        }
    })
    .await
}

/// A partition's chunk on its way.
struct Way {
    script: Script,
    ranges: Vec<Range<Offset>>,
    rejected: BTreeSet<Offset>,
}

impl Way {
    fn whole(&self) -> Range<Offset> {
        let chunk = self.script.chunk();
        chunk.start..chunk.end
    }

    fn chunk(&self, is_again: bool) -> Chunk {
        let mut chunk = if is_again { self.script.again() } else { self.script.chunk() };
        chunk.content = Arc::new(Multiplied(chunk.content, made_of));
        chunk.ranges = self.ranges.clone();
        chunk
    }
}

/// One run: what is wrong with it.
async fn run(seed: u64, mutant: Option<Mutant>) -> Vec<String> {
    mutate(mutant);
    let mut chance = SmallRng::seed_from_u64(seed);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let server = server(ledger.clone(), chance.random_range(2..9), seed).await;
    let is_ordered = chance.random_range(0..3) > 0;
    let settings = json!({
        "format": "lines", "ordered": is_ordered, "concurrency": chance.random_range(1..5),
        "request-records": chance.random_range(1..14), "timeout": "20s",
    });
    let (mut ways, mut lines) = (Vec::new(), Vec::new());
    for partition in 0..chance.random_range(1..4) {
        let count = chance.random_range(20..80);
        let (script, of) = script(partition, count, &mut chance);
        let mut way = Way { script, ranges: Vec::new(), rejected: BTreeSet::new() };
        way.ranges = vec![way.whole()];
        lines.extend(of);
        ways.push(way);
    }
    let done = deliver(&server, &ledger, &settings, &mut ways, &mut chance).await;
    mutate(None);
    let mut ledger = ledger.lock().unwrap();
    let mut violations = std::mem::take(&mut ledger.violations);
    violations.extend(done.err());
    check(&ledger, &ways, &lines, is_ordered, &mut violations);
    violations
}

/// Offers what is unfinished again and again, as the engine does, in lives that end by chance.
async fn deliver(
    server: &Server,
    ledger: &Mutex<Ledger>,
    settings: &Value,
    ways: &mut [Way],
    chance: &mut SmallRng,
) -> Result<(), String> {
    for life in 0..100 {
        let mut settings = settings.clone();
        settings["headers"] = json!({"x-life": life.to_string()});
        let sink = sink(server, settings).await;
        for _ in 0..chance.random_range(1..200) * (life + 1) {
            let left: Vec<usize> = (0..ways.len()).filter(|way| !ways[*way].ranges.is_empty()).collect();
            if left.is_empty() || !ledger.lock().unwrap().violations.is_empty() {
                return Ok(());
            }
            let mut chunks: Vec<Chunk> = left.iter().map(|way| ways[*way].chunk(life > 0)).collect();
            let patience = match chance.random_range(0..8) {
                // Lives get longer, so that one comes to the end.
                0 if life < 6 => Duration::from_millis(chance.random_range(1..20)),
                _ => Duration::from_secs(60),
            };
            match tokio::time::timeout(patience, sink.write(&mut chunks)).await {
                // It ends in the middle of something.
                Err(_) => break,
                Ok(Ok(outcome)) => account(ways, &left, outcome),
                Ok(Err(Error::Retry { .. })) => {}
                Ok(Err(error)) => return Err(format!("the sink stopped: {error}")),
            }
        }
        for way in ways.iter_mut().filter(|way| !way.ranges.is_empty()) {
            way.ranges = vec![way.whole()];
        }
    }
    Err("it does not come to an end".to_owned())
}

fn account(ways: &mut [Way], left: &[usize], outcome: Outcome) {
    for rejected in outcome.rejected {
        ways[left[rejected.chunk]].rejected.insert(rejected.offset);
    }
    let mut ranges: BTreeMap<usize, Vec<Range<Offset>>> = BTreeMap::new();
    for (chunk, range) in outcome.unfinished {
        ranges.entry(left[chunk]).or_default().push(range);
    }
    for way in left {
        ways[*way].ranges = ranges.remove(way).unwrap_or_default();
    }
}

fn check(ledger: &Ledger, ways: &[Way], lines: &[String], is_ordered: bool, violations: &mut Vec<String>) {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for line in ledger.taken.iter().flat_map(|(_, body)| body.lines()) {
        *found.entry(line).or_default() += 1;
        let mut words = line.split(' ');
        let (partition, offset) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let before = last.insert(partition, offset).unwrap_or(-1);
        if is_ordered && before > offset {
            violations.push(format!("{line} came first behind offset {before}"));
        }
    }
    for line in lines {
        let times = found.remove(line.as_str()).unwrap_or(0);
        if times != usize::from(!is_bad(line)) {
            violations.push(format!("{line} is there {times} times"));
        }
        let mut words = line.split(' ').map(|word| word.parse().unwrap_or(0));
        let (partition, offset): (i64, Offset) = (words.next().unwrap(), words.next().unwrap());
        if is_bad(line) && !ways[partition as usize].rejected.contains(&offset) {
            violations.push(format!("{line} was not rejected"));
        }
    }
    violations.extend(found.keys().map(|line| format!("{line} comes from nowhere")));
    for way in ways {
        let good = |offset: &&Offset| {
            !lines.iter().any(|line| {
                let of = format!("{} {offset} bad", way.script.chunk().partition.partition);
                line.starts_with(&of) && is_bad(line)
            })
        };
        violations.extend(way.rejected.iter().find(good).map(|offset| format!("{offset} was rejected")));
    }
}

/// How many runs there are.
const SEEDS: u64 = 40;

#[tokio::test]
async fn every_record_is_there_once_by_its_key_or_rejected() {
    for seed in 0..SEEDS {
        let violations = run(seed, None).await;
        assert!(violations.is_empty(), "seed {seed}: {:#?}", &violations[..violations.len().min(10)]);
    }
}

#[tokio::test]
async fn deliberate_mistakes_are_noticed() {
    for mutant in [Mutant::AdaptiveCuts, Mutant::KeyByAttempt, Mutant::WholeAgain] {
        let mut noticed = None;
        for seed in 0..SEEDS {
            noticed = run(seed, Some(mutant)).await.pop().map(|violation| (seed, violation));
            if noticed.is_some() {
                break;
            }
        }
        eprintln!("{mutant:?}: {noticed:?}");
        assert!(noticed.is_some(), "{mutant:?}");
    }
}
