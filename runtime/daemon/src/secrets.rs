//! What must never be shown, and the one place that hides it.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::yaml::{Kind, Node};

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Shorter ones would be found in innocent text.
const SHORTEST: usize = 4;

/// Values that are never shown: whatever a reference stands for, and settings of the type `Secret`. Everything that the
/// daemon and the command line put out goes through [`Secrets::hide`].
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<RwLock<Vec<String>>>);

impl Secrets {
    /// Remembers a value that is never shown from now on.
    pub(crate) fn remember(&self, value: &str) {
        if value.len() < SHORTEST {
            return;
        }
        let quoted = Value::from(value).to_string();
        let escaped = &quoted[1..quoted.len() - 1];
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in [value, value.trim(), escaped] {
            if form.len() >= SHORTEST && !known.iter().any(|known| known == form) {
                known.push(form.to_owned());
            }
        }
        // The longest first: a secret within a secret must not leave the rest of the longer one.
        known.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    /// The text without what must not be shown.
    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Cow::Borrowed(text);
        for secret in known.iter() {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(shown.replace(secret.as_str(), HIDDEN));
            }
        }
        shown
    }

    /// The value without what must not be shown in any of its texts.
    pub(crate) fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(shown) = self.hide(text) {
                    *text = shown;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.hide_in(field)),
            _ => {}
        }
    }

    /// Remembers every value of `settings` that the schema of its connector marks as secret.
    pub(crate) fn remember_marked(&self, settings: &Node, schema: &Value) {
        self.walk(settings, schema, schema, 0);
    }

    fn walk(&self, node: &Node, schema: &Value, root: &Value, depth: usize) {
        if depth > 64 {
            return;
        }
        if schema.get("x-secret").and_then(Value::as_bool) == Some(true) {
            match &node.kind {
                Kind::Text(text) => self.remember(text),
                Kind::Number(number) => self.remember(&number.to_string()),
                _ => {}
            }
        }
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'))
            && let Some(target) = root.pointer(pointer)
        {
            self.walk(node, target, root, depth + 1);
        }
        for choices in ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema.get(key).and_then(Value::as_array)) {
            choices.iter().for_each(|choice| self.walk(node, choice, root, depth + 1));
        }
        if let (Kind::List(items), Some(of)) = (&node.kind, schema.get("items")) {
            items.iter().for_each(|item| self.walk(item, of, root, depth + 1));
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for entry in node.entries() {
            let declared = properties.and_then(|properties| properties.get(&entry.key));
            let others = schema.get("additionalProperties").filter(|others| others.is_object());
            if let Some(declared) = declared.or(others) {
                self.walk(&entry.value, declared, root, depth + 1);
            } else if let Some(properties) = properties {
                self.unknown(entry, properties, root);
            }
        }
    }

    /// A mistyped key may have been meant for a secret: what it holds is hidden unless the nearest key is none.
    fn unknown(&self, entry: &crate::yaml::Entry, properties: &serde_json::Map<String, Value>, root: &Value) {
        let meant = crate::problems::nearest(&entry.key, properties.keys().map(String::as_str));
        let innocent = meant.is_some_and(|meant| !mentions_secret(&properties[meant], root));
        if let (false, Kind::Text(text)) = (innocent, &entry.value.kind) {
            self.remember(text);
        }
    }
}

fn mentions_secret(schema: &Value, root: &Value) -> bool {
    let text = schema.to_string();
    let refers = |name: &String| text.contains(&format!("\"#/$defs/{name}\""));
    let definitions = root.get("$defs").and_then(Value::as_object);
    let through =
        definitions.into_iter().flatten().any(|(name, of)| refers(name) && of.to_string().contains("x-secret"));
    through || text.contains("x-secret")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::problems::Document;

    #[test]
    fn what_is_remembered_is_hidden_in_every_form() {
        let secrets = Secrets::default();
        secrets.remember("hunter2");
        secrets.remember("hunter2-and-more");
        secrets.remember("line\n\"two\"\n");
        secrets.remember("abc");
        assert_eq!(secrets.hide("user:hunter2@host, hunter2-and-more"), "user:***@host, ***");
        assert_eq!(secrets.hide(r#"{"x":"line\n\"two\"\n"}"#), r#"{"x":"***"}"#);
        assert_eq!(secrets.hide("abc"), "abc");
        let mut value = json!({"a": ["hunter2", 5], "b": {"c": "is hunter2"}});
        secrets.hide_in(&mut value);
        assert_eq!(value, json!({"a": ["***", 5], "b": {"c": "is ***"}}));
    }

    #[test]
    fn settings_that_the_schema_marks_are_remembered_and_so_are_misspelt_ones() {
        let schema = json!({
            "$defs": { "Secret": { "type": "string", "x-secret": true } },
            "properties": {
                "url": { "type": "string" },
                "password": { "anyOf": [{ "$ref": "#/$defs/Secret" }, { "type": "null" }] },
                "headers": { "type": "object", "additionalProperties": { "$ref": "#/$defs/Secret" } },
            },
            "additionalProperties": false,
        });
        let text = "url: s3://bucket\npassword: hunter2\npasword: misspelt\nulr: innocent\nheaders: { a: bearer }\n";
        let document = Arc::new(Document { name: "a.yaml".to_owned(), text: text.to_owned() });
        let node = crate::yaml::parse(&document).0.unwrap();
        let secrets = Secrets::default();
        secrets.remember_marked(&node, &schema);
        let shown = secrets.hide("s3://bucket hunter2 misspelt innocent bearer").into_owned();
        assert_eq!(shown, "s3://bucket *** *** innocent ***");
    }
}
