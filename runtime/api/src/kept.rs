//! What those who look after a log from outside ask of it: what it takes, and to be rid of records.

use std::path::PathBuf;

use aqueduct_record::Offset;
use async_trait::async_trait;

use crate::disk::Space;
use crate::{Result, TopicPartition};

/// What is kept, and the end of it.
#[async_trait]
pub trait Kept: Send + Sync {
    /// Deletes the records before `offset`, or all that are safe where there is none, for good: from then on the partition
    /// begins there. Returns where it begins, which is later where retention was faster. `Refused` where the offset is past
    /// what is safe, the topic is compacted, or somebody holds records before it.
    async fn delete_before(&self, of: &TopicPartition, offset: Option<Offset>) -> Result<Offset>;

    /// What the log takes on the disk.
    async fn on_disk(&self) -> Result<OnDisk>;
}

/// What a log takes on the disk.
#[derive(Clone, Debug)]
pub struct OnDisk {
    /// Where it is.
    pub folder: PathBuf,
    /// The room of the disk.
    pub space: Space,
    /// How many bytes each partition takes.
    pub partitions: Vec<(TopicPartition, u64)>,
}
