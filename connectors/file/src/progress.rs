//! What is saved of a file: how far it was read, and what makes it recognisable wherever it is moved or copied to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use aqueduct_record::crc32c;
use serde::{Deserialize, Serialize};

use crate::content::{Content, is_gzip};

/// How many bytes at the head of a file are remembered.
const HEAD: u64 = 1024;

/// How much of a path is remembered, in bytes of JSON.
const LONGEST_PATH: usize = 1000;

/// How many bytes before the offset are remembered.
const TAIL: u64 = 256;

/// A stretch of a file's bytes, remembered by its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Print {
    length: u32,
    crc: u32,
}

/// How far a file was read. Both prints are of bytes that were consumed, so an offset of 0 matches every file, and harmlessly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Bytes consumed, inflated ones where the file is compressed.
    pub(crate) offset: u64,
    /// The first bytes.
    head: Print,
    /// The last bytes before the offset.
    tail: Print,
    /// The file, while it is where it was.
    pub(crate) inode: u64,
    /// Its file system.
    pub(crate) device: u64,
    /// Its path when it was last seen; the end of it where it is very long.
    pub(crate) path: String,
    /// The path that it was first seen at, where that is another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    first: String,
    /// When it was first seen, in milliseconds since 1970, raised where needed so that later files have later times.
    #[serde(default)]
    pub(crate) since: i64,
    /// The stored length of a compressed file that was read whole, so that it need not be inflated to find that out again.
    #[serde(default)]
    pub(crate) whole: u64,
    /// Up to where a damaged compressed file could be inflated, once that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damaged: Option<u64>,
    /// When the source was first started, in milliseconds since 1970; 0 where that was known to be saved.
    #[serde(default)]
    pub(crate) first_start: i64,
}

impl Progress {
    /// Nothing read yet.
    pub(crate) fn beginning(path: &Path, inode: u64, device: u64) -> Self {
        Progress { inode, device, path: shortened(path), ..Progress::default() }
    }

    /// The progress after `consumed` more bytes, `before` being the up to [`Progress::context`] bytes before the offset.
    pub(crate) fn after(&self, before: &[u8], consumed: &[u8]) -> Self {
        let joined = |most: usize| {
            let from_before = most.saturating_sub(consumed.len()).min(before.len());
            let mut bytes = before[before.len() - from_before..].to_vec();
            bytes.extend_from_slice(&consumed[consumed.len().saturating_sub(most)..]);
            Print { length: bytes.len() as u32, crc: crc32c(&bytes) }
        };
        let offset = self.offset + consumed.len() as u64;
        // While the head grows, all before the offset is at hand: it is shorter than the context.
        let head = if self.offset >= HEAD {
            self.head
        } else {
            let mut bytes = before.to_vec();
            bytes.extend_from_slice(&consumed[..consumed.len().min((HEAD - self.offset) as usize)]);
            Print { length: bytes.len() as u32, crc: crc32c(&bytes) }
        };
        Progress { offset, head, tail: joined(TAIL as usize), ..self.clone() }
    }

    /// The progress at another offset of the same file, whatever lies between.
    pub(crate) fn at(&self, content: &Content, offset: u64) -> io::Result<Self> {
        let print = |length: u64, from: u64| {
            let mut bytes = Vec::new();
            content.read(&mut bytes, length as usize, from)?;
            Ok::<_, io::Error>(Print { length: bytes.len() as u32, crc: crc32c(&bytes) })
        };
        let (head, tail) = (offset.min(HEAD), offset.min(TAIL));
        Ok(Progress { offset, head: print(head, 0)?, tail: print(tail, offset - tail)?, ..self.clone() })
    }

    /// The same progress, once it is told that nothing can be inflated behind `at`.
    pub(crate) fn damaged_at(&self, at: u64) -> Self {
        Progress { damaged: Some(at), ..self.clone() }
    }

    /// How many bytes before the offset are needed to check it and to go on from it.
    pub(crate) fn context(&self) -> u64 {
        if self.offset < HEAD { self.offset } else { TAIL }
    }

    /// Whether `before`, the [`Progress::context`] bytes before the offset, are what was consumed.
    pub(crate) fn continues(&self, before: &[u8]) -> bool {
        let tail = self.tail.length as usize;
        let head_too = self.offset >= HEAD || crc32c(before) == self.head.crc;
        head_too && before.len() >= tail && crc32c(&before[before.len() - tail..]) == self.tail.crc
    }

    /// Whether the file begins with what was consumed first, where [`Progress::context`] does not reach so far back.
    pub(crate) fn begins(&self, content: &Content) -> bool {
        self.offset < HEAD || self.begins_like(content, &mut BTreeMap::new())
    }

    /// The file that it is of.
    pub(crate) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether a file holds, at its head and before the offset, what was consumed.
    pub(crate) fn matches(&self, content: &Content) -> io::Result<bool> {
        for (print, from) in [(self.head, 0), (self.tail, self.offset - u64::from(self.tail.length))] {
            let mut bytes = Vec::new();
            let read = content.read(&mut bytes, print.length as usize, from)?;
            if read < print.length as usize || crc32c(&bytes) != print.crc {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a file's head is the one remembered; `heads` keeps what was read of that file for the next question.
    pub(crate) fn begins_like(&self, content: &Content, heads: &mut BTreeMap<u32, u32>) -> bool {
        let length = self.head.length;
        let crc = *heads.entry(length).or_insert_with(|| {
            let mut bytes = Vec::new();
            let read = content.read(&mut bytes, length as usize, 0).unwrap_or(0);
            if read < length as usize { !self.head.crc } else { crc32c(&bytes) }
        });
        crc == self.head.crc
    }

    /// Whether the prints alone tell files apart: a short log may begin like another one.
    pub(crate) fn is_strong(&self) -> bool {
        self.offset >= HEAD
    }

    /// Whether what has the file's inode may be the file at another path. Compressing makes another file; and where nothing
    /// was read the content says nothing, but rotation lengthens names, and one that got shorter is a later file's.
    pub(crate) fn may_be_at(&self, path: &Path) -> bool {
        let length = |path: &Path| path.file_name().map_or(0, |name| name.len());
        let before = self.path();
        is_gzip(&before) == is_gzip(path) && (self.offset > 0 || length(path) >= length(&before))
    }

    /// The same progress in a file elsewhere.
    pub(crate) fn moved(&self, path: &Path, inode: u64, device: u64) -> Self {
        let path = shortened(path);
        let first = if self.first_path() == path { "" } else { self.first_path() };
        Progress { inode, device, first: first.to_owned(), path, ..self.clone() }
    }

    /// The path that the file was first seen at, in the same form.
    pub(crate) fn first_path(&self) -> &str {
        if self.first.is_empty() { &self.path } else { &self.first }
    }

    /// Where the file was last seen.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }
}

/// A path in a form of which two fit into a position, which is JSON.
pub(crate) fn shortened(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.len() <= LONGEST_PATH / LONGEST_ESCAPE {
        return text.into_owned();
    }
    let mut room = LONGEST_PATH;
    let fits = |character: char| {
        let left = room.checked_sub(length_in_json(character));
        room = left.unwrap_or(room);
        left.is_some()
    };
    let end = text.trim_end_matches(fits).len();
    if end == 0 { text.into_owned() } else { format!("…{}", &text[end..]) }
}

/// The most bytes that a byte of a path becomes in JSON.
const LONGEST_ESCAPE: usize = 6;

/// How many bytes a character becomes in JSON, at most.
fn length_in_json(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        _ if character < ' ' => LONGEST_ESCAPE,
        _ => character.len_utf8(),
    }
}

/// Whether two names may be of one file before and after a rotation: one begins like the other, up to its extension.
pub(crate) fn are_related(one: &Path, other: &Path) -> bool {
    let stem = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.split_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned())
    };
    let (one_stem, other_stem) = (stem(one), stem(other));
    let same_folder = one.parent() == other.parent();
    same_folder
        && !one_stem.is_empty()
        && !other_stem.is_empty()
        && (one_stem.starts_with(&other_stem) || other_stem.starts_with(&one_stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_steps_is_the_same_as_in_one() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| (n * 31 % 251) as u8).collect();
        let start = Progress::beginning(Path::new("/a"), 1, 1);
        for steps in [&[5000][..], &[1, 99, 900, 24, 3976], &[1000, 1, 23, 1, 3975], &[1024, 1, 3975]] {
            let mut progress = start.clone();
            for step in steps {
                let (at, context) = (progress.offset as usize, progress.context() as usize);
                assert!(progress.continues(&bytes[at - context..at]));
                progress = progress.after(&bytes[at - context..at], &bytes[at..at + step]);
            }
            assert_eq!(progress, start.after(&[], &bytes), "{steps:?}");
        }
    }

    #[test]
    fn a_file_that_moves_keeps_its_first_path() {
        let start = Progress::beginning(Path::new("/l/a"), 1, 1);
        assert_eq!(start.first_path(), "/l/a");
        let moved = start.moved(Path::new("/l/a.1"), 1, 1).moved(Path::new("/l/a.2"), 1, 1);
        assert_eq!((moved.path.as_str(), moved.first_path()), ("/l/a.2", "/l/a"));
        assert_eq!(moved.moved(Path::new("/l/a"), 1, 1), start);
    }

    #[test]
    fn long_paths_fit_into_a_position_twice_whatever_they_are_made_of() {
        for part in ["日本", "\u{1}", "\"", "\\", "a", "\u{7f}"] {
            let long = |end: &str| PathBuf::from(format!("/{}/{end}", part.repeat(2000 / part.len())));
            let moved = Progress::beginning(&long("a"), u64::MAX, u64::MAX).moved(&long("a.1"), u64::MAX, u64::MAX);
            assert!(moved.first_path().starts_with('…') && moved.path.starts_with('…'), "{part:?}");
            assert!(moved.first_path().ends_with("/a") && moved.path.ends_with("/a.1"), "{part:?}");
            assert!(serde_json::to_string(&moved.path).unwrap().len() > LONGEST_PATH - 10, "{part:?}: no more is cut");
            let (since, whole) = (i64::MAX, u64::MAX);
            let position = aqueduct_api::Position::of(&Progress { since, whole, damaged: Some(u64::MAX), ..moved });
            assert!(position.is_ok(), "{part:?}: {position:?}");
        }
    }

    #[test]
    fn names_of_rotated_files_are_related_and_neighbours_are_not() {
        let related = |a: &str, b: &str| are_related(Path::new(a), Path::new(b));
        for name in ["/l/app.log.1", "/l/app.log-20260101", "/l/app-2026.log", "/l/app.1.log", "/l/app.log.1.gz"] {
            assert!(related("/l/app.log", name), "{name}");
        }
        for name in ["/l/web.log", "/m/app.log", "/l/.app"] {
            assert!(!related("/l/app.log", name), "{name}");
        }
    }
}
