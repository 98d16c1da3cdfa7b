//! Objects of comma-separated values: RFC 4180.

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::columns::{Column, Values};
use crate::schema::{Field, Kind};
use crate::table::Sheet;

/// How CSV is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CsvStyle {
    /// Whether each object begins with a line of the columns' names. Default: true.
    pub header: bool,
    /// What separates fields, one ASCII character. Default: `,`.
    pub delimiter: char,
    /// What null and a missing field become; an empty string is `""`. Default: nothing.
    pub null: String,
}

impl Default for CsvStyle {
    fn default() -> Self {
        CsvStyle { header: true, delimiter: ',', null: String::new() }
    }
}

impl CsvStyle {
    /// What is wrong, by the setting.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !self.delimiter.is_ascii() || matches!(self.delimiter, '"' | '\n' | '\r') {
            let message = format!("{:?} can not separate fields, expected an ASCII character", self.delimiter);
            problems.push(("delimiter", message));
        }
        if self.null.contains([self.delimiter, '"', '\n', '\r']) {
            problems.push(("null", format!("{:?} would need quotes", self.null)));
        }
        problems
    }
}

/// How many bytes of columns are written at once.
const ROOM: usize = 256 << 10;

/// What lines end with.
const END: &[u8] = b"\r\n";

/// An object under construction.
pub(crate) struct CsvSheet {
    style: CsvStyle,
    out: Vec<u8>,
}

impl CsvSheet {
    /// An object without rows.
    pub(crate) fn new(fields: &[Field], style: &CsvStyle) -> Self {
        let mut sheet = CsvSheet { style: style.clone(), out: Vec::new() };
        if style.header {
            for (at, field) in fields.iter().enumerate() {
                sheet.separate(at);
                sheet.text(field.name.as_bytes());
            }
            sheet.out.extend_from_slice(END);
        }
        sheet
    }

    fn separate(&mut self, at: usize) {
        if at > 0 {
            self.out.push(self.style.delimiter as u8);
        }
    }

    /// Writes a text, in quotes where it could be taken for something else.
    fn text(&mut self, text: &[u8]) {
        let special = |byte: &u8| matches!(byte, b'"' | b'\n' | b'\r') || *byte == self.style.delimiter as u8;
        if !text.is_empty() && text != self.style.null.as_bytes() && !text.iter().any(special) {
            return self.out.extend_from_slice(text);
        }
        self.out.push(b'"');
        for byte in text {
            if *byte == b'"' {
                self.out.push(b'"');
            }
            self.out.push(*byte);
        }
        self.out.push(b'"');
    }
}

impl Sheet for CsvSheet {
    fn room(&self) -> usize {
        ROOM
    }

    fn write(&mut self, columns: &[(&Field, &Column)], rows: usize) -> Result<(), String> {
        for row in 0..rows {
            for (at, (_, column)) in columns.iter().enumerate() {
                self.separate(at);
                match &column.values {
                    _ if !column.valid[row] => self.out.extend_from_slice(self.style.null.as_bytes()),
                    Values::Bytes(values) => self.text(values.get(row)),
                    _ => match json(column, row) {
                        Value::String(text) => self.text(text.as_bytes()),
                        other => self.text(other.to_string().as_bytes()),
                    },
                }
            }
            self.out.extend_from_slice(END);
        }
        Ok(())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What a value of another column than text is in JSON: those that records have beside their values.
fn json(column: &Column, row: usize) -> Value {
    if !column.valid[row] {
        return Value::Null;
    }
    match &column.values {
        Values::Int32(values) => values[row].into(),
        Values::Int64(values) => values[row].into(),
        Values::Timestamp(values) => match DateTime::<Utc>::from_timestamp_micros(values[row]) {
            Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into(),
            None => values[row].into(),
        },
        Values::Bytes(values) => String::from_utf8_lossy(values.get(row)).into(),
        Values::List(inner, ends) => ends.range(row).map(|item| json(inner, item)).collect(),
        Values::Struct(inner) => inner.iter().map(|(field, column)| (field.name.clone(), json(column, row))).collect(),
        _ => Value::Null,
    }
}

/// The columns of fields whatever their type: text, so that values are written as they stand in their records.
pub(crate) fn as_text(fields: &[Field]) -> Vec<Field> {
    fields.iter().map(|field| Field { kind: Kind::Text, ..field.clone() }).collect()
}
