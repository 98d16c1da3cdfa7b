//! A configuration's files, read and put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::problems::{Document, Place, Problem, Step};
use crate::tree::{Entry, Kind, Node};
use crate::yaml;

/// The most bytes that a file of the configuration may have.
const LARGEST: u64 = 1 << 20;

/// What files may add to together: entries of these mappings. Everything else is said in one file.
const SHARED: [&str; 3] = ["topics", "sources", "sinks"];

/// Reads the file `path`, or all files `*.yaml` and `*.yml` of the folder `path`, into one mapping.
pub(crate) fn read(path: &Path, problems: &mut Vec<Problem>) -> Option<Node> {
    let files = match files(path) {
        Ok(files) => files,
        Err(message) => {
            problems.push(Problem::of(path.display().to_string(), message));
            return None;
        }
    };
    let mut whole: Option<Node> = None;
    for file in files {
        let Some(node) = read_file(&file, problems) else { continue };
        whole = Some(match whole {
            None => node,
            Some(whole) => merged(whole, node, problems),
        });
    }
    whole
}

/// The files that a configuration at `path` consists of, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let metadata = std::fs::metadata(path).map_err(|cause| cause.to_string())?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|cause| cause.to_string())? {
        let file = entry.map_err(|cause| cause.to_string())?.path();
        let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if yaml && !hidden {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err("holds no file *.yaml".to_owned()),
        false => Ok(files),
    }
}

fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Option<Node> {
    let name = path.display().to_string();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(message) => {
            problems.push(Problem::of(name, message));
            return None;
        }
    };
    let (node, mut found) = yaml::parse(&Arc::new(Document { name, text }));
    problems.append(&mut found);
    let node = node?;
    if let Kind::Map(_) = node.kind {
        return Some(node);
    }
    problems.push(Problem::at(&node.place, &[], "expected a mapping with `sources`, `sinks`, `topics`, `log` …"));
    None
}

fn read_text(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|cause| cause.to_string())?;
    if !metadata.is_file() {
        return Err("is neither a file nor a folder".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("is larger than a configuration may be ({LARGEST} bytes)"));
    }
    let bytes = std::fs::read(path).map_err(|cause| cause.to_string())?;
    String::from_utf8(bytes).map_err(|cause| format!("is not UTF-8, from byte {} on", cause.utf8_error().valid_up_to()))
}

fn merged(whole: Node, more: Node, problems: &mut Vec<Problem>) -> Node {
    let (Kind::Map(mut entries), Kind::Map(added)) = (whole.kind, more.kind) else {
        return Node { place: more.place, kind: Kind::Null };
    };
    for entry in added {
        let way = [Step::Key(entry.key.clone())];
        match entries.iter_mut().find(|known| known.key == entry.key) {
            None => entries.push(entry),
            Some(known) if SHARED.contains(&known.key.as_str()) => add_entries(known, entry, problems),
            Some(known) => problems.push(twice(&entry.place, &way, &known.place)),
        }
    }
    Node { place: whole.place, kind: Kind::Map(entries) }
}

fn add_entries(known: &mut Entry, more: Entry, problems: &mut Vec<Problem>) {
    match (&mut known.value.kind, more.value.kind) {
        (Kind::Map(entries), Kind::Map(added)) => {
            for entry in added {
                match entries.iter().find(|known| known.key == entry.key) {
                    None => entries.push(entry),
                    Some(first) => {
                        let way = [Step::Key(more.key.clone()), Step::Key(entry.key.clone())];
                        problems.push(twice(&entry.place, &way, &first.place));
                    }
                }
            }
        }
        // What is empty adds nothing; what is no mapping is told when the whole is read.
        (_, Kind::Null) => {}
        (kind, added) => *kind = added,
    }
}

fn twice(place: &Place, way: &[Step], first: &Place) -> Problem {
    Problem::at(place, way, format!("declared twice, first at {first}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_all(files: &[(&str, &str)]) -> (Option<serde_json::Value>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut problems = Vec::new();
        let node = read(folder.path(), &mut problems);
        let prefix = format!("{}/", folder.path().display());
        let first_line =
            |problem: &Problem| problem.to_string().lines().next().unwrap_or_default().replace(&prefix, "");
        (node.map(|node| node.json()), problems.iter().map(first_line).collect())
    }

    #[test]
    fn the_files_of_a_folder_are_one_configuration() {
        let (value, problems) = read_all(&[
            ("10-log.yaml", "log: ./data\nsources:\n  a: 1\n"),
            ("20.yml", "sources: { b: 2 }\nsinks:\n"),
            ("30.yaml", "sinks: { c: 3 }\nsources:\n"),
            ("notes.txt", "not: [read"),
            (".hidden.yaml", "not: [read"),
        ]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(value.unwrap(), json!({"log": "./data", "sources": {"a": 1, "b": 2}, "sinks": {"c": 3}}));
    }

    #[test]
    fn what_two_files_declare_is_named_with_both_places() {
        let (_, problems) =
            read_all(&[("a.yaml", "log: x\nsources:\n  logs: 1\n"), ("b.yaml", "log: y\nsources:\n  logs: 2\n")]);
        let [log, source] = &problems[..] else { panic!("{problems:?}") };
        assert!(log.starts_with("b.yaml:1:1: log: declared twice, first at ") && log.ends_with("a.yaml:1:1"), "{log}");
        assert!(source.starts_with("b.yaml:3:3: sources.logs: declared twice, first at "), "{source}");
        assert!(source.ends_with("a.yaml:3:3"), "{source}");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(read_all(&[]).1[0].ends_with("holds no file *.yaml"));
        assert_eq!(
            read_all(&[("a.yaml", "- x\n")]).1[0],
            "a.yaml:1:1: expected a mapping with `sources`, `sinks`, `topics`, `log` …"
        );
        let large = format!("# {}\n", "x".repeat(2 << 20));
        assert!(read_all(&[("a.yaml", &large)]).1[0].ends_with("larger than a configuration may be (1048576 bytes)"));
        let mut problems = Vec::new();
        assert!(read(Path::new("/nowhere/a.yaml"), &mut problems).is_none());
        assert_eq!(problems[0].to_string(), "/nowhere/a.yaml: No such file or directory (os error 2)");
        let mut problems = Vec::new();
        assert!(read(Path::new("/dev/null"), &mut problems).is_none());
        assert_eq!(problems[0].to_string(), "/dev/null: is neither a file nor a folder");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, b"log: \xff\n").unwrap();
        let mut problems = Vec::new();
        assert!(read(&path, &mut problems).is_none());
        assert!(problems[0].to_string().ends_with("is not UTF-8, from byte 5 on"), "{}", problems[0]);
    }
}
