//! What the documentation shows works as it stands.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files of an extension under a path, itself included.
fn files(path: PathBuf, extension: &str) -> Vec<PathBuf> {
    if path.is_dir() {
        let mut found: Vec<_> =
            fs::read_dir(path).unwrap().flat_map(|entry| files(entry.unwrap().path(), extension)).collect();
        found.sort();
        return found;
    }
    if path.extension().is_some_and(|found| found == extension) { vec![path] } else { Vec::new() }
}

/// A fenced block of a page.
struct Block {
    /// `README.md:17`.
    place: String,
    /// What follows the fence.
    language: String,
    text: String,
}

fn blocks(place: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                let (place, language) = (format!("{place}:{}", number + 1), language.trim().to_owned());
                blocks.push(Block { place, language, text: String::new() });
            }
            None if inside => {
                let block = blocks.last_mut().unwrap();
                block.text += line;
                block.text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// The blocks of a language in README.md, docs and the tests' own pages.
fn documented(language: &str) -> Vec<Block> {
    let pages = ["README.md", "docs", "tests/services"].into_iter().flat_map(|path| files(root().join(path), "md"));
    let all = pages.flat_map(|page| {
        let place = page.strip_prefix(root()).unwrap().display().to_string();
        blocks(&place, &fs::read_to_string(&page).unwrap())
    });
    let found: Vec<Block> = all.filter(|block| block.language == language).collect();
    assert!(!found.is_empty(), "the search for {language} blocks is broken");
    found
}

fn aqueduct(arguments: &[String], folder: &Path) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    // What the pages refer to is there, whatever the machine.
    command.env("LAKE_KEY", "key").env("LAKE_SECRET", "secret").env("SEARCH_PASSWORD", "secret");
    command.env("REGISTRY_SECRET", "secret").env("ORDERS_PASSWORD", "secret").env("OPERATOR_PASSWORD", "secret");
    command.env("ORDERS_SCRAM", "salt=,stored_key=,server_key=,iterations=4096");
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn check(place: &str, path: &Path, broken: &mut Vec<String>) {
    let arguments = ["check".to_owned(), "--offline".to_owned(), path.display().to_string()];
    let output = aqueduct(&arguments, path.parent().unwrap());
    if !output.status.success() {
        broken.push(format!("{place}: {}", told(&output)));
    }
}

#[test]
fn every_configuration_that_is_shown_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = Vec::new();
    for (number, block) in documented("yaml").into_iter().enumerate() {
        let path = folder.path().join(format!("{number}.yaml"));
        fs::write(&path, &block.text).unwrap();
        check(&block.place, &path, &mut broken);
    }
    let shipped = files(root().join("configs"), "yaml").into_iter().chain([root().join("docker/aqueduct.yaml")]);
    for path in shipped {
        check(&path.display().to_string(), &path, &mut broken);
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The words of a shell command up to what is no argument of its own.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('|' | '>' | '<' | '#' | '&' | ';', None) => break,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The arguments that a line of a page gives to `aqueduct`, if it calls it.
fn arguments(line: &str) -> Option<Vec<String>> {
    let words = words(line.trim().trim_start_matches("$ "));
    let after = |count: usize| Some(words[count..].to_vec());
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["aqueduct", ..] => after(1),
        ["cargo", "run", "--release", "--", ..] => after(4),
        _ => None,
    }
}

#[test]
fn every_command_that_is_shown_exists() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = Vec::new();
    let mut seen = 0;
    for block in documented("sh") {
        for mut arguments in block.text.lines().filter_map(arguments) {
            seen += 1;
            // The parser goes from left to right: what it does not know is told before the help that is asked for last.
            arguments.push("--help".to_owned());
            let output = aqueduct(&arguments, folder.path());
            if !output.status.success() {
                broken.push(format!("{}: aqueduct {}: {}", block.place, arguments.join(" "), told(&output)));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    assert!(seen > 3, "the search for commands is broken: {seen}");
    let unknown = aqueduct(&["status".to_owned(), "--no-such-flag".to_owned(), "--help".to_owned()], folder.path());
    assert_eq!(unknown.status.code(), Some(2), "this test would not notice: {}", told(&unknown));
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    let pages = ["README.md", "docs", "tests"].into_iter().flat_map(|path| files(root().join(path), "md"));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") && !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
