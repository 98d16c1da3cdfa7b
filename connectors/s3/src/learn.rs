//! What JSON values teach about their types.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::shape::{MOST_FIELDS, Members, Seen, Shape, TooMany};

/// How deep an inferred type goes: what lies deeper is text.
const DEEPEST: usize = 16;

/// Takes in an object, member by member.
pub(crate) struct Lesson<'a> {
    pub(crate) fields: &'a mut Members,
    pub(crate) seen: &'a mut Seen,
    /// Names that the object's members must not have.
    pub(crate) taken: &'a [&'a str],
    /// How deep in the value the object lies: the value itself at 1.
    pub(crate) depth: usize,
}

impl Lesson<'_> {
    /// Where the value of the member of a name is taken in.
    pub(crate) fn member(&mut self, name: &str) -> Result<Place<'_>, TooMany> {
        let shape = self.fields.member(name, self.seen, self.depth)?;
        Ok(Place { shape, seen: self.seen, depth: self.depth + 1 })
    }

    /// Takes in all members; false when there are too many names for a struct.
    fn all<'de, A: MapAccess<'de>>(mut self, mut members: A) -> Result<bool, A::Error> {
        self.fields.begin();
        while let Some(name) = members.next_key::<Name<'de>>()? {
            let name = &*name.0;
            if self.taken.contains(&name) {
                return Err(A::Error::custom(format!("its field {name} has the name of one of the setting columns")));
            }
            match self.member(name) {
                Ok(place) => members.next_value_seed(place)?,
                Err(TooMany::Names) => {
                    members.next_value::<IgnoredAny>()?;
                    while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(false);
                }
                Err(TooMany::Fields) => {
                    let why = "with it and the records before it there would be more than";
                    return Err(A::Error::custom(format!("field {name}: {why} {MOST_FIELDS} columns: give a schema")));
                }
            }
        }
        Ok(true)
    }
}

impl<'de> DeserializeSeed<'de> for Lesson<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Lesson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        self.all(members).map(drop)
    }
}

/// A name that is borrowed where it holds no escapes.
#[derive(Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Takes in what is found in one place.
pub(crate) struct Place<'a> {
    shape: &'a mut Shape,
    seen: &'a mut Seen,
    depth: usize,
}

impl Place<'_> {
    /// Takes in a scalar.
    pub(crate) fn scalar(self, shape: Shape) {
        self.shape.merge(shape, self.seen);
    }

    /// Takes in a number by its text: a whole one only where it is written as one and an `int64` holds it.
    pub(crate) fn number(self, text: &str) {
        if *self.shape != Shape::Double {
            let is_whole = text != "-0" && text.parse::<i64>().is_ok();
            self.scalar(if is_whole { Shape::Whole } else { Shape::Double });
        }
    }

    /// Takes in any JSON.
    pub(crate) fn any(self, text: &str) -> Result<(), serde_json::Error> {
        match self.shape {
            // Nothing is to be learned that it is not already.
            Shape::Text => Ok(()),
            _ => self.deserialize(&mut serde_json::Deserializer::from_str(text)),
        }
    }

    /// What takes in the items of a list; `None` where there was something else than lists.
    pub(crate) fn items(&mut self) -> Option<Items<'_>> {
        self.deepen();
        if *self.shape == Shape::Null {
            self.shape.become_one(Shape::List(Box::default()), self.seen);
        }
        match self.shape {
            Shape::List(shape) => Some(Items { shape, seen: self.seen, depth: self.depth + 1 }),
            _ => None,
        }
    }

    /// What takes in the members of an object; `None` where there was something else than objects.
    pub(crate) fn members(&mut self) -> Option<Lesson<'_>> {
        self.deepen();
        if *self.shape == Shape::Null {
            self.shape.become_one(Shape::Object(Members::default()), self.seen);
        }
        match self.shape {
            Shape::Object(fields) => Some(Lesson { fields, seen: self.seen, taken: &[], depth: self.depth }),
            _ => None,
        }
    }

    /// What lies too deep is text, whatever it is.
    fn deepen(&mut self) {
        if self.depth > DEEPEST && *self.shape != Shape::Text {
            self.shape.become_one(Shape::Text, self.seen);
        }
    }
}

/// Takes in the items of a list.
pub(crate) struct Items<'a> {
    shape: &'a mut Shape,
    seen: &'a mut Seen,
    depth: usize,
}

impl Items<'_> {
    /// Where the next one is taken in.
    pub(crate) fn item(&mut self) -> Place<'_> {
        Place { shape: self.shape, seen: self.seen, depth: self.depth }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.deepen();
        match self.shape {
            Shape::Text => {
                let text = <&RawValue>::deserialize(deserializer)?.get();
                // A string must be one, as its row will hold it and not its JSON.
                if text.starts_with('"') {
                    serde_json::from_str::<Name<'_>>(text).map_err(D::Error::custom)?;
                }
                Ok(())
            }
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
        self.scalar(Shape::Boolean);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.scalar(Shape::Whole);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.scalar(if i64::try_from(number).is_ok() { Shape::Whole } else { Shape::Double });
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.scalar(Shape::Double);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.scalar(Shape::String);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let Some(mut lesson) = self.items() else {
            self.shape.become_one(Shape::Text, self.seen);
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while items.next_element_seed(lesson.item())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let is_struct = match self.members() {
            Some(lesson) => lesson.all(members)?,
            None => {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                false
            }
        };
        if !is_struct {
            self.shape.become_one(Shape::Text, self.seen);
        }
        Ok(())
    }
}
