//! The header in which positions ride: on the last record of a batch, or on dead letters that come before their position.

use aqueduct_api::Position;
use aqueduct_record::Offset;
use serde_json::value::RawValue;

use crate::positions::Known;

/// The value of the header in which a position rides.
pub(crate) fn header(source: &str, known: &Known, position: &Position) -> String {
    let (id, sequence) = (quoted(&known.stream.id), known.sequence);
    let read = if known.read == 0 { String::new() } else { format!(",{}", known.read) };
    let early = match known.early.ranges() {
        ranges if ranges.is_empty() => String::new(),
        ranges => format!(",{}", serde_json::json!(ranges)),
    };
    format!("[{},{id},{},{sequence}{read}{early}]", quoted(source), position.as_json())
}

/// The value of the same header on dead letters that come before the position of their records, whose sequence it is.
pub(crate) fn letters_header(source: &str, known: &Known, made_by: &str) -> String {
    let (id, made_by) = (quoted(&known.stream.id), quoted(made_by));
    format!("[{},{id},null,{},{},{made_by}]", quoted(source), known.sequence, known.read)
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What the header says in which positions ride.
pub(crate) struct Rides {
    pub(crate) source: String,
    pub(crate) stream: String,
    /// `null` on dead letters that come before it.
    pub(crate) position: Box<RawValue>,
    pub(crate) sequence: u64,
    /// How much of the stream is read by then; nothing is said of what went through no transforms.
    pub(crate) read: u64,
    /// With a position: which dead letters are early.
    pub(crate) early: Vec<(Offset, Offset)>,
    /// Without a position: what made these dead letters.
    pub(crate) made_by: Option<String>,
}

impl Rides {
    /// `None` where somebody else wrote it.
    pub(crate) fn parse(header: &[u8]) -> Option<Rides> {
        let parts: Vec<&RawValue> = serde_json::from_slice(header).ok()?;
        let [source, stream, position, sequence, rest @ ..] = &parts[..] else { return None };
        let mut rides = Rides {
            source: serde_json::from_str(source.get()).ok()?,
            stream: serde_json::from_str(stream.get()).ok()?,
            position: (*position).to_owned(),
            sequence: serde_json::from_str(sequence.get()).ok()?,
            read: 0,
            early: Vec::new(),
            made_by: None,
        };
        for part in rest.iter().map(|part| part.get()) {
            match part.as_bytes().first()? {
                b'[' => rides.early = serde_json::from_str(part).ok()?,
                b'"' => rides.made_by = serde_json::from_str(part).ok()?,
                _ => rides.read = serde_json::from_str(part).ok()?,
            }
        }
        Some(rides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rides_is_read_back() {
        let parsed = |header: &str| {
            let rides = Rides::parse(header.as_bytes())?;
            Some((rides.position.get().to_owned(), rides.sequence, rides.read, rides.early, rides.made_by))
        };
        let at = || r#"{"at":5}"#.to_owned();
        assert_eq!(parsed(r#"["s","f",{"at":5},7]"#), Some((at(), 7, 0, vec![], None)));
        assert_eq!(parsed(r#"["s","f",{"at":5},7,29]"#), Some((at(), 7, 29, vec![], None)));
        assert_eq!(parsed(r#"["s","f",{"at":5},7,29,[[4,6]]]"#), Some((at(), 7, 29, vec![(4, 6)], None)));
        assert_eq!(parsed(r#"["s","f",null,7,30,"d1"]"#), Some(("null".into(), 7, 30, vec![], Some("d1".into()))));
        for others in [r#"["s","f",{"at":5}]"#, r#"["s",3,{"at":5},7]"#, r#"["s","f",{"at":5},7,{}]"#, "[]", "x"] {
            assert_eq!(parsed(others), None, "{others}");
        }
    }
}
