//! Where a record goes: address and headers, filled in from templates.

use aqueduct_api::template::{Piece, Template};
use aqueduct_api::{Error, Result, TopicPartition};
use aqueduct_http_client::percent;
use aqueduct_record::Record;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use crate::sink::settings::HttpSinkSettings;

/// The templates of addresses and headers.
pub(crate) struct Templates {
    url: Template,
    headers: Vec<(HeaderName, Template)>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

impl Templates {
    /// Reads the templates, which were checked before.
    pub(crate) fn new(settings: &HttpSinkSettings) -> Result<Self> {
        let wrong = |setting: &str, why: String| Error::fatal(format!("setting {setting}: {why}"));
        let mut headers = Vec::new();
        for (name, value) in &settings.headers {
            let template = Template::parse(value).map_err(|why| wrong(name, why))?;
            let name = name.parse().map_err(|_| wrong(name, "no name of a header".to_owned()))?;
            headers.push((name, template));
        }
        let url = Template::parse(&settings.url).map_err(|why| wrong("url", why))?;
        Ok(Templates { url, headers })
    }

    /// Whether all records of a partition go to one place.
    pub(crate) fn is_fixed(&self) -> bool {
        self.url.is_fixed() && self.headers.iter().all(|(_, template)| template.is_fixed())
    }

    /// Whether all records whatsoever go to one address.
    pub(crate) fn has_one_url(&self) -> bool {
        self.url.is_text()
    }

    /// Where a record goes; the error says why it can go nowhere.
    pub(crate) fn target(&self, of: &TopicPartition, record: &Record<'_>) -> Result<Target, String> {
        let url = self.url(of, record)?;
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            let mut value = String::new();
            template.fill(of, record, |piece| match piece {
                Piece::Text(text) | Piece::Said(text) => value.push_str(text),
                Piece::Value(_) => {}
            })?;
            let value = HeaderValue::from_bytes(value.as_bytes());
            headers.insert(name, value.map_err(|_| format!("header {name} would have control characters in it"))?);
        }
        Ok(Target { url, headers })
    }

    fn url(&self, of: &TopicPartition, record: &Record<'_>) -> Result<Url, String> {
        let (mut address, mut is_empty) = (String::new(), false);
        self.url.fill(of, record, |piece| match piece {
            Piece::Text(text) => address.push_str(text),
            Piece::Said(text) => {
                is_empty |= text.is_empty() && !address.contains('?');
                percent(text, &mut address);
            }
            Piece::Value(_) => {}
        })?;
        let path = address.split('?').next().unwrap_or_default();
        let path = path.splitn(4, '/').nth(3).unwrap_or_default();
        // An address with such parts stands for another one.
        if is_empty || path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(format!("its address would be `{address}`, which has an empty part, `.` or `..`"));
        }
        Url::parse(&address).map_err(|cause| format!("its address would be `{address}`: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;
    use serde_json::json;

    use super::*;

    fn target(url: &str, key: &str) -> Result<String, String> {
        let settings = json!({"url": url, "headers": {"x-key": "{key}!"}});
        let templates = Templates::new(&serde_json::from_value(settings).unwrap()).unwrap();
        let mut builder = BatchBuilder::new();
        builder.push(1_700_000_000_000, Some(key.as_bytes()), Some(b"{}"), &[]);
        let batch = builder.finish();
        let records = batch.records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let target = templates.target(&TopicPartition::new("t", 1), &record)?;
        Ok(format!("{} {}", target.url, String::from_utf8_lossy(target.headers["x-key"].as_bytes())))
    }

    #[test]
    fn what_a_record_says_stays_in_its_place() {
        for (url, key, expected) in [
            ("http://h:1/{topic}/{key}?day={timestamp:%F}", "a b", Ok("http://h:1/t/a%20b?day=2023-11-14 a b!")),
            ("http://h/{key}", "../x?y#z", Ok("http://h/..%2Fx%3Fy%23z ../x?y#z!")),
            ("http://h/?k={key}", "", Ok("http://h/?k= !")),
            ("http://h/?k={key}", "..", Ok("http://h/?k=.. ..!")),
            ("http://h/{key}/x", "", Err("empty part")),
            ("http://h/{key}/x", "..", Err("`..`")),
            ("http://h/a/{key}", ".", Err("`.`")),
            ("http://h/?k={key}", "a\r\nb: c", Err("control characters")),
            ("http://h/{key}", "ü@evil.example", Ok("http://h/%C3%BC%40evil.example ü@evil.example!")),
        ] {
            match (target(url, key), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, expected) => panic!("{url} {key}: {found:?} instead of {expected:?}"),
            }
        }
    }
}
