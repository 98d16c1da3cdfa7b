//! Tells partitions how a transaction ended: each until it knows.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aqueduct_api::fault;
use aqueduct_api::{Error, Marker, ProducerError, TopicPartition};

use super::coordinator::{Id, Inner};
use super::request::Outcome;

/// How long to wait before a marker that could not be written is tried again, at first and at most.
const AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// Writes the markers of a transaction, after all that its producer was allowed to write.
pub(super) async fn write(inner: Weak<Inner>, id: Arc<Id>, outcome: Outcome, partitions: BTreeSet<TopicPartition>) {
    drop(id.writing.write().await);
    let all = partitions.into_iter().map(|of| write_one(inner.clone(), id.clone(), outcome, of));
    futures::future::join_all(all).await;
}

async fn write_one(inner: Weak<Inner>, id: Arc<Id>, outcome: Outcome, of: TopicPartition) {
    let mut wait = *AGAIN.start();
    loop {
        // Nobody is left to write for where the broker is gone: the next one goes on.
        let Some(inner) = inner.upgrade() else { return };
        fault::point("transactions.marker");
        match written(&inner, outcome, &of).await {
            Ok(()) => return inner.step(&id, |transaction, now, out| transaction.marked(now, &of, out)),
            Err(cause) => tracing::warn!(partition = %of, %cause, "a transaction can not be ended yet"),
        }
        drop(inner);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(*AGAIN.end());
    }
}

async fn written(inner: &Inner, outcome: Outcome, of: &TopicPartition) -> Result<(), Error> {
    let marker = Marker {
        producer_id: outcome.who.producer_id,
        epoch: outcome.who.epoch,
        coordinator_epoch: inner.epoch(),
        committed: outcome.commits,
    };
    let appended = match inner.store.end(of, marker).await {
        Ok(appended) => appended,
        Err(cause) if ProducerError::of(&cause).is_some() => {
            // Whoever writes under a later epoch has ended it before.
            tracing::warn!(partition = %of, %cause, "a transaction was ended by somebody else");
            return Ok(());
        }
        Err(cause) => {
            let topic = inner.store.topic(&of.topic).await?;
            let is_gone = topic.is_none_or(|topic| !(0..topic.partitions).contains(&of.partition));
            return if is_gone { Ok(()) } else { Err(cause) };
        }
    };
    appended.durable.await
}
