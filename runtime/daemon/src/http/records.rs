//! Records: appended, and read from anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct_api::{Appended, At, Isolation, Log, REPLAYED_HEADER, Store, Topic, TopicPartition};
use aqueduct_record::{Batch, BatchBuilder, Offset, partition_for_key};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use futures::future::select_all;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::topics::find;
use crate::http::{Data, Json, Path, Query, Refusal};
use crate::records::{From, NewRecord, record_json};

/// How many bytes of a partition are looked at in one request.
const PAGE: usize = 1 << 20;

/// The most records that one request answers with.
const MOST: usize = 10_000;

/// The most bytes of a request that appends.
const LARGEST: usize = 64 << 20;

/// The longest that a request waits for records.
const LONGEST_WAIT: u64 = 30_000;

type Answer = Result<Json<Value>, Refusal>;

/// The endpoints.
pub(crate) fn router() -> Router<Data> {
    Router::new().route("/topics/{topic}/records", get(read).post(append)).layer(DefaultBodyLimit::max(LARGEST))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRecords {
    records: Vec<NewRecord>,
}

async fn append(State(data): State<Data>, Path(name): Path<String>, Json(new): Json<NewRecords>) -> Answer {
    if name.starts_with("__") {
        return Err(Refusal::bad(format!("topic `{name}` belongs to the runtime")));
    }
    let help = format!("; `aqueduct topics create {name}` makes one");
    let topic = find(&*data.store, &name).await.map_err(|refusal| refusal.or(&help))?;
    let batches = batches(&topic, &new.records, &data)?;
    let mut appended: Vec<(i32, Appended)> = Vec::new();
    for (partition, batch) in batches {
        let place = TopicPartition::new(topic.name.clone(), partition);
        appended.push((partition, data.store.append(&place, batch, At::End).await?));
    }
    let mut places = Vec::new();
    for (partition, appended) in appended {
        let next = appended.next_offset;
        let first = appended.durable().await?;
        places.push(json!({ "partition": partition, "first": first, "next": next }));
    }
    Ok(Json(json!({ "records": new.records.len(), "partitions": places })))
}

/// One batch for each partition that the records go to.
fn batches(topic: &Topic, records: &[NewRecord], data: &Data) -> Result<Vec<(i32, Batch)>, Refusal> {
    let now = data.edge.now();
    let keyless = (data.edge.random() % topic.partitions.max(1) as u64) as i32;
    let mut builders: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let chosen = match (record.partition, record.key.0.as_deref()) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, topic.partitions),
            (None, None) => keyless,
        };
        if !(0..topic.partitions).contains(&chosen) {
            let (name, count) = (&topic.name, topic.partitions);
            return Err(Refusal::bad(format!(
                "records[{at}].partition: topic `{name}` has {count} partitions, not {chosen}"
            )));
        }
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.0.as_deref()));
        // What was tailed and comes in again was not replayed, whatever it says.
        let headers: Vec<_> = headers.filter(|(name, _)| *name != REPLAYED_HEADER).collect();
        let builder = builders.entry(chosen);
        let builder = builder.or_insert_with(|| BatchBuilder::new().compressed(topic.settings.compression));
        let timestamp = record.timestamp.unwrap_or(now);
        builder.push(timestamp, record.key.0.as_deref(), record.value.0.as_deref(), &headers);
    }
    Ok(builders.into_iter().map(|(partition, builder)| (partition, builder.finish())).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    /// See [`From::parse`].
    from: Option<String>,
    /// Where the answer before ended: `partition:offset,…`. Goes before `from`.
    next: Option<String>,
    partition: Option<i32>,
    limit: Option<usize>,
    /// How long to wait for records where there are none, in milliseconds.
    wait: Option<u64>,
}

async fn read(State(data): State<Data>, Path(name): Path<String>, Query(reading): Query<Reading>) -> Answer {
    let topic = find(&*data.store, &name).await?;
    let mut at = positions(&data, &topic, &reading).await?;
    let limit = reading.limit.unwrap_or(1000).min(MOST);
    let mut page = Page::read(&*data.store, &topic, &mut at, limit).await?;
    let wait = reading.wait.unwrap_or(0).min(LONGEST_WAIT);
    if page.records.is_empty() && wait > 0 && !at.is_empty() {
        let grown = at.iter().map(|(partition, offset)| {
            let place = TopicPartition::new(topic.name.clone(), *partition);
            let (store, offset) = (data.store.clone(), *offset);
            Box::pin(async move { store.grown(&place, offset, Isolation::Committed).await })
        });
        if let Ok((grown, ..)) = tokio::time::timeout(Duration::from_millis(wait), select_all(grown)).await {
            grown?;
            page = Page::read(&*data.store, &topic, &mut at, limit).await?;
        }
    }
    let next: Vec<String> = at.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    Ok(Json(json!({ "records": page.records, "lost": page.lost, "at_end": page.at_end, "next": next.join(",") })))
}

async fn positions(data: &Data, topic: &Topic, reading: &Reading) -> Result<BTreeMap<i32, Offset>, Refusal> {
    if let Some(next) = &reading.next {
        let pair = |text: &str| {
            let (partition, offset) = text.split_once(':')?;
            let partition = partition.parse::<i32>().ok().filter(|it| (0..topic.partitions).contains(it))?;
            Some((partition, offset.parse::<Offset>().ok().filter(|offset| *offset >= 0)?))
        };
        let pairs: Option<BTreeMap<_, _>> = next.split(',').filter(|text| !text.is_empty()).map(pair).collect();
        return pairs.ok_or_else(|| Refusal::bad(format!("next: `{next}` is not `partition:offset,…`")));
    }
    let text = reading.from.as_deref().unwrap_or("beginning");
    let from = From::parse(text, data.edge.now()).map_err(|error| Refusal::bad(format!("from: {error}")))?;
    let mut positions = BTreeMap::new();
    for place in topic.all_partitions() {
        if reading.partition.is_none_or(|wanted| wanted == place.partition) {
            positions.insert(place.partition, position(&*data.store, &place, from).await?);
        }
    }
    match (positions.is_empty(), reading.partition) {
        (true, Some(wanted)) => {
            let (name, count) = (&topic.name, topic.partitions);
            Err(Refusal::bad(format!("partition: topic `{name}` has {count} partitions, not {wanted}")))
        }
        _ => Ok(positions),
    }
}

async fn position(store: &dyn Store, of: &TopicPartition, from: From) -> Result<Offset, Refusal> {
    let bounds = store.bounds(of).await?;
    Ok(match from {
        From::Beginning => bounds.start,
        From::End => bounds.stable,
        From::Last(count) => bounds.start.max(bounds.stable - count),
        From::Offset(offset) => bounds.start.max(offset),
        From::Time(time) => store.find(of, time).await?,
    })
}

/// What one request found.
#[derive(Default)]
struct Page {
    records: Vec<Value>,
    lost: Vec<Value>,
    at_end: bool,
}

impl Page {
    /// Reads on at `at` in every partition, and moves it past what was read.
    async fn read(
        store: &dyn Store,
        topic: &Topic,
        at: &mut BTreeMap<i32, Offset>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let mut page = Page { at_end: true, ..Page::default() };
        for (partition, offset) in at.iter_mut() {
            let place = TopicPartition::new(topic.name.clone(), *partition);
            let stable = store.bounds(&place).await?.stable;
            if *offset < stable && page.records.len() < limit {
                page.read_partition(store, &place, (offset, stable), limit).await?;
            }
            page.at_end &= *offset >= stable;
        }
        Ok(page)
    }

    async fn read_partition(
        &mut self,
        store: &dyn Store,
        of: &TopicPartition,
        (offset, stable): (&mut Offset, Offset),
        limit: usize,
    ) -> Result<(), Refusal> {
        let read = Log::read(store, of, *offset, PAGE, Isolation::Committed).await?;
        if let Some(lost) = &read.lost {
            self.lost.push(json!({ "partition": of.partition, "start": lost.start, "end": lost.end }));
            *offset = lost.end.max(*offset);
        } else if read.batches.is_empty() {
            // Nothing is left between here and there, where a transaction is under way.
            *offset = stable.max(*offset);
        }
        for batch in read.into_batches() {
            let batch = batch.map_err(unreadable)?;
            if batch.next_offset() <= *offset {
                continue;
            }
            for record in batch.records().map_err(unreadable)?.iter() {
                let record = record.map_err(unreadable)?;
                if record.offset < *offset {
                    continue;
                }
                if self.records.len() >= limit {
                    return Ok(());
                }
                self.records.push(record_json(&of.topic, of.partition, &record));
                *offset = record.offset + 1;
            }
            *offset = batch.next_offset();
        }
        Ok(())
    }
}

fn unreadable(cause: aqueduct_record::BatchError) -> Refusal {
    aqueduct_api::Error::retry(format!("read batch: {cause}")).into()
}

#[cfg(test)]
mod tests {
    use aqueduct_api::{Edge, TopicSettings, Topics as _};
    use aqueduct_commit_log::{CommitLog, DiskLimit, Options};

    use super::*;

    #[tokio::test]
    async fn offsets_without_records_before_an_open_transaction_are_passed() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { limit: DiskLimit::Percent(100), ..Options::default() };
        let log = CommitLog::open(Edge::real(), folder.path(), options).await.unwrap();
        let topic = log.create("t", 1, &TopicSettings::default()).await.unwrap();
        let of = TopicPartition::new("t", 0);
        for (offset, builder) in [
            (0, BatchBuilder::new()),
            (10, BatchBuilder::new().producer(1, 0, 0).transactional()),
            (11, BatchBuilder::new()),
        ] {
            let mut builder = builder;
            builder.push(1, None, Some(b"x"), &[]);
            let batch = builder.finish().at(offset, 0);
            log.append(&of, batch, At::OwnOffset).await.unwrap().durable().await.unwrap();
        }
        let mut at = BTreeMap::from([(0, 0)]);
        for (count, next, at_end) in [(1, 1, false), (0, 10, true), (0, 10, true)] {
            let Ok(page) = Page::read(&log, &topic, &mut at, 10).await else { panic!("it is read") };
            assert_eq!((page.records.len(), at[&0], page.at_end), (count, next, at_end));
        }
    }
}
