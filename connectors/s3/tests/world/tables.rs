//! Reads objects with columns back: the fields of each row, by name.

use std::io::Read as _;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

/// A row: the fields that are not null.
pub(crate) type Fields = Map<String, Value>;

/// The rows of a Parquet object.
pub(crate) fn parquet(bytes: &[u8]) -> Vec<Fields> {
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes)).expect("a Parquet object");
    let rows = reader.get_row_iter(None).expect("rows");
    rows.map(|row| fields(&row.expect("a row"))).collect()
}

fn fields(row: &Row) -> Fields {
    let fields = row.get_column_iter().map(|(name, field)| (name.clone(), value(field)));
    fields.filter(|(_, value)| !value.is_null()).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) | Field::TimestampMicros(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(value) => value.as_str().into(),
        Field::Group(row) => Value::Object(fields(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => other.to_string().into(),
    }
}

/// The rows of an object of comma-separated values, none of which has quotes: whole numbers and text.
pub(crate) fn csv(text: &str) -> Vec<Fields> {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let cell = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    let row =
        |line: &str| names.iter().zip(line.split(',')).map(|(name, text)| ((*name).to_owned(), cell(text))).collect();
    lines.map(row).collect()
}

/// The rows of an Avro object whose fields are nullable numbers and strings.
pub(crate) fn avro(bytes: &[u8]) -> Vec<Fields> {
    let mut rest = bytes.strip_prefix(b"Obj\x01").expect("an Avro object");
    let mut metadata = std::collections::BTreeMap::new();
    for _ in 0..long(&mut rest) {
        let name = text(&mut rest);
        metadata.insert(name, text(&mut rest));
    }
    assert_eq!(long(&mut rest), 0);
    let schema: Value = serde_json::from_str(&metadata["avro.schema"]).expect("a schema");
    let (mark, mut rest) = rest.split_at(16);
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let count = long(&mut rest);
        let size = long(&mut rest) as usize;
        let block = inflated(&metadata["avro.codec"], &rest[..size]);
        assert_eq!(&rest[size..size + 16], mark);
        rest = &rest[size + 16..];
        let mut block = &block[..];
        rows.extend((0..count).map(|_| record(&schema, &mut block)));
        assert!(block.is_empty());
    }
    rows
}

fn inflated(codec: &str, block: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match codec {
        "null" => plain = block.to_vec(),
        "deflate" => drop(flate2::read::DeflateDecoder::new(block).read_to_end(&mut plain).expect("deflate")),
        "zstandard" => plain = zstd::decode_all(block).expect("zstd"),
        "snappy" => plain = snap::raw::Decoder::new().decompress_vec(&block[..block.len() - 4]).expect("snappy"),
        other => panic!("codec {other}"),
    }
    plain
}

fn record(schema: &Value, rest: &mut &[u8]) -> Fields {
    let mut fields = Fields::new();
    for field in schema["fields"].as_array().expect("fields") {
        let mut kind = &field["type"];
        if kind.is_array() {
            if long(rest) == 0 {
                continue;
            }
            kind = &kind[1];
        }
        let value = match kind.as_str().expect("a simple type") {
            "int" | "long" => Value::from(long(rest)),
            "string" => Value::from(text(rest)),
            other => panic!("type {other}"),
        };
        fields.insert(field["name"].as_str().expect("a name").to_owned(), value);
    }
    fields
}

fn long(rest: &mut &[u8]) -> i64 {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let byte = rest[0];
        *rest = &rest[1..];
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (number >> 1) as i64 ^ -((number & 1) as i64);
        }
    }
}

fn text(rest: &mut &[u8]) -> String {
    let length = long(rest) as usize;
    let (taken, after) = rest.split_at(length);
    *rest = after;
    String::from_utf8(taken.to_vec()).expect("UTF-8")
}
