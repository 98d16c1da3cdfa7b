//! Which topics a sink reads.

use aqueduct_api::Topic;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Names and globs. Globs match neither dead-letter topics nor internal ones; a dead-letter topic can be named.
pub(crate) struct Selection {
    names: Vec<String>,
    globs: GlobSet,
}

impl Selection {
    /// Reads what stands after `topics:`; the first that is not a glob is told with its place.
    pub(crate) fn new(topics: &[String]) -> Result<Selection, (usize, String)> {
        let mut names = Vec::new();
        let mut globs = GlobSetBuilder::new();
        for (place, topic) in topics.iter().enumerate() {
            match is_glob(topic) {
                false => names.push(topic.clone()),
                true => {
                    let glob = GlobBuilder::new(topic).build();
                    globs.add(glob.map_err(|cause| (place, cause.to_string()))?);
                }
            }
        }
        let globs = globs.build().map_err(|cause| (0, cause.to_string()))?;
        Ok(Selection { names, globs })
    }

    pub(crate) fn matches(&self, topic: &Topic) -> bool {
        if topic.is_internal() {
            return false;
        }
        let by_glob = || !topic.settings.dead_letters && self.globs.is_match(&*topic.name);
        self.names.iter().any(|name| **name == *topic.name) || by_glob()
    }
}

/// Whether a topic is told by a glob.
pub(crate) fn is_glob(topic: &str) -> bool {
    topic.contains(['*', '?', '[', '{'])
}

#[cfg(test)]
mod tests {
    use aqueduct_api::{TopicId, TopicSettings};

    use super::*;

    fn topic(name: &str, dead_letters: bool) -> Topic {
        let settings = TopicSettings { dead_letters, ..TopicSettings::default() };
        Topic { name: name.into(), id: TopicId(1), partitions: 1, settings }
    }

    fn check(patterns: &[&str], name: &str, dead_letters: bool, expected: bool) {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let selection = Selection::new(&patterns).unwrap();
        assert_eq!(selection.matches(&topic(name, dead_letters)), expected, "{patterns:?} on {name}");
    }

    #[test]
    fn globs_match_neither_dead_letters_nor_internal_topics() {
        check(&["*"], "orders", false, true);
        check(&["*"], "orders.dead-letters", true, false);
        check(&["*"], "__consumer_offsets", false, false);
        check(&["__consumer_offsets"], "__consumer_offsets", false, false);
        check(&["orders.dead-letters"], "orders.dead-letters", true, true);
        check(&["orders.*", "{a,b}"], "orders.eu", false, true);
        check(&["orders.*", "{a,b}"], "b", false, true);
        check(&["orders.*", "{a,b}"], "c", false, false);
        check(&["orders"], "orders.eu", false, false);
    }

    #[test]
    fn a_bad_glob_is_told_with_its_place() {
        let patterns = ["ok".to_owned(), "a[".to_owned()];
        assert_eq!(Selection::new(&patterns).err().unwrap().0, 1);
    }
}
