//! What a sink finds when it comes to a partition: a place to go on from, or a reason to stop there and say so.

use std::collections::BTreeMap;

use aqueduct_api::{Bounds, Committed, Error, Result, Topic, TopicId, TopicPartition};
use aqueduct_record::Offset;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::Start;
use crate::deliver::Delivery;
use crate::host::Host;
use crate::partition::Place;
use crate::pin::Pin;
use crate::table::{Change, Table};

/// A note in the positions topic that a sink has started on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The topic that it started on.
    pub(crate) topic: TopicId,
    /// The leader epoch then.
    pub(crate) epoch: i32,
    /// How often the partition was rewound.
    #[serde(default)]
    pub(crate) run: u32,
}

/// What a sink finds at a partition.
pub(crate) enum Found {
    /// Where to go on.
    Place(Place),
    /// Why this partition alone stops.
    Stopped(String),
}

/// The change that writes a mark.
pub(crate) fn marked(sink: &str, of: &TopicPartition, mark: Mark) -> Result<Change> {
    Ok((mark_key(sink, of), Some(serde_json::to_string(&mark).map_err(Error::fatal)?)))
}

/// The mark of a sink on a partition.
pub(crate) fn mark(table: &Table, sink: &str, of: &TopicPartition) -> Result<Option<Mark>> {
    let Some(text) = table.get(&mark_key(sink, of)) else { return Ok(None) };
    let mark = serde_json::from_str(&text);
    mark.map(Some).map_err(|cause| Error::fatal(format!("mark of {sink} on {of}: {cause}")))
}

/// Whether the sink has ever started: `start` no longer counts then.
pub(crate) fn has_started(host: &Host, sink: &str) -> bool {
    host.settings.get(&started_key(sink)).is_some()
}

/// The change that remembers the first start.
pub(crate) fn started(sink: &str, now: i64) -> Change {
    (started_key(sink), Some(format!("{{\"at\":{now}}}")))
}

/// The offset that a place stands for in a partition.
pub(crate) async fn resolve(host: &Host, of: &TopicPartition, start: Start) -> Result<Offset> {
    let bounds = host.store.bounds(of).await?;
    match start {
        Start::Beginning => Ok(bounds.start),
        Start::End => Ok(bounds.stable),
        Start::Time(millis) => Ok(host.store.find(of, millis).await?.clamp(bounds.start, bounds.stable)),
    }
}

/// Takes over partitions that are new to this run: commits and marks where the sink has not been yet.
pub(crate) async fn take_over(
    delivery: &Delivery,
    committed: &BTreeMap<TopicPartition, Committed>,
    partitions: Vec<(Topic, TopicPartition)>,
) -> Result<Vec<(Topic, TopicPartition, Found)>> {
    let start = match has_started(&delivery.run.host, &delivery.run.name) {
        true => Start::Beginning,
        false => delivery.run.plan.start,
    };
    let topics: Vec<Topic> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
    delivery.run.host.note_incarnations(&topics).await?;
    let coming = partitions.into_iter().map(|(topic, of)| async move {
        let committed = committed.get(&of);
        let come = come(delivery, &topic, &of, committed, start).await;
        let (found, mark) = come.map_err(|error| error.context(&of))?;
        Ok::<_, Error>(((topic, of, found), mark))
    });
    let (found, marks): (Vec<_>, Vec<_>) = try_join_all(coming).await?.into_iter().unzip();
    let marks: Vec<Change> = marks.into_iter().flatten().collect();
    if !marks.is_empty() {
        delivery.run.host.positions.put(&delivery.run.lease, marks).await?;
    }
    Ok(found)
}

/// Comes to one partition: what is found, and the mark that it still needs.
async fn come(
    delivery: &Delivery,
    topic: &Topic,
    of: &TopicPartition,
    committed: Option<&Committed>,
    start: Start,
) -> Result<(Found, Option<Change>)> {
    let bounds = delivery.run.host.store.bounds(of).await?;
    let mark = mark(&delivery.run.host.positions, &delivery.run.name, of)?;
    let found = match (committed, mark) {
        (None, None) => Found::Place(first_start(delivery, topic, of, (start, 0), bounds).await?),
        // The log has forgotten the topic that was delivered: of this one nothing was. What it is named by is new.
        (None, Some(mark)) if mark.topic != topic.id => {
            Found::Place(first_start(delivery, topic, of, (Start::Beginning, mark.run + 1), bounds).await?)
        }
        (None, Some(_)) => Found::Stopped(told("its committed offset has vanished")),
        (Some(committed), mark) => go_on(delivery, topic, of, (committed, mark), bounds).await?,
    };
    let Found::Place(place) = &found else {
        // Until a person decides, nothing goes that nobody has delivered: of another topic that is all of it.
        delivery.run.holds.take(of, bounds.start).await?;
        return Ok((found, None));
    };
    delivery.run.holds.take(of, place.next).await?;
    delivery.run.holds.advance(of, place.next);
    if mark.is_some_and(|mark| mark.topic == topic.id) {
        return Ok((found, None));
    }
    let mark = Mark { topic: topic.id, epoch: bounds.leader_epoch, run: place.pin.run };
    let change = marked(&delivery.run.name, of, mark)?;
    Ok((found, Some(change)))
}

async fn first_start(
    delivery: &Delivery,
    topic: &Topic,
    of: &TopicPartition,
    (start, run): (Start, u32),
    bounds: Bounds,
) -> Result<Place> {
    // On a topic that is not synced at once the end would be one that a crash can take back.
    delivery.run.host.store.sync(of).await?;
    let next = resolve(&delivery.run.host, of, start).await?;
    let epoch = delivery.run.host.epoch_before(of, next).await?.unwrap_or(-1);
    let pin = Pin::nothing(topic.id, run);
    delivery.commit(of, next, epoch, &pin).await?;
    Ok(Place { next, epoch, pin, waiting_until: bounds.stable })
}

/// Compares what is committed with what the log is now.
async fn go_on(
    delivery: &Delivery,
    topic: &Topic,
    of: &TopicPartition,
    (committed, mark): (&Committed, Option<Mark>),
    bounds: Bounds,
) -> Result<Found> {
    let pin = match Pin::parse(&committed.metadata) {
        Ok(pin) => pin,
        Err(error) => return Ok(Found::Stopped(told(&error.to_string()))),
    };
    let other = |id: TopicId| told(&format!("it was {id} that was delivered, {} has the name now", topic.id));
    if pin.topic != topic.id {
        return Ok(Found::Stopped(other(pin.topic)));
    }
    // A higher run than the mark's is that of a first start which was cut off before its mark was written.
    if let Some(mark) = mark.filter(|mark| mark.topic != topic.id && mark.run >= pin.run) {
        return Ok(Found::Stopped(other(mark.topic)));
    }
    let next = committed.offset;
    let until = pin.ends.last().copied().unwrap_or(next);
    if until > bounds.end {
        let end = bounds.end;
        return Ok(Found::Stopped(told(&format!(
            "offsets {end} to {until} were delivered and are not there any more"
        ))));
    }
    if committed.leader_epoch >= 0 {
        let now = delivery.run.host.epoch_before(of, next).await?;
        let is_other = now.is_some_and(|epoch| epoch != committed.leader_epoch);
        if is_other || committed.leader_epoch > bounds.leader_epoch {
            let (was, is) = (committed.leader_epoch, now.unwrap_or(bounds.leader_epoch));
            return Ok(Found::Stopped(told(&format!(
                "what lies before offset {next} was written under leader epoch {was} when it was delivered, and \
                 under {is} now: the log was changed from offset {} to {next}",
                bounds.start
            ))));
        }
    }
    Ok(Found::Place(Place { next, epoch: committed.leader_epoch, pin, waiting_until: bounds.stable }))
}

fn told(what: &str) -> String {
    format!("{what}: nothing is delivered until the sink is rewound here (`aqueduct sinks rewind`)")
}

fn mark_key(sink: &str, of: &TopicPartition) -> String {
    let name = serde_json::Value::from(sink);
    let topic = serde_json::Value::from(&*of.topic);
    format!("[{name},{{\"aqueduct.mark\":{{\"topic\":{topic},\"partition\":{}}}}}]", of.partition)
}

fn started_key(sink: &str) -> String {
    format!("started-{sink}")
}
