//! What an index is called: a template in lower case, held to the rules that Elasticsearch has for names.

use aqueduct_api::TopicPartition;
use aqueduct_api::template::{Piece, Template};
use aqueduct_record::Record;

/// The longest name that an index may have, in bytes.
const LONGEST: usize = 255;
/// What a name may not hold: what Elasticsearch refuses, and what it reads as a list, a pattern or another cluster.
const REFUSED: [char; 14] = ['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':', '\0', '\u{7f}'];

/// The template of an index's name.
#[derive(Clone, Debug)]
pub(crate) struct IndexName {
    template: Template,
    /// Whether the template itself begins with a dot: records may not make a name do so.
    hidden: bool,
    /// Whether what a record says is part of the name.
    said: bool,
}

impl IndexName {
    /// Reads a template; an error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        if template.has_value() {
            return Err("a whole value is no part of a name, name a field: `{field:a.b}`".to_owned());
        }
        if template.is_text() {
            check(&text.to_lowercase(), template.prefix().starts_with('.'))?;
        } else if !template.prefix().is_empty() {
            check(&template.prefix().to_lowercase(), template.prefix().starts_with('.'))?;
        }
        let said = ["{key}", "{field:", "{header:"].iter().any(|placeholder| text.contains(placeholder));
        Ok(IndexName { hidden: template.prefix().starts_with('.'), said, template })
    }

    /// The one name that it makes, where it is text alone.
    pub(crate) fn text(&self) -> Option<String> {
        self.template.is_text().then(|| self.template.prefix().to_lowercase())
    }

    /// What every name begins with.
    pub(crate) fn prefix(&self) -> String {
        self.template.prefix().to_lowercase()
    }

    /// Whether what a record says is part of the name, so that one record alone can be at fault.
    pub(crate) fn is_said_by_records(&self) -> bool {
        self.said
    }

    /// Puts the name of a record's index into `name`; the error says why there is none.
    pub(crate) fn of(&self, of: &TopicPartition, record: &Record<'_>, name: &mut String) -> Result<(), String> {
        name.clear();
        self.template.fill(of, record, |piece| match piece {
            Piece::Text(text) | Piece::Said(text) => lower(text, name),
            Piece::Value(_) => {}
        })?;
        check(name, self.hidden)
    }
}

fn lower(text: &str, name: &mut String) {
    if text.is_ascii() {
        let start = name.len();
        name.push_str(text);
        name[start..].make_ascii_lowercase();
    } else {
        name.push_str(&text.to_lowercase());
    }
}

fn check(name: &str, hidden: bool) -> Result<(), String> {
    let what = match name.chars().next() {
        None => "is empty",
        Some('-' | '_' | '+') => "begins with `-`, `_` or `+`",
        Some('.') if !hidden => "begins with a dot, which the setting's own text does not",
        Some(_) if name == "." || name == ".." => "is no name",
        Some(_) if name.len() > LONGEST => "has more than 255 bytes",
        Some(_) if name.chars().any(|found| found.is_control() || REFUSED.contains(&found)) => {
            r#"holds a space, a control character or one of \ / * ? " < > | , # :"#
        }
        Some(_) => return Ok(()),
    };
    let shown: String = name.chars().take(80).collect();
    Err(format!("the index name {shown:?} {what}"))
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    fn check(template: &str, key: &str, expected: Result<&str, &str>) {
        let mut builder = BatchBuilder::new();
        builder.push(1_700_000_000_000, Some(key.as_bytes()), Some(br#"{"a":{"b":"X y"}}"#), &[]);
        let batch = builder.finish();
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let mut name = "left over".to_owned();
        let named = IndexName::parse(template)
            .and_then(|index| index.of(&TopicPartition::new("Access-Log", 3), &record, &mut name).map(|()| name));
        match (named, expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (found, expected) => panic!("{template}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn names_are_in_lower_case_and_may_carry_time_and_what_a_record_says() {
        check("{topic}", "k", Ok("access-log"));
        check("nginx-{timestamp:%Y.%m.%d}", "k", Ok("nginx-2023.11.14"));
        check("logs-{key}-p{partition}", "ÄPFEL", Ok("logs-äpfel-p3"));
        check(".ds-of-ours", "k", Ok(".ds-of-ours"));
    }

    #[test]
    fn a_name_that_elasticsearch_would_not_take_is_refused_before_it_is_sent() {
        for key in ["a b", "a/b", "*", "a,b", "a:b", "<now/d>", "a\nb", "a#"] {
            check("logs-{key}", key, Err("holds a space"));
        }
        check("{field:a.b}", "k", Err("holds a space"));
        check("{key}", "..", Err("begins with a dot"));
        check("{key}", ".kibana", Err("begins with a dot"));
        check("{key}", "_all", Err("begins with `-`"));
        check("{key}", "", Err("is empty"));
        check("{key}", &"x".repeat(256), Err("more than 255"));
        check("{field:none}", "k", Err("no field none"));
    }

    #[test]
    fn a_template_that_can_make_no_name_is_wrong_at_once() {
        for (template, part) in
            [("", "is empty"), ("a b", "holds a space"), ("_x-{key}", "begins with"), ("{valu}", "unknown")]
        {
            let reason = IndexName::parse(template).unwrap_err();
            assert!(reason.contains(part), "{template}: {reason}");
        }
        assert!(IndexName::parse("x-{value}").unwrap_err().contains("whole value"));
    }
}
