//! Finding files: folders walked along globs, links followed, loops and things that are no files told of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use aqueduct_api::disk::{Kind, Metadata};
use aqueduct_api::{Disk, Error, Result};
use globset::{GlobBuilder, GlobMatcher};

use crate::FileSettings;

/// What to look for, and where.
#[derive(Clone)]
pub(crate) struct Walk {
    wanted: Vec<(PathBuf, GlobMatcher)>,
    excluded: Vec<GlobMatcher>,
}

/// A regular file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its path, the first in order where several lead to it.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) metadata: Metadata,
}

impl Found {
    /// Which file it is, whatever its path.
    pub(crate) fn file(&self) -> (u64, u64) {
        (self.metadata.device, self.metadata.inode)
    }
}

/// What a walk found.
#[derive(Default)]
pub(crate) struct Findings {
    /// Regular files, by path, each once.
    pub(crate) files: Vec<Found>,
    /// What could not be looked at, and why.
    pub(crate) problems: BTreeMap<PathBuf, String>,
    /// How many names were looked at: what the walk cost.
    pub(crate) names: usize,
}

impl Findings {
    /// Whether there is (or was known, as `known` says) a file whose name this one begins with, before a `.`, `-` or `_`.
    pub(crate) fn has_name_before(&self, path: &Path, known: impl Fn(&str) -> bool) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        name.match_indices(['.', '-', '_']).filter(|(at, _)| *at > 0).any(|(at, _)| {
            let before = path.with_file_name(&name[..at]);
            let found = self.files.binary_search_by(|found| found.path.as_path().cmp(&before)).is_ok();
            found || before.to_str().is_some_and(&known)
        })
    }
}

/// A glob below `folder`, whose `*` and `?` do not cross folders.
pub(crate) fn glob(folder: &Path, text: &str) -> Result<GlobMatcher, globset::Error> {
    // A relative glob may begin with `./` or `../`, which no path that was walked contains.
    let whole = folder.join(text);
    let mut clean = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    let built = GlobBuilder::new(&clean.to_string_lossy()).literal_separator(true).build()?;
    Ok(built.compile_matcher())
}

/// The folders of a glob before its first special character.
fn base(matcher: &GlobMatcher) -> PathBuf {
    let text = matcher.glob().glob();
    let special = text.find(['*', '?', '[', '{', '\\']);
    match special {
        None => PathBuf::from(text),
        Some(at) => PathBuf::from(&text[..text[..at].rfind('/').map_or(0, |slash| slash.max(1))]),
    }
}

impl Walk {
    /// Reads the globs of the settings; relative ones begin at `folder`.
    pub(crate) fn new(settings: &FileSettings, folder: &Path) -> Result<Self> {
        let read = |text: &String| {
            glob(folder, text).map_err(|cause| Error::fatal(format!("`{text}` is not a glob: {cause}")))
        };
        let wanted = settings.paths.iter().map(|text| read(text).map(|glob| (base(&glob), glob)));
        Ok(Walk {
            wanted: wanted.collect::<Result<_>>()?,
            excluded: settings.exclude.iter().map(read).collect::<Result<_>>()?,
        })
    }

    /// All files that match now, in the order of their paths.
    pub(crate) fn find(&self, disk: &dyn Disk) -> Findings {
        let mut findings = Findings::default();
        let mut files = BTreeMap::new();
        for (base, glob) in &self.wanted {
            let mut step = Step { walk: self, glob, disk, files: &mut files, findings: &mut findings };
            step.visit(base, &mut Vec::new(), true);
        }
        let mut seen = BTreeSet::new();
        let once = files.into_iter().filter(|(_, found)| seen.insert((found.device, found.inode)));
        findings.files = once.map(|(path, metadata)| Found { path, metadata }).collect();
        findings
    }
}

struct Step<'a> {
    walk: &'a Walk,
    glob: &'a GlobMatcher,
    disk: &'a dyn Disk,
    files: &'a mut BTreeMap<PathBuf, Metadata>,
    findings: &'a mut Findings,
}

impl Step<'_> {
    /// Looks at one path; `above` are the folders on the way to it, by device and inode.
    fn visit(&mut self, path: &Path, above: &mut Vec<(u64, u64)>, is_base: bool) {
        self.findings.names += 1;
        let metadata = match self.disk.metadata(path, true) {
            Ok(metadata) => metadata,
            // What is gone is gone; a glob that begins in a folder that is not there finds nothing, and that is told.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && !is_base => return,
            Err(cause) => return self.tell(path, cause.to_string()),
        };
        match metadata.kind {
            Kind::Folder => self.enter(path, metadata, above),
            Kind::File if self.matches(path) => drop(self.files.insert(path.to_owned(), metadata)),
            Kind::Other if self.matches(path) => self.tell(path, "is a pipe, socket or device: not read".into()),
            _ => {}
        }
    }

    fn enter(&mut self, path: &Path, metadata: Metadata, above: &mut Vec<(u64, u64)>) {
        let folder = (metadata.device, metadata.inode);
        if above.contains(&folder) {
            return self.tell(path, "is a link to a folder above it: not followed".into());
        }
        let mut names = match self.disk.list(path) {
            Ok(names) => names,
            Err(cause) => return self.tell(path, cause.to_string()),
        };
        names.sort_by(|a, b| a.name.cmp(&b.name));
        above.push(folder);
        let deeper = self.goes_deeper(path);
        for entry in names {
            let child = path.join(&entry.name);
            if entry.kind != Kind::Folder && !self.matches(&child) && !(entry.kind == Kind::Link && deeper) {
                continue;
            }
            if entry.kind == Kind::Folder && !deeper {
                continue;
            }
            self.visit(&child, above, false);
        }
        above.pop();
    }

    /// Whether the glob may match anything in folders of `path`.
    fn goes_deeper(&self, path: &Path) -> bool {
        let text = self.glob.glob().glob();
        text.contains("**") || text.matches('/').count() > path.components().count()
    }

    fn matches(&self, path: &Path) -> bool {
        self.glob.is_match(path) && !self.walk.excluded.iter().any(|glob| glob.is_match(path))
    }

    fn tell(&mut self, path: &Path, what: String) {
        self.findings.problems.insert(path.to_owned(), what);
    }
}
