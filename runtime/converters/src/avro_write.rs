//! Avro's binary encoding of JSON.

use aqueduct_record::push_varint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::avro_schema::{AvroSchema, Decimal, Field, Node, Union};
use crate::bounds::{DEEPEST, LARGEST};
use crate::scalar_text::{self, shortened};

/// Adds the encoding of a value.
///
/// # Errors
/// Why there is none, and where, for people.
pub(crate) fn write(schema: &AvroSchema, drop_unknown: bool, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    Writer { schema, drop_unknown, defaults: false, depth: 0, out }.value(schema.root(), value)
}

struct Writer<'s, 'o> {
    schema: &'s AvroSchema,
    /// Whether fields that the schema has not are left out, and not refused.
    drop_unknown: bool,
    /// Whether what is written is a default of the schema, which spells bytes and unions in another way.
    defaults: bool,
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn value(&mut self, at: usize, value: &Value) -> Result<(), String> {
        if self.out.len() > LARGEST {
            return Err(format!("becomes more than {} MiB of Avro", LARGEST >> 20));
        }
        let wrong = |expected: &str| format!("is {}, expected {expected}", told(value));
        match (self.schema.node(at), value) {
            (Node::Null, Value::Null) => {}
            (Node::Boolean, Value::Bool(truth)) => self.out.push(u8::from(*truth)),
            (Node::Int, Value::Number(_)) => push_varint(self.out, int(value)?.into()),
            (Node::Long, Value::Number(_)) => push_varint(self.out, long(value)?),
            (Node::Float, value) => {
                let number = floating(value).ok_or_else(|| wrong("a number"))?;
                if number.is_finite() && !(number as f32).is_finite() {
                    return Err(format!("is {number}, too large for a float"));
                }
                self.out.extend_from_slice(&(number as f32).to_le_bytes());
            }
            (Node::Double, value) => {
                let number = floating(value).ok_or_else(|| wrong("a number"))?;
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            (Node::String, Value::String(text)) => self.counted(text.as_bytes()),
            (Node::Bytes, Value::String(text)) => {
                let bytes = self.bytes(text)?;
                self.counted(&bytes);
            }
            (Node::Fixed { name, size }, Value::String(text)) => {
                let bytes = self.bytes(text)?;
                if bytes.len() != *size {
                    return Err(format!("has {} bytes, `{name}` has {size}", bytes.len()));
                }
                self.out.extend_from_slice(&bytes);
            }
            (Node::Enum { name, symbols }, Value::String(text)) => {
                let symbol = symbols.iter().position(|symbol| symbol == text);
                let symbol = symbol.ok_or_else(|| format!("`{name}` has no symbol `{}`", shortened(text)))?;
                push_varint(self.out, symbol as i64);
            }
            (Node::Uuid(_), Value::String(text)) => {
                let bytes = if self.defaults { self.bytes(text)? } else { scalar_text::uuid_bytes(text)? };
                self.out.extend_from_slice(&bytes);
            }
            (Node::Date, value) => push_varint(self.out, time(value, |text| Ok(scalar_text::days(text)?.into()))?),
            (Node::Time(unit, is_long), value) => {
                let number = time(value, |text| scalar_text::since_midnight(*unit, text))?;
                if !is_long && i32::try_from(number).is_err() {
                    return Err(format!("{number} is no int of 32 bits"));
                }
                push_varint(self.out, number);
            }
            (Node::Timestamp(unit, utc), value) => {
                push_varint(self.out, time(value, |text| scalar_text::since_1970(*unit, text, *utc))?);
            }
            (Node::Decimal(decimal), value) => self.decimal(decimal, value)?,
            (Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record { .. }, value) => self.nested(at, value)?,
            (Node::Null, _) => return Err(wrong("null")),
            (Node::Boolean, _) => return Err(wrong("true or false")),
            (Node::Int | Node::Long, _) => return Err(wrong("a whole number")),
            (Node::String, _) => return Err(wrong("text")),
            (Node::Bytes | Node::Fixed { .. }, _) => return Err(wrong("base64")),
            (Node::Enum { name, .. }, _) => return Err(wrong(&format!("a symbol of `{name}`"))),
            (Node::Uuid(_), _) => return Err(wrong("a UUID")),
        }
        Ok(())
    }

    fn nested(&mut self, at: usize, value: &Value) -> Result<(), String> {
        // JSON is not deeper than it could be read, but a default of a schema may hold itself.
        if self.depth == 2 * DEEPEST {
            return Err(format!("is nested more than {DEEPEST} levels deep"));
        }
        self.depth += 1;
        match (self.schema.node(at), value) {
            (Node::Array(items), Value::Array(values)) => self.items(*items, values),
            (Node::Map(values), Value::Object(entries)) => self.entries(*values, entries),
            (Node::Record { name, fields }, Value::Object(entries)) => self.record(name, fields, entries),
            (Node::Union(union), value) => self.union(union, value),
            (Node::Array(_), value) => Err(format!("is {}, expected a list", told(value))),
            (_, value) => Err(format!("is {}, expected a mapping", told(value))),
        }?;
        self.depth -= 1;
        Ok(())
    }

    fn items(&mut self, items: usize, values: &[Value]) -> Result<(), String> {
        if !values.is_empty() {
            push_varint(self.out, values.len() as i64);
        }
        for (number, value) in values.iter().enumerate() {
            self.value(items, value).map_err(|why| format!("item {number}: {why}"))?;
        }
        self.out.push(0);
        Ok(())
    }

    fn entries(&mut self, values: usize, entries: &Map<String, Value>) -> Result<(), String> {
        if !entries.is_empty() {
            push_varint(self.out, entries.len() as i64);
        }
        for (name, value) in entries {
            self.counted(name.as_bytes());
            self.value(values, value).map_err(|why| format!("`{}`: {why}", shortened(name)))?;
        }
        self.out.push(0);
        Ok(())
    }

    fn record(&mut self, name: &str, fields: &[Field], entries: &Map<String, Value>) -> Result<(), String> {
        if !self.drop_unknown && entries.keys().any(|entry| !fields.iter().any(|field| field.name == *entry)) {
            let unknown = entries.keys().find(|entry| !fields.iter().any(|field| field.name == **entry));
            let unknown = shortened(unknown.map_or("", String::as_str));
            return Err(format!("`{name}` has no field `{unknown}`: `unknown-fields: drop` leaves it out"));
        }
        for field in fields {
            let wrong = |why: String| format!("field `{}`: {why}", field.name);
            match (entries.get(&field.name), &field.default) {
                (Some(value), _) => self.value(field.node, value).map_err(wrong)?,
                (None, Some(default)) => {
                    let before = std::mem::replace(&mut self.defaults, true);
                    let done = self.value(field.node, default);
                    self.defaults = before;
                    done.map_err(|why| wrong(format!("its default {why}")))?;
                }
                (None, None) => match self.schema.node(field.node) {
                    Node::Null => {}
                    Node::Union(Union { null: Some(null), .. }) => push_varint(self.out, *null as i64),
                    _ => return Err(wrong("is missing, and the schema has no default for it".to_owned())),
                },
            }
        }
        Ok(())
    }

    fn union(&mut self, union: &Union, value: &Value) -> Result<(), String> {
        let branch = |this: &mut Self, number: usize, value: &Value| {
            push_varint(this.out, number as i64);
            this.value(union.branches[number], value)
        };
        match (value, union.null, union.only) {
            (Value::Null, Some(null), _) => branch(self, null, value),
            // A default is of the first branch, by the letter; of any, by what people write.
            (value, ..) if self.defaults => {
                let (start, depth) = (self.out.len(), self.depth);
                for number in 0..union.branches.len() {
                    if branch(self, number, value).is_ok() {
                        return Ok(());
                    }
                    self.out.truncate(start);
                    self.depth = depth;
                }
                Err("fits no branch of a union".to_owned())
            }
            (value, _, Some(only)) => branch(self, only, value),
            (Value::Object(entries), ..) if entries.len() == 1 => {
                for (name, value) in entries {
                    let is_named = |at: &usize| self.schema.branch_name(*at) == name;
                    if let Some(number) = union.branches.iter().position(is_named) {
                        return branch(self, number, value).map_err(|why| format!("`{name}`: {why}"));
                    }
                }
                Err(format!("is {}, expected {}", told(value), self.branches(union)))
            }
            (value, ..) => Err(format!("is {}, expected {}", told(value), self.branches(union))),
        }
    }

    /// How a union is written, for messages.
    fn branches(&self, union: &Union) -> String {
        let names = union.branches.iter().map(|at| self.schema.branch_name(*at));
        let named = names.map(|name| if name == "null" { name.to_owned() } else { format!("{{\"{name}\": …}}") });
        named.collect::<Vec<_>>().join(" or ")
    }

    fn decimal(&mut self, decimal: &Decimal, value: &Value) -> Result<(), String> {
        let bytes = match value {
            Value::String(text) if self.defaults => self.bytes(text)?,
            Value::String(text) => scalar_text::decimal_bytes(text, decimal.precision, decimal.scale)?,
            Value::Number(number) => scalar_text::decimal_bytes(&exact(number)?, decimal.precision, decimal.scale)?,
            other => return Err(format!("is {}, expected a decimal as text or number", told(other))),
        };
        let Some((name, size)) = &decimal.fixed else {
            self.counted(&bytes);
            return Ok(());
        };
        let Some(more) = size.checked_sub(bytes.len()) else {
            return Err(format!("needs {} bytes, `{name}` has {size}", bytes.len()));
        };
        let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
        self.out.extend(std::iter::repeat_n(sign, more).chain(bytes));
        Ok(())
    }

    /// The bytes that a text stands for.
    fn bytes(&self, text: &str) -> Result<Vec<u8>, String> {
        match self.defaults {
            true => {
                let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| format!("has the character {c:?}"));
                text.chars().map(byte).collect()
            }
            false => STANDARD.decode(text).map_err(|cause| format!("is not base64: {cause}")),
        }
    }

    fn counted(&mut self, bytes: &[u8]) {
        push_varint(self.out, bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }
}

/// A value in a message.
fn told(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", shortened(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn long(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("is {}, expected a whole number of 64 bits", told(value)))
}

fn int(value: &Value) -> Result<i32, String> {
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    number.ok_or_else(|| format!("is {}, expected a whole number of 32 bits", told(value)))
}

fn floating(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn time(value: &Value, of_text: impl FnOnce(&str) -> Result<i64, String>) -> Result<i64, String> {
    match value {
        Value::String(text) => of_text(text),
        value => long(value),
    }
}

/// The digits of a number, where it has so few that they are those that were written.
fn exact(number: &serde_json::Number) -> Result<String, String> {
    if number.is_i64() || number.is_u64() {
        return Ok(number.to_string());
    }
    let text = number.as_f64().map(|number| number.to_string()).unwrap_or_default();
    let digits = text.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    match digits {
        0..=15 => Ok(text),
        _ => Err(format!("is the number {number}, which has lost digits already: write decimals as text")),
    }
}
