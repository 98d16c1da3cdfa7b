//! The commands on data, against a folder that no daemon holds.

mod outside;

use outside::Outside;

#[test]
fn records_go_in_and_come_out() {
    let outside = Outside::new("log: { path: ./data, limit: 100% }\nlisten: { http: \"127.0.0.1:1\" }\n");
    assert!(outside.fails(&["tail", "greetings"], 1).contains("there is no log in "));
    outside.works(&["topics", "create", "greetings", "--partitions", "2"]);
    outside.works_with(&["produce", "greetings", "--partition", "1"], b"one\ntwo\n\xff\xfe\nlast without newline");
    assert_eq!(outside.works_bytes(&["tail", "greetings"]), b"one\ntwo\n\xff\xfe\nlast without newline\n");
    assert_eq!(outside.works(&["tail", "greetings", "-n", "1"]), "last without newline\n");
    assert_eq!(outside.works(&["tail", "greetings", "--from", "beginning", "-n", "2"]), "one\ntwo\n");
    assert_eq!(
        outside.works_bytes(&["tail", "greetings", "--from", "2", "--partition", "1", "-n", "1"]),
        b"\xff\xfe\n"
    );
    assert_eq!(outside.works(&["tail", "greetings", "--from", "end"]), "");
    assert_eq!(outside.works(&["tail", "greetings", "--partition", "0"]), "");
    let json = outside.works(&["tail", "greetings", "--json", "-n", "4"]);
    let records: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0]["value"], "one");
    assert_eq!(records[0]["partition"], 1);
    assert_eq!(records[2]["value"]["base64"], "//4=");
    assert_eq!(records[3]["offset"], 3);
}

#[test]
fn what_tail_writes_produce_reads() {
    let outside = Outside::new("log: { path: ./data, limit: 100% }\n");
    outside.works(&["topics", "create", "a"]);
    outside.works(&["topics", "create", "b"]);
    outside.works_with(&["produce", "a", "--key-separator", "="], b"k=v\nl=w=x\n");
    let lines = outside.works(&["tail", "a", "--json"]);
    outside.works_with(&["produce", "b", "--json"], lines.as_bytes());
    let copied = outside.works(&["tail", "b", "--json"]);
    assert_eq!(copied, lines.replace("\"topic\":\"a\"", "\"topic\":\"b\""));
    assert!(copied.contains(r#""key":"l","value":"w=x""#), "{copied}");
    let wrong = outside.fails_with(&["produce", "b", "--json"], b"{\"value\":\"x\"}\n{\"valu\":1}\n", 2);
    assert!(wrong.contains("standard input, line 2: unknown field `valu`"), "{wrong}");
    let wrong = outside.fails_with(&["produce", "b", "--key-separator", "="], b"no separator\n", 2);
    assert!(wrong.contains("line 1: no `=` in it"), "{wrong}");
}

#[test]
fn topics_are_made_changed_shown_and_deleted() {
    let outside = Outside::new("log: { path: ./data, limit: 100% }\n");
    let would = outside.works(&["topics", "create", "orders", "--set", "retention.ms=3d", "--dry-run"]);
    assert_eq!(would, "topic orders would be made\n");
    outside.works(&["topics", "create", "orders", "--set", "retention.ms=3d"]);
    assert!(outside.fails(&["topics", "create", "orders"], 1).contains("orders"));
    let wrong = outside.fails(&["topics", "create", "x", "--set", "retention.m=3d"], 2);
    assert!(wrong.contains("unknown key `retention.m`, did you mean `retention.ms`?"), "{wrong}");
    assert!(outside.fails(&["topics", "create", "__mine"], 2).contains("belongs to the runtime"));
    assert!(outside.works(&["topics", "alter", "orders", "--partitions", "3"]).contains("topic orders changed"));
    assert!(outside.fails(&["topics", "alter", "orders", "--partitions", "1"], 2).contains("cannot shrink to 1"));
    let shown = outside.works(&["topics", "show", "orders", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["settings"]["retention.ms"], "3d");
    assert_eq!(shown["partitions"].as_array().unwrap().len(), 3);
    assert!(outside.works(&["topics", "show", "orders"]).contains("retention.ms: 3d"));
    assert_eq!(
        outside.works(&["topics", "list"]),
        "TOPIC   PARTITIONS  RECORDS  RATE/S  KEPT\norders           3        0       -  3d\n"
    );
    assert!(
        outside.fails(&["topics", "show", "order"], 1).contains("there is no topic `order`, did you mean `orders`?")
    );
    let unasked = outside.fails(&["topics", "delete", "orders"], 2);
    assert!(unasked.contains("delete topic orders with 0 records: nobody can be asked here, give --yes"), "{unasked}");
    assert_eq!(outside.works(&["topics", "delete", "orders", "--dry-run"]), "topic orders would be deleted\n");
    assert_eq!(outside.works(&["topics", "delete", "orders", "--yes"]), "topic orders deleted\n");
    assert_eq!(outside.works(&["topics", "list"]), "TOPIC  PARTITIONS  RECORDS  RATE/S  KEPT\n");
}

#[test]
fn groups_and_dead_letters_that_are_not_there_are_said() {
    let outside = Outside::new("log: { path: ./data, limit: 100% }\n");
    outside.works(&["topics", "create", "a"]);
    assert_eq!(outside.works(&["groups", "list"]), "GROUP  MEMBERS  PARTITIONS  LAG  RATE/S\n");
    assert!(outside.fails(&["groups", "show", "connect-x"], 1).contains("there is no group `connect-x`"));
    assert_eq!(outside.works(&["dead-letters", "list"]), "TOPIC  OPEN  RECORDS\n");
    assert!(outside.fails(&["dead-letters", "show", "x"], 1).contains("no dead letters of `x`: there are none"));
}

#[test]
fn wrong_places_and_partitions_are_wrong_usage() {
    let outside = Outside::new("log: { path: ./data, limit: 100% }\n");
    outside.works(&["topics", "create", "a"]);
    assert!(outside.fails(&["tail", "a", "--from", "yesterday"], 2).contains("`yesterday` is not a place in a topic"));
    assert!(outside.fails(&["tail", "a", "--partition", "7"], 2).contains("topic `a` has 1 partitions, not 7"));
    assert!(outside.fails_with(&["produce", "a", "--partition", "7"], b"x\n", 2).contains("not 7"));
    assert!(
        outside
            .fails_with(&["produce", "none"], b"x\n", 1)
            .ends_with("there is no topic `none`; `aqueduct topics create none` makes one\n")
    );
}

#[test]
fn a_folder_that_somebody_holds_is_told_with_the_holder() {
    let outside = Outside::new("log: { path: ./data, limit: 100% }\nlisten: { http: \"127.0.0.1:1\" }\n");
    outside.works(&["topics", "create", "a"]);
    let held = outside.hold_log("aqueduct run, process 4711");
    let error = outside.fails(&["topics", "list"], 1);
    assert!(error.contains("aqueduct run, process 4711"), "{error}");
    assert!(error.contains("no daemon that holds") && error.contains("answers at http://127.0.0.1:1"), "{error}");
    drop(held);
}

#[test]
fn check_shows_every_problem_with_its_line() {
    let outside = Outside::new(
        "log: { path: ./data, limit: 100% }\nsinks:\n  lake:\n    connector: s3\n    topics: a\n    setings: {}\n",
    );
    let told = outside.fails(&["check"], 2).replace(&format!("{}/", outside.path().display()), "");
    let expected = "\
aqueduct.yaml:3:3: sinks.lake.settings: missing key `url`
  3 |   lake …
    |   ^^^^
aqueduct.yaml:5:13: sinks.lake.topics: expected a list, found the text \"a\"
  5 |     topics: a
    |             ^
aqueduct.yaml:6:5: sinks.lake.setings: unknown key `setings`, did you mean `settings`?
  6 |     setings …
    |     ^^^^^^^
3 problems
";
    assert_eq!(told, expected);
    let json: serde_json::Value = serde_json::from_str(&outside.run(&["check", "--json"], b"").out.text()).unwrap();
    assert_eq!(json["problems"][1]["line"], 5);
    assert_eq!(json["problems"][2]["path"], "sinks.lake.setings");
    assert_eq!(outside.fails(&["check", "--json"], 2), "{\"error\":\"3 problems\"}\n");
    outside.configure("log: { path: ./data, limit: 100% }\nsources: { a: { connector: file, topic: t, settings: { paths: [\"*.log\"] } } }\nsinks:\n  lake:\n    connector: s3\n    topics: [t]\n    settings: { url: \"file:///dev/null/x\" }\n");
    let done = outside.run(&["check"], b"");
    assert_eq!((done.code, done.err.text()), (outside::exit(1), "aqueduct: 1 connector would not work\n".to_owned()));
    let told = done.out.text();
    assert!(told.contains("lake: would not work: ") && !told.contains("nothing wrong"), "{told}");
    outside.configure("log: { path: ./data, limit: 100% }\nlisten: { http: \"0.0.0.0:0\", expose: true, hosts: [aqueduct.internal] }\n");
    assert!(outside.works(&["check", "--offline"]).ends_with("aqueduct.yaml: nothing wrong (0 sources, 0 sinks)\n"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let said = outside::Written::default();
    let terminal = aqueduct_daemon::Terminal::piped(std::io::empty(), Gone, said.clone());
    let code = aqueduct_daemon::execute(["aqueduct", "schema"].map(Into::into), terminal);
    assert_eq!((format!("{code:?}"), said.text()), (outside::exit(0), String::new()));
}
