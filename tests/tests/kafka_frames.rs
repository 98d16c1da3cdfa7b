//! Frames of real clients, and of every API and version that Kafka's own client knows, to a broker: as they are, cut off at every
//! place and with bytes changed. Each is answered or ends its connection; nothing panics, and what is allocated for one is bounded.
//!
//! `fuzz/frames.bin` has the frames: `fuzz/Frames.java` made some up, `fuzz/record.py` recorded others. `AQUEDUCT_FRAMES` says how many
//! changed ones are tried (default 20,000); `AQUEDUCT_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_api::Edge;
use aqueduct_kafka_server::Security;
use futures::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use entry::{Endpoint, Told};

#[path = "../fuzz/entry.rs"]
mod entry;

#[global_allocator]
static ALLOCATED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that the broker may allocate for one frame, all in all, for frames of this corpus: none is longer than 2 KiB.
const MOST: usize = 8 << 20;
/// Frames that are asked at once.
const AT_ONCE: usize = 64;
/// How long an answer is waited for; and one to a frame that is whole.
const SOON: Duration = Duration::from_millis(20);
const PATIENTLY: Duration = Duration::from_secs(20);

const API_VERSIONS: i16 = 18;

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn corpus() -> Vec<Vec<u8>> {
    entry::listed(include_bytes!("../fuzz/frames.bin"))
}

fn endpoint() -> Endpoint {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Endpoint::new(runtime, tempfile::tempdir().unwrap(), Edge::real, Security::default())
}

/// What becomes of frames, each sent by a client of its own at the same time, within so long.
fn told_to_all(endpoint: &mut Endpoint, frames: &[Vec<u8>], within: Duration) -> Vec<Told> {
    let clients: Vec<_> = frames.iter().map(|_| endpoint.client()).collect();
    let asked = clients.into_iter().zip(frames).map(|(mut client, frame)| async move {
        tokio::time::timeout(within, client.ask(frame)).await.unwrap_or(Told::Nothing)
    });
    endpoint.runtime.block_on(join_all(asked))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn short(bytes: &[u8]) -> i16 {
    i16::from_be_bytes([bytes[0], bytes[1]])
}

fn kind(frame: &[u8]) -> (i16, i16) {
    (short(frame), short(&frame[2..]))
}

/// The oldest and newest version of each API that the endpoint tells of.
fn told(endpoint: &mut Endpoint) -> BTreeMap<i16, (i16, i16)> {
    let frame = [API_VERSIONS.to_be_bytes().as_slice(), &[0, 0, 0, 0, 0, 7, 0xff, 0xff]].concat();
    let Told::Answer(answer) = told_to_all(endpoint, &[frame], PATIENTLY).remove(0) else {
        panic!("it says what it answers")
    };
    assert_eq!(answer[..6], [0, 0, 0, 7, 0, 0]);
    let rows = answer[10..].chunks_exact(6);
    rows.map(|row| (short(row), (short(&row[2..]), short(&row[4..])))).collect()
}

/// A frame that differs: cut off, bytes replaced by values that tend to hurt, a piece cut out, or one of another put in. What it
/// asks for stays mostly the same.
fn changed(corpus: &[Vec<u8>], dice: &mut SmallRng) -> Vec<u8> {
    let mut frame = corpus[dice.random_range(0..corpus.len())].clone();
    let from = if dice.random_range(0..10) == 0 { 0 } else { 8 };
    for _ in 0..dice.random_range(1..4) {
        if frame.len() <= from {
            break;
        }
        let at = dice.random_range(from..frame.len());
        match dice.random_range(0..8) {
            0 => frame.truncate(at),
            1 => frame[at] = [0, 1, 2, 0x7f, 0x80, 0xff][dice.random_range(0..6)],
            2 | 3 => frame[at] ^= 1 << dice.random_range(0..8),
            4 => frame[at] = dice.random_range(0..=255),
            5 => drop(frame.remove(at)),
            6 => {
                let hurts: [&[u8]; 4] =
                    [&[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0, 1, 0, 0]];
                let hurts = hurts[dice.random_range(0..4)];
                let until = frame.len().min(at + 4);
                frame.splice(at..until, hurts.iter().copied());
            }
            _ => {
                let other = &corpus[dice.random_range(0..corpus.len())];
                let piece = dice.random_range(0..other.len());
                frame.splice(at..at, other[piece..].iter().take(9).copied());
            }
        }
    }
    frame
}

/// Asks, and checks that each answer is known by its frame's number and that no more was allocated than may be.
fn ask(endpoint: &mut Endpoint, frames: &[Vec<u8>], within: Duration) -> Vec<Told> {
    let region = Region::new(ALLOCATED);
    let all = told_to_all(endpoint, frames, within);
    let allocated = region.change().bytes_allocated;
    let at_once = frames.len() * MOST / 4 + MOST;
    assert!(allocated < at_once, "{allocated} bytes are allocated for these, each in hexadecimal: {frames:02x?}");
    for (frame, told) in frames.iter().zip(&all) {
        if let Told::Answer(answer) = told {
            assert_eq!(answer.get(..4), frame.get(4..8), "the number of {frame:02x?}");
        }
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something panicked for one of these: {frames:02x?}");
    all
}

// One test: what is allocated is counted for the whole process.
#[test]
fn every_frame_is_answered_or_ends_its_connection_and_costs_little() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |what| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        shown(what);
    }));
    let corpus = corpus();
    let mut endpoint = endpoint();
    let told = told(&mut endpoint);
    let there: BTreeSet<_> = corpus.iter().map(|frame| kind(frame)).collect();
    for (api, (oldest, newest)) in &told {
        // Versions of Produce below 3 are told, but end the connection.
        let oldest = if *api == 0 { 3 } else { *oldest };
        let absent: Vec<_> = (oldest..=*newest).filter(|version| !there.contains(&(*api, *version))).collect();
        assert!(absent.is_empty(), "no frame of API {api} in versions {absent:?}: add it to fuzz/frames.bin");
    }
    whole(&mut endpoint, &corpus, &told);
    let cut: Vec<_> = corpus.iter().flat_map(|frame| (0..frame.len()).map(|end| frame[..end].to_vec())).collect();
    let cut: Vec<_> = cut.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut counts = BTreeMap::new();
    let mut count = |all: Vec<Told>| {
        for told in all {
            let what = match told {
                Told::Answer(_) => "answered",
                Told::Closed => "closed",
                Told::Nothing => "without an answer",
            };
            *counts.entry(what).or_insert(0u64) += 1;
        }
    };
    // Every tenth place is enough for every change of the code; all of them are tried where more is.
    let wanted = number("AQUEDUCT_FRAMES").unwrap_or(20_000);
    let step = if wanted > 20_000 { 1 } else { 10 };
    for frames in cut.into_iter().step_by(step).collect::<Vec<_>>().chunks(AT_ONCE) {
        count(ask(&mut endpoint, frames, SOON));
    }
    let seed = number("AQUEDUCT_SEED").unwrap_or_else(rand::random);
    println!("AQUEDUCT_SEED={seed}");
    let mut dice = SmallRng::seed_from_u64(seed);
    for _ in 0..wanted / AT_ONCE as u64 {
        let frames: Vec<_> = (0..AT_ONCE).map(|_| changed(&corpus, &mut dice)).collect();
        count(ask(&mut endpoint, &frames, SOON));
    }
    println!("{counts:?}");
    assert!(counts["answered"] > 1000 && counts["closed"] > 1000, "{counts:?}");
    assert_eq!(told, self::told(&mut endpoint), "it still answers");
}

/// Frames as they are: what is told of is answered, all else ends its connection.
fn whole(endpoint: &mut Endpoint, corpus: &[Vec<u8>], told: &BTreeMap<i16, (i16, i16)>) {
    for frame in corpus {
        let (api, version) = kind(frame);
        let is_known = told.get(&api).is_some_and(|(oldest, newest)| (*oldest..=*newest).contains(&version));
        // Fetches wait for records, members for each other, and producers may want no answer.
        let may_wait = matches!(api, 0 | 1 | 11 | 14);
        let within = if may_wait { Duration::from_millis(100) } else { PATIENTLY };
        let region = Region::new(ALLOCATED);
        let answer = ask(endpoint, std::slice::from_ref(frame), within).remove(0);
        let allocated = region.change().bytes_allocated;
        assert!(allocated < MOST, "{allocated} bytes for API {api} version {version}: {frame:02x?}");
        match answer {
            Told::Answer(_) => assert!(is_known || api == API_VERSIONS, "API {api} version {version}: {frame:02x?}"),
            Told::Closed => assert!(!is_known, "API {api} version {version} is closed: {frame:02x?}"),
            Told::Nothing => assert!(may_wait, "API {api} version {version} waits: {frame:02x?}"),
        }
    }
}
