//! Who keeps a partition's records from retention and compaction, and from which offset on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::Hold;
use aqueduct_record::Offset;
use parking_lot::Mutex;

/// Who keeps a partition's records.
#[derive(Default)]
pub(crate) struct Holds {
    all: Mutex<BTreeMap<u64, (Offset, Arc<str>)>>,
    next: AtomicU64,
}

impl Holds {
    /// Keeps the records from `offset` on.
    pub(crate) fn take(self: &Arc<Self>, offset: Offset, holder: &str) -> Hold {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let holder: Arc<str> = holder.into();
        self.all.lock().insert(id, (offset, holder.clone()));
        let holds = Arc::downgrade(self);
        Hold::new(move |moved| {
            let Some(holds) = holds.upgrade() else { return };
            match moved {
                Some(offset) => drop(holds.all.lock().insert(id, (offset, holder.clone()))),
                None => drop(holds.all.lock().remove(&id)),
            }
        })
    }

    /// The offset from which on somebody holds the records.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.all.lock().values().map(|(offset, _)| *offset).min()
    }

    /// Who holds records.
    pub(crate) fn holders(&self) -> Vec<Arc<str>> {
        self.all.lock().values().map(|(_, holder)| holder.clone()).collect()
    }
}
