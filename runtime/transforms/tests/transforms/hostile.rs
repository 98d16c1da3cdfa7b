//! Input that was made to harm: each record is told unfit or goes through, and the next one is as good as ever.

use std::time::{Duration, Instant};

use crate::world::{block_on, draft, open, problems, told, value};

/// What a file of ours has at most as one record.
const LARGE: usize = 1 << 20;

#[test]
fn deep_nesting_is_told_not_followed() {
    let deep = 100_000;
    let open_close = |open: &str, close: &str| open.repeat(deep) + &close.repeat(deep);
    let json_key = format!("{{\"{}a\":1}}", "a.".repeat(deep));
    for (program, input, expected) in [
        (". = parse_json!(.message)", open_close("[", "]"), "recursion limit"),
        (". = parse_json!(.message)", "{\"a\":".repeat(deep), "recursion limit"),
        (". = parse_xml!(.message)", open_close("<a>", "</a>"), "nested more than 128 levels deep"),
        (". = parse_xml!(.message)", open_close("<a b='c'>", "</a>"), "nested more than 128 levels deep"),
        (". = parse_ruby_hash!(.message)", open_close("{ :a => ", "}"), "nested more than 128 levels deep"),
        (". = parse_ruby_hash!(.message)", open_close("[", "]"), "nested more than 128 levels deep"),
        (". = parse_yaml!(.message)", open_close("{a: ", "}"), "nested more than 128 levels deep"),
        (". = parse_yaml!(.message)", "- ".repeat(deep), "recursion limit"),
        (". = parse_cbor!(.message)", "\u{1}".repeat(deep), "unfit"),
        (". = unflatten(object!(parse_json!(.message)))", json_key, "nested more than 128 levels deep"),
        (". = set!({}, split(string!(.message), \".\"), 1)", "a.".repeat(deep), "nested more than 128 levels deep"),
    ] {
        let transform = open("vrl", program);
        let told_deep = told(&*transform, draft(Some(input.as_bytes())), value);
        assert!(told_deep.starts_with("unfit: ") || expected == "unfit", "{program}: {told_deep:.100}");
        assert!(told_deep.contains(expected) || expected == "unfit", "{program}: {told_deep:.200}");
    }
    let shallow = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
    assert!(
        !told(&*open("vrl", ". = parse_xml!(.message)"), draft(Some(shallow.as_bytes())), value).starts_with("unfit")
    );
}

#[test]
fn bytes_that_are_no_text_are_kept_where_they_are_and_replaced_in_json() {
    let bytes = b"\xff\x00\xfe{";
    let same = |program: &str| {
        let done = block_on(open("vrl", program).apply(vec![draft(Some(bytes))])).unwrap();
        done.drafts[0].value.as_deref().map(<[u8]>::to_vec)
    };
    assert_eq!(same("%key = \"x\"").unwrap(), bytes);
    assert_eq!(same(".message = .message").unwrap(), bytes);
    assert_eq!(same(". = .message").unwrap(), bytes);
    assert_eq!(told(&*open("vrl", ".a = 1"), draft(Some(b"a\xff")), value), "{\"a\":1,\"message\":\"a\u{fffd}\"}");
    assert!(
        told(&*open("vrl", ". = parse_json!(.message, lossy: false)"), draft(Some(b"\"\xff\"")), value)
            .starts_with("unfit: ")
    );
}

#[test]
fn large_values_go_through_in_no_time() {
    let text = "x".repeat(LARGE);
    let quotes = "\"\\".repeat(LARGE / 2);
    let started = Instant::now();
    for (program, input) in [
        (". = parse_json!(.message)", &text),
        (".a = parse_key_value(.message) ?? null", &text),
        (".a = parse_nginx_log(.message, \"combined\") ?? null", &text),
        (".a = parse_apache_log(.message, \"combined\") ?? null", &text),
        (".a = parse_syslog(.message) ?? null", &text),
        (".a = parse_regex(.message, r'(?P<x>(x*)*y)') ?? null", &text),
        (".a = parse_grok(.message, \"%{GREEDYDATA:a}%{GREEDYDATA:b}y\") ?? null", &text),
        (".a = parse_csv(.message) ?? null", &quotes),
        (".a = parse_tokens(.message) ?? null", &quotes),
    ] {
        told(&*open("vrl", program), draft(Some(input.as_bytes())), value);
    }
    // Nothing here is exponential; the machine may be a slow one.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_huge_regex_does_not_compile() {
    let found = problems("vrl", ". = parse_regex!(.message, r'((a{1000}){1000}){1000}')");
    assert!(found[0].message.contains("exceeds size limit"), "{found:?}");
}
