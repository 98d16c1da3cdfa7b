//! In which file a record goes, by a template; whatever the record says, the file lies in the folder that the template
//! begins with.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use aqueduct_api::TopicPartition;
use aqueduct_api::template::{Piece, Template};
use aqueduct_record::Record;

/// The longest name, in bytes, so that it and any folder stay below what systems take.
const LONGEST: usize = 1024;

/// The longest part of a name: of the 255 bytes that systems take, those that a number takes at most are left free.
const LONGEST_PART: usize = 255 - 21;

/// A path that was understood: `logs/` is its folder, `{topic}/x` names files there, `.log` stands behind a number.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    folder: String,
    /// All that is behind the folder, as it was written.
    rest: String,
    template: Template,
    suffix: String,
}

impl Naming {
    /// Reads a path; `extension` is added where it does not end so.
    pub(crate) fn parse(path: &str, extension: &str) -> Result<Self, String> {
        // For the places that messages tell.
        Template::parse(path)?;
        let literal = path.find(['{', '}']).unwrap_or(path.len());
        let (folder, rest) = match path[..literal].rfind('/') {
            Some(0) => ("/", &path[1..]),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (".", path),
        };
        if rest.is_empty() || rest.ends_with('/') {
            return Err("names a folder: it must end with the name of a file".to_owned());
        }
        if let Some(part) = rest.split('/').find(|part| part.is_empty() || part.starts_with('.')) {
            return Err(format!("has a part `{part}`: parts must not be empty or begin with a dot"));
        }
        let last = rest.rfind(['/', '}']).map_or(0, |at| at + 1);
        let tail = &rest[last..];
        let dot = if tail.contains('{') { None } else { tail.find('.') };
        let (head, suffix) = rest.split_at(dot.map_or(rest.len(), |dot| last + dot));
        let template = Template::parse(head)?;
        if template.has_value() {
            return Err("can not hold `{value}`: the name of a file is made of other things".to_owned());
        }
        let added = if suffix.ends_with(extension) { "" } else { extension };
        let (folder, rest, suffix) = (folder.to_owned(), format!("{rest}{added}"), format!("{suffix}{added}"));
        Ok(Naming { folder, rest, template, suffix })
    }

    /// The folder that no name leaves; a relative one starts at `start`.
    pub(crate) fn root(&self, start: &Path) -> PathBuf {
        let mut root = PathBuf::new();
        for part in start.join(&self.folder).components() {
            if part != Component::CurDir {
                root.push(part);
            }
        }
        root
    }

    /// Everything that it names, where relative folders start at `start`.
    pub(crate) fn all(&self, start: &Path) -> String {
        self.root(start).join(&self.rest).display().to_string()
    }

    /// Whether all records of a partition go into one file.
    pub(crate) fn is_fixed(&self) -> bool {
        self.template.is_fixed()
    }

    /// The name without number and suffix, or why a record has none.
    pub(crate) fn name(&self, of: &TopicPartition, record: &Record<'_>) -> Result<String, String> {
        let mut name = String::new();
        self.template.fill(of, record, |piece| match piece {
            Piece::Text(text) => name.push_str(text),
            Piece::Said(said) => escape(said, &mut name),
            Piece::Value(_) => {}
        })?;
        let length = name.len() + self.suffix.len();
        if length > LONGEST {
            return Err(format!("the name of its file would have {length} bytes, more than {LONGEST}"));
        }
        let longest = LONGEST_PART.saturating_sub(self.suffix.len());
        match name.split('/').find(|part| part.is_empty() || part.starts_with('.') || part.len() > longest) {
            None => Ok(name),
            Some("") => Err(format!("the name of its file, `{name}`, has an empty part")),
            Some(part) if part.starts_with('.') => Err(format!("part `{part}` of its file's name begins with a dot")),
            Some(part) => Err(format!("a part of its file's name has {} bytes, more than {longest}", part.len())),
        }
    }

    /// The file of a name, below the root.
    pub(crate) fn file(&self, name: &str, number: Option<u64>) -> String {
        match number {
            None => format!("{name}{}", self.suffix),
            Some(number) => format!("{name}-{number:06}{}", self.suffix),
        }
    }
}

/// Appends `said` so that it stays one part of a name and different ones stay different: letters and digits, `-`, `_`,
/// `~` and dots but the first are kept, all else becomes `%` and two hexadecimal digits a byte.
fn escape(said: &str, out: &mut String) {
    for (at, character) in said.char_indices() {
        let kept = character.is_alphanumeric() || matches!(character, '-' | '_' | '~') || (character == '.' && at > 0);
        if kept {
            out.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            // Writing into a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    fn named(path: &str, extension: &str, key: &str) -> Result<(String, String), String> {
        let mut builder = BatchBuilder::new();
        builder.push(1_700_000_000_000, Some(key.as_bytes()), Some(br#"{"a":{"b":"../c"}}"#), &[("h", Some(b"/etc"))]);
        let batch = builder.finish();
        let records = batch.records().unwrap();
        let naming = Naming::parse(path, extension)?;
        let root = naming.root(Path::new("/start")).display().to_string();
        let name = naming.name(&TopicPartition::new("to.pic", 3), &records.iter().next().unwrap().unwrap())?;
        Ok((root, naming.file(&name, Some(7)).replace("-000007", "#")))
    }

    #[test]
    fn a_template_names_a_folder_and_files_in_it() {
        for (path, extension, root, file) in [
            ("out/{topic}.log", "", "/start/out", "to.pic#.log"),
            ("./app.log.gz", ".gz", "/start", "app#.log.gz"),
            ("/var/log/{timestamp:%Y/%m-%d}/x", ".zst", "/var/log", "2023/11-14/x#.zst"),
            ("{topic}/{partition}.d/{field:a.b}", "", "/start", "to.pic/3.d/%2E.%2Fc#"),
            ("a/{header:h}-{key}.json", ".gz", "/start/a", "%2Fetc-%2E.#.json.gz"),
            ("/x", "", "/", "x#"),
            ("{{{topic}}}.log", "", "/start", "{to.pic}#.log"),
        ] {
            assert_eq!(named(path, extension, ".."), Ok((root.to_owned(), file.to_owned())), "{path}");
        }
    }

    #[test]
    fn what_names_no_file_in_the_folder_is_told() {
        for (path, key, part) in [
            ("out/", "", "names a folder"),
            ("", "", "names a folder"),
            ("{topic}/../x", "", "has a part `..`"),
            ("{topic}//x", "", "has a part ``"),
            ("out/.x", "", "has a part `.x`"),
            ("{topik}", "", "did you mean `{topic}`?"),
            ("a/{value}", "", "can not hold `{value}`"),
            ("{key}/x", "", "has an empty part"),
            ("{timestamp:.%Y}", "", "begins with a dot"),
            ("{key}.log", &"k".repeat(250), "has 250 bytes, more than 230"),
            ("{key}.log", &"/".repeat(400), "would have 1204 bytes"),
        ] {
            let told = named(path, "", key).unwrap_err();
            assert!(told.contains(part), "{path}: {told}");
        }
    }
}
