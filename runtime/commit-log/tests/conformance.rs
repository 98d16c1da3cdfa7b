//! The suite that every log must pass, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use aqueduct_api::conformance::{log, transactions};
use aqueduct_api::{At, Edge, Log as _, Store, TopicPartition, TopicSettings, Topics as _};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options};

/// Options under which it does not matter how full the disk is that the tests run on.
fn any_disk() -> Options {
    Options { limit: DiskLimit::Percent(100), ..Options::default() }
}

async fn with_log<F: Future<Output = ()>>(check: impl FnOnce(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store = CommitLog::open(Edge::real(), folder.path(), any_disk()).await.unwrap();
    check(Arc::new(store.clone())).await;
    store.close().await.unwrap();
}

macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                with_log(async |store| log::$check(&*store).await).await;
            }
        )*
    };
}

checks!(
    appends_are_read_in_order,
    batches_are_kept_byte_for_byte,
    bounds_follow_what_is_appended,
    own_offsets_are_kept_with_their_gaps,
    measured_chunks_agree_with_what_is_read,
    times_are_found,
    waiting_for_growth_ends_with_an_append,
    what_can_not_be_taken_is_refused,
    topics_are_made_changed_and_deleted,
    held_topics_stay,
    commits_are_found_again,
    commits_are_all_or_nothing,
    a_void_token_commits_nothing,
    every_durability_is_served,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_s_appends_keep_their_order() {
    with_log(async |store| log::each_caller_s_appends_keep_their_order(&store).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_read_once_they_are_committed() {
    let folder = tempfile::tempdir().unwrap();
    let store = CommitLog::open(Edge::real(), folder.path(), any_disk()).await.unwrap();
    transactions::only_what_is_committed_is_read(&store).await;
    transactions::a_marker_fences(&store).await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_log_is_free_at_once_whoever_still_has_a_clone() {
    let folder = tempfile::tempdir().unwrap();
    let mut clones = Vec::new();
    for round in 0..20 {
        let store = CommitLog::open(Edge::real(), folder.path(), any_disk()).await.unwrap();
        if round == 0 {
            log::topic(&store, "t", 1).await;
        }
        let of = TopicPartition::new("t", 0);
        assert_eq!(log::append(&store, &of, log::batch(&["x"], 0)).await, round);
        clones.push(store.clone());
        store.close().await.unwrap();
    }
    let closed = clones.pop().unwrap();
    let of = TopicPartition::new("t", 0);
    for refused in [
        closed.append(&of, log::batch(&["x"], 0), At::End).await.err(),
        closed.sync(&of).await.err(),
        closed.create("u", 1, &TopicSettings::default()).await.err(),
        closed.delete("t", true).await.err(),
    ] {
        assert!(refused.unwrap().to_string().contains("the log is closed"));
    }
    assert_eq!(log::read_all(&closed, &of, 0, 1000).await.0.len(), 20);
}
