//! Rows of JSON objects as columns of their schema's types.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use aqueduct_api::TopicPartition;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::row::{RecordColumns, Row};
use crate::scalar;
use crate::schema::{Field, Kind};

/// Some rows, by columns.
pub(crate) struct Rows {
    /// The fields of values.
    root: Struct,
    /// What else of the records is asked for.
    extra: Struct,
    rows: usize,
}

/// The values of one field, one for each row; those of null are there and mean nothing.
#[derive(Debug)]
pub(crate) struct Column {
    /// Whether each is no null.
    pub(crate) valid: Vec<bool>,
    /// The values.
    pub(crate) values: Values,
}

/// Values of one type.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    /// Strings, text and bytes.
    Bytes(Bytes),
    /// Days since 1970.
    Date(Vec<i32>),
    /// Microseconds since 1970.
    Timestamp(Vec<i64>),
    Decimal(Vec<i128>),
    List(Box<Column>, Ends),
    Map(Bytes, Box<Column>, Ends),
    Struct(Struct),
}

/// Where each of several stretches ends.
#[derive(Debug, Default)]
pub(crate) struct Ends(pub(crate) Vec<i32>);

/// Strings of bytes, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Ends,
}

/// The columns of an object's fields.
#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) fields: Vec<Field>,
    pub(crate) columns: Vec<Column>,
    index: HashMap<String, usize>,
    /// The field after the one that came last: most objects name their fields in the same order.
    next: usize,
}

impl Rows {
    /// No rows yet.
    pub(crate) fn new(fields: &[Field], extra: &[Field]) -> Self {
        Rows { root: Struct::new(fields), extra: Struct::new(extra), rows: 0 }
    }

    /// Adds a row, or says why `value` is none; after that the rows are of use for [`Rows::clear`] alone.
    pub(crate) fn push(&mut self, value: &str) -> Result<(), String> {
        let mut deserializer = serde_json::Deserializer::from_str(value);
        let mut path = Vec::new();
        let place = Root { fields: &mut self.root, rows: self.rows, path: &mut path };
        let added = place.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        added.map_err(|cause| match path.is_empty() {
            true => format!("the value makes no row: {cause}"),
            false => {
                path.reverse();
                format!("field {} does not fit the schema: {cause}", path.join("."))
            }
        })?;
        self.rows += 1;
        Ok(())
    }

    /// Adds what else is asked for of the row that was pushed last.
    pub(crate) fn push_extra(
        &mut self,
        extra: &RecordColumns,
        partition: &TopicPartition,
        row: &Row<'_>,
    ) -> Result<(), String> {
        let mut columns = self.extra.columns.iter_mut();
        let mut add = |asked: &Option<String>, push: &dyn Fn(&mut Column) -> Result<(), String>| {
            let column = asked.as_ref().and_then(|_| columns.next());
            column.map_or(Ok(()), push)
        };
        add(&extra.topic, &|column| column.push_text(Some(&partition.topic)))?;
        add(&extra.partition, &|column| column.push_number(Some(i64::from(partition.partition))))?;
        add(&extra.offset, &|column| column.push_number(Some(row.offset)))?;
        let time = (row.timestamp != -1).then(|| row.timestamp.checked_mul(1000)).flatten();
        add(&extra.timestamp, &|column| column.push_number(time))?;
        add(&extra.key, &|column| column.push_text(row.key))?;
        add(&extra.headers, &|column| column.push_headers(&row.headers))
    }

    /// Takes all rows out.
    pub(crate) fn clear(&mut self) {
        self.root.truncate(0);
        self.extra.truncate(0);
        self.rows = 0;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// How many bytes they take up.
    pub(crate) fn size(&self) -> usize {
        self.root.size() + self.extra.size()
    }

    /// The columns and what they are called: first those of values.
    pub(crate) fn columns(&self) -> Vec<(&Field, &Column)> {
        self.root.iter().chain(self.extra.iter()).collect()
    }
}

impl Ends {
    /// The `row`th stretch.
    pub(crate) fn range(&self, row: usize) -> Range<usize> {
        let start = row.checked_sub(1).map_or(0, |before| self.0[before]);
        start as usize..self.0[row] as usize
    }

    /// Forgets all stretches but the first `rows`, and says where they end.
    fn truncate(&mut self, rows: usize) -> usize {
        self.0.truncate(rows);
        self.0.last().map_or(0, |end| *end as usize)
    }

    /// The next stretch is empty.
    fn repeat(&mut self) {
        self.0.push(self.0.last().copied().unwrap_or(0));
    }

    /// Says where the next stretch ends. Rows are taken out long before 2 GiB.
    fn push(&mut self, end: usize) -> Result<(), String> {
        self.0.push(i32::try_from(end).map_err(|_| "has more than 2 GiB".to_owned())?);
        Ok(())
    }
}

impl Bytes {
    /// The `row`th string.
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.ends.range(row)]
    }

    fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.0.len()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len())
    }

    fn truncate(&mut self, rows: usize) {
        let end = self.ends.truncate(rows);
        self.bytes.truncate(end);
    }
}

impl Struct {
    fn new(fields: &[Field]) -> Self {
        let columns = fields.iter().map(|field| Column::new(&field.kind)).collect();
        let index = fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at)).collect();
        Struct { fields: fields.to_vec(), columns, index, next: 0 }
    }

    /// The fields with their columns.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Field, &Column)> {
        self.fields.iter().zip(&self.columns)
    }

    fn find(&mut self, name: &str) -> Option<usize> {
        let guess = self.fields.get(self.next).is_some_and(|field| field.name == name).then_some(self.next);
        let found = guess.or_else(|| self.index.get(name).copied())?;
        self.next = found + 1;
        Some(found)
    }

    fn size(&self) -> usize {
        self.columns.iter().map(Column::size).sum()
    }

    fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Adds the row that `members` are; `rows` are there.
    fn push<'de, A: MapAccess<'de>>(
        &mut self,
        rows: usize,
        path: &mut Vec<String>,
        mut members: A,
    ) -> Result<(), A::Error> {
        self.next = 0;
        while let Some(name) = members.next_key::<Name<'de>>()? {
            let Some(found) = self.find(&name.0) else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let column = &mut self.columns[found];
            // Of a name that comes twice the last counts.
            column.truncate(rows);
            let kind = &self.fields[found].kind;
            if let Err(cause) = members.next_value_seed(Place { kind, column, path }) {
                path.push(name.0.into_owned());
                return Err(cause);
            }
        }
        for (column, field) in self.columns.iter_mut().zip(&self.fields) {
            if column.valid.len() == rows {
                column.push_null();
            }
            if field.required && !column.valid[rows] {
                path.push(field.name.clone());
                return Err(A::Error::custom("it is required, and is missing or null"));
            }
        }
        Ok(())
    }
}

impl Column {
    fn new(kind: &Kind) -> Self {
        let values = match kind {
            Kind::Boolean => Values::Boolean(Vec::new()),
            Kind::Int32 => Values::Int32(Vec::new()),
            Kind::Int64 => Values::Int64(Vec::new()),
            Kind::Float => Values::Float(Vec::new()),
            Kind::Double => Values::Double(Vec::new()),
            Kind::String | Kind::Text | Kind::Bytes => Values::Bytes(Bytes::default()),
            Kind::Date => Values::Date(Vec::new()),
            Kind::Timestamp => Values::Timestamp(Vec::new()),
            Kind::Decimal { .. } => Values::Decimal(Vec::new()),
            Kind::List(inner) => Values::List(Box::new(Column::new(inner)), Ends::default()),
            Kind::Map(inner) => Values::Map(Bytes::default(), Box::new(Column::new(inner)), Ends::default()),
            Kind::Struct(fields) => Values::Struct(Struct::new(fields)),
        };
        Column { valid: Vec::new(), values }
    }

    fn size(&self) -> usize {
        let rows = self.valid.len();
        let values = match &self.values {
            Values::Boolean(_) => rows,
            Values::Int32(_) | Values::Float(_) | Values::Date(_) => 4 * rows,
            Values::Int64(_) | Values::Double(_) | Values::Timestamp(_) => 8 * rows,
            Values::Decimal(_) => 16 * rows,
            Values::Bytes(values) => values.size(),
            Values::List(inner, _) => 4 * rows + inner.size(),
            Values::Map(names, inner, _) => 4 * rows + names.size() + inner.size(),
            Values::Struct(inner) => inner.size(),
        };
        rows + values
    }

    fn push_text(&mut self, text: Option<&str>) -> Result<(), String> {
        match (&mut self.values, text) {
            (Values::Bytes(values), Some(text)) => values.push(text.as_bytes())?,
            _ => {
                self.push_null();
                return Ok(());
            }
        }
        self.valid.push(true);
        Ok(())
    }

    fn push_number(&mut self, number: Option<i64>) -> Result<(), String> {
        match (&mut self.values, number) {
            (Values::Int32(values), Some(number)) => values.push(i32::try_from(number).unwrap_or(i32::MAX)),
            (Values::Int64(values) | Values::Timestamp(values), Some(number)) => values.push(number),
            _ => {
                self.push_null();
                return Ok(());
            }
        }
        self.valid.push(true);
        Ok(())
    }

    fn push_headers(&mut self, headers: &[(&str, Option<&str>)]) -> Result<(), String> {
        let Values::List(list, ends) = &mut self.values else { return Err(NO_HEADERS.to_owned()) };
        let Values::Struct(inner) = &mut list.values else { return Err(NO_HEADERS.to_owned()) };
        for (name, value) in headers {
            for (column, text) in inner.columns.iter_mut().zip([Some(*name), *value]) {
                column.push_text(text)?;
            }
            list.valid.push(true);
        }
        ends.push(list.valid.len())?;
        self.valid.push(true);
        Ok(())
    }

    fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Bytes(values) => values.ends.repeat(),
            Values::List(_, ends) | Values::Map(_, _, ends) => ends.repeat(),
            Values::Struct(inner) => inner.columns.iter_mut().for_each(Column::push_null),
        }
    }

    fn truncate(&mut self, rows: usize) {
        if self.valid.len() <= rows {
            return;
        }
        self.valid.truncate(rows);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int32(values) | Values::Date(values) => values.truncate(rows),
            Values::Int64(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Decimal(values) => values.truncate(rows),
            Values::Bytes(values) => values.truncate(rows),
            Values::List(inner, ends) => inner.truncate(ends.truncate(rows)),
            Values::Map(names, inner, ends) => {
                let entries = ends.truncate(rows);
                names.truncate(entries);
                inner.truncate(entries);
            }
            Values::Struct(inner) => inner.truncate(rows),
        }
    }
}

/// What can not be: the column is made for them.
const NO_HEADERS: &str = "the column of headers is made for something else";

/// A name that is borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Where a whole row goes.
struct Root<'a> {
    fields: &'a mut Struct,
    rows: usize,
    path: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        self.fields.push(self.rows, self.path, members)
    }
}

/// Where the next value of a column goes.
struct Place<'a> {
    kind: &'a Kind,
    column: &'a mut Column,
    path: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match (self.kind, &mut self.column.values) {
            (Kind::Text, Values::Bytes(values)) => {
                let raw = <&RawValue>::deserialize(deserializer)?.get();
                match raw.as_bytes().first() {
                    Some(b'n') => {
                        self.column.push_null();
                        return Ok(());
                    }
                    Some(b'"') => {
                        let text: Name<'_> = serde_json::from_str(raw).map_err(D::Error::custom)?;
                        values.push(text.0.as_bytes()).map_err(D::Error::custom)?;
                    }
                    _ => values.push(raw.as_bytes()).map_err(D::Error::custom)?,
                }
            }
            (Kind::Decimal { precision, scale }, Values::Decimal(values)) => {
                let raw = <&RawValue>::deserialize(deserializer)?.get();
                if raw == "null" {
                    self.column.push_null();
                    return Ok(());
                }
                let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
                values.push(scalar::decimal(text, *precision, *scale).map_err(D::Error::custom)?);
            }
            _ => return deserializer.deserialize_any(self),
        }
        self.column.valid.push(true);
        Ok(())
    }
}

impl Place<'_> {
    fn wrong<E: serde::de::Error>(&self, found: Unexpected<'_>) -> E {
        E::invalid_type(found, self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.column.push_null();
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        let Values::Boolean(values) = &mut self.column.values else {
            return Err(self.wrong(Unexpected::Bool(value)));
        };
        values.push(value);
        self.column.valid.push(true);
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        let too_large = || E::custom(format!("{value} is too large for {}", self.kind));
        match &mut self.column.values {
            Values::Int32(values) => values.push(i32::try_from(value).map_err(|_| too_large())?),
            Values::Int64(values) => values.push(value),
            Values::Float(values) => values.push(value as f32),
            Values::Double(values) => values.push(value as f64),
            Values::Timestamp(values) => values.push(value.checked_mul(1000).ok_or_else(too_large)?),
            _ => return Err(self.wrong(Unexpected::Signed(value))),
        }
        self.column.valid.push(true);
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) if matches!(self.kind, Kind::Float | Kind::Double) => self.visit_f64(value as f64),
            Err(_) => Err(E::custom(format!("{value} is too large for {}", self.kind))),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Float(values) => values.push(value as f32),
            Values::Double(values) => values.push(value),
            _ => return Err(self.wrong(Unexpected::Float(value))),
        }
        self.column.valid.push(true);
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        match (self.kind, &mut self.column.values) {
            (Kind::String, Values::Bytes(values)) => values.push(value.as_bytes()).map_err(E::custom)?,
            (Kind::Bytes, Values::Bytes(values)) => {
                let bytes = STANDARD.decode(value).map_err(|cause| E::custom(format!("not base64: {cause}")))?;
                values.push(&bytes).map_err(E::custom)?;
            }
            (_, Values::Date(values)) => values.push(scalar::date(value).map_err(E::custom)?),
            (_, Values::Timestamp(values)) => values.push(scalar::timestamp(value).map_err(E::custom)?),
            _ => return Err(self.wrong(Unexpected::Str(value))),
        }
        self.column.valid.push(true);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (Kind::List(kind), Values::List(inner, ends)) = (self.kind, &mut self.column.values) else {
            return Err(self.wrong(Unexpected::Seq));
        };
        while items.next_element_seed(Place { kind, column: inner, path: self.path })?.is_some() {}
        ends.push(inner.valid.len()).map_err(A::Error::custom)?;
        self.column.valid.push(true);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        match (self.kind, &mut self.column.values) {
            (Kind::Map(kind), Values::Map(names, inner, ends)) => {
                while let Some(name) = members.next_key::<Name<'de>>()? {
                    names.push(name.0.as_bytes()).map_err(A::Error::custom)?;
                    let place = Place { kind, column: inner, path: self.path };
                    if let Err(cause) = members.next_value_seed(place) {
                        self.path.push(name.0.into_owned());
                        return Err(cause);
                    }
                }
                ends.push(inner.valid.len()).map_err(A::Error::custom)?;
            }
            (_, Values::Struct(inner)) => inner.push(self.column.valid.len(), self.path, members)?,
            _ => return Err(self.wrong(Unexpected::Map)),
        }
        self.column.valid.push(true);
        Ok(())
    }
}
