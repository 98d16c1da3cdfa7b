//! What must never be shown, and the one place that hides it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::tree::{Entry, Kind, Node};

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
        if depth > DEEPEST {
            return;
        }
        let mut says = Says::default();
        says.gather(node, schema, root, depth);
        if says.hold.iter().any(|schema| is_secret(schema)) {
            match &node.kind {
                Kind::Text(text) => self.remember(text),
                Kind::Number(number) => self.remember(&number.to_string()),
                _ => {}
            }
        }
        if let Kind::List(items) = &node.kind {
            for of in says.hold.iter().filter_map(|schema| schema.get("items")) {
                items.iter().for_each(|item| self.walk(item, of, root, depth + 1));
            }
        }
        for entry in node.entries() {
            let declared = says.of(&entry.key);
            if declared.is_empty() && says.hold.iter().any(|schema| schema.get("properties").is_some()) {
                self.unknown(entry, &says.hold, root, depth);
            }
            declared.into_iter().for_each(|declared| self.walk(&entry.value, declared, root, depth + 1));
        }
    }

    /// A mistyped key may have been meant for a secret: what it holds is hidden as under the nearest key, or all of it where
    /// there is none.
    fn unknown(&self, entry: &Entry, hold: &[&Value], root: &Value, depth: usize) {
        let all = || hold.iter().filter_map(|schema| schema.get("properties")?.as_object()).flatten();
        let Some(meant) = crate::problems::nearest(&entry.key, all().map(|(key, _)| key.as_str())) else {
            return self.remember_all(&entry.value);
        };
        for (_, schema) in all().filter(|(key, of)| *key == meant && mentions_secret(of, root)) {
            match &entry.value.kind {
                Kind::Text(text) => self.remember(text),
                _ => self.walk(&entry.value, schema, root, depth + 1),
            }
        }
    }

    fn remember_all(&self, node: &Node) {
        match &node.kind {
            Kind::Text(text) => self.remember(text),
            Kind::List(items) => items.iter().for_each(|item| self.remember_all(item)),
            _ => node.entries().iter().for_each(|entry| self.remember_all(&entry.value)),
        }
    }
}

/// How deep schemas are followed.
const DEEPEST: usize = 64;

/// The parts of a schema that say something of a node.
#[derive(Default)]
struct Says<'a> {
    /// Those that hold: of choices the one that the node's tag names, or all where there is no telling.
    hold: Vec<&'a Value>,
    /// Choices that the tag does not name: a key that only they have is theirs.
    others: Vec<&'a Value>,
}

impl<'a> Says<'a> {
    fn gather(&mut self, node: &Node, schema: &'a Value, root: &'a Value, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        self.hold.push(schema);
        if let Some(target) = referred(schema, root) {
            self.gather(node, target, root, depth + 1);
        }
        let parts = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
        parts("allOf").for_each(|part| self.gather(node, part, root, depth + 1));
        for key in ["anyOf", "oneOf"] {
            let (named, others): (Vec<_>, Vec<_>) = parts(key).partition(|choice| is_named(node, choice, root));
            let (chosen, others) = if named.is_empty() { (others, named) } else { (named, others) };
            chosen.into_iter().for_each(|choice| self.gather(node, choice, root, depth + 1));
            self.others.extend(others.into_iter().map(|choice| referred(choice, root).unwrap_or(choice)));
        }
    }

    /// What is said of the value of a key.
    fn of(&self, key: &str) -> Vec<&'a Value> {
        let declared = |schemas: &[&'a Value]| -> Vec<&'a Value> {
            schemas.iter().filter_map(|schema| schema.get("properties")?.get(key)).collect()
        };
        let any = || self.hold.iter().filter_map(|schema| schema.get("additionalProperties"));
        [declared(&self.hold), declared(&self.others), any().filter(|others| others.is_object()).collect()]
            .into_iter()
            .find(|said| !said.is_empty())
            .unwrap_or_default()
    }
}

fn referred<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    let pointer = schema.get("$ref").and_then(Value::as_str)?;
    root.pointer(pointer.strip_prefix('#')?)
}

fn is_secret(schema: &Value) -> bool {
    schema.get("x-secret").and_then(Value::as_bool) == Some(true)
}

/// Whether a node says that it is this choice: by the word that it is, by the only key that the choice has, or by the word
/// under a key that tells the choices apart.
fn is_named(node: &Node, choice: &Value, root: &Value) -> bool {
    let choice = referred(choice, root).unwrap_or(choice);
    let is_word = |schema: &Value, node: &Node| match &node.kind {
        Kind::Text(text) => {
            let words = schema.get("enum").and_then(Value::as_array);
            let mut words = schema.get("const").into_iter().chain(words.into_iter().flatten());
            words.any(|word| word.as_str() == Some(text))
        }
        _ => false,
    };
    let properties = choice.get("properties").and_then(Value::as_object);
    let required = choice.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let is_tag = |key: &str| {
        let value = node.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let declared = properties.and_then(|properties| properties.get(key));
        let is_only_key = properties.is_some_and(|properties| properties.len() == 1);
        value.zip(declared).is_some_and(|(value, declared)| is_only_key || is_word(declared, value))
    };
    is_word(choice, node) || required.into_iter().any(is_tag)
}

/// Whether a secret may stand somewhere under a schema.
fn mentions_secret(schema: &Value, root: &Value) -> bool {
    let (mut open, mut seen) = (vec![schema], BTreeSet::new());
    while let Some(schema) = open.pop() {
        let text = schema.to_string();
        if text.contains("x-secret") {
            return true;
        }
        let definitions = root.get("$defs").and_then(Value::as_object).into_iter().flatten();
        for (name, of) in definitions.filter(|(name, _)| text.contains(&format!("\"#/$defs/{name}\""))) {
            if seen.insert(name) {
                open.push(of);
            }
        }
    }
    false
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

    fn shown(schema: &Value, yaml: &str, text: &str) -> String {
        let document = Arc::new(Document { name: "a.yaml".to_owned(), text: yaml.to_owned() });
        let secrets = Secrets::default();
        secrets.remember_marked(&crate::yaml::parse(&document).0.unwrap(), schema);
        secrets.hide(text).into_owned()
    }

    #[test]
    fn of_choices_the_one_that_is_named_says_what_is_secret() {
        let schema = json!({
            "$defs": {
                "Secret": { "type": "string", "x-secret": true },
                "Basic": { "properties": { "user": {}, "password": { "$ref": "#/$defs/Secret" } }, "required": ["user"] },
            },
            "properties": {
                "by-key": { "oneOf": [
                    { "const": "none" },
                    { "properties": { "basic": { "$ref": "#/$defs/Basic" } }, "required": ["basic"] },
                    { "properties": { "bearer": { "$ref": "#/$defs/Secret" } }, "required": ["bearer"] },
                    { "$ref": "#/$defs/Secret" },
                ] },
                "by-word": {
                    "properties": { "url": {} },
                    "oneOf": [
                        { "properties": { "type": { "const": "basic" }, "user": {}, "password": { "$ref": "#/$defs/Secret" } },
                          "required": ["type"] },
                        { "properties": { "type": { "const": "token" }, "role": {}, "typing": { "$ref": "#/$defs/Secret" } },
                          "required": ["type"] },
                    ],
                },
                "untold": { "anyOf": [
                    { "properties": { "a-word": { "$ref": "#/$defs/Secret" } } },
                    { "properties": { "b-word": {} } },
                ] },
            },
        });
        for (yaml, text, expected) in [
            // What the other choices do not know is no misspelt secret.
            (
                "by-word: { type: basic, user: alice, password: hunter2, url: http }",
                "basic alice hunter2 http",
                "basic alice *** http",
            ),
            (
                "by-word: { type: token, role: admin, typing: hunter2, url: http }",
                "token admin hunter2 http",
                "token admin *** http",
            ),
            ("by-key: { basic: { user: alice, password: hunter2 } }", "alice hunter2", "alice ***"),
            ("by-key: { bearer: hunter2 }", "bearer hunter2", "bearer ***"),
            ("by-key: none", "none", "none"),
            ("by-key: hunter2", "hunter2", "***"),
            // A secret under the wrong choice, or none, or misspelt, is one all the same.
            ("by-word: { type: basic, user: alice, typing: hunter2 }", "alice hunter2", "alice ***"),
            ("by-word: { type: bsic, pasword: hunter2, password: swordfish }", "hunter2 swordfish", "*** ***"),
            ("by-word: { password: hunter2, typing: swordfish }", "hunter2 swordfish", "*** ***"),
            ("by-key: { basic: { user: alice }, bearer: hunter2 }", "alice hunter2", "alice ***"),
            ("by-key: { basic: { user: alice }, baerer: hunter2 }", "alice hunter2", "alice ***"),
            ("by-key: { basci: hunter2 }", "hunter2", "***"),
            ("untold: { a-word: hunter2, b-word: fine }", "hunter2 fine", "*** fine"),
        ] {
            assert_eq!(shown(&schema, yaml, text), expected, "{yaml}");
        }
    }

    #[test]
    fn no_secret_of_a_connector_escapes_and_nothing_beside_it_is_hidden() {
        let registry = crate::connectors::registry();
        let schema = |name: &str| registry.sinks[name].schema().to_value();
        let http = schema("http");
        for (schema, yaml, expected) in [
            (
                &http,
                "url: http://there/\nauthentication: { basic: { username: alice, password: hunter2 } }",
                "http://there/ alice ***",
            ),
            (
                &http,
                "url: http://there/\nauthentcation: { basic: { username: alice, password: hunter2 } }",
                "http://there/ alice ***",
            ),
            (&http, "url: http://there/\nxyz: { u: [{ v: hunter2 }] }", "http://there/ alice ***"),
        ] {
            assert_eq!(shown(schema, yaml, "http://there/ alice hunter2"), expected, "{yaml}");
        }
    }
}
