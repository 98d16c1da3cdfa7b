//! Avro, between bytes that were written by others and JSON.

use serde_json::{Value, json};

use crate::server::Server;
use crate::world::{frame, made, open, text};

/// A schema, JSON and the payload behind the frame.
async fn both_ways(schema: &Value, json: &str, payload: &[u8]) {
    let server = Server::start().await;
    let id = server.add("orders-value", "AVRO", &schema.to_string(), json!([]));
    let registry = json!({"url": server.url});
    let decode = open("decode", json!({"from": "avro", "registry": registry}));
    let found = text(&*decode, &frame(id, payload)).await;
    assert_eq!(found.as_deref(), Ok(json), "{schema}");
    let encode = open("encode", json!({"to": "avro", "schema": schema.to_string(), "registry": registry}));
    assert_eq!(made(&*encode, json.as_bytes()).await.unwrap(), frame(id, payload), "{schema} {json}");
}

#[tokio::test]
async fn every_type_goes_both_ways() {
    let logical = |kind: &str, name: &str| json!({"type": kind, "logicalType": name});
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2});
    let record = |fields: Value| json!({"type": "record", "name": "R", "fields": fields});
    for (schema, json, payload) in [
        (json!("null"), "null", &[][..]),
        (json!("boolean"), "true", &[1]),
        (json!("int"), "-2147483648", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (json!("long"), "9223372036854775807", &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        (json!("float"), "1.5", &[0, 0, 0xc0, 0x3f]),
        (json!("float"), "\"NaN\"", &[0, 0, 0xc0, 0x7f]),
        (json!("double"), "-0.1", &[0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0xbf]),
        (json!("double"), "\"Infinity\"", &[0, 0, 0, 0, 0, 0, 0xf0, 0x7f]),
        (json!("string"), r#""a\"\né""#, &[0x0a, b'a', b'"', b'\n', 0xc3, 0xa9]),
        (json!("bytes"), "\"AP8=\"", &[4, 0, 0xff]),
        (json!({"type": "fixed", "name": "F", "size": 2}), "\"AP8=\"", &[0, 0xff]),
        (json!({"type": "enum", "name": "E", "symbols": ["A", "B"]}), "\"B\"", &[2]),
        (json!({"type": "array", "items": "int"}), "[1,2]", &[4, 2, 4, 0]),
        (json!({"type": "array", "items": "int"}), "[]", &[0]),
        (json!({"type": "map", "values": "int"}), r#"{"b":1,"a":2}"#, &[4, 2, b'b', 2, 2, b'a', 4, 0]),
        (json!(["null", "int"]), "null", &[0]),
        (json!(["null", "int"]), "5", &[2, 10]),
        (json!(["int", "null"]), "5", &[0, 10]),
        (json!(["null", "int", "string"]), r#"{"string":"x"}"#, &[4, 2, b'x']),
        (json!(["null", "int", "string"]), "null", &[0]),
        (json!(["int", "string"]), r#"{"int":5}"#, &[0, 10]),
        (logical("int", "date"), "\"2026-11-21\"", &[0xd4, 0xc4, 0x02]),
        (logical("int", "time-millis"), "\"00:00:00.001\"", &[2]),
        (logical("long", "timestamp-millis"), "\"1970-01-01T00:00:00.001Z\"", &[2]),
        (logical("long", "timestamp-micros"), "\"1969-12-31T23:59:59.999999Z\"", &[1]),
        (logical("long", "local-timestamp-millis"), "\"1970-01-01T00:00:00.001\"", &[2]),
        (logical("string", "uuid"), "\"x\"", &[2, b'x']),
        (decimal.clone(), "\"-12.34\"", &[4, 0xfb, 0x2e]),
        (
            json!({"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 2}),
            "\"-12.34\"",
            &[0xff, 0xff, 0xfb, 0x2e],
        ),
        (record(json!([])), "{}", &[]),
        (
            record(json!([{"name": "id", "type": "long"}, {"name": "next", "type": ["null", "R"]}])),
            r#"{"id":1,"next":{"id":2,"next":null}}"#,
            &[2, 2, 4, 0],
        ),
    ] {
        both_ways(&schema, json, payload).await;
    }
}

#[tokio::test]
async fn numbers_are_what_style_says() {
    let server = Server::start().await;
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2});
    let date = json!({"type": "int", "logicalType": "date"});
    let registry = json!({"url": server.url});
    let decode = json!({"from": "avro", "decimals": "number", "times": "number", "registry": registry});
    for (schema, json, payload) in [(decimal, "12.34", &[4, 0x04, 0xd2][..]), (date, "20778", &[0xd4, 0xc4, 0x02])] {
        let id = server.add("orders-value", "AVRO", &schema.to_string(), json!([]));
        assert_eq!(text(&*open("decode", decode.clone()), &frame(id, payload)).await.unwrap(), json);
        let encode = json!({"to": "avro", "schema": schema.to_string(), "registry": registry});
        assert_eq!(made(&*open("encode", encode), json.as_bytes()).await.unwrap(), frame(id, payload));
    }
}

#[tokio::test]
async fn blocks_with_their_size_are_read() {
    let server = Server::start().await;
    let id = server.add("a", "AVRO", r#"{"type":"array","items":"int"}"#, json!([]));
    let decode = open("decode", json!({"from": "avro", "registry": {"url": server.url}}));
    assert_eq!(text(&*decode, &frame(id, &[3, 4, 2, 4, 2, 6, 0])).await.unwrap(), "[1,2,3]");
}

#[tokio::test]
async fn bytes_that_promise_too_much_are_dead_letters() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let deep = json!({"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]});
    let endless = json!({"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]});
    let server = Server::start().await;
    let decode = open("decode", json!({"from": "avro", "registry": {"url": server.url}}));
    let array = |items: Value| json!({"type": "array", "items": items});
    for (schema, payload, part) in [
        (json!("string"), &huge[..], "bytes too early"),
        (json!("bytes"), &[1], "something has -1 bytes"),
        (array(json!("int")), &huge, "ends within a number"),
        (array(json!("null")), &huge, "more than 64 MiB of JSON"),
        (array(json!({"type": "record", "name": "E", "fields": []})), &huge, "more than 64 MiB of JSON"),
        (array(json!("int")), &[0x01], "ends within a number"),
        (json!({"type": "map", "values": "int"}), &[4, 2, b'a', 2, 2, b'a', 2, 0], "a map has `a` twice"),
        (json!({"type": "fixed", "name": "F", "size": 60_000_000}), &[1], "bytes too early"),
        (json!({"type": "bytes", "logicalType": "decimal", "precision": 4}), &[0], "a decimal has no bytes"),
        (json!(["null"]), &[2], "a union has no branch 1"),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), &[1], "has no symbol -1"),
        (json!("int"), &huge, "is no int of 32 bits"),
        (json!("boolean"), &[2], "expected 0 or 1"),
        (json!("string"), &[2, 0xff], "is not UTF-8"),
        (json!("int"), &[2, 2], "1 bytes are left behind its end"),
        (deep, &[2; 100_000], "nested more than 100 levels deep"),
        (endless, &[], "nested more than 100 levels deep"),
        (json!({"type": "long", "logicalType": "timestamp-millis"}), &huge, "is no timestamp"),
    ] {
        let id = server.add("a", "AVRO", &schema.to_string(), json!([]));
        let reason = text(&*decode, &frame(id, payload)).await.expect_err(&schema.to_string());
        assert!(reason.contains(part) && reason.contains(&format!("(schema {id})")), "{schema}: {reason}");
        assert!(reason.len() < 4000, "{}", reason.len());
    }
}

#[tokio::test]
async fn json_that_does_not_fit_is_a_dead_letter_that_says_where() {
    let schema = json!({"type": "record", "name": "shop.Order", "fields": [
        {"name": "id", "type": "int"},
        {"name": "total", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}]},
        {"name": "items", "type": {"type": "array", "items": ["int", "string"]}, "default": []},
        {"name": "raw", "type": "bytes", "default": "\u{ff}"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["A"]}, "default": "A"},
    ]});
    let server = Server::start().await;
    let settings = json!({"to": "avro", "schema": schema.to_string(), "registry": {"url": server.url}});
    let encode = open("encode", settings.clone());
    let defaults = frame(1, &[2, 0, 0, 2, 0xff, 0]);
    assert_eq!(made(&*encode, br#"{"id":1}"#).await.unwrap(), defaults, "what is missing is null or the default");
    for (json, part) in [
        (r#"{"id":"1"}"#, r#"field `id`: is the text "1", expected a whole number"#),
        (r#"{"id":3000000000}"#, "expected a whole number of 32 bits"),
        (r#"{"id":1.5}"#, "expected a whole number of 32 bits"),
        ("{}", "field `id`: is missing"),
        ("[]", "is a list, expected a mapping"),
        ("{", "is no JSON"),
        (r#"{"id":1,"totl":1}"#, "`shop.Order` has no field `totl`: `unknown-fields: drop`"),
        (r#"{"id":1,"total":"123.45"}"#, "has 5 digits, the schema allows 4"),
        (r#"{"id":1,"total":1.123}"#, "more than 2 digits after the point"),
        (r#"{"id":1,"total":0.1234567890123456789}"#, "write decimals as text"),
        (r#"{"id":1,"items":[1]}"#, r#"field `items`: item 0: is the number 1, expected {"int": …} or {"string": …}"#),
        (r#"{"id":1,"items":[{"long":1}]}"#, r#"expected {"int": …} or {"string": …}"#),
        (r#"{"id":1,"raw":"*"}"#, "is not base64"),
        (r#"{"id":1,"state":"B"}"#, "`shop.State` has no symbol `B`"),
    ] {
        let reason = made(&*encode, json.as_bytes()).await.expect_err(json);
        assert!(reason.starts_with("the value ") && reason.contains(part), "{json}: {reason}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(made(&*encode, deep.as_bytes()).await.unwrap_err().contains("is no JSON: recursion limit"));
    let mut dropping = settings;
    dropping["unknown-fields"] = json!("drop");
    assert_eq!(made(&*open("encode", dropping), br#"{"id":1,"totl":1}"#).await.unwrap(), defaults);
}

#[tokio::test]
async fn a_default_that_holds_itself_ends() {
    let schema = json!({"type": "record", "name": "R", "fields": [{"name": "r", "type": "R", "default": {}}]});
    let server = Server::start().await;
    let settings = json!({"to": "avro", "schema": schema.to_string(), "registry": {"url": server.url}});
    assert!(made(&*open("encode", settings), b"{}").await.unwrap_err().contains("nested more than"));
}
