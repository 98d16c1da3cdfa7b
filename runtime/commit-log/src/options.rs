//! How a data folder is used.

use crate::space::{DiskLimit, WhenFull};

/// How a data folder is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How full the file system may get. Default: 95 %.
    pub limit: DiskLimit,
    /// What happens when it is. Default: appends are refused.
    pub when_full: WhenFull,
    /// Who holds the folder, for people: `aqueduct run, process 123`.
    pub owner: String,
}
