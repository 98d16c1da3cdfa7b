//! The last record of each key stays.

/// How far compaction has come.
#[derive(Default)]
pub(crate) struct Progress {}
