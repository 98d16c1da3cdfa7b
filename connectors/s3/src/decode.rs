//! What a line of an object becomes: the way back from what the sink writes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use csv_core::ReadRecordResult;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A record that is not in a batch yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded<'a> {
    /// Its own time in ms since 1970, where it has one.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) headers: Vec<DecodedHeader>,
}

/// A name, and a value unless it is null.
pub(crate) type DecodedHeader = (String, Option<Vec<u8>>);

impl<'a> Decoded<'a> {
    /// A record that is a value alone.
    pub(crate) fn value(value: impl Into<Cow<'a, [u8]>>) -> Self {
        Decoded { value: Some(value.into()), ..Decoded::default() }
    }
}

/// U+FEFF at the beginning of a text says how that is encoded.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A line of format `json-lines`.
pub(crate) fn json(line: &[u8]) -> Result<Decoded<'_>, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // A byte order mark is no part of JSON, and programs begin files with one.
    let line = line.strip_prefix(MARK).unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|cause| format!("the line is not JSON: {cause}"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|cause| format!("the line is not JSON: {cause}"))?;
    Ok(Decoded::value(line))
}

/// A line of format `records`.
#[derive(Deserialize)]
struct Written {
    timestamp: i64,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default, rename = "key-base64")]
    key_base64: Option<String>,
    #[serde(default, rename = "value-base64")]
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<Vec<Option<String>>>,
}

/// A line of format `records`: the record that it was made of.
pub(crate) fn record(line: &[u8]) -> Result<Decoded<'static>, String> {
    let written: Written =
        serde_json::from_slice(line).map_err(|cause| format!("the line is not of format records: {cause}"))?;
    let headers = written.headers.into_iter().map(|header| {
        let mut parts = header.into_iter();
        let name = parts.next().flatten().ok_or("a header has no name")?;
        Ok((name, bytes(parts.next().flatten(), parts.next().flatten())?))
    });
    let headers = headers.collect::<Result<_, String>>()?;
    Ok(Decoded {
        timestamp: Some(written.timestamp),
        key: bytes(written.key, written.key_base64)?.map(Cow::Owned),
        value: bytes(written.value, written.value_base64)?.map(Cow::Owned),
        headers,
    })
}

fn bytes(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match base64 {
        Some(base64) => STANDARD.decode(base64).map(Some).map_err(|cause| format!("base64: {cause}")),
        None => Ok(text.map(String::into_bytes)),
    }
}

/// The columns of a CSV object, by which its lines become JSON objects of strings.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    names: Option<Vec<String>>,
    delimiter: u8,
}

impl Columns {
    /// Columns that are known, or else those that the first line names.
    pub(crate) fn new(names: Option<Vec<String>>, delimiter: u8) -> Columns {
        Columns { names, delimiter }
    }

    /// Whether a line is no record: an empty one, or the first one, which names the columns.
    pub(crate) fn look(&mut self, line: &[u8]) -> Result<bool, String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Ok(true);
        }
        if self.names.is_some() {
            return Ok(false);
        }
        let line = line.strip_prefix(MARK).unwrap_or(line);
        self.names = Some(apart(fields(line, self.delimiter)?));
        Ok(true)
    }

    /// Whether it is known what they are called.
    pub(crate) fn are_named(&self) -> bool {
        self.names.is_some()
    }

    /// A line of fields.
    pub(crate) fn decode(&self, line: &[u8]) -> Result<Decoded<'static>, String> {
        let fields = fields(line.strip_suffix(b"\r").unwrap_or(line), self.delimiter)?;
        let names = self.names.as_ref().ok_or("no columns are named")?;
        if fields.len() != names.len() {
            return Err(format!("the line has {} fields, {} columns are named", fields.len(), names.len()));
        }
        let object = names.iter().cloned().zip(fields.into_iter().map(Value::String)).collect();
        Ok(Decoded::value(Value::Object(object).to_string().into_bytes()))
    }
}

/// Gives names that come again a number: `a`, `a_2`.
fn apart(names: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut times: HashMap<String, usize> = HashMap::new();
    let own = |name: String| {
        let time = times.entry(name.clone()).or_default();
        *time += 1;
        if *time == 1 {
            return name;
        }
        loop {
            let numbered = format!("{name}_{time}");
            if taken.insert(numbered.clone()) {
                return numbered;
            }
            *time += 1;
        }
    };
    names.into_iter().map(own).collect()
}

fn fields(line: &[u8], delimiter: u8) -> Result<Vec<String>, String> {
    let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    let mut text = vec![0; line.len() + 1];
    let mut ends = vec![0; memchr::memchr_iter(delimiter, line).count() + 2];
    let (mut read, mut written, mut ended) = (0, 0, 0);
    loop {
        let (result, taken, put, more) = reader.read_record(&line[read..], &mut text[written..], &mut ends[ended..]);
        (read, written, ended) = (read + taken, written + put, ended + more);
        match result {
            ReadRecordResult::Record | ReadRecordResult::End => break,
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                return Err("the line is no CSV".to_owned());
            }
        }
    }
    let mut start = 0;
    let parts = ends[..ended].iter().map(|end| {
        let part = std::str::from_utf8(&text[start..*end]).map_err(|cause| format!("the line is not UTF-8: {cause}"));
        start = *end;
        part.map(str::to_owned)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(decoded: Result<Decoded<'_>, String>) -> Result<String, String> {
        decoded.map(|decoded| String::from_utf8(decoded.value.unwrap().into_owned()).unwrap())
    }

    #[test]
    fn lines_of_json_stay_as_they_are() {
        assert_eq!(text(json(b"{\"a\": 1.0}\r")), Ok("{\"a\": 1.0}".into()));
        assert_eq!(text(json(b"\xef\xbb\xbf1")), Ok("1".into()));
        assert!(text(json(b"{")).unwrap_err().contains("not JSON"));
        assert!(text(json(b"\"\xff\"")).unwrap_err().contains("not JSON"));
        assert!(json("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn records_are_what_they_were() {
        let line = br#"{"topic":"t","partition":3,"offset":7,"timestamp":1234,"key":"k","value-base64":"/wA=","headers":[["h","v"],["n",null],["b",null,"/g=="]]}"#;
        let decoded = record(line).unwrap();
        assert_eq!(decoded.timestamp, Some(1234));
        assert_eq!(decoded.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(decoded.value.as_deref(), Some(&b"\xff\0"[..]));
        let headers = [("h", Some(b"v".to_vec())), ("n", None), ("b", Some(vec![0xfe]))];
        assert_eq!(decoded.headers, headers.map(|(name, value)| (name.to_owned(), value)));
        assert!(record(b"{}").unwrap_err().contains("timestamp"));
        assert!(record(br#"{"timestamp":1,"key-base64":"?"}"#).unwrap_err().contains("base64"));
        assert!(record(br#"{"timestamp":1,"headers":[[]]}"#).unwrap_err().contains("no name"));
    }

    #[test]
    fn lines_of_csv_become_objects() {
        let mut columns = Columns::new(None, b',');
        assert_eq!(columns.look("\u{feff}a,\"b \"\"x\"\"\"\r".as_bytes()), Ok(true));
        assert_eq!(columns.look(b"1,"), Ok(false));
        assert_eq!(columns.look(b"\r"), Ok(true));
        assert_eq!(text(columns.decode(b"1,")), Ok(r#"{"a":"1","b \"x\"":""}"#.into()));
        assert_eq!(text(columns.decode(b"\"1\n,2\",\"\"\"\"")), Ok(r#"{"a":"1\n,2","b \"x\"":"\""}"#.into()));
        let mut twice = Columns::new(None, b',');
        assert_eq!(twice.look(b"a,a,b,a,a_2,,"), Ok(true));
        let expected = r#"{"a":"1","a_3":"2","b":"3","a_4":"4","a_2":"5","":"6","_2":"7"}"#;
        let found: Value = serde_json::from_str(&text(twice.decode(b"1,2,3,4,5,6,7")).unwrap()).unwrap();
        assert_eq!(found, serde_json::from_str::<Value>(expected).unwrap());
        assert!(Columns::new(None, b',').look(b"\xff,a").unwrap_err().contains("UTF-8"));
        assert!(text(columns.decode(b"1,2,3")).unwrap_err().contains("3 fields, 2 columns"));
        assert!(text(columns.decode(b"\xff,2")).unwrap_err().contains("UTF-8"));
        let named = Columns::new(Some(vec!["x".into(), "y".into()]), b';');
        assert_eq!(text(named.decode(b"1,0;2")), Ok(r#"{"x":"1,0","y":"2"}"#.into()));
    }
}
