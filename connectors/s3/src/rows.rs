//! JSON objects become rows of the columns of a schema.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use aqueduct_api::TopicPartition;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::columns::{Column, Struct, Values};
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

impl Struct {
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
            (Kind::Float | Kind::Double, _) => {
                // The parser is quicker than it is exact: the last bit may be wrong.
                let raw = <&RawValue>::deserialize(deserializer)?.get();
                let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
                match (&mut self.column.values, raw) {
                    (_, "null") => {
                        self.column.push_null();
                        return Ok(());
                    }
                    (Values::Float(values), _) if is_number => values.push(finite(raw, f32::is_finite)?),
                    (Values::Double(values), _) if is_number => values.push(finite(raw, f64::is_finite)?),
                    _ => return Err(self.wrong(unexpected(raw))),
                }
            }
            _ => return deserializer.deserialize_any(self),
        }
        self.column.valid.push(true);
        Ok(())
    }
}

/// A number that the type holds.
fn finite<T: FromStr + Copy, E: serde::de::Error>(raw: &str, is_finite: impl Fn(T) -> bool) -> Result<T, E> {
    let number = raw.parse().ok().filter(|number| is_finite(*number));
    number.ok_or_else(|| E::custom(format!("{raw} is out of range")))
}

/// What stands where a number should.
fn unexpected(raw: &str) -> Unexpected<'_> {
    match raw.as_bytes().first() {
        Some(b't') => Unexpected::Bool(true),
        Some(b'f') => Unexpected::Bool(false),
        Some(b'[') => Unexpected::Seq,
        Some(b'{') => Unexpected::Map,
        _ => Unexpected::Str(raw.trim_matches('"')),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(kind: Kind, value: &str) -> Result<Values, String> {
        let mut rows = Rows::new(&[Field::optional("d", kind)], &[]);
        rows.push(&format!("{{\"d\":{value}}}"))?;
        Ok(std::mem::replace(&mut rows.root.columns[0].values, Values::Boolean(Vec::new())))
    }

    proptest! {
        #[test]
        fn numbers_are_exact(number in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let found = column(Kind::Double, &format!("{number:?}"));
            prop_assert!(matches!(&found, Ok(Values::Double(found)) if found[0].to_bits() == number.to_bits()));
        }
    }

    #[test]
    fn what_is_no_number_is_told() {
        for (value, part) in [
            ("\"1\"", "invalid type: string \"1\", expected double"),
            ("true", "boolean `true`"),
            ("[1]", "sequence"),
            ("{}", "map"),
            ("1e999", "1e999 is out of range"),
        ] {
            let told = column(Kind::Double, value).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
        assert!(column(Kind::Float, "1e300").unwrap_err().contains("out of range"));
        assert!(matches!(column(Kind::Float, "7"), Ok(Values::Float(found)) if found == [7.0]));
    }
}
