//! Transforms in a configuration: what is wrong with one is told in its place, and records are tried on them.

mod outside;

use outside::{Outside, exit};

const SINK: &str = "log: { path: ./data, limit: 100% }\nsinks:\n  lake:\n    connector: s3\n    topics: [t]\n    settings: { url: \"file://./objects\" }\n";

/// The first line of each problem, without the folder.
fn problems(outside: &Outside) -> Vec<String> {
    let told = outside.run(&["check", "--offline"], b"").err.text();
    let told = told.replace(&format!("{}/", outside.path().display()), "");
    told.lines().filter(|line| line.starts_with("aqueduct.yaml:")).map(str::to_owned).collect()
}

#[test]
fn what_is_wrong_is_told_at_its_place_in_the_program() {
    for (transforms, expected) in [
        (
            "[ { vrl: \". = parse_jsn!(.message)\" } ]",
            "aqueduct.yaml:7:31: sinks.lake.transforms[0].vrl: call to undefined function",
        ),
        (
            "\n      - filter: 'true'\n      - vrl: |\n          # a comment\n          .a = 1\n          .b = now()\n",
            "aqueduct.yaml:12:16: sinks.lake.transforms[1].vrl: `now` is not allowed here: what it answers depends on the clock",
        ),
        (
            "\n      - vrl: >-\n          .a = 1;\n          .b = now()\n",
            "aqueduct.yaml:10:16: sinks.lake.transforms[0].vrl: `now` is not allowed here",
        ),
        (
            "\n      - filter: 'string!(.message) == \"it''s\" && now()'\n",
            "aqueduct.yaml:8:50: sinks.lake.transforms[0].filter: `now` is not allowed here",
        ),
        (
            "[ { vrl: \".a = \\\"\\u00e9\\\"\\n.b = now()\" } ]",
            "aqueduct.yaml:7:49: sinks.lake.transforms[0].vrl: `now` is not allowed here",
        ),
        ("[ { vrl: 5 } ]", "aqueduct.yaml:7:26: sinks.lake.transforms[0].vrl: expected text, found the number `5`"),
        (
            "[ { vlr: \".\" } ]",
            "aqueduct.yaml:7:21: sinks.lake.transforms[0].vlr: unknown transform `vlr`, did you mean `vrl`?",
        ),
        ("[ { vrl: '.x = 1', filter: 'true' } ]", "aqueduct.yaml:7:19: sinks.lake.transforms[0]: "),
        (
            "[ { route: '\"x\"' } ]",
            "aqueduct.yaml:7:21: sinks.lake.transforms[0].route: changes the topic, which only makes sense",
        ),
        ("[ { vrl: '%topic = \"x\"' } ]", "aqueduct.yaml:7:21: sinks.lake.transforms[0].vrl: changes the topic"),
        (
            "[ { encode: { to: avro, subject: s, schema-file: none.avsc, registry: { url: 'http://127.0.0.1:1' } } } ]",
            "aqueduct.yaml:7:21: sinks.lake.transforms[0].encode: setting schema-file: ",
        ),
        ("[ { filter: '.message' } ]", "aqueduct.yaml:7:30: sinks.lake.transforms[0].filter: comes to "),
    ] {
        let outside = Outside::new(&format!("{SINK}    transforms: {transforms}\n"));
        let found = problems(&outside);
        assert_eq!(found.len(), 1, "{transforms}: {found:?}");
        assert!(found[0].starts_with(expected), "{transforms}: {found:?}");
    }
}

#[test]
fn records_are_shown_before_and_after() {
    let outside = Outside::new(&format!(
        "{SINK}    transforms:\n      - filter: 'string!(.message) != \"ping\"'\n      - vrl: \". = parse_json!(.message)\\n%key = .id\"\n"
    ));
    let config = outside.config().display().to_string();
    let done = outside.run(&["transform", "test", &config, "lake"], b"{\"id\":\"a\",\"n\":1}\nping\noops\n");
    assert_eq!(done.code, exit(1));
    let told = done.out.text();
    let (begins, rest) = told.split_once("- oops\n").unwrap();
    assert_eq!(
        begins,
        "- {\"id\":\"a\",\"n\":1}\n+ {\"id\":\"a\",\"n\":1}\n    key: (null) → a\n- ping\n  left out by transforms[0].filter\n"
    );
    assert!(
        rest.starts_with("  rejected by transforms[1].vrl: function call error for \"parse_json\" at line 1, column 5"),
        "{rest}"
    );
    let notes = done.err.text();
    assert!(notes.starts_with("3 records: 1 made, 1 left out, 1 rejected\n"), "{notes}");
    assert!(notes.contains("1 record would become dead letters"), "{notes}");

    // Without a configuration that of `--config` is meant.
    let done = outside.run(&["--config", &config, "transform", "test", "lake"], b"ping\n");
    assert_eq!((done.code, done.out.text()), (exit(0), "- ping\n  left out by transforms[0].filter\n".to_owned()));

    let record = b"{\"key\":\"k\",\"value\":\"{\\\"id\\\":5}\",\"headers\":[[\"h\",null]],\"timestamp\":5,\"offset\":9,\"partition\":2,\"topic\":\"t\"}\n";
    let done = outside.run(&["transform", "test", &config, "lake", "--records", "--json"], record);
    let told: serde_json::Value = serde_json::from_str(&done.out.text()).unwrap();
    assert_eq!((done.code, told["after"][0]["key"].as_str()), (exit(0), Some("5")));
    assert_eq!(told["before"]["key"], "k");
    assert_eq!(told["after"][0]["headers"], serde_json::json!([["h", null]]));
    assert!(!outside.path().join("data").exists() && !outside.path().join("objects").exists(), "it touched something");
}

#[test]
fn records_of_a_topic_and_of_a_file_are_tried() {
    let outside = Outside::new(&format!("{SINK}    transforms: [ {{ vrl: \".message = upcase!(.message)\" }} ]\n"));
    let config = outside.config().display().to_string();
    outside.works(&["topics", "create", "t"]);
    outside.works_with(&["produce", "t"], b"one\ntwo\nthree\n");
    let shown = outside.works(&["transform", "test", &config, "lake", "--topic", "t", "-n", "2"]);
    assert_eq!(shown, "- one\n+ ONE\n- two\n+ TWO\n");
    std::fs::write(outside.path().join("lines"), "x\ny").unwrap();
    let file = outside.path().join("lines").display().to_string();
    assert_eq!(outside.works(&["transform", "test", &config, "lake", "--input", &file]), "- x\n+ X\n- y\n+ Y\n");
}

#[test]
fn what_can_not_be_tried_is_wrong_usage() {
    let outside = Outside::new(&format!("{SINK}    transforms: [ {{ vrl: \".a = now()\" }} ]\n"));
    let config = outside.config().display().to_string();
    assert!(outside.fails(&["transform", "test", &config, "lake"], 2).contains("`now` is not allowed here"));
    outside.configure(SINK);
    let wrong = outside.fails(&["transform", "test", &config, "lak"], 2);
    assert!(wrong.contains("unknown source or sink `lak`, did you mean `lake`?"), "{wrong}");
    let wrong = outside.fails(&["transform", "test", &config, "lake", "--input", "/nowhere"], 2);
    assert!(wrong.contains("--input: /nowhere: "), "{wrong}");
    let wrong = outside.fails_with(&["transform", "test", &config, "lake", "--records"], b"{}\n{\"valu\":1}\n", 2);
    assert!(wrong.contains("line 2: unknown field `valu`"), "{wrong}");
}

#[test]
fn transforms_are_listed_and_explained() {
    let outside = Outside::new(SINK);
    let list = outside.works(&["connectors"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    for line in [["filter", "transform", "keeps"], ["route", "transform", "says"], ["vrl", "transform", "makes"]] {
        assert!(lines.contains(&line.to_vec()), "{list}");
    }
    assert!(outside.works(&["connectors", "vrl"]).contains("Vector Remap Language"));
}
