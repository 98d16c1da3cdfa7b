//! Cuts a chunk into requests, by rules that know nothing but the chunk's records: whoever cuts it again cuts the same,
//! however much of it is written already.

use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Batches, Chunk, ChunkBatch, Replayed, Result, TopicPartition};
use aqueduct_record::{Offset, Record};

use crate::sink::pack::{Group, Packer};
use crate::sink::plan::Plan;
use crate::sink::request::Request;
use crate::sink::target::Target;

/// How much is cut at once at least, in bytes, so that a large batch is not walked for each of many small requests.
const AT_ONCE: usize = 1 << 20;

/// Why a record is in no request.
pub(crate) type Unfit = (Offset, String);

/// The requests of one chunk, in order.
pub(crate) struct Cutter<'a> {
    plan: &'a Plan,
    chunk: &'a Chunk,
    batches: Batches,
    /// A batch of which this many records have been taken.
    batch: Option<(ChunkBatch, usize)>,
    packer: Packer<'a>,
    fixed: Option<Arc<Target>>,
    ended: bool,
    pub(crate) unfit: Vec<Unfit>,
}

impl<'a> Cutter<'a> {
    /// Begins at the chunk's first record, also where that is written already: where requests end must not depend on it.
    pub(crate) fn new(plan: &'a Plan, chunk: &'a Chunk) -> Self {
        let is_again = chunk.ranges.len() != 1 || chunk.ranges[0] != (chunk.start..chunk.end);
        let adapts = mutated(Mutant::AdaptiveCuts) && is_again;
        Cutter {
            plan,
            chunk,
            batches: chunk.batches_of(vec![chunk.start..chunk.end; 1]),
            batch: None,
            packer: Packer::new(plan, if adapts { plan.most_records.div_ceil(2) } else { plan.most_records }),
            fixed: None,
            ended: false,
            unfit: Vec::new(),
        }
    }

    /// The next request; `None` at the end of the chunk.
    pub(crate) async fn next(&mut self) -> Result<Option<Request>> {
        loop {
            if let Some(request) = self.packer.ready.pop_front() {
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
                    self.packer.close();
                }
            }
        }
    }

    /// Takes records of a batch until enough requests are ready: how many have been taken then, `None` for all.
    fn take(&mut self, batch: &ChunkBatch, taken: usize) -> Result<Option<usize>> {
        let mut bytes = 0;
        let mut group = Group::default();
        let records = batch.records()?;
        let mut records = records.iter().enumerate().skip(taken).peekable();
        while let Some((index, record)) = records.next() {
            let record = record?;
            if let Err(why) = self.prepare(&record, &mut group)
                && self.chunk.ranges.iter().any(|range| range.contains(&record.offset))
            {
                self.unfit.push((record.offset, why));
            }
            if matches!(records.peek(), Some((_, Ok(next))) if next.offset == record.offset) {
                continue;
            }
            bytes += group.bytes.len();
            self.packer.place(&mut group);
            if bytes >= AT_ONCE && !self.packer.ready.is_empty() {
                return Ok(Some(index + 1));
            }
        }
        Ok(None)
    }

    /// Adds what a record becomes to the group of those that were made of the same one.
    fn prepare(&mut self, record: &Record<'_>, group: &mut Group) -> Result<(), String> {
        let (start, here) = (group.bytes.len(), &self.chunk.partition);
        let replayed = if record.headers.is_empty() { None } else { Replayed::of(record.headers) };
        let prepared = match &replayed {
            // Its names are made of where it was first.
            Some(Replayed { topic, partition, offset: Some(offset), .. }) => {
                let (of, record) =
                    (TopicPartition::new(topic.as_str(), *partition), Record { offset: *offset, ..*record });
                let encoded = self.plan.encode(&of, &record, &mut group.bytes);
                encoded.and_then(|()| self.plan.templates.target(&of, &record).map(Arc::new))
            }
            _ => self.plan.encode(here, record, &mut group.bytes).and_then(|()| self.target(record)),
        };
        let target = prepared.inspect_err(|_| group.bytes.truncate(start))?;
        group.made.push((target, group.bytes.len()));
        (group.offset, group.timestamp) = (record.offset, record.timestamp);
        group.letter = replayed.map(|replayed| replayed.letter);
        Ok(())
    }

    fn target(&mut self, record: &Record<'_>) -> Result<Arc<Target>, String> {
        if let Some(target) = &self.fixed {
            return Ok(target.clone());
        }
        let target = Arc::new(self.plan.templates.target(&self.chunk.partition, record)?);
        if self.plan.templates.is_fixed() {
            self.fixed = Some(target.clone());
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Range;

    use aqueduct_api::conformance::sink::{Multiplied, Script};
    use aqueduct_api::{REPLAYED_HEADER, TopicId};
    use aqueduct_record::BatchBuilder;
    use serde_json::{Value, json};

    use super::*;
    use crate::sink::frame;

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
    async fn json_with_bytes_that_are_no_text_is_unfit() {
        let mut builder = BatchBuilder::new();
        for value in [&b"{\"a\":\"\xff\"}"[..], b"\"\xc3\"", b"1"] {
            builder.push(1_700_000_000_000, None, Some(value), &[]);
        }
        let chunk = Script::new("t", 0).raw(100, builder).chunk();
        for format in ["json-array", "json-lines"] {
            let (requests, unfit) = cut(&plan(json!({"format": format})), &chunk).await;
            assert_eq!((requests.len(), unfit), (1, vec![100, 101]), "{format}");
        }
    }

    #[tokio::test]
    async fn a_chunk_is_cut_the_same_however_much_of_it_is_written() {
        let values: Vec<String> = (0..200).map(|n| "x".repeat(n * 7 % 23)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut plan = plan(json!({"format": "lines", "request-records": 7}));
        plan.most_bytes = 64;
        let chunk = chunk(&values);
        let (whole, _) = cut(&plan, &chunk).await;
        for from in [100, 101, 107, 150, 299] {
            let rest = Chunk { ranges: vec![from..from + 1, from + 3..chunk.end], ..clone(&chunk) };
            assert_eq!(cut(&plan, &rest).await.0, whole, "from {from} on");
        }
    }

    #[tokio::test]
    async fn what_was_made_of_one_record_is_in_one_request_or_in_parts_of_its_own() {
        let mut chunk = chunk(&["a", "b", "c", "d", "e", "f"]);
        chunk.content = Arc::new(Multiplied(chunk.content, |offset| match offset {
            101 => 3,
            103 => 9,
            104 => 0,
            _ => 1,
        }));
        let plan = plan(json!({"format": "lines", "request-records": 4}));
        let mut cutter = Cutter::new(&plan, &chunk);
        let mut found = Vec::new();
        while let Some(request) = cutter.next().await.unwrap() {
            found.push((frame::key(&chunk, &request), request.each().count()));
        }
        let keys: Vec<_> =
            found.iter().map(|(key, count)| (key.replace(&chunk.topic_id.to_string(), "T"), *count)).collect();
        let expected = [
            ("t-0-100-102-T", 4),
            ("t-0-102-103-T", 1),
            ("t-0-103-104-T-part0-4", 4),
            ("t-0-103-104-T-part4-8", 4),
            ("t-0-103-104-T-part8-9", 1),
            ("t-0-105-106-T", 1),
        ];
        assert_eq!(keys, expected.map(|(key, count)| (key.to_owned(), count)));
    }

    #[tokio::test]
    async fn what_is_cut_anew_has_keys_of_its_own_the_same_ones_whenever_it_comes() {
        let plan = plan(json!({"format": "lines", "request-records": 2}));
        let mut keys = BTreeSet::new();
        for (given_up, run, behind) in [(0, 0, ""), (1, 0, "-cut1"), (2, 0, "-cut2"), (2, 1, "-run1-cut2")] {
            for redelivered in [false, true] {
                let chunk = Chunk { given_up, run, redelivered, ..chunk(&["a", "b", "c"]) };
                let (mut cutter, mut found) = (Cutter::new(&plan, &chunk), Vec::new());
                while let Some(request) = cutter.next().await.unwrap() {
                    found.push(frame::key(&chunk, &request));
                }
                let id = chunk.topic_id;
                assert_eq!(found, [format!("t-0-100-102-{id}{behind}"), format!("t-0-102-103-{id}{behind}")]);
                keys.extend(found.iter().map(|key| frame::uuid(key)));
            }
        }
        assert_eq!(keys.len(), 8);
    }

    #[tokio::test]
    async fn replayed_dead_letters_go_alone_under_their_own_key_to_where_they_were_going() {
        let letter =
            |offset: i64| format!(r#"{{"topic":"old","partition":2,"offset":9,"letter":["{}",{offset}]}}"#, TopicId(7));
        let mut builder = BatchBuilder::new();
        for (value, header) in
            [("a", None), ("b", Some(letter(3))), ("c", Some(letter(4))), ("d", None), ("e", Some("junk".to_owned()))]
        {
            let headers: Vec<_> = header.iter().map(|header| (REPLAYED_HEADER, Some(header.as_bytes()))).collect();
            builder.push(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &headers);
        }
        let plan = plan(json!({"format": "lines", "url": "http://h/{topic}/{partition}"}));
        let script = Script::new("t", 0).raw(100, builder);
        for run in [0, 1] {
            let chunk = Chunk { run, ..script.chunk() };
            let (mut cutter, mut found) = (Cutter::new(&plan, &chunk), Vec::new());
            while let Some(request) = cutter.next().await.unwrap() {
                let key = frame::key(&chunk, &request).replace(&chunk.topic_id.to_string(), "T");
                found.push(format!("{key} {} {}", request.target.url.path(), request.each().count()));
            }
            let (letter, run) = (format!("letter-{}", TopicId(7)), if run == 0 { "" } else { "-run1" });
            let expected = [
                format!("t-0-100-101-T{run} /t/0 1"),
                format!("{letter}-3{run} /old/2 1"),
                format!("{letter}-4{run} /old/2 1"),
                format!("t-0-103-105-T{run} /t/0 2"),
            ];
            assert_eq!(found, expected);
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
}
