//! The JSON Schema of a configuration, for editors: what `config` declares, with the settings of each connector.

use aqueduct_api::Registry;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::connectors::{self, Direction};

/// The schema of everything that a configuration may say.
pub(crate) fn schema(registry: &Registry) -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = json!("Aqueduct");
    // Sections in which everything is commented out are taken, so editors must take them too.
    for section in schema["properties"].as_object_mut().into_iter().flat_map(|sections| sections.values_mut()) {
        if section.get("type") == Some(&json!("object")) {
            section["type"] = json!(["object", "null"]);
        }
    }
    for (direction, connector) in connectors::all(registry) {
        let name = format!("{}.{}", direction.name(), connector.name());
        let mut settings = connector.schema().to_value();
        let inner = settings.as_object_mut().and_then(|fields| {
            fields.shift_remove("$schema");
            fields.shift_remove("$defs")
        });
        let Some(definitions) = schema["$defs"].as_object_mut() else { continue };
        for (inner_name, mut definition) in inner.and_then(|inner| inner.as_object().cloned()).unwrap_or_default() {
            rename_references(&mut definition, &name);
            definitions.insert(format!("{name}.{inner_name}"), definition);
        }
        rename_references(&mut settings, &name);
        definitions.insert(name.clone(), settings);
        let (plan, declare): (_, fn(&mut Value, &str, &str)) = match direction {
            Direction::Source => ("SourcePlan", declare),
            Direction::Sink => ("SinkPlan", declare),
            Direction::Transform => ("TransformPlan", declare_transform),
        };
        if let Some(plan) = definitions.get_mut(plan) {
            declare(plan, connector.name(), &name);
        }
    }
    schema
}

/// Says that with this `connector:` the settings are those of the definition.
fn declare(plan: &mut Value, connector: &str, definition: &str) {
    let kind = &mut plan["properties"]["connector"];
    match kind.get_mut("enum").and_then(Value::as_array_mut) {
        Some(names) => names.push(json!(connector)),
        None => kind["enum"] = json!([connector]),
    }
    let rule = json!({
        "if": { "properties": { "connector": { "const": connector } } },
        "then": { "properties": { "settings": { "$ref": format!("#/$defs/{definition}") } } },
    });
    match plan.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(rules) => rules.push(rule),
        None => plan["allOf"] = json!([rule]),
    }
}

/// Says that the transform's settings are those of the definition.
fn declare_transform(plan: &mut Value, transform: &str, definition: &str) {
    plan["additionalProperties"] = json!(false);
    plan["properties"][transform] = json!({ "$ref": format!("#/$defs/{definition}") });
}

fn rename_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(fields) => {
            rename_reference(fields, prefix);
            fields.values_mut().for_each(|field| rename_references(field, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, prefix)),
        _ => {}
    }
}

fn rename_reference(fields: &mut Map<String, Value>, prefix: &str) {
    let Some(Value::String(reference)) = fields.get_mut("$ref") else { return };
    if let Some(name) = reference.strip_prefix("#/$defs/") {
        *reference = format!("#/$defs/{prefix}.{name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in a schema.
    fn references(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_connector_is_there() {
        let schema = schema(&connectors::registry());
        let mut found = Vec::new();
        references(&schema, &mut found);
        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(schema.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        assert!(found.contains(&"#/$defs/source.file".to_owned()), "{found:?}");
        assert!(found.contains(&"#/$defs/sink.s3".to_owned()), "{found:?}");
        assert!(found.contains(&"#/$defs/transform.vrl".to_owned()), "{found:?}");
        assert_eq!(
            schema["$defs"]["SinkPlan"]["properties"]["connector"]["enum"],
            json!(["elasticsearch", "file", "http", "s3"])
        );
    }
}
