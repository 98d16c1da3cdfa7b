//! Each rule of delivery is there because something goes wrong without it: the mistake is switched on, and has to be noticed
//! within a few hundred seeds that are aimed at it.

use aqueduct_api::conformance::sink::Script;
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{Chunk, Edge, SinkOpening};

use crate::dice::Dice;
use crate::life::{Life, Time, Trace};
use crate::log_alone::run_log;
use crate::producers::run_producers;
use crate::run::run;
use crate::search::run_search;
use crate::store::Bucket;
use crate::transactions::run_transactions;

/// How many seeds a mistake may stay unnoticed.
const SEEDS: u64 = 300;

/// Looks for a seed that fails with the mistake and passes without it.
fn is_noticed(mutant: Mutant) {
    for seed in 0..SEEDS {
        let outcome = run(seed, Some(mutant), true, std::env::var_os("AQUEDUCT_SIM_ALOUD").is_some());
        if std::env::var_os("AQUEDUCT_SIM_WHOLE").is_some() {
            println!("seed {seed}: {:?}, {} events", outcome.violations, outcome.digest.0);
        }
        if let Some(first) = outcome.violations.first()
            && run(seed, Some(mutant), false, false).violations.is_empty()
        {
            println!("{mutant:?} is noticed by seed {seed}: {first}");
            return;
        }
    }
    panic!("{mutant:?} was not noticed in {SEEDS} seeds");
}

#[test]
fn an_append_acknowledged_before_its_sync_is_noticed() {
    is_noticed(Mutant::AcknowledgeBeforeSync);
}

#[test]
fn a_position_saved_ahead_of_its_data_is_noticed() {
    is_noticed(Mutant::PositionAheadOfData);
}

#[test]
fn a_chunk_written_before_its_pin_is_noticed() {
    is_noticed(Mutant::WriteBeforePin);
}

#[test]
fn a_commit_after_revocation_is_noticed() {
    // Whole pipelines hide it well, since two owners of a sink cut the same chunks; the log is asked directly.
    is_noticed_by_the_log_alone(Mutant::CommitAfterRevocation);
}

/// Looks for a seed of the log alone that fails with the mistake and passes without it.
fn is_noticed_by_the_log_alone(mutant: Mutant) {
    let noticed = (0..SEEDS).find_map(|seed| {
        let first = run_log(seed, Some(mutant), false).violations.into_iter().next()?;
        run_log(seed, None, false).violations.is_empty().then_some((seed, first))
    });
    let (seed, first) = noticed.unwrap_or_else(|| panic!("{mutant:?} was not noticed in {SEEDS} seeds"));
    println!("{mutant:?} is noticed by seed {seed} of the log alone: {first}");
}

#[test]
fn a_start_that_is_told_before_it_is_synced_is_noticed() {
    is_noticed_by_the_log_alone(Mutant::StartBeforeSync);
}

#[test]
fn a_start_that_a_restart_forgets_is_noticed() {
    is_noticed_by_the_log_alone(Mutant::StartForgotten);
}

#[test]
fn an_object_of_a_chunk_that_was_given_up_over_a_later_one_is_noticed() {
    // Pins keep two owners from cutting different chunks, so whole pipelines hide it: the sink is asked directly. After an
    // unpin it has cut another chunk than the owner before it, who wakes up and writes the earlier one.
    for given_up in [0, 1] {
        let writes = [(60, given_up), (40, 0)];
        assert_eq!(lines_after(&writes, None), 60);
        assert_eq!(lines_after(&writes, Some(Mutant::StaleOverNewer)), 40, "the mistake is noticed");
    }
}

#[test]
fn an_object_that_is_kept_though_its_chunk_was_given_up_is_noticed() {
    is_noticed(Mutant::GivenUpKept);
    for (earlier, later) in [(40, 60), (60, 40)] {
        let writes = [(earlier, 0), (later, 1), (later, 1)];
        assert_eq!(lines_after(&writes, None), later as usize);
        assert_eq!(lines_after(&writes, Some(Mutant::GivenUpKept)), earlier as usize, "the mistake is noticed");
    }
}

/// How many lines an object has after chunks of so many records were written, each after so many were given up: in
/// Confluent's layout it has one name.
fn lines_after(writes: &[(u32, u32)], mutant: Option<Mutant>) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let time = Time::new();
        time.begin_life();
        let bucket = Bucket::new(Dice::new(0, "store"), time, Trace::new(false));
        let settings = serde_json::json!({ "url": "s3://bucket/x", "format": "lines" });
        let settings = serde_json::from_value(settings).expect("good settings");
        let opening =
            SinkOpening { name: "sink".into(), folder: "/".into(), scratch: std::env::temp_dir(), edge: Edge::real() };
        for &(records, given_up) in writes {
            let sink = aqueduct_s3::open_over(&settings, &opening, bucket.connect(Life::new())).expect("a sink");
            mutate(mutant);
            // With the mistake or without it the earlier owner is not the one that is heard.
            let _ = sink.write(&mut [Chunk { given_up, ..Script::new("t", 0).batch(0, records).chunk() }]).await;
            mutate(None);
        }
        let objects = bucket.objects();
        assert_eq!(objects.len(), 1, "both chunks have one name");
        objects[0].1.iter().filter(|byte| **byte == b'\n').count()
    })
}

#[test]
fn a_folder_that_is_not_synced_is_noticed() {
    is_noticed(Mutant::NoFolderSync);
}

#[test]
fn an_epoch_that_is_not_raised_is_noticed() {
    is_noticed(Mutant::SameEpoch);
}

#[test]
fn retention_past_a_pin_is_noticed() {
    is_noticed(Mutant::RetentionPastPin);
}

#[test]
fn a_dead_letter_written_twice_is_noticed() {
    is_noticed(Mutant::DeadLetterTwice);
}

#[test]
fn settings_changed_under_a_pin_are_noticed() {
    is_noticed(Mutant::SettingsUnderPin);
}

#[test]
fn a_failed_sync_tried_again_is_noticed() {
    is_noticed(Mutant::SyncAgain);
}

#[test]
fn shared_bytes_held_while_waiting_are_noticed() {
    is_noticed(Mutant::BudgetHeldWaiting);
}

/// Looks for a seed of documents that fails with the mistake and passes without it.
fn is_noticed_by_documents(mutant: Mutant) {
    let noticed = (0..SEEDS).find_map(|seed| {
        let first = run_search(seed, Some(mutant), false).violations.into_iter().next()?;
        run_search(seed, None, false).violations.is_empty().then_some((seed, first))
    });
    let (seed, first) = noticed.unwrap_or_else(|| panic!("{mutant:?} was not noticed in {SEEDS} seeds"));
    println!("{mutant:?} is noticed by seed {seed} of documents: {first}");
}

#[test]
fn requests_cut_by_load_are_noticed() {
    is_noticed_by_documents(Mutant::AdaptiveCuts);
}

#[test]
fn versions_without_incarnation_are_noticed() {
    is_noticed_by_documents(Mutant::VersionWithoutIncarnation);
}

#[test]
fn an_incarnation_that_stays_the_same_is_noticed() {
    is_noticed_by_documents(Mutant::SameIncarnation);
}

#[test]
fn a_whole_chunk_written_again_after_a_part_of_it_failed_is_noticed() {
    is_noticed_by_documents(Mutant::WholeAgain);
}

/// Looks for a seed of producers that fails with the mistake and passes without it.
fn is_noticed_by_producers(mutant: Mutant) {
    let noticed = (0..SEEDS).find_map(|seed| {
        let first = run_producers(seed, Some(mutant), false).violations.into_iter().next()?;
        run_producers(seed, None, false).violations.is_empty().then_some((seed, first))
    });
    let (seed, first) = noticed.unwrap_or_else(|| panic!("{mutant:?} was not noticed in {SEEDS} seeds"));
    println!("{mutant:?} is noticed by seed {seed} of producers: {first}");
}

#[test]
fn producers_that_a_restart_forgets_are_noticed() {
    is_noticed_by_producers(Mutant::ProducersForgotten);
}

#[test]
fn sequence_numbers_that_stay_after_a_failure_are_noticed() {
    is_noticed_by_producers(Mutant::SequencesKept);
}

#[test]
fn a_duplicate_answered_before_its_sync_is_noticed() {
    is_noticed_by_producers(Mutant::DuplicateBeforeSync);
}

/// Looks for a seed of transactions that fails with the mistake and passes without it.
fn is_noticed_by_transactions(mutant: Mutant) {
    let noticed = (0..SEEDS).find_map(|seed| {
        let first = run_transactions(seed, Some(mutant), false).violations.into_iter().next()?;
        run_transactions(seed, None, false).violations.is_empty().then_some((seed, first))
    });
    let (seed, first) = noticed.unwrap_or_else(|| panic!("{mutant:?} was not noticed in {SEEDS} seeds"));
    println!("{mutant:?} is noticed by seed {seed} of transactions: {first}");
}

#[test]
fn readers_that_see_what_is_open_are_noticed() {
    is_noticed_by_transactions(Mutant::StablePastOpen);
}

#[test]
fn aborted_transactions_that_a_recovery_forgets_are_noticed() {
    is_noticed_by_transactions(Mutant::AbortedForgotten);
}

#[test]
fn a_marker_that_fences_nobody_is_noticed() {
    is_noticed_by_transactions(Mutant::MarkerWithoutFence);
}

#[test]
fn open_transactions_that_a_restart_forgets_are_noticed() {
    is_noticed_by_transactions(Mutant::OpenForgotten);
}
