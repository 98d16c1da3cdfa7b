//! How far a source has come: positions that ride with its data, saved positions as a cache of them, and scan marks that
//! say up to where in the log the cache is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{Error, POSITION_HEADER, Position, Result, Stream, TopicPartition};
use aqueduct_record::{Batch, Offset};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::host::Host;
use crate::table::{Change, Table};

/// What is known of one stream of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) stream: Arc<Stream>,
    pub(crate) position: Option<Position>,
    /// How many `Incoming`s of the stream there were: of two positions the one with more is the later.
    pub(crate) sequence: u64,
    /// The partition that the stream keeps; `None` where it is only known from dead letters.
    pub(crate) partition: Option<TopicPartition>,
}

/// Everything known of a source at its start.
#[derive(Default)]
pub(crate) struct Recovered {
    /// By the stream's id.
    pub(crate) streams: BTreeMap<String, Known>,
    /// How far each partition was looked at: data of the source before that is covered by `streams`.
    pub(crate) scanned: BTreeMap<TopicPartition, Offset>,
}

/// The value of the header in which a position rides.
pub(crate) fn header(source: &str, stream: &Stream, position: &Position, sequence: u64) -> String {
    format!("[{},{},{},{sequence}]", quoted(source), quoted(&stream.id), position.as_json())
}

/// The change that saves a stream's position; nothing for a position forgets it.
pub(crate) fn saved(source: &str, known: &Known) -> Result<Change> {
    let key = format!("[{},{}]", quoted(source), known.stream.id);
    let Some(position) = &known.position else { return Ok((key, None)) };
    let mut value: serde_json::Map<String, serde_json::Value> = position.read()?;
    let ours = Ours {
        topic: known.partition.as_ref().map(|partition| partition.topic.to_string()),
        partition: known.partition.as_ref().map(|partition| partition.partition),
        sequence: known.sequence,
        key: known.stream.key.clone(),
    };
    value.insert("aqueduct".to_owned(), serde_json::to_value(ours).map_err(Error::fatal)?);
    Ok((key, Some(serde_json::Value::Object(value).to_string())))
}

/// The change that saves how far a partition was looked at.
pub(crate) fn scan_mark(source: &str, of: &TopicPartition, offset: Offset) -> Change {
    (mark_key(source, of), Some(format!("{{\"offset\":{offset}}}")))
}

/// Scan marks of a source: where its holds begin.
pub(crate) fn scan_marks(table: &Table, source: &str) -> BTreeMap<TopicPartition, Offset> {
    let mut marks = BTreeMap::new();
    for (key, value) in table.with_prefix(&prefix(source)) {
        let mark = serde_json::from_str::<(String, ScanKey)>(&key).ok();
        let offset = serde_json::from_str::<ScanMark>(&value).ok();
        if let (Some((_, key)), Some(mark)) = (mark, offset) {
            marks.insert(key.scanned, mark.offset);
        }
    }
    marks
}

/// Finds out how far a source has come: what is saved, then what its data in the log says. `partitions` are those that
/// it writes to from now on. No earlier run of the source appends any more.
pub(crate) async fn recover(host: &Host, source: &str, partitions: Vec<TopicPartition>) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    for (key, value) in host.positions.with_prefix(&prefix(source)) {
        if !key.contains(SCANNED) && !key.contains(MARK) {
            learn_saved(&mut recovered, source, &key, &value)?;
        }
    }
    let marks = scan_marks(&host.positions, source);
    let topics = host.store.topics().await?;
    let exists =
        |of: &TopicPartition| topics.iter().any(|topic| topic.name == of.topic && of.partition < topic.partitions);
    for (of, from) in marks.iter().filter(|(of, _)| exists(of)) {
        let end = scan(host, source, of, *from, &mut recovered).await?;
        recovered.scanned.insert(of.clone(), end);
    }
    // A partition without a mark has nothing of this source, because the mark comes before the first append.
    let mut new = Vec::new();
    for of in partitions.into_iter().filter(|of| !marks.contains_key(of)) {
        let end = host.store.sync(&of).await?;
        new.push(scan_mark(source, &of, end));
        recovered.scanned.insert(of, end);
    }
    if !new.is_empty() {
        host.positions.put(&host.lease, new).await?;
    }
    Ok(recovered)
}

#[derive(Serialize, Deserialize)]
struct Ours {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    sequence: u64,
    #[serde(default)]
    key: String,
}

#[derive(Deserialize)]
struct ScanKey {
    #[serde(rename = "aqueduct.scanned")]
    scanned: TopicPartition,
}

#[derive(Deserialize)]
struct ScanMark {
    offset: Offset,
}

const SCANNED: &str = r#"{"aqueduct.scanned":"#;

/// What a sink keeps here that once had the source's name.
const MARK: &str = r#"{"aqueduct.mark":"#;

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn prefix(source: &str) -> String {
    format!("[{},", quoted(source))
}

fn mark_key(source: &str, of: &TopicPartition) -> String {
    let (topic, partition) = (quoted(&of.topic), of.partition);
    format!("{}{SCANNED}{{\"topic\":{topic},\"partition\":{partition}}}}}]", prefix(source))
}

fn learn_saved(recovered: &mut Recovered, source: &str, key: &str, value: &str) -> Result<()> {
    let told = |cause: String| Error::fatal(format!("saved position {key} = {value}: {cause}"));
    let id = key[prefix(source).len()..].strip_suffix(']').unwrap_or_default().to_owned();
    let mut members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(value).map_err(|cause| told(cause.to_string()))?;
    let ours = members.remove("aqueduct").ok_or_else(|| told("the member `aqueduct` is missing".to_owned()))?;
    let ours: Ours = serde_json::from_value(ours).map_err(|cause| told(cause.to_string()))?;
    let position = Position::from_json(serde_json::Value::Object(members).to_string())?;
    let stream = Arc::new(Stream { id: id.clone(), key: ours.key });
    let partition = ours.topic.zip(ours.partition).map(|(topic, partition)| TopicPartition::new(topic, partition));
    recovered.streams.insert(id, Known { stream, position: Some(position), sequence: ours.sequence, partition });
    Ok(())
}

/// Reads a partition from its scan mark on, and returns how far.
async fn scan(
    host: &Host,
    source: &str,
    of: &TopicPartition,
    from: Offset,
    recovered: &mut Recovered,
) -> Result<Offset> {
    let end = host.store.sync(of).await?;
    let start = host.store.bounds(of).await?.start;
    // A mark past the end is that of an earlier topic of this name.
    let mut next = if from > end { start } else { from.max(start) };
    while next < end {
        let read = host.store.read(of, next, 1 << 20).await?;
        let before = next;
        if let Some(lost) = &read.lost {
            tracing::error!(source, partition = %of, from = lost.start, to = lost.end,
                "a damaged range may hide how far the source had come: what it held may be read again");
            next = lost.end.max(next);
        }
        let mut bytes = read.batches;
        while let Some((batch, rest)) = Batch::split_first(&bytes).map_err(Error::retry)? {
            bytes = rest;
            next = batch.next_offset().max(next);
            learn_batch(source, of, &batch, recovered)?;
        }
        if next == before {
            break;
        }
    }
    Ok(end)
}

fn learn_batch(source: &str, of: &TopicPartition, batch: &Batch, recovered: &mut Recovered) -> Result<()> {
    if batch.header().attributes.is_control() {
        return Ok(());
    }
    let records = batch.records().map_err(|cause| Error::retry(format!("{of}: {cause}")))?;
    let Some(Ok(last)) = records.iter().last() else { return Ok(()) };
    let Some(Some(header)) = last.headers.get(POSITION_HEADER) else { return Ok(()) };
    let Ok((name, id, position, sequence)) = serde_json::from_slice::<(String, String, Box<RawValue>, u64)>(header)
    else {
        return Ok(());
    };
    if name != source {
        return Ok(());
    }
    let position = Position::from_json(position.get().to_owned())?;
    let is_dead_letter = last.headers.get(crate::dead_letters::CONNECTOR_HEADER).is_some();
    let known = recovered.streams.entry(id.clone()).or_insert_with(|| Known {
        stream: Arc::new(Stream { id, key: String::new() }),
        position: None,
        sequence: 0,
        partition: None,
    });
    if sequence > known.sequence {
        known.position = Some(position);
        known.sequence = sequence;
        if !is_dead_letter {
            known.partition = Some(of.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(position: Option<&str>) -> Known {
        Known {
            stream: Arc::new(Stream { id: r#"{"f":["a]"]}"#.into(), key: "/a".into() }),
            position: position.map(|text| Position::from_json(text.into()).unwrap()),
            sequence: 7,
            partition: Some(TopicPartition::new("t", 3)),
        }
    }

    #[test]
    fn the_formats_stay() {
        let position = Position::from_json(r#"{"at":5}"#.into()).unwrap();
        let rides = header("s", &known(None).stream, &position, 7);
        assert_eq!(rides, r#"["s","{\"f\":[\"a]\"]}",{"at":5},7]"#);
        let (key, value) = saved("s", &known(Some(r#"{"at":5}"#))).unwrap();
        assert_eq!(key, r#"["s",{"f":["a]"]}]"#);
        let golden = r#"{"at":5,"aqueduct":{"topic":"t","partition":3,"sequence":7,"key":"/a"}}"#;
        assert_eq!(value.unwrap(), golden);
        let (key, value) = scan_mark("s", &TopicPartition::new("t", 3), 9);
        assert_eq!(key, r#"["s",{"aqueduct.scanned":{"topic":"t","partition":3}}]"#);
        assert_eq!(value.unwrap(), r#"{"offset":9}"#);
        assert_eq!(saved("s", &known(None)).unwrap().1, None);
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let was = known(Some(r#"{"at":5}"#));
        let (key, value) = saved("s", &was).unwrap();
        let mut recovered = Recovered::default();
        learn_saved(&mut recovered, "s", &key, &value.unwrap()).unwrap();
        assert_eq!(recovered.streams[&was.stream.id], was);
        let error = learn_saved(&mut recovered, "s", &key, "{}").unwrap_err();
        assert!(error.to_string().contains("the member `aqueduct` is missing"), "{error}");
    }
}
