//! The schema of an Avro object: <https://avro.apache.org/docs/1.12.0/specification/>.

use std::collections::HashMap;

use serde_json::Value;

use crate::cells::Name;
use crate::instant::Unit;

/// A schema: its types, which name each other by their index, as they may be recursive.
#[derive(Debug, Default)]
pub(crate) struct AvroSchema {
    types: Vec<AvroType>,
    named: HashMap<String, usize>,
    root: usize,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AvroType {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    /// Days since 1970.
    Date,
    /// A time of day: an `int` of milliseconds, else a `long`.
    TimeOfDay(Unit),
    /// A point in time, and whether it is UTC.
    Instant(Unit, bool),
    /// A decimal number with so many digits behind the point; of fixed bytes or as they come.
    Decimal(Option<usize>, usize),
    Fixed(usize),
    /// 16 bytes.
    Uuid,
    /// Months, days and milliseconds in 12 bytes.
    Duration,
    Enum(Vec<String>),
    List(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(Name, usize)>),
}

/// The most types of a schema.
const MOST: usize = 100_000;

impl AvroSchema {
    /// Reads a schema, or says what is wrong with it.
    pub(crate) fn parse(text: &[u8]) -> Result<AvroSchema, String> {
        let schema: Value = serde_json::from_slice(text).map_err(|cause| format!("its schema is not JSON: {cause}"))?;
        let mut found = AvroSchema::default();
        found.root = found.read(&schema, "")?;
        Ok(found)
    }

    /// The type of the object's values.
    pub(crate) fn root(&self) -> usize {
        self.root
    }

    /// A type.
    pub(crate) fn get(&self, index: usize) -> &AvroType {
        &self.types[index]
    }

    fn add(&mut self, found: AvroType) -> Result<usize, String> {
        if self.types.len() >= MOST {
            return Err(format!("its schema has more than {MOST} types"));
        }
        self.types.push(found);
        Ok(self.types.len() - 1)
    }

    fn read(&mut self, schema: &Value, space: &str) -> Result<usize, String> {
        match schema {
            Value::String(name) => self.by_name(name, space, schema),
            Value::Array(kinds) => {
                let kinds = kinds.iter().map(|kind| self.read(kind, space)).collect::<Result<_, _>>()?;
                self.add(AvroType::Union(kinds))
            }
            Value::Object(fields) => match fields.get("type") {
                Some(Value::String(kind)) => self.by_name(kind, space, schema),
                Some(inner) => self.read(inner, space),
                None => Err(wrong(schema)),
            },
            _ => Err(wrong(schema)),
        }
    }

    fn by_name(&mut self, name: &str, space: &str, schema: &Value) -> Result<usize, String> {
        let logical = schema.get("logicalType").and_then(Value::as_str).unwrap_or_default();
        let scale = || schema.get("scale").and_then(Value::as_u64).unwrap_or(0) as usize;
        let found = match (name, logical) {
            ("null", _) => AvroType::Null,
            ("boolean", _) => AvroType::Boolean,
            ("int", "date") => AvroType::Date,
            ("int", "time-millis") => AvroType::TimeOfDay(Unit::Millis),
            ("int", _) => AvroType::Int,
            ("long", "time-micros") => AvroType::TimeOfDay(Unit::Micros),
            ("long", "timestamp-millis") => AvroType::Instant(Unit::Millis, true),
            ("long", "timestamp-micros") => AvroType::Instant(Unit::Micros, true),
            ("long", "timestamp-nanos") => AvroType::Instant(Unit::Nanos, true),
            ("long", "local-timestamp-millis") => AvroType::Instant(Unit::Millis, false),
            ("long", "local-timestamp-micros") => AvroType::Instant(Unit::Micros, false),
            ("long", "local-timestamp-nanos") => AvroType::Instant(Unit::Nanos, false),
            ("long", _) => AvroType::Long,
            ("float", _) => AvroType::Float,
            ("double", _) => AvroType::Double,
            ("bytes", "decimal") => AvroType::Decimal(None, scale()),
            ("bytes", _) => AvroType::Bytes,
            ("string", _) => AvroType::Text,
            ("array", _) => {
                let items = self.read(schema.get("items").ok_or_else(|| wrong(schema))?, space)?;
                AvroType::List(items)
            }
            ("map", _) => {
                let values = self.read(schema.get("values").ok_or_else(|| wrong(schema))?, space)?;
                AvroType::Map(values)
            }
            ("record" | "error" | "enum" | "fixed", _) => return self.define(name, logical, space, schema),
            _ => {
                let names = [full(name, space), name.to_owned()];
                let found = names.iter().find_map(|name| self.named.get(name).copied());
                return found.ok_or_else(|| format!("its schema names the unknown type `{name}`"));
            }
        };
        self.add(found)
    }

    /// A type that has a name.
    fn define(&mut self, kind: &str, logical: &str, space: &str, schema: &Value) -> Result<usize, String> {
        let name = schema.get("name").and_then(Value::as_str).ok_or_else(|| wrong(schema))?;
        let space = schema.get("namespace").and_then(Value::as_str).unwrap_or(space);
        let name = full(name, space);
        let space = name.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
        // It may be named within itself.
        let index = self.add(AvroType::Null)?;
        self.named.insert(name, index);
        self.types[index] = match kind {
            "enum" => {
                let symbols = schema.get("symbols").and_then(Value::as_array).ok_or_else(|| wrong(schema))?;
                AvroType::Enum(symbols.iter().map(|symbol| symbol.as_str().unwrap_or_default().to_owned()).collect())
            }
            "fixed" => {
                let size = schema.get("size").and_then(Value::as_u64).ok_or_else(|| wrong(schema))?;
                match (logical, usize::try_from(size).map_err(|_| wrong(schema))?) {
                    ("decimal", size) => {
                        AvroType::Decimal(Some(size), schema.get("scale").and_then(Value::as_u64).unwrap_or(0) as usize)
                    }
                    ("uuid", 16) => AvroType::Uuid,
                    ("duration", 12) => AvroType::Duration,
                    (_, size) => AvroType::Fixed(size),
                }
            }
            _ => {
                let fields = schema.get("fields").and_then(Value::as_array).ok_or_else(|| wrong(schema))?;
                let fields = fields.iter().map(|field| {
                    let name = field.get("name").and_then(Value::as_str).ok_or_else(|| wrong(field))?;
                    let kind = self.read(field.get("type").ok_or_else(|| wrong(field))?, &space)?;
                    Ok((Name::from(name), kind))
                });
                AvroType::Record(fields.collect::<Result<_, String>>()?)
            }
        };
        Ok(index)
    }
}

fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn wrong(schema: &Value) -> String {
    let text: String = schema.to_string().chars().take(100).collect();
    format!("its schema has `{text}`, which is no type")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AvroSchema, String> {
        AvroSchema::parse(text.as_bytes())
    }

    #[test]
    fn names_are_found_in_their_space_and_within_themselves() {
        let text = r#"{"type":"record","name":"a.Node","fields":[
            {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["X"]}},
            {"name":"next","type":["null","Node"]},
            {"name":"other","type":"a.Kind"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
            {"name":"all","type":{"type":"array","items":{"type":"map","values":"Kind"}}}]}"#;
        let schema = parse(text).unwrap();
        let AvroType::Record(fields) = schema.get(schema.root()) else { panic!() };
        assert_eq!(schema.get(fields[0].1), schema.get(fields[2].1));
        let AvroType::Union(kinds) = schema.get(fields[1].1) else { panic!() };
        assert_eq!(kinds[1], schema.root());
        assert_eq!(schema.get(fields[3].1), &AvroType::Instant(Unit::Millis, true));
    }

    #[test]
    fn what_is_no_schema_is_told() {
        for (text, part) in [
            ("{", "not JSON"),
            ("1", "no type"),
            ("{}", "no type"),
            ("\"x\"", "unknown type `x`"),
            (r#"{"type":"array"}"#, "no type"),
            (r#"{"type":"record","name":"a","fields":[{"name":"b"}]}"#, "no type"),
            (r#"{"type":"fixed","name":"a","size":-1}"#, "no type"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
        assert!(parse(&format!("{}\"int\"{}", "[".repeat(1000), "]".repeat(1000))).is_err());
    }
}
