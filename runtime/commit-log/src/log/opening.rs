//! A log's folder, from being taken until it is open, and its clean end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Edge, Result, Topic};
use tokio::time::Instant;

use super::Inner;
use crate::folder::{CLEAN, Folder, at};
use crate::groups::Groups;
use crate::mark::CleanMark;
use crate::options::Options;
use crate::producer_ids::ProducerIds;
use crate::recovery::{Recovery, open_partitions};
use crate::shared::Shared;
use crate::topic::{self, Registry};

/// A folder that was taken.
pub(super) struct Taken {
    pub(super) shared: Arc<Shared>,
    /// What the last clean stop noted, if it was one.
    mark: Option<Arc<CleanMark>>,
    clean: bool,
    begun: Instant,
}

impl Taken {
    /// Takes the folder. Blocks.
    pub(super) fn take(edge: Edge, path: &Path, options: &Options) -> Result<Taken> {
        let begun = Instant::now();
        let folder = Folder::open(&edge.disk, path, &options.owner)?;
        let mark = folder.take_clean()?;
        let mark = mark.and_then(|mark| match serde_json::from_slice::<CleanMark>(&mark) {
            Ok(mark) => Some(Arc::new(mark)),
            Err(cause) => {
                tracing::warn!(path = %path.join(CLEAN).display(), %cause, "the note of a clean stop can not be read");
                None
            }
        });
        let clean = mark.is_some() || folder.is_new;
        let shared = Arc::new(Shared::new(edge, folder, options)?);
        if !clean && !fault::mutated(Mutant::SameEpoch) {
            shared.raise_epoch()?;
        }
        Ok(Taken { shared, mark, clean, begun })
    }

    /// Opens what is in the folder, many partitions at once.
    pub(super) async fn open(&self) -> Result<Inner> {
        let (shared, edge) = (&self.shared, &self.shared.edge);
        let mut recovery = Recovery { clean: self.clean, ..Recovery::default() };
        let (finding, clean) = (shared.clone(), self.mark.is_some());
        let (topics, foreign) = edge.blocking(move || topic::find(&finding, clean)).await??;
        recovery.foreign = foreign;
        let partitions = topics.iter().flat_map(Topic::all_partitions).collect();
        let found = open_partitions(shared, partitions, self.mark.as_ref(), &mut recovery).await?;
        let registry = Arc::new(Registry::new(shared.clone(), topics, found));
        shared.introduce(&registry);
        let (loading, runtime) = (registry.clone(), tokio::runtime::Handle::current());
        let load = move || Groups::load(&loading, runtime).inspect(|_| loading.shared.room.take_ballast());
        let groups = edge.blocking(load).await??;
        // A process may have been killed before it came to that.
        if let Err(cause) = groups.forget_gone().await {
            tracing::warn!(%cause, "committed offsets of deleted topics are forgotten at the next start");
        }
        recovery.millis = self.begun.elapsed().as_millis() as u64;
        if !self.clean {
            let path = shared.folder.path.display();
            tracing::info!(folder = %path, millis = recovery.millis, cut = recovery.cut.len(), "log recovered");
        }
        let (producer_ids, is_cleaning) = (ProducerIds::new(shared), AtomicBool::new(false));
        let naming = tokio::sync::Mutex::default();
        Ok(Inner { shared: shared.clone(), registry, groups, naming, producer_ids, recovery, is_cleaning })
    }
}

impl Inner {
    /// Finishes all partitions, and notes it. Blocks.
    pub(super) fn close(&self) -> Result<()> {
        if !self.registry.finish()? {
            return Ok(());
        }
        let mark = serde_json::to_vec(&self.registry.mark()).expect("a mark has only texts and numbers");
        let path = self.shared.folder.path.join(CLEAN);
        self.shared.room.or_on_ballast(|| self.shared.folder.write_state(&path, &mark)).map_err(at(&path))
    }
}
