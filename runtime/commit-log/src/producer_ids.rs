//! Ids of producers, each given once, whatever happens: they are taken in blocks, and a block is noted before it is used.

use std::path::PathBuf;

use aqueduct_api::{Error, Result};
use parking_lot::Mutex;

use crate::folder::{PRODUCER_IDS, at, read_whole};
use crate::shared::Shared;
use crate::topic::Registry;

/// Ids that are noted together, as Kafka does.
const BLOCK: i64 = 1000;

/// Where the ids come from.
pub(crate) struct ProducerIds {
    path: PathBuf,
    /// The ids of the block that are left; asked for when the first producer comes.
    left: Mutex<Option<std::ops::Range<i64>>>,
}

impl ProducerIds {
    pub(crate) fn new(shared: &Shared) -> Self {
        ProducerIds { path: shared.folder.path.join(PRODUCER_IDS), left: Mutex::new(None) }
    }

    /// An id that nobody ever had. Blocks.
    pub(crate) fn take(&self, registry: &Registry) -> Result<i64> {
        let mut left = self.left.lock();
        if let Some(id) = left.as_mut().and_then(Iterator::next) {
            return Ok(id);
        }
        let mut block = self.next_block(registry)?;
        let (shared, noted) = (&registry.shared, format!("{}\n", block.end));
        let written = shared.room.or_on_ballast(|| shared.folder.write_state(&self.path, noted.as_bytes()));
        written.map_err(at(&self.path))?;
        let id = block.next().unwrap_or(block.start);
        *left = Some(block);
        Ok(id)
    }

    /// The ids behind all that were noted, and behind all that the log knows: they may have come from another one.
    fn next_block(&self, registry: &Registry) -> Result<std::ops::Range<i64>> {
        let noted = match read_whole(registry.shared.disk(), &self.path).map_err(at(&self.path))? {
            None => 0,
            Some(found) => {
                let number = std::str::from_utf8(&found).ok().and_then(|text| text.trim().parse().ok());
                number.filter(|number| *number >= 0).ok_or_else(|| {
                    Error::fatal(format!(
                        "{} does not hold a number: write one into it that is larger than every producer id that was given",
                        self.path.display()
                    ))
                })?
            }
        };
        let known = registry.partitions().into_iter().filter_map(|partition| partition.largest_producer()).max();
        let start = known.map_or(noted, |known: i64| noted.max(known.saturating_add(1)));
        let end = start.checked_add(BLOCK).ok_or_else(|| Error::fatal("no producer ids are left"))?;
        Ok(start..end)
    }
}
