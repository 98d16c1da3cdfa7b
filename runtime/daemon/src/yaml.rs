//! YAML 1.2 into a tree that knows where everything stands, within bounds of size, depth and aliases.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::Number;

use crate::problems::{Document, Place, Problem, Step};
use crate::tree::{Entry, Kind, Node};

/// The most values that a document may stand for, aliases expanded.
const MOST_VALUES: usize = 100_000;

/// How deep values may be nested.
const DEEPEST: usize = 64;

/// Reads a document. Where a tree comes with problems, it is whole but for what they name.
pub(crate) fn parse(document: &Arc<Document>) -> (Option<Node>, Vec<Problem>) {
    let mut builder =
        Builder { document, problems: Vec::new(), open: Vec::new(), anchors: HashMap::new(), size: 0, root: None };
    let options =
        granit_parser::options! { emit_comments: false, flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST };
    for event in Parser::new_from_str_with_options(&document.text, options) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(builder.syntax(&error)),
        };
        if let Err(problem) = taken {
            builder.problems.push(problem);
            return (None, builder.problems);
        }
    }
    if builder.root.is_none() {
        builder.problems.push(Problem::of(&document.name, "is empty"));
    }
    (builder.root, builder.problems)
}

/// A tree under construction.
struct Builder<'a> {
    document: &'a Arc<Document>,
    problems: Vec<Problem>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    size: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    holds: Holds,
}

enum Holds {
    Items(Vec<Node>),
    Entries { entries: Vec<Entry>, known: HashMap<String, Place>, key: Option<(String, Place)> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let place = self.place(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                return Err(self.wrong(&place, "a second document begins here: a file holds one"));
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(&place, 1)?;
                if self.wants_key() {
                    return self.key(text.into_owned(), place);
                }
                let plain = match tag {
                    None => style == ScalarStyle::Plain,
                    Some(tag) if tag.is_yaml_core_schema_tag("str") => false,
                    Some(tag) => {
                        return Err(self.wrong(&place, &format!("tags like `{}` are not supported", tag.original())));
                    }
                };
                let kind = if plain { plain_kind(&text) } else { Kind::Text(text.into_owned()) };
                self.complete(Node { place, kind }, anchor);
            }
            Event::Alias(anchor) => self.alias(anchor, place)?,
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(place, anchor, tag.is_some(), Holds::Items(Vec::new()))?
            }
            Event::MappingStart(_, anchor, tag) => {
                let holds = Holds::Entries { entries: Vec::new(), known: HashMap::new(), key: None };
                self.begin(place, anchor, tag.is_some(), holds)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, tagged: bool, holds: Holds) -> Result<(), Problem> {
        self.count(&place, 1)?;
        if tagged {
            return Err(self.wrong(&place, "tags are not supported"));
        }
        if self.wants_key() {
            return Err(self.wrong(&place, "a key must be text"));
        }
        if self.open.len() >= DEEPEST {
            return Err(self.wrong(&place, &format!("nested more than {DEEPEST} levels deep")));
        }
        self.open.push(Open { place, anchor, holds });
        Ok(())
    }

    fn end(&mut self) {
        let Some(Open { place, anchor, holds }) = self.open.pop() else { return };
        let kind = match holds {
            Holds::Items(items) => Kind::List(items),
            Holds::Entries { entries, .. } => Kind::Map(entries),
        };
        self.complete(Node { place, kind }, anchor);
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Problem> {
        if self.wants_key() {
            return Err(self.wrong(&place, "a key must be text, not an alias"));
        }
        // The parser knows every anchor, but one whose value is still open would hold itself.
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self.wrong(&place, "an alias to a value that holds it"));
        };
        let (size, depth) = node.measure();
        self.count(&place, size)?;
        if self.open.len() + depth > DEEPEST {
            return Err(self.wrong(&place, &format!("nested more than {DEEPEST} levels deep")));
        }
        self.complete(node, 0);
        Ok(())
    }

    fn key(&mut self, name: String, at: Place) -> Result<(), Problem> {
        if name == "<<" {
            return Err(self.wrong(&at, "merge keys (`<<`) are not part of YAML 1.2: repeat the keys, or use an alias"));
        }
        if let Some(Open { holds: Holds::Entries { key, .. }, .. }) = self.open.last_mut() {
            *key = Some((name, at));
        }
        Ok(())
    }

    fn complete(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let duplicate = match self.open.last_mut().map(|open| &mut open.holds) {
            None => {
                self.root = Some(node);
                None
            }
            Some(Holds::Items(items)) => {
                items.push(node);
                None
            }
            Some(Holds::Entries { entries, known, key }) => {
                let Some((key, place)) = key.take() else { return };
                match known.get(&key) {
                    Some(first) => Some((key, place, first.line)),
                    None => {
                        known.insert(key.clone(), place.clone());
                        entries.push(Entry { key, place, value: node });
                        None
                    }
                }
            }
        };
        if let Some((key, place, line)) = duplicate {
            let mut way = self.way();
            way.push(Step::Key(key.clone()));
            self.problems.push(Problem::at(&place, &way, format!("duplicate key `{key}`, first at line {line}")));
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last().map(|open| &open.holds), Some(Holds::Entries { key: None, .. }))
    }

    fn count(&mut self, place: &Place, more: usize) -> Result<(), Problem> {
        self.size += more;
        match self.size > MOST_VALUES {
            true => Err(self.wrong(place, &format!("more than {MOST_VALUES} values, aliases expanded"))),
            false => Ok(()),
        }
    }

    /// The way to the value that is being read.
    fn way(&self) -> Vec<Step> {
        let steps = self.open.iter().filter_map(|open| match &open.holds {
            Holds::Items(items) => Some(Step::Index(items.len())),
            Holds::Entries { key, .. } => key.as_ref().map(|(key, _)| Step::Key(key.clone())),
        });
        steps.collect()
    }

    fn wrong(&self, place: &Place, message: &str) -> Problem {
        Problem::at(place, &self.way(), message)
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let marker = *error.marker();
        let place =
            Place { document: self.document.clone(), line: marker.line().max(1), column: marker.col() + 1, width: 1 };
        Problem::at(&place, &[], format!("not valid YAML: {}", error.info()))
    }

    fn place(&self, span: Span) -> Place {
        let (start, end) = (span.start, span.end);
        let line = start.line().max(1);
        let width = match end.line() == start.line() {
            true => end.col().saturating_sub(start.col()),
            false => 1,
        };
        Place { document: self.document.clone(), line, column: start.col() + 1, width: width.max(1) }
    }
}

/// What a plain scalar stands for in YAML 1.2's core schema. Infinity and not-a-number stay text: JSON has neither.
fn plain_kind(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    let number = integer(text).or_else(|| float(text));
    number.map_or_else(|| Kind::Text(text.to_owned()), Kind::Number)
}

fn integer(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).ok().map(Number::from);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let signed = text.parse::<i64>().map(Number::from);
    signed.or_else(|_| text.parse::<u64>().map(Number::from)).ok()
}

fn float(text: &str) -> Option<Number> {
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let begins = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match begins && text.chars().all(numeric) {
        true => text.parse::<f64>().ok().and_then(Number::from_f64),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
        parse(&Arc::new(Document { name: "a.yaml".to_owned(), text: text.to_owned() }))
    }

    fn first_problem(text: &str) -> String {
        let problem = read(text).1.into_iter().next().expect("a problem").to_string();
        problem.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for (text, value) in [
            ("5", json!(5)),
            ("-5", json!(-5)),
            ("0x1f", json!(31)),
            ("0o17", json!(15)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("off", json!("off")),
            ("yes", json!("yes")),
            ("7d", json!("7d")),
            ("1.2.3", json!("1.2.3")),
            ("10:30", json!("10:30")),
            (".inf", json!(".inf")),
            ("e5", json!("e5")),
            ("~", json!(null)),
            ("'5'", json!("5")),
            ("\"a\\nb\"", json!("a\nb")),
            ("!!str 5", json!("5")),
            ("|\n    x\n    y", json!("x\ny\n")),
        ] {
            let (node, problems) = read(&format!("k: {text}\n"));
            assert!(problems.is_empty(), "{text}: {problems:?}");
            assert_eq!(node.unwrap().json(), json!({ "k": value }), "{text}");
        }
    }

    #[test]
    fn everything_has_its_place() {
        let (node, _) = read("a:\n  b.c: [1, two]\n  d: *x\n".replace("*x", "{ e: 5 }").as_str());
        let node = node.unwrap();
        let check = |path: &str, key: bool, line: usize, column: usize| {
            let place = node.place_of(&node.steps(path), key);
            assert_eq!((place.line, place.column), (line, column), "{path}");
        };
        check("a.b.c[1]", false, 2, 12);
        check("a.b.c", true, 2, 3);
        check("a.d.e", false, 3, 11);
        check("a.d.e", true, 3, 8);
        check("a.d.missing", false, 3, 3);
        check("a.nothing.here", false, 1, 1);
        assert_eq!(node.steps("a.b.c[1]"), [Step::Key("a".into()), Step::Key("b.c".into()), Step::Index(1)]);
    }

    #[test]
    fn aliases_stand_for_their_anchors() {
        let (node, problems) = read("a: &one { x: 1 }\nb: *one\nc: [*one, *one]\n");
        assert!(problems.is_empty());
        assert_eq!(node.unwrap().json(), json!({"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]}));
    }

    #[test]
    fn what_is_not_one_clear_tree_is_refused_with_its_place() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: a: duplicate key `a`, first at line 1"),
            ("x:\n  - { k: 1, k: 2 }\n", "a.yaml:2:13: x[0].k: duplicate key `k`, first at line 2"),
            ("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second document begins here: a file holds one"),
            ("", "a.yaml: is empty"),
            ("a: !secret x\n", "a.yaml:1:12: a: tags like `!secret` are not supported"),
            ("[a]: 1\n", "a.yaml:1:1: a key must be text"),
            ("a: &x\n  b: *x\n", "a.yaml:2:6: a.b: an alias to a value that holds it"),
            (
                "a: &x { b: 1 }\nc: { <<: *x }\n",
                "a.yaml:2:6: c: merge keys (`<<`) are not part of YAML 1.2: repeat the keys, or use an alias",
            ),
        ] {
            assert!(first_problem(text).ends_with(expected), "{text:?}: {}", first_problem(text));
        }
        for broken in ["a: [1, 2\n", "a: 'x\n", "a: b: c\n", "a:\n\tb: 1\n", "a: *nothing\n", "%YAML 9.9\n---\na: @x\n"]
        {
            let problems = read(broken).1;
            assert!(problems.iter().any(|it| it.message.contains("not valid YAML")), "{broken:?}: {problems:?}");
        }
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
        }
        assert!(first_problem(&bomb).contains("more than 100000 values"), "{}", first_problem(&bomb));
        let mut chain = "a0: &a0 [[[[[[[[x]]]]]]]]\n".to_owned();
        for level in 1..40 {
            chain += &format!("a{level}: &a{level} [[[[[[[[*a{}]]]]]]]]\n", level - 1);
        }
        assert!(first_problem(&chain).contains("nested more than 64 levels deep"), "{}", first_problem(&chain));
        let deep = format!("a: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
        assert!(!read(&deep).1.is_empty());
        let indented: String = (0..200).map(|level| format!("{}k:\n", " ".repeat(level))).collect();
        assert!(!read(&indented).1.is_empty());
        let dashes = format!("{}x\n", "- ".repeat(5000));
        assert!(!read(&dashes).1.is_empty());
    }
}
