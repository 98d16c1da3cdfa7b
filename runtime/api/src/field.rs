//! One field of a JSON value, found without reading the rest into memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The text of the scalar at `path` in a JSON value: a string's characters, a number as it was written, `true`, `false`
/// or `null`. Of a name that comes twice in an object the last counts.
pub fn find<'a>(json: &'a [u8], path: &[String]) -> Result<Cow<'a, str>, String> {
    let field = || path.join(".");
    let not_json = |cause: &dyn fmt::Display| format!("the value is not JSON, so it has no field {}: {cause}", field());
    let mut text = std::str::from_utf8(json).map_err(|cause| not_json(&cause))?;
    for name in path {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let found = deserializer.deserialize_map(Member(name)).map_err(|cause| match cause.classify() {
            serde_json::error::Category::Data => format!("the value has no field {}", field()),
            _ => not_json(&cause),
        })?;
        deserializer.end().map_err(|cause| not_json(&cause))?;
        text = found.ok_or_else(|| format!("the value has no field {}", field()))?.get();
    }
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Text<'a>>(text).map(|text| text.0).map_err(|cause| not_json(&cause)),
        Some(b'{' | b'[') => Err(format!("field {} is an object or a list", field())),
        _ => Ok(Cow::Borrowed(text)),
    }
}

/// A string that is borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Finds the member of that name in an object.
struct Member<'n>(&'n str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = members.next_key::<Text<'de>>()? {
            if name == self.0 {
                found = Some(members.next_value::<&RawValue>()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, path: &str, expected: Result<&str, &str>) {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        match (find(json.as_bytes(), &path), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{json}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{json}: {reason}"),
            (found, expected) => panic!("{json}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn scalars_are_found_as_they_were_written() {
        check(r#"{"a":"x"}"#, "a", Ok("x"));
        check(r#"{"b":[{"a":1}],"a":"\u00e9\n"}"#, "a", Ok("é\n"));
        check(r#"{"a":{"b":{"c":1.50}}}"#, "a.b.c", Ok("1.50"));
        check(r#" {"a" : true } "#, "a", Ok("true"));
        check(r#"{"a":null}"#, "a", Ok("null"));
        check(r#"{"a":1,"a":2}"#, "a", Ok("2"));
        check(r#"{"\u0061":3}"#, "a", Ok("3"));
    }

    #[test]
    fn what_is_not_there_has_a_reason() {
        check(r#"{"b":1}"#, "a", Err("no field a"));
        check(r#"{"a":1}"#, "a.b", Err("no field a.b"));
        check("[1]", "a", Err("no field a"));
        check(r#"{"a":{}}"#, "a", Err("field a is an object or a list"));
        check("plain text", "a", Err("not JSON"));
        check(r#"{"a":1} x"#, "a", Err("not JSON"));
        check(r#"{"a":1"#, "a", Err("not JSON"));
        check("", "a", Err("not JSON"));
    }
}
