//! Rules of the source that are never a matter of taste.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate's layer. A crate names crates of lower layers only, so siblings never see each other, each of layer 3 can
/// be deleted alone, and only `aqueduct` (the daemon) and tests name a concrete connector or log.
const LAYERS: &[(&str, u8)] = &[
    ("aqueduct-record", 0),
    ("aqueduct-api", 1),
    ("aqueduct-http-client", 2),
    ("aqueduct-tls", 2),
    ("aqueduct-commit-log", 3),
    ("aqueduct-engine", 3),
    ("aqueduct-file", 3),
    ("aqueduct-s3", 3),
    ("aqueduct-http", 3),
    ("aqueduct-elasticsearch", 3),
    ("aqueduct-transforms", 3),
    ("aqueduct-converters", 3),
    ("aqueduct-kafka-server", 3),
    ("aqueduct", 4),
    ("aqueduct-tests", 5),
    ("aqueduct-bench", 6),
];

/// What a module is about has a name of its own.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "manager", "types"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Package {
    name: String,
    folder: PathBuf,
    /// Of every kind.
    dependencies: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    packages
        .map(|package| Package {
            name: name(package),
            folder: Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned(),
            dependencies: package["dependencies"].as_array().unwrap().iter().map(name).collect(),
        })
        .collect()
}

/// The Rust files under a folder, other packages in it left out, by path.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && name != "target" && !path.join("Cargo.toml").exists() {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of the workspace, with the package that it belongs to.
fn every_source() -> Vec<(String, PathBuf, String)> {
    let of = |package: Package| {
        let sources = sources(&package.folder).into_iter();
        sources.map(|(path, text)| (package.name.clone(), path, text)).collect::<Vec<_>>()
    };
    let found: Vec<_> = packages().into_iter().flat_map(of).collect();
    assert!(found.len() > 20, "the search for sources is broken: {}", found.len());
    found
}

/// A text without comments, strings' contents kept, and without its unit tests, which come last.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = shipped.lines().map(|line| line.find("//").map_or(line, |comment| &line[..comment]));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test(package: &str, path: &Path) -> bool {
    let inside = path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "fuzz")));
    inside || LAYERS.iter().any(|(name, layer)| *name == package && *layer >= 5)
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn upward(importer: &str, imported: &str) -> bool {
    let layer = |name: &str| {
        let layer = LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
        layer.unwrap_or_else(|| panic!("{name} has no layer: give it one in tests/tests/rules.rs, and in README.md"))
    };
    layer(importer) <= layer(imported)
}

#[test]
fn a_crate_depends_on_lower_layers_only() {
    let mut broken = Vec::new();
    for package in packages() {
        let ours = package.dependencies.iter().filter(|name| name.starts_with("aqueduct") && **name != package.name);
        for imported in ours.filter(|imported| upward(&package.name, imported)) {
            broken.push(format!("{} must not depend on {imported}", package.name));
        }
    }
    none(broken);
    assert!(upward("aqueduct-engine", "aqueduct-file") && upward("aqueduct-api", "aqueduct-engine"));
    assert!(!upward("aqueduct", "aqueduct-s3"));
}

/// The crates of ours that a text names, as they are written in Cargo.toml.
fn named(text: &str) -> BTreeSet<String> {
    let identifiers = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = identifiers.map(|name| name.replace('_', "-").replace("aqueduct-daemon", "aqueduct"));
    ours.filter(|name| LAYERS.iter().any(|(known, _)| name == known && name != "aqueduct")).collect()
}

#[test]
fn code_names_lower_layers_only() {
    let mut broken = Vec::new();
    for (package, path, text) in every_source() {
        for imported in named(&code(&text)) {
            if imported != package && upward(&package, &imported) {
                broken.push(format!("{} must not name {imported}", path.display()));
            }
        }
    }
    none(broken);
    assert_eq!(Vec::from_iter(named("use aqueduct_s3::Settings;")), ["aqueduct-s3"]);
}

#[test]
fn every_module_says_what_it_is() {
    let silent = every_source().into_iter().filter(|(_, _, text)| !text.starts_with("//! "));
    none(silent.map(|(_, path, _)| format!("{} does not open with `//!`", path.display())).collect());
}

#[test]
fn no_module_has_an_empty_name() {
    let empty = every_source().into_iter().filter(|(_, path, _)| {
        path.components().any(|part| EMPTY_NAMES.contains(&part.as_os_str().to_str().unwrap().trim_end_matches(".rs")))
    });
    none(empty.map(|(_, path, _)| format!("{}: a name that says nothing", path.display())).collect());
}

#[test]
fn nothing_shipped_unwraps() {
    let shipped = every_source().into_iter().filter(|(package, path, _)| !is_test(package, path));
    let mut broken = Vec::new();
    for (_, path, text) in shipped {
        let lines = code(&text);
        let unwraps = lines.lines().enumerate().filter(|(_, line)| line.contains(".unwrap()"));
        broken.extend(unwraps.map(|(line, _)| format!("{}:{}: unwrap", path.display(), line + 1)));
    }
    none(broken);
    assert!(code("a.unwrap() // b.unwrap()\n#[cfg(test)]\nmod tests { c.unwrap() }").matches("unwrap").count() == 1);
}

#[test]
fn every_exception_states_its_reason() {
    let mut broken = Vec::new();
    for (_, path, text) in every_source() {
        for kind in ["allow(", "expect("] {
            for attribute in [format!("#[{kind}"), format!("#![{kind}")] {
                let attributes = text.match_indices(&attribute).map(|(at, _)| &text[at..]);
                let silent = attributes.filter(|rest| !rest.split(")]").next().unwrap().contains("reason = "));
                broken.extend(silent.map(|rest| format!("{}: {}", path.display(), rest.lines().next().unwrap())));
            }
        }
        if text.lines().any(|line| matches!(line.trim(), "#[ignore]" | "#[should_panic]")) {
            broken.push(format!("{}: a test that is ignored or panics must say why or what", path.display()));
        }
    }
    // This file spells the attributes without being one.
    broken.retain(|line| !line.contains("tests/tests/rules.rs"));
    none(broken);
}

#[test]
fn every_crate_inherits_lints_and_versions() {
    let mut broken = Vec::new();
    for package in packages() {
        let manifest = fs::read_to_string(package.folder.join("Cargo.toml")).unwrap();
        if !manifest.contains("[lints]\nworkspace = true\n") {
            broken.push(format!("{} does not inherit the workspace's lints", package.name));
        }
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") && line.contains(" = ") && !line.contains("workspace = true") {
                broken.push(format!("{}: {line}: versions stand in the workspace's table", package.name));
            }
        }
    }
    none(broken);
}

#[test]
fn every_dependency_is_used_and_has_its_reason() {
    let ours = |name: &str| name.starts_with("aqueduct");
    let used: BTreeSet<String> = packages().into_iter().flat_map(|package| package.dependencies).collect();
    let used: BTreeSet<String> = used.into_iter().filter(|name| !ours(name)).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    // Where the table renames a crate, as it does for a second version of one, it says what it is called.
    let table = table.lines().filter_map(|line| line.split_once(" = ")).map(|(name, rest)| {
        let package = rest.split("package = \"").nth(1).and_then(|rest| rest.split('"').next());
        package.filter(|_| !ours(name)).unwrap_or(name).to_owned()
    });
    let table: BTreeSet<String> = table.filter(|name| !ours(name)).collect();
    // A row begins with the name: `| [`name`](address) | …` or `| `name` | …`.
    let document = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let told: BTreeSet<String> = rows.map(|line| line.split('`').nth(1).unwrap().to_owned()).collect();
    let missing = |what: &str, of: &BTreeSet<String>, from: &BTreeSet<String>| {
        of.difference(from).map(|name| format!("{name}: {what}")).collect::<Vec<_>>()
    };
    let mut broken = missing("not in the workspace's table", &used, &table);
    broken.extend(missing("in the workspace's table, but nobody uses it", &table, &used));
    broken.extend(missing("not in docs/dependencies.md", &table, &told));
    broken.extend(missing("in docs/dependencies.md, but not a dependency", &told, &table));
    none(broken);
}

#[test]
fn the_released_binary_has_no_faults() {
    let tree = cargo(&["tree", "--package", "aqueduct", "--edges", "normal,features", "--locked"]);
    assert!(tree.contains("aqueduct-api feature \"default\"") || tree.contains("aqueduct-api"), "{tree}");
    assert!(!tree.contains("faults"), "the binary `aqueduct` would have fault points:\n{tree}");
    let tests = cargo(&["tree", "--package", "aqueduct-tests", "--edges", "normal,features", "--locked"]);
    assert!(tests.contains("faults"), "this test would not notice:\n{tests}");
}

#[test]
fn the_binary_has_one_tls_library_and_one_crypto_provider() {
    let tree = cargo(&["tree", "--package", "aqueduct", "--edges", "normal", "--prefix", "none", "--locked"]);
    let names: BTreeMap<&str, usize> = tree.lines().fold(BTreeMap::new(), |mut names, line| {
        *names.entry(line.split(' ').next().unwrap()).or_default() += 1;
        names
    });
    for unwanted in ["openssl", "openssl-sys", "native-tls", "ring", "serde_yaml", "backoff"] {
        assert!(!names.contains_key(unwanted), "{unwanted} came in: cargo tree -p aqueduct -i {unwanted}");
    }
    assert!(names.contains_key("rustls") && names.contains_key("aws-lc-rs"), "{names:?}");
}
