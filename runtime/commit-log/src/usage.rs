//! What the log uses and has lost, for status and metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_record::Offset;
use serde::Serialize;

use crate::partition::Partition;
use crate::topic::Registry;

/// What the log uses and has lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Bytes of all segments, without indexes.
    pub bytes: u64,
    /// Files that are open.
    pub open_files: usize,
    /// The leader epoch under which appends are written.
    pub leader_epoch: i32,
    /// Why appends are refused for want of room, when they are.
    pub full: Option<String>,
    /// Offsets that were deleted to make room, since the start.
    pub dropped_offsets: u64,
    /// Bytes that were deleted to make room, since the start.
    pub dropped_bytes: u64,
    /// All partitions, by topic.
    pub partitions: Vec<PartitionUsage>,
}

/// What one partition uses and has lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionUsage {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Bytes of its segments.
    pub bytes: u64,
    /// How many segments it has.
    pub segments: usize,
    /// The first offset that is kept.
    pub start: Offset,
    /// The offset that the next append gets.
    pub end: Offset,
    /// Who holds records of it.
    pub holders: Vec<Arc<str>>,
    /// Offsets that can not be read, as far as is known.
    pub damaged: Vec<Damaged>,
}

/// Offsets that can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// The first of them.
    pub from: Offset,
    /// The offset after the last of them.
    pub to: Offset,
}

impl Usage {
    pub(crate) fn of(registry: &Registry) -> Self {
        let partitions: Vec<_> = registry.partitions().iter().map(|partition| PartitionUsage::of(partition)).collect();
        let shared = &registry.shared;
        Usage {
            bytes: partitions.iter().map(|partition| partition.bytes).sum(),
            open_files: shared.files.len(),
            leader_epoch: shared.epoch.current(),
            full: shared.room.full(),
            dropped_offsets: shared.dropped.offsets.load(Ordering::Relaxed),
            dropped_bytes: shared.dropped.bytes.load(Ordering::Relaxed),
            partitions,
        }
    }
}

impl PartitionUsage {
    fn of(partition: &Partition) -> Self {
        let bounds = partition.bounds();
        let segments = partition.segments.read();
        let damage = segments.values().flat_map(|segment| segment.damage());
        PartitionUsage {
            topic: partition.of.topic.clone(),
            partition: partition.of.partition,
            bytes: segments.values().map(|segment| segment.extent().size).sum(),
            segments: segments.len(),
            start: bounds.start,
            end: bounds.end,
            holders: partition.holds.holders(),
            damaged: damage.map(|damage| Damaged { from: damage.from, to: damage.to }).collect(),
        }
    }
}
