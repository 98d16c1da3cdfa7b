//! Templates that records fill in, for addresses, names and bodies: `{topic}-{timestamp:%Y-%m-%d}/{field:user.id}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use aqueduct_record::Record;
use chrono::format::Item;
use chrono::{DateTime, Utc};

use crate::{TopicPartition, field};

pub use crate::placeholder::Placeholder;

/// A template that was understood. `{{` and `}}` stand for braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Said(Placeholder),
}

/// What goes into what a template makes, so that whoever uses it can make it safe where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Written in the template, or made of numbers: the topic, a partition, an offset, a time.
    Text(&'a str),
    /// Something that a record says: a key, a header, a field.
    Said(&'a str),
    /// The record's whole value, as it is.
    Value(&'a [u8]),
}

impl Template {
    /// Reads a template; an error says where and what is wrong.
    ///
    /// # Errors
    /// A text for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let at = text.len() - rest.len() + brace;
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some(doubled) = ["{{", "}}"].into_iter().find(|doubled| rest.starts_with(doubled)) {
                literal.push_str(&doubled[1..]);
                rest = &rest[2..];
                continue;
            }
            if rest.starts_with('}') {
                return Err(format!("`}}` at character {} closes nothing; `}}}}` stands for a brace", place(text, at)));
            }
            let close = rest.find('}').ok_or_else(|| {
                format!("`{{` at character {} is not closed; `{{{{` stands for a brace", place(text, at))
            })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            let placeholder = Placeholder::parse(&rest[1..close], &Placeholder::NAMES);
            let placeholder = placeholder.map_err(|why| format!("{why} (at character {})", place(text, at)))?;
            parts.push(Part::Said(placeholder));
            rest = &rest[close + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Template { parts })
    }

    /// Whether all records of a partition make the same of it.
    pub fn is_fixed(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, Part::Text(_) | Part::Said(Placeholder::Topic | Placeholder::Partition)))
    }

    /// Whether it is text alone.
    pub fn is_text(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the record's whole value goes into it.
    pub fn has_value(&self) -> bool {
        self.parts.contains(&Part::Said(Placeholder::Value))
    }

    /// The text before the first placeholder.
    pub fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Hands what the template makes of a record to `add`, piece by piece.
    ///
    /// # Errors
    /// Why nothing can be made of this record, for people.
    pub fn fill(&self, of: &TopicPartition, record: &Record<'_>, mut add: impl FnMut(Piece<'_>)) -> Result<(), String> {
        let mut number = String::new();
        for part in &self.parts {
            number.clear();
            let placeholder = match part {
                Part::Text(text) => {
                    add(Piece::Text(text));
                    continue;
                }
                Part::Said(placeholder) => placeholder,
            };
            match placeholder {
                Placeholder::Topic => add(Piece::Text(&of.topic)),
                Placeholder::Partition => {
                    let _ = write!(number, "{}", of.partition);
                    add(Piece::Text(&number));
                }
                Placeholder::Offset => {
                    let _ = write!(number, "{}", record.offset);
                    add(Piece::Text(&number));
                }
                Placeholder::Timestamp(format) => {
                    push_time(format, record.timestamp, &mut number)?;
                    add(Piece::Text(&number));
                }
                Placeholder::Value => add(Piece::Value(record.value.ok_or("the record has no value")?)),
                Placeholder::Key => add(Piece::Said(text_of("key", record.key)?)),
                Placeholder::Header(name) => {
                    let value = record.headers.get(name).ok_or_else(|| format!("the record has no header {name}"))?;
                    add(Piece::Said(text_of(&format!("value in header {name}"), value)?));
                }
                Placeholder::Field(path) => {
                    let value = record
                        .value
                        .ok_or_else(|| format!("the record has no value, so no field {}", path.join(".")))?;
                    let found: Cow<'_, str> = field::find(value, path)?;
                    add(Piece::Said(&found));
                }
            }
        }
        Ok(())
    }
}

fn text_of<'a>(what: &str, bytes: Option<&'a [u8]>) -> Result<&'a str, String> {
    let bytes = bytes.ok_or_else(|| format!("the record has no {what}"))?;
    std::str::from_utf8(bytes).map_err(|_| format!("the record's {what} is not UTF-8"))
}

/// Where `at` is, counted in characters from 1.
fn place(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

fn push_time(format: &[Item<'static>], timestamp: i64, out: &mut String) -> Result<(), String> {
    let time = match timestamp {
        -1 => return Err("the record has no timestamp".to_owned()),
        timestamp => DateTime::<Utc>::from_timestamp_millis(timestamp),
    };
    let time = time.ok_or_else(|| format!("the record's timestamp {timestamp} is no time"))?;
    write!(out, "{}", time.format_with_items(format.iter())).map_err(|_| format!("no format for time {timestamp}"))
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    fn filled(template: &str, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<String, String> {
        let mut builder = BatchBuilder::new();
        builder.push(timestamp, key, value, &[("h", Some(b"one")), ("null", None)]);
        let batch = builder.finish().at(42, 0);
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let mut out = String::new();
        let add = |piece: Piece<'_>| match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Said(text) => drop(write!(out, "<{text}>")),
            Piece::Value(bytes) => drop(write!(out, "({})", String::from_utf8_lossy(bytes))),
        };
        Template::parse(template)?.fill(&TopicPartition::new("to.pic", 3), &record, add)?;
        Ok(out)
    }

    #[test]
    fn placeholders_become_what_the_record_says() {
        let value = r#"{"a":{"b":"c d"}}"#;
        for (template, expected) in [
            ("", ""),
            ("{topic}/p={partition}/{offset}/{key}", "to.pic/p=3/42/<k>"),
            ("{timestamp:%Y-%m-%dT%H}", "2023-11-14T22"),
            ("{field:a.b}-{header:h}", "<c d>-<one>"),
            (r#"{{"was":{value}}}"#, r#"{"was":({"a":{"b":"c d"}})}"#),
            ("{{topic}}", "{topic}"),
        ] {
            let found = filled(template, 1_700_000_000_000, Some(b"k"), Some(value.as_bytes()));
            assert_eq!(found.as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn records_without_what_is_asked_for_have_a_reason() {
        let reason = |template, timestamp, key, value| filled(template, timestamp, key, value).unwrap_err();
        assert!(reason("{key}", 0, None, None).contains("no key"));
        assert!(reason("{key}", 0, Some(b"\xff"), None).contains("key is not UTF-8"));
        assert!(reason("{header:x}", 0, None, None).contains("no header x"));
        assert!(reason("{header:null}", 0, None, None).contains("no value in header null"));
        assert!(reason("{value}", 0, None, None).contains("no value"));
        assert!(reason("{field:a}", 0, None, None).contains("no field a"));
        assert!(reason("{timestamp:%Y}", -1, None, None).contains("no timestamp"));
        assert!(reason("{timestamp:%Y}", i64::MAX, None, None).contains("is no time"));
    }

    #[test]
    fn bad_templates_say_where_and_what() {
        for (template, part) in [
            ("a/{topik}", "unknown placeholder `{topik}`, did you mean `{topic}`? (at character 3)"),
            ("{zzzzzzzzzzz}", "expected one of {topic}"),
            ("ä{topic", "`{` at character 2 is not closed"),
            ("topic}", "`}` at character 6 closes nothing"),
            ("{timestamp}", "expected for example `{timestamp:%Y-%m-%d}`"),
            ("{timestamp:%Q}", "`%Q` is not a time format"),
            ("{field:a..b}", "expected for example `{field:a.b}`"),
            ("{header:}", "expected for example `{header:name}`"),
            ("{topic:x}", "says too much"),
        ] {
            let reason = Template::parse(template).unwrap_err();
            assert!(reason.contains(part), "{template}: {reason}");
        }
    }

    #[test]
    fn a_template_knows_what_it_depends_on() {
        let kind = |text| Template::parse(text).map(|it| (it.is_text(), it.is_fixed(), it.has_value())).unwrap();
        assert_eq!(kind("x{{"), (true, true, false));
        assert_eq!(kind("{topic}/{partition}"), (false, true, false));
        assert_eq!(kind("{timestamp:%H}"), (false, false, false));
        assert_eq!(kind("{value}"), (false, false, true));
        assert_eq!(Template::parse("https://{topic}/x").unwrap().prefix(), "https://");
    }
}
