//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeStruct;

/// How many characters of a line are shown.
const WIDEST: usize = 100;

/// A file of the configuration, as it was read.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its path, as people named it.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) text: String,
}

/// A stretch of one line of a document.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Which document.
    pub(crate) document: Arc<Document>,
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    /// How many characters it covers on its first line.
    pub(crate) width: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.document.name, self.line, self.column)
    }
}

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

/// The way to a value, as people write it: `sinks.lake.topics[0]`.
pub(crate) struct Way<'a>(pub(crate) &'a [Step]);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Something wrong with a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Where; `None` when it is the file as a whole that cannot be read.
    pub(crate) place: Option<Place>,
    /// The way to the value from the configuration's root; empty for the root.
    pub(crate) path: String,
    /// What is wrong, what was expected.
    pub(crate) message: String,
}

impl Problem {
    /// A problem with the value at `place`.
    pub(crate) fn at(place: &Place, way: &[Step], message: impl Into<String>) -> Self {
        Problem { place: Some(place.clone()), path: Way(way).to_string(), message: message.into() }
    }

    /// A problem with something that has no place in a file.
    pub(crate) fn of(what: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { place: None, path: what.into(), message: message.into() }
    }

    /// The line of the file with a caret under the place. It ends where the place ends: what follows may be a secret.
    fn excerpt(&self) -> Option<String> {
        let place = self.place.as_ref()?;
        let line = place.document.text.lines().nth(place.line - 1)?;
        let end = place.column - 1 + place.width;
        // Of a long line, what stands before the place is cut too.
        let cut = if end > WIDEST { (place.column - 1).min(end - WIDEST) } else { 0 };
        let less = if cut > 0 { "… " } else { "" };
        let ends = line.trim_end().chars().count() <= end;
        let shown: String = line.chars().take(end).skip(cut).take(WIDEST).collect();
        let more = if ends && end - cut <= WIDEST { "" } else { " …" };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let before = less.chars().chain(shown.chars().take(place.column - 1 - cut));
        let before: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(place.width.clamp(1, WIDEST));
        Some(format!("  {number} | {less}{shown}{more}\n  {margin} | {before}{carets}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match self.excerpt() {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 5)?;
        fields.serialize_field("file", &self.place.as_ref().map(|place| &place.document.name))?;
        fields.serialize_field("line", &self.place.as_ref().map(|place| place.line))?;
        fields.serialize_field("column", &self.place.as_ref().map(|place| place.column))?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("message", &self.message)?;
        fields.end()
    }
}

/// The nearest of `names` to what somebody wrote, where one is near enough to have been meant.
pub(crate) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The first forgives what is missing at the end, the second what is swapped.
    let score = |name: &str| {
        let begins = strsim::jaro_winkler(written, name);
        let swapped = strsim::normalized_damerau_levenshtein(written, name) + 0.2;
        begins.max(swapped)
    };
    let scored = names.into_iter().map(|name| (score(name), name));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= 0.8).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_up_to_where_it_is() {
        let text = "sinks:\n  lake:\n    compresion: zstd\n".to_owned();
        let document = Arc::new(Document { name: "aqueduct.yaml".to_owned(), text });
        let place = Place { document, line: 3, column: 5, width: 10 };
        let way = ["sinks", "lake", "compresion"].map(|key| Step::Key(key.to_owned()));
        let problem = Problem::at(&place, &way, "unknown key `compresion`");
        assert_eq!(
            problem.to_string(),
            "aqueduct.yaml:3:5: sinks.lake.compresion: unknown key `compresion`\n  \
               3 |     compresion …\n    |     ^^^^^^^^^^"
        );
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({"file": "aqueduct.yaml", "line": 3, "column": 5, "path": "sinks.lake.compresion",
                "message": "unknown key `compresion`"})
        );
    }

    #[test]
    fn of_a_long_line_the_end_is_shown() {
        let text = format!("{}settings: {{ path: 'x' }}", "a".repeat(200));
        let document = Arc::new(Document { name: "a.yaml".to_owned(), text });
        let check = |column: usize, width: usize, shown: &str, carets: &str| {
            let problem = Problem::at(&Place { document: document.clone(), line: 1, column, width }, &[], "no");
            assert_eq!(problem.to_string(), format!("a.yaml:1:{column}: no\n  1 | {shown}\n    | {carets}"));
        };
        let a = |count: usize| "a".repeat(count);
        check(201, 8, &format!("… {}settings …", a(92)), &format!("{}{}", " ".repeat(94), "^".repeat(8)));
        check(219, 3, &format!("… {}settings: {{ path: 'x' …", a(79)), &format!("{}^^^", " ".repeat(99)));
        check(1, 221, &format!("{} …", a(100)), &"^".repeat(100));
        check(1, 3, "aaa …", "^^^");
    }

    #[test]
    fn the_nearest_name_is_one_that_may_have_been_meant() {
        let names = ["compression", "url", "path", "format"];
        assert_eq!(nearest("compresion", names), Some("compression"));
        assert_eq!(nearest("pth", names), Some("path"));
        assert_eq!(nearest("ulr", names), Some("url"));
        assert_eq!(nearest("form", names), Some("format"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
