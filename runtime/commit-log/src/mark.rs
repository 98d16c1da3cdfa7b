//! What a clean stop notes, so that the next start need not read the segments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_record::Offset;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::partition::Partition;
use crate::producers::Producers;

/// What a clean stop notes of all partitions.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct CleanMark {
    /// By topic.
    pub(crate) topics: BTreeMap<Arc<str>, Vec<PartitionMark>>,
}

/// What a clean stop notes of a partition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartitionMark {
    /// Base offsets and sizes.
    pub(crate) segments: Vec<(Offset, u64)>,
    /// Those of them whose sizes are only their files', because nobody has read them since a crash: void records may follow
    /// what counts.
    #[serde(default)]
    pub(crate) unread: BTreeSet<Offset>,
    pub(crate) end: Offset,
    /// When the last segment was begun, in ms since 1970.
    pub(crate) born: i64,
    /// What is known of producers, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    producers: String,
}

impl PartitionMark {
    /// The mark of a partition that was finished.
    pub(crate) fn of(partition: &Partition) -> Self {
        let writer = partition.writer.lock();
        let segments = partition.segments.read();
        PartitionMark {
            segments: segments.values().map(|segment| (segment.base, segment.extent().size)).collect(),
            unread: segments.values().filter(|segment| !segment.is_exact()).map(|segment| segment.base).collect(),
            end: writer.written,
            born: writer.active.as_ref().map_or(0, |active| active.born),
            producers: match partition.producers_before(writer.written) {
                known if known.is_empty() => String::new(),
                known => BASE64.encode(known.to_bytes()),
            },
        }
    }

    /// What is known of producers; `None` where that can not be read.
    pub(crate) fn producers(&self) -> Option<Producers> {
        match self.producers.is_empty() {
            true => Some(Producers::default()),
            false => Producers::from_bytes(&BASE64.decode(&self.producers).ok()?),
        }
    }
}
