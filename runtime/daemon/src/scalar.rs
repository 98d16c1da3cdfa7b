//! Where a line and a column of a text stand in the YAML that the text was written in.

use std::str::Chars;

use crate::problems::Place;

/// The place of a line and a column of `text`, which stands at `place`: in a block, folded, quoted or plain. Where the
/// file does not say what `text` says (something in it was a reference), that is `place` itself.
pub(crate) fn inside(place: &Place, text: &str, (line, column): (usize, usize)) -> Place {
    found(place, text, line, column).unwrap_or_else(|| place.clone())
}

fn found(place: &Place, text: &str, line: usize, column: usize) -> Option<Place> {
    let before: usize = text.split_inclusive('\n').take(line - 1).map(|line| line.chars().count()).sum();
    let target = before + column - 1;
    let mut source = Source::at(place)?;
    let (mut last, mut since) = ((source.line, source.column), 0);
    for (index, wanted) in text.chars().enumerate().take(target + 1) {
        if wanted.is_whitespace() {
            since += 1;
            continue;
        }
        let (written, at) = source.next()?;
        if written != wanted {
            return None;
        }
        (last, since) = (at, 0);
        if index == target {
            let word = text.chars().skip(index).take_while(|c| c.is_alphanumeric() || *c == '_').count();
            return Some(Place { document: place.document.clone(), line: at.0, column: at.1, width: word.max(1) });
        }
    }
    // Between words, or behind the last: after what stands before it.
    Some(Place { document: place.document.clone(), line: last.0, column: last.1 + since.min(1), width: 1 })
}

/// How a text is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

/// The characters of a text as they are written, white space left out: how much of it there is, and which, depends on
/// indentation and folding.
struct Source<'a> {
    rest: Chars<'a>,
    style: Style,
    line: usize,
    column: usize,
}

impl<'a> Source<'a> {
    fn at(place: &Place) -> Option<Source<'_>> {
        let text = &place.document.text;
        let start = text.split_inclusive('\n').take(place.line - 1).map(str::len).sum::<usize>();
        let line = text.get(start..)?;
        let skipped = line.char_indices().nth(place.column - 1).map_or(line.len(), |(at, _)| at);
        let mut source =
            Source { rest: line[skipped..].chars(), style: Style::Plain, line: place.line, column: place.column };
        match source.rest.as_str().chars().next() {
            Some('"') => source.style = Style::Double,
            Some('\'') => source.style = Style::Single,
            // The rest of this line says how the lines below are to be read.
            Some('|' | '>') => while source.step()? != '\n' {},
            _ => {}
        }
        if source.style != Style::Plain {
            source.step();
        }
        Some(source)
    }

    fn step(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        match c {
            '\n' => (self.line, self.column) = (self.line + 1, 1),
            _ => self.column += 1,
        }
        Some(c)
    }

    fn next(&mut self) -> Option<(char, (usize, usize))> {
        loop {
            let at = (self.line, self.column);
            let c = match (self.style, self.step()?) {
                (Style::Double, '"') => return None,
                (Style::Double, '\\') => self.escaped()?,
                (Style::Single, '\'') => match self.step()? {
                    '\'' => '\'',
                    _ => return None,
                },
                (_, c) => c,
            };
            if !c.is_whitespace() {
                return Some((c, at));
            }
        }
    }

    /// What an escape in double quotes stands for.
    fn escaped(&mut self) -> Option<char> {
        let digits = match self.step()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0' => return Some('\0'),
            'a' => return Some('\x07'),
            'b' => return Some('\x08'),
            'e' => return Some('\x1b'),
            // All that stands for white space is left out.
            't' | 'n' | 'v' | 'f' | 'r' | 'N' | '_' | 'L' | 'P' => return Some(' '),
            c => return Some(c),
        };
        let mut code = 0;
        for _ in 0..digits {
            code = code * 16 + self.step()?.to_digit(16)?;
        }
        char::from_u32(code)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::problems::Document;
    use crate::tree::Kind;
    use crate::yaml;

    /// For every word `here` of the text under `a.b`, in whatever way it is written, its own place is found.
    fn check(yaml: &str) {
        let document = Arc::new(Document { name: "a.yaml".to_owned(), text: yaml.to_owned() });
        let root = yaml::parse(&document).0.unwrap();
        let node = &root.entry("a").unwrap().value.entry("b").unwrap().value;
        let Kind::Text(text) = &node.kind else { panic!("{yaml}: no text") };
        let place = |text: &str, at: usize| {
            let line = text[..at].matches('\n').count() + 1;
            (line, text[..at].rsplit('\n').next().unwrap().chars().count() + 1)
        };
        let expected: Vec<_> = yaml.match_indices("here").map(|(at, _)| place(yaml, at)).collect();
        let found = text.match_indices("here").map(|(at, _)| inside(&node.place, text, place(text, at)));
        let found: Vec<_> = found.map(|place| (place.line, place.column)).collect();
        assert_eq!(found, expected, "in:\n{yaml}");
        assert!(!expected.is_empty());
    }

    #[test]
    fn a_place_in_a_text_is_found_however_it_is_written() {
        check("a: { b: x here }\n");
        check("a: { b: 'it''s here, é here', c: d }\n");
        check("a: { b: \"a\\\"b\\n \\u00e9\\tx here\\\\ here\" }\n");
        check("a:\n  b: |\n    one\n      two here\n\n    here\n  c: d\n");
        check("a:\n  b: |2- # how\n     here\n    x\n\n\n    here\n");
        check("a:\n  b: >\n    one\n    two here\n\n    here and\n      here\n");
        check("a:\n  b: one\n    two here\n\n    here\n");
        check("a:\n  b: \"one\n    two \\\n    here\n\n    here\"\n");
        check("a: { b: &x !!str 'one here' }\n");
        check("a: { b: &x \"one here\" }\n");
    }

    #[test]
    fn what_the_file_does_not_say_is_where_the_text_begins() {
        let document = Arc::new(Document { name: "a.yaml".to_owned(), text: "a: '${env:X} here'\n".to_owned() });
        let node = yaml::parse(&document).0.unwrap().entry("a").unwrap().value.clone();
        let found = inside(&node.place, "two words here", (1, 11));
        assert_eq!((found.line, found.column), (1, 4));
        let behind = inside(&node.place, "${env:X} here", (1, 14));
        assert_eq!((behind.line, behind.column), (1, 17));
    }
}
