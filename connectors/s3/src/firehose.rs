//! Prefixes as Amazon Data Firehose has them, as templates of ours.

/// The template that says the same as `prefix`, with `!{timestamp:…}` and `!{partitionKeyFromQuery:…}`.
pub(crate) fn template(prefix: &str) -> Result<String, String> {
    let mut template = String::new();
    let mut rest = prefix;
    while let Some(open) = rest.find("!{") {
        let close = rest[open..].find('}').map(|length| open + length);
        let close = close.ok_or_else(|| format!("`{}` is not closed", &rest[open..]))?;
        template.push_str(&rest[..open]);
        template.push_str(&placeholder(&rest[open + 2..close])?);
        rest = &rest[close + 1..];
    }
    template.push_str(rest);
    // Where Firehose puts the object's own name behind the prefix, ours is a part of its own.
    Ok(template.strip_suffix('/').map(str::to_owned).unwrap_or(template))
}

fn placeholder(inner: &str) -> Result<String, String> {
    match inner.split_once(':') {
        Some(("timestamp", format)) => Ok(format!("{{timestamp:{}}}", time(format)?)),
        Some(("partitionKeyFromQuery" | "partitionKeyFromLambda", name)) => Ok(format!("{{field:{name}}}")),
        Some(("firehose", "random-string")) => Err(
            "`!{firehose:random-string}` would be another at each delivery: leave it out, objects are named by their \
             offsets"
                .to_owned(),
        ),
        _ => Err(format!(
            "unknown placeholder `!{{{inner}}}`, expected `!{{timestamp:yyyy/MM/dd/HH}}` or \
             `!{{partitionKeyFromQuery:name}}`"
        )),
    }
}

/// A format of Java's as strftime has it.
fn time(format: &str) -> Result<String, String> {
    let mut written = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (text, after) = rest[1..].split_once('\'').ok_or_else(|| format!("`{format}`: `'` is not closed"))?;
            // Two of them stand for one.
            written.push_str(&if text.is_empty() { "'".to_owned() } else { text.replace('%', "%%") });
            rest = after;
            continue;
        }
        let length = rest.len() - rest.trim_start_matches(first).len();
        let run = &rest[..length];
        written.push_str(match run {
            "yyyy" | "YYYY" | "uuuu" => "%Y",
            "yy" | "YY" => "%y",
            "MM" => "%m",
            "MMM" => "%b",
            "MMMM" => "%B",
            "dd" => "%d",
            "DDD" => "%j",
            "HH" => "%H",
            "hh" => "%I",
            "mm" => "%M",
            "ss" => "%S",
            "a" => "%p",
            "EEE" => "%a",
            "EEEE" => "%A",
            _ if first.is_ascii_alphabetic() => {
                return Err(format!("`{run}` in `{format}` is not understood, expected for example `yyyy/MM/dd/HH`"));
            }
            "%" => "%%",
            other => other,
        });
        rest = &rest[length..];
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_say_the_same_as_templates() {
        for (prefix, expected) in [
            ("raw/!{timestamp:yyyy/MM/dd/HH}/", Ok("raw/{timestamp:%Y/%m/%d/%H}")),
            ("!{timestamp:'year='yyyy'/month='MM}", Ok("{timestamp:year=%Y/month=%m}")),
            ("c=!{partitionKeyFromQuery:country}/x", Ok("c={field:country}/x")),
            ("!{timestamp:yyyy}/!{partitionKeyFromLambda:a}/{topic}", Ok("{timestamp:%Y}/{field:a}/{topic}")),
            ("!{timestamp:yyyy-MM-dd''HH}", Ok("{timestamp:%Y-%m-%d'%H}")),
            ("!{firehose:random-string}/", Err("named by their offsets")),
            ("!{firehose:error-output-type}/", Err("unknown placeholder")),
            ("!{timestamp:yyyyy}/", Err("`yyyyy` in")),
            ("!{timestamp:yyyy", Err("is not closed")),
        ] {
            match (template(prefix), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, expected) => panic!("{prefix}: {found:?} instead of {expected:?}"),
            }
        }
    }
}
