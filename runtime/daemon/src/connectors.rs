//! The connectors of this binary: one list, and what each says of itself.

use aqueduct_api::{Described, Registry};
use aqueduct_converters::{Decode, Encode};
use aqueduct_elasticsearch::ElasticsearchSettings;
use aqueduct_file::{FileSettings, FileSinkSettings};
use aqueduct_http::{HttpSinkSettings, HttpSourceSettings};
use aqueduct_s3::{S3Settings, S3SourceSettings};
use aqueduct_transforms::{Filter, Route, Vrl};
use serde_json::Value;

/// Every connector that there is.
pub fn registry() -> Registry {
    let connectors = Registry::default().source::<FileSettings>().source::<S3SourceSettings>().sink::<S3Settings>();
    let connectors = connectors.sink::<FileSinkSettings>().sink::<ElasticsearchSettings>();
    let connectors = connectors.source::<HttpSourceSettings>().sink::<HttpSinkSettings>();
    let connectors = connectors.transform::<Decode>().transform::<Encode>();
    connectors.transform::<Filter>().transform::<Route>().transform::<Vrl>()
}

/// Whether a connector brings records in or takes them out, or is a transform between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Brings records in.
    Source,
    /// Takes records out.
    Sink,
    /// Changes them on the way.
    Transform,
}

impl Direction {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::Source => "source",
            Direction::Sink => "sink",
            Direction::Transform => "transform",
        }
    }
}

/// All connectors, sources first, and then the transforms.
pub(crate) fn all(registry: &Registry) -> Vec<(Direction, &dyn Described)> {
    let sources = registry.sources.values().map(|source| (Direction::Source, &**source as &dyn Described));
    let sinks = registry.sinks.values().map(|sink| (Direction::Sink, &**sink as &dyn Described));
    let transforms = registry.transforms.values().map(|kind| (Direction::Transform, &**kind as &dyn Described));
    sources.chain(sinks).chain(transforms).collect()
}

/// A setting, as its schema tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name; of one within another, both with a dot.
    pub(crate) name: String,
    /// What may be written.
    pub(crate) kind: String,
    /// What holds when nothing is written; `required` where something must be.
    pub(crate) default: String,
    /// What it does.
    pub(crate) meaning: String,
}

/// Every setting that a schema declares, in the order of the declaration.
pub(crate) fn settings(schema: &Value) -> Vec<Setting> {
    let mut found = Vec::new();
    collect(schema, schema, "", &mut found);
    found
}

fn collect(schema: &Value, root: &Value, prefix: &str, found: &mut Vec<Setting>) {
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    for (name, declared) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let description = description(declared, root);
        let (meaning, told) = split_default(&description);
        let default = match (told, declared.get("default")) {
            _ if required(name) => "required".to_owned(),
            (Some(told), _) => told,
            (None, Some(Value::String(text))) => text.clone(),
            (None, Some(value)) if !value.is_null() => value.to_string(),
            _ => "none".to_owned(),
        };
        let name = format!("{prefix}{name}");
        let inner = resolved(declared, root);
        found.push(Setting { name: name.clone(), kind: kind(declared, root), default, meaning });
        if inner.get("properties").is_some() {
            collect(inner, root, &format!("{name}."), found);
        }
    }
}

/// What is meant where a schema only refers to something, or allows nothing beside it.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    if let Some(target) = target.and_then(|pointer| root.pointer(pointer)) {
        return resolved(target, root);
    }
    let choices: Vec<&Value> = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten().collect();
    match choices.iter().filter(|choice| choice.get("type") != Some(&Value::from("null"))).collect::<Vec<_>>()[..] {
        [only] => resolved(only, root),
        _ => schema,
    }
}

fn description(schema: &Value, root: &Value) -> String {
    let own = schema.get("description").or_else(|| resolved(schema, root).get("description"));
    own.and_then(Value::as_str).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A meaning ends with what holds when nothing is written: `Default: 8 MiB.`
fn split_default(description: &str) -> (String, Option<String>) {
    match description.rsplit_once("Default: ") {
        Some((meaning, rest)) => {
            let default = rest.strip_suffix('.').unwrap_or(rest);
            (meaning.trim_end().to_owned(), Some(default.to_owned()))
        }
        None => (description.to_owned(), None),
    }
}

fn kind(schema: &Value, root: &Value) -> String {
    let schema = resolved(schema, root);
    if schema.get("x-secret").is_some() {
        return "secret".to_owned();
    }
    let words = |values: &Vec<Value>| values.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words(values);
        return words.join(", ");
    }
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return format!("`{word}`");
    }
    if let Some(choices) = ["oneOf", "anyOf"].iter().find_map(|key| schema.get(key).and_then(Value::as_array)) {
        let mut kinds: Vec<String> = choices.iter().map(|choice| kind(choice, root)).collect();
        kinds.dedup();
        return kinds.join(", ");
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).filter(|it| *it != "null").collect(),
        _ => Vec::new(),
    };
    match types[..] {
        ["string"] => "text".to_owned(),
        ["boolean"] => "`true`, `false`".to_owned(),
        ["integer"] => "whole number".to_owned(),
        ["number"] => "number".to_owned(),
        ["array"] => match schema.get("items") {
            Some(items) => format!("list of {}", kind(items, root)),
            None => "list".to_owned(),
        },
        ["object"] => match schema.get("properties").and_then(Value::as_object) {
            Some(fields) if fields.len() == 1 => {
                let inside = fields.iter().next().map(|(name, of)| format!("{{ {name}: {} }}", kind(of, root)));
                inside.unwrap_or_default()
            }
            _ => "mapping".to_owned(),
        },
        // Values with units say what they are in their description.
        ["string", "integer"] => {
            let told = schema.get("description").and_then(Value::as_str).unwrap_or("text or number");
            told.split(", for example").next().unwrap_or(told).trim_start_matches("a ").to_owned()
        }
        _ => "anything".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_tell_type_default_and_meaning() {
        let schema = json!({
            "$defs": {
                "Size": { "type": ["string", "integer"], "description": "a number of bytes, for example `8 MiB`" },
                "Kind": { "oneOf": [{ "const": "a", "type": "string" }, { "enum": ["b", "c"], "type": "string" }] },
                "Inner": { "type": "object", "properties": { "x": { "type": "integer", "description": "An x." } , "y": {"type": "string"}} },
            },
            "properties": {
                "url": { "type": "string", "description": "Where\nto." },
                "size": { "$ref": "#/$defs/Size", "description": "How large. Default: 8 MiB." },
                "kind": { "anyOf": [{ "$ref": "#/$defs/Kind" }, { "type": "null" }] },
                "names": { "type": "array", "items": { "type": "string" }, "default": [] },
                "inner": { "$ref": "#/$defs/Inner" },
            },
            "required": ["url"],
        });
        let setting = |name: &str, kind: &str, default: &str, meaning: &str| Setting {
            name: name.into(),
            kind: kind.into(),
            default: default.into(),
            meaning: meaning.into(),
        };
        assert_eq!(
            settings(&schema),
            [
                setting("url", "text", "required", "Where to."),
                setting("size", "number of bytes", "8 MiB", "How large."),
                setting("kind", "`a`, `b`, `c`", "none", ""),
                setting("names", "list of text", "[]", ""),
                setting("inner", "mapping", "none", ""),
                setting("inner.x", "whole number", "none", "An x."),
                setting("inner.y", "text", "none", ""),
            ]
        );
    }

    #[test]
    fn every_setting_of_every_connector_has_a_meaning() {
        for (_, connector) in all(&registry()) {
            for setting in settings(&connector.schema().to_value()) {
                assert!(!setting.meaning.is_empty(), "{}: {}", connector.name(), setting.name);
                assert_ne!(setting.kind, "anything", "{}: {}", connector.name(), setting.name);
            }
        }
    }
}
