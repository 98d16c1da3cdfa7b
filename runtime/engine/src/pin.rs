//! What a sink commits beside its offset: which chunks it is about to write, so that whoever takes over cuts the same.

use aqueduct_api::{Error, Result, TopicId};
use aqueduct_record::Offset;
use serde::{Deserialize, Serialize};

/// The metadata of a committed offset: JSON of at most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pin {
    /// The version of this format: 1.
    pub(crate) v: u32,
    /// The topic that the offset belongs to.
    pub(crate) topic: TopicId,
    /// Where pinned chunks end, ascending; the first begins at the committed offset.
    #[serde(default)]
    pub(crate) ends: Vec<Offset>,
    /// The digest of the shaping settings under which pinned chunks are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) settings: Option<String>,
    /// The end of the dead-letter topic when the first chunk was pinned: its own dead letters come after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letters: Option<Offset>,
    /// How often the partition was rewound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) run: u32,
    /// What the sink noted about the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

fn is_zero(run: &u32) -> bool {
    *run == 0
}

impl Pin {
    const VERSION: u32 = 1;
    const LARGEST: usize = 4096;
    /// The longest note of a sink, in bytes.
    pub(crate) const LARGEST_NOTE: usize = 1024;

    /// Nothing pinned.
    pub(crate) fn nothing(topic: TopicId, run: u32) -> Pin {
        Pin { v: Pin::VERSION, topic, ends: Vec::new(), settings: None, dead_letters: None, run, note: None }
    }

    /// Reads metadata.
    ///
    /// # Errors
    /// `Fatal` when somebody else wrote it, or a later release did.
    pub(crate) fn parse(metadata: &str) -> Result<Pin> {
        let pin: Pin = serde_json::from_str(metadata)
            .map_err(|_| Error::fatal(format!("the committed offset has foreign metadata {metadata:?}")))?;
        match pin.v {
            Pin::VERSION => Ok(pin),
            version => Err(Error::fatal(format!("the committed offset has metadata of version {version}, not 1"))),
        }
    }

    /// The metadata.
    ///
    /// # Errors
    /// `Fatal` when it is longer than 4 KiB.
    pub(crate) fn metadata(&self) -> Result<String> {
        let text = serde_json::to_string(self).map_err(|cause| Error::fatal(format!("write a pin: {cause}")))?;
        match text.len() {
            0..=Pin::LARGEST => Ok(text),
            length => Err(Error::fatal(format!("a pin of {length} bytes is longer than {}", Pin::LARGEST))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_stays() {
        let golden = r#"{"v":1,"topic":"AAAAAAAAAAAAAAAAAAAABw","ends":[20,30],"settings":"d1","dead-letters":4,"run":2,"note":"n"}"#;
        let pin = Pin {
            ends: vec![20, 30],
            settings: Some("d1".into()),
            dead_letters: Some(4),
            note: Some("n".into()),
            ..Pin::nothing(TopicId(7), 2)
        };
        assert_eq!(pin.metadata().unwrap(), golden);
        assert_eq!(Pin::parse(golden).unwrap(), pin);
        let nothing = r#"{"v":1,"topic":"AAAAAAAAAAAAAAAAAAAABw","ends":[]}"#;
        assert_eq!(Pin::nothing(TopicId(7), 0).metadata().unwrap(), nothing);
        assert_eq!(Pin::parse(nothing).unwrap(), Pin::nothing(TopicId(7), 0));
    }

    #[test]
    fn foreign_metadata_is_told() {
        assert!(Pin::parse("").unwrap_err().to_string().contains("foreign metadata \"\""));
        let later = r#"{"v":2,"topic":"AAAAAAAAAAAAAAAAAAAABw","ends":[]}"#;
        assert!(Pin::parse(later).unwrap_err().to_string().contains("version 2"));
        let long = Pin { note: Some("x".repeat(5000)), ..Pin::nothing(TopicId(7), 0) };
        assert!(long.metadata().unwrap_err().to_string().contains("longer than 4096"));
    }
}
