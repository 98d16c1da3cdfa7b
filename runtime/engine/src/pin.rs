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
    /// Chunks of this run that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<GivenUp>,
    /// What the sink noted about the first chunk, or about one that was given up before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// Chunks that were given up: what was written of them has names that chunks which are cut anew have too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    /// How often that was done.
    pub(crate) times: u32,
    /// Where the last of them ended.
    pub(crate) end: Offset,
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
        Pin {
            v: Pin::VERSION,
            topic,
            ends: Vec::new(),
            settings: None,
            dead_letters: None,
            run,
            given_up: None,
            note: None,
        }
    }

    /// Nothing pinned any more: what was is delivered.
    pub(crate) fn delivered(&self) -> Pin {
        Pin { given_up: self.given_up, ..Pin::nothing(self.topic, self.run) }
    }

    /// Nothing pinned any more: what was is given up. What the sink noted stays: it may have left something open.
    pub(crate) fn gave_up(&self) -> Pin {
        let (times, end) = self.given_up.map_or((0, 0), |before| (before.times, before.end));
        let end = self.ends.iter().copied().fold(end, Offset::max);
        Pin { given_up: Some(GivenUp { times: times + 1, end }), note: self.note.clone(), ..self.delivered() }
    }

    /// How often chunks that reached behind `start` were given up.
    pub(crate) fn given_up(&self, start: Offset) -> u32 {
        self.given_up.filter(|given_up| start < given_up.end).map_or(0, |given_up| given_up.times)
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
    fn chunks_that_were_given_up_are_counted_as_long_as_the_run_lasts() {
        let pin = Pin {
            ends: vec![20, 30],
            settings: Some("d1".into()),
            note: Some("n".into()),
            ..Pin::nothing(TopicId(7), 2)
        };
        let once = pin.gave_up();
        let golden =
            r#"{"v":1,"topic":"AAAAAAAAAAAAAAAAAAAABw","ends":[],"run":2,"given-up":{"times":1,"end":30},"note":"n"}"#;
        assert_eq!(once.metadata().unwrap(), golden);
        assert_eq!(Pin::parse(golden).unwrap(), once);
        // It is cut shorter, and given up again.
        let twice = Pin { ends: vec![25], ..once.clone() }.gave_up();
        assert_eq!(twice.given_up, Some(GivenUp { times: 2, end: 30 }));
        let (before, after) = (twice.given_up(29), twice.given_up(30));
        assert_eq!((pin.given_up(0), once.given_up(0), before, after), (0, 1, 2, 0));
        let delivered = twice.delivered();
        assert_eq!((delivered.given_up, delivered.note), (twice.given_up, None));
        assert_eq!(Pin { ends: vec![90], ..twice }.gave_up().given_up(80), 3);
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
