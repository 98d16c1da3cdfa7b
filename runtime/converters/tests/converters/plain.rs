//! Forms that need no schema.

use serde_json::json;

use crate::world::{draft, made, open, problems, text};

#[tokio::test]
async fn forms_without_a_schema_come_back_as_they_were() {
    for (form, plain, encoded) in [
        ("string", "Grüße", "Grüße".as_bytes()),
        ("boolean", "true", b"\x01"),
        ("boolean", "false", b"\0"),
        ("short", "-2", b"\xff\xfe"),
        ("integer", "66051", b"\0\x01\x02\x03"),
        ("long", "-9223372036854775808", b"\x80\0\0\0\0\0\0\0"),
        ("float", "1.5", b"\x3f\xc0\0\0"),
        ("float", "0.1", b"\x3d\xcc\xcc\xcd"),
        ("double", "0.1", b"\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
        ("double", "\"-Infinity\"", b"\xff\xf0\0\0\0\0\0\0"),
    ] {
        let decode = open("decode", json!({"from": form}));
        assert_eq!(text(&*decode, encoded).await.as_deref(), Ok(plain), "{form}");
        let encode = open("encode", json!({"to": form}));
        assert_eq!(made(&*encode, plain.as_bytes()).await.as_deref(), Ok(encoded), "{form}");
    }
}

#[tokio::test]
async fn base64_stands_for_bytes() {
    let bytes = &b"\0\x01\xff\xfe"[..];
    let (decode, encode) = (open("decode", json!({"from": "base64"})), open("encode", json!({"to": "base64"})));
    assert_eq!(text(&*encode, bytes).await.as_deref(), Ok("AAH//g=="));
    for written in ["AAH//g==", "AAH//g", " AAH//g==\n"] {
        assert_eq!(made(&*decode, written.as_bytes()).await.as_deref(), Ok(bytes), "{written}");
    }
}

#[tokio::test]
async fn text_changes_its_encoding() {
    for (encoding, plain, encoded) in [
        ("iso-8859-1", "é", &b"\xe9"[..]),
        ("us-ascii", "e", b"e"),
        ("utf-16", "é😀", b"\xfe\xff\0\xe9\xd8\x3d\xde\0"),
        ("utf-16be", "é", b"\0\xe9"),
        ("utf-16le", "é", b"\xe9\0"),
    ] {
        let decode = open("decode", json!({"from": "string", "encoding": encoding}));
        assert_eq!(text(&*decode, encoded).await.as_deref(), Ok(plain), "{encoding}");
        let encode = open("encode", json!({"to": "string", "encoding": encoding}));
        assert_eq!(made(&*encode, plain.as_bytes()).await.as_deref(), Ok(encoded), "{encoding}");
    }
    let decode = open("decode", json!({"from": "string", "encoding": "utf-16"}));
    assert_eq!(text(&*decode, b"\xff\xfe\xe9\0").await.as_deref(), Ok("é"), "a mark says little-endian");
}

#[tokio::test]
async fn an_envelope_gives_its_payload_byte_for_byte() {
    let decode = open("decode", json!({"from": "connect-json"}));
    for (envelope, payload) in [
        (r#"{"schema":{"type":"struct"},"payload":{"b": 1.10, "a":[ ]}}"#, r#"{"b": 1.10, "a":[ ]}"#),
        (r#" { "payload" : "x" , "schema" : null } "#, r#""x""#),
        (r#"{"schema":null,"payload":null}"#, "(null)"),
    ] {
        assert_eq!(text(&*decode, envelope.as_bytes()).await.as_deref(), Ok(payload), "{envelope}");
    }
    let encode = open("encode", json!({"to": "connect-json", "schema": r#"{"type":"int32"}"#}));
    assert_eq!(text(&*encode, b" 5").await.unwrap(), r#"{"schema":{"type":"int32"},"payload":5}"#);
}

#[tokio::test]
async fn what_is_not_in_the_form_says_why() {
    for (name, settings, value, part) in [
        ("decode", json!({"from": "string"}), &b"\xff"[..], "the value is not UTF-8"),
        ("decode", json!({"from": "string", "encoding": "us-ascii"}), b"\xe9", "is not ASCII"),
        ("decode", json!({"from": "string", "encoding": "utf-16"}), b"\0", "odd number of bytes"),
        ("decode", json!({"from": "string", "encoding": "utf-16be"}), b"\xd8\x3d", "half of a pair"),
        ("decode", json!({"from": "base64"}), b"*", "is not base64"),
        ("decode", json!({"from": "long"}), b"1", "has 1 bytes, expected 8"),
        ("decode", json!({"from": "boolean"}), b"\x02", "0x02, expected 0x00 or 0x01"),
        ("decode", json!({"from": "connect-json"}), b"{\"payload\":1}", "expected {\"schema\": "),
        ("decode", json!({"from": "connect-json"}), b"{\"schema\":1,\"payload\":1,\"x\":2}", "nothing else"),
        ("decode", json!({"from": "connect-json"}), b"[", "is no envelope"),
        ("encode", json!({"to": "string", "encoding": "iso-8859-1"}), "€".as_bytes(), "'€', which ISO 8859-1 has not"),
        ("encode", json!({"to": "short"}), b"40000", "is no short"),
        ("encode", json!({"to": "float"}), b"1e300", "is too large"),
        ("encode", json!({"to": "connect-json", "schema": r#"{"type":"string"}"#}), b"{", "is no JSON"),
    ] {
        let found = made(&*open(name, settings.clone()), value).await;
        let reason = found.expect_err(&settings.to_string());
        assert!(reason.contains(part), "{settings}: {reason}");
    }
}

#[tokio::test]
async fn nulls_stay_and_the_other_part_too() {
    let decode = open("decode", json!({"from": "long", "part": "key"}));
    let drafts = vec![draft(Some(b"\0\0\0\0\0\0\0\x05"), None), draft(None, Some(b"x"))];
    let done = decode.apply(drafts).await.unwrap();
    assert_eq!(done.drafts, [draft(Some(b"5"), None), draft(None, Some(b"x"))]);
}

#[test]
fn settings_that_say_nothing_are_problems() {
    for (name, settings, setting, part) in [
        ("decode", json!({"from": "long", "encoding": "utf-8"}), "encoding", "is for `from: string` alone"),
        ("encode", json!({"to": "long", "encoding": "utf-8"}), "encoding", "is for `to: string` alone"),
        ("decode", json!({"from": "lng"}), "from", "unknown variant"),
        ("decode", json!({"from": "long", "x": 1}), "x", "unknown field"),
    ] {
        let found = problems(name, settings.clone());
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(found[0].setting == setting && found[0].message.contains(part), "{settings}: {found:?}");
    }
}
