//! Which object a record goes to, and what that object is called.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aqueduct_api::{Chunk, Error, Result};
use aqueduct_record::{Offset, Record};

use crate::template::{Template, check_name, escape};

/// How objects are named under the url.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// The folder of a record's object.
    pub(crate) folder: Template,
    /// How the object is called in its folder.
    pub(crate) style: Style,
    /// Format and compression, with their dots.
    pub(crate) extension: String,
}

/// How an object is called in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As Confluent's sink does: topic, partition and the first offset of the object's records.
    Confluent,
    /// Topic, partition, first and end offset of the chunk.
    Chunk,
}

impl Layout {
    /// The name of the object in `folder` whose first record is `first`.
    pub(crate) fn name(&self, chunk: &Chunk, folder: &str, first: Offset) -> Result<String> {
        let mut name = match chunk.run {
            0 => String::new(),
            run => format!("run={run}/"),
        };
        name.push_str(folder);
        name.push('/');
        escape(&chunk.partition.topic, &mut name);
        let (partition, start, end) = (chunk.partition.partition, chunk.start, chunk.end);
        name += &match self.style {
            Style::Confluent => format!("+{partition}+{first:010}"),
            Style::Chunk => format!("+{partition}+{start:020}+{end:020}"),
        };
        name.push_str(&self.extension);
        check_name(&name).map_err(|why| Error::fatal(format!("{chunk}: {why}")))?;
        Ok(name)
    }
}

/// The most objects that are made of a chunk at once, which bounds memory whatever the records say; a chunk that makes more
/// is gone through again for each share of them.
#[cfg(not(test))]
const MOST_PATHS: usize = 4096;
#[cfg(test)]
const MOST_PATHS: usize = 16;

/// A share of a chunk's folders: those whose hash leaves `remainder` when divided by `modulus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    modulus: u64,
    remainder: u64,
}

impl Share {
    /// All folders.
    pub(crate) const ALL: Share = Share { modulus: 1, remainder: 0 };

    /// The two halves of a share.
    pub(crate) fn halves(self) -> [Share; 2] {
        let modulus = self.modulus * 2;
        [self.remainder, self.remainder + self.modulus].map(|remainder| Share { modulus, remainder })
    }

    fn holds(self, folder: &str) -> bool {
        if self.modulus == 1 {
            return true;
        }
        // The keys of this hasher are fixed, so that all passes agree.
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        hasher.finish() % self.modulus == self.remainder
    }
}

/// The objects that a chunk makes, in the order in which they come up.
pub(crate) struct Paths<'a> {
    template: &'a Template,
    share: Share,
    topic: &'a str,
    partition: i32,
    /// Reused for each record.
    folder: String,
    index: HashMap<String, u32>,
    found: Vec<(String, Offset)>,
    /// The second of the last record and where it went, for templates that look at nothing else.
    last: Option<(i64, Place)>,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the object of that number.
    Path(u32),
    /// Into an object of another share.
    Elsewhere,
    /// There are too many objects: the share has to be halved.
    TooMany,
}

impl<'a> Paths<'a> {
    /// No objects yet.
    pub(crate) fn new(template: &'a Template, topic: &'a str, partition: i32, share: Share) -> Self {
        let (folder, index, found) = (String::new(), HashMap::new(), Vec::new());
        Paths { template, share, topic, partition, folder, index, found, last: None }
    }

    /// Where `record` goes; the error says why it can go nowhere.
    pub(crate) fn place(&mut self, record: &Record<'_>) -> Result<Place, String> {
        let second = match self.template.is_fixed() {
            true => 0,
            false => record.timestamp.div_euclid(1000),
        };
        if let Some((last, place)) = self.last
            && last == second
        {
            return Ok(place);
        }
        let place = self.look_up(record)?;
        // -1 is no time, though it lies in a second that has times.
        if self.template.is_by_time() && (record.timestamp >= 0 || self.template.is_fixed()) {
            self.last = Some((second, place));
        }
        Ok(place)
    }

    fn look_up(&mut self, record: &Record<'_>) -> Result<Place, String> {
        self.folder.clear();
        self.template.render(self.topic, self.partition, Some(record), &mut self.folder)?;
        if let Some(path) = self.index.get(&self.folder) {
            return Ok(Place::Path(*path));
        }
        if !self.share.holds(&self.folder) {
            return Ok(Place::Elsewhere);
        }
        if self.found.len() == MOST_PATHS {
            return Ok(Place::TooMany);
        }
        let path = self.found.len() as u32;
        self.index.insert(self.folder.clone(), path);
        self.found.push((self.folder.clone(), record.offset));
        Ok(Place::Path(path))
    }

    /// The folder of each object and the offset of its first record.
    pub(crate) fn found(&self) -> &[(String, Offset)] {
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    type Found = (Vec<Result<Place, String>>, Vec<(String, Offset)>);

    /// Where records of `(timestamp, key)` go under a template.
    fn places(template: &str, share: Share, records: &[(i64, &str)]) -> Found {
        let template = Template::parse(template).unwrap();
        let mut builder = BatchBuilder::new();
        for (timestamp, key) in records {
            builder.push(*timestamp, Some(key.as_bytes()), None, &[]);
        }
        let batch = builder.finish().at(100, 0);
        let mut paths = Paths::new(&template, "t", 0, share);
        let records = batch.records().unwrap();
        let places = records.iter().map(|record| paths.place(&record.unwrap())).collect();
        (places, paths.found().to_vec())
    }

    #[test]
    fn records_of_one_folder_share_an_object_that_begins_at_the_first_of_them() {
        let (found, paths) = places("{key}", Share::ALL, &[(0, "a"), (0, "b"), (0, "a")]);
        assert_eq!(found, [0, 1, 0].map(|path| Ok(Place::Path(path))));
        assert_eq!(paths, [("a".to_owned(), 100), ("b".to_owned(), 101)]);
    }

    #[test]
    fn times_are_told_apart_by_the_second_and_no_time_is_none() {
        let records = [(-1000, "a"), (-1, "a"), (-999, "a"), (0, "a"), (999, "a"), (1000, "a"), (500, "a")];
        let (found, paths) = places("{timestamp:%S}", Share::ALL, &records);
        let index: Vec<_> = found.iter().map(|place| place.clone().ok()).collect();
        let path = |path| Some(Place::Path(path));
        assert_eq!(index, [path(0), None, path(0), path(1), path(1), path(2), path(1)]);
        assert_eq!(paths.iter().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>(), ["59", "00", "01"]);
    }

    #[test]
    fn a_share_is_too_small_for_all_but_its_halves_hold_everything_once() {
        let keys: Vec<String> = (0..100).map(|key| format!("k{key}")).collect();
        let records: Vec<_> = keys.iter().map(|key| (0, key.as_str())).collect();
        let (mut shares, mut seen) = (vec![Share::ALL], Vec::new());
        while let Some(share) = shares.pop() {
            let (found, paths) = places("{key}", share, &records);
            match found.contains(&Ok(Place::TooMany)) {
                true => shares.extend(share.halves()),
                false => seen.extend(paths.into_iter().map(|(folder, _)| folder)),
            }
        }
        let mut expected = keys.clone();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }
}
