//! Objects that are fetched while an earlier one is read: of small ones, waiting for the store is most of the time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::arriving::Stored;
use crate::listing::Listed;
use crate::store::PartStore;

/// How many objects are on their way or wait here at most.
const OBJECTS: usize = 16;

/// The objects that come next, as far as they are on their way or here.
pub(crate) struct Ahead {
    /// How many bytes they may have together, with the one that is read.
    most: u64,
    /// In the order in which they are read.
    objects: VecDeque<Fetching>,
    /// How many bytes the one has that was taken last.
    taken: u64,
}

struct Fetching {
    hash: u64,
    size: u64,
    task: JoinHandle<Option<Bytes>>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    /// Nothing yet, and never more than so many bytes.
    pub(crate) fn new(most: u64) -> Ahead {
        Ahead { most, objects: VecDeque::new(), taken: 0 }
    }

    /// Begins to fetch what comes next, the first one last, as far as there is room. That one may be too large: it is read
    /// as it comes.
    pub(crate) fn fetch(&mut self, store: &Arc<dyn PartStore>, unread: &[Listed]) {
        let coming = unread.iter().rev().enumerate().filter(|(at, object)| *at > 0 || object.size <= self.most);
        for (_, object) in coming.take(OBJECTS) {
            if self.objects.iter().any(|fetching| fetching.hash == object.place.hash) {
                continue;
            }
            let bytes = self.taken + self.objects.iter().map(|fetching| fetching.size).sum::<u64>();
            if self.objects.len() >= OBJECTS || bytes.saturating_add(object.size) > self.most {
                break;
            }
            let stored = Stored { store: store.clone(), object: object.clone(), here: None };
            let task = tokio::spawn(async move { stored.fetch().await });
            self.objects.push_back(Fetching { hash: object.place.hash, size: object.size, task });
        }
    }

    /// Waits for the bytes of an object that is on its way; nothing where it is not, or where that failed. May be
    /// dropped.
    pub(crate) async fn take(&mut self, object: &Listed) -> Option<Bytes> {
        self.taken = 0;
        let at = self.objects.iter().position(|fetching| fetching.hash == object.place.hash)?;
        let fetched = (&mut self.objects[at].task).await.ok().flatten();
        self.objects.remove(at);
        self.taken = fetched.as_ref().map_or(0, |bytes| bytes.len() as u64);
        fetched
    }
}
