//! The types of what was seen in values, as far as they go together.

use std::collections::BTreeMap;

use crate::schema::{Field, Kind};

/// The most names that an object inside a value has as a struct: with more, names are data, and it is text.
const MOST_NAMES: usize = 256;

/// The most fields of a whole value, inner ones counted: what has more needs a schema.
pub(crate) const MOST_FIELDS: usize = 2000;

/// What was counted on the way.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Fields, inner ones counted.
    pub(crate) fields: usize,
    /// How often something was learned.
    pub(crate) news: u64,
}

/// The type of what was seen in a place.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Shape {
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
pub(crate) struct Members {
    /// In the order in which they came up.
    shapes: Vec<(String, Shape)>,
    /// Where each is, by its name.
    places: BTreeMap<String, usize>,
    /// Where the next one is likely to be: most objects name their members in the same order.
    next: usize,
}

/// Why an object's member is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// Its object has more names than a struct may.
    Names,
    /// The value has more fields than a schema may.
    Fields,
}

impl Members {
    /// Begins with the members of another object.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
    }

    /// The shape of the member of a name, which may be new, in an object at this depth.
    pub(crate) fn member(&mut self, name: &str, seen: &mut Seen, depth: usize) -> Result<&mut Shape, TooMany> {
        let place = match self.find(name) {
            Some(place) => place,
            None if depth > 1 && self.shapes.len() == MOST_NAMES => return Err(TooMany::Names),
            None if seen.fields == MOST_FIELDS => return Err(TooMany::Fields),
            None => {
                seen.fields += 1;
                seen.news += 1;
                self.insert(name)
            }
        };
        Ok(&mut self.shapes[place].1)
    }

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

    /// The fields that they make, by name: what has no type is left out.
    pub(crate) fn fields(&self) -> Vec<Field> {
        self.sorted().filter_map(|(name, shape)| Some(Field::optional(name.to_owned(), shape.kind()?))).collect()
    }

    /// Whether all that was seen can be put into fields of `expected`, which are sorted by name as those of an inferred schema
    /// are.
    pub(crate) fn are_within(&self, expected: &[Field]) -> bool {
        self.sorted().all(|(name, shape)| match expected.binary_search_by(|field| field.name.as_str().cmp(name)) {
            Ok(found) => shape.is_within(&expected[found].kind),
            // What has no type is left out.
            Err(_) => shape.kind().is_none(),
        })
    }

    /// By name.
    fn sorted(&self) -> impl Iterator<Item = (&str, &Shape)> {
        self.places.values().map(|place| &self.shapes[*place]).map(|(name, shape)| (name.as_str(), shape))
    }
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
            Shape::Object(members) => match members.fields() {
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
            (Shape::Object(members), Kind::Struct(expected)) => members.are_within(expected),
            _ => false,
        }
    }

    /// Takes in a scalar of type `other`.
    pub(crate) fn merge(&mut self, other: Shape, seen: &mut Seen) {
        let merged = match (&*self, &other) {
            (one, _) if *one == other => return,
            (Shape::Null, _) => other,
            (Shape::Double, Shape::Whole) => return,
            (Shape::Whole, Shape::Double) => Shape::Double,
            _ => Shape::Text,
        };
        self.become_one(merged, seen);
    }

    pub(crate) fn become_one(&mut self, shape: Shape, seen: &mut Seen) {
        *self = shape;
        seen.news += 1;
    }
}
