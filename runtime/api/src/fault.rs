//! Places where a test can end the process or switch on a deliberate mistake. Without the feature `faults`, which no
//! release binary has, both cost nothing.

/// A deliberate mistake in the rules of delivery, switched on by a test that proves that the mistake is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An append is acknowledged before `fdatasync`.
    AcknowledgeBeforeSync,
    /// A source's position is saved before the data that it covers is durable.
    PositionAheadOfData,
    /// A chunk is written before its pin is acknowledged.
    WriteBeforePin,
    /// A commit is taken from an owner whose token is void.
    CommitAfterRevocation,
    /// An object that is already there is overwritten, whatever chunk it is of.
    StaleOverNewer,
    /// An object that is already there is kept, whatever chunk it is of.
    GivenUpKept,
    /// A folder is not synced after a file was made in it.
    NoFolderSync,
    /// The leader epoch stays the same after an unclean start.
    SameEpoch,
    /// Retention deletes what a sink has not delivered yet.
    RetentionPastPin,
    /// A dead letter is written again on re-delivery.
    DeadLetterTwice,
    /// What a source reads again goes through transforms again although it has a dead letter.
    LetterForgotten,
    /// A dead letter of what a source was to read again counts for whatever is like it, however much later.
    LetterForEver,
    /// A pinned chunk is finished under settings other than its own.
    SettingsUnderPin,
    /// A failed sync is tried again as if nothing had happened.
    SyncAgain,
    /// Shared bytes of the budget are held while waiting.
    BudgetHeldWaiting,
    /// The incarnation of a topic stays the same when it grows or is made anew.
    SameIncarnation,
    /// All of a chunk is written again where a part of it was left unfinished.
    WholeAgain,
    /// Requests are cut by load, or smaller after a failure.
    AdaptiveCuts,
    /// A request that is sent again has another key.
    KeyByAttempt,
    /// A document's version is its record's offset alone.
    VersionWithoutIncarnation,
    /// What producers wrote is not known any more after a restart.
    ProducersForgotten,
    /// What producers wrote stays known though the append has failed.
    SequencesKept,
    /// A batch that was sent again is answered before the first one is synced.
    DuplicateBeforeSync,
    /// Readers of what is committed see records of open transactions.
    StablePastOpen,
    /// Which transactions were aborted is not known any more after a crash.
    AbortedForgotten,
    /// A marker leaves its producer's older epochs what they were.
    MarkerWithoutFence,
    /// Transactions that were open at a restart are not any more.
    OpenForgotten,
    /// A member of a group that is not heard of stays for ever.
    SessionForEver,
    /// A commit is taken from a member of an earlier generation.
    CommitOfOldGeneration,
    /// A member that asks what it is to do is told what it was to do before, while the leader still assigns.
    SyncBeforeLeader,
    /// Members are told of an assignment before it is saved.
    AssignBeforeSave,
    /// Whoever has the id of a static member that was replaced goes on under it.
    UnfencedInstance,
    /// A commit in a transaction is taken from a member of an earlier generation.
    TransactionOfOldGeneration,
    /// A transaction is complete before its partitions know how it ended.
    CompleteBeforeMarkers,
    /// A producer is told what its transaction has come to before that is saved.
    AnswerBeforeSave,
    /// Who takes a transactional id over writes under the epoch of who had it.
    SameProducerEpoch,
    /// A transaction whose outcome was decided is loaded as one that goes on.
    OutcomeForgotten,
    /// A transaction whose outcome is being saved takes too long all the same.
    TimeoutOverEnd,
    /// A transactional id that was forgotten is there again after a restart.
    IdNotForgotten,
    /// What a group commits in a transaction counts before the transaction does.
    OffsetsBeforeMarker,
    /// Records are deleted before it is durable where their partition begins from then on.
    StartBeforeSync,
    /// Where a partition begins after records were deleted is not known any more after a restart.
    StartForgotten,
}

#[cfg(feature = "faults")]
mod armed {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::Mutant;

    thread_local! {
        static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    struct Points {
        hits: BTreeMap<&'static str, u64>,
        fatal: Option<(String, u64)>,
    }

    /// `AQUEDUCT_FAIL_POINT=name:n` ends the process with SIGKILL at the n-th hit of that point.
    static POINTS: LazyLock<Mutex<Points>> = LazyLock::new(|| {
        let fatal = std::env::var("AQUEDUCT_FAIL_POINT").ok().and_then(|text| {
            let (name, count) = text.rsplit_once(':')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        Mutex::new(Points { hits: BTreeMap::new(), fatal })
    });

    /// A place where the process may end.
    pub fn point(name: &'static str) {
        let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = points.hits.entry(name).or_default();
        *hits += 1;
        let hits = *hits;
        if points.fatal.as_ref().is_some_and(|(fatal, count)| fatal == name && *count == hits) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// Whether the mistake is switched on.
    pub fn mutated(mutant: Mutant) -> bool {
        MUTANT.get() == Some(mutant)
    }

    /// Switches one mistake on, or all off, for the calling thread.
    pub fn mutate(mutant: Option<Mutant>) {
        MUTANT.set(mutant);
    }
}

#[cfg(feature = "faults")]
pub use armed::{mutate, mutated, point};

/// A place where a test may end the process.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_: &'static str) {}

/// Whether the mistake is switched on: never.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn mutated(_: Mutant) -> bool {
    false
}
