//! JSON values go into the columns of a schema, and what they teach about their types is taken in on the way.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::columns::{Column, Struct, Values};
use crate::learn::{self, Lesson, Name};
use crate::scalar;
use crate::schema::Kind;
use crate::shape::Shape;

impl Struct {
    /// Adds the row that `members` are; `rows` are there.
    fn push<'de, A: MapAccess<'de>>(
        &mut self,
        rows: usize,
        path: &mut Vec<String>,
        mut lesson: Option<Lesson<'_>>,
        mut members: A,
    ) -> Result<(), A::Error> {
        self.begin();
        if let Some(lesson) = &mut lesson {
            lesson.fields.begin();
        }
        while let Some(name) = members.next_key::<Name<'de>>()? {
            let lesson = lesson.as_mut().map(|lesson| member(lesson, &name.0)).transpose()?;
            let Some(found) = self.find(&name.0) else {
                match lesson {
                    Some(lesson) => members.next_value_seed(lesson)?,
                    None => members.next_value::<IgnoredAny>().map(drop)?,
                }
                continue;
            };
            let column = &mut self.columns[found];
            if column.valid.len() > rows {
                // Of a name that comes twice the last counts.
                column.truncate(rows);
            }
            let kind = &self.fields[found].kind;
            if let Err(cause) = members.next_value_seed(Place { kind, column, path, lesson }) {
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

/// What takes in the member of a name; an error where its value can not be taken in as every other.
fn member<'a, E: serde::de::Error>(lesson: &'a mut Lesson<'_>, name: &str) -> Result<learn::Place<'a>, E> {
    if lesson.taken.contains(&name) {
        return Err(E::custom("its name is taken"));
    }
    lesson.member(name).map_err(|why| E::custom(format_args!("too many: {why:?}")))
}

/// Where a whole row goes.
pub(crate) struct Root<'a> {
    pub(crate) fields: &'a mut Struct,
    /// How many are there.
    pub(crate) rows: usize,
    /// Where in the value something is that does not fit, innermost name first.
    pub(crate) path: &'a mut Vec<String>,
    /// What takes in the types of its values. It knows only what is as the columns have it: any other value is an error, and is
    /// to be taken in by itself.
    pub(crate) lesson: Option<Lesson<'a>>,
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
        self.fields.push(self.rows, self.path, self.lesson, members)
    }
}

/// Where the next value of a column goes.
struct Place<'a> {
    kind: &'a Kind,
    column: &'a mut Column,
    path: &'a mut Vec<String>,
    lesson: Option<learn::Place<'a>>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match (self.kind, &mut self.column.values) {
            (Kind::Text, Values::Bytes(values)) => {
                let raw = <&RawValue>::deserialize(deserializer)?.get();
                if let Some(lesson) = self.lesson {
                    lesson.any(raw).map_err(D::Error::custom)?;
                }
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
                if let Some(lesson) = self.lesson {
                    lesson.number(raw);
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
    /// Says that the value is there, and what it was.
    fn done(self, shape: Shape) {
        self.column.valid.push(true);
        if let Some(lesson) = self.lesson {
            lesson.scalar(shape);
        }
    }

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
        self.done(Shape::Boolean);
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
        self.done(Shape::Whole);
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
        self.done(Shape::Double);
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
        self.done(Shape::String);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let (Kind::List(kind), Values::List(inner, ends)) = (self.kind, &mut self.column.values) else {
            return Err(self.wrong(Unexpected::Seq));
        };
        let mut lesson = self.lesson.as_mut().map(|lesson| lesson.items().ok_or_else(other)).transpose()?;
        loop {
            let lesson = lesson.as_mut().map(learn::Items::item);
            if items.next_element_seed(Place { kind, column: inner, path: self.path, lesson })?.is_none() {
                break;
            }
        }
        ends.push(inner.valid.len()).map_err(A::Error::custom)?;
        self.column.valid.push(true);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        match (self.kind, &mut self.column.values) {
            (Kind::Map(kind), Values::Map(names, inner, ends)) => {
                while let Some(name) = members.next_key::<Name<'de>>()? {
                    names.push(name.0.as_bytes()).map_err(A::Error::custom)?;
                    // Nobody infers a map.
                    let place = Place { kind, column: inner, path: self.path, lesson: None };
                    if let Err(cause) = members.next_value_seed(place) {
                        self.path.push(name.0.into_owned());
                        return Err(cause);
                    }
                }
                ends.push(inner.valid.len()).map_err(A::Error::custom)?;
            }
            (_, Values::Struct(inner)) => {
                let lesson = self.lesson.as_mut().map(|lesson| lesson.members().ok_or_else(other)).transpose()?;
                inner.push(self.column.valid.len(), self.path, lesson, members)?;
            }
            _ => return Err(self.wrong(Unexpected::Map)),
        }
        self.column.valid.push(true);
        Ok(())
    }
}

/// Where values of other types have been before.
fn other<E: serde::de::Error>() -> E {
    E::custom("other types were there before")
}
