//! What the log does of itself while somebody has it: it syncs in intervals, and cleans.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aqueduct_api::{Durability, Result};
use tokio::time::MissedTickBehavior;

use super::Inner;
use crate::partition::Partition;

/// How often partitions with `durability: interval` are synced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How often retention and compaction look for something to do.
const CLEANING_INTERVAL: Duration = Duration::from_secs(30);

impl Inner {
    /// One round of retention and compaction.
    pub(super) async fn clean(&self) -> Result<()> {
        let mut outcome = Ok(());
        for partition in self.registry.partitions() {
            let cleaned = clean(&partition).await;
            if let Err(cause) = &cleaned {
                tracing::warn!(topic = %partition.of.topic, partition = partition.of.partition, %cause, "not cleaned");
            }
            outcome = outcome.and(cleaned);
        }
        let shared = self.shared.clone();
        self.shared.edge.blocking(move || shared.room.take_ballast()).await?;
        outcome
    }
}

/// Syncs partitions with `durability: interval`, as long as somebody has the log.
pub(super) async fn sync_in_intervals(log: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SYNC_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(log) = log.upgrade() else { return };
        let is_due = |partition: &Arc<Partition>| {
            partition.settings().durability == Durability::Interval && partition.is_dirty()
        };
        // Failures are told where they are handled, in the writer.
        let partitions = log.registry.partitions();
        let syncs = partitions.iter().filter(|of| is_due(of)).map(|of| async move { drop(of.sync().await) });
        futures::future::join_all(syncs).await;
        for partition in partitions.iter().filter(|partition| partition.is_unsettled()) {
            match partition.roll().await {
                Ok(()) => tracing::info!(partition = %partition.of, "what a failed sync made void is settled"),
                Err(cause) => tracing::debug!(partition = %partition.of, %cause, "no segment could be begun yet"),
            }
        }
    }
}

/// Retention and compaction, as long as somebody has the log.
pub(super) async fn clean_in_intervals(log: Weak<Inner>) {
    let mut ticks = tokio::time::interval(CLEANING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(log) = log.upgrade() else { return };
        // Failures are told by partition.
        let _ = log.clean().await;
    }
}

/// Retention and compaction of one partition.
async fn clean(partition: &Arc<Partition>) -> Result<()> {
    let edge = partition.shared.edge.clone();
    let looking = partition.clone();
    // Mostly there is nothing to do, and the way to another thread and back costs more than to see that.
    let look = move || match looking.wants_new_segment()? {
        true => Ok(true),
        false => looking.clean().map(|()| false),
    };
    if edge.blocking(look).await?? {
        partition.roll().await?;
        let partition = partition.clone();
        edge.blocking(move || partition.clean()).await??;
    }
    Ok(())
}
