//! The embedded log: topics whose partitions are files of record batches, as they came, on the local disk.
//!
//! ```text
//! <folder>/.lock                        who holds the folder
//! <folder>/format                       the version of all this
//! <folder>/epoch                        the leader epoch, raised whenever offsets might be used a second time
//! <folder>/clean                        the note of a clean stop
//! <folder>/producer-ids                 producer ids below this number may have been given
//! <folder>/ballast                      room that is reserved for internal topics
//! <folder>/<topic>/topic.json           id, partitions, settings
//! <folder>/<topic>/<partition>/<base offset>.log, .index, .timeindex, .txnindex, .producers
//! <folder>/<topic>/<partition>/<offset>.start        where the partition begins, where records were deleted
//! ```
//!
//! Each partition has a queue and at most one job that writes it ([`writer`]): what waits is written with one call and
//! synced once, and only then may readers see it (on topics with `durability: fsync`). Readers walk from batch to batch
//! ([`walk`], [`reader`]); records are decoded by nobody but compaction.

mod aborted;
mod compaction;
mod deletion;
mod folder;
mod group_records;
mod groups;
mod holds;
mod index;
mod log;
mod mark;
mod markers;
mod names;
mod options;
mod partition;
mod producer_ids;
mod producers;
mod queue;
mod reader;
mod rebuild;
mod recent;
mod recovery;
mod retention;
mod roll;
mod segment;
mod shared;
mod snapshots;
mod space;
mod stretches;
mod topic;
mod transactions;
mod undecided;
mod usage;
mod void;
mod walk;
mod watchers;
mod writer;

pub use log::CommitLog;
pub use options::Options;
pub use recovery::{Cut, Missing, Recovery};
pub use space::{DiskLimit, WhenFull};
pub use usage::{Damaged, PartitionUsage, Usage};
