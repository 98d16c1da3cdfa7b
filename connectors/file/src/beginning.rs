//! Where reading begins: at saved positions, and in files that are there when a source starts for the very first time.

use std::io;
use std::sync::Arc;

use aqueduct_api::{Disk, Incoming, Position, Result, Stream};
use aqueduct_record::BatchBuilder;
use serde::Deserialize;

use crate::Start;
use crate::catalog::Addition;
use crate::content::Content;
use crate::progress::Progress;
use crate::walk::Found;

/// The stream that remembers that the source has been started before.
const STARTED: &str = r#"{"started":true}"#;

/// How much earlier than our clock a file system may say that a file was written to, in milliseconds.
const COARSE: i64 = 2000;

/// Files that were read before, and how far.
pub(crate) type Saved = Vec<(Arc<Stream>, Progress)>;

/// What the id of a file's stream says.
#[derive(Deserialize)]
struct Id {
    #[expect(dead_code, reason = "only files have one")]
    inode: u64,
}

/// How files begin that were never read.
pub(crate) struct Beginning {
    /// When the source was started for the very first time, in milliseconds since 1970: 0 once it is known to be saved
    /// that it was.
    pub(crate) first_start: i64,
    /// Files that are found begin at their end where they were last written to before this moment.
    at_end: Option<i64>,
}

impl Beginning {
    /// What the saved positions say.
    pub(crate) fn read(
        positions: &[(Arc<Stream>, Position)],
        start: Start,
        now: impl FnOnce() -> i64,
    ) -> Result<(Self, Saved)> {
        let mut saved = Vec::new();
        let is_started = positions.iter().any(|(stream, _)| stream.id == STARTED);
        for (stream, position) in positions {
            if serde_json::from_str::<Id>(&stream.id).is_err() {
                continue;
            }
            let progress = position.read::<Progress>()?;
            let key = progress.first_path().to_owned();
            saved.push((Arc::new(Stream { id: stream.id.clone(), key }), progress));
        }
        let (first_start, at_end) = match start {
            Start::End if !is_started => first_start(&saved, now()),
            _ => (0, None),
        };
        Ok((Beginning { first_start, at_end }, saved))
    }

    /// Whether some files begin at their end.
    pub(crate) fn is_first(&self) -> bool {
        self.at_end.is_some()
    }

    /// Whether a file is one of those that begin at their end.
    pub(crate) fn is_at_end(&self, found: &Found) -> bool {
        self.at_end.is_some_and(|before| found.metadata.modified < before)
    }

    /// From now on files begin at their beginning: what is to be saved of that, once.
    pub(crate) fn over(&mut self) -> Result<Option<Incoming>> {
        if self.at_end.take().is_none() {
            return Ok(None);
        }
        let stream = Arc::new(Stream { id: STARTED.into(), key: String::new() });
        Ok(Some(Incoming::records(stream, Position::from_json(STARTED.into())?, BatchBuilder::new())))
    }
}

/// Where reading begins in files that begin at their end. What can not be read now is later read from its beginning.
pub(crate) fn ends(disk: &dyn Disk, delimiter: u8, inflate: bool, found: Vec<Found>) -> Vec<Addition> {
    let end = |found: &Found| -> io::Result<Progress> {
        let content = Content::open(disk, &found.path, inflate)?;
        let length = content.is_compressed().then(|| content.length()).transpose()?;
        let end = match length {
            Some(length) if content.is_whole() => length,
            _ => content.last_end(delimiter)?,
        };
        Progress::beginning(&found.path, found.metadata.inode, found.metadata.device).at(&content, end)
    };
    let mut ends = Vec::with_capacity(found.len());
    for found in found {
        let end = end(&found).ok();
        ends.push((found, end));
    }
    ends
}

/// When the source was first started, and before which moment a file that is found must have been written to last to begin
/// at its end.
///
/// Positions are saved one by one, in any order, and records come between them. So each position says when the source was
/// first started, until it is known to be saved that it was. Where a kill kept that from being saved, files that were not
/// written to since then begin at their end as if nothing had happened; of the others it can not be told any more what was
/// in them then, so they are read whole: rather too much than too little.
fn first_start(saved: &Saved, now: i64) -> (i64, Option<i64>) {
    if saved.is_empty() {
        return (now, Some(i64::MAX));
    }
    let interrupted = saved.iter().map(|(_, progress)| progress.first_start).filter(|first| *first > 0).min();
    match interrupted {
        Some(first) => (first, Some(first - COARSE)),
        None => (0, None),
    }
}
