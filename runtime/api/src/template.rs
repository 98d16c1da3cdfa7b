//! Templates that records fill in, for addresses, names and bodies: `{topic}-{timestamp:%Y-%m-%d}/{field:user.id}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use aqueduct_record::Record;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};

use crate::{TopicPartition, field};

/// A template that was understood. `{{` and `}}` stand for braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Header(String),
    Timestamp(Vec<Item<'static>>),
    Field(Vec<String>),
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

/// What people can write in braces, for messages.
const PLACEHOLDERS: [(&str, &str); 8] = [
    ("topic", "{topic}"),
    ("partition", "{partition}"),
    ("offset", "{offset}"),
    ("key", "{key}"),
    ("value", "{value}"),
    ("header", "{header:name}"),
    ("timestamp", "{timestamp:%Y-%m-%d}"),
    ("field", "{field:a.b}"),
];

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
            let part = placeholder(&rest[1..close]);
            parts.push(part.map_err(|why| format!("{why} (at character {})", place(text, at)))?);
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
        self.parts.iter().all(|part| matches!(part, Part::Text(_) | Part::Topic | Part::Partition))
    }

    /// Whether it is text alone.
    pub fn is_text(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the record's whole value goes into it.
    pub fn has_value(&self) -> bool {
        self.parts.contains(&Part::Value)
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
            match part {
                Part::Text(text) => add(Piece::Text(text)),
                Part::Topic => add(Piece::Text(&of.topic)),
                Part::Partition => {
                    let _ = write!(number, "{}", of.partition);
                    add(Piece::Text(&number));
                }
                Part::Offset => {
                    let _ = write!(number, "{}", record.offset);
                    add(Piece::Text(&number));
                }
                Part::Timestamp(format) => {
                    push_time(format, record.timestamp, &mut number)?;
                    add(Piece::Text(&number));
                }
                Part::Value => add(Piece::Value(record.value.ok_or("the record has no value")?)),
                Part::Key => add(Piece::Said(text_of("key", record.key)?)),
                Part::Header(name) => {
                    let value = record.headers.get(name).ok_or_else(|| format!("the record has no header {name}"))?;
                    add(Piece::Said(text_of(&format!("value in header {name}"), value)?));
                }
                Part::Field(path) => {
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

fn placeholder(inner: &str) -> Result<Part, String> {
    let (name, argument) = inner.split_once(':').map_or((inner, None), |(name, argument)| (name, Some(argument)));
    match (name, argument) {
        ("topic", None) => Ok(Part::Topic),
        ("partition", None) => Ok(Part::Partition),
        ("offset", None) => Ok(Part::Offset),
        ("key", None) => Ok(Part::Key),
        ("value", None) => Ok(Part::Value),
        ("timestamp", Some(format)) => time_format(format),
        ("header", Some(name)) if !name.is_empty() => Ok(Part::Header(name.to_owned())),
        ("field", Some(path)) if path.split('.').all(|name| !name.is_empty()) => {
            Ok(Part::Field(path.split('.').map(str::to_owned).collect()))
        }
        _ => Err(unknown(inner, name)),
    }
}

fn unknown(inner: &str, name: &str) -> String {
    if let Some((_, example)) = PLACEHOLDERS.iter().find(|(known, _)| *known == name) {
        return format!("`{{{inner}}}` is not complete or says too much, expected for example `{example}`");
    }
    let nearest = PLACEHOLDERS.iter().min_by_key(|(known, _)| strsim::levenshtein(known, name));
    let examples = PLACEHOLDERS.map(|(_, example)| example).join(", ");
    match nearest.filter(|(known, _)| strsim::levenshtein(known, name) <= 3) {
        Some((_, example)) => format!("unknown placeholder `{{{inner}}}`, did you mean `{example}`?"),
        None => format!("unknown placeholder `{{{inner}}}`, expected one of {examples}"),
    }
}

fn time_format(format: &str) -> Result<Part, String> {
    let items: Vec<_> = StrftimeItems::new(format).map(Item::to_owned).collect();
    if format.is_empty() || items.contains(&Item::Error) {
        return Err(format!("`{format}` is not a time format, expected for example `%Y-%m-%d`"));
    }
    Ok(Part::Timestamp(items))
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
