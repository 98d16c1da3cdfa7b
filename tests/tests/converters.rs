//! The converters with a real schema registry, and with Confluent's own serializers on the other side.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::id;

use aqueduct_api::{Draft, Edge, Registry, Transform, TransformOpening};
use aqueduct_converters::{Decode, Encode};
use aqueduct_tests::services::{self, SchemaRegistry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

fn open(name: &str, settings: Value) -> Box<dyn Transform> {
    let registry = Registry::default().transform::<Decode>().transform::<Encode>();
    let opening = TransformOpening { folder: PathBuf::from("/"), edge: Edge::real(), trial: None };
    registry.transforms[name].open(settings, opening).unwrap()
}

/// What a converter makes of a value of a topic, or why it makes nothing.
async fn made(transform: &dyn Transform, topic: &str, value: &[u8]) -> Result<Vec<u8>, String> {
    let draft = Draft {
        topic: topic.into(),
        partition: Some(0),
        offset: 0,
        timestamp: 0,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    };
    let mut done = transform.apply(vec![draft]).await.map_err(|error| error.to_string())?;
    match done.drafts.pop() {
        Some(draft) => Ok(draft.value.unwrap().into_owned()),
        None => Err(done.unfit.remove(0).reason),
    }
}

/// The JSON of the order that `converse.py` writes.
fn order(form: &str) -> Value {
    match form {
        "avro" => json!({
            "id": 9_007_199_254_740_993_i64, "note": "é", "total": "-12.50", "placed": "2026-11-21T12:00:00.000Z",
            "day": "2026-11-21", "tags": {"a": {"int": 1}, "b": {"string": "x"}}, "next": null,
        }),
        "protobuf" => json!({"order_id": 9_007_199_254_740_993_i64, "note": "é"}),
        _ => json!({"id": 5}),
    }
}

/// A name that no other run has used on a registry that stays.
fn prefix(registry: &SchemaRegistry, test: &str) -> String {
    format!("{test}-{}-{}", id(), registry.url.len())
}

#[tokio::test]
async fn confluents_serializers_and_ours_read_each_other() {
    let registry = services::schema_registry().await;
    let prefix = prefix(&registry, "both");
    let written = registry.written(&prefix);
    assert_eq!(written.len(), 3);
    let mut ours = BTreeMap::new();
    for (form, (schema, bytes)) in &written {
        let decode = open("decode", json!({"from": form, "registry": {"url": registry.url}}));
        let theirs = STANDARD.decode(bytes).unwrap();
        let found = made(&*decode, "orders", &theirs).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&found).unwrap(), order(form), "{form}");
        let mut settings = json!({"to": form, "schema": schema, "registry": {"url": registry.url}});
        if form == "protobuf" {
            // That library registers a descriptor, and reads no schema that this registry keeps as text.
            settings = json!({"to": form, "version": 1, "message": "shop.Order", "registry": {"url": registry.url}});
        }
        let encode = open("encode", settings);
        let bytes = made(&*encode, &format!("{prefix}-{form}"), order(form).to_string().as_bytes()).await.unwrap();
        assert_eq!(bytes, theirs, "{form}: the same schema, so the same id, and the same bytes");
        ours.insert(form.clone(), STANDARD.encode(bytes));
    }
    let read = registry.read(&prefix, &ours);
    assert_eq!(read["avro"]["id"], order("avro")["id"]);
    assert_eq!(read["avro"]["total"], "-12.50");
    assert_eq!(read["avro"]["placed"], "2026-11-21 12:00:00+00:00");
    assert_eq!(read["avro"]["tags"], json!({"a": 1, "b": "x"}));
    assert_eq!(read["json-schema"], order("json-schema"));
    assert_eq!(read["protobuf"], json!({"order_id": "9007199254740993", "note": "é"}));
}

#[tokio::test]
async fn a_real_registry_gives_the_same_id_and_knows_what_it_does_not_know() {
    let registry = services::schema_registry().await;
    let topic = prefix(&registry, "ids");
    let schema = json!({"type": "record", "name": "User", "fields": [{"name": topic.replace('-', "_"), "type": "long", "default": 5}]});
    let settings = |more: Value| {
        let mut settings = json!({"to": "avro", "registry": {"url": registry.url}});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let text = schema.to_string();
    let looked_up = open("encode", settings(json!({"schema": text, "register": false})));
    let missing = made(&*looked_up, &topic, b"{}").await.unwrap_err();
    assert!(missing.contains("has not the schema of the settings"), "{missing}");
    let first = made(&*open("encode", settings(json!({"schema": text}))), &topic, b"{}").await.unwrap();
    for more in [json!({"schema": text}), json!({"schema": text, "register": false}), json!({"version": 1})] {
        assert_eq!(made(&*open("encode", settings(more.clone())), &topic, b"{}").await.unwrap(), first, "{more}");
    }
    let decode = open("decode", json!({"from": "avro", "registry": {"url": registry.url}}));
    assert!(made(&*decode, &topic, &first).await.is_ok());
    let unknown = made(&*decode, &topic, &[0, 0x7f, 0xff, 0xff, 0xff, 0]).await.unwrap_err();
    assert!(unknown.contains("the schema registry does not know it (404 Not Found"), "{unknown}");
    let wrong = json!({"to": "avro", "schema": text, "registry": {"url": registry.url.replace("ccompat", "nothing")}});
    let wrong = made(&*open("encode", wrong), &topic, b"{}").await.unwrap_err();
    assert!(wrong.contains("look at `registry.url`"), "{wrong}");
}

#[tokio::test]
async fn a_real_registry_gives_what_a_schema_refers_to() {
    let registry = services::schema_registry().await;
    let prefix = prefix(&registry, "referred");
    let at = json!({"url": registry.url});
    let address = r#"{"type":"record","name":"Address","fields":[{"name":"city","type":"string"}]}"#;
    let encode = open(
        "encode",
        json!({"to": "avro", "schema": address, "subject": format!("{prefix}-address"), "registry": at}),
    );
    made(&*encode, "x", br#"{"city":"Bonn"}"#).await.unwrap();
    let user = r#"{"type":"record","name":"User","fields":[{"name":"at","type":"Address"}]}"#;
    let references = json!([{"name": "Address", "subject": format!("{prefix}-address"), "version": 1}]);
    let settings = json!({"to": "avro", "schema": user, "references": references, "registry": at});
    let bytes = made(&*open("encode", settings), &prefix, br#"{"at":{"city":"Bonn"}}"#).await.unwrap();
    let decode = open("decode", json!({"from": "avro", "registry": at}));
    assert_eq!(made(&*decode, &prefix, &bytes).await.unwrap(), br#"{"at":{"city":"Bonn"}}"#);
}
