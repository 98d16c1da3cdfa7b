//! Cuts a chunk into requests, by rules that know nothing but the records: whoever cuts it again cuts the same.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use aqueduct_api::template::{Piece, Template};
use aqueduct_api::{Batches, Chunk, ChunkBatch, Error, Result};
use aqueduct_record::{Offset, Record};
use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::escape;
use crate::sink::settings::{Format, HttpSinkSettings};
use crate::sink::target::{Target, Templates};

/// How much is cut at once at least, in bytes, so that a large batch is not walked for each of many small requests.
const AT_ONCE: usize = 1 << 20;

/// What shapes requests.
pub(crate) struct Plan {
    pub(crate) templates: Templates,
    format: Format,
    body: Option<Template>,
    body_is_json: bool,
    most_records: usize,
    most_bytes: usize,
}

/// Records that go in one request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: Arc<Target>,
    /// The records' bytes, one after the other.
    pub(crate) bytes: Bytes,
    /// Each record's offset, and where it ends in `bytes`.
    pub(crate) records: Vec<(Offset, usize)>,
    /// Where the first one begins in `bytes`.
    begin: usize,
    /// The first record's time.
    pub(crate) timestamp: i64,
}

impl Request {
    /// From the first record's offset to the one after the last.
    pub(crate) fn range(&self) -> Range<Offset> {
        let first = self.records.first().map_or(0, |(offset, _)| *offset);
        first..self.records.last().map_or(first, |(offset, _)| offset + 1)
    }

    /// Each record's bytes.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = self.begin;
        self.records.iter().map(move |(_, end)| {
            let from = std::mem::replace(&mut begin, *end);
            &self.bytes[from..*end]
        })
    }

    /// The same records in two requests; `None` for a single one.
    pub(crate) fn halves(&self) -> Option<(Request, Request)> {
        if self.records.len() < 2 {
            return None;
        }
        let (first, second) = self.records.split_at(self.records.len().div_ceil(2));
        let begin = first.last().map_or(0, |(_, end)| *end);
        let half = |records: &[(Offset, usize)], begin| Request { records: records.to_vec(), begin, ..self.clone() };
        Some((half(first, self.begin), half(second, begin)))
    }
}

impl Plan {
    /// What the settings say, which were checked before.
    pub(crate) fn new(settings: &HttpSinkSettings) -> Result<Self> {
        let body = settings.body.as_deref().map(Template::parse).transpose();
        let named_json = settings.content_type.as_deref().is_some_and(|name| name.contains("json"));
        Ok(Plan {
            templates: Templates::new(settings)?,
            format: settings.format,
            body: body.map_err(|why| Error::fatal(format!("setting body: {why}")))?,
            body_is_json: named_json || matches!(settings.format, Format::JsonArray | Format::JsonLines),
            most_records: if settings.format == Format::Record { 1 } else { settings.request_records as usize },
            most_bytes: settings.request_bytes.0 as usize,
        })
    }

    /// Appends what a record becomes; the error says why it can not.
    fn encode(&self, chunk: &Chunk, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        match &self.body {
            None => out.extend_from_slice(record.value.ok_or("the record has no value")?),
            Some(template) => template.fill(&chunk.partition, record, |piece| match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Said(text) if self.body_is_json => escape::json(text, out),
                Piece::Said(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(bytes) => out.extend_from_slice(bytes),
            })?,
        }
        if matches!(self.format, Format::JsonArray | Format::JsonLines) {
            let checked = serde_json::from_slice::<IgnoredAny>(&out[start..]);
            checked.map_err(|cause| format!("it is not JSON, which `format` asks for: {cause}"))?;
            // Within JSON a line only ends between words.
            out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        Ok(())
    }

    /// How many bytes a record of `length` bytes takes in a body.
    fn weight(&self, length: usize) -> usize {
        match self.format {
            Format::Firehose => length.div_ceil(3) * 4 + r#"{"data":""},"#.len(),
            _ => length + 1,
        }
    }
}

/// Why a record is in no request.
pub(crate) type Unfit = (Offset, String);

/// The requests of one chunk, in order.
pub(crate) struct Cutter<'a> {
    plan: &'a Plan,
    chunk: &'a Chunk,
    batches: Batches,
    /// A batch of which this many records have been taken.
    batch: Option<(ChunkBatch, usize)>,
    ready: VecDeque<Request>,
    open: Option<Open>,
    fixed: Option<Arc<Target>>,
    ended: bool,
    pub(crate) unfit: Vec<Unfit>,
}

/// A request that takes more records.
struct Open {
    target: Arc<Target>,
    bytes: Vec<u8>,
    records: Vec<(Offset, usize)>,
    weight: usize,
    timestamp: i64,
    /// Which of the chunk's ranges it is cut from.
    range: usize,
}

impl<'a> Cutter<'a> {
    /// Begins at the chunk's first record that is still to be written.
    pub(crate) fn new(plan: &'a Plan, chunk: &'a Chunk) -> Self {
        Cutter {
            plan,
            chunk,
            batches: chunk.batches(),
            batch: None,
            ready: VecDeque::new(),
            open: None,
            fixed: None,
            ended: false,
            unfit: Vec::new(),
        }
    }

    /// The next request; `None` at the end of the chunk.
    pub(crate) async fn next(&mut self) -> Result<Option<Request>> {
        loop {
            if let Some(request) = self.ready.pop_front() {
                return Ok(Some(request));
            }
            if self.ended {
                return Ok(None);
            }
            let batch = match self.batch.take() {
                Some(batch) => Some(batch),
                None => self.batches.next().await?.map(|batch| (batch, 0)),
            };
            match batch {
                Some((batch, taken)) => self.batch = self.take(&batch, taken)?.map(|taken| (batch, taken)),
                None => {
                    self.ended = true;
                    self.close();
                }
            }
        }
    }

    /// Takes records of a batch until enough requests are ready: how many have been taken then, `None` for all.
    fn take(&mut self, batch: &ChunkBatch, taken: usize) -> Result<Option<usize>> {
        let mut bytes = 0;
        let mut scratch = Vec::new();
        for (index, record) in batch.records()?.iter().enumerate().skip(taken) {
            let record = record?;
            scratch.clear();
            match self.prepare(&record, &mut scratch) {
                Ok(target) => self.add(&record, target, &scratch),
                Err(why) => self.unfit.push((record.offset, why)),
            }
            bytes += scratch.len();
            if bytes >= AT_ONCE && !self.ready.is_empty() {
                return Ok(Some(index + 1));
            }
        }
        Ok(None)
    }

    fn prepare(&mut self, record: &Record<'_>, scratch: &mut Vec<u8>) -> Result<Arc<Target>, String> {
        self.plan.encode(self.chunk, record, scratch)?;
        if let Some(target) = &self.fixed {
            return Ok(target.clone());
        }
        let target = Arc::new(self.plan.templates.target(&self.chunk.partition, record)?);
        if self.plan.templates.is_fixed() {
            self.fixed = Some(target.clone());
        }
        Ok(target)
    }

    fn add(&mut self, record: &Record<'_>, target: Arc<Target>, bytes: &[u8]) {
        let range = self.chunk.ranges.iter().position(|range| range.contains(&record.offset)).unwrap_or_default();
        let weight = self.plan.weight(bytes.len());
        let fits = self.open.as_ref().is_some_and(|open| {
            open.range == range
                && open.records.len() < self.plan.most_records
                && open.weight + weight <= self.plan.most_bytes
                && (Arc::ptr_eq(&open.target, &target) || *open.target == *target)
        });
        if !fits {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| Open {
            target,
            bytes: Vec::new(),
            records: Vec::new(),
            weight: 0,
            timestamp: record.timestamp,
            range,
        });
        open.bytes.extend_from_slice(bytes);
        open.records.push((record.offset, open.bytes.len()));
        open.weight += weight;
    }

    fn close(&mut self) {
        if let Some(Open { target, bytes, records, timestamp, .. }) = self.open.take() {
            self.ready.push_back(Request { target, bytes: bytes.into(), records, begin: 0, timestamp });
        }
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_api::conformance::sink::Script;
    use aqueduct_record::BatchBuilder;
    use serde_json::{Value, json};

    use super::*;

    fn plan(more: Value) -> Plan {
        let mut settings = json!({"url": "http://h/"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Plan::new(&serde_json::from_value(settings).unwrap()).unwrap()
    }

    /// A chunk of these values, in batches of three, at offsets from 100.
    fn chunk(values: &[&str]) -> Chunk {
        let mut script = Script::new("t", 0);
        for (index, some) in values.chunks(3).enumerate() {
            let mut builder = BatchBuilder::new();
            for value in some {
                builder.push(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &[]);
            }
            script = script.raw(100 + 3 * index as Offset, builder);
        }
        script.chunk()
    }

    async fn cut(plan: &Plan, chunk: &Chunk) -> (Vec<(Range<Offset>, String)>, Vec<Offset>) {
        let mut cutter = Cutter::new(plan, chunk);
        let mut requests = Vec::new();
        while let Some(request) = cutter.next().await.unwrap() {
            let each: Vec<_> = request.each().map(String::from_utf8_lossy).collect();
            requests.push((request.range(), format!("{} {}", request.target.url.path(), each.join("|"))));
        }
        (requests, cutter.unfit.iter().map(|(offset, _)| *offset).collect())
    }

    fn found(requests: &[(Range<Offset>, String)]) -> Vec<String> {
        requests.iter().map(|(range, text)| format!("{}..{}{text}", range.start, range.end)).collect()
    }

    #[tokio::test]
    async fn requests_end_by_records_bytes_and_address() {
        let values = ["1", "22", "333", "4444", "55555", "6"];
        for (settings, expected) in [
            (json!({"request-records": 4}), vec!["100..104/ 1|22|333|4444", "104..106/ 55555|6"]),
            (
                json!({"format": "record"}),
                vec![
                    "100..101/ 1",
                    "101..102/ 22",
                    "102..103/ 333",
                    "103..104/ 4444",
                    "104..105/ 55555",
                    "105..106/ 6",
                ],
            ),
            (json!({"url": "http://h/{offset}", "request-records": 2, "body": "x"}), vec!["100..101/100 x"]),
            (json!({"format": "lines", "body": "{key}:{value}"}), vec!["100..106/ k:1|k:22|k:333|k:4444|k:55555|k:6"]),
        ] {
            let (requests, _) = cut(&plan(json!({"format": "lines"})).with(settings.clone()), &chunk(&values)).await;
            assert_eq!(found(&requests)[..expected.len()], expected, "{settings}");
        }
        let mut bytes = plan(json!({"format": "lines"}));
        bytes.most_bytes = 9;
        let (requests, _) = cut(&bytes, &chunk(&values)).await;
        assert_eq!(found(&requests), ["100..103/ 1|22|333", "103..104/ 4444", "104..106/ 55555|6"]);
    }

    impl Plan {
        fn with(self, more: Value) -> Plan {
            let mut settings = json!({"format": "lines"});
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            plan(settings)
        }
    }

    #[tokio::test]
    async fn what_is_unfit_is_told_and_the_rest_is_cut() {
        let values = ["{\"a\":\n1}", "no", "[2]", "{", "3"];
        let (requests, unfit) = cut(&plan(json!({"format": "json-lines"})), &chunk(&values)).await;
        assert_eq!(found(&requests), [r#"100..105/ {"a": 1}|[2]|3"#]);
        assert_eq!(unfit, [101, 103]);
    }

    #[tokio::test]
    async fn the_rest_of_a_chunk_is_cut_where_it_was_cut_before() {
        let values: Vec<String> = (0..200).map(|n| "x".repeat(n * 7 % 23)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut plan = plan(json!({"format": "lines", "request-records": 7}));
        plan.most_bytes = 64;
        let chunk = chunk(&values);
        let (whole, _) = cut(&plan, &chunk).await;
        for from in 0..whole.len() {
            let mut rest = Chunk { ranges: vec![whole[from].0.start..chunk.end; 1], ..clone(&chunk) };
            assert_eq!(cut(&plan, &rest).await.0, whole[from..], "from request {from} on");
            rest.ranges = vec![whole[0].0.clone(), whole[from].0.clone()];
            rest.ranges.dedup();
            let expected: Vec<_> = [0, from].into_iter().take(1 + from.min(1)).map(|at| whole[at].clone()).collect();
            assert_eq!(cut(&plan, &rest).await.0, expected, "the first and request {from}");
        }
    }

    fn clone(chunk: &Chunk) -> Chunk {
        Chunk {
            partition: chunk.partition.clone(),
            ranges: chunk.ranges.clone(),
            note: None,
            content: chunk.content.clone(),
            ..*chunk
        }
    }

    #[tokio::test]
    async fn halves_hold_the_same_records() {
        let chunk = chunk(&["1", "22", "333", "4444", "55555"]);
        let plan = plan(json!({"format": "lines"}));
        let request = Cutter::new(&plan, &chunk).next().await.unwrap().unwrap();
        let mut parts = vec![request.clone()];
        let mut single = Vec::new();
        while let Some(part) = parts.pop() {
            match part.halves() {
                Some((first, second)) => parts.extend([second, first]),
                None => single.push((part.range().start, part.each().next().unwrap().len())),
            }
        }
        assert_eq!(single, [(100, 1), (101, 2), (102, 3), (103, 4), (104, 5)]);
    }
}
