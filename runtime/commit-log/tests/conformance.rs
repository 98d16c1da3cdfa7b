//! The suite that every log must pass, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use aqueduct_api::conformance::log;
use aqueduct_api::{Edge, Store};
use aqueduct_commit_log::{CommitLog, Options};

async fn with_log<F: Future<Output = ()>>(check: impl FnOnce(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store = CommitLog::open(Edge::real(), folder.path(), Options::default()).await.unwrap();
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
