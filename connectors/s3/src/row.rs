//! Rows on their way to an object with columns: JSON values, and what else of their records is asked for.

use aqueduct_record::{Headers, Offset, Record};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::schema::{Field, Kind};

/// What of a record becomes a column beside the fields of its value: each by the column's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecordColumns {
    /// The topic's name.
    pub topic: Option<String>,
    /// The number of the partition, an `int32`.
    pub partition: Option<String>,
    /// The offset, an `int64`.
    pub offset: Option<String>,
    /// The record's timestamp, UTC; null where it has none.
    pub timestamp: Option<String>,
    /// The key, a `string`: a record whose key is not UTF-8 is a dead letter.
    pub key: Option<String>,
    /// The headers, a `list` of `struct`s with `name` and `value`, both strings: a record with a header that is not
    /// UTF-8 is a dead letter.
    pub headers: Option<String>,
}

/// Of objects without any other column, which Parquet and Avro do not know: the offsets.
const OFFSET: &str = "_offset";

impl RecordColumns {
    /// The names that are used.
    pub(crate) fn names(&self) -> Vec<&str> {
        let RecordColumns { topic, partition, offset, timestamp, key, headers } = self;
        [topic, partition, offset, timestamp, key, headers].into_iter().flatten().map(String::as_str).collect()
    }

    /// The columns; in the order of [`Rows::add`](crate::rows::Rows::add).
    pub(crate) fn fields(&self) -> Vec<Field> {
        let header = [Field::optional("name", Kind::String), Field::optional("value", Kind::String)];
        let RecordColumns { topic, partition, offset, timestamp, key, headers } = self;
        let columns = [
            (topic, Kind::String),
            (partition, Kind::Int32),
            (offset, Kind::Int64),
            (timestamp, Kind::Timestamp),
            (key, Kind::String),
            (headers, Kind::List(Box::new(Kind::Struct(header.to_vec())))),
        ];
        columns.into_iter().filter_map(|(name, kind)| Some(Field::optional(name.clone()?, kind))).collect()
    }

    /// With at least one column.
    pub(crate) fn at_least_one(&self) -> RecordColumns {
        let mut columns = self.clone();
        if columns.names().is_empty() {
            columns.offset = Some(OFFSET.to_owned());
        }
        columns
    }

    /// The row of a record and its value, or why it makes none.
    pub(crate) fn row<'a>(&self, record: &Record<'a>, value: &'a str) -> Result<Row<'a>, String> {
        let key = match (&self.key, record.key) {
            (Some(_), Some(key)) => Some(text("the record's key", key)?),
            _ => None,
        };
        let asked = match self.headers {
            Some(_) => record.headers,
            None => Headers::default(),
        };
        let mut headers = Vec::new();
        for (name, value) in asked {
            headers.push((name, value.map(|value| text(&format!("header {name}"), value)).transpose()?));
        }
        Ok(Row { offset: record.offset, timestamp: record.timestamp, key, headers, value })
    }
}

fn text<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8, as its column needs it"))
}

/// The length of what is null.
const NULL: u32 = u32::MAX;

fn push(text: Option<&str>, out: &mut Vec<u8>) {
    let length = text.map_or(NULL, |text| text.len() as u32);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a str>,
    pub(crate) headers: Vec<(&'a str, Option<&'a str>)>,
    /// A JSON object.
    pub(crate) value: &'a str,
}

impl<'a> Row<'a> {
    /// Appends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        push(self.key, out);
        out.extend_from_slice(&(self.headers.len() as u32).to_le_bytes());
        for (name, value) in &self.headers {
            push(Some(name), out);
            push(*value, out);
        }
        push(Some(self.value), out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The first row of `bytes` and what follows it; `None` where it is not whole.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<(Row<'a>, &'a [u8])> {
        let mut rest = bytes;
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (mut row, after) = rest.split_at_checked(length)?;
        let offset = i64::from_le_bytes(take(&mut row)?);
        let timestamp = i64::from_le_bytes(take(&mut row)?);
        let key = pull(&mut row)?;
        let count = u32::from_le_bytes(take(&mut row)?);
        let headers = (0..count).map(|_| Some((pull(&mut row)??, pull(&mut row)?))).collect::<Option<_>>()?;
        let value = pull(&mut row)??;
        Some((Row { offset, timestamp, key, headers, value }, after))
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// A text; the outer `None`: there is none.
fn pull<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let length = u32::from_le_bytes(take(bytes)?);
    if length == NULL {
        return Some(None);
    }
    let (taken, rest) = bytes.split_at_checked(length as usize)?;
    *bytes = rest;
    std::str::from_utf8(taken).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

    fn all() -> RecordColumns {
        serde_json::from_str(r#"{"key":"k","headers":"h","offset":"o"}"#).unwrap()
    }

    fn written(columns: &RecordColumns, key: Option<&[u8]>, headers: Headers<'_>) -> Result<Vec<u8>, String> {
        let mut builder = BatchBuilder::new();
        builder.push(77, key, None, headers);
        let batch = builder.finish().at(5, 0);
        let records = batch.records().unwrap();
        let mut out = b"before".to_vec();
        columns.row(&records.iter().next().unwrap().unwrap(), "{}")?.write(&mut out);
        Ok(out.split_off(6))
    }

    #[test]
    fn rows_come_back_however_they_are_cut() {
        let headers: Headers<'_> = &[("a", Some(b"1")), ("b", None)];
        let mut bytes = written(&all(), Some(b"key"), headers).unwrap();
        let first = bytes.len();
        bytes.extend(written(&RecordColumns::default(), Some(b"\xff"), headers).unwrap());
        let (row, rest) = Row::read(&bytes).unwrap();
        let headers = vec![("a", Some("1")), ("b", None)];
        assert_eq!(row, Row { offset: 5, timestamp: 77, key: Some("key"), headers, value: "{}" });
        let (row, rest) = Row::read(rest).unwrap();
        assert_eq!(row, Row { offset: 5, timestamp: 77, key: None, headers: vec![], value: "{}" });
        assert!(rest.is_empty());
        assert!((0..first).all(|cut| Row::read(&bytes[..cut]).is_none()));
    }

    #[test]
    fn what_is_not_text_has_a_reason() {
        assert!(written(&all(), Some(b"\xff"), &[]).unwrap_err().contains("key is not UTF-8"));
        assert!(written(&all(), None, &[("h", Some(b"\xff"))]).unwrap_err().contains("header h is not UTF-8"));
    }
}
