//! Objects in Avro's container format: <https://avro.apache.org/docs/1.12.0/specification/>.

use std::collections::BTreeSet;
use std::io::Write as _;

use aqueduct_record::push_varint;
use flate2::Crc;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::columns::{Column, Ends, Values};
use crate::compressor::Compression;
use crate::schema::{Field, Kind};
use crate::table::Sheet;

/// How many bytes of columns make a block.
const BLOCK: usize = 256 << 10;

/// An object under construction.
pub(crate) struct AvroSheet {
    compression: Compression,
    level: Option<i32>,
    /// Stands between blocks.
    mark: [u8; 16],
    out: Vec<u8>,
}

impl AvroSheet {
    /// The object `name`, without rows.
    pub(crate) fn new(
        fields: &[Field],
        compression: Compression,
        level: Option<i32>,
        name: &str,
    ) -> Result<Self, String> {
        let codec = match compression {
            Compression::None => "null",
            Compression::Gzip => "deflate",
            Compression::Zstd => "zstandard",
            Compression::Snappy => "snappy",
            Compression::Lz4 => return Err("Avro knows no lz4".to_owned()),
        };
        // A mark must not be met by chance in what it separates, and be the same when the object is written again.
        let mut mark = [0; 16];
        mark.copy_from_slice(&Sha256::digest(name)[..16]);
        let mut out = b"Obj\x01".to_vec();
        push_varint(&mut out, 2);
        for (name, value) in [("avro.schema", schema(fields).to_string()), ("avro.codec", codec.to_owned())] {
            push_bytes(name.as_bytes(), &mut out);
            push_bytes(value.as_bytes(), &mut out);
        }
        push_varint(&mut out, 0);
        out.extend_from_slice(&mark);
        Ok(AvroSheet { compression, level, mark, out })
    }

    fn compressed(&self, block: Vec<u8>) -> Result<Vec<u8>, String> {
        let told = |cause: std::io::Error| format!("compress: {cause}");
        match self.compression {
            Compression::None | Compression::Lz4 => Ok(block),
            Compression::Gzip => {
                let level = flate2::Compression::new(self.level.unwrap_or(6).unsigned_abs());
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(&block).and_then(|()| encoder.finish()).map_err(told)
            }
            Compression::Zstd => zstd::bulk::compress(&block, self.level.unwrap_or(1)).map_err(told),
            Compression::Snappy => {
                let compressed = snap::raw::Encoder::new().compress_vec(&block);
                let mut compressed = compressed.map_err(|cause| format!("compress: {cause}"))?;
                let mut crc = Crc::new();
                crc.update(&block);
                compressed.extend_from_slice(&crc.sum().to_be_bytes());
                Ok(compressed)
            }
        }
    }
}

impl Sheet for AvroSheet {
    fn room(&self) -> usize {
        BLOCK
    }

    fn write(&mut self, columns: &[(&Field, &Column)], rows: usize) -> Result<(), String> {
        let mut block = Vec::with_capacity(BLOCK);
        for row in 0..rows {
            for (field, column) in columns {
                push_value(field.required, column, row, &mut block);
            }
        }
        let block = self.compressed(block)?;
        push_varint(&mut self.out, rows as i64);
        push_bytes(&block, &mut self.out);
        self.out.extend_from_slice(&self.mark);
        Ok(())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The schema as Avro has it.
fn schema(fields: &[Field]) -> Value {
    record("record", fields, &mut BTreeSet::new())
}

/// A record; types of records have names of their own, for which `used` looks.
fn record(name: &str, fields: &[Field], used: &mut BTreeSet<String>) -> Value {
    let name = unused(name, used);
    let mut names = BTreeSet::new();
    let fields = fields.iter().map(|field| {
        let kind = kind(&format!("{name}_{}", field.name), &field.kind, used);
        let mut described = json!({ "name": unused(&field.name, &mut names) });
        if described["name"] != field.name {
            described["doc"] = json!(field.name);
        }
        if field.required {
            described["type"] = kind;
        } else {
            described["type"] = json!(["null", kind]);
            described["default"] = Value::Null;
        }
        described
    });
    let fields: Vec<_> = fields.collect();
    json!({"type": "record", "name": name, "fields": fields})
}

/// A name as Avro takes it, and that is not used yet.
fn unused(name: &str, used: &mut BTreeSet<String>) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut plain: String = name.chars().map(|character| if fits(character) { character } else { '_' }).collect();
    if !plain.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_') {
        plain.insert(0, '_');
    }
    let first = std::iter::once(plain.clone());
    let found = first.chain((2..).map(|number| format!("{plain}_{number}"))).find(|name| !used.contains(name));
    let found = found.unwrap_or(plain);
    used.insert(found.clone());
    found
}

fn kind(name: &str, kind: &Kind, used: &mut BTreeSet<String>) -> Value {
    match kind {
        Kind::Boolean => json!("boolean"),
        Kind::Int32 => json!("int"),
        Kind::Int64 => json!("long"),
        Kind::Float => json!("float"),
        Kind::Double => json!("double"),
        Kind::String | Kind::Text => json!("string"),
        Kind::Bytes => json!("bytes"),
        Kind::Date => json!({"type": "int", "logicalType": "date"}),
        Kind::Timestamp => json!({"type": "long", "logicalType": "timestamp-micros"}),
        Kind::Decimal { precision, scale } => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        Kind::List(inner) => json!({"type": "array", "items": ["null", self::kind(name, inner, used)]}),
        Kind::Map(inner) => json!({"type": "map", "values": ["null", self::kind(name, inner, used)]}),
        Kind::Struct(fields) => record(name, fields, used),
    }
}

fn push_value(required: bool, column: &Column, row: usize, out: &mut Vec<u8>) {
    if !required {
        push_varint(out, i64::from(column.valid[row]));
        if !column.valid[row] {
            return;
        }
    }
    match &column.values {
        Values::Boolean(values) => out.push(u8::from(values[row])),
        Values::Int32(values) | Values::Date(values) => push_varint(out, i64::from(values[row])),
        Values::Int64(values) | Values::Timestamp(values) => push_varint(out, values[row]),
        Values::Float(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Double(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Decimal(values) => push_bytes(&values[row].to_be_bytes(), out),
        Values::Bytes(values) => push_bytes(values.get(row), out),
        Values::List(inner, ends) => push_items(ends, row, out, |item, out| push_value(false, inner, item, out)),
        Values::Map(names, inner, ends) => push_items(ends, row, out, |item, out| {
            push_bytes(names.get(item), out);
            push_value(false, inner, item, out);
        }),
        Values::Struct(inner) => {
            for (field, column) in inner.iter() {
                push_value(field.required, column, row, out);
            }
        }
    }
}

fn push_items(ends: &Ends, row: usize, out: &mut Vec<u8>, push: impl Fn(usize, &mut Vec<u8>)) {
    let items = ends.range(row);
    if !items.is_empty() {
        push_varint(out, items.len() as i64);
        items.for_each(|item| push(item, out));
    }
    push_varint(out, 0);
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    push_varint(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag() {
        for (number, expected) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            push_varint(&mut out, number);
            assert_eq!(out, expected, "{number}");
        }
    }

    #[test]
    fn names_become_what_avro_takes_and_stay_apart() {
        let field = |name: &str| Field::optional(name, Kind::Int32);
        let inner = Field::optional("user", Kind::Struct(vec![field("id")]));
        let found = schema(&[field("a-b"), field("a.b"), field("1"), inner]);
        let fields = found["fields"].as_array().unwrap();
        let names: Vec<_> = fields.iter().map(|field| field["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a_b", "a_b_2", "_1", "user"]);
        assert_eq!(fields[0]["doc"], "a-b");
        assert_eq!(fields[3]["type"][1]["name"], "record_user");
    }
}
