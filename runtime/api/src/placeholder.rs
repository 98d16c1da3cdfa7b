//! What stands in the braces of templates: `topic`, `timestamp:%Y-%m-%d`, `field:user.id`.

use chrono::format::{Item, StrftimeItems};

/// What a template puts in a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Placeholder {
    /// The record's topic.
    Topic,
    /// Its partition.
    Partition,
    /// Its offset.
    Offset,
    /// Its key.
    Key,
    /// Its whole value.
    Value,
    /// The value of a header.
    Header(String),
    /// Its timestamp, in this format.
    Timestamp(Vec<Item<'static>>),
    /// A field of its value, which is JSON.
    Field(Vec<String>),
}

/// What people can write in braces, for messages.
const EXAMPLES: [(&str, &str); 8] = [
    ("topic", "{topic}"),
    ("partition", "{partition}"),
    ("offset", "{offset}"),
    ("key", "{key}"),
    ("value", "{value}"),
    ("header", "{header:name}"),
    ("timestamp", "{timestamp:%Y-%m-%d}"),
    ("field", "{field:a.b}"),
];

impl Placeholder {
    /// The names of all.
    pub const NAMES: [&str; 8] = ["topic", "partition", "offset", "key", "value", "header", "timestamp", "field"];

    /// Reads what stands in braces, where only placeholders of these names may.
    ///
    /// # Errors
    /// A text for people.
    pub fn parse(inner: &str, names: &[&str]) -> Result<Self, String> {
        let (name, argument) = inner.split_once(':').map_or((inner, None), |(name, argument)| (name, Some(argument)));
        match (name, argument) {
            _ if !names.contains(&name) => {}
            ("topic", None) => return Ok(Placeholder::Topic),
            ("partition", None) => return Ok(Placeholder::Partition),
            ("offset", None) => return Ok(Placeholder::Offset),
            ("key", None) => return Ok(Placeholder::Key),
            ("value", None) => return Ok(Placeholder::Value),
            ("timestamp", Some(format)) => return time_format(format),
            ("header", Some(name)) if !name.is_empty() => return Ok(Placeholder::Header(name.to_owned())),
            ("field", Some(path)) if path.split('.').all(|name| !name.is_empty()) => {
                return Ok(Placeholder::Field(path.split('.').map(str::to_owned).collect()));
            }
            _ => {}
        }
        Err(unknown(inner, name, names))
    }
}

fn unknown(inner: &str, name: &str, names: &[&str]) -> String {
    let known = || EXAMPLES.iter().filter(|(known, _)| names.contains(known));
    if let Some((_, example)) = known().find(|(known, _)| *known == name) {
        return format!("`{{{inner}}}` is not complete or says too much, expected for example `{example}`");
    }
    let nearest = known().min_by_key(|(known, _)| strsim::levenshtein(known, name));
    match nearest.filter(|(known, _)| strsim::levenshtein(known, name) <= 3) {
        Some((_, example)) => format!("unknown placeholder `{{{inner}}}`, did you mean `{example}`?"),
        None => {
            let examples: Vec<&str> = known().map(|(_, example)| *example).collect();
            format!("unknown placeholder `{{{inner}}}`, expected one of {}", examples.join(", "))
        }
    }
}

fn time_format(format: &str) -> Result<Placeholder, String> {
    let items: Vec<_> = StrftimeItems::new(format).map(Item::to_owned).collect();
    if format.is_empty() || items.contains(&Item::Error) {
        return Err(format!("`{format}` is not a time format, expected for example `%Y-%m-%d`"));
    }
    Ok(Placeholder::Timestamp(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_stand_there_is_read_or_offered() {
        assert_eq!(Placeholder::parse("offset", &Placeholder::NAMES), Ok(Placeholder::Offset));
        let told = Placeholder::parse("offset", &["topic", "key"]).unwrap_err();
        assert_eq!(told, "unknown placeholder `{offset}`, expected one of {topic}, {key}");
        assert!(Placeholder::NAMES.iter().zip(EXAMPLES).all(|(name, (known, _))| *name == known));
    }
}
