//! What all partitions of a data folder share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use aqueduct_api::buffers::Buffers;
use aqueduct_api::disk::{Disk, File};
use aqueduct_api::{Edge, Error, Result};

use crate::folder::{Epoch, Folder};
use crate::index::Index;
use crate::options::Options;
use crate::recent::Recent;
use crate::retention::Dropped;
use crate::space::{For, Room, WhenFull};
use crate::topic::Registry;

/// Files that are open at once, where the process may open twice as many: opening one costs beside a synced append.
const OPEN_FILES: usize = 8192;
/// Indexes of closed segments that are in memory at once: 64 KiB each for segments of 256 MiB.
const INDEXES: usize = 128;

/// How large a buffer is that is kept, in bytes: what readers of whole chunks ask for, and room for a large batch's headers.
const BUFFER: usize = (1 << 20) + (4 << 10);
/// How many are kept while nobody reads.
const BUFFERS: usize = 4;

/// The folder and what is known of it.
pub(crate) struct Shared {
    pub(crate) edge: Edge,
    pub(crate) epoch: Epoch,
    pub(crate) files: Recent<Arc<dyn File>>,
    pub(crate) indexes: Recent<Arc<Index>>,
    pub(crate) buffers: Buffers,
    pub(crate) room: Room,
    pub(crate) dropped: Dropped,
    when_full: WhenFull,
    /// How long a partition that was just made is spared.
    pub(crate) spare_new: Duration,
    /// All topics, for whoever has to make room among them.
    registry: OnceLock<Weak<Registry>>,
    ids: AtomicU64,
    /// Last, so that the lock is given back when all else is gone.
    pub(crate) folder: Folder,
}

impl Shared {
    pub(crate) fn new(edge: Edge, folder: Folder, options: &Options) -> Result<Self> {
        Ok(Shared {
            epoch: Epoch::open(&folder)?,
            files: Recent::new(OPEN_FILES.min(edge.disk.most_open() / 2)),
            indexes: Recent::new(INDEXES),
            buffers: Buffers::new(BUFFER, BUFFERS),
            room: Room::new(&edge.disk, &folder.path, options.limit),
            dropped: Dropped::default(),
            when_full: options.when_full,
            spare_new: options.spare_new,
            registry: OnceLock::new(),
            ids: AtomicU64::new(0),
            edge,
            folder,
        })
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.edge.disk
    }

    /// Says where all topics are.
    pub(crate) fn introduce(&self, registry: &Arc<Registry>) {
        // There is one registry, and it is introduced once.
        let _ = self.registry.set(Arc::downgrade(registry));
    }

    /// Raises the leader epoch, on the room that is reserved where the disk is full. Blocks.
    pub(crate) fn raise_epoch(&self) -> Result<()> {
        let raised = self.room.or_on_ballast(|| self.epoch.raise());
        raised.map_err(|cause| Error::from(cause).context("the leader epoch could not be raised"))
    }

    /// Takes room on the disk for `bytes` more, or makes it where the configuration says so. Blocks.
    pub(crate) fn take_room(&self, bytes: u64, whom: For) -> Result<()> {
        let taken = self.room.take(bytes, whom);
        let registry = self.registry.get().and_then(Weak::upgrade);
        match (taken, self.when_full, registry) {
            (Err(_), WhenFull::DropOldest, Some(registry)) => {
                registry.drop_oldest(|| self.room.take(bytes, whom).is_ok())?;
                self.room.take(bytes, whom)
            }
            (taken, _, _) => taken,
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}
