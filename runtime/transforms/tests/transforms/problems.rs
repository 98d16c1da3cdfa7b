//! Programs that do not compile, what is said about each, and where.

use crate::world::{open, problems};

#[test]
fn what_is_wrong_is_told_where_it_is_with_what_would_be_right() {
    for (name, program, at, expected) in [
        ("vrl", ". = parse_json(.message)", (1, 5), "unhandled fallible assignment; this expression is fallible"),
        ("vrl", ". = parse_json(.message)", (1, 5), "parse_json!(.message)"),
        ("vrl", ". = parse_json(.message)", (1, 5), "https://errors.vrl.dev/103"),
        ("vrl", ".a = 1\n.b = parse_jsn!(.message)", (2, 6), "undefined function; did you mean \"parse_json\"?"),
        ("vrl", ".a = 1\n\n  .b = \"é\" + ]", (3, 14), "syntax error"),
        ("vrl", ".a = upcase(5)", (1, 13), "invalid argument type"),
        ("vrl", ".a = x", (1, 6), "undefined variable"),
        ("vrl", ".a = parse_regex!(.message, r'(')", (1, 29), "regex parse error"),
        ("vrl", "%tpoic = \"x\"", (1, 1), "there is no `%tpoic`: there are `%topic`, `%partition`, `%offset`"),
        ("vrl", ".a = 1\n.b = %no", (2, 6), "there is no `%no`"),
        ("vrl", "%offset = 5", (1, 1), "read-only"),
        (
            "vrl",
            ". = {}\n%headers.x = \"y\"",
            (2, 10),
            "write `%headers = merge(%headers, { … })`: VRL looks for the type of `%headers` among the fields of `.`",
        ),
        ("vrl", "", (1, 1), "is empty"),
        ("filter", "", (1, 1), "is empty"),
        ("filter", ".message", (1, 1), "expected true or false"),
        ("filter", ".x = 5\ntrue", (1, 1), "read-only"),
        ("filter", "del(.message)\ntrue", (1, 1), "read-only"),
        (
            "filter",
            "true &&\n  .level == \"error\"",
            (2, 3),
            "there is no `.level`: a record's value is text in `.message`, so write for example `parse_json!(.message).level`",
        ),
        ("filter", ".message.level == 1", (1, 1), "so write for example `parse_json!(.message).level`"),
        ("route", "string!(.a.b)", (1, 9), "there is no `.a.b`"),
        ("route", "5", (1, 1), "comes to a value of kind integer, expected text"),
        ("route", ".message", (1, 1), "expected text"),
        (
            "vrl",
            ".a = format_timestamp!(%timestamp, \"%F\", timezone: \"local\")",
            (1, 6),
            "`local` is not allowed here",
        ),
        ("vrl", ".a = format_timestamp!(%timestamp, \"%F\", timezone: string!(.message))", (1, 6), "literal"),
    ] {
        let found = problems(name, program);
        let right = |message: &str| message.contains(expected) && !message.contains('\n');
        let problem = found.iter().find(|problem| right(&problem.message));
        let problem = problem.unwrap_or_else(|| panic!("{program}: {found:?}"));
        assert_eq!(problem.at, Some(at), "{program}: {}", problem.message);
    }
}

#[test]
fn functions_that_are_not_pure_are_refused_by_name_and_reason() {
    for (call, name, reason) in [
        ("now()", "now", "`%timestamp` is the record's own time"),
        ("uuid_v4()", "uuid_v4", "chance"),
        ("uuid_v7()", "uuid_v7", "clock"),
        ("random_int(0, 5)", "random_int", "chance"),
        ("random_bytes(5)", "random_bytes", "chance"),
        ("get_env_var!(\"HOME\")", "get_env_var", "machine"),
        ("get_hostname!()", "get_hostname", "machine"),
        ("get_timezone_name!()", "get_timezone_name", "machine"),
        ("dns_lookup!(\"x\")", "dns_lookup", "network"),
        ("reverse_dns!(\"x\")", "reverse_dns", "network"),
        ("http_request!(\"x\")", "http_request", "network"),
        ("log(\"x\")", "log", "more than once"),
        ("get_secret(\"x\")", "get_secret", "machine"),
        ("get_enrichment_table_record!(\"x\", {})", "get_enrichment_table_record", "files"),
        ("parse_proto!(.message, \"x\", \"y\")", "parse_proto", "files"),
        ("validate_json_schema!(.message, \"x\")", "validate_json_schema", "files"),
        ("parse_klog!(.message)", "parse_klog", "no year"),
        ("parse_groks!(.message, [\"x\"])", "parse_groks", "time zone"),
        ("decode_gzip!(.message)", "decode_gzip", "memory"),
    ] {
        let found = problems("vrl", &format!("# hm\n.a = {call}"));
        let problem = found.first().unwrap_or_else(|| panic!("{call} is allowed"));
        assert!(problem.message.starts_with(&format!("`{name}` is not allowed here: ")), "{}", problem.message);
        assert!(problem.message.contains(reason), "{}", problem.message);
        assert_eq!(problem.at, Some((2, 6)), "{call}");
    }
}

#[test]
fn what_people_copy_from_vector_compiles() {
    for program in [
        ". = parse_json!(.message)",
        ". = parse_json!(string!(.message))",
        ".message = string!(.message)",
        ". |= object!(parse_json!(.message))",
        "structured = parse_syslog!(.message)\n. = merge(., structured)",
        ".timestamp = parse_timestamp(.timestamp, \"%+\") ?? %timestamp",
        "if exists(.password) { .password = \"***\" }\n. = redact(., filters: [r'\\d{4}-\\d{4}'])",
        "for_each(object(%headers)) -> |name, value| { . = set!(., [\"h\", name], value) }",
        ". = map_values(., recursive: true) -> |value| { if is_string(value) { downcase!(value) } else { value } }",
    ] {
        let found = problems("vrl", program);
        // What VRL itself finds superfluous is no slip of ours.
        assert!(found.is_empty(), "{program}: {found:?}");
        open("vrl", program);
    }
}
