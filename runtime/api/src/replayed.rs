//! What a replayed dead letter carries: where its record was before.

use aqueduct_record::{Headers, Offset};
use serde::{Deserialize, Serialize};

use crate::TopicId;

/// The header of a record that was a dead letter and is in a topic again: a [`Replayed`] as JSON. Sinks see it; what
/// sources and transforms write under its name is left out.
pub const REPLAYED_HEADER: &str = "aqueduct.replayed";

/// Where a replayed record was before: ids, versions and names are made of that, where a sink makes them of each record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The topic that it was in first, or was going to.
    pub topic: String,
    /// The partition there.
    pub partition: i32,
    /// The offset there; `None` where it had none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// The sink that had set it aside, which alone gets it; `None`: whoever delivers the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The dead letter: the identity of its topic, and its offset there.
    pub letter: (TopicId, Offset),
}

impl Replayed {
    /// What a record says of itself; `None` where it is none that was replayed.
    pub fn of(headers: Headers<'_>) -> Option<Replayed> {
        serde_json::from_slice(headers.get(REPLAYED_HEADER)??).ok()
    }

    /// Whether a sink is meant to get it.
    pub fn is_for(&self, sink: &str) -> bool {
        self.sink.as_deref().is_none_or(|only| only == sink)
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_record::BatchBuilder;

    use super::*;

    #[test]
    fn a_record_says_where_it_was_and_who_gets_it() {
        let replayed = Replayed {
            topic: "lines".to_owned(),
            partition: 2,
            offset: Some(17),
            sink: Some("lake".to_owned()),
            letter: (TopicId(1), 5),
        };
        let text = serde_json::to_vec(&replayed).unwrap();
        let mut builder = BatchBuilder::new();
        builder.push(1, None, None, &[("a", None), (REPLAYED_HEADER, Some(&text))]);
        builder.push(1, None, None, &[(REPLAYED_HEADER, Some(b"forged"))]);
        let batch = builder.finish();
        let records = batch.records().unwrap();
        let said: Vec<_> = records.iter().map(|record| Replayed::of(record.unwrap().headers)).collect();
        assert_eq!(said, [Some(replayed.clone()), None]);
        assert_eq!(["lake", "other"].map(|sink| replayed.is_for(sink)), [true, false]);
    }
}
