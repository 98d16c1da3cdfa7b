//! Which file a stream is, in what a file keeps wherever it is moved: a start after a kill gives the same file the same stream,
//! also where nothing of the stream was saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::walk::Found;

/// The id of a stream. A copy has another inode; a file that was given the inode of one that is gone was made at another time;
/// and one that was written anew in place is of a later generation than the streams that are known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    inode: u64,
    /// When the file was made, in milliseconds since 1970.
    created: i64,
    generation: u64,
}

/// The last generation of each file that there is a stream of.
#[derive(Default)]
pub(crate) struct Generations(BTreeMap<(u64, i64), u64>);

impl Identity {
    /// Reads a stream's id; `None` where it is none of these.
    pub(crate) fn read(id: &str) -> Option<Identity> {
        serde_json::from_str(id).ok()
    }

    fn file(&self) -> (u64, i64) {
        (self.inode, self.created)
    }
}

impl Generations {
    /// Learns of a stream that there is.
    pub(crate) fn learn(&mut self, id: &str) {
        if let Some(identity) = Identity::read(id) {
            let last = self.0.entry(identity.file()).or_default();
            *last = identity.generation.max(*last);
        }
    }

    /// The id of a new stream. Where the file system does not say when a file was made, an inode does not tell it from a later
    /// one: chance does.
    pub(crate) fn next(&mut self, found: &Found, chance: impl FnOnce() -> u64) -> String {
        let (inode, created) = (found.metadata.inode, found.metadata.created);
        let identity = match created {
            0 => serde_json::json!({ "inode": inode, "file": format!("{:016x}", chance()) }),
            _ => {
                let last = self.0.entry((inode, created)).or_default();
                *last += 1;
                serde_json::json!(Identity { inode, created, generation: *last })
            }
        };
        identity.to_string()
    }

    /// Forgets a stream that has ended: where it is the only one of its file, the file with it.
    pub(crate) fn forget(&mut self, id: &str) {
        if let Some(identity) = Identity::read(id)
            && self.0.get(&identity.file()) == Some(&1)
        {
            self.0.remove(&identity.file());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use aqueduct_api::disk::{Kind, Metadata};

    use super::*;

    fn found(inode: u64, created: i64) -> Found {
        let metadata = Metadata { kind: Kind::File, length: 9, device: 1, inode, modified: 7, created };
        Found { path: PathBuf::from("/l/app.log"), metadata }
    }

    fn next(generations: &mut Generations, inode: u64, created: i64) -> String {
        generations.next(&found(inode, created), || 0xab)
    }

    #[test]
    fn a_file_has_the_same_id_after_a_start_that_knows_nothing_of_it() {
        let id = next(&mut Generations::default(), 5, 1000);
        assert_eq!(id, r#"{"inode":5,"created":1000,"generation":1}"#, "the spelling stays");
        assert_eq!(next(&mut Generations::default(), 5, 1000), id);
        for (inode, created) in [(6, 1000), (5, 1001)] {
            assert_ne!(next(&mut Generations::default(), inode, created), id, "{inode} {created}");
        }
    }

    #[test]
    fn a_file_that_was_written_anew_is_of_a_later_generation() {
        let mut before = Generations::default();
        let ids = [next(&mut before, 5, 1000), next(&mut before, 5, 1000)];
        assert_ne!(ids[0], ids[1]);
        let mut after = Generations::default();
        ids.iter().rev().for_each(|id| after.learn(id));
        let third = next(&mut after, 5, 1000);
        assert_eq!(third, r#"{"inode":5,"created":1000,"generation":3}"#);
        after.forget(&third);
        after.forget(&ids[1]);
        assert_eq!(
            next(&mut after, 5, 1000),
            r#"{"inode":5,"created":1000,"generation":4}"#,
            "the first is still there"
        );
    }

    #[test]
    fn nothing_is_kept_of_files_that_are_forgotten() {
        let mut generations = Generations::default();
        let id = next(&mut generations, 5, 1000);
        generations.forget(&id);
        assert!(generations.0.is_empty());
    }

    #[test]
    fn a_file_of_an_unknown_age_gets_an_id_by_chance() {
        let mut generations = Generations::default();
        let id = next(&mut generations, 5, 0);
        assert_eq!(id, r#"{"inode":5,"file":"00000000000000ab"}"#);
        generations.learn(&id);
        assert!(generations.0.is_empty());
    }
}
