//! What is generated from the code and lies in the repository is what the code generates.

mod outside;

use std::path::{Path, PathBuf};

use outside::{exit, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn output(arguments: &[&str]) -> String {
    let all = std::iter::once("aqueduct").chain(arguments.iter().copied()).map(Into::into).collect();
    let done = run(all, b"");
    assert_eq!(done.code, exit(0), "{arguments:?}: {}", done.err.text());
    done.out.text()
}

fn check(file: &str, arguments: &[&str]) {
    let kept = std::fs::read_to_string(repository().join(file)).unwrap_or_default();
    let current = output(arguments);
    assert!(kept == current, "{file} is out of date: run `cargo run -- {} > {file}`", arguments.join(" "));
}

#[test]
fn the_schema_is_current() {
    check("configs/schema.json", &["schema"]);
}

#[test]
fn the_pages_of_the_connectors_are_current() {
    for name in ["decode", "elasticsearch", "encode", "file", "filter", "http", "route", "s3", "vrl"] {
        check(&format!("docs/connectors/{name}.md"), &["connectors", name, "--markdown"]);
    }
    let listed = output(&["connectors", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    for connector in listed["connectors"].as_array().unwrap() {
        let page = format!("docs/connectors/{}.md", connector["name"].as_str().unwrap());
        assert!(repository().join(&page).exists(), "{page} is missing");
    }
}

#[test]
fn every_example_is_right_and_names_the_schema() {
    let mut examples = 0;
    for entry in std::fs::read_dir(repository().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        examples += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "{}", path.display());
        assert!(output(&["check", "--offline", path.to_str().unwrap()]).contains("nothing wrong"));
    }
    assert!(examples >= 2, "configs/ has examples");
}

#[test]
fn each_shell_gets_its_completions() {
    for (shell, sign) in
        [("bash", "complete -F _aqueduct"), ("zsh", "#compdef aqueduct"), ("fish", "complete -c aqueduct")]
    {
        let script = output(&["completions", shell]);
        assert!(script.contains(sign) && script.contains("dead-letters"), "{shell}");
    }
}

#[test]
fn connectors_tell_their_settings() {
    let list = output(&["connectors"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    for expected in [["file", "source", "reads"], ["s3", "source", "reads"], ["s3", "sink", "writes"]] {
        assert!(lines.contains(&expected.to_vec()), "{list}");
    }
    let shown = output(&["connectors", "s3"]);
    assert!(shown.contains("url  text, default: required"), "{shown}");
    assert!(shown.contains("part-size  number of bytes, default: 8 MiB"), "{shown}");
    assert!(shown.contains("secret-access-key  secret, default: none"), "{shown}");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let code = |arguments: &[&str]| {
        let all = std::iter::once("aqueduct").chain(arguments.iter().copied()).map(Into::into).collect();
        run(all, b"").code
    };
    assert_eq!(code(&["--help"]), exit(0));
    assert_eq!(code(&["--version"]), exit(0));
    assert_eq!(code(&["check", "--help"]), exit(0));
    assert_eq!(code(&[]), exit(2));
    assert_eq!(code(&["chek"]), exit(2));
    assert_eq!(code(&["connectors", "s4"]), exit(2));
    assert_eq!(code(&["check", "/nowhere.yaml"]), exit(2));
    assert_eq!(code(&["status", "--url", "http://127.0.0.1:1"]), exit(1));
}
