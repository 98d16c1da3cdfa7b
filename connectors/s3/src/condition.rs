//! Whether a store refuses to put what is there already: some overwrite it whatever the condition, and do not say so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use object_store::{Error as StoreError, Result as Stored};

/// How many trials may fail before no more are made: each uploads an object once more.
const TRIALS: u32 = 3;

/// What is known of a store's condition that an object of the name is not there.
pub(crate) struct Condition(Mutex<Known>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing; so many trials failed.
    Unknown(u32),
    /// It is being tried after so many that failed.
    Tried,
    /// It refuses the put of what is there.
    Heeded,
    /// It puts all the same, or will not let us find out.
    Ignored,
}

impl Condition {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Condition(Mutex::new(Known::Unknown(0)))
    }

    /// Whether the store was seen to refuse.
    pub(crate) fn is_heeded(&self) -> bool {
        *self.known() == Known::Heeded
    }

    /// Begins a trial if one is due, which there is at most one of at a time.
    pub(crate) fn begin(&self) -> Option<Trial<'_>> {
        let mut known = self.known();
        let Known::Unknown(failed) = *known else { return None };
        *known = Known::Tried;
        Some(Trial { condition: self, failed, found: Known::Unknown(failed) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trial under way. One that is dropped before its end says nothing, and is made again.
pub(crate) struct Trial<'a> {
    condition: &'a Condition,
    failed: u32,
    found: Known,
}

impl Trial<'_> {
    /// Takes in what the store of `bucket` answered when it was to put, on condition, what is there.
    pub(crate) fn end<T>(mut self, answer: Stored<T>, bucket: &str) {
        self.found = match answer {
            Err(cause) if is_refused(&cause) => Known::Heeded,
            Ok(_) => {
                tracing::info!(bucket, "the store overwrites on a conditional put: each object is looked for first");
                Known::Ignored
            }
            Err(cause) if self.failed + 1 >= TRIALS => {
                let why = "whether the store heeds a conditional put can not be told: each object is looked for first";
                tracing::warn!(bucket, %cause, "{why}");
                Known::Ignored
            }
            Err(_) => Known::Unknown(self.failed + 1),
        };
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        *self.condition.known() = self.found;
    }
}

/// Whether it is the condition (status 412 or 304) for which a put was refused. A conflict (status 409) is told alike, but says
/// only that somebody else was at it.
fn is_refused(cause: &StoreError) -> bool {
    match cause {
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => true,
        StoreError::AlreadyExists { source, .. } => source.downcast_ref().is_some_and(is_refused),
        _ => false,
    }
}
