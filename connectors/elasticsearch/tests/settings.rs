//! What is wrong with settings is told before anything is sent.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use aqueduct_api::Settings as _;
use aqueduct_elasticsearch::ElasticsearchSettings;
use serde_json::{Value, json};

fn problems(more: Value) -> Vec<String> {
    let mut settings = json!({ "url": "https://search:9200" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let settings: ElasticsearchSettings = serde_json::from_value(settings).unwrap();
    settings.problems().into_iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect()
}

#[test]
fn problems_name_the_setting_and_what_would_be_right() {
    for (settings, expected) in [
        (json!({ "url": [] }), "url: names no node"),
        (json!({ "url": "search:9200" }), "url: `search:9200` is no address"),
        (json!({ "url": "https://me:pass@search:9200" }), "url: user and password stand in settings of their own"),
        (json!({ "url": "https://search:9200/?pretty" }), "url: `https://search:9200/?pretty` says more than a place"),
        (json!({ "index": "{topik}" }), "index: unknown placeholder `{topik}`"),
        (json!({ "id": "random" }), "id: `random` is unknown, expected `offset`, `key`"),
        (json!({ "routing": "{value}" }), "routing: a whole value is no part of it"),
        (json!({ "on-null": "delete" }), "on-null: `delete` needs to know which document"),
        (
            json!({ "id": "key", "on-null": "delete", "operation": "create" }),
            "on-null: `delete` and `operation: create`",
        ),
        (json!({ "pipeline": "p", "operation": "upsert" }), "pipeline: does not see what is merged"),
        (json!({ "request-records": 0 }), "request-records: 0 is out of range"),
        (json!({ "timeout": "-1" }), "timeout: must be longer than nothing, and end"),
        (json!({ "username": "me" }), "password: is missing beside `username`"),
        (json!({ "api-key": "a", "bearer-token": "b" }), "bearer-token: and `api-key` exclude each other"),
        (json!({ "tls": { "certificate": "c.pem" } }), "tls.key: is missing beside `tls.certificate`"),
    ] {
        let found = problems(settings.clone());
        assert!(matches!(&found[..], [problem] if problem.starts_with(expected)), "{settings}: {found:?}");
    }
    for fine in [
        json!({ "pipeline": "p", "operation": "create" }),
        json!({ "id": "{field:user.id}", "on-null": "delete", "operation": "upsert", "routing": "{key}" }),
    ] {
        assert_eq!(problems(fine.clone()), [] as [String; 0], "{fine}");
    }
}
