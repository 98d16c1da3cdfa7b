//! JSON Schema: what a value that goes out must fit.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

use crate::schema::{Referred, Wrong, json};

/// What relative references of a schema without an `$id` start at.
const BASE: &str = "schema:///";

/// Reads a schema.
///
/// # Errors
/// What is wrong, and where.
pub(crate) fn compile(text: &str, referred: &[Referred]) -> Result<Validator, Wrong> {
    let schema = json(text)?;
    let mut known = HashMap::new();
    for one in referred {
        let told = |wrong: Wrong| Wrong::from(format!("the referred schema {}: {}", one.name, wrong.message));
        known.insert(one.name.clone(), json(&one.text).map_err(told)?);
    }
    // A regular expression that takes exponential time must not come in with a schema.
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    let built = options.with_base_uri(BASE).with_retriever(Known(known)).build(&schema);
    built.map_err(|cause| Wrong::from(format!("{cause}{}", place(cause.instance_path().as_str()))))
}

/// Schemas that the registry was asked for before; nothing else is looked for.
struct Known(HashMap<String, Value>);

impl Retrieve for Known {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let uri = uri.as_str();
        let name = uri.strip_prefix(BASE).unwrap_or(uri);
        // A reference may be relative to the `$id` of the schema that has it.
        let found = self.0.get(name).or_else(|| {
            let by_end = |(known, _): &(&String, &Value)| uri.ends_with(&format!("/{known}"));
            self.0.iter().find(by_end).map(|(_, schema)| schema)
        });
        found.cloned().ok_or_else(|| format!("`{name}` is not among the references of the schema").into())
    }
}

/// Whether JSON fits the schema.
///
/// # Errors
/// Why not, and where.
pub(crate) fn check(validator: &Validator, json: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(json).map_err(|cause| format!("is no JSON: {cause}"))?;
    let checked = validator.validate(&value);
    checked.map_err(|wrong| {
        let told: String = wrong.masked().to_string();
        format!("does not fit the schema: {told}{}", place(wrong.instance_path().as_str()))
    })
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at {path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referred(name: &str, text: &str) -> Referred {
        Referred { name: name.into(), text: text.into() }
    }

    #[test]
    fn values_fit_or_say_where_they_do_not() {
        let schema = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"at":{"$ref":"address.json"}}}"#;
        let validator =
            compile(schema, &[referred("address.json", r#"{"type":"object","required":["city"]}"#)]).unwrap();
        assert_eq!(check(&validator, br#"{"id":5,"at":{"city":"Bonn"}}"#), Ok(()));
        for (json, part) in [
            (&br#"{"id":"x"}"#[..], "at /id"),
            (br#"{"id":5,"at":{}}"#, "at /at"),
            (b"{}", "\"id\" is a required property"),
            (b"{", "is no JSON"),
        ] {
            let reason = check(&validator, json).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn schemas_that_are_none_say_so() {
        for (schema, part) in [
            ("{", "EOF"),
            (r#"{"type":"strin"}"#, "strin"),
            (r#"{"$ref":"other.json"}"#, "`other.json` is not among the references"),
            (r#"{"$ref":"https://example.com/x.json"}"#, "not among the references"),
        ] {
            let Wrong { message, .. } = compile(schema, &[]).unwrap_err();
            assert!(message.contains(part), "{schema}: {message}");
        }
        assert_eq!(compile("{\n  x", &[]).unwrap_err().at, Some((2, 3)));
        assert!(compile(r#"{"$id":"https://e.com/a/b.json","$ref":"c.json"}"#, &[referred("c.json", "{}")]).is_ok());
        assert!(compile(r#"{"$ref":"https://e.com/c.json"}"#, &[referred("https://e.com/c.json", "{}")]).is_ok());
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_followed_as_far_as_the_value_goes() {
        let tree = r##"{"type":"object","properties":{"left":{"$ref":"#"}}}"##;
        let validator = compile(tree, &[]).unwrap();
        assert_eq!(check(&validator, br#"{"left":{"left":{}}}"#), Ok(()));
    }

    #[test]
    fn a_schema_that_is_nothing_but_itself_ends() {
        for schema in [r##"{"$ref":"#"}"##, r##"{"allOf":[{"$ref":"#"}]}"##] {
            if let Ok(validator) = compile(schema, &[]) {
                let _ = check(&validator, b"{}");
            }
        }
    }
}
