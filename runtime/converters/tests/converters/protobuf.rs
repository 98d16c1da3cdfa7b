//! Protobuf and JSON Schema, between frames and JSON.

use serde_json::json;

use crate::server::Server;
use crate::world::{frame, made, open, problems, text};

const ORDERS: &str = r#"syntax = "proto3";
package shop;
import "money.proto";
import "google/protobuf/timestamp.proto";
message Other {}
message Order {
  int64 order_id = 1;
  Money total = 2;
  google.protobuf.Timestamp placed = 3;
  optional string note = 4;
  repeated Line lines = 5;
  map<string, bool> flags = 6;
  bytes raw = 7;
  enum State { NEW = 0; PAID = 1; }
  State state = 8;
  Order parent = 9;
  message Line { uint64 sku = 1; }
}
"#;

const MONEY: &str = "syntax = \"proto3\"; package shop; message Money { string currency = 1; double amount = 2; }";

async fn server() -> (Server, u32) {
    let server = Server::start().await;
    server.add("money", "PROTOBUF", MONEY, json!([]));
    let references = json!([{"name": "money.proto", "subject": "money", "version": 1}]);
    let id = server.add("orders-value", "PROTOBUF", ORDERS, references);
    (server, id)
}

#[tokio::test]
async fn messages_go_both_ways() {
    let (server, id) = server().await;
    let registry = json!({"url": server.url});
    let decode = open("decode", json!({"from": "protobuf", "registry": registry}));
    let encode = |message: &str| {
        let references = json!([{"name": "money.proto", "subject": "money", "version": 1}]);
        open(
            "encode",
            json!({"to": "protobuf", "schema": ORDERS, "references": references, "message": message, "registry": registry}),
        )
    };
    let order = encode("shop.Order");
    let json =
        br#"{"order_id":9007199254740993,"total":{"currency":"EUR","amount":12.5},"placed":"2026-11-21T12:00:00Z",
        "lines":[{"sku":5}],"flags":{"a":true},"raw":"AP8=","state":"PAID"}"#;
    let made_of = made(&*order, json).await.unwrap();
    assert_eq!(made_of[..8], [0, 0, 0, 0, id as u8, 2, 2, 0x08], "id, the way [1], the first field");
    let back: serde_json::Value = serde_json::from_slice(&made(&*decode, &made_of).await.unwrap()).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(json).unwrap();
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&back[name], value, "{name}");
    }
    assert_eq!(made(&*order, br#"{"orderId":5}"#).await.unwrap(), frame(id, &[2, 2, 8, 5]), "names of either spelling");
    assert_eq!(made(&*encode("shop.Order.Line"), br#"{"sku":5}"#).await.unwrap(), frame(id, &[4, 2, 0, 8, 5]));
    assert_eq!(text(&*decode, &frame(id, &[4, 2, 0, 8, 5])).await.unwrap(), r#"{"sku":5}"#);
    assert_eq!(text(&*decode, &frame(id, &[0])).await.unwrap(), "{}", "the first message");
}

#[tokio::test]
async fn fields_that_were_left_out_are_at_their_defaults() {
    let (server, id) = server().await;
    let decode = open("decode", json!({"from": "protobuf", "registry": {"url": server.url}}));
    let found: serde_json::Value = serde_json::from_slice(&made(&*decode, &frame(id, &[2, 2])).await.unwrap()).unwrap();
    assert_eq!((&found["order_id"], &found["lines"], &found["state"]), (&json!(0), &json!([]), &json!("NEW")));
    assert!(found.get("note").is_none_or(serde_json::Value::is_null), "{found}");
}

#[tokio::test]
async fn payloads_that_are_none_are_dead_letters() {
    let (server, id) = server().await;
    let decode = open("decode", json!({"from": "protobuf", "registry": {"url": server.url}}));
    let nested = (0..5000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut length = inner.len();
        let mut out = vec![0x4a];
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(inner);
        out
    });
    for (payload, part) in [
        (&[][..], "ends within a number"),
        (&[2, 6], "has no message at [3]"),
        (&[2, 2, 0xff], "is no `shop.Order`"),
        (&[2, 2, 0x3a, 0xff, 0xff, 0xff, 0xff, 0x07], "is no `shop.Order`"),
        (&[&[2, 2], &nested[..]].concat(), "is no `shop.Order`"),
    ] {
        let reason = text(&*decode, &frame(id, payload)).await.expect_err(part);
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn few_bytes_do_not_become_too_much_json() {
    let fields: String =
        (1..=20).map(|at| format!("int32 a_name_that_is_much_longer_than_its_value_{at} = {at};")).collect();
    let schema = format!("syntax = \"proto3\"; message A {{ repeated B b = 1; message B {{ {fields} }} }}");
    let server = Server::start().await;
    let id = server.add("a", "PROTOBUF", &schema, json!([]));
    let decode = open("decode", json!({"from": "protobuf", "registry": {"url": server.url}}));
    let payload = [&[0][..], &[0x0a, 0].repeat(100_000)].concat();
    let found = made(&*decode, &frame(id, &payload)).await.map(|json| json.len());
    assert!(found.unwrap_err().contains("has no JSON: it would have more than 64 MiB"));
}

#[tokio::test]
async fn json_that_is_no_message_is_a_dead_letter() {
    let server = Server::start().await;
    let settings = json!({"to": "protobuf", "schema": MONEY, "registry": {"url": server.url}});
    let encode = open("encode", settings.clone());
    for (json, part) in [
        (&br#"{"currency":5}"#[..], "is no `shop.Money`"),
        (br#"{"curency":"EUR"}"#, "curency"),
        (b"{} {}", "trailing characters"),
        (b"[]", "is no `shop.Money`"),
    ] {
        let reason = made(&*encode, json).await.unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
    let mut dropping = settings;
    dropping["unknown-fields"] = json!("drop");
    assert_eq!(made(&*open("encode", dropping), br#"{"curency":"EUR"}"#).await.unwrap(), frame(1, &[0]));
}

#[tokio::test]
async fn json_schema_is_a_frame_around_json_that_fits() {
    let schema = r#"{"type":"object","required":["id"]}"#;
    let server = Server::start().await;
    let registry = json!({"url": server.url});
    let encode = open("encode", json!({"to": "json-schema", "schema": schema, "registry": registry}));
    let json = br#"{ "id": 1.10 }"#;
    assert_eq!(made(&*encode, json).await.unwrap(), frame(1, json));
    assert!(made(&*encode, b"{}").await.unwrap_err().contains("the value does not fit the schema"));
    let decode = open("decode", json!({"from": "json-schema", "registry": registry}));
    assert_eq!(made(&*decode, &frame(1, json)).await.unwrap(), json);
    assert!(made(&*decode, &frame(1, b"{")).await.unwrap_err().contains("is no JSON"));
}

#[test]
fn settings_that_can_not_be_right_are_problems_with_places() {
    let registry = json!({"url": "http://registry:8081"});
    let bad = |more: serde_json::Value| {
        let mut settings = json!({"to": "avro", "schema": "\"long\"", "registry": registry});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        settings
    };
    for (settings, setting, part, at) in [
        (bad(json!({"registry": null})), "registry", "is missing", None),
        (bad(json!({"schema": null})), "schema", "one of `schema`, `schema-file` and `version`", None),
        (bad(json!({"version": 1})), "schema", "exclude each other", None),
        (bad(json!({"schema": "{\n\"type\": x}"})), "schema", "is no JSON", Some((2, 9))),
        (bad(json!({"schema": "\"lng\""})), "schema", "there is no type `lng`", None),
        (bad(json!({"subject": "a-{topik}"})), "subject", "`{topic}` and text alone", None),
        (bad(json!({"message": "A"})), "message", "is for `to: protobuf` alone", None),
        (
            bad(json!({"to": "protobuf", "schema": "syntax = \"proto3\";\nmessage A { strin x = 1; }"})),
            "schema",
            "strin",
            Some((2, 13)),
        ),
        (bad(json!({"to": "protobuf", "schema": "message A {}", "message": "B"})), "schema", "no message `B`", None),
        (bad(json!({"to": "json-schema", "schema": "{\"type\":\"x\"}"})), "schema", "x", None),
        (bad(json!({"to": "string", "schema": null})), "registry", "`avro`, `protobuf` and `json-schema` alone", None),
        (bad(json!({"registry": {"url": []}})), "registry.url", "names no registry", None),
        (bad(json!({"registry": {"url": "http://a:b@c"}})), "registry.url", "settings of their own", None),
        (bad(json!({"registry": {"url": "ftp://c"}})), "registry.url", "is no address", None),
        (bad(json!({"registry": {"url": "http://c", "username": "a"}})), "registry.password", "is missing", None),
        (bad(json!({"registry": {"url": "http://c", "timeout": "0s"}})), "registry.timeout", "expected 1ms", None),
    ] {
        let found = problems("encode", settings.clone());
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(found[0].setting == setting && found[0].message.contains(part), "{settings}: {found:?}");
        assert!(at.is_none() || found[0].at == at, "{settings}: {found:?}");
    }
    assert!(problems("encode", bad(json!({}))).is_empty());
}

#[test]
fn where_the_registry_is_does_not_shape_records() {
    let registry = crate::world::registry();
    let settings = json!({"to": "avro", "schema": "\"long\"", "register": false, "registry": {"url": "http://a"}});
    assert_eq!(registry.transforms["encode"].shaping(&settings), json!({"to": "avro", "schema": "\"long\""}));
}
