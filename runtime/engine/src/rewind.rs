//! Delivering again on purpose, and giving up pinned chunks. The sink rests meanwhile.

use std::collections::BTreeMap;

use aqueduct_api::{Committed, Error, Result, Topic, TopicPartition};

use crate::deliver::group;
use crate::glob::Selection;
use crate::holds::Holds;
use crate::host::Host;
use crate::pin::Pin;
use crate::takeover::{self, Mark};
use crate::{RewindTo, Rewound, SinkPlan, Unpinned};

/// What is asked for: a topic or all, and where to.
#[derive(Clone, Copy)]
pub(crate) struct Rewind<'a> {
    pub(crate) topic: Option<&'a str>,
    pub(crate) to: RewindTo,
}

/// What a rewind would do.
pub(crate) async fn plan(host: &Host, sink: (&str, &SinkPlan), rewind: Rewind<'_>) -> Result<Vec<Rewound>> {
    let partitions = partitions(host, sink.1, rewind.topic).await?;
    let committed = host.store.committed(&group(sink.0)).await?;
    let mut rewound = Vec::new();
    for (_, of) in partitions {
        let now = committed.get(&of);
        let bounds = host.store.bounds(&of).await?;
        let to = match rewind.to {
            RewindTo::Place(place) => takeover::resolve(host, &of, place).await?,
            RewindTo::Offset(offset) => offset.clamp(bounds.start, bounds.stable),
        };
        let pinned = now.and_then(|now| Pin::parse(&now.metadata).ok()).map_or(0, |pin| pin.run);
        let marked = takeover::mark(&host.positions, sink.0, &of)?.map_or(0, |mark| mark.run);
        rewound.push(Rewound {
            topic: of.topic.to_string(),
            partition: of.partition,
            from: now.map(|now| now.offset),
            to,
            run: pinned.max(marked) + 1,
        });
    }
    match rewound.is_empty() {
        true => Err(Error::refused(format!("sink `{}` delivers no topic{}", sink.0, of_name(rewind.topic)))),
        false => Ok(rewound),
    }
}

/// Rewinds. No run of the sink is there any more.
pub(crate) async fn rewind(
    host: &Host,
    sink: (&str, &SinkPlan),
    holds: &Holds,
    rewind: Rewind<'_>,
) -> Result<Vec<Rewound>> {
    let token = host.store.join(&group(sink.0)).await?;
    for wanted in plan(host, sink, rewind).await? {
        // Held first, or retention could pass before it is committed; and both places, until it is known which one counts.
        let first = wanted.from.map_or(wanted.to, |from| from.min(wanted.to));
        holds.retake(&TopicPartition::new(wanted.topic, wanted.partition), first).await?;
    }
    // Asked again: what had gone before it was held can not be delivered.
    let rewound = plan(host, sink, rewind).await?;
    let topics: BTreeMap<_, _> =
        host.store.topics().await?.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
    let (mut commits, mut marks) = (Vec::new(), Vec::new());
    for rewound in &rewound {
        let of = TopicPartition::new(rewound.topic.as_str(), rewound.partition);
        let Some(topic) = topics.get(&of.topic) else { continue };
        // On a topic that is not synced at once the offset would be one that a crash can take back.
        host.store.sync(&of).await?;
        let leader_epoch = host.epoch_before(&of, rewound.to).await?.unwrap_or(-1);
        let metadata = Pin::nothing(topic.id, rewound.run).metadata()?;
        let mark = Mark { topic: topic.id, epoch: leader_epoch, run: rewound.run };
        marks.push(takeover::marked(sink.0, &of, mark)?);
        commits.push((of, Some(Committed { offset: rewound.to, leader_epoch, metadata })));
    }
    // The mark without its commit stops the partition loudly; the commit without its mark would forget the run.
    host.positions.put(&host.lease, marks).await?;
    host.store.commit(&token, commits).await?;
    for rewound in &rewound {
        holds.advance(&TopicPartition::new(rewound.topic.as_str(), rewound.partition), rewound.to);
    }
    tracing::warn!(sink = sink.0, partitions = rewound.len(), "a sink was rewound on purpose");
    Ok(rewound)
}

/// Gives up pinned chunks. No run of the sink is there any more.
pub(crate) async fn unpin(host: &Host, sink: &str) -> Result<Vec<Unpinned>> {
    let token = host.store.join(&group(sink)).await?;
    let (mut commits, mut unpinned) = (Vec::new(), Vec::new());
    for (of, committed) in host.store.committed(&group(sink)).await? {
        let Ok(pin) = Pin::parse(&committed.metadata) else { continue };
        if pin.ends.is_empty() {
            continue;
        }
        unpinned.push(Unpinned {
            topic: of.topic.to_string(),
            partition: of.partition,
            committed: committed.offset,
            ends: pin.ends.clone(),
        });
        let metadata = pin.gave_up().metadata()?;
        commits.push((of, Some(Committed { metadata, ..committed })));
    }
    if !commits.is_empty() {
        host.store.commit(&token, commits).await?;
        tracing::warn!(
            sink,
            partitions = unpinned.len(),
            "pinned chunks were given up: what they wrote may be written again"
        );
    }
    Ok(unpinned)
}

async fn partitions(host: &Host, plan: &SinkPlan, only: Option<&str>) -> Result<Vec<(Topic, TopicPartition)>> {
    let selection = Selection::new(&plan.topics).map_err(|(_, told)| Error::refused(told))?;
    let topics = host.store.topics().await?;
    let topics = topics.into_iter().filter(|topic| selection.matches(topic));
    let topics = topics.filter(|topic| only.is_none_or(|only| *topic.name == *only));
    Ok(topics.flat_map(|topic| topic.all_partitions().map(|of| (topic.clone(), of)).collect::<Vec<_>>()).collect())
}

fn of_name(topic: Option<&str>) -> String {
    topic.map(|topic| format!(" `{topic}`")).unwrap_or_default()
}
