//! All that is wrong with a value, one problem after the other, told in the words of whoever wrote it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::problems::{Problem, Step, nearest};
use crate::tree::Node;

/// More than that nobody reads at once.
const MOST: usize = 50;

/// Reads a `T` from the whole configuration. Where it cannot, every problem that can be told apart is added.
pub(crate) fn read<T: DeserializeOwned>(root: &Node, problems: &mut Vec<Problem>) -> Option<T> {
    all_problems(root, &[], root.json(), attempt::<T>, problems)
}

/// Reads a `T` from `value`, or says where that failed and why.
pub(crate) fn attempt<T: DeserializeOwned>(value: &Value) -> Result<T, (Vec<Step>, String)> {
    serde_path_to_error::deserialize::<_, T>(value).map_err(|error| {
        let way = steps(value, error.path());
        (way, error.into_inner().to_string())
    })
}

/// Tries `attempt` on `value`, which stands at `at`, again and again, each time without what was wrong the time before.
/// `attempt` answers where it failed (from `value` on) and why.
pub(crate) fn all_problems<T>(
    root: &Node,
    at: &[Step],
    mut value: Value,
    attempt: impl Fn(&Value) -> Result<T, (Vec<Step>, String)>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let mut removed: Vec<Vec<Step>> = Vec::new();
    for _ in 0..MOST {
        let (mut way, message) = match attempt(&value) {
            Ok(read) => return removed.is_empty().then_some(read),
            Err(failure) => failure,
        };
        let missing = quoted_after(&message, "missing field ");
        let follows = missing.as_ref().is_some_and(|missing| {
            removed.iter().any(|gone| gone.split_last() == Some((&Step::Key(missing.clone()), &way[..])))
        });
        if !follows {
            let whole: Vec<Step> = at.iter().chain(&way).cloned().collect();
            let about_key = missing.is_some() || message.starts_with("unknown field");
            problems.push(Problem::at(root.place_of(&whole, about_key), &whole, told(&message)));
        }
        // Items are not taken out of their list, or the next problem would be shown at the wrong one.
        while matches!(way.last(), Some(Step::Index(_))) {
            way.pop();
        }
        if way.is_empty() || !remove(&mut value, &way) {
            return None;
        }
        removed.push(way);
    }
    None
}

/// The failure in words that need no knowledge of Rust.
pub(crate) fn told(message: &str) -> String {
    if let Some(key) = quoted_after(message, "unknown field ") {
        return unknown("key", &key, &quoted(message)[1..]);
    }
    if let Some(value) = quoted_after(message, "unknown variant ") {
        return unknown("value", &value, &quoted(message)[1..]);
    }
    if let Some(key) = quoted_after(message, "missing field ") {
        return format!("missing key `{key}`");
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => mismatch(found, expected),
        None => message.to_owned(),
    }
}

/// `unknown key x`, with the nearest name, or all of them where none is near.
pub(crate) fn unknown(what: &str, written: &str, names: &[String]) -> String {
    let listed = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (nearest(written, names.iter().map(String::as_str)), names) {
        (Some(meant), _) => format!("unknown {what} `{written}`, did you mean `{meant}`?"),
        (None, []) => format!("unknown {what} `{written}`, expected none"),
        (None, [name]) => format!("unknown {what} `{written}`, expected `{name}`"),
        (None, names) => format!("unknown {what} `{written}`, expected one of {}", listed(names)),
    }
}

fn mismatch(found: &str, expected: &str) -> String {
    let expected = match expected {
        "a string" | "a borrowed string" | "path string" => "text",
        "a map" => "a mapping",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "u8" | "u16" | "u32" | "u64" | "usize" | "nonzero u32" | "a nonzero u64" => {
            "a whole number that is not negative"
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        expected if expected.starts_with("struct ") => "a mapping",
        expected => expected,
    };
    let number = found.strip_prefix("integer ").or_else(|| found.strip_prefix("floating point "));
    let found = match found {
        "map" => "a mapping".to_owned(),
        "sequence" => "a list".to_owned(),
        "null" | "unit value" => "nothing".to_owned(),
        found => match (number, found.strip_prefix("boolean "), found.strip_prefix("string ")) {
            (Some(number), ..) => format!("the number {number}"),
            (_, Some(word), _) => word.to_owned(),
            (_, _, Some(text)) => format!("the text {text}"),
            _ => found.to_owned(),
        },
    };
    let plain = number.is_some() || found == "`true`" || found == "`false`";
    let hint = if plain && expected == "text" { ": put it in quotes" } else { "" };
    format!("expected {expected}, found {found}{hint}")
}

fn quoted_after(message: &str, beginning: &str) -> Option<String> {
    message.starts_with(beginning).then(|| quoted(message).into_iter().next()).flatten()
}

/// Everything between backticks.
fn quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn steps(value: &Value, path: &serde_path_to_error::Path) -> Vec<Step> {
    let (mut steps, mut value) = (Vec::new(), Some(value));
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                value = value.and_then(|value| value.get(index));
                steps.push(Step::Index(*index));
            }
            Segment::Map { key } => {
                value = value.and_then(|value| value.get(key));
                steps.push(Step::Key(key.clone()));
            }
            // A variant is a key where it holds something, and the value itself where it does not.
            Segment::Enum { variant } => {
                let held = value.and_then(|value| value.get(variant));
                if held.is_some() {
                    steps.push(Step::Key(variant.clone()));
                    value = held;
                }
            }
            Segment::Unknown => {}
        }
    }
    steps
}

fn remove(value: &mut Value, way: &[Step]) -> bool {
    let Some((last, before)) = way.split_last() else { return false };
    let mut at = value;
    for step in before {
        let next = match step {
            Step::Key(key) => at.get_mut(key),
            Step::Index(index) => at.get_mut(index),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (last, at) {
        (Step::Key(key), Value::Object(fields)) => fields.shift_remove(key).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_words_that_need_no_rust() {
        for (message, expected) in [
            (
                "unknown field `compresion`, expected one of `url`, `compression`",
                "unknown key `compresion`, did you mean `compression`?",
            ),
            (
                "unknown field `colour`, expected one of `url`, `path`",
                "unknown key `colour`, expected one of `url`, `path`",
            ),
            ("unknown field `colour`, expected `url`", "unknown key `colour`, expected `url`"),
            ("unknown field `colour`, there are no fields", "unknown key `colour`, expected none"),
            ("unknown variant `zst`, expected one of `none`, `zstd`", "unknown value `zst`, did you mean `zstd`?"),
            ("missing field `url`", "missing key `url`"),
            ("invalid type: integer `5`, expected a string", "expected text, found the number `5`: put it in quotes"),
            (
                "invalid type: string \"x\", expected u64",
                "expected a whole number that is not negative, found the text \"x\"",
            ),
            ("invalid type: map, expected a sequence", "expected a list, found a mapping"),
            ("invalid type: null, expected struct SinkPlan", "expected a mapping, found nothing"),
            ("invalid type: boolean `true`, expected a string", "expected text, found `true`: put it in quotes"),
            (
                "invalid value: integer `-1`, expected u32",
                "expected a whole number that is not negative, found the number `-1`",
            ),
            ("`x` is not a length of time", "`x` is not a length of time"),
        ] {
            assert_eq!(told(message), expected);
        }
    }
}
