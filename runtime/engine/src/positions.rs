//! How far a source has come: positions that ride with its data, saved positions as a cache of them, and scan marks that
//! say up to where in the log the cache is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{Error, Isolation, POSITION_HEADER, Position, Result, Stream, TopicPartition};
use aqueduct_record::{Batch, Offset};
use serde::{Deserialize, Serialize};

use crate::dead_letters;
use crate::early::{EarlyLetters, Fingerprint, Letter};
use crate::host::Host;
use crate::rides::{Rides, quoted};
use crate::table::{Change, Table};

/// What is known of one stream of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) stream: Arc<Stream>,
    pub(crate) position: Option<Position>,
    /// How many `Incoming`s of the stream there were: of two positions the one with more is the later.
    pub(crate) sequence: u64,
    /// How much was read of the stream by then: of what went through transforms, which alone leave early letters.
    pub(crate) read: u64,
    /// The partition that the stream keeps; `None` where it is only known from dead letters.
    pub(crate) partition: Option<TopicPartition>,
    /// Dead letters of records behind the position.
    pub(crate) early: EarlyLetters,
}

impl Known {
    /// A stream of which nothing is known yet.
    pub(crate) fn new(stream: Arc<Stream>) -> Known {
        Known { stream, position: None, sequence: 0, read: 0, partition: None, early: EarlyLetters::default() }
    }
}

/// Everything known of a source at its start.
#[derive(Default)]
pub(crate) struct Recovered {
    /// By the stream's id.
    pub(crate) streams: BTreeMap<String, Known>,
    /// How far each partition was looked at: data of the source before that is covered by `streams`.
    pub(crate) scanned: BTreeMap<TopicPartition, Offset>,
    /// Dead letters of unfit records, by the stream's id.
    letters: BTreeMap<String, Vec<Letter>>,
    /// Which of them the latest position of a stream calls early.
    listed: BTreeMap<String, Vec<(Offset, Offset)>>,
}

/// Where a source is looked for.
pub(crate) struct Traces<'a> {
    pub(crate) source: &'a str,
    /// The partitions that it writes to from now on.
    pub(crate) partitions: Vec<TopicPartition>,
    /// The partition of its dead letters among them, and what made them: letters that were made otherwise say nothing
    /// of what is made now.
    pub(crate) letters: Option<(TopicPartition, String)>,
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
        read: known.read,
        key: known.stream.key.clone(),
        early: known.early.ranges(),
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

/// Finds out how far a source has come: what is saved, then what its data in the log says. No earlier run of the source
/// appends any more.
pub(crate) async fn recover(host: &Host, traces: Traces<'_>) -> Result<Recovered> {
    let source = traces.source;
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
        let end = scan(host, &traces, of, *from, &mut recovered).await?;
        recovered.scanned.insert(of.clone(), end);
    }
    // A partition without a mark has nothing of this source, because the mark comes before the first append.
    let mut new = Vec::new();
    for of in traces.partitions.into_iter().filter(|of| !marks.contains_key(of)) {
        let end = host.store.sync(&of).await?;
        new.push(scan_mark(source, &of, end));
        recovered.scanned.insert(of, end);
    }
    if !new.is_empty() {
        host.positions.put(&host.lease, new).await?;
    }
    let first = recovered.know_early();
    if let Some(((of, _), first)) = traces.letters.zip(first) {
        // The next start has to find them again.
        recovered.scanned.entry(of).and_modify(|end| *end = first.min(*end));
    }
    Ok(recovered)
}

impl Recovered {
    /// Tells which dead letters are early, and the first of them.
    fn know_early(&mut self) -> Option<Offset> {
        let letters = std::mem::take(&mut self.letters);
        for (id, letters) in letters {
            let listed = self.listed.get(&id).map(Vec::as_slice).unwrap_or_default();
            let stream = || Arc::new(Stream { id: id.clone(), key: String::new() });
            let known = self.streams.entry(id.clone()).or_insert_with(|| Known::new(stream()));
            let is_listed = |letter: &&Letter| listed.iter().any(|(from, to)| (*from..*to).contains(&letter.offset));
            let is_early = |letter: &&Letter| letter.sequence > known.sequence || is_listed(letter);
            let (early, past) = EarlyLetters::among(letters.iter().filter(is_early).cloned(), known.read);
            if past > 0 {
                tracing::warn!(
                    stream = id,
                    letters = past,
                    "records that have dead letters are not read again: the letters stay"
                );
            }
            known.early = early;
            known.sequence = letters.iter().map(|letter| letter.sequence).fold(known.sequence, u64::max);
        }
        self.streams.values().filter_map(|known| known.early.first()).min()
    }
}

#[derive(Serialize, Deserialize)]
struct Ours {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    sequence: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    read: u64,
    #[serde(default)]
    key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    early: Vec<(Offset, Offset)>,
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

fn is_zero(number: &u64) -> bool {
    *number == 0
}

const SCANNED: &str = r#"{"aqueduct.scanned":"#;

/// What a sink keeps here that once had the source's name.
const MARK: &str = r#"{"aqueduct.mark":"#;

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
    recovered.listed.insert(id.clone(), ours.early);
    let (sequence, read) = (ours.sequence, ours.read);
    let known = Known { position: Some(position), sequence, read, partition, ..Known::new(stream) };
    recovered.streams.insert(id, known);
    Ok(())
}

/// Reads a partition from its scan mark on, and returns how far.
async fn scan(
    host: &Host,
    traces: &Traces<'_>,
    of: &TopicPartition,
    from: Offset,
    recovered: &mut Recovered,
) -> Result<Offset> {
    let end = host.store.sync(of).await?;
    let start = host.store.bounds(of).await?.start;
    // A mark past the end is that of an earlier topic of this name.
    let mut next = if from > end { start } else { from.max(start) };
    while next < end {
        let read = host.store.read(of, next, 1 << 20, Isolation::Uncommitted).await?;
        let before = next;
        if let Some(lost) = &read.lost {
            tracing::error!(source = traces.source, partition = %of, from = lost.start, to = lost.end,
                "a damaged range may hide how far the source had come: what it held may be read again");
            next = lost.end.max(next);
        }
        for batch in read.into_own_batches() {
            let batch = batch.map_err(Error::retry)?;
            next = batch.next_offset().max(next);
            learn_batch(traces, of, &batch, recovered)?;
        }
        if next == before {
            break;
        }
    }
    Ok(end)
}

fn learn_batch(traces: &Traces<'_>, of: &TopicPartition, batch: &Batch, recovered: &mut Recovered) -> Result<()> {
    let records = batch.records().map_err(|cause| Error::retry(format!("{of}: {cause}")))?;
    let Some(Ok(last)) = records.iter().last() else { return Ok(()) };
    let Some(Some(header)) = last.headers.get(POSITION_HEADER) else { return Ok(()) };
    let Some(rides) = Rides::parse(header).filter(|rides| rides.source == traces.source) else { return Ok(()) };
    if rides.position.get() == "null" {
        let is_ours = |(letters, now): &(TopicPartition, String)| letters == of && rides.made_by.as_ref() == Some(now);
        if traces.letters.as_ref().is_some_and(is_ours) {
            let found = recovered.letters.entry(rides.stream).or_default();
            for record in records.iter().filter_map(Result::ok) {
                let of = Fingerprint::of(record.key, record.value, dead_letters::original_headers(record.headers));
                found.push(Letter { offset: record.offset, sequence: rides.sequence, read: rides.read, of });
            }
        }
        return Ok(());
    }
    let position = Position::from_json(rides.position.get().to_owned())?;
    let is_dead_letter = last.headers.get(dead_letters::CONNECTOR_HEADER).is_some();
    let id = rides.stream;
    let stream = || Arc::new(Stream { id: id.clone(), key: String::new() });
    let known = recovered.streams.entry(id.clone()).or_insert_with(|| Known::new(stream()));
    if rides.sequence > known.sequence {
        known.position = Some(position);
        (known.sequence, known.read) = (rides.sequence, rides.read);
        if !is_dead_letter {
            known.partition = Some(of.clone());
        }
        recovered.listed.insert(id, rides.early);
    } else if known.partition.is_none() && !is_dead_letter {
        // A later dead letter was found first, which does not say where the stream's data goes.
        known.partition = Some(of.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rides::{header, letters_header};

    fn known(position: Option<&str>) -> Known {
        Known {
            stream: Arc::new(Stream { id: r#"{"f":["a]"]}"#.into(), key: "/a".into() }),
            position: position.map(|text| Position::from_json(text.into()).unwrap()),
            sequence: 7,
            read: 0,
            partition: Some(TopicPartition::new("t", 3)),
            early: EarlyLetters::default(),
        }
    }

    #[test]
    fn the_formats_stay() {
        let position = Position::from_json(r#"{"at":5}"#.into()).unwrap();
        let rides = header("s", &known(None), &position);
        assert_eq!(rides, r#"["s","{\"f\":[\"a]\"]}",{"at":5},7]"#);
        let letters = letters_header("s", &Known { read: 30, ..known(None) }, "d1");
        assert_eq!(letters, r#"["s","{\"f\":[\"a]\"]}",null,7,30,"d1"]"#);
        let (key, value) = saved("s", &known(Some(r#"{"at":5}"#))).unwrap();
        assert_eq!(key, r#"["s",{"f":["a]"]}]"#);
        let golden = r#"{"at":5,"aqueduct":{"topic":"t","partition":3,"sequence":7,"key":"/a"}}"#;
        assert_eq!(value.unwrap(), golden);
        let (key, value) = scan_mark("s", &TopicPartition::new("t", 3), 9);
        assert_eq!(key, r#"["s",{"aqueduct.scanned":{"topic":"t","partition":3}}]"#);
        assert_eq!(value.unwrap(), r#"{"offset":9}"#);
        assert_eq!(saved("s", &known(None)).unwrap().1, None);
        let mut early = known(Some(r#"{"at":5}"#));
        let of = Fingerprint::of(None, None, [].into_iter());
        let letters = [4, 5, 9].map(|offset| Letter { offset, sequence: 8, read: 30, of: of.clone() });
        (early.early, early.read) = (EarlyLetters::among(letters.into_iter(), 29).0, 29);
        assert_eq!(header("s", &early, &position), r#"["s","{\"f\":[\"a]\"]}",{"at":5},7,29,[[4,6],[9,10]]]"#);
        let golden = r#"{"at":5,"aqueduct":{"topic":"t","partition":3,"sequence":7,"read":29,"key":"/a","early":[[4,6],[9,10]]}}"#;
        assert_eq!(saved("s", &early).unwrap().1.unwrap(), golden);
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
