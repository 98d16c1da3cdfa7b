//! Thousands of simulated worlds, in which nothing may go wrong, and some in which a deliberate mistake has to be noticed.

use aqueduct_api::fault::Mutant;

use super::world::run;
use crate::worlds;

const SEEDS: u64 = 4000;

#[test]
fn members_share_partitions_whatever_happens() {
    let (mut handed_out, mut commits) = (0, 0);
    let (mut transactions, mut aborted, mut fenced) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = run(seed);
        assert!(world.violations.is_empty(), "seed {seed}: {:#?}", world.violations);
        handed_out += world.handed_out;
        commits += world.commits;
        transactions += world.transactions().0;
        aborted += world.transactions().1;
        fenced += world.fenced;
    }
    println!("{transactions} transactions, {aborted} aborted, {fenced} commits in them refused in {SEEDS} worlds");
    assert!(transactions > 10 * SEEDS as usize, "only {transactions} transactions in {SEEDS} worlds");
    assert!(aborted > 5 * SEEDS as usize, "only {aborted} aborted transactions in {SEEDS} worlds");
    assert!(fenced > SEEDS as usize, "only {fenced} commits in transactions were refused in {SEEDS} worlds");
    assert!(handed_out > 10 * SEEDS as usize, "only {handed_out} assignments in {SEEDS} worlds");
    assert!(commits > 50 * SEEDS as usize, "only {commits} commits in {SEEDS} worlds");
}

fn is_noticed(mutant: Mutant) {
    worlds::is_noticed(mutant, |seed| !run(*seed).violations.is_empty());
}

#[test]
fn a_session_without_an_end_is_noticed() {
    is_noticed(Mutant::SessionForEver);
}

#[test]
fn a_commit_of_an_old_generation_is_noticed() {
    is_noticed(Mutant::CommitOfOldGeneration);
}

#[test]
fn a_commit_in_a_transaction_of_an_old_generation_is_noticed() {
    is_noticed(Mutant::TransactionOfOldGeneration);
}

#[test]
fn an_answer_before_the_leader_has_assigned_is_noticed() {
    is_noticed(Mutant::SyncBeforeLeader);
}

#[test]
fn an_assignment_that_is_not_saved_is_noticed() {
    is_noticed(Mutant::AssignBeforeSave);
}

#[test]
fn a_static_member_that_is_not_fenced_is_noticed() {
    is_noticed(Mutant::UnfencedInstance);
}
