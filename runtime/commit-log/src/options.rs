//! How a data folder is used.

use std::time::Duration;

use crate::space::{DiskLimit, WhenFull};

/// How a data folder is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How full the file system may get. Default: 95 %.
    pub limit: DiskLimit,
    /// What happens when it is. Default: appends are refused.
    pub when_full: WhenFull,
    /// How long a partition that was just made is spared by retention and compaction, so that whoever wants its records has
    /// come to hold them. Default: not at all.
    pub spare_new: Duration,
    /// Who holds the folder, for people: `aqueduct run, process 123`.
    pub owner: String,
}
