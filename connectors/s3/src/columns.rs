//! Values by columns, as a schema's types have them.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::schema::{Field, Kind};

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
pub(crate) struct Struct {
    pub(crate) fields: Vec<Field>,
    pub(crate) columns: Vec<Column>,
    index: HashMap<String, usize>,
    /// Which field came after each the last time, and at first: most objects name their fields in the same order, which need
    /// not be the schema's.
    after: Vec<usize>,
    /// The place in `after` that belongs to the next field.
    last: usize,
}

/// Without what only finds fields faster.
impl fmt::Debug for Struct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(field, column)| (&field.name, column))).finish()
    }
}

impl Ends {
    /// The `row`th stretch.
    pub(crate) fn range(&self, row: usize) -> Range<usize> {
        let start = row.checked_sub(1).map_or(0, |before| self.0[before]);
        start as usize..self.0[row] as usize
    }

    /// Forgets all stretches but the first `rows`, and says where they end.
    pub(crate) fn truncate(&mut self, rows: usize) -> usize {
        self.0.truncate(rows);
        self.0.last().map_or(0, |end| *end as usize)
    }

    /// The next stretch is empty.
    fn repeat(&mut self) {
        self.0.push(self.0.last().copied().unwrap_or(0));
    }

    /// Adds some stretches, and says what they are stretches of.
    fn extend(&mut self, other: &Ends, rows: Range<usize>) -> Result<Range<usize>, String> {
        let (Some(first), Some(last)) = (rows.clone().next(), rows.clone().next_back()) else { return Ok(0..0) };
        let items = other.range(first).start..other.range(last).end;
        let here = self.0.last().map_or(0, |end| *end as usize);
        i32::try_from(here + items.len()).map_err(|_| LARGE)?;
        let shift = here as i32 - items.start as i32;
        self.0.extend(other.0[rows].iter().map(|end| end + shift));
        Ok(items)
    }

    /// Says where the next stretch ends. Rows are taken out long before 2 GiB.
    pub(crate) fn push(&mut self, end: usize) -> Result<(), String> {
        self.0.push(i32::try_from(end).map_err(|_| LARGE)?);
        Ok(())
    }
}

impl Bytes {
    /// The `row`th string.
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.ends.range(row)]
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.0.len()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len())
    }

    /// Adds some strings of others.
    fn extend(&mut self, other: &Bytes, rows: Range<usize>) -> Result<(), String> {
        let bytes = self.ends.extend(&other.ends, rows)?;
        self.bytes.extend_from_slice(&other.bytes[bytes]);
        Ok(())
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        let end = self.ends.truncate(rows);
        self.bytes.truncate(end);
    }
}

impl Struct {
    /// Columns without rows.
    pub(crate) fn new(fields: &[Field]) -> Self {
        let columns = fields.iter().map(|field| Column::new(&field.kind)).collect();
        let index = fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at)).collect();
        Struct { fields: fields.to_vec(), columns, index, after: (0..=fields.len()).collect(), last: 0 }
    }

    /// The fields with their columns.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Field, &Column)> {
        self.fields.iter().zip(&self.columns)
    }

    /// Begins with the fields of another object.
    pub(crate) fn begin(&mut self) {
        self.last = 0;
    }

    /// Where the field of a name is.
    pub(crate) fn find(&mut self, name: &str) -> Option<usize> {
        let guess = self.after[self.last];
        let found = match self.fields.get(guess) {
            Some(field) if field.name == name => guess,
            _ => *self.index.get(name)?,
        };
        self.after[self.last] = found;
        self.last = found + 1;
        Some(found)
    }

    /// Adds some rows of the same fields.
    pub(crate) fn extend(&mut self, other: &Struct, rows: Range<usize>) -> Result<(), String> {
        let mut columns = self.columns.iter_mut().zip(&other.columns);
        columns.try_for_each(|(column, other)| column.extend(other, rows.clone()))
    }

    pub(crate) fn size(&self) -> usize {
        self.columns.iter().map(Column::size).sum()
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
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

    pub(crate) fn size(&self) -> usize {
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

    /// Adds a text, or null.
    pub(crate) fn push_text(&mut self, text: Option<&str>) -> Result<(), String> {
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

    /// Adds a number, or null.
    pub(crate) fn push_number(&mut self, number: Option<i64>) -> Result<(), String> {
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

    /// Adds the headers of a record.
    pub(crate) fn push_headers(&mut self, headers: &[(&str, Option<&str>)]) -> Result<(), String> {
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

    /// Adds a null.
    pub(crate) fn push_null(&mut self) {
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

    /// Adds some rows of a column of the same type.
    fn extend(&mut self, other: &Column, rows: Range<usize>) -> Result<(), String> {
        self.valid.extend_from_slice(&other.valid[rows.clone()]);
        match (&mut self.values, &other.values) {
            (Values::Boolean(all), Values::Boolean(more)) => all.extend_from_slice(&more[rows]),
            (Values::Int32(all), Values::Int32(more)) | (Values::Date(all), Values::Date(more)) => {
                all.extend_from_slice(&more[rows]);
            }
            (Values::Int64(all), Values::Int64(more)) | (Values::Timestamp(all), Values::Timestamp(more)) => {
                all.extend_from_slice(&more[rows]);
            }
            (Values::Float(all), Values::Float(more)) => all.extend_from_slice(&more[rows]),
            (Values::Double(all), Values::Double(more)) => all.extend_from_slice(&more[rows]),
            (Values::Decimal(all), Values::Decimal(more)) => all.extend_from_slice(&more[rows]),
            (Values::Bytes(all), Values::Bytes(more)) => all.extend(more, rows)?,
            (Values::List(all, ends), Values::List(more, others)) => all.extend(more, ends.extend(others, rows)?)?,
            (Values::Map(names, all, ends), Values::Map(others, more, other_ends)) => {
                let entries = ends.extend(other_ends, rows)?;
                names.extend(others, entries.clone())?;
                all.extend(more, entries)?;
            }
            (Values::Struct(all), Values::Struct(more)) => all.extend(more, rows)?,
            _ => return Err("rows of other columns".to_owned()),
        }
        Ok(())
    }

    /// Forgets all rows but the first `rows`, and what may have been added of one that was never finished.
    pub(crate) fn truncate(&mut self, rows: usize) {
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

/// What no column holds.
const LARGE: &str = "has more than 2 GiB";

/// What can not be: the column is made for them.
const NO_HEADERS: &str = "the column of headers is made for something else";
