//! Programs, what goes into each and what comes out.

use std::borrow::Cow;

use aqueduct_api::Draft;

use crate::world::{block_on, draft, open, outline, told, value};

#[test]
fn a_program_makes_a_value_of_a_value() {
    for (program, input, expected) in [
        (". = parse_json!(.message)", r#"{"b":1,"a":"x"}"#, r#"{"a":"x","b":1}"#),
        (". = parse_json!(.message)\n.seen = true\ndel(.a)", r#"{"b":1,"a":"x"}"#, r#"{"b":1,"seen":true}"#),
        (". = parse_json!(.message)", r#"{"message":"x"}"#, r#"{"message":"x"}"#),
        (". = parse_json!(.message)", "5", "5"),
        (". = parse_json!(.message)", r#""text""#, "text"),
        (". = parse_json!(.message)", "null", "null"),
        (". = parse_json!(.message)", r#"[{"a":1},"b",null]"#, r#"{"a":1} | b | null"#),
        (". = parse_json!(.message)", "[]", "dropped"),
        (".message = upcase(string!(.message))", "abc", "ABC"),
        (".message = null", "abc", "null"),
        (".message = 5", "abc", r#"{"message":5}"#),
        (".level = \"info\"", "abc", r#"{"level":"info","message":"abc"}"#),
        (".level = \"info\"\ndel(.message)", "abc", r#"{"level":"info"}"#),
        (". = null", "abc", "null"),
        (". = {\"message\": .message}", "abc", r#"{"message":"abc"}"#),
        (". = .message", "abc", "abc"),
        (". = split(string!(.message), \",\")", "a,b,c", "a | b | c"),
        ("if .message == \"abc\" { abort }", "abc", "dropped"),
        ("if .message == \"abc\" { abort \"why\" }", "abc", "dropped"),
        ("if .message == \"abc\" { . = 1; return null }\n. = 2", "abc", "1"),
        ("assert!(.message != \"abc\", message: \"is abc\")", "abc", "unfit: function call error"),
        (
            ". = parse_json!(.message)",
            "{",
            "unfit: function call error for \"parse_json\" at line 1, column 5 of the program: ",
        ),
        (
            ".x = \"é\"\n  . = parse_json!(.message)",
            "{",
            "unfit: function call error for \"parse_json\" at line 2, column 7 of the program: ",
        ),
        (
            "x, err = parse_json(.message)\nif err != null { .bad = true } else { . = x }",
            "{",
            r#"{"bad":true,"message":"{"}"#,
        ),
        (
            ". = {\"at\": %timestamp, \"of\": %topic, \"offset\": %offset}",
            "",
            r#"{"at":"2026-01-01T00:00:00Z","of":"logs","offset":7}"#,
        ),
        (". = %headers", "", r#"{"a":"2","b":null}"#),
        (
            ". = {\"h\": sha2(string!(.message), variant: \"SHA-256\")}",
            "",
            r#"{"h":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#,
        ),
    ] {
        let told = told(&*open("vrl", program), draft(Some(input.as_bytes())), value);
        match expected.starts_with("unfit: ") {
            true => assert!(told.starts_with(expected), "{program} of {input}: {told}"),
            false => assert_eq!(told, expected, "{program} of {input}"),
        }
    }
}

#[test]
fn common_log_formats_are_read() {
    let nginx = r#"172.17.0.1 - alice [31/Mar/2021:12:04:07 +0000] "POST /x?y=1 HTTP/1.1" 404 153 "http://h/" "curl/8" "75.1.2.3""#;
    for (program, input, expected) in [
        (
            ". = parse_nginx_log!(.message, \"combined\")\ndel(.agent)\ndel(.referer)",
            nginx,
            r#"{"client":"172.17.0.1","compression":"75.1.2.3","request":"POST /x?y=1 HTTP/1.1","size":153,"status":404,"timestamp":"2021-03-31T12:04:07Z","user":"alice"}"#,
        ),
        (
            ". = parse_apache_log!(.message, \"common\")\ndel(.message)",
            r#"127.0.0.1 bob frank [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326"#,
            r#"{"host":"127.0.0.1","identity":"bob","method":"GET","path":"/a","protocol":"HTTP/1.0","size":2326,"status":200,"timestamp":"2000-10-10T20:55:36Z","user":"frank"}"#,
        ),
        (
            ". = parse_common_log!(.message).status",
            r#"1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1"#,
            "200",
        ),
        (
            ". = parse_syslog!(.message)",
            "<13>1 2020-03-13T20:45:38.119Z host non 2426 ID931 [sd@32473 iut=\"3\"] hello",
            r#"{"appname":"non","facility":"user","hostname":"host","message":"hello","msgid":"ID931","procid":2426,"sd@32473":{"iut":"3"},"severity":"notice","timestamp":"2020-03-13T20:45:38.119Z","version":1}"#,
        ),
        (". = parse_syslog!(.message).timestamp", "<13>Jan  2 03:04:05 host app: hello", "\"2026-01-02T03:04:05Z\""),
        (". = parse_syslog!(.message).timestamp", "<13>Dec 31 03:04:05 host app: hello", "\"2025-12-31T03:04:05Z\""),
        (". = parse_logfmt!(.message)", "level=info msg=\"a b\"", r#"{"level":"info","msg":"a b"}"#),
        (". = parse_key_value!(.message, field_delimiter: \"&\")", "a=1&b=2", r#"{"a":"1","b":"2"}"#),
        (". = parse_grok!(.message, \"%{IP:ip} %{NUMBER:n:int}\")", "1.2.3.4 56", r#"{"ip":"1.2.3.4","n":"56"}"#),
        (". = parse_regex!(.message, r'^(?P<a>\\w+) (?P<b>.*)$')", "x y z", r#"{"a":"x","b":"y z"}"#),
        (". = {\"cells\": parse_csv!(.message)}", "a,\"b,c\"", r#"{"cells":["a","b,c"]}"#),
        (". = parse_cef!(.message).severity", "CEF:0|V|P|1|2|n|Medium|", "Medium"),
        (". = parse_xml!(.message)", "<a><b>1</b></a>", r#"{"a":{"b":1}}"#),
        (". = parse_yaml!(.message)", "a: [1]", r#"{"a":[1]}"#),
        (". = parse_ruby_hash!(.message)", "{ :a => [1] }", r#"{"a":[1.0]}"#),
        (". = unflatten({\"a.b\": 1})", "", r#"{"a":{"b":1}}"#),
        (". = set!({}, [\"a\", \"b\"], 1)", "", r#"{"a":{"b":1}}"#),
        (". = parse_timestamp!(.message, \"%d/%m/%Y %H:%M\")", "16/10/2019 12:00", "\"2019-10-16T12:00:00Z\""),
        (
            ". = parse_timestamp!(.message, \"%d/%m/%Y %H:%M\", timezone: \"Europe/Berlin\")",
            "16/10/2019 12:00",
            "\"2019-10-16T10:00:00Z\"",
        ),
    ] {
        assert_eq!(told(&*open("vrl", program), draft(Some(input.as_bytes())), value), expected, "{program}");
    }
}

#[test]
fn what_else_a_record_has_may_be_assigned() {
    for (program, expected) in [
        ("%key = \"new\"", "logs 1767225600000 new a=1,b=null,a=2"),
        ("%key = null", "logs 1767225600000 null a=1,b=null,a=2"),
        ("%key = {\"id\": 5}", "logs 1767225600000 {\"id\":5} a=1,b=null,a=2"),
        ("%timestamp = t'2020-01-01T00:00:00Z'", "logs 1577836800000 k a=1,b=null,a=2"),
        ("%timestamp = 5", "logs 5 k a=1,b=null,a=2"),
        ("%timestamp = \"soon\"", "unfit: `%timestamp` is neither a timestamp nor a number of milliseconds since 1970"),
        ("%headers.c = \"3\"", "logs 1767225600000 k a=1,b=null,a=2,c=3"),
        ("%headers.a = \"3\"", "logs 1767225600000 k a=3,b=null"),
        ("%headers.b = 5", "logs 1767225600000 k a=1,b=5,a=2"),
        ("del(%headers.a)", "logs 1767225600000 k b=null"),
        ("%headers = {}", "logs 1767225600000 k "),
        ("%headers = 5", "unfit: `%headers` is not a mapping of names to text"),
        ("%topic = \"other\"", "other 1767225600000 k a=1,b=null,a=2"),
        ("%topic = \"__mine\"", "unfit: `__mine` begins with `__`, which is for internal topics"),
        ("%topic = 5", "unfit: `%topic` is not text"),
    ] {
        assert_eq!(told(&*open("vrl", program), draft(Some(b"x")), outline), expected, "{program}");
    }
}

#[test]
fn a_filter_keeps_what_its_condition_is_true_for() {
    for (condition, input, expected) in [
        ("contains(string!(.message), \"error\")", "an error", "an error"),
        ("contains(string!(.message), \"error\")", "fine", "dropped"),
        ("%key == \"k\" && %topic == \"logs\"", "x", "x"),
        ("parse_json!(.message).level == \"error\"", "{\"level\":\"error\"}", "{\"level\":\"error\"}"),
        ("parse_json!(.message).level == \"error\"", "{", "unfit: function call error"),
        ("exists(%headers.b)", "x", "x"),
        ("exists(%headers.c)", "x", "dropped"),
    ] {
        let told = told(&*open("filter", condition), draft(Some(input.as_bytes())), value);
        match expected.starts_with("unfit: ") {
            true => assert!(told.starts_with(expected), "{condition}: {told}"),
            false => assert_eq!(told, expected, "{condition} of {input}"),
        }
    }
}

#[test]
fn a_route_names_the_topic() {
    for (route, input, expected) in [
        ("\"errors\"", "x", "errors"),
        ("\"app.\" + string!(parse_json!(.message).app)", "{\"app\":\"shop\"}", "app.shop"),
        ("if %key == \"k\" { %topic } else { \"x\" }", "x", "logs"),
        ("string!(.message)", "", "unfit: the name of its topic is empty"),
        ("string!(.message)", "..", "unfit: `..` is not a topic's name"),
        (
            "string!(.message)",
            "__consumer_offsets",
            "unfit: `__consumer_offsets` begins with `__`, which is for internal topics",
        ),
        (
            "string!(.message)",
            "../a",
            "unfit: `../a` is not a topic's name: only letters, digits, `.`, `_` and `-` may be in it",
        ),
        (
            "string!(.message)",
            "\u{1b}",
            "unfit: `\\u{1b}` is not a topic's name: only letters, digits, `.`, `_` and `-` may be in it",
        ),
    ] {
        let told = told(&*open("route", route), draft(Some(input.as_bytes())), |draft| draft.topic.to_string());
        assert_eq!(told, expected, "{route} of {input}");
    }
    let told = told(&*open("route", "string!(.message)"), draft(Some("a".repeat(250).as_bytes())), value);
    assert!(told.starts_with("unfit: the name of its topic is longer than 249"), "{told}");
    assert!(aqueduct_transforms::changes_topic("route", &"\"x\"".into()));
    assert!(aqueduct_transforms::changes_topic("vrl", &"if true { %topic = \"x\" }".into()));
    assert!(!aqueduct_transforms::changes_topic("vrl", &".x = %topic".into()));
}

#[test]
fn on_the_way_to_a_sink_a_record_stays_of_its_topic() {
    let draft = || Draft { partition: Some(3), ..draft(Some(b"x")) };
    for (name, program, expected) in [
        ("route", "\"other\"", "unfit: its topic can not be changed on the way to a sink"),
        ("vrl", "%topic = \"other\"", "unfit: its topic can not be changed on the way to a sink"),
        ("vrl", "%topic = \"logs\"\n.message = to_string(%partition)", "3"),
    ] {
        assert_eq!(told(&*open(name, program), draft(), value), expected, "{program}");
    }
}

#[test]
fn a_null_value_goes_through() {
    assert_eq!(told(&*open("vrl", "%key = \"x\""), draft(None), value), "null");
    assert_eq!(told(&*open("vrl", ". = {\"was\": .message}"), draft(None), value), "{\"was\":null}");
    assert!(told(&*open("vrl", ". = parse_json!(.message)"), draft(None), value).starts_with("unfit: "));
    assert_eq!(told(&*open("filter", ".message != null"), draft(None), value), "dropped");
}

#[test]
fn what_a_program_does_not_touch_stays_borrowed() {
    for (name, program) in [
        ("vrl", "%key = \"x\""),
        ("vrl", "x = parse_json(.message) ?? null\nif x == 5 { abort }"),
        ("filter", "true"),
        ("filter", ".message != null"),
        ("route", "\"x\""),
    ] {
        let done = block_on(open(name, program).apply(vec![draft(Some(b"abc"))])).unwrap();
        assert!(matches!(done.drafts[0].value, Some(Cow::Borrowed(_))), "{program}");
    }
}

#[test]
fn the_same_in_is_the_same_out_whatever_comes_with_it() {
    let transform = open(
        "vrl",
        ". = parse_syslog!(.message)\n.k = %key\n.h = md5(.message)\n%headers = merge(%headers, {\"x\": .k})",
    );
    let lines =
        [&b"<13>Feb 29 03:04:05 host app: hello"[..], b"<13>Mar  1 03:04:05 host app[5]: x", b"not syslog at all"];
    let alone: Vec<_> = lines.map(|line| told(&*transform, draft(Some(line)), value)).to_vec();
    let again: Vec<_> = lines.map(|line| told(&*transform, draft(Some(line)), value)).to_vec();
    assert_eq!(alone, again);
    let together = block_on(transform.apply(lines.map(|line| draft(Some(line))).to_vec())).unwrap();
    let together: Vec<_> = together.drafts.iter().map(value).collect();
    let fit: Vec<_> = alone.into_iter().filter(|told| !told.starts_with("unfit: ")).collect();
    assert_eq!(together, fit);
}
