//! Thousands of simulated worlds, in which nothing may go wrong, and some in which a deliberate mistake has to be noticed.

use aqueduct_api::fault::Mutant;

use super::world::run;
use crate::worlds;

const SEEDS: u64 = 3000;

#[test]
fn transactions_are_whole_or_not_there_whatever_happens() {
    let (mut commits, mut aborts, mut crashes) = (0, 0, 0);
    let (mut compacted, mut races) = (0, 0);
    for seed in 0..SEEDS {
        let world = run(seed);
        assert!(world.violations.is_empty(), "seed {seed}: {:#?}", world.violations);
        commits += world.commits;
        aborts += world.log.aborts;
        crashes += world.crashes;
        compacted += world.log.compacted;
        races += world.races;
    }
    println!("{commits} commits, {aborts} aborts, {crashes} crashes in {SEEDS} worlds");
    println!("{compacted} records compacted away, {races} ends at the same time as time-outs");
    assert!(compacted > 10 * SEEDS as usize, "only {compacted} records were compacted away in {SEEDS} worlds");
    assert!(races > SEEDS as usize / 10, "only {races} ends at the same time as time-outs in {SEEDS} worlds");
    assert!(commits > 10 * SEEDS as usize, "only {commits} commits in {SEEDS} worlds");
    assert!(aborts > 5 * SEEDS as usize, "only {aborts} aborts in {SEEDS} worlds");
    assert!(crashes > SEEDS as usize, "only {crashes} crashes in {SEEDS} worlds");
}

fn is_noticed(mutant: Mutant) {
    worlds::is_noticed(mutant, |seed| !run(*seed).violations.is_empty());
}

#[test]
fn a_transaction_that_is_complete_before_its_partitions_know_is_noticed() {
    is_noticed(Mutant::CompleteBeforeMarkers);
}

#[test]
fn an_answer_before_the_outcome_is_saved_is_noticed() {
    is_noticed(Mutant::AnswerBeforeSave);
}

#[test]
fn a_producer_under_the_epoch_of_another_is_noticed() {
    is_noticed(Mutant::SameProducerEpoch);
}

#[test]
fn an_outcome_that_is_forgotten_at_a_start_is_noticed() {
    is_noticed(Mutant::OutcomeForgotten);
}

#[test]
fn a_time_out_over_an_end_that_is_being_saved_is_noticed() {
    is_noticed(Mutant::TimeoutOverEnd);
}

#[test]
fn an_id_that_is_there_again_after_it_was_forgotten_is_noticed() {
    is_noticed(Mutant::IdNotForgotten);
}
