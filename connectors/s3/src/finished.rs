//! Which objects have been read: kept small however many there are, and exact also for those that appear late.
//!
//! Objects are read in the order of the time that the store gave them. An object may appear after later ones were read:
//! an upload in parts bears the time of its beginning. So what is before a *floor* is done with, what is behind the
//! *frontier* is new, and of what is between the two a set is kept; a restart makes that set again from a list of the
//! bucket and the saved [`Sketch`] of the set.

use std::collections::BTreeSet;

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sketch::Sketch;

/// How much of a key tells the order of objects of one time; behind that their hash does.
const KEY: usize = 256;

/// Where an object stands in the order in which objects are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The time that the store gave it, in ms since 1970.
    pub(crate) modified: i64,
    /// How its key begins.
    key: String,
    /// What identifies this version of it.
    pub(crate) hash: u64,
}

impl Place {
    /// The place of a listed object.
    pub(crate) fn of(object: &ObjectMeta) -> Place {
        let modified = object.last_modified.timestamp_millis();
        let key = object.location.as_ref();
        let mut hash = Sha256::new();
        for part in [key.as_bytes(), object.e_tag.as_deref().unwrap_or_default().as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(modified.to_be_bytes());
        let hash = hash.finalize().first_chunk().copied().map_or(0, u64::from_be_bytes);
        let end = (0..=KEY.min(key.len())).rev().find(|end| key.is_char_boundary(*end)).unwrap_or(0);
        Place { modified, key: key[..end].to_owned(), hash }
    }
}

/// Which objects have been read.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    floor: i64,
    frontier: Option<Place>,
    between: BTreeSet<(i64, u64)>,
    sketch: Sketch,
    /// The sketch that was saved, until the set is made again from it.
    saved: Option<Sketch>,
}

/// What is saved of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// Objects from before are done with, in ms since 1970.
    floor: i64,
    /// The last place at which an object has been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frontier: Option<Place>,
    /// What has been read from the floor to the frontier; nothing when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    between: Option<String>,
}

impl Finished {
    /// Nothing has been read; objects from before `floor` never will be.
    pub(crate) fn nothing(floor: i64) -> Finished {
        Finished { floor, frontier: None, between: BTreeSet::new(), sketch: Sketch::new(), saved: None }
    }

    /// Begins behind all that is there: `there` is that of the time `late` up to the `last` of it.
    pub(crate) fn begin_behind(&mut self, last: Place, there: BTreeSet<(i64, u64)>, late: i64) {
        self.floor = last.modified.saturating_sub(late);
        there.iter().for_each(|(_, hash)| self.sketch.insert(*hash));
        (self.between, self.frontier) = (there, Some(last));
    }

    /// Goes on from what was saved; `Err` when that makes no sense.
    pub(crate) fn restore(saved: Saved) -> Result<Finished, String> {
        let sketch = saved.between.as_deref().map(|text| Sketch::from_text(text).ok_or("between is no sketch"));
        let saved_sketch = sketch.transpose()?;
        Ok(Finished { frontier: saved.frontier, saved: saved_sketch, ..Finished::nothing(saved.floor) })
    }

    /// Whether a list of the bucket is needed first, see [`Finished::remember`].
    pub(crate) fn is_unsure(&self) -> bool {
        self.saved.is_some()
    }

    /// Whether an object may be one of those of which a set is kept.
    pub(crate) fn is_between(&self, place: &Place) -> bool {
        place.modified >= self.floor && self.frontier.as_ref().is_some_and(|frontier| place <= frontier)
    }

    /// Makes the set again from all objects that are listed between floor and frontier. `false` when that can not be done
    /// since too much of it has changed: all of them count as unread then.
    pub(crate) fn remember(&mut self, listed: BTreeSet<(i64, u64)>) -> bool {
        let Some(saved) = self.saved.take() else { return true };
        let mut seen = Sketch::new();
        listed.iter().for_each(|(_, hash)| seen.insert(*hash));
        let difference = seen.difference(&saved, &listed.iter().map(|(_, hash)| *hash).collect());
        let is_known = difference.is_some();
        if let Some(difference) = difference {
            let late: BTreeSet<u64> = difference.more.into_iter().collect();
            for (modified, hash) in listed.into_iter().filter(|(_, hash)| !late.contains(hash)) {
                self.sketch.insert(hash);
                self.between.insert((modified, hash));
            }
        }
        is_known
    }

    /// Whether the object needs no reading.
    pub(crate) fn contains(&self, place: &Place) -> bool {
        place.modified < self.floor || self.keeps(place)
    }

    /// Notes that an object has been read.
    pub(crate) fn insert(&mut self, place: Place) {
        if self.between.insert((place.modified, place.hash)) {
            self.sketch.insert(place.hash);
        }
        if self.frontier.as_ref().is_none_or(|frontier| *frontier < place) {
            self.frontier = Some(place);
        }
    }

    /// Forgets objects that are not in the bucket any more: what is deleted later, while nobody looks, must be little.
    pub(crate) fn retain(&mut self, listed: &BTreeSet<(i64, u64)>) {
        let sketch = &mut self.sketch;
        self.between.retain(|entry| {
            let is_there = listed.contains(entry);
            if !is_there {
                sketch.remove(entry.1);
            }
            is_there
        });
    }

    /// Whether the object is one of those of which a set is kept.
    pub(crate) fn keeps(&self, place: &Place) -> bool {
        self.between.contains(&(place.modified, place.hash))
    }

    /// Forgets what nothing can appear beside any more: what is from before `until`. The frontier stays ahead.
    pub(crate) fn raise_floor(&mut self, until: i64) {
        let Some(frontier) = &self.frontier else { return };
        self.floor = self.floor.max(until.min(frontier.modified));
        while let Some((modified, hash)) = self.between.first().copied() {
            if modified >= self.floor {
                break;
            }
            self.between.pop_first();
            self.sketch.remove(hash);
        }
    }

    /// What to save.
    pub(crate) fn saved(&self) -> Saved {
        let sketch = match &self.saved {
            Some(saved) => Some(saved.to_text()),
            None => (!self.between.is_empty()).then(|| self.sketch.to_text()),
        };
        Saved { floor: self.floor, frontier: self.frontier.clone(), between: sketch }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use object_store::path::Path;
    use proptest::prelude::*;

    use super::*;

    fn object(modified: i64, key: &str) -> ObjectMeta {
        let last_modified = DateTime::from_timestamp_millis(modified).unwrap();
        ObjectMeta { location: key.into(), last_modified, size: 1, e_tag: Some("e".into()), version: None }
    }

    fn again(finished: &Finished) -> Finished {
        let text = serde_json::to_string(&finished.saved()).unwrap();
        assert!(text.len() < 2500, "{text}");
        Finished::restore(serde_json::from_str(&text).unwrap()).unwrap()
    }

    #[test]
    fn versions_of_a_key_are_different_objects() {
        let one = Place::of(&object(5, "a"));
        assert_eq!(one, Place::of(&object(5, "a")));
        assert_ne!(one.hash, Place::of(&object(6, "a")).hash);
        assert_ne!(one.hash, Place::of(&ObjectMeta { e_tag: Some("f".into()), ..object(5, "a") }).hash);
        assert!(one < Place::of(&object(5, "b")) && Place::of(&object(5, "b")) < Place::of(&object(6, "a")));
        assert_eq!(Place::of(&object(5, &"é".repeat(400))).key.len(), 256);
    }

    proptest! {
        /// Objects appear, some late, some are deleted; the source stops and starts at any time. Each is read once.
        #[test]
        fn every_object_is_read_once(
            steps in proptest::collection::vec((0..4u8, 0..50i64, any::<bool>(), any::<bool>()), 1..60)
        ) {
            const LATE: i64 = 100;
            let (mut now, mut finished) = (1000, Finished::nothing(0));
            let mut bucket: Vec<ObjectMeta> = Vec::new();
            let mut read = BTreeSet::new();
            for (number, (kind, behind, is_restarted, is_whole)) in steps.into_iter().enumerate() {
                now += 10;
                match kind {
                    0 | 1 => bucket.push(object(now - behind, &format!("k{number}"))),
                    2 => bucket.push(object(now, &format!("k{number}"))),
                    _ if !bucket.is_empty() => drop(bucket.remove(behind as usize % bucket.len())),
                    _ => {}
                }
                if is_restarted {
                    finished = again(&finished);
                }
                if finished.is_unsure() {
                    let places = bucket.iter().map(Place::of).filter(|place| finished.is_between(place));
                    let listed = places.map(|place| (place.modified, place.hash)).collect();
                    prop_assert!(finished.remember(listed));
                }
                let mut new: Vec<_> = bucket.iter().filter(|object| !finished.contains(&Place::of(object))).collect();
                new.sort_by_key(|object| Place::of(object));
                let count = if is_whole { new.len() } else { new.len() / 2 };
                for object in &new[..count] {
                    prop_assert!(read.insert(object.location.to_string()), "{} is read twice", object.location);
                    finished.insert(Place::of(object));
                }
                let unread = new[count..].iter().map(|object| object.last_modified.timestamp_millis()).min();
                finished.raise_floor(unread.unwrap_or(i64::MAX).min(now - LATE));
            }
            for object in &bucket {
                let is_read = read.contains(object.location.as_ref());
                prop_assert_eq!(is_read, finished.contains(&Place::of(object)));
            }
        }
    }

    #[test]
    fn a_position_is_small_whatever_keys_are_made_of() {
        // What JSON spells longest, of all that a key may hold here, and once more in JSON that holds the position as text.
        for character in ["\\", "\"", "é", "%"] {
            let mut finished = Finished::nothing(0);
            for number in 0..1000 {
                let location = Path::parse(format!("{}/{number}", character.repeat(500))).unwrap();
                let object = ObjectMeta { location, ..object(9_999_999_999_999, "") };
                finished.insert(Place::of(&object));
            }
            let saved = serde_json::to_string(&finished.saved()).unwrap();
            let twice = serde_json::to_string(&saved).unwrap();
            // Besides, a position tells where in an object reading stands, in less than 200 bytes.
            assert!(twice.len() < 4096 - 200, "{character:?}: {} bytes", twice.len());
        }
    }

    #[test]
    fn what_can_not_be_told_is_read_again() {
        let mut finished = Finished::nothing(0);
        finished.insert(Place::of(&object(10, "a")));
        let mut finished = again(&finished);
        assert!(finished.is_unsure());
        let many = (0..500).map(|number| (9, Place::of(&object(9, &format!("{number}"))).hash)).collect();
        assert!(!finished.remember(many));
        assert!(!finished.contains(&Place::of(&object(10, "a"))));
    }
}
