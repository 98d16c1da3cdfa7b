//! The schema of formats with columns: what people write, and what a column holds.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A field of a schema.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Field {
    /// Its name in the JSON value, and its column's.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether a record without it is a dead letter. Default: false, it is null there.
    #[serde(default)]
    pub required: bool,
}

impl Field {
    /// A field that may be missing.
    pub(crate) fn optional(name: impl Into<String>, kind: Kind) -> Self {
        Field { name: name.into(), kind, required: false }
    }
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number of 32 bits, rounded to it.
    Float,
    /// A number of 64 bits.
    Double,
    /// A string.
    String,
    /// A string as it is, and anything else as its JSON text.
    Text,
    /// A string of base64, as the bytes that it stands for.
    Bytes,
    /// A string such as `2026-05-12`.
    Date,
    /// A string such as `2026-05-12T10:30:00.123456+02:00`, or a number of milliseconds since 1970; kept in
    /// microseconds, UTC.
    Timestamp,
    /// A number, or a string of one, that has at most so many digits.
    Decimal {
        /// How many digits altogether, up to 38.
        precision: u8,
        /// How many of them behind the point.
        scale: u8,
    },
    /// A list of what is named.
    List(Box<Kind>),
    /// An object with any names, whose values are of one type.
    Map(Box<Kind>),
    /// An object with these fields; others are left out.
    Struct(Vec<Field>),
}

/// One choice of words and one of mappings, so that what reads a schema need not guess which mapping is meant.
impl JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let words = ["boolean", "int32", "int64", "float", "double", "string", "text", "bytes", "date", "timestamp"];
        let (kind, fields) = (generator.subschema_for::<Kind>(), generator.subschema_for::<Vec<Field>>());
        let digits = json_schema!({ "type": "integer", "minimum": 0, "maximum": 38 });
        let decimal = json_schema!({
            "type": "object",
            "properties": { "precision": digits, "scale": digits },
            "required": ["precision", "scale"],
            "additionalProperties": false,
        });
        json_schema!({
            "description": "What a field holds.",
            "anyOf": [
                { "type": "string", "enum": words },
                {
                    "type": "object",
                    "properties": { "list": kind, "map": kind, "struct": fields, "decimal": decimal },
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Boolean => "boolean",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::String => "string",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::Date => "date",
            Kind::Timestamp => "timestamp",
            Kind::Decimal { precision, scale } => return write!(f, "decimal({precision}, {scale})"),
            Kind::List(_) => "list",
            Kind::Map(_) => "map",
            Kind::Struct(_) => "struct",
        })
    }
}

/// How deep types may lie in each other.
const DEEPEST: usize = 32;

/// What is wrong with fields, by their path.
pub(crate) fn problems(fields: &[Field]) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    look(fields, "", 0, &mut problems);
    problems
}

fn look(fields: &[Field], path: &str, depth: usize, problems: &mut Vec<(String, String)>) {
    if fields.is_empty() {
        problems.push((path.to_owned(), "names no field".to_owned()));
    }
    for (at, field) in fields.iter().enumerate() {
        let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        if field.name.is_empty() {
            problems.push((path.clone(), "a field has no name".to_owned()));
        }
        if fields[..at].iter().any(|earlier| earlier.name == field.name) {
            problems.push((path.clone(), "is named twice".to_owned()));
        }
        look_at(&field.kind, &path, depth + 1, problems);
    }
}

fn look_at(kind: &Kind, path: &str, depth: usize, problems: &mut Vec<(String, String)>) {
    if depth > DEEPEST {
        problems.push((path.to_owned(), format!("lies deeper than {DEEPEST} levels")));
        return;
    }
    match kind {
        Kind::Decimal { precision, scale } if !(1..=38).contains(precision) || scale > precision => {
            problems.push((path.to_owned(), "expected a precision of 1 to 38 and a scale of at most that".to_owned()));
        }
        Kind::List(inner) | Kind::Map(inner) => look_at(inner, path, depth + 1, problems),
        Kind::Struct(fields) => look(fields, path, depth + 1, problems),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(value: Value) -> Vec<Field> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn types_are_written_as_people_would() {
        let found = fields(json!([
            {"name": "id", "type": "int64", "required": true},
            {"name": "price", "type": {"decimal": {"precision": 10, "scale": 2}}},
            {"name": "tags", "type": {"list": "string"}},
            {"name": "user", "type": {"struct": [{"name": "name", "type": "text"}]}},
            {"name": "labels", "type": {"map": {"list": "double"}}},
        ]));
        assert_eq!(problems(&found), []);
        assert_eq!(found[0], Field { name: "id".into(), kind: Kind::Int64, required: true });
        assert_eq!(found[4].kind, Kind::Map(Box::new(Kind::List(Box::new(Kind::Double)))));
    }

    #[test]
    fn problems_name_the_field() {
        let mut deep = json!("int32");
        for _ in 0..40 {
            deep = json!({ "list": deep });
        }
        for (wrong, path, part) in [
            (json!([]), "", "names no field"),
            (json!([{"name": "", "type": "int32"}]), "", "has no name"),
            (json!([{"name": "a", "type": "int32"}, {"name": "a", "type": "date"}]), "a", "twice"),
            (json!([{"name": "a", "type": {"struct": []}}]), "a", "names no field"),
            (json!([{"name": "a", "type": {"decimal": {"precision": 39, "scale": 1}}}]), "a", "precision"),
            (json!([{"name": "a", "type": {"struct": [{"name": "b", "type": deep}]}}]), "a.b", "deeper"),
        ] {
            let found = problems(&fields(wrong));
            assert!(found.iter().any(|(at, why)| at == path && why.contains(part)), "{found:?}");
        }
    }
}
