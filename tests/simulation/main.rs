//! The deterministic simulation: the real engine, log, file source and object sink under one seed, with a disk, a store,
//! threads and time that do what real ones do on a bad day. A seed is a whole run: `AQUEDUCT_SIM_SEED=7` replays it
//! with a trace, `AQUEDUCT_SIM_SEEDS=0..50000` runs many; `AQUEDUCT_SIM_SEARCH_SEED` does so for one of documents.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod cluster;
mod deletions;
mod dice;
mod disk;
mod documents;
mod growth;
mod life;
mod log_alone;
mod machine;
mod mutants;
mod observer;
mod oracle;
mod pipeline;
mod producers;
mod run;
mod scenario;
mod search;
mod store;
mod threads;
mod transactions;
mod watched;
mod world;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use log_alone::run_log;
use producers::run_producers;
use run::{Outcome, run};
use search::run_search;
use transactions::run_transactions;

/// The seeds that every test run goes through.
const USUAL: Range<u64> = 0..2000;
/// How many failing seeds are told before the rest is left.
const ENOUGH: usize = 5;

#[test]
fn every_record_is_accounted_for() {
    if let Some(seed) = number("AQUEDUCT_SIM_SEED") {
        tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).without_time().init();
        return tell(&[run(seed, None, false, true)]);
    }
    through_all(USUAL, |seed| run(seed, None, false, false));
}

#[test]
fn the_log_alone_keeps_what_it_acknowledged() {
    if let Some(seed) = number("AQUEDUCT_SIM_LOG_SEED") {
        tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).without_time().init();
        return tell(&[run_log(seed, None, true)]);
    }
    through_all(USUAL, |seed| run_log(seed, None, false));
}

#[test]
fn every_document_is_accounted_for() {
    if let Some(seed) = number("AQUEDUCT_SIM_SEARCH_SEED") {
        tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).without_time().init();
        return tell(&[run_search(seed, None, true)]);
    }
    through_all(0..USUAL.end / 4, |seed| run_search(seed, None, false));
}

#[test]
fn every_producer_s_record_is_there_once() {
    if let Some(seed) = number("AQUEDUCT_SIM_PRODUCER_SEED") {
        tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).without_time().init();
        return tell(&[run_producers(seed, None, true)]);
    }
    through_all(0..USUAL.end / 2, |seed| run_producers(seed, None, false));
}

#[test]
fn every_transaction_is_seen_whole_or_not_at_all() {
    if let Some(seed) = number("AQUEDUCT_SIM_TRANSACTION_SEED") {
        tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).without_time().init();
        return tell(&[run_transactions(seed, None, true)]);
    }
    through_all(0..USUAL.end / 2, |seed| run_transactions(seed, None, false));
}

/// Runs the usual seeds, or those that were asked for, on all cores.
fn through_all(usual: Range<u64>, run: impl Fn(u64) -> Outcome + Sync) {
    let seeds = match std::env::var("AQUEDUCT_SIM_SEEDS") {
        Ok(seeds) => {
            let (from, to) = seeds.split_once("..").expect("AQUEDUCT_SIM_SEEDS is a range such as 0..50000");
            from.parse().unwrap()..to.parse().unwrap()
        }
        Err(_) => usual,
    };
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let outcome = run(seed);
                    if !outcome.violations.is_empty() {
                        failed.lock().unwrap().push(outcome);
                    }
                }
            });
        }
    });
    tell(&failed.into_inner().unwrap());
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let search = |seed| run_search(seed, None, false);
    let pairs = (0..25).map(|seed| (seed, run(seed, None, false, false), run(seed, None, false, false)));
    for (seed, one, two) in pairs.chain((0..25).map(|seed| (seed, search(seed), search(seed)))) {
        let differs = one.last.iter().zip(&two.last).position(|(one, two)| one != two);
        let around = differs.map(|place| (&one.last[..=place], &two.last[place]));
        assert_eq!(
            one.digest, two.digest,
            "seed {seed} is not one run (AQUEDUCT_SIM_WHOLE=1 compares all of it): {around:#?}"
        );
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the seed is a number"))
}

/// Fails the test if a seed failed, telling what happened.
fn tell(failed: &[Outcome]) {
    for outcome in failed.iter().filter(|outcome| !outcome.violations.is_empty()) {
        println!("\nseed {} failed. {:?}\nThe last events:", outcome.seed, outcome.scenario);
        outcome.last.iter().for_each(|event| println!("  {event}"));
        println!("seed {} violated:", outcome.seed);
        outcome.violations.iter().for_each(|violation| println!("  {violation}"));
        println!("AQUEDUCT_SIM_SEED={} replays it with a trace", outcome.seed);
    }
    let seeds: Vec<u64> =
        failed.iter().filter(|outcome| !outcome.violations.is_empty()).map(|outcome| outcome.seed).collect();
    assert!(seeds.is_empty(), "seeds that failed: {seeds:?}");
}
