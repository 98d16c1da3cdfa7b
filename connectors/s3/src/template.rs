//! Templates for the names of objects: `{topic}/date={timestamp:%Y-%m-%d}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use aqueduct_api::field;
use aqueduct_api::template::Placeholder;
use aqueduct_record::Record;

use crate::clock::Clock;
use crate::firehose;

/// A template that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    clock: Clock,
    /// What stands for a field, header or key that a record has not.
    missing: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Said(Placeholder),
}

/// What may be part of a name.
const NAMES: [&str; 6] = ["topic", "partition", "timestamp", "field", "header", "key"];

impl Template {
    /// Reads a template, or a prefix of Firehose's; an error says where and what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("!{") {
            return Template::parse(&firehose::template(text)?);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let at = text.len() - rest.len() + open;
            if rest.as_bytes()[open] == b'}' {
                return Err(format!("`}}` at character {} closes nothing", position(text, at)));
            }
            let close = rest[open..].find('}').map(|length| open + length);
            let close = close.ok_or_else(|| format!("`{{` at character {} is not closed", position(text, at)))?;
            push_text(&mut parts, &rest[..open]);
            let part = placeholder(&rest[open + 1..close]);
            parts.push(part.map_err(|why| format!("{why} (at character {})", position(text, at)))?);
            rest = &rest[close + 1..];
        }
        push_text(&mut parts, rest);
        let template = Template { parts, clock: Clock::default(), missing: None };
        template.check_text()?;
        Ok(template)
    }

    /// The same with another way to tell the time, and with what stands for what a record has not.
    pub(crate) fn with(self, clock: Clock, missing: Option<String>) -> Self {
        Template { clock, missing, ..self }
    }

    /// Whether there is something that a record may not have.
    pub(crate) fn can_miss(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Said(Placeholder::Field(_) | Placeholder::Header(_) | Placeholder::Key)))
    }

    /// A template of its texts alone is the same for all records of a partition.
    pub(crate) fn is_fixed(&self) -> bool {
        !self.can_miss() && !self.has_time()
    }

    /// Whether records of the same second have the same name.
    pub(crate) fn is_by_time(&self) -> bool {
        !self.can_miss() && (self.clock.is_timestamp() || !self.has_time())
    }

    /// Whether a time is in it.
    pub(crate) fn has_time(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Said(Placeholder::Timestamp(_))))
    }

    /// Appends the part of the name that the template makes; `record` may be missing where it is fixed. The error says why
    /// this record can have no name.
    pub(crate) fn render(
        &self,
        topic: &str,
        partition: i32,
        record: Option<&Record<'_>>,
        out: &mut String,
    ) -> Result<(), String> {
        for part in &self.parts {
            match (part, record) {
                (Part::Text(text), _) => out.push_str(text),
                (Part::Said(Placeholder::Topic), _) => escape(topic, out),
                (Part::Said(Placeholder::Partition), _) => drop(write!(out, "{partition}")),
                (Part::Said(Placeholder::Timestamp(format)), Some(record)) => {
                    self.clock.push(format, self.clock.time(record)?, out)?;
                }
                (Part::Said(placeholder), Some(record)) => match (said(placeholder, record), &self.missing) {
                    (Err(_), Some(missing)) => escape(missing, out),
                    (Ok(text), Some(missing)) if text.is_empty() || text == "null" => escape(missing, out),
                    (said, _) => escape(&said?, out),
                },
                (_, None) => {}
            }
        }
        check_name(out)
    }

    /// Looks at what the template makes whatever the records: texts must make whole names.
    fn check_text(&self) -> Result<(), String> {
        let mut example = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => example.push_str(text),
                Part::Said(Placeholder::Timestamp(format)) => Clock::default().push(format, 0, &mut example)?,
                _ => example.push('x'),
            }
        }
        if example.chars().any(char::is_control) {
            return Err("control characters cannot be in a name".to_owned());
        }
        if example.starts_with('/') || example.ends_with('/') {
            return Err("`/` at the beginning or the end: the url already ends where the template begins".to_owned());
        }
        check_name(&example)
    }
}

/// What a record says in a place of a name.
fn said<'a>(placeholder: &Placeholder, record: &Record<'a>) -> Result<Cow<'a, str>, String> {
    let text = |what: &str, bytes: &'a [u8]| {
        let text = std::str::from_utf8(bytes).map(Cow::Borrowed);
        text.map_err(|_| format!("the {what}, part of an object's name, is not UTF-8"))
    };
    match placeholder {
        Placeholder::Field(path) => {
            let value = record.value.ok_or_else(|| format!("no value, so no field {}", path.join(".")))?;
            field::find(value, path)
        }
        Placeholder::Header(name) => {
            let value = record.headers.get(name).flatten();
            text("header", value.ok_or_else(|| format!("no header {name}, which the name of its object needs"))?)
        }
        _ => text("key", record.key.ok_or("the record has no key, which the name of its object needs")?),
    }
}

/// Where `at` is, counted in characters from 1.
fn position(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

fn placeholder(inner: &str) -> Result<Part, String> {
    let placeholder = Placeholder::parse(inner, &NAMES)?;
    if let Placeholder::Timestamp(items) = &placeholder {
        // Names are made anew only when the second changes, and one object a millisecond is nobody's wish.
        let (mut early, mut late) = (String::new(), String::new());
        Clock::default().push(items, 1_111, &mut early)?;
        Clock::default().push(items, 1_999, &mut late)?;
        if early != late {
            return Err(format!("`{}` is finer than a second", inner.trim_start_matches("timestamp:")));
        }
    }
    Ok(Part::Said(placeholder))
}

/// Appends `value` so that it stays one part of a name and different values stay different: letters and digits, `-`, `_`,
/// `~` and dots but the first are kept, all else becomes `%` and two hexadecimal digits a byte.
pub(crate) fn escape(value: &str, out: &mut String) {
    for (at, character) in value.char_indices() {
        let kept = character.is_alphanumeric() || matches!(character, '-' | '_' | '~') || (character == '.' && at > 0);
        if kept {
            out.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // Writing into a String does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// The longest name, in bytes: with a prefix of its own and room for an upload's id in a chunk's note it stays below
/// the 1024 bytes that S3 allows.
pub(crate) const LONGEST: usize = 768;

/// Refuses what would leave its prefix, meet the hidden folder or be too long.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > LONGEST {
        return Err(format!("the name of its object would have {} bytes, more than {LONGEST}", name.len()));
    }
    let Some(part) = name.split('/').find(|part| part.is_empty() || part.starts_with('.') || part.len() > 255) else {
        return Ok(());
    };
    Err(match part.len() {
        0 => format!("the name of its object, `{name}`, has an empty part"),
        1..256 => format!("part `{part}` of the object's name begins with a dot"),
        length => format!("a part of the object's name has {length} bytes, more than 255"),
    })
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    fn rendered(template: &str, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<String, String> {
        filled(&Template::parse(template).unwrap(), timestamp, key, value)
    }

    fn filled(template: &Template, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<String, String> {
        let mut builder = BatchBuilder::new();
        builder.push(timestamp, key, value, &[("h", Some(b"o/ne")), ("null", None)]);
        let batch = builder.finish();
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let mut out = String::new();
        template.render("to.pic", 3, Some(&record), &mut out).map(|()| out)
    }

    fn check(template: &str, value: &str, expected: Result<&str, &str>) {
        match (rendered(template, 1_700_000_000_000, Some(b"k"), Some(value.as_bytes())), expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (found, expected) => panic!("{template}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn placeholders_become_what_the_record_says() {
        check("{topic}/p={partition}/{key}", "", Ok("to.pic/p=3/k"));
        check("date={timestamp:%Y-%m-%d}/hour={timestamp:%H}", "", Ok("date=2023-11-14/hour=22"));
        check("{timestamp:%Y/%m}", "", Ok("2023/11"));
        check("{field:a.b}-x", r#"{"a":{"b":"c d"}}"#, Ok("c%20d-x"));
        check("{header:h}", "", Ok("o%2Fne"));
        check("!{timestamp:yyyy/MM}/!{partitionKeyFromQuery:a}/", r#"{"a":1}"#, Ok("2023/11/1"));
    }

    #[test]
    fn what_a_record_has_not_can_have_a_name() {
        let template = Template::parse("a={field:a}/h={header:null}/k={key}").unwrap();
        let hive = template.with(Clock::default(), Some("__HIVE_DEFAULT_PARTITION__".to_owned()));
        let none = "__HIVE_DEFAULT_PARTITION__";
        for (value, expected) in [("{}", none), (r#"{"a":""}"#, none), (r#"{"a":null}"#, none), (r#"{"a":1}"#, "1")] {
            let found = filled(&hive, 0, None, Some(value.as_bytes())).unwrap();
            assert_eq!(found, format!("a={expected}/h={none}/k={none}"));
        }
    }

    #[test]
    fn a_field_can_hold_the_time() {
        let clock = Clock::parse(Some("at"), None, Some("Asia/Tokyo")).unwrap();
        let template = Template::parse("{timestamp:%Y-%m-%d/%H}").unwrap().with(clock, None);
        assert_eq!((template.is_fixed(), template.is_by_time()), (false, false));
        let rendered = |value: &str| filled(&template, 0, None, Some(value.as_bytes()));
        assert_eq!(rendered(r#"{"at":"2026-05-12T23:30:00Z"}"#).unwrap(), "2026-05-13/08");
        assert!(rendered(r#"{"at":"soon"}"#).unwrap_err().contains("field at: `soon` is no time"));
        assert!(rendered("{}").unwrap_err().contains("no field at"));
    }

    #[test]
    fn values_cannot_leave_their_place_in_the_name() {
        for (value, name) in [
            ("..", "%2E."),
            (".aqueduct", "%2Eaqueduct"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("a\\u0000b\\n", "a%00b%0A"),
            ("größe", "größe"),
            ("a+b=c", "a%2Bb%3Dc"),
        ] {
            check("{field:f}", &format!(r#"{{"f":"{value}"}}"#), Ok(name));
        }
        check("x/{field:f}", r#"{"f":""}"#, Err("empty part"));
        check("{field:f}", &format!(r#"{{"f":"{}"}}"#, "x".repeat(256)), Err("256 bytes, more than 255"));
        let parts = ["{field:f}"; 4].join("/");
        check(&parts, &format!(r#"{{"f":"{}"}}"#, "x".repeat(250)), Err("more than 768"));
    }

    #[test]
    fn records_without_what_the_name_needs_have_a_reason() {
        let reason = |template, timestamp, key, value| rendered(template, timestamp, key, value).unwrap_err();
        assert!(reason("{key}", 0, None, None).contains("no key"));
        assert!(reason("{key}", 0, Some(b"\xff"), None).contains("not UTF-8"));
        assert!(reason("{header:x}", 0, None, None).contains("no header x"));
        assert!(reason("{field:a}", 0, None, None).contains("no field a"));
        assert!(reason("{timestamp:%Y}", -1, None, None).contains("no timestamp"));
        assert!(reason("{timestamp:%Y}", i64::MAX, None, None).contains("is no time"));
    }

    #[test]
    fn bad_templates_say_where_and_what() {
        for (template, part) in [
            ("a/{topik}", "unknown placeholder `{topik}`, did you mean `{topic}`? (at character 3)"),
            ("{zzzzzzzz}", "expected one of {topic}"),
            ("ä{topic", "`{` at character 2 is not closed"),
            ("topic}", "`}` at character 6 closes nothing"),
            ("{timestamp}", "expected for example `{timestamp:%Y-%m-%d}`"),
            ("{timestamp:%Q}", "`%Q` is not a time format"),
            ("{timestamp:%H%.3f}", "finer than a second"),
            ("{field}", "expected for example `{field:a.b}`"),
            ("{field:a..b}", "expected for example `{field:a.b}`"),
            ("{topic:x}", "says too much"),
            ("/{topic}", "`/` at the beginning"),
            ("{topic}/", "or the end"),
            ("a//b", "empty part"),
            ("", "empty part"),
            ("../{topic}", "begins with a dot"),
            (".aqueduct/{topic}", "begins with a dot"),
            ("{topic}/.{key}", "begins with a dot"),
            ("a\nb", "control characters"),
        ] {
            let reason = Template::parse(template).unwrap_err();
            assert!(reason.contains(part), "{template}: {reason}");
        }
    }

    #[test]
    fn a_template_knows_what_it_depends_on() {
        let kind = |text| Template::parse(text).map(|it| (it.is_fixed(), it.is_by_time())).unwrap();
        assert_eq!(kind("{topic}/{partition}"), (true, true));
        assert_eq!(kind("{timestamp:%H}"), (false, true));
        assert_eq!(kind("{timestamp:%H}/{field:a}"), (false, false));
        assert_eq!(kind("{key}"), (false, false));
    }
}
