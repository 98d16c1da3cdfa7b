//! What a record becomes in a bulk request: a line that says what to do, and the document.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::template::{Piece, Template};
use aqueduct_api::{Chunk, Replayed, TopicPartition};
use aqueduct_record::{Offset, Record};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::name::IndexName;

/// What is done with a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A document of the same id is replaced, unless it is newer.
    #[default]
    Index,
    /// A document of the same id stays as it is: the one thing that data streams take.
    Create,
    /// The fields of the value are merged into the document of the same id.
    Upsert,
}

/// What is done with a record whose value is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnNull {
    /// It is a dead letter.
    #[default]
    Reject,
    /// The document of its id is deleted.
    Delete,
    /// Nothing.
    Ignore,
}

/// By what a document is known.
#[derive(Clone, Debug)]
pub(crate) enum Id {
    /// By topic, partition and offset.
    Offset,
    /// By what a template makes of the record.
    Template(Template),
}

/// The longest id that Elasticsearch takes, in bytes; a longer one would fail the whole request.
const LONGEST_ID: usize = 512;
/// Offsets are below this, so that the incarnation of their topic fits above them in a version.
const OFFSETS: i64 = 1 << 48;

/// How records become documents.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) index: IndexName,
    pub(crate) id: Id,
    pub(crate) operation: Operation,
    pub(crate) on_null: OnNull,
    pub(crate) pipeline: Option<String>,
    pub(crate) routing: Option<Template>,
}

/// One action of a request, and the record that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    /// The chunk's place in the call.
    pub(crate) place: usize,
    /// The record's offset.
    pub(crate) offset: Offset,
    /// Where it begins in the body.
    pub(crate) start: usize,
    /// Stands for index and id.
    pub(crate) identity: u64,
    /// Stands for the id alone: see [`id_mark`].
    pub(crate) id: u64,
    /// The version that it carries; 0: none.
    pub(crate) version: i64,
    pub(crate) kind: Kind,
    /// Whether it may have been carried out before, or comes again on purpose.
    pub(crate) repeated: bool,
    /// Index and id, where they may have to be looked up.
    pub(crate) name: Option<Box<(String, String)>>,
}

/// What the action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Index,
    Create,
    Update,
    Delete,
}

/// A record on its way into a request.
pub(crate) struct Subject<'a> {
    pub(crate) place: usize,
    pub(crate) chunk: &'a Chunk,
    pub(crate) record: &'a Record<'a>,
    /// Which of the records made of one offset it is, from 0.
    pub(crate) ordinal: u32,
}

impl Shape {
    /// Appends a record's action to `body`; `None` where nothing is to be done. The error says why the record can become
    /// no document; the body is as it was then.
    pub(crate) fn write(&self, subject: &Subject<'_>, body: &mut Vec<u8>) -> Result<Option<Action>, String> {
        let start = body.len();
        let written = self.try_write(subject, body);
        if !matches!(written, Ok(Some(_))) {
            body.truncate(start);
        }
        written
    }

    fn try_write(&self, subject: &Subject<'_>, body: &mut Vec<u8>) -> Result<Option<Action>, String> {
        let Subject { place, chunk, record, ordinal } = *subject;
        let kind = match (record.value, self.on_null, self.operation) {
            (None, OnNull::Reject, _) => return Err("the value is null, and `on-null` is not `delete`".to_owned()),
            (None, OnNull::Ignore, _) => return Ok(None),
            (None, OnNull::Delete, _) => Kind::Delete,
            (Some(_), _, Operation::Index) => Kind::Index,
            (Some(_), _, Operation::Create) => Kind::Create,
            (Some(_), _, Operation::Upsert) => Kind::Update,
        };
        let (mut index, mut id) = (String::new(), String::new());
        self.index.of(&chunk.partition, record, &mut index)?;
        self.id_of(subject, &mut id)?;
        let mut hasher = DefaultHasher::new();
        (&index, &id).hash(&mut hasher);
        // What is there of it may be of other settings: the sink was rewound, or a chunk was given up and cut anew.
        let is_again = chunk.run > 0 || chunk.given_up > 0;
        let version = match (kind, self.operation) {
            (Kind::Index | Kind::Delete, Operation::Index | Operation::Create) => {
                version(chunk, Place::of(&chunk.partition, record).offset)?
            }
            // Updates carry no version of ours, and a delete between them must not carry one either.
            _ => 0,
        };
        let action = Action {
            place,
            offset: record.offset,
            start: body.len(),
            identity: hasher.finish(),
            id: id_mark(&id),
            version,
            kind,
            // A newer record than one that was set aside may be there by now, or of a chunk that was given up.
            repeated: chunk.redelivered || is_again || Replayed::of(record.headers).is_some(),
            name: (kind == Kind::Create).then(|| Box::new((index.clone(), id.clone()))),
        };
        // Equal versions are taken where a record comes again on purpose, or a later one of the same offset replaces it.
        let equal = is_again || ordinal > 0;
        self.write_line(&action, (&index, &id), equal, subject, body)?;
        if let Some(value) = record.value {
            write_document(value, kind, body)?;
        }
        Ok(Some(action))
    }

    fn id_of(&self, subject: &Subject<'_>, id: &mut String) -> Result<(), String> {
        let Subject { chunk, record, ordinal, .. } = *subject;
        match &self.id {
            Id::Offset => {
                let Place { topic, partition, offset } = Place::of(&chunk.partition, record);
                // Writing into a String does not fail.
                let _ = write!(id, "{topic}+{partition}+{offset}");
                if ordinal > 0 {
                    let _ = write!(id, "+{ordinal}");
                }
                Ok(())
            }
            Id::Template(template) => {
                fill(template, subject, id)?;
                match id.len() {
                    0 => Err("the document's id is empty".to_owned()),
                    1..=LONGEST_ID => Ok(()),
                    length => Err(format!("the document's id has {length} bytes, more than {LONGEST_ID}")),
                }
            }
        }
    }

    fn write_line(
        &self,
        action: &Action,
        (index, id): (&str, &str),
        equal: bool,
        subject: &Subject<'_>,
        body: &mut Vec<u8>,
    ) -> Result<(), String> {
        body.extend_from_slice(match action.kind {
            Kind::Index => br#"{"index":{"_index":"#,
            Kind::Create => br#"{"create":{"_index":"#,
            Kind::Update => br#"{"update":{"_index":"#,
            Kind::Delete => br#"{"delete":{"_index":"#,
        });
        push_text(index, body)?;
        body.extend_from_slice(br#","_id":"#);
        push_text(id, body)?;
        if action.version > 0 {
            let kind = if equal { "external_gte" } else { "external" };
            body.extend_from_slice(format!(r#","version":{},"version_type":"{kind}""#, action.version).as_bytes());
        }
        if action.kind == Kind::Update {
            body.extend_from_slice(br#","retry_on_conflict":3"#);
        }
        if let Some(template) = &self.routing {
            let mut routing = String::new();
            fill(template, subject, &mut routing)?;
            body.extend_from_slice(br#","routing":"#);
            push_text(&routing, body)?;
        }
        if let (Some(pipeline), Kind::Index | Kind::Create) = (&self.pipeline, action.kind) {
            body.extend_from_slice(br#","pipeline":"#);
            push_text(pipeline, body)?;
        }
        body.extend_from_slice(b"}}\n");
        Ok(())
    }
}

/// What stands for an id, where only two are to be compared.
pub(crate) fn id_mark(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Where a record was first: a replayed one not where it is now.
struct Place {
    topic: Arc<str>,
    partition: i32,
    offset: Offset,
}

impl Place {
    fn of(here: &TopicPartition, record: &Record<'_>) -> Place {
        match Replayed::of(record.headers) {
            Some(Replayed { topic, partition, offset: Some(offset), .. }) => {
                Place { topic: topic.into(), partition, offset }
            }
            _ => Place { topic: here.topic.clone(), partition: here.partition, offset: record.offset },
        }
    }
}

/// The version of a record: of two of one id the one of the higher incarnation is newer, then that of the higher offset.
fn version(chunk: &Chunk, offset: Offset) -> Result<i64, String> {
    let incarnation = i64::from(chunk.incarnation);
    if !(0..OFFSETS).contains(&offset) || incarnation >= 1 << 15 {
        return Err(format!("offset {offset} of incarnation {incarnation} is too high for a version"));
    }
    Ok(if mutated(Mutant::VersionWithoutIncarnation) { offset + 1 } else { incarnation << 48 | offset })
}

fn fill(template: &Template, subject: &Subject<'_>, out: &mut String) -> Result<(), String> {
    template.fill(&subject.chunk.partition, subject.record, |piece| match piece {
        Piece::Text(text) | Piece::Said(text) => out.push_str(text),
        Piece::Value(_) => {}
    })
}

fn push_text(text: &str, body: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(body, text).map_err(|cause| cause.to_string())
}

/// Appends a document on a line of its own. It goes as it is: only that it is one JSON object is looked at, since anything
/// else would be read as lines of the request.
fn write_document(value: &[u8], kind: Kind, body: &mut Vec<u8>) -> Result<(), String> {
    let text = std::str::from_utf8(value).map_err(|cause| format!("the value is no JSON object: {cause}"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|cause| format!("the value is no JSON object: {cause}"))?;
    let text = text.trim_ascii();
    if !text.starts_with('{') {
        return Err("the value is JSON, but no object".to_owned());
    }
    if kind == Kind::Update {
        body.extend_from_slice(br#"{"doc_as_upsert":true,"doc":"#);
    }
    let start = body.len();
    body.extend_from_slice(text.as_bytes());
    // Inside a string a line end is not JSON, so these are white space.
    let mut next = start;
    while let Some(at) = memchr::memchr(b'\n', &body[next..]) {
        next += at;
        body[next] = b' ';
    }
    body.extend_from_slice(if kind == Kind::Update { b"}\n" } else { b"\n" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use aqueduct_api::REPLAYED_HEADER;
    use aqueduct_record::BatchBuilder;

    use super::*;

    #[test]
    fn a_replayed_record_goes_by_where_it_was() {
        let at = |header: Option<&str>| {
            let headers: Vec<_> = header.iter().map(|header| (REPLAYED_HEADER, Some(header.as_bytes()))).collect();
            let mut builder = BatchBuilder::new();
            builder.push(1, None, Some(b"{}"), &headers);
            let batch = builder.finish().at(40, 0);
            let records = batch.records().unwrap();
            let record = records.iter().next().unwrap().unwrap();
            let place = Place::of(&TopicPartition::new("logs", 1), &record);
            format!("{}+{}+{}", place.topic, place.partition, place.offset)
        };
        assert_eq!(at(None), "logs+1+40");
        let letter = r#""letter":["AAAAAAAAAAAAAAAAAAAAAQ",7]"#;
        assert_eq!(at(Some(&format!(r#"{{"topic":"old","partition":2,"offset":9,{letter}}}"#))), "old+2+9");
        // What a source had set aside was nowhere yet.
        assert_eq!(at(Some(&format!(r#"{{"topic":"old","partition":2,{letter}}}"#))), "logs+1+40");
    }
}
