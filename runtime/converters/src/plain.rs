//! What needs no schema: text in an encoding, bytes as base64, numbers as Kafka's own serializers write them, and the
//! envelope with a schema of Kafka Connect's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Takes base64 with and without `=` at its end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1, also called Latin-1: a byte a character.
    #[serde(rename = "iso-8859-1")]
    Latin1,
    /// ASCII.
    #[serde(rename = "us-ascii")]
    Ascii,
    /// UTF-16: with a byte order mark big-endian or little-endian, without one big-endian. Written big-endian with a mark, as
    /// Java does.
    #[serde(rename = "utf-16")]
    Utf16,
    /// UTF-16, big-endian.
    #[serde(rename = "utf-16be")]
    Utf16Be,
    /// UTF-16, little-endian.
    #[serde(rename = "utf-16le")]
    Utf16Le,
}

/// A number or truth as Kafka's own serializers write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// One byte, 0 or 1.
    Boolean,
    /// Two bytes.
    Short,
    /// Four bytes.
    Integer,
    /// Eight bytes.
    Long,
    /// Four bytes, IEEE 754.
    Float,
    /// Eight bytes, IEEE 754.
    Double,
}

impl Encoding {
    /// The text in UTF-8; `None`: it is that already.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Option<String>, String> {
        match self {
            Encoding::Utf8 | Encoding::Ascii => {
                let is = match self {
                    Encoding::Ascii => bytes.is_ascii(),
                    _ => std::str::from_utf8(bytes).is_ok(),
                };
                if is { Ok(None) } else { Err(format!("is not {}", self.name())) }
            }
            Encoding::Latin1 => Ok(Some(bytes.iter().map(|byte| char::from(*byte)).collect())),
            Encoding::Utf16 => match bytes {
                [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes).map(Some),
                [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes).map(Some),
                _ => utf16(bytes, u16::from_be_bytes).map(Some),
            },
            Encoding::Utf16Be => utf16(bytes, u16::from_be_bytes).map(Some),
            Encoding::Utf16Le => utf16(bytes, u16::from_le_bytes).map(Some),
        }
    }

    /// Text of UTF-8 in this encoding; `None`: it is that already.
    pub(crate) fn encode(self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let beyond = |c: char| format!("has the character {c:?}, which {} has not", self.name());
        match self {
            Encoding::Utf8 => Ok(None),
            Encoding::Ascii => match text.chars().find(|c| !c.is_ascii()) {
                Some(c) => Err(beyond(c)),
                None => Ok(None),
            },
            Encoding::Latin1 => {
                let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| beyond(c));
                text.chars().map(byte).collect::<Result<_, _>>().map(Some)
            }
            Encoding::Utf16 => Ok(Some([0xfe, 0xff].into_iter().chain(units(text, u16::to_be_bytes)).collect())),
            Encoding::Utf16Be => Ok(Some(units(text, u16::to_be_bytes).collect())),
            Encoding::Utf16Le => Ok(Some(units(text, u16::to_le_bytes).collect())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Latin1 => "ISO 8859-1",
            Encoding::Ascii => "ASCII",
            Encoding::Utf16 | Encoding::Utf16Be | Encoding::Utf16Le => "UTF-16",
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("is not UTF-16: it has an odd number of bytes".to_owned());
    }
    let units = pairs.iter().map(|pair| unit(*pair));
    char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| "is not UTF-16: half of a pair is alone".to_owned())
}

fn units(text: &str, bytes: fn(u16) -> [u8; 2]) -> impl Iterator<Item = u8> {
    text.encode_utf16().flat_map(bytes)
}

/// The bytes that base64 stands for.
pub(crate) fn from_base64(text: &[u8]) -> Result<Vec<u8>, String> {
    BASE64.decode(text.trim_ascii()).map_err(|cause| format!("is not base64: {cause}"))
}

/// Bytes as base64.
pub(crate) fn to_base64(bytes: &[u8]) -> Vec<u8> {
    STANDARD.encode(bytes).into_bytes()
}

impl Number {
    /// The number in JSON.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let text = match (self, bytes) {
            (Number::Boolean, [0]) => "false".to_owned(),
            (Number::Boolean, [1]) => "true".to_owned(),
            (Number::Boolean, [other]) => return Err(format!("is 0x{other:02x}, expected 0x00 or 0x01")),
            (Number::Short, [a, b]) => i16::from_be_bytes([*a, *b]).to_string(),
            (Number::Integer, [a, b, c, d]) => i32::from_be_bytes([*a, *b, *c, *d]).to_string(),
            (Number::Float, [a, b, c, d]) => float(f32::from_be_bytes([*a, *b, *c, *d])),
            (Number::Long, bytes) if bytes.len() == 8 => i64::from_be_bytes(eight(bytes)).to_string(),
            (Number::Double, bytes) if bytes.len() == 8 => double(f64::from_be_bytes(eight(bytes))),
            (_, bytes) => return Err(format!("has {} bytes, expected {}", bytes.len(), self.length())),
        };
        Ok(text.into_bytes())
    }

    /// What JSON says, as bytes.
    pub(crate) fn encode(self, json: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = |cause: serde_json::Error| format!("is no {}: {cause}", self.name());
        Ok(match self {
            Number::Boolean => vec![u8::from(serde_json::from_slice::<bool>(json).map_err(wrong)?)],
            Number::Short => serde_json::from_slice::<i16>(json).map_err(wrong)?.to_be_bytes().to_vec(),
            Number::Integer => serde_json::from_slice::<i32>(json).map_err(wrong)?.to_be_bytes().to_vec(),
            Number::Long => serde_json::from_slice::<i64>(json).map_err(wrong)?.to_be_bytes().to_vec(),
            Number::Float | Number::Double => {
                let number = match json.trim_ascii() {
                    br#""NaN""# => f64::NAN,
                    br#""Infinity""# => f64::INFINITY,
                    br#""-Infinity""# => f64::NEG_INFINITY,
                    json => serde_json::from_slice::<f64>(json).map_err(wrong)?,
                };
                match self {
                    Number::Float if number.is_finite() && !(number as f32).is_finite() => {
                        return Err(format!("is no float: {number} is too large"));
                    }
                    Number::Float => (number as f32).to_be_bytes().to_vec(),
                    _ => number.to_be_bytes().to_vec(),
                }
            }
        })
    }

    fn length(self) -> usize {
        match self {
            Number::Boolean => 1,
            Number::Short => 2,
            Number::Integer | Number::Float => 4,
            Number::Long | Number::Double => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Number::Boolean => "boolean",
            Number::Short => "short",
            Number::Integer => "integer",
            Number::Long => "long",
            Number::Float => "float",
            Number::Double => "double",
        }
    }
}

/// Eight bytes of as many.
fn eight(bytes: &[u8]) -> [u8; 8] {
    let mut eight = [0; 8];
    eight.copy_from_slice(bytes);
    eight
}

/// A number in JSON, which has no word for those that are not finite: these become text.
pub(crate) fn double(number: f64) -> String {
    match serde_json::Number::from_f64(number) {
        Some(number) => number.to_string(),
        None => unbounded(number).to_owned(),
    }
}

/// The same, with no more digits than a float has.
pub(crate) fn float(number: f32) -> String {
    match serde_json::to_string(&number) {
        Ok(text) if number.is_finite() => text,
        _ => unbounded(number.into()).to_owned(),
    }
}

fn unbounded(number: f64) -> &'static str {
    match number {
        f64::INFINITY => r#""Infinity""#,
        f64::NEG_INFINITY => r#""-Infinity""#,
        _ => r#""NaN""#,
    }
}

/// JSON as Kafka Connect writes it with `schemas.enable`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, rename = "schema")]
    _schema: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The payload of an envelope with a schema; `None` where it is null.
pub(crate) fn open_envelope(json: &[u8]) -> Result<Option<&[u8]>, String> {
    let read = serde_json::from_slice(json);
    let Envelope { _schema, payload } = read.map_err(|cause| {
        format!("is no envelope: {cause}; expected {{\"schema\": …, \"payload\": …}} and nothing else")
    })?;
    Ok(Some(payload.get()).filter(|text| *text != "null").map(str::as_bytes))
}

/// Puts a payload into an envelope with a schema.
pub(crate) fn envelope(schema: &str, json: &[u8]) -> Result<Vec<u8>, String> {
    let payload: &RawValue = serde_json::from_slice(json).map_err(|cause| format!("is no JSON: {cause}"))?;
    Ok(format!(r#"{{"schema":{schema},"payload":{payload}}}"#).into_bytes())
}
