//! What a bucket holds that has not been read, in the order in which it is to be read.

use std::borrow::Cow;
use std::collections::{BTreeSet, BinaryHeap};
use std::future::ready;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use globset::GlobMatcher;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::finished::{Finished, Place};
use crate::keys;

/// How many objects are remembered of one list: of a bucket with more the next ones are found by the next list.
const REMEMBERED: usize = 50_000;

/// An object that is to be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    /// Where it stands in the order.
    pub(crate) place: Place,
    /// What the store knows it by, see [`keys`].
    pub(crate) path: Path,
    /// Which version of it.
    pub(crate) e_tag: Option<String>,
    /// How many bytes are stored.
    pub(crate) size: u64,
}

impl Listed {
    /// Its whole key.
    pub(crate) fn key(&self) -> Cow<'_, str> {
        keys::key(&self.path)
    }

    /// Its key for people.
    pub(crate) fn shown(&self) -> String {
        match self.key() {
            Cow::Borrowed(key) => key.to_owned(),
            Cow::Owned(key) => format!("{key:?}"),
        }
    }
}

/// What one list of the bucket found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// What is to be read, the next one last.
    pub(crate) unread: Vec<Listed>,
    /// Whether there is more than is remembered.
    pub(crate) is_cut: bool,
    /// The object that was being read, if it is there.
    pub(crate) begun: Option<Listed>,
    /// What is still there of that of which a set is kept.
    pub(crate) kept: BTreeSet<(i64, u64)>,
    /// The time of the newest object: by the store's own clock it was no earlier when the list was made.
    pub(crate) newest: Option<i64>,
}

/// Which objects of a bucket are meant.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// What their keys begin with, without a slash at its end; empty: all.
    pub(crate) prefix: String,
    /// What the rest of their keys matches.
    pub(crate) pattern: Option<GlobMatcher>,
}

impl Selection {
    fn matches(&self, object: &ObjectMeta) -> bool {
        let key = keys::key(&object.location);
        // Without bytes it has no records: it stands for a folder, or says that something is done, as `_SUCCESS` does.
        if object.size == 0 {
            return false;
        }
        let rest = key.strip_prefix(self.prefix.as_str()).unwrap_or(&key);
        let rest = rest.strip_prefix('/').filter(|_| !self.prefix.is_empty()).unwrap_or(rest);
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(rest))
    }

    fn list(&self, store: &dyn ObjectStore) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        // Not made safe, as a path made from a text would be: it is what keys begin with.
        match Path::parse(&self.prefix) {
            Ok(prefix) => store.list(Some(&prefix).filter(|prefix| !prefix.is_root())),
            Err(cause) => stream::once(ready(Err(cause.into()))).boxed(),
        }
    }

    async fn each(&self, store: &dyn ObjectStore, mut seen: impl FnMut(ObjectMeta)) -> object_store::Result<()> {
        let mut listed = self.list(store);
        while let Some(object) = listed.try_next().await? {
            if self.matches(&object) {
                seen(object);
            }
        }
        Ok(())
    }

    /// An object that is meant, if there is one.
    pub(crate) async fn first(&self, store: &dyn ObjectStore) -> object_store::Result<Option<ObjectMeta>> {
        let mut listed = self.list(store).try_filter(|object| ready(self.matches(object)));
        listed.try_next().await
    }

    /// Finds what is there of that of which a set is kept, see [`Finished::remember`].
    pub(crate) async fn between(
        &self,
        store: &dyn ObjectStore,
        finished: &Finished,
    ) -> object_store::Result<BTreeSet<(i64, u64)>> {
        let mut between = BTreeSet::new();
        let seen = |object: ObjectMeta| {
            let place = Place::of(&object);
            if finished.is_between(&place) {
                between.insert((place.modified, place.hash));
            }
        };
        self.each(store, seen).await?;
        Ok(between)
    }

    /// Finds the last object of all in the order, and what is there of the time `late` up to it.
    pub(crate) async fn latest(
        &self,
        store: &dyn ObjectStore,
        late: i64,
    ) -> object_store::Result<Option<(Place, BTreeSet<(i64, u64)>)>> {
        let (mut last, mut there) = (None::<Place>, BTreeSet::new());
        let seen = |object: ObjectMeta| {
            let place = Place::of(&object);
            there.insert((place.modified, place.hash));
            let newest = last.as_ref().map_or(place.modified, |last| last.modified.max(place.modified));
            last = last.take().max(Some(place));
            while there.first().is_some_and(|(modified, _)| *modified < newest.saturating_sub(late)) {
                there.pop_first();
            }
        };
        self.each(store, seen).await?;
        Ok(last.map(|last| (last, there)))
    }

    /// Finds what has not been read; of the object that was being read by its hash.
    pub(crate) async fn unread(
        &self,
        store: &dyn ObjectStore,
        finished: &Finished,
        begun: Option<u64>,
    ) -> object_store::Result<Listing> {
        let (mut listing, mut unread) = (Listing::default(), BinaryHeap::new());
        let seen = |object: ObjectMeta| {
            let place = Place::of(&object);
            listing.newest = listing.newest.max(Some(place.modified));
            if finished.keeps(&place) {
                listing.kept.insert((place.modified, place.hash));
            }
            if finished.contains(&place) {
                return;
            }
            let listed = Listed { place, path: object.location, e_tag: object.e_tag, size: object.size };
            if begun == Some(listed.place.hash) {
                listing.begun = Some(listed);
                return;
            }
            unread.push(listed);
            if unread.len() > REMEMBERED {
                unread.pop();
                listing.is_cut = true;
            }
        };
        self.each(store, seen).await?;
        listing.unread = unread.into_sorted_vec();
        listing.unread.reverse();
        Ok(listing)
    }
}
