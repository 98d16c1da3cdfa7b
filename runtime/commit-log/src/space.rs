//! How full the disk may get, and what is kept back for internal topics so that a full disk can not stop the commits that
//! would free it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::disk::{Disk, Open};
use aqueduct_api::{ByteSize, Error, Result, TopicSettings};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

use crate::folder::{BALLAST, remove_if_there};

/// How often the disk is asked, at least.
const FRESH: Duration = Duration::from_millis(100);
/// How many bytes may be written before the disk is asked again.
const UNCHECKED: u64 = 16 << 20;
/// What is kept free of a large disk unless something else is said.
const USUALLY_FREE: u64 = 1 << 30;
const LARGEST_BALLAST: u64 = 16 << 20;

/// How full the file system of the data folder may get, by whatever is on it: `95%`, `200 GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskLimit {
    /// 95 percent, or all but 1 GiB where that is more: a large disk need not keep more free.
    #[default]
    Usual,
    /// Percent of the file system.
    Percent(u8),
    /// Bytes in use.
    Bytes(u64),
}

impl DiskLimit {
    /// The bytes that may be in use on a file system of `total` bytes.
    fn of(self, total: u64) -> u64 {
        match self {
            DiskLimit::Usual => DiskLimit::Percent(95).of(total).max(total.saturating_sub(USUALLY_FREE)),
            DiskLimit::Percent(percent) => (u128::from(total) * u128::from(percent) / 100) as u64,
            DiskLimit::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for DiskLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a limit of disk, expected a share like `80%` or a number of bytes like `500 GiB`")
        };
        match text.trim().strip_suffix('%') {
            Some(number) => match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(DiskLimit::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.parse::<ByteSize>().map(|size| DiskLimit::Bytes(size.0)).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for DiskLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskLimit::Usual => f.write_str("95%, or all but 1 GiB"),
            DiskLimit::Percent(percent) => write!(f, "{percent}%"),
            DiskLimit::Bytes(bytes) => ByteSize(*bytes).fmt(f),
        }
    }
}

impl Serialize for DiskLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DiskLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(DiskLimit::Bytes(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for DiskLimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DiskLimit".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "description": "a share, `80%`, or a number of bytes, `500 GiB`",
        })
    }
}

/// What happens to appends when the disk is as full as it may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// They are refused until there is room again: sources wait.
    #[default]
    Refuse,
    /// The oldest segments of topics that delete go, delivered or not: a loud, counted gap.
    DropOldest,
}

/// Whose appends want room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Topics that sources and clients write to.
    Data,
    /// Dead letters: a sink that can not bury what its destination rejects frees nothing. They may use half of what lies
    /// above the limit.
    DeadLetters,
}

impl For {
    pub(crate) fn of(settings: &TopicSettings) -> Self {
        match settings.dead_letters {
            true => For::DeadLetters,
            false => For::Data,
        }
    }
}

/// The room on the disk.
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    limit: DiskLimit,
    /// Never held while the disk is asked: async tasks wait for it.
    seen: Mutex<Seen>,
    /// Whether the ballast is there.
    ballast: Mutex<bool>,
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    written: u64,
    full: Option<String>,
    /// Whether dead letters find no room either.
    is_full_for_dead_letters: bool,
}

impl Room {
    pub(crate) fn new(disk: &Arc<dyn Disk>, folder: &Path, limit: DiskLimit) -> Self {
        let (disk, folder) = (disk.clone(), folder.to_owned());
        Room { disk, folder, limit, seen: Mutex::default(), ballast: Mutex::default() }
    }

    /// Refuses, without asking the disk, what was refused a moment ago.
    pub(crate) fn refuse(&self, whom: For) -> Result<()> {
        let seen = self.seen.lock();
        match seen.at.is_some_and(|at| at.elapsed() < FRESH) {
            true => seen.answer(whom),
            false => Ok(()),
        }
    }

    /// Why appends are refused, when they are.
    pub(crate) fn full(&self) -> Option<String> {
        self.seen.lock().full.clone()
    }

    /// Asks the disk now and then whether `bytes` more may be written; while one asks, others go by what was known before.
    /// Blocks.
    pub(crate) fn take(&self, bytes: u64, whom: For) -> Result<()> {
        {
            let mut seen = self.seen.lock();
            seen.written += bytes;
            if seen.written <= UNCHECKED && seen.at.is_some_and(|at| at.elapsed() < FRESH) {
                return seen.answer(whom);
            }
            seen.at = Some(Instant::now());
            seen.written = bytes;
        }
        let space = self.disk.space(&self.folder).map_err(|cause| {
            self.ask_again();
            crate::folder::at(&self.folder)(cause)
        })?;
        let used = space.total.saturating_sub(space.available);
        let limit = self.limit.of(space.total);
        let headroom = space.total.saturating_sub(limit) / 2;
        let wanted = used.saturating_add(bytes);
        let full = (wanted > limit).then(|| {
            format!(
                "disk full: {} of {} bytes in use on the file system of {}, past the limit of {}; free some room, \
                 lower retention or raise `log.limit`",
                used,
                space.total,
                self.folder.display(),
                self.limit
            )
        });
        let mut seen = self.seen.lock();
        seen.is_full_for_dead_letters = wanted > limit.saturating_add(headroom);
        seen.full = full;
        seen.answer(whom)
    }

    /// Forgets what the disk said, after something was deleted.
    pub(crate) fn ask_again(&self) {
        self.seen.lock().at = None;
    }

    /// Reserves the ballast where it is missing and there is room; best effort, since only a full disk needs it. Blocks.
    pub(crate) fn take_ballast(&self) {
        let mut ballast = self.ballast.lock();
        if *ballast {
            return;
        }
        let Ok(space) = self.disk.space(&self.folder) else { return };
        let size = LARGEST_BALLAST.min(space.total / 100);
        if space.available < size * 4 {
            return;
        }
        let path = self.folder.join(BALLAST);
        let taken = self.disk.open(&path, Open::Write).and_then(|file| file.allocate(size));
        match taken {
            Ok(()) => *ballast = true,
            Err(cause) => {
                tracing::debug!(path = %path.display(), %cause, "no room was reserved for internal topics");
                let _ = remove_if_there(&*self.disk, &path);
            }
        }
    }

    /// Does what internal topics need; when the disk is full, once more on the room that was reserved for it.
    pub(crate) fn or_on_ballast<T>(&self, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match act() {
            Err(cause) if is_full(&cause) => {
                *self.ballast.lock() = false;
                remove_if_there(&*self.disk, &self.folder.join(BALLAST))?;
                tracing::warn!(folder = %self.folder.display(), "disk full: using the room reserved for internal topics");
                act()
            }
            done => done,
        }
    }
}

impl Seen {
    fn answer(&self, whom: For) -> Result<()> {
        match &self.full {
            Some(full) if whom == For::Data || self.is_full_for_dead_letters => Err(Error::retry(full.clone())),
            _ => Ok(()),
        }
    }
}

/// Whether a write failed for want of room.
pub(crate) fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written_as_people_do() {
        for (text, limit) in
            [("80%", DiskLimit::Percent(80)), (" 5 % ", DiskLimit::Percent(5)), ("1 KiB", DiskLimit::Bytes(1024))]
        {
            assert_eq!(text.parse(), Ok(limit));
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for wrong in ["", "0%", "101%", "-1%", "full", "%"] {
            assert!(wrong.parse::<DiskLimit>().unwrap_err().contains("is not a limit of disk"), "{wrong}");
        }
        assert_eq!((DiskLimit::Percent(80).of(1000), DiskLimit::Bytes(7).of(1000)), (800, 7));
        assert_eq!((DiskLimit::Usual.of(1000), DiskLimit::Usual.of(100 << 30)), (950, 99 << 30));
    }
}
