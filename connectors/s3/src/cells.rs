//! What a row of an object with columns holds, and the record that it becomes.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::decode::{Decoded, DecodedHeader};
use crate::instant::Instant;

/// The columns that are not fields of the value: each by its name. They are what the sink writes under the same setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TakenColumns {
    /// Becomes the record's timestamp: a timestamp, or a number of milliseconds since 1970. Where it is null, the record
    /// has the time of its object.
    pub timestamp: Option<String>,
    /// Becomes the record's key: strings and bytes as they are, anything else as its JSON.
    pub key: Option<String>,
    /// Becomes the record's headers: a list of records with `name` and `value`, or a map.
    pub headers: Option<String>,
    /// Is left out: the record is written to a topic of its own.
    pub topic: Option<String>,
    /// Is left out: the record gets a partition of its own.
    pub partition: Option<String>,
    /// Is left out: the record gets an offset of its own.
    pub offset: Option<String>,
}

/// The name of a field, shared by all rows.
pub(crate) type Name = Arc<str>;

/// A value of any type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Boolean(bool),
    Int(i64),
    /// A number that needs the 64th bit.
    Large(u64),
    Float(f32),
    Double(f64),
    Text(String),
    /// Becomes base64.
    Bytes(Vec<u8>),
    Instant(Instant),
    List(Vec<Cell>),
    /// Fields, or the entries of a map.
    Fields(Vec<(Name, Cell)>),
}

impl Cell {
    /// Appends the JSON of it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Null => out.extend_from_slice(b"null"),
            Cell::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Cell::Int(value) => write(out, format_args!("{value}")),
            Cell::Large(value) => write(out, format_args!("{value}")),
            Cell::Float(value) if value.is_finite() => json(out, value),
            Cell::Double(value) if value.is_finite() => json(out, value),
            Cell::Float(value) => json(out, not_finite(f64::from(*value))),
            Cell::Double(value) => json(out, not_finite(*value)),
            Cell::Text(text) => json(out, text),
            Cell::Bytes(bytes) => {
                out.push(b'"');
                out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                out.push(b'"');
            }
            Cell::Instant(instant) => json(out, &instant.to_string()),
            Cell::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Cell::Fields(fields) => write_fields(fields.iter(), out),
        }
    }

    /// What it is as bytes: text and bytes as they are, anything else as its JSON; nothing where it is null.
    fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Cell::Null => None,
            Cell::Text(text) => Some(text.into_bytes()),
            Cell::Bytes(bytes) => Some(bytes),
            other => {
                let mut out = Vec::new();
                other.write(&mut out);
                Some(out)
            }
        }
    }
}

/// Writing to a vector can not fail.
fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}

/// JSON has no number for it.
fn not_finite(value: f64) -> &'static str {
    match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn write_fields<'a>(fields: impl Iterator<Item = &'a (Name, Cell)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, cell)) in fields.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json(out, &**name);
        out.push(b':');
        cell.write(out);
    }
    out.push(b'}');
}

impl TakenColumns {
    /// The record that a row becomes, or why it becomes none.
    pub(crate) fn record(&self, row: Cell, longest: usize) -> Result<Decoded<'static>, String> {
        let mut decoded = Decoded::default();
        let mut value = Vec::new();
        match row {
            Cell::Fields(fields) => {
                let mut kept = Vec::with_capacity(fields.len());
                for (name, cell) in fields {
                    let is = |column: &Option<String>| column.as_deref() == Some(&*name);
                    if is(&self.timestamp) {
                        decoded.timestamp = timestamp(&name, &cell)?;
                    } else if is(&self.key) {
                        decoded.key = cell.into_bytes().map(Cow::Owned);
                    } else if is(&self.headers) {
                        decoded.headers = headers(&name, cell)?;
                    } else if !is(&self.topic) && !is(&self.partition) && !is(&self.offset) {
                        kept.push((name, cell));
                    }
                }
                write_fields(kept.iter(), &mut value);
            }
            other => other.write(&mut value),
        }
        let headers = decoded.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        let size = value.len() + decoded.key.as_ref().map_or(0, |key| key.len()) + headers.sum::<usize>();
        if size > longest {
            return Err(format!("a row of {size} bytes is longer than max-record"));
        }
        decoded.value = Some(Cow::Owned(value));
        Ok(decoded)
    }
}

fn timestamp(name: &str, cell: &Cell) -> Result<Option<i64>, String> {
    match cell {
        Cell::Null => Ok(None),
        Cell::Int(milliseconds) => Ok(Some(*milliseconds)),
        Cell::Instant(instant) => Ok(Some(instant.milliseconds())),
        _ => Err(format!("column {name} holds no timestamp")),
    }
}

fn headers(name: &str, cell: Cell) -> Result<Vec<DecodedHeader>, String> {
    let wrong = || format!("column {name} holds no headers: expected a list of records with name and value, or a map");
    match cell {
        Cell::Null => Ok(Vec::new()),
        Cell::Fields(entries) => {
            Ok(entries.into_iter().map(|(name, value)| (name.to_string(), value.into_bytes())).collect())
        }
        Cell::List(items) => items
            .into_iter()
            .map(|item| {
                let Cell::Fields(fields) = item else { return Err(wrong()) };
                let mut header = (None, None);
                for (field, cell) in fields {
                    match (&*field, cell) {
                        ("name", Cell::Text(name)) => header.0 = Some(name),
                        ("value", cell) => header.1 = cell.into_bytes(),
                        _ => return Err(wrong()),
                    }
                }
                Ok((header.0.ok_or_else(wrong)?, header.1))
            })
            .collect(),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant::Unit;

    fn text(text: &str) -> Cell {
        Cell::Text(text.into())
    }

    fn fields<const N: usize>(fields: [(&str, Cell); N]) -> Cell {
        Cell::Fields(fields.into_iter().map(|(name, cell)| (name.into(), cell)).collect())
    }

    #[test]
    fn values_are_written_as_json_has_them() {
        let row = fields([
            ("a\"", Cell::List(vec![Cell::Null, Cell::Boolean(true), Cell::Int(-1), Cell::Large(u64::MAX)])),
            ("f", Cell::Float(0.1)),
            ("d", Cell::List(vec![Cell::Double(1e300), Cell::Double(f64::NAN), Cell::Float(f32::NEG_INFINITY)])),
            ("b", Cell::Bytes(vec![0xff, 0])),
            ("t", text("é\n")),
            ("n", fields([])),
        ]);
        let decoded = TakenColumns::default().record(row, 1000).unwrap();
        let written = String::from_utf8(decoded.value.unwrap().into_owned()).unwrap();
        let expected = r#"{"a\"":[null,true,-1,18446744073709551615],"f":0.1,"d":[1e+300,"NaN","-Infinity"],"b":"/wA=","t":"é\n","n":{}}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn columns_of_records_are_what_they_were() {
        let names = r#"{"timestamp":"_t","key":"_k","headers":"_h","offset":"_o"}"#;
        let columns: TakenColumns = serde_json::from_str(names).unwrap();
        let header = |name, value| fields([("name", text(name)), ("value", value)]);
        let row = fields([
            ("_t", Cell::Instant(Instant { count: 1_234_567, unit: Unit::Micros, is_utc: true })),
            ("_k", text("key")),
            ("_h", Cell::List(vec![header("a", text("1")), header("b", Cell::Null)])),
            ("_o", Cell::Int(7)),
            ("x", Cell::Int(1)),
        ]);
        let decoded = columns.record(row.clone(), 1000).unwrap();
        assert_eq!(decoded.timestamp, Some(1234));
        assert_eq!(decoded.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(decoded.value.as_deref(), Some(&br#"{"x":1}"#[..]));
        assert_eq!(decoded.headers, [("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)]);
        assert!(columns.record(row, 10).unwrap_err().contains("longer than max-record"));
        assert!(columns.record(fields([("_t", text("x"))]), 10).unwrap_err().contains("no timestamp"));
        assert!(columns.record(fields([("_h", Cell::List(vec![text("x")]))]), 10).unwrap_err().contains("no headers"));
    }
}
