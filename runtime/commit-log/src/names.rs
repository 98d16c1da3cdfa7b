//! The names of the files in a partition's folder.

use std::path::{Path, PathBuf};

use aqueduct_record::Offset;

pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
/// What was known of producers where a segment begins.
pub(crate) const PRODUCERS: &str = "producers";
pub(crate) const TIME_INDEX: &str = "timeindex";
/// Transactions that were aborted.
pub(crate) const ABORTED: &str = "txnindex";

/// Where a partition begins since somebody deleted what was before.
pub(crate) const START: &str = "start";

/// The path of a segment's file.
pub(crate) fn path(folder: &Path, base: Offset, extension: &str) -> PathBuf {
    folder.join(format!("{base:020}.{extension}"))
}

/// What a file in a partition's folder is, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    /// A segment.
    Log(Offset),
    /// An index of a segment.
    Index(Offset),
    /// What was known of producers where a segment begins.
    Producers(Offset),
    /// Where the partition begins since somebody deleted what was before.
    Start(Offset),
    /// What compaction made of the segments from one offset to another, complete.
    Swap(Offset, Offset),
    /// A segment that could be read but not synced.
    Suspect(Offset),
    /// Something unfinished, to be removed.
    Unfinished,
    /// Not one of ours.
    Foreign,
}

impl Named {
    pub(crate) fn parse(name: &str) -> Named {
        let offset = |digits: &str| {
            let is_offset = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_offset.then(|| digits.parse::<Offset>().ok()).flatten()
        };
        let Some((stem, extension)) = name.split_once('.') else { return Named::Foreign };
        match (offset(stem), extension) {
            (Some(base), LOG) => Named::Log(base),
            (Some(base), INDEX | TIME_INDEX | ABORTED) => Named::Index(base),
            (Some(base), PRODUCERS) => Named::Producers(base),
            (Some(base), START) => Named::Start(base),
            (Some(base), "suspect") => Named::Suspect(base),
            (Some(_), "fresh" | "cleaned") => Named::Unfinished,
            (None, "swap") => match stem.split_once('-').map(|(base, bound)| (offset(base), offset(bound))) {
                Some((Some(base), Some(bound))) => Named::Swap(base, bound),
                _ => Named::Foreign,
            },
            _ => Named::Foreign,
        }
    }

    /// The base offset, if it is a segment.
    pub(crate) fn log(&self) -> Option<Offset> {
        match self {
            Named::Log(base) => Some(*base),
            _ => None,
        }
    }

    /// The base offset, if it says what was known of producers there.
    pub(crate) fn producers(&self) -> Option<Offset> {
        match self {
            Named::Producers(base) => Some(*base),
            _ => None,
        }
    }

    /// Where the partition begins, if it says that.
    pub(crate) fn start(&self) -> Option<Offset> {
        match self {
            Named::Start(base) => Some(*base),
            _ => None,
        }
    }

    /// Whether no clean stop leaves such a file.
    pub(crate) fn needs_recovery(&self) -> bool {
        matches!(self, Named::Swap(..) | Named::Suspect(_) | Named::Unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        for (name, named) in [
            ("00000000000000000007.log", Named::Log(7)),
            ("00000000000000000007.index", Named::Index(7)),
            ("00000000000000000007.timeindex", Named::Index(7)),
            ("00000000000000000007.txnindex", Named::Index(7)),
            ("00000000000000000007.producers", Named::Producers(7)),
            ("00000000000000000007.start", Named::Start(7)),
            ("00000000000000000007.fresh", Named::Unfinished),
            ("00000000000000000007.cleaned", Named::Unfinished),
            ("00000000000000000007-00000000000000000009.swap", Named::Swap(7, 9)),
            ("00000000000000000007.swap", Named::Foreign),
            ("7.log", Named::Foreign),
            ("0000000000000000000x.log", Named::Foreign),
            ("99999999999999999999.log", Named::Foreign),
            ("notes.txt", Named::Foreign),
            ("", Named::Foreign),
        ] {
            assert_eq!(Named::parse(name), named, "{name}");
        }
        assert!(path(Path::new("/d"), 7, LOG).ends_with("00000000000000000007.log"));
    }
}
