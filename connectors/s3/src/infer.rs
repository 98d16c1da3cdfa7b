//! The schema that an object's own records have: what is found is merged, record by record.
//!
//! The rules never fail and do not depend on the order of the records: whole numbers and others make `double`, any
//! other two types make `text`, a list or an object of several types merges inside. What is null, an empty list or an empty object
//! in all records has no type and is left out. Names are sorted.

use serde::de::DeserializeSeed as _;

use crate::learn::Lesson;
use crate::schema::Field;
use crate::shape::{Members, Seen};

/// What the records of one object have in common.
#[derive(Debug, Default)]
pub(crate) struct Inferred {
    fields: Members,
    seen: Seen,
}

impl Inferred {
    /// Takes in a value, which must be a JSON object and have no field of a name in `taken`. The error says why it is
    /// none that a row can be made of.
    pub(crate) fn add(&mut self, value: &str, taken: &[&str]) -> Result<(), String> {
        let mut deserializer = serde_json::Deserializer::from_str(value);
        let added = self.lesson(taken).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        added.map_err(|cause| format!("the value makes no row: {cause}"))
    }

    /// Takes in the next value member by member.
    pub(crate) fn lesson<'a>(&'a mut self, taken: &'a [&'a str]) -> Lesson<'a> {
        Lesson { fields: &mut self.fields, seen: &mut self.seen, taken, depth: 1 }
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
        self.fields.fields()
    }

    /// Whether rows of `expected` can be made of all values so far. It is no more than that: a field that is expected may
    /// never have been there.
    pub(crate) fn is_within(&self, expected: &[Field]) -> bool {
        self.fields.are_within(expected)
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
    fn a_string_that_is_none_makes_no_row_though_its_field_is_text() {
        let mut inferred = Inferred::default();
        inferred.add(r#"{"a":"x"}"#, &[]).unwrap();
        inferred.add(r#"{"a":1}"#, &[]).unwrap();
        assert!(inferred.add(r#"{"a":"\ud800"}"#, &[]).unwrap_err().contains("hex escape"));
        // As JSON it stays what it is.
        inferred.add(r#"{"a":["\ud800"]}"#, &[]).unwrap();
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
