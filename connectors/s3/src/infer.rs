//! The schema that an object's own records have: what is found is merged, record by record.
//!
//! The rules never fail and do not depend on the order of the records: whole numbers and others make `double`, any
//! other two types make `text`, a list or an object of several types merges inside. What is null, an empty list or an empty object
//! in all records has no type and is left out. Names are sorted.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::schema::{Field, Kind};

/// How deep an inferred type goes: what lies deeper is text.
const DEEPEST: usize = 16;

/// The most names that an object inside a value has as a struct: with more, names are data, and it is text.
const MOST_NAMES: usize = 256;

/// The most fields of a whole value, inner ones counted: what has more needs a schema.
const MOST_FIELDS: usize = 2000;

/// What the records of one object have in common.
#[derive(Debug, Default)]
pub(crate) struct Inferred {
    fields: Members,
    seen: Seen,
}

/// What was counted on the way.
#[derive(Debug, Default)]
struct Seen {
    /// Fields, inner ones counted.
    fields: usize,
    /// How often something was learned.
    news: u64,
}

/// The type of what was seen in a place.
#[derive(Debug, Default, PartialEq)]
enum Shape {
    /// Nothing but nulls.
    #[default]
    Null,
    Boolean,
    Whole,
    Double,
    String,
    Text,
    List(Box<Shape>),
    Object(Members),
}

/// What was seen in the members of objects.
#[derive(Debug, Default, PartialEq)]
struct Members {
    /// In the order in which they came up.
    shapes: Vec<(String, Shape)>,
    /// Where each is, by its name.
    places: BTreeMap<String, usize>,
    /// Where the next one is likely to be: most objects name their members in the same order.
    next: usize,
}

impl Members {
    fn find(&mut self, name: &str) -> Option<usize> {
        let is_next = self.shapes.get(self.next).is_some_and(|(next, _)| next == name);
        let found = if is_next { self.next } else { *self.places.get(name)? };
        self.next = found + 1;
        Some(found)
    }

    fn insert(&mut self, name: &str) -> usize {
        let place = self.shapes.len();
        self.shapes.push((name.to_owned(), Shape::Null));
        self.places.insert(name.to_owned(), place);
        self.next = place + 1;
        place
    }

    /// By name.
    fn sorted(&self) -> impl Iterator<Item = (&str, &Shape)> {
        self.places.values().map(|place| &self.shapes[*place]).map(|(name, shape)| (name.as_str(), shape))
    }
}

impl Inferred {
    /// Takes in a value, which must be a JSON object and have no field of a name in `taken`. The error says why it is
    /// none that a row can be made of.
    pub(crate) fn add(&mut self, value: &str, taken: &[&str]) -> Result<(), String> {
        let mut deserializer = serde_json::Deserializer::from_str(value);
        let row = Row { fields: &mut self.fields, seen: &mut self.seen, taken };
        let added = row.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        added.map_err(|cause| format!("the value makes no row: {cause}"))
    }

    /// How many fields were found, inner ones counted.
    pub(crate) fn count(&self) -> usize {
        self.seen.fields
    }

    /// How often a value had something that those before it had not: between two equal numbers nothing has changed.
    pub(crate) fn news(&self) -> u64 {
        self.seen.news
    }

    /// The schema.
    pub(crate) fn fields(&self) -> Vec<Field> {
        fields(&self.fields)
    }

    /// Whether rows of `expected` can be made of all values so far. It is no more than that: a field that is expected may
    /// never have been there.
    pub(crate) fn is_within(&self, expected: &[Field]) -> bool {
        are_within(&self.fields, expected)
    }
}

fn fields(members: &Members) -> Vec<Field> {
    members.sorted().filter_map(|(name, shape)| Some(Field::optional(name.to_owned(), shape.kind()?))).collect()
}

/// `expected` is sorted by name, as an inferred schema is.
fn are_within(members: &Members, expected: &[Field]) -> bool {
    members.sorted().all(|(name, shape)| match expected.binary_search_by(|field| field.name.as_str().cmp(name)) {
        Ok(found) => shape.is_within(&expected[found].kind),
        // What has no type is left out.
        Err(_) => shape.kind().is_none(),
    })
}

impl Shape {
    fn kind(&self) -> Option<Kind> {
        Some(match self {
            Shape::Null => return None,
            Shape::Boolean => Kind::Boolean,
            Shape::Whole => Kind::Int64,
            Shape::Double => Kind::Double,
            Shape::String => Kind::String,
            Shape::Text => Kind::Text,
            Shape::List(inner) => Kind::List(Box::new(inner.kind()?)),
            Shape::Object(members) => match fields(members) {
                fields if fields.is_empty() => return None,
                fields => Kind::Struct(fields),
            },
        })
    }

    /// Whether all that was seen can be a `kind`.
    fn is_within(&self, kind: &Kind) -> bool {
        match (self, kind) {
            (Shape::Null, _) | (_, Kind::Text) => true,
            (Shape::Boolean, Kind::Boolean)
            | (Shape::Whole, Kind::Int64 | Kind::Double)
            | (Shape::Double, Kind::Double)
            | (Shape::String, Kind::String) => true,
            (Shape::List(inner), Kind::List(kind)) => inner.is_within(kind),
            (Shape::Object(members), Kind::Struct(expected)) => are_within(members, expected),
            _ => false,
        }
    }

    /// Takes in a scalar of type `other`.
    fn merge(&mut self, other: Shape, seen: &mut Seen) {
        let merged = match (&*self, &other) {
            (one, _) if *one == other => return,
            (Shape::Null, _) => other,
            (Shape::Double, Shape::Whole) => return,
            (Shape::Whole, Shape::Double) => Shape::Double,
            _ => Shape::Text,
        };
        self.become_one(merged, seen);
    }

    fn become_one(&mut self, shape: Shape, seen: &mut Seen) {
        *self = shape;
        seen.news += 1;
    }
}

/// Merges a row into fields.
struct Row<'a> {
    fields: &'a mut Members,
    seen: &'a mut Seen,
    taken: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        merge_object(self.fields, self.seen, self.taken, 1, members).map(drop)
    }
}

/// Merges an object's members; false when it has too many names for a struct.
fn merge_object<'de, A: MapAccess<'de>>(
    fields: &mut Members,
    seen: &mut Seen,
    taken: &[&str],
    depth: usize,
    mut members: A,
) -> Result<bool, A::Error> {
    fields.next = 0;
    while let Some(name) = members.next_key::<Name<'de>>()? {
        let name = &*name.0;
        if taken.contains(&name) {
            return Err(A::Error::custom(format!("its field {name} has the name of one of the setting columns")));
        }
        let place = match fields.find(name) {
            Some(place) => place,
            None if depth > 1 && fields.shapes.len() == MOST_NAMES => {
                members.next_value::<IgnoredAny>()?;
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(false);
            }
            None if seen.fields == MOST_FIELDS => {
                let why = "with it and the records before it there would be more than";
                return Err(A::Error::custom(format!("field {name}: {why} {MOST_FIELDS} columns: give a schema")));
            }
            None => {
                seen.fields += 1;
                seen.news += 1;
                fields.insert(name)
            }
        };
        let shape = &mut fields.shapes[place].1;
        members.next_value_seed(Place { shape, seen, depth: depth + 1 })?;
    }
    Ok(true)
}

/// A name that is borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// Merges what is found in one place.
struct Place<'a> {
    shape: &'a mut Shape,
    seen: &'a mut Seen,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > DEEPEST && *self.shape != Shape::Text {
            self.shape.become_one(Shape::Text, self.seen);
        }
        match self.shape {
            Shape::Text => IgnoredAny::deserialize(deserializer).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.shape.merge(Shape::Boolean, self.seen);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.shape.merge(Shape::Whole, self.seen);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.shape.merge(if i64::try_from(number).is_ok() { Shape::Whole } else { Shape::Double }, self.seen);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.shape.merge(Shape::Double, self.seen);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.shape.merge(Shape::String, self.seen);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if *self.shape == Shape::Null {
            self.shape.become_one(Shape::List(Box::default()), self.seen);
        }
        let Shape::List(inner) = self.shape else {
            self.shape.become_one(Shape::Text, self.seen);
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while items.next_element_seed(Place { shape: inner, seen: self.seen, depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if *self.shape == Shape::Null {
            self.shape.become_one(Shape::Object(Members::default()), self.seen);
        }
        let Shape::Object(fields) = self.shape else {
            self.shape.become_one(Shape::Text, self.seen);
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        if !merge_object(fields, self.seen, &[], self.depth, members)? {
            self.shape.become_one(Shape::Text, self.seen);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(values: &[&str]) -> Vec<String> {
        let mut inferred = Inferred::default();
        for value in values {
            inferred.add(value, &["_offset"]).unwrap();
        }
        inferred.fields().into_iter().map(|Field { name, kind, .. }| format!("{name}:{kind:?}")).collect()
    }

    #[test]
    fn types_are_merged_by_fixed_rules_whatever_the_order() {
        for (values, expected) in [
            (&[r#"{"b":1,"a":true}"#][..], &["a:Boolean", "b:Int64"][..]),
            (&[r#"{"a":1}"#, r#"{"a":1.5}"#], &["a:Double"]),
            (&[r#"{"a":18446744073709551615}"#, r#"{"a":1}"#], &["a:Double"]),
            (&[r#"{"a":"x"}"#, r#"{"a":1}"#], &["a:Text"]),
            (&[r#"{"a":"x"}"#, r#"{"a":null}"#, "{}"], &["a:String"]),
            (&[r#"{"a":true}"#, r#"{"a":0}"#], &["a:Text"]),
            (&[r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#], &["a:Text"]),
            (&[r#"{"a":[1,2.5,null]}"#, r#"{"a":[]}"#], &["a:List(Double)"]),
            (&[r#"{"a":null,"b":[],"c":{},"d":[{}],"e":1}"#], &["e:Int64"]),
        ] {
            assert_eq!(kinds(values), expected);
            let reversed: Vec<_> = values.iter().rev().copied().collect();
            assert_eq!(kinds(&reversed), expected);
        }
        let nested = kinds(&[r#"{"u":{"id":1}}"#, r#"{"u":{"id":2.5,"tags":["x"]}}"#]);
        let tags = r#"Field { name: "tags", kind: List(String), required: false }"#;
        assert_eq!(nested, [format!(r#"u:Struct([Field {{ name: "id", kind: Double, required: false }}, {tags}])"#)]);
    }

    #[test]
    fn deep_and_wide_values_stay_bounded() {
        let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        assert!(kinds(&[&deep])[0].contains("Text"));
        let names = |from: usize, to: usize| {
            let names: Vec<_> = (from..to).map(|n| format!("\"n{n}\":1")).collect();
            format!("{{{}}}", names.join(","))
        };
        assert_eq!(kinds(&[&format!(r#"{{"a":{}}}"#, names(0, 257))]), ["a:Text"]);
        let mut inferred = Inferred::default();
        inferred.add(&names(0, 2000), &[]).unwrap();
        assert!(inferred.add(&names(1999, 2001), &[]).unwrap_err().contains("give a schema"));
        inferred.add(&names(7, 9), &[]).unwrap();
        assert_eq!(inferred.count(), 2000);
    }

    #[test]
    fn only_objects_make_rows() {
        for (wrong, part) in [
            ("", "EOF"),
            ("[1]", "expected an object"),
            ("{\"a\":1} {}", "trailing"),
            ("7", "expected an object"),
            ("{\"_offset\":1}", "its field _offset has the name"),
        ] {
            let why = Inferred::default().add(wrong, &["_offset"]).unwrap_err();
            assert!(why.contains(part), "{wrong}: {why}");
        }
        let bottomless = "{\"a\":".repeat(1_000_000);
        assert!(Inferred::default().add(&bottomless, &[]).is_err());
    }
}
